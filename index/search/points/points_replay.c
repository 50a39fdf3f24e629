/* Refining without reading (points_sample.h): the truth knows the distances of all rows that could
 * be in a result, so what a search at some threshold would read and find follows from the
 * candidates of its walk, and so does what re-ranking would read and mend. One walk does for all
 * thresholds, and the device is not asked.
 *
 * Reads of rows are exact. Recall and reads of full vectors are too, but for rows beyond the truth
 * on pages that would be read: they are taken to be no nearer than the last of it. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "points_sample.h"
#include "query.h"

#define NOT_IN_TRUTH UINT8_MAX
_Static_assert(SAMPLE_TRUTH < NOT_IN_TRUTH, "a place in the truth is a byte");
_Static_assert(SAMPLE_TRUTH >= SAMPLE_LARGE_K + SAMPLE_LARGE_K / 4 + QUERY_EXACT_MARGIN,
               "all that is re-ranked is in the truth");

struct contest {
    const struct points_sample *sample;
    const struct sample_neighbour *truth; /* of the row that is searched for */
    struct query *query;
    struct navigator *navigator;
    bool reads;                                /* are pages weighed? */
    float beyond;                              /* the distance of the last neighbour of the truth */
    uint8_t places[QUERY_RESERVED_CANDIDATES]; /* of the candidates in the truth */
    /* The slots of their pages and of the truth's, and all pages that might be read. */
    const struct page_slot *slots[QUERY_RESERVED_CANDIDATES], *truth_slots[SAMPLE_TRUTH];
    uint32_t pages[QUERY_RESERVED_CANDIDATES];
    uint32_t page_count;
    /* The hits of each threshold, before they are re-ranked: that makes candidates of them. */
    struct hit hits[REPLAYS_MAX][QUERY_RESERVED_K + QUERY_RESERVED_K / 4 + QUERY_EXACT_MARGIN];
    uint32_t hit_counts[REPLAYS_MAX];
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

/* Returns whether all that should be found are among the candidates. */
static bool find_places(struct contest *contest)
{
    uint32_t right = 0;
    for (uint32_t i = 0; i < contest->query->candidate_count; i++) {
        const struct sample_neighbour *found =
            find_neighbour(contest, contest->query->candidates[i].row);
        contest->places[i] = found ? (uint8_t)(found - contest->truth) : NOT_IN_TRUTH;
        right += found && found->rank < contest->query->k;
    }
    return right == contest->query->k;
}

/* Once for all thresholds, of which least is the lowest. */
static void find_pages(struct contest *contest, float least)
{
    struct query *query = contest->query;
    refine_list(query, contest->navigator, least);
    contest->page_count = query->page_count;
    memcpy(contest->pages, query->pages, query->page_count * sizeof *query->pages);
    for (uint32_t i = 0; i < query->candidate_count; i++)
        contest->slots[i] = refine_page_of(query, contest->navigator, query->candidates[i].row);
    for (uint32_t t = 0; t < contest->sample->truth_count; t++)
        contest->truth_slots[t] = refine_page_of(query, contest->navigator, contest->truth[t].row);
}

/* What a page that is read brings, and what is known of the other candidates. */
static void enter_all(const struct contest *contest)
{
    struct query *query = contest->query;
    query->hit_count = 0;
    for (uint32_t t = 0; t < contest->sample->truth_count && contest->reads; t++) {
        const struct sample_neighbour *n = &contest->truth[t];
        if (contest->truth_slots[t]->chosen)
            hits_push(query, (struct hit){.key = n->distance, .row = n->row, .sigma = n->sigma});
    }
    for (uint32_t i = 0; i < query->candidate_count; i++) {
        const struct candidate *c = &query->candidates[i];
        struct hit hit = {.key = c->estimate, .row = c->row, .sigma = fmaxf(c->sigma, FLT_MIN)};
        if (contest->reads && contest->slots[i]->chosen) {
            if (contest->places[i] != NOT_IN_TRUTH)
                continue;
            hit.key = fmaxf(hit.key, contest->beyond);
            hit.sigma = 0;
        }
        hits_push(query, hit);
    }
}

/* The part of the result that is right. Puts the hits in order. */
static float judge(const struct contest *contest)
{
    struct query *query = contest->query;
    uint32_t k = query->k, found = 0;
    hits_sort(query);
    for (uint32_t i = 0; i < k && i < query->hit_count; i++) {
        const struct sample_neighbour *n = find_neighbour(contest, query->hits[i].row);
        found += n && n->rank < k;
    }
    return (float)found / (float)k;
}

/* Of the hits of a threshold, as query_next goes on with them. */
static void rerank(const struct contest *contest, uint32_t t, struct replay *out)
{
    struct query *query = contest->query;
    query->hit_count = contest->hit_counts[t];
    memcpy(query->hits, contest->hits[t], query->hit_count * sizeof *query->hits);
    refine_choose_vectors(query, contest->navigator);
    for (uint32_t i = 0; i < query->hit_count; i++) {
        struct hit *hit = &query->hits[i];
        bool read =
            query->page_count && refine_page_of(query, contest->navigator, hit->row)->chosen;
        const struct sample_neighbour *n = read ? find_neighbour(contest, hit->row) : NULL;
        if (read && !n)
            hit->key = fmaxf(hit->key, contest->beyond);
        hit->key = n && !isnan(n->exact) ? n->exact : query_user_distance(query, hit->key);
    }
    out->reranked_reads = out->reads + refine_price(query);
    out->reranked_recall = judge(contest);
}

bool points_replay(const struct points_sample *sample, uint32_t i, struct query *query,
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
    bool complete = find_places(&contest);
    if (contest.reads)
        find_pages(&contest, thresholds[0]);
    query->keep = query_keep_max(query->k);
    uint32_t differ = contest.reads ? count : 1; /* without reads all thresholds say the same */
    for (uint32_t t = 0; t < differ; t++) {
        if (contest.reads)
            refine_pick_of(query, navigator, thresholds[t], contest.pages, contest.page_count);
        enter_all(&contest);
        out[t] = (struct replay){.recall = judge(&contest),
                                 .reads = contest.reads ? refine_price(query) : 0};
        contest.hit_counts[t] = query->hit_count;
        memcpy(contest.hits[t], query->hits, query->hit_count * sizeof *query->hits);
    }
    query->phase = QUERY_EXACT;
    for (uint32_t t = 0; t < differ && query->index->vectors; t++)
        rerank(&contest, t, &out[t]);
    for (uint32_t t = differ; t < count; t++)
        out[t] = out[0];
    query->hit_count = 0;
    return complete;
}
