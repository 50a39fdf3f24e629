/* Steps of a build as work files, so that a killed build can be gone on with. What is saved is what
 * a step leaves for the next, no more: everything else follows from it, the seed and the options.
 * A file is there or not; which of them are there decides where a resumed build begins.
 *
 *   state      the build's identity: input and options
 *   input      what reading found out: zero rows, largest norm, 8-bit form
 *   raw        8-bit rows in the order of the input, where they do not fit in memory
 *   cells      k-means after some rounds
 *   ordered    cells in their order, and of how many of them the rows are; where rows do not fit in
 *              memory, these are in rows.part
 *   rows       8-bit rows in their final order, their cells, and where they were in the input
 *   graph      neighbour lists after some batches, or all; of a part of the graph: grown0, grown1
 *   merged ... of a graph in parts, as its lists are merged and encoded: merge.h
 *   heat       of all lists; where there are so many rows that encoding takes long
 *   lists0     encoded lists of a piece of the rows; there too
 *   codes0     codes and factors of a piece of the rows, or of a part
 *   writing    the new index so far: sections, and of vectors as far as they are in order
 *   written    the new index is complete but for its operating points
 *   picked     rows that these are measured with, as far as the file was looked through for them
 *   sample     those, and their neighbours as far as it was
 *   points     of the residencies that are measured
 *
 * Saving is paced: as rarely as its cost must be small, but so often that no more than a minute of
 * work can be lost. */
#ifndef BUILDER_CHECKPOINT_H
#define BUILDER_CHECKPOINT_H

#include "cells.h"
#include "degree.h"
#include "encode.h"
#include "format.h"
#include "graph.h"
#include "input.h"
#include "stored.h"
#include "work.h"

struct checkpoint {
    struct work work;
    const struct crew *crew;
    uint64_t spacing_ns; /* between two at the least; 0: one wherever there may be one */
    uint64_t last_ns;    /* end of the last one, or the start */
    double cost_ns;      /* of a byte, by the last one */
    bool begun;          /* state and input are saved */
    bool unplanned;      /* the build is thought to end before a checkpoint is worth its cost */
};

/* ---- when ---- */

void checkpoint_start(struct checkpoint *checkpoint);
/* Something else has kept the work that was done so far. */
void checkpoint_kept(struct checkpoint *checkpoint);
/* How long after the last one a checkpoint of about so many bytes is worth its cost. */
uint64_t checkpoint_wait_ns(uint64_t spacing_ns, double cost_ns, uint64_t bytes);
#define CHECKPOINT_COST_NS 1.0            /* of a byte, before one was written */
#define CHECKPOINT_MOST_NS 28000000000ull /* none waits for longer: a minute of two threads */
uint64_t checkpoint_since_ns(const struct checkpoint *checkpoint); /* the last one */
/* Whether it is by now. One that was not planned waits for twice as long, if that is not long: what
 * is on disk does not hang on whether the clock is a little early. */
bool checkpoint_due(const struct checkpoint *checkpoint, uint64_t bytes);

/* ---- saving: 0 or an error ---- */

/* identity: the text of identity_text, hashed. Sets the identity of all files that follow. */
int checkpoint_save_input(struct checkpoint *checkpoint, const char *identity,
                          const struct input *input, struct fathom_error *err) FATHOM_MUST_USE;
#define CHECKPOINT_CELLS   "cells" /* these two are of no use once rows are saved */
#define CHECKPOINT_ORDERED "ordered"
#define CHECKPOINT_ROWS    "rows" /* stored.h reads it where it is */

int checkpoint_save_cells(struct checkpoint *checkpoint, const struct cells_state *state,
                          struct fathom_error *err) FATHOM_MUST_USE;
int checkpoint_save_rows(struct checkpoint *checkpoint, const struct rows8 *rows,
                         const struct cells *cells, struct fathom_error *err) FATHOM_MUST_USE;
/* Between two ranges of the order: the rows of cells [0, done) are in it. */
int checkpoint_save_ordered(struct checkpoint *checkpoint, const struct cells *cells, uint32_t done,
                            struct fathom_error *err) FATHOM_MUST_USE;

/* The file of rows as it is written piece by piece. work_suspend or work_abandon ends it before its
 * time; checkpoint_end_rows gives it its name, *writer becoming NULL, or leaves all as it was. */
int checkpoint_begin_rows(struct checkpoint *checkpoint, const struct cells *cells, uint32_t rows,
                          struct work_writer **out, struct fathom_error *err) FATHOM_MUST_USE;
/* Behind the `ready` rows that a killed build has put there. */
int checkpoint_reopen_rows(struct checkpoint *checkpoint, uint32_t ready, uint32_t dim,
                           struct work_writer **out, struct fathom_error *err) FATHOM_MUST_USE;
int checkpoint_end_rows(struct checkpoint *checkpoint, struct work_writer **writer,
                        const struct cells *cells, struct fathom_error *err) FATHOM_MUST_USE;

/* How far a graph is, and what was chosen for it. */
struct graph_state {
    uint32_t degree, list;
    uint32_t done;             /* as graph_options.done; GRAPH_DONE at the end */
    struct degree_probe probe; /* 0: R was given */
};

#define CHECKPOINT_GRAPH "graph" /* the name of the whole one's file */

