/* From the nearest candidate on: one is kept unless a kept one is nearer to it, by the factor
 * alpha, than the row is. What stays points in different directions, and far edges survive. The
 * first pass has an alpha of 1, the second fills what room is left with the given one: a single
 * pass spends the places on the nearest (on SIFT the second pass at R=32 is worth as much recall as
 * 15% more distances).
 *
 * Candidates are compared in blocks of sixteen, by panel: with all that are kept so far, and with
 * each other. That computes distances which an early end would have spared, and still takes half
 * the time. */
#include "prune.h"

#include <errno.h>
#include <math.h>

#include "keys.h"

#define DOTS  64
#define BLOCK KERNEL_PANEL
#define LANES 4

/* Vectors of the width that every machine has. */
typedef int32_t lanes __attribute__((vector_size(16)));

/* Sixteen candidates. */
struct prune_block {
    uint32_t count, rows[BLOCK];
    lanes biases[BLOCK / LANES];
    lanes nearest[BLOCK / LANES]; /* distance from the nearest that is kept */
    int32_t among[BLOCK][BLOCK];  /* products with each other */
};

int prune_init(struct prune *prune, const struct rows8 *rows, double alpha, uint32_t limit_max)
{
    uint32_t dots = limit_max * BLOCK > DOTS ? limit_max * BLOCK : DOTS;
    *prune = (struct prune){.rows = rows, .alpha_q10 = (uint32_t)lround(alpha * 1024)};
    prune->query = mem_alloc(rows->stride);
    prune->panel = mem_alloc_array(BLOCK, rows->stride);
    prune->dots = mem_alloc_array(dots, sizeof *prune->dots);
    prune->block = mem_alloc(sizeof *prune->block);
    if (prune->query && prune->panel && prune->dots && prune->block)
        return 0;
    prune_fini(prune);
    return -ENOMEM;
}

void prune_fini(struct prune *prune)
{
    mem_free(prune->query);
    mem_free(prune->panel);
    mem_free(prune->dots);
    mem_free(prune->block);
    *prune = (struct prune){0};
}

/* ---- blocks ---- */

static inline void come_near(struct prune *prune, uint32_t kept, const int32_t *dots)
{
    struct prune_block *block = prune->block;
    int32_t norm = prune->rows->terms[kept].norm;
    for (int i = 0; i < BLOCK / LANES; i++) {
        lanes dot;
        memcpy(&dot, dots + i * LANES, sizeof dot);
        lanes between = block->biases[i] + norm - 2 * dot, nearer = between < block->nearest[i];
        block->nearest[i] = (between & nearer) | (block->nearest[i] & ~nearer);
    }
}

static void block_set(struct prune *prune, const uint64_t *keys, uint32_t count,
                      const uint32_t *kept, uint32_t kept_count)
{
    const struct rows8 *rows = prune->rows;
    const struct kernels *kernels = kernels_get();
    struct prune_block *block = prune->block;
    block->count = count;
    for (uint32_t i = 0; i < BLOCK; i++) {
        block->rows[i] = (uint32_t)keys[i < count ? i : 0];
        block->biases[i / LANES][i % LANES] = rows->terms[block->rows[i]].bias;
        block->nearest[i / LANES][i % LANES] = INT32_MAX;
    }
    rows8_panel(rows, block->rows, count, prune->panel);
    kernels->dot_u8s8_panel(block->among[0], prune->panel, rows->bytes, rows->stride, block->rows,
                            count);
    kernels->dot_u8s8_panel(prune->dots, prune->panel, rows->bytes, rows->stride, kept, kept_count);
    for (uint32_t i = 0; i < kept_count; i++)
        come_near(prune, kept[i], prune->dots + (size_t)i * BLOCK);
}

static bool occluded(const struct prune_block *block, uint32_t i, uint64_t key, uint32_t alpha_q10)
{
    uint64_t between = (uint32_t)block->nearest[i / LANES][i % LANES];
    return between * alpha_q10 <= key >> 32 << 10;
}

/* ---- pruning ---- */

/* One pass over keys. Those that alpha_q10 occludes, but not the wider alpha of the second pass,
 * are left at the front of keys; *left tells how many. Returns how many are kept in all. */
static uint32_t pass(struct prune *prune, uint64_t *keys, uint32_t count, uint32_t alpha_q10,
                     uint32_t limit, uint32_t *out, uint32_t kept, uint32_t *left)
{
    struct prune_block *block = prune->block;
    *left = 0;
    for (uint32_t begin = 0; begin < count && kept < limit; begin += BLOCK) {
        block_set(prune, keys + begin, count - begin < BLOCK ? count - begin : BLOCK, out, kept);
        for (uint32_t i = 0; i < block->count && kept < limit; i++) {
            uint64_t key = keys[begin + i];
            if (!occluded(block, i, key, alpha_q10)) {
                out[kept++] = block->rows[i];
                come_near(prune, block->rows[i], block->among[i]);
            } else if (!occluded(block, i, key, prune->alpha_q10)) {
                keys[(*left)++] = key;
            }
        }
    }
    return kept;
}

uint32_t prune_run(struct prune *prune, uint64_t *keys, uint32_t count, uint32_t limit,
                   uint32_t *out)
{
    uint32_t left;
    uint32_t kept = pass(prune, keys, count, 1024, limit, out, 0, &left);
    return pass(prune, keys, left, prune->alpha_q10, limit, out, kept, &left);
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

uint32_t prune_sort(uint64_t *keys, uint32_t count, uint32_t row)
{
    keys_sort(keys, count);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++)
        if ((uint32_t)keys[i] != row && (kept == 0 || keys[i] != keys[kept - 1]))
            keys[kept++] = keys[i];
    return kept;
}
