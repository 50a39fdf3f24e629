/* Reading. The file is streamed in pieces; each piece is checked and worked on in blocks of rows.
 * What needs all rows first (the largest norm, the range of values) comes from a first pass, which
 * keeps a sample of evenly spread rows; the second pass then encodes. u8 and i8 under l2 need no
 * first pass. */
#include "input.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <xxhash.h>

#include "error.h"
#include "metric.h"
#include "range8.h"
#include "stored.h"

#define PIECE_BYTES (4u << 20)
#define BLOCK_ROWS  256

/* One pass over the file. */
struct pass {
    struct input *input;
    const struct crew *crew;
    bool check, encode;
    bool skip_zero_rows;
    XXH3_state_t *hash;
    uint8_t *raw;       /* the piece */
    uint64_t first_row; /* of the piece, in the file */
    size_t rows;
    double *norms;              /* squared, of the piece's rows */
    uint64_t sum, summed_zeros; /* of the rows so far; and how many zero rows these have left out */
    float **scratch;            /* of each thread: a row of work space, then its 8-bit form */
    uint64_t zeros;             /* zero rows before the piece */
    /* Where 8-bit rows go: those of the build from first_place on. */
    struct rows8 *places;
    uint64_t first_place;
    const struct work *spill; /* NULL: they stay in memory */
    struct work_writer *writer;
    struct rows8 piece8; /* of the piece, on its way to the file */
    float *sample;       /* sample_count rows of work_dim, or NULL */
    uint32_t sample_count;
    struct crew_step half; /* of reading, where it takes two passes */
};

int input_open(struct input *input, const struct env *env, const char *path,
               enum fathom_metric metric, struct fathom_error *err)
{
    *input = (struct input){.metric = metric};
    int status = vector_file_open(&input->file, env, path, NULL, err);
    if (status != 0)
        return status;
    input->info = vector_file_info(input->file);
    input->work_dim = metric_work_dim(metric, input->info.dim);
    input->exact = metric == FATHOM_METRIC_L2 &&
                   (input->info.dtype == FATHOM_U8 || input->info.dtype == FATHOM_I8);
    if (input->info.rows < UINT32_MAX)
        return 0;
    status = error_set(err, FATHOM_ELIMIT, "%s: %" PRIu64 " rows; an index holds at most %" PRIu32,
                       path, input->info.rows, UINT32_MAX - 1);
    input_close(input);
    return status;
}

void input_forget(struct input *input)
{
    mem_free(input->zero_rows);
    mem_free(input->file_rows);
    mem_free(input->mean);
    rows8_fini(&input->rows);
    input->zero_rows = NULL;
    input->file_rows = NULL;
    input->mean = NULL;
    input->zero_count = 0;
    input->max_norm = 0;
}

void input_close(struct input *input)
{
    vector_file_close(input->file);
    input_forget(input);
    *input = (struct input){0};
}

/* ---- a block of rows of the piece ---- */

static const uint8_t *raw_row(const struct pass *pass, size_t i)
{
    const struct vector_info *info = &pass->input->info;
    return pass->raw + i * info->dim * vectors_scalar_bytes(info->dtype);
}

/* Where in the sample a row of the file goes, or UINT32_MAX: sample i is row i * rows /
 * sample_count. */
static uint32_t sample_place(const struct pass *pass, uint64_t row)
{
    uint64_t rows = pass->input->info.rows;
    uint64_t place = (row * pass->sample_count + rows - 1) / rows;
    return place < pass->sample_count && place * rows / pass->sample_count == row ? (uint32_t)place
                                                                                  : UINT32_MAX;
}

