/* kernel_check: scores of rows of bytes. All sums are exact, so every level must give the very
 * same. */
#include "check.h"

#include <string.h>

#include "guard.h"
#include "mem.h"

enum { ROWS = 40 };

static void dot_case(struct tally *tally, const struct kernels *kernels, struct prng *prng,
                     uint32_t dim, size_t count, enum content content, enum guard_side side)
{
    size_t row_bytes = size_round_up(dim, 64);
    uint8_t *rows = guard_take(side, ROWS * row_bytes);
    int8_t *query = guard_take(side, row_bytes);
    uint32_t *ids = guard_take(side, count * sizeof *ids);
    int32_t *out = guard_take(side, count * sizeof *out);
    fill_u8(prng, rows, ROWS * row_bytes, content);
    fill_i8(prng, query, row_bytes, -128, 127, content);
    fill_ids(prng, ids, count, ROWS);
    memset(out, 0x55, count * sizeof *out);

    kernels->dot_u8s8_gather(out, query, rows, row_bytes, ids, count);
    bool ok = guard_intact();
    for (size_t i = 0; i < count; i++) {
        int64_t sum = 0;
        for (size_t d = 0; d < row_bytes; d++)
            sum += rows[ids[i] * row_bytes + d] * query[d];
        ok = ok && out[i] == sum;
    }
    tally_case(tally, ok, "%zu bytes, %zu rows, content %d, wall %d", row_bytes, count, content,
               side);
    guard_reset();
}

static void panel_case(struct tally *tally, const struct kernels *kernels, struct prng *prng,
                       uint32_t dim, size_t count, enum content content, enum guard_side side)
{
    size_t row_bytes = size_round_up(dim, 64);
    uint8_t *rows = guard_take(side, ROWS * row_bytes);
    int8_t *panel = guard_take(side, KERNEL_PANEL * row_bytes);
    uint32_t *ids = guard_take(side, count * sizeof *ids);
    int32_t *out = guard_take(side, count * KERNEL_PANEL * sizeof *out);
    fill_u8(prng, rows, ROWS * row_bytes, content);
    fill_i8(prng, panel, KERNEL_PANEL * row_bytes, -128, 127, content);
    fill_ids(prng, ids, count, ROWS);
    memset(out, 0x55, count * KERNEL_PANEL * sizeof *out);

    kernels->dot_u8s8_panel(out, panel, rows, row_bytes, ids, count);
    bool ok = guard_intact();
    for (size_t i = 0; i < count * KERNEL_PANEL; i++) {
        const uint8_t *row = rows + ids[i / KERNEL_PANEL] * row_bytes;
        int64_t sum = 0;
        for (size_t d = 0; d < row_bytes; d++)
            sum += row[d] * panel[(d / 4 * KERNEL_PANEL + i % KERNEL_PANEL) * 4 + d % 4];
        ok = ok && out[i] == sum;
    }
    tally_case(tally, ok, "%zu bytes, %zu rows, content %d, wall %d", row_bytes, count, content,
               side);
    guard_reset();
}

/* Limits are near what is compared with them, some equal, so that both answers come up. */
static void near_case(struct tally *tally, const struct kernels *kernels, struct prng *prng,
                      size_t count, enum guard_side side)
{
    size_t pairs = count * KERNEL_PANEL;
    int32_t *sums = guard_take(side, pairs * sizeof *sums);
    int32_t *norms = guard_take(side, count * sizeof *norms);
    int32_t *biases = guard_take(side, KERNEL_PANEL * sizeof *biases);
    int32_t *limits = guard_take(side, KERNEL_PANEL * sizeof *limits);
    uint16_t *near = guard_take(side, count * sizeof *near);
    int32_t before[64 * KERNEL_PANEL];
    for (size_t i = 0; i < pairs; i++)
        before[i] = sums[i] = (int32_t)prng_below(prng, 5) - 2;
    for (size_t i = 0; i < count; i++)
        norms[i] = (int32_t)prng_below(prng, 5);
    for (size_t j = 0; j < KERNEL_PANEL; j++) {
        biases[j] = (int32_t)prng_below(prng, 1000000) - 500000;
        limits[j] = j == 3 ? INT32_MIN : j == 9 ? INT32_MAX : biases[j] + 2;
    }
    memset(near, 0x55, count * sizeof *near);

    kernels->panel_near(sums, near, norms, biases, limits, count);
    bool ok = guard_intact();
    for (size_t i = 0; i < pairs; i++) {
        size_t row = i / KERNEL_PANEL, j = i % KERNEL_PANEL;
        int32_t distance = norms[row] + biases[j] - 2 * before[i];
        ok = ok && sums[i] == distance && (near[row] >> j & 1) == (distance <= limits[j]);
    }
    tally_case(tally, ok, "%zu rows, wall %d", count, side);
    guard_reset();
}

