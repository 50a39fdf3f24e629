/* kernel_check: what codes are made with. Sums of doubles are in one order at every level, and
 * cells follow from them, so all levels must agree to the bit; the definitions are written down
 * here in that order, one dimension at a time. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "guard.h"
#include "mem.h"

static uint32_t encode_dim(unsigned i)
{
    static const uint32_t more[] = {384, 504, 512, 520, 784, 1024, 4104};
    if (i < 20)
        return 8 * (i + 1);
    return i - 20 < sizeof more / sizeof more[0] ? more[i - 20] : 0;
}

/* The lanes of kernel.h, joined by halves. */
struct lanes {
    double lane[8];
};

static double lanes_sum(const struct lanes *lanes)
{
    double half[4], quarter[2];
    for (int i = 0; i < 4; i++)
        half[i] = lanes->lane[i] + lanes->lane[i + 4];
    for (int i = 0; i < 2; i++)
        quarter[i] = half[i] + half[i + 2];
    return quarter[0] + quarter[1];
}

static double square_sum(const float *x, uint32_t dim)
{
    struct lanes lanes = {{0}};
    for (uint32_t d = 0; d < dim; d++)
        lanes.lane[d % 8] += (double)x[d] * x[d];
    return lanes_sum(&lanes);
}

/* Falling sigmas, as principal axes have them, with zeros behind as padding has; residuals that may
 * be nothing at all, and some dimensions that stick out of every edge. */
static void fill_residual(struct prng *prng, float *y, float *sigma, uint32_t dim, unsigned kind)
{
    fill_f32(prng, y, dim);
    for (uint32_t d = 0; d < dim; d++) {
        sigma[d] = kind % 5 == 4 && d + 3 >= dim ? 0 : 40.0f / (float)(d + 1);
        y[d] = kind % 7 == 6 ? 0 : y[d] * sigma[d] * 0.05f;
    }
    if (kind % 3 == 2)
        y[prng_below(prng, dim)] = 1e9f;
}

/* Edges that rise from the second on; the first is never looked at. */
static void fill_edges(float *edges)
{
    edges[0] = NAN;
    for (int c = 1; c < 64; c++)
        edges[c] = (float)(c - 32) * 0.1f;
}

static bool cells_are_right(const uint8_t *bits6, const float *y, const float *sigma,
                            const float *edges, uint32_t dim)
{
    double length = square_sum(y, dim);
    float inverse = length > 0 ? (float)sqrt(square_sum(sigma, dim) / length) : 0;
    for (uint32_t d = 0; d < dim; d++) {
        float u = sigma[d] > 0 ? y[d] * inverse / sigma[d] : 0;
        uint8_t cell = 0;
        while (cell < 63 && u >= edges[cell + 1])
            cell++;
        if (bits6[d] != cell)
            return false;
    }
    return true;
}

static void check_quantise6(struct tally *tally, const struct kernels *kernels)
{
    struct prng prng;
    prng_init(&prng, 41, 0);
    for (unsigned i = 0; encode_dim(i); i++) {
        for (unsigned turn = 0; turn < 40; turn++) {
            uint32_t dim = encode_dim(i);
            enum guard_side side = turn % 2;
            float *y = guard_take(side, dim * sizeof *y),
                  *sigma = guard_take(side, dim * sizeof *sigma);
            float *edges = guard_take(side, 64 * sizeof *edges);
            uint8_t *bits6 = guard_take(side, dim);
            fill_residual(&prng, y, sigma, dim, turn);
            fill_edges(edges);
            memset(bits6, 0x55, dim);
            kernels->quantise6(bits6, y, sigma, edges, dim);
            bool ok = guard_intact() && cells_are_right(bits6, y, sigma, edges, dim);
            tally_case(tally, ok, "%u dims, kind %u", dim, turn);
            guard_reset();
        }
    }
}

/* The level byte of a cell cut to its first bits, by the definition of codes in kernel.h. */
static int decoded(const uint8_t *level, uint8_t cell, unsigned bits)
{
    unsigned index = 0;
    for (unsigned p = 0; p < bits; p++)
        index += (cell >> (5 - p) & 1u) << (6 - p);
    return level[index + (1u << (6 - bits))] - 128;
}

static struct kernel_sums sums_of(const struct kernel_residual *r, const uint16_t *units,
                                  size_t count)
{
    struct lanes norm = {{0}}, square = {{0}}, product = {{0}}, centroid = {{0}};
    for (size_t i = 0; i < count; i++) {
        unsigned bits = units[i] >> 12;
        for (unsigned lane = 0; lane < 8; lane++) {
            size_t d = 8 * (size_t)(units[i] & 0xfff) + lane;
            int before = decoded(r->level, r->bits6[d], bits);
            int after = decoded(r->level, r->bits6[d], bits + 1);
            float y = r->y[d] * r->sigma[d], c = r->centroid[d] * r->sigma[d],
                  s = r->sigma[d] * r->sigma[d];
            product.lane[lane] += (double)y * (after - before);
            centroid.lane[lane] += (double)c * (after - before);
            square.lane[lane] += (double)s * (after * after - before * before);
            norm.lane[lane] += bits == 0 ? (double)r->y[d] * r->y[d] : 0;
        }
    }
    return (struct kernel_sums){.norm = lanes_sum(&norm),
                                .square = lanes_sum(&square),
                                .product = lanes_sum(&product),
                                .centroid = lanes_sum(&centroid)};
}

