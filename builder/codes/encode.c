/* Encoding, piece by piece, each in blocks of rows. Each block writes places of its own. */
#include "encode.h"

#include <assert.h>
#include <errno.h>

#include "error.h"
#include "large.h"
#include "format.h"
#include "heat.h"
#include "le.h"
#include "lists.h"

#define CODE_BLOCK  512
#define LIST_BLOCK  1024
#define PAGE_BLOCK  16
#define PLACE_SHARE 20 /* of the lists' time, one such share puts them on pages */

/* ---- pieces ---- */

#define PIECE_VALUES (1u << 30) /* of rows, each of which counts for some more */
#define ROW_VALUES   128

bool encode_piece_at(struct encode_piece *piece, uint32_t number, uint32_t rows, uint32_t dim,
                     uint32_t piece_rows)
{
    uint64_t most = piece_rows ? piece_rows : PIECE_VALUES / (dim + ROW_VALUES);
    uint64_t first = number * most, left = first < rows ? rows - first : 0;
    *piece = (struct encode_piece){
        .number = number, .first = (uint32_t)first, .count = (uint32_t)(left < most ? left : most)};
    return left > 0;
}

static int load(const struct encode_keeper *keeper, const struct encode_piece *piece,
                struct fathom_error *err)
{
    return keeper ? keeper->load(keeper->context, piece, err) : 0;
}

static int save(const struct encode_keeper *keeper, const struct encode_piece *piece,
                struct fathom_error *err)
{
    return keeper ? keeper->save(keeper->context, piece, err) : 0;
}

static uint32_t piece_rows_of(const struct encode_keeper *keeper)
{
    return keeper ? keeper->piece_rows : 0;
}

/* ---- codes ---- */

struct code_pass {
    const struct crew *crew;
    const struct trained *trained;
    const struct rows8 *rows;
    const struct cells *cells;
    struct encoded_codes *out;
    struct encode_piece piece;
};

/* One code to its places in the bands: band b of all rows follows band b - 1 of all rows. */
static void scatter_code(const struct code_pass *pass, uint32_t row, const uint8_t *code)
{
    uint32_t bytes = pass->trained->planes.order_count;
    for (uint32_t first = 0; first < bytes; first += FORMAT_BAND_BYTES) {
        uint32_t width = bytes - first < FORMAT_BAND_BYTES ? bytes - first : FORMAT_BAND_BYTES;
        uint64_t band = (uint64_t)first * pass->rows->count;
        memcpy(pass->out->codes + band + (uint64_t)row * width, code + first, width);
    }
}

/* Levels are nested, so each follows from the one below by what it adds. */
static void encode_factors(const struct code_pass *pass, const struct residual *residual,
                           uint32_t row)
{
    const struct planes_model *planes = &pass->trained->planes;
    struct planes_sums sums = {0};
    uint8_t *level_factors = pass->out->factors;
    for (uint32_t l = 0; l < planes->level_count; l++) {
        const struct planes_level *level = &planes->levels[l];
        planes_sums_advance(planes, l ? level - 1 : NULL, level, residual->bits6, residual->y,
                            residual->rotated_centroid, &sums);
        uint32_t packed = planes_pack_factors(level, &sums, residual->norm_sq);
        if (level->factor_bytes == 2)
            le_store16(level_factors + 2 * (size_t)row, (uint16_t)packed);
        else
            le_store32(level_factors + 4 * (size_t)row, packed);
        level_factors += (size_t)level->factor_bytes * pass->rows->count;
    }
}

static void encode_row(const struct code_pass *pass, struct residual *residual, uint32_t row,
                       uint32_t cell, uint8_t *code)
{
    const struct planes_model *planes = &pass->trained->planes;
    residual_set_row(residual, pass->trained, rows8_at(pass->rows, row),
                     rows8_at(&pass->cells->centroids, cell), pass->rows->dim);
    planes_pack_code(planes, residual->bits6, code);
    scatter_code(pass, row, code);
    encode_factors(pass, residual, row);
}

