/* What is expected is off in two ways: the machine is slower or faster than thought, which all
 * phases show alike, and a phase is more or less work than thought, which it shows itself and which
 * says little about the others. So the pace at which all that is left goes is the mean of those of
 * the phases so far, of a long one as of a short one, unless it is too short to tell; and a phase
 * that runs comes to be believed as it goes on. One that waits for a device goes by that device. */
#include "outlook.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define DOUBT       0.25 /* of a phase, which goes as expected: before any has run there is that */
#define SHORT       0.02 /* of the whole: so long a phase counts for half of a long one, */
#define AT_LEAST    0.1  /* seconds, for which what phases begin with counts as well */
#define OWN_SHARE   0.3  /* of a phase, after which it counts for half by itself, */
#define WAIT_SHARE  0.05 /* and of one that waits, of which nothing else says anything */
#define NEARLY_DONE 0.95 /* share at the most of a phase that does not say how far it is */

static struct outlook_phase *find(const struct outlook *outlook, const char *name)
{
    for (uint32_t i = 0; i < outlook->count; i++)
        if (strcmp(outlook->phases[i].name, name) == 0)
            return (struct outlook_phase *)&outlook->phases[i];
    return NULL;
}

void outlook_expect(struct outlook *outlook, const char *const *names, const double *seconds,
                    const bool *waits, uint32_t count)
{
    struct outlook now = {.count = count < OUTLOOK_PHASES_MAX ? count : OUTLOOK_PHASES_MAX};
    for (uint32_t i = 0; i < now.count; i++) {
        struct outlook_phase *phase = &now.phases[i];
        const struct outlook_phase *before = find(outlook, names[i]);
        if (before)
            *phase = *before;
        snprintf(phase->name, sizeof phase->name, "%s", names[i]);
        phase->expected = seconds[i] > 0 ? seconds[i] : 0;
        phase->waits = waits && waits[i];
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

/* Paces are ratios, hence the mean of their logarithms. */
struct paces {
    double weights, logs;
};

static void add_pace(struct paces *paces, double expected, double took, double all)
{
    if (!(expected > 0) || !(took > 0)) /* one that was left out says nothing */
        return;
    double few = fmax(SHORT * all, AT_LEAST), weight = expected / (expected + few);
    paces->weights += weight;
    paces->logs += weight * log((took + few) / (expected + few));
}

static double mean_pace(const struct paces *paces)
{
    return exp(paces->logs / (paces->weights + DOUBT));
}

/* Of the phases but the one that runs. */
struct sums {
    double all, took, later; /* all: with that one */
    struct paces paces;
};

static struct sums sum_up(const struct outlook *outlook, const struct outlook_phase *running)
{
    struct sums sums = {0};
    for (uint32_t i = 0; i < outlook->count; i++)
        sums.all += outlook->phases[i].expected;
    for (uint32_t i = 0; i < outlook->count; i++) {
        const struct outlook_phase *phase = &outlook->phases[i];
        if (phase == running)
            continue;
        sums.took += phase->ended ? phase->took : 0;
        sums.later += phase->ended ? 0 : phase->expected;
        if (phase->ended && !phase->waits)
            add_pace(&sums.paces, phase->expected, phase->took, sums.all);
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
    bool waits = running && running->waits;
    double expected = running ? running->expected : 0, own = 0;
    if (share < 0) { /* not known: as far as its time is, by the pace of the others */
        double whole = expected * mean_pace(&sums.paces);
        share = whole > 0 && seconds < NEARLY_DONE * whole ? seconds / whole : NEARLY_DONE;
    } else {
        if (!waits)
            add_pace(&sums.paces, share * expected, seconds, sums.all);
        own = share / (share + (waits ? WAIT_SHARE : OWN_SHARE));
    }
    double pace = mean_pace(&sums.paces);
    double by_pace = (1 - share) * expected * (waits ? 1 : pace);
    double by_itself = own > 0 ? (1 - share) * seconds / share : 0;
    double left = own * by_itself + (1 - own) * by_pace + sums.later * pace;
    double spent = sums.took + seconds;
    return (struct outlook_view){spent + left > 0 ? spent / (spent + left) : 0, left};
}
