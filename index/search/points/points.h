/* Operating points: what recall a search list and a refine threshold reach at a residency, with and
 * without re-ranking by full vectors, measured by the builder on queries that were given for it, or
 * on rows of the index itself, each left out of its own search. They are stored in the index, and
 * turn a target recall into a list, a threshold and whether to re-rank. */
#ifndef SEARCH_POINTS_H
#define SEARCH_POINTS_H

#include "env.h"
#include "fathom/fathom.h"
#include "format.h"

/* What a way to search came to. */
struct attained {
    float recall, recall_low; /* mean over the sample, and the lower end of its one-sided 95%
                                 confidence interval */
    float reads;              /* per query */
};

/* As on disk (docs/FORMAT.md): 48 bytes. */
struct operating_point {
    uint32_t navigator;  /* enum fathom_navigator: graph or cells */
    uint32_t code_bytes; /* resident per row; the record's bytes when 8-bit rows are resident */
    uint32_t k, search_list;
    float refine_threshold;   /* doubt at which pages were read (refine.c) */
    struct attained plain;    /* ranked by 8-bit rows and codes */
    struct attained reranked; /* full vectors read of what these leave in doubt, reads included; all
                                 0 where 8-bit rows are exact */
    uint32_t measured_on;     /* enum format_measured_on; the same in all points of an index */
};

_Static_assert(sizeof(struct operating_point) == FORMAT_POINT_BYTES, "see docs/FORMAT.md");

#define POINTS_MAX          FORMAT_POINTS_MAX
#define POINTS_RESIDENT_MAX 96 /* kept in memory: those of one residency */

/* What a long measurement reports while it runs; called from any of its threads. */
struct points_watch {
    bool (*stopped)(void *context); /* true: end soon with FATHOM_EINTERRUPTED; may be NULL */
    void (*advance)(void *context, uint64_t done, uint64_t total); /* may be NULL */
    void *context;
    const struct points_keeper *keeper; /* may be NULL */
};

/* A stretch of memory that is kept. */
struct points_part {
    void *at;
    size_t bytes;
};

/* What a measurement keeps of itself on its way, for one that begins after it was killed and is of
 * the same index and the same queries. Called by one thread at a time. */
struct points_keeper {
    bool (*due)(void *context, uint64_t bytes); /* is it time to save so many? */
    /* All parts under this name, in the place of what was saved under it before. */
    int (*save)(void *context, const char *name, const struct points_part *parts, unsigned count,
                struct fathom_error *err);
    /* 1: the parts are what was saved. 0: nothing was, or it is of no use, and they hold anything.
     */
    int (*load)(void *context, const char *name, const struct points_part *parts, unsigned count,
                struct fathom_error *err);
    void *context;
};

/* What is kept of an index of so many rows takes as bytes of files under POINTS_KEPT names. */
uint64_t points_kept_bytes(uint64_t rows);
#define POINTS_KEPT 3

/* Queries to measure with. */
#define POINTS_OFFERED_MAX 3200 /* of which the sample that is measured is picked, at the most */
struct points_queries {
    uint32_t count; /* 1..POINTS_OFFERED_MAX */
    /* Fills out, count x dim, in user space; none is NaN, infinite, or zero under cosine. Called
     * once. */
    int (*load)(void *context, float *out, struct fathom_error *err);
    void *context;
};

struct points_options {
    unsigned threads;      /* the result does not depend on them */
    uint64_t budget_bytes; /* of memory; 0: no limit */
    double sample_share; /* for progress: of the time, what making the sample takes; 0: not known */
    const struct points_queries *queries; /* NULL: rows of the index */
    uint32_t sample; /* rows or queries at the most, as tests want; 0: as many as tell enough */
    struct points_watch watch;
};

/* Measures the index file at path; *usual: of what it is measured on. What does not fit the budget
 * is not measured; lists that do not fit are read from the file, which changes no point. out has
 * room for POINTS_MAX; ordered by navigator, code bytes, k, search list and threshold. */
int points_measure(const struct env *env, const char *path, const struct points_options *options,
                   struct operating_point *out, uint32_t *count, struct usual *usual,
                   struct fathom_error *err) FATHOM_MUST_USE;

/* How to search. */
struct operating_choice {
    uint32_t search_list;
    float refine_threshold;  /* 0: the default, without points */
    bool rerank;             /* by full vectors, where 8-bit rows leave the result in doubt */
    float recall_low, reads; /* what to expect of it */
};

/* What a navigator's walk costs in one residency, roughly, of one core. */
struct points_cost {
    double fixed_us, list_us; /* for each query, and for each unit of its search list */
    double list_reads;        /* pages of codes read for each unit of it */
    double fixed_reads;       /* of other pages than rows', for each query */
    double read_us;           /* of the device, for each read */
    uint32_t list_most;       /* the longest search list that there is memory for; 0: any */
};

/* code_bytes 0: the 8-bit rows are resident. */
struct points_cost points_cost(const struct properties *properties, enum fathom_navigator navigator,
                               uint32_t code_bytes);

/* The same for cells whose codes are on pages, list_reads of which a unit of search list reads. */
void points_cost_scan(struct points_cost *cost, const struct properties *properties,
                      uint32_t code_bytes, double list_reads);

/* Time of the whole machine that a query takes, reads included: to compare with others. */
double points_cost_us(const struct points_cost *cost, const struct operating_choice *choice);

/* The cheapest way that reaches target for k at this residency, between measured lists or
 * thresholds if need be, re-ranked where rerank says so or leaves it open and that is cheaper; when
 * none does, the cheapest of those that come near the best. search_list 0: there is no point to go
 * by. No list is longer than
 * cost->list_most. points: as points_measure has ordered them. */
struct operating_choice points_choose(const struct operating_point *points, uint32_t count,
                                      uint32_t k, float target, enum fathom_rerank rerank,
                                      const struct points_cost *cost);

/* Who searches what. */
struct points_residency {
    enum fathom_navigator navigator;
    uint32_t code_bytes;
    uint32_t unlike_bytes; /* cells with codes in memory: the size of those in section scan, whose
                              points are of pages; otherwise 0 */
};

/* The points that speak for a residency: those measured with codes of its size, or on a straight
 * line between those of the next shorter and the next longer code that were; beyond the ends, those
 * of the end. In the graph without what is lost by the hole that a row of the sample
 * leaves; given queries leave none. Returns how many; out has room for POINTS_RESIDENT_MAX. */
uint32_t points_for(const struct operating_point *points, uint32_t count,
                    const struct points_residency *residency, struct operating_point *out);

/* What queries aim at that name neither a search list nor a target, and plans are priced for when
 * nobody says more. */
#define FATHOM_TARGET_RECALL 0.97f

#endif
