/* What a walk remembers: the pool against a plain list kept in order, and the set of rows that it
 * has met against an array of marks, up to as full as a walk may fill it. */
#include "fathom_test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "pool.h"
#include "prng.h"
#include "visited.h"

/* ---- the pool ---- */

struct plain {
    float estimates[200];
    uint32_t rows[200], count;
};

/* Behind those of the same estimate, one after the other. */
static void plain_insert(struct plain *plain, uint32_t limit, float estimate, uint32_t row)
{
    uint32_t at = plain->count;
    if (at == limit && estimate >= plain->estimates[at - 1])
        return;
    at -= at == limit;
    plain->count = at + 1;
    for (; at > 0 && plain->estimates[at - 1] > estimate; at--) {
        plain->estimates[at] = plain->estimates[at - 1];
        plain->rows[at] = plain->rows[at - 1];
    }
    plain->estimates[at] = estimate;
    plain->rows[at] = row;
}

static void fill_pool(struct pool *pool, uint32_t limit, uint32_t values, struct prng *prng)
{
    struct plain plain = {0};
    pool_clear(pool, limit);
    for (uint32_t row = 0; row < 3 * limit; row++) {
        float estimate = (float)prng_below(prng, values) - 10;
        plain_insert(&plain, limit, estimate, row);
        pool_insert(pool, estimate, row);
        assert_int_equal(pool->count, plain.count);
        for (uint32_t i = 0; i < plain.count; i++) {
            assert_true(pool->estimates[i] == plain.estimates[i]);
            assert_int_equal(pool->rows[i].row, plain.rows[i]);
        }
    }
}

static void the_pool_keeps_the_best_in_order(void **state)
{
    static const uint32_t limits[] = {1, 2, 3, 4, 5, 31, 64, 200};
    struct prng prng;
    (void)state;
    prng_init(&prng, 5, 0);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        uint32_t limit = limits[i];
        struct pool pool = {.estimates = mem_alloc_array(pool_room(limit), sizeof(float)),
                            .rows = mem_alloc_array(limit, sizeof *pool.rows)};
        fill_pool(&pool, limit, 7, &prng); /* many alike */
        fill_pool(&pool, limit, 1000000, &prng);
        mem_free(pool.estimates);
        mem_free(pool.rows);
    }
}

static void a_better_row_moves_the_cursor_back(void **state)
{
    struct pool pool = {.estimates = mem_alloc_array(pool_room(3), sizeof(float)),
                        .rows = mem_alloc_array(3, sizeof *pool.rows)};
    (void)state;
    pool_clear(&pool, 3);
    pool_insert(&pool, 2, 20);
    pool_insert(&pool, 4, 40);
    pool.rows[0].expanded = true;
    pool.cursor = 1;
    pool_insert(&pool, 3, 30); /* at the cursor */
    assert_int_equal(pool.cursor, 1);
    assert_true(pool.rows[0].expanded && !pool.rows[1].expanded);
    pool_insert(&pool, 4, 41); /* too late */
    assert_int_equal(pool.count, 3);
    assert_int_equal(pool.rows[2].row, 40);
    pool_insert(&pool, 1, 10);
    assert_int_equal(pool.cursor, 0);
    assert_true(!pool.rows[0].expanded && pool.rows[1].expanded);
    assert_int_equal(pool.rows[2].row, 30);
    pool_insert(&pool, INFINITY, 50);
    assert_int_equal(pool.count, 3);
    pool_clear(&pool, 3);
    pool_insert(&pool, INFINITY, 50); /* like the empty places behind it */
    pool_insert(&pool, INFINITY, 51);
    assert_int_equal(pool.count, 2);
    assert_int_equal(pool.rows[1].row, 51);
    mem_free(pool.estimates);
    mem_free(pool.rows);
}

/* ---- visited rows ---- */

static void rows_are_met_once(void **state)
{
    enum { ROWS = 3000, ENTRIES = 1024 };
    struct visited visited = {.entries = mem_alloc_array(ENTRIES, sizeof(uint32_t))};
    struct prng prng;
    (void)state;
    prng_init(&prng, 6, 0);
    for (int turn = 0; turn < 3; turn++) { /* what a turn leaves behind is cleared */
        bool met[ROWS] = {false};
        uint32_t count = 0, again = 0;
        visited_clear(&visited, ENTRIES);
        while (!visited_full(&visited)) {
            uint32_t row = prng_below(&prng, ROWS);
            assert_int_equal(visited_add(&visited, row), !met[row]);
            count += !met[row];
            again += met[row];
            met[row] = true;
            assert_int_equal(visited.count, count);
        }
        assert_true(count > ENTRIES / 8 * 7 - 8 && count < ENTRIES);
        assert_true(again > 0);
        for (uint32_t row = 0; row < ROWS; row++)
            if (met[row])
                assert_false(visited_add(&visited, row));
    }
    mem_free(visited.entries);
}

/* Rows of the highest numbers, and more of one bucket than it holds. */
static void a_full_bucket_overflows_into_the_next(void **state)
{
    enum { ENTRIES = 64 };
    struct visited visited = {.entries = mem_alloc_array(ENTRIES, sizeof(uint32_t))};
    uint32_t rows[12], count = 0;
    (void)state;
    visited_clear(&visited, ENTRIES);
    for (uint32_t row = UINT32_MAX - 1; count < 12; row--) { /* all of the last bucket */
        uint32_t bucket = (row * 0x9e3779b1u) >> 7 & (ENTRIES - 1) & ~3u;
        if (bucket == ENTRIES - VISITED_BUCKET)
            rows[count++] = row;
    }
    for (uint32_t i = 0; i < count; i++)
        assert_true(visited_add(&visited, rows[i]));
    for (uint32_t i = 0; i < count; i++)
        assert_false(visited_add(&visited, rows[i]));
    assert_int_equal(visited.count, count);
    mem_free(visited.entries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pool_keeps_the_best_in_order),
        cmocka_unit_test(a_better_row_moves_the_cursor_back),
        cmocka_unit_test(rows_are_met_once),
        cmocka_unit_test(a_full_bucket_overflows_into_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
