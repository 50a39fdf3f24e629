/* From the nearest candidate on: one is kept unless a kept one is nearer to it, by the factor
 * alpha, than the row is. What stays points in different directions, and far edges survive. The
 * first pass has an alpha of 1, the second fills what room is left with the given one: a single
 * pass spends the places on the nearest (on SIFT the second pass at R=32 is worth as much recall as
 * 15% more distances). */
#include "prune.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define SHORT_LIST 192
#define DOTS       64
#define CHUNK      8 /* kept rows compared at a time; most candidates fall to the first few */

int prune_init(struct prune *prune, const struct rows8 *rows, double alpha)
{
    *prune = (struct prune){.rows = rows, .alpha_q10 = (uint32_t)lround(alpha * 1024)};
    prune->query = mem_alloc(rows->stride);
    prune->dots = mem_alloc_array(DOTS, sizeof *prune->dots);
    if (prune->query && prune->dots)
        return 0;
    prune_fini(prune);
    return -ENOMEM;
}

void prune_fini(struct prune *prune)
{
    mem_free(prune->query);
    mem_free(prune->dots);
    *prune = (struct prune){0};
}

static inline bool occludes(uint32_t between, uint32_t distance, uint32_t alpha_q10)
{
    return (uint64_t)between * alpha_q10 <= (uint64_t)distance << 10;
}

/* The first of the kept rows that is nearer to the candidate, by the factor alpha, than the row
 * that is pruned: returns between, its distance from the candidate, or UINT32_MAX when there is
 * none. */
static uint32_t occluder(struct prune *prune, uint64_t key, uint32_t alpha_q10,
                         const uint32_t *kept, uint32_t kept_count)
{
    const struct kernels *kernels = kernels_get();
    uint32_t candidate = (uint32_t)key, distance = key >> 32;
    const struct rows8 *rows = prune->rows;
    const struct row8_terms *terms = &rows->terms[candidate];
    rows8_centre(rows8_at(rows, candidate), rows->stride, prune->query);
    for (uint32_t i = 0; i < kept_count; i += CHUNK) {
        uint32_t count = kept_count - i < CHUNK ? kept_count - i : CHUNK;
        kernels->dot_u8s8_gather(prune->dots, prune->query, rows->bytes, rows->stride, kept + i,
                                 count);
        for (uint32_t j = 0; j < count; j++) {
            uint32_t between =
                rows8_distance_from_dot(&rows->terms[kept[i + j]], terms->bias, prune->dots[j]);
            if (occludes(between, distance, alpha_q10))
                return between;
        }
    }
    return UINT32_MAX;
}

/* Most of those that the first pass passes over are occluded by alpha as well, for good. */
uint32_t prune_run(struct prune *prune, uint64_t *keys, uint32_t count, uint32_t limit,
                   uint32_t *out)
{
    uint32_t kept = 0, passed_over = 0;
    for (uint32_t i = 0; i < count && kept < limit; i++) {
        uint32_t between = occluder(prune, keys[i], 1024, out, kept);
        if (between == UINT32_MAX)
            out[kept++] = (uint32_t)keys[i];
        else if (!occludes(between, keys[i] >> 32, prune->alpha_q10))
            keys[passed_over++] = keys[i];
    }
    for (uint32_t i = 0; i < passed_over && kept < limit; i++)
        if (occluder(prune, keys[i], prune->alpha_q10, out, kept) == UINT32_MAX)
            out[kept++] = (uint32_t)keys[i];
    return kept;
}

void prune_keys(struct prune *prune, uint32_t row, const uint32_t *ids, uint32_t count,
                uint64_t *keys)
{
    const struct rows8 *rows = prune->rows;
    int32_t bias = rows->terms[row].bias;
    rows8_centre(rows8_at(rows, row), rows->stride, prune->query);
    for (uint32_t i = 0; i < count; i += DOTS) {
        uint32_t batch = count - i < DOTS ? count - i : DOTS;
        kernels_get()->dot_u8s8_gather(prune->dots, prune->query, rows->bytes, rows->stride,
                                       ids + i, batch);
        for (uint32_t j = 0; j < batch; j++) {
            uint32_t distance =
                rows8_distance_from_dot(&rows->terms[ids[i + j]], bias, prune->dots[j]);
            keys[i + j] = prune_key(distance, ids[i + j]);
        }
    }
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Lists are short and partly in order, for which insertion is twice as fast as qsort. */
static void sort_short(uint64_t *keys, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        uint64_t key = keys[i];
        uint32_t at = i;
        for (; at > 0 && keys[at - 1] > key; at--)
            keys[at] = keys[at - 1];
        keys[at] = key;
    }
}

uint32_t prune_sort(uint64_t *keys, uint32_t count, uint32_t row)
{
    if (count <= SHORT_LIST)
        sort_short(keys, count);
    else
        qsort(keys, count, sizeof *keys, compare_keys);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++)
        if ((uint32_t)keys[i] != row && (kept == 0 || keys[i] != keys[kept - 1]))
            keys[kept++] = keys[i];
    return kept;
}
