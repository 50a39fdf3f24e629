/* Memory with a wall: arrays that end right before, or start right behind, a page that may not be
 * touched. A kernel that reads a byte too many crashes on the spot; one that writes on the open
 * side breaks a mark. */
#ifndef KERNEL_GUARD_H
#define KERNEL_GUARD_H

#include <stdbool.h>
#include <stddef.h>

enum guard_side { GUARD_BEHIND, GUARD_BEFORE }; /* where the wall stands */

/* Maps the regions; false when the OS refuses. */
bool guard_init(void);
/* bytes next to the wall of the next free region, of arbitrary content. Exits the program when it
 * asks for more than there is. */
void *guard_take(enum guard_side side, size_t bytes);
/* Whether all marks of the arrays taken since the last reset still stand. */
bool guard_intact(void);
/* Gives all arrays back. */
void guard_reset(void);

#endif
