/* |x - c|^2 / 2 = |x|^2 / 2 + |c|^2 / 2 - <x, c>: the nearest has the greatest <x, c> - |c|^2 / 2.
 * Products of 8-bit integers add up exactly in float below 2^24, that is up to 1,024 dimensions, in
 * whatever order BLAS sums. */
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
    if (assign->rows && assign->candidates && assign->half_norms && assign->products &&
        assign->indices)
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

void assign_add(struct assign *assign, const struct rows8 *centroids, uint32_t first,
                uint32_t count)
{
    for (uint32_t c = first; c < first + count; c++) {
        uint32_t at = assign->count++;
        centred_floats(rows8_at(centroids, c), assign->dim,
                       assign->candidates + (size_t)at * assign->dim);
        assign->half_norms[at] = (float)centroids->terms[c].norm * 0.5f;
        assign->indices[at] = c;
    }
}

/* Vectors of the width that every machine has; the compiler would take wider ones apart. */
typedef float lanes_f __attribute__((vector_size(16)));
typedef int32_t lanes_i __attribute__((vector_size(16)));

#define LANES 4

struct maxima {
    lanes_f value;
    lanes_i place;
};

static inline void maxima_add(struct maxima *maxima, const float *products, const float *half_norms,
                              lanes_i at)
{
    lanes_f product, half_norm;
    memcpy(&product, products, sizeof product);
    memcpy(&half_norm, half_norms, sizeof half_norm);
    lanes_f value = product - half_norm;
    lanes_i better = value > maxima->value;
    maxima->place = (at & better) | (maxima->place & ~better);
    maxima->value = (lanes_f)(((lanes_i)value & better) | ((lanes_i)maxima->value & ~better));
}

/* The place of the greatest product - half norm, the first of equals. */
static uint32_t best_candidate(const float *products, const float *half_norms, uint32_t count)
{
    struct maxima maxima[2] = {{.value = (lanes_f){0} - INFINITY},
                               {.value = (lanes_f){0} - INFINITY}};
    lanes_i at = {0, 1, 2, 3};
    uint32_t whole = count / (2 * LANES) * (2 * LANES), found = 0;
    for (uint32_t i = 0; i < whole; i += 2 * LANES, at += 2 * LANES) {
        maxima_add(&maxima[0], products + i, half_norms + i, at);
        maxima_add(&maxima[1], products + i + LANES, half_norms + i + LANES, at + LANES);
    }
    float best = -INFINITY;
    for (int lane = 0; lane < 2 * LANES; lane++) {
        float value = maxima[lane / LANES].value[lane % LANES];
        uint32_t place = (uint32_t)maxima[lane / LANES].place[lane % LANES];
        if (value > best || (value == best && place < found)) {
            best = value;
            found = place;
        }
    }
    for (uint32_t i = whole; i < count; i++) {
        if (products[i] - half_norms[i] > best) {
            best = products[i] - half_norms[i];
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

void assign_rows(struct assign *assign, const struct rows8 *rows, const uint32_t *ids,
                 uint32_t count, uint32_t *nearest)
{
    for (uint32_t i = 0; i < count; i += ASSIGN_BLOCK) {
        uint32_t block = count - i < ASSIGN_BLOCK ? count - i : ASSIGN_BLOCK;
        assign_block(assign, rows, ids + i, block, nearest + i);
    }
}
