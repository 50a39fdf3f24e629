/* The vectors of a search leave the message here: copied to aligned memory in the query's own type,
 * and refused when a value is not finite, so that a NaN is the client's error with a row and a
 * column rather than an odd result. */
#include "request.h"

#include "le.h"
#include "protocol.h"

#include <math.h>
#include <string.h>

size_t search_vector_bytes(const struct search_params *search)
{
    return (size_t)search->n * search->dim * fathom_dtype_bytes(search->dtype);
}

static double wire_number(const struct wire_value *value)
{
    switch (value->kind) {
    case WIRE_UINT:
        return (double)value->number;
    case WIRE_INT:
        return (double)value->negative;
    default:
        return value->real;
    }
}

/* The kinds were checked when the message was decoded; what is not as it was then ends the copy. */
static bool copy_nested(const struct search_params *search, float *out)
{
    struct wire_cursor cursor = search->nested;
    struct wire_value value;
    for (uint32_t row = 0; row < search->n; row++) {
        if (!wire_next(&cursor, &value))
            return false;
        for (uint32_t column = 0; column < search->dim; column++) {
            if (!wire_next(&cursor, &value))
                return false;
            *out++ = (float)wire_number(&value);
        }
    }
    return true;
}

/* A float is infinite or NaN when all bits of its exponent are set. The loops have no branch, so
 * that they are vectorised; the place is looked for only when there is one. */
static bool f32_all_finite(const void *values, size_t count)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = le_load32((const uint8_t *)values + 4 * i);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return !bad;
}

static bool f16_all_finite(const void *values, size_t count)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = le_load16((const uint8_t *)values + 2 * i);
        bad |= (bits & 0x7c00u) == 0x7c00u;
    }
    return !bad;
}

static int check_finite(const struct search_params *search, const void *values,
                        struct rpc_error *err)
{
    bool (*all_finite)(const void *values, size_t count) =
        search->dtype == FATHOM_F32 ? f32_all_finite : f16_all_finite;
    size_t count = (size_t)search->n * search->dim;
    if (all_finite(values, count))
        return 0;
    size_t at = 0, scalar = fathom_dtype_bytes(search->dtype);
    while (all_finite((const uint8_t *)values + at * scalar, 1))
        at++;
    rpc_error_field(err, PROTOCOL_KEY_VECTORS, "row %zu, column %zu is NaN or infinite",
                    at / search->dim, at % search->dim);
    err->row = (int64_t)(at / search->dim);
    return -1;
}

int search_copy_vectors(const struct search_params *search, void *out, struct rpc_error *err)
{
    if (search->nested.at) {
        if (!copy_nested(search, out))
            return rpc_error_field(err, PROTOCOL_KEY_VECTORS, "the message ends early");
    } else {
        memcpy(out, search->bin, search_vector_bytes(search));
    }
    if (search->dtype != FATHOM_F32 && search->dtype != FATHOM_F16)
        return 0;
    return check_finite(search, out, err);
}
