/* The planner goes by operating points: which of the plans that fit is taken for which recall, and
 * that more memory is never worse. What points there are is up to the test; the index's own content
 * means nothing. */
#include "fathom_test.h"

#include <stdlib.h>

#include "folder.h"
#include "index.h"
#include "prng_unit.h"
#include "tiny_index.h"

static uint64_t opened_bytes(const char *dir, const struct fathom_open_options *options)
{
    struct fathom_index *index;
    struct fathom_ledger ledger;
    assert_int_equal(fathom_index_open(&index, dir, options, NULL), 0);
    fathom_index_get_ledger(index, &ledger);
    fathom_index_close(index);
    return ledger.total_bytes;
}

static void make_tiny(char dir[FOLDER_PATH_MAX], const struct tiny_options *options)
{
    struct tiny_index tiny;
    folder_make_fast(dir);
    tiny_make(&tiny, options);
    tiny_write_raw(&tiny, dir);
    tiny_free(&tiny);
}

#define INFLIGHT 16 /* where it does not matter */

/* The plan under a budget, if the index had these operating points. Of its level, *code_bytes.
 * inflight 0: as many as the budget is well spent on. */
static struct plan plan_for_recall(const char *dir, uint64_t budget, unsigned inflight,
                                   float recall, const struct operating_point *points,
                                   uint32_t count, uint32_t *code_bytes)
{
    struct fathom_open_options options = fathom_open_options_default();
    struct fathom_index *index;
    struct model model;
    struct plan plan;
    assert_int_equal(fathom_index_open(&index, dir, &options, NULL), 0);
    const struct section *section = superblock_find(&index->file.super, SECTION_MODEL);
    uint8_t *bytes = malloc(section->bytes);
    assert_int_equal(index_file_read(&index->file, section, 0, bytes, section->bytes, NULL), 0);
    assert_int_equal(model_decode(&model, bytes, section->bytes, &index->properties, dir, NULL), 0);
    options.dram_budget_bytes = budget;
    options.inflight = inflight;
    options.page_buffers = 8 * inflight;
    options.plan_recall = recall;
    struct plan_input input = {.super = &index->file.super,
                               .model = &model,
                               .points = points,
                               .point_count = count,
                               .options = &options,
                               .path = dir};
    options = plan_engines(&input);
    assert_int_equal(plan_make(&plan, &input, NULL), 0);
    *code_bytes = model.planes.levels[plan.level].code_bytes;
    model_fini(&model);
    free(bytes);
    fathom_index_close(index);
    return plan;
}

static struct plan plan_by_points(const char *dir, uint64_t budget,
                                  const struct operating_point *points, uint32_t count)
{
    uint32_t code_bytes;
    return plan_for_recall(dir, budget, INFLIGHT, 0, points, count, &code_bytes);
}

static void operating_points_decide_between_graph_and_cells(void **state)
{
    const struct tiny_options shape = {.rows = 5000,
                                       .dim = 32,
                                       .dtype = FATHOM_F32,
                                       .metric = FATHOM_METRIC_L2,
                                       .code_dim = 32,
                                       .degree = 20};
    const struct fathom_open_options options = fathom_open_options_default();
    char dir[FOLDER_PATH_MAX];
    struct operating_point points[] = {
        {.navigator = FATHOM_NAVIGATOR_GRAPH, .code_bytes = 8, .k = 10, .search_list = 20},
        {.navigator = FATHOM_NAVIGATOR_CELLS, .code_bytes = 8, .k = 10, .search_list = 20}};
    (void)state;
    make_tiny(dir, &shape);
    const uint64_t budget = opened_bytes(dir, &options) - 1;
    for (int cheap = 0; cheap < 2; cheap++) {
        for (int i = 0; i < 2; i++) {
            points[i].plain.recall = points[i].plain.recall_low = 0.98f;
            points[i].plain.reads = i == cheap ? 2 : 40; /* its two cells make scans long */
        }
        struct plan plan = plan_by_points(dir, budget, points, 2);
        assert_false(plan.rows8);
        assert_int_equal(plan.navigator, points[cheap].navigator);
        /* What does not reach the usual target is no bargain. */
        points[cheap].plain.recall = points[cheap].plain.recall_low = 0.9f;
        plan = plan_by_points(dir, budget, points, 2);
        assert_int_equal(plan.navigator, points[1 - cheap].navigator);
    }
    folder_remove(dir);
}

