/* Peak memory is the largest of what the stages hold at the same time; docs/adr/0029 and the tests
 * hold it to what was measured. What the stages take is in predict_time.c. */
#include "predict_shape.h"

#include <string.h>

#include "cells.h"
#include "cells_stored.h"
#include "degree.h"
#include "error.h"
#include "gather.h"
#include "heat.h"
#include "input.h"
#include "metric.h"
#include "page.h"
#include "parts.h"
#include "planes.h"
#include "points.h"
#include "train.h"

/* Of the whole program when a budget is planned for: never more, on any machine. */
#define BASE_BYTES   (14500u << 10)
#define THREAD_BYTES (6u << 20)

/* And what it takes as a rule. */
#define OWN_BYTES     (43u << 16) /* of heap, stacks and the libraries' data */
#define THREAD_LEAST  (1u << 17)  /* of each thread, */
#define BLAS_BYTES    (1u << 16)  /* and in BLAS, but for what grows with the dimension */
#define WRITER_BYTES  (1u << 20)
#define SAMPLES_BYTES (27u << 17) /* of operating points, and engines; */
#define OFFERED_BYTES 2400        /* of each row or query that the sample is picked from */
#define LIBRARY_USUAL (21u << 19)
#define LIBRARY_LATE  (21u << 16) /* LAPACK */
#define INPUT_BYTES   (4u << 20)  /* of the input that are read at a time, */
#define INPUT_ROWS    256         /* or so many rows */

#define EDGE_BYTES   1.3         /* of an encoded neighbour, about */
#define DEGREE_SHARE 0.8         /* of R that lists fill, when no sample says better, */
#define LID_USUAL    15          /* and of real data in a sample of it */
#define SAMPLE_BYTES (32u << 20) /* of the range of values, about, */

#define HELD_LEAST  65536      /* rows, where not all fit; the samples of groups are fewer */
#define FILE_BYTES  (1u << 20) /* of buffers of two work files, and k-means' scratch */
#define MERGE_BYTES (9u << 19) /* of those of all parts, read side by side */

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Of all rows' lists, with their lengths and the rest of their pages. */
static uint64_t lists_bytes(const struct shape *s)
{
    double list = 2 + s->list_degree * (EDGE_BYTES + 0.25);
    return (uint64_t)((double)s->rows * list * (1 + list / 2 / PAGE_PAYLOAD));
}

static uint64_t rows8_bytes(const struct shape *s)
{
    return s->rows * (s->stride + sizeof(struct row8_terms));
}

static uint64_t cells_bytes(const struct shape *s)
{
    return s->rows * 4 + s->rows / CELLS_ROWS * (s->stride + 16);
}

/* And while codes are made beside the rows of centroids: the writer has packed ones alone. */
static uint64_t packed_bytes(const struct shape *s)
{
    return s->rows / CELLS_ROWS * s->dim * 9 / 16;
}

static uint64_t adjacency_bytes(uint64_t degree)
{
    return 4 * size_round_up(degree * 13 / 10 + 1, 16);
}

/* Vectors that are put in order at a time, and the records made from them (write.c). */
static uint64_t reorder_bytes(const struct shape *s)
{
    if (s->vector_bytes == 0)
        return 0;
    uint64_t rows = smaller(s->rows, (32u << 20) / s->vector_bytes);
    return rows * (s->vector_bytes + s->dim + 20);
}

/* ---- in memory ---- */

/* Of an index opened with codes (with 8-bit rows: records) of so many bytes, and all lists. */
static uint64_t opened_bytes(const struct shape *s, uint64_t code_bytes)
{
    return s->rows * (code_bytes + 8) + lists_bytes(s);
}

uint64_t predict_offered(const struct shape *s)
{
    return smaller(s->queries ? s->queries : s->rows, POINTS_OFFERED_MAX);
}

