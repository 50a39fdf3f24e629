/* Using operating points (see points.h): from a target recall to a search list, and from budgets to
 * the residency that answers most cheaply. Pure arithmetic over what points.c has measured. */
#include <math.h>
#include <string.h>

#include "coarse.h"
#include "navigate.h"
#include "points.h"
#include "query.h"

/* What a query costs on the reference machine (docs/adr/0053): of the device, of which two cores
 * share 123,000 reads a second when many queries are in flight (0044), and of one core. */
#define READ_DEVICE_US 8.1
#define READ_CPU_US    3.0
#define QUERY_US       10.8    /* by the graph: to prepare a query of 128 dimensions, and refine */
#define QUERY_WIDE_US  4.6     /* and for each 128 dimensions more */
#define RERANK_US      4.0     /* to choose full vectors, and to rank by them */
#define CELLS_US       25.0    /* by cells: the same, and to score whole codes after a look */
#define CELLS_WIDE_US  5.5     /* and for each 128 dimensions more */
#define CELL_US        0.0022  /* to rank a centroid of 128 dimensions */
#define CELL_SOME      0.75    /* of it where clumps are ordered, and not all are measured */
#define CODE_US        0.002   /* to look at a code, */
#define CODE_BYTE_US   0.00004 /* and for each byte that is looked at */
#define SCAN_US        0.001   /* to score a code on a page, */
#define SCAN_BYTE_US   0.00075 /* and for each byte of it, */
#define SCAN_MORE      1.4     /* of so many rows for each of a search list's cells */
#define HOP_US         0.68    /* to expand a row of the graph where codes are in memory, */
#define HOP_ROW8_US    0.5     /* or 8-bit rows, */
#define NEW_US         0.0141  /* and to visit a neighbour that was not seen before, by its code */
#define NEW_ROW8_US    0.009   /* or by its 8-bit row */
#define NEW_SHARE      0.65    /* of the most neighbours that a row has, such are so many */

/* Where a target is out of reach, what comes so near to the best there is will do. */
#define NEAR_THE_BEST 0.001f

/* The smallest k measured that covers ours, or the largest there is; 0 without points. */
static uint32_t nearest_k(const struct operating_point *points, uint32_t count, uint32_t k)
{
    uint32_t best = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool covers = points[i].k >= k, had = best >= k;
        if (best == 0 || (covers && (!had || points[i].k < best)) ||
            (!covers && !had && points[i].k > best))
            best = points[i].k;
    }
    return best;
}

static const struct attained *attained(const struct operating_point *point, bool rerank)
{
    return rerank ? &point->reranked : &point->plain;
}

/* The recall that a query may count on: the lower end of the interval guards against the luck of
 * the sample. In the graph rows promise too little as it is, because of the holes that they leave,
 * and a quarter of the way does (docs/adr/0061). */
#define GUARD_HOLE 0.25f
static float promise(const struct operating_point *point, bool rerank)
{
    const struct attained *a = attained(point, rerank);
    bool hole =
        point->navigator == FATHOM_NAVIGATOR_GRAPH && point->measured_on == FORMAT_MEASURED_ON_ROWS;
    return a->recall - (hole ? GUARD_HOLE : 1) * (a->recall - a->recall_low);
}

static struct operating_choice choice_at(const struct operating_point *point, bool rerank)
{
    return (struct operating_choice){.search_list = point->search_list,
                                     .refine_threshold = point->refine_threshold,
                                     .rerank = rerank,
                                     .recall_low = promise(point, rerank),
                                     .reads = attained(point, rerank)->reads};
}

/* What is missed falls like a power of the search list, so close that a list half way between two
 * that are twice as long as each other is told within .001 or so (docs/adr/0046). */
#define LEAST_MISS 1e-4f
static float miss(float recall)
{
    return fmaxf(1 - recall, LEAST_MISS);
}

/* The list, from low's to high's, at which target is reached. */
static uint32_t list_between(const struct operating_point *low, const struct operating_point *high,
                             bool rerank, float target)
{
    float below = miss(promise(low, rerank)), above = miss(promise(high, rerank)),
          power = logf(below / miss(target)) / logf(below / above), list = (float)low->search_list,
          wanted = ceilf(list * powf((float)high->search_list / list, power) - 1e-3f);
    return (uint32_t)fminf(wanted, (float)high->search_list);
}

