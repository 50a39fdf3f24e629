/* From a file of vectors to an index directory. On all threads, and the same bytes whatever their
 * number: work is cut into blocks that never depend on the threads, and what decides
 * (distances, ranks) is exact integers.
 *
 *   rows    stream the file, check it, keep an 8-bit form of each row
 *   cells   k-means over the 8-bit rows
 *   order   relabel rows so that neighbours lie near each other
 *   graph   batch-parallel Vamana over the 8-bit rows
 *   train   rotation, bits and levels of the navigation codes
 *   encode  codes and factors of every row
 *   write   sections, vectors in the new order, manifest
 *   measure operating points: recall and reads by residency and search list, of queries that are
 *           given, or of rows
 *
 * All of it in memory, or under a memory budget with the graph in parts (parts.h) and what is built
 * in work files.
 *
 * Then the index is verified and published by one rename. A build that takes long enough leaves
 * checkpoints in the directory (checkpoint.h), from which another one can go on. */
#ifndef BUILDER_BUILDER_H
#define BUILDER_BUILDER_H

#include <stdbool.h>
#include <stdint.h>

#include "env.h"
#include "fathom/fathom.h"

#define BUILD_DEGREE_MIN          4
#define BUILD_DEGREE_MAX          128
#define BUILD_LIST_MIN            8
#define BUILD_LIST_MAX            1024
#define BUILD_THREADS_MAX         256
#define BUILD_DEFAULT_SEARCH_LIST 64
#define BUILD_MEASURED_ROWS       2000 /* smaller indexes do without operating points */

/* A part of a build that its watch is told of, and what it is thought to take; 0: it is done, or
 * there is none. Each stage is one, and so is the probe for R, which is of the graph's stage. */
struct build_phase {
    const char *name;
    double seconds;
    bool waits; /* for the device of the input */
};
#define BUILD_PHASE_PROBE "probe"
#define BUILD_PHASES_MAX  12

/* How a build talks to its caller while it runs. Members may be NULL; called from any of its
 * threads. */
struct build_watch {
    bool (*stopped)(void *context); /* true: end soon with FATHOM_EINTERRUPTED */
    void (*phase)(void *context, const char *phase, uint64_t total, const char *unit);
    void (*advance)(void *context, uint64_t done);
    /* All phases, in their order. At the start, and again when more is known. With this member a
     * build looks at a few of its rows for it. */
    void (*expect)(void *context, const struct build_phase *phases, unsigned count);
    void (*note)(void *context, const char *text); /* something that a person should know */
    void *context;
};

struct build_options {
    const char *input, *out;
    const char *ids;   /* NULL: ids are row numbers */
    const char *query; /* operating points are measured on these; NULL: on rows of the input */
    enum fathom_metric metric;
    uint32_t degree;     /* R; 0: chosen by the data */
    uint32_t build_list; /* L; 0: chosen by the data */
    double alpha;
    uint32_t code_bits; /* 1..8 bits a dimension that codes store at the most, on average; more than
                           6 are 6 */
    bool skip_zero_rows;
    uint64_t memory_budget_bytes; /* 0: none */
    uint64_t dram_budget_bytes;   /* what the index will be served from; 0: any */
    uint32_t parts; /* of the graph that are built one after the other; 0: as the budget wants */
    uint32_t held_rows;  /* in memory at a time until the graph, which then has parts; 0: as the
                            budget wants */
    uint32_t piece_rows; /* of codes and of vectors between two checkpoints, as tests want; 0: as
                            many as take some seconds */
    bool no_points;    /* operating points are not measured: for tests that have no use for them */
    uint32_t measured; /* rows or queries that they are measured on at the most, as tests want; 0:
                          as many as tell enough */
    unsigned threads;
    uint64_t seed;
    bool resume;            /* go on with what a killed build left in out */
    uint64_t checkpoint_ns; /* between checkpoints at the least; 0: wherever there may be one */
    const struct env *env;
    struct build_watch watch;
};

