/* The graph: findable, bounded, reachable, and the same for any number of threads. */
#include "builder_support.h"

#include <stdlib.h>
#include <string.h>

#include "degree.h"
#include "graph.h"
#include "scout.h"

static struct graph build(const struct ordered *ordered, uint32_t degree, uint32_t list,
                          unsigned threads)
{
    struct graph graph;
    struct crew crew = crew_of(threads);
    struct graph_options options = {.degree = degree, .list = list, .alpha = 1.2, .seed = 1};
    assert_int_equal(graph_build(&graph, &crew, &ordered->rows, ordered->cells.first,
                                 ordered->cells.count, &options, NULL),
                     0);
    return graph;
}

/* No list longer than R, no row that is its own neighbour, no neighbour twice. */
static void assert_lists_are_sound(const struct graph *graph)
{
    uint32_t *last_seen = calloc(graph->rows, sizeof *last_seen);
    for (uint32_t row = 0; row < graph->rows; row++) {
        const uint32_t *list = graph_list(graph, row);
        assert_in_range(list[0], 0, graph->degree_max);
        for (uint32_t i = 1; i <= list[0]; i++) {
            assert_in_range(list[i], 0, graph->rows - 1);
            assert_int_not_equal(list[i], row);
            assert_int_not_equal(last_seen[list[i]], row + 1);
            last_seen[list[i]] = row + 1;
        }
    }
    free(last_seen);
}

static uint32_t count_reachable(const struct graph *graph)
{
    uint8_t *seen = calloc(graph->rows, 1);
    uint32_t *queue = malloc(graph->rows * sizeof *queue), head = 0, tail = 0;
    queue[tail++] = graph->entries[0];
    seen[graph->entries[0]] = 1;
    while (head < tail) {
        const uint32_t *list = graph_list(graph, queue[head++]);
        for (uint32_t i = 1; i <= list[0]; i++) {
            if (!seen[list[i]]) {
                seen[list[i]] = 1;
                queue[tail++] = list[i];
            }
        }
    }
    free(seen);
    free(queue);
    return tail;
}

