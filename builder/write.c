/* The sections in the order of their kinds. What is made from full vectors reads them again from
 * the input, in the new order; all else is in memory. */
#include "write.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "bits.h"
#include "error.h"
#include "metric.h"

#define PIECE_BYTES  (1u << 20)
#define VECTOR_BYTES (32u << 20) /* of vectors that are put in order at a time */
#define RECORD_BLOCK 256
#define RUN_ROWS     256 /* consecutive rows of the file read at once, at the most */

struct write {
    const struct product *product;
    struct index_writer *writer;
    struct properties properties;
};

/* A whole section from memory, in pieces, so that a stop is noticed between them. piece: a multiple
 * of row_bytes. */
static int write_section(struct write *write, enum section_kind kind, const void *data,
                         uint64_t bytes, struct fathom_error *err)
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

/* ---- from work files ---- */

/* Bytes [offset, offset + bytes) of a work file to the section that is open. */
static int append_stored(struct write *write, struct work_file *file, uint64_t offset,
                         uint64_t bytes, struct fathom_error *err)
{
    uint8_t *piece = mem_alloc(PIECE_BYTES);
    int status = piece ? 0 : error_set(err, -ENOMEM, "write: no memory for a buffer");
    for (uint64_t at = 0; at < bytes && status == 0; at += PIECE_BYTES) {
        uint64_t left = bytes - at, take = left < PIECE_BYTES ? left : PIECE_BYTES;
        status =
            crew_stopped(write->product->crew)
                ? error_set(err, FATHOM_EINTERRUPTED, "%s", fathom_strerror(FATHOM_EINTERRUPTED))
                : work_read(file, offset + at, piece, take, err);
        if (status == 0)
            status = index_writer_append(write->writer, piece, take, err);
    }
    mem_free(piece);
    return status;
}

/* One stretch of every row's code or factors: width bytes a row, behind before bytes a row. */
static int append_band(struct write *write, uint64_t before, uint64_t width,
                       struct fathom_error *err)
{
    struct parts *parts = write->product->parts;
    char name[WORK_NAME_MAX];
    int status = 0;
    for (uint32_t p = 0; p < parts->count && status == 0; p++) {
        uint64_t rows = parts->list[p].row_end - parts->list[p].row;
        struct work_file *file;
        if (rows == 0)
            continue;
        status = work_open(&file, &parts->checkpoint->work, parts_name(name, "codes", p), err);
        if (status == 0)
            status = append_stored(write, file, before * rows, width * rows, err);
        work_close(file);
    }
    return status;
}

static int write_stored_codes(struct write *write, struct fathom_error *err)
{
    const struct planes_model *planes = &write->product->trained->planes;
    uint32_t bytes = planes->order_count;
    int status = index_writer_begin(write->writer, SECTION_CODES, 0, err);
    for (uint32_t at = 0; at < bytes && status == 0; at += FORMAT_BAND_BYTES)
        status = append_band(write, at,
                             bytes - at < FORMAT_BAND_BYTES ? bytes - at : FORMAT_BAND_BYTES, err);
    if (status == 0)
        status = index_writer_end(write->writer, err);
    if (status == 0)
        status = index_writer_begin(write->writer, SECTION_FACTORS, 0, err);
    for (uint32_t l = 0; l < planes->level_count && status == 0; l++)
        status = append_band(write, bytes + planes_factor_bytes_below(planes, l),
                             planes->levels[l].factor_bytes, err);
    return status == 0 ? index_writer_end(write->writer, err) : status;
}

static int write_stored_lists(struct write *write, uint64_t bytes, struct fathom_error *err)
{
    struct work_file *file;
    int status = work_open(&file, &write->product->parts->checkpoint->work, "lists", err);
    if (status != 0)
        return status;
    status = index_writer_begin(write->writer, SECTION_LISTS, 0, err);
    if (status == 0)
        status = append_stored(write, file, 0, bytes, err);
    work_close(file);
    return status == 0 ? index_writer_end(write->writer, err) : status;
}

static int write_stored_rows(struct write *write, struct fathom_error *err)
{
    struct parts *parts = write->product->parts;
    struct stored_rows stored;
    int status = stored_rows_open(&stored, &parts->checkpoint->work, CHECKPOINT_ROWS, err);
    if (status == 0)
        status = index_writer_begin(write->writer, SECTION_RECORDS, stored.dim, err);
    uint64_t piece = PIECE_BYTES / parts->dim * parts->dim,
             bytes = (uint64_t)parts->rows * parts->dim;
    for (uint64_t at = 0; at < bytes && status == 0; at += piece)
        status = append_stored(write, stored.file, stored_rows_offset(&stored, 0) + at,
                               bytes - at < piece ? bytes - at : piece, err);
    stored_rows_close(&stored);
    return status == 0 ? index_writer_end(write->writer, err) : status;
}

