/* Codes with a trellis, made when they are loaded (codec/trellis.h): the full codes of some rows at
 * a time are read, band after band, made into shorter ones that are sharper than their prefix, and
 * handed on with factors to match. Keeps nothing; where codes go is codes.c's business. */
#include "recode.h"

#include <emmintrin.h>
#include <errno.h>
#include <string.h>

#include "error.h"
#include "le.h"
#include "mem.h"
#include "trellis.h"

#define PIECE_BYTES (1u << 18) /* of full codes at a time, at most */
#define PIECE_MOST  4096       /* rows */

/* Where a unit of the first row of a piece is, and how far it is to the next row's. */
struct unit_place {
    const uint8_t *at;
    uint32_t stride, unit;
};

struct recoder {
    struct fathom_index *index;
    const struct planes_model *full;
    const struct planes_level *level, *coarse, *top;
    const struct recode_target *target;
    struct trellis trellis;
    uint64_t factors_at;              /* of the top level in section factors */
    uint32_t piece;                   /* rows, a multiple of TRELLIS_ROWS */
    uint32_t groups;                  /* of the full codes */
    struct unit_place *places;        /* groups x PLANES_MAX */
    uint8_t *bands;                   /* a piece of each, one after the other */
    uint32_t *top_factors;            /* of a piece */
    uint8_t *cells, *indexes, *units; /* of TRELLIS_ROWS rows; units: codes in order of worth,
                                         a unit of all rows after the other */
    float *centroid, *rotated;        /* of a cell: c - o, and P times that */
    uint32_t cell;                    /* whose they are */
    uint8_t *row;                     /* of a centroid that is not kept as one */
};

/* Packed factors of the rows of a batch. */
struct batch {
    uint32_t factors[TRELLIS_ROWS], coarse[TRELLIS_ROWS];
};

/* ---- squares of bits ---- */

/* Bytes of one plane of a group, of all rows of a batch. */
typedef uint8_t batch_bytes[TRELLIS_ROWS];

/* Adds value where a bit is set. */
static inline void add_where(uint8_t *to, const uint8_t *bytes, uint8_t bit, uint8_t value)
{
    const __m128i wanted = _mm_set1_epi8((char)bit), added = _mm_set1_epi8((char)value);
    for (uint32_t row = 0; row < TRELLIS_ROWS; row += sizeof wanted) {
        __m128i *at = (__m128i *)(void *)(to + row);
        __m128i some = _mm_loadu_si128((const __m128i *)(const void *)(bytes + row));
        __m128i set = _mm_cmpeq_epi8(_mm_and_si128(some, wanted), wanted);
        _mm_storeu_si128(at, _mm_or_si128(_mm_loadu_si128(at), _mm_and_si128(set, added)));
    }
}

/* Cells of the rows from `first` of the piece on. */
static void fill_cells(struct recoder *r, uint32_t first, uint32_t count)
{
    batch_bytes planes[PLANES_MAX] = {{0}};
    for (uint32_t g = 0; g < r->groups; g++) {
        for (uint32_t p = 0; p < PLANES_MAX; p++) {
            const struct unit_place *place = &r->places[(size_t)g * PLANES_MAX + p];
            const uint8_t *at = place->at + (size_t)first * place->stride;
            for (uint32_t row = 0; row < count; row++)
                planes[p][row] = at[(size_t)row * place->stride];
        }
        for (uint32_t i = 0; i < PLANES_GROUP; i++) {
            uint8_t *cells = r->cells + trellis_at(&r->trellis, g * PLANES_GROUP + i, 0);
            memset(cells, 0, TRELLIS_ROWS);
            for (uint32_t p = 0; p < PLANES_MAX; p++)
                add_where(cells, planes[p], (uint8_t)(1u << i),
                          (uint8_t)(1u << (PLANES_MAX - 1 - p)));
        }
    }
}

/* The codes of a batch in order of worth: plane p of an index is its bit 6 - p. */
static void fill_units(struct recoder *r)
{
    for (uint32_t g = 0; g < r->level->groups[0]; g++) {
        const uint8_t *indexes[PLANES_GROUP];
        for (uint32_t i = 0; i < PLANES_GROUP; i++)
            indexes[i] = r->indexes + trellis_at(&r->trellis, g * PLANES_GROUP + i, 0);
        for (uint32_t p = 0; p < PLANES_MAX && r->level->groups[p] > g; p++) {
            uint32_t unit = r->places[(size_t)g * PLANES_MAX + p].unit;
            uint8_t *bytes = r->units + (size_t)unit * TRELLIS_ROWS;
            memset(bytes, 0, TRELLIS_ROWS);
            for (uint32_t i = 0; i < PLANES_GROUP; i++)
                add_where(bytes, indexes[i], (uint8_t)(1u << (PLANES_MAX - p)), (uint8_t)(1u << i));
        }
    }
}

