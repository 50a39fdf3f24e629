/* fathom-data info: what a vector file or a truth set holds. Reads the header and a sample, so that
 * it is quick for any size. */
#include "data_verbs.h"

#include <string.h>

#include "env.h"
#include "sample.h"
#include "truth.h"
#include "vectors.h"

#define PROGRAM         "fathom-data info"
#define SAMPLE_ROWS     10000
#define SAMPLE_ROWS_MAX 100000000

struct info_request {
    struct data_common common;
    const char *path;
    uint64_t sample_rows;
};

static const struct argp_option options[] = {
    {"sample", 's', "N", 0, "Rows to look at (default: 10000, and at most 64 MiB of them)", 0},
    {0},
};

static const char doc[] =
    "Describe a vector file: format, rows, dimension, type, and statistics of a sample of its rows."
    "\v"
    "Also takes truth sets (.bin, .ivecs, FILE.hdf5::neighbors).\n\n"
    "Examples:\n"
    "  fathom-data info base.fbin\n"
    "  fathom-data info --json glove.hdf5::test\n";

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct info_request *request = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &request->common;
        break;
    case 's':
        request->sample_rows = tool_arg_u64(state, "sample", arg, 1, SAMPLE_ROWS_MAX);
        break;
    case ARGP_KEY_ARG:
        if (state->arg_num)
            return ARGP_ERR_UNKNOWN;
        request->path = arg;
        break;
    case ARGP_KEY_END:
        if (!request->path)
            argp_error(state, "FILE is needed");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_child children[] = {{&data_common_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
    .options = options, .parser = parse, .args_doc = "FILE", .doc = doc, .children = children};

/* ---- vectors ---- */

static int print_vectors_json(const struct info_request *request, struct vector_info info,
                              const struct sample_stats *stats)
{
    json_t *sample = json_pack(
        "{s:I, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:o}", "rows", (json_int_t)stats->rows,
        "min", stats->min, "max", stats->max, "norm_mean", stats->norm_mean, "norm_min",
        stats->norm_min, "norm_max", stats->norm_max, "zero_rows", (json_int_t)stats->zero_rows,
        "duplicates", (json_int_t)stats->duplicates, "non_finite_rows", (json_int_t)stats->bad_rows,
        "first_non_finite_row",
        stats->bad_rows ? json_integer((json_int_t)stats->first_bad_row) : json_null());
    return tool_print_json(json_pack("{s:o, s:s, s:s, s:I, s:I, s:s, s:I, s:o}", "path",
                                     tool_json_text(request->path), "kind", "vectors", "format",
                                     info.format, "rows", (json_int_t)info.rows, "dim",
                                     (json_int_t)info.dim, "dtype", fathom_dtype_name(info.dtype),
                                     "bytes", (json_int_t)info.file_bytes, "sample", sample));
}

static int print_vectors(const struct info_request *request, struct vector_info info,
                         const struct sample_stats *stats)
{
    char rows[32], bytes[32], sampled[32];
    if (request->common.json)
        return print_vectors_json(request, info, stats);
    printf("%s: %s vectors, dimension %u, %s (%s, %s)\n", request->path,
           data_format_count(info.rows, rows), info.dim, fathom_dtype_name(info.dtype), info.format,
           tool_format_bytes(info.file_bytes, bytes));
    printf("of %s rows looked at:\n", data_format_count(stats->rows, sampled));
    printf("  values      %.6g to %.6g\n", stats->min, stats->max);
    printf("  norms       %.6g to %.6g, mean %.6g\n", stats->norm_min, stats->norm_max,
           stats->norm_mean);
    printf("  zero rows   %llu\n", (unsigned long long)stats->zero_rows);
    printf("  duplicates  %llu\n", (unsigned long long)stats->duplicates);
    if (stats->bad_rows)
        printf("  NaN or infinity in %llu, the first is row %llu\n",
               (unsigned long long)stats->bad_rows, (unsigned long long)stats->first_bad_row);
    return TOOL_EXIT_OK;
}

/* ---- truth sets ---- */

static int print_truth(const struct info_request *request, const struct truth *truth)
{
    uint64_t largest = 0;
    for (size_t i = 0; i < (size_t)truth->query_count * truth->k; i++) {
        if (truth->ids[i] != FATHOM_ID_NONE && truth->ids[i] > largest)
            largest = truth->ids[i];
    }
    if (request->common.json)
        return tool_print_json(
            json_pack("{s:o, s:s, s:I, s:I, s:b, s:b, s:I}", "path", tool_json_text(request->path),
                      "kind", "truth", "query_count", (json_int_t)truth->query_count, "k",
                      (json_int_t)truth->k, "ids64", truth->ids64, "has_distances",
                      truth->distances != NULL, "id_max", (json_int_t)largest));
    printf("%s: truth set, %u queries x %u neighbours%s, ids up to %llu%s\n", request->path,
           truth->query_count, truth->k, truth->ids64 ? " (u64 ids)" : "",
           (unsigned long long)largest, truth->distances ? "" : ", no distances");
    return TOOL_EXIT_OK;
}

/* A table of integers is taken for a truth set; so is any name whose extension says nothing. */
static int describe(const struct info_request *request, struct fathom_error *err, int *exit_code)
{
    struct vector_file *file;
    struct truth *truth;
    struct fathom_error other;
    int rc = vector_file_open(&file, env_os(), request->path, NULL, err);
    if (!rc) {
        struct sample_stats stats;
        rc = sample_measure(&stats, file, request->sample_rows, err);
        if (!rc)
            *exit_code = print_vectors(request, vector_file_info(file), &stats);
        vector_file_close(file);
        return rc;
    }
    if (rc != FATHOM_EINPUT && rc != FATHOM_EARGUMENT)
        return rc;
    int truth_rc = truth_read(&truth, env_os(), request->path, 0, &other);
    if (truth_rc) {
        if (rc == FATHOM_EARGUMENT)
            *err = other;
        return rc == FATHOM_EARGUMENT ? truth_rc : rc;
    }
    *exit_code = print_truth(request, truth);
    truth_destroy(truth);
    return 0;
}

int data_info(int argc, char **argv)
{
    struct info_request request = {.sample_rows = SAMPLE_ROWS};
    struct fathom_error err = {0};
    int exit_code = TOOL_EXIT_OK;
    data_common_init(&request.common);
    int rc = tool_parse(&argp, argc, argv, &request);
    if (rc)
        return rc;
    rc = describe(&request, &err, &exit_code);
    return rc ? tool_fail(PROGRAM, &err) : exit_code;
}