/* What is there while the sample is picked; queries wait in memory. */
static uint64_t picking_bytes(const struct shape *s)
{
    return predict_offered(s) * (OFFERED_BYTES + (s->queries ? 6 : 2) * s->dim) + cells_bytes(s);
}

/* The largest residency runs beside the smallest, the largest two codes at the end (points.c). */
static uint64_t measured_bytes(const struct shape *s, unsigned threads)
{
    uint64_t rows8 = opened_bytes(s, s->dim), engines = SAMPLES_BYTES + 8300 * s->dim;
    uint64_t picking = picking_bytes(s);
    if (s->rows < BUILD_MEASURED_ROWS)
        return 0;
    if (threads == 1)
        return larger(picking, engines + rows8);
    engines += 5000 * s->dim;
    return larger(picking, engines + larger(rows8 + s->rows * s->dim / 4,
                                            opened_bytes(s, s->order_count) +
                                                opened_bytes(s, s->order_count * 3 / 4)));
}

/* Of a budget, with lists that are as long as predicted: what fits half of it runs beside the next
 * shorter codes, what does not alone, with as much of its lists as fits (points.c). */
static uint64_t measured_within(const struct shape *s, unsigned threads, uint64_t budget)
{
    static const double bits[] = {1.75, 2.25, 2.75, 3.5, 4.5, 6, 8}; /* of codes, and 8-bit rows */
    uint64_t share = threads > 1 ? budget / 2 : budget, before = 0, most = 0;
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
        uint64_t codes = (uint64_t)(bits[i] * (double)s->dim / 8),
                 bytes = opened_bytes(s, i + 1 < sizeof bits / sizeof *bits
                                             ? smaller(codes, s->order_count)
                                             : codes);
        if (bytes <= share)
            most = larger(most, bytes + (threads > 1 ? before : 0));
        else if (bytes - lists_bytes(s) <= budget)
            most = larger(most, smaller(bytes, budget));
        before = bytes;
    }
    return most;
}

/* The rows that R is probed on, and their graph. */
static uint64_t probe_bytes(const struct shape *s)
{
    uint64_t rows = smaller(s->rows, DEGREE_PROBE_ROWS);
    return rows * (s->stride + sizeof(struct row8_terms) + adjacency_bytes(DEGREE_PROBE) + 13);
}

/* Rows whose range is looked at. */
static uint64_t sample_bytes(const struct shape *s)
{
    return smaller(s->rows, input_sample_most((uint32_t)s->dim)) * s->dim * sizeof(float);
}

/* Pieces of the input, with all rows or a piece of them; before that, the sample. */
static uint64_t reading_bytes(const struct shape *s, bool held)
{
    uint64_t piece = larger(INPUT_BYTES, INPUT_ROWS * s->vector_bytes);
    return piece + larger(s->vector_bytes ? sample_bytes(s) : 0, held ? piece : rows8_bytes(s));
}

/* What the stages hold of the rows and what is made from them. Reading is here as budgets are
 * planned for, which its sample does not depend on; reading_bytes says what it takes. */
static void stage_bytes(const struct build_options *options, const struct shape *s,
                        uint64_t out[BUILD_STAGES])
{
    uint64_t rows8 = rows8_bytes(s), cells = cells_bytes(s), lists = lists_bytes(s);
    uint64_t adjacency = s->rows * adjacency_bytes(s->degree);
    uint64_t codes = s->rows * (s->order_count + s->factor_bytes);
    uint64_t sample = s->vector_bytes ? smaller(s->rows * s->dim * 4, SAMPLE_BYTES) : 0;
    uint64_t graphing = 13 * s->rows + s->rows / 50 * s->degree * 12;
    uint64_t piece = larger(INPUT_BYTES, INPUT_ROWS * s->vector_bytes);
    out[BUILD_READ] = piece + larger(sample, rows8);
    out[BUILD_CELLS] = out[BUILD_ORDER] = rows8 + cells + 16 * s->rows;
    out[BUILD_GRAPH] = rows8 + cells + larger(adjacency + graphing, probe_bytes(s));
    out[BUILD_TRAIN] = rows8 + cells + adjacency + train_axes_bytes((uint32_t)s->dim);
    out[BUILD_ENCODE] = rows8 + cells + lists + larger(adjacency + 8 * s->rows, codes);
    out[BUILD_WRITE] = rows8 + cells + lists + codes + 4 * s->rows + reorder_bytes(s);
    out[BUILD_TRAIN] += packed_bytes(s);
    out[BUILD_ENCODE] += packed_bytes(s);
    out[BUILD_MEASURE] = measured_bytes(s, options->threads);
    for (int stage = 0; stage < BUILD_STAGES; stage++)
        out[stage] += options->ids ? 8 * s->rows : 0;
}

