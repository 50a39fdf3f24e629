/* Sorting short arrays of 64-bit keys, which is what searching and pruning do all the time. */
#ifndef BUILDER_KEYS_H
#define BUILDER_KEYS_H

#include <stdint.h>

/* Rising. Fastest up to 256 keys. */
void keys_sort(uint64_t *keys, uint32_t count);
/* Puts so many of the least in front, in no order. least: at most count. */
void keys_least(uint64_t *keys, uint32_t count, uint32_t least);

#endif
