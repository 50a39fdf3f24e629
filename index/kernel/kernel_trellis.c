/* What scoring codes with a trellis (kernel.h) goes by, worked out once for a plan. Scores and
 * encodes nothing. */
#include <assert.h>

#include "kernel_levels.h"

static const uint32_t taps[] = {1, 3, 4}; /* steps before */
enum { TAPS = sizeof taps / sizeof taps[0] };

/* The bit of an index that byte `row` of a square becomes: its bytes 1 to 7 are bits 6 to 0. */
static uint64_t index_bit(uint32_t row)
{
    return 1u << (7 - row);
}

/* Planes lie in rows 1 and on of the square; the bytes of the steps before, if any are needed, in
 * those that follow and, in the end, row 0. */
static void prepare_group(struct kernel_trellis *trellis, const struct kernel_codes *plan,
                          uint32_t group)
{
    uint32_t planes = kernel_planes_at(plan, group * 8), lane = group % 8;
    uint8_t *places = trellis->places + group * 8;
    uint64_t rows = 0, turned = 0, mix = 0;
    for (uint32_t p = 0; p < planes; p++) {
        places[1 + p] = (uint8_t)(plan->plane_start[p] + group);
        rows |= 1u << (1 + p);
        mix |= index_bit(1 + p) << 8 * (1 + p);
    }
    for (uint32_t tap = 0; tap < TAPS && kernel_has_bonus(planes); tap++) {
        uint32_t row = (planes + 1 + tap) % 8;
        places[row] = trellis->last[(group + trellis->groups - taps[tap]) % trellis->groups];
        rows |= 1u << row;
        turned |= group < taps[tap] ? 1u << row : 0;
        mix |= index_bit(row) << 8 * (1 + planes);
    }
    trellis->rows[group / 8] |= rows << 8 * lane;
    trellis->turned |= turned << 8 * lane; /* of groups 0 to 3 */
    trellis->mix[group] = mix;
}

void kernel_trellis_prepare(struct kernel_trellis *trellis, const struct kernel_codes *plan)
{
    assert(plan->groups[0] >= KERNEL_MEMORY && plan->code_bytes <= KERNEL_TRELLIS_MAX);
    *trellis = (struct kernel_trellis){.groups = plan->groups[0]};
    for (uint32_t group = 0; group < trellis->groups; group++) {
        uint32_t planes = kernel_planes_at(plan, group * 8);
        trellis->last[group] = (uint8_t)(plan->plane_start[planes > 0 ? planes - 1 : 0] + group);
        trellis->added[group] = kernel_has_bonus(planes) ? 255 : 0;
    }
    for (uint32_t group = 0; group < trellis->groups; group++)
        prepare_group(trellis, plan, group);
}