static int check_block(void *context, uint64_t block, unsigned worker)
{
    struct pass *pass = context;
    struct input *input = pass->input;
    const struct vector_info *info = &input->info;
    float *row = pass->scratch[worker];
    size_t begin = block * BLOCK_ROWS, end = begin + BLOCK_ROWS;
    if (end > pass->rows)
        end = pass->rows;
    if (vectors_check_finite(info->dtype, raw_row(pass, begin), 0, end - begin, info->dim, "",
                             NULL) != 0)
        return FATHOM_EINPUT;
    for (size_t i = begin; i < end; i++) {
        vectors_to_f32(info->dtype, raw_row(pass, i), info->dim, row);
        uint32_t place = pass->sample ? sample_place(pass, pass->first_row + i) : UINT32_MAX;
        if (place != UINT32_MAX)
            memcpy(pass->sample + (size_t)place * input->work_dim, row, info->dim * sizeof *row);
        pass->norms[i] = metric_work_row(FATHOM_METRIC_L2, info->dim, 0, row, row);
        if (pass->norms[i] > INPUT_NORM_SQ_MAX)
            return FATHOM_EINPUT;
    }
    return 0;
}

static int encode_block(void *context, uint64_t block, unsigned worker)
{
    struct pass *pass = context;
    struct input *input = pass->input;
    const struct vector_info *info = &input->info;
    float *row = pass->scratch[worker];
    uint8_t *row8 = (uint8_t *)(row + input->work_dim);
    size_t begin = block * BLOCK_ROWS, end = begin + BLOCK_ROWS;
    uint64_t zero = pass->zeros;
    for (size_t i = begin; i < end && i < pass->rows; i++) {
        uint64_t file_row = pass->first_row + i;
        while (zero < input->zero_count && input->zero_rows[zero] < file_row)
            zero++;
        if (zero < input->zero_count && input->zero_rows[zero] == file_row)
            continue;
        vectors_to_f32(info->dtype, raw_row(pass, i), info->dim, row);
        (void)metric_work_row(input->metric, info->dim, input->max_norm, row, row);
        row8_encode(&input->model, row, row8);
        rows8_set(pass->places, (uint32_t)(file_row - zero - pass->first_place), row8);
    }
    return 0;
}

/* ---- a piece ---- */

/* Finds what a block has refused, from the first row on, for the message. */
static int explain_refusal(const struct pass *pass, struct fathom_error *err)
{
    const struct vector_info *info = &pass->input->info;
    const char *path = vector_file_path(pass->input->file);
    int status = vectors_check_finite(info->dtype, pass->raw, pass->first_row, pass->rows,
                                      info->dim, path, err);
    for (size_t i = 0; i < pass->rows && status == 0; i++) {
        float *row = pass->scratch[0];
        vectors_to_f32(info->dtype, raw_row(pass, i), info->dim, row);
        if (metric_work_row(FATHOM_METRIC_L2, info->dim, 0, row, row) > INPUT_NORM_SQ_MAX)
            status = error_set(err, FATHOM_EINPUT,
                               "%s: row %" PRIu64
                               ": values so large that distances overflow a 32-bit float; scale "
                               "the vectors down",
                               path, pass->first_row + i);
    }
    return status;
}

static int add_zero_row(struct pass *pass, uint64_t row, struct fathom_error *err)
{
    struct input *input = pass->input;
    if (!pass->skip_zero_rows)
        return error_set(
            err, FATHOM_EINPUT,
            "%s: row %" PRIu64
            " is all zero, and cosine is undefined there; leave it out of the file, or "
            "let --zero-rows skip leave out all such rows",
            vector_file_path(input->file), row);
    uint64_t count = input->zero_count;
    if ((count & (count - 1)) == 0) { /* the room is the next power of two */
        uint64_t *grown = mem_alloc_array(count ? 2 * count : 1, sizeof *grown);
        if (!grown)
            return error_set(err, -ENOMEM, "%s: no memory for the list of zero rows",
                             vector_file_path(input->file));
        if (count)
            memcpy(grown, input->zero_rows, count * sizeof *grown);
        mem_free(input->zero_rows);
        input->zero_rows = grown;
    }
    input->zero_rows[input->zero_count++] = row;
    return 0;
}

