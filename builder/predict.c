/* Peak memory is the largest of what the stages hold at the same time. Times come from a machine of
 * two cores with AVX-512, for a feeling of size and no more. */
#include "predict.h"

#include <math.h>

#include "cells.h"
#include "error.h"
#include "input.h"
#include "metric.h"
#include "page.h"
#include "parts.h"
#include "planes.h"

#define BASE_BYTES      (14u << 20) /* the program, BLAS, buffers */
#define THREAD_BYTES    (6u << 20)
#define LIST_BYTES_EDGE 2 /* of an encoded neighbour, about */

struct shape {
    uint64_t rows, dim, stride, code_dim, order_count, levels, degree;
};

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t peak_bytes(const struct build_options *options, const struct shape *s, bool exact)
{
    uint64_t rows8 = s->rows * (s->stride + sizeof(struct row8_terms));
    uint64_t cells = s->rows * 4 + s->rows / CELLS_ROWS * (s->stride + 16);
    uint64_t lists = s->rows * (s->degree * LIST_BYTES_EDGE + 4);
    uint64_t adjacency = s->rows * 4 * size_round_up(s->degree * 13 / 10 + 1, 16);
    uint64_t reading = rows8 + (72u << 20);
    uint64_t clustering = rows8 + s->rows * 20 + cells;
    uint64_t graphing = rows8 + adjacency + cells + s->rows * 13 + s->rows / 50 * s->degree * 12;
    uint64_t training = rows8 + adjacency + cells + 10 * 4 * s->dim * s->dim + (8u << 20);
    uint64_t listing = rows8 + adjacency + cells + lists + s->rows * 15; /* heat, and its order */
    uint64_t writing = rows8 + cells + lists + s->rows * (s->order_count + 4 * s->levels) +
                       s->rows * 4 + (exact ? 0 : 72u << 20);
    /* Two openings of the index at a time, each with codes or records, lists and ids. */
    uint64_t opened = s->rows * (larger(s->order_count, s->dim) + 16) + lists + (4u << 20);
    uint64_t measuring = cells + (options->threads > 1 ? 2 : 1) * opened;
    uint64_t most = larger(larger(reading, clustering), larger(graphing, training));
    most = larger(most, larger(larger(listing, writing), measuring));
    uint64_t threads = (uint64_t)options->threads * (THREAD_BYTES + 4096 * s->dim);
    return BASE_BYTES + threads + (options->ids ? 8 * s->rows : 0) + most;
}

static struct shape shape_of(const struct build_options *options, uint64_t rows, uint32_t work_dim)
{
    struct shape s = {
        .rows = rows, .dim = work_dim, .levels = PLANES_LEVELS_MAX, .degree = options->degree};
    s.stride = size_round_up(s.dim, MEM_ALIGN);
    s.code_dim = size_round_up(s.dim, PLANES_GROUP);
    s.order_count = s.code_dim * options->code_bits / PLANES_GROUP;
    return s;
}

/* ---- under a budget ---- */

/* What is there in every stage: the program, threads, cells and ids. */
static uint64_t standing_bytes(const struct build_options *options, const struct shape *s)
{
    return BASE_BYTES + PREDICT_BUDGET_THREADS * (THREAD_BYTES + 4096 * s->dim) +
           s->rows * (options->ids ? 12 : 4) + s->rows / CELLS_ROWS * (s->stride + 16);
}

uint64_t predict_least(const struct build_options *options, uint64_t rows, uint32_t work_dim)
{
    struct shape s = shape_of(options, rows, work_dim);
    uint64_t row = s.stride + sizeof(struct row8_terms) + 16; /* as cells are found, and trained */
    return standing_bytes(options, &s) + rows * row + rows / CELLS_ROWS * s.stride;
}

