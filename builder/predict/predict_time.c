/* What the stages of a build take: times are those of a machine of two cores with AVX-512, times
 * what its first stages and a short probe say of this one. Each term is of a piece of work that was
 * measured by itself, by the CPU time of builds (docs/adr/0029, 0070). */
#include <math.h>

#include "cells.h"
#include "degree.h"
#include "heat.h"
#include "kernel.h"
#include "parts.h"
#include "predict_shape.h"

#define CROWD_ROWS  75e3   /* a graph of more takes longer for a row, by a power that is so much */
#define CROWD_MORE  0.014  /* for each dimension near a row */
#define CROWD_LID   8      /* above these; */
#define FAR_BYTES   1.28e8 /* and one of more bytes by another power */
#define FAR_MORE    0.2
#define PROBE_SHARE 0.87 /* of what rows of the whole take with its L */
#define HEAT_LIST   40.0 /* of the searches that heat is counted on, */
#define HEAT_SHARE  0.72 /* of what a row takes that is inserted with such a list */

/* Microseconds of one value of a row, or of one neighbour in a list. */
#define PASS_US           1e-3   /* brought in from a work file */
#define RAW_US            2e-3   /* put into one while the input is read */
#define ORDER_US          3e-3   /* gathered, and appended to another */
#define SKIP_US           1.5e-4 /* passed over as another range of the order is gathered */
#define LIST_US           0.14   /* a neighbour in its place in a part, and in the merged list */
#define CODES_ROW_US      2.5    /* of a list, encoded, */
#define CODES_DIM_US      0.0232 /* and of a value in its code */
#define CODES_US          2.5e-3 /* brought in and its code put into a work file, */
#define PART_CODES_US     0.0195 /* and encoded between */
#define OPEN_US           0.0253 /* of all that is opened for points: read, and made a trellis */
#define COPY_SECONDS      7e-10  /* a byte of the index, written or checked, */
#define READ_BACK_SECONDS 1.1e-9 /* and read from a device */
#define IDLE              1.04   /* threads wait for the last of them: of what each takes */
#define IDLE_ALONE        1.2    /* and where a budget holds some residencies by themselves only */
#define NEAR_BYTES        4e7    /* of vectors, within reach of caches */
#define CELLS_MOST_ROWS   (1.0 * CELLS_ROWS * CELLS_COUNT_MAX) /* more get no more cells */

/* ---- what all threads share ---- */

/* Of one row, by the neighbours that it has and the directions that they lie in. Fitted, like all
 * that follows, to the sets of docs/adr/0070. */
static double graph_us(double list, double mean_degree, const struct shape *s)
{
    return list * pow(mean_degree, 0.8) * pow(s->lid, 0.4) * (4.85e-3 + 1.1e-5 * (double)s->dim);
}

/* And how much more of many rows. Where they have neighbours in many directions, there is less
 * that those which search together share (in clumps it is as much as ever); and what is read lies
 * the farther from the processor the more there is. */
static double crowd(double rows, const struct shape *s)
{
    double more = CROWD_MORE * fmax(0, s->lid - CROWD_LID);
    return pow(fmax(1, rows / CROWD_ROWS), more) *
           pow(fmax(1, rows * (double)s->dim / FAR_BYTES), FAR_MORE);
}

static double probe_us(const struct shape *s, double mean_degree)
{
    double rows = fmin((double)s->rows, DEGREE_PROBE_ROWS);
    return PROBE_SHARE * rows * graph_us(DEGREE_PROBE_LIST, mean_degree, s);
}

/* Searches for a sample until recall rises no more, each the dearer the less of the index is within
 * reach of caches; opening the index once for each of some thirteen residencies, whose codes and
 * 8-bit rows grow with the dimension; picking the sample, by the rows of 256 cells; and its truth,
 * which looks at each row once, and at few of them again. How many lists are tried goes by the
 * dimension that the data has near a row, more than by anything else that is known before. */
static struct measuring {
    double sample, residencies; /* microseconds: to make the sample with its truth, to search */
} measuring_us(const struct shape *s)
{
    double rows = (double)s->rows, dim = (double)s->dim, values = rows * dim;
    if (s->rows < BUILD_MEASURED_ROWS)
        return (struct measuring){0};
    double few = s->queries ? fmin(1, (double)s->queries / PREDICT_MEASURED) : 1;
    double hard = 1.5e3 * pow(s->mean_degree, 1.5) * s->lid;
    double searches = few * (4e5 + hard * (rows + 8e3) / (rows + 7e4));
    double picking = (double)predict_offered(s) * fmin(rows, 16384) * (6e-3 + 2.25e-5 * dim);
    double truth = few * 1.3e5 + 0.37 * rows + 0.0105 * values;
    return (struct measuring){.sample = picking + truth,
                              .residencies = searches + OPEN_US * values};
}