static int code_block(void *context, uint64_t block, unsigned worker)
{
    (void)worker;
    struct code_pass *pass = context;
    const struct planes_model *planes = &pass->trained->planes;
    struct residual residual = {0};
    uint8_t *code = mem_alloc(planes->order_count);
    int status = code ? residual_init(&residual, pass->rows->dim, planes->code_dim) : -ENOMEM;
    uint64_t begin = pass->piece.first + block * CODE_BLOCK, end = begin + CODE_BLOCK;
    if (end > pass->piece.first + (uint64_t)pass->piece.count)
        end = pass->piece.first + (uint64_t)pass->piece.count;
    uint32_t cell = cell_of_row(pass->cells, (uint32_t)begin);
    for (uint64_t row = begin; row < end && status == 0; row++) {
        bool next = row == begin;
        for (; pass->cells->first[cell + 1] <= row; cell++)
            next = true;
        if (next)
            residual_set_cell(&residual, planes, rows8_at(&pass->cells->centroids, cell),
                              pass->rows->dim);
        encode_row(pass, &residual, (uint32_t)row, cell, code);
    }
    residual_fini(&residual);
    mem_free(code);
    crew_advance(pass->crew, end);
    return status;
}

int encoded_codes_init(struct encoded_codes *out, const struct planes_model *planes, uint32_t rows)
{
    *out = (struct encoded_codes){.bytes = (uint64_t)rows * planes->order_count};
    out->codes = large_alloc_array(out->bytes, 1);
    out->factor_bytes = (uint64_t)rows * planes_factor_bytes_below(planes, planes->level_count);
    out->factors = mem_alloc(out->factor_bytes);
    return out->codes && out->factors ? 0 : -ENOMEM;
}

/* 1 when an earlier build has made it. */
static int make_codes(struct code_pass *pass, const struct encode_keeper *keeper,
                      struct fathom_error *err)
{
    int status = load(keeper, &pass->piece, err);
    if (status != 0)
        return status;
    status = crew_run(pass->crew, crew_blocks(pass->piece.count, CODE_BLOCK), code_block, pass);
    if (status != 0)
        return error_set(err, status, "encode: %s", fathom_strerror(status));
    return save(keeper, &pass->piece, err);
}

int encode_codes(struct encoded_codes *out, const struct crew *crew,
                 const struct code_source *source, const struct encode_keeper *keeper,
                 struct fathom_error *err)
{
    const struct rows8 *rows = source->rows;
    struct code_pass pass = {
        .crew = crew, .trained = source->trained, .rows = rows, .cells = source->cells, .out = out};
    int status = encoded_codes_init(out, &source->trained->planes, rows->count);
    if (status != 0)
        (void)error_set(err, status, "encode: %s", fathom_strerror(status));
    for (uint32_t i = 0; status >= 0 && encode_piece_at(&pass.piece, i, rows->count, rows->dim,
                                                        piece_rows_of(keeper));
         i++)
        status = make_codes(&pass, keeper, err);
    if (status >= 0)
        return 0;
    encoded_codes_fini(out);
    return status;
}

void encoded_codes_fini(struct encoded_codes *codes)
{
    mem_free(codes->codes);
    mem_free(codes->factors);
    *codes = (struct encoded_codes){0};
}

/* ---- lists ---- */

struct list_pass {
    const struct crew *crew;
    const struct list_slots *slots;
    struct encoded_lists *out;
    struct encode_piece piece;
};

/* Neighbours take 5.2 bytes for each of R places, an encoded list 4.4. */
static void encode_slot(const struct list_slots *slots, uint32_t row)
{
    uint32_t neighbours[LISTS_DEGREE_MAX];
    const uint32_t *list = graph_list(slots->graph, row);
    uint32_t degree = list[0];
    assert(list_bytes_max(degree) <= slots->graph->stride * sizeof *list);
    memcpy(neighbours, list + 1, degree * sizeof *list);
    slots->lengths[row] =
        (uint16_t)list_encode(row, neighbours, degree, slots->graph->rows, list_slot(slots, row));
}

static int list_block(void *context, uint64_t block, unsigned worker)
{
    (void)worker;
    struct list_pass *pass = context;
    uint64_t begin = pass->piece.first + block * LIST_BLOCK, end = begin + LIST_BLOCK;
    if (end > pass->piece.first + (uint64_t)pass->piece.count)
        end = pass->piece.first + (uint64_t)pass->piece.count;
    for (uint64_t row = begin; row < end; row++)
        encode_slot(pass->slots, (uint32_t)row);
    crew_advance(pass->crew, end);
    return 0;
}

static int page_block(void *context, uint64_t block, unsigned worker)
{
    (void)worker;
    struct list_pass *pass = context;
    const struct encoded_lists *out = pass->out;
    const uint16_t *lengths = pass->slots->lengths;
    for (uint64_t page = block * PAGE_BLOCK; page < (block + 1) * PAGE_BLOCK; page++) {
        if (page >= out->page_count)
            break;
        uint32_t first = out->page_first[page], count = out->page_first[page + 1] - first;
        uint8_t *at = list_page_begin(out->pages + page * PAGE_PAYLOAD, lengths + first, count,
                                      out->length_bytes);
        for (uint32_t row = first; row < first + count; row++) {
            memcpy(at, list_slot(pass->slots, row), lengths[row]);
            at += lengths[row];
        }
    }
    crew_advance(pass->crew, block * PAGE_BLOCK);
    return 0;
}

