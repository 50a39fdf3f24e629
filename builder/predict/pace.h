/* How slow this machine is just now, by a moment of work that does not hang on any data. */
#ifndef BUILDER_PACE_H
#define BUILDER_PACE_H

#include "crew.h"

#define PACE_WORTH 1.0 /* seconds: whether what is to come is worth it */

/* *slowness: 1 on the usual machine, 0.1 to 10, other work that runs beside this counted in. A
 * clock that stands still tells nothing: 1. */
int pace_measure(const struct crew *crew, const struct env *env, double *slowness,
                 struct fathom_error *err) FATHOM_MUST_USE;
/* As above, where the work so takes seconds on the usual machine, and somebody watches; else
 * *slowness stays as it is. */
int pace_of(const struct crew *crew, const struct env *env, double seconds, double *slowness,
            struct fathom_error *err) FATHOM_MUST_USE;

#endif
