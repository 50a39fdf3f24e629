/* Operating points that are measured on given queries: they keep what they promise to others like
 * these, whatever rows would promise; and a file of queries is checked, known and the same to any
 * number of threads. */
#include "trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "answers.h"
#include "format.h"
#include "points.h"
#include "work.h"

#define DIM     24
#define ROWS    6000
#define QUERIES 700 /* to build with, and as many to ask */
#define K       10

/* Half way between two rows, and further from all than any row is from its nearest. */
static float *between_rows(const float *rows, uint32_t count, uint32_t seed)
{
    float *values = malloc((size_t)count * DIM * sizeof *values);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t a = (seed + 7919 * (uint64_t)i) % ROWS, b = (seed + 104729 * (uint64_t)i) % ROWS;
        for (uint32_t d = 0; d < DIM; d++)
            values[i * DIM + d] = (rows[a * DIM + d] + rows[b * DIM + d]) / 2;
    }
    return values;
}

/* A file of rows, and what is asked. */
struct data {
    struct place place;
    char query[SCRATCH_PATH_MAX];
    float *rows, *asked;
    float far[QUERIES]; /* how far the K-th nearest is of what is asked */
};

static float distance(const struct data *data, uint32_t query, uint64_t row)
{
    float sum = 0;
    for (uint32_t d = 0; d < DIM; d++) {
        float delta = data->rows[row * DIM + d] - data->asked[query * DIM + d];
        sum += delta * delta;
    }
    return sum;
}

static void find_far(struct data *data, uint32_t query)
{
    float near[K];
    for (uint32_t i = 0; i < K; i++)
        near[i] = INFINITY;
    for (uint32_t row = 0; row < ROWS; row++) {
        float key = distance(data, query, row);
        for (uint32_t i = 0; i < K; i++)
            if (key < near[i]) {
                float other = near[i];
                near[i] = key;
                key = other;
            }
    }
    data->far[query] = near[K - 1];
}

static void write_queries(struct data *data, uint32_t count, uint32_t seed)
{
    float *given = between_rows(data->rows, count, seed);
    floats_write(data->query, given, count, DIM);
    free(given);
}

static struct data *data_make(const struct scratch *scratch, uint32_t queries)
{
    struct data *data = malloc(sizeof *data);
    data->place = place_of(scratch, "index");
    scratch_name(scratch, "query.fbin", data->query);
    data->rows = floats_make(ROWS, DIM, 1);
    floats_write(data->place.input, data->rows, ROWS, DIM);
    write_queries(data, queries, 5);
    data->asked = between_rows(data->rows, QUERIES, 2711);
    for (uint32_t q = 0; q < QUERIES; q++)
        find_far(data, q);
    return data;
}

static void data_free(struct data *data)
{
    free(data->rows);
    free(data->asked);
    free(data);
}

static struct build_options options_of(const struct data *data)
{
    struct build_options options = build_options_default();
    options.input = data->place.input;
    options.out = data->place.out;
    options.query = data->query;
    options.degree = 16;
    options.build_list = 32;
    options.threads = 2;
    return options;
}

static void build(const struct build_options *options)
{
    struct fathom_error err;
    if (trial_run(options, &err) != 0)
        fail_msg("%s", err.msg);
}

/* ---- what is promised, and what is got ---- */

/* What a plan is to be opened for. */
struct residency {
    enum fathom_navigator navigator;
    uint32_t code_bytes;
};
static const struct residency residencies[] = {
    {FATHOM_NAVIGATOR_CELLS, 6}, {FATHOM_NAVIGATOR_GRAPH, 10}, {FATHOM_NAVIGATOR_GRAPH, 0}};

static double recall_at(const struct data *data, const struct residency *residency, float target)
{
    struct fathom_query request = fathom_query_default();
    struct fathom_index *index =
        index_of_codes(data->place.out, residency->code_bytes, residency->navigator);
    struct fathom_engine *engine = engine_make_for(index, FATHOM_IO_PREAD, 8);
    struct answers answers;
    uint32_t found = 0;
    request.k = K;
    request.target_recall = target;
    answers_get(&answers, engine, index, &request, data->asked, DIM, QUERIES, 8);
    for (uint32_t q = 0; q < QUERIES; q++)
        for (uint32_t i = 0; i < answers.all[q].count; i++)
            found += distance(data, q, answers.all[q].ids[i]) <= data->far[q];
    answers_free(&answers);
    fathom_engine_destroy(engine);
    fathom_index_close(index);
    return (double)found / (QUERIES * K);
}