#define SCAN_BYTES 8 /* of its codes on pages */

/* An index where codes of 4 bytes fit *budget, those of 8 do not, but may be read. */
static void make_two_codes(char dir[FOLDER_PATH_MAX], uint64_t *budget)
{
    const struct tiny_options many = {.rows = 60000,
                                      .dim = 128,
                                      .dtype = FATHOM_U8,
                                      .metric = FATHOM_METRIC_L2,
                                      .code_dim = 32,
                                      .degree = 20};
    struct fathom_open_options options = fathom_open_options_default();
    make_tiny(dir, &many);
    options.navigator = FATHOM_NAVIGATOR_CELLS;
    options.code_bytes = 8;
    *budget = opened_bytes(dir, &options) - 4096;
}

static struct operating_point cells_point(uint32_t code_bytes, float recall, float reads)
{
    return (struct operating_point){.navigator = FATHOM_NAVIGATOR_CELLS,
                                    .code_bytes = code_bytes,
                                    .k = 10,
                                    .search_list = 20,
                                    .plain = {recall, recall, reads}};
}

/* Which it is depends on what the short codes reach, and at what price. */
static void operating_points_decide_whether_codes_are_read(void **state)
{
    char dir[FOLDER_PATH_MAX];
    uint64_t budget;
    (void)state;
    make_two_codes(dir, &budget);
    const struct {
        float reached[2];
        uint32_t first, count; /* of points */
        bool scan_reads;
    } cases[] = {
        {{0.98f, 0.98f}, 0, 2, false},   /* as good, without reads of codes */
        {{0.975f, 0.98f}, 0, 2, false},  /* as good, for all that is known, and cheaper */
        {{0.97f, 0.98f}, 0, 2, true},    /* cheaper, but more memory would reach less */
        {{0.985f, 0.999f}, 0, 2, false}, /* nobody counts on more than .99 */
        {{0.91f, 0.98f}, 0, 2, true},    /* too short */
        {{0, 0.98f}, 1, 1, true},        /* nobody knows what the short ones reach */
        {{0, 0}, 0, 0, false},           /* nor what the long ones do */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct operating_point points[] = {cells_point(4, cases[i].reached[0], 20),
                                           cells_point(8, cases[i].reached[1], 20)};
        struct plan plan = plan_by_points(
            dir, budget, cases[i].count ? points + cases[i].first : NULL, cases[i].count);
        if (plan.scan_reads != cases[i].scan_reads)
            fail_msg("case %zu", i);
        assert_int_equal(plan.navigator, FATHOM_NAVIGATOR_CELLS);
        assert_true(plan.index_bytes + plan.scratch_bytes <= budget);
        assert_true(plan.scan_reads ? plan.scan_pages > 0 : plan.scan_pages == 0);
    }
    folder_remove(dir);
}

static void a_plan_is_for_the_recall_that_will_be_asked(void **state)
{
    char dir[FOLDER_PATH_MAX];
    uint64_t budget;
    (void)state;
    make_two_codes(dir, &budget);
    const struct operating_point points[] = {cells_point(4, 0.96f, 20), cells_point(8, 0.98f, 20)};
    const struct {
        float recall;
        bool scan_reads;
    } cases[] = {
        {0, true},       /* any may be asked */
        {0.5f, false},   /* both reach it, and the short codes are cheaper */
        {0.96f, false},  /* just */
        {0.962f, false}, /* for so little less than is promised they are cheap enough */
        {0.964f, true},  /* no more */
        {0.9999f, true}, /* none does: what comes nearest */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t code_bytes;
        struct plan plan =
            plan_for_recall(dir, budget, INFLIGHT, cases[i].recall, points, 2, &code_bytes);
        if (plan.scan_reads != cases[i].scan_reads)
            fail_msg("case %zu", i);
    }
    folder_remove(dir);
}

