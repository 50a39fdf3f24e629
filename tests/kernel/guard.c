/* See guard.h. A region is wall, pages, wall; arrays of a case take one region each, so that every
 * one has its own wall. */
#include "guard.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { REGIONS = 8, PAGE = 4096, REGION_BYTES = 1 << 20, MARK_BYTES = 64, MARK = 0xa5 };

static struct {
    uint8_t *pages[REGIONS];
    uint8_t *mark[REGIONS]; /* on the open side of the array that was taken */
    int taken;
} guards;

bool guard_init(void)
{
    for (int i = 0; i < REGIONS; i++) {
        uint8_t *map =
            mmap(NULL, REGION_BYTES + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED || mprotect(map + PAGE, REGION_BYTES, PROT_READ | PROT_WRITE) != 0)
            return false;
        guards.pages[i] = map + PAGE;
    }
    return true;
}

void *guard_take(enum guard_side side, size_t bytes)
{
    if (guards.taken == REGIONS || bytes + MARK_BYTES > REGION_BYTES) {
        fprintf(stderr, "kernel_check: a case asks for more guarded memory than there is\n");
        exit(2);
    }
    int i = guards.taken++;
    uint8_t *array = guards.pages[i];
    if (side == GUARD_BEHIND)
        array += REGION_BYTES - bytes;
    guards.mark[i] = side == GUARD_BEHIND ? array - MARK_BYTES : array + bytes;
    memset(guards.mark[i], MARK, MARK_BYTES);
    return array;
}

bool guard_intact(void)
{
    for (int i = 0; i < guards.taken; i++) {
        for (int k = 0; k < MARK_BYTES; k++) {
            if (guards.mark[i][k] != MARK)
                return false;
        }
    }
    return true;
}

void guard_reset(void)
{
    guards.taken = 0;
}
