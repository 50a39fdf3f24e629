/* Writes vector files, streaming: rows go to `PATH.tmp-<pid>`, and vector_writer_finish publishes
 * the whole file under its name with one rename (env.h, file_finish). Until then, and after any
 * failure, nothing is found under the final name; what a killed run left beside it is removed by
 * the next writer of the same name. HDF5 is not written. */
#ifndef DATASETS_VECTOR_WRITER_H
#define DATASETS_VECTOR_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "env.h"
#include "fathom/error.h"
#include "fathom/fathom.h"

struct vector_writer;

/* The format is the extension of path; dtype must be one that it can hold. rows is the number that
 * will be written: finish refuses any other. */
int vector_writer_open(struct vector_writer **out, const struct env *env, const char *path,
                       uint64_t rows, uint32_t dim, enum fathom_dtype dtype,
                       struct fathom_error *err) FATHOM_MUST_USE;
/* The same for .ivecs, whose scalars are i32. */
int vector_writer_open_i32(struct vector_writer **out, const struct env *env, const char *path,
                           uint64_t rows, uint32_t dim, struct fathom_error *err) FATHOM_MUST_USE;
/* Appends rows x dim scalars. */
int vector_writer_write(struct vector_writer *writer, const void *data, size_t rows,
                        struct fathom_error *err) FATHOM_MUST_USE;
/* Publishes the file. The writer must still be closed. */
int vector_writer_finish(struct vector_writer *writer, struct fathom_error *err) FATHOM_MUST_USE;
/* Frees; removes the unfinished file. Accepts NULL. */
void vector_writer_close(struct vector_writer *writer);

/* Whether this path's extension can be written at all, and with this dtype; a message when not. */
int vector_writer_check(const char *path, enum fathom_dtype dtype,
                        struct fathom_error *err) FATHOM_MUST_USE;

#endif
