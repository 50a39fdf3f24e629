/* kernel_check: sums of table entries over sliced codes. They are exact, so every level must give
 * the same. */
#include "check.h"

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

const struct kernel_entry sliced_entries[] = {
    {"sliced_sums",
     "sums of table entries of sliced codes",
     check_sliced,
     bench_sliced,
     false,
     {{128, 16}, {128, 20}, {256, 40}, {384, 60}, {1024, 128}}},
    {0},
};
