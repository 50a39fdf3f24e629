/* |x - c|^2 = |x|^2 + |c|^2 - 2 <x, c>: for one row, the nearest has the least norm - 2 * dot. All
 * are exact integers. For a chunk of candidates only the least is computed; where it stands is
 * looked up when it is less than what the chunks before have, which is seldom. */
#include "assign.h"

#include <errno.h>
#include <stdbool.h>

#define CHUNK 64 /* candidates */
#define LANES 4

/* Vectors of the width that every machine has. */
typedef int32_t lanes __attribute__((vector_size(16)));

int assign_init(struct assign *assign, uint32_t dim, uint32_t candidates_max)
{
    *assign = (struct assign){0};
    assign->candidates = mem_alloc_array(candidates_max, sizeof *assign->candidates);
    assign->panel = mem_alloc_array(ASSIGN_BLOCK, size_round_up(dim, MEM_ALIGN));
    assign->dots = mem_alloc_array((size_t)CHUNK * ASSIGN_BLOCK, sizeof *assign->dots);
    if (assign->candidates && assign->panel && assign->dots)
        return 0;
    assign_fini(assign);
    return -ENOMEM;
}

void assign_fini(struct assign *assign)
{
    mem_free(assign->candidates);
    mem_free(assign->panel);
    mem_free(assign->dots);
    *assign = (struct assign){0};
}

void assign_clear(struct assign *assign, const struct rows8 *centroids)
{
    assign->centroids = centroids;
    assign->count = 0;
}

void assign_add(struct assign *assign, uint32_t first, uint32_t count)
{
    for (uint32_t c = first; c < first + count; c++)
        assign->candidates[assign->count++] = c;
}

/* The least norm - 2 * dot of each row over a chunk; the dots become these. */
static void chunk_least(struct assign *assign, const uint32_t *ids, uint32_t count, int32_t *out)
{
    lanes least[ASSIGN_BLOCK / LANES];
    for (int g = 0; g < ASSIGN_BLOCK / LANES; g++)
        least[g] = (lanes){INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX};
    for (uint32_t i = 0; i < count; i++) {
        int32_t *dots = assign->dots + (size_t)i * ASSIGN_BLOCK;
        int32_t norm = assign->centroids->terms[ids[i]].norm;
        for (int g = 0; g < ASSIGN_BLOCK / LANES; g++) {
            lanes value;
            memcpy(&value, dots + g * LANES, sizeof value);
            value = norm - (value + value);
            memcpy(dots + g * LANES, &value, sizeof value);
            lanes less = value < least[g];
            least[g] = (value & less) | (least[g] & ~less);
        }
    }
    memcpy(out, least, sizeof least);
}

static uint32_t place_of(const int32_t *values, int32_t value)
{
    uint32_t place = 0;
    while (values[(size_t)place * ASSIGN_BLOCK] != value)
        place++;
    return place;
}

static void assign_block(struct assign *assign, const struct rows8 *rows, const uint32_t *ids,
                         uint32_t count, uint32_t *nearest)
{
    const struct rows8 *centroids = assign->centroids;
    int32_t best[ASSIGN_BLOCK], least[ASSIGN_BLOCK];
    rows8_panel(rows, ids, count, assign->panel);
    for (uint32_t i = 0; i < ASSIGN_BLOCK; i++)
        best[i] = INT32_MAX;
    for (uint32_t begin = 0; begin < assign->count; begin += CHUNK) {
        const uint32_t *candidates = assign->candidates + begin;
        uint32_t size = assign->count - begin < CHUNK ? assign->count - begin : CHUNK;
        kernels_get()->dot_u8s8_panel(assign->dots, assign->panel, centroids->bytes,
                                      centroids->stride, candidates, size);
        chunk_least(assign, candidates, size, least);
        for (uint32_t i = 0; i < count; i++) {
            if (least[i] < best[i]) {
                best[i] = least[i];
                nearest[i] = candidates[place_of(assign->dots + i, least[i])];
            }
        }
    }
}

void assign_rows(struct assign *assign, const struct rows8 *rows, const uint32_t *ids,
                 uint32_t count, uint32_t *nearest)
{
    for (uint32_t i = 0; i < count; i += ASSIGN_BLOCK) {
        uint32_t block = count - i < ASSIGN_BLOCK ? count - i : ASSIGN_BLOCK;
        assign_block(assign, rows, ids + i, block, nearest + i);
    }
}
