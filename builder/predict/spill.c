/* A build in memory saves by the clock (checkpoint.h), and what it has begun to save it saves
 * whole: so all that is uncertain is whether it runs long enough to begin, and that is played
 * through here with the times that were predicted. What comes out is the build's plan for its graph
 * too, from which it departs only when the clock is far from it (build_save_graph). A graph in
 * parts goes through files in any case. */
#include "spill.h"

#include "checkpoint.h"
#include "encode.h"
#include "gather.h"
#include "page.h"
#include "parts.h"
#include "points.h"

#define GRAPH_STEPS 64   /* batches are more, but not much is saved between two of so many */
#define SMALL_FILES 3    /* state, input and written: a page or two each */
#define RANGE_CELLS 4096 /* of the order, between two of which it may be saved */

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t cells_count(const struct spill_shape *s)
{
    uint64_t cells = s->rows / CELLS_ROWS + 1;
    return cells < CELLS_COUNT_MAX ? cells : CELLS_COUNT_MAX;
}

static uint64_t rows_file(const struct spill_shape *s)
{
    return work_file_bytes(cells_count(s) * (s->dim + 4) + s->rows * (s->dim + 4));
}

static uint64_t cells_file(const struct spill_shape *s)
{
    return work_file_bytes(cells_count(s) * s->dim);
}

static uint64_t ordered_bytes(const struct spill_shape *s)
{
    return cells_count(s) * (s->dim + 4) + 4 * s->rows;
}

/* When so large a share of the rows has lists. */
static uint64_t graph_file(const struct spill_shape *s, double share)
{
    return work_file_bytes((uint64_t)(4 * (double)s->rows * (1 + share * s->mean_degree)));
}

static uint64_t small_files(const struct spill_shape *s)
{
    return work_file_bytes(4 * s->dim) + (SMALL_FILES - 1) * work_file_bytes(1);
}

/* ---- in memory ---- */

/* What measuring keeps, where it takes long enough. Most of it is the sample, which lies there
 * twice for a moment when it is saved again behind another piece of the file. */
static uint64_t measured_files(const struct spill_shape *s, double seconds, uint64_t spacing_ns)
{
    uint64_t wait = checkpoint_wait_ns(spacing_ns, CHECKPOINT_COST_NS, s->measured);
    return s->measured && 1e9 * seconds >= (double)wait
               ? 2 * work_file_bytes(s->measured) + (POINTS_KEPT - 1) * work_file_bytes(1)
               : 0;
}

/* All that is encoded. */
static uint64_t encoded_files(const struct spill_shape *s)
{
    uint32_t rows = (uint32_t)s->rows, pieces = 0;
    struct encode_piece piece;
    uint64_t codes = 0;
    for (; encode_piece_at(&piece, pieces, rows, (uint32_t)s->dim, s->piece_rows); pieces++)
        codes += work_file_bytes(piece.count * s->code_bytes);
    if (pieces == 1)
        return codes;
    return codes + work_file_bytes(4 * s->rows) + work_file_bytes(s->list_bytes + 2 * s->rows);
}

struct pacing {
    double now_ns, last_ns;
    uint64_t spacing_ns;
    bool begun, cells_saved, order_saved, rows_saved;
    double graph_share; /* of the rows, in the last graph that was saved before it was whole */
};

/* What is there after so many more seconds is saved, when it is due. */
static bool save_after(struct pacing *pacing, double seconds, uint64_t bytes)
{
    pacing->now_ns += 1e9 * seconds;
    if (pacing->now_ns - pacing->last_ns <
        (double)checkpoint_wait_ns(pacing->spacing_ns, CHECKPOINT_COST_NS, bytes))
        return false;
    pacing->last_ns = pacing->now_ns;
    pacing->begun = true;
    return true;
}

static void play_cells(struct pacing *p, const struct spill_shape *s,
                       const double seconds[BUILD_STAGES])
{
    const unsigned rounds = CELLS_ROUNDS + 1; /* the last is not saved by itself */
    const unsigned ranges = (unsigned)(cells_count(s) / RANGE_CELLS + 1);
    double before = seconds[BUILD_CELLS] / rounds;
    p->now_ns = 1e9 * seconds[BUILD_READ];
    for (unsigned i = 1; i < rounds; i++)
        p->cells_saved |= save_after(p, before, cells_count(s) * s->dim);
    for (unsigned i = 0; i < ranges; i++, before = seconds[BUILD_ORDER] / ranges)
        p->order_saved |= save_after(p, before, ordered_bytes(s));
    p->rows_saved = save_after(p, before, s->rows * s->dim);
}

