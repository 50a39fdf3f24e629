/* The writing side of the vector formats. Never overwrites in place, never publishes a file with
 * fewer rows than it says. */
#include "vector_writer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "le.h"
#include "mem.h"
#include "output.h"
#include "vector_format.h"

#define NPY_HEADER_BYTES                                                                           \
    128 /* magic to newline: fits any shape, and keeps the array aligned to 64 */

struct vector_writer {
    struct output output;
    const char *extension;
    bool is_xvecs;
    enum scalar scalar;
    uint32_t dim;
    uint64_t rows, written;
    size_t row_bytes;
    uint8_t *scratch; /* rows with their dims, for .fvecs and kin */
};

static int check_format(const char *path, enum scalar scalar, struct fathom_error *err)
{
    const struct vector_format *format = vector_format_find(path);
    if (!format)
        return error_set(err, FATHOM_EARGUMENT,
                         "%s: the extension says no vector format; use .fvecs .bvecs .ivecs .fbin "
                         ".f16bin .i8bin .u8bin or .npy",
                         path);
    if (format->open == hdf5_open)
        return error_set(err, FATHOM_EARGUMENT, "%s: HDF5 is read, not written; use .npy", path);
    if (format->scalar ? format->scalar != scalar : scalar_is_integer(scalar))
        return error_set(err, FATHOM_EARGUMENT,
                         "%s: %s cannot hold %s; choose another extension or type", path,
                         format->extension, scalar_name(scalar));
    return 0;
}

int vector_writer_check(const char *path, enum fathom_dtype dtype, struct fathom_error *err)
{
    return check_format(path, (enum scalar)dtype, err);
}

static int write_npy_header(struct vector_writer *writer, struct fathom_error *err)
{
    static const char *const descr[] = {
        [SCALAR_F32] = "<f4", [SCALAR_F16] = "<f2", [SCALAR_I8] = "|i1", [SCALAR_U8] = "|u1"};
    char header[NPY_HEADER_BYTES + 1] = "\x93NUMPY\x01";
    le_store16(header + 8, NPY_HEADER_BYTES - 10);
    int used = snprintf(header + 10, sizeof header - 10,
                        "{'descr': '%s', 'fortran_order': False, 'shape': (%llu, %u), }",
                        descr[writer->scalar], (unsigned long long)writer->rows, writer->dim);
    memset(header + 10 + used, ' ', NPY_HEADER_BYTES - 10 - used);
    header[NPY_HEADER_BYTES - 1] = '\n';
    return output_append(&writer->output, header, NPY_HEADER_BYTES, err);
}

static int write_header(struct vector_writer *writer, const char *path, struct fathom_error *err)
{
    if (writer->is_xvecs)
        return 0;
    if (!strcmp(writer->extension, ".npy"))
        return write_npy_header(writer, err);
    if (writer->rows > UINT32_MAX)
        return error_set(err, FATHOM_ELIMIT,
                         "%s: %llu rows do not fit in the u32 count of %s; use .npy", path,
                         (unsigned long long)writer->rows, writer->extension);
    uint8_t header[8];
    le_store32(header, (uint32_t)writer->rows);
    le_store32(header + 4, writer->dim);
    return output_append(&writer->output, header, sizeof header, err);
}

static int open_scalar(struct vector_writer **out, const struct env *env, const char *path,
                       uint64_t rows, uint32_t dim, enum scalar scalar, struct fathom_error *err)
{
    *out = NULL;
    int rc = check_format(path, scalar, err);
    if (rc)
        return rc;
    if (rows == 0 || dim == 0 || dim > FATHOM_DIM_MAX)
        return error_set(err, FATHOM_EARGUMENT, "%s: cannot write %llu rows of dimension %u", path,
                         (unsigned long long)rows, dim);
    struct vector_writer *writer = mem_alloc(sizeof *writer);
    uint8_t *scratch = mem_alloc(VECTOR_SCRATCH_BYTES);
    if (!writer || !scratch) {
        mem_free(scratch);
        mem_free(writer);
        return error_set(err, -ENOMEM, "%s: no memory to write it", path);
    }
    const struct vector_format *format = vector_format_find(path);
    writer->scratch = scratch;
    writer->extension = format->extension;
    writer->is_xvecs = format->open == xvecs_open;
    writer->scalar = scalar;
    writer->dim = dim;
    writer->rows = rows;
    writer->row_bytes = dim * scalar_bytes(scalar);
    rc = output_open(&writer->output, env, path, err);
    if (!rc)
        rc = write_header(writer, path, err);
    if (rc) {
        vector_writer_close(writer);
        return rc;
    }
    *out = writer;
    return 0;
}

int vector_writer_open(struct vector_writer **out, const struct env *env, const char *path,
                       uint64_t rows, uint32_t dim, enum fathom_dtype dtype,
                       struct fathom_error *err)
{
    return open_scalar(out, env, path, rows, dim, (enum scalar)dtype, err);
}

int vector_writer_open_i32(struct vector_writer **out, const struct env *env, const char *path,
                           uint64_t rows, uint32_t dim, struct fathom_error *err)
{
    return open_scalar(out, env, path, rows, dim, SCALAR_I32, err);
}

static int write_xvecs(struct vector_writer *writer, const uint8_t *data, size_t rows,
                       struct fathom_error *err)
{
    size_t stride = sizeof(uint32_t) + writer->row_bytes, piece = VECTOR_SCRATCH_BYTES / stride;
    int rc = 0;
    for (size_t done = 0; !rc && done < rows; done += piece) {
        size_t count = rows - done < piece ? rows - done : piece;
        for (size_t i = 0; i < count; i++) {
            le_store32(writer->scratch + i * stride, writer->dim);
            memcpy(writer->scratch + i * stride + sizeof(uint32_t),
                   data + (done + i) * writer->row_bytes, writer->row_bytes);
        }
        rc = output_append(&writer->output, writer->scratch, count * stride, err);
    }
    return rc;
}

int vector_writer_write(struct vector_writer *writer, const void *data, size_t rows,
                        struct fathom_error *err)
{
    if (rows > writer->rows - writer->written)
        return error_set(err, FATHOM_EARGUMENT, "%s: more than the %llu rows announced",
                         writer->output.path, (unsigned long long)writer->rows);
    int rc = writer->is_xvecs ? write_xvecs(writer, data, rows, err)
                              : output_append(&writer->output, data, rows * writer->row_bytes, err);
    if (!rc)
        writer->written += rows;
    return rc;
}

int vector_writer_finish(struct vector_writer *writer, struct fathom_error *err)
{
    if (writer->written != writer->rows)
        return error_set(err, FATHOM_EARGUMENT, "%s: %llu rows written of %llu announced",
                         writer->output.path, (unsigned long long)writer->written,
                         (unsigned long long)writer->rows);
    return output_publish(&writer->output, err);
}

void vector_writer_close(struct vector_writer *writer)
{
    if (!writer)
        return;
    output_fini(&writer->output);
    mem_free(writer->scratch);
    mem_free(writer);
}
