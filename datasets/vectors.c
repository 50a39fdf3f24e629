/* Opening and reading vector files: finds the format by the extension, bounds what is asked,
 * converts. Knows nothing of any single format (format_*.c do), never looks at what the scalars say
 * (vectors_check.c does), never keeps more than a scratch buffer in memory. */
#include "vector_format.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "le.h"
#include "mem.h"

_Static_assert((int)SCALAR_F32 == (int)FATHOM_F32 && (int)SCALAR_F16 == (int)FATHOM_F16 &&
                   (int)SCALAR_I8 == (int)FATHOM_I8 && (int)SCALAR_U8 == (int)FATHOM_U8,
               "a scalar that can be in a vector has the value of its dtype");
_Static_assert(VECTOR_SCRATCH_BYTES >= sizeof(uint32_t) + FATHOM_DIM_MAX * sizeof(uint64_t),
               "the longest row of any format fits in the scratch buffers");

static const struct vector_format formats[] = {
    {".fvecs", SCALAR_F32, xvecs_open, xvecs_read, NULL},
    {".bvecs", SCALAR_U8, xvecs_open, xvecs_read, NULL},
    {".ivecs", SCALAR_I32, xvecs_open, xvecs_read, NULL},
    {".fbin", SCALAR_F32, bin_open, contiguous_read, NULL},
    {".f16bin", SCALAR_F16, bin_open, contiguous_read, NULL},
    {".i8bin", SCALAR_I8, bin_open, contiguous_read, NULL},
    {".u8bin", SCALAR_U8, bin_open, contiguous_read, NULL},
    {".npy", 0, npy_open, contiguous_read, NULL},
    {".hdf5", 0, hdf5_open, hdf5_read, hdf5_close},
    {".h5", 0, hdf5_open, hdf5_read, hdf5_close},
};

/* ---- names ---- */

/* Where "::dataset" starts in FILE.hdf5::dataset, or NULL. A plain file name may hold colons. */
static const char *dataset_separator(const char *path)
{
    const char *separator = strstr(path, ".hdf5::");
    if (separator)
        return separator + strlen(".hdf5");
    separator = strstr(path, ".h5::");
    return separator ? separator + strlen(".h5") : NULL;
}

static size_t file_name_length(const char *path)
{
    const char *separator = dataset_separator(path);
    return separator ? (size_t)(separator - path) : strlen(path);
}

const struct vector_format *vector_format_find(const char *path)
{
    size_t length = file_name_length(path);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        size_t part = strlen(formats[i].extension);
        if (length > part && !memcmp(path + length - part, formats[i].extension, part))
            return &formats[i];
    }
    return NULL;
}

enum fathom_dtype vectors_path_dtype(const char *path)
{
    const struct vector_format *format = vector_format_find(path);
    if (!format || scalar_is_integer(format->scalar))
        return 0;
    return (enum fathom_dtype)format->scalar;
}

static char *copy_text(const char *text, size_t length)
{
    char *copy = mem_alloc(length + 1);
    if (copy)
        memcpy(copy, text, length);
    return copy;
}

/* Splits path into the file and the data set; the caller's choice of data set wins over the one in
 * path. */
static int set_names(struct vector_file *file, const char *path, const char *dataset,
                     struct fathom_error *err)
{
    const char *separator = dataset_separator(path);
    if (!dataset && separator)
        dataset = separator + 2;
    if (!dataset)
        dataset = file->integers ? "neighbors" : "train";
    file->path = copy_text(path, file_name_length(path));
    file->dataset = copy_text(dataset, strlen(dataset));
    if (!file->path || !file->dataset)
        return error_set(err, -ENOMEM, "%s: no memory to open it", path);
    return 0;
}

/* ---- opening ---- */