/* What a budget must hold; measuring keeps to what is left of one. */
static uint64_t in_memory_bytes(const struct build_options *options, const struct shape *s)
{
    uint64_t stages[BUILD_STAGES], most = 0;
    stage_bytes(options, s, stages);
    for (int stage = 0; stage < BUILD_MEASURE; stage++)
        most = larger(most, stages[stage]);
    return most;
}

/* And besides these: buffers, the rotation, and what BLAS and its callers have for each thread. */
static uint64_t working_bytes(const struct shape *s, enum build_stage stage, unsigned threads)
{
    uint64_t bytes = OWN_BYTES + threads * THREAD_LEAST;
    unsigned lanes = threads < TRAIN_LANES_MAX ? threads : TRAIN_LANES_MAX;
    if (stage >= BUILD_TRAIN)
        bytes += s->dim * s->dim + lanes * (BLAS_BYTES + 1500 * s->dim);
    if (stage == BUILD_TRAIN)
        bytes += lanes * 2048 * s->dim;
    if (stage >= BUILD_WRITE)
        bytes += WRITER_BYTES;
    return bytes;
}

struct shape predict_shape_of(const struct build_options *options, uint64_t rows, uint32_t work_dim,
                              uint64_t vector_bytes)
{
    struct shape s = {.rows = rows,
                      .dim = work_dim,
                      .degree = options->degree,
                      .vector_bytes = vector_bytes,
                      .mean_degree = DEGREE_SHARE * options->degree,
                      .list_degree = DEGREE_SHARE * options->degree,
                      .lid = LID_USUAL};
    s.stride = size_round_up(s.dim, MEM_ALIGN);
    s.code_dim = size_round_up(s.dim, PLANES_GROUP);
    s.order_count = s.code_dim * options->code_bits / PLANES_GROUP;
    s.factor_bytes = train_factor_bytes((uint32_t)s.code_dim, (uint32_t)s.order_count);
    return s;
}

unsigned predict_threads(const struct build_options *options)
{
    bool fewer = options->memory_budget_bytes && options->threads > PREDICT_BUDGET_THREADS;
    return fewer ? PREDICT_BUDGET_THREADS : options->threads;
}

/* ---- under a budget ---- */

uint64_t predict_program(uint32_t work_dim)
{
    return BASE_BYTES + PREDICT_BUDGET_THREADS * (THREAD_BYTES + 4096 * (uint64_t)work_dim);
}

/* What is there in every stage: the program, threads, cells and ids. */
static uint64_t standing_bytes(const struct build_options *options, const struct shape *s)
{
    return predict_program((uint32_t)s->dim) + cells_bytes(s) + (options->ids ? 8 * s->rows : 0);
}

/* While cells are found in memory: all rows, and 16 bytes for each. */
static uint64_t all_rows_bytes(const struct shape *s)
{
    return rows8_bytes(s) + 16 * s->rows + s->rows / CELLS_ROWS * s->stride;
}

/* Of a row of a part or of its halo. */
static uint64_t member_bytes(const struct shape *s)
{
    return s->stride + sizeof(struct row8_terms) + adjacency_bytes(s->degree) +
           s->degree * 12 / 50 + 34;
}

