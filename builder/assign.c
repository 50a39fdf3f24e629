/* |x - c|^2 / 2 = |x|^2 / 2 + |c|^2 / 2 - <x, c>: the nearest has the greatest <x, c> - |c|^2 / 2. Products of 8-bit
 * integers add up exactly in float below 2^24, that is up to 1,024 dimensions, in whatever order BLAS sums. */
#include "assign.h"

#include <cblas.h>
#include <errno.h>
#include <math.h>

int assign_init(struct assign *assign, uint32_t dim, uint32_t candidates_max)
{
    *assign = (struct assign){.dim = dim, .candidates_max = candidates_max};
    assign->rows = mem_alloc_array((size_t)ASSIGN_BLOCK * dim, sizeof(float));
    assign->candidates = mem_alloc_array((size_t)candidates_max * dim, sizeof(float));
    assign->half_norms = mem_alloc_array(candidates_max, sizeof(float));
    assign->products = mem_alloc_array((size_t)ASSIGN_BLOCK * candidates_max, sizeof(float));
    assign->indices = mem_alloc_array(candidates_max, sizeof(uint32_t));
    if (assign->rows && assign->candidates && assign->half_norms && assign->products && assign->indices)
        return 0;
    assign_fini(assign);
    return -ENOMEM;
}

void assign_fini(struct assign *assign)
{
    mem_free(assign->rows);
    mem_free(assign->candidates);
    mem_free(assign->half_norms);
    mem_free(assign->products);
    mem_free(assign->indices);
    *assign = (struct assign){0};
}

static void centred_floats(const uint8_t *row, uint32_t dim, float *out)
{
    for (uint32_t d = 0; d < dim; d++)
        out[d] = (float)((int32_t)row[d] - 128);
}

void assign_clear(struct assign *assign)
{
    assign->count = 0;
}

void assign_add(struct assign *assign, const struct rows8 *centroids, uint32_t first, uint32_t count)
{
    for (uint32_t c = first; c < first + count; c++) {
        uint32_t at = assign->count++;
        centred_floats(rows8_at(centroids, c), assign->dim, assign->candidates + (size_t)at * assign->dim);
        assign->half_norms[at] = (float)centroids->terms[c].norm * 0.5f;
        assign->indices[at] = c;
    }
}

/* Four running maxima hide the latency of one; the first of equal values wins, as in a plain loop. */
static uint32_t best_candidate(const float *products, const float *half_norms, uint32_t count)
{
    float best[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    uint32_t index[4] = {0};
    uint32_t i = 0;
    for (; i + 4 <= count; i += 4) {
        for (uint32_t lane = 0; lane < 4; lane++) {
            float value = products[i + lane] - half_norms[i + lane];
            index[lane] = value > best[lane] ? i + lane : index[lane];
            best[lane] = value > best[lane] ? value : best[lane];
        }
    }
    for (; i < count; i++) {
        float value = products[i] - half_norms[i];
        index[i % 4] = value > best[i % 4] ? i : index[i % 4];
        best[i % 4] = value > best[i % 4] ? value : best[i % 4];
    }
    uint32_t lane = 0;
    for (uint32_t other = 1; other < 4; other++)
        if (best[other] > best[lane] || (best[other] == best[lane] && index[other] < index[lane]))
            lane = other;
    return index[lane];
}

static void assign_block(struct assign *assign, const struct rows8 *rows, const uint32_t *ids,
                         uint32_t count, uint32_t *nearest)
{
    for (uint32_t i = 0; i < count; i++)
        centred_floats(rows8_at(rows, ids[i]), assign->dim, assign->rows + (size_t)i * assign->dim);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, count, assign->count, assign->dim, 1.0f,
                assign->rows, assign->dim, assign->candidates, assign->dim, 0.0f, assign->products,
                assign->count);
    for (uint32_t i = 0; i < count; i++) {
        const float *products = assign->products + (size_t)i * assign->count;
        nearest[i] = assign->indices[best_candidate(products, assign->half_norms, assign->count)];
    }
}

void assign_rows(struct assign *assign, const struct rows8 *rows, const uint32_t *ids, uint32_t count,
                 uint32_t *nearest)
{
    for (uint32_t i = 0; i < count; i += ASSIGN_BLOCK) {
        uint32_t block = count - i < ASSIGN_BLOCK ? count - i : ASSIGN_BLOCK;
        assign_block(assign, rows, ids + i, block, nearest + i);
    }
}
