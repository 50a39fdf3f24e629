/* kernel_check: scores of bit-plane codes. Sums are exact and joined in one order, so every level
 * must give the same float. */
#include "check.h"

#include <string.h>

#include "guard.h"
#include "mem.h"

enum { CODES = 40, SLACK_FREE_BYTES = 16 };

/* Derives what follows from dim and groups. */
static void plan_finish(struct kernel_codes *plan, uint8_t *sentinel)
{
    plan->code_bytes = 0;
    for (int p = 0; p < KERNEL_PLANES_MAX; p++) {
        plan->plane_start[p] = plan->code_bytes;
        plan->code_bytes += plan->groups[p];
    }
    memset(sentinel, 64, size_round_up(plan->dim, 64));
    for (uint32_t d = 0; d < plan->dim; d++) {
        for (int p = 0; p < KERNEL_PLANES_MAX && d < 8 * plan->groups[p]; p++)
            sentinel[d] = (uint8_t)(64 >> (p + 1));
    }
    plan->sentinel = sentinel;
}

/* Ways to allot planes: none, one group, one plane, all planes whole, or at random, many or few. */
enum { ALLOTMENTS = 10 };

static void plan_allot(struct prng *prng, struct kernel_codes *plan, int allotment)
{
    uint32_t most = plan->dim / 8;
    uint32_t planes = 1 + prng_below(prng, KERNEL_PLANES_MAX);
    memset(plan->groups, 0, sizeof plan->groups);
    for (uint32_t p = 0; p < KERNEL_PLANES_MAX; p++) {
        switch (allotment) {
        case 0:
            break;
        case 1:
            plan->groups[p] = p == 0;
            break;
        case 2:
            plan->groups[p] = p == 0 ? most : 0;
            break;
        case 3:
            plan->groups[p] = most;
            break;
        default:
            if (p < planes)
                plan->groups[p] = most = prng_below(prng, most + 1);
            else if (allotment % 2 && p == planes)
                plan->groups[p] = most;
        }
    }
}

/* Codes with a trellis at every other turn, where there may be one. */
static void plan_trellis(struct kernel_codes *plan, uint8_t *sentinel,
                         struct kernel_trellis *trellis, bool wanted)
{
    if (!wanted || plan->groups[0] < KERNEL_MEMORY || plan->code_bytes > KERNEL_TRELLIS_MAX)
        return;
    kernel_trellis_prepare(trellis, plan);
    plan->trellis = trellis;
    for (uint32_t d = 0; d < plan->dim; d++)
        sentinel[d] = sentinel[d] < 64 && sentinel[d] > 1 ? sentinel[d] / 2 : sentinel[d];
}

static uint32_t planes_of(const struct kernel_codes *plan, uint32_t d)
{
    uint32_t planes = 0;
    while (planes < KERNEL_PLANES_MAX && d < 8 * plan->groups[planes])
        planes++;
    return planes;
}

static uint32_t bit_of(const struct kernel_codes *plan, const uint8_t *code, uint32_t plane,
                       uint32_t d)
{
    return code[plan->plane_start[plane] + d / 8] >> d % 8 & 1u;
}

/* The dimension that comes a step before: of the group before, or of the last group the dimension
 * before. */
static uint32_t step_back(const struct kernel_codes *plan, uint32_t d)
{
    uint32_t last = 8 * (plan->groups[0] - 1);
    return d >= 8 ? d - 8 : last + (d + 7) % 8;
}

static uint32_t bonus_of(const struct kernel_codes *plan, const uint8_t *code, uint32_t d)
{
    uint32_t bonus = 0;
    for (uint32_t step = 1; step <= 4; step++) {
        d = step_back(plan, d);
        bonus ^= step == 2 ? 0 : bit_of(plan, code, planes_of(plan, d) - 1, d);
    }
    return bonus;
}