static void points_keep_what_they_promise_to_queries_of_another_kind(void **state)
{
    static const float targets[] = {0.85f, 0.9f, 0.95f, 0.97f};
    struct data *data = data_make(*state, QUERIES);
    struct build_options options = options_of(data);
    build(&options);
    for (size_t t = 0; t < sizeof targets / sizeof *targets; t++)
        for (size_t r = 0; r < sizeof residencies / sizeof *residencies; r++)
            if (recall_at(data, &residencies[r], targets[t]) < targets[t] - 0.005)
                fail_msg("%g for %g, residency %zu", recall_at(data, &residencies[r], targets[t]),
                         targets[t], r);
    /* Which is not for want of hardness: points of rows do not know it. */
    options.query = NULL;
    build(&options);
    for (size_t r = 1; r < sizeof residencies / sizeof *residencies; r++)
        assert_true(recall_at(data, &residencies[r], 0.95f) < 0.95 - 0.03);
    data_free(data);
}

/* Pages of lists that are read for what is asked when a fifth of the lists are in memory. */
static uint64_t list_reads(const struct data *data)
{
    struct fathom_query request = fathom_query_default();
    struct fathom_index *index;
    struct answers answers;
    uint64_t reads = 0;
    request.search_list = 32;
    assert_int_equal(partly_open(&index, env_os(), data->place.out, 0.2f, 8, NULL), 0);
    struct fathom_engine *engine = engine_make_for(index, FATHOM_IO_PREAD, 8);
    answers_get(&answers, engine, index, &request, data->asked, DIM, QUERIES, 8);
    for (uint32_t q = 0; q < QUERIES; q++)
        reads += answers.all[q].stats.list_reads;
    answers_free(&answers);
    fathom_engine_destroy(engine);
    fathom_index_close(index);
    return reads;
}

static void lists_that_queries_need_are_kept_in_memory(void **state)
{
    struct data *data = data_make(*state, QUERIES);
    struct build_options options = options_of(data);
    build(&options);
    uint64_t by_queries = list_reads(data);
    options.query = NULL;
    build(&options);
    uint64_t by_rows = list_reads(data);
    if (by_queries > by_rows * 9 / 10)
        fail_msg("%llu reads, %llu by rows", (unsigned long long)by_queries,
                 (unsigned long long)by_rows);
    data_free(data);
}

/* ---- points ---- */

struct measured {
    struct operating_point points[POINTS_MAX];
    uint32_t count;
};

static void read_points(const struct data *data, struct measured *out)
{
    struct index_file file;
    assert_int_equal(index_file_open(&file, env_os(), data->place.out, NULL), 0);
    const struct section *section = superblock_find(&file.super, SECTION_POINTS);
    assert_non_null(section);
    out->count = (uint32_t)(section->bytes / sizeof *out->points);
    assert_int_equal(index_file_read(&file, section, 0, out->points, section->bytes, NULL), 0);
    index_file_close(&file);
}

/* How far below its mean the middle of an index's points have their lower end. */
static double interval(const struct data *data, struct measured *all)
{
    double sum = 0;
    uint32_t count = 0;
    read_points(data, all);
    for (uint32_t i = 0; i < all->count; i++) {
        const struct operating_point *point = &all->points[i];
        assert_int_equal(point->measured_on, FORMAT_MEASURED_ON_QUERIES);
        assert_true(point->plain.recall_low < point->plain.recall);
        if (point->k != K || point->plain.recall < 0.8f || point->plain.recall > 0.98f)
            continue;
        sum += point->plain.recall - point->plain.recall_low;
        count++;
    }
    assert_true(count > 20);
    return sum / count;
}

static void few_queries_promise_less(void **state)
{
    static const uint32_t counts[] = {12, 100, 1500};
    static struct measured all;
    struct data *data = data_make(*state, 1);
    struct build_options options = options_of(data);
    double before = 1;
    build(&options); /* of a single one nothing follows, and nothing fails */
    read_points(data, &all);
    for (uint32_t i = 0; i < all.count; i++)
        if (all.points[i].k == K)
            assert_true(all.points[i].plain.recall_low < 0.75f);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        write_queries(data, counts[c], 5);
        build(&options);
        double now = interval(data, &all);
        assert_true(now < 0.6 * before);
        before = now;
    }
    assert_true(before < 0.01);
    data_free(data);
}

/* ---- an index that is there ---- */

