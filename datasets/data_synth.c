/* fathom-data synth: draws vectors (synth.h) pass by pass and writes them in order. */
#include "data_verbs.h"

#include <errno.h>
#include <string.h>

#include "env.h"
#include "error.h"
#include "mem.h"
#include "synth.h"
#include "vector_writer.h"
#include "vectors.h"

#define PROGRAM    "fathom-data synth"
#define ROWS_MAX   (1ull << 40)
#define PASS_BYTES (16u << 20) /* rows drawn by all threads before they are written */

struct synth_request {
    struct data_common common;
    uint64_t count, queries, seed;
    uint32_t dim, intrinsic;
    const char *out, *query_out;
};

static const struct argp_option options[] = {
    {"count", 'n', "N", 0, "Rows of the base (required)", 0},
    {"dim", 'd', "D", 0, "Dimension of the vectors (required)", 0},
    {"intrinsic", 'm', "M", 0, "Dimension of the space that they are drawn in (default: 24)", 0},
    {"seed", 's', "S", 0, "Seed; the same seed gives the same bytes everywhere (default: 1)", 0},
    {"out", 'o', "FILE", 0,
     "The base: .fbin .fvecs .npy (f32), .f16bin, .u8bin, .i8bin or .bvecs (required)", 0},
    {"queries", 'q', "Q", 0, "Queries, drawn apart from the base", 0},
    {"query-out", 'Q', "FILE", 0, "The queries", 0},
    {0},
};

static const char doc[] =
    "Draw synthetic vectors: 1,000 Gaussian centres in M dimensions, points round them, bent into "
    "D dimensions "
    "by a random two-layer network."
    "\v"
    "x = (tanh(z W1 + b) W2 + noise) * 100. For u8 and i8, x / 2 is rounded and clamped (u8: plus "
    "128).\n\n"
    "Examples:\n"
    "  fathom-data synth --count 1000000 --dim 128 --intrinsic 24 --seed 1 \\\n"
    "      --out base.fbin --queries 2000 --query-out query.fbin\n"
    "  fathom-data synth --count 10000 --dim 32 --out small.u8bin\n";

