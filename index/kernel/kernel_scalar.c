/* The reference: plain C that any processor runs, and that the vector levels are compared with.
 * Integer kernels are exact; written for clarity first, with no more cleverness than spreading
 * eight bits at a time. Reads rows and codes byte by byte, never beyond their end. */
#include "kernel_encode.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "le.h"

static int32_t dot_u8s8(const uint8_t *row, const int8_t *weights, size_t count)
{
    int32_t sum = 0;
    for (size_t d = 0; d < count; d++)
        sum += row[d] * weights[d];
    return sum;
}

static void dot_u8s8_gather_scalar(int32_t *out, const int8_t *query, const uint8_t *rows,
                                   size_t row_bytes, const uint32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = dot_u8s8(rows + ids[i] * row_bytes, query, row_bytes);
}

static void dot_u8s8_panel_scalar(int32_t *out, const int8_t *panel, const uint8_t *rows,
                                  size_t row_bytes, const uint32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *row = rows + ids[i] * row_bytes;
        int32_t *sums = out + i * KERNEL_PANEL;
        memset(sums, 0, KERNEL_PANEL * sizeof *sums);
        for (size_t d = 0; d < row_bytes; d += 4)
            for (size_t j = 0; j < KERNEL_PANEL; j++)
                sums[j] += dot_u8s8(row + d, panel + (d / 4 * KERNEL_PANEL + j) * 4, 4);
    }
}

static void panel_near_scalar(int32_t *sums, uint16_t *near, const int32_t *norms,
                              const int32_t *biases, const int32_t *limits, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        near[i] = 0;
        for (size_t j = 0; j < KERNEL_PANEL; j++) {
            int32_t *sum = &sums[i * KERNEL_PANEL + j];
            *sum = norms[i] + biases[j] - 2 * *sum;
            near[i] |= (uint16_t)((*sum <= limits[j]) << j);
        }
    }
}

static void score8_one(struct kernel_score8 *out, const struct kernel_query8 *query,
                       const uint8_t *row)
{
    int32_t hi = 0, lo = 0, norm = 0;
    for (uint32_t d = 0; d < query->dim; d++) {
        int32_t value = row[d];
        hi += value * query->hi[d];
        lo += value * query->lo[d];
        norm += (value - 128) * (value - 128);
    }
    *out = (struct kernel_score8){.hi = hi, .lo = lo, .norm = norm};
}

static void score8_rows_scalar(struct kernel_score8 *out, const struct kernel_query8 *query,
                               const uint8_t *rows, size_t row_bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        score8_one(&out[i], query, rows + i * row_bytes);
}

static void score8_gather_scalar(struct kernel_score8 *out, const struct kernel_query8 *query,
                                 const uint8_t *rows, size_t row_bytes, const uint32_t *ids,
                                 size_t count)
{
    for (size_t i = 0; i < count; i++)
        score8_one(&out[i], query, rows + ids[i] * row_bytes);
}

/* Bit i of byte becomes byte i of the result, 0 or 1: copy the byte eight times, keep one bit of
 * each copy, and move whichever it is to the bottom (adding 127 carries any set bit into the top
 * one, and never further). */
static uint64_t spread_bits(uint8_t byte)
{
    uint64_t picked = (byte * 0x0101010101010101u) & 0x8040201008040201u;
    return (picked + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
}

static float codes_one(const struct kernel_codes *plan, const struct kernel_query8 *query,
                       const uint8_t *code)
{
    int32_t hi = 0, lo = 0;
    uint8_t bonus[KERNEL_TRELLIS_MAX];
    if (plan->trellis)
        kernel_bonus(bonus, plan, code);
    for (uint32_t group = 0; group * 8 < plan->dim; group++) {
        uint32_t d = group * 8, planes = kernel_planes_at(plan, d);
        uint64_t indexes = le_load64(plan->sentinel + d);
        for (uint32_t p = 0; p < planes; p++)
            indexes |= spread_bits(code[plan->plane_start[p] + group]) << (6 - p);
        if (plan->trellis && kernel_has_bonus(planes))
            indexes |= spread_bits(bonus[group]) << (6 - planes);
        for (uint32_t k = 0; k < 8; k++) {
            int32_t value = plan->level[indexes >> 8 * k & 127];
            hi += value * query->hi[d + k];
            lo += value * query->lo[d + k];
        }
    }
    return kernel_join(hi, lo);
}

static void codes_rows_scalar(float *out, const struct kernel_codes *plan,
                              const struct kernel_query8 *query, const uint8_t *codes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = codes_one(plan, query, codes + i * plan->code_bytes);
}

static void codes_gather_scalar(float *out, const struct kernel_codes *plan,
                                const struct kernel_query8 *query, const uint8_t *codes,
                                const uint32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = codes_one(plan, query, codes + (size_t)ids[i] * plan->code_bytes);
}

static size_t below_f32_scalar(uint32_t *out, const float *values, size_t count, float limit)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        out[found] = (uint32_t)i;
        found += values[i] < limit;
    }
    return found;
}

