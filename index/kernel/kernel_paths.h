/* Private to index/kernel: paths through trellises (kernel.h, trellis_encode) in plain C, for the
 * levels that have no better way than what their compiler makes of it. State s of a trellis is the
 * last bits of the KERNEL_MEMORY steps before, the latest lowest: after bit z comes state 2 s + z,
 * less what leaves it, and the bit that is not stored is the parity of those that count. */
#ifndef KERNEL_KERNEL_PATHS_H
#define KERNEL_KERNEL_PATHS_H

#include "kernel_levels.h"

#define PATHS_AWAY                                                                                 \
    16000             /* the sum of states where a circle does not begin: never caught up with     \
                       */
#define PATHS_STEPS 8 /* after which sums are brought down */
#define PATHS_UPPER                                                                                \
    (KERNEL_STATES / 2) /* of the two states that lead to another, the upper one's more */
/* Any state is so many steps away from the best one. */
_Static_assert(KERNEL_MEMORY *KERNEL_PATH_MAX < PATHS_AWAY, "paths from elsewhere lose");
_Static_assert(PATHS_AWAY + (PATHS_STEPS + KERNEL_MEMORY) * KERNEL_PATH_MAX <= UINT16_MAX,
               "a sum fits");

/* One, three and four steps before. */
KERNEL_INLINE uint32_t paths_parity(uint32_t state)
{
    return (state ^ state >> 2 ^ state >> 3) & 1;
}

/* The table of a step's bits, last bit and bit that is not stored: 64 cells. */
KERNEL_INLINE const uint8_t *paths_table(const uint8_t *tables, uint32_t bits, uint32_t last,
                                         uint32_t bonus)
{
    return tables + (((size_t)bits * 2 + last) * 2 + bonus) * 64;
}

typedef uint16_t paths_sums[KERNEL_STATES][KERNEL_PATHS];

KERNEL_INLINE void paths_step(paths_sums sums, uint8_t *from, const struct kernel_path *path,
                              uint32_t t, const uint8_t *cells)
{
    uint16_t step[2][2][KERNEL_PATHS];
    uint32_t weight = path->weights[t];
    for (uint32_t last = 0; last < 2; last++)
        for (uint32_t bonus = 0; bonus < 2; bonus++) {
            const uint8_t *errors = paths_table(path->errors, path->bits[t], last, bonus);
            for (uint32_t i = 0; i < KERNEL_PATHS; i++)
                step[last][bonus][i] = (uint16_t)(errors[cells[i]] * weight >> 8);
        }
    paths_sums next;
    for (uint32_t to = 0; to < KERNEL_STATES; to++) {
        uint32_t low = to >> 1, parity = paths_parity(low);
        for (uint32_t i = 0; i < KERNEL_PATHS; i++) {
            uint16_t a = (uint16_t)(sums[low][i] + step[to & 1][parity][i]);
            uint16_t b = (uint16_t)(sums[low + PATHS_UPPER][i] + step[to & 1][!parity][i]);
            from[to * KERNEL_PATHS + i] = b < a;
            next[to][i] = b < a ? b : a;
        }
    }
    memcpy(sums, next, sizeof next);
}

KERNEL_INLINE void paths_bring_down(paths_sums sums)
{
    for (uint32_t i = 0; i < KERNEL_PATHS; i++) {
        uint16_t least = UINT16_MAX;
        for (uint32_t s = 0; s < KERNEL_STATES; s++)
            least = sums[s][i] < least ? sums[s][i] : least;
        for (uint32_t s = 0; s < KERNEL_STATES; s++)
            sums[s][i] = (uint16_t)(sums[s][i] - least);
    }
}

KERNEL_INLINE void paths_forward(paths_sums sums, const struct kernel_path *path,
                                 const uint8_t *cells)
{
    for (uint32_t t = 0; t < path->steps; t++) {
        paths_step(sums, path->work + (size_t)t * KERNEL_STATES * KERNEL_PATHS, path, t,
                   cells + (size_t)t * KERNEL_PATHS);
        if (t % PATHS_STEPS == PATHS_STEPS - 1)
            paths_bring_down(sums);
    }
}

/* Goes back from a state at the end to that at the beginning; indexes may be NULL. */
KERNEL_INLINE uint32_t paths_back(uint8_t *indexes, const struct kernel_path *path,
                                  const uint8_t *cells, uint32_t i, uint32_t state)
{
    for (uint32_t t = path->steps; t-- > 0;) {
        size_t at = (size_t)t * KERNEL_PATHS + i;
        uint32_t high = path->work[((size_t)t * KERNEL_STATES + state) * KERNEL_PATHS + i];
        uint32_t before = state >> 1 | high * PATHS_UPPER;
        if (indexes)
            indexes[at] = paths_table(path->indexes, path->bits[t], state & 1,
                                      paths_parity(before))[cells[at]];
        state = before;
    }
    return state;
}

KERNEL_INLINE void paths_encode(uint8_t *indexes, const struct kernel_path *path,
                                const uint8_t *cells)
{
    paths_sums sums = {0};
    uint32_t begin[KERNEL_PATHS];
    paths_forward(sums, path, cells);
    paths_bring_down(sums);
    paths_forward(sums, path, cells);
    for (uint32_t i = 0; i < KERNEL_PATHS; i++) {
        uint32_t best = 0;
        for (uint32_t s = 1; s < KERNEL_STATES; s++)
            best = sums[s][i] < sums[best][i] ? s : best;
        begin[i] = paths_back(NULL, path, cells, i, best);
    }
    for (uint32_t s = 0; s < KERNEL_STATES; s++)
        for (uint32_t i = 0; i < KERNEL_PATHS; i++)
            sums[s][i] = s == begin[i] ? 0 : PATHS_AWAY;
    paths_forward(sums, path, cells);
    for (uint32_t i = 0; i < KERNEL_PATHS; i++)
        paths_back(indexes, path, cells, i, begin[i]);
}

#endif