/* Rows stand `gap` bytes apart, and behind the last one comes the wall at once. */
static void score8_case(struct tally *tally, const struct kernels *kernels, struct prng *prng,
                        uint32_t dim, size_t count, enum content content, enum guard_side side,
                        bool gather)
{
    size_t row_bytes = dim + prng_below(prng, 4) * 3, padded = size_round_up(dim, 64);
    size_t row_count = gather ? ROWS : count ? count : 1;
    uint8_t *rows = guard_take(side, (row_count - 1) * row_bytes + dim);
    struct kernel_query8 query = {.dim = dim};
    int8_t *hi = guard_take(side, padded), *lo = guard_take(side, padded);
    uint32_t *ids = guard_take(side, count * sizeof *ids);
    struct kernel_score8 *out = guard_take(side, count * sizeof *out);
    fill_u8(prng, rows, (row_count - 1) * row_bytes + dim, content);
    fill_query(prng, hi, lo, dim, content);
    fill_ids(prng, ids, count, (uint32_t)row_count);
    memset(out, 0x55, count * sizeof *out);
    query.hi = hi;
    query.lo = lo;

    if (gather)
        kernels->score8_gather(out, &query, rows, row_bytes, ids, count);
    else
        kernels->score8_rows(out, &query, rows, row_bytes, count);
    bool ok = guard_intact();
    for (size_t i = 0; i < count; i++) {
        const uint8_t *row = rows + (gather ? ids[i] : i) * row_bytes;
        int64_t sum[3] = {0};
        for (uint32_t d = 0; d < dim; d++) {
            sum[0] += row[d] * hi[d];
            sum[1] += row[d] * lo[d];
            sum[2] += (row[d] - 128) * (row[d] - 128);
        }
        ok = ok && out[i].hi == sum[0] && out[i].lo == sum[1] && out[i].norm == sum[2];
    }
    tally_case(tally, ok, "%u dims, rows of %zu, %zu of them, content %d, wall %d", dim, row_bytes,
               count, content, side);
    guard_reset();
}

static void check_dot(struct tally *tally, const struct kernels *kernels)
{
    struct prng prng;
    prng_init(&prng, 11, 0);
    unsigned turn = 0;
    for (unsigned i = 0; check_dim(i); i++) {
        for (int content = 0; content < CONTENTS; content++) {
            for (int side = 0; side < 2; side++)
                dot_case(tally, kernels, &prng, check_dim(i), check_count(turn++), content, side);
        }
    }
}

static void check_panel(struct tally *tally, const struct kernels *kernels)
{
    struct prng prng;
    prng_init(&prng, 14, 0);
    unsigned turn = 0;
    for (unsigned i = 0; check_dim(i); i++) {
        for (int content = 0; content < CONTENTS; content++) {
            for (int side = 0; side < 2; side++)
                panel_case(tally, kernels, &prng, check_dim(i), check_count(turn++), content, side);
        }
    }
}

static void check_near(struct tally *tally, const struct kernels *kernels)
{
    struct prng prng;
    prng_init(&prng, 14, 0);
    for (unsigned i = 0; i < 200; i++)
        for (int side = 0; side < 2; side++)
            near_case(tally, kernels, &prng, check_count(i), side);
}

static void check_score8(struct tally *tally, const struct kernels *kernels, bool gather)
{
    struct prng prng;
    prng_init(&prng, 12, gather);
    unsigned turn = 0;
    for (unsigned i = 0; check_dim(i); i++) {
        for (int content = 0; content < CONTENTS; content++) {
            for (int side = 0; side < 2; side++)
                score8_case(tally, kernels, &prng, check_dim(i), check_count(turn++), content, side,
                            gather);
        }
    }
}

static void check_score8_rows(struct tally *tally, const struct kernels *kernels)
{
    check_score8(tally, kernels, false);
}

static void check_score8_gather(struct tally *tally, const struct kernels *kernels)
{
    check_score8(tally, kernels, true);
}

struct bench {
    const struct kernels *kernels;
    struct kernel_query8 query;
    uint8_t *rows;
    size_t row_bytes;
    uint32_t *ids;
    int8_t *panel;
    struct kernel_score8 *scores;
    int32_t *sums; /* of a panel, or of one query */
    int32_t *norms, *biases, *limits;
    uint16_t *near;
};

static void run_dot(void *context, size_t call)
{
    struct bench *bench = context;
    bench->kernels->dot_u8s8_gather(bench->sums, bench->query.hi, bench->rows, bench->row_bytes,
                                    bench->ids + call * BENCH_CALL_ROWS, BENCH_CALL_ROWS);
}

static void run_panel(void *context, size_t call)
{
    struct bench *bench = context;
    bench->kernels->dot_u8s8_panel(bench->sums, bench->panel, bench->rows, bench->row_bytes,
                                   bench->ids + call * BENCH_CALL_ROWS, BENCH_CALL_ROWS);
}