/* ---- section scan ---- */

/* Codes and factors as they were encoded, of all rows or of a part: the bands, then the factors of
 * each level. */
struct encoded {
    const struct encoded_codes *codes; /* in memory; or in */
    struct work_file *file;
    uint64_t rows;
};

static int read_encoded(const struct encoded *from, uint64_t offset, uint8_t *out, uint64_t bytes,
                        struct fathom_error *err)
{
    if (from->file)
        return work_read(from->file, offset, out, bytes, err);
    memcpy(out,
           offset < from->codes->bytes ? from->codes->codes + offset
                                       : from->codes->factors + (offset - from->codes->bytes),
           bytes);
    return 0;
}

/* Of count rows: a band's bytes; codes in order of worth, code_bytes each with room for what a band
 * has beyond the level; the same plane after plane; factors. */
struct scan_piece {
    uint8_t *band, *codes, *planes, *factors;
    uint32_t code_bytes, count;
};

/* Puts width bytes of each of count codes, which lie together at offset, at byte `at`. */
static int place_bytes(const struct encoded *from, uint64_t offset, uint32_t width,
                       struct scan_piece *piece, uint32_t at, struct fathom_error *err)
{
    int status = read_encoded(from, offset, piece->band, (uint64_t)piece->count * width, err);
    for (uint32_t i = 0; i < piece->count && status == 0; i++)
        memcpy(piece->codes + (size_t)i * piece->code_bytes + at, piece->band + (size_t)i * width,
               width);
    return status;
}

static int append_scan_piece(struct write *write, const struct encoded *from,
                             struct scan_piece *piece, uint64_t first, struct fathom_error *err)
{
    const struct planes_model *planes = &write->product->trained->planes;
    const uint32_t number = format_scan_level(planes);
    const struct planes_level *level = &planes->levels[number];
    const uint64_t before = planes->order_count + planes_factor_bytes_below(planes, number);
    int status = 0;
    for (uint32_t at = 0; at < level->code_bytes && status == 0; at += FORMAT_BAND_BYTES) {
        uint32_t left = planes->order_count - at,
                 width = left < FORMAT_BAND_BYTES ? left : FORMAT_BAND_BYTES;
        status = place_bytes(from, at * from->rows + first * width, width, piece, at, err);
    }
    if (status == 0)
        status = read_encoded(from, before * from->rows + first * level->factor_bytes,
                              piece->factors, (uint64_t)piece->count * level->factor_bytes, err);
    if (status)
        return status;
    planes_repack(planes, level, piece->codes, piece->code_bytes, piece->planes, piece->count);
    return index_writer_append_parts(write->writer, piece->planes, piece->factors,
                                     level->factor_bytes, piece->count, err);
}

static int append_scan(struct write *write, const struct encoded *from, struct fathom_error *err)
{
    const struct planes_model *planes = &write->product->trained->planes;
    const struct planes_level *level = &planes->levels[format_scan_level(planes)];
    struct scan_piece piece = {.code_bytes = level->code_bytes + FORMAT_BAND_BYTES};
    uint32_t most = PIECE_BYTES / (2 * piece.code_bytes);
    piece.band = mem_alloc_array(most, FORMAT_BAND_BYTES);
    piece.codes = mem_alloc_array(most, piece.code_bytes);
    piece.planes = mem_alloc_array(most, level->code_bytes);
    piece.factors = mem_alloc_array(most, level->factor_bytes);
    int status = piece.band && piece.codes && piece.planes && piece.factors
                     ? 0
                     : error_set(err, -ENOMEM, "write: no memory for a buffer");
    for (uint64_t first = 0; first < from->rows && status == 0; first += piece.count) {
        piece.count = from->rows - first < most ? (uint32_t)(from->rows - first) : most;
        status =
            crew_stopped(write->product->crew)
                ? error_set(err, FATHOM_EINTERRUPTED, "%s", fathom_strerror(FATHOM_EINTERRUPTED))
                : append_scan_piece(write, from, &piece, first, err);
    }
    mem_free(piece.band);
    mem_free(piece.codes);
    mem_free(piece.planes);
    mem_free(piece.factors);
    return status;
}

static int append_stored_scan(struct write *write, struct fathom_error *err)
{
    struct parts *parts = write->product->parts;
    char name[WORK_NAME_MAX];
    int status = 0;
    for (uint32_t p = 0; p < parts->count && status == 0; p++) {
        struct encoded from = {.rows = parts->list[p].row_end - parts->list[p].row};
        if (from.rows == 0)
            continue;
        status = work_open(&from.file, &parts->checkpoint->work, parts_name(name, "codes", p), err);
        if (status == 0)
            status = append_scan(write, &from, err);
        work_close(from.file);
    }
    return status;
}

