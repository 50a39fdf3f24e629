/* Refining without reading (points_sample.h): the truth knows the exact distances of all rows that
 * could be in a result, so what a search at some threshold would read and find follows from the
 * candidates of its walk. One walk does for all thresholds, and the device is not asked.
 *
 * Reads are exact. Recall is too, but for rows beyond the truth on pages that would be read: they
 * are taken to be no nearer than the last of it. */
#include <math.h>
#include <stdlib.h>

#include "navigate.h"
#include "points_sample.h"
#include "query.h"
#include "select.h"

struct contest {
    const struct points_sample *sample;
    const struct sample_neighbour *truth; /* of the row that is searched for */
    const struct query *query;
    const struct navigator *navigator;
    bool reads;   /* are pages weighed? */
    float beyond; /* the distance of the last neighbour of the truth */
    float keys[QUERY_RESERVED_CANDIDATES + SAMPLE_TRUTH]; /* of rows that may be in the result */
    float wanted[SAMPLE_TRUTH];                           /* of those that should be */
    uint32_t key_count, wanted_count;
};

static int compare_row(const void *key, const void *member)
{
    uint32_t row = *(const uint32_t *)key, other = ((const struct sample_neighbour *)member)->row;
    return (row > other) - (row < other);
}

static const struct sample_neighbour *find_neighbour(const struct contest *contest, uint32_t row)
{
    return bsearch(&row, contest->truth, contest->sample->truth_count, sizeof *contest->truth,
                   compare_row);
}

static bool is_read(const struct contest *contest, uint32_t row)
{
    return contest->reads && refine_page_of(contest->query, contest->navigator, row)->chosen;
}

static void enter(struct contest *contest, float key, const struct sample_neighbour *neighbour)
{
    contest->keys[contest->key_count++] = key;
    if (neighbour && neighbour->rank < contest->query->k)
        contest->wanted[contest->wanted_count++] = key;
}

/* What a page that is read brings, and what is known of the other candidates. */
static void enter_all(struct contest *contest)
{
    contest->key_count = contest->wanted_count = 0;
    for (uint32_t t = 0; t < contest->sample->truth_count; t++)
        if (contest->truth[t].row != UINT32_MAX && is_read(contest, contest->truth[t].row))
            enter(contest, contest->truth[t].distance, &contest->truth[t]);
    for (uint32_t i = 0; i < contest->query->candidate_count; i++) {
        const struct candidate *c = &contest->query->candidates[i];
        const struct sample_neighbour *neighbour = find_neighbour(contest, c->row);
        bool read = is_read(contest, c->row);
        if (!read)
            enter(contest, c->estimate, neighbour);
        else if (!neighbour)
            enter(contest, fmaxf(c->estimate, contest->beyond), NULL);
    }
}

/* The part of the result that is right. */
static float judge(struct contest *contest)
{
    uint32_t k = contest->query->k, found = 0;
    float limit = INFINITY;
    if (contest->key_count > k) {
        select_floats(contest->keys, contest->key_count, k - 1);
        limit = contest->keys[k - 1];
    }
    for (uint32_t i = 0; i < contest->wanted_count; i++)
        found += contest->wanted[i] <= limit;
    return (float)found / (float)k;
}

void points_replay(const struct points_sample *sample, uint32_t i, struct query *query,
                   struct navigator *navigator, const float *thresholds, uint32_t count,
                   struct replay *out)
{
    struct contest contest = {.sample = sample,
                              .truth = sample->truth + (size_t)i * SAMPLE_TRUTH,
                              .query = query,
                              .navigator = navigator};
    for (uint32_t t = 0; t < sample->truth_count; t++)
        contest.beyond = fmaxf(contest.beyond, contest.truth[t].distance);
    contest.reads = refine_weigh(query, navigator);
    for (uint32_t t = 0; t < count; t++) {
        if (contest.reads)
            refine_pick(query, navigator, thresholds[t]);
        enter_all(&contest);
        out[t] = (struct replay){.recall = judge(&contest),
                                 .reads = contest.reads ? refine_price(query) : 0};
    }
}
