/* What training promises of the codes: axes, an allotment that follows them, errors that fall with
 * bits. */
#include "builder_support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "encode.h"
#include "format.h"
#include "heat.h"
#include "lists.h"
#include "page.h"
#include "prng.h"
#include "train.h"

struct training {
    struct ordered ordered;
    struct graph graph;
    struct trained trained;
};

static struct training train(struct rows8 rows, uint32_t code_bits, unsigned threads)
{
    struct training t = {.ordered = ordered_make(rows, threads)};
    struct crew crew = crew_of(threads);
    struct graph_options options = {.degree = 16, .list = 32, .alpha = 1.2, .seed = 1};
    assert_int_equal(graph_build(&t.graph, &crew, &t.ordered.rows, t.ordered.cells.first,
                                 t.ordered.cells.count, &options, NULL),
                     0);
    const struct train_rows all = {
        .count = t.ordered.rows.count, .rows = &t.ordered.rows, .graph = &t.graph};
    assert_int_equal(train_build(&t.trained, &crew, &all, &t.ordered.cells, code_bits, NULL), 0);
    return t;
}

static void training_fini(struct training *t)
{
    train_fini(&t->trained);
    graph_fini(&t->graph);
    ordered_fini(&t->ordered);
}

/* Rows that vary much in the last dimensions and little in the first. */
static struct rows8 uneven_rows(uint32_t count, uint32_t dim)
{
    struct rows8 rows = rows_clustered(count, dim, 1, 30, 5);
    uint8_t *row = malloc(dim);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t d = 0; d < dim; d++)
            row[d] = (uint8_t)(128 + ((int)rows8_at(&rows, i)[d] - 128) * (int)(d + 1) / (int)dim);
        rows8_set(&rows, i, row);
    }
    free(row);
    return rows;
}

static void axes_are_unit_vectors_at_right_angles_by_falling_variance(void **state)
{
    (void)state;
    struct training t = train(uneven_rows(3000, 20), 6, 2);
    const struct planes_model *planes = &t.trained.planes;
    assert_int_equal(planes->code_dim, 24);
    for (uint32_t a = 0; a < 20; a++) {
        for (uint32_t b = 0; b <= a; b++) {
            double dot = 0;
            for (uint32_t d = 0; d < 20; d++)
                dot += (double)planes->rotation[a * 20 + d] * planes->rotation_scale[a] *
                       planes->rotation[b * 20 + d] * planes->rotation_scale[b];
            assert_true(fabs(dot - (a == b)) < 0.04);
        }
        assert_true(a == 0 || t.trained.weight[a] <= t.trained.weight[a - 1]);
        assert_true(planes->sigma[a] > 0);
    }
    for (uint32_t d = 20; d < 24; d++)
        assert_true(planes->sigma[d] == 0);
    training_fini(&t);
}

static void levels_rise_and_their_errors_fall(void **state)
{
    (void)state;
    struct training t = train(rows_clustered(4000, 64, 7, 25, 5), 6, 2);
    const struct planes_model *planes = &t.trained.planes;
    assert_in_range(planes->level_count, 10, PLANES_LEVELS_MAX);
    assert_int_equal(planes->order_count, 6 * 64 / 8);
    assert_int_equal(planes->levels[planes->level_count - 1].code_bytes, planes->order_count);
    for (uint32_t l = 1; l < planes->level_count; l++) {
        assert_true(planes->levels[l].code_bytes > planes->levels[l - 1].code_bytes);
        assert_true(planes->levels[l].kappa < planes->levels[l - 1].kappa);
    }
    assert_true(planes->levels[planes->level_count - 1].kappa > 0);
    training_fini(&t);
}

/* Estimates of near rows at the given level against the truth: bias and spread in units of the
 * predicted width. */
static void measure(const struct training *t, uint32_t l, double *bias, double *spread)
{
    const struct rows8 *rows = &t->ordered.rows;
    const struct planes_model *planes = &t->trained.planes;
    const struct planes_level *level = &planes->levels[l];
    struct residual query = {0}, near = {0};
    struct planes_query prepared;
    int8_t hi[64], lo[64];
    uint8_t sentinel[64], code[64];
    float y[64], units[64];
    struct kernel_codes plan;
    double sum = 0, squares = 0;
    uint32_t count = 0;
    assert_int_equal(residual_init(&near, rows->dim, planes->code_dim), 0);
    planes_kernel_codes(planes, level, sentinel, &plan);
    for (uint32_t row = 0; row < rows->count; row += 7) {
        const uint32_t *list = graph_list(&t->graph, row);
        for (uint32_t d = 0; d < rows->dim; d++)
            units[d] = (float)((int)rows8_at(rows, row)[d] - 128);
        planes_query_init(&prepared, planes, level, units, y, hi, lo);
        for (uint32_t i = 1; i <= list[0]; i += 3) {
            const uint8_t *centroid =
                rows8_at(&t->ordered.cells.centroids, cell_of_row(&t->ordered.cells, list[i]));
            residual_set_cell(&near, planes, centroid, rows->dim);
            residual_set_row(&near, &t->trained, rows8_at(rows, list[i]), centroid, rows->dim);
            struct planes_sums sums = {0};
            planes_sums_advance(planes, NULL, level, near.bits6, near.y, near.rotated_centroid,
                                &sums);
            uint8_t packed[64 + KERNEL_CODE_SLACK] = {0};
            planes_pack_code(planes, near.bits6, code);
            planes_repack(planes, level, code, planes->order_count, packed, 1);
            float score, estimate,
                base = (float)rows8_distance(rows8_at(rows, row), centroid, rows->dim);
            uint32_t factors = planes_pack_factors(level, &sums, near.norm_sq);
            struct planes_factors f = planes_unpack_factors(level, factors);
            kernels_get()->codes_rows(&score, &plan, &prepared.weights, packed, 1);
            planes_estimate_cell(&estimate, level, &prepared, base, &score, &factors,
                                 1); /* little-endian: its first two bytes too */
            double truth = rows8_distance(rows8_at(rows, row), rows8_at(rows, list[i]), rows->dim);
            double error = (estimate - truth) / (level->kappa * f.scale * sqrt(base));
            sum += error;
            squares += error * error;
            count++;
        }
    }
    residual_fini(&near);
    residual_fini(&query);
    *bias = sum / count;
    *spread = sqrt(squares / count - *bias * *bias);
}

