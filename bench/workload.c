/* Loads queries and truth, and counts what was found. Never searches. */
#include "workload.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "error.h"
#include "ids.h"
#include "mem.h"
#include "vectors.h"

#define TIE_TOLERANCE 1e-6f

static int read_queries(struct workload *out, const struct env *env, const char *path,
                        struct fathom_error *err)
{
    struct vector_file *file = NULL;
    /* In the ann-benchmarks layout the queries are the set "test"; other formats hold one table. */
    int status = vector_file_open(&file, env, path, strstr(path, "::") ? NULL : "test", err);
    if (status)
        return status;
    struct vector_info info = vector_file_info(file);
    if (info.rows > UINT32_MAX) {
        status = error_set(err, FATHOM_ELIMIT, "%s: more than %u queries", path, UINT32_MAX);
        goto done;
    }
    out->query_count = (uint32_t)info.rows;
    out->dim = info.dim;
    out->dtype = info.dtype;
    out->row_bytes = info.dim * vectors_scalar_bytes(info.dtype);
    out->vectors = mem_alloc_array(out->query_count, out->row_bytes);
    if (!out->vectors) {
        status = error_set(err, -ENOMEM, "%s: no memory for %u queries", path, out->query_count);
        goto done;
    }
    status = vector_file_read(file, 0, out->query_count, out->vectors, err);
    if (!status)
        status = vectors_check_finite(out->dtype, out->vectors, 0, out->query_count, out->dim, path,
                                      err);
done:
    vector_file_close(file);
    return status;
}

static int translate(struct truth *truth, const uint64_t *external, uint64_t rows, const char *path,
                     struct fathom_error *err)
{
    for (size_t i = 0; i < (size_t)truth->query_count * truth->k; i++) {
        if (truth->ids[i] == FATHOM_ID_NONE)
            continue;
        if (truth->ids[i] >= rows)
            return error_set(err, FATHOM_EARGUMENT,
                             "%s: %llu ids, but the truth set names row %llu", path,
                             (unsigned long long)rows, (unsigned long long)truth->ids[i]);
        truth->ids[i] = external[truth->ids[i]];
    }
    return 0;
}

/* Turns the truth set's row numbers into external ids. */
static int translate_truth(struct truth *truth, const struct env *env, const char *path,
                           struct fathom_error *err)
{
    uint64_t *external, rows;
    int status = ids_read_all(&external, &rows, env, path, err);
    if (status == 0)
        status = translate(truth, external, rows, path, err);
    mem_free(external);
    return status;
}

static int read_truth(struct workload *out, const struct env *env, const char *path,
                      const char *ids_path, struct fathom_error *err)
{
    int status = truth_read(&out->truth, env, path, 0, err);
    if (status)
        return status;
    if (out->truth->query_count != out->query_count)
        return error_set(err, FATHOM_EARGUMENT,
                         "%s: truth for %u queries, but there are %u; make it with fathom-data gt",
                         path, out->truth->query_count, out->query_count);
    if (out->truth->k < out->k)
        return error_set(err, FATHOM_EARGUMENT, "%s: truth for k %u, not enough for --k %u", path,
                         out->truth->k, out->k);
    return ids_path ? translate_truth(out->truth, env, ids_path, err) : 0;
}

static int make_room(struct workload *out, struct fathom_error *err)
{
    size_t count = (size_t)out->query_count * out->k;
    out->ids = mem_alloc_array(count, sizeof *out->ids);
    out->answered = mem_alloc(out->query_count);
    if (!out->ids || !out->answered)
        return error_set(err, -ENOMEM, "no memory for the answers");
    for (size_t i = 0; i < count; i++)
        out->ids[i] = FATHOM_ID_NONE;
    return 0;
}

int workload_open(struct workload *out, const struct env *env, const char *query_path,
                  const char *truth_path, const char *ids_path, uint32_t k,
                  struct fathom_error *err)
{
    *out = (struct workload){.k = k};
    int status = read_queries(out, env, query_path, err);
    if (!status && truth_path)
        status = read_truth(out, env, truth_path, ids_path, err);
    if (!status)
        status = make_room(out, err);
    if (status)
        workload_close(out);
    return status;
}

void workload_close(struct workload *workload)
{
    mem_free(workload->vectors);
    truth_destroy(workload->truth);
    mem_free(workload->ids);
    mem_free(workload->answered);
    *workload = (struct workload){0};
}

const void *workload_vector(const struct workload *workload, uint32_t query)
{
    return workload->vectors + query * workload->row_bytes;
}

/* The right answers of one truth row: `sure` entries are nearer than the k-th, up to `end` they tie
 * with it. */
struct right_answers {
    uint32_t valid; /* of the first k, those that exist */
    uint32_t sure, end;
};

static struct right_answers right_answers(const struct truth *truth, uint32_t query, uint32_t k)
{
    const uint64_t *ids = truth->ids + (size_t)query * truth->k;
    struct right_answers right = {0};
    while (right.valid < k && ids[right.valid] != FATHOM_ID_NONE)
        right.valid++;
    right.sure = right.end = right.valid;
    if (!truth->distances || right.valid < k)
        return right;
    const float *distances = truth->distances + (size_t)query * truth->k;
    float tolerance = TIE_TOLERANCE * fabsf(distances[k - 1]);
    while (right.sure && distances[right.sure - 1] >= distances[k - 1] - tolerance)
        right.sure--;
    while (right.end < truth->k && ids[right.end] != FATHOM_ID_NONE &&
           distances[right.end] <= distances[k - 1] + tolerance)
        right.end++;
    return right;
}

static bool contains(const uint64_t *ids, uint32_t count, uint64_t id)
{
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* How many of the places of one answer are right. By the truth's ids, so that an id that was
 * returned twice is found once. Those that tie fill the places that the sure ones leave, and no
 * more. */
static uint32_t count_found(const struct right_answers *right, const uint64_t *truth,
                            const uint64_t *ids, uint32_t k)
{
    uint32_t sure = 0, tied = 0, places = right->valid - right->sure;
    for (uint32_t i = 0; i < right->sure; i++)
        sure += contains(ids, k, truth[i]);
    for (uint32_t i = right->sure; i < right->end; i++)
        tied += contains(ids, k, truth[i]);
    return sure + (tied < places ? tied : places);
}

double workload_recall(const struct workload *workload, const uint64_t *ids,
                       const uint8_t *answered)
{
    const struct truth *truth = workload->truth;
    uint32_t k = workload->k, counted = 0;
    double sum = 0;
    for (uint32_t query = 0; truth && query < workload->query_count; query++) {
        struct right_answers right = right_answers(truth, query, k);
        if (!answered[query] || !right.valid)
            continue;
        uint32_t found =
            count_found(&right, truth->ids + (size_t)query * truth->k, ids + (size_t)query * k, k);
        sum += (double)found / right.valid;
        counted++;
    }
    return counted ? sum / counted : -1;
}
