/* Neighbour lists in bytes (see lists.h). Decoding is on the query path: one load a value, and
 * every length is checked first. */
#include "lists.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "le.h"

/* Bits of the values of each class. */
struct widths {
    uint8_t bits[4];
};

static struct widths widths_for(uint32_t rows)
{
    unsigned bits = rows > 1 ? 32 - (unsigned)__builtin_clz(rows - 1) : 1;
    return (struct widths){{(uint8_t)(bits * 5 / 19), (uint8_t)(bits * 10 / 19),
                            (uint8_t)(bits * 14 / 19), (uint8_t)(bits + 1)}};
}

/* ---- encoding ---- */

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t zigzag(uint32_t difference)
{
    return (difference << 1) ^ (uint32_t)((int32_t)difference >> 31);
}

static uint32_t unzigzag(uint32_t value)
{
    return (value >> 1) ^ -(value & 1);
}

static unsigned class_of(const struct widths *widths, uint64_t value)
{
    unsigned class = 0;
    while (value >> widths->bits[class])
        class ++;
    return class;
}

size_t list_encode(uint32_t node, uint32_t *neighbours, uint32_t degree, uint32_t rows,
                   uint8_t *out)
{
    struct widths widths = widths_for(rows);
    size_t control_bytes = (degree + 3) / 4;
    uint8_t *control = out + 1, *data = control + control_bytes;
    uint64_t pending = 0; /* bits that are not written yet */
    unsigned pending_bits = 0;
    qsort(neighbours, degree, sizeof *neighbours, compare_u32);
    out[0] = (uint8_t)degree;
    memset(control, 0, control_bytes);
    for (uint32_t i = 0; i < degree; i++) {
        uint64_t value = i ? neighbours[i] - neighbours[i - 1] - 1 : zigzag(neighbours[0] - node);
        unsigned class = class_of(&widths, value);
        control[i / 4] |= (uint8_t)(class << 2 * (i % 4));
        pending |= value << pending_bits;
        for (pending_bits += widths.bits[class]; pending_bits >= 8; pending_bits -= 8) {
            *data++ = (uint8_t)pending;
            pending >>= 8;
        }
    }
    if (pending_bits > 0)
        *data++ = (uint8_t)pending;
    return (size_t)(data - out);
}

/* ---- decoding ---- */

int list_decode(uint32_t node, const uint8_t *in, size_t bytes, uint32_t rows, uint32_t degree_max,
                uint32_t *out)
{
    if (bytes == 0 || in[0] > degree_max)
        return FATHOM_ECORRUPT;
    struct widths widths = widths_for(rows);
    uint32_t degree = in[0], at = node, largest = 0;
    size_t head = 1 + (degree + 3) / 4;
    if (head > bytes)
        return FATHOM_ECORRUPT;
    const uint8_t *control = in + 1, *data = in + head;
    uint64_t bit = 0, bits = 8 * (uint64_t)(bytes - head);
    for (uint32_t i = 0; i < degree; i++) {
        unsigned width = widths.bits[control[i / 4] >> 2 * (i % 4) & 3];
        if (bit + width > bits)
            return FATHOM_ECORRUPT;
        /* Eight bytes from within the list: inside the slack behind the array. 7 + 33 bits at the
         * most. */
        uint64_t value = le_load64(data + bit / 8) >> bit % 8 & ((UINT64_C(1) << width) - 1);
        bit += width;
        at = i ? at + (uint32_t)value + 1 : node + unzigzag((uint32_t)value);
        largest = at > largest ? at : largest;
        out[i] = at;
    }
    /* Nothing but zeros up to the end of the last byte, and no byte more. */
    bool ends = bits - bit < 8 && (bit % 8 == 0 || data[bit / 8] >> bit % 8 == 0);
    return ends && (degree == 0 || largest < rows) ? (int)degree : FATHOM_ECORRUPT;
}

/* ---- pages of lists ---- */

uint32_t list_page_fit(const uint16_t *lengths, uint64_t left, uint32_t length_bytes,
                       uint32_t page_bytes)
{
    uint32_t count = 0;
    for (uint64_t bytes = 0; count < left; count++) {
        bytes += length_bytes + lengths[count];
        if (bytes > page_bytes)
            break;
    }
    return count;
}

uint8_t *list_page_begin(uint8_t *page, const uint16_t *lengths, uint32_t count,
                         uint32_t length_bytes)
{
    for (uint32_t i = 0; i < count; i++) {
        if (length_bytes == 1)
            page[i] = (uint8_t)lengths[i];
        else
            le_store16(page + 2 * (size_t)i, lengths[i]);
    }
    return page + (size_t)count * length_bytes;
}

const uint8_t *list_page_find(const uint8_t *page, uint32_t page_bytes, uint32_t count,
                              uint32_t length_bytes, uint32_t slot, size_t *bytes)
{
    uint64_t at = (uint64_t)count * length_bytes;
    if (at > page_bytes)
        return NULL;
    for (uint32_t i = 0; i < slot; i++)
        at += length_bytes == 1 ? page[i] : le_load16(page + 2 * (size_t)i);
    *bytes = length_bytes == 1 ? page[slot] : le_load16(page + 2 * (size_t)slot);
    return *bytes && at + *bytes <= page_bytes ? page + at : NULL;
}
