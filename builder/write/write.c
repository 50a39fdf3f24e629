/* The sections in the order of their kinds, from memory or from work files; what is made from full
 * vectors is in write_vectors.c. */
#include "writing.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "bits.h"
#include "centroids.h"
#include "error.h"

#define PIECE_BYTES (1u << 20)

int write_keep(struct write *write, struct fathom_error *err)
{
    struct checkpoint *checkpoint = write->product->checkpoint;
    struct index_progress progress;
    if (!checkpoint || !checkpoint_due(checkpoint, sizeof progress))
        return 0;
    int status = index_writer_progress(write->writer, &progress, err);
    if (status == 0)
        status = checkpoint_save_writing(checkpoint, &progress, write->sum, err);
    write->saved |= status == 0;
    return status;
}

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
        status = work_open(&file, &parts->checkpoint->work, checkpoint_name(name, "codes", p), err);
        if (status == 0)
            status = append_stored(write, file, before * rows, width * rows, err);
        work_close(file);
    }
    return status;
}

static int write_stored_codes(struct write *write, struct fathom_error *err)
{
    uint32_t bytes = write->product->trained->planes.order_count;
    int status = index_writer_begin(write->writer, SECTION_CODES, 0, err);
    for (uint32_t at = 0; at < bytes && status == 0; at += FORMAT_BAND_BYTES)
        status = append_band(write, at,
                             bytes - at < FORMAT_BAND_BYTES ? bytes - at : FORMAT_BAND_BYTES, err);
    return status == 0 ? index_writer_end(write->writer, err) : status;
}

static int write_stored_factors(struct write *write, struct fathom_error *err)
{
    const struct planes_model *planes = &write->product->trained->planes;
    int status = index_writer_begin(write->writer, SECTION_FACTORS, 0, err);
    for (uint32_t l = 0; l < planes->level_count && status == 0; l++)
        status = append_band(write, planes->order_count + planes_factor_bytes_below(planes, l),
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
        status =
            work_open(&from.file, &parts->checkpoint->work, checkpoint_name(name, "codes", p), err);
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

static int write_rows8(struct write *write, const struct rows8 *rows, struct fathom_error *err)
{
    int status = index_writer_begin(write->writer, SECTION_RECORDS, rows->dim, err);
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
    return write->product->parts
               ? write_stored_codes(write, err)
               : write_section(write, SECTION_CODES, codes->codes, codes->bytes, err);
}

static int write_factors(struct write *write, struct fathom_error *err)
{
    const struct encoded_codes *codes = write->product->codes;
    return write->product->parts
               ? write_stored_factors(write, err)
               : write_section(write, SECTION_FACTORS, codes->factors, codes->factor_bytes, err);
}

static int write_lists(struct write *write, struct fathom_error *err)
{
    const struct encoded_lists *lists = write->product->lists;
    uint64_t bytes = (uint64_t)lists->page_count * PAGE_PAYLOAD;
    return write->product->parts ? write_stored_lists(write, bytes, err)
                                 : write_section(write, SECTION_LISTS, lists->pages, bytes, err);
}

static int write_records(struct write *write, struct fathom_error *err)
{
    const struct product *product = write->product;
    if (!write->properties.records_exact)
        return write_from_vectors(write, SECTION_RECORDS, err);
    return product->parts ? write_stored_rows(write, err)
                          : write_rows8(write, &product->input->rows, err);
}

static int write_kind(struct write *write, enum section_kind kind, const char *manifest,
                      struct fathom_error *err)
{
    const struct product *product = write->product;
    const struct encoded_lists *lists = product->lists;
    const struct properties *p = &write->properties;
    switch (kind) {
    case SECTION_MANIFEST:
        return write_section(write, kind, manifest, strlen(manifest), err);
    case SECTION_MODEL:
        return write_model(write, err);
    case SECTION_CENTROIDS:
        return write_section(write, kind, product->centroids,
                             centroids_bytes(p->cells, p->work_dim), err);
    case SECTION_CELLS:
        return write_section(write, kind, product->cells->first, 4 * ((uint64_t)p->cells + 1), err);
    case SECTION_CODES:
        return write_codes(write, err);
    case SECTION_FACTORS:
        return write_factors(write, err);
    case SECTION_LIST_PAGES:
        return write_section(write, kind, lists->page_first, 4 * ((uint64_t)lists->page_count + 1),
                             err);
    case SECTION_LISTS:
        return write_lists(write, err);
    case SECTION_HEAT:
        return write_section(write, kind, lists->heat, p->rows, err);
    case SECTION_IDS:
        return write_ids(write, err);
    case SECTION_ENTRIES:
        return write_section(write, kind, product->graph->entries, 4 * (uint64_t)p->entry_count,
                             err);
    case SECTION_RECORDS:
        return write_records(write, err);
    case SECTION_VECTORS:
        return p->records_exact ? 0 : write_from_vectors(write, kind, err);
    case SECTION_SCAN:
        return write_scan(write, err);
    default:
        return 0; /* points come later */
    }
}

/* Those that an earlier build has not written. */
static int write_sections(struct write *write, const char *manifest, struct fathom_error *err)
{
    int status = 0;
    for (int kind = SECTION_MANIFEST; kind <= SECTION_SCAN && status == 0; kind++) {
        if (index_writer_has(write->writer, kind))
            continue;
        status = write_kind(write, kind, manifest, err);
        if (status == 0)
            status = write_keep(write, err);
    }
    return status;
}

/* ---- from start to end ---- */

/* The file that a killed build has left, as far as it was noted and is good; else a new one. */
static int open_writer(struct write *write, struct fathom_error *err)
{
    const struct product *product = write->product;
    const struct build_options *options = product->options;
    struct checkpoint *checkpoint = product->checkpoint;
    struct index_progress progress;
    int status = checkpoint ? checkpoint_load_writing(checkpoint, &progress, &write->sum, err) : 0;
    if (status < 0)
        return status;
    if (status > 0 && progress.super.properties.generation == write->properties.generation) {
        status = index_writer_go_on(&write->writer, options->env, options->out, &progress,
                                    &product->stop, err);
        write->saved = status == 0 || status == FATHOM_EINTERRUPTED;
        if (write->saved)
            return status;
        status = checkpoint_unusable(checkpoint, CHECKPOINT_WRITING, status, err);
        if (status != 0)
            return status;
    }
    return index_writer_create(&write->writer, options->env, options->out, &write->properties, err);
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
    status = open_writer(&write, err);
    if (status == 0)
        status = write_sections(&write, manifest, err);
    free(manifest);
    if (status == 0) {
        *out = write.writer;
        return 0;
    }
    if (write.saved)
        index_writer_suspend(write.writer);
    else
        index_writer_abandon(write.writer);
    return status;
}
