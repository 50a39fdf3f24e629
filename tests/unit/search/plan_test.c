/* The planner keeps its word: what it chooses fits the budget, the least that it names is enough,
 * and less is refused. */
#include "fathom_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "folder.h"
#include "index.h"
#include "tiny_index.h"

/* Indexes of every shape; what they hold means nothing, and the planner does not look at it. */
static const struct tiny_options shapes[] = {
    {.rows = 5000,
     .dim = 32,
     .dtype = FATHOM_F32,
     .metric = FATHOM_METRIC_L2,
     .code_dim = 32,
     .degree = 20},
    {.rows = 5000,
     .dim = 32,
     .dtype = FATHOM_U8,
     .metric = FATHOM_METRIC_L2,
     .code_dim = 32,
     .degree = 20},
    {.rows = 900,
     .dim = 300,
     .dtype = FATHOM_F16,
     .metric = FATHOM_METRIC_COS,
     .code_dim = 304,
     .degree = 32},
    {.rows = 900,
     .dim = 300,
     .dtype = FATHOM_I8,
     .metric = FATHOM_METRIC_IP,
     .code_dim = 304,
     .points = 40},
    {.rows = 1, .dim = 1, .dtype = FATHOM_F32, .metric = FATHOM_METRIC_L2},
    {.rows = 33,
     .dim = 4096,
     .dtype = FATHOM_F32,
     .metric = FATHOM_METRIC_IP,
     .code_dim = 64,
     .points = 3},
};
#define SHAPES (sizeof shapes / sizeof shapes[0])

static int make_folders(void **state)
{
    return tiny_folders_make(state, shapes, SHAPES);
}

/* ---- */

/* Opens, and checks what every open index must keep to. Returns the status. */
static int open_budget(const char *dir, struct fathom_open_options options, uint64_t budget,
                       struct fathom_ledger *ledger, struct fathom_index_info *info,
                       struct fathom_error *err)
{
    struct fathom_index *index;
    options.dram_budget_bytes = budget;
    *err = (struct fathom_error){0};
    int status = fathom_index_open(&index, dir, &options, err);
    if (status) {
        assert_null(index);
        return status;
    }
    fathom_index_get_ledger(index, ledger);
    fathom_index_get_info(index, info);
    uint64_t sum = 0;
    for (unsigned i = 0; i < ledger->part_count; i++)
        sum += ledger->parts[i].bytes;
    assert_int_equal(sum, ledger->index_bytes);
    assert_int_equal(ledger->index_bytes + ledger->scratch_bytes, ledger->total_bytes);
    assert_int_equal(ledger->budget_bytes, budget);
    if (budget && ledger->total_bytes > budget)
        fail_msg("%llu bytes are kept under a budget of %llu",
                 (unsigned long long)ledger->total_bytes, (unsigned long long)budget);
    assert_true(ledger->index_bytes <= index->plan.index_bytes);
    int64_t slack = atomic_load(&index->slack);
    assert_true(budget ? slack == (int64_t)(budget - ledger->total_bytes) : slack == INT64_MAX);
    fathom_index_close(index);
    return 0;
}

/* The least budget, as the message of a refusal says. */
static uint64_t least_of(const char *dir, struct fathom_open_options options)
{
    struct fathom_ledger ledger;
    struct fathom_index_info info;
    struct fathom_error err;
    unsigned long long least = 0;
    assert_int_equal(open_budget(dir, options, 1, &ledger, &info, &err), FATHOM_EBUDGET);
    const char *said = strstr(err.msg, "the least is ");
    if (!said || sscanf(said, "the least is %llu", &least) != 1 || !strstr(err.msg, dir))
        fail_msg("no least budget in: %s", err.msg);
    return least;
}

static void check_budgets(const char *dir, struct fathom_open_options options)
{
    struct fathom_ledger ledger, all;
    struct fathom_index_info info;
    struct fathom_error err;
    assert_int_equal(open_budget(dir, options, 0, &all, &info, &err), 0);
    uint64_t least = least_of(dir, options), most = all.total_bytes + 4096;
    assert_int_equal(open_budget(dir, options, least, &ledger, &info, &err), 0);
    assert_int_equal(open_budget(dir, options, least - 1, &ledger, &info, &err), FATHOM_EBUDGET);
    for (int step = 0; step <= 60; step++) {
        uint64_t budget = least + (most - least) * step / 60 + (step == 60 ? 0 : step % 7);
        if (open_budget(dir, options, budget, &ledger, &info, &err) != 0)
            fail_msg("a budget of %llu, above the least %llu: %s", (unsigned long long)budget,
                     (unsigned long long)least, err.msg);
    }
}

