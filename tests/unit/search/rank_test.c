/* The nearest of many cells: clumps are measured from the nearest on, and not all of them.
 * Centroids are made by hand, in the order of space that a build puts them in, since an index with
 * so many cells has half a million rows. */
#include "fathom_test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index.h"
#include "prng.h"
#include "query.h"

#define DIM     24
#define CLUMPS  300
#define CELLS   (CLUMPS * CENTROIDS_CLUMP - 5)
#define QUERIES 60
#define WANTED  40

struct fixture {
    struct fathom_index index;
    uint8_t *bytes;
    float *excess, *middle;
    uint8_t *rows; /* CELLS x DIM */
    struct navigator navigator;
};

static void draw_clumps(uint8_t *bytes)
{
    struct prng prng;
    prng_init(&prng, 61, 0);
    uint8_t *clumps = bytes, *blocks = bytes + 2 * DIM * CLUMPS;
    for (uint32_t clump = 0; clump < CLUMPS; clump++, clumps += 2 * DIM)
        for (uint32_t d = 0; d < DIM; d++) {
            clumps[d] = (uint8_t)(60 + prng_below(&prng, 60));
            clumps[DIM + d] = (uint8_t)prng_below(&prng, 3);
        }
    for (size_t i = 0; i < centroids_blocks(CELLS) * centroids_block_bytes(DIM); i++)
        blocks[i] = (uint8_t)prng_below(&prng, 256);
}

/* |c|^2 - |low|^2, both less 128. */
static float excess_of(const uint8_t *low, const uint8_t *row)
{
    float sum = 0;
    for (uint32_t d = 0; d < DIM; d++)
        sum += (float)((row[d] - 128) * (row[d] - 128) - (low[d] - 128) * (low[d] - 128));
    return sum;
}

static int make_fixture(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->bytes = mem_alloc(centroids_bytes(CELLS, DIM));
    f->excess = calloc(centroids_blocks(CELLS) * KERNEL_LANES, sizeof *f->excess);
    f->middle = calloc(CLUMPS, sizeof *f->middle);
    f->rows = malloc(CELLS * DIM);
    assert_true(f->bytes && f->excess && f->middle && f->rows);
    draw_clumps(f->bytes);
    struct centroids centroids = centroids_of(f->bytes, CELLS, DIM);
    for (uint32_t cell = 0; cell < CELLS; cell++) {
        assert_true(centroids_decode(&centroids, cell, f->rows + (size_t)cell * DIM));
        f->excess[cell] = excess_of(centroids_low(&centroids, cell), f->rows + (size_t)cell * DIM);
    }
    assert_int_equal(rank_ordered_clumps(CELLS), CLUMPS);
    for (uint32_t clump = 0; clump < CLUMPS; clump++)
        f->middle[clump] = centroids_middle_excess(&centroids, clump);
    f->index.ranks = (struct cell_ranks){centroids, f->excess, f->middle};
    f->index.properties.cells = CELLS;
    f->index.properties.work_dim = DIM;
    struct navigator_capacity capacity = {
        .work_dim = DIM, .cells = CELLS, .ranked = CELLS, .candidates = 64};
    assert_int_equal(navigator_reserve(&f->navigator, capacity), 0);
    *state = f;
    return 0;
}

static int free_fixture(void **state)
{
    struct fixture *f = *state;
    navigator_fini(&f->navigator);
    mem_free(f->bytes);
    free(f->excess);
    free(f->middle);
    free(f->rows);
    free(f);
    return 0;
}

/* A query near a cell, prepared, and the right distances of all cells from it. */
struct asked {
    struct query query;
    float vector[DIM], units[DIM], right[CELLS];
    int8_t hi[64], lo[64];
};

static void ask(struct asked *asked, const struct fixture *f, uint32_t number)
{
    static const float mean[DIM];
    struct row8_model model = {.dim = DIM, .step = 1, .mean = mean};
    struct prng prng;
    prng_init(&prng, 62, number);
    const uint8_t *near = f->rows + (size_t)prng_below(&prng, CELLS) * DIM;
    for (uint32_t d = 0; d < DIM; d++) /* rows are 128 more */
        asked->vector[d] = (float)near[d] - 128 + (float)prng_below(&prng, 9) - 4;
    asked->query = (struct query){.index = &f->index};
    row8_query_init(&asked->query.row8, &model, asked->vector, asked->units, asked->hi, asked->lo);
    for (uint32_t cell = 0; cell < CELLS; cell++) {
        float sum = 0;
        for (uint32_t d = 0; d < DIM; d++) {
            float apart = asked->vector[d] + 128 - f->rows[(size_t)cell * DIM + d];
            sum += apart * apart;
        }
        asked->right[cell] = sum;
    }
}

