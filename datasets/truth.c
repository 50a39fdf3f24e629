/* Reading and writing truth sets. Sizes are checked against the header before anything is
 * allocated; ids and distances are bounded as they are read. */
#include "truth.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "error.h"
#include "le.h"
#include "mem.h"
#include "output.h"
#include "vector_format.h"

#define TRUTH_HEADER 8
#define TRUTH_PIECE  4096 /* ids converted at a time */

int truth_create(struct truth **out, uint32_t query_count, uint32_t k, struct fathom_error *err)
{
    *out = NULL;
    size_t count;
    struct truth *truth = mem_alloc(sizeof *truth);
    if (truth && size_mul(query_count, k, &count)) {
        truth->query_count = query_count;
        truth->k = k;
        truth->ids = mem_alloc_array(count, sizeof *truth->ids);
        truth->distances = mem_alloc_array(count, sizeof *truth->distances);
    }
    if (!truth || !truth->ids || !truth->distances) {
        truth_destroy(truth);
        return error_set(err, -ENOMEM, "no memory for a truth set of %u queries x %u", query_count,
                         k);
    }
    for (size_t i = 0; i < count; i++) {
        truth->ids[i] = FATHOM_ID_NONE;
        truth->distances[i] = INFINITY;
    }
    *out = truth;
    return 0;
}

void truth_destroy(struct truth *truth)
{
    if (!truth)
        return;
    mem_free(truth->ids);
    mem_free(truth->distances);
    mem_free(truth);
}

static int check_ids(const struct truth *truth, const char *path, uint64_t rows,
                     struct fathom_error *err)
{
    size_t count = (size_t)truth->query_count * truth->k;
    for (size_t i = 0; i < count; i++) {
        if (rows && truth->ids[i] >= rows && truth->ids[i] != FATHOM_ID_NONE)
            return error_set(
                err, FATHOM_EINPUT,
                "%s: query %zu, place %zu: id %llu is not one of the %llu rows; is it the truth "
                "of another base?",
                path, i / truth->k, i % truth->k, (unsigned long long)truth->ids[i],
                (unsigned long long)rows);
        if (truth->distances && isnan(truth->distances[i]))
            return error_set(err, FATHOM_EINPUT, "%s: query %zu, place %zu: the distance is NaN",
                             path, i / truth->k, i % truth->k);
    }
    return 0;
}

/* ---- the .bin layout ---- */

/* Header and size: what the file holds, with nothing read beyond its first eight bytes. */
static int read_shape(const struct env *env, int fd, const char *path, struct truth *shape,
                      struct fathom_error *err)
{
    uint8_t header[TRUTH_HEADER];
    uint64_t have, count;
    int rc = file_bytes(env, fd, path, &have, err);
    if (rc)
        return rc;
    if (have < sizeof header)
        return error_set(err, FATHOM_EINPUT, "%s: has %llu bytes, too few for a truth set", path,
                         (unsigned long long)have);
    rc = file_read_full(env, fd, path, header, sizeof header, 0, err);
    if (rc)
        return rc;
    shape->query_count = le_load32(header);
    shape->k = le_load32(header + 4);
    count = (uint64_t)shape->query_count * shape->k;
    if (count == 0)
        return error_set(err, FATHOM_EINPUT, "%s: says %u queries x %u neighbours", path,
                         shape->query_count, shape->k);
    uint64_t values = (have - sizeof header) / 4;
    shape->ids64 = values / 3 == count;
    if ((have - sizeof header) % 4 || values != (shape->ids64 ? 3 : 2) * (unsigned __int128)count)
        return error_set(
            err, FATHOM_EINPUT,
            "%s: %u queries x %u neighbours need 8 + %llu x 8 bytes (12 with u64 ids), the file "
            "has %llu: it is truncated, or not a truth set",
            path, shape->query_count, shape->k, (unsigned long long)count,
            (unsigned long long)have);
    return 0;
}

static void widen_ids(struct truth *truth)
{
    const uint8_t *narrow = (const uint8_t *)truth->ids;
    for (size_t i = (size_t)truth->query_count * truth->k; i-- > 0;) {
        uint32_t id = le_load32(narrow + 4 * i);
        truth->ids[i] = id == UINT32_MAX ? FATHOM_ID_NONE : id;
    }
}

static int read_bin(struct truth **out, const struct env *env, int fd, const char *path,
                    struct fathom_error *err)
{
    struct truth shape = {0};
    int rc = read_shape(env, fd, path, &shape, err);
    if (!rc)
        rc = truth_create(out, shape.query_count, shape.k, err);
    if (rc)
        return rc;
    struct truth *truth = *out;
    size_t count = (size_t)shape.query_count * shape.k, id_bytes = shape.ids64 ? 8 : 4;
    truth->ids64 = shape.ids64;
    rc = file_read_full(env, fd, path, truth->ids, count * id_bytes, TRUTH_HEADER, err);
    if (!rc)
        rc = file_read_full(env, fd, path, truth->distances, count * sizeof(float),
                            TRUTH_HEADER + count * id_bytes, err);
    if (!rc && !shape.ids64)
        widen_ids(truth);
    return rc;
}

/* ---- .ivecs and HDF5 ---- */