int vector_file_set_shape(struct vector_file *file, uint64_t rows, uint64_t dim, enum scalar scalar,
                          struct fathom_error *err)
{
    if (!file->integers && scalar_is_integer(scalar))
        return error_set(err, FATHOM_EINPUT,
                         "%s: holds %s, which are ids and not vectors; fathom-data convert makes "
                         "vectors of them",
                         file->path, scalar_name(scalar));
    if (file->integers && !scalar_is_integer(scalar))
        return error_set(err, FATHOM_EINPUT,
                         "%s: holds %s where ids (32- or 64-bit integers) are needed", file->path,
                         scalar_name(scalar));
    if (dim == 0 || dim > FATHOM_DIM_MAX)
        return error_set(err, FATHOM_EINPUT, "%s: dimension %llu is outside 1..%d", file->path,
                         (unsigned long long)dim, FATHOM_DIM_MAX);
    if (rows == 0)
        return error_set(err, FATHOM_EINPUT, "%s: has no rows", file->path);
    uint64_t bytes;
    if (__builtin_mul_overflow(rows, dim * scalar_bytes(scalar), &bytes) || bytes > INT64_MAX)
        return error_set(err, FATHOM_EINPUT,
                         "%s: says %llu rows of %llu scalars, which no file can hold", file->path,
                         (unsigned long long)rows, (unsigned long long)dim);
    file->info.rows = rows;
    file->info.dim = (uint32_t)dim;
    file->info.dtype = file->integers ? 0 : (enum fathom_dtype)scalar;
    file->scalar = scalar;
    file->row_bytes = dim * scalar_bytes(scalar);
    return 0;
}

int vector_file_check_end(struct vector_file *file, struct fathom_error *err)
{
    uint64_t want = file->data_offset + file->info.rows * file->row_bytes;
    uint64_t have = file->info.file_bytes;
    if (have == want)
        return 0;
    const char *fault = have < want ? "it is truncated: copy or download it again"
                                    : "bytes follow the last row: the header or the file is wrong";
    return error_set(err, FATHOM_EINPUT,
                     "%s: %llu rows x %u %s need %llu bytes, the file has %llu; %s", file->path,
                     (unsigned long long)file->info.rows, file->info.dim, scalar_name(file->scalar),
                     (unsigned long long)want, (unsigned long long)have, fault);
}

static int open_checked(struct vector_file *file, const char *path, const char *dataset,
                        struct fathom_error *err)
{
    file->format = vector_format_find(path);
    if (!file->format)
        return error_set(err, FATHOM_EARGUMENT,
                         "%s: the extension says no vector format; known are .fvecs .bvecs .ivecs "
                         ".fbin .f16bin .i8bin .u8bin .npy .hdf5 .h5 (Python: numpy.save)",
                         path);
    int rc = set_names(file, path, dataset, err);
    if (rc)
        return rc;
    file->info.format = file->format->extension + 1;
    bool is_direct;
    file->fd = file_open_read(file->env, file->path, false, &is_direct, err);
    if (file->fd < 0)
        return file->fd;
    rc = file_bytes(file->env, file->fd, file->path, &file->info.file_bytes, err);
    if (rc)
        return rc;
    if (file->info.file_bytes == 0)
        return error_set(err, FATHOM_EINPUT, "%s: is empty", file->path);
    rc = file->format->open(file, err);
    if (rc)
        return rc;
    file->scratch = mem_alloc(VECTOR_SCRATCH_BYTES);
    file->cells = mem_alloc(VECTOR_SCRATCH_BYTES);
    if (!file->scratch || !file->cells)
        return error_set(err, -ENOMEM, "%s: no memory to read it", path);
    return 0;
}

static int open_any(struct vector_file **out, const struct env *env, const char *path,
                    const char *dataset, bool integers, struct fathom_error *err)
{
    *out = NULL;
    struct vector_file *file = mem_alloc(sizeof *file);
    if (!file)
        return error_set(err, -ENOMEM, "%s: no memory to open it", path);
    file->env = env;
    file->fd = -1;
    file->integers = integers;
    int rc = open_checked(file, path, dataset, err);
    if (rc) {
        vector_file_close(file);
        return rc;
    }
    *out = file;
    return 0;
}

int vector_file_open(struct vector_file **out, const struct env *env, const char *path,
                     const char *hdf5_dataset, struct fathom_error *err)
{
    return open_any(out, env, path, hdf5_dataset, false, err);
}

int vector_file_open_integers(struct vector_file **out, const struct env *env, const char *path,
                              const char *hdf5_dataset, struct fathom_error *err)
{
    return open_any(out, env, path, hdf5_dataset, true, err);
}

void vector_file_close(struct vector_file *file)
{
    if (!file)
        return;
    if (file->format && file->format->close)
        file->format->close(file);
    file_close(file->env, file->fd);
    mem_free(file->scratch);
    mem_free(file->cells);
    mem_free(file->dataset);
    mem_free(file->path);
    mem_free(file);
}

struct vector_info vector_file_info(const struct vector_file *file)
{
    return file->info;
}

const char *vector_file_path(const struct vector_file *file)
{
    return file->path;
}

/* ---- reading ---- */

