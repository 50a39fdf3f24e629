/* From what a build is made, as JSON: for the manifest, and to tell whether a build that is to be
 * resumed is still the same one. No time, no path and no thread count. */
#ifndef BUILDER_PROVENANCE_H
#define BUILDER_PROVENANCE_H

#include <jansson.h>

#include "input.h"
#include "queries.h"

#define PROVENANCE_HASH "scalars_xxh3_128"

/* NULL when there is no memory. The hash is left out as long as the input has not been read. */
json_t *provenance_input(const struct input *input, bool hashed);
json_t *provenance_ids(const struct input *input, const uint64_t *ids);
/* Of queries that were given. */
json_t *provenance_queries(const struct queries *queries);
json_t *provenance_options(const struct build_options *options);

/* ---- identity.c: of a build that is under way ---- */

struct build;
/* What its bytes depend on, as text (free with free). NULL: no memory. */
char *identity_text(const struct build *build, bool hashed);
uint64_t identity_hash(const char *text);
/* FATHOM_EARGUMENT with the first thing in which two identities differ; dir is for the message. */
int identity_compare(const char *dir, const char *before, const char *now,
                     struct fathom_error *err) FATHOM_MUST_USE;

#endif
