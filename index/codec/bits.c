/* Bit-packed arrays (see bits.h). */
#include "bits.h"

#include "le.h"
#include "mem.h"

unsigned bits_width(uint64_t value)
{
    return value ? 64 - (unsigned)__builtin_clzll(value) : 1;
}

size_t bits_bytes(uint64_t count, unsigned width)
{
    size_t bits;
    return size_mul(count, width, &bits) ? bits / 8 + (bits % 8 != 0) : 0;
}

static uint64_t width_mask(unsigned width)
{
    return width == 64 ? UINT64_MAX : (UINT64_C(1) << width) - 1;
}

void bits_store(uint8_t *array, unsigned width, uint64_t index, uint64_t value)
{
    uint64_t bit = index * width;
    for (unsigned done = 0; done < width;) {
        unsigned shift = (bit + done) % 8,
                 take = 8 - shift < width - done ? 8 - shift : width - done;
        uint8_t mask = (uint8_t)(((1u << take) - 1) << shift);
        uint8_t *byte = &array[(bit + done) / 8];
        *byte = (uint8_t)((*byte & ~mask) | (((value >> done) << shift) & mask));
        done += take;
    }
}

uint64_t bits_load(const uint8_t *array, unsigned width, uint64_t index)
{
    uint64_t bit = index * width;
    const uint8_t *at = array + bit / 8;
    unsigned shift = bit % 8;
    uint64_t value = le_load64(at) >> shift;
    if (shift + width > 64) /* a ninth byte, within the slack */
        value |= (uint64_t)at[8] << (64 - shift);
    return value & width_mask(width);
}

uint64_t bits_load_piece(const uint8_t *piece, uint64_t first, size_t count, unsigned width,
                         uint64_t index)
{
    uint64_t bit = index * width, value = 0;
    uint64_t from = bits_first_byte(width, index), to = bits_last_byte(width, index) + 1;
    if (from < first)
        from = first;
    if (to > first + count)
        to = first + count;
    for (uint64_t byte = from; byte < to; byte++) {
        uint64_t bits = piece[byte - first];
        value |= 8 * byte < bit ? bits >> (bit - 8 * byte) : bits << (8 * byte - bit);
    }
    return value & width_mask(width);
}