static int write_scan(struct write *write, struct fathom_error *err)
{
    const struct product *product = write->product;
    struct encoded from = {.codes = product->codes, .rows = write->properties.rows};
    int status = index_writer_begin(write->writer, SECTION_SCAN,
                                    format_scan_bytes(&product->trained->planes), err);
    if (status == 0)
        status = product->parts ? append_stored_scan(write, err) : append_scan(write, &from, err);
    return status == 0 ? index_writer_end(write->writer, err) : status;
}

static int write_model(struct write *write, struct fathom_error *err)
{
    struct model model = {.row8 = write->product->input->model,
                          .planes = write->product->trained->planes};
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
            status =
                error_set(err, FATHOM_EINTERRUPTED, "%s", fathom_strerror(FATHOM_EINTERRUPTED));
        else
            status = index_writer_append(write->writer, piece, (size_t)count * rows->dim, err);
    }
    mem_free(piece);
    return status;
}

static int write_rows8(struct write *write, enum section_kind kind, const struct rows8 *rows,
                       uint32_t row_bytes, struct fathom_error *err)
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

/* ---- what is made from the vectors themselves ---- */

struct wanted {
    uint64_t file_row;
    uint32_t place; /* in the piece */
};

/* Vectors of the input in the new order, piece by piece. */
struct reorder {
    struct write *write;
    size_t row_bytes; /* of a vector in the file */
    uint32_t most;    /* rows of a piece */
    struct wanted *wanted;
    uint8_t *run, *piece;
    uint8_t *records; /* of a piece; NULL when vectors are written */
    float **scratch;  /* of each thread: a row of work space */
    uint32_t count;   /* rows in the piece */
};

static int compare_wanted(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;
    return (x->file_row > y->file_row) - (x->file_row < y->file_row);
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
    for (uint32_t i = 0, rows; i < r->count; i += rows) {
        for (rows = 1; i + rows < r->count && rows < RUN_ROWS; rows++)
            if (r->wanted[i + rows].file_row != r->wanted[i].file_row + rows)
                break;
        if (crew_stopped(product->crew))
            return error_set(err, FATHOM_EINTERRUPTED, "%s", fathom_strerror(FATHOM_EINTERRUPTED));
        int status =
            vector_file_read(product->input->file, r->wanted[i].file_row, rows, r->run, err);
        if (status != 0)
            return status;
        for (uint32_t j = 0; j < rows; j++)
            memcpy(r->piece + r->wanted[i + j].place * r->row_bytes, r->run + j * r->row_bytes,
                   r->row_bytes);
    }
    return 0;
}

