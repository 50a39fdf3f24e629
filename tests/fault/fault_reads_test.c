/* Reads that fail, fall short or lie while queries run, on both rings: only the query whose page it
 * was fails, by name of file and page, and no answer is ever another than the right one. */
#include "harm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUERIES 12
#define MANY    20000

static const enum fathom_io rings[] = {FATHOM_IO_PREAD, FATHOM_IO_URING};
#define RINGS 2

/* What is read: rows after the cells have navigated, and also lists while the graph walks, or codes
 * for the cells, or codes and ids. */
enum reader { READS_ROWS, READS_LISTS, READS_CODES, READS_IDS, READERS };

static const enum harm_residency residencies[READERS] = {HARM_CELLS, HARM_PARTLY, HARM_SCAN,
                                                         HARM_LEAST};

struct fixture {
    struct small_index small;
    struct fathom_index *index;
    struct answers right[2]; /* without and with exact distances */
};

static void open_reader(struct fixture *fixture, enum reader reader)
{
    struct fathom_error err;
    if (harm_open(&fixture->index, env_os(), fixture->small.dir, residencies[reader], &err) != 0)
        fail_msg("%s", err.msg);
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 4);
    for (int exact = 0; exact < 2; exact++)
        harm_ask(&fixture->right[exact], &fixture->small, engine, fixture->index,
                 fixture->small.options.queries, exact);
    fathom_engine_destroy(engine);
}

static void close_reader(struct fixture *fixture)
{
    answers_free(&fixture->right[0]);
    answers_free(&fixture->right[1]);
    fathom_index_close(fixture->index);
}

/* One index file, opened for each reader. */
static int make_fixture(void **state)
{
    struct small_options options = {.rows = 2000,
                                    .dim = 32,
                                    .metric = FATHOM_METRIC_L2,
                                    .dtype = FATHOM_F32,
                                    .queries = 200,
                                    .in_memory = true};
    struct fixture *fixtures = calloc(READERS, sizeof *fixtures);
    small_index_make(&fixtures[0].small, &options);
    for (int reader = 0; reader < READERS; reader++) {
        fixtures[reader].small = fixtures[0].small;
        open_reader(&fixtures[reader], reader);
    }
    *state = fixtures;
    return 0;
}

static int free_fixture(void **state)
{
    struct fixture *fixtures = *state;
    for (int reader = 0; reader < READERS; reader++)
        close_reader(&fixtures[reader]);
    small_index_remove(&fixtures[0].small);
    free(fixtures);
    return 0;
}

/* ---- one faulty read at a time ---- */

/* One run with one plan. Returns the number of queries that failed, or -1 when the fault did not
 * fire. */
static int run_plan(const struct fixture *fixture, enum fathom_io io, const char *plan, bool exact,
                    int *status)
{
    struct fault_env fault;
    struct answers got;
    unsigned fds = fd_count();
    struct fathom_engine *engine = harm_engine(&fault, io, 4, plan);
    harm_ask(&got, &fixture->small, engine, fixture->index, QUERIES, exact);
    uint32_t failed = harm_count(&fixture->right[exact], &got, plan, status);
    bool fired = fault_fired(&fault) > 0;
    answers_free(&got);
    /* The engine is as good as new. */
    fault.rule_count = 0;
    harm_ask(&got, &fixture->small, engine, fixture->index, QUERIES, exact);
    assert_int_equal(harm_count(&fixture->right[exact], &got, plan, NULL), 0);
    answers_free(&got);
    fathom_engine_destroy(engine);
    assert_int_equal(fd_count(), fds);
    return fired ? (int)failed : -1;
}

/* The action at each read of the queries in turn: wanted_failed of them fail, with wanted_status. A
 * page of lists that was asked for ahead may turn out not to be needed; then none fails. */
