/* A build under way: what its stages (build.c) hand to each other, and what is saved of it
 * (resume.c). */
#ifndef BUILDER_STATE_H
#define BUILDER_STATE_H

#include "builder.h"
#include "checkpoint.h"
#include "crew.h"
#include "encode.h"
#include "input.h"
#include "order.h"
#include "parts.h"
#include "predict.h"
#include "queries.h"
#include "write.h"

struct build {
    struct build_options options; /* with R and L once chosen */
    struct crew crew;
    int lock;
    struct checkpoint checkpoint;
    struct work_tally tally;        /* of its files */
    char *identity;                 /* of this build (free with free) */
    bool taken_over;                /* from a build that was interrupted */
    bool rows_loaded, rows_saved;   /* from, and in, a checkpoint */
    bool written;                   /* by an earlier run, but for operating points */
    struct graph_state graph_state; /* R and L once chosen, and how far lists are */
    struct input input;
    uint32_t held;   /* rows in memory at a time until the graph; 0: all of them, as fit */
    struct work raw; /* the folder, for rows in the order of the input where they do not fit */
    bool raw_saved;
    uint64_t *ids;
    struct queries queries; /* to measure with, if there are */
    struct cells cells;
    bool cells_loaded;                /* from a checkpoint, in their order, */
    uint32_t ordered;                 /* with the rows of so many of them, which are */
    bool order_saved;                 /* by this run or an earlier one */
    struct work_writer *rows_written; /* in this file as far as it goes; NULL: in memory */
    uint8_t *centroids;               /* packed, from training on */
    struct graph graph;
    struct parts parts; /* count 0: all in memory */
    struct trained trained;
    struct encoded_codes codes;
    struct encoded_lists lists;
    struct index_writer *writer; /* written, not published yet */
    bool measured_saved;         /* as it comes, for it belongs to rows or an index that were */
    double mean_degree;
    struct predict_known known; /* when the graph is begun */
    double pace;                /* slowness before a stage is over; 0: not looked at */
    uint64_t probe_ns;          /* that the probe for R took; 0: there was none in this run */
    struct build_report *report;
};

/* Whether the build that this one takes over from has done it. */
bool build_is_done(const struct build *build, enum build_stage stage);

/* The rows that R is probed on: of those in memory, or else of a work file of rows. *out: none
 * yet. */
int build_sample(const struct build *build, const struct work *work, const char *name,
                 struct rows8 *out, struct fathom_error *err) FATHOM_MUST_USE;

/* So that reading an index back ends when the build is to stop. */
struct format_stop build_format_stop(struct build *build);

/* The stage of codes where all is in memory (encoding.c). */
int build_encode(struct build *build, struct fathom_error *err) FATHOM_MUST_USE;

/* Each saves what it is called for when a checkpoint is due, and what that rests on. Rows are saved
 * always. build_save_cells and build_save_graph are callbacks of their stages; context: the build.
 */
int build_save_cells(void *context, const struct cells_state *state,
                     struct fathom_error *err) FATHOM_MUST_USE;
int build_save_raw(struct build *build, struct fathom_error *err) FATHOM_MUST_USE;
int build_save_rows(struct build *build, struct fathom_error *err) FATHOM_MUST_USE;
/* What puts rows in order goes on from there, and keeps what it has done. */
struct order_keeper build_order_keeper(struct build *build);
int build_save_graph(void *context, const struct graph *graph, uint32_t done,
                     struct fathom_error *err) FATHOM_MUST_USE;
int build_save_written(struct build *build, struct fathom_error *err) FATHOM_MUST_USE;

/* Finds out where to go on. *identity receives what the interrupted build was (mem_free), or stays
 * NULL when there is none. */
int build_resume(struct build *build, char **identity, struct fathom_error *err) FATHOM_MUST_USE;

#endif
