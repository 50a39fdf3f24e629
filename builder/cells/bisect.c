/* 2-means from a far pair of rows: a few rounds, then a cut. */
#include "bisect.h"

#include <errno.h>
#include <stdlib.h>

#define ROUNDS      3
#define BALANCE_MIN 8 /* a part has at least count / BALANCE_MIN rows */

int bisect_init(struct bisect *bisect, const struct rows8 *rows, uint32_t count_max)
{
    *bisect = (struct bisect){.rows = rows, .count_max = count_max};
    for (int side = 0; side < 2; side++) {
        bisect->means[side] = mem_alloc(rows->stride);
        bisect->dots[side] = mem_alloc_array(count_max, sizeof(int32_t));
    }
    bisect->query = mem_alloc(rows->stride);
    bisect->ids = mem_alloc_array(count_max, sizeof(uint32_t));
    bisect->sums = mem_alloc_array(rows->dim, sizeof(int64_t));
    bisect->keys = mem_alloc_array(count_max, sizeof(uint64_t));
    if (bisect->means[0] && bisect->means[1] && bisect->dots[0] && bisect->dots[1] &&
        bisect->query && bisect->ids && bisect->sums && bisect->keys)
        return 0;
    bisect_fini(bisect);
    return -ENOMEM;
}

void bisect_fini(struct bisect *bisect)
{
    for (int side = 0; side < 2; side++) {
        mem_free(bisect->means[side]);
        mem_free(bisect->dots[side]);
    }
    mem_free(bisect->query);
    mem_free(bisect->ids);
    mem_free(bisect->sums);
    mem_free(bisect->keys);
    *bisect = (struct bisect){0};
}

/* dots of all ids with a point; returns the point's bias. */
static int32_t dots_with(struct bisect *bisect, const uint8_t *point, const uint32_t *ids,
                         uint32_t count, int32_t *dots)
{
    const struct rows8 *rows = bisect->rows;
    rows8_centre(point, rows->stride, bisect->query);
    kernels_get()->dot_u8s8_gather(dots, bisect->query, rows->bytes, rows->stride, ids, count);
    return rows8_terms_of(point, rows->dim).bias;
}

/* The first of the rows that are farthest from point. */
static uint32_t farthest(struct bisect *bisect, const uint8_t *point, const uint32_t *ids,
                         uint32_t count)
{
    int32_t bias = dots_with(bisect, point, ids, count, bisect->dots[0]);
    uint32_t best = 0, best_distance = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t distance =
            rows8_distance_from_dot(&bisect->rows->terms[ids[i]], bias, bisect->dots[0][i]);
        if (distance > best_distance) {
            best_distance = distance;
            best = i;
        }
    }
    return ids[best];
}

/* |x - first mean|^2 - |x - second mean|^2 for every row, into dots[0]. */
static void margins(struct bisect *bisect, const uint32_t *ids, uint32_t count)
{
    int32_t bias[2];
    for (int side = 0; side < 2; side++)
        bias[side] = dots_with(bisect, bisect->means[side], ids, count, bisect->dots[side]);
    for (uint32_t i = 0; i < count; i++)
        bisect->dots[0][i] = bias[0] - bias[1] - 2 * (bisect->dots[0][i] - bisect->dots[1][i]);
}

/* Stable: those with a margin of at most 0 come first. Returns how many they are. */
static uint32_t partition(struct bisect *bisect, uint32_t *ids, uint32_t count)
{
    uint32_t first = 0, second = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (bisect->dots[0][i] <= 0)
            ids[first++] = ids[i];
        else
            bisect->ids[second++] = ids[i];
    }
    memcpy(ids + first, bisect->ids, second * sizeof *ids);
    return first;
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Orders by margin and cuts at the given place: for sets with outliers, which plain 2-means peels
 * off one by one. */
static uint32_t cut_at(struct bisect *bisect, uint32_t *ids, uint32_t count, uint32_t cut)
{
    margins(bisect, ids, count);
    for (uint32_t i = 0; i < count; i++)
        bisect->keys[i] = (uint64_t)((int64_t)bisect->dots[0][i] + (1u << 31)) << 32 | ids[i];
    qsort(bisect->keys, count, sizeof *bisect->keys, compare_keys);
    for (uint32_t i = 0; i < count; i++)
        ids[i] = (uint32_t)bisect->keys[i];
    return cut;
}

uint32_t bisect_rows(struct bisect *bisect, uint32_t *ids, uint32_t count)
{
    const struct rows8 *rows = bisect->rows;
    uint32_t a = farthest(bisect, rows8_at(rows, ids[0]), ids, count);
    uint32_t b = farthest(bisect, rows8_at(rows, a), ids, count);
    memcpy(bisect->means[0], rows8_at(rows, a), rows->stride);
    memcpy(bisect->means[1], rows8_at(rows, b), rows->stride);
    if (memcmp(bisect->means[0], bisect->means[1], rows->stride) == 0)
        return 0;
    uint32_t first = 0;
    for (int round = 0; round < ROUNDS; round++) {
        margins(bisect, ids, count);
        first = partition(bisect, ids, count);
        if (first == 0 || first == count)
            break;
        rows8_mean(rows, ids, first, bisect->sums, bisect->means[0]);
        rows8_mean(rows, ids + first, count - first, bisect->sums, bisect->means[1]);
    }
    uint32_t least = count / BALANCE_MIN > 0 ? count / BALANCE_MIN : 1;
    if (first < least)
        first = cut_at(bisect, ids, count, least);
    else if (count - first < least)
        first = cut_at(bisect, ids, count, count - least);
    return first;
}
