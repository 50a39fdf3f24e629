/* The patrol: what it finds for each member, on its own and together, again and again. */
#include "builder_support.h"

#include <stdlib.h>
#include <string.h>

#include "patrol.h"
#include "prune.h"

#define ROWS 3000

struct ground {
    struct ordered ordered;
    struct graph graph;
};

static struct ground ground_make(uint32_t dim, uint32_t degree)
{
    struct ground ground = {.ordered = ordered_make(rows_clustered(ROWS, dim, 20, 25, 6), 2)};
    struct crew crew = crew_of(2);
    struct graph_options options = {.degree = degree, .list = 2 * degree, .alpha = 1.2, .seed = 1};
    assert_int_equal(graph_build(&ground.graph, &crew, &ground.ordered.rows,
                                 ground.ordered.cells.first, ground.ordered.cells.count, &options,
                                 NULL),
                     0);
    return ground;
}

static void ground_fini(struct ground *ground)
{
    graph_fini(&ground->graph);
    ordered_fini(&ground->ordered);
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* How many of the nearest ten rows of a member are the first ten of its beam. */
static uint32_t found(const struct rows8 *rows, const struct patrol_beam *beam, uint32_t member)
{
    uint64_t *keys = malloc(rows->count * sizeof *keys);
    uint32_t count = 0, hits = 0;
    for (uint32_t row = 0; row < rows->count; row++)
        if (row != member)
            keys[count++] = prune_key(
                rows8_distance(rows8_at(rows, member), rows8_at(rows, row), rows->dim), row);
    qsort(keys, count, sizeof *keys, compare_keys);
    for (uint32_t i = 0; i < 10 && i < beam->count; i++)
        for (uint32_t j = 0; j < 10; j++)
            hits += beam->keys[i] == keys[j];
    free(keys);
    return hits;
}

/* Rising, true distances, no row twice, never the member itself. */
static void assert_beam_is_sound(const struct rows8 *rows, const struct patrol *patrol,
                                 uint32_t place)
{
    const struct patrol_beam *beam = &patrol->beams[place];
    const uint8_t *member = rows8_at(rows, patrol->members[place]);
    assert_in_range(beam->count, 1, patrol->list);
    for (uint32_t i = 0; i < beam->count; i++) {
        uint32_t row = (uint32_t)beam->keys[i];
        assert_int_not_equal(row, patrol->members[place]);
        assert_int_equal(beam->keys[i] >> 32,
                         rows8_distance(member, rows8_at(rows, row), rows->dim));
        assert_true(i == 0 || beam->keys[i] > beam->keys[i - 1]);
    }
}

static void every_member_finds_its_nearest(void **state)
{
    (void)state;
    struct ground ground = ground_make(24, 20);
    const struct rows8 *rows = &ground.ordered.rows;
    struct patrol patrol;
    uint32_t members[PATROL_ROWS], starts[PATROL_ROWS], hits = 0, asked = 0;
    assert_int_equal(patrol_init(&patrol, &ground.graph, rows, 40), 0);
    for (uint32_t begin = 0; begin + PATROL_ROWS <= ROWS; begin += 10 * PATROL_ROWS) {
        for (uint32_t i = 0; i < PATROL_ROWS; i++) {
            members[i] = begin + i;
            starts[i] = ground.graph.entries[0];
        }
        assert_int_equal(patrol_run(&patrol, members, starts, PATROL_ROWS), 0);
        for (uint32_t i = 0; i < PATROL_ROWS; i++, asked += 10) {
            assert_beam_is_sound(rows, &patrol, i);
            hits += found(rows, &patrol.beams[i], members[i]);
        }
    }
    assert_true(hits >= asked * 97 / 100);
    patrol_fini(&patrol);
    ground_fini(&ground);
}

static void members_need_not_be_near_each_other_nor_many(void **state)
{
    (void)state;
    struct ground ground = ground_make(24, 20);
    const struct rows8 *rows = &ground.ordered.rows;
    struct patrol patrol;
    uint32_t members[PATROL_ROWS], starts[PATROL_ROWS];
    assert_int_equal(patrol_init(&patrol, &ground.graph, rows, 40), 0);
    for (uint32_t count = 1; count <= PATROL_ROWS; count += 4) {
        uint32_t hits = 0;
        for (uint32_t i = 0; i < count; i++) {
            members[i] = (i * 1009 + count) % ROWS;
            starts[i] = (members[i] + 1) % ROWS;
        }
        assert_int_equal(patrol_run(&patrol, members, starts, count), 0);
        for (uint32_t i = 0; i < count; i++) {
            assert_beam_is_sound(rows, &patrol, i);
            hits += found(rows, &patrol.beams[i], members[i]);
        }
        assert_true(hits >= count * 9);
    }
    patrol_fini(&patrol);
    ground_fini(&ground);
}

/* Rounds of more than a chunk, and more opened rows than there is room for at first. */
static void a_search_of_everything_finds_everything(void **state)
{
    (void)state;
    struct ground ground = ground_make(9, 60);
    const struct rows8 *rows = &ground.ordered.rows;
    struct patrol patrol;
    uint32_t members[PATROL_ROWS], starts[PATROL_ROWS];
    assert_int_equal(patrol_init(&patrol, &ground.graph, rows, 2 * ROWS), 0);
    for (uint32_t i = 0; i < PATROL_ROWS; i++) {
        members[i] = 1 + i * (ROWS / PATROL_ROWS);
        starts[i] = ground.graph.entries[0];
    }
    assert_int_equal(patrol_run(&patrol, members, starts, PATROL_ROWS), 0);
    for (uint32_t i = 0; i < PATROL_ROWS; i++) {
        assert_beam_is_sound(rows, &patrol, i);
        /* A row that is reached through members alone stays unseen. */
        assert_in_range(patrol.beams[i].count, ROWS - 2 * PATROL_ROWS, ROWS - 1);
        assert_int_equal(found(rows, &patrol.beams[i], members[i]), 10);
    }
    patrol_fini(&patrol);
    ground_fini(&ground);
}

static void nothing_is_left_of_the_search_before(void **state)
{
    (void)state;
    struct ground ground = ground_make(24, 20);
    struct patrol patrol;
    uint64_t first[PATROL_ROWS][30];
    uint32_t members[2][PATROL_ROWS], starts[PATROL_ROWS];
    assert_int_equal(patrol_init(&patrol, &ground.graph, &ground.ordered.rows, 30), 0);
    for (uint32_t i = 0; i < PATROL_ROWS; i++) {
        members[0][i] = 100 + i;
        members[1][i] = 110 + 3 * i;
        starts[i] = ground.graph.entries[0];
    }
    for (uint32_t turn = 0; turn < 3; turn++) {
        assert_int_equal(patrol_run(&patrol, members[turn % 2], starts, PATROL_ROWS), 0);
        for (uint32_t i = 0; i < PATROL_ROWS && turn % 2 == 0; i++) {
            size_t bytes = patrol.beams[i].count * sizeof *first[i];
            if (turn == 0)
                memcpy(first[i], patrol.beams[i].keys, bytes);
            else
                assert_memory_equal(first[i], patrol.beams[i].keys, bytes);
        }
    }
    patrol_fini(&patrol);
    ground_fini(&ground);
}

/* Every row has every other for a neighbour, so that all are scored at once, and most are one too
 * many. */
static void a_beam_holds_the_nearest_of_all_that_were_scored(void **state)
{
    (void)state;
    struct rows8 rows = rows_clustered(300, 16, 5, 25, 6);
    struct graph graph;
    struct patrol patrol;
    uint32_t members[PATROL_ROWS], starts[PATROL_ROWS];
    assert_int_equal(graph_init(&graph, rows.count, rows.count), 0);
    for (uint32_t row = 0; row < rows.count; row++)
        for (uint32_t other = 0; other < rows.count; other++)
            if (other != row)
                graph_list(&graph, row)[++graph_list(&graph, row)[0]] = other;
    for (uint32_t i = 0; i < PATROL_ROWS; i++) {
        members[i] = 3 * i;
        starts[i] = 299 - i;
    }
    for (uint32_t list = 8; list < 300; list += 13) {
        assert_int_equal(patrol_init(&patrol, &graph, &rows, list), 0);
        assert_int_equal(patrol_run(&patrol, members, starts, PATROL_ROWS), 0);
        for (uint32_t i = 0; i < PATROL_ROWS; i++) {
            uint64_t keys[300];
            uint32_t count = 0;
            for (uint32_t row = 0; row < rows.count; row++)
                if (row != members[i])
                    keys[count++] = prune_key(
                        rows8_distance(rows8_at(&rows, members[i]), rows8_at(&rows, row), rows.dim),
                        row);
            qsort(keys, count, sizeof *keys, compare_keys);
            assert_int_equal(patrol.beams[i].count, list);
            assert_memory_equal(patrol.beams[i].keys, keys, list * sizeof *keys);
        }
        patrol_fini(&patrol);
    }
    graph_fini(&graph);
    rows8_fini(&rows);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_member_finds_its_nearest),
    cmocka_unit_test(members_need_not_be_near_each_other_nor_many),
    cmocka_unit_test(a_search_of_everything_finds_everything),
    cmocka_unit_test(nothing_is_left_of_the_search_before),
    cmocka_unit_test(a_beam_holds_the_nearest_of_all_that_were_scored),
};

FATHOM_TEST_MAIN(tests)
