/* fathom-build: an index from a file of vectors, and what one would take. Only this file and
 * main_points.c print. */
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <string.h>

#include "blas.h"
#include "program.h"
#include "vectors.h"

struct request {
    struct build_options options;
    uint64_t count; /* estimate: the shape when there is no input */
    uint32_t dim;
    enum fathom_dtype dtype;
    struct tool_budget dram_budget; /* settled in options when the rows are known */
    bool metric_given, json, estimate;
    enum tool_progress_mode progress;
};

/* Options without a letter. */
enum option_key {
    KEY_ZERO_ROWS = 256,
    KEY_CODE_BITS,
    KEY_MEMORY_BUDGET,
    KEY_DRAM_BUDGET,
    KEY_RESUME,
    KEY_PROGRESS,
    KEY_JSON
};

static const struct argp_option shared_options[] = {
    {"input", 'i', "FILE", 0,
     "Vectors: .npy .fbin .f16bin .u8bin .i8bin .fvecs .bvecs, or FILE.hdf5::DATASET (default: "
     "train) (build: required)",
     0},
    {"metric", 'm', "l2|ip|cos", 0,
     "l2: squared Euclidean; ip: minus the inner product; cos: 1 - cosine (build: required; "
     "estimate: l2)",
     0},
    {"query", 'q', "FILE", 0,
     "Queries like those that the index will be asked, in any format of --input (HDF5: data set "
     "test): target recall is measured with them (default: with rows of the input)",
     0},
    {"ids", 'I', "FILE", 0, "Ids by row: .npy of i64 or u64, or text, one number a line", 0},
    {"degree", 'R', "R", 0, "Most neighbours of a row (default: by the data)", 0},
    {"build-list", 'L', "L", 0,
     "Width of the search for neighbours (default: 2 R, and 2.4 R from R 40 on)", 0},
    {"alpha", 'a', "A", 0, "Pruning factor, 1 to 2 (default: 1.2)", 0},
    {"code-bits", KEY_CODE_BITS, "B", 0,
     "Most bits per dimension in codes, 1 to 8 (default: 6; 7 and 8 count as 6)", 0},
    {"memory-budget", KEY_MEMORY_BUDGET, "SIZE", 0,
     "Bound of the resident memory of the build; to keep it, rows wait in files and the graph is "
     "built in parts",
     0},
    {"dram-budget", KEY_DRAM_BUDGET, "SIZE|SHARE%", 0,
     "Memory that the index will be served from, in bytes or as a share of the vectors as f32; R "
     "and code bits are chosen to suit it",
     0},
    {"threads", 't', "T", 0, "Threads (default: one for each CPU)", 0},
    {"seed", 's', "S", 0, "The same input, options and seed give the same bytes (default: 1)", 0},
    {"zero-rows", KEY_ZERO_ROWS, "reject|skip", 0,
     "cos: whether rows of zeros are refused (reject, the default) or left out and listed (skip)",
     0},
    {"json", KEY_JSON, NULL, 0, "One JSON document on stdout", 0},
    {0},
};

static const struct argp_option build_options[] = {
    {"out", 'o', "DIR", 0,
     "Index directory; an index in it is replaced when the new one is complete (required)", 0},
    {"resume", KEY_RESUME, NULL, 0, "Go on with an interrupted build", 0},
    {"progress", KEY_PROGRESS, "auto|json|off", 0,
     "A bar on a terminal (auto), JSON lines on stderr, or nothing", 0},
    {0},
};

static const struct argp_option estimate_options[] = {
    {"count", 'n', "N", 0, "Rows, when there is no --input", 0},
    {"dim", 'd', "D", 0, "Dimension, when there is no --input", 0},
    {"type", 'T', "TYPE", 0, "f32, f16, i8 or u8, when there is no --input", 0},
    {0},
};

