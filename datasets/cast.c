/* Casts, value by value where something can go wrong. */
#include "cast.h"

#include <math.h>
#include <string.h>

#include "error.h"
#include "kernel.h"
#include "le.h"

#define F16_OVERFLOW 65520.0 /* the least that rounds to infinity */
#define F16_EXACT    2048    /* integers up to here are halves */
#define F32_EXACT    (1 << 24)

size_t cast_bytes(int type)
{
    return type == CAST_I32 ? sizeof(int32_t) : fathom_dtype_bytes((enum fathom_dtype)type);
}

const char *cast_name(int type)
{
    return type == CAST_I32 ? "i32" : fathom_dtype_name((enum fathom_dtype)type);
}

struct range {
    double low, high;
};

/* Of the integers that a type can hold: exactly, for the floats. */
static struct range range_of(int type)
{
    switch (type) {
    case FATHOM_U8:
        return (struct range){0, 255};
    case FATHOM_I8:
        return (struct range){-128, 127};
    case FATHOM_F16:
        return (struct range){-F16_EXACT, F16_EXACT};
    case FATHOM_F32:
        return (struct range){-F32_EXACT, F32_EXACT};
    default:
        return (struct range){INT32_MIN, INT32_MAX};
    }
}

static int refuse(const struct cast *cast, uint64_t first_row, size_t index, double value,
                  const char *fault, const char *remedy, struct fathom_error *err)
{
    return error_set(err, FATHOM_EINPUT, "%s: row %llu, column %llu is %.9g, which %s %s; %s",
                     cast->path, (unsigned long long)(first_row + index / cast->dim),
                     (unsigned long long)(index % cast->dim), value, fault, cast_name(cast->type),
                     remedy);
}

static void store_integer(int type, void *out, size_t index, int64_t value)
{
    switch (type) {
    case FATHOM_U8:
    case FATHOM_I8:
        ((uint8_t *)out)[index] = (uint8_t)value;
        break;
    case FATHOM_F32:
        ((float *)out)[index] = (float)value;
        break;
    case FATHOM_F16: {
        float exact = (float)value;
        kernels_get()->f32_to_f16((uint16_t *)out + index, &exact, 1);
        break;
    }
    default:
        ((int32_t *)out)[index] = (int32_t)value;
        break;
    }
}

/* Floats to the integer types. */
static int cast_to_integers(struct cast *cast, const float *in, uint64_t first_row, size_t count,
                            void *out, struct fathom_error *err)
{
    static const char *const remedy = "--round rounds and clamps";
    struct range range = range_of(cast->type);
    for (size_t i = 0; i < count; i++) {
        double value = in[i], nearest = round(value);
        if (nearest != value && !cast->round)
            return refuse(cast, first_row, i, value, "is not an integer and so no", remedy, err);
        if ((nearest < range.low || nearest > range.high) && !cast->round)
            return refuse(cast, first_row, i, value, "is out of the range of", remedy, err);
        cast->rounded += nearest != value;
        cast->clamped += nearest < range.low || nearest > range.high;
        nearest = nearest < range.low ? range.low : nearest > range.high ? range.high : nearest;
        store_integer(cast->type, out, i, (int64_t)nearest);
    }
    return 0;
}

static int cast_to_halves(struct cast *cast, const float *in, uint64_t first_row, size_t count,
                          uint16_t *out, struct fathom_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (fabs((double)in[i]) >= F16_OVERFLOW)
            return refuse(cast, first_row, i, in[i], "overflows", "scale the vectors down", err);
    }
    kernels_get()->f32_to_f16(out, in, count);
    return 0;
}

int cast_f32(struct cast *cast, const float *in, uint64_t first_row, size_t rows, void *out,
             struct fathom_error *err)
{
    size_t count = rows * cast->dim;
    if (cast->type == FATHOM_F32) {
        memcpy(out, in, count * sizeof *in);
        return 0;
    }
    if (cast->type == FATHOM_F16)
        return cast_to_halves(cast, in, first_row, count, out, err);
    return cast_to_integers(cast, in, first_row, count, out, err);
}

int cast_i64(struct cast *cast, const int64_t *in, uint64_t first_row, size_t rows, void *out,
             struct fathom_error *err)
{
    struct range range = range_of(cast->type);
    for (size_t i = 0; i < rows * cast->dim; i++) {
        int64_t value = in[i], low = (int64_t)range.low, high = (int64_t)range.high;
        bool outside = value < low || value > high;
        if (outside && !cast->round)
            return refuse(cast, first_row, i, (double)value, "has no exact place in",
                          "--round clamps", err);
        cast->clamped += outside;
        store_integer(cast->type, out, i, value < low ? low : value > high ? high : value);
    }
    return 0;
}