/* While cells are found in a work file, but for the rows that are held at a time. */
static uint64_t stored_bytes(const struct build_options *options, const struct shape *s)
{
    return predict_program((uint32_t)s->dim) + (options->ids ? 8 * s->rows : 0) + FILE_BYTES +
           cells_stored_bytes(s->rows, (uint32_t)s->dim);
}

static uint64_t held_least(const struct shape *s)
{
    return smaller(s->rows, HELD_LEAST);
}

/* Of the stages after the graph, which hold no rows but samples: merging and placing lists,
 * training, and putting vectors of so many bytes in order. */
static uint64_t streamed_bytes(const struct shape *s, uint64_t vector_bytes)
{
    struct shape written = *s;
    written.vector_bytes = vector_bytes;
    uint64_t merging = 15 * s->rows + MERGE_BYTES;
    uint64_t training =
        gather_bytes(s->rows, (uint32_t)s->dim) + train_axes_bytes((uint32_t)s->dim);
    return larger(larger(merging, packed_bytes(s) + training),
                  2 * s->rows + reorder_bytes(&written));
}

uint32_t predict_held(const struct build_options *options, uint64_t rows, uint32_t work_dim)
{
    struct shape s = predict_shape_of(options, rows, work_dim, 0);
    uint64_t budget = options->memory_budget_bytes, fixed = stored_bytes(options, &s);
    if (options->held_rows)
        return options->held_rows;
    if (budget == 0 || standing_bytes(options, &s) + all_rows_bytes(&s) <= budget)
        return 0;
    uint64_t held = budget > fixed ? (budget - fixed) / cells_held_bytes(work_dim) : 0;
    return (uint32_t)smaller(larger(held, held_least(&s)), rows);
}

/* Rows of a part of so many, with its halo. */
static uint64_t part_members(uint64_t rows, uint32_t parts)
{
    uint64_t members = (uint64_t)((double)(rows / parts + 1) * (1 + parts_halo(parts)));
    return smaller(members, rows);
}

/* The cells nearest to each. */
static uint64_t near_bytes(const struct shape *s)
{
    return s->rows / CELLS_ROWS * PARTS_NEAR * sizeof(uint32_t);
}

uint32_t predict_parts(const struct build_options *options, uint64_t rows, uint32_t work_dim,
                       uint64_t vector_bytes)
{
    struct shape s = predict_shape_of(options, rows, work_dim, vector_bytes);
    uint64_t budget = options->memory_budget_bytes, standing = standing_bytes(options, &s);
    uint32_t least = predict_held(options, rows, work_dim) ? 2 : 1;
    if (options->parts || options->held_rows) /* as tests want */
        return options->parts < least       ? least
               : options->parts < PARTS_MAX ? options->parts
                                            : PARTS_MAX;
    if (budget == 0 || predict_program(work_dim) + in_memory_bytes(options, &s) <= budget)
        return 1;
    standing += near_bytes(&s);
    uint64_t room = budget > standing ? (budget - standing) / member_bytes(&s) : 0;
    uint32_t parts = 2;
    while (parts < PARTS_MAX && part_members(rows, parts) > room)
        parts++;
    return parts;
}

static uint64_t in_parts_bytes(const struct build_options *options, const struct shape *s,
                               uint32_t parts)
{
    uint64_t graphing = part_members(s->rows, parts) * member_bytes(s) + near_bytes(s);
    uint64_t most = larger(graphing, streamed_bytes(s, s->vector_bytes));
    return most + cells_bytes(s) + (options->ids ? 8 * s->rows : 0);
}

/* ---- the peak ---- */

/* Pages of programs and libraries are as many as the kernel has mapped round those that were
 * touched, which differs between machines by MiBs: this process has all but what training adds. */
static uint64_t library_bytes(void)
{
    uint64_t mapped = env_file_rss_bytes();
    return (mapped ? mapped : LIBRARY_USUAL) + LIBRARY_LATE;
}

