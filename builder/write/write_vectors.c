/* What is made from full vectors: they are read again from the input, in the new order, piece by
 * piece. Of many rows this takes longer than a kill may cost, so each piece ends a page, and how
 * far it is may be noted behind it. */
#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "metric.h"
#include "writing.h"

#define VECTOR_BYTES (32u << 20) /* of vectors that are put in order at a time */
#define RECORD_BLOCK 256
#define GATHER_BLOCK 2048         /* rows of a piece */
#define RUN_BYTES    (256u << 10) /* of consecutive rows of the file read at once, at the most, */
#define RUN_ROWS     256          /* or so many */

struct wanted {
    uint64_t file_row;
    uint32_t place; /* in the piece */
};

/* What a thread has for itself. */
struct reorder_worker {
    float *row;   /* of work space */
    uint8_t *run; /* rows that lie next to each other in the file */
    uint64_t sum; /* input_row_sum of what it has gathered of the piece */
    struct fathom_error why;
};

/* Vectors of the input in the new order, piece by piece. */
struct reorder {
    struct write *write;
    size_t row_bytes;   /* of a vector in the file */
    uint32_t most;      /* rows of a piece, */
    uint32_t run_rows;  /* and of a run */
    struct crew reader; /* one thread, where the file is not to be read by several */
    struct wanted *wanted;
    uint8_t *piece;
    uint8_t *records; /* of a piece; NULL when vectors are written */
    struct reorder_worker *workers;
    uint32_t count; /* rows in the piece */
};

static int compare_wanted(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;
    return (x->file_row > y->file_row) - (x->file_row < y->file_row);
}

/* A run of rows that are wanted and neighbours in the file, to their places. */
static int gather_run(struct reorder *r, struct reorder_worker *worker, const struct wanted *wanted,
                      uint32_t rows)
{
    const struct input *input = r->write->product->input;
    uint8_t *to = rows == 1 ? r->piece + wanted->place * r->row_bytes : worker->run;
    int status = vector_file_read(input->file, wanted->file_row, rows, to, &worker->why);
    for (uint32_t j = 0; j < rows && status == 0; j++) {
        uint8_t *place = r->piece + wanted[j].place * r->row_bytes;
        if (rows > 1)
            memcpy(place, to + j * r->row_bytes, r->row_bytes);
        worker->sum += input_row_sum(input, place, wanted[j].file_row);
    }
    return status;
}

static int gather_block(void *context, uint64_t block, unsigned worker)
{
    struct reorder *r = context;
    uint32_t first = (uint32_t)block * GATHER_BLOCK,
             end = r->count - first < GATHER_BLOCK ? r->count : first + GATHER_BLOCK;
    int status = 0;
    for (uint32_t i = first, rows; i < end && status == 0; i += rows) {
        for (rows = 1; i + rows < end && rows < r->run_rows; rows++)
            if (r->wanted[i + rows].file_row != r->wanted[i].file_row + rows)
                break;
        status = crew_stopped(&r->reader) ? FATHOM_EINTERRUPTED
                                          : gather_run(r, &r->workers[worker], &r->wanted[i], rows);
    }
    return status;
}

/* What a thread has said of it. */
static int gather_failed(const struct reorder *r, int status, struct fathom_error *err)
{
    for (unsigned w = 0; w < r->write->product->crew->threads; w++)
        if (r->workers[w].why.code == status)
            return error_set(err, status, "%s", r->workers[w].why.msg);
    return error_set(err, status, "%s", fathom_strerror(status));
}

/* Reads the rows of the next piece, in the order of the file; rows that are neighbours there are
 * read together. */
static int gather(struct reorder *r, uint64_t first, struct fathom_error *err)
{
    const struct product *product = r->write->product;
    for (uint32_t i = 0; i < r->count; i++)
        r->wanted[i] =
            (struct wanted){input_file_row(product->input, product->cells->rows[first + i]), i};
    qsort(r->wanted, r->count, sizeof *r->wanted, compare_wanted);
    int status = crew_run(&r->reader, crew_blocks(r->count, GATHER_BLOCK), gather_block, r);
    return status == 0 ? 0 : gather_failed(r, status, err);
}

static int record_block(void *context, uint64_t block, unsigned worker)
{
    struct reorder *r = context;
    const struct input *input = r->write->product->input;
    float *row = r->workers[worker].row;
    uint32_t record_bytes = row8_record_bytes(input->work_dim, false);
    for (uint64_t i = block * RECORD_BLOCK; i < (block + 1) * RECORD_BLOCK && i < r->count; i++) {
        vectors_to_f32(input->info.dtype, r->piece + i * r->row_bytes, input->info.dim, row);
        (void)metric_work_row(input->metric, input->info.dim, input->max_norm, row, row);
        row8_encode_record(&input->model, row, r->records + i * record_bytes);
    }
    return 0;
}

static int append_piece(struct reorder *r, struct fathom_error *err)
{
    const struct product *product = r->write->product;
    if (!r->records)
        return index_writer_append(r->write->writer, r->piece, r->count * r->row_bytes, err);
    int status = crew_run(product->crew, crew_blocks(r->count, RECORD_BLOCK), record_block, r);
    if (status != 0)
        return error_set(err, status, "write: %s", fathom_strerror(status));
    size_t record_bytes = row8_record_bytes(product->input->work_dim, false);
    return index_writer_append(r->write->writer, r->records, r->count * record_bytes, err);
}