/* ---- rows ---- */

static void turn_to_cell(struct recoder *r, uint32_t cell)
{
    uint32_t dim = r->full->dim;
    if (r->cell == cell)
        return;
    r->cell = cell;
    const uint8_t *centroid = r->index->centroids + (size_t)cell * dim;
    if (!r->index->centroids) {
        centroids_decode(&r->index->ranks.centroids, cell, r->row);
        centroid = r->row;
    }
    for (uint32_t d = 0; d < dim; d++)
        r->centroid[d] = (float)(centroid[d] - r->full->origin[d]);
    planes_rotate(r->full, r->centroid, r->rotated);
}

/* Packed factors of rows [first, end) of a batch, which are of one cell: a full code's scale is
 * that of the residual, |y| / |sigma| but for what six bits do not see; and its offset |r|^2 but
 * for what comes from the centroid. */
static void find_factors(struct recoder *r, uint32_t at, uint32_t first, uint32_t end,
                         struct batch *batch)
{
    struct planes_sums sums[TRELLIS_ROWS], coarse[TRELLIS_ROWS];
    float s[TRELLIS_ROWS], products[TRELLIS_ROWS];
    for (uint32_t row = first; row < end; row++)
        s[row] = planes_unpack_factors(r->top, r->top_factors[at + row]).scale;
    trellis_centroid_products(&r->trellis, r->cells, first, end, r->rotated, products);
    trellis_sums(&r->trellis, r->cells, r->indexes, first, end, s, r->rotated, sums);
    if (r->coarse)
        trellis_coarse_sums(&r->trellis, r->coarse, r->cells, r->indexes, first, end, s, r->rotated,
                            coarse);
    for (uint32_t row = first; row < end; row++) {
        double offset = planes_unpack_factors(r->top, r->top_factors[at + row]).offset,
               norm = offset - 2 * (double)s[row] * products[row];
        batch->factors[row] = planes_pack_factors(r->level, &sums[row], norm);
        batch->coarse[row] = r->coarse ? planes_pack_factors(r->coarse, &coarse[row], norm) : 0;
    }
}

static uint32_t cell_of(const struct recoder *r, uint64_t row)
{
    uint32_t cell = r->cell == UINT32_MAX ? 0 : r->cell;
    while (r->index->cell_first[cell + 1] <= row)
        cell++;
    return cell;
}

static void recode_batch(struct recoder *r, uint64_t first, uint32_t at, uint32_t count)
{
    struct batch batch;
    fill_cells(r, at, count);
    trellis_encode(&r->trellis, r->cells, r->indexes);
    for (uint32_t row = 0, end; row < count; row = end) {
        uint32_t cell = cell_of(r, first + at + row);
        uint64_t left = r->index->cell_first[cell + 1] - (first + at + row);
        end = left < count - row ? row + (uint32_t)left : count;
        turn_to_cell(r, cell);
        find_factors(r, at, row, end, &batch);
    }
    fill_units(r);
    r->target->take(r->target->context, first + at, count, r->units, batch.factors, batch.coarse);
}

static void recode_piece(struct recoder *r, uint64_t first, uint32_t count)
{
    for (uint32_t at = 0; at < count; at += TRELLIS_ROWS)
        recode_batch(r, first, at, count - at < TRELLIS_ROWS ? count - at : TRELLIS_ROWS);
}

static int read_piece(struct recoder *r, uint64_t first, uint32_t count, struct fathom_error *err)
{
    const struct superblock *super = &r->index->file.super;
    uint64_t rows = super->properties.rows;
    uint32_t order = r->full->order_count, bytes = r->top->factor_bytes;
    int status = 0;
    for (uint32_t band = 0; band < order && status == 0; band += FORMAT_BAND_BYTES) {
        uint32_t width = order - band < FORMAT_BAND_BYTES ? order - band : FORMAT_BAND_BYTES;
        status = index_file_read(&r->index->file, superblock_find(super, SECTION_CODES),
                                 band * rows + first * width, r->bands + (size_t)band * r->piece,
                                 (size_t)count * width, err);
    }
    if (status)
        return status;
    uint8_t *factors = (uint8_t *)r->top_factors;
    status = index_file_read(&r->index->file, superblock_find(super, SECTION_FACTORS),
                             r->factors_at + first * bytes, factors, (size_t)count * bytes, err);
    for (uint32_t i = count; i-- > 0 && bytes == 2;)
        r->top_factors[i] = le_load16(factors + 2 * (size_t)i);
    return status;
}

