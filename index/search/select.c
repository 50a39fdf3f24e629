/* Quickselect by Hoare's partition, over (estimate, row), a total order, so that the chosen set is
 * defined, and over floats; and a cut found by counting, which has no branch to mispredict. */
#include <emmintrin.h>
#include <string.h>

#include "select.h"

static bool before(const struct candidate *a, const struct candidate *b)
{
    return a->estimate != b->estimate ? a->estimate < b->estimate : a->row < b->row;
}

void select_best(struct candidate *c, uint32_t count, uint32_t keep)
{
    int64_t low = 0, high = (int64_t)count - 1;
    while (low < high) {
        struct candidate pivot = c[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (before(&c[i], &pivot))
                i++;
            while (before(&pivot, &c[j]))
                j--;
            if (i <= j) {
                struct candidate swapped = c[i];
                c[i++] = c[j];
                c[j--] = swapped;
            }
        }
        if ((int64_t)keep <= j)
            high = j;
        else if ((int64_t)keep >= i)
            low = i;
        else
            return;
    }
}

/* Integers that sort like the floats they come from: a float is an ordinal number of its own. */
static int32_t ordinal(float value)
{
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits < 0 ? INT32_MIN - bits : bits;
}

static float from_ordinal(int32_t number)
{
    int32_t bits = number < 0 ? INT32_MIN - number : number;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t count_below(const float *values, uint32_t count, float limit)
{
    __m128i sum = _mm_setzero_si128();
    uint32_t i = 0, below = 0;
    for (; i + 4 <= count; i += 4)
        sum = _mm_sub_epi32(
            sum, _mm_castps_si128(_mm_cmplt_ps(_mm_loadu_ps(values + i), _mm_set1_ps(limit))));
    for (; i < count; i++)
        below += values[i] < limit;
    int32_t lanes[4];
    _mm_storeu_si128((__m128i *)(void *)lanes, sum);
    return below + (uint32_t)(lanes[0] + lanes[1] + lanes[2] + lanes[3]);
}

struct cut select_cut(const float *values, uint32_t count, uint32_t keep)
{
    float least = values[0], most = values[0];
    for (uint32_t i = 1; i < count; i++) {
        least = values[i] < least ? values[i] : least;
        most = values[i] > most ? values[i] : most;
    }
    /* The largest limit that at most keep values are below; low always is such a limit. */
    int64_t low = ordinal(least), high = ordinal(most);
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        uint32_t below = count_below(values, count, from_ordinal((int32_t)middle));
        if (below == keep)
            return (struct cut){.limit = from_ordinal((int32_t)middle)};
        if (below < keep)
            low = middle;
        else
            high = middle - 1;
    }
    float limit = from_ordinal((int32_t)low);
    return (struct cut){.limit = limit, .equal = keep - count_below(values, count, limit)};
}

void select_floats(float *v, uint32_t count, uint32_t rank)
{
    int64_t low = 0, high = (int64_t)count - 1;
    while (low < high) {
        float pivot = v[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (v[i] < pivot)
                i++;
            while (pivot < v[j])
                j--;
            if (i <= j) {
                float swapped = v[i];
                v[i++] = v[j];
                v[j--] = swapped;
            }
        }
        if ((int64_t)rank <= j)
            high = j;
        else if ((int64_t)rank >= i)
            low = i;
        else
            return;
    }
}