/* With all in memory, too. */
static void a_graph_that_leads_nowhere_gives_way(void **state)
{
    char dir[FOLDER_PATH_MAX];
    uint64_t budget;
    (void)state;
    make_two_codes(dir, &budget);
    struct operating_point points[] = {cells_point(128, 0, 0), cells_point(8, 0.98f, 20)};
    points[0].navigator = FATHOM_NAVIGATOR_GRAPH; /* and 8-bit rows */
    const struct {
        float reached, asked;
        bool rows8;
    } cases[] = {
        {0.75f, 0.95f, false}, {0.75f, 0, false},     {0.75f, 0.7f, true},
        {0.96f, 0.95f, true},  {0.948f, 0.95f, true}, {0.979f, 0.99f, true}, /* as good */
        {0.97f, 0.99f, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t code_bytes;
        points[0].plain.recall = points[0].plain.recall_low = cases[i].reached;
        struct plan plan =
            plan_for_recall(dir, 0, INFLIGHT, cases[i].asked, points, 2, &code_bytes);
        if (plan.rows8 != cases[i].rows8)
            fail_msg("case %zu", i);
        assert_true(plan.rows8 || plan.navigator == FATHOM_NAVIGATOR_CELLS);
    }
    folder_remove(dir);
}

static float reached(const struct operating_point *points, uint32_t count, const struct plan *plan,
                     uint32_t code_bytes)
{
    struct operating_point found[POINTS_RESIDENT_MAX];
    const struct points_cost cost = {.list_us = 1, .read_us = 9};
    const struct points_residency residency = {
        .navigator = plan->navigator,
        .code_bytes = plan->rows8 ? 128 : code_bytes,
        .unlike_bytes =
            plan->navigator == FATHOM_NAVIGATOR_CELLS && !plan->scan_reads ? SCAN_BYTES : 0};
    uint32_t found_count = points_for(points, count, &residency, found);
    return points_choose(found, found_count, 10, 1, FATHOM_RERANK_AUTO, &cost).recall_low;
}

/* Whatever the points say: each step of memory reaches what the steps before it did. */
static void more_memory_never_reaches_less(void **state)
{
    char dir[FOLDER_PATH_MAX];
    uint64_t budget, most;
    const struct fathom_open_options all = {
        .threads = 1, .inflight = 1, .page_buffers = FATHOM_PAGE_BUFFERS_MIN};
    struct fathom_open_options none = all;
    struct fathom_outlook outlook;
    struct prng prng;
    unsigned scans = 0;
    (void)state;
    make_two_codes(dir, &budget);
    none.dram_budget_bytes = 1;
    assert_int_equal(fathom_index_outlook(dir, &none, &outlook, NULL), FATHOM_EBUDGET);
    uint64_t least = outlook.least_bytes + 4096; /* of points, which it does not have yet */
    most = opened_bytes(dir, &all) - 1;          /* codes, not rows */
    prng_init(&prng, 1, 0);
    for (unsigned round = 0; round < 30; round++) {
        struct operating_point points[4];
        for (unsigned i = 0; i < 4; i++) {
            points[i] = cells_point(i % 2 ? 8 : 4, 0.9f + 0.09f * (float)prng_unit(&prng),
                                    40 * (float)prng_unit(&prng));
            if (i < 2)
                points[i].navigator = FATHOM_NAVIGATOR_GRAPH;
        }
        float best = 0;
        for (unsigned step = 0; step <= 12; step++) {
            uint32_t code_bytes;
            struct plan plan = plan_for_recall(dir, least + (most - least) * step / 12, 0, 0,
                                               points, 4, &code_bytes);
            float now = reached(points, 4, &plan, code_bytes);
            if (now < best - 0.0061f)
                fail_msg("round %u, step %u: %.4f after %.4f", round, step, (double)now,
                         (double)best);
            best = now > best ? now : best;
            scans += plan.scan_reads;
        }
    }
    assert_in_range(scans, 1, 30 * 13 - 1);
    folder_remove(dir);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(operating_points_decide_between_graph_and_cells),
        cmocka_unit_test(operating_points_decide_whether_codes_are_read),
        cmocka_unit_test(a_plan_is_for_the_recall_that_will_be_asked),
        cmocka_unit_test(a_graph_that_leads_nowhere_gives_way),
        cmocka_unit_test(more_memory_never_reaches_less),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