static void assert_sound(const struct graph *graph)
{
    assert_lists_are_sound(graph);
    assert_int_equal(count_reachable(graph), graph->rows);
    assert_in_range(graph->entry_count, 1, GRAPH_ENTRIES_MAX);
    for (uint32_t i = 0; i < graph->entry_count; i++)
        assert_in_range(graph->entries[i], 0, graph->rows - 1);
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Share of the true ten nearest that a search with this L finds. */
static double recall(const struct ordered *ordered, const struct graph *graph,
                     const struct rows8 *queries, uint32_t list)
{
    const struct rows8 *rows = &ordered->rows;
    uint64_t *keys = malloc(rows->count * sizeof *keys);
    struct scout scout;
    uint32_t found = 0;
    assert_int_equal(scout_init(&scout, graph, rows, list), 0);
    for (uint32_t q = 0; q < queries->count; q++) {
        for (uint32_t row = 0; row < rows->count; row++)
            keys[row] = prune_key(
                rows8_distance(rows8_at(queries, q), rows8_at(rows, row), rows->dim), row);
        qsort(keys, rows->count, sizeof *keys, compare_keys);
        assert_int_equal(
            scout_run(&scout, rows8_at(queries, q), graph->entries, graph->entry_count), 0);
        for (uint32_t i = 0; i < 10; i++)
            for (uint32_t j = 0; j < 10 && j < scout.beam_count; j++)
                found += scout.beam[j] == keys[i];
    }
    scout_fini(&scout);
    free(keys);
    return found / (10.0 * queries->count);
}

static void a_search_finds_the_nearest(void **state)
{
    (void)state;
    struct rows8 rows = rows_clustered(2200, 16, 20, 25, 1), queries;
    assert_int_equal(rows8_init(&queries, 200, 16), 0);
    for (uint32_t i = 0; i < 200; i++)
        rows8_set(&queries, i, rows8_at(&rows, 2000 + i));
    rows.count = 2000;
    struct ordered ordered = ordered_make(rows, 2);
    struct graph graph = build(&ordered, 24, 48, 2);
    assert_sound(&graph);
    assert_true(recall(&ordered, &graph, &queries, 40) >= 0.97);
    assert_true(recall(&ordered, &graph, &queries, 10) >= 0.80);
    graph_fini(&graph);
    rows8_fini(&queries);
    ordered_fini(&ordered);
}

static void any_number_of_threads_gives_the_same_graph(void **state)
{
    (void)state;
    struct ordered ordered = ordered_make(rows_clustered(6000, 20, 11, 30, 4), 2);
    struct graph graphs[3];
    for (unsigned i = 0; i < 3; i++) {
        graphs[i] = build(&ordered, 16, 32, 1u << i);
        assert_int_equal(graphs[i].entry_count, graphs[0].entry_count);
        assert_memory_equal(graphs[i].entries, graphs[0].entries, sizeof graphs[0].entries);
        for (uint32_t row = 0; row < graphs[i].rows; row++) {
            const uint32_t *list = graph_list(&graphs[i], row),
                           *first = graph_list(&graphs[0], row);
            assert_memory_equal(list, first, (first[0] + 1) * sizeof *list);
        }
    }
    for (unsigned i = 0; i < 3; i++)
        graph_fini(&graphs[i]);
    ordered_fini(&ordered);
}

static void equal_rows_are_all_reachable(void **state)
{
    (void)state;
    for (uint32_t degree = BUILD_DEGREE_MIN; degree <= 32; degree += 28) {
        struct ordered ordered = ordered_make(rows_equal(3000, 10), 2);
        struct graph graph = build(&ordered, degree, 16, 2);
        assert_sound(&graph);
        graph_fini(&graph);
        ordered_fini(&ordered);
    }
}

static void duplicates_among_other_rows_are_all_reachable(void **state)
{
    (void)state;
    struct rows8 rows = rows_clustered(3000, 12, 5, 20, 2);
    for (uint32_t i = 0; i < 300; i++) /* some in pairs, one two hundred times */
        rows8_set(&rows, 3 * i + 1, rows8_at(&rows, i < 200 ? 0 : 3 * i));
    struct ordered ordered = ordered_make(rows, 2);
    struct graph graph = build(&ordered, 8, 24, 2);
    assert_sound(&graph);
    graph_fini(&graph);
    ordered_fini(&ordered);
}

static void islands_are_connected(void **state)
{
    (void)state;
    /* Clusters so far apart and so tight that no search from the medoid would leave its own. */
    struct ordered ordered = ordered_make(rows_clustered(4000, 8, 400, 0.6, 3), 2);
    struct graph graph = build(&ordered, 6, 8, 2);
    assert_sound(&graph);
    graph_fini(&graph);
    ordered_fini(&ordered);
}

static void few_rows_are_all_linked(void **state)
{
    (void)state;
    for (uint32_t count = 1; count <= 12; count++) {
        struct ordered ordered = ordered_make(rows_clustered(count, 4, count, 0, count), 2);
        struct graph graph = build(&ordered, 32, 64, 2);
        assert_sound(&graph);
        graph_fini(&graph);
        ordered_fini(&ordered);
    }
}

static void a_second_pass_of_pruning_is_bound_by_alpha(void **state)
{
    (void)state;
    /* On a line, seen from row 0: rows 1, 2 and 3 lie behind each other, and a wide alpha keeps
     * none but the first. */
    struct rows8 rows;
    struct prune prune;
    uint64_t keys[3];
    uint32_t kept[3];
    assert_int_equal(rows8_init(&rows, 4, 1), 0);
    for (uint32_t i = 0; i < 4; i++) {
        uint8_t place = (uint8_t)(100 + 10 * i);
        rows8_set(&rows, i, &place);
    }
    for (uint32_t i = 1; i < 4; i++)
        keys[i - 1] = prune_key(100 * i * i, i);
    assert_int_equal(prune_init(&prune, &rows, 1.2, 3), 0);
    assert_int_equal(prune_run(&prune, keys, 3, 3, kept), 1);
    assert_int_equal(kept[0], 1);
    prune_fini(&prune);
    rows8_fini(&rows);
}

/* The rule as it is told, one candidate and one kept row at a time. */
static uint32_t prune_plainly(const struct rows8 *rows, uint64_t *keys, uint32_t count,
                              uint32_t limit, uint32_t *out)
{
    uint32_t kept = 0;
    for (int pass = 0; pass < 2; pass++) {
        uint32_t left = 0;
        for (uint32_t i = 0; i < count && kept < limit; i++) {
            bool occluded = false;
            for (uint32_t j = 0; j < kept; j++) {
                uint64_t between = rows8_distance(rows8_at(rows, (uint32_t)keys[i]),
                                                  rows8_at(rows, out[j]), rows->dim);
                uint64_t alpha_q10 = pass == 0 ? 1024 : 1229;
                occluded = occluded || between * alpha_q10 <= keys[i] >> 32 << 10;
            }
            if (occluded)
                keys[left++] = keys[i];
            else
                out[kept++] = (uint32_t)keys[i];
        }
        count = left;
    }
    return kept;
}

static void pruning_by_blocks_keeps_what_the_rule_keeps(void **state)
{
    (void)state;
    struct rows8 rows = rows_clustered(400, 20, 30, 30, 9);
    struct prune prune;
    uint64_t keys[2][200];
    uint32_t ids[200], kept[2][64];
    assert_int_equal(prune_init(&prune, &rows, 1.2, 64), 0);
    for (uint32_t row = 0; row < 400; row++) {
        uint32_t limit = 1 + row % 64, count = 0;
        for (uint32_t i = 0; i < row % 200; i++)
            ids[count++] = (row + 1 + 7 * i) % 400;
        prune_keys(&prune, row, ids, count, keys[0]);
        count = prune_sort(keys[0], count, row);
        memcpy(keys[1], keys[0], sizeof keys[0]);
        uint32_t expected = prune_plainly(&rows, keys[0], count, limit, kept[0]);
        assert_int_equal(prune_run(&prune, keys[1], count, limit, kept[1]), expected);
        assert_memory_equal(kept[1], kept[0], expected * sizeof kept[0][0]);
    }
    prune_fini(&prune);
    rows8_fini(&rows);
}

static uint32_t chosen_for(struct rows8 rows, uint32_t given, uint64_t dram_budget_bytes)
{
    struct ordered ordered = ordered_make(rows, 2);
    struct build_options options = build_options_default();
    struct crew crew = crew_of(2);
    struct degree_probe probe;
    options.degree = given;
    options.dram_budget_bytes = dram_budget_bytes;
    assert_int_equal(degree_choose(&options, &crew, &ordered.rows, ordered.rows.count,
                                   ordered.rows.dim, &probe, NULL),
                     0);
    assert_int_equal(options.build_list, degree_list(options.degree));
    assert_true((probe.mean > 0) == (given == 0 && ordered.rows.count > 1));
    assert_true(probe.cut <= probe.mean && probe.cut <= options.degree);
    assert_true((probe.cut > 0) == (probe.mean > 0));
    ordered_fini(&ordered);
    return options.degree;
}

static uint32_t chosen_degree(struct rows8 rows, uint32_t given)
{
    return chosen_for(rows, given, 0);
}

/* Bytes a row: 8-bit rows of 64 dimensions and lists take some 130, the shortest codes and lists
 * some 58. */
static void a_budget_to_serve_from_bounds_lists_and_codes(void **state)
{
    struct build_options options = build_options_default();
    (void)state;
    assert_int_equal(chosen_for(rows_clustered(3000, 64, 1, 30, 1), 0, 3000 * 200), DEGREE_HARD);
    assert_int_equal(chosen_for(rows_clustered(3000, 64, 1, 30, 1), 0, 3000 * 90), DEGREE_USUAL);
    assert_int_equal(chosen_for(rows_clustered(3000, 64, 1, 30, 1), 0, 3000 * 20), DEGREE_LEAST);
    assert_int_equal(chosen_for(rows_clustered(3000, 64, 1, 30, 1), 36, 3000 * 20), 36);
    assert_int_equal(degree_code_bits(&options, 1000, 128), options.code_bits);
    options.dram_budget_bytes = 1000 * 38;
    assert_int_equal(degree_code_bits(&options, 1000, 128), 3);
    options.dram_budget_bytes = 1000;
    assert_int_equal(degree_code_bits(&options, 1000, 128), 1);
    options.dram_budget_bytes = 1000 * 500;
    assert_int_equal(degree_code_bits(&options, 1000, 128), options.code_bits);
}

/* By a few rows in the order they came in. */
static double glanced_hardness(struct rows8 rows)
{
    struct build_options options = build_options_default();
    struct crew crew = crew_of(2);
    struct degree_probe glance;
    assert_int_equal(degree_glance(&options, &crew, &rows, &glance, NULL), 0);
    rows8_fini(&rows);
    assert_true(glance.mean > 1 && glance.mean <= DEGREE_PROBE);
    assert_true(glance.lid >= 1);
    return degree_hardness(glance.mean);
}

static void a_glance_tells_hard_data_from_easy_data(void **state)
{
    (void)state;
    assert_true(glanced_hardness(rows_clustered(20000, 4, 1, 30, 1)) == 0);
    assert_true(glanced_hardness(rows_clustered(20000, 64, 1, 30, 1)) == 1);
}

static void hard_data_is_given_longer_lists(void **state)
{
    (void)state;
    assert_int_equal(chosen_degree(rows_clustered(3000, 4, 1, 30, 1), 0), DEGREE_USUAL);
    assert_int_equal(chosen_degree(rows_clustered(3000, 64, 1, 30, 1), 0), DEGREE_HARD);
    assert_int_equal(chosen_degree(rows_clustered(300, 64, 1, 30, 1), 20), 20);
    assert_int_equal(chosen_degree(rows_clustered(1, 5, 1, 30, 1), 0), DEGREE_USUAL);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_search_finds_the_nearest),
    cmocka_unit_test(any_number_of_threads_gives_the_same_graph),
    cmocka_unit_test(equal_rows_are_all_reachable),
    cmocka_unit_test(duplicates_among_other_rows_are_all_reachable),
    cmocka_unit_test(islands_are_connected),
    cmocka_unit_test(few_rows_are_all_linked),
    cmocka_unit_test(a_second_pass_of_pruning_is_bound_by_alpha),
    cmocka_unit_test(pruning_by_blocks_keeps_what_the_rule_keeps),
    cmocka_unit_test(a_glance_tells_hard_data_from_easy_data),
    cmocka_unit_test(hard_data_is_given_longer_lists),
    cmocka_unit_test(a_budget_to_serve_from_bounds_lists_and_codes),
};

FATHOM_TEST_MAIN(tests)
