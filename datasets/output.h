/* One output file: bytes appended to `PATH.tmp-<pid>` and published under PATH by one rename.
 * Private to datasets/; what vector_writer and truth_write have in common. */
#ifndef DATASETS_OUTPUT_H
#define DATASETS_OUTPUT_H

#include <stddef.h>
#include <stdint.h>

#include "env.h"
#include "fathom/error.h"

struct output {
    const struct env *env;
    char *path, *tmp_path;
    int fd; /* -1: none, or already published */
    uint64_t bytes;
};

/* Creates the temporary file, after removing those that dead processes left for the same path. */
int output_open(struct output *output, const struct env *env, const char *path,
                struct fathom_error *err) FATHOM_MUST_USE;
int output_append(struct output *output, const void *data, size_t bytes,
                  struct fathom_error *err) FATHOM_MUST_USE;
int output_publish(struct output *output, struct fathom_error *err) FATHOM_MUST_USE;
/* Frees; removes what was not published. Accepts a zeroed struct. */
void output_fini(struct output *output);

#endif
