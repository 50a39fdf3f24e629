/* Arrays of unsigned integers of 1 to 64 bits each, packed without gaps, little-endian. */
#ifndef CODEC_BITS_H
#define CODEC_BITS_H

#include <stddef.h>
#include <stdint.h>

#define BITS_SLACK 16 /* readable bytes that must follow an array */

/* Bits that hold value; at least 1. */
unsigned bits_width(uint64_t value);
/* Bytes of count entries, without slack; 0 when that overflows. */
size_t bits_bytes(uint64_t count, unsigned width);
void bits_store(uint8_t *array, unsigned width, uint64_t index, uint64_t value);
uint64_t bits_load(const uint8_t *array, unsigned width, uint64_t index);
/* The first and the last byte that hold bits of an entry. */
static inline uint64_t bits_first_byte(unsigned width, uint64_t index)
{
    return index * width / 8;
}
static inline uint64_t bits_last_byte(unsigned width, uint64_t index)
{
    return ((index + 1) * width - 1) / 8;
}
/* What count bytes of an array, from byte first on, hold of an entry: 0 when nothing. Of pieces
 * that lie side by side the OR is the entry. */
uint64_t bits_load_piece(const uint8_t *piece, uint64_t first, size_t count, unsigned width,
                         uint64_t index);

#endif
