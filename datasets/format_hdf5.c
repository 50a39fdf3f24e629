/* HDF5 in the layout of ann-benchmarks (train, test, neighbors, distances), through the HDF5
 * library: the one format that does not go through struct env, since the library opens the file
 * itself. It is asked for two-dimensional tables of a few plain types, row range by row range; byte
 * order, chunks and compression are its business. The library is not thread-safe: HDF5 readers of
 * one process belong to one thread at a time. */
#include "vector_format.h"

#include <errno.h>
#include <hdf5.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "mem.h"

struct hdf5_handles {
    hid_t file, dataset, memory_type;
};

/* IEEE half precision, which this version of the library has no name for. */
static hid_t create_half_type(void)
{
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    if (type < 0)
        return type;
    if (H5Tset_fields(type, 15, 10, 5, 0, 10) < 0 || H5Tset_size(type, 2) < 0 ||
        H5Tset_ebias(type, 15) < 0) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

/* The type that elements are read as; the library converts byte order and width. */
static hid_t create_memory_type(enum scalar scalar)
{
    switch (scalar) {
    case SCALAR_F32:
        return H5Tcopy(H5T_IEEE_F32LE);
    case SCALAR_F16:
        return create_half_type();
    case SCALAR_I8:
        return H5Tcopy(H5T_STD_I8LE);
    case SCALAR_U8:
        return H5Tcopy(H5T_STD_U8LE);
    case SCALAR_I64:
        return H5Tcopy(H5T_STD_I64LE);
    case SCALAR_U64:
        return H5Tcopy(H5T_STD_U64LE);
    default:
        return -1;
    }
}

static bool is_half(hid_t type)
{
    hid_t half = create_half_type();
    bool equal = half >= 0 && H5Tequal(type, half) > 0;
    if (half >= 0)
        H5Tclose(half);
    return equal;
}

/* 0 for a type that is none of ours. */
static enum scalar scalar_of_type(hid_t type)
{
    size_t bytes = H5Tget_size(type);
    if (H5Tget_class(type) == H5T_FLOAT) {
        if (bytes == 2)
            return is_half(type) ? SCALAR_F16 : 0;
        return bytes == 4 ? SCALAR_F32 : 0;
    }
    if (H5Tget_class(type) != H5T_INTEGER || bytes == 0 || bytes > 8)
        return 0;
    bool is_signed = H5Tget_sign(type) != H5T_SGN_NONE;
    if (bytes == 1)
        return is_signed ? SCALAR_I8 : SCALAR_U8;
    return is_signed ? SCALAR_I64 : SCALAR_U64;
}

/* The names of the data sets in the file, for the message about one that is not there. */
static herr_t add_name(hid_t group, const char *name, const H5L_info_t *info, void *context)
{
    char *names = context;
    size_t length = strlen(names);
    (void)group;
    (void)info;
    snprintf(names + length, 200 - length, "%s%s", length ? ", " : "", name);
    return 0;
}

static int open_dataset(struct vector_file *file, struct hdf5_handles *handles,
                        struct fathom_error *err)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_file_locking(access, 0, 1); /* a read-only file system refuses locks */
    handles->file = H5Fopen(file->path, H5F_ACC_RDONLY, access);
    H5Pclose(access);
    if (handles->file < 0)
        return error_set(err, FATHOM_EINPUT,
                         "%s: the HDF5 library cannot open it: truncated, or not HDF5", file->path);
    handles->dataset = H5Dopen2(handles->file, file->dataset, H5P_DEFAULT);
    if (handles->dataset < 0) {
        char names[200] = "";
        H5Literate(handles->file, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, add_name, names);
        return error_set(err, FATHOM_EINPUT,
                         "%s: has no data set '%s'; it has: %s. Choose with FILE::NAME", file->path,
                         file->dataset, *names ? names : "none");
    }
    return 0;
}

static int open_shape(struct vector_file *file, struct hdf5_handles *handles,
                      struct fathom_error *err)
{
    hsize_t shape[2] = {0, 1};
    hid_t space = H5Dget_space(handles->dataset);
    int axes = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    bool is_table = axes == 2 || (file->integers && axes == 1);
    if (is_table)
        is_table = H5Sget_simple_extent_dims(space, shape, NULL) >= 0;
    if (space >= 0)
        H5Sclose(space);
    if (!is_table)
        return error_set(err, FATHOM_EINPUT,
                         "%s::%s: has %d axes where two (rows, dimension) are needed", file->path,
                         file->dataset, axes);
    hid_t type = H5Dget_type(handles->dataset);
    enum scalar scalar = type < 0 ? 0 : scalar_of_type(type);
    if (type >= 0)
        H5Tclose(type);
    if (!scalar)
        return error_set(
            err, FATHOM_EINPUT,
            "%s::%s: its elements are none of f32, f16, i8, u8 and integers; convert them",
            file->path, file->dataset);
    handles->memory_type = create_memory_type(scalar);
    if (handles->memory_type < 0)
        return error_set(err, -ENOMEM, "%s: the HDF5 library has no memory", file->path);
    return vector_file_set_shape(file, shape[0], shape[1], scalar, err);
}

int hdf5_open(struct vector_file *file, struct fathom_error *err)
{
    /* That the path is a regular file has been seen through env; the library opens it anew. */
    file_close(file->env, file->fd);
    file->fd = -1;
    struct hdf5_handles *handles = mem_alloc(sizeof *handles);
    if (!handles)
        return error_set(err, -ENOMEM, "%s: no memory to open it", file->path);
    handles->file = handles->dataset = handles->memory_type = -1;
    file->hdf5 = handles;
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* it would print its own account to stderr */
    int rc = open_dataset(file, handles, err);
    return rc ? rc : open_shape(file, handles, err);
}

int hdf5_read(struct vector_file *file, uint64_t first_row, size_t rows, void *out,
              struct fathom_error *err)
{
    const struct hdf5_handles *handles = file->hdf5;
    hid_t space = H5Dget_space(handles->dataset);
    int axes = space < 0 ? 0 : H5Sget_simple_extent_ndims(space);
    hsize_t start[2] = {first_row, 0}, count[2] = {rows, file->info.dim};
    hid_t memory = H5Screate_simple(axes == 1 ? 1 : 2, count, NULL);
    bool read =
        space >= 0 && memory >= 0 &&
        H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
        H5Dread(handles->dataset, handles->memory_type, memory, space, H5P_DEFAULT, out) >= 0;
    if (memory >= 0)
        H5Sclose(memory);
    if (space >= 0)
        H5Sclose(space);
    if (read)
        return 0;
    return error_set(err, FATHOM_EINPUT,
                     "%s::%s: rows %llu to %llu cannot be read: the file is damaged", file->path,
                     file->dataset, (unsigned long long)first_row,
                     (unsigned long long)(first_row + rows - 1));
}

void hdf5_close(struct vector_file *file)
{
    struct hdf5_handles *handles = file->hdf5;
    if (!handles)
        return;
    if (handles->memory_type >= 0)
        H5Tclose(handles->memory_type);
    if (handles->dataset >= 0)
        H5Dclose(handles->dataset);
    if (handles->file >= 0)
        H5Fclose(handles->file);
    mem_free(handles);
    file->hdf5 = NULL;
}