/* The definition in kernel.h, a bit at a time. */
static float score_of(const struct kernel_codes *plan, const struct kernel_query8 *query,
                      const uint8_t *code)
{
    int64_t hi = 0, lo = 0;
    for (uint32_t d = 0; d < plan->dim; d++) {
        uint32_t index = 0, bits = planes_of(plan, d);
        for (uint32_t p = 0; p < bits; p++)
            index += bit_of(plan, code, p, d) << (6 - p);
        if (plan->trellis && bits > 0 && bits < KERNEL_PLANES_MAX) {
            index += bonus_of(plan, code, d) << (6 - bits);
            bits++;
        }
        index += 1u << (6 - bits);
        hi += plan->level[index] * query->hi[d];
        lo += plan->level[index] * query->lo[d];
    }
    return (float)hi * 128.0f + (float)lo;
}

static void codes_case(struct tally *tally, const struct kernels *kernels, struct prng *prng,
                       uint32_t dim, int allotment, size_t count, enum content content,
                       enum guard_side side, bool gather, bool trellis)
{
    struct kernel_codes plan = {.dim = dim};
    struct kernel_trellis circle;
    size_t padded = size_round_up(dim, 64);
    uint8_t *sentinel = guard_take(side, padded), *level = guard_take(side, 128);
    int8_t *hi = guard_take(side, padded), *lo = guard_take(side, padded);
    plan_allot(prng, &plan, allotment);
    plan_finish(&plan, sentinel);
    plan_trellis(&plan, sentinel, &circle, trellis);
    plan.level = level;
    size_t codes_count = gather ? CODES : count;
    /* Only small codes may be read beyond their end: a few bytes more would be a cache line that
     * was not asked for. */
    size_t slack = plan.code_bytes < SLACK_FREE_BYTES ? KERNEL_CODE_SLACK : 0;
    size_t bytes = codes_count * plan.code_bytes + slack;
    uint8_t *codes = guard_take(side, bytes);
    uint32_t *ids = guard_take(side, count * sizeof *ids);
    float *out = guard_take(side, count * sizeof *out);
    struct kernel_query8 query = {.hi = hi, .lo = lo, .dim = dim};
    fill_u8(prng, level, 128, content);
    fill_u8(prng, codes, bytes, prng_below(prng, 2) ? CONTENT_NOISE : content);
    fill_query(prng, hi, lo, dim, content);
    fill_ids(prng, ids, count, CODES);
    memset(out, 0x55, count * sizeof *out);

    if (gather)
        kernels->codes_gather(out, &plan, &query, codes, ids, count);
    else
        kernels->codes_rows(out, &plan, &query, codes, count);
    bool ok = guard_intact();
    for (size_t i = 0; i < count; i++) {
        float score = score_of(&plan, &query, codes + (gather ? ids[i] : i) * plan.code_bytes);
        ok = ok && memcmp(&score, &out[i], sizeof score) == 0;
    }
    tally_case(tally, ok, "%u dims,%s planes of %u %u %u %u %u %u bytes, %zu codes, content %d",
               dim, plan.trellis ? " a trellis," : "", plan.groups[0], plan.groups[1],
               plan.groups[2], plan.groups[3], plan.groups[4], plan.groups[5], count, content);
    guard_reset();
}

/* Dimensions come in groups of 8: small ones all, and the common large ones rounded up. */
static uint32_t code_dim(unsigned i)
{
    static const uint32_t more[] = {384, 504, 512, 520, 768, 784, 1024, 1536, 4096, 4104};
    if (i < 40)
        return 8 * (i + 1);
    return i - 40 < sizeof more / sizeof more[0] ? more[i - 40] : 0;
}

static void check_codes(struct tally *tally, const struct kernels *kernels, bool gather)
{
    struct prng prng;
    prng_init(&prng, 21, gather);
    unsigned turn = 0;
    for (unsigned i = 0; code_dim(i); i++) {
        for (int allotment = 0; allotment < ALLOTMENTS; allotment++) {
            for (int content = 0; content < CONTENTS; content++, turn++)
                for (int trellis = 0; trellis < 2; trellis++)
                    codes_case(tally, kernels, &prng, code_dim(i), allotment, check_count(turn),
                               content, turn / 2 % 2, gather, trellis);
        }
    }
}

static void check_codes_rows(struct tally *tally, const struct kernels *kernels)
{
    check_codes(tally, kernels, false);
}