/* So many that a piece ends a page. stored_bytes: of a row in its section. */
static uint32_t rows_of_piece(const struct write *write, size_t row_bytes, uint32_t stored_bytes)
{
    uint32_t given = write->product->options->piece_rows, per_page = PAGE_PAYLOAD / stored_bytes;
    uint64_t most = given ? given : VECTOR_BYTES / row_bytes;
    if (most > per_page && per_page > 0)
        most -= most % per_page;
    else if (per_page > 0)
        most = per_page;
    return (uint32_t)(most < write->properties.rows ? most : write->properties.rows);
}

static int reorder_init(struct reorder *r, struct write *write, bool records, uint32_t stored_bytes)
{
    const struct product *product = write->product;
    uint32_t work_dim = product->input->work_dim;
    r->write = write;
    r->row_bytes = product->input->info.dim * vectors_scalar_bytes(product->input->info.dtype);
    r->most = rows_of_piece(write, r->row_bytes, stored_bytes);
    r->run_rows = (uint32_t)(RUN_BYTES / r->row_bytes);
    r->run_rows = r->run_rows < 1 ? 1 : r->run_rows > RUN_ROWS ? RUN_ROWS : r->run_rows;
    r->reader = *product->crew;
    if (!vector_file_is_shared(product->input->file))
        r->reader.threads = 1;
    r->wanted = mem_alloc_array(r->most, sizeof *r->wanted);
    r->piece = mem_alloc_array(r->most, r->row_bytes);
    r->workers = mem_alloc_array(product->crew->threads, sizeof *r->workers);
    bool whole = r->wanted && r->piece && r->workers;
    if (records && whole)
        whole = (r->records = mem_alloc_array(r->most, stored_bytes)) != NULL;
    for (unsigned w = 0; w < product->crew->threads && whole; w++) {
        r->workers[w].row = mem_alloc_array(work_dim, sizeof(float));
        r->workers[w].run = mem_alloc_array(r->run_rows, r->row_bytes);
        whole = r->workers[w].row && r->workers[w].run;
    }
    return whole ? 0 : -ENOMEM;
}

static void reorder_fini(struct reorder *r)
{
    for (unsigned w = 0; w < r->write->product->crew->threads && r->workers; w++) {
        mem_free(r->workers[w].row);
        mem_free(r->workers[w].run);
    }
    mem_free(r->workers);
    mem_free(r->wanted);
    mem_free(r->piece);
    mem_free(r->records);
}

static void add_sums(struct reorder *r)
{
    for (unsigned w = 0; w < r->write->product->crew->threads; w++) {
        r->write->sum += r->workers[w].sum;
        r->workers[w].sum = 0;
    }
}

/* Rows from `first` on. */
static int append_from(struct reorder *r, uint64_t first, struct fathom_error *err)
{
    const struct product *product = r->write->product;
    int status = 0;
    for (; first < r->write->properties.rows && status == 0; first += r->count) {
        uint64_t left = r->write->properties.rows - first;
        r->count = left < r->most ? (uint32_t)left : r->most;
        status = gather(r, first, err);
        if (status == 0)
            status = append_piece(r, err);
        add_sums(r);
        if (status == 0 && r->count < left) /* the end of the section is noted by itself */
            status = write_keep(r->write, err);
        crew_advance(product->crew, first + r->count);
    }
    return status;
}

/* The rows of the section are those that all else was made from. If not, what is written of them is
 * of no use to a later build either. */
static int check_sum(struct write *write, struct fathom_error *err)
{
    const struct product *product = write->product;
    if (write->sum == product->input->sum)
        return 0;
    if (product->checkpoint)
        work_remove(&product->checkpoint->work, CHECKPOINT_WRITING);
    write->saved = false;
    return error_set(err, FATHOM_EINPUT,
                     "%s: changed while the index was built; build again when it is complete",
                     vector_file_path(product->input->file));
}

int write_from_vectors(struct write *write, enum section_kind kind, struct fathom_error *err)
{
    const struct input *input = write->product->input;
    bool records = kind == SECTION_RECORDS;
    uint32_t stored_bytes = records ? row8_record_bytes(input->work_dim, false)
                                    : input->info.dim * vectors_scalar_bytes(input->info.dtype);
    uint64_t begun = index_writer_begun_bytes(write->writer, kind);
    struct reorder r = {0};
    int status = reorder_init(&r, write, records, stored_bytes);
    if (status != 0)
        (void)error_set(err, status, "write: no memory to put vectors in order");
    if (begun == 0)
        write->sum = 0;
    if (status == 0 && begun == 0)
        status = index_writer_begin(write->writer, kind, stored_bytes, err);
    if (status == 0)
        status = append_from(&r, begun / stored_bytes, err);
    reorder_fini(&r);
    if (status == 0)
        status = check_sum(write, err);
    return status == 0 ? index_writer_end(write->writer, err) : status;
}
