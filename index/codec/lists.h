/* Neighbour lists in bytes: sorted ascending, the first as a zigzag difference from the node, the
 * others as gaps minus one. One byte of count, then a class of two bits for each value, four to a
 * byte, then the values, each in the bits of its class, least significant bit first, and zeros up
 * to a whole byte. Classes have 5/19, 10/19 and 14/19 of the bits of a row number, or one more than
 * all of them. Relabelled neighbours are near, but of every scale: whole bytes would take a sixth
 * more (docs/adr/0016). */
#ifndef CODEC_LISTS_H
#define CODEC_LISTS_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/error.h"

#define LISTS_DEGREE_MAX 255
#define LISTS_SLACK      16 /* readable bytes that must follow the last list of an array */

/* Bytes that a list of degree neighbours can take at the most. */
static inline size_t list_bytes_max(uint32_t degree)
{
    return 1 + (degree + 3) / 4 + (33 * (size_t)degree + 7) / 8;
}

/* Encodes; neighbours is sorted in place, must hold no duplicate and not the node itself, and all
 * are < rows. Returns the bytes written. */
size_t list_encode(uint32_t node, uint32_t *neighbours, uint32_t degree, uint32_t rows,
                   uint8_t *out);

/* Decodes the list of node in bytes (exactly its length). Fills at most degree_max ids, each <
 * rows, and returns how many, or FATHOM_ECORRUPT. out has room for degree_max rounded up to 4.
 * LISTS_SLACK bytes behind the list are readable. Checked: hostile bytes cannot overrun. */
int list_decode(uint32_t node, const uint8_t *in, size_t bytes, uint32_t rows, uint32_t degree_max,
                uint32_t *out) FATHOM_MUST_USE;

/* ---- pages of lists ----
 *
 * A page holds the lists of consecutive rows, none of which straddles: first the length of each in
 * length_bytes (1 or 2), then the lists. How many there are is known from elsewhere. */

/* How many of the lists whose lengths follow (at most left) fit a page of page_bytes; at least one
 * does. */
uint32_t list_page_fit(const uint16_t *lengths, uint64_t left, uint32_t length_bytes,
                       uint32_t page_bytes);
/* Writes the lengths of count lists; the lists belong behind them. Returns where. */
uint8_t *list_page_begin(uint8_t *page, const uint16_t *lengths, uint32_t count,
                         uint32_t length_bytes);
/* Where list number slot of count begins, and its bytes; NULL when the page is not of count lists.
 * LISTS_SLACK bytes behind the page must be readable to decode it. */
const uint8_t *list_page_find(const uint8_t *page, uint32_t page_bytes, uint32_t count,
                              uint32_t length_bytes, uint32_t slot, size_t *bytes);

#endif
