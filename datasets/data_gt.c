/* fathom-data gt: exact ground truth (exact_truth.h), written as a truth set. */
#include "data_verbs.h"

#include <string.h>

#include "env.h"
#include "error.h"
#include "exact_truth.h"
#include "truth.h"
#include "vectors.h"

#define PROGRAM    "fathom-data gt"
#define LISTED_MAX 20 /* zero rows named on stderr; --json has them all */

struct gt_request {
    struct data_common common;
    const char *base, *query, *out;
    enum fathom_metric metric; /* 0: not given */
    uint32_t k;
    bool skip_zero_rows, ids64;
};

enum { OPTION_ZERO_ROWS = 2000, OPTION_IDS64 };

static const struct argp_option options[] = {
    {"base", 'b', "FILE", 0, "The vectors to be found (required)", 0},
    {"query", 'q', "FILE", 0, "The queries (required)", 0},
    {"metric", 'm', "l2|ip|cos", 0,
     "l2: squared Euclidean; ip: minus the inner product; cos: 1 - cosine (required)", 0},
    {"k", 'k', "K", 0, "Neighbours of each query (default: 100)", 0},
    {"out", 'o', "FILE", 0, "The truth set (required)", 0},
    {"ids64", OPTION_IDS64, NULL, 0, "Write u64 ids", 0},
    {"zero-rows", OPTION_ZERO_ROWS, "reject|skip", 0,
     "cos: whether rows of zeros are refused (reject, the default) or left out and listed (skip)",
     0},
    {0},
};

static const char doc[] =
    "Compute the exact nearest rows of each query, by float64 distances; ties go to the smaller "
    "row number."
    "\v"
    "OUT: u32 query_count, u32 k, u32 ids[query_count][k], f32 distances[query_count][k]. Ids are "
    "row "
    "numbers of the base. A query that is all zeros under cos (skipped) gets no neighbours: ids of "
    "2^32-1.\n\n"
    "Examples:\n"
    "  fathom-data gt --base base.fbin --query query.fbin --metric l2 --k 100 --out gt.bin\n"
    "  fathom-data gt --base base.npy --query query.npy --metric cos --zero-rows skip --out "
    "gt.bin\n";

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct gt_request *request = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &request->common;
        break;
    case 'b':
        request->base = arg;
        break;
    case 'q':
        request->query = arg;
        break;
    case 'm':
        request->metric = FATHOM_METRIC_L2 + tool_arg_choice(state, "metric", arg, "l2 ip cos");
        break;
    case 'k':
        request->k = (uint32_t)tool_arg_u64(state, "k", arg, 1, FATHOM_K_MAX);
        break;
    case 'o':
        request->out = arg;
        break;
    case OPTION_IDS64:
        request->ids64 = true;
        break;
    case OPTION_ZERO_ROWS:
        request->skip_zero_rows = tool_arg_choice(state, "zero-rows", arg, "reject skip") == 1;
        break;
    case ARGP_KEY_END:
        data_require(state, request->base, "base");
        data_require(state, request->query, "query");
        data_require(state, request->metric, "metric");
        data_require(state, request->out, "out");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_child children[] = {{&data_common_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
    .options = options, .parser = parse, .doc = doc, .children = children};

static bool on_progress(void *context, uint64_t done)
{
    tool_progress_update(context, done);
    return !tool_interrupted();
}

static int compute(const struct gt_request *request, struct vector_file *base,
                   struct vector_file *queries, struct tool_progress *progress,
                   struct exact_report *report, struct fathom_error *err)
{
    struct exact_options exact = exact_options_default();
    struct truth *truth;
    exact.metric = request->metric;
    exact.k = request->k;
    exact.threads = request->common.threads;
    exact.skip_zero_rows = request->skip_zero_rows;
    exact.progress = on_progress;
    exact.context = progress;
    tool_progress_phase(progress, "gt",
                        vector_file_info(base).rows * vector_file_info(queries).rows, "pairs");
    int rc = exact_truth(&truth, base, queries, &exact, report, err);
    tool_progress_finish(progress);
    if (rc)
        return rc;
    truth->ids64 = request->ids64;
    rc = truth_write(truth, env_os(), request->out, err);
    truth_destroy(truth);
    return rc;
}

static void list_rows(const char *path, const struct row_list *list)
{
    if (!list->count)
        return;
    fprintf(stderr, "%s: %s: %zu row%s of zeros left out:", PROGRAM, path, list->count,
            tool_plural(list->count));
    for (size_t i = 0; i < list->count && i < LISTED_MAX; i++)
        fprintf(stderr, " %llu", (unsigned long long)list->rows[i]);
    fprintf(stderr, list->count > LISTED_MAX ? " ... (--json lists all)\n" : "\n");
}

static json_t *json_rows(const struct row_list *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, json_integer((json_int_t)list->rows[i]));
    return array;
}

static int report_result(const struct gt_request *request, struct vector_info base,
                         struct vector_info queries, const struct exact_report *report,
                         uint64_t elapsed_ns)
{
    list_rows(request->base, &report->zero_base);
    list_rows(request->query, &report->zero_queries);
    if (request->common.json)
        return tool_print_json(json_pack(
            "{s:o, s:s, s:I, s:I, s:I, s:f, s:{s:o, s:o}}", "out", tool_json_text(request->out),
            "metric", fathom_metric_name(request->metric), "k", (json_int_t)request->k, "base_rows",
            (json_int_t)base.rows, "query_count", (json_int_t)queries.rows, "seconds",
            (double)elapsed_ns / 1e9, "zero_rows", "base", json_rows(&report->zero_base), "query",
            json_rows(&report->zero_queries)));
    char rows[32], count[32], took[32];
    printf("%s: the %u nearest (%s) of %s rows for %s queries, exact, in %s\n", request->out,
           request->k, fathom_metric_name(request->metric), data_format_count(base.rows, rows),
           data_format_count(queries.rows, count), tool_format_duration_ns(elapsed_ns, took));
    return TOOL_EXIT_OK;
}

int data_gt(int argc, char **argv)
{
    struct gt_request request = {.k = 100};
    struct vector_file *base = NULL, *queries = NULL;
    struct exact_report report = {0};
    struct fathom_error err = {0};
    data_common_init(&request.common);
    int rc = tool_parse(&argp, argc, argv, &request);
    if (rc)
        return rc;
    tool_catch_signals();
    uint64_t started_ns = env_clock_ns(env_os());
    struct tool_progress *progress = tool_progress_create(request.common.progress);
    /* HDF5 files of ann-benchmarks hold both: the queries are the data set "test", unless the name
     * says otherwise. */
    const char *test = strstr(request.query, "::") ? NULL : "test";
    rc = vector_file_open(&base, env_os(), request.base, NULL, &err);
    if (!rc)
        rc = vector_file_open(&queries, env_os(), request.query, test, &err);
    if (!rc)
        rc = truth_check_path(env_os(), request.out, &err);
    if (!rc)
        rc = compute(&request, base, queries, progress, &report, &err);
    tool_progress_destroy(progress);
    if (rc)
        rc = tool_fail(PROGRAM, &err);
    else
        rc = report_result(&request, vector_file_info(base), vector_file_info(queries), &report,
                           env_clock_ns(env_os()) - started_ns);
    vector_file_close(queries);
    vector_file_close(base);
    exact_report_fini(&report);
    return rc;
}
