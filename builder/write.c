/* The sections in the order of their kinds. Only the full vectors are read again from the input, in the new order; all else is in
 * memory. */
#include "write.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "bits.h"
#include "error.h"
#include "le.h"

#define PIECE_BYTES  (1u << 20)
#define VECTOR_BYTES (32u << 20) /* of vectors that are put in order at a time */
#define RUN_ROWS     256         /* consecutive rows of the file read at once, at the most */

struct write {
    const struct product *product;
    struct index_writer *writer;
    struct properties properties;
};

/* A whole section from memory, in pieces, so that a stop is noticed between them. piece: a multiple of row_bytes. */
static int write_section(struct write *write, enum section_kind kind, const void *data, uint64_t bytes,
                         struct fathom_error *err)
{
    int status = index_writer_begin(write->writer, kind, 0, err);
    for (uint64_t at = 0; at < bytes && status == 0; at += PIECE_BYTES) {
        uint64_t left = bytes - at;
        if (crew_stopped(write->product->crew))
            return error_set(err, FATHOM_EINTERRUPTED, "%s", fathom_strerror(FATHOM_EINTERRUPTED));
        status = index_writer_append(write->writer, (const uint8_t *)data + at,
                                     left < PIECE_BYTES ? left : PIECE_BYTES, err);
    }
    return status == 0 ? index_writer_end(write->writer, err) : status;
}

static int write_model(struct write *write, struct fathom_error *err)
{
    struct model model = {.row8 = write->product->input->model, .planes = write->product->trained->planes};
    size_t bytes = model_encoded_bytes(&model);
    uint8_t *encoded = mem_alloc(bytes);
    if (!encoded)
        return error_set(err, -ENOMEM, "write: no memory for the model (%zu bytes)", bytes);
    model_encode(&model, encoded);
    int status = write_section(write, SECTION_MODEL, encoded, bytes, err);
    mem_free(encoded);
    return status;
}

/* count rows of the 8-bit form without their padding. */
static int append_rows8(struct write *write, const struct rows8 *rows, struct fathom_error *err)
{
    uint32_t most = PIECE_BYTES / rows->dim;
    uint8_t *piece = mem_alloc_array(most, rows->dim);
    int status = piece ? 0 : error_set(err, -ENOMEM, "write: no memory for a buffer");
    for (uint64_t first = 0; first < rows->count && status == 0; first += most) {
        uint32_t count = rows->count - first < most ? (uint32_t)(rows->count - first) : most;
        for (uint32_t i = 0; i < count; i++)
            memcpy(piece + (size_t)i * rows->dim, rows8_at(rows, (uint32_t)first + i), rows->dim);
        if (crew_stopped(write->product->crew))
            status = error_set(err, FATHOM_EINTERRUPTED, "%s", fathom_strerror(FATHOM_EINTERRUPTED));
        else
            status = index_writer_append(write->writer, piece, (size_t)count * rows->dim, err);
    }
    mem_free(piece);
    return status;
}

static int write_rows8(struct write *write, enum section_kind kind, const struct rows8 *rows, uint32_t row_bytes,
                       struct fathom_error *err)
{
    int status = index_writer_begin(write->writer, kind, row_bytes, err);
    if (status == 0)
        status = append_rows8(write, rows, err);
    return status == 0 ? index_writer_end(write->writer, err) : status;
}

static uint64_t id_of(const struct product *product, uint32_t row)
{
    uint64_t file_row = input_file_row(product->input, product->cells->rows[row]);
    return product->ids ? product->ids[file_row] : file_row;
}

static int write_ids(struct write *write, struct fathom_error *err)
{
    const struct properties *p = &write->properties;
    size_t bytes = bits_bytes(p->rows, p->id_bits);
    uint8_t *packed = mem_alloc(bytes + BITS_SLACK);
    if (!packed)
        return error_set(err, -ENOMEM, "write: no memory for ids");
    for (uint32_t row = 0; row < p->rows; row++)
        bits_store(packed, p->id_bits, row, id_of(write->product, row));
    int status = write_section(write, SECTION_IDS, packed, bytes, err);
    mem_free(packed);
    return status;
}

/* ---- full vectors ---- */

struct wanted {
    uint64_t file_row;
    uint32_t place; /* in the piece */
};

static int compare_wanted(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;
    return (x->file_row > y->file_row) - (x->file_row < y->file_row);
}

/* Reads the wanted rows, sorted by their place in the file, to their places in the piece; neighbours are read together. */
static int gather_vectors(struct write *write, const struct wanted *wanted, uint32_t count, size_t row_bytes,
                          uint8_t *run, uint8_t *piece, struct fathom_error *err)
{
    struct vector_file *file = write->product->input->file;
    for (uint32_t i = 0, rows; i < count; i += rows) {
        for (rows = 1; i + rows < count && rows < RUN_ROWS; rows++)
            if (wanted[i + rows].file_row != wanted[i].file_row + rows)
                break;
        if (i % 1024 == 0 && crew_stopped(write->product->crew))
            return error_set(err, FATHOM_EINTERRUPTED, "%s", fathom_strerror(FATHOM_EINTERRUPTED));
        int status = vector_file_read(file, wanted[i].file_row, rows, run, err);
        if (status != 0)
            return status;
        for (uint32_t j = 0; j < rows; j++)
            memcpy(piece + wanted[i + j].place * row_bytes, run + j * row_bytes, row_bytes);
    }
    return 0;
}

