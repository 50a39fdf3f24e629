/* Reading queries: in pieces, by one thread, since there are few beside the rows. */
#include "queries.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

#include "error.h"
#include "input.h"
#include "mem.h"
#include "metric.h"

#define PIECE_BYTES (1u << 20)

int queries_open(struct queries *queries, const struct build_options *options,
                 const struct crew *crew, uint32_t dim, struct fathom_error *err)
{
    const char *path = options->query;
    *queries = (struct queries){.metric = options->metric, .crew = crew};
    if (!path)
        return 0;
    /* In the ann-benchmarks layout the queries are the set "test"; other formats hold one table. */
    int status = vector_file_open(&queries->file, options->env, path,
                                  strstr(path, "::") ? NULL : "test", err);
    if (status != 0)
        return status;
    queries->info = vector_file_info(queries->file);
    if (queries->info.dim == dim)
        return 0;
    status = error_set(err, FATHOM_EDIM,
                       "%s: queries have %" PRIu32 " dimensions, and the vectors %" PRIu32, path,
                       queries->info.dim, dim);
    queries_close(queries);
    return status;
}

void queries_close(struct queries *queries)
{
    vector_file_close(queries->file);
    *queries = (struct queries){0};
}

/* ---- a pass over the file ---- */

/* Some of the queries: whole rows, one behind the other. */
struct piece {
    uint8_t *bytes;
    uint64_t first; /* its first row in the file */
    size_t rows;
};

/* Each piece to visit; hash receives that of all. */
static int stream(const struct queries *queries, XXH128_hash_t *hash,
                  int (*visit)(void *context, const struct piece *piece, struct fathom_error *err),
                  void *context, struct fathom_error *err)
{
    const char *path = vector_file_path(queries->file);
    size_t row_bytes = queries->info.dim * vectors_scalar_bytes(queries->info.dtype);
    size_t most = PIECE_BYTES / row_bytes;
    XXH3_state_t *state = XXH3_createState();
    struct piece piece = {.bytes = mem_alloc_array(most, row_bytes)};
    int status =
        state && piece.bytes ? 0 : error_set(err, -ENOMEM, "%s: no memory to read queries", path);
    if (status == 0)
        XXH3_128bits_reset(state);
    for (; piece.first < queries->info.rows && status == 0; piece.first += piece.rows) {
        uint64_t left = queries->info.rows - piece.first;
        piece.rows = left < most ? left : most;
        status = crew_stopped(queries->crew)
                     ? error_set(err, FATHOM_EINTERRUPTED, "%s: %s", path,
                                 fathom_strerror(FATHOM_EINTERRUPTED))
                     : vector_file_read(queries->file, piece.first, piece.rows, piece.bytes, err);
        if (status == 0)
            XXH3_128bits_update(state, piece.bytes, piece.rows * row_bytes);
        if (status == 0)
            status = visit(context, &piece, err);
    }
    if (status == 0)
        *hash = XXH3_128bits_digest(state);
    mem_free(piece.bytes);
    XXH3_freeState(state);
    return status;
}

/* A row of a piece as floats. Returns whether it is one of zeros that is left out. */
static bool get_row(const struct queries *queries, const struct piece *piece, size_t i, float *out)
{
    const struct vector_info *info = &queries->info;
    const uint8_t *row = piece->bytes + i * info->dim * vectors_scalar_bytes(info->dtype);
    uint8_t zero = 0;
    vectors_to_f32(info->dtype, row, info->dim, out);
    return queries->metric == FATHOM_METRIC_COS &&
           vectors_find_zero_rows(info->dtype, row, 1, info->dim, &zero) > 0;
}

/* ---- checking ---- */

struct check {
    struct queries *queries;
    bool skip_zero_rows;
    float *row;
};

static int check_row(struct check *check, bool zero, uint64_t number, struct fathom_error *err)
{
    struct queries *queries = check->queries;
    const char *path = vector_file_path(queries->file);
    uint32_t dim = queries->info.dim;
    if (metric_work_row(FATHOM_METRIC_L2, dim, 0, check->row, check->row) > INPUT_NORM_SQ_MAX)
        return error_set(err, FATHOM_EINPUT,
                         "%s: row %" PRIu64 ": values so large that distances overflow a 32-bit "
                         "float; scale the vectors down",
                         path, number);
    queries->zero_count += zero;
    return !zero || check->skip_zero_rows
               ? 0
               : error_set(err, FATHOM_EINPUT,
                           "%s: row %" PRIu64 " is all zero, and cosine is undefined there; leave "
                           "it out of the file, or let --zero-rows skip leave out all such rows",
                           path, number);
}

