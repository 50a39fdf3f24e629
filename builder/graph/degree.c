/* How many neighbours pruning leaves when it may keep many says how hard the data is: where rows
 * have neighbours in many directions (SIFT, text), lists fill up and a larger R saves a third of
 * the expansions; where not (fashion, words, synthetic sets), it would add bytes and little else.
 * Measured on the graph of a sample, which is as dense in directions as the whole. */
#include "degree.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "error.h"
#include "graph.h"
#include "lid.h"

#define HARD_SHARE   0.72 /* of the probe's R that lists must fill on average */
#define GLANCE_ERROR 2    /* neighbours by which a glance is off, about */
#define GLANCE_FULL  0.8  /* of the probe's R: lists of a glance that are longer grow no more */
#define GLANCE_LID   9.5  /* and shorter ones by so much for each dimension above these */
#define GLANCE_MORE  0.0095

/* Of a sample of at most so many. */
static uint32_t sample_count(uint32_t rows, uint32_t most)
{
    return rows < most ? rows : most;
}

static uint32_t sample_row(uint32_t i, uint32_t count, uint32_t rows)
{
    return (uint32_t)((uint64_t)i * rows / count);
}

uint32_t degree_sample_rows(uint32_t rows, uint32_t *numbers)
{
    uint32_t count = sample_count(rows, DEGREE_PROBE_ROWS);
    for (uint32_t i = 0; i < count && numbers; i++)
        numbers[i] = sample_row(i, count, rows);
    return count;
}

static int take_sample(struct rows8 *out, const struct rows8 *rows, uint32_t most)
{
    uint32_t count = sample_count(rows->count, most);
    int status = rows8_init(out, count, rows->dim);
    for (uint32_t i = 0; i < count && status == 0; i++)
        rows8_set(out, i, rows8_at(rows, sample_row(i, count, rows->count)));
    return status;
}

int degree_sample(struct rows8 *out, const struct rows8 *rows)
{
    return take_sample(out, rows, DEGREE_PROBE_ROWS);
}

/* lengths[n]: how many lists have n neighbours. */
static int measure(const struct build_options *options, const struct crew *crew,
                   const struct rows8 *rows, uint32_t lengths[DEGREE_PROBE + 1],
                   struct fathom_error *err)
{
    struct graph_options probe = {.degree = DEGREE_PROBE,
                                  .list = DEGREE_PROBE_LIST,
                                  .alpha = options->alpha,
                                  .seed = options->seed};
    struct graph graph;
    uint32_t cell[2] = {0, rows->count};
    int status = graph_build(&graph, crew, rows, cell, 1, &probe, err);
    if (status != 0)
        return status;
    for (uint32_t row = 0; row < rows->count; row++)
        lengths[graph_list(&graph, row)[0]]++;
    graph_fini(&graph);
    return 0;
}

/* Of lists that are cut to most neighbours. */
static double mean_length(const uint32_t lengths[DEGREE_PROBE + 1], uint32_t most)
{
    uint64_t edges = 0, lists = 0;
    for (uint32_t length = 0; length <= DEGREE_PROBE; length++) {
        edges += (uint64_t)lengths[length] * (length < most ? length : most);
        lists += lengths[length];
    }
    return (double)edges / (double)lists;
}

static int measure_lid(const struct crew *crew, const struct rows8 *sample,
                       struct degree_probe *probe, struct fathom_error *err)
{
    int status = lid_estimate(sample, crew, &probe->lid);
    return status == 0 ? 0 : error_set(err, status, "sample: %s", fathom_strerror(status));
}

/* Lists are longer where rows are denser, the more so the more directions there are, as long as
 * there is room in them (docs/adr/0069). */
static double mean_of_glance(double mean, double lid)
{
    return mean < GLANCE_FULL * DEGREE_PROBE ? mean * (1 + GLANCE_MORE * (lid - GLANCE_LID)) : mean;
}

static int glance_at_lists(const struct build_options *options, const struct crew *crew,
                           const struct rows8 *sample, struct degree_probe *probe,
                           struct fathom_error *err)
{
    uint32_t lengths[DEGREE_PROBE + 1] = {0};
    struct rows8 few = {0};
    struct crew quiet = {.threads = crew->threads,
                         .watch = {.stopped = crew->watch.stopped, .context = crew->watch.context}};
    int status = take_sample(&few, sample, DEGREE_GLANCE_ROWS);
    if (status == 0)
        status = measure(options, &quiet, &few, lengths, err);
    else
        (void)error_set(err, status, "no memory for a sample of the rows");
    rows8_fini(&few);
    if (status == 0)
        probe->mean = mean_of_glance(mean_length(lengths, DEGREE_PROBE), probe->lid);
    return status;
}