static int check_piece(struct pass *pass, struct fathom_error *err)
{
    struct input *input = pass->input;
    int status = crew_run(pass->crew, crew_blocks(pass->rows, BLOCK_ROWS), check_block, pass);
    if (status == FATHOM_EINPUT)
        return explain_refusal(pass, err);
    if (status != 0)
        return error_set(err, status, "%s: %s", vector_file_path(input->file),
                         fathom_strerror(status));
    for (size_t i = 0; i < pass->rows && status == 0; i++) {
        if (input->metric == FATHOM_METRIC_IP)
            input->max_norm = fmax(input->max_norm, sqrt(pass->norms[i]));
        if (input->metric == FATHOM_METRIC_COS && pass->norms[i] == 0)
            status = add_zero_row(pass, pass->first_row + i, err);
    }
    return status;
}

/* From the piece to the file. */
static int spill_piece(struct pass *pass, struct fathom_error *err)
{
    const struct input *input = pass->input;
    uint64_t end = pass->first_row + pass->rows, zeros = pass->zeros;
    while (zeros < input->zero_count && input->zero_rows[zeros] < end)
        zeros++;
    uint64_t count = end - zeros - pass->first_place;
    int status = 0;
    for (uint64_t i = 0; i < count && status == 0; i++)
        status =
            work_append(pass->writer, rows8_at(&pass->piece8, (uint32_t)i), pass->piece8.dim, err);
    return status;
}

static int encode_piece(struct pass *pass, struct fathom_error *err)
{
    const struct input *input = pass->input;
    while (pass->zeros < input->zero_count && input->zero_rows[pass->zeros] < pass->first_row)
        pass->zeros++;
    pass->first_place = pass->spill ? pass->first_row - pass->zeros : 0;
    int status = crew_run(pass->crew, crew_blocks(pass->rows, BLOCK_ROWS), encode_block, pass);
    if (status != 0)
        return error_set(err, status, "%s: %s", vector_file_path(input->file),
                         fathom_strerror(status));
    return pass->spill ? spill_piece(pass, err) : 0;
}

uint64_t input_row_sum(const struct input *input, const void *row, uint64_t file_row)
{
    size_t bytes = input->info.dim * vectors_scalar_bytes(input->info.dtype);
    return XXH3_64bits(row, bytes) * (2 * file_row + 1);
}

static void sum_piece(struct pass *pass)
{
    const struct input *input = pass->input;
    for (size_t i = 0; i < pass->rows; i++) {
        uint64_t row = pass->first_row + i, zero = pass->summed_zeros;
        if (zero < input->zero_count && input->zero_rows[zero] == row)
            pass->summed_zeros++;
        else
            pass->sum += input_row_sum(input, raw_row(pass, i), row);
    }
}

/* ---- a pass ---- */

static void pass_fini(struct pass *pass)
{
    for (unsigned w = 0; w < pass->crew->threads && pass->scratch; w++)
        mem_free(pass->scratch[w]);
    mem_free(pass->scratch);
    mem_free(pass->raw);
    mem_free(pass->norms);
    mem_free(pass->sample);
    rows8_fini(&pass->piece8);
    work_abandon(pass->writer);
    XXH3_freeState(pass->hash);
}

static size_t piece_rows(const struct input *input)
{
    size_t rows = PIECE_BYTES / (input->info.dim * vectors_scalar_bytes(input->info.dtype));
    rows = rows > BLOCK_ROWS ? rows : BLOCK_ROWS;
    return rows < input->info.rows ? rows : input->info.rows;
}

static int pass_init(struct pass *pass)
{
    const struct input *input = pass->input;
    size_t rows = piece_rows(input);
    pass->raw = mem_alloc_array(rows, input->info.dim * vectors_scalar_bytes(input->info.dtype));
    pass->norms = mem_alloc_array(rows, sizeof *pass->norms);
    pass->hash = XXH3_createState();
    pass->scratch = mem_alloc_array(pass->crew->threads, sizeof *pass->scratch);
    bool whole = pass->raw && pass->norms && pass->hash && pass->scratch;
    for (unsigned w = 0; w < pass->crew->threads && whole; w++) {
        pass->scratch[w] = mem_alloc_array(input->work_dim, sizeof(float) + 1);
        whole = pass->scratch[w] != NULL;
    }
    return whole ? 0 : -ENOMEM;
}

