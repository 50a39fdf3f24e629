/* Pages that are read together: which pages make a run, that refining picks the set of pages that
 * is worth most for its price, and that what lies between two wanted pages is not looked at. */
#include "fathom_test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "fault.h"
#include "opened.h"
#include "query.h"
#include "runs.h"

#define DIM         32
#define ROWS        6000
#define QUERIES     80
#define PAGES_TRIED 14 /* of which all sets are tried */

static int make_fixture(void **state)
{
    struct small_options options = small_f32(ROWS, DIM, QUERIES, 77);
    options.spread = 2;
    return opened_make_reading(state, &options); /* much is in doubt */
}

/* ---- runs ---- */

static void near_pages_make_a_run_up_to_its_length(void **state)
{
    static const struct {
        struct run_limits limits;
        uint32_t pages[10];
        uint32_t count, span, next, length;
    } cases[] = {
        {{8, 1}, {7}, 1, 1, 1, 1},
        {{8, 1}, {7, 8, 9}, 3, 1, 3, 3},
        {{8, 1}, {7, 9}, 2, 1, 2, 3},  /* a gap of one */
        {{8, 1}, {7, 10}, 2, 1, 1, 1}, /* of two */
        {{8, 2}, {7, 10}, 2, 1, 2, 4},
        {{8, 1}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 10, 1, 8, 8}, /* no longer than it may be */
        {{9, 1}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 10, 1, 9, 9},
        {{8, 1}, {1, 3, 5, 7, 9}, 5, 1, 4, 7}, /* nor with a gap at its end */
        {{8, 2}, {5, 6, 8}, 3, 2, 3, 8},       /* rows of two pages */
        {{8, 1}, {5, 6, 8}, 3, 2, 2, 4},
        {{8, 1}, {10, 11}, 2, 9, 1, 9}, /* a row that is longer than a run */
    };
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        uint32_t next;
        assert_int_equal(
            run_pages(cases[c].limits, cases[c].pages, 0, cases[c].count, cases[c].span, &next),
            cases[c].length);
        assert_int_equal(next, cases[c].next);
    }
}

/* ---- picking ---- */

struct weighed {
    uint64_t page; /* and 1, as in page slots */
    double gain;
};

static int by_page(const void *a, const void *b)
{
    const struct weighed *x = a, *y = b;
    return (x->page > y->page) - (x->page < y->page);
}

static int by_gain(const void *a, const void *b)
{
    const struct weighed *x = a, *y = b;
    return (x->gain < y->gain) - (x->gain > y->gain);
}

/* The pages of most gain, in the order of the file. */
static uint32_t best_pages(const struct navigator *navigator, double least, struct weighed *best)
{
    struct weighed *all = calloc(navigator->page_mask + 1, sizeof *all);
    uint32_t count = 0;
    for (uint32_t s = 0; s <= navigator->page_mask; s++)
        if ((double)navigator->page_slots[s].gain > least)
            all[count++] = (struct weighed){navigator->page_slots[s].page,
                                            (double)navigator->page_slots[s].gain};
    qsort(all, count, sizeof *all, by_gain);
    count = count < PAGES_TRIED ? count : PAGES_TRIED;
    qsort(all, count, sizeof *all, by_page);
    memcpy(best, all, count * sizeof *best);
    free(all);
    return count;
}

/* What a set of pages is worth, less its price; runs may be of any length. */
static double worth(const struct weighed *pages, uint32_t count, uint64_t set, double threshold)
{
    double sum = 0;
    uint64_t last = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!(set >> i & 1))
            continue;
        double alone = (double)RUN_READ_PRICE + (double)RUN_PAGE_PRICE;
        double beside = last ? (double)RUN_PAGE_PRICE * (double)(pages[i].page - last) : alone;
        sum += pages[i].gain - threshold * fmin(alone, beside);
        last = pages[i].page;
    }
    return sum;
}

struct trial {
    float threshold;
    uint32_t picked, joined; /* pages, and those of them that are not the first of their run */
};

/* No set of the pages of most gain is worth more than what is picked. */
static void compare_with_all_sets(void *context, struct query *query, struct navigator *navigator)
{
    struct trial *trial = context;
    double threshold = (double)trial->threshold;
    struct weighed pages[PAGES_TRIED], picked[64];
    if (!refine_weigh(query, navigator))
        return;
    uint32_t count = best_pages(navigator, threshold * (double)REFINE_LEAST_GAIN, pages);
    refine_pick(query, navigator, trial->threshold);
    assert_true(query->page_count < 64);
    for (uint32_t i = 0; i < query->page_count; i++) {
        picked[i].page = query->pages[i] + 1;
        for (uint32_t s = 0; s <= navigator->page_mask; s++)
            if (navigator->page_slots[s].page == picked[i].page)
                picked[i].gain = (double)navigator->page_slots[s].gain;
    }
    double got =
        worth(picked, query->page_count, ((uint64_t)1 << query->page_count) - 1, threshold);
    for (uint32_t set = 0; set < 1u << count; set++)
        assert_true(got > worth(pages, count, set, threshold) - 1e-5);
    for (uint32_t i = 0, next; i < query->page_count; i = next) {
        run_pages(query_runs(query), query->pages, i, query->page_count, 1, &next);
        trial->joined += next - i - 1;
    }
    trial->picked += query->page_count;
}