static void kappa_is_the_spread_of_the_estimates_that_a_search_makes(void **state)
{
    (void)state;
    struct training t = train(rows_clustered(4000, 48, 7, 25, 6), 6, 2);
    for (uint32_t l = 0; l < t.trained.planes.level_count; l += 3) {
        double bias, spread;
        measure(&t, l, &bias, &spread);
        /* Where dimensions have no bit, near rows share what is not seen, and all estimates are too
         * high alike; below 0.6 bits a dimension, by more than their spread. */
        if (t.trained.planes.levels[l].code_bytes * 8 > 0.6 * 48)
            assert_true(fabs(bias) < 1);
        assert_true(spread > 0.8 && spread < 1.25);
    }
    training_fini(&t);
}

static void residuals_of_any_length_have_a_scale_near_one(void **state)
{
    (void)state;
    /* Residuals of about 1,500 steps: the codec takes a code for blind when its scale is above
     * 1,000. */
    struct training t = train(rows_clustered(400, 900, 1, 50, 6), 6, 2);
    const struct planes_model *planes = &t.trained.planes;
    const struct planes_level *level = &planes->levels[planes->level_count - 1];
    struct residual residual = {0};
    assert_int_equal(residual_init(&residual, 900, planes->code_dim), 0);
    for (uint32_t row = 0; row < 400; row += 5) {
        const uint8_t *centroid =
            rows8_at(&t.ordered.cells.centroids, cell_of_row(&t.ordered.cells, row));
        residual_set_cell(&residual, planes, centroid, 900);
        residual_set_row(&residual, &t.trained, rows8_at(&t.ordered.rows, row), centroid, 900);
        struct planes_sums sums = {0};
        planes_sums_advance(planes, NULL, level, residual.bits6, residual.y,
                            residual.rotated_centroid, &sums);
        struct planes_factors f = planes_factors(&sums, residual.norm_sq);
        assert_true(f.scale > 0.7f && f.scale < 1.4f);
    }
    residual_fini(&residual);
    training_fini(&t);
}

static void code_bits_cap_the_code(void **state)
{
    (void)state;
    struct training t = train(rows_clustered(1000, 32, 3, 25, 6), 2, 1);
    const struct planes_model *planes = &t.trained.planes;
    assert_int_equal(planes->order_count, 2 * 32 / 8);
    assert_int_equal(planes->levels[planes->level_count - 1].code_bytes, planes->order_count);
    training_fini(&t);
}

static void degenerate_rows_still_train(void **state)
{
    (void)state;
    struct training equal = train(rows_equal(300, 3), 6, 2);
    training_fini(&equal);
    struct training one = train(rows_clustered(1, 1, 1, 0, 1), 1, 2);
    training_fini(&one);
    struct training two = train(rows_clustered(2, 5, 2, 0, 1), 6, 1);
    training_fini(&two);
}

static struct graph graph_copy(const struct graph *graph)
{
    struct graph copy;
    assert_int_equal(graph_init(&copy, graph->rows, graph->degree_max), 0);
    assert_int_equal(copy.stride, graph->stride);
    memcpy(copy.lists, graph->lists, graph->rows * graph->stride * sizeof *copy.lists);
    return copy;
}

