/* Sorting short arrays of 64-bit keys, which is what searching and pruning do all the time. */
#ifndef BUILDER_KEYS_H
#define BUILDER_KEYS_H

#include <stdint.h>

/* Rising. Fastest up to 256 keys. */
void keys_sort(uint64_t *keys, uint32_t count);

#endif