static void measure_anew(const struct data *data, const char *query)
{
    struct build_options options = build_options_default();
    struct points_report report;
    struct fathom_error err;
    options.out = data->place.out;
    options.query = query;
    options.threads = 2;
    if (build_points(&options, &report, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(report.rows, ROWS);
    assert_int_equal(report.queries, query ? QUERIES : 0);
}

static void assert_points(const struct data *data, const struct measured *expected)
{
    static struct measured got;
    read_points(data, &got);
    assert_int_equal(got.count, expected->count);
    assert_memory_equal(got.points, expected->points, got.count * sizeof *got.points);
}

static void points_that_are_measured_anew_are_those_of_a_build(void **state)
{
    static struct measured by_queries, by_rows;
    struct data *data = data_make(*state, QUERIES);
    struct build_options options = options_of(data);
    build(&options);
    read_points(data, &by_queries);
    options.query = NULL;
    build(&options);
    read_points(data, &by_rows);
    measure_anew(data, data->query);
    assert_points(data, &by_queries);
    for (size_t r = 0; r < sizeof residencies / sizeof *residencies; r++)
        assert_true(recall_at(data, &residencies[r], 0.95f) >= 0.95 - 0.005);
    measure_anew(data, NULL);
    assert_points(data, &by_rows);
    for (size_t r = 1; r < sizeof residencies / sizeof *residencies; r++)
        assert_true(recall_at(data, &residencies[r], 0.95f) < 0.95 - 0.03);
    data_free(data);
}

/* ---- the same bytes ---- */

static void queries_and_threads_give_the_same_bytes(void **state)
{
    static const struct {
        unsigned threads;
        uint64_t budget;
    } ways[] = {{1, 0}, {2, 0}, {4, 0}, {2, 1u << 30}};
    struct data *data = data_make(*state, 4000); /* more than are offered */
    uint8_t *first = NULL;
    size_t bytes, first_bytes = 0;
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        struct build_options options = options_of(data);
        options.threads = ways[w].threads;
        options.memory_budget_bytes = ways[w].budget;
        build(&options);
        uint8_t *now = file_slurp(data->place.index, &bytes);
        if (!first) {
            first = now;
            first_bytes = bytes;
            continue;
        }
        assert_int_equal(bytes, first_bytes);
        assert_memory_equal(now, first, bytes);
        free(now);
    }
    free(first);
    data_free(data);
}

/* ---- interruptions ---- */

static void assert_refused(struct trial *trial, const char *first, const char *second)
{
    struct fathom_error err = {0};
    assert_int_equal(trial_build(trial, env_os(), true, &err), FATHOM_EARGUMENT);
    if (!message_has(&err, first) || !message_has(&err, second))
        fail_msg("%s: neither %s nor %s", err.msg, first, second);
}

static void a_killed_build_resumes_with_the_same_queries_alone(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS_MANY);
    char query[SCRATCH_PATH_MAX];
    scratch_name(*state, "query.fbin", query);
    floats_file(query, 300, TRIAL_DIM, 2);
    trial.query = query;
    struct bytes expected = trial_undisturbed(&trial);
    for (int n = 40; n <= 440; n += 100) {
        char plan[64];
        snprintf(plan, sizeof plan, "op=%d:kill", n);
        assert_true(trial_build_killed(&trial, plan, false));
        trial_assert_resumes_to(&trial, &expected, plan);
    }
    int last = trial_kill_before_points(&trial, *state, 120, 10);
    floats_file(query, 300, TRIAL_DIM, 3);
    assert_refused(&trial, "queries", "xxh3");
    floats_file(query, 299, TRIAL_DIM, 2);
    assert_refused(&trial, "queries", "was 300");
    trial.query = NULL;
    assert_refused(&trial, "queries", "none");
    trial.query = query;
    floats_file(query, 300, TRIAL_DIM, 2);
    trial_assert_resumes_to(&trial, &expected, "refusals");
    /* And those of a build that had none. */
    trial.query = NULL;
    (void)trial_kill_before_points(&trial, *state, last, 10);
    trial.query = query;
    assert_refused(&trial, "queries", "none");
    free(expected.data);
}

/* The file that a build has open, and whether it is another by now. */
struct change {
    const char *path;
    bool done;
};

static void change_at_the_end(void *context, const char *phase, uint64_t total, const char *unit)
{
    struct change *change = context;
    (void)total;
    (void)unit;
    if (strcmp(phase, "write") != 0)
        return;
    FILE *file = fopen(change->path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, 1000, SEEK_SET), 0);
    fputc(1, file);
    fclose(file);
    change->done = true;
}

static void queries_that_change_under_way_are_refused(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS_MANY);
    char query[SCRATCH_PATH_MAX];
    struct fathom_error err;
    struct change change = {.path = query};
    scratch_name(*state, "query.fbin", query);
    floats_file(query, 300, TRIAL_DIM, 2);
    trial.query = query;
    struct build_options options = trial_options(&trial, env_os(), false);
    options.watch = (struct build_watch){.phase = change_at_the_end, .context = &change};
    assert_int_equal(trial_run(&options, &err), FATHOM_EINPUT);
    assert_true(change.done && message_has(&err, "changed while"));
    assert_false(path_exists(trial.index));
}

