/* kernel_check: float distances and conversions. Levels may round differently, so sums are compared
 * with double precision within what float arithmetic may lose; conversions are exact everywhere. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "guard.h"
#include "mem.h"

/* A sum of n float products errs by less than n + 2 roundings of the sum of their magnitudes, and
 * much less in practice. */
static bool is_near(double got, double want, double magnitude, uint32_t terms)
{
    return fabs(got - want) <= (terms + 2) * 0x1p-24 * magnitude;
}

static void pair_case(struct tally *tally, const struct kernels *kernels, struct prng *prng,
                      uint32_t dim, enum guard_side side, bool l2)
{
    float *a = guard_take(side, dim * sizeof *a), *b = guard_take(side, dim * sizeof *b);
    fill_f32(prng, a, dim);
    fill_f32(prng, b, dim);
    double want = 0, magnitude = 0;
    for (uint32_t d = 0; d < dim; d++) {
        double gap = (double)a[d] - b[d], product = l2 ? gap * gap : (double)a[d] * b[d];
        want += product;
        magnitude += fabs(product);
    }
    float got = l2 ? kernels->l2sq_f32(a, b, dim) : kernels->dot_f32(a, b, dim);
    tally_case(tally, is_near(got, want, magnitude, dim) && guard_intact(),
               "%u dims, wall %d: %.9g, not %.9g", dim, side, got, want);
    guard_reset();
}

static void check_pairs(struct tally *tally, const struct kernels *kernels, bool l2)
{
    struct prng prng;
    prng_init(&prng, 31, l2);
    for (unsigned i = 0; check_dim(i); i++) {
        for (int turn = 0; turn < 8; turn++)
            pair_case(tally, kernels, &prng, check_dim(i), turn % 2, l2);
    }
}

static void check_l2sq(struct tally *tally, const struct kernels *kernels)
{
    check_pairs(tally, kernels, true);
}

static void check_dot(struct tally *tally, const struct kernels *kernels)
{
    check_pairs(tally, kernels, false);
}

/* With limits that none, some and all are below, and a NaN. */
static void below_case(struct tally *tally, const struct kernels *kernels, struct prng *prng,
                       uint32_t count, unsigned turn)
{
    static const float limits[] = {-INFINITY, -0.5f, 0, 0.7f, INFINITY};
    float limit = limits[turn / 2 % 5];
    float *values = guard_take(turn % 2, count * sizeof *values);
    uint32_t *out = guard_take(turn % 2, (count + 16) * sizeof *out);
    fill_f32(prng, values, count);
    if (turn % 3 == 0)
        values[prng_below(prng, count)] = NAN;
    size_t found = kernels->below_f32(out, values, count, limit), wanted = 0;
    bool ok = guard_intact();
    for (uint32_t i = 0; i < count; i++)
        if (values[i] < limit) {
            ok = ok && wanted < found && out[wanted] == i;
            wanted++;
        }
    tally_case(tally, ok && found == wanted, "%u values, limit %g, wall %u: %zu, not %zu", count,
               (double)limit, turn % 2, found, wanted);
    guard_reset();
}

static void check_below(struct tally *tally, const struct kernels *kernels)
{
    struct prng prng;
    prng_init(&prng, 34, 0);
    for (unsigned i = 0; check_dim(i); i++)
        for (unsigned turn = 0; turn < 30; turn++)
            below_case(tally, kernels, &prng, check_dim(i), turn);
}

/* The definition in kernel.h, in double precision, where all of it is exact. */
static float matvec_row(const int8_t *row, float scale, const float *x, uint32_t columns)
{
    double largest = 0, sum = 0;
    for (uint32_t c = 0; c < columns; c++) {
        if (!isfinite(x[c]))
            return NAN;
        largest = fmax(largest, fabs((double)x[c]));
    }
    int above = largest > 0 ? ilogb(largest) + 1 : -100;
    if (above < -100)
        above = -100;
    for (uint32_t c = 0; c < columns; c++)
        sum += row[c] * nearbyint(ldexp(x[c], 22 - above));
    return scale * (float)ldexp(sum, above - 22);
}

