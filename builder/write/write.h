/* Everything that was built, to the sections of a new generation. */
#ifndef BUILDER_WRITE_H
#define BUILDER_WRITE_H

#include "degree.h"
#include "encode.h"
#include "format.h"
#include "input.h"
#include "parts.h"
#include "queries.h"

struct product {
    const struct build_options *options;
    const struct crew *crew;
    struct checkpoint *checkpoint; /* of the index on its way; NULL: none is saved */
    struct format_stop stop;
    struct input *input;
    const struct cells *cells; /* rows: the row of the build by new row */
    const uint8_t *centroids;  /* packed (cells_pack) */
    const struct graph *graph; /* entries; its lists are in lists */
    const struct trained *trained;
    const struct encoded_codes *codes;
    const struct encoded_lists *lists;
    /* Not NULL: rows, codes and lists are in work files, and the members above empty. */
    struct parts *parts;
    const struct queries *queries; /* that points will be measured on, if there are */
    const uint64_t *ids;           /* by row of the file; NULL: row numbers */
    uint32_t build_list;
    struct degree_probe probe; /* degree_choose */
    double mean_degree;
};

/* Writes the sections of DIR/index.fathom under a temporary name, from where a killed build had
 * come to; *generation receives its name. On success *out is to be published or abandoned. */
int write_index(const struct product *product, struct index_writer **out, uint64_t *generation,
                struct fathom_error *err) FATHOM_MUST_USE;

/* manifest.c: provenance as JSON text (free with free), and the generation: a hash of all that the
 * bytes depend on. */
int manifest_make(const struct product *product, char **text, uint64_t *generation,
                  struct fathom_error *err) FATHOM_MUST_USE;

/* A manifest (free text with free), the generation that it gives, and what the build found out
 * about its data; 0 where it does not say. */
struct manifest_text {
    char *text;
    uint64_t generation;
    struct degree_probe probe;
};

/* The manifest of an index whose operating points are measured anew, on queries if there are: all
 * else is as before. options: out, query and memory_budget_bytes of it. */
int manifest_renew(const char *before, size_t bytes, const struct build_options *options,
                   const struct queries *queries, struct manifest_text *out,
                   struct fathom_error *err) FATHOM_MUST_USE;

#endif
