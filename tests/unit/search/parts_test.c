/* Small parts of the search by themselves: the pool of page buffers, selection, operating points.
 */
#include "fathom_test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pages.h"
#include "points.h"
#include "prng.h"
#include "select.h"

/* ---- pages ---- */

static bool has_run(const bool *used, uint32_t pages, uint32_t count)
{
    for (uint32_t first = 0, run = 0; first < pages; first++) {
        run = used[first] ? 0 : run + 1;
        if (run >= count)
            return true;
    }
    return false;
}

static void a_run_is_found_exactly_when_there_is_one(void **state)
{
    enum { PAGES = 37, HELD = 64 };
    struct page_pool pool;
    struct prng prng;
    bool used[PAGES] = {false};
    uint32_t held[HELD][2], holding = 0;
    (void)state;
    prng_init(&prng, 3, 0);
    assert_int_equal(page_pool_init(&pool, PAGES, NULL), 0);
    for (int round = 0; round < 100000; round++) {
        uint32_t count = 1 + prng_below(&prng, 5);
        if (holding && (holding == HELD || prng_below(&prng, 2))) {
            uint32_t which = prng_below(&prng, holding);
            page_pool_give(&pool, held[which][0], held[which][1]);
            memset(used + held[which][0], 0, held[which][1]);
            memcpy(held[which], held[--holding], sizeof held[0]);
            continue;
        }
        uint32_t first = page_pool_take(&pool, count);
        assert_true((first != PAGES_NONE) == has_run(used, PAGES, count));
        if (first == PAGES_NONE)
            continue;
        assert_true(first + count <= PAGES);
        for (uint32_t i = 0; i < count; i++) {
            assert_false(used[first + i]);
            used[first + i] = true;
        }
        assert_true((uintptr_t)page_pool_at(&pool, first) % PAGE_BYTES == 0);
        held[holding][0] = first;
        held[holding++][1] = count;
    }
    page_pool_fini(&pool);
}

/* ---- selection ---- */

