/* Which rows of an index, or which of the queries that were given, its operating points are
 * measured with (points_sample.h): several times as many are looked at, where there are, and put in
 * the order of how hard they are to find the neighbours of; those that are taken are evenly spaced
 * in that order. So a sample has as many hard rows as the index has, by more than luck, and stands
 * for a larger one (docs/adr/0046).
 *
 * Hard is a row whose nearest lie in cells that are not its nearest, the nearest being those in the
 * cells that are looked at. What is resident does not matter, nor do threads. */
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "mem.h"
#include "navigate.h"
#include "points_sample.h"

#define LOOKED_CELLS 256 /* of a row: as many as most searches scan */
#define LOOKED_NEAR  10  /* neighbours, as many as most ask for */
#define SCAN_ROWS    256

struct near_cell {
    uint32_t cell, rank; /* rank: how many are nearer */
};

/* What a row has found so far. */
struct found {
    uint32_t at; /* the first of its cells that has not been seen whole */
    struct {
        float distance;
        uint32_t rank; /* of its cell */
    } near[LOOKED_NEAR];
};

struct offered_row {
    uint32_t number; /* of the row; or the place of the query, */
    uint32_t itself; /* which is ROW_NONE here */
    struct row8_query query;
    struct near_cell *cells; /* in the order of the file */
    uint32_t cell_count;
    struct found *found;
    uint32_t hardness; /* the sum of the ranks of its nearest */
};

struct pick {
    const struct fathom_index *index;
    const struct sample_watch *watch;
    const struct points_offer *offer;
    struct offered_row *rows;
    uint32_t count;
    uint32_t looked_cells;   /* of each row, at the most */
    struct near_cell *cells; /* looked_cells of each row */
    struct found *found;     /* of each row */
    int8_t *weights;         /* of their queries */
    unsigned threads;
    struct kernel_score8 *scores; /* threads x SCAN_ROWS */
    atomic_int status;            /* of the first failure that was noticed */
};

/* ---- the nearest cells ---- */

static int compare_cells(const void *a, const void *b)
{
    const struct near_cell *x = a, *y = b;
    return (x->cell > y->cell) - (x->cell < y->cell);
}

/* The vector of one that is offered, to the reader's query. */
static int load_offered(const struct pick *pick, uint32_t i, struct offered_row *row,
                        struct points_reader *reader)
{
    const struct properties *p = &pick->index->properties;
    float *vector = reader->query.vector;
    row->number = i;
    row->itself = ROW_NONE;
    if (pick->offer->queries) {
        memcpy(vector, pick->offer->queries + (size_t)i * p->dim, p->dim * sizeof *vector);
        return 0;
    }
    row->number = (uint32_t)((2 * (uint64_t)i + 1) * p->rows / (2 * (uint64_t)pick->count));
    row->itself = row->number;
    return points_reader_load(reader, row->number, vector, NULL);
}

/* They come up to a bucket's width in the order of their distances, which is near enough. */
static int offer_row(const struct pick *pick, uint32_t i, struct points_reader *reader)
{
    const struct properties *p = &pick->index->properties;
    size_t weights_bytes = 2 * size_round_up(p->work_dim, MEM_ALIGN);
    struct offered_row *row = &pick->rows[i];
    *row = (struct offered_row){.cells = pick->cells + (size_t)i * pick->looked_cells,
                                .found = &pick->found[i]};
    int status = load_offered(pick, i, row, reader);
    if (status != 0)
        return status;
    points_reader_prepare(reader, pick->weights + weights_bytes * i, &row->query);
    row->cell_count = rank_nearest(&reader->navigator, &reader->query, pick->looked_cells);
    for (uint32_t c = 0; c < row->cell_count; c++)
        row->cells[c] = (struct near_cell){.cell = reader->navigator.cell_order[c], .rank = c};
    qsort(row->cells, row->cell_count, sizeof *row->cells, compare_cells);
    return 0;
}

static void offer_worker(void *context, unsigned worker)
{
    struct pick *pick = context;
    struct points_reader reader;
    int status = points_reader_init(&reader, pick->index);
    for (uint32_t i = worker; i < pick->count && status == 0; i += pick->threads)
        status = pick->watch->stopped(pick->watch->context) ? FATHOM_EINTERRUPTED
                                                            : offer_row(pick, i, &reader);
    if (status != 0)
        atomic_store(&pick->status, status);
    points_reader_fini(&reader);
}

static int offer_rows(struct pick *pick, struct fathom_error *err)
{
    int status = env_run_parallel(pick->threads, offer_worker, pick);
    if (status == 0)
        status = atomic_load(&pick->status);
    return status ? points_failed(pick->index, status, err) : 0;
}

/* ---- their rows ---- */

static void insert_near(struct found *found, float distance, uint32_t rank)
{
    unsigned at = LOOKED_NEAR - 1;
    for (; at > 0 && found->near[at - 1].distance > distance; at--)
        found->near[at] = found->near[at - 1];
    found->near[at].distance = distance;
    found->near[at].rank = rank;
}

/* Rows [first, end) of a piece, which are of one cell. */
static void look_at_rows(const struct pick *pick, struct offered_row *row,
                         const struct record_piece *piece, uint64_t first, uint64_t end,
                         uint32_t rank, struct kernel_score8 *scores)
{
    size_t bytes = pick->index->records->row_bytes;
    for (uint64_t at = first; at < end; at += SCAN_ROWS) {
        uint32_t some = end - at < SCAN_ROWS ? (uint32_t)(end - at) : SCAN_ROWS;
        const uint8_t *records = piece->rows + (at - piece->first) * bytes;
        kernels_get()->score8_rows(scores, &row->query.weights, records, bytes, some);
        for (uint32_t i = 0; i < some; i++) {
            float distance =
                record_distance(&row->query, pick->index, &scores[i], records + i * bytes);
            if (distance < row->found->near[LOOKED_NEAR - 1].distance && at + i != row->itself)
                insert_near(row->found, distance, rank);
        }
    }
}