/* Vectors as queries have them, very large and very small ones, all elements at the upper end, a
 * single large one, and what is not finite. */
enum vector_kind {
    VECTOR_NOISE,
    VECTOR_HUGE,
    VECTOR_TINY,
    VECTOR_EQUAL,
    VECTOR_SPIKE,
    VECTOR_ZERO,
    VECTOR_NAN,
    VECTOR_INF,
    VECTOR_KINDS
};

static void fill_vector(struct prng *prng, float *x, uint32_t columns, enum vector_kind kind)
{
    static const float factor[VECTOR_KINDS] = {1, 1e36f, 1e-38f, 0, 1e-3f, 0, 1, 1};
    fill_f32(prng, x, columns);
    for (uint32_t c = 0; c < columns; c++)
        x[c] = kind == VECTOR_EQUAL ? 0.999f : x[c] * factor[kind];
    uint32_t one = prng_below(prng, columns);
    if (kind == VECTOR_SPIKE)
        x[one] = -4096; /* a power of two is the largest integer that there can be */
    else if (kind == VECTOR_NAN)
        x[one] = NAN;
    else if (kind == VECTOR_INF)
        x[one] = -INFINITY;
}

static void matvec_case(struct tally *tally, const struct kernels *kernels, struct prng *prng,
                        size_t rows, uint32_t columns, enum vector_kind kind, enum guard_side side)
{
    int8_t *matrix = guard_take(side, rows * columns);
    float *scale = guard_take(side, rows * sizeof *scale),
          *x = guard_take(side, columns * sizeof *x);
    float *out = guard_take(side, rows * sizeof *out);
    fill_i8(prng, matrix, rows * columns, -128, 127, prng_below(prng, CONTENTS));
    fill_f32(prng, scale, rows);
    fill_vector(prng, x, columns, kind);
    memset(out, 0x55, rows * sizeof *out);
    kernels->matvec_i8(out, matrix, scale, x, rows, columns);
    bool ok = guard_intact();
    for (size_t r = 0; r < rows; r++) {
        float want = matvec_row(matrix + r * columns, scale[r], x, columns);
        ok = ok && (isnan(want) ? isnan(out[r]) : memcmp(&want, &out[r], sizeof want) == 0);
    }
    tally_case(tally, ok, "%zu rows of %u columns, vector %d, wall %d", rows, columns, kind, side);
    guard_reset();
}

static void check_matvec(struct tally *tally, const struct kernels *kernels)
{
    struct prng prng;
    prng_init(&prng, 32, 0);
    unsigned turn = 0;
    for (unsigned i = 0; check_dim(i); i++) {
        for (int kind = 0; kind < VECTOR_KINDS; kind++, turn++)
            matvec_case(tally, kernels, &prng, check_count(turn), check_dim(i), kind, turn / 2 % 2);
    }
}

/* What a half stands for. */
static double half_value(uint16_t half)
{
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    double value = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    if (exponent == 31)
        value = mantissa ? NAN : INFINITY;
    return half & 0x8000 ? -value : value;
}

/* The half nearest to a float, by arithmetic: rounded to a multiple of its last place, ties to
 * even. */
