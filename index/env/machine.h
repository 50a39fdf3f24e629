/* What a report says about where it was made, and whether the page cache had a hand in it. Never
 * used to decide anything. */
#ifndef ENV_MACHINE_H
#define ENV_MACHINE_H

#include <stdint.h>

#include "fathom/error.h"

struct env_machine { /* "unknown" and 0 where the system does not say */
    char cpu[96];    /* the model's name */
    char kernel[96]; /* "Linux 6.1.0" */
    uint64_t memory_bytes;
    unsigned cpus; /* that this process may run on */
};

void env_machine_describe(struct env_machine *out);

/* Lets env_peak_rss_bytes begin anew from what is resident now. Where the kernel does not allow
 * that, the peak stays that of the whole process. */
void env_peak_rss_reset(void);

/* How much of the files in dir (not in its folders) the page cache holds, or -errno. */
int64_t env_cached_bytes(const char *dir) FATHOM_MUST_USE;
/* Asks the page cache to forget the files in dir; what is dirty or mapped elsewhere stays. 0, or
 * -errno. */
int env_cache_drop(const char *dir) FATHOM_MUST_USE;

#endif