/* ---- the whole ---- */

static struct unit_place place_of_unit(const struct recoder *r, uint32_t unit)
{
    uint32_t band = unit / FORMAT_BAND_BYTES * FORMAT_BAND_BYTES,
             left = r->full->order_count - band,
             width = left < FORMAT_BAND_BYTES ? left : FORMAT_BAND_BYTES;
    return (struct unit_place){
        .at = r->bands + (size_t)band * r->piece + (unit - band), .stride = width, .unit = unit};
}

static int prepare(struct recoder *r)
{
    const struct planes_model *full = r->full;
    size_t lanes = (size_t)full->code_dim * TRELLIS_ROWS;
    uint64_t bytes = index_loading_bytes(r->index);
    uint32_t most = (uint32_t)(bytes < PIECE_BYTES ? bytes : PIECE_BYTES) / full->order_count;
    r->piece = (most > PIECE_MOST ? PIECE_MOST : most) / TRELLIS_ROWS * TRELLIS_ROWS;
    r->piece = r->piece < TRELLIS_ROWS ? TRELLIS_ROWS : r->piece;
    r->places = mem_alloc_array(r->groups, PLANES_MAX * sizeof *r->places);
    r->bands = mem_alloc_array(r->piece, full->order_count);
    r->top_factors = mem_alloc_array(r->piece, sizeof *r->top_factors);
    r->cells = mem_alloc(lanes);
    r->indexes = mem_alloc(lanes);
    r->units = mem_alloc_array(r->level->code_bytes, TRELLIS_ROWS);
    r->row = mem_alloc(full->dim);
    r->centroid = mem_alloc_array(full->dim, sizeof *r->centroid);
    r->rotated = mem_alloc_array(full->code_dim, sizeof *r->rotated);
    int status = trellis_init(&r->trellis, full, r->level);
    if (!r->places || !r->bands || !r->top_factors || !r->cells || !r->indexes || !r->units ||
        !r->row || !r->centroid || !r->rotated)
        return -ENOMEM;
    memset(r->cells, 0, lanes); /* rows beyond the last */
    for (uint32_t u = 0; u < full->order_count; u++)
        r->places[(size_t)(full->order[u] & 0xfff) * PLANES_MAX + (full->order[u] >> 12)] =
            place_of_unit(r, u);
    return status;
}

static void give_back(struct recoder *r)
{
    trellis_fini(&r->trellis);
    mem_free(r->places);
    mem_free(r->bands);
    mem_free(r->top_factors);
    mem_free(r->cells);
    mem_free(r->indexes);
    mem_free(r->units);
    mem_free(r->row);
    mem_free(r->centroid);
    mem_free(r->rotated);
}

bool recode_wanted(const struct planes_model *full, const struct plan *plan)
{
    return !plan->scan_reads && trellis_serves(full, &full->levels[plan->level]);
}

int recode_rows(struct fathom_index *index, const struct planes_model *full,
                const struct planes_level *coarse, const struct recode_target *target,
                struct fathom_error *err)
{
    uint64_t rows = index->properties.rows;
    uint32_t top = full->level_count - 1;
    struct recoder r = {.index = index,
                        .full = full,
                        .level = &full->levels[index->plan.level],
                        .coarse = coarse,
                        .top = &full->levels[top],
                        .target = target,
                        .factors_at = rows * planes_factor_bytes_below(full, top),
                        .groups = full->code_dim / PLANES_GROUP,
                        .cell = UINT32_MAX};
    int status = prepare(&r);
    if (status)
        error_set(err, status, "%s: no memory to load codes with", index->file.path);
    for (uint64_t first = 0; first < rows && status == 0; first += r.piece) {
        uint32_t count = rows - first < r.piece ? (uint32_t)(rows - first) : r.piece;
        status = read_piece(&r, first, count, err);
        if (status == 0)
            recode_piece(&r, first, count);
    }
    give_back(&r);
    return status;
}