static int check_table(const struct vector_file *ids, const char *path, struct fathom_error *err)
{
    struct vector_info info = vector_file_info(ids);
    if (info.rows <= UINT32_MAX)
        return 0;
    return error_set(err, FATHOM_ELIMIT, "%s: %llu queries are more than a truth set can hold",
                     path, (unsigned long long)info.rows);
}

static int read_ids(struct truth *truth, struct vector_file *file, struct fathom_error *err)
{
    int rc = vector_file_read_i64(file, 0, truth->query_count, (int64_t *)truth->ids, err);
    for (size_t i = 0; !rc && i < (size_t)truth->query_count * truth->k; i++) {
        if ((int64_t)truth->ids[i] < -1)
            return error_set(err, FATHOM_EINPUT, "%s: query %zu, place %zu: id %lld is negative",
                             vector_file_path(file), i / truth->k, i % truth->k,
                             (long long)truth->ids[i]);
    }
    return rc;
}

/* The distances beside HDF5's neighbors, when they are there in the same shape; most files have
 * them. */
static int read_distances(struct truth *truth, const struct env *env, const char *path,
                          struct fathom_error *err)
{
    struct vector_file *file;
    struct fathom_error ignored;
    if (vector_file_open(&file, env, path, "distances", &ignored)) {
        mem_free(truth->distances);
        truth->distances = NULL;
        return 0;
    }
    struct vector_info info = vector_file_info(file);
    int rc;
    if (info.rows != truth->query_count || info.dim != truth->k)
        rc = error_set(err, FATHOM_EINPUT, "%s: distances are %llu x %u, neighbors %u x %u", path,
                       (unsigned long long)info.rows, info.dim, truth->query_count, truth->k);
    else
        rc = vector_file_read_f32(file, 0, truth->query_count, truth->distances, err);
    vector_file_close(file);
    return rc;
}

static int read_table(struct truth **out, const struct env *env, const char *path,
                      struct fathom_error *err)
{
    struct vector_file *file;
    int rc = vector_file_open_integers(&file, env, path, NULL, err);
    if (rc)
        return rc;
    rc = check_table(file, path, err);
    if (!rc)
        rc = truth_create(out, (uint32_t)vector_file_info(file).rows, vector_file_info(file).dim,
                          err);
    if (!rc)
        rc = read_ids(*out, file, err);
    vector_file_close(file);
    if (!rc)
        rc = read_distances(*out, env, path, err);
    return rc;
}

int truth_read(struct truth **out, const struct env *env, const char *path, uint64_t rows,
               struct fathom_error *err)
{
    const struct vector_format *format = vector_format_find(path);
    int rc;
    *out = NULL;
    if (format && (format->open == hdf5_open || format->scalar == SCALAR_I32)) {
        rc = read_table(out, env, path, err);
    } else {
        bool is_direct;
        int fd = file_open_read(env, path, false, &is_direct, err);
        rc = fd < 0 ? fd : read_bin(out, env, fd, path, err);
        file_close(env, fd);
    }
    if (!rc)
        rc = check_ids(*out, path, rows, err);
    if (rc) {
        truth_destroy(*out);
        *out = NULL;
    }
    return rc;
}

/* ---- writing ---- */

static int write_narrow_ids(const struct truth *truth, struct output *output,
                            struct fathom_error *err)
{
    uint32_t piece[TRUTH_PIECE];
    size_t count = (size_t)truth->query_count * truth->k;
    int rc = 0;
    for (size_t done = 0; !rc && done < count; done += TRUTH_PIECE) {
        size_t part = count - done < TRUTH_PIECE ? count - done : TRUTH_PIECE;
        for (size_t i = 0; i < part; i++) {
            uint64_t id = truth->ids[done + i];
            if (id >= UINT32_MAX && id != FATHOM_ID_NONE)
                return error_set(err, FATHOM_ELIMIT, "%s: id %llu does not fit in u32; use --ids64",
                                 output->path, (unsigned long long)id);
            piece[i] = (uint32_t)id;
        }
        rc = output_append(output, piece, part * sizeof *piece, err);
    }
    return rc;
}

static int write_all(const struct truth *truth, struct output *output, struct fathom_error *err)
{
    uint8_t header[TRUTH_HEADER];
    size_t count = (size_t)truth->query_count * truth->k;
    le_store32(header, truth->query_count);
    le_store32(header + 4, truth->k);
    int rc = output_append(output, header, sizeof header, err);
    if (!rc)
        rc = truth->ids64 ? output_append(output, truth->ids, count * sizeof *truth->ids, err)
                          : write_narrow_ids(truth, output, err);
    if (!rc)
        rc = output_append(output, truth->distances, count * sizeof *truth->distances, err);
    return rc ? rc : output_publish(output, err);
}

int truth_write(const struct truth *truth, const struct env *env, const char *path,
                struct fathom_error *err)
{
    struct output output;
    if (!truth->distances)
        return error_set(err, FATHOM_EARGUMENT,
                         "%s: a truth set without distances cannot be written", path);
    int rc = output_open(&output, env, path, err);
    if (!rc)
        rc = write_all(truth, &output, err);
    output_fini(&output);
    return rc;
}

int truth_check_path(const struct env *env, const char *path, struct fathom_error *err)
{
    struct output output;
    int rc = output_open(&output, env, path, err);
    output_fini(&output);
    return rc;
}
