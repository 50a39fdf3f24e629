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

#endif