static int record_block(void *context, uint64_t block, unsigned worker)
{
    struct reorder *r = context;
    const struct input *input = r->write->product->input;
    float *row = r->scratch[worker];
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

static int reorder_init(struct reorder *r, struct write *write, bool records)
{
    const struct product *product = write->product;
    uint32_t work_dim = product->input->work_dim;
    r->write = write;
    r->row_bytes = product->input->info.dim * vectors_scalar_bytes(product->input->info.dtype);
    uint64_t most = VECTOR_BYTES / r->row_bytes;
    r->most = (uint32_t)(most < write->properties.rows ? most : write->properties.rows);
    r->wanted = mem_alloc_array(r->most, sizeof *r->wanted);
    r->piece = mem_alloc_array(r->most, r->row_bytes);
    r->run = mem_alloc_array(RUN_ROWS, r->row_bytes);
    r->scratch = mem_alloc_array(product->crew->threads, sizeof *r->scratch);
    bool whole = r->wanted && r->piece && r->run && r->scratch;
    if (records && whole)
        whole = (r->records = mem_alloc_array(r->most, row8_record_bytes(work_dim, false))) != NULL;
    for (unsigned w = 0; w < product->crew->threads && whole; w++)
        whole = (r->scratch[w] = mem_alloc_array(work_dim, sizeof(float))) != NULL;
    return whole ? 0 : -ENOMEM;
}

static void reorder_fini(struct reorder *r)
{
    for (unsigned w = 0; w < r->write->product->crew->threads && r->scratch; w++)
        mem_free(r->scratch[w]);
    mem_free(r->scratch);
    mem_free(r->wanted);
    mem_free(r->piece);
    mem_free(r->run);
    mem_free(r->records);
}

/* The vectors themselves, or the sharper 8-bit records that are made from them. */
static int write_from_vectors(struct write *write, enum section_kind kind, struct fathom_error *err)
{
    const struct product *product = write->product;
    bool records = kind == SECTION_RECORDS;
    struct reorder r = {0};
    int status = reorder_init(&r, write, records);
    if (status != 0)
        (void)error_set(err, status, "write: no memory to put vectors in order");
    uint32_t row_bytes =
        records ? row8_record_bytes(product->input->work_dim, false) : (uint32_t)r.row_bytes;
    if (status == 0)
        status = index_writer_begin(write->writer, kind, row_bytes, err);
    for (uint64_t first = 0; first < write->properties.rows && status == 0; first += r.count) {
        uint64_t left = write->properties.rows - first;
        r.count = left < r.most ? (uint32_t)left : r.most;
        status = gather(&r, first, err);
        if (status == 0)
            status = append_piece(&r, err);
        crew_advance(product->crew, first + r.count);
    }
    reorder_fini(&r);
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
    write->properties = (struct properties){.generation = generation,
                                            .rows = input->rows.count,
                                            .dim = input->info.dim,
                                            .work_dim = input->work_dim,
                                            .dtype = input->info.dtype,
                                            .metric = input->metric,
                                            .cells = product->cells->count,
                                            .entry_count = product->graph->entry_count,
                                            .degree_max = product->graph->degree_max,
                                            .list_length_bytes = product->lists->length_bytes,
                                            .list_bytes = product->lists->bytes,
                                            .id_bits = bits_width(highest),
                                            .records_exact = input->exact,
                                            .external_ids = product->ids != NULL,
                                            .default_search_list = BUILD_DEFAULT_SEARCH_LIST,
                                            .max_norm = input->max_norm,
                                            .zero_rows = input->zero_count};
}

static int write_codes(struct write *write, struct fathom_error *err)
{
    const struct encoded_codes *codes = write->product->codes;
    int status = write_section(write, SECTION_CODES, codes->codes, codes->bytes, err);
    return status == 0
               ? write_section(write, SECTION_FACTORS, codes->factors, codes->factor_bytes, err)
               : status;
}

static int write_lists(struct write *write, struct fathom_error *err)
{
    const struct encoded_lists *lists = write->product->lists;
    uint64_t bytes = (uint64_t)lists->page_count * PAGE_PAYLOAD;
    int status = write_section(write, SECTION_LIST_PAGES, lists->page_first,
                               4 * ((uint64_t)lists->page_count + 1), err);
    if (status == 0)
        status = write->product->parts
                     ? write_stored_lists(write, bytes, err)
                     : write_section(write, SECTION_LISTS, lists->pages, bytes, err);
    return status == 0
               ? write_section(write, SECTION_HEAT, lists->heat, write->properties.rows, err)
               : status;
}

static int write_rows(struct write *write, struct fathom_error *err)
{
    const struct product *product = write->product;
    const struct properties *p = &write->properties;
    if (p->records_exact)
        return product->parts
                   ? write_stored_rows(write, err)
                   : write_rows8(write, SECTION_RECORDS, &product->input->rows, p->work_dim, err);
    int status = write_from_vectors(write, SECTION_RECORDS, err);
    return status != 0 ? status : write_from_vectors(write, SECTION_VECTORS, err);
}

static int write_sections(struct write *write, const char *manifest, struct fathom_error *err)
{
    const struct product *product = write->product;
    const struct properties *p = &write->properties;
    int status = write_section(write, SECTION_MANIFEST, manifest, strlen(manifest), err);
    if (status == 0)
        status = write_model(write, err);
    if (status == 0)
        status = write_rows8(write, SECTION_CENTROIDS, &product->cells->centroids, 0, err);
    if (status == 0)
        status = write_section(write, SECTION_CELLS, product->cells->first,
                               4 * ((uint64_t)p->cells + 1), err);
    if (status == 0)
        status = product->parts ? write_stored_codes(write, err) : write_codes(write, err);
    if (status == 0)
        status = write_lists(write, err);
    if (status == 0)
        status = write_ids(write, err);
    if (status == 0)
        status = write_section(write, SECTION_ENTRIES, product->graph->entries,
                               4 * (uint64_t)p->entry_count, err);
    if (status == 0)
        status = write_rows(write, err);
    return status == 0 ? write_scan(write, err) : status;
}

int write_index(const struct product *product, struct index_writer **out, uint64_t *generation,
                struct fathom_error *err)
{
    struct write write = {.product = product};
    char *manifest;
    int status = manifest_make(product, &manifest, generation, err);
    if (status != 0)
        return status;
    fill_properties(&write, *generation);
    status = index_writer_create(&write.writer, product->options->env, product->options->out,
                                 &write.properties, err);
    if (status == 0)
        status = write_sections(&write, manifest, err);
    free(manifest);
    if (status == 0) {
        *out = write.writer;
        return 0;
    }
    index_writer_abandon(write.writer);
    return status;
}
