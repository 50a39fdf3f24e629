/* Checked casts between element types: a value that the target cannot hold is an error that names
 * its row and column, unless rounding was asked for. */
#ifndef DATASETS_CAST_H
#define DATASETS_CAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/error.h"
#include "fathom/fathom.h"

#define CAST_I32 ((int)FATHOM_U8 + 1) /* beside the dtypes: the elements of .ivecs */

struct cast {
    int type;   /* an enum fathom_dtype or CAST_I32 */
    bool round; /* to the nearest value of the type, halves away from zero; what is out of its range
                   becomes its end */
    uint32_t dim;
    const char *path;          /* of the input, for messages */
    uint64_t rounded, clamped; /* counted */
};

size_t cast_bytes(int type);
const char *cast_name(int type);

/* rows x dim values into out, elements of cast->type. first_row is for messages. Floats must be
 * finite. f32 to f16 rounds to the nearest half, which is what such a cast means; only overflow is
 * an error there. */
int cast_f32(struct cast *cast, const float *in, uint64_t first_row, size_t rows, void *out,
             struct fathom_error *err) FATHOM_MUST_USE;
int cast_i64(struct cast *cast, const int64_t *in, uint64_t first_row, size_t rows, void *out,
             struct fathom_error *err) FATHOM_MUST_USE;

#endif
