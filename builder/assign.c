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

typedef float lanes_f __attribute__((vector_size(32)));
typedef int32_t lanes_i __attribute__((vector_size(32)));

/* The place of the greatest product - half norm, the first of equals. Eight running maxima at once; the compiler makes of the
 * vectors what the machine has. */
static uint32_t best_candidate(const float *products, const float *half_norms, uint32_t count)
{
    lanes_f best = (lanes_f){0} - INFINITY;
    lanes_i index = {0}, at = {0, 1, 2, 3, 4, 5, 6, 7};
    uint32_t whole = count / 8 * 8;
    for (uint32_t i = 0; i < whole; i += 8, at += 8) {
        lanes_f product, half_norm;
        memcpy(&product, products + i, sizeof product);
        memcpy(&half_norm, half_norms + i, sizeof half_norm);
        lanes_f value = product - half_norm;
        lanes_i better = value > best;
        index = (at & better) | (index & ~better);
        best = (lanes_f)(((lanes_i)value & better) | ((lanes_i)best & ~better));
    }
    float value = best[0];
    uint32_t found = (uint32_t)index[0];
    for (int lane = 1; lane < 8; lane++) {
        if (best[lane] > value || (best[lane] == value && (uint32_t)index[lane] < found)) {
            value = best[lane];
            found = (uint32_t)index[lane];
        }
    }
    for (uint32_t i = whole; i < count; i++) {
        if (products[i] - half_norms[i] > value) {
            value = products[i] - half_norms[i];
            found = i;
        }
    }
    return found;
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