/* ---- what is refused ---- */

static void refuse(const struct build_options *options, int status, const char *first,
                   const char *second)
{
    struct fathom_error err = {0};
    assert_int_equal(trial_run(options, &err), status);
    if (!message_has(&err, first) || !message_has(&err, second))
        fail_msg("%s: neither %s nor %s", err.msg, first, second);
}

static void write_bytes(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    fclose(file);
}

static void what_is_wrong_with_queries_is_said_at_once(void **state)
{
    struct data *data = data_make(*state, 5);
    struct build_options options = options_of(data);
    const uint32_t none[] = {0, DIM};
    float rows[5 * DIM];
    for (uint32_t i = 0; i < 5 * DIM; i++)
        rows[i] = (float)i;
    floats_write(data->query, rows, 5, DIM - 1);
    refuse(&options, FATHOM_EDIM, "query.fbin", "23 dimensions");
    rows[3 * DIM + 7] = NAN;
    floats_write(data->query, rows, 5, DIM);
    refuse(&options, FATHOM_EINPUT, "query.fbin: row 3, column 7", "NaN");
    rows[3 * DIM + 7] = 1e30f;
    floats_write(data->query, rows, 5, DIM);
    refuse(&options, FATHOM_EINPUT, "query.fbin: row 3", "overflow");
    write_bytes(data->query, none, sizeof none);
    refuse(&options, FATHOM_EINPUT, "query.fbin", "");
    options.query = data->place.out;
    refuse(&options, FATHOM_EARGUMENT, "index", "");
    assert_false(path_exists(data->place.index));
    data_free(data);
}

static void zero_queries_are_refused_or_left_out_under_cos(void **state)
{
    struct data *data = data_make(*state, 5);
    struct build_options options = options_of(data);
    static struct measured all, without;
    float *given = between_rows(data->rows, 200, 5);
    memmove(given + 21 * DIM, given + 20 * DIM, 179 * DIM * sizeof *given);
    memset(given + 20 * DIM, 0, DIM * sizeof *given);
    floats_write(data->query, given, 200, DIM);
    options.metric = FATHOM_METRIC_COS;
    refuse(&options, FATHOM_EINPUT, "query.fbin: row 20", "zero");
    options.skip_zero_rows = true;
    build(&options);
    read_points(data, &all);
    memmove(given + 20 * DIM, given + 21 * DIM, 179 * DIM * sizeof *given);
    floats_write(data->query, given, 199, DIM);
    build(&options);
    read_points(data, &without);
    assert_int_equal(all.count, without.count);
    assert_memory_equal(all.points, without.points, all.count * sizeof *all.points);
    memset(given, 0, 3 * DIM * sizeof *given);
    floats_write(data->query, given, 3, DIM);
    refuse(&options, FATHOM_EINPUT, "query.fbin", "every query is zero");
    free(given);
    data_free(data);
}

/* ---- what is foreseen ---- */

/* Of measuring, by that of the graph: how fast the machine is at the moment is in both. */
static double measuring(const struct build_estimate *estimate)
{
    return estimate->stage_seconds[BUILD_MEASURE] / estimate->stage_seconds[BUILD_GRAPH];
}

static void queries_are_in_the_estimate(void **state)
{
    struct data *data = data_make(*state, 20);
    struct build_options options = options_of(data);
    struct build_estimate few, many, none;
    assert_int_equal(build_predict(&options, &few, NULL), 0);
    write_queries(data, 4000, 5);
    assert_int_equal(build_predict(&options, &many, NULL), 0);
    options.query = NULL;
    assert_int_equal(build_predict(&options, &none, NULL), 0);
    assert_true(measuring(&few) < 0.7 * measuring(&none));
    assert_true(measuring(&many) > 0.9 * measuring(&none));
    floats_file(data->query, 10, DIM + 1, 1);
    options.query = data->query;
    assert_int_equal(build_predict(&options, &few, NULL), FATHOM_EDIM);
    data_free(data);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_remove)

static const struct CMUnitTest tests[] = {
    CASE(points_keep_what_they_promise_to_queries_of_another_kind),
    CASE(lists_that_queries_need_are_kept_in_memory),
    CASE(few_queries_promise_less),
    CASE(points_that_are_measured_anew_are_those_of_a_build),
    CASE(queries_and_threads_give_the_same_bytes),
    CASE(a_killed_build_resumes_with_the_same_queries_alone),
    CASE(queries_that_change_under_way_are_refused),
    CASE(what_is_wrong_with_queries_is_said_at_once),
    CASE(zero_queries_are_refused_or_left_out_under_cos),
    CASE(queries_are_in_the_estimate),
};

FATHOM_TEST_MAIN(tests)