static int run_pass(struct pass *pass, struct fathom_error *err)
{
    struct input *input = pass->input;
    uint64_t rows = input->info.rows;
    size_t most = piece_rows(input);
    int status = 0;
    XXH3_128bits_reset(pass->hash);
    pass->sum = pass->summed_zeros = 0;
    for (pass->first_row = 0; pass->first_row < rows && status == 0;
         pass->first_row += pass->rows) {
        pass->rows = rows - pass->first_row < most ? rows - pass->first_row : most;
        status = vector_file_read(input->file, pass->first_row, pass->rows, pass->raw, err);
        if (status == 0)
            XXH3_128bits_update(pass->hash, pass->raw,
                                (size_t)(raw_row(pass, pass->rows) - pass->raw));
        if (status == 0 && pass->check)
            status = check_piece(pass, err);
        if (status == 0)
            sum_piece(pass);
        if (status == 0 && pass->encode)
            status = encode_piece(pass, err);
        if (status == 0 && crew_stopped(pass->crew))
            status = error_set(err, FATHOM_EINTERRUPTED, "%s: %s", vector_file_path(input->file),
                               fathom_strerror(FATHOM_EINTERRUPTED));
        crew_advance(pass->crew, pass->first_row + pass->rows);
    }
    return status;
}

/* ---- the whole ---- */

/* Numbers the rows that are left when zero rows are left out. */
static int number_rows(struct input *input, struct fathom_error *err)
{
    const char *path = vector_file_path(input->file);
    uint64_t rows = input->info.rows, zero = 0;
    if (input->zero_count == 0)
        return 0;
    if (input->zero_count == rows)
        return error_set(err, FATHOM_EINPUT,
                         "%s: every row is zero; there is nothing to index under cos", path);
    input->file_rows = mem_alloc_array(rows - input->zero_count, sizeof *input->file_rows);
    if (!input->file_rows)
        return error_set(err, -ENOMEM, "%s: no memory for row numbers", path);
    for (uint64_t row = 0; row < rows; row++) {
        if (zero < input->zero_count && input->zero_rows[zero] == row)
            zero++;
        else
            input->file_rows[row - zero] = (uint32_t)row;
    }
    return 0;
}

/* The 8-bit form of the sample's range. */
static int choose_model(struct pass *pass, struct fathom_error *err)
{
    struct input *input = pass->input;
    uint32_t kept = 0, dim = input->work_dim;
    for (uint32_t i = 0; i < pass->sample_count; i++) {
        float *row = pass->sample + (size_t)i * dim;
        double norm = metric_work_row(input->metric, input->info.dim, input->max_norm, row, row);
        if (input->metric == FATHOM_METRIC_COS && norm == 0)
            continue;
        memmove(pass->sample + (size_t)kept++ * dim, row, dim * sizeof *row);
    }
    input->model.step =
        1.0f / 127; /* for unit vectors, should the sample hold nothing but zero rows */
    int status = kept ? range8_choose(pass->sample, kept, dim, input->mean, &input->model.step) : 0;
    return status == 0 ? 0
                       : error_set(err, status, "%s: %s", vector_file_path(input->file),
                                   fathom_strerror(status));
}

static int out_of_memory(const struct input *input, struct fathom_error *err)
{
    return error_set(err, -ENOMEM, "%s: no memory for %" PRIu64 " rows of %" PRIu32 " dimensions",
                     vector_file_path(input->file), input->info.rows, input->info.dim);
}

/* Makes the places that rows go to, in memory or a work file that is begun. */
static int begin_rows(struct pass *pass, struct fathom_error *err)
{
    struct input *input = pass->input;
    uint32_t rows = (uint32_t)(input->info.rows - input->zero_count), dim = input->work_dim;
    pass->encode = true;
    if (!pass->spill) {
        pass->places = &input->rows;
        return rows8_init(&input->rows, rows, dim) == 0 ? 0 : out_of_memory(input, err);
    }
    const struct stored_header header = {.rows = rows, .dim = dim};
    input->rows = (struct rows8){.count = rows, .dim = dim};
    pass->places = &pass->piece8;
    if (rows8_init(&pass->piece8, (uint32_t)piece_rows(input), dim) != 0)
        return out_of_memory(input, err);
    int status = work_create(&pass->writer, pass->spill, INPUT_RAW, err);
    return status == 0 ? work_append(pass->writer, &header, sizeof header, err) : status;
}

