/* External ids: one for each row of the input. */
#ifndef BUILDER_IDS_H
#define BUILDER_IDS_H

#include "env.h"

/* Reads rows ids from path: a table of integers with one column (.npy, .ivecs, .hdf5) or text with
 * one number a line. Checked: the count, no negative one, no duplicate, none that is 2^64-1. Free
 * with mem_free. */
int ids_read(uint64_t **out, const struct env *env, const char *path, uint64_t rows,
             struct fathom_error *err) FATHOM_MUST_USE;

#endif
