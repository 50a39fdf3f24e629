/* External ids: one for each row of the vectors. */
#ifndef DATASETS_IDS_H
#define DATASETS_IDS_H

#include "env.h"

/* Reads ids from path, rows of them, which is at least 1: a table of integers with one column
 * (.npy, .ivecs, .hdf5) or text with one number a line; 0 to 2^64-2 in either. Checked: the count,
 * no negative one, no duplicate, none that is 2^64-1. Free with mem_free. */
int ids_read(uint64_t **out, const struct env *env, const char *path, uint64_t rows,
             struct fathom_error *err) FATHOM_MUST_USE;
/* The same, however many there are. */
int ids_read_all(uint64_t **out, uint64_t *rows, const struct env *env, const char *path,
                 struct fathom_error *err) FATHOM_MUST_USE;

#endif
