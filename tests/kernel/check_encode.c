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

/* ---- paths through trellises ---- */

struct paths {
    struct kernel_path path;
    const uint8_t *cells;
};

/* What a bit costs a path at a step, coming from a state (the last four bits, the latest lowest).
 */
static uint32_t step_cost(const struct paths *paths, uint32_t i, uint32_t t, uint32_t state,
                          uint32_t last)
{
    const struct kernel_path *path = &paths->path;
    uint32_t bonus = (state ^ state >> 2 ^ state >> 3) & 1; /* one, three and four before */
    size_t at = (size_t)t * KERNEL_PATHS + i;
    uint32_t error =
        path->errors[((path->bits[t] * 2u + last) * 2 + bonus) * 64 + paths->cells[at]];
    return error * path->weights[t] >> 8;
}

/* The cost of bits (of step 0 lowest) from a state on, and the state they lead to. */
static uint32_t walk(const struct paths *paths, uint32_t i, uint32_t bits, uint32_t *state)
{
    uint32_t cost = 0;
    for (uint32_t t = 0; t < paths->path.steps; t++) {
        cost += step_cost(paths, i, t, *state, bits >> t & 1);
        *state = (*state << 1 | (bits >> t & 1)) & 15;
    }
    return cost;
}

/* Tries all bits. Those of the indexes must make a circle, and cost the least of all circles that
 * begin half way on a best path of two rounds. */
static bool path_is_best(const struct paths *paths, uint32_t i, const uint8_t *indexes)
{
    uint32_t steps = paths->path.steps, taken = 0;
    uint32_t best[16], to[16], from[16],
        least = UINT32_MAX; /* a round that ends and begins there */
    memset(best, 0xff, sizeof best);
    memset(to, 0xff, sizeof to);
    memset(from, 0xff, sizeof from);
    for (uint32_t bits = 0; bits < 1u << steps; bits++)
        for (uint32_t start = 0; start < 16; start++) {
            uint32_t end = start, cost = walk(paths, i, bits, &end);
            best[start] = end == start && cost < best[start] ? cost : best[start];
            to[end] = cost < to[end] ? cost : to[end];
            from[start] = cost < from[start] ? cost : from[start];
        }
    for (uint32_t s = 0; s < 16; s++)
        least = to[s] + from[s] < least ? to[s] + from[s] : least;
    for (uint32_t t = 0; t < steps; t++)
        taken |= (uint32_t)(indexes[(size_t)t * KERNEL_PATHS + i] & 1) << t;
    uint32_t begin = 0;
    for (uint32_t before = 1; before <= 4; before++)
        begin |= (taken >> (steps - before) & 1) << (before - 1);
    uint32_t end = begin;
    return to[begin] + from[begin] == least && walk(paths, i, taken, &end) == best[begin] &&
           end == begin;
}

/* Indexes of which bit 0 is the last bit, and the others noise: what was found out of tables is
 * told by the table it must be from. */
static void paths_case(struct tally *tally, const struct kernels *kernels, struct prng *prng,
                       uint32_t steps, enum content content, enum guard_side side)
{
    size_t all = (size_t)steps * KERNEL_PATHS, tables = 7 * 2 * 2 * 64;
    uint8_t *cells = guard_take(side, all), *bits = guard_take(side, steps);
    uint8_t *errors = guard_take(side, tables), *indexes = guard_take(side, tables);
    uint8_t *out = guard_take(side, all), *work = mem_alloc(all * KERNEL_STATES);
    uint16_t *weights = guard_take(side, steps * sizeof *weights);
    fill_u8(prng, cells, all, content);
    fill_u8(prng, errors, tables, content);
    fill_u8(prng, indexes, tables, CONTENT_NOISE);
    for (size_t i = 0; i < all; i++)
        cells[i] &= 63;
    for (uint32_t t = 0; t < steps; t++) {
        weights[t] = (uint16_t)prng_below(prng, KERNEL_PATH_MAX + 1);
        bits[t] = (uint8_t)(1 + prng_below(prng, KERNEL_PLANES_MAX));
    }
    for (size_t i = 0; i < tables; i++)
        indexes[i] = (uint8_t)((indexes[i] & 0xfe) | (i / 128 & 1));
    struct paths paths = {{steps, bits, weights, errors, indexes, work}, cells};
    kernels->trellis_encode(out, &paths.path, cells);
    bool ok = guard_intact();
    for (uint32_t i = 0; i < KERNEL_PATHS && steps <= 7; i += 5)
        ok = ok && path_is_best(&paths, i, out);
    uint8_t *same = mem_alloc(all);
    kernels_at(KERNEL_SCALAR)->trellis_encode(same, &paths.path, cells);
    ok = ok && memcmp(same, out, all) == 0;
    tally_case(tally, ok, "%u steps, content %d", steps, content);
    mem_free(same);
    mem_free(work);
    guard_reset();
}