static uint32_t nearer_than(const struct asked *asked, float limit)
{
    uint32_t nearer = 0;
    for (uint32_t cell = 0; cell < CELLS; cell++)
        nearer += asked->right[cell] < limit;
    return nearer;
}

static int by_value(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void check_different(const uint32_t *cells, uint32_t count)
{
    uint32_t *sorted = malloc(count * sizeof *sorted);
    memcpy(sorted, cells, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_value);
    for (uint32_t i = 1; i < count; i++)
        assert_true(sorted[i - 1] < sorted[i]);
    assert_true(sorted[count - 1] < CELLS);
    free(sorted);
}

static void near_clumps_have_the_nearest_cells(void **state)
{
    struct fixture *f = *state;
    struct navigator *n = &f->navigator;
    struct asked *asked = malloc(sizeof *asked);
    uint32_t found = 0, nearest = 0, measured = 0;
    for (uint32_t q = 0; q < QUERIES; q++) {
        ask(asked, f, q);
        for (uint32_t cell = 0; cell < CELLS; cell++)
            n->cell_distance[cell] = -1;
        assert_int_equal(rank_nearest(n, &asked->query, WANTED), WANTED);
        check_different(n->cell_order, WANTED);
        for (uint32_t i = 0; i < WANTED; i++) {
            float right = asked->right[n->cell_order[i]];
            uint32_t nearer = nearer_than(asked, right);
            assert_true(fabsf(n->cell_distance[n->cell_order[i]] - right) <= 1e-3f * right + 4);
            found += nearer < WANTED;
            nearest += nearer < WANTED / 4;
        }
        for (uint32_t cell = 0; cell < CELLS; cell++)
            measured += n->cell_distance[cell] >= 0;
    }
    assert_true(found * 100 >= QUERIES * WANTED * 97);
    assert_true(nearest * 1000 >= QUERIES * WANTED / 4 * 995);
    assert_true(measured * 4 < QUERIES * CELLS * 3);
    free(asked);
}

static void all_cells_are_found_when_all_are_wanted(void **state)
{
    struct fixture *f = *state;
    struct asked *asked = malloc(sizeof *asked);
    ask(asked, f, QUERIES);
    const uint32_t wanted[] = {1, CELLS / 2, CELLS - 1, CELLS};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        assert_int_equal(rank_nearest(&f->navigator, &asked->query, wanted[i]), wanted[i]);
        check_different(f->navigator.cell_order, wanted[i]);
    }
    free(asked);
}

/* No number of equal cells is too much for the room there is. */
static void equal_cells_are_ranked(void **state)
{
    struct fixture *f = *state;
    struct asked *asked = malloc(sizeof *asked);
    uint8_t *bytes = f->bytes;
    ask(asked, f, QUERIES);
    for (uint32_t clump = 0; clump < CLUMPS; clump++)
        memset(bytes + (size_t)clump * 2 * DIM + DIM, 0, DIM); /* all steps */
    for (uint32_t clump = 1; clump < CLUMPS; clump++)
        memcpy(bytes + (size_t)clump * 2 * DIM, bytes, DIM);
    memset(f->excess, 0, CELLS * sizeof *f->excess);
    memset(f->middle, 0, CLUMPS * sizeof *f->middle);
    for (uint32_t wanted = 1; wanted < CELLS; wanted = wanted * 7 + 3) {
        assert_int_equal(rank_nearest(&f->navigator, &asked->query, wanted), wanted);
        check_different(f->navigator.cell_order, wanted);
    }
    free(asked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_clumps_have_the_nearest_cells),
        cmocka_unit_test(all_cells_are_found_when_all_are_wanted),
        cmocka_unit_test(equal_cells_are_ranked), /* the last: it changes the fixture */
    };
    return cmocka_run_group_tests(tests, make_fixture, free_fixture);
}