static void the_pages_that_are_picked_are_worth_most(void **state)
{
    const struct opened *fixture = *state;
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 1);
    uint32_t before = UINT32_MAX;
    for (float threshold = 0.02f; threshold < 0.5f; threshold *= 2) {
        struct trial trial = {.threshold = threshold};
        for (uint32_t q = 0; q < QUERIES; q++) {
            struct query_probe probe = {
                .row = ROW_NONE, .take = compare_with_all_sets, .context = &trial};
            struct fathom_query request = small_request(&fixture->small, q);
            struct fathom_result result;
            assert_int_equal(engine_submit_probe(engine, fixture->index, &request, &probe, NULL),
                             0);
            assert_int_equal(fathom_engine_poll(engine, &result, 1, true), 1);
            assert_int_equal(result.status, 0);
        }
        assert_true(trial.joined > 0 && trial.joined < trial.picked); /* both happen */
        assert_true(trial.picked < before);
        before = trial.picked;
    }
    fathom_engine_destroy(engine);
}

/* ---- reading ---- */

/* The second page of a query's first read is damaged, where it has one: if somebody wants it the
 * query fails, and says which page; if it only lies in a gap nobody sees it. */
static void a_damaged_page_between_two_wanted_ones_harms_nobody(void **state)
{
    const struct opened *fixture = *state;
    struct fathom_engine *sound = engine_make(FATHOM_IO_PREAD, 1);
    struct fathom_engine_options options = {.io = FATHOM_IO_PREAD, .inflight = 1};
    unsigned unharmed = 0, failed = 0;
    for (uint32_t q = 0; q < QUERIES; q++) {
        struct fathom_query request = small_request(&fixture->small, q);
        uint64_t right[10], ids[10];
        float right_distances[10], distances[10];
        struct fathom_query_stats stats;
        struct fathom_error err = {0};
        struct fault_env fault;
        struct fathom_engine *engine;
        /* Bits are counted round: a read of one page is damaged in its first. */
        assert_int_equal(fault_init(&fault, env_os(), "read#1:flip=bit40000", NULL), 0);
        assert_int_equal(engine_create_with(&engine, &fault.env, &options, NULL), 0);
        assert_int_equal(
            fathom_search(sound, fixture->index, &request, right, right_distances, &stats, NULL),
            10);
        int got = fathom_search(engine, fixture->index, &request, ids, distances, NULL, &err);
        if (got == 10) {
            assert_memory_equal(ids, right, sizeof ids);
            assert_memory_equal(distances, right_distances, sizeof distances);
            assert_true(stats.bytes > (uint64_t)stats.reads * PAGE_BYTES);
            unharmed++;
        } else {
            assert_int_equal(got, FATHOM_ECHECKSUM);
            assert_non_null(strstr(err.msg, "section records: checksum mismatch in page "));
            failed++;
        }
        fathom_engine_destroy(engine);
    }
    assert_true(unharmed > 0 && failed > 0);
    fathom_engine_destroy(sound);
}

/* Runs of codes and of rows come in one read each, however many queries share the buffers. */
static void answers_do_not_depend_on_what_shares_the_buffers(void **state)
{
    const struct opened *fixture = *state;
    struct fathom_query request = small_request(&fixture->small, 0);
    struct answers alone, together;
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 1);
    request.refine_threshold = 0.001f; /* many pages, in long runs */
    answers_get(&alone, engine, fixture->index, &request, fixture->small.raw_queries, DIM, QUERIES,
                1);
    fathom_engine_destroy(engine);
    for (unsigned inflight = 2; inflight <= 32; inflight *= 4) {
        engine = engine_make(FATHOM_IO_AUTO, inflight);
        answers_get(&together, engine, fixture->index, &request, fixture->small.raw_queries, DIM,
                    QUERIES, inflight);
        answers_assert_same(&alone, &together);
        for (uint32_t q = 0; q < QUERIES; q++) {
            assert_int_equal(together.all[q].stats.reads, alone.all[q].stats.reads);
            assert_int_equal(together.all[q].stats.bytes, alone.all[q].stats.bytes);
        }
        answers_free(&together);
        fathom_engine_destroy(engine);
    }
    answers_free(&alone);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_pages_make_a_run_up_to_its_length),
        cmocka_unit_test(the_pages_that_are_picked_are_worth_most),
        cmocka_unit_test(a_damaged_page_between_two_wanted_ones_harms_nobody),
        cmocka_unit_test(answers_do_not_depend_on_what_shares_the_buffers),
    };
    return cmocka_run_group_tests(tests, make_fixture, opened_free);
}