/* What there is in a stage besides what it holds of rows. */
static uint64_t process_bytes(const struct build_options *options, const struct shape *s,
                              enum build_stage stage)
{
    return library_bytes() + working_bytes(s, stage, predict_threads(options));
}

static uint64_t peak_bytes(const struct build_options *options, const struct shape *s,
                           uint32_t parts)
{
    uint64_t stages[BUILD_STAGES], most = 0, budget = options->memory_budget_bytes;
    unsigned threads = predict_threads(options);
    stage_bytes(options, s, stages);
    if (parts > 1)
        for (int stage = BUILD_GRAPH; stage < BUILD_MEASURE; stage++)
            stages[stage] = in_parts_bytes(options, s, parts);
    uint32_t held = predict_held(options, s->rows, (uint32_t)s->dim);
    stages[BUILD_READ] = reading_bytes(s, held > 0);
    if (held) {
        stages[BUILD_CELLS] = stages[BUILD_ORDER] =
            cells_stored_bytes(s->rows, (uint32_t)s->dim) + FILE_BYTES +
            smaller(held, s->rows) * cells_held_bytes((uint32_t)s->dim);
    }
    if (budget) {
        uint64_t program = predict_program((uint32_t)s->dim) + (options->ids ? 8 * s->rows : 0);
        uint64_t within = measured_within(s, threads, budget > program ? budget - program : 0);
        within = larger(within, s->queries ? picking_bytes(s) : 0);
        stages[BUILD_MEASURE] = smaller(stages[BUILD_MEASURE], SAMPLES_BYTES + within);
    }
    for (int stage = 0; stage < BUILD_STAGES; stage++)
        most = larger(most, process_bytes(options, s, stage) + stages[stage]);
    return most;
}

/* Of few wide rows the sample of reading is most, or what training has besides rows. */
uint64_t predict_least(const struct build_options *options, uint64_t rows, uint32_t work_dim,
                       uint64_t vector_bytes)
{
    struct shape s = predict_shape_of(options, rows, work_dim, 0);
    uint64_t finding = stored_bytes(options, &s) + held_least(&s) * cells_held_bytes(work_dim);
    uint64_t after = standing_bytes(options, &s) + streamed_bytes(&s, 4 * s.dim);
    uint64_t in_memory = standing_bytes(options, &s) + all_rows_bytes(&s);
    s.vector_bytes = vector_bytes;
    uint64_t reading = process_bytes(options, &s, BUILD_READ) + reading_bytes(&s, true);
    uint64_t training = process_bytes(options, &s, BUILD_TRAIN) + cells_bytes(&s) +
                        gather_bytes(rows, work_dim) + train_axes_bytes(work_dim);
    return larger(larger(reading, training), smaller(larger(finding, after), in_memory));
}

/* ---- disk ---- */

/* A row store: rows do not straddle pages, or take whole ones. */
static uint64_t store_bytes(uint64_t rows, uint64_t row_bytes)
{
    uint64_t per_page = PAGE_PAYLOAD / row_bytes;
    uint64_t pages =
        per_page ? rows / per_page + 1 : rows * ((row_bytes + PAGE_PAYLOAD - 1) / PAGE_PAYLOAD);
    return pages * PAGE_BYTES;
}

uint64_t predict_disk_bytes(const struct shape *s)
{
    uint64_t ids = s->rows < 1u << 16 ? 2 : s->rows < 1u << 24 ? 3 : 4;
    uint64_t streams = s->rows * (s->order_count + s->factor_bytes + 1 + ids) + lists_bytes(s) +
                       packed_bytes(s) + s->rows / CELLS_ROWS * 4 + s->code_dim * s->dim;
    uint64_t scan = s->dim / 8 > 4 ? s->dim / 8 : 4; /* a bit a dimension */
    bool exact = s->vector_bytes == 0;
    scan = (scan < s->order_count ? scan : s->order_count) + 2;
    return streams + streams / 500 + (64u << 10) + store_bytes(s->rows, scan) +
           store_bytes(s->rows, row8_record_bytes((uint32_t)s->dim, exact)) +
           (exact ? 0 : store_bytes(s->rows, s->vector_bytes));
}

