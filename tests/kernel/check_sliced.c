/* kernel_check: sums of table entries over sliced codes, and of rows of half a byte a dimension.
 * They are exact, so every level must give the same. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "guard.h"
#include "mem.h"

enum { COLUMNS_LESS = 40, BENCH_BLOCKS = 32, BENCH_CALLS = 64 };

static size_t padded(uint32_t columns)
{
    return size_round_up(columns, 4);
}

static void fill_tables(struct prng *prng, uint8_t *tables, uint32_t columns, enum content content)
{
    fill_u8(prng, tables, padded(columns) * 32, content);
    for (size_t i = 0; i < padded(columns) * 32; i++)
        tables[i] = tables[i] > KERNEL_TABLE_MAX ? KERNEL_TABLE_MAX : tables[i];
    for (size_t half = 0; half < 2; half++)
        memset(tables + (half * padded(columns) + columns) * 16, 0,
               (padded(columns) - columns) * 16);
}

/* The definition in kernel.h. */
static float sum_of(const uint8_t *tables, const uint8_t *block, uint32_t columns, size_t row)
{
    uint32_t sum = 0;
    for (uint32_t c = 0; c < columns; c++) {
        uint8_t byte = block[c * KERNEL_LANES + row];
        sum += tables[c * 16 + byte % 16] + tables[(padded(columns) + c) * 16 + byte / 16];
    }
    return (float)sum;
}

static void sliced_case(struct tally *tally, const struct kernels *kernels, struct prng *prng,
                        uint32_t columns, size_t count, enum content content, enum guard_side side)
{
    size_t block_bytes = (size_t)columns * KERNEL_LANES;
    uint8_t *tables = guard_take(side, padded(columns) * 32);
    uint8_t *blocks = guard_take(side, count * block_bytes);
    float *out = guard_take(side, count * KERNEL_LANES * sizeof *out);
    fill_tables(prng, tables, columns, content);
    fill_u8(prng, blocks, count * block_bytes, CONTENT_NOISE);
    memset(out, 0x55, count * KERNEL_LANES * sizeof *out);

    kernels->sliced_sums(out, tables, blocks, columns, count);
    bool ok = guard_intact();
    for (size_t i = 0; i < count * KERNEL_LANES; i++) {
        float sum =
            sum_of(tables, blocks + i / KERNEL_LANES * block_bytes, columns, i % KERNEL_LANES);
        ok = ok && memcmp(&sum, &out[i], sizeof sum) == 0;
    }
    tally_case(tally, ok, "%u columns, %zu blocks, content %d", columns, count, content);
    guard_reset();
}

static uint32_t columns_of(unsigned i)
{
    static const uint32_t more[] = {48,  63,  64,  65,  100, 127, 128, 253,
                                    254, 255, 256, 257, 258, 511, 512, 3072};
    if (i < COLUMNS_LESS)
        return i + 1;
    return i - COLUMNS_LESS < sizeof more / sizeof more[0] ? more[i - COLUMNS_LESS] : 0;
}

static void check_sliced(struct tally *tally, const struct kernels *kernels)
{
    struct prng prng;
    prng_init(&prng, 23, 0);
    unsigned turn = 0;
    for (unsigned i = 0; columns_of(i); i++)
        for (int content = 0; content < CONTENTS; content++, turn++)
            sliced_case(tally, kernels, &prng, columns_of(i), check_count(turn), content,
                        turn / 2 % 2);
}

struct bench {
    const struct kernels *kernels;
    uint8_t *tables, *blocks;
    uint32_t columns;
    float out[BENCH_BLOCKS * KERNEL_LANES];
};

static void run(void *context, size_t call)
{
    struct bench *bench = context;
    size_t call_bytes = (size_t)BENCH_BLOCKS * KERNEL_LANES * bench->columns;
    bench->kernels->sliced_sums(bench->out, bench->tables, bench->blocks + call * call_bytes,
                                bench->columns, BENCH_BLOCKS);
}

static double bench_sliced(const struct kernels *kernels, struct shape shape, bool far)
{
    struct prng prng;
    prng_init(&prng, 24, 0);
    struct bench bench = {.kernels = kernels, .columns = shape.bytes};
    size_t calls = far ? 16 * BENCH_CALLS : BENCH_CALLS;
    bench.tables = bench_array(padded(shape.bytes) * 32);
    bench.blocks = bench_array(calls * BENCH_BLOCKS * KERNEL_LANES * shape.bytes);
    fill_tables(&prng, bench.tables, shape.bytes, CONTENT_NOISE);
    double best = bench_best(run, &bench, calls, (size_t)BENCH_BLOCKS * KERNEL_LANES, far);
    mem_free(bench.tables);
    mem_free(bench.blocks);
    return best;
}

/* ---- half a byte a dimension ---- */

static size_t padded_dim(uint32_t dim)
{
    return size_round_up(dim, 64);
}

/* The largest too; zero behind dim. */
static void fill_weights(struct prng *prng, int16_t *weights, uint32_t dim)
{
    enum { MOST = 127 * 128 + 64 };
    for (size_t d = 0; d < padded_dim(dim); d++) {
        int32_t weight = (int32_t)prng_below(prng, 2 * MOST + 1) - MOST;
        if (prng_below(prng, 4) == 0)
            weight = weight < 0 ? -MOST : MOST;
        weights[d] = (int16_t)(d < dim ? weight : 0);
    }
}