static void encoding_does_not_depend_on_the_threads(void **state)
{
    (void)state;
    struct training t = train(rows_clustered(3000, 40, 7, 25, 6), 6, 2);
    struct encoded_codes codes[2];
    struct encoded_lists lists[2];
    uint32_t *heat[2];
    const struct rows8 none = {0};
    for (unsigned i = 0; i < 2; i++) {
        struct crew crew = crew_of(1 + 2 * i);
        const struct code_source source = {&t.trained, &t.ordered.rows, &t.ordered.cells};
        struct graph graph = graph_copy(&t.graph); /* encoding uses it up */
        struct list_slots slots = {.graph = &graph};
        assert_int_equal(encode_codes(&codes[i], &crew, &source, NULL, NULL), 0);
        assert_int_equal(heat_measure(&heat[i], &crew, &t.graph, &t.ordered.rows, &none, NULL), 0);
        assert_int_equal(encode_lists(&lists[i], &crew, &slots, heat[i], NULL, NULL), 0);
        assert_null(graph.lists);
    }
    assert_memory_equal(codes[0].codes, codes[1].codes, codes[0].bytes);
    assert_memory_equal(codes[0].factors, codes[1].factors, codes[0].factor_bytes);
    assert_int_equal(lists[0].bytes, lists[1].bytes);
    assert_int_equal(lists[0].page_count, lists[1].page_count);
    assert_memory_equal(lists[0].pages, lists[1].pages, lists[0].page_count * PAGE_PAYLOAD);
    assert_memory_equal(heat[0], heat[1], 3000 * sizeof *heat[0]);
    assert_memory_equal(lists[0].heat, lists[1].heat, 3000);
    for (unsigned i = 0; i < 2; i++) {
        encoded_codes_fini(&codes[i]);
        encoded_lists_fini(&lists[i]);
        mem_free(heat[i]);
    }
    training_fini(&t);
}

/* What lies on a page is what was in the graph. */
static void encoded_lists_hold_the_neighbours_of_the_graph(void **state)
{
    (void)state;
    struct training t = train(rows_clustered(3000, 40, 7, 25, 6), 6, 2);
    struct crew crew = crew_of(2);
    struct graph graph = graph_copy(&t.graph);
    struct list_slots slots = {.graph = &graph};
    struct encoded_lists lists;
    const struct rows8 none = {0};
    uint32_t *heat, page = 0, ids[LISTS_DEGREE_MAX + 3];
    assert_int_equal(heat_measure(&heat, &crew, &t.graph, &t.ordered.rows, &none, NULL), 0);
    assert_int_equal(encode_lists(&lists, &crew, &slots, heat, NULL, NULL), 0);
    for (uint32_t row = 0; row < 3000; row++) {
        const uint32_t *list = graph_list(&t.graph, row);
        size_t bytes;
        uint64_t sums[2] = {0};
        page += lists.page_first[page + 1] == row;
        uint32_t first = lists.page_first[page];
        uint8_t room[PAGE_PAYLOAD + LISTS_SLACK] = {0};
        memcpy(room, lists.pages + (size_t)page * PAGE_PAYLOAD, PAGE_PAYLOAD);
        const uint8_t *at = list_page_find(room, PAGE_PAYLOAD, lists.page_first[page + 1] - first,
                                           lists.length_bytes, row - first, &bytes);
        assert_non_null(at);
        assert_int_equal(list_decode(row, at, bytes, 3000, LISTS_DEGREE_MAX, ids), list[0]);
        for (uint32_t i = 0; i < list[0]; i++) {
            sums[0] += (uint64_t)ids[i] * ids[i];
            sums[1] += (uint64_t)list[1 + i] * list[1 + i];
        }
        assert_int_equal(sums[0], sums[1]);
    }
    encoded_lists_fini(&lists);
    mem_free(heat);
    training_fini(&t);
}

/* Hotter rows come first and equals in their order, whatever part of a heat tells them apart. */
static void ranks_are_shares_of_bytes_from_the_hottest_on(void **state)
{
    (void)state;
    enum { ROWS = 5000 };
    static uint32_t heat[ROWS];
    static uint16_t lengths[ROWS];
    static uint8_t ranks[ROWS];
    struct crew crew = crew_of(1);
    uint64_t bytes = 0;
    for (uint32_t row = 0; row < ROWS; row++) {
        heat[row] = row % 7 == 0 ? row % 11 : (row * 2654435761u) >> row % 32;
        lengths[row] = (uint16_t)(1 + row % 61);
        bytes += lengths[row];
    }
    assert_int_equal(heat_ranks(ranks, &crew, heat, lengths, ROWS, bytes), 0);
    for (uint32_t row = 0; row < ROWS; row++) {
        uint64_t before = 0;
        for (uint32_t other = 0; other < ROWS; other++)
            if (heat[other] > heat[row] || (heat[other] == heat[row] && other < row))
                before += lengths[other];
        assert_int_equal(ranks[row], before * FORMAT_HEAT_RANKS / bytes);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(axes_are_unit_vectors_at_right_angles_by_falling_variance),
    cmocka_unit_test(levels_rise_and_their_errors_fall),
    cmocka_unit_test(kappa_is_the_spread_of_the_estimates_that_a_search_makes),
    cmocka_unit_test(residuals_of_any_length_have_a_scale_near_one),
    cmocka_unit_test(code_bits_cap_the_code),
    cmocka_unit_test(degenerate_rows_still_train),
    cmocka_unit_test(encoding_does_not_depend_on_the_threads),
    cmocka_unit_test(encoded_lists_hold_the_neighbours_of_the_graph),
    cmocka_unit_test(ranks_are_shares_of_bytes_from_the_hottest_on),
};

FATHOM_TEST_MAIN(tests)