static void check_codes_gather(struct tally *tally, const struct kernels *kernels)
{
    check_codes(tally, kernels, true);
}

struct bench {
    const struct kernels *kernels;
    struct kernel_codes plan;
    struct kernel_query8 query;
    uint8_t *codes;
    uint32_t *ids;
    float scores[BENCH_CALL_ROWS];
};

static void run_rows(void *context, size_t call)
{
    struct bench *bench = context;
    bench->kernels->codes_rows(bench->scores, &bench->plan, &bench->query,
                               bench->codes + call * BENCH_CALL_ROWS * bench->plan.code_bytes,
                               BENCH_CALL_ROWS);
}

static void run_gather(void *context, size_t call)
{
    struct bench *bench = context;
    bench->kernels->codes_gather(bench->scores, &bench->plan, &bench->query, bench->codes,
                                 bench->ids + call * BENCH_CALL_ROWS, BENCH_CALL_ROWS);
}

/* Planes that halve, as the worth of bits does, and whatever is left where it fits. */
static void plan_halving(struct kernel_codes *plan, uint32_t bytes)
{
    uint32_t most = plan->dim / 8;
    for (int p = 0; p < KERNEL_PLANES_MAX; p++) {
        uint32_t half = (bytes + 1) / 2;
        plan->groups[p] = most = half < most ? half : most;
        bytes -= most;
    }
    for (int p = 1; bytes && p < KERNEL_PLANES_MAX; p++) {
        while (bytes && plan->groups[p] < plan->groups[p - 1]) {
            plan->groups[p]++;
            bytes--;
        }
    }
}

static double bench_run(const struct kernels *kernels, struct shape shape, bool far,
                        void (*run)(void *context, size_t call))
{
    struct prng prng;
    prng_init(&prng, 22, 0);
    size_t padded = size_round_up(shape.dim, 64), rows = bench_rows(shape.bytes, far);
    size_t calls = (far ? 65536 : rows) / BENCH_CALL_ROWS;
    struct bench bench = {.kernels = kernels, .plan.dim = shape.dim};
    uint8_t *sentinel = bench_array(padded), *level = bench_array(128);
    int8_t *hi = bench_array(padded), *lo = bench_array(padded);
    bench.codes = bench_array(rows * shape.bytes);
    bench.ids = bench_array(calls * BENCH_CALL_ROWS * sizeof *bench.ids);
    plan_halving(&bench.plan, shape.bytes);
    plan_finish(&bench.plan, sentinel);
    bench.plan.level = level;
    fill_query(&prng, hi, lo, shape.dim, CONTENT_NOISE);
    fill_ids(&prng, bench.ids, calls * BENCH_CALL_ROWS, (uint32_t)rows);
    bench.query = (struct kernel_query8){.hi = hi, .lo = lo, .dim = shape.dim};
    double best = bench_best(run, &bench, calls, BENCH_CALL_ROWS, far);
    mem_free(sentinel);
    mem_free(level);
    mem_free(hi);
    mem_free(lo);
    mem_free(bench.codes);
    mem_free(bench.ids);
    return best;
}

static double bench_codes_rows(const struct kernels *kernels, struct shape shape, bool far)
{
    return bench_run(kernels, shape, far, run_rows);
}

static double bench_codes_gather(const struct kernels *kernels, struct shape shape, bool far)
{
    return bench_run(kernels, shape, far, run_gather);
}

#define CODE_SHAPES                                                                                \
    {                                                                                              \
        {64, 16}, {96, 24}, {128, 16}, {128, 28}, {128, 64}, {128, 96}, {256, 48}, {384, 64},      \
            {768, 100}, {1024, 64}, {1024, 128},                                                   \
        {                                                                                          \
            1536, 192                                                                              \
        }                                                                                          \
    }

const struct kernel_entry code_entries[] = {
    {"codes_rows", "scores of codes of any allotment", check_codes_rows, bench_codes_rows, false,
     CODE_SHAPES},
    {"codes_gather", "the same for scattered codes", check_codes_gather, bench_codes_gather, true,
     CODE_SHAPES},
    {0},
};
