/* From what was measured with the rows of a sample to what may be said of all (points_sample.h):
 * means, and how far they may be off. Pure arithmetic. */
#include <math.h>

#include "points_sample.h"

#define NORMAL_95     1.645 /* the normal distribution's quantile of 95% */
#define RESULTS_ALONE 0.5   /* of a query's results that tell by themselves, at the most */

/* ---- rows that are not searched for again ---- */

void points_change_add(struct points_change *change, const struct replay *before,
                       const struct replay *after)
{
    double plain = after->recall - before->recall,
           reranked = after->reranked_recall - before->reranked_recall;
    change->sum.recall += after->recall - before->recall;
    change->sum.reads += after->reads - before->reads;
    change->sum.reranked_recall += after->reranked_recall - before->reranked_recall;
    change->sum.reranked_reads += after->reranked_reads - before->reranked_reads;
    change->squares += plain * plain;
    change->reranked_squares += reranked * reranked;
    change->told++;
}

void points_change_apply(struct points_change *change, struct replay *replay)
{
    change->skipped++;
    if (change->told == 0)
        return;
    float share = 1.0f / (float)change->told;
    replay->recall += share * change->sum.recall;
    replay->reads += share * change->sum.reads;
    replay->reranked_recall += share * change->sum.reranked_recall;
    replay->reranked_reads += share * change->sum.reranked_reads;
}

/* Of the sum over those that were skipped. */
static double variance_of(const struct points_change *change, double sum, double squares)
{
    double told = change->told, skipped = change->skipped;
    if (change->told < 2)
        return 0;
    return skipped * skipped * fmax(0, squares - sum * sum / told) / (told - 1) / told;
}

void points_change_doubt(const struct points_change *change, struct points_doubt *doubt)
{
    doubt->plain += variance_of(change, change->sum.recall, change->squares);
    doubt->reranked += variance_of(change, change->sum.reranked_recall, change->reranked_squares);
}

/* ---- means ---- */

void points_sums_add(struct points_sums *sums, double recall, double reads)
{
    sums->recall += recall;
    sums->squares += recall * recall;
    sums->reads += reads;
    if (sums->count > 0)
        sums->steps += (recall - sums->last) * (recall - sums->last);
    sums->last = recall;
    sums->count++;
}

/* How far recall varies between rows that are about as hard decides what so few rows are worth;
 * how far it varies besides, what the many do that these were picked from. */
static double error_of(const struct points_sums *sums, double offered, double doubt)
{
    uint32_t count = sums->count;
    if (count < 2)
        return 0;
    double mean = sums->recall / count,
           all = fmax(0, (sums->squares - count * mean * mean) / (count - 1)),
           alike = sums->steps / (2.0 * (count - 1));
    return sqrt(alike / count + fmax(0, all - alike) / offered + doubt / count / count);
}

/* Student's quantile of 95%, by the first terms of its expansion in 1 / freedom. */
static double quantile_of(uint32_t count)
{
    double freedom = count > 1 ? count - 1 : 1;
    return NORMAL_95 + (1.524 + 1.420 / freedom) / freedom;
}

/* Of given queries there may be few, and of few that all do well little follows: their error is
 * taken for that of a share of so many independent results, of which there are no more than
 * RESULTS_ALONE of all, and the lower end is Wilson's, which leaves room below a share of one. */
static double low_of_few(double mean, double error, uint32_t count, uint32_t k)
{
    double results = fmax(1, RESULTS_ALONE * k * count), z = quantile_of(count);
    if (error > 0)
        results = fmin(results, fmax(1, mean * (1 - mean) / (error * error)));
    double share = z * z / results;
    return (mean + share / 2 - sqrt(share * (mean * (1 - mean) + share / 4))) / (1 + share);
}

struct attained points_attained(const struct points_sums *sums, const struct points_sample *sample,
                                uint32_t k, double doubt)
{
    uint32_t count = sums->count;
    double mean = count ? sums->recall / count : 0,
           offered = (double)sample->offered * count / sample->count,
           error = error_of(sums, offered, doubt);
    double low = sample->given ? low_of_few(mean, error, count, k) : mean - NORMAL_95 * error;
    return (struct attained){.recall = (float)mean,
                             .recall_low = (float)low,
                             .reads = (float)(count ? sums->reads / count : 0)};
}