/* The recall at a list from low's to high's: list_between turned round. */
static float recall_between(const struct operating_point *low, const struct operating_point *high,
                            bool rerank, uint32_t list)
{
    float below = miss(promise(low, rerank)), above = miss(promise(high, rerank)),
          power = logf((float)list / (float)low->search_list) /
                  logf((float)high->search_list / (float)low->search_list);
    return 1 - below * powf(above / below, power);
}

/* Where target lies between two points, of which the high one reaches it: of different lists, or of
 * different thresholds, between which a straight line is careful. Of a list that is longer than
 * list_most, what that one reaches. search_list 0: no list is short enough. */
static struct operating_choice choice_between(const struct operating_point *low,
                                              const struct operating_point *high, bool rerank,
                                              float target, uint32_t list_most)
{
    struct operating_choice choice = choice_at(high, rerank), none = {0};
    bool longer = high->search_list > list_most;
    if (!low || low->search_list > (longer ? list_most : high->search_list))
        return longer ? none : choice;
    float below = promise(low, rerank), above = promise(high, rerank);
    if (below >= target || above <= below)
        return longer ? none : choice;
    if (above < target && !longer)
        return choice;
    float share = (target - below) / (above - below), reads = attained(low, rerank)->reads;
    choice.recall_low = target;
    if (high->search_list > low->search_list) {
        choice.search_list = list_between(low, high, rerank, fminf(target, above));
        if (choice.search_list > list_most) {
            choice.search_list = list_most;
            choice.recall_low = recall_between(low, high, rerank, list_most);
        }
        share = (float)(choice.search_list - low->search_list) /
                (float)(high->search_list - low->search_list);
    }
    choice.refine_threshold =
        low->refine_threshold + share * (high->refine_threshold - low->refine_threshold);
    choice.reads = reads + share * (choice.reads - reads);
    return choice;
}

/* Among points first to end, the one with this threshold; NULL when there is none. */
static const struct operating_point *with_threshold(const struct operating_point *points,
                                                    uint32_t first, uint32_t end, float threshold)
{
    for (uint32_t i = first; i < end; i++)
        if (points[i].refine_threshold == threshold)
            return &points[i];
    return NULL;
}

static bool better(const struct operating_choice *a, const struct operating_choice *b, float target,
                   const struct points_cost *cost)
{
    bool reaches = a->recall_low >= target, had = b->recall_low >= target;
    if (b->search_list == 0)
        return true;
    if (reaches != had)
        return reaches;
    return reaches ? points_cost_us(cost, a) < points_cost_us(cost, b)
                   : a->recall_low > b->recall_low;
}

static void take_better(struct operating_choice *best, struct operating_choice choice, float target,
                        const struct points_cost *cost)
{
    if (choice.search_list && better(&choice, best, target, cost))
        *best = choice;
}

/* The cheapest that reaches target for a k that was measured; the best when none does. */
static struct operating_choice choose_for_k(const struct operating_point *points, uint32_t count,
                                            uint32_t measured_k, float target,
                                            enum fathom_rerank rerank,
                                            const struct points_cost *cost, uint32_t list_most)
{
    struct operating_choice best = {0};
    bool plain = rerank != FATHOM_RERANK_ON, reranked = rerank != FATHOM_RERANK_OFF;
    /* Points of a k with the same list are neighbours: those from list_first on; the next shorter
     * list's begin at shorter_first. */
    for (uint32_t i = 0, list_first = 0, shorter_first = 0; i < count; i++) {
        if (points[i].k != points[list_first].k)
            list_first = shorter_first = i;
        if (points[i].search_list != points[list_first].search_list) {
            shorter_first = list_first;
            list_first = i;
        }
        if (points[i].k != measured_k)
            continue;
        const struct operating_point *next = i + 1 < count ? &points[i + 1] : NULL;
        const struct operating_point *low[] = {
            with_threshold(points, shorter_first, list_first, points[i].refine_threshold),
            next && next->k == measured_k && next->search_list == points[i].search_list ? next
                                                                                        : NULL};
        for (unsigned n = 0; n < 2; n++) {
            if (plain)
                take_better(&best, choice_between(low[n], &points[i], false, target, list_most),
                            target, cost);
            if (reranked)
                take_better(&best, choice_between(low[n], &points[i], true, target, list_most),
                            target, cost);
        }
    }
    return best;
}