static void look(void *context, const struct record_piece *piece, unsigned worker)
{
    struct pick *pick = context;
    const uint32_t *cell_first = pick->index->cell_first;
    uint64_t piece_end = piece->first + piece->count;
    for (uint32_t i = worker; i < pick->count; i += pick->threads) {
        struct offered_row *row = &pick->rows[i];
        for (uint32_t *next = &row->found->at; *next < row->cell_count; ++*next) {
            const struct near_cell *near = &row->cells[*next];
            uint64_t first = cell_first[near->cell], end = cell_first[near->cell + 1];
            if (first >= piece_end)
                break;
            look_at_rows(pick, row, piece, first > piece->first ? first : piece->first,
                         end < piece_end ? end : piece_end, near->rank,
                         pick->scores + (size_t)worker * SCAN_ROWS);
            if (end > piece_end)
                break;
        }
    }
}

/* ---- the whole ---- */

static uint32_t hardness_of(const struct offered_row *row)
{
    uint32_t sum = 0;
    for (unsigned n = 0; n < LOOKED_NEAR; n++)
        sum += row->found->near[n].rank;
    return sum;
}

static int compare_hardness(const void *a, const void *b)
{
    const struct offered_row *x = a, *y = b;
    if (x->hardness != y->hardness)
        return x->hardness > y->hardness ? 1 : -1;
    return (x->number > y->number) - (x->number < y->number);
}

static int pick_init(struct pick *pick, const struct fathom_index *index, uint32_t count)
{
    const struct properties *p = &index->properties;
    size_t padded = size_round_up(p->work_dim, MEM_ALIGN);
    pick->count = count;
    pick->looked_cells = p->cells < LOOKED_CELLS ? p->cells : LOOKED_CELLS;
    pick->rows = mem_alloc_array(count, sizeof *pick->rows);
    pick->cells = mem_alloc_array((size_t)count * pick->looked_cells, sizeof *pick->cells);
    pick->found = mem_alloc_array(count, sizeof *pick->found);
    pick->weights = mem_alloc_array(count, 2 * padded);
    pick->scores = mem_alloc_array((size_t)pick->threads * SCAN_ROWS, sizeof *pick->scores);
    return pick->rows && pick->cells && pick->found && pick->weights && pick->scores ? 0 : -ENOMEM;
}

/* ---- what is kept ---- */

#define KEPT_NAME "picked"

static uint64_t offered_of(uint64_t rows, uint64_t count)
{
    return count * POINTS_OFFERED < rows ? count * POINTS_OFFERED : rows;
}

uint64_t points_pick_bytes(uint64_t rows)
{
    return sizeof(struct points_kept) + offered_of(rows, SAMPLE_ROWS) * sizeof(struct found);
}

static struct points_part found_part(const struct pick *pick)
{
    return (struct points_part){pick->found, pick->count * sizeof *pick->found};
}

static int keep(void *context, uint64_t next, struct fathom_error *err)
{
    struct pick *pick = context;
    struct points_kept kept = {.generation = pick->index->properties.generation, .next = next};
    struct points_part part = found_part(pick);
    return points_keep(pick->watch->keeper, KEPT_NAME, &kept, &part, 1, err);
}

static bool is_found(const struct pick *pick)
{
    for (uint32_t i = 0; i < pick->count; i++)
        if (pick->found[i].at > pick->looked_cells)
            return false;
    return true;
}

/* *first: the row that the pass begins with. */
static int load_found(struct pick *pick, uint64_t *first, struct fathom_error *err)
{
    const struct fathom_index *index = pick->index;
    struct points_part part = found_part(pick);
    struct points_kept kept;
    int status = points_load_kept(pick->watch->keeper, KEPT_NAME, index->properties.generation,
                                  &kept, &part, 1, err);
    if (status < 0)
        return status;
    *first = kept.next;
    if (status > 0 && points_pass_begins(index, kept.next) && is_found(pick))
        return 0;
    *first = 0;
    for (uint32_t i = 0; i < pick->count; i++) {
        pick->found[i].at = 0;
        for (unsigned n = 0; n < LOOKED_NEAR; n++) {
            pick->found[i].near[n].distance = INFINITY;
            pick->found[i].near[n].rank = 0;
        }
    }
    return 0;
}

int points_pick(const struct fathom_index *index, const struct points_offer *offer,
                uint32_t *picked, uint32_t count, const struct sample_watch *watch,
                struct fathom_error *err)
{
    struct pick pick = {.index = index, .watch = watch, .offer = offer, .threads = offer->threads};
    struct points_pass pass = {.look = look, .keep = keep, .context = &pick};
    int status = pick_init(&pick, index, offer->count);
    status = status == 0 ? offer_rows(&pick, err) : points_failed(index, status, err);
    if (status == 0)
        status = load_found(&pick, &pass.first, err);
    if (status == 0)
        status = points_stream(index, pick.threads, watch, &pass, err);
    if (status == 0) {
        for (uint32_t i = 0; i < pick.count; i++)
            pick.rows[i].hardness = hardness_of(&pick.rows[i]);
        qsort(pick.rows, pick.count, sizeof *pick.rows, compare_hardness);
        for (uint32_t i = 0; i < count; i++)
            picked[i] =
                pick.rows[(2 * (uint64_t)i + 1) * pick.count / (2 * (uint64_t)count)].number;
    }
    mem_free(pick.rows);
    mem_free(pick.cells);
    mem_free(pick.found);
    mem_free(pick.weights);
    mem_free(pick.scores);
    return status;
}
