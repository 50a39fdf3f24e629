/* One budget for several indexes: how much of it each gets. */
#ifndef SERVER_SHARE_H
#define SERVER_SHARE_H

#include "fathom/fathom.h"

/* Fills in budget_bytes of each: by raw_bytes, but never less than least_bytes, since by size alone
 * a small index beside a large one would get less than it can do with. Together they are not above
 * the budget, which is no less than the sum of all that is least. */
void share_out(struct fathom_outlook *outlooks, unsigned count, uint64_t budget_bytes);

#endif