uint32_t predict_parts(const struct build_options *options, uint64_t rows, uint32_t work_dim,
                       bool exact)
{
    struct shape s = shape_of(options, rows, work_dim);
    struct build_options planned = *options;
    uint64_t budget = options->memory_budget_bytes, standing = standing_bytes(options, &s);
    if (options->parts)
        return options->parts < PARTS_MAX ? options->parts : PARTS_MAX;
    planned.threads = 1; /* measuring makes do with what there is */
    uint64_t threads = (PREDICT_BUDGET_THREADS - 1) * (THREAD_BYTES + 4096 * s.dim);
    if (budget == 0 || peak_bytes(&planned, &s, exact) + threads <= budget)
        return 1;
    uint64_t member = s.stride + sizeof(struct row8_terms) +
                      4 * size_round_up(s.degree * 13 / 10 + 1, 16) + s.degree * 12 / 50 + 34;
    uint64_t room = budget > standing ? (budget - standing) / member : 0;
    uint64_t own = (uint64_t)((double)room / (1 + PARTS_HALO));
    uint64_t parts = own ? (rows + own - 1) / own : PARTS_MAX;
    return parts < 2 ? 2 : parts < PARTS_MAX ? (uint32_t)parts : PARTS_MAX;
}

uint64_t predict_measuring(const struct build_options *options, uint64_t rows, uint32_t work_dim,
                           uint64_t list_bytes, unsigned threads)
{
    struct shape s = shape_of(options, rows, work_dim);
    uint64_t opened =
        rows * (larger(s.order_count, s.dim) + 16) + list_bytes + list_bytes / 10 + (4u << 20);
    return standing_bytes(options, &s) + (threads > 1 ? 2 : 1) * opened;
}

/* A row store: rows do not straddle pages, or take whole ones. */
static uint64_t store_bytes(uint64_t rows, uint64_t row_bytes)
{
    uint64_t per_page = PAGE_PAYLOAD / row_bytes;
    uint64_t pages =
        per_page ? rows / per_page + 1 : rows * ((row_bytes + PAGE_PAYLOAD - 1) / PAGE_PAYLOAD);
    return pages * PAGE_BYTES;
}

static uint64_t disk_bytes(const struct shape *s, uint64_t vector_bytes, bool exact)
{
    uint64_t streams =
        s->rows * (s->order_count + 4 * s->levels + s->degree * LIST_BYTES_EDGE + 2 + 4) +
        s->rows / CELLS_ROWS * (s->dim + 4) + s->code_dim * s->dim;
    return streams + streams / 500 + (64u << 10) +
           store_bytes(s->rows, row8_record_bytes((uint32_t)s->dim, exact)) +
           (exact ? 0 : store_bytes(s->rows, vector_bytes));
}

/* Fitted to SIFT (128 dimensions, R 32 and 48), Fashion-MNIST (784) and a synthetic million. */
static double seconds(const struct build_options *options, const struct shape *s)
{
    double rows = (double)s->rows, dim = (double)s->dim;
    double graph_us = 0.4 * options->build_list * (0.6 + dim / 1500) * (0.4 + s->degree / 50.0);
    double cells_us = 1 + 0.0185 * dim * sqrt(rows / 4e5), order_us = 0.02 * dim;
    double code_us = 0.06 * dim + 1.2e-5 * dim * dim;
    double measure = (4 + 1.2e-5 * rows) * (0.5 + dim / 256);
    double work = measure + 1e-6 * rows * (graph_us + cells_us + order_us + code_us);
    return 0.2 + work / options->threads + 2.4e-8 * rows * dim;
}

void predict_shape(const struct build_options *options, struct build_estimate *estimate)
{
    bool exact = options->metric == FATHOM_METRIC_L2 &&
                 (estimate->dtype == FATHOM_U8 || estimate->dtype == FATHOM_I8);
    struct shape s =
        shape_of(options, estimate->rows, metric_work_dim(options->metric, estimate->dim));
    uint64_t vector_bytes = estimate->dim * fathom_dtype_bytes(estimate->dtype);
    estimate->peak_bytes = peak_bytes(options, &s, exact);
    estimate->disk_bytes = disk_bytes(&s, vector_bytes, exact);
    estimate->seconds = seconds(options, &s);
}