static void fill_steps(struct prng *prng, uint8_t *steps, uint32_t dim)
{
    for (uint32_t d = 0; d < dim; d++)
        steps[d] = (uint8_t)prng_below(prng, KERNEL_STEP_MAX + 1);
}

/* The definition in kernel.h. */
static float nibbles_of(const int16_t *weights, const uint8_t *steps, const uint8_t *block,
                        uint32_t dim, size_t row)
{
    int64_t sum = 0;
    for (uint32_t d = 0; d < dim; d++) {
        uint8_t byte = block[(d / 8 * KERNEL_LANES + row) * 4 + d % 4];
        sum += (d % 8 < 4 ? byte % 16 : byte / 16) *
               (int64_t)floor((weights[d] * steps[d] + 8) / 16.0);
    }
    return (float)sum;
}

static void nibble_case(struct tally *tally, const struct kernels *kernels, struct prng *prng,
                        uint32_t dim, size_t count, enum content content, enum guard_side side)
{
    size_t block_bytes = kernel_nibble_bytes(dim);
    int16_t *weights = guard_take(side, padded_dim(dim) * sizeof *weights);
    uint8_t *steps = guard_take(side, dim), *blocks = guard_take(side, count * block_bytes);
    float *out = guard_take(side, count * KERNEL_LANES * sizeof *out);
    fill_weights(prng, weights, dim);
    fill_steps(prng, steps, dim);
    fill_u8(prng, blocks, count * block_bytes, content);
    memset(out, 0x55, count * KERNEL_LANES * sizeof *out);

    kernels->nibble_sums(out, weights, steps, blocks, blocks, dim, count);
    bool ok = guard_intact();
    for (size_t i = 0; i < count * KERNEL_LANES; i++) {
        float sum = nibbles_of(weights, steps, blocks + i / KERNEL_LANES * block_bytes, dim,
                               i % KERNEL_LANES);
        ok = ok && memcmp(&sum, &out[i], sizeof sum) == 0;
    }
    tally_case(tally, ok, "%u dimensions, %zu blocks, content %d", dim, count, content);
    guard_reset();
}

static uint32_t nibble_dim_of(unsigned i)
{
    static const uint32_t more[] = {63,  64,  65,  100,  127,  128, 129,
                                    256, 384, 784, 1025, 4096, 4097};
    if (i < COLUMNS_LESS)
        return i + 1;
    return i - COLUMNS_LESS < sizeof more / sizeof more[0] ? more[i - COLUMNS_LESS] : 0;
}

static void check_nibbles(struct tally *tally, const struct kernels *kernels)
{
    struct prng prng;
    prng_init(&prng, 25, 0);
    unsigned turn = 0;
    for (unsigned i = 0; nibble_dim_of(i); i++)
        for (int content = 0; content < CONTENTS; content++, turn++)
            nibble_case(tally, kernels, &prng, nibble_dim_of(i), check_count(turn) % 9 + 1, content,
                        turn / 2 % 2);
}

/* Two blocks at a time share their steps, as in a clump of centroids. */
enum { CLUMP_BLOCKS = 2 };

struct nibble_bench {
    const struct kernels *kernels;
    int16_t *weights;
    uint8_t *steps, *blocks;
    uint32_t dim;
    float out[CLUMP_BLOCKS * KERNEL_LANES];
};

static void run_nibbles(void *context, size_t call)
{
    struct nibble_bench *bench = context;
    size_t call_bytes = CLUMP_BLOCKS * kernel_nibble_bytes(bench->dim);
    const uint8_t *blocks = bench->blocks + call * call_bytes;
    bench->kernels->nibble_sums(bench->out, bench->weights, bench->steps, blocks,
                                blocks + call_bytes, bench->dim, CLUMP_BLOCKS);
}

static double bench_nibbles(const struct kernels *kernels, struct shape shape, bool far)
{
    struct prng prng;
    prng_init(&prng, 26, 0);
    size_t calls = (far ? 16 : 1) * BENCH_CALLS * BENCH_BLOCKS / CLUMP_BLOCKS;
    struct nibble_bench bench = {
        .kernels = kernels,
        .weights = bench_array(padded_dim(shape.dim) * sizeof *bench.weights),
        .steps = bench_array(shape.dim),
        .blocks = bench_array(calls * CLUMP_BLOCKS * kernel_nibble_bytes(shape.dim)),
        .dim = shape.dim};
    fill_weights(&prng, bench.weights, shape.dim);
    fill_steps(&prng, bench.steps, shape.dim);
    double best = bench_best(run_nibbles, &bench, calls, (size_t)CLUMP_BLOCKS * KERNEL_LANES, far);
    mem_free(bench.weights);
    mem_free(bench.steps);
    mem_free(bench.blocks);
    return best;
}

const struct kernel_entry sliced_entries[] = {
    {"sliced_sums",
     "sums of table entries of sliced codes",
     check_sliced,
     bench_sliced,
     false,
     {{128, 16}, {128, 20}, {256, 40}, {384, 60}, {1024, 128}}},
    {"nibble_sums",
     "a query against rows of half a byte a dimension",
     check_nibbles,
     bench_nibbles,
     false,
     {{100, 52}, {128, 64}, {256, 128}, {384, 192}, {784, 392}}},
    {0},
};
