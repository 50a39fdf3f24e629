/* fathom-build points: the verb that measures an index anew. */
#include <inttypes.h>

#include "program.h"

struct request {
    struct build_options options; /* out: the index */
    bool json;
    enum tool_progress_mode progress;
};

/* Options without a letter. */
enum option_key { KEY_MEMORY_BUDGET = 256, KEY_ZERO_ROWS, KEY_PROGRESS, KEY_JSON };

static const struct argp_option points_options[] = {
    {"query", 'q', "FILE", 0,
     "Queries like those that the index is asked: .npy .fbin .f16bin .u8bin .i8bin .fvecs .bvecs, "
     "or FILE.hdf5::DATASET (default: test); target recall is measured with them (default: with "
     "rows of the index)",
     0},
    {"memory-budget", KEY_MEMORY_BUDGET, "SIZE", 0,
     "Bound of the resident memory; what does not fit is not measured", 0},
    {"threads", 't', "T", 0, "Threads (default: one for each CPU)", 0},
    {"zero-rows", KEY_ZERO_ROWS, "reject|skip", 0,
     "cos: whether queries of zeros are refused (reject, the default) or left out (skip)", 0},
    {"progress", KEY_PROGRESS, "auto|json|off", 0,
     "A bar on a terminal (auto), JSON lines on stderr, or nothing", 0},
    {"json", KEY_JSON, NULL, 0, "One JSON document on stdout", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct request *request = state->input;
    struct build_options *o = &request->options;
    switch (key) {
    case 'q':
        o->query = arg;
        break;
    case KEY_MEMORY_BUDGET:
        o->memory_budget_bytes = tool_arg_bytes(state, "memory-budget", arg);
        break;
    case 't':
        o->threads = tool_arg_u64(state, "threads", arg, 1, BUILD_THREADS_MAX);
        break;
    case KEY_ZERO_ROWS:
        o->skip_zero_rows = tool_arg_choice(state, "zero-rows", arg, "reject skip") == 1;
        break;
    case KEY_PROGRESS:
        request->progress = tool_arg_choice(state, "progress", arg, TOOL_PROGRESS_WORDS);
        break;
    case KEY_JSON:
        request->json = true;
        break;
    case ARGP_KEY_ARG:
        if (o->out)
            return ARGP_ERR_UNKNOWN;
        o->out = arg;
        break;
    case ARGP_KEY_END:
        if (!o->out)
            argp_error(state, "name an index directory");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static json_t *generation_json(uint64_t generation)
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, generation);
    return json_string(text);
}

static json_t *report_json(const struct request *request, const struct points_report *report)
{
    const struct build_options *o = &request->options;
    return json_pack("{s:o s:I s:{s:I s:s} s:o s:o s:o s:I s:f s:f s:I s:i}", "path",
                     tool_json_text(o->out), "rows", (json_int_t)report->rows, "operating_points",
                     "count", (json_int_t)report->points, "measured_on",
                     o->query ? "queries" : "rows", "queries",
                     o->query ? json_integer((json_int_t)report->queries) : json_null(),
                     "generation", generation_json(report->generation), "previous_generation",
                     generation_json(report->previous_generation), "index_bytes",
                     (json_int_t)report->index_bytes, "seconds", 1e-9 * (double)report->total_ns,
                     "cpu_seconds", 1e-9 * (double)report->cpu_ns, "peak_memory_bytes",
                     (json_int_t)report->peak_bytes, "threads", (int)o->threads);
}

static int print_report(const struct request *request, const struct points_report *report)
{
    const struct build_options *o = &request->options;
    char seconds[32], peak[32], on[32] = "rows of the index";
    if (request->json)
        return tool_print_json(report_json(request, report));
    if (o->query)
        snprintf(on, sizeof on, "%" PRIu64 "%s", report->queries,
                 report->queries == 1 ? " query" : " queries");
    printf("%" PRIu64
           " operating point%s measured on %s in %s, peak memory %s, generation %016" PRIx64
           ": %s\n",
           report->points, tool_plural(report->points), on,
           tool_format_duration_ns(report->total_ns, seconds),
           tool_format_bytes(report->peak_bytes, peak), report->generation, o->out);
    return TOOL_EXIT_OK;
}

int verb_points(int argc, char **argv)
{
    static const struct argp argp = {
        .options = points_options,
        .parser = parse,
        .args_doc = "DIR",
        .doc = "Measure the operating points of an index anew, on given queries or on its rows, so "
               "that target recall holds for them."
               "\v"
               "All else of the index stays as it is. The new file is written beside the old one, "
               "verified, and replaces it by one rename; a server that has the old one open goes "
               "on with it until it is told to reload.\n\n"
               "Exit codes: 0 measured; 2 usage, an index that is too small, or a memory budget; "
               "3 I/O; 4 a damaged index, or queries that are; 5 a format that this program does "
               "not know; 75 interrupted. But for 0 the index is as it was.\n\n"
               "Example:\n"
               "  fathom-build points base.fathom --query questions.npy\n"};
    struct request request = {.options = build_options_default()};
    struct points_report report;
    struct fathom_error err = {0};
    request.options.threads = program_threads();
    int code = tool_parse(&argp, argc, argv, &request);
    if (code != 0)
        return code;
    tool_catch_signals();
    struct tool_progress *progress = tool_progress_create(request.progress);
    request.options.watch = program_watch(progress);
    int status = build_points(&request.options, &report, &err);
    tool_progress_finish(progress);
    tool_progress_destroy(progress);
    if (status == 0)
        return print_report(&request, &report);
    code = tool_fail(PROGRAM, &err);
    if (code == TOOL_EXIT_INTERRUPTED)
        fputs(PROGRAM ": the index is as it was; the same line begins again\n", stderr);
    return code;
}