static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->estimate != y->estimate)
        return x->estimate < y->estimate ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static void the_best_candidates_come_to_the_front(void **state)
{
    enum { MOST = 300 };
    struct candidate chosen[MOST], sorted[MOST];
    struct prng prng;
    (void)state;
    prng_init(&prng, 4, 0);
    for (int round = 0; round < 5000; round++) {
        uint32_t count = 1 + prng_below(&prng, MOST), keep = 1 + prng_below(&prng, count);
        uint32_t kinds = 1 + prng_below(&prng, 20); /* many equal estimates, or few */
        for (uint32_t i = 0; i < count; i++)
            sorted[i] = chosen[i] = (struct candidate){
                .estimate = (float)prng_below(&prng, kinds * kinds), .row = (i * 7919) % 1000003};
        select_best(chosen, count, keep);
        qsort(sorted, count, sizeof *sorted, compare_candidates);
        qsort(chosen, keep, sizeof *chosen, compare_candidates);
        for (uint32_t i = 0; i < keep; i++)
            assert_true(chosen[i].row == sorted[i].row && chosen[i].estimate == sorted[i].estimate);
    }
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void the_value_of_a_rank_comes_to_its_place(void **state)
{
    enum { MOST = 300 };
    float chosen[MOST], sorted[MOST];
    struct prng prng;
    (void)state;
    prng_init(&prng, 5, 0);
    for (int round = 0; round < 5000; round++) {
        uint32_t count = 1 + prng_below(&prng, MOST), rank = prng_below(&prng, count);
        for (uint32_t i = 0; i < count; i++)
            sorted[i] = chosen[i] = (float)prng_below(&prng, 1 + (uint32_t)round % 200);
        select_floats(chosen, count, rank);
        qsort(sorted, count, sizeof *sorted, compare_floats);
        assert_true(chosen[rank] == sorted[rank]);
    }
}

static void selection_ends_whatever_the_numbers(void **state)
{
    struct candidate candidates[100];
    float floats[100];
    (void)state;
    for (int i = 0; i < 100; i++) {
        floats[i] = i % 3 ? NAN : i % 2 ? INFINITY : (float)i;
        candidates[i] = (struct candidate){.estimate = floats[i], .row = (uint32_t)i};
    }
    select_best(candidates, 100, 10);
    select_floats(floats, 100, 10);
}

/* ---- operating points ---- */

static const struct operating_point points[] = {
    {.k = 1, .search_list = 10, .plain = {0.93f, 0.93f, 0}},
    {.k = 1, .search_list = 16, .plain = {0.98f, 0.98f, 0}},
    {.k = 10, .search_list = 16, .plain = {0.89f, 0.89f, 0}},
    {.k = 10, .search_list = 24, .plain = {0.94f, 0.94f, 0}},
    {.k = 10, .search_list = 64, .plain = {0.98f, 0.98f, 0}},
    {.k = 100, .search_list = 160, .plain = {0.955f, 0.955f, 0}},
    {.k = 100, .search_list = 400, .plain = {0.99f, 0.99f, 0}},
};
#define POINTS (sizeof points / sizeof points[0])

static const struct points_cost cost = {.list_us = 2, .read_us = 9};

static uint32_t list_for(uint32_t k, float target)
{
    return points_choose(points, POINTS, k, target, FATHOM_RERANK_AUTO, &cost).search_list;
}

static void the_shortest_list_that_reaches_the_target_is_taken(void **state)
{
    (void)state;
    assert_int_equal(list_for(10, 0.5f), 16);
    assert_int_equal(list_for(10, 0.89f), 16);
    /* Between two lists on a straight line in logarithms. */
    assert_int_equal(list_for(10, 0.895f), 17);
    assert_int_equal(list_for(10, 0.94f), 24);
    assert_int_equal(list_for(10, 0.97f), 45);
    assert_int_equal(list_for(1, 0.97f), 14);
    assert_int_equal(list_for(100, 0.97f), 205);
}

static void a_target_beyond_all_points_takes_what_comes_near_the_best(void **state)
{
    static const struct operating_point flat[] = {
        {.k = 10, .search_list = 40, .plain = {0.9f, 0.9f, 0}},
        {.k = 10, .search_list = 100, .plain = {0.96f, 0.96f, 0}},
        {.k = 10, .search_list = 400, .plain = {0.9605f, 0.9605f, 0}},
    };
    (void)state;
    assert_int_equal(list_for(10, 0.999f), 62); /* .979 */
    assert_int_equal(list_for(1, 0.999f), 16);
    assert_int_equal(points_choose(flat, 3, 10, 0.97f, FATHOM_RERANK_AUTO, &cost).search_list, 99);
    assert_int_equal(points_choose(flat, 3, 10, 0.9605f, FATHOM_RERANK_AUTO, &cost).search_list,
                     400);
}

/* What a list of 40 may promise, of .95 that may be .93. */
static void assert_guarded(uint32_t navigator, uint32_t measured_on, float guard)
{
    struct operating_point two[] = {
        {.k = 10, .search_list = 40, .plain = {0.95f, 0.93f, 0}},
        {.k = 10, .search_list = 80, .plain = {0.99f, 0.97f, 0}},
    };
    float kept = 0.95f - guard * 0.02f;
    two[0].navigator = two[1].navigator = navigator;
    two[0].measured_on = two[1].measured_on = measured_on;
    assert_int_equal(
        points_choose(two, 2, 10, kept - 0.0001f, FATHOM_RERANK_AUTO, &cost).search_list, 40);
    assert_in_range(
        points_choose(two, 2, 10, kept + 0.0005f, FATHOM_RERANK_AUTO, &cost).search_list, 41, 42);
}

static void the_interval_is_kept_and_a_quarter_of_it_where_rows_leave_holes(void **state)
{
    (void)state;
    assert_guarded(FATHOM_NAVIGATOR_CELLS, FORMAT_MEASURED_ON_ROWS, 1);
    assert_guarded(FATHOM_NAVIGATOR_CELLS, FORMAT_MEASURED_ON_QUERIES, 1);
    assert_guarded(FATHOM_NAVIGATOR_GRAPH, FORMAT_MEASURED_ON_QUERIES, 1);
    assert_guarded(FATHOM_NAVIGATOR_GRAPH, FORMAT_MEASURED_ON_ROWS, 0.25f);
}

static void a_k_between_two_goes_by_the_larger(void **state)
{
    (void)state;
    assert_int_equal(list_for(2, 0.9f), 18);
    assert_int_equal(list_for(11, 0.95f), 160);
}

static void a_k_beyond_all_points_scales_the_list(void **state)
{
    (void)state;
    assert_int_equal(list_for(200, 0.95f), 320);
    assert_int_equal(list_for(FATHOM_K_MAX, 0.95f), 160 * FATHOM_K_MAX / 100);
    assert_in_range(list_for(FATHOM_K_MAX, 0.99f), FATHOM_K_MAX, FATHOM_SEARCH_LIST_MAX);
    assert_int_equal(
        points_choose(points, 2, FATHOM_K_MAX, 0.9f, FATHOM_RERANK_AUTO, &cost).search_list,
        FATHOM_SEARCH_LIST_MAX);
}

/* Where memory was reserved for no longer list: what that one reaches, not what it cannot have. */
static void no_list_is_longer_than_there_is_memory_for(void **state)
{
    static const float targets[] = {0.5f, 0.89f, 0.95f, 0.97f, 0.98f, 0.999f};
    (void)state;
    for (uint32_t most = 16; most <= 400; most += 8)
        for (uint32_t k = 1; k <= 200; k += k < 12 ? 1 : 47)
            for (unsigned t = 0; t < sizeof targets / sizeof *targets; t++) {
                struct points_cost held = cost;
                held.list_most = most;
                struct operating_choice choice =
                    points_choose(points, POINTS, k, targets[t], FATHOM_RERANK_AUTO, &held);
                uint32_t list = list_for(k, targets[t]);
                assert_in_range(choice.search_list, 0, most);
                assert_true(choice.search_list == 0 || choice.recall_low <= 0.99f);
                if (list <= most && targets[t] <= 0.98f) /* within reach */
                    assert_int_equal(choice.search_list, list);
            }
    struct points_cost held = cost;
    held.list_most = 44; /* .9697 */
    struct operating_choice choice =
        points_choose(points, POINTS, 10, 0.98f, FATHOM_RERANK_AUTO, &held);
    assert_int_equal(choice.search_list, 43); /* which comes near enough */
    assert_in_range(choice.recall_low * 10000, 9680, 9700);
    held.list_most = 15;
    assert_int_equal(points_choose(points, POINTS, 10, 0.5f, FATHOM_RERANK_AUTO, &held).search_list,
                     0);
}

static const struct operating_point refined[] = {
    {.k = 10, .search_list = 40, .plain = {0.96f, 0.96f, 9}, .refine_threshold = 0.05f},
    {.k = 10, .search_list = 40, .plain = {0.90f, 0.90f, 7}, .refine_threshold = 0.13f},
    {.k = 10, .search_list = 64, .plain = {0.98f, 0.98f, 9.5f}, .refine_threshold = 0.05f},
    {.k = 10, .search_list = 64, .plain = {0.96f, 0.96f, 6}, .refine_threshold = 0.13f},
    {.k = 10, .search_list = 400, .plain = {0.99f, 0.99f, 6}, .refine_threshold = 0.13f},
};

static void fewer_reads_are_worth_a_longer_walk(void **state)
{
    static const struct points_cost free_walk = {.read_us = 9},
                                    dear_walk = {.list_us = 1000, .read_us = 9};
    (void)state;
    struct operating_choice choice =
        points_choose(refined, 5, 10, 0.96f, FATHOM_RERANK_AUTO, &free_walk);
    assert_int_equal(choice.search_list, 64);
    assert_true(choice.refine_threshold == 0.13f);
    assert_int_equal(
        points_choose(refined, 5, 10, 0.96f, FATHOM_RERANK_AUTO, &dear_walk).search_list, 40);
    assert_int_equal(
        points_choose(refined, 5, 10, 0.99f, FATHOM_RERANK_AUTO, &dear_walk).search_list, 400);
}

static void a_threshold_between_two_is_taken_on_a_straight_line(void **state)
{
    static const struct points_cost dear_walk = {.list_us = 1000, .read_us = 9};
    (void)state;
    /* Half way between the two that were measured with list 40. */
    struct operating_choice choice =
        points_choose(refined, 2, 10, 0.93f, FATHOM_RERANK_AUTO, &dear_walk);
    assert_int_equal(choice.search_list, 40);
    assert_true(fabsf(choice.refine_threshold - 0.09f) < 1e-4f);
    assert_true(fabsf(choice.reads - 8) < 1e-3f);
    assert_true(choice.recall_low == 0.93f);
    /* Nor is anything given away where the thriftier one reaches it. */
    assert_true(
        points_choose(refined, 2, 10, 0.9f, FATHOM_RERANK_AUTO, &dear_walk).refine_threshold ==
        0.13f);
}

static const struct operating_point all[] = {
    {.navigator = FATHOM_NAVIGATOR_GRAPH, .code_bytes = 28, .k = 10, .search_list = 40},
    {.navigator = FATHOM_NAVIGATOR_GRAPH, .code_bytes = 28, .k = 100, .search_list = 200},
    {.navigator = FATHOM_NAVIGATOR_GRAPH, .code_bytes = 128, .k = 10, .search_list = 40},
    {.navigator = FATHOM_NAVIGATOR_CELLS, .code_bytes = 12, .k = 10, .search_list = 40},
    {.navigator = FATHOM_NAVIGATOR_CELLS, .code_bytes = 32, .k = 10, .search_list = 40},
};

static uint32_t found_for(const struct operating_point *of, uint32_t count,
                          enum fathom_navigator navigator, uint32_t code_bytes,
                          struct operating_point *out)
{
    const struct points_residency residency = {.navigator = navigator, .code_bytes = code_bytes};
    return points_for(of, count, &residency, out);
}

/* How many points there are for a code, and of which code they say that they are. */
static void assert_points_for(uint32_t count_of_all, enum fathom_navigator navigator,
                              uint32_t code_bytes, uint32_t count, uint32_t from_bytes)
{
    struct operating_point found[POINTS_RESIDENT_MAX];
    assert_int_equal(found_for(all, count_of_all, navigator, code_bytes, found), count);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(found[i].code_bytes, from_bytes);
}

static void beyond_the_measured_codes_the_last_one_speaks(void **state)
{
    (void)state;
    assert_points_for(5, FATHOM_NAVIGATOR_GRAPH, 28, 2, 28);
    assert_points_for(5, FATHOM_NAVIGATOR_GRAPH, 96, 2, 96);
    assert_points_for(5, FATHOM_NAVIGATOR_GRAPH, 128, 1, 128);
    assert_points_for(5, FATHOM_NAVIGATOR_GRAPH, 200, 1, 128);
    assert_points_for(5, FATHOM_NAVIGATOR_CELLS, 12, 1, 12);
    assert_points_for(5, FATHOM_NAVIGATOR_CELLS, 8, 1, 12);
    assert_points_for(3, FATHOM_NAVIGATOR_CELLS, 8, 0, 0);
}

static void between_two_measured_codes_points_lie_on_a_straight_line(void **state)
{
    static const struct operating_point measured[] = {
        {2, 16, 10, 40, 0.05f, .plain = {0.90f, 0.88f, 20}},
        {2, 16, 10, 40, 0.10f, .plain = {0.80f, 0.78f, 12}},
        {2, 16, 10, 100, 0.05f, .plain = {0.94f, 0.92f, 24}},
        {2, 24, 10, 40, 0.05f, .plain = {0.98f, 0.96f, 8}},
    };
    struct operating_point found[POINTS_RESIDENT_MAX];
    (void)state;
    assert_int_equal(found_for(measured, 4, FATHOM_NAVIGATOR_CELLS, 18, found), 3);
    /* A quarter of the way. */
    assert_true(fabsf(found[0].plain.recall - 0.92f) < 1e-5f);
    assert_true(fabsf(found[0].plain.recall_low - 0.90f) < 1e-5f);
    assert_true(fabsf(found[0].plain.reads - 17) < 1e-4f);
    /* The longer code has one threshold for all. */
    assert_true(fabsf(found[1].plain.recall - 0.845f) < 1e-5f);
    assert_true(fabsf(found[1].plain.reads - 11) < 1e-4f);
    assert_true(found[1].refine_threshold == 0.10f);
    /* And needed no longer list. */
    assert_true(found[2].plain.recall == 0.94f && found[2].plain.reads == 24);
    assert_int_equal(found[2].code_bytes, 18);
}

static void what_was_measured_on_pages_does_not_speak_for_codes_in_memory(void **state)
{
    static const struct operating_point measured[] = {
        {2, 12, 10, 40, 0.05f, .plain = {0.90f, 0.88f, 20}},
        {2, 16, 10, 40, 0.05f, .plain = {0.99f, 0.99f, 30}},
        {2, 20, 10, 40, 0.05f, .plain = {0.94f, 0.92f, 10}},
    };
    struct points_residency memory = {FATHOM_NAVIGATOR_CELLS, 16, .unlike_bytes = 16},
                            pages = {FATHOM_NAVIGATOR_CELLS, 16, .unlike_bytes = 0};
    struct operating_point found[POINTS_RESIDENT_MAX];
    (void)state;
    assert_int_equal(points_for(measured, 3, &memory, found), 1);
    assert_true(fabsf(found[0].plain.recall - 0.92f) < 1e-5f);
    assert_true(fabsf(found[0].plain.reads - 15) < 1e-4f);
    assert_int_equal(points_for(measured, 3, &pages, found), 1);
    assert_true(found[0].plain.recall == 0.99f && found[0].plain.reads == 30);
    memory.code_bytes = 18; /* nor does it for others beside it */
    assert_int_equal(points_for(measured, 3, &memory, found), 1);
    assert_true(fabsf(found[0].plain.recall - 0.93f) < 1e-5f);
    assert_int_equal(points_for(measured + 1, 1, &memory, found), 0);
}

static void in_the_graph_a_fifth_of_the_gap_to_the_longest_list_is_a_hole(void **state)
{
    static const struct operating_point measured[] = {
        {1, 128, 10, 24, 0.05f, .plain = {0.90f, 0.88f, 2}},
        {1, 128, 10, 24, 0.10f, .plain = {0.80f, 0.78f, 1}},
        {1, 128, 10, 100, 0.05f, .plain = {0.98f, 0.97f, 3}},
        {1, 128, 10, 100, 0.10f, .plain = {0.85f, 0.84f, 2}},
        {1, 128, 100, 200, 0.05f, .plain = {0.70f, 0.65f, 9}},
        {2, 128, 10, 24, 0.05f, .plain = {0.90f, 0.88f, 2}},
        {2, 128, 10, 100, 0.05f, .plain = {0.98f, 0.97f, 3}},
    };
    static const float recall[] = {0.916f, 0.81f, 0.98f, 0.85f, 0.70f},
                       low[] = {0.896f, 0.79f, 0.97f, 0.84f, 0.65f};
    struct operating_point found[POINTS_RESIDENT_MAX];
    (void)state;
    assert_int_equal(found_for(measured, 7, FATHOM_NAVIGATOR_GRAPH, 128, found), 5);
    for (unsigned i = 0; i < 5; i++) {
        assert_true(fabsf(found[i].plain.recall - recall[i]) < 1e-5f);
        assert_true(fabsf(found[i].plain.recall_low - low[i]) < 1e-5f);
        assert_true(found[i].plain.reads == measured[i].plain.reads);
    }
    assert_int_equal(found_for(measured, 7, FATHOM_NAVIGATOR_CELLS, 128, found), 2);
    assert_memory_equal(found, &measured[5], 2 * sizeof *found);
}

static const struct operating_point mended[] = {
    {.k = 10,
     .search_list = 40,
     .navigator = FATHOM_NAVIGATOR_CELLS,
     .code_bytes = 16,
     .refine_threshold = 0.05f,
     .plain = {0.94f, 0.94f, 1},
     .reranked = {0.96f, 0.96f, 2}},
    {.k = 10,
     .search_list = 400,
     .navigator = FATHOM_NAVIGATOR_CELLS,
     .code_bytes = 16,
     .refine_threshold = 0.05f,
     .plain = {0.96f, 0.96f, 3},
     .reranked = {0.98f, 0.98f, 4}},
};

static struct operating_choice choose_mended(float target, enum fathom_rerank rerank,
                                             double list_us)
{
    struct points_cost walk = {.list_us = list_us, .read_us = 9};
    return points_choose(mended, 2, 10, target, rerank, &walk);
}

static void full_vectors_are_read_where_a_longer_list_costs_more(void **state)
{
    (void)state;
    struct operating_choice choice = choose_mended(0.96f, FATHOM_RERANK_AUTO, 1);
    assert_true(choice.rerank && choice.search_list == 40 && choice.reads == 2);
    /* Where lists cost nothing, whatever has fewer reads. */
    choice = choose_mended(0.96f, FATHOM_RERANK_AUTO, 0);
    assert_true(choice.rerank && choice.search_list == 40);
    choice = choose_mended(0.945f, FATHOM_RERANK_AUTO, 0);
    assert_true(!choice.rerank && choice.search_list == 66);
    /* A target that only it reaches; between two lists as elsewhere. */
    choice = choose_mended(0.97f, FATHOM_RERANK_AUTO, 1);
    assert_true(choice.rerank && choice.search_list == 105 &&
                fabsf(choice.reads - 2.3611f) < 1e-3f);
    /* And out of its reach: near the best. */
    choice = choose_mended(0.999f, FATHOM_RERANK_AUTO, 1);
    assert_true(choice.rerank && choice.search_list == 341);
}

static void re_ranking_is_as_the_request_says(void **state)
{
    (void)state;
    struct operating_choice choice = choose_mended(0.96f, FATHOM_RERANK_OFF, 1);
    assert_true(!choice.rerank && choice.search_list == 400 && choice.reads == 3);
    choice = choose_mended(0.999f, FATHOM_RERANK_OFF, 1);
    assert_true(!choice.rerank && choice.recall_low < 0.961f);
    choice = choose_mended(0.5f, FATHOM_RERANK_ON, 1);
    assert_true(choice.rerank && choice.search_list == 40);
    assert_true(choose_mended(0.5f, FATHOM_RERANK_AUTO, 1).rerank == false);
}

static void re_ranked_recall_lies_on_the_same_lines(void **state)
{
    struct operating_point two[] = {mended[0], mended[0]}, found[POINTS_RESIDENT_MAX];
    (void)state;
    two[0].plain.recall = 0.95f;
    two[0].reranked = (struct attained){0.97f, 0.96f, 2};
    two[1].plain.recall = 0.95f;
    two[1].code_bytes = 24;
    two[1].reranked = (struct attained){0.99f, 0.98f, 1};
    assert_int_equal(found_for(two, 2, FATHOM_NAVIGATOR_CELLS, 20, found), 1);
    assert_true(fabsf(found[0].reranked.recall - 0.98f) < 1e-5f);
    assert_true(fabsf(found[0].reranked.recall_low - 0.97f) < 1e-5f);
    assert_true(fabsf(found[0].reranked.reads - 1.5f) < 1e-5f);
    assert_true(fabsf(found[0].plain.recall - 0.95f) < 1e-5f);
    /* And so does what the graph makes up for. */
    memcpy(two, mended, sizeof two);
    two[0].reranked.recall = 0.97f;
    two[1].reranked.recall = 0.99f;
    two[0].navigator = two[1].navigator = FATHOM_NAVIGATOR_GRAPH;
    assert_int_equal(found_for(two, 2, FATHOM_NAVIGATOR_GRAPH, 16, found), 2);
    assert_true(fabsf(found[0].reranked.recall - 0.974f) < 1e-5f);
    assert_true(fabsf(found[0].reranked.recall_low - 0.964f) < 1e-5f);
    assert_true(found[1].reranked.recall == 0.99f);
}

static void without_points_there_is_no_list(void **state)
{
    (void)state;
    assert_int_equal(points_choose(NULL, 0, 10, 0.9f, FATHOM_RERANK_AUTO, &cost).search_list, 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_run_is_found_exactly_when_there_is_one),
    cmocka_unit_test(the_best_candidates_come_to_the_front),
    cmocka_unit_test(the_value_of_a_rank_comes_to_its_place),
    cmocka_unit_test(selection_ends_whatever_the_numbers),
    cmocka_unit_test(the_shortest_list_that_reaches_the_target_is_taken),
    cmocka_unit_test(a_target_beyond_all_points_takes_what_comes_near_the_best),
    cmocka_unit_test(the_interval_is_kept_and_a_quarter_of_it_where_rows_leave_holes),
    cmocka_unit_test(a_k_between_two_goes_by_the_larger),
    cmocka_unit_test(a_k_beyond_all_points_scales_the_list),
    cmocka_unit_test(no_list_is_longer_than_there_is_memory_for),
    cmocka_unit_test(fewer_reads_are_worth_a_longer_walk),
    cmocka_unit_test(a_threshold_between_two_is_taken_on_a_straight_line),
    cmocka_unit_test(beyond_the_measured_codes_the_last_one_speaks),
    cmocka_unit_test(between_two_measured_codes_points_lie_on_a_straight_line),
    cmocka_unit_test(what_was_measured_on_pages_does_not_speak_for_codes_in_memory),
    cmocka_unit_test(in_the_graph_a_fifth_of_the_gap_to_the_longest_list_is_a_hole),
    cmocka_unit_test(full_vectors_are_read_where_a_longer_list_costs_more),
    cmocka_unit_test(re_ranking_is_as_the_request_says),
    cmocka_unit_test(re_ranked_recall_lies_on_the_same_lines),
    cmocka_unit_test(without_points_there_is_no_list),
};

FATHOM_TEST_MAIN(tests)
