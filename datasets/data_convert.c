/* fathom-data convert: streams a vector file into another format, casting with checks. */
#include "data_verbs.h"

#include <errno.h>
#include <string.h>

#include "cast.h"
#include "env.h"
#include "error.h"
#include "mem.h"
#include "vector_writer.h"
#include "vectors.h"

#define PROGRAM    "fathom-data convert"
#define PASS_CELLS (1u << 20) /* elements in memory at a time */

struct convert_request {
    struct data_common common;
    const char *in, *out;
    enum fathom_dtype type; /* 0: what the names say */
    bool round;
};

static const struct argp_option options[] = {
    {"type", 't', "f32|f16|u8|i8", 0,
     "Element type of OUT (default: its extension's, or that of IN)", 0},
    {"round", 'r', NULL, 0,
     "Round to the nearest and clamp to the range, where a cast would be refused", 0},
    {0},
};

static const char doc[] = "Copy the vectors of IN to OUT; the extensions say the formats."
                          "\v"
                          "Formats: .fvecs .bvecs .ivecs .fbin .f16bin .i8bin .u8bin .npy; .hdf5 "
                          "is read only (FILE.hdf5::test "
                          "names a data set; the default is train). A value that the type of OUT "
                          "cannot hold is an error that names "
                          "its row and column. NaN and infinity are refused.\n\n"
                          "Examples:\n"
                          "  fathom-data convert sift.fvecs sift.u8bin\n"
                          "  fathom-data convert glove.hdf5::test query.npy --type f16\n"
                          "  fathom-data convert embeddings.npy bytes.i8bin --round\n";

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct convert_request *request = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &request->common;
        break;
    case 't':
        if (!vectors_dtype_parse(arg, &request->type))
            argp_error(state, "--type: '%s' is none of f32, f16, u8 and i8", arg);
        break;
    case 'r':
        request->round = true;
        break;
    case ARGP_KEY_ARG:
        if (state->arg_num >= 2)
            return ARGP_ERR_UNKNOWN;
        *(state->arg_num ? &request->out : &request->in) = arg;
        break;
    case ARGP_KEY_END:
        if (state->arg_num < 2)
            argp_error(state, "IN and OUT are needed");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_child children[] = {{&data_common_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
    .options = options, .parser = parse, .args_doc = "IN OUT", .doc = doc, .children = children};

struct conversion {
    const struct convert_request *request;
    struct vector_file *file;
    bool integers; /* the input holds ids */
    struct vector_info info;
    struct cast cast;
    struct vector_writer *writer;
    void *in, *out; /* a pass of values */
    struct tool_progress *progress;
};

/* Vectors, or else a table of ids; when it is neither, what is wrong with it as vectors. */
static int open_input(struct conversion *conversion, struct fathom_error *err)
{
    const char *path = conversion->request->in;
    struct fathom_error ignored;
    int rc = vector_file_open(&conversion->file, env_os(), path, NULL, err);
    if (rc == FATHOM_EINPUT &&
        !vector_file_open_integers(&conversion->file, env_os(), path, NULL, &ignored)) {
        conversion->integers = true;
        rc = 0;
    }
    if (!rc)
        conversion->info = vector_file_info(conversion->file);
    return rc;
}

static bool is_ivecs(const char *path)
{
    size_t length = strlen(path);
    return length > 6 && !strcmp(path + length - 6, ".ivecs");
}

static int open_output(struct conversion *conversion, struct fathom_error *err)
{
    const struct convert_request *request = conversion->request;
    const struct vector_info *info = &conversion->info;
    enum fathom_dtype type = request->type ? request->type : vectors_path_dtype(request->out);
    if (!type)
        type = conversion->integers ? FATHOM_F32 : info->dtype;
    conversion->cast = (struct cast){
        .type = (int)type, .round = request->round, .dim = info->dim, .path = request->in};
    if (is_ivecs(request->out) && !request->type) {
        conversion->cast.type = CAST_I32;
        return vector_writer_open_i32(&conversion->writer, env_os(), request->out, info->rows,
                                      info->dim, err);
    }
    return vector_writer_open(&conversion->writer, env_os(), request->out, info->rows, info->dim,
                              type, err);
}

static int convert_pass(struct conversion *conversion, uint64_t first, size_t rows,
                        struct fathom_error *err)
{
    int rc;
    if (conversion->integers) {
        rc = vector_file_read_i64(conversion->file, first, rows, conversion->in, err);
        if (!rc)
            rc = cast_i64(&conversion->cast, conversion->in, first, rows, conversion->out, err);
    } else {
        rc = vector_file_read_f32(conversion->file, first, rows, conversion->in, err);
        if (!rc)
            rc = vectors_check_finite(FATHOM_F32, conversion->in, first, rows, conversion->info.dim,
                                      conversion->request->in, err);
        if (!rc)
            rc = cast_f32(&conversion->cast, conversion->in, first, rows, conversion->out, err);
    }
    return rc ? rc : vector_writer_write(conversion->writer, conversion->out, rows, err);
}

static int convert_rows(struct conversion *conversion, struct fathom_error *err)
{
    size_t pass = PASS_CELLS / conversion->info.dim, in_bytes = conversion->integers ? 8 : 4;
    conversion->in = mem_alloc_array(pass * conversion->info.dim, in_bytes);
    conversion->out =
        mem_alloc_array(pass * conversion->info.dim, cast_bytes(conversion->cast.type));
    if (!conversion->in || !conversion->out)
        return error_set(err, -ENOMEM, "no memory for the rows of one pass");
    int rc = 0;
    tool_progress_phase(conversion->progress, "convert", conversion->info.rows, "rows");
    for (uint64_t row = 0; !rc && row < conversion->info.rows; row += pass) {
        uint64_t left = conversion->info.rows - row;
        rc = convert_pass(conversion, row, left < pass ? left : pass, err);
        tool_progress_update(conversion->progress, row + (left < pass ? left : pass));
        if (!rc && tool_interrupted())
            rc = error_set(err, FATHOM_EINTERRUPTED, "interrupted; nothing was written");
    }
    if (!rc)
        rc = vector_writer_finish(conversion->writer, err);
    tool_progress_finish(conversion->progress);
    return rc;
}

static int report(const struct conversion *conversion)
{
    const struct convert_request *request = conversion->request;
    const struct cast *cast = &conversion->cast;
    if (request->common.json)
        return tool_print_json(json_pack(
            "{s:o, s:o, s:I, s:I, s:s, s:I, s:I}", "in", tool_json_text(request->in), "out",
            tool_json_text(request->out), "rows", (json_int_t)conversion->info.rows, "dim",
            (json_int_t)conversion->info.dim, "dtype", cast_name(cast->type), "rounded",
            (json_int_t)cast->rounded, "clamped", (json_int_t)cast->clamped));
    char rows[32], rounded[32], clamped[32];
    printf("%s: %s x %u %s\n", request->out, data_format_count(conversion->info.rows, rows),
           conversion->info.dim, cast_name(cast->type));
    if (cast->rounded || cast->clamped)
        printf("%s values rounded, %s clamped to the range of %s\n",
               data_format_count(cast->rounded, rounded), data_format_count(cast->clamped, clamped),
               cast_name(cast->type));
    return TOOL_EXIT_OK;
}

int data_convert(int argc, char **argv)
{
    struct convert_request request = {0};
    struct conversion conversion = {.request = &request};
    struct fathom_error err = {0};
    data_common_init(&request.common);
    int rc = tool_parse(&argp, argc, argv, &request);
    if (rc)
        return rc;
    tool_catch_signals();
    conversion.progress = tool_progress_create(request.common.progress);
    rc = open_input(&conversion, &err);
    if (!rc)
        rc = open_output(&conversion, &err);
    if (!rc)
        rc = convert_rows(&conversion, &err);
    tool_progress_destroy(conversion.progress);
    vector_writer_close(conversion.writer);
    vector_file_close(conversion.file);
    mem_free(conversion.in);
    mem_free(conversion.out);
    return rc ? tool_fail(PROGRAM, &err) : report(&conversion);
}