static void check_trellis_encode(struct tally *tally, const struct kernels *kernels)
{
    struct prng prng;
    prng_init(&prng, 43, 0);
    static const uint32_t steps[] = {4, 5, 6, 7, 8, 9, 11, 16, 17, 88, 128, 1024};
    for (unsigned i = 0; i < sizeof steps / sizeof steps[0]; i++)
        for (int content = 0; content < CONTENTS; content++)
            for (int again = 0; again < 3; again++)
                paths_case(tally, kernels, &prng, steps[i], content, again % 2);
}

/* Rows of a trellis, and how to decode them. */
struct decoding {
    struct kernel_decoding how;
    uint8_t *cells, *indexes;
};

static void fill_decoding(struct decoding *decoding, struct prng *prng, uint32_t dim, bool drops,
                          enum content content, enum guard_side side)
{
    size_t all = (size_t)dim * KERNEL_PATHS;
    uint32_t *step_of = guard_take(side, dim * sizeof *step_of);
    uint8_t *drop = guard_take(side, dim);
    float *sigma = guard_take(side, dim * sizeof *sigma),
          *centroid = guard_take(side, dim * sizeof *centroid),
          *by_cell = guard_take(side, 64 * sizeof *by_cell),
          *values = guard_take(side, 128 * sizeof *values);
    decoding->cells = guard_take(side, all);
    decoding->indexes = guard_take(side, all);
    fill_u8(prng, decoding->cells, all, content);
    fill_u8(prng, decoding->indexes, all, content);
    for (size_t i = 0; i < all; i++) {
        decoding->cells[i] &= 63;
        decoding->indexes[i] &= 127;
    }
    for (uint32_t d = 0; d < dim; d++) {
        step_of[d] = dim - 1 - d;
        drop[d] = (uint8_t)prng_below(prng, 7);
        sigma[d] = (float)prng_below(prng, 1000) / 7;
        centroid[d] = ((float)prng_below(prng, 2000) - 1000) / 3;
    }
    for (int i = 0; i < 64; i++)
        by_cell[i] = ((float)prng_below(prng, 2000) - 1000) / 300;
    for (int i = 0; i < 128; i++)
        values[i] = ((float)prng_below(prng, 2000) - 1000) / 300;
    decoding->how = (struct kernel_decoding){dim,     step_of, drops ? drop : NULL, sigma, centroid,
                                             by_cell, values};
}

static bool same_rows(const float *a, const float *b, uint32_t first, uint32_t end)
{
    return memcmp(a + first, b + first, (end - first) * sizeof *a) == 0;
}

static void decoded_case(struct tally *tally, const struct kernels *kernels, struct prng *prng,
                         uint32_t dim, enum content content, bool drops)
{
    struct decoding decoding;
    const struct kernels *scalar = kernels_at(KERNEL_SCALAR);
    struct kernel_decoded got, same;
    float got_products[KERNEL_PATHS], products[KERNEL_PATHS];
    fill_decoding(&decoding, prng, dim, drops, content, drops ? GUARD_BEHIND : GUARD_BEFORE);
    uint32_t first = (uint32_t)prng_below(prng, KERNEL_PATHS),
             end = first + 1 + (uint32_t)prng_below(prng, KERNEL_PATHS - first);
    kernels->decoded_sums(&got, &decoding.how, decoding.cells, decoding.indexes, first, end);
    kernels->decoded_products(got_products, &decoding.how, decoding.cells, first, end);
    bool ok = guard_intact();
    scalar->decoded_sums(&same, &decoding.how, decoding.cells, decoding.indexes, first, end);
    scalar->decoded_products(products, &decoding.how, decoding.cells, first, end);
    ok = ok && same_rows(got.norm, same.norm, first, end) &&
         same_rows(got.square, same.square, first, end) &&
         same_rows(got.product, same.product, first, end) &&
         same_rows(got.centroid, same.centroid, first, end) &&
         same_rows(got_products, products, first, end);
    tally_case(tally, ok, "dim %u, rows %u to %u, content %d", dim, first, end, content);
    guard_reset();
}

/* The whole of a small case, by what it is said to be. */
static void decoded_by_hand(struct tally *tally, const struct kernels *kernels, struct prng *prng)
{
    struct decoding decoding;
    struct kernel_decoded got;
    float product;
    fill_decoding(&decoding, prng, 1, true, CONTENT_NOISE, GUARD_BEHIND);
    const struct kernel_decoding *how = &decoding.how;
    kernels->decoded_sums(&got, how, decoding.cells, decoding.indexes, 0, 1);
    unsigned drop = how->drop[0],
             index = drop ? ((unsigned)decoding.indexes[0] >> drop << drop) + (1u << (drop - 1))
                          : decoding.indexes[0];
    float x = how->sigma[0] * how->cells[decoding.cells[0]], y = how->sigma[0] * how->values[index];
    float products[KERNEL_PATHS];
    kernels->decoded_products(products, how, decoding.cells, 0, 1);
    product = how->centroid[0] * how->sigma[0] * how->cells[decoding.cells[0]];
    tally_case(tally,
               got.norm[0] == x * x && got.square[0] == y * y && got.product[0] == x * y &&
                   got.centroid[0] == how->centroid[0] * y && products[0] == product,
               "one dimension, drop %u", drop);
    guard_reset();
}