struct build_options build_options_default(void);
/* Whether each is within its bounds. */
int build_options_check(const struct build_options *options,
                        struct fathom_error *err) FATHOM_MUST_USE;
/* FATHOM_EBUDGET when no build of such rows keeps the memory budget. */
int build_options_check_budget(const struct build_options *options, uint64_t rows, uint32_t dim,
                               enum fathom_dtype dtype, struct fathom_error *err) FATHOM_MUST_USE;

enum build_stage {
    BUILD_READ,
    BUILD_CELLS,
    BUILD_ORDER,
    BUILD_GRAPH,
    BUILD_TRAIN,
    BUILD_ENCODE,
    BUILD_WRITE,
    BUILD_MEASURE,
    BUILD_STAGES
};

const char *build_stage_name(enum build_stage stage);

/* Shares of the time of measuring, 0..1. */
struct build_measuring {
    double verify; /* at its end, of the whole: the index is read back */
    double sample; /* of what is before: making the sample, with its true neighbours */
};

/* What a build would take. */
struct build_estimate {
    uint64_t rows;
    uint32_t dim;
    enum fathom_dtype dtype;
    uint32_t degree, build_list, parts;
    uint64_t peak_bytes;
    uint64_t disk_bytes;      /* of the new index; an old one stays beside it until the end */
    uint64_t temporary_bytes; /* of work files at their most, beside these */
    bool saves_graph;         /* rows and lists are among them */
    double slowness;          /* of this machine, 1 for the usual one: in all times below */
    double seconds, stage_seconds[BUILD_STAGES];
    double probe_seconds;                   /* of the graph's: for R where it is not given */
    double stage_cpu_seconds[BUILD_STAGES]; /* of all threads */
    struct build_measuring measuring;
};

struct build_report {
    uint64_t rows;
    uint64_t zero_row_count; /* rows that were left out */
    uint64_t *zero_rows;     /* their numbers */
    uint32_t dim, cells, degree, build_list;
    uint32_t parts;          /* of the graph; 1: all in memory at once */
    char degree_reason[128]; /* why R is what it is, for people */
    uint64_t index_bytes, raw_bytes, list_bytes;
    uint64_t temporary_bytes; /* of work files at their most */
    uint64_t generation;
    uint64_t stage_ns[BUILD_STAGES], total_ns;
    uint64_t stage_cpu_ns[BUILD_STAGES]; /* of all threads: other load changes it least */
    struct build_estimate predicted;     /* by what was known when the graph was begun */
    uint64_t peak_bytes;                 /* resident memory of the process at its highest */
};

/* Builds options->input into options->out. Nothing of an index that was there before changes until
 * the new one is verified and published. On failure report is empty. */
int build_run(const struct build_options *options, struct build_report *report,
              struct fathom_error *err) FATHOM_MUST_USE;
void build_report_fini(struct build_report *report);

/* What measuring an index anew came to. */
struct points_report {
    uint64_t rows;                            /* of the index */
    uint64_t points;                          /* that were measured */
    uint64_t queries;                         /* in the file that was given; 0: none was */
    uint64_t previous_generation, generation; /* the same when nothing was new */
    uint64_t index_bytes;
    uint64_t total_ns, cpu_ns; /* cpu_ns: of all threads */
    uint64_t peak_bytes;       /* resident memory of the process at its highest */
};

/* Measures operating points of the index in options->out anew, on options->query or on its rows,
 * and publishes it with these and all else as it was. Of the options only out, query,
 * skip_zero_rows, memory_budget_bytes, threads, env and watch count. The index is as it was until
 * the new one is verified and published, and when anything fails before. */
int build_points(const struct build_options *options, struct points_report *report,
                 struct fathom_error *err) FATHOM_MUST_USE;

/* From the header of options->input and a sample of its rows, or when that is NULL from rows, dim
 * and dtype in out alone. */
int build_predict(const struct build_options *options, struct build_estimate *out,
                  struct fathom_error *err) FATHOM_MUST_USE;

#endif
