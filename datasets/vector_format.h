/* Private to datasets/: what an open vector file consists of, and the formats behind it. A format
 * knows how to open (check the structure, fill info, scalar and offsets) and how to read whole rows
 * of raw scalars; all else is in vectors.c. */
#ifndef DATASETS_VECTOR_FORMAT_H
#define DATASETS_VECTOR_FORMAT_H

#include "vectors.h"

/* The first four are enum fathom_dtype. Integers are never vectors. */
enum scalar {
    SCALAR_F32 = 1,
    SCALAR_F16,
    SCALAR_I8,
    SCALAR_U8,
    SCALAR_I32,
    SCALAR_U32,
    SCALAR_I64,
    SCALAR_U64
};

struct vector_format {
    const char *extension; /* with its dot */
    enum scalar scalar;    /* 0: the file's header says */
    int (*open)(struct vector_file *file, struct fathom_error *err);
    int (*read)(struct vector_file *file, uint64_t first_row, size_t rows, void *out,
                struct fathom_error *err);
    void (*close)(struct vector_file *file); /* NULL: nothing beyond the fd */
};

struct vector_file {
    const struct env *env;
    const struct vector_format *format;
    char *path;    /* of the file itself, without ::dataset */
    char *dataset; /* HDF5 alone */
    int fd;        /* -1 for HDF5 */
    bool integers; /* opened as a table of integers */
    struct vector_info info;
    enum scalar scalar;
    size_t row_bytes;     /* of a row's scalars */
    uint64_t data_offset; /* of the first row */
    uint8_t *scratch; /* bytes as they are in the file, for formats whose rows are not contiguous */
    uint8_t *cells;   /* raw scalars on their way to another type */
    void *hdf5;       /* struct hdf5_handles */
};

/* Of scratch and of cells each: the longest row of any format fits. */
#define VECTOR_SCRATCH_BYTES (256u << 10)

size_t scalar_bytes(enum scalar scalar);
const char *scalar_name(enum scalar scalar);
bool scalar_is_integer(enum scalar scalar); /* an id, not the element of a vector */
/* The entry for path's extension, or NULL. Handles FILE.hdf5::dataset. */
const struct vector_format *vector_format_find(const char *path);

/* Checks rows, dim and the kind of scalar, and stores them with row_bytes. where names the field
 * ("header"). */
int vector_file_set_shape(struct vector_file *file, uint64_t rows, uint64_t dim, enum scalar scalar,
                          struct fathom_error *err);
/* The file must end exactly bytes after data_offset. */
int vector_file_check_end(struct vector_file *file, struct fathom_error *err);

/* The formats: format_plain.c (.fvecs and .fbin kin), format_npy.c, format_hdf5.c. */
int xvecs_open(struct vector_file *file, struct fathom_error *err);
int xvecs_read(struct vector_file *file, uint64_t first_row, size_t rows, void *out,
               struct fathom_error *err);
int bin_open(struct vector_file *file, struct fathom_error *err);
int npy_open(struct vector_file *file, struct fathom_error *err);
int contiguous_read(struct vector_file *file, uint64_t first_row, size_t rows, void *out,
                    struct fathom_error *err);
int hdf5_open(struct vector_file *file, struct fathom_error *err);
int hdf5_read(struct vector_file *file, uint64_t first_row, size_t rows, void *out,
              struct fathom_error *err);
void hdf5_close(struct vector_file *file);

#endif