int checkpoint_save_graph(struct checkpoint *checkpoint, const char *name,
                          const struct graph *graph, const struct graph_state *state,
                          struct fathom_error *err) FATHOM_MUST_USE;

/* Heat is of rows rows. Codes and lists are those of a piece, within all that codes and slots have
 * room for. */
int checkpoint_save_heat(struct checkpoint *checkpoint, const uint32_t *heat, uint32_t rows,
                         struct fathom_error *err) FATHOM_MUST_USE;
int checkpoint_save_lists(struct checkpoint *checkpoint, const struct list_slots *slots,
                          const struct encode_piece *piece,
                          struct fathom_error *err) FATHOM_MUST_USE;
int checkpoint_save_codes(struct checkpoint *checkpoint, struct encoded_codes *codes,
                          const struct planes_model *planes, const struct encode_piece *piece,
                          struct fathom_error *err) FATHOM_MUST_USE;

#define CHECKPOINT_WRITING "writing"

/* How far the index is whose file is being written. sum: of the rows in a section of vectors that
 * is not ended (input_row_sum). */
int checkpoint_save_writing(struct checkpoint *checkpoint, const struct index_progress *progress,
                            uint64_t sum, struct fathom_error *err) FATHOM_MUST_USE;

/* What is known of an index whose file is written. */
struct written {
    uint64_t generation, rows, list_bytes;
    uint32_t cells, degree, build_list, parts; /* 0: the graph was made in one */
};

int checkpoint_save_written(struct checkpoint *checkpoint, const struct written *written,
                            struct fathom_error *err) FATHOM_MUST_USE;

/* ---- loading: 1, or 0 when there is none; a damaged one is reported, removed and none ---- */

/* Checks that the interrupted build is this one, as far as is known before the input is read, and
 * takes its identity. FATHOM_EARGUMENT when it is another. *identity: its text (free with
 * mem_free). */
int checkpoint_load_state(struct checkpoint *checkpoint, const char *unhashed, char **identity,
                          struct fathom_error *err) FATHOM_MUST_USE;
/* Fills what input_read would, but for rows and hash. */
int checkpoint_load_input(struct checkpoint *checkpoint, struct input *input,
                          struct fathom_error *err) FATHOM_MUST_USE;
int checkpoint_load_cells(struct checkpoint *checkpoint, struct cells_state *state, uint32_t dim,
                          struct fathom_error *err) FATHOM_MUST_USE;
/* Cells in their order, and of how many the rows are. rows: there are in all. */
int checkpoint_load_ordered(struct checkpoint *checkpoint, struct cells *cells, uint32_t *done,
                            uint32_t rows, uint32_t dim, struct fathom_error *err) FATHOM_MUST_USE;
/* stay: rows receives but how many there are; all were read and found good. */
int checkpoint_load_rows(struct checkpoint *checkpoint, bool stay, struct rows8 *rows,
                         struct cells *cells, uint32_t dim,
                         struct fathom_error *err) FATHOM_MUST_USE;
int checkpoint_load_graph(struct checkpoint *checkpoint, const char *name, struct graph *graph,
                          uint32_t rows, struct graph_state *state,
                          struct fathom_error *err) FATHOM_MUST_USE;
int checkpoint_load_heat(struct checkpoint *checkpoint, uint32_t *heat, uint32_t rows,
                         struct fathom_error *err) FATHOM_MUST_USE;
int checkpoint_load_lists(struct checkpoint *checkpoint, const struct list_slots *slots,
                          const struct encode_piece *piece,
                          struct fathom_error *err) FATHOM_MUST_USE;
int checkpoint_load_codes(struct checkpoint *checkpoint, struct encoded_codes *codes,
                          const struct planes_model *planes, const struct encode_piece *piece,
                          struct fathom_error *err) FATHOM_MUST_USE;
int checkpoint_load_writing(struct checkpoint *checkpoint, struct index_progress *progress,
                            uint64_t *sum, struct fathom_error *err) FATHOM_MUST_USE;
int checkpoint_load_written(struct checkpoint *checkpoint, struct written *written,
                            struct fathom_error *err) FATHOM_MUST_USE;

/* ---- files of other modules ---- */

/* 1: the file is there and whole. 0: it is to be made (again, which is said). */
int checkpoint_has(struct checkpoint *checkpoint, const char *name,
                   struct fathom_error *err) FATHOM_MUST_USE;

/* ---- what the files' functions share ---- */

/* Ends a file that was begun at start_ns, and learns from it what bytes cost. */
int checkpoint_finish(struct checkpoint *checkpoint, struct work_writer *writer, int status,
                      uint64_t start_ns, uint64_t bytes, struct fathom_error *err) FATHOM_MUST_USE;
/* 0 when the step is to be done again because its file is missing or of no use, which is said. */
int checkpoint_unusable(struct checkpoint *checkpoint, const char *name, int status,
                        struct fathom_error *err) FATHOM_MUST_USE;
/* "part0", "codes0" and so on; into name, which is returned. */
const char *checkpoint_name(char name[WORK_NAME_MAX], const char *kind, uint32_t number);
/* FATHOM_ECORRUPT. */
int checkpoint_malformed(const char *name, struct fathom_error *err);

#endif