static void check_request(struct argp_state *state, const struct request *request)
{
    const struct build_options *o = &request->options;
    bool shape = request->count && request->dim && request->dtype;
    if (request->estimate && !o->input && !shape)
        argp_error(state, "--input, or --count, --dim and --type together, must be given");
    if (request->estimate && o->input && (request->count || request->dim || request->dtype))
        argp_error(state, "--input says what --count, --dim and --type would say");
    if (!request->estimate && !o->input)
        argp_error(state, "--input must be given");
    if (!request->estimate && !o->out)
        argp_error(state, "--out must be given");
    if (!request->estimate && !request->metric_given)
        argp_error(state, "--metric must be given: l2, ip or cos");
}

/* What both verbs take. */
static error_t parse_shared(int key, char *arg, struct argp_state *state)
{
    struct request *request = state->input;
    struct build_options *o = &request->options;
    switch (key) {
    case 'i':
        o->input = arg;
        break;
    case 'I':
        o->ids = arg;
        break;
    case 'q':
        o->query = arg;
        break;
    case 'm':
        o->metric = FATHOM_METRIC_L2 + tool_arg_choice(state, "metric", arg, "l2 ip cos");
        break;
    case 'R':
        o->degree = tool_arg_u64(state, "degree", arg, BUILD_DEGREE_MIN, BUILD_DEGREE_MAX);
        break;
    case 'L':
        o->build_list = tool_arg_u64(state, "build-list", arg, BUILD_LIST_MIN, BUILD_LIST_MAX);
        break;
    case 'a':
        o->alpha = tool_arg_f64(state, "alpha", arg, 1, 2);
        break;
    case KEY_CODE_BITS:
        o->code_bits = tool_arg_u64(state, "code-bits", arg, 1, 8);
        break;
    case KEY_MEMORY_BUDGET:
        o->memory_budget_bytes = tool_arg_bytes(state, "memory-budget", arg);
        break;
    case KEY_DRAM_BUDGET:
        request->dram_budget = tool_arg_budget(state, "dram-budget", arg);
        break;
    case 't':
        o->threads = tool_arg_u64(state, "threads", arg, 1, BUILD_THREADS_MAX);
        break;
    case 's':
        o->seed = tool_arg_u64(state, "seed", arg, 0, INT64_MAX);
        break;
    case KEY_ZERO_ROWS:
        o->skip_zero_rows = tool_arg_choice(state, "zero-rows", arg, "reject skip") == 1;
        break;
    case KEY_JSON:
        request->json = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    request->metric_given = request->metric_given || key == 'm';
    return 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct request *request = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = request;
        break;
    case 'o':
        request->options.out = arg;
        break;
    case KEY_RESUME:
        request->options.resume = true;
        break;
    case KEY_PROGRESS:
        request->progress = tool_arg_choice(state, "progress", arg, TOOL_PROGRESS_WORDS);
        break;
    case 'n':
        request->count = tool_arg_u64(state, "count", arg, 1, UINT32_MAX - 1);
        break;
    case 'd':
        request->dim = tool_arg_u64(state, "dim", arg, 1, FATHOM_DIM_MAX);
        break;
    case 'T':
        if (!vectors_dtype_parse(arg, &request->dtype))
            argp_error(state, "--type: '%s' is not f32, f16, i8 or u8", arg);
        break;
    case ARGP_KEY_END:
        check_request(state, request);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* A share of the vectors as f32 becomes bytes. */
static int settle_budget(struct request *request, struct fathom_error *err)
{
    double values = (double)request->count * request->dim;
    struct vector_file *file;
    request->options.dram_budget_bytes = request->dram_budget.bytes;
    if (request->dram_budget.share == 0)
        return 0;
    if (request->options.input) {
        int status = vector_file_open(&file, env_os(), request->options.input, NULL, err);
        if (status != 0)
            return status;
        values = (double)vector_file_info(file).rows * vector_file_info(file).dim;
        vector_file_close(file);
    }
    double bytes = request->dram_budget.share * values * sizeof(float);
    request->options.dram_budget_bytes = bytes < 1        ? 1
                                         : bytes < 0x1p62 ? (uint64_t)bytes
                                                          : 1ull << 62;
    return 0;
}

static const struct argp shared_argp = {.options = shared_options, .parser = parse_shared};
static const struct argp_child children[] = {{&shared_argp, 0, NULL, 0}, {0}};

static struct request request_default(bool estimate)
{
    struct request request = {.options = build_options_default(), .estimate = estimate};
    request.options.threads = program_threads();
    request.options.seed = 1;
    return request;
}

/* ---- what all verbs share ---- */

unsigned program_threads(void)
{
    return env_cpu_count() < BUILD_THREADS_MAX ? env_cpu_count() : BUILD_THREADS_MAX;
}

static bool watch_stopped(void *context)
{
    (void)context;
    return tool_interrupted();
}

static void watch_phase(void *context, const char *phase, uint64_t total, const char *unit)
{
    tool_progress_phase(context, phase, total, unit);
}

static void watch_advance(void *context, uint64_t done)
{
    tool_progress_update(context, done);
}

static void watch_expect(void *context, const struct build_phase *phases, unsigned count)
{
    const char *names[BUILD_PHASES_MAX];
    double seconds[BUILD_PHASES_MAX];
    bool waits[BUILD_PHASES_MAX];
    for (unsigned i = 0; i < count; i++) {
        names[i] = phases[i].name;
        seconds[i] = phases[i].seconds;
        waits[i] = phases[i].waits;
    }
    tool_progress_expect(context, names, seconds, waits, count);
}

static void watch_note(void *context, const char *text)
{
    (void)context;
    fprintf(stderr, PROGRAM ": %s\n", text);
}

struct build_watch program_watch(struct tool_progress *progress)
{
    return (struct build_watch){.stopped = watch_stopped,
                                .phase = watch_phase,
                                .advance = watch_advance,
                                .expect = tool_progress_shows(progress) ? watch_expect : NULL,
                                .note = watch_note,
                                .context = progress};
}

/* ---- build ---- */

/* As a shell would read it back. */
static void print_quoted(const char *word)
{
    if (word[0] && strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-_=./,:+@%") == strlen(word)) {
        fprintf(stderr, " %s", word);
        return;
    }
    fputs(" '", stderr);
    for (; *word; word++)
        fputs(*word == '\'' ? "'\\''" : (char[]){*word, 0}, stderr);
    fputc('\'', stderr);
}

static void print_resume_line(int argc, char **argv, bool resumed)
{
    fprintf(stderr, PROGRAM ": go on with: %s", program_invocation_name);
    for (int i = 0; i < argc; i++)
        print_quoted(argv[i]);
    fputs(resumed ? "\n" : " --resume\n", stderr);
}

static json_t *stages_json(const double seconds[BUILD_STAGES])
{
    json_t *stages = json_object();
    for (int stage = 0; stage < BUILD_STAGES; stage++)
        json_object_set_new(stages, build_stage_name(stage), json_real(seconds[stage]));
    return stages;
}

static json_t *measured_json(const uint64_t stage_ns[BUILD_STAGES])
{
    double seconds[BUILD_STAGES];
    for (int stage = 0; stage < BUILD_STAGES; stage++)
        seconds[stage] = 1e-9 * (double)stage_ns[stage];
    return stages_json(seconds);
}

static json_t *estimate_json(const struct build_estimate *estimate)
{
    return json_pack(
        "{s:I s:i s:s s:i s:i s:i s:I s:I s:I s:f s:f s:o s:o}", "rows", (json_int_t)estimate->rows,
        "dim", (int)estimate->dim, "dtype", fathom_dtype_name(estimate->dtype), "degree",
        (int)estimate->degree, "build_list", (int)estimate->build_list, "parts",
        (int)estimate->parts, "peak_memory_bytes", (json_int_t)estimate->peak_bytes, "disk_bytes",
        (json_int_t)estimate->disk_bytes, "temporary_bytes", (json_int_t)estimate->temporary_bytes,
        "seconds", estimate->seconds, "slowness", estimate->slowness, "stage_seconds",
        stages_json(estimate->stage_seconds), "stage_cpu_seconds",
        stages_json(estimate->stage_cpu_seconds));
}

static json_t *report_json(const struct request *request, const struct build_report *report)
{
    json_t *zero_rows = json_array();
    for (uint64_t i = 0; i < report->zero_row_count; i++)
        json_array_append_new(zero_rows, json_integer((json_int_t)report->zero_rows[i]));
    json_t *predicted = report->predicted.rows ? estimate_json(&report->predicted) : json_null();
    double seconds = report->total_ns * 1e-9;
    char generation[17];
    snprintf(generation, sizeof generation, "%016" PRIx64, report->generation);
    return json_pack(
        "{s:I s:i s:s s:f s:f s:o s:o s:I s:I s:I s:I s:I s:i s:i s:s s:i s:i s:i s:s s:o s:o s:o}",
        "rows", (json_int_t)report->rows, "dim", (int)report->dim, "metric",
        fathom_metric_name(request->options.metric), "seconds", seconds, "rows_per_second",
        (double)report->rows / seconds, "stage_seconds", measured_json(report->stage_ns),
        "stage_cpu_seconds", measured_json(report->stage_cpu_ns), "peak_memory_bytes",
        (json_int_t)report->peak_bytes, "temporary_bytes", (json_int_t)report->temporary_bytes,
        "index_bytes", (json_int_t)report->index_bytes, "raw_bytes", (json_int_t)report->raw_bytes,
        "list_bytes", (json_int_t)report->list_bytes, "cells", (int)report->cells, "degree",
        (int)report->degree, "degree_reason", report->degree_reason, "build_list",
        (int)report->build_list, "parts", (int)report->parts, "threads",
        (int)request->options.threads, "generation", generation, "path",
        tool_json_text(request->options.out), "skipped_zero_rows", zero_rows, "predicted",
        predicted);
}

/* Nothing was predicted when all but the end was done by an earlier run. */
static void print_predicted(const struct build_report *report)
{
    const struct build_estimate *predicted = &report->predicted;
    char text[8][32];
    if (predicted->rows == 0)
        return;
    printf("predicted and actual: memory %s, %s; index %s, %s; work files %s, %s; time %s, %s\n",
           tool_format_bytes(predicted->peak_bytes, text[0]),
           tool_format_bytes(report->peak_bytes, text[1]),
           tool_format_bytes(predicted->disk_bytes, text[2]),
           tool_format_bytes(report->index_bytes, text[3]),
           tool_format_bytes(predicted->temporary_bytes, text[4]),
           tool_format_bytes(report->temporary_bytes, text[5]),
           tool_format_duration_ns((uint64_t)(predicted->seconds * 1e9), text[6]),
           tool_format_duration_ns(report->total_ns, text[7]));
}

static void print_zero_rows(const struct build_report *report)
{
    const uint64_t most = 20;
    if (report->zero_row_count == 0)
        return;
    fprintf(stderr, PROGRAM ": left out %" PRIu64 " zero row%s:", report->zero_row_count,
            tool_plural(report->zero_row_count));
    for (uint64_t i = 0; i < report->zero_row_count && i < most; i++)
        fprintf(stderr, " %" PRIu64, report->zero_rows[i]);
    fprintf(stderr, report->zero_row_count > most ? " ... (all of them with --json)\n" : "\n");
}

static int print_report(const struct request *request, const struct build_report *report)
{
    char seconds[32], peak[32], size[32];
    print_zero_rows(report);
    if (request->json)
        return tool_print_json(report_json(request, report));
    printf("%" PRIu64 " row%s in %s (%.0f rows/s), peak memory %s, index %s, R %" PRIu32
           ", L %" PRIu32 ": %s\n",
           report->rows, tool_plural(report->rows),
           tool_format_duration_ns(report->total_ns, seconds),
           report->rows / (report->total_ns * 1e-9), tool_format_bytes(report->peak_bytes, peak),
           tool_format_bytes(report->index_bytes, size), report->degree, report->build_list,
           request->options.out);
    print_predicted(report);
    return TOOL_EXIT_OK;
}

static int verb_build(int argc, char **argv)
{
    static const struct argp argp = {
        .options = build_options,
        .children = children,
        .parser = parse,
        .doc = "Build an index directory from a file of vectors."
               "\v"
               "The index that DIR held before stays in use until the new one is written, read "
               "back and verified.\n\n"
               "Example:\n"
               "  fathom-build build --input base.npy --metric cos --out base.fathom\n"};
    struct request request = request_default(false);
    struct build_report report;
    struct fathom_error err = {0};
    int code = tool_parse(&argp, argc, argv, &request);
    if (code != 0)
        return code;
    if (settle_budget(&request, &err) != 0)
        return tool_fail(PROGRAM, &err);
    tool_catch_signals();
    struct tool_progress *progress = tool_progress_create(request.progress);
    request.options.watch = program_watch(progress);
    int status = build_run(&request.options, &report, &err);
    tool_progress_finish(progress);
    tool_progress_destroy(progress);
    if (status != 0) {
        code = tool_fail(PROGRAM, &err);
        if (code == TOOL_EXIT_INTERRUPTED)
            print_resume_line(argc, argv, request.options.resume);
        return code;
    }
    code = print_report(&request, &report);
    build_report_fini(&report);
    return code;
}

/* ---- estimate ---- */

static int print_estimate(const struct request *request, const struct build_estimate *estimate)
{
    char peak[32], disk[32], temporary[32], seconds[32];
    if (request->json)
        return tool_print_json(estimate_json(estimate));
    printf("%" PRIu64 " row%s x %" PRIu32 " %s: R %" PRIu32
           ", peak memory %s, index %s, work files %s, about %s\n",
           estimate->rows, tool_plural(estimate->rows), estimate->dim,
           fathom_dtype_name(estimate->dtype), estimate->degree,
           tool_format_bytes(estimate->peak_bytes, peak),
           tool_format_bytes(estimate->disk_bytes, disk),
           tool_format_bytes(estimate->temporary_bytes, temporary),
           tool_format_duration_ns((uint64_t)(estimate->seconds * 1e9), seconds));
    return TOOL_EXIT_OK;
}

static int verb_estimate(int argc, char **argv)
{
    static const struct argp argp = {
        .options = estimate_options,
        .children = children,
        .parser = parse,
        .doc =
            "Predict memory, disk and time of a build from the header of its input and a sample of "
            "its rows, or from their number and shape."
            "\v"
            "Examples:\n"
            "  fathom-build estimate --input base.npy --metric cos\n"
            "  fathom-build estimate --count 10000000 --dim 768 --type f32\n"};
    struct request request = request_default(true);
    struct fathom_error err = {0};
    int code = tool_parse(&argp, argc, argv, &request);
    if (code != 0)
        return code;
    if (settle_budget(&request, &err) != 0)
        return tool_fail(PROGRAM, &err);
    struct build_estimate estimate = {
        .rows = request.count, .dim = request.dim, .dtype = request.dtype};
    if (build_predict(&request.options, &estimate, &err) != 0)
        return tool_fail(PROGRAM, &err);
    return print_estimate(&request, &estimate);
}

/* Larger pieces of memory go back to the OS when they are freed, so that one stage's do not count
 * against the memory budget of the next. (The default is raised by every large piece that is
 * freed.) */
#define GIVEN_BACK_BYTES (1 << 20)

int main(int argc, char **argv)
{
    blas_start(argv);
    mallopt(M_MMAP_THRESHOLD, GIVEN_BACK_BYTES);
    static const struct tool_verb verbs[] = {
        {"build", "build an index directory from a file of vectors", verb_build},
        {"estimate", "predict memory, disk and time of a build", verb_estimate},
        {"points", "measure an index's operating points anew, on given queries", verb_points},
        {0},
    };
    return tool_main(argc, argv, "Builds fathom indexes.", verbs);
}