/* ---- */

static void what_is_chosen_fits_every_budget(void **state)
{
    const struct tiny_folders *fixture = *state;
    for (size_t i = 0; i < SHAPES; i++)
        for (int navigator = FATHOM_NAVIGATOR_AUTO; navigator <= FATHOM_NAVIGATOR_CELLS;
             navigator++) {
            struct fathom_open_options options = fathom_open_options_default();
            options.navigator = navigator;
            check_budgets(fixture->dirs[i], options);
        }
}

/* The outlook is what an open then does, and no open is needed for it. */
static void the_outlook_is_what_an_open_keeps(void **state)
{
    const struct tiny_folders *fixture = *state;
    for (size_t i = 0; i < SHAPES; i++) {
        struct fathom_open_options options = fathom_open_options_default();
        uint64_t least = least_of(fixture->dirs[i], options);
        for (uint64_t more = 0; more < 400000; more += 20000) {
            struct fathom_outlook outlook;
            struct fathom_ledger ledger;
            struct fathom_index_info info;
            struct fathom_error err;
            options.dram_budget_bytes = least + more;
            assert_int_equal(fathom_index_outlook(fixture->dirs[i], &options, &outlook, &err), 0);
            assert_int_equal(
                open_budget(fixture->dirs[i], options, least + more, &ledger, &info, &err), 0);
            assert_int_equal(outlook.least_bytes, least);
            assert_int_equal(outlook.raw_bytes, info.raw_bytes);
            assert_int_equal(outlook.scratch_bytes, ledger.scratch_bytes);
            assert_in_range(ledger.total_bytes, 1, outlook.total_bytes);
            assert_true(outlook.total_bytes <= least + more);
        }
        struct fathom_outlook outlook;
        struct fathom_error err;
        options.dram_budget_bytes = least - 1;
        assert_int_equal(fathom_index_outlook(fixture->dirs[i], &options, &outlook, &err),
                         FATHOM_EBUDGET);
        assert_int_equal(outlook.least_bytes, least);
        assert_int_equal(outlook.total_bytes, 0);
    }
}

static void a_share_is_of_the_vectors_as_f32(void **state)
{
    const struct tiny_folders *fixture = *state;
    struct fathom_error err;
    for (size_t i = 0; i < SHAPES; i++) {
        struct fathom_open_options options = fathom_open_options_default();
        struct fathom_index_info info;
        struct fathom_ledger by_share, by_bytes;
        struct fathom_index *index;
        options.dram_budget_share = 1e6; /* of one row of one dimension too */
        assert_int_equal(fathom_index_open(&index, fixture->dirs[i], &options, &err), 0);
        fathom_index_get_info(index, &info);
        fathom_index_get_ledger(index, &by_share);
        fathom_index_close(index);
        uint64_t bytes = 1000000 * info.rows * info.dim * sizeof(float);
        assert_int_equal(by_share.budget_bytes, bytes);
        options.dram_budget_share = 0;
        assert_int_equal(open_budget(fixture->dirs[i], options, bytes, &by_bytes, &info, &err), 0);
        assert_int_equal(by_share.total_bytes, by_bytes.total_bytes);
        options.dram_budget_share = 1e-9; /* less than a byte is not the same as no bound */
        assert_int_equal(fathom_index_open(&index, fixture->dirs[i], &options, &err),
                         FATHOM_EBUDGET);
        static const double wrong[] = {-0.1, NAN, INFINITY};
        for (size_t j = 0; j < sizeof wrong / sizeof *wrong; j++) {
            options.dram_budget_share = wrong[j];
            assert_int_equal(fathom_index_open(&index, fixture->dirs[i], &options, &err),
                             FATHOM_EARGUMENT);
        }
        options.dram_budget_share = 1;
        options.dram_budget_bytes = bytes;
        assert_int_equal(fathom_index_open(&index, fixture->dirs[i], &options, &err),
                         FATHOM_EARGUMENT);
    }
}

/* A graph that is forced takes all lists when they fit, and otherwise the more of them the more
 * room its codes leave. */
