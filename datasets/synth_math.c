/* Built with -O3 -fno-trapping-math -fno-math-errno (datasets/CMakeLists.txt): that vectorises
 * these loops and changes no result, only flags that nobody reads. */
#include "synth_math.h"

#include <math.h>
#include <string.h>

#define PIECE 256 /* variates at a time: two arrays of doubles stay in the first-level cache */

/* ---- N(0,1) by inverting the distribution function ----
 * M. J. Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution", Applied
 * Statistics 37 (1988), routine PPND7: relative error about 1e-7, which is what a float holds. */

#define CENTRAL_MAX 0.425

static double central(double q)
{
    double r = CENTRAL_MAX * CENTRAL_MAX - q * q;
    double above = ((5.9109374720e1 * r + 1.5929113202e2) * r + 5.0434271938e1) * r + 3.3871327179;
    double below = ((6.7187563600e1 * r + 7.8757757664e1) * r + 1.7895169469e1) * r + 1.0;
    return q * above / below;
}

/* The natural logarithm of 0 < x < 1: x = m * 2^e with m in [sqrt(1/2), sqrt(2)), log m = 2
 * atanh((m - 1) / (m + 1)) by its series, whose tenth term is below 1e-16. */
static double log_fraction(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52) - 1023;
    bits = (bits & 0x000fffffffffffffu) | 0x3ff0000000000000u;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        exponent++;
    }
    double s = (m - 1.0) / (m + 1.0), square = s * s, sum = 0;
    for (int odd = 19; odd >= 1; odd -= 2)
        sum = sum * square + 1.0 / odd;
    return exponent * 0.69314718055994531 + 2.0 * s * sum;
}

/* tail is the smaller of p and 1 - p. */
static double outer(double tail)
{
    double r = sqrt(-log_fraction(tail));
    if (r <= 5.0) {
        r -= 1.6;
        return (((1.7023821103e-1 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777) /
               ((1.2021132975e-1 * r + 7.3700164250e-1) * r + 1.0);
    }
    r -= 5.0;
    return (((1.7337203997e-2 * r + 4.2868294337e-1) * r + 3.0812263860) * r + 6.6579051150) /
           ((1.2258202635e-2 * r + 2.4197894225e-1) * r + 1.0);
}

static double quantile(double q, double tail)
{
    if (fabs(q) <= CENTRAL_MAX)
        return central(q);
    return q < 0 ? -outer(tail) : outer(tail);
}

double synth_normal_quantile(double p)
{
    return quantile(p - 0.5, p < 0.5 ? p : 1.0 - p);
}

/* The central formula for all, which vectorises, then the outer one for the 15% that need it. 52
 * bits and a half: never 0 or 1, and both p - 0.5 and the distance to the nearer end are exact. */
static void normals_piece(struct prng *prng, float *out, size_t count)
{
    double q[PIECE], x[PIECE];
    for (size_t i = 0; i < count; i++)
        q[i] = ((double)(prng_next(prng) >> 12) + 0.5) * 0x1.0p-52 - 0.5;
    for (size_t i = 0; i < count; i++)
        x[i] = central(q[i]);
    for (size_t i = 0; i < count; i++) {
        if (fabs(q[i]) > CENTRAL_MAX)
            x[i] = quantile(q[i], 0.5 - fabs(q[i]));
    }
    for (size_t i = 0; i < count; i++)
        out[i] = (float)x[i];
}

void synth_normals(struct prng *prng, float *out, size_t count)
{
    for (size_t done = 0; done < count; done += PIECE)
        normals_piece(prng, out + done, count - done < PIECE ? count - done : PIECE);
}

/* ---- the layers ---- */

/* Four inputs a pass save three of four loads and stores of the sums; the order of additions stays
 * i rising. */
static void product_row(float *restrict out, const float *restrict in,
                        const float *restrict weights, size_t inputs, size_t outputs)
{
    for (size_t i = 0; i < inputs; i += 4) {
        const float *restrict w0 = weights + i * outputs, *restrict w1 = w0 + outputs;
        const float *restrict w2 = w1 + outputs, *restrict w3 = w2 + outputs;
        float a0 = in[i], a1 = in[i + 1], a2 = in[i + 2], a3 = in[i + 3];
        for (size_t j = 0; j < outputs; j++)
            out[j] = (((out[j] + a0 * w0[j]) + a1 * w1[j]) + a2 * w2[j]) + a3 * w3[j];
    }
}

void synth_product(float *out, const float *in, const float *weights, size_t rows, size_t inputs,
                   size_t outputs)
{
    for (size_t r = 0; r < rows; r++)
        product_row(out + r * outputs, in + r * inputs, weights, inputs, outputs);
}

/* tanh |x| = 1 - 2 / (e^2|x| + 1); e^y = 2^n * 2^f, 2^f for |f| <= 1/2 by the Taylor series of e^(f
 * ln 2). */
static float tanh_magnitude(float magnitude)
{
    float y = magnitude * 2.885390082f; /* 2 / ln 2 */
    int32_t n = (int32_t)(y + 0.5f);
    float f = y - (float)n;
    float p = 1.540353039e-4f;
    p = p * f + 1.333355815e-3f;
    p = p * f + 9.618129108e-3f;
    p = p * f + 5.550410866e-2f;
    p = p * f + 2.402265070e-1f;
    p = p * f + 6.931471806e-1f;
    p = p * f + 1.0f;
    int32_t power_bits = (n + 127) << 23;
    float power;
    memcpy(&power, &power_bits, sizeof power);
    return 1.0f - 2.0f / (p * power + 1.0f);
}

/* Beyond 10, tanh is 1 in float. The clamp has a loop of its own: gcc 12 would turn the two cases
 * into a branch, and a loop with a branch is not vectorised. */
static void tanh_piece(float *values, size_t count)
{
    float magnitudes[PIECE];
    for (size_t i = 0; i < count; i++) {
        float magnitude = fabsf(values[i]);
        magnitudes[i] = magnitude < 10.0f ? magnitude : 10.0f;
    }
    for (size_t i = 0; i < count; i++)
        values[i] = copysignf(tanh_magnitude(magnitudes[i]), values[i]);
}

void synth_tanh(float *values, size_t count)
{
    for (size_t done = 0; done < count; done += PIECE)
        tanh_piece(values + done, count - done < PIECE ? count - done : PIECE);
}