/* Rows of all parts with their halos, of those that there are. */
static double members_of(uint32_t parts)
{
    return parts > 1 ? 1 + parts_halo(parts) : 1;
}

/* For queries that are given, and a tenth of the rows of each part, or for HEAT_SAMPLE_MAX
 * (heat.c). */
static double heat_searches(const struct shape *s, uint32_t parts)
{
    double all = 0.1 * members_of(parts) * (double)s->rows;
    double most = (double)HEAT_SAMPLE_MAX * (parts > 1 ? parts : 1);
    double given = s->queries && parts <= 1 ? (double)predict_offered(s) : 0;
    return (all < most ? all : most) + given;
}

static void add_shared(const struct build_options *options, const struct shape *s, uint32_t parts,
                       struct stage_work out[BUILD_STAGES])
{
    double members = members_of(parts), rows = (double)s->rows, dim = (double)s->dim,
           sample = fmin(rows, 16384);
    double cells = fmin(rows, CELLS_MOST_ROWS);
    double heat_us = HEAT_SHARE * heat_searches(s, parts) * graph_us(HEAT_LIST, s->mean_degree, s);
    double list_us = members * graph_us(options->build_list, s->mean_degree, s) *
                     crowd(members * rows / fmax(1, parts), s);
    double us[BUILD_STAGES] = {0};
    us[BUILD_READ] = 7.5e-3 * rows * dim;
    us[BUILD_CELLS] = rows * (1.15 + 0.0212 * dim * sqrt(cells / 4e5));
    us[BUILD_ORDER] = 1e4 + rows * (0.1 + 0.0133 * dim);
    us[BUILD_GRAPH] = rows * list_us + (parts > 1 ? heat_us : 0) + probe_us(s, s->mean_degree);
    us[BUILD_TRAIN] = 0.16 * rows + sample * dim * (0.064 + 4.5e-5 * dim) + 5e-4 * dim * dim * dim;
    us[BUILD_ENCODE] = parts > 1 ? rows * PART_CODES_US * dim
                                 : rows * (CODES_ROW_US + CODES_DIM_US * dim) + heat_us;
    struct measuring measuring = measuring_us(s);
    us[BUILD_MEASURE] = measuring.sample + measuring.residencies;
    for (int stage = 0; stage < BUILD_STAGES; stage++)
        out[stage].shared += 1e-6 * us[stage];
}

/* ---- what one thread does for all ---- */

/* As it stands between a stage and its files: it brings rows in, checks them and gives them their
 * terms; and it sorts and merges the lists of parts. */
static void add_streaming(const struct build_options *options, const struct shape *s,
                          double members, struct stage_work out[BUILD_STAGES])
{
    double values = 1e-6 * (double)s->rows * (double)s->dim, held;
    out[BUILD_GRAPH].alone +=
        members * PASS_US * values + members * LIST_US * 1e-6 * (double)s->rows * s->mean_degree;
    out[BUILD_ENCODE].alone += CODES_US * values;
    held = predict_held(options, s->rows, (uint32_t)s->dim);
    if (held == 0)
        return;
    out[BUILD_READ].alone += RAW_US * values;
    out[BUILD_CELLS].alone +=
        (CELLS_ROUNDS + 2) * PASS_US * values; /* groups first, and all at the end */
    out[BUILD_ORDER].alone += (ORDER_US + SKIP_US * (double)s->rows / held) * values;
}

/* Vectors are put in order by threads that wait for memory the more of them there are. What one
 * does alone is to sort which rows a piece wants. */
#define GATHER_SHARE 0.6
#define SORT_SHARE   0.15

static double reorder_seconds(const struct shape *s)
{
    double row = (double)s->vector_bytes, bytes = (double)s->rows * row;
    double spread = bytes > NEAR_BYTES ? 1 + log10(bytes / NEAR_BYTES) : 1;
    return row > 0 ? 1e-6 * (double)s->rows * (0.42 + 2.1e-3 * row) * spread : 0;
}

static void add_alone(const struct shape *s, struct stage_work out[BUILD_STAGES])
{
    double rows = (double)s->rows;
    double disk = COPY_SECONDS * (double)predict_disk_bytes(s);
    out[BUILD_READ].alone +=
        0.05 + 1e-9 * rows * (double)(s->vector_bytes ? s->vector_bytes : s->dim);
    out[BUILD_WRITE].shared += GATHER_SHARE * reorder_seconds(s);
    out[BUILD_WRITE].alone += disk + SORT_SHARE * reorder_seconds(s);
    out[BUILD_MEASURE].alone += disk; /* reading back and verifying, */
    out[BUILD_MEASURE].waits += READ_BACK_SECONDS * (double)predict_disk_bytes(s);
}