static int end_rows(struct pass *pass, struct fathom_error *err)
{
    struct work_writer *writer = pass->writer;
    pass->writer = NULL;
    return writer ? work_commit(writer, err) : 0;
}

static int read_exact(struct pass *pass, struct fathom_error *err)
{
    struct input *input = pass->input;
    input->model.step = 1;
    for (uint32_t d = 0; d < input->work_dim; d++)
        input->mean[d] = input->info.dtype == FATHOM_U8 ? 128 : 0;
    int status = begin_rows(pass, err);
    pass->check = true;
    crew_phase(pass->crew, "read", input->info.rows, "rows");
    return status == 0 ? run_pass(pass, err) : status;
}

/* First to check rows and find their range, then to make their 8-bit form. */
static int read_twice(struct pass *pass, struct fathom_error *err)
{
    struct input *input = pass->input;
    const struct crew *whole = pass->crew;
    uint64_t half = input->info.rows / 2;
    uint64_t room = input_sample_most(input->work_dim);
    pass->sample_count = (uint32_t)(input->info.rows < room ? input->info.rows : room);
    pass->sample =
        mem_alloc_array((size_t)pass->sample_count * input->work_dim, sizeof *pass->sample);
    if (!pass->sample)
        return out_of_memory(input, err);
    pass->check = true;
    crew_phase(whole, "read", input->info.rows, "rows");
    pass->crew = crew_step(&pass->half, whole, 0, half, input->info.rows);
    int status = run_pass(pass, err);
    XXH128_hash_t first = XXH3_128bits_digest(pass->hash);
    if (status == 0)
        status = number_rows(input, err);
    if (status == 0)
        status = choose_model(pass, err);
    mem_free(pass->sample);
    pass->sample = NULL;
    if (status != 0)
        return status;
    status = begin_rows(pass, err);
    pass->check = false;
    pass->crew = crew_step(&pass->half, whole, half, input->info.rows, input->info.rows);
    if (status == 0)
        status = run_pass(pass, err);
    if (status == 0 && !XXH128_isEqual(first, XXH3_128bits_digest(pass->hash)))
        status = error_set(err, FATHOM_EINPUT,
                           "%s: changed while it was read; build again when it is complete",
                           vector_file_path(input->file));
    return status;
}

static void keep_hash(struct input *input, const struct pass *pass)
{
    XXH128_hash_t hash = XXH3_128bits_digest(pass->hash);
    input->hash[0] = hash.low64;
    input->hash[1] = hash.high64;
    input->sum = pass->sum;
}

int input_read(struct input *input, const struct crew *crew, bool skip_zero_rows,
               const struct work *spill, struct fathom_error *err)
{
    struct pass pass = {
        .input = input, .crew = crew, .skip_zero_rows = skip_zero_rows, .spill = spill};
    input->mean = mem_alloc_array(input->work_dim, sizeof *input->mean);
    input->model = (struct row8_model){.dim = input->work_dim, .step = 1, .mean = input->mean};
    int status = input->mean && pass_init(&pass) == 0 ? 0 : out_of_memory(input, err);
    if (status == 0)
        status = input->exact ? read_exact(&pass, err) : read_twice(&pass, err);
    if (status == 0)
        status = end_rows(&pass, err);
    if (status == 0)
        keep_hash(input, &pass);
    pass_fini(&pass);
    return status;
}

int input_rehash(struct input *input, const struct crew *crew, struct fathom_error *err)
{
    struct pass pass = {.input = input, .crew = crew};
    crew_phase(crew, "read", input->info.rows, "rows");
    int status = pass_init(&pass) == 0 ? run_pass(&pass, err) : out_of_memory(input, err);
    if (status == 0)
        status = number_rows(input, err);
    if (status == 0)
        keep_hash(input, &pass);
    pass_fini(&pass);
    return status;
}