static void a_forced_graph_keeps_as_many_lists_as_fit(void **state)
{
    /* Lists of more bytes than the scratch of a walk, or it would never be worth it. */
    const struct tiny_options many = {.rows = 60000,
                                      .dim = 16,
                                      .dtype = FATHOM_U8,
                                      .metric = FATHOM_METRIC_L2,
                                      .code_dim = 16,
                                      .degree = 20};
    struct fathom_open_options options = {
        .threads = 1, .inflight = 1, .navigator = FATHOM_NAVIGATOR_GRAPH};
    struct fathom_ledger ledger;
    struct fathom_index_info info;
    struct fathom_error err;
    struct tiny_index tiny;
    char dir[FOLDER_PATH_MAX];
    (void)state;
    folder_make_fast(dir);
    tiny_make(&tiny, &many);
    tiny_write_raw(&tiny, dir);
    tiny_free(&tiny);
    uint64_t least = least_of(dir, options), lists = 0, step = 50000;
    unsigned partly = 0, bits = 0;
    assert_int_equal(open_budget(dir, options, 0, &ledger, &info, &err), 0);
    assert_int_equal(info.resident_lists, info.rows);
    uint64_t most = ledger.total_bytes + step;
    for (uint64_t budget = least; budget < most; budget += step) {
        assert_int_equal(open_budget(dir, options, budget, &ledger, &info, &err), 0);
        assert_int_equal(info.navigator, FATHOM_NAVIGATOR_GRAPH);
        assert_true(info.code_bits > bits || info.resident_lists >= lists);
        bits = info.code_bits;
        partly += info.resident_lists > 0 && info.resident_lists < info.rows;
        lists = info.resident_lists;
    }
    assert_int_equal(lists, info.rows);
    assert_true(partly > 10);
    folder_remove(dir);
}

static void a_share_of_lists_is_the_graphs_alone(void **state)
{
    const struct tiny_folders *fixture = *state;
    const struct {
        float share;
        enum fathom_navigator navigator;
        int status;
    } cases[] = {{0.5f, FATHOM_NAVIGATOR_AUTO, 0},
                 {1, FATHOM_NAVIGATOR_AUTO, 0},
                 {0.5f, FATHOM_NAVIGATOR_CELLS, FATHOM_EARGUMENT},
                 {-0.1f, FATHOM_NAVIGATOR_AUTO, FATHOM_EARGUMENT},
                 {1.1f, FATHOM_NAVIGATOR_AUTO, FATHOM_EARGUMENT},
                 {NAN, FATHOM_NAVIGATOR_AUTO, FATHOM_EARGUMENT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fathom_open_options options = fathom_open_options_default();
        struct fathom_ledger ledger;
        struct fathom_index_info info;
        struct fathom_error err;
        options.list_share = cases[i].share;
        options.navigator = cases[i].navigator;
        assert_int_equal(open_budget(fixture->dirs[0], options, 0, &ledger, &info, &err),
                         cases[i].status);
        if (cases[i].status == 0) {
            assert_int_equal(info.navigator, FATHOM_NAVIGATOR_GRAPH);
            assert_in_range(info.resident_lists, 0.98 * cases[i].share * (double)info.rows,
                            1.01 * cases[i].share * (double)info.rows + 1); /* of bytes */
        }
    }
}

static void scratch_grows_with_threads_and_queries_in_flight(void **state)
{
    const struct tiny_folders *fixture = *state;
    uint64_t before = 0;
    for (unsigned threads = 1; threads <= 4; threads *= 2)
        for (unsigned inflight = 1; inflight <= 64; inflight *= 8) {
            struct fathom_open_options options = fathom_open_options_default();
            struct fathom_ledger ledger;
            struct fathom_index_info info;
            struct fathom_error err;
            options.threads = threads;
            options.inflight = inflight;
            check_budgets(fixture->dirs[0], options);
            assert_int_equal(open_budget(fixture->dirs[0], options, 0, &ledger, &info, &err), 0);
            if (inflight > 1)
                assert_true(ledger.scratch_bytes > before);
            before = ledger.scratch_bytes;
        }
}

static void scratch_of_two_threads_is_small(void **state)
{
    const struct tiny_folders *fixture = *state;
    struct fathom_open_options options = fathom_open_options_default();
    struct fathom_ledger ledger;
    struct fathom_index_info info;
    struct fathom_error err;
    options.threads = 2;
    options.inflight = 16;
    assert_int_equal(open_budget(fixture->dirs[0], options, 0, &ledger, &info, &err), 0);
    assert_in_range(ledger.scratch_bytes, 1, 8 << 20);
}

static void without_a_budget_the_rows_are_resident_unless_points_speak_against_it(void **state)
{
    const struct tiny_folders *fixture = *state;
    for (size_t i = 0; i < SHAPES; i++) {
        struct fathom_ledger ledger;
        struct fathom_index_info info;
        struct fathom_error err;
        if (shapes[i].points)
            continue; /* which are made up; plan_points_test.c has such as mean something */
        assert_int_equal(
            open_budget(fixture->dirs[i], fathom_open_options_default(), 0, &ledger, &info, &err),
            0);
        assert_int_equal(info.navigator, FATHOM_NAVIGATOR_GRAPH);
        assert_true(info.code_bits >= 8 * info.dim);
    }
}

static void more_memory_is_spent_on_the_index(void **state)
{
    const struct tiny_folders *fixture = *state;
    struct fathom_open_options options = fathom_open_options_default();
    struct fathom_ledger least, all;
    struct fathom_index_info info;
    struct fathom_error err;
    const char *dir = fixture->dirs[0];
    assert_int_equal(open_budget(dir, options, least_of(dir, options), &least, &info, &err), 0);
    assert_int_equal(info.navigator, FATHOM_NAVIGATOR_CELLS);
    assert_int_equal(open_budget(dir, options, 0, &all, &info, &err), 0);
    /* 4 bytes a code and as many of factors against 36 of a record and the lists. */
    assert_true(least.index_bytes * 3 < all.index_bytes);
}

static void a_planned_recall_is_a_recall(void **state)
{
    const struct tiny_folders *fixture = *state;
    static const float wrong[] = {-0.1f, 1, 1.5f, NAN, INFINITY};
    struct fathom_open_options options = fathom_open_options_default();
    struct fathom_index *index;
    struct fathom_outlook outlook;
    struct fathom_ledger ledger;
    struct fathom_index_info info;
    struct fathom_error err;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        options.plan_recall = wrong[i];
        assert_int_equal(fathom_index_open(&index, fixture->dirs[0], &options, &err),
                         FATHOM_EARGUMENT);
        assert_non_null(strstr(err.msg, "plan_recall"));
        assert_int_equal(fathom_index_outlook(fixture->dirs[0], &options, &outlook, &err),
                         FATHOM_EARGUMENT);
    }
    options.plan_recall = 0.95f;
    assert_int_equal(open_budget(fixture->dirs[0], options, 0, &ledger, &info, &err), 0);
    assert_true(info.plan_recall == 0.95f);
    assert_true(info.recall_reached == 0); /* it has no operating points */
    assert_int_equal(open_budget(fixture->dirs[3], options, 0, &ledger, &info, &err), 0);
    assert_true(info.recall_reached > 0 && info.recall_reached <= 1);
}

