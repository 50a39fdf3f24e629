/* Fours by a network, then merges that fill their output from both ends at once. Neither has a
 * branch that depends on the keys; insertion, three times slower from 16 keys on, spends its time
 * on branches that nobody can predict. Keys are padded to a power of two, so that all merges are of
 * equal halves, which is also what keeps a merge within its input. */
#include "keys.h"

#include <stdlib.h>
#include <string.h>

#define SHORT 256

static inline void order_pair(uint64_t *a, uint64_t *b)
{
    uint64_t x = *a, y = *b;
    *a = x < y ? x : y;
    *b = x < y ? y : x;
}

static inline void order_four(uint64_t *keys)
{
    order_pair(&keys[0], &keys[1]);
    order_pair(&keys[2], &keys[3]);
    order_pair(&keys[0], &keys[2]);
    order_pair(&keys[1], &keys[3]);
    order_pair(&keys[1], &keys[2]);
}

/* Two rising halves of in, to out. */
static inline void merge_halves(const uint64_t *in, uint32_t half, uint64_t *out)
{
    const uint64_t *low = in, *high = in + half, *low_end = high - 1, *high_end = high + half - 1;
    uint64_t *out_end = out + 2 * (size_t)half - 1;
    for (uint32_t i = 0; i < half; i++) {
        uint32_t from_high = *high < *low, end_from_low = *high_end < *low_end;
        *out++ = from_high ? *high : *low;
        high += from_high;
        low += 1 - from_high;
        *out_end-- = end_from_low ? *low_end : *high_end;
        low_end -= end_from_low;
        high_end -= 1 - end_from_low;
    }
}

static void sort_short(uint64_t *keys, uint32_t count)
{
    uint64_t space[2][SHORT], *from = space[0], *to = space[1];
    uint32_t padded = 4;
    while (padded < count)
        padded *= 2;
    memcpy(from, keys, count * sizeof *keys);
    memset(from + count, 0xff, (padded - count) * sizeof *keys);
    for (uint32_t i = 0; i < padded; i += 4)
        order_four(from + i);
    for (uint32_t half = 4; half < padded; half *= 2) {
        for (uint32_t i = 0; i < padded; i += 2 * half)
            merge_halves(from + i, half, to + i);
        uint64_t *kept = from;
        from = to;
        to = kept;
    }
    memcpy(keys, from, count * sizeof *keys);
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void keys_sort(uint64_t *keys, uint32_t count)
{
    if (count <= SHORT)
        sort_short(keys, count);
    else
        qsort(keys, count, sizeof *keys, compare_keys);
}

#define FEW 16

static inline uint64_t middle_of(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c < high ? c : high;
}

/* By parts, as quicksort does, of which only the one is looked at where the cut falls. */
void keys_least(uint64_t *keys, uint32_t count, uint32_t least)
{
    uint32_t begin = 0, end = count;
    while (end - begin > FEW && begin < least && least < end) {
        uint64_t pivot = middle_of(keys[begin], keys[begin + (end - begin) / 2], keys[end - 1]);
        uint32_t cut = begin;
        for (uint32_t i = begin; i < end; i++) {
            uint64_t key = keys[i];
            keys[i] = keys[cut];
            keys[cut] = key;
            cut += key < pivot;
        }
        if (cut == begin) /* keys are equal */
            break;
        if (least < cut)
            end = cut;
        else
            begin = cut;
    }
    if (begin < least && least < end)
        keys_sort(keys + begin, end - begin);
}
