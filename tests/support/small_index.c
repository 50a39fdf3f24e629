/* Small indexes by the real builder; see small_index.h. */
#include "small_index.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "builder.h"
#include "fathom_test.h"
#include "prng_unit.h"

#define CLUSTER_ROWS 50 /* on average */
#define DIRECTIONS   12

/* ---- vectors ---- */

/* Near enough to a Gaussian of deviation 1. */
static float bell(struct prng *prng)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += prng_unit(prng);
    return (float)sum;
}

/* To a value that dtype holds exactly, so that floats and file say the same. */
static float representable(float value, enum fathom_dtype dtype)
{
    uint32_t bits;
    switch (dtype) {
    case FATHOM_U8:
        return fminf(fmaxf(rintf(128 + 40 * value), 0), 255);
    case FATHOM_I8:
        return fminf(fmaxf(rintf(40 * value), -128), 127);
    case FATHOM_F16:
        if (fabsf(value) < 0.001f)
            return 0;
        memcpy(&bits, &value, sizeof bits);
        bits &= ~0x1fffu; /* the bits of the fraction that f16 lacks */
        memcpy(&value, &bits, sizeof value);
        return value;
    default:
        return value;
    }
}

/* value has come through representable() and is in f16's normal range, or zero. */
static uint16_t half_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return value == 0 ? 0
                      : (uint16_t)((bits >> 16 & 0x8000) | ((bits >> 13 & 0x3ffff) - (112u << 10)));
}

static void store_scalar(enum fathom_dtype dtype, float value, uint8_t *out)
{
    uint16_t half;
    switch (dtype) {
    case FATHOM_U8:
        *out = (uint8_t)value;
        break;
    case FATHOM_I8:
        *out = (uint8_t)(int8_t)value;
        break;
    case FATHOM_F16:
        half = half_of(value);
        memcpy(out, &half, sizeof half);
        break;
    default:
        memcpy(out, &value, sizeof value);
    }
}

/* What all vectors have in common. Rows spread along few directions, as real data does: in a
 * thousand free dimensions all rows of a cluster would be equally far from each other, and nearest
 * would mean nothing. */
struct world {
    const struct small_options *options;
    uint32_t clusters;
    float *centres, *directions; /* dim each */
};

static float *bells(uint64_t seed, uint64_t stream, size_t count)
{
    struct prng prng;
    float *values = calloc(count, sizeof *values);
    assert_non_null(values);
    prng_init(&prng, seed, stream);
    for (size_t i = 0; i < count; i++)
        values[i] = bell(&prng);
    return values;
}

static void make_vector(const struct world *world, struct prng *prng, float *out)
{
    const struct small_options *o = world->options;
    const float *centre = world->centres + (size_t)prng_below(prng, world->clusters) * o->dim;
    float latent[DIRECTIONS];
    for (int j = 0; j < DIRECTIONS; j++)
        latent[j] = o->spread * bell(prng) / sqrtf(DIRECTIONS);
    for (uint32_t d = 0; d < o->dim; d++) {
        float value = centre[d];
        for (int j = 0; j < DIRECTIONS; j++)
            value += latent[j] * world->directions[(size_t)j * o->dim + d];
        out[d] = representable(value, o->dtype);
    }
    if (out[0] == 0)
        out[0] = 1; /* no zero vectors: cosine is undefined there */
}

/* Rows and queries are drawn alike, from streams of their own. */
static float *make_vectors(const struct small_options *o, uint64_t stream, uint32_t count)
{
    struct prng prng;
    struct world world = {.options = o, .clusters = o->rows / CLUSTER_ROWS + 1};
    float *vectors = calloc((size_t)count * o->dim, sizeof *vectors);
    assert_non_null(vectors);
    world.centres = bells(o->seed, 0, (size_t)world.clusters * o->dim);
    world.directions = bells(o->seed, 1, (size_t)DIRECTIONS * o->dim);
    prng_init(&prng, o->seed, stream);
    for (uint32_t i = 0; i < count; i++)
        make_vector(&world, &prng, vectors + (size_t)i * o->dim);
    free(world.centres);
    free(world.directions);
    return vectors;
}

static uint8_t *to_dtype(const float *values, size_t count, enum fathom_dtype dtype, size_t header)
{
    size_t scalar = fathom_dtype_bytes(dtype);
    uint8_t *raw = calloc(1, header + count * scalar);
    assert_non_null(raw);
    for (size_t i = 0; i < count; i++)
        store_scalar(dtype, values[i], raw + header + i * scalar);
    return raw;
}