static void a_navigator_that_is_asked_for_is_used(void **state)
{
    const struct tiny_folders *fixture = *state;
    for (int navigator = FATHOM_NAVIGATOR_GRAPH; navigator <= FATHOM_NAVIGATOR_CELLS; navigator++) {
        struct fathom_open_options options = fathom_open_options_default();
        struct fathom_ledger ledger;
        struct fathom_index_info info;
        struct fathom_error err;
        options.navigator = navigator;
        uint64_t least = least_of(fixture->dirs[0], options);
        for (int times = 1; times < 4; times++) {
            assert_int_equal(
                open_budget(fixture->dirs[0], options, times * least, &ledger, &info, &err), 0);
            assert_int_equal(info.navigator, navigator);
        }
    }
}

static void code_bytes_that_are_asked_for_are_used(void **state)
{
    const struct tiny_folders *fixture = *state;
    struct fathom_open_options options = fathom_open_options_default();
    struct fathom_ledger ledger;
    struct fathom_index_info info;
    struct fathom_error err;
    for (uint32_t bytes = 1; bytes <= 9; bytes++) {
        options.code_bytes = bytes;
        int status = open_budget(fixture->dirs[0], options, 0, &ledger, &info, &err);
        if (bytes == 4 || bytes == 8) { /* of 32 dimensions: one plane, or two */
            assert_int_equal(status, 0);
            assert_int_equal(info.code_bits, 8 * bytes);
            continue;
        }
        assert_int_equal(status, FATHOM_EARGUMENT);
        assert_non_null(strstr(err.msg, fixture->dirs[0]));
    }
}

static void no_threads_are_refused(void **state)
{
    const struct tiny_folders *fixture = *state;
    struct fathom_open_options options = fathom_open_options_default();
    struct fathom_index *index;
    options.threads = 0;
    assert_int_equal(fathom_index_open(&index, fixture->dirs[0], &options, NULL), FATHOM_EARGUMENT);
    assert_null(index);
}