static void run_near(void *context, size_t call)
{
    struct bench *bench = context;
    (void)call;
    bench->kernels->panel_near(bench->sums, bench->near, bench->norms, bench->biases, bench->limits,
                               BENCH_CALL_ROWS);
}

static void run_score8_rows(void *context, size_t call)
{
    struct bench *bench = context;
    bench->kernels->score8_rows(bench->scores, &bench->query,
                                bench->rows + call * BENCH_CALL_ROWS * bench->row_bytes,
                                bench->row_bytes, BENCH_CALL_ROWS);
}

static void run_score8_gather(void *context, size_t call)
{
    struct bench *bench = context;
    bench->kernels->score8_gather(bench->scores, &bench->query, bench->rows, bench->row_bytes,
                                  bench->ids + call * BENCH_CALL_ROWS, BENCH_CALL_ROWS);
}

static double bench_run(const struct kernels *kernels, size_t row_bytes, uint32_t dim, bool far,
                        void (*run)(void *context, size_t call))
{
    struct prng prng;
    prng_init(&prng, 13, 0);
    size_t rows = bench_rows(row_bytes, far), calls = (far ? 65536 : rows) / BENCH_CALL_ROWS;
    struct bench bench = {.kernels = kernels, .row_bytes = row_bytes};
    bench.rows = bench_array(rows * row_bytes);
    int8_t *hi = bench_array(size_round_up(dim, 64)), *lo = bench_array(size_round_up(dim, 64));
    bench.ids = bench_array(calls * BENCH_CALL_ROWS * sizeof *bench.ids);
    bench.scores = bench_array(BENCH_CALL_ROWS * sizeof *bench.scores);
    bench.sums = bench_array(BENCH_CALL_ROWS * KERNEL_PANEL * sizeof *bench.sums);
    bench.panel = bench_array(KERNEL_PANEL * size_round_up(dim, 64));
    bench.norms = bench_array(BENCH_CALL_ROWS * sizeof *bench.norms);
    bench.biases = bench_array(KERNEL_PANEL * sizeof *bench.biases);
    bench.limits = bench_array(KERNEL_PANEL * sizeof *bench.limits);
    bench.near = bench_array(BENCH_CALL_ROWS * sizeof *bench.near);
    fill_query(&prng, hi, lo, dim, CONTENT_NOISE);
    fill_ids(&prng, bench.ids, calls * BENCH_CALL_ROWS, (uint32_t)rows);
    bench.query = (struct kernel_query8){.hi = hi, .lo = lo, .dim = dim};
    double best = bench_best(run, &bench, calls, BENCH_CALL_ROWS, far);
    mem_free(bench.rows);
    mem_free(hi);
    mem_free(lo);
    mem_free(bench.ids);
    mem_free(bench.scores);
    mem_free(bench.sums);
    mem_free(bench.panel);
    mem_free(bench.norms);
    mem_free(bench.biases);
    mem_free(bench.limits);
    mem_free(bench.near);
    return best;
}

static double bench_dot(const struct kernels *kernels, struct shape shape, bool far)
{
    return bench_run(kernels, size_round_up(shape.dim, 64), shape.dim, far, run_dot);
}

static double bench_panel(const struct kernels *kernels, struct shape shape, bool far)
{
    return bench_run(kernels, size_round_up(shape.dim, 64), shape.dim, far, run_panel);
}

static double bench_near(const struct kernels *kernels, struct shape shape, bool far)
{
    return bench_run(kernels, size_round_up(shape.dim, 64), shape.dim, far, run_near);
}

static double bench_score8_rows(const struct kernels *kernels, struct shape shape, bool far)
{
    return bench_run(kernels, shape.dim, shape.dim, far, run_score8_rows);
}

static double bench_score8_gather(const struct kernels *kernels, struct shape shape, bool far)
{
    return bench_run(kernels, shape.dim, shape.dim, far, run_score8_gather);
}

#define ROW_SHAPES                                                                                 \
    {                                                                                              \
        {64, 0}, {96, 0}, {100, 0}, {128, 0}, {384, 0}, {768, 0}, {1024, 0},                       \
        {                                                                                          \
            1536, 0                                                                                \
        }                                                                                          \
    }

const struct kernel_entry row_entries[] = {
    {"dot_u8s8_gather", "products of padded rows", check_dot, bench_dot, true, ROW_SHAPES},
    {"dot_u8s8_panel", "products of padded rows with sixteen queries", check_panel, bench_panel,
     true, ROW_SHAPES},
    {"panel_near",
     "distances from sixteen queries, and which are near",
     check_near,
     bench_near,
     false,
     {{KERNEL_PANEL, 0}}},
    {"score8_rows", "products and norms of rows that end at a wall", check_score8_rows,
     bench_score8_rows, false, ROW_SHAPES},
    {"score8_gather", "the same for scattered rows", check_score8_gather, bench_score8_gather, true,
     ROW_SHAPES},
    {0},
};
