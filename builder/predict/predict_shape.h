/* The shape of a build that its memory (predict.c) and its time (predict_time.c) follow from.
 * Private to these. */
#ifndef BUILDER_PREDICT_SHAPE_H
#define BUILDER_PREDICT_SHAPE_H

#include "predict.h"

#define PREDICT_MEASURED 800 /* rows or queries that operating points are measured on */

struct shape {
    uint64_t rows, dim, stride, code_dim, order_count, factor_bytes, degree;
    uint64_t vector_bytes; /* of a row as it is stored; 0 when 8 bits hold it exactly */
    uint64_t queries;      /* that points are measured on; 0: on rows */
    double mean_degree;    /* what searches meet on their way, in proportion to their time, */
    double list_degree;    /* and what lists hold in the end */
    double lid;            /* local intrinsic dimension, or what is usual */
};

struct shape predict_shape_of(const struct build_options *options, uint64_t rows, uint32_t work_dim,
                              uint64_t vector_bytes);
/* With what is known of the data. */
void predict_shape_know(struct shape *shape, const struct degree_probe *probe);
/* Rows or queries that the sample for operating points is picked from (points_pick.c). */
uint64_t predict_offered(const struct shape *shape);
/* Threads that a build uses of those that it is given. */
unsigned predict_threads(const struct build_options *options);
/* Of the index. */
uint64_t predict_disk_bytes(const struct shape *shape);

/* What a stage takes on the usual machine, in seconds. */
struct stage_work {
    double shared; /* CPU time that is spread over the threads */
    double alone;  /* of one thread, while others wait for it */
    double waits;  /* for disks */
};
void predict_stages(const struct build_options *options, const struct shape *shape, uint32_t parts,
                    struct stage_work out[BUILD_STAGES]);
/* From its begin to its end, on a machine so slow; devices are as they are. */
double predict_stage_seconds(const struct build_options *options, enum build_stage stage,
                             const struct stage_work *work, double slowness);
/* Of the probe for R, likewise, where it finds so many neighbours. */
double predict_probe_seconds(const struct build_options *options, const struct shape *shape,
                             double mean_degree);

/* How measuring is divided; work: of that stage. */
struct build_measuring predict_measuring(const struct build_options *options,
                                         const struct shape *shape, const struct stage_work *work,
                                         double slowness);

#endif
