/* Neighbour lists in bytes: sorted ascending, the first as a zigzag difference from the node, the
 * others as gaps minus one, in the StreamVByte layout (Lemire, Kurz, Rupp 2018): one byte of count,
 * then 2-bit lengths (1 to 4 bytes) for four values a control byte, then the values. Relabelled
 * neighbours are near, so most gaps take a byte or two. */
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
    return 1 + (degree + 3) / 4 + 4 * ((size_t)degree + 3);
}

/* Encodes; neighbours is sorted in place, must hold no duplicate and not the node itself. Returns
 * the bytes written. */
size_t list_encode(uint32_t node, uint32_t *neighbours, uint32_t degree, uint8_t *out);

/* Decodes the list of node in bytes (exactly its length). Fills at most degree_max ids, each <
 * rows, and returns how many, or FATHOM_ECORRUPT. out has room for degree_max rounded up to 4.
 * Checked: hostile bytes cannot overrun. */
int list_decode(uint32_t node, const uint8_t *in, size_t bytes, uint32_t rows, uint32_t degree_max,
                uint32_t *out) FATHOM_MUST_USE;

#endif