static int check_range(const struct vector_file *file, uint64_t first_row, size_t rows,
                       struct fathom_error *err)
{
    if (first_row <= file->info.rows && rows <= file->info.rows - first_row)
        return 0;
    return error_set(err, FATHOM_EARGUMENT, "%s: rows %llu to %llu asked of a file with %llu",
                     file->path, (unsigned long long)first_row,
                     (unsigned long long)(first_row + rows), (unsigned long long)file->info.rows);
}

int vector_file_read(struct vector_file *file, uint64_t first_row, size_t rows, void *out,
                     struct fathom_error *err)
{
    int rc = check_range(file, first_row, rows, err);
    if (rc || rows == 0)
        return rc;
    return file->format->read(file, first_row, rows, out, err);
}

bool vector_file_is_shared(const struct vector_file *file)
{
    return file->format->read == contiguous_read;
}

/* How many rows of the file's scalars fit in cells. */
static size_t rows_per_piece(const struct vector_file *file)
{
    return VECTOR_SCRATCH_BYTES / file->row_bytes;
}

int vector_file_read_f32(struct vector_file *file, uint64_t first_row, size_t rows, float *out,
                         struct fathom_error *err)
{
    if (file->scalar == SCALAR_F32)
        return vector_file_read(file, first_row, rows, out, err);
    if (file->integers)
        return error_set(err, FATHOM_EARGUMENT, "%s: holds ids, not vectors", file->path);
    int rc = check_range(file, first_row, rows, err);
    size_t piece = rows_per_piece(file);
    for (size_t done = 0; !rc && done < rows; done += piece) {
        size_t count = rows - done < piece ? rows - done : piece;
        rc = file->format->read(file, first_row + done, count, file->cells, err);
        if (!rc)
            vectors_to_f32(file->info.dtype, file->cells, count * file->info.dim,
                           out + done * file->info.dim);
    }
    return rc;
}

/* Of the integers in cells, sign-extended where they have one. */
static uint64_t integer_at(const struct vector_file *file, size_t i)
{
    switch (file->scalar) {
    case SCALAR_I32:
        return (uint64_t)(int64_t)(int32_t)le_load32(file->cells + 4 * i);
    case SCALAR_U32:
        return le_load32(file->cells + 4 * i);
    default:
        return le_load64(file->cells + 8 * i);
    }
}

static int out_of_range(const struct vector_file *file, uint64_t row, uint64_t column,
                        uint64_t value, struct fathom_error *err)
{
    if (file->scalar == SCALAR_U64)
        return error_set(err, FATHOM_EINPUT, "%s: row %llu, column %llu is %llu, above 2^63 - 1",
                         file->path, (unsigned long long)row, (unsigned long long)column,
                         (unsigned long long)value);
    return error_set(err, FATHOM_EINPUT, "%s: row %llu, column %llu is %lld, which is negative",
                     file->path, (unsigned long long)row, (unsigned long long)column,
                     (long long)value);
}

/* What has its highest bit set is negative in all tables but those of u64, where it is above
 * 2^63 - 1. So of each table such values fit one of the two types that are read, and not the other.
 */
static int read_integers(struct vector_file *file, uint64_t first_row, size_t rows, bool is_signed,
                         uint64_t *out, struct fathom_error *err)
{
    if (!file->integers)
        return error_set(err, FATHOM_EARGUMENT, "%s: holds vectors, not ids", file->path);
    int rc = check_range(file, first_row, rows, err);
    bool bounded = (file->scalar == SCALAR_U64) == is_signed;
    size_t piece = rows_per_piece(file), dim = file->info.dim;
    for (size_t done = 0; !rc && done < rows; done += piece) {
        size_t count = rows - done < piece ? rows - done : piece;
        uint64_t *values = out + done * dim;
        rc = file->format->read(file, first_row + done, count, file->cells, err);
        for (size_t i = 0; !rc && i < count * dim; i++) {
            values[i] = integer_at(file, i);
            if (bounded && values[i] > INT64_MAX)
                rc = out_of_range(file, first_row + done + i / dim, i % dim, values[i], err);
        }
    }
    return rc;
}

int vector_file_read_i64(struct vector_file *file, uint64_t first_row, size_t rows, int64_t *out,
                         struct fathom_error *err)
{
    return read_integers(file, first_row, rows, true, (uint64_t *)out, err);
}

int vector_file_read_u64(struct vector_file *file, uint64_t first_row, size_t rows, uint64_t *out,
                         struct fathom_error *err)
{
    return read_integers(file, first_row, rows, false, out, err);
}
