/* What the scalars say: their types and names, conversion to float, NaN and infinity, rows of
 * zeros. Pure functions over memory; nothing here touches a file. */
#include "vector_format.h"

#include <string.h>

#include "error.h"
#include "kernel.h"
#include "le.h"

static const struct {
    const char *name;
    size_t bytes;
} scalars[] = {
    [SCALAR_F32] = {"f32", 4}, [SCALAR_F16] = {"f16", 2}, [SCALAR_I8] = {"i8", 1},
    [SCALAR_U8] = {"u8", 1},   [SCALAR_I32] = {"i32", 4}, [SCALAR_U32] = {"u32", 4},
    [SCALAR_I64] = {"i64", 8}, [SCALAR_U64] = {"u64", 8},
};

size_t scalar_bytes(enum scalar scalar)
{
    return (size_t)scalar < sizeof scalars / sizeof *scalars ? scalars[scalar].bytes : 0;
}

const char *scalar_name(enum scalar scalar)
{
    return scalar_bytes(scalar) ? scalars[scalar].name : "?";
}

bool scalar_is_integer(enum scalar scalar)
{
    return scalar >= SCALAR_I32;
}

bool vectors_dtype_parse(const char *name, enum fathom_dtype *out)
{
    for (int i = SCALAR_F32; i <= SCALAR_U8; i++) {
        if (!strcmp(name, scalars[i].name)) {
            *out = (enum fathom_dtype)i;
            return true;
        }
    }
    return false;
}

void vectors_to_f32(enum fathom_dtype dtype, const void *data, size_t count, float *out)
{
    const uint8_t *bytes = data;
    const int8_t *signed_bytes = data;
    switch (dtype) {
    case FATHOM_F32:
        memcpy(out, data, count * sizeof *out);
        break;
    case FATHOM_F16:
        kernels_get()->f16_to_f32(out, data, count);
        break;
    case FATHOM_I8:
        for (size_t i = 0; i < count; i++)
            out[i] = signed_bytes[i];
        break;
    case FATHOM_U8:
        for (size_t i = 0; i < count; i++)
            out[i] = bytes[i];
        break;
    }
}

/* An exponent of all ones is what NaN and the infinities have in common. Adding 1 to it carries
 * into the next bit up, so that a whole row is checked by OR-ing, without a branch. */
static bool row_is_finite_f32(const uint8_t *row, uint32_t dim)
{
    uint32_t carry = 0;
    for (uint32_t i = 0; i < dim; i++)
        carry |= (le_load32(row + 4 * (size_t)i) & 0x7f800000u) + 0x00800000u;
    return !(carry & 0x80000000u);
}

static bool row_is_finite_f16(const uint8_t *row, uint32_t dim)
{
    uint16_t carry = 0;
    for (uint32_t i = 0; i < dim; i++)
        carry |= (uint16_t)((le_load16(row + 2 * (size_t)i) & 0x7c00u) + 0x0400u);
    return !(carry & 0x8000u);
}

static bool row_is_finite(enum fathom_dtype dtype, const uint8_t *row, uint32_t dim)
{
    return dtype == FATHOM_F32 ? row_is_finite_f32(row, dim) : row_is_finite_f16(row, dim);
}

static bool is_nan(enum fathom_dtype dtype, const uint8_t *scalar)
{
    return dtype == FATHOM_F32 ? (le_load32(scalar) & 0x007fffffu) != 0
                               : (le_load16(scalar) & 0x03ffu) != 0;
}

int vectors_check_finite(enum fathom_dtype dtype, const void *data, uint64_t first_row, size_t rows,
                         uint32_t dim, const char *path, struct fathom_error *err)
{
    if (dtype != FATHOM_F32 && dtype != FATHOM_F16)
        return 0;
    size_t bytes = vectors_scalar_bytes(dtype);
    for (size_t i = 0; i < rows; i++) {
        const uint8_t *row = (const uint8_t *)data + i * dim * bytes;
        if (row_is_finite(dtype, row, dim))
            continue;
        uint32_t column = 0;
        while (row_is_finite(dtype, row + column * bytes, 1))
            column++;
        return error_set(
            err, FATHOM_EINPUT,
            "%s: row %llu, column %u is %s (both counted from 0); remove or repair the row", path,
            (unsigned long long)(first_row + i), column,
            is_nan(dtype, row + column * bytes) ? "NaN" : "infinite");
    }
    return 0;
}

/* Zero of either sign: the sign bit of a float says nothing. */
static bool row_is_zero(enum fathom_dtype dtype, const uint8_t *row, uint32_t dim)
{
    uint32_t bits = 0;
    switch (dtype) {
    case FATHOM_F32:
        for (uint32_t i = 0; i < dim; i++)
            bits |= le_load32(row + 4 * (size_t)i) & 0x7fffffffu;
        break;
    case FATHOM_F16:
        for (uint32_t i = 0; i < dim; i++)
            bits |= le_load16(row + 2 * (size_t)i) & 0x7fffu;
        break;
    case FATHOM_I8:
    case FATHOM_U8:
        for (uint32_t i = 0; i < dim; i++)
            bits |= row[i];
        break;
    }
    return bits == 0;
}

size_t vectors_find_zero_rows(enum fathom_dtype dtype, const void *data, size_t rows, uint32_t dim,
                              uint8_t *zero)
{
    size_t row_bytes = dim * vectors_scalar_bytes(dtype), count = 0;
    for (size_t i = 0; i < rows; i++) {
        zero[i] = row_is_zero(dtype, (const uint8_t *)data + i * row_bytes, dim);
        count += zero[i];
    }
    return count;
}