static void run_each_read(const struct fixture *fixture, const char *action, uint32_t wanted_failed,
                          int wanted_status)
{
    bool walks = fixture->index->lists.page_first != NULL;
    for (size_t r = 0; r < RINGS; r++) {
        unsigned n = 1, spared = 0;
        if (!io_works(rings[r]))
            continue;
        for (int exact = 0; exact < 2; exact++)
            for (n = 1;; n++) {
                char plan[64];
                int status = 0;
                snprintf(plan, sizeof plan, "read#%u:%s", n, action);
                int failed = run_plan(fixture, rings[r], plan, exact, &status);
                if (failed < 0)
                    break;
                if (walks && failed == 0) {
                    spared++;
                    continue;
                }
                if ((uint32_t)failed != wanted_failed || status != wanted_status)
                    fail_msg("%s on %s: %d queries fail with %d", plan, fathom_io_name(rings[r]),
                             failed, status);
            }
        assert_true(n > QUERIES); /* or there was nothing to fail */
        assert_true(wanted_failed == 0 || spared < n / 2);
    }
}

static void run_each(const struct fixture *fixtures, const char *action, uint32_t wanted_failed,
                     int wanted_status)
{
    for (int reader = 0; reader < READERS; reader++)
        run_each_read(&fixtures[reader], action, wanted_failed, wanted_status);
}

static void a_read_that_fails_fails_its_query_alone(void **state)
{
    run_each(*state, "EIO", 1, -EIO);
}

static void a_read_that_lies_fails_its_query_alone(void **state)
{
    run_each(*state, "flip=bit777", 1, FATHOM_ECHECKSUM);
    run_each(*state, "flip=bit5", 1, FATHOM_ECHECKSUM);
    run_each(*state, "flip=bit32767", 1, FATHOM_ECHECKSUM);
}

static void a_file_that_ends_early_fails_its_query_alone(void **state)
{
    run_each(*state, "short=0", 1, -ENODATA);
}

static void a_read_that_falls_short_is_completed(void **state)
{
    run_each(*state, "short=512", 0, 0);
    run_each(*state, "short=4095", 0, 0);
}

static void a_read_that_is_interrupted_or_put_off_is_done_again(void **state)
{
    run_each(*state, "EAGAIN", 0, 0);
    run_each(*state, "EINTR", 0, 0);
}

/* Results come late and in another order: the answers are the same. */
static void a_read_that_is_slow_changes_nothing(void **state)
{
    const struct fixture *fixture = *state;
    for (size_t r = 0; r < RINGS; r++) {
        int status = 0;
        if (!io_works(rings[r]))
            continue;
        for (unsigned n = 1; n < 20; n++) {
            char plan[64];
            snprintf(plan, sizeof plan, "read#%u:stall=3ms;read#%u:stall=1ms", n, n + 3);
            assert_int_equal(run_plan(fixture, rings[r], plan, true, &status), 0);
        }
    }
}

/* A vector that spans two pages comes in one read: each of its pages is checked. */
static void both_pages_of_a_long_row_are_checked(void **state)
{
    struct small_options options = {.rows = 120,
                                    .dim = 1200,
                                    .metric = FATHOM_METRIC_L2,
                                    .dtype = FATHOM_F32,
                                    .in_memory = true};
    struct fixture long_rows = {0};
    struct fathom_error err;
    (void)state;
    small_index_make(&long_rows.small, &options);
    if (harm_open(&long_rows.index, env_os(), long_rows.small.dir, HARM_ROWS, &err) != 0)
        fail_msg("%s", err.msg);
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 4);
    harm_ask(&long_rows.right[1], &long_rows.small, engine, long_rows.index, QUERIES, true);
    fathom_engine_destroy(engine);
    for (unsigned n = 1; n <= 40; n++) {
        static const unsigned bits[] = {70, 32767, 32768, 40000, 65535};
        for (size_t b = 0; b < sizeof bits / sizeof bits[0]; b++) {
            char plan[64];
            int status = 0;
            snprintf(plan, sizeof plan, "read#%u:flip=bit%u", n, bits[b]);
            if (run_plan(&long_rows, FATHOM_IO_PREAD, plan, true, &status) != 1 ||
                status != FATHOM_ECHECKSUM)
                fail_msg("%s: %d", plan, status);
        }
    }
    answers_free(&long_rows.right[1]);
    fathom_index_close(long_rows.index);
    small_index_remove(&long_rows.small);
}