/* ---- building ---- */

static void write_input(const struct small_index *small, char path[FOLDER_PATH_MAX])
{
    static const char *const names[] = {[FATHOM_F32] = "base.fbin",
                                        [FATHOM_F16] = "base.f16bin",
                                        [FATHOM_I8] = "base.i8bin",
                                        [FATHOM_U8] = "base.u8bin"};
    const struct small_options *o = &small->options;
    size_t count = (size_t)o->rows * o->dim, header = 8;
    uint8_t *raw = to_dtype(small->rows, count, o->dtype, header);
    memcpy(raw, &o->rows, 4);
    memcpy(raw + 4, &o->dim, 4);
    folder_name(small->folder, names[o->dtype], path);
    file_store(path, raw, header + count * fathom_dtype_bytes(o->dtype));
    free(raw);
}

static void build(const struct small_index *small)
{
    char path[FOLDER_PATH_MAX];
    struct fathom_error err = {0};
    struct build_report report;
    struct build_options options = build_options_default();
    options.no_points = small->options.no_points;
    write_input(small, path);
    options.input = path;
    options.out = small->dir;
    options.metric = small->options.metric;
    options.threads = 2;
    options.seed = small->options.seed;
    if (build_run(&options, &report, &err) != 0)
        fail_msg("the build of a small index failed: %s", err.msg);
    build_report_fini(&report);
}

void small_index_make(struct small_index *small, const struct small_options *options)
{
    *small = (struct small_index){.options = *options};
    struct small_options *o = &small->options;
    o->queries = o->queries ? o->queries : 20;
    o->spread = o->spread > 0 ? o->spread : 0.5f;
    (o->in_memory ? folder_make_fast : folder_make)(small->folder);
    folder_name(small->folder, "index", small->dir);
    small->rows = make_vectors(o, 2, o->rows);
    small->queries = make_vectors(o, 3, o->queries);
    small->raw_queries = to_dtype(small->queries, (size_t)o->queries * o->dim, o->dtype, 0);
    small->sorted = calloc(o->queries, sizeof *small->sorted);
    assert_non_null(small->sorted);
    build(small);
}

void small_index_remove(struct small_index *small)
{
    folder_remove(small->folder);
    free(small->rows);
    free(small->queries);
    free(small->raw_queries);
    for (uint32_t query = 0; query < small->options.queries; query++)
        free(small->sorted[query]);
    free(small->sorted);
    *small = (struct small_index){0};
}

/* ---- truth ---- */

const void *small_query(const struct small_index *small, uint32_t query)
{
    size_t bytes = small->options.dim * fathom_dtype_bytes(small->options.dtype);
    return (const uint8_t *)small->raw_queries + query * bytes;
}

struct fathom_query small_request(const struct small_index *small, uint32_t query)
{
    struct fathom_query request = fathom_query_default();
    request.search_list = 64;
    request.vector = small_query(small, query);
    return request;
}

double small_distance(const struct small_index *small, uint32_t query, uint64_t row)
{
    uint32_t dim = small->options.dim;
    const float *q = small->queries + (size_t)query * dim, *x = small->rows + row * dim;
    double l2 = 0, dot = 0, qq = 0, xx = 0;
    for (uint32_t d = 0; d < dim; d++) {
        double difference = (double)q[d] - x[d];
        l2 += difference * difference;
        dot += (double)q[d] * x[d];
        qq += (double)q[d] * q[d];
        xx += (double)x[d] * x[d];
    }
    if (small->options.metric == FATHOM_METRIC_L2)
        return l2;
    return small->options.metric == FATHOM_METRIC_IP ? -dot : 1 - dot / sqrt(qq * xx);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static const double *all_sorted(const struct small_index *small, uint32_t query)
{
    uint32_t rows = small->options.rows;
    if (small->sorted[query])
        return small->sorted[query];
    double *all = small->sorted[query] = calloc(rows, sizeof *all);
    assert_non_null(all);
    for (uint32_t row = 0; row < rows; row++)
        all[row] = small_distance(small, query, row);
    qsort(all, rows, sizeof *all, compare_doubles);
    return all;
}

uint32_t small_right(const struct small_index *small, uint32_t query, const uint64_t *ids,
                     uint32_t count)
{
    uint32_t right = 0;
    assert_in_range(count, 1, small->options.rows);
    double last = all_sorted(small, query)[count - 1];
    last += 1e-6 * fabs(last);
    for (uint32_t i = 0; i < count; i++)
        right += ids[i] < small->options.rows && small_distance(small, query, ids[i]) <= last;
    return right;
}