/* ---- the whole ---- */

void predict_stages(const struct build_options *options, const struct shape *shape, uint32_t parts,
                    struct stage_work out[BUILD_STAGES])
{
    for (int stage = 0; stage < BUILD_STAGES; stage++)
        out[stage] = (struct stage_work){0};
    add_shared(options, shape, parts, out);
    add_alone(shape, out);
    if (parts > 1)
        add_streaming(options, shape, members_of(parts), out);
}

double predict_stage_seconds(const struct build_options *options, enum build_stage stage,
                             const struct stage_work *work, double slowness)
{
    unsigned threads = predict_threads(options);
    if (stage == BUILD_MEASURE && threads > 2) /* indexes that are open at a time */
        threads = 2;
    double idle = stage == BUILD_MEASURE && options->memory_budget_bytes ? IDLE_ALONE : IDLE;
    idle = threads > 1 ? idle : 1;
    return slowness * (idle * work->shared / threads + work->alone) + work->waits;
}

double predict_probe_seconds(const struct build_options *options, const struct shape *shape,
                             double mean_degree)
{
    return 1e-6 * probe_us(shape, mean_degree) / predict_threads(options);
}

struct build_measuring predict_measuring(const struct build_options *options,
                                         const struct shape *shape, const struct stage_work *work,
                                         double slowness)
{
    struct measuring us = measuring_us(shape);
    const struct stage_work verifying = {.alone = work->alone, .waits = work->waits};
    double all = predict_stage_seconds(options, BUILD_MEASURE, work, slowness),
           last = predict_stage_seconds(options, BUILD_MEASURE, &verifying, slowness);
    return (struct build_measuring){
        .sample = us.sample > 0 ? us.sample / (us.sample + us.residencies) : 0,
        .verify = all > 0 ? last / all : 0};
}

/* Each byte is read from the old file, and from the new one when that is verified. */
struct predict_points predict_points(const struct build_options *options,
                                     const struct properties *properties,
                                     const struct predict_known *known)
{
    double slowness = known->slowness;
    struct build_options of = *options;
    of.degree = properties->degree_max;
    uint64_t vector_bytes = properties->records_exact
                                ? 0
                                : (uint64_t)properties->dim * fathom_dtype_bytes(properties->dtype);
    struct shape s = predict_shape_of(&of, properties->rows, properties->work_dim, vector_bytes);
    struct stage_work work[BUILD_STAGES];
    s.queries = known->queries;
    predict_shape_know(&s, &known->probe);
    predict_stages(&of, &s, 1, work);
    return (struct predict_points){
        .copying = (slowness * COPY_SECONDS + READ_BACK_SECONDS) * (double)predict_disk_bytes(&s),
        .measuring = predict_stage_seconds(&of, BUILD_MEASURE, &work[BUILD_MEASURE], slowness),
        .shares = predict_measuring(&of, &s, &work[BUILD_MEASURE], slowness)};
}

#define PACE_SECONDS 0.3 /* of stages that the look at the pace stands for */

/* The probe is a graph of DEGREE_PROBE over a sample (degree.c): of hard data, whose lists are
 * long, it takes longer without the machine being slower. It is over in a second, and its threads
 * wait for each other so often that a neighbour which takes a third of the machine doubles what it
 * takes: where there are longer stages to go by, they say more. */
double predict_slowness(const struct build_options *options, uint64_t rows, uint32_t work_dim,
                        const struct predict_timed *timed)
{
    struct shape s = predict_shape_of(options, rows, work_dim, 0);
    struct stage_work work[BUILD_STAGES];
    double usual = 0, took = 0;
    if (timed->probe.lid > 0)
        s.lid = timed->probe.lid;
    predict_stages(options, &s, predict_parts(options, rows, work_dim, 0), work);
    if (timed->probe.mean > 0) {
        usual += predict_probe_seconds(options, &s, timed->probe.mean);
        took += 1e-9 * (double)timed->probe_ns;
    }
    if (timed->cells_ns && timed->order_ns) {
        usual += predict_stage_seconds(options, BUILD_CELLS, &work[BUILD_CELLS], 1) +
                 predict_stage_seconds(options, BUILD_ORDER, &work[BUILD_ORDER], 1);
        took += 1e-9 * (double)(timed->cells_ns + timed->order_ns);
    }
    if (timed->pace > 0) { /* in doubt of what is short */
        usual += PACE_SECONDS;
        took += PACE_SECONDS * timed->pace;
    }
    double slowness = took > 0 ? took / usual : 1;
    return slowness < 0.1 ? 0.1 : slowness > 10 ? 10 : slowness;
}