/* ---- for ever ---- */

static void a_dead_device_fails_all_that_read_and_no_more(void **state)
{
    const struct fixture *fixture = *state;
    static const struct {
        const char *plan;
        int status;
    } plans[] = {{"read#1+:EIO", -EIO},       {"read#1+:EAGAIN", -EAGAIN},
                 {"read#1+:EINTR", -EINTR},   {"read#1+:short=0", -ENODATA},
                 {"read#1+:short=100", -EIO}, {"read#1+:flip=bit99", FATHOM_ECHECKSUM}};
    for (size_t r = 0; r < RINGS; r++)
        for (size_t i = 0; i < sizeof plans / sizeof plans[0] && io_works(rings[r]); i++) {
            int status = 0, reading = 0;
            for (uint32_t q = 0; q < QUERIES; q++)
                reading += fixture->right[0].all[q].stats.reads > 0;
            int failed = run_plan(fixture, rings[r], plans[i].plan, false, &status);
            if (failed != reading || status != plans[i].status)
                fail_msg("%s on %s: %d of %d that read fail with %d", plans[i].plan,
                         fathom_io_name(rings[r]), failed, reading, status);
        }
}

/* ---- at random ---- */

/* Repeats the queries until there were MANY. Returns the number that failed. */
static uint32_t run_many(const struct fixture *fixture, enum fathom_io io, const char *plan,
                         uint64_t *fired)
{
    struct fault_env fault;
    struct fathom_engine *engine = harm_engine(&fault, io, 16, plan);
    const uint32_t queries = fixture->small.options.queries;
    uint32_t failed = 0;
    for (uint32_t done = 0; done < MANY; done += queries) {
        struct answers got;
        harm_ask(&got, &fixture->small, engine, fixture->index, queries, false);
        failed += harm_count(&fixture->right[0], &got, plan, NULL);
        answers_free(&got);
    }
    *fired = fault_fired(&fault);
    fathom_engine_destroy(engine);
    return failed;
}

static void random_failures_spoil_no_answer(void **state)
{
    const struct fixture *fixture = *state;
    for (size_t r = 0; r < RINGS; r++) {
        uint64_t fired;
        if (!io_works(rings[r]))
            continue;
        uint32_t failed = run_many(fixture, rings[r], "read~50:EIO", &fired);
        /* A query may lose more than one read, and no query fails without one. */
        assert_in_range(failed, fired / 2, fired);
        assert_true(failed > MANY / 100);
        assert_true(failed < MANY / 2);
    }
}

static void random_faults_of_every_kind_spoil_no_answer(void **state)
{
    const struct fixture *fixture = *state;
    for (size_t r = 0; r < RINGS; r++) {
        uint64_t fired;
        if (!io_works(rings[r]))
            continue;
        uint32_t failed = run_many(
            fixture, rings[r],
            "read~61:EIO;read~67:flip=bit12345;read~71:short=100;read~73:EAGAIN;read~79:short=0;"
            "read~997:stall=1ms",
            &fired);
        assert_in_range(failed, fired / 5, fired);
        assert_true(failed > MANY / 100);
    }
}

/* ---- the file itself ---- */

