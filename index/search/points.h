/* Operating points: what recall a search list reaches at a residency, measured by the builder on
 * rows of the index itself, each left out of its own search. They are stored in the index, and turn
 * a target recall into a search list. */
#ifndef SEARCH_POINTS_H
#define SEARCH_POINTS_H

#include "env.h"
#include "fathom/fathom.h"
#include "format.h"

/* As on disk (docs/FORMAT.md): 32 bytes. */
struct operating_point {
    uint32_t navigator;  /* enum fathom_navigator: graph or cells */
    uint32_t code_bytes; /* resident per row; the record's bytes when 8-bit rows are resident */
    uint32_t k, search_list;
    float recall, recall_low; /* mean over the sample, and the lower end of its one-sided 95%
                                 confidence interval */
    float reads;              /* per query */
    float refine_threshold;   /* doubt at which pages were read (refine.c); 0: the default */
};

_Static_assert(sizeof(struct operating_point) == FORMAT_POINT_BYTES, "see docs/FORMAT.md");

#define POINTS_MAX          FORMAT_POINTS_MAX
#define POINTS_RESIDENT_MAX 64 /* kept in memory: those of one residency */

/* Measures the index file at path. out has room for POINTS_MAX; ordered by navigator and code bytes.
 * The result does not depend on threads. */
int points_measure(const struct env *env, const char *path, unsigned threads,
                   struct operating_point *out, uint32_t *count,
                   struct fathom_error *err) FATHOM_MUST_USE;

/* How to search. */
struct operating_choice {
    uint32_t search_list;
    float refine_threshold; /* 0: the default */
};

/* The cheapest way, by reads and by the length of the walk, that reaches target for k at this
 * residency; the best there is when none does. search_list 0: there is no point to go by. */
struct operating_choice points_choose(const struct operating_point *points, uint32_t count,
                                      uint32_t k, float target);

#endif
