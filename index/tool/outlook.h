/* How far work of several phases is as a whole, and how long the rest of it takes: from what each
 * phase was thought to take, and what those before it took. Pure arithmetic, without a clock. */
#ifndef TOOL_OUTLOOK_H
#define TOOL_OUTLOOK_H

#include <stdbool.h>
#include <stdint.h>

#define OUTLOOK_PHASES_MAX 16

struct outlook {
    struct outlook_phase {
        char name[16];
        double expected, took; /* seconds; took counts when ended */
        bool waits;            /* for a device: its pace says nothing of the others' */
        bool ended;
    } phases[OUTLOOK_PHASES_MAX];
    uint32_t count;
};

/* Names the phases, in order, what each is thought to take, and whether it waits (NULL: none does).
 * Again when more is known: phases of the same name that have ended stay so. */
void outlook_expect(struct outlook *outlook, const char *const *names, const double *seconds,
                    const bool *waits, uint32_t count);
/* A phase has ended; those before it that never began have ended too, in no time. One that is not
 * among those named is ignored. */
void outlook_end(struct outlook *outlook, const char *name, double seconds);

struct outlook_view {
    double share;       /* of the whole, 0..1 */
    double eta_seconds; /* below 0: unknown, as nothing is expected */
};

/* While the phase runs: seconds since it began, and its own share; below 0: not known. */
struct outlook_view outlook_view(const struct outlook *outlook, const char *name, double seconds,
                                 double share);

#endif
