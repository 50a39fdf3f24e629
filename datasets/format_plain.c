/* The plain formats: .fvecs and its kin (each row carries its dim) and .fbin and its kin (one
 * header). Nothing in the file is believed: the dim of every row that is read is compared with the
 * first one's, and the size must fit. */
#include "vector_format.h"

#include <string.h>

#include "error.h"
#include "le.h"

#define XVECS_PREFIX 4 /* i32 dim */
#define BIN_HEADER   8 /* u32 count, u32 dim */

static int read_header(struct vector_file *file, void *out, size_t bytes, struct fathom_error *err)
{
    if (file->info.file_bytes < bytes)
        return error_set(err, FATHOM_EINPUT, "%s: has %llu bytes, too few for the header of %zu",
                         file->path, (unsigned long long)file->info.file_bytes, bytes);
    return file_read_full(file->env, file->fd, file->path, out, bytes, 0, err);
}

int xvecs_open(struct vector_file *file, struct fathom_error *err)
{
    uint8_t prefix[XVECS_PREFIX];
    int rc = read_header(file, prefix, sizeof prefix, err);
    if (rc)
        return rc;
    int32_t dim = (int32_t)le_load32(prefix);
    if (dim < 1 || dim > FATHOM_DIM_MAX)
        return error_set(err, FATHOM_EINPUT, "%s: row 0 says dimension %d, outside 1..%d",
                         file->path, dim, FATHOM_DIM_MAX);
    uint64_t stride = XVECS_PREFIX + (uint64_t)dim * scalar_bytes(file->format->scalar);
    uint64_t rows = file->info.file_bytes / stride, rest = file->info.file_bytes % stride;
    if (rest)
        return error_set(
            err, FATHOM_EINPUT,
            "%s: %llu bytes are %llu whole rows of %llu bytes (dimension %d) and %llu bytes "
            "more: the file is truncated, or its rows differ in dimension",
            file->path, (unsigned long long)file->info.file_bytes, (unsigned long long)rows,
            (unsigned long long)stride, dim, (unsigned long long)rest);
    return vector_file_set_shape(file, rows, (uint64_t)dim, file->format->scalar, err);
}

static int copy_rows(const struct vector_file *file, uint64_t first_row, size_t rows, uint8_t *out,
                     struct fathom_error *err)
{
    size_t stride = XVECS_PREFIX + file->row_bytes;
    for (size_t i = 0; i < rows; i++) {
        const uint8_t *raw = file->scratch + i * stride;
        int32_t dim = (int32_t)le_load32(raw);
        if (dim != (int32_t)file->info.dim)
            return error_set(err, FATHOM_EINPUT,
                             "%s: row %llu (offset %llu) says dimension %d, row 0 has %u",
                             file->path, (unsigned long long)(first_row + i),
                             (unsigned long long)((first_row + i) * stride), dim, file->info.dim);
        memcpy(out + i * file->row_bytes, raw + XVECS_PREFIX, file->row_bytes);
    }
    return 0;
}

int xvecs_read(struct vector_file *file, uint64_t first_row, size_t rows, void *out,
               struct fathom_error *err)
{
    size_t stride = XVECS_PREFIX + file->row_bytes;
    size_t piece = VECTOR_SCRATCH_BYTES / stride;
    for (size_t done = 0; done < rows; done += piece) {
        size_t count = rows - done < piece ? rows - done : piece;
        int rc = file_read_full(file->env, file->fd, file->path, file->scratch, count * stride,
                                (first_row + done) * stride, err);
        if (!rc)
            rc = copy_rows(file, first_row + done, count, (uint8_t *)out + done * file->row_bytes,
                           err);
        if (rc)
            return rc;
    }
    return 0;
}

int bin_open(struct vector_file *file, struct fathom_error *err)
{
    uint8_t header[BIN_HEADER];
    int rc = read_header(file, header, sizeof header, err);
    if (!rc)
        rc = vector_file_set_shape(file, le_load32(header), le_load32(header + 4),
                                   file->format->scalar, err);
    file->data_offset = BIN_HEADER;
    return rc ? rc : vector_file_check_end(file, err);
}

int contiguous_read(struct vector_file *file, uint64_t first_row, size_t rows, void *out,
                    struct fathom_error *err)
{
    return file_read_full(file->env, file->fd, file->path, out, rows * file->row_bytes,
                          file->data_offset + first_row * file->row_bytes, err);
}
