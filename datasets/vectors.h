/* Vector files: one reader for every format that fathom takes, by the extension of the name.
 *
 *     .fvecs .bvecs               per row an i32 dim, then dim scalars (f32, u8)
 *     .fbin .f16bin .i8bin .u8bin u32 count, u32 dim, then count x dim scalars
 *     .npy                        NumPy 1.0, 2.0 and 3.0, C order; f4, f2, i1, u1
 *     .hdf5 .h5                   ann-benchmarks: `FILE.hdf5::test` names a data set, else "train"
 *     .ivecs                      per row an i32 dim, then dim i32: ids, not vectors
 *
 * Files are streamed, never loaded whole: rows are read in ranges, in any order. Structure is
 * checked here (header, size, the dim of each row); what the scalars say (NaN, infinity, zero rows)
 * is checked by those that stream, with the helpers at the end. Every message names the file, the
 * place, and what to do. A reader belongs to one thread at a time, but for vector_file_read of one
 * that says otherwise (vector_file_is_shared). HDF5 files are opened by the
 * HDF5 library; all others through struct env. */
#ifndef DATASETS_VECTORS_H
#define DATASETS_VECTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "env.h"
#include "fathom/error.h"
#include "fathom/fathom.h"

struct vector_file;

struct vector_info {
    uint64_t rows;           /* at least 1 */
    uint32_t dim;            /* 1..FATHOM_DIM_MAX */
    enum fathom_dtype dtype; /* of the file's scalars; 0 for a file of integers */
    uint64_t file_bytes;
    const char *format; /* "fvecs", "npy"...: the extension without its dot */
};

/* Opens a file of vectors. hdf5_dataset is used for HDF5 alone (NULL: the one named in path, else
 * "train"). Errors: -errno, FATHOM_EINPUT for a file that is not what it says, FATHOM_EARGUMENT for
 * a name that says no format. */
int vector_file_open(struct vector_file **out, const struct env *env, const char *path,
                     const char *hdf5_dataset, struct fathom_error *err) FATHOM_MUST_USE;
/* Opens a table of integers: .ivecs, .npy of i4, i8, u4 or u8 (one or two axes), an HDF5 data set
 * of integers (NULL: "neighbors"). Read it with vector_file_read_i64 or _u64. Rows may have
 * up to FATHOM_K_MAX entries. */
int vector_file_open_integers(struct vector_file **out, const struct env *env, const char *path,
                              const char *hdf5_dataset, struct fathom_error *err) FATHOM_MUST_USE;
void vector_file_close(struct vector_file *file); /* accepts NULL */

struct vector_info vector_file_info(const struct vector_file *file);
const char *vector_file_path(const struct vector_file *file);

/* Reads rows [first_row, first_row + rows) into out: raw scalars of the file's own dtype, rows x
 * dim without gaps. */
int vector_file_read(struct vector_file *file, uint64_t first_row, size_t rows, void *out,
                     struct fathom_error *err) FATHOM_MUST_USE;
/* Whether several threads may read ranges at a time: rows that lie in the file as they are given.
 */
bool vector_file_is_shared(const struct vector_file *file);
/* The same, converted to float (exact for every dtype). */
int vector_file_read_f32(struct vector_file *file, uint64_t first_row, size_t rows, float *out,
                         struct fathom_error *err) FATHOM_MUST_USE;
/* Rows of a table of integers. A value above 2^63 - 1 is refused with its row and column. */
int vector_file_read_i64(struct vector_file *file, uint64_t first_row, size_t rows, int64_t *out,
                         struct fathom_error *err) FATHOM_MUST_USE;
/* The same without a sign: a negative value is refused, with its row and column. */
int vector_file_read_u64(struct vector_file *file, uint64_t first_row, size_t rows, uint64_t *out,
                         struct fathom_error *err) FATHOM_MUST_USE;

/* ---- what the scalars say ---- */

/* 0, or FATHOM_EINPUT that names the first NaN or infinity: file, row (first_row is that of
 * data[0]), column. */
int vectors_check_finite(enum fathom_dtype dtype, const void *data, uint64_t first_row, size_t rows,
                         uint32_t dim, const char *path, struct fathom_error *err) FATHOM_MUST_USE;
/* Marks the rows of which every scalar is zero (cosine is undefined there): zero[i] becomes 1 or 0.
 * Returns how many. */
size_t vectors_find_zero_rows(enum fathom_dtype dtype, const void *data, size_t rows, uint32_t dim,
                              uint8_t *zero);
/* Scalars of any dtype to float; exact. */
void vectors_to_f32(enum fathom_dtype dtype, const void *data, size_t count, float *out);

/* Of one scalar; 0 when unknown. */
static inline size_t vectors_scalar_bytes(enum fathom_dtype dtype)
{
    return fathom_dtype_bytes(dtype);
}
/* "f32", "f16", "i8", "u8"; false for anything else. */
bool vectors_dtype_parse(const char *name, enum fathom_dtype *out);
/* The dtype that the extension of path stands for; 0 when it can hold several (.npy, .hdf5) or is
 * not known. */
enum fathom_dtype vectors_path_dtype(const char *path);

#endif