struct operating_choice points_choose(const struct operating_point *points, uint32_t count,
                                      uint32_t k, float target, enum fathom_rerank rerank,
                                      const struct points_cost *cost)
{
    uint32_t measured_k = nearest_k(points, count, k);
    uint64_t list_most = cost->list_most ? cost->list_most : UINT32_MAX;
    if (k > measured_k && cost->list_most)
        list_most = list_most * measured_k / k;
    struct operating_choice best =
        choose_for_k(points, count, measured_k, target, rerank, cost, (uint32_t)list_most);
    if (best.search_list && best.recall_low < target)
        best = choose_for_k(points, count, measured_k, best.recall_low - NEAR_THE_BEST, rerank,
                            cost, (uint32_t)list_most);
    uint64_t list = best.search_list;
    if (list && k > measured_k)
        list = list * k / measured_k;
    best.search_list = list < FATHOM_SEARCH_LIST_MAX ? (uint32_t)list : FATHOM_SEARCH_LIST_MAX;
    return best;
}

/* ---- residencies ---- */

/* The points of one residency: those of a code size, which follow each other. */
struct measured {
    const struct operating_point *points;
    uint32_t count, code_bytes;
};

static struct measured measured_of(const struct operating_point *points, uint32_t count,
                                   enum fathom_navigator navigator, uint32_t code_bytes)
{
    struct measured found = {.code_bytes = code_bytes};
    for (uint32_t i = 0; i < count && found.count < POINTS_RESIDENT_MAX; i++)
        if (points[i].navigator == (uint32_t)navigator && points[i].code_bytes == code_bytes &&
            found.count++ == 0)
            found.points = &points[i];
    return found;
}

/* The largest measured code of at most so many bytes, and the smallest of more; 0: none. */
static void sizes_around(const struct operating_point *points, uint32_t count,
                         const struct points_residency *residency, uint32_t *below, uint32_t *above)
{
    *below = *above = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bytes = points[i].code_bytes;
        if (points[i].navigator != (uint32_t)residency->navigator ||
            bytes == residency->unlike_bytes)
            continue;
        if (bytes <= residency->code_bytes)
            *below = bytes > *below ? bytes : *below;
        else
            *above = *above == 0 || bytes < *above ? bytes : *above;
    }
}

/* The point of the same k, list and threshold; a list that has no such threshold has one for all
 * (points.c). NULL when the list was not measured. */
static const struct operating_point *same_search(const struct measured *measured,
                                                 const struct operating_point *point)
{
    const struct operating_point *found = NULL;
    for (uint32_t i = 0; i < measured->count; i++) {
        const struct operating_point *other = &measured->points[i];
        if (other->k != point->k || other->search_list != point->search_list)
            continue;
        if (other->refine_threshold == point->refine_threshold)
            return other;
        found = found ? found : other;
    }
    return found;
}

static void move_towards(struct attained *attained, const struct attained *other, float share)
{
    attained->recall += share * (other->recall - attained->recall);
    attained->recall_low += share * (other->recall_low - attained->recall_low);
    attained->reads += share * (other->reads - attained->reads);
}

/* A longer list than the longer code needed keeps what the shorter code says: less recall, more
 * reads. Between two sizes recall rises ever more slowly and reads fall ever more slowly, so a
 * straight line promises less and costs more than will be. */
static uint32_t points_between(const struct measured *below, const struct measured *above,
                               uint32_t code_bytes, struct operating_point *out)
{
    float share =
        (float)(code_bytes - below->code_bytes) / (float)(above->code_bytes - below->code_bytes);
    for (uint32_t i = 0; i < below->count; i++) {
        const struct operating_point *high = same_search(above, &below->points[i]);
        out[i] = below->points[i];
        out[i].code_bytes = code_bytes;
        if (!high)
            continue;
        move_towards(&out[i].plain, &high->plain, share);
        move_towards(&out[i].reranked, &high->reranked, share);
    }
    return below->count;
}