/* Which rows go to which page; first_row: NULL only counts. */
static uint32_t place_pages(const uint16_t *lengths, uint32_t rows, uint32_t length_bytes,
                            uint32_t *first_row)
{
    uint32_t pages = 0;
    for (uint32_t row = 0; row < rows; pages++) {
        if (first_row)
            first_row[pages] = row;
        row += list_page_fit(lengths + row, rows - row, length_bytes, PAGE_PAYLOAD);
    }
    if (first_row)
        first_row[pages] = rows;
    return pages;
}

int encode_place(struct encoded_lists *out, const struct crew *crew, const uint16_t *lengths,
                 const uint32_t *heat, uint32_t rows)
{
    uint16_t longest = 0;
    for (uint32_t row = 0; row < rows; row++) {
        out->bytes += lengths[row];
        longest = lengths[row] > longest ? lengths[row] : longest;
    }
    out->length_bytes = longest <= UINT8_MAX ? 1 : 2;
    out->page_count = place_pages(lengths, rows, out->length_bytes, NULL);
    out->page_first = mem_alloc_array((size_t)out->page_count + 1, sizeof *out->page_first);
    out->heat = mem_alloc(rows);
    if (!out->page_first || !out->heat)
        return -ENOMEM;
    (void)place_pages(lengths, rows, out->length_bytes, out->page_first);
    return heat_ranks(out->heat, crew, heat, lengths, rows, out->bytes);
}

/* 1 when an earlier build has made it. */
static int make_lists(struct list_pass *pass, const struct encode_keeper *keeper,
                      struct fathom_error *err)
{
    int status = load(keeper, &pass->piece, err);
    if (status != 0)
        return status;
    status = crew_run(pass->crew, crew_blocks(pass->piece.count, LIST_BLOCK), list_block, pass);
    if (status != 0)
        return error_set(err, status, "lists: %s", fathom_strerror(status));
    return save(keeper, &pass->piece, err);
}

/* From their slots to pages. */
static int place_lists(struct list_pass *pass, const uint32_t *heat, struct fathom_error *err)
{
    struct encoded_lists *out = pass->out;
    const struct list_slots *slots = pass->slots;
    uint32_t rows = slots->graph->rows;
    struct crew_step step;
    int status = encode_place(out, pass->crew, slots->lengths, heat, rows);
    if (status == 0 && !(out->pages = large_alloc_array(out->page_count, PAGE_PAYLOAD)))
        status = -ENOMEM;
    pass->crew =
        crew_step(&step, pass->crew, rows / PLACE_SHARE * (PLACE_SHARE - 1), rows, out->page_count);
    if (status == 0)
        status = crew_run(pass->crew, crew_blocks(out->page_count, PAGE_BLOCK), page_block, pass);
    return status == 0 ? 0 : error_set(err, status, "lists: %s", fathom_strerror(status));
}

int encode_lists(struct encoded_lists *out, const struct crew *crew, struct list_slots *slots,
                 const uint32_t *heat, const struct encode_keeper *keeper, struct fathom_error *err)
{
    struct graph *graph = slots->graph;
    struct list_pass pass = {.slots = slots, .out = out};
    struct crew_step step;
    *out = (struct encoded_lists){0};
    pass.crew =
        crew_step(&step, crew, 0, graph->rows / PLACE_SHARE * (PLACE_SHARE - 1), graph->rows);
    slots->lengths = mem_alloc_array(graph->rows, sizeof *slots->lengths);
    int status = slots->lengths ? 0 : error_set(err, -ENOMEM, "lists: no memory to encode them");
    for (uint32_t i = 0; status >= 0 && encode_piece_at(&pass.piece, i, graph->rows, graph->stride,
                                                        piece_rows_of(keeper));
         i++)
        status = make_lists(&pass, keeper, err);
    pass.crew = crew;
    if (status >= 0)
        status = place_lists(&pass, heat, err);
    mem_free(slots->lengths);
    mem_free(graph->lists); /* encoded now; the entries are still needed */
    slots->lengths = NULL;
    graph->lists = NULL;
    if (status != 0)
        encoded_lists_fini(out);
    return status;
}

void encoded_lists_fini(struct encoded_lists *lists)
{
    mem_free(lists->pages);
    mem_free(lists->page_first);
    mem_free(lists->heat);
    *lists = (struct encoded_lists){0};
}