static float l2sq_f32_scalar(const float *a, const float *b, size_t dim)
{
    float sum[4] = {0};
    size_t d = 0;
    for (; d + 4 <= dim; d += 4) {
        for (size_t k = 0; k < 4; k++)
            sum[k] += (a[d + k] - b[d + k]) * (a[d + k] - b[d + k]);
    }
    for (; d < dim; d++)
        sum[0] += (a[d] - b[d]) * (a[d] - b[d]);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static float dot_f32_scalar(const float *a, const float *b, size_t dim)
{
    float sum[4] = {0};
    size_t d = 0;
    for (; d + 4 <= dim; d += 4) {
        for (size_t k = 0; k < 4; k++)
            sum[k] += a[d + k] * b[d + k];
    }
    for (; d < dim; d++)
        sum[0] += a[d] * b[d];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

void kernel_matvec_nan(float *out, size_t rows)
{
    for (size_t r = 0; r < rows; r++)
        out[r] = NAN;
}

static uint32_t largest_bits(const float *x, size_t count)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = le_load32(x + i) & 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

static void matvec_i8_scalar(float *out, const int8_t *matrix, const float *scale, const float *x,
                             size_t rows, size_t columns)
{
    int32_t integers[KERNEL_DIM_MAX];
    struct kernel_fixed fixed;
    assert(columns <= KERNEL_DIM_MAX);
    if (!kernel_fix(largest_bits(x, columns), &fixed)) {
        kernel_matvec_nan(out, rows);
        return;
    }
    for (size_t c = 0; c < columns; c++)
        integers[c] = (int32_t)lrintf(x[c] * fixed.inverse);
    for (size_t r = 0; r < rows; r++) {
        const int8_t *row = matrix + r * columns;
        int64_t sum = 0;
        for (size_t c = 0; c < columns; c++)
            sum += row[c] * integers[c];
        out[r] = kernel_unfix(&fixed, sum, scale[r]);
    }
}

float kernel_f16_decode(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 31, mantissa = half & 0x3ff, bits;
    float value;
    if (exponent == 31) { /* infinity, or a NaN, which comes out quiet as from the hardware */
        bits = 0x7f800000 | mantissa << 13 | (mantissa ? 0x400000 : 0);
    } else if (exponent) {
        bits = (exponent + 112) << 23 | mantissa << 13;
    } else { /* subnormal: a count of 2^-24, which is a normal float */
        value = (float)mantissa * 0x1p-24f;
        memcpy(&bits, &value, sizeof bits);
    }
    bits |= sign;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint16_t kernel_f16_encode(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) /* NaN */
        return sign | 0x7e00 | (bits >> 13 & 0x3ff);
    if (bits >= 0x477ff000) /* 65520, half way to 2^16, rounds to even: infinity */
        return sign | 0x7c00;
    if (bits < 0x38800000) { /* below 2^-14: let an addition round it to a multiple of 2^-24 */
        float half = 0.5f, sum;
        memcpy(&sum, &bits, sizeof sum);
        sum += half;
        memcpy(&bits, &sum, sizeof bits);
        return sign | (uint16_t)(bits - 0x3f000000);
    }
    bits += 0xfff + (bits >> 13 & 1);
    return sign | (uint16_t)((bits - (112u << 23)) >> 13);
}

static void f16_to_f32_scalar(float *out, const uint16_t *in, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = kernel_f16_decode(in[i]);
}

static void f32_to_f16_scalar(uint16_t *out, const float *in, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = kernel_f16_encode(in[i]);
}

/* ---- sliced codes ---- */

static void sliced_sums_scalar(float *out, const uint8_t *tables, const uint8_t *blocks,
                               uint32_t columns, size_t count)
{
    const uint8_t *high = tables + (size_t)kernel_padded_columns(columns) * 16;
    for (size_t b = 0; b < count; b++, blocks += (size_t)columns * KERNEL_LANES) {
        uint32_t sum[KERNEL_LANES] = {0};
        for (uint32_t c = 0; c < columns; c++)
            for (int r = 0; r < KERNEL_LANES; r++) {
                uint8_t byte = blocks[c * KERNEL_LANES + r];
                sum[r] += tables[c * 16 + (byte & 15)] + high[c * 16 + (byte >> 4)];
            }
        for (int r = 0; r < KERNEL_LANES; r++)
            out[b * KERNEL_LANES + r] = (float)sum[r];
    }
}

/* ---- half a byte a dimension ---- */

static void nibble_sums_scalar(float *out, const int16_t *weights, const uint8_t *steps,
                               const uint8_t *blocks, const uint8_t *next, uint32_t dim,
                               size_t count)
{
    (void)next;
    for (size_t b = 0; b < count; b++, blocks += kernel_nibble_bytes(dim))
        for (size_t r = 0; r < KERNEL_LANES; r++) {
            int32_t sum = 0;
            for (uint32_t d = 0; d < dim; d++) {
                uint8_t byte = blocks[(d / 8 * KERNEL_LANES + r) * 4 + d % 4];
                sum += (byte >> d % 8 / 4 * 4 & 15) * kernel_step_weight(weights[d], steps[d]);
            }
            out[b * KERNEL_LANES + r] = (float)sum;
        }
}

void kernels_fill_scalar(struct kernels *table)
{
    *table = (struct kernels){
        .name = "scalar",
        .level = KERNEL_SCALAR,
        .dot_u8s8_gather = dot_u8s8_gather_scalar,
        .dot_u8s8_panel = dot_u8s8_panel_scalar,
        .panel_near = panel_near_scalar,
        .score8_rows = score8_rows_scalar,
        .score8_gather = score8_gather_scalar,
        .sliced_sums = sliced_sums_scalar,
        .nibble_sums = nibble_sums_scalar,
        .codes_rows = codes_rows_scalar,
        .codes_gather = codes_gather_scalar,
        .quantise6 = quantise6_scalar,
        .unit_sums = unit_sums_scalar,
        .trellis_encode = trellis_encode_scalar,
        .decoded_sums = decoded_sums_scalar,
        .decoded_products = decoded_products_scalar,
        .below_f32 = below_f32_scalar,
        .l2sq_f32 = l2sq_f32_scalar,
        .dot_f32 = dot_f32_scalar,
        .matvec_i8 = matvec_i8_scalar,
        .f16_to_f32 = f16_to_f32_scalar,
        .f32_to_f16 = f32_to_f16_scalar,
    };
}