static int write_vectors(struct write *write, struct fathom_error *err)
{
    const struct product *product = write->product;
    size_t row_bytes = product->input->info.dim * vectors_scalar_bytes(product->input->info.dtype);
    uint64_t rows = write->properties.rows, most = VECTOR_BYTES / row_bytes;
    most = most < rows ? most : rows;
    struct wanted *wanted = mem_alloc_array(most, sizeof *wanted);
    uint8_t *piece = mem_alloc_array(most, row_bytes), *run = mem_alloc_array(RUN_ROWS, row_bytes);
    int status = wanted && piece && run ? index_writer_begin(write->writer, SECTION_VECTORS, (uint32_t)row_bytes, err)
                                        : error_set(err, -ENOMEM, "write: no memory to put vectors in order");
    for (uint64_t first = 0; first < rows && status == 0; first += most) {
        uint32_t count = (uint32_t)(rows - first < most ? rows - first : most);
        for (uint32_t i = 0; i < count; i++)
            wanted[i] = (struct wanted){input_file_row(product->input, product->cells->rows[first + i]), i};
        qsort(wanted, count, sizeof *wanted, compare_wanted);
        status = gather_vectors(write, wanted, count, row_bytes, run, piece, err);
        if (status == 0)
            status = index_writer_append(write->writer, piece, count * row_bytes, err);
        crew_advance(product->crew, first + count);
    }
    mem_free(wanted);
    mem_free(piece);
    mem_free(run);
    return status == 0 ? index_writer_end(write->writer, err) : status;
}

/* ---- the whole ---- */

static void fill_properties(struct write *write, uint64_t generation)
{
    const struct product *product = write->product;
    const struct input *input = product->input;
    uint64_t highest = 0;
    for (uint32_t row = 0; row < input->rows.count; row++) {
        uint64_t id = id_of(product, row);
        highest = id > highest ? id : highest;
    }
    write->properties = (struct properties){
        .generation = generation, .rows = input->rows.count, .dim = input->info.dim, .work_dim = input->work_dim,
        .dtype = input->info.dtype, .metric = input->metric, .cells = product->cells->count,
        .entry_count = product->graph->entry_count, .degree_max = product->graph->degree_max,
        .list_length_bytes = product->lists->length_bytes, .id_bits = bits_width(highest),
        .records_exact = input->exact, .external_ids = product->ids != NULL,
        .default_search_list = BUILD_DEFAULT_SEARCH_LIST, .max_norm = input->max_norm,
        .zero_rows = input->zero_count};
}

static int write_sections(struct write *write, const char *manifest, struct fathom_error *err)
{
    const struct product *product = write->product;
    const struct properties *p = &write->properties;
    const struct planes_model *planes = &product->trained->planes;
    int status = write_section(write, SECTION_MANIFEST, manifest, strlen(manifest), err);
    if (status == 0)
        status = write_model(write, err);
    if (status == 0)
        status = write_rows8(write, SECTION_CENTROIDS, &product->cells->centroids, 0, err);
    if (status == 0)
        status = write_section(write, SECTION_CELLS, product->cells->first, 4 * ((uint64_t)p->cells + 1), err);
    if (status == 0)
        status = write_section(write, SECTION_CODES, product->codes->codes, product->codes->bytes, err);
    if (status == 0)
        status = write_section(write, SECTION_FACTORS, product->codes->factors, 4 * p->rows * planes->level_count, err);
    if (status == 0)
        status = write_section(write, SECTION_LIST_LENGTHS, product->lists->lengths, p->rows * p->list_length_bytes, err);
    if (status == 0)
        status = write_section(write, SECTION_LISTS, product->lists->lists, product->lists->bytes, err);
    if (status == 0)
        status = write_ids(write, err);
    if (status == 0)
        status = write_section(write, SECTION_ENTRIES, product->graph->entries, 4 * (uint64_t)p->entry_count, err);
    if (status == 0)
        status = write_rows8(write, SECTION_RECORDS, &product->input->rows, p->work_dim, err);
    if (status == 0 && !p->records_exact)
        status = write_vectors(write, err);
    return status;
}

int write_index(const struct product *product, uint64_t *generation, struct fathom_error *err)
{
    struct write write = {.product = product};
    char *manifest;
    int status = manifest_make(product, &manifest, generation, err);
    if (status != 0)
        return status;
    fill_properties(&write, *generation);
    status = index_writer_create(&write.writer, product->options->env, product->options->out, &write.properties, err);
    if (status == 0)
        status = write_sections(&write, manifest, err);
    free(manifest);
    if (status != 0) {
        index_writer_abandon(write.writer);
        return status;
    }
    return index_writer_publish(write.writer, err);
}