int degree_glance(const struct build_options *options, const struct crew *crew,
                  const struct rows8 *sample, struct degree_probe *probe, struct fathom_error *err)
{
    *probe = (struct degree_probe){0};
    int status = measure_lid(crew, sample, probe, err);
    if (status != 0 || sample->count < DEGREE_PROBE_ROWS)
        return status;
    return glance_at_lists(options, crew, sample, probe, err);
}

double degree_hardness(double mean)
{
    double above = (mean - HARD_SHARE * DEGREE_PROBE) / GLANCE_ERROR;
    return above < -1 ? 0 : above > 1 ? 1 : (1 + above) / 2;
}

/* ---- for the memory that the index will be served from (docs/adr/0023) ---- */

#define LIST_EDGE_BYTES  1.6  /* of an encoded neighbour, about */
#define ROW_BYTES        6    /* of a row's id, place of its list, and factors, about */
#define GRAPH_BITS_LEAST 1.75 /* of codes that a graph is walked on */

static double budget_of_row(const struct build_options *options, uint64_t rows)
{
    return (double)options->dram_budget_bytes / (double)rows;
}

static double list_bytes(double mean_degree, uint32_t degree)
{
    return LIST_EDGE_BYTES * (mean_degree < degree ? mean_degree : degree);
}

/* An R for the data, cut to what the budget makes use of. */
static uint32_t within_budget(const struct build_options *options, uint32_t rows, uint32_t dim,
                              double mean_degree, uint32_t degree)
{
    double row = budget_of_row(options, rows) - ROW_BYTES;
    if (options->dram_budget_bytes == 0)
        return degree;
    if (row < GRAPH_BITS_LEAST / 8 * dim + list_bytes(mean_degree, DEGREE_LEAST))
        return DEGREE_LEAST;
    return row < dim + list_bytes(mean_degree, degree) ? DEGREE_USUAL : degree;
}

uint32_t degree_code_bits(const struct build_options *options, uint64_t rows, uint32_t dim)
{
    double row = budget_of_row(options, rows);
    if (options->dram_budget_bytes == 0 || row * 8 >= (double)options->code_bits * dim)
        return options->code_bits;
    uint32_t bits = (uint32_t)(row * 8 / dim) + 1;
    return bits < options->code_bits ? bits : options->code_bits;
}

int degree_choose(struct build_options *options, const struct crew *crew,
                  const struct rows8 *sample, uint32_t rows, uint32_t dim,
                  struct degree_probe *probe, struct fathom_error *err)
{
    *probe = (struct degree_probe){0};
    if (options->degree == 0) {
        uint32_t lengths[DEGREE_PROBE + 1] = {0};
        int status = measure(options, crew, sample, lengths, err);
        if (status != 0)
            return status;
        probe->mean = mean_length(lengths, DEGREE_PROBE);
        options->degree = probe->mean >= HARD_SHARE * DEGREE_PROBE ? DEGREE_HARD : DEGREE_USUAL;
        options->degree = within_budget(options, rows, dim, probe->mean, options->degree);
        probe->cut = mean_length(lengths, options->degree);
        status = measure_lid(crew, sample, probe, err);
        if (status != 0)
            return status;
    }
    if (options->build_list == 0)
        options->build_list = degree_list(options->degree);
    return 0;
}

/* Twice R; a little more where the data is hard, which makes up for an R that is kept small for the
 * bytes of its lists (docs/adr/0017). */
uint32_t degree_list(uint32_t degree)
{
    uint32_t list = degree < DEGREE_HARD ? 2 * degree : 12 * degree / 5;
    return list < BUILD_LIST_MAX ? list : BUILD_LIST_MAX;
}

void degree_explain(const struct build_options *options, double mean_degree, char *text)
{
    if (mean_degree == 0)
        snprintf(text, DEGREE_REASON_BYTES, "R %" PRIu32 ": given, or no rows to choose by",
                 options->degree);
    else if (options->dram_budget_bytes && options->degree == DEGREE_LEAST)
        snprintf(text, DEGREE_REASON_BYTES,
                 "R %d: cells answer from %" PRIu64
                 " KiB of memory, and no R changes what they find",
                 DEGREE_LEAST, options->dram_budget_bytes >> 10);
    else if (options->dram_budget_bytes && options->degree == DEGREE_USUAL &&
             mean_degree >= HARD_SHARE * DEGREE_PROBE)
        snprintf(text, DEGREE_REASON_BYTES,
                 "R %d: hard data, but in %" PRIu64
                 " KiB of memory bytes do more in codes than in lists",
                 DEGREE_USUAL, options->dram_budget_bytes >> 10);
    else
        snprintf(text, DEGREE_REASON_BYTES,
                 "R %" PRIu32 ": lists of a sample fill %.1f of %d places; hard data, which gets R "
                 "%d, fills %.1f or more",
                 options->degree, mean_degree, DEGREE_PROBE, DEGREE_HARD,
                 HARD_SHARE * DEGREE_PROBE);
}
