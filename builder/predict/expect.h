/* What the watch of a build is told that its phases take: three times, by what is known when. */
#ifndef BUILDER_EXPECT_H
#define BUILDER_EXPECT_H

#include "state.h"

/* When the input is open. Looks at the pace of this machine, if anybody watches a build that takes
 * long enough. */
int expect_by_shape(struct build *build, struct fathom_error *err) FATHOM_MUST_USE;
/* When rows are read: looks at a few of them, if anybody watches and R is not given. */
int expect_by_glance(const struct build *build, struct fathom_error *err) FATHOM_MUST_USE;
/* When R is known. */
void expect_by_probe(const struct build *build, const struct build_estimate *predicted);

#endif