static void check_request(struct argp_state *state, const struct synth_request *request)
{
    data_require(state, request->count, "count");
    data_require(state, request->dim, "dim");
    data_require(state, request->out, "out");
    if (!request->queries != !request->query_out)
        argp_error(state, "--queries and --query-out need each other");
    if (request->query_out && strcmp(request->out, request->query_out) == 0)
        argp_error(state, "--out and --query-out are the same file; the queries need their own");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct synth_request *request = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &request->common;
        break;
    case 'n':
        request->count = tool_arg_u64(state, "count", arg, 1, ROWS_MAX);
        break;
    case 'd':
        request->dim = (uint32_t)tool_arg_u64(state, "dim", arg, 1, FATHOM_DIM_MAX);
        break;
    case 'm':
        request->intrinsic =
            (uint32_t)tool_arg_u64(state, "intrinsic", arg, 1, SYNTH_INTRINSIC_MAX);
        break;
    case 's':
        request->seed = tool_arg_u64(state, "seed", arg, 0, UINT64_MAX);
        break;
    case 'o':
        request->out = arg;
        break;
    case 'q':
        request->queries = tool_arg_u64(state, "queries", arg, 1, ROWS_MAX);
        break;
    case 'Q':
        request->query_out = arg;
        break;
    case ARGP_KEY_END:
        check_request(state, request);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_child children[] = {{&data_common_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
    .options = options, .parser = parse, .doc = doc, .children = children};

/* The type of a file's elements by its name; .npy can hold any and gets f32. */
static enum fathom_dtype dtype_of(const char *path)
{
    enum fathom_dtype dtype = vectors_path_dtype(path);
    return dtype ? dtype : FATHOM_F32;
}

static int draw_rows(struct synth *synth, enum synth_part part, uint64_t count, size_t row_bytes,
                     enum fathom_dtype dtype, struct vector_writer *writer,
                     struct tool_progress *progress, struct fathom_error *err)
{
    size_t pass = PASS_BYTES / (row_bytes * SYNTH_BLOCK);
    pass = (pass ? pass : 1) * SYNTH_BLOCK;
    void *rows = mem_alloc_array(pass, row_bytes);
    if (!rows)
        return error_set(err, -ENOMEM, "no memory for the rows of one pass");
    int rc = 0;
    for (uint64_t done = 0; !rc && done < count; done += pass) {
        size_t part_rows = count - done < pass ? count - done : pass;
        rc = synth_rows(synth, part, done, part_rows, dtype, rows, err);
        if (!rc)
            rc = vector_writer_write(writer, rows, part_rows, err);
        tool_progress_update(progress, done + part_rows);
        if (!rc && tool_interrupted())
            rc = error_set(err, FATHOM_EINTERRUPTED, "interrupted; nothing was written");
    }
    mem_free(rows);
    return rc;
}

static int write_part(struct synth *synth, enum synth_part part, const char *path, uint64_t count,
                      uint32_t dim, struct tool_progress *progress, struct fathom_error *err)
{
    enum fathom_dtype dtype = dtype_of(path);
    struct vector_writer *writer;
    int rc = vector_writer_open(&writer, env_os(), path, count, dim, dtype, err);
    if (rc)
        return rc;
    tool_progress_phase(progress, part == SYNTH_BASE ? "base" : "queries", count, "rows");
    rc = draw_rows(synth, part, count, dim * fathom_dtype_bytes(dtype), dtype, writer, progress,
                   err);
    if (!rc)
        rc = vector_writer_finish(writer, err);
    tool_progress_finish(progress);
    vector_writer_close(writer);
    return rc;
}

/* Both names are judged before any work is done. */
static int draw(const struct synth_request *request, struct tool_progress *progress,
                struct fathom_error *err)
{
    struct synth *synth = NULL;
    int rc = vector_writer_check(request->out, dtype_of(request->out), err);
    if (!rc && request->query_out)
        rc = vector_writer_check(request->query_out, dtype_of(request->query_out), err);
    if (!rc)
        rc = synth_create(&synth, request->seed, request->dim, request->intrinsic,
                          request->common.threads, err);
    if (!rc)
        rc = write_part(synth, SYNTH_BASE, request->out, request->count, request->dim, progress,
                        err);
    if (!rc && request->query_out)
        rc = write_part(synth, SYNTH_QUERIES, request->query_out, request->queries, request->dim,
                        progress, err);
    synth_destroy(synth);
    return rc;
}

static json_t *describe(const char *path, uint64_t rows, uint32_t dim)
{
    return json_pack("{s:o, s:I, s:I, s:s}", "path", tool_json_text(path), "rows", (json_int_t)rows,
                     "dim", (json_int_t)dim, "dtype", fathom_dtype_name(dtype_of(path)));
}

static int report(const struct synth_request *request, uint64_t elapsed_ns)
{
    if (request->common.json)
        return tool_print_json(json_pack(
            "{s:o, s:o, s:I, s:I, s:f}", "base",
            describe(request->out, request->count, request->dim), "queries",
            request->query_out ? describe(request->query_out, request->queries, request->dim)
                               : json_null(),
            "intrinsic", (json_int_t)request->intrinsic, "seed", (json_int_t)request->seed,
            "seconds", (double)elapsed_ns / 1e9));
    char count[32], took[32];
    printf("%s: %s x %u %s\n", request->out, data_format_count(request->count, count), request->dim,
           fathom_dtype_name(dtype_of(request->out)));
    if (request->query_out)
        printf("%s: %s x %u %s\n", request->query_out, data_format_count(request->queries, count),
               request->dim, fathom_dtype_name(dtype_of(request->query_out)));
    printf("drawn with seed %llu in %s\n", (unsigned long long)request->seed,
           tool_format_duration_ns(elapsed_ns, took));
    return TOOL_EXIT_OK;
}

int data_synth(int argc, char **argv)
{
    struct synth_request request = {.intrinsic = 24, .seed = 1};
    struct fathom_error err = {0};
    data_common_init(&request.common);
    int rc = tool_parse(&argp, argc, argv, &request);
    if (rc)
        return rc;
    tool_catch_signals();
    uint64_t started_ns = env_clock_ns(env_os());
    struct tool_progress *progress = tool_progress_create(request.common.progress);
    rc = draw(&request, progress, &err);
    tool_progress_destroy(progress);
    return rc ? tool_fail(PROGRAM, &err) : report(&request, env_clock_ns(env_os()) - started_ns);
}