static void sums_case(struct tally *tally, const struct kernels *kernels, struct prng *prng,
                      uint32_t dim, size_t count, enum content content, enum guard_side side)
{
    float *y = guard_take(side, dim * sizeof *y), *sigma = guard_take(side, dim * sizeof *sigma);
    float *centroid = guard_take(side, dim * sizeof *centroid);
    uint8_t *bits6 = guard_take(side, dim), *level = guard_take(side, 128);
    uint16_t *units = guard_take(side, count * sizeof *units);
    struct kernel_residual residual = {bits6, y, centroid, sigma, level};
    struct kernel_sums got, want;
    fill_residual(prng, y, sigma, dim, content);
    fill_f32(prng, centroid, dim);
    fill_u8(prng, level, 128, content);
    fill_u8(prng, bits6, dim, content);
    for (uint32_t d = 0; d < dim; d++)
        bits6[d] &= 63;
    for (size_t i = 0; i < count; i++) {
        /* The first group is the one at the wall. */
        uint32_t group = i ? prng_below(prng, dim / 8) : dim / 8 - 1;
        units[i] = (uint16_t)(prng_below(prng, KERNEL_PLANES_MAX) << 12 | group);
    }
    want = sums_of(&residual, units, count);
    kernels->unit_sums(&got, &residual, units, count);
    bool ok = guard_intact() && got.norm == want.norm && got.square == want.square &&
              got.product == want.product && got.centroid == want.centroid;
    tally_case(tally, ok, "%u dims, %zu units, content %d: %.17g %.17g, not %.17g %.17g", dim,
               count, content, got.product, got.square, want.product, want.square);
    guard_reset();
}

static void check_unit_sums(struct tally *tally, const struct kernels *kernels)
{
    struct prng prng;
    prng_init(&prng, 42, 0);
    unsigned turn = 0;
    for (unsigned i = 0; encode_dim(i); i++)
        for (int content = 0; content < CONTENTS; content++)
            for (int again = 0; again < 5; again++, turn++)
                sums_case(tally, kernels, &prng, encode_dim(i), check_count(turn), content,
                          turn / 2 % 2);
}

struct bench {
    const struct kernels *kernels;
    struct kernel_residual residual;
    uint8_t *bits6;
    float *edges;
    uint16_t *units;
    uint32_t dim;
    double sum;
};

static void run_quantise6(void *context, size_t call)
{
    struct bench *bench = context;
    bench->kernels->quantise6(bench->bits6, bench->residual.y, bench->residual.sigma, bench->edges,
                              bench->dim);
    (void)call;
}

static void run_unit_sums(void *context, size_t call)
{
    struct bench *bench = context;
    struct kernel_sums sums;
    bench->kernels->unit_sums(&sums, &bench->residual, bench->units, bench->dim / 8);
    bench->sum += sums.product;
    (void)call;
}

static double bench_run(const struct kernels *kernels, uint32_t dim,
                        void (*run)(void *context, size_t call))
{
    struct prng prng;
    prng_init(&prng, 43, 0);
    struct bench bench = {.kernels = kernels, .dim = dim};
    float *y = bench_array(dim * sizeof *y), *sigma = bench_array(dim * sizeof *sigma);
    uint8_t *level = bench_array(128);
    bench.bits6 = bench_array(dim);
    bench.edges = bench_array(64 * sizeof(float));
    bench.units = bench_array(dim / 8 * sizeof(uint16_t));
    fill_residual(&prng, y, sigma, dim, 0);
    fill_edges(bench.edges);
    memset(bench.bits6, 21, dim);
    for (uint32_t g = 0; g < dim / 8; g++)
        bench.units[g] = (uint16_t)(g % KERNEL_PLANES_MAX << 12 | g);
    bench.residual = (struct kernel_residual){bench.bits6, y, y, sigma, level};
    double best = bench_best(run, &bench, 100, 1, false);
    mem_free(y);
    mem_free(sigma);
    mem_free(level);
    mem_free(bench.bits6);
    mem_free(bench.edges);
    mem_free(bench.units);
    return best;
}

static double bench_quantise6(const struct kernels *kernels, struct shape shape, bool far)
{
    (void)far;
    return bench_run(kernels, shape.dim, run_quantise6);
}

static double bench_unit_sums(const struct kernels *kernels, struct shape shape, bool far)
{
    (void)far;
    return bench_run(kernels, shape.dim, run_unit_sums);
}

const struct kernel_entry encode_entries[] = {
    {"quantise6",
     "cells of a residual",
     check_quantise6,
     bench_quantise6,
     false,
     {{128, 0}, {784, 0}}},
    {"unit_sums",
     "sums that a plane of all groups changes",
     check_unit_sums,
     bench_unit_sums,
     false,
     {{128, 0}, {784, 0}}},
    {0},
};