static int check_piece(void *context, const struct piece *piece, struct fathom_error *err)
{
    struct check *check = context;
    const struct vector_info *info = &check->queries->info;
    int status = vectors_check_finite(info->dtype, piece->bytes, piece->first, piece->rows,
                                      info->dim, vector_file_path(check->queries->file), err);
    for (size_t i = 0; i < piece->rows && status == 0; i++) {
        bool zero = get_row(check->queries, piece, i, check->row);
        status = check_row(check, zero, piece->first + i, err);
    }
    crew_advance(check->queries->crew, piece->first + piece->rows);
    return status;
}

int queries_check(struct queries *queries, bool skip_zero_rows, struct fathom_error *err)
{
    const char *path = vector_file_path(queries->file);
    struct check check = {.queries = queries, .skip_zero_rows = skip_zero_rows};
    XXH128_hash_t hash;
    crew_phase(queries->crew, "check", queries->info.rows, "queries");
    check.row = mem_alloc_array(queries->info.dim, sizeof *check.row);
    int status = check.row ? stream(queries, &hash, check_piece, &check, err)
                           : error_set(err, -ENOMEM, "%s: no memory to read queries", path);
    mem_free(check.row);
    if (status != 0)
        return status;
    queries->hash[0] = hash.low64;
    queries->hash[1] = hash.high64;
    return queries->zero_count < queries->info.rows
               ? 0
               : error_set(err, FATHOM_EINPUT,
                           "%s: every query is zero; there is nothing to measure under cos", path);
}

/* ---- a sample ---- */

struct loading {
    const struct queries *queries;
    uint64_t usable, seen; /* queries that are not left out, and those of them before this one */
    uint32_t count, loaded;
    float *row;                     /* a query, with room for work space, */
    float *floats;                  /* which goes here, */
    struct rows8 *rows8;            /* or where this is not NULL, here, */
    const struct row8_model *model; /* in this form, */
    uint8_t *bytes;                 /* made there */
};

static void keep(struct loading *loading)
{
    const struct queries *queries = loading->queries;
    uint32_t dim = queries->info.dim, at = loading->loaded++;
    if (!loading->rows8) {
        memcpy(loading->floats + (size_t)at * dim, loading->row, dim * sizeof *loading->row);
        return;
    }
    (void)metric_work_query(queries->metric, dim, loading->row, loading->row);
    row8_encode(loading->model, loading->row, loading->bytes);
    rows8_set(loading->rows8, at, loading->bytes);
}

static int load_piece(void *context, const struct piece *piece, struct fathom_error *err)
{
    struct loading *loading = context;
    (void)err;
    for (size_t i = 0; i < piece->rows && loading->loaded < loading->count; i++) {
        uint64_t wanted =
            (2 * (uint64_t)loading->loaded + 1) * loading->usable / (2 * (uint64_t)loading->count);
        if (get_row(loading->queries, piece, i, loading->row))
            continue;
        if (loading->seen++ == wanted)
            keep(loading);
    }
    return 0;
}

static uint32_t offered_count(const struct queries *queries)
{
    uint64_t usable = queries->info.rows - queries->zero_count;
    return usable < POINTS_OFFERED_MAX ? (uint32_t)usable : POINTS_OFFERED_MAX;
}

static int load_sample(const struct queries *queries, struct loading *loading,
                       struct fathom_error *err)
{
    const char *path = vector_file_path(queries->file);
    uint32_t work_dim = metric_work_dim(queries->metric, queries->info.dim);
    XXH128_hash_t hash;
    loading->queries = queries;
    loading->usable = queries->info.rows - queries->zero_count;
    loading->count = offered_count(queries);
    loading->row = mem_alloc_array(work_dim, sizeof *loading->row);
    loading->bytes = mem_alloc(work_dim);
    int status = loading->row && loading->bytes
                     ? stream(queries, &hash, load_piece, loading, err)
                     : error_set(err, -ENOMEM, "%s: no memory to read queries", path);
    mem_free(loading->row);
    mem_free(loading->bytes);
    if (status != 0 || (hash.low64 == queries->hash[0] && hash.high64 == queries->hash[1]))
        return status;
    return error_set(err, FATHOM_EINPUT,
                     "%s: changed while the index was built; build again when it is complete",
                     path);
}

static int load(void *context, float *out, struct fathom_error *err)
{
    struct loading loading = {.floats = out};
    return load_sample(context, &loading, err);
}

int queries_rows8(struct queries *queries, const struct row8_model *model, struct rows8 *out,
                  struct fathom_error *err)
{
    struct loading loading = {.rows8 = out, .model = model};
    *out = (struct rows8){0};
    if (!queries->file)
        return 0;
    if (rows8_init(out, offered_count(queries), model->dim) != 0)
        return error_set(err, -ENOMEM, "%s: no memory for queries",
                         vector_file_path(queries->file));
    return load_sample(queries, &loading, err);
}

struct points_queries queries_offer(struct queries *queries)
{
    return (struct points_queries){
        .count = offered_count(queries), .load = load, .context = queries};
}