static void play_graph(struct pacing *p, const struct spill_shape *s, double seconds)
{
    uint64_t lists = 4 * s->rows * (s->degree + 1), rows = s->rows * s->dim;
    for (unsigned i = 1; i <= GRAPH_STEPS; i++) {
        uint64_t bytes = lists + (p->rows_saved ? 0 : rows);
        if (!save_after(p, seconds / GRAPH_STEPS, bytes))
            continue;
        p->rows_saved = true;
        if (i < GRAPH_STEPS)
            p->graph_share = (double)i / GRAPH_STEPS;
    }
}

static struct spill in_memory(const struct spill_shape *s, const double seconds[BUILD_STAGES],
                              const struct spill_progress *progress, uint64_t spacing_ns)
{
    struct pacing p = {.spacing_ns = spacing_ns};
    if (progress) {
        p.begun = progress->begun;
        p.rows_saved = progress->rows_saved;
        p.now_ns = (double)progress->since_ns;
    } else {
        play_cells(&p, s, seconds);
    }
    play_graph(&p, s, seconds[BUILD_GRAPH]);
    /* Without rows and lists nothing is kept of what follows until it is written. */
    double rest = seconds[BUILD_TRAIN] + seconds[BUILD_ENCODE] + seconds[BUILD_WRITE];
    if (p.now_ns - p.last_ns + 1e9 * rest >= CHECKPOINT_MOST_NS)
        p.rows_saved = true;
    if (p.rows_saved) {
        uint64_t encoded = encoded_files(s);
        uint64_t measured = measured_files(s, seconds[BUILD_MEASURE], spacing_ns);
        uint64_t before = p.graph_share > 0 ? graph_file(s, p.graph_share) : 0;
        return (struct spill){small_files(s) + rows_file(s) + graph_file(s, 1) +
                                  (before > encoded + measured ? before : encoded + measured),
                              true};
    }
    uint64_t cells = p.cells_saved || (progress && p.begun) ? cells_file(s) : 0;
    uint64_t order = p.order_saved ? work_file_bytes(ordered_bytes(s)) : 0;
    bool end = save_after(&p, rest, PAGE_BYTES);
    return (struct spill){cells + order + (p.begun || end ? small_files(s) : 0), false};
}

/* ---- in parts ---- */

/* Rows in the order of the input and in their final one, and how far this is. */
static uint64_t while_ordered(const struct spill_shape *s)
{
    uint64_t raw = work_file_bytes(s->rows * s->dim);
    return rows_file(s) + (s->stored ? raw + cells_file(s) + work_file_bytes(ordered_bytes(s)) : 0);
}

/* The lists of all parts with what is merged from them, that with what is encoded from it, or what
 * is encoded with codes and what is measured. */
static uint64_t in_parts(const struct spill_shape *s, double measure_seconds, uint64_t spacing_ns)
{
    double list = 4 * s->mean_degree, members = (double)s->rows * (1 + parts_halo(s->parts));
    uint64_t parts = work_file_bytes((uint64_t)(members * (list + 12))),
             merged = work_file_bytes((uint64_t)((double)s->rows * (list + 8))),
             joined = work_file_bytes(4 * GATHER_THIN * s->rows) + work_file_bytes(s->list_bytes) +
                      work_file_bytes(s->rows),
             encoded = work_file_bytes(s->rows * s->code_bytes) +
                       measured_files(s, measure_seconds, spacing_ns);
    uint64_t later = rows_file(s) + larger(parts + merged, joined + larger(merged, encoded));
    return small_files(s) + larger(later, while_ordered(s));
}

struct spill spill_predict(const struct spill_shape *shape,
                           const double stage_seconds[BUILD_STAGES],
                           const struct spill_progress *progress, uint64_t spacing_ns)
{
    return shape->parts > 1
               ? (struct spill){in_parts(shape, stage_seconds[BUILD_MEASURE], spacing_ns), true}
               : in_memory(shape, stage_seconds, progress, spacing_ns);
}
