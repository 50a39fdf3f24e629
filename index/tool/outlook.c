/* What is expected is off in two ways: the machine is slower or faster than thought, which all
 * phases show, and a phase is more or less work than thought, which it shows itself. So what is
 * left is stretched by the pace so far, and a phase that runs comes to be believed as it goes on.
 */
#include "outlook.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define DOUBT       0.05 /* of the whole, for which the pace is taken to be as expected */
#define NEARLY_DONE 0.95 /* share at the most of a phase that does not say how far it is */

static struct outlook_phase *find(const struct outlook *outlook, const char *name)
{
    for (uint32_t i = 0; i < outlook->count; i++)
        if (strcmp(outlook->phases[i].name, name) == 0)
            return (struct outlook_phase *)&outlook->phases[i];
    return NULL;
}

void outlook_expect(struct outlook *outlook, const char *const *names, const double *seconds,
                    uint32_t count)
{
    struct outlook now = {.count = count < OUTLOOK_PHASES_MAX ? count : OUTLOOK_PHASES_MAX};
    for (uint32_t i = 0; i < now.count; i++) {
        struct outlook_phase *phase = &now.phases[i];
        const struct outlook_phase *before = find(outlook, names[i]);
        if (before)
            *phase = *before;
        snprintf(phase->name, sizeof phase->name, "%s", names[i]);
        phase->expected = seconds[i] > 0 ? seconds[i] : 0;
    }
    *outlook = now;
}

void outlook_end(struct outlook *outlook, const char *name, double seconds)
{
    struct outlook_phase *ended = find(outlook, name);
    if (!ended)
        return;
    ended->took = seconds;
    for (struct outlook_phase *phase = outlook->phases; phase <= ended; phase++)
        phase->ended = true;
}

/* Sums over phases but the one that runs. */
struct sums {
    double all, done, took, later;
};

static struct sums sum_up(const struct outlook *outlook, const struct outlook_phase *running)
{
    struct sums sums = {0};
    for (uint32_t i = 0; i < outlook->count; i++) {
        const struct outlook_phase *phase = &outlook->phases[i];
        sums.all += phase->expected;
        if (phase == running)
            continue;
        sums.took += phase->ended ? phase->took : 0;
        /* One that was left out says nothing about the pace. */
        if (phase->ended && phase->took > 0)
            sums.done += phase->expected;
        else if (!phase->ended)
            sums.later += phase->expected;
    }
    return sums;
}

struct outlook_view outlook_view(const struct outlook *outlook, const char *name, double seconds,
                                 double share)
{
    const struct outlook_phase *running = find(outlook, name);
    struct sums sums = sum_up(outlook, running);
    if (!(sums.all > 0))
        return (struct outlook_view){0, -1};
    double expected = running ? running->expected : 0;
    bool known = share >= 0;
    if (!known)
        share = expected > 0 && seconds < NEARLY_DONE * expected ? seconds / expected : NEARLY_DONE;
    double doubt = DOUBT * sums.all;
    double pace = (sums.took + seconds + doubt) / (sums.done + share * expected + doubt);
    double by_pace = (1 - share) * expected * pace;
    double by_itself = known && share > 0 ? (1 - share) * seconds / share : by_pace;
    double left = share * by_itself + (1 - share) * by_pace + sums.later * pace;
    double spent = sums.took + seconds;
    return (struct outlook_view){spent + left > 0 ? spent / (spent + left) : 0, left};
}