static void a_file_truncated_under_its_reader_fails_queries_by_name(void **state)
{
    const struct fixture *fixture = *state;
    char dir[FOLDER_PATH_MAX], from[FOLDER_PATH_MAX], to[FOLDER_PATH_MAX];
    struct fathom_index *index;
    struct fathom_error err;
    struct answers got;
    size_t bytes;
    int status = 0;
    folder_make_fast(dir);
    folder_name(fixture->small.dir, FORMAT_FILE_NAME, from);
    folder_name(dir, FORMAT_FILE_NAME, to);
    uint8_t *image = file_load(from, &bytes);
    file_store(to, image, bytes);
    assert_int_equal(harm_open(&index, env_os(), dir, HARM_CELLS, &err), 0);
    for (size_t r = 0; r < RINGS; r++) {
        if (!io_works(rings[r]))
            continue;
        struct fathom_engine *engine = engine_make(rings[r], 4);
        file_store(to, image, PAGE_BYTES);
        harm_ask(&got, &fixture->small, engine, index, QUERIES, true);
        assert_int_equal(harm_count(&fixture->right[1], &got, "truncated", &status), QUERIES);
        assert_int_equal(status, -ENODATA);
        answers_free(&got);
        file_store(to, image, bytes); /* restored: right again without opening again */
        harm_ask(&got, &fixture->small, engine, index, QUERIES, true);
        assert_int_equal(harm_count(&fixture->right[1], &got, "restored", &status), 0);
        answers_free(&got);
        fathom_engine_destroy(engine);
    }
    fathom_index_close(index);
    free(image);
    folder_remove(dir);
}

/* Publishing is a rename: who has the old file open goes on with it. */
static void an_index_replaced_under_its_reader_answers_as_before(void **state)
{
    const struct fixture *fixture = *state;
    struct small_options options = {.rows = 2000,
                                    .dim = 32,
                                    .metric = FATHOM_METRIC_L2,
                                    .dtype = FATHOM_F32,
                                    .seed = 99,
                                    .in_memory = true};
    struct small_index other;
    struct fathom_index *index;
    struct fathom_error err;
    struct answers got;
    char path[FOLDER_PATH_MAX], theirs[FOLDER_PATH_MAX];
    small_index_make(&other, &options);
    folder_name(fixture->small.dir, FORMAT_FILE_NAME, path);
    folder_name(other.dir, FORMAT_FILE_NAME, theirs);
    size_t bytes;
    uint8_t *image = file_load(path, &bytes);
    assert_int_equal(harm_open(&index, env_os(), fixture->small.dir, HARM_CELLS, &err), 0);
    assert_int_equal(rename(theirs, path), 0);
    struct fathom_engine *engine = engine_make(FATHOM_IO_AUTO, 4);
    harm_ask(&got, &fixture->small, engine, index, QUERIES, true);
    assert_int_equal(harm_count(&fixture->right[1], &got, "replaced", NULL), 0);
    answers_free(&got);
    fathom_engine_destroy(engine);
    fathom_index_close(index);
    file_store(theirs, image, bytes);
    assert_int_equal(rename(theirs, path), 0);
    free(image);
    small_index_remove(&other);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_that_fails_fails_its_query_alone),
        cmocka_unit_test(a_read_that_lies_fails_its_query_alone),
        cmocka_unit_test(a_file_that_ends_early_fails_its_query_alone),
        cmocka_unit_test(a_read_that_falls_short_is_completed),
        cmocka_unit_test(a_read_that_is_interrupted_or_put_off_is_done_again),
        cmocka_unit_test(a_read_that_is_slow_changes_nothing),
        cmocka_unit_test(both_pages_of_a_long_row_are_checked),
        cmocka_unit_test(a_dead_device_fails_all_that_read_and_no_more),
        cmocka_unit_test(random_failures_spoil_no_answer),
        cmocka_unit_test(random_faults_of_every_kind_spoil_no_answer),
        cmocka_unit_test(a_file_truncated_under_its_reader_fails_queries_by_name),
        cmocka_unit_test(an_index_replaced_under_its_reader_answers_as_before),
    };
    return cmocka_run_group_tests(tests, make_fixture, free_fixture);
}