/* Above four they take no more than a third of the budget; the least has one; and who gives a
 * number, or no budget, has what was always had. */
static void queries_in_flight_are_as_many_as_a_budget_is_well_spent_on(void **state)
{
    const struct tiny_folders *fixture = *state;
    struct fathom_open_options options = fathom_open_options_default();
    const char *dir = fixture->dirs[0];
    struct fathom_ledger ledger;
    struct fathom_index_info info;
    struct fathom_error err;
    unsigned before = 1, seen = 0;
    options.threads = 2;
    uint64_t least = least_of(dir, options);
    assert_int_equal(open_budget(dir, options, least, &ledger, &info, &err), 0);
    assert_int_equal(info.inflight, 1);
    assert_int_equal(info.page_buffers, FATHOM_PAGE_BUFFERS_MIN);
    for (uint64_t budget = least; before < 16; budget += 4096) {
        assert_int_equal(open_budget(dir, options, budget, &ledger, &info, &err), 0);
        assert_true(info.inflight >= before);
        if (info.inflight > 4)
            assert_true(3 * ledger.scratch_bytes <= budget);
        before = info.inflight;
        seen |= before;
        assert_true(budget < 64 << 20);
    }
    assert_int_equal(seen, 1 | 2 | 4 | 8 | 16);
    assert_int_equal(open_budget(dir, options, 0, &ledger, &info, &err), 0);
    assert_int_equal(info.inflight, 16);
    options.inflight = 5;
    assert_int_equal(open_budget(dir, options, 2 * least, &ledger, &info, &err), 0);
    assert_int_equal(info.inflight, 5);
}

static void what_an_index_says_of_itself_is_true(void **state)
{
    const struct tiny_folders *fixture = *state;
    for (size_t i = 0; i < SHAPES; i++) {
        char path[FOLDER_PATH_MAX], *manifest;
        size_t bytes;
        struct fathom_open_options options = fathom_open_options_default();
        struct fathom_index *index;
        struct fathom_index_info info;
        folder_name(fixture->dirs[i], FORMAT_FILE_NAME, path);
        free(file_load(path, &bytes));
        assert_int_equal(fathom_index_open(&index, fixture->dirs[i], &options, NULL), 0);
        fathom_index_get_info(index, &info);
        assert_int_equal(info.rows, shapes[i].rows);
        assert_int_equal(info.dim, shapes[i].dim);
        assert_int_equal(info.dtype, shapes[i].dtype);
        assert_int_equal(info.metric, shapes[i].metric);
        assert_int_equal(info.index_bytes, bytes);
        assert_int_equal(info.raw_bytes,
                         shapes[i].rows * shapes[i].dim * fathom_dtype_bytes(shapes[i].dtype));
        assert_int_equal(info.format_version, FORMAT_VERSION);
        assert_true(info.has_external_ids);
        assert_int_equal(fathom_index_read_manifest(index, &manifest, NULL), 0);
        assert_string_equal(manifest, "{\"made\": \"by a test\"}");
        free(manifest);
        fathom_index_close(index);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_chosen_fits_every_budget),
        cmocka_unit_test(the_outlook_is_what_an_open_keeps),
        cmocka_unit_test(a_share_is_of_the_vectors_as_f32),
        cmocka_unit_test(a_forced_graph_keeps_as_many_lists_as_fit),
        cmocka_unit_test(a_share_of_lists_is_the_graphs_alone),
        cmocka_unit_test(scratch_grows_with_threads_and_queries_in_flight),
        cmocka_unit_test(scratch_of_two_threads_is_small),
        cmocka_unit_test(without_a_budget_the_rows_are_resident_unless_points_speak_against_it),
        cmocka_unit_test(more_memory_is_spent_on_the_index),
        cmocka_unit_test(a_planned_recall_is_a_recall),
        cmocka_unit_test(a_navigator_that_is_asked_for_is_used),
        cmocka_unit_test(code_bytes_that_are_asked_for_are_used),
        cmocka_unit_test(no_threads_are_refused),
        cmocka_unit_test(queries_in_flight_are_as_many_as_a_budget_is_well_spent_on),
        cmocka_unit_test(what_an_index_says_of_itself_is_true),
    };
    return cmocka_run_group_tests(tests, make_folders, tiny_folders_remove);
}