static void check_decoded(struct tally *tally, const struct kernels *kernels)
{
    struct prng prng;
    prng_init(&prng, 44, 0);
    static const uint32_t dims[] = {1, 7, 32, 128, 1000};
    for (unsigned i = 0; i < sizeof dims / sizeof dims[0]; i++)
        for (int content = 0; content < CONTENTS; content++)
            for (int again = 0; again < 6; again++)
                decoded_case(tally, kernels, &prng, dims[i], content, again % 2);
    for (int again = 0; again < 20; again++)
        decoded_by_hand(tally, kernels, &prng);
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

struct paths_bench {
    const struct kernels *kernels;
    struct kernel_path path;
    uint8_t *cells, *indexes;
};

static void run_trellis_encode(void *context, size_t call)
{
    struct paths_bench *bench = context;
    bench->kernels->trellis_encode(bench->indexes, &bench->path, bench->cells);
    (void)call;
}

static double bench_trellis_encode(const struct kernels *kernels, struct shape shape, bool far)
{
    uint32_t steps = shape.dim;
    size_t all = (size_t)steps * KERNEL_PATHS;
    uint8_t *bits = bench_array(steps), *tables = bench_array((size_t)7 * 2 * 2 * 64);
    uint8_t *work = bench_array(all * KERNEL_STATES);
    uint16_t *weights = bench_array(steps * sizeof *weights);
    struct paths_bench bench = {.kernels = kernels,
                                .path = {steps, bits, weights, tables, tables, work},
                                .cells = bench_array(all),
                                .indexes = bench_array(all)};
    for (size_t i = 0; i < all; i++)
        bench.cells[i] &= 63;
    for (uint32_t t = 0; t < steps; t++) {
        weights[t] = (uint16_t)(1 + t % KERNEL_PATH_MAX);
        bits[t] = (uint8_t)(1 + t % KERNEL_PLANES_MAX);
    }
    double best = bench_best(run_trellis_encode, &bench, 100, KERNEL_PATHS, far);
    mem_free(bits);
    mem_free(tables);
    mem_free(work);
    mem_free(weights);
    mem_free(bench.cells);
    mem_free(bench.indexes);
    return best;
}

struct decoded_bench {
    const struct kernels *kernels;
    struct kernel_decoding how;
    uint8_t *cells;
    struct kernel_decoded decoded;
};

static void run_decoded(void *context, size_t call)
{
    struct decoded_bench *bench = context;
    bench->kernels->decoded_sums(&bench->decoded, &bench->how, bench->cells, bench->cells, 0,
                                 KERNEL_PATHS);
    bench->kernels->decoded_products(bench->decoded.norm, &bench->how, bench->cells, 0,
                                     KERNEL_PATHS);
    (void)call;
}

static double bench_decoded(const struct kernels *kernels, struct shape shape, bool far)
{
    size_t all = (size_t)shape.dim * KERNEL_PATHS;
    uint32_t *step_of = bench_array(shape.dim * sizeof *step_of);
    float *floats = bench_array((2 * (size_t)shape.dim + 128) * sizeof *floats);
    struct decoded_bench bench = {
        .kernels = kernels,
        .how = {shape.dim, step_of, NULL, floats + 128, floats + 128 + shape.dim, floats, floats},
        .cells = bench_array(all)};
    for (size_t i = 0; i < all; i++)
        bench.cells[i] &= 63;
    for (uint32_t d = 0; d < shape.dim; d++)
        step_of[d] = d;
    for (uint32_t i = 0; i < 2 * shape.dim + 128; i++)
        floats[i] = (float)(i % 100) / 7;
    double best = bench_best(run_decoded, &bench, 100, KERNEL_PATHS, far);
    mem_free(step_of);
    mem_free(floats);
    mem_free(bench.cells);
    return best;
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
    {"trellis_encode",
     "the best paths of 64 rows through a trellis",
     check_trellis_encode,
     bench_trellis_encode,
     false,
     {{88, 0}, {128, 0}, {768, 0}}},
    {"decoded_sums",
     "sums of what 64 rows were encoded to, and with a centroid",
     check_decoded,
     bench_decoded,
     false,
     {{88, 0}, {128, 0}, {768, 0}}},
    {0},
};
