/* Laying out several arrays in one block of memory: the same code measures the block and hands out
 * its pieces, so that what a plan reserves is what is used. */
#ifndef SEARCH_LAYOUT_H
#define SEARCH_LAYOUT_H

#include "mem.h"

struct layout {
    uint8_t *base; /* NULL: only measure */
    uint64_t at;   /* bytes so far */
};

static inline void *layout_piece(struct layout *layout, uint64_t count, uint64_t size)
{
    void *memory = layout->base ? layout->base + layout->at : NULL;
    layout->at += size_round_up(count * size, MEM_ALIGN);
    return memory;
}

/* Pieces of two kinds were laid out from the same place on, since never both are in use: goes on
 * behind the longer. */
static inline void layout_join(struct layout *layout, const struct layout *other)
{
    layout->at = other->at > layout->at ? other->at : layout->at;
}

#endif