/* Of what a list falls short of the longest one in the graph, a fifth at least is the hole that a
 * row leaves by being left out of its own search, and that queries do not meet (docs/adr/0034). */
#define HOLE_SHARE 0.2f
static void fill_hole(struct attained *attained, float best)
{
    float gain = HOLE_SHARE * (best - attained->recall);
    attained->recall += gain;
    attained->recall_low += gain;
}

static void fill_holes(struct operating_point *points, uint32_t count)
{
    float plain[POINTS_RESIDENT_MAX] = {0}, reranked[POINTS_RESIDENT_MAX] = {0};
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < count; j++)
            if (points[j].k == points[i].k &&
                points[j].refine_threshold == points[i].refine_threshold) {
                plain[i] = fmaxf(plain[i], points[j].plain.recall);
                reranked[i] = fmaxf(reranked[i], points[j].reranked.recall);
            }
    for (uint32_t i = 0; i < count; i++) {
        fill_hole(&points[i].plain, plain[i]);
        fill_hole(&points[i].reranked, reranked[i]);
    }
}

uint32_t points_for(const struct operating_point *points, uint32_t count,
                    const struct points_residency *residency, struct operating_point *out)
{
    enum fathom_navigator navigator = residency->navigator;
    uint32_t code_bytes = residency->code_bytes, below_bytes, above_bytes;
    sizes_around(points, count, residency, &below_bytes, &above_bytes);
    struct measured below = measured_of(points, count, navigator, below_bytes),
                    above = measured_of(points, count, navigator, above_bytes);
    const struct measured *only = below.count ? &below : &above;
    uint32_t found = only->count;
    if (below.count && above.count && below_bytes < code_bytes)
        found = points_between(&below, &above, code_bytes, out);
    else if (found)
        memcpy(out, only->points, found * sizeof *out);
    if (navigator == FATHOM_NAVIGATOR_GRAPH && found && out->measured_on == FORMAT_MEASURED_ON_ROWS)
        fill_holes(out, found);
    return found;
}

/* Most of it grows with the dimensions. */
struct points_cost points_cost(const struct properties *p, enum fathom_navigator navigator,
                               uint32_t code_bytes)
{
    double widths = p->work_dim / 128.0, wider = widths - 1, fresh = NEW_SHARE * p->degree_max;
    if (navigator == FATHOM_NAVIGATOR_CELLS) {
        double looked = fmin(code_bytes, COARSE_BITS_PER_DIM / 8 * p->work_dim),
               ranked = (rank_ordered_clumps(p->cells) ? CELL_SOME : 1) * p->cells;
        return (struct points_cost){.read_us = READ_DEVICE_US,
                                    .fixed_us = CELLS_US + CELLS_WIDE_US * wider +
                                                (0.4 + 0.6 * widths) * CELL_US * ranked,
                                    .list_us = (CODE_US + CODE_BYTE_US * looked) *
                                               CELLS_PER_SEARCH_LIST * (double)p->rows / p->cells};
    }
    return (struct points_cost){.read_us = READ_DEVICE_US,
                                .fixed_us = QUERY_US + QUERY_WIDE_US * wider,
                                .list_us = code_bytes ? HOP_US + NEW_US * fresh
                                                      : HOP_ROW8_US + NEW_ROW8_US * fresh};
}

void points_cost_scan(struct points_cost *cost, const struct properties *p, uint32_t code_bytes,
                      double list_reads)
{
    cost->list_us = SCAN_MORE * (SCAN_US + SCAN_BYTE_US * code_bytes) * CELLS_PER_SEARCH_LIST *
                    (double)p->rows / p->cells;
    cost->list_reads = list_reads;
    cost->list_most = QUERY_RESERVED_SCAN;
}

double points_cost_us(const struct points_cost *cost, const struct operating_choice *choice)
{
    /* Two cores share the device, and work while it does: the slower of the two decides, the other
     * is in the way a little. */
    double reads = choice->reads + cost->fixed_reads + cost->list_reads * choice->search_list;
    double cpu = 0.5 * (cost->fixed_us + cost->list_us * choice->search_list + READ_CPU_US * reads +
                        (choice->rerank ? RERANK_US : 0));
    double device = cost->read_us * reads;
    return fmax(cpu, device) + 0.25 * fmin(cpu, device);
}