static uint16_t half_of(float value)
{
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    double size = fabs((double)value);
    if (size >= 65520)
        return sign | 0x7c00;
    int exponent = size > 0 ? ilogb(size) : -14;
    if (exponent < -14)
        exponent = -14;
    double steps = nearbyint(ldexp(size, 10 - exponent)); /* 1024..2048, or less if subnormal */
    return sign | (uint16_t)((exponent + 14) * 1024 + steps);
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Every half, in chunks of all lengths. */
static void check_to_f32(struct tally *tally, const struct kernels *kernels)
{
    unsigned turn = 0;
    for (uint32_t next = 0; next < 65536; turn++) {
        size_t count = 1 + turn % 67;
        enum guard_side side = turn / 2 % 2;
        if (count > 65536 - next)
            count = 65536 - next;
        uint16_t *in = guard_take(side, count * sizeof *in);
        float *out = guard_take(side, count * sizeof *out);
        for (size_t i = 0; i < count; i++)
            in[i] = (uint16_t)(next + i);
        kernels->f16_to_f32(out, in, count);
        bool ok = guard_intact();
        for (size_t i = 0; i < count; i++) {
            float want = (float)half_value(in[i]);
            if (isnan(want)) /* quiet, with the bits that it had */
                want = float_of((in[i] & 0x8000u) << 16 | 0x7fc00000 | (in[i] & 1023u) << 13);
            ok = ok && memcmp(&want, &out[i], sizeof want) == 0;
        }
        tally_case(tally, ok, "halves from %04x, %zu of them", next, count);
        next += count;
        guard_reset();
    }
}

static bool encode_is_right(const struct kernels *kernels, const float *values, size_t count,
                            enum guard_side side)
{
    float *in = guard_take(side, count * sizeof *in);
    uint16_t *out = guard_take(side, count * sizeof *out);
    memcpy(in, values, count * sizeof *in);
    kernels->f32_to_f16(out, in, count);
    bool ok = guard_intact();
    for (size_t i = 0; i < count; i++) {
        uint16_t want = half_of(in[i]);
        if (isnan(in[i]))
            want =
                (uint16_t)(bits_of(in[i]) >> 16 & 0x8000) | 0x7e00 | (bits_of(in[i]) >> 13 & 1023);
        ok = ok && out[i] == want;
    }
    guard_reset();
    return ok;
}

/* Each half, the middle between it and the next, and the floats on both sides of either. */
static void check_to_f16(struct tally *tally, const struct kernels *kernels)
{
    for (uint32_t half = 0; half < 65536; half++) {
        float values[7], value = (float)half_value((uint16_t)half);
        float next = (half & 0x7fff) == 0x7bff ? copysignf(65536, value)
                                               : (float)half_value((uint16_t)(half + 1));
        float middle = (value + next) / 2;
        values[0] = value;
        values[1] = nextafterf(value, INFINITY);
        values[2] = nextafterf(value, -INFINITY);
        values[3] = middle;
        values[4] = nextafterf(middle, INFINITY);
        values[5] = nextafterf(middle, -INFINITY);
        values[6] = -value;
        tally_case(tally, encode_is_right(kernels, values, 7, half % 2), "near half %04x", half);
    }
    struct prng prng;
    prng_init(&prng, 33, 0);
    for (unsigned turn = 0; turn < 20000; turn++) {
        uint32_t noise[67]; /* any bits at all, NaN and subnormal floats too */
        float values[67];
        for (int i = 0; i < 67; i++)
            noise[i] = (uint32_t)prng_next(&prng);
        memcpy(values, noise, sizeof values);
        tally_case(tally, encode_is_right(kernels, values, 1 + turn % 67, turn / 2 % 2),
                   "noise of turn %u", turn);
    }
}

struct bench {
    const struct kernels *kernels;
    float *a, *b, *out;
    int8_t *matrix;
    uint16_t *halves;
    uint32_t *places;
    uint32_t dim;
    float sum;
};

static void run_l2sq(void *context, size_t call)
{
    struct bench *bench = context;
    bench->sum += bench->kernels->l2sq_f32(bench->a, bench->b, bench->dim);
    (void)call;
}

static void run_dot(void *context, size_t call)
{
    struct bench *bench = context;
    bench->sum += bench->kernels->dot_f32(bench->a, bench->b, bench->dim);
    (void)call;
}

/* One in a hundred is below, as in a scan. */
static void run_below(void *context, size_t call)
{
    struct bench *bench = context;
    bench->sum += (float)bench->kernels->below_f32(bench->places, bench->a, bench->dim, -0.98f);
    (void)call;
}

static void run_matvec(void *context, size_t call)
{
    struct bench *bench = context;
    bench->kernels->matvec_i8(bench->out, bench->matrix, bench->b, bench->a, bench->dim,
                              bench->dim);
    (void)call;
}

static void run_to_f32(void *context, size_t call)
{
    struct bench *bench = context;
    bench->kernels->f16_to_f32(bench->out, bench->halves, bench->dim);
    (void)call;
}

static void run_to_f16(void *context, size_t call)
{
    struct bench *bench = context;
    bench->kernels->f32_to_f16(bench->halves, bench->a, bench->dim);
    (void)call;
}

static double bench_run(const struct kernels *kernels, uint32_t dim, size_t calls,
                        void (*run)(void *context, size_t call))
{
    struct prng prng;
    prng_init(&prng, 34, 0);
    size_t bytes = (dim + 2) * sizeof(float);
    struct bench bench = {.kernels = kernels, .dim = dim};
    bench.a = bench_array(bytes);
    bench.b = bench_array(bytes);
    bench.out = bench_array(bytes);
    bench.halves = bench_array(bytes);
    bench.places = bench_array(bytes + 64);
    bench.matrix = bench_array((size_t)dim * dim);
    fill_f32(&prng, bench.a, dim + 2);
    fill_f32(&prng, bench.b, dim + 2);
    kernels->f32_to_f16(bench.halves, bench.a, dim + 2);
    double best = bench_best(run, &bench, calls, 1, false);
    mem_free(bench.a);
    mem_free(bench.b);
    mem_free(bench.out);
    mem_free(bench.halves);
    mem_free(bench.places);
    mem_free(bench.matrix);
    return best;
}

static double bench_l2sq(const struct kernels *kernels, struct shape shape, bool far)
{
    (void)far;
    return bench_run(kernels, shape.dim, 100, run_l2sq);
}

static double bench_dot(const struct kernels *kernels, struct shape shape, bool far)
{
    (void)far;
    return bench_run(kernels, shape.dim, 100, run_dot);
}

static double bench_below(const struct kernels *kernels, struct shape shape, bool far)
{
    (void)far;
    return bench_run(kernels, shape.dim, 100, run_below);
}

static double bench_matvec(const struct kernels *kernels, struct shape shape, bool far)
{
    (void)far;
    return bench_run(kernels, shape.dim, 2, run_matvec);
}

static double bench_to_f32(const struct kernels *kernels, struct shape shape, bool far)
{
    (void)far;
    return bench_run(kernels, shape.dim, 100, run_to_f32);
}

static double bench_to_f16(const struct kernels *kernels, struct shape shape, bool far)
{
    (void)far;
    return bench_run(kernels, shape.dim, 100, run_to_f16);
}

#define FLOAT_SHAPES                                                                               \
    {                                                                                              \
        {96, 0}, {128, 0}, {384, 0}, {768, 0}, {1024, 0},                                          \
        {                                                                                          \
            1536, 0                                                                                \
        }                                                                                          \
    }

const struct kernel_entry float_entries[] = {
    {"l2sq_f32", "squared distance", check_l2sq, bench_l2sq, false, FLOAT_SHAPES},
    {"dot_f32", "product", check_dot, bench_dot, false, FLOAT_SHAPES},
    {"below_f32", "places of values below a limit", check_below, bench_below, false, FLOAT_SHAPES},
    {"matvec_i8", "a square matrix of bytes times a vector", check_matvec, bench_matvec, false,
     FLOAT_SHAPES},
    {"f16_to_f32", "every half is its float", check_to_f32, bench_to_f32, false, FLOAT_SHAPES},
    {"f32_to_f16", "the nearest half, ties to even", check_to_f16, bench_to_f16, false,
     FLOAT_SHAPES},
    {0},
};
