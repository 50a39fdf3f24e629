/* In whole bytes throughout: what floating point rounds up would be more than there is. */
#include "share.h"

#include <stdbool.h>

/* left x size / raw >= least. */
static bool has_least(const struct fathom_outlook *outlook, uint64_t left, uint64_t raw)
{
    return (unsigned __int128)left * outlook->raw_bytes >=
           (unsigned __int128)outlook->least_bytes * raw;
}

void share_out(struct fathom_outlook *outlooks, unsigned count, uint64_t budget_bytes)
{
    uint64_t left = budget_bytes, raw = 0;
    bool settled = false;
    for (unsigned i = 0; i < count; i++) {
        outlooks[i].budget_bytes = 0; /* not settled at its least */
        raw += outlooks[i].raw_bytes;
    }
    while (!settled) { /* who gets the least leaves less to the others */
        settled = true;
        for (unsigned i = 0; i < count; i++) {
            struct fathom_outlook *outlook = &outlooks[i];
            if (outlook->budget_bytes || has_least(outlook, left, raw))
                continue;
            outlook->budget_bytes = outlook->least_bytes;
            left -= outlook->least_bytes;
            raw -= outlook->raw_bytes;
            settled = false;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        struct fathom_outlook *outlook = &outlooks[i];
        if (!outlook->budget_bytes)
            outlook->budget_bytes = (uint64_t)((unsigned __int128)left * outlook->raw_bytes / raw);
    }
}