/* What is left of the graph at its begin is the graph without the probe. */
static struct spill work_files(const struct build_options *options, const struct shape *s,
                               double slowness, const struct spill_progress *progress,
                               const struct build_estimate *estimate)
{
    struct spill_shape shape = {.rows = s->rows,
                                .dim = s->dim,
                                .degree = (uint32_t)s->degree,
                                .parts = estimate->parts,
                                .stored = predict_held(options, s->rows, (uint32_t)s->dim) > 0,
                                .mean_degree = s->list_degree,
                                .code_bytes = s->order_count + s->factor_bytes,
                                .list_bytes = lists_bytes(s),
                                .piece_rows = options->piece_rows};
    if (s->rows >= BUILD_MEASURED_ROWS)
        shape.measured = points_kept_bytes(s->rows);
    double seconds[BUILD_STAGES];
    memcpy(seconds, estimate->stage_seconds, sizeof seconds);
    if (progress)
        seconds[BUILD_GRAPH] -= slowness * predict_probe_seconds(options, s, s->mean_degree);
    return spill_predict(&shape, seconds, progress, options->checkpoint_ns);
}

/* Fitted with the probe's mean, as far as R allows it; lists are as long as the probe's, cut. */
void predict_shape_know(struct shape *s, const struct degree_probe *probe)
{
    double most = 0.95 * (double)s->degree;
    if (probe->mean > 0)
        s->mean_degree = s->list_degree = probe->mean < most ? probe->mean : most;
    if (probe->cut > 0)
        s->list_degree = probe->cut;
    if (probe->lid > 0)
        s->lid = probe->lid;
}

static void know_seconds(const struct build_options *options, const struct shape *s,
                         double slowness, struct build_estimate *out)
{
    struct stage_work work[BUILD_STAGES];
    predict_stages(options, s, out->parts, work);
    out->slowness = slowness;
    out->seconds = 0;
    for (int stage = 0; stage < BUILD_STAGES; stage++) {
        const struct stage_work *w = &work[stage];
        out->stage_cpu_seconds[stage] = slowness * (w->shared + w->alone);
        out->stage_seconds[stage] = predict_stage_seconds(options, stage, w, slowness);
        out->seconds += out->stage_seconds[stage];
    }
    out->probe_seconds = slowness * predict_probe_seconds(options, s, s->mean_degree);
    out->measuring = predict_measuring(options, s, &work[BUILD_MEASURE], slowness);
}

void predict_shape(const struct build_options *options, const struct predict_known *known,
                   const struct spill_progress *progress, struct build_estimate *out)
{
    bool exact =
        options->metric == FATHOM_METRIC_L2 && (out->dtype == FATHOM_U8 || out->dtype == FATHOM_I8);
    uint32_t work_dim = metric_work_dim(options->metric, out->dim);
    uint64_t vector_bytes = exact ? 0 : out->dim * fathom_dtype_bytes(out->dtype);
    struct shape s = predict_shape_of(options, out->rows, work_dim, vector_bytes);
    s.queries = known->queries;
    predict_shape_know(&s, &known->probe);
    out->degree = options->degree;
    out->build_list = options->build_list;
    out->parts = predict_parts(options, out->rows, work_dim, vector_bytes);
    out->peak_bytes = peak_bytes(options, &s, out->parts);
    out->disk_bytes = predict_disk_bytes(&s);
    know_seconds(options, &s, known->slowness, out);
    struct spill spill = work_files(options, &s, known->slowness, progress, out);
    out->temporary_bytes = spill.bytes;
    out->saves_graph = spill.graph;
}
