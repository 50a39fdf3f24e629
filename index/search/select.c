/* Quickselect by Hoare's partition: over (estimate, row), a total order, so that the chosen set is
 * defined; and over floats. */
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
