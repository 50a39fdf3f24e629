/* Whole builds: what is published, and what is left when one fails. */
#include "builder_support.h"
#include "predict.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bits.h"
#include "degree.h"
#include "format.h"
#include "lock.h"
#include "mem.h"

#define ROWS 3000
#define DIM  20

static struct build_options options_for(const struct place *place, unsigned threads)
{
    struct build_options options = build_options_default();
    options.checkpoint_ns = 3600000000000ull; /* none, however slow the machine is */
    options.input = place->input;
    options.out = place->out;
    options.metric = FATHOM_METRIC_COS;
    options.threads = threads;
    options.seed = 5;
    return options;
}

static void a_build_is_sound_and_reports_what_it_did(void **state)
{
    struct place place = place_of(*state, "index");
    struct build_options options = options_for(&place, 2);
    struct build_report report;
    struct index_file file;
    struct fathom_error err;
    floats_file(place.input, ROWS, DIM, 1);
    if (build_run(&options, &report, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(report.rows, ROWS);
    assert_int_equal(report.raw_bytes, ROWS * DIM * 4);
    assert_int_equal(index_file_open(&file, env_os(), place.out, NULL), 0);
    const struct properties *p = &file.super.properties;
    assert_true(p->generation == report.generation);
    assert_int_equal(p->rows, ROWS);
    assert_int_equal(p->dim, DIM);
    assert_int_equal(p->metric, FATHOM_METRIC_COS);
    assert_int_equal(p->cells, report.cells);
    assert_int_equal(p->degree_max, report.degree);
    assert_int_equal(file.super.file_pages * PAGE_BYTES, report.index_bytes);
    index_file_close(&file);
    build_report_fini(&report);
    assert_int_equal(names_with(place.out, ".tmp-"), 0);
}

static void touch(const char *dir, const char *name)
{
    char path[SCRATCH_PATH_MAX];
    assert_true(snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
}

/* A directory may hold other files, and somebody may be writing one just now: fathom-data does so
 * under the name of its output and .tmp-. */
static void only_what_builds_leave_is_taken_away(void **state)
{
    struct place place = place_of(*state, "index");
    struct build_options options = options_for(&place, 1);
    struct build_report report;
    struct fathom_error err;
    floats_file(place.input, 50, DIM, 1);
    assert_int_equal(mkdir(place.out, 0755), 0);
    touch(place.out, "base.fbin.tmp-123");
    touch(place.out, "notes.tmp-");
    touch(place.out, "build.tmp-state");
    touch(place.out, "index.fathom.tmp-0123456789abcdef");
    if (build_run(&options, &report, &err) != 0)
        fail_msg("%s", err.msg);
    build_report_fini(&report);
    assert_int_equal(names_with(place.out, ".tmp-"), 2);
    assert_int_equal(names_with(place.out, "base.fbin.tmp-123"), 1);
    assert_int_equal(names_with(place.out, "notes.tmp-"), 1);
}

/* Every vector of the input lies at the row that carries its id. */
static void vectors_and_ids_belong_together(void **state)
{
    struct place place = place_of(*state, "index");
    struct build_options options = options_for(&place, 2);
    struct build_report report;
    struct index_file file;
    float *values = floats_make(ROWS, DIM, 2), stored[DIM];
    uint8_t *ids = calloc(ROWS, 8), *page = malloc(PAGE_BYTES);
    floats_file(place.input, ROWS, DIM, 2);
    options.metric = FATHOM_METRIC_IP;
    options.no_points = true;
    assert_int_equal(build_run(&options, &report, NULL), 0);
    assert_int_equal(index_file_open(&file, env_os(), place.out, NULL), 0);
    const struct section *section = superblock_find(&file.super, SECTION_IDS);
    assert_int_equal(index_file_read(&file, section, 0, ids, section->bytes, NULL), 0);
    section = superblock_find(&file.super, SECTION_VECTORS);
    uint8_t seen[ROWS] = {0};
    FILE *raw = fopen(place.index, "rb");
    for (uint32_t row = 0; row < ROWS; row++) {
        struct row_place at = section_row_place(section, row);
        uint64_t id = bits_load(ids, file.super.properties.id_bits, row);
        assert_in_range(id, 0, ROWS - 1);
        assert_int_equal(seen[id]++, 0);
        fseek(raw, (long)(at.page * PAGE_BYTES + PAGE_HEADER + at.byte), SEEK_SET);
        assert_int_equal(fread(stored, sizeof stored, 1, raw), 1);
        assert_memory_equal(stored, values + id * DIM, sizeof stored);
    }
    fclose(raw);
    index_file_close(&file);
    build_report_fini(&report);
    free(page);
    free(ids);
    free(values);
}

static void any_number_of_threads_gives_the_same_bytes(void **state)
{
    static const char *const names[] = {"one", "two", "three"};
    uint8_t *first = NULL;
    size_t first_bytes = 0;
    for (unsigned i = 0; i < 3; i++) {
        struct place place = place_of(*state, names[i]);
        struct build_options options = options_for(&place, i + 1);
        struct build_report report;
        size_t bytes;
        if (i == 0)
            floats_file(place.input, ROWS, DIM, 3);
        assert_int_equal(build_run(&options, &report, NULL), 0);
        uint8_t *data = file_slurp(place.index, &bytes);
        if (i == 0) {
            first = data;
            first_bytes = bytes;
        } else {
            assert_int_equal(bytes, first_bytes);
            assert_memory_equal(data, first, bytes);
            free(data);
        }
        build_report_fini(&report);
    }
    free(first);
}

static void another_seed_is_another_generation(void **state)
{
    struct place place = place_of(*state, "index");
    struct build_options options = options_for(&place, 2);
    struct build_report report;
    floats_file(place.input, 500, DIM, 3);
    assert_int_equal(build_run(&options, &report, NULL), 0);
    uint64_t generation = report.generation;
    options.seed++;
    assert_int_equal(build_run(&options, &report, NULL), 0);
    assert_true(report.generation != generation);
    build_report_fini(&report);
}

static void few_rows_and_every_metric_build(void **state)
{
    struct place place = place_of(*state, "index");
    for (uint64_t rows = 1; rows <= 9; rows += 4) {
        floats_file(place.input, rows, DIM, rows);
        for (int metric = FATHOM_METRIC_L2; metric <= FATHOM_METRIC_COS; metric++) {
            struct build_options options = options_for(&place, 2);
            struct build_report report;
            struct fathom_error err;
            options.metric = metric;
            if (build_run(&options, &report, &err) != 0)
                fail_msg("%d rows, metric %d: %s", (int)rows, metric, err.msg);
            assert_int_equal(report.rows, rows);
            build_report_fini(&report);
        }
    }
}

/* ---- failures leave what was there ---- */

struct countdown {
    _Atomic int left;
};

static bool stop_at_zero(void *context)
{
    struct countdown *countdown = context;
    return atomic_fetch_sub(&countdown->left, 1) <= 0;
}

static void a_stopped_build_leaves_the_old_index_and_no_debris(void **state)
{
    struct place place = place_of(*state, "index");
    struct build_options options = options_for(&place, 2);
    struct build_report report;
    size_t before_bytes, after_bytes;
    floats_file(place.input, 1500, DIM, 4);
    assert_int_equal(build_run(&options, &report, NULL), 0);
    build_report_fini(&report);
    uint8_t *before = file_slurp(place.index, &before_bytes);
    options.seed = 99;
    int stops = 0;
    for (int asked = 0;; asked = asked < 8 ? asked + 1 : asked * 3 / 2) {
        struct countdown countdown = {asked};
        options.watch = (struct build_watch){.stopped = stop_at_zero, .context = &countdown};
        int status = build_run(&options, &report, NULL);
        if (status == 0)
            break;
        stops++;
        assert_int_equal(status, FATHOM_EINTERRUPTED);
        assert_int_equal(names_with(place.out, ".tmp-"), 0);
        uint8_t *after = file_slurp(place.index, &after_bytes);
        assert_int_equal(after_bytes, before_bytes);
        assert_memory_equal(after, before, before_bytes);
        free(after);
    }
    assert_true(stops > 10);
    build_report_fini(&report);
    free(before);
}

static _Atomic int allocations_left;

static bool fail_at_zero(void *context)
{
    (void)context;
    return atomic_fetch_sub(&allocations_left, 1) == 0;
}

static void a_failed_allocation_is_an_error_and_nothing_more(void **state)
{
    struct place place = place_of(*state, "index");
    struct build_options options = options_for(&place, 2);
    struct build_report report;
    unsigned fds = open_fds();
    floats_file(place.input, 300, DIM, 4);
    int failures = 0;
    for (int n = 0; n < 4000; n = n < 200 ? n + 1 : n + 7) {
        atomic_store(&allocations_left, n);
        mem_set_fault(fail_at_zero, NULL);
        struct fathom_error err = {0};
        int status = build_run(&options, &report, &err);
        mem_set_fault(NULL, NULL);
        if (status == 0) {
            build_report_fini(&report);
            if (atomic_load(&allocations_left) > 0)
                break;
            continue; /* an allocation that could be done without */
        }
        failures++;
        if (status != -ENOMEM)
            fail_msg("allocation %d: %d, %s", n, status, err.msg);
        assert_true(err.msg[0] != 0);
        if (path_exists(place.out))
            assert_int_equal(names_with(place.out, ".tmp-"), 0);
        assert_int_equal(open_fds(), fds);
    }
    assert_true(failures > 100);
}

static void a_directory_that_is_being_built_in_is_refused(void **state)
{
    struct place place = place_of(*state, "index");
    struct build_options options = options_for(&place, 1);
    struct build_report report;
    struct fathom_error err;
    floats_file(place.input, 50, DIM, 4);
    int lock = lock_directory(env_os(), place.out, NULL);
    assert_true(lock >= 0);
    assert_int_equal(build_run(&options, &report, &err), -EBUSY);
    assert_true(message_has(&err, "another build"));
    file_close(env_os(), lock);
    assert_int_equal(build_run(&options, &report, NULL), 0);
    build_report_fini(&report);
}

/* A file system that has no locks, or none left. */
static void a_directory_that_cannot_be_locked_is_refused(void **state)
{
    struct place place = place_of(*state, "index");
    struct build_options options = options_for(&place, 1);
    struct build_report report;
    struct fathom_error err = {0};
    struct fault_env fault;
    unsigned fds = open_fds();
    bool refused = false;
    floats_file(place.input, 50, DIM, 4);
    options.env = &fault.env;
    for (int n = 1; !refused; n++) {
        char plan[32];
        snprintf(plan, sizeof plan, "op=%d:ENOLCK", n);
        assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
        int status = build_run(&options, &report, &err);
        refused = status == -ENOLCK && message_has(&err, "cannot be locked");
        assert_int_equal(open_fds(), fds);
        if (status == 0)
            build_report_fini(&report);
        if (fault_fired(&fault) == 0)
            fail_msg("none of %d operations is a lock", n - 1);
    }
    assert_true(message_has(&err, place.out));
    assert_int_equal(names_with(place.out, ".tmp-"), 0);
}

static void a_build_above_the_memory_budget_is_refused_with_its_need(void **state)
{
    struct place place = place_of(*state, "index");
    struct build_options options = options_for(&place, 1);
    struct build_report report;
    struct fathom_error err;
    floats_file(place.input, 50, DIM, 4);
    options.memory_budget_bytes = 1 << 20;
    assert_int_equal(build_run(&options, &report, &err), FATHOM_EBUDGET);
    assert_true(message_has(&err, "MiB"));
    assert_false(path_exists(place.index));
}

static void a_budget_below_the_rows_lets_them_stay_in_a_file(void **state)
{
    (void)state;
    struct build_options options = build_options_default();
    const uint64_t rows = 4000000;
    options.degree = 32;
    assert_int_equal(predict_held(&options, rows, 128), 0);
    options.memory_budget_bytes = 1ull << 30;
    assert_int_equal(predict_held(&options, rows, 128), 0);
    options.memory_budget_bytes = predict_least(&options, rows, 128, 512);
    assert_true(options.memory_budget_bytes < rows * 128 / 3);
    uint32_t held = predict_held(&options, rows, 128);
    assert_true(held >= 65536 && held < rows / 4);
    assert_true(predict_parts(&options, rows, 128, 512) > 2);
    options.memory_budget_bytes = 256ull << 20;
    assert_true(predict_held(&options, rows, 128) > held);
}

static void estimates_grow_with_rows_and_refuse_nonsense(void **state)
{
    (void)state;
    struct build_options options = build_options_default();
    struct build_estimate small = {.rows = 1000, .dim = 128, .dtype = FATHOM_F32};
    struct build_estimate large = {.rows = 1000000, .dim = 128, .dtype = FATHOM_F32};
    struct build_estimate none = {.rows = 0, .dim = 128, .dtype = FATHOM_F32};
    assert_int_equal(build_predict(&options, &small, NULL), 0);
    assert_int_equal(build_predict(&options, &large, NULL), 0);
    assert_int_equal(build_predict(&options, &none, NULL), FATHOM_EARGUMENT);
    assert_true(large.disk_bytes > 1000000ull * 128 * 5);
    assert_true(large.peak_bytes > 1000000ull * 128 && large.peak_bytes < 1000000ull * 640);
    assert_true(large.seconds > 10 * small.seconds);
    assert_true(small.disk_bytes < large.disk_bytes / 500);
}

/* What a watch is told each time: by the shape alone, by a glance, by the probe. */
struct told {
    struct build_phase phases[3][BUILD_PHASES_MAX];
    unsigned counts[3], times;
};

static void note_expected(void *context, const struct build_phase *phases, unsigned count)
{
    struct told *told = context;
    assert_true(told->times < 3 && count <= BUILD_PHASES_MAX);
    memcpy(told->phases[told->times], phases, count * sizeof *phases);
    told->counts[told->times++] = count;
}

static double told_seconds(const struct told *told, unsigned time, const char *name)
{
    for (unsigned i = 0; i < told->counts[time]; i++)
        if (strcmp(told->phases[time][i].name, name) == 0)
            return told->phases[time][i].seconds;
    fail_msg("nothing was said of %s", name);
    return 0;
}

static struct told build_told(const struct scratch *scratch, uint32_t degree,
                              struct build_report *report)
{
    struct place place = place_of(scratch, "index");
    struct build_options options = options_for(&place, 2);
    struct told told = {.times = 0};
    struct fathom_error err;
    floats_file(place.input, ROWS, DIM, 1);
    options.degree = degree;
    options.watch = (struct build_watch){.expect = note_expected, .context = &told};
    if (build_run(&options, report, &err) != 0)
        fail_msg("%s", err.msg);
    return told;
}

static void what_is_expected_at_first_lies_between_easy_and_hard_data(void **state)
{
    struct place nowhere = {.input = {0}};
    struct build_options options = options_for(&nowhere, 2);
    struct build_estimate easy = {.rows = ROWS, .dim = DIM, .dtype = FATHOM_F32}, hard = easy;
    struct build_report report;
    struct told told = build_told(*state, 0, &report);
    build_report_fini(&report);
    options.input = NULL;
    assert_int_equal(build_predict(&options, &easy, NULL), 0);
    options.degree = DEGREE_HARD;
    assert_int_equal(build_predict(&options, &hard, NULL), 0);
    double graph = told_seconds(&told, 0, "graph") + told_seconds(&told, 0, BUILD_PHASE_PROBE),
           measure = told_seconds(&told, 0, "measure");
    assert_true(easy.stage_seconds[BUILD_GRAPH] < graph && graph < hard.stage_seconds[BUILD_GRAPH]);
    assert_true(easy.stage_seconds[BUILD_MEASURE] < measure &&
                measure < hard.stage_seconds[BUILD_MEASURE]);
}

/* So that the pace of what follows is not that of other stages, nor the time of the probe counted
 * twice. */
static void what_a_build_has_been_through_is_expected_as_it_was(void **state)
{
    struct build_report report;
    struct told told = build_told(*state, 0, &report);
    assert_int_equal(told.times, 3);
    assert_true(told_seconds(&told, 0, "read") > 0 && told_seconds(&told, 1, "read") == 0);
    for (int stage = BUILD_READ; stage <= BUILD_ORDER; stage++)
        assert_true(told_seconds(&told, 2, build_stage_name(stage)) ==
                    1e-9 * (double)report.stage_ns[stage]);
    double probe = told_seconds(&told, 2, BUILD_PHASE_PROBE);
    assert_true(probe > 0 && probe < 1e-9 * (double)report.stage_ns[BUILD_GRAPH]);
    assert_true(told_seconds(&told, 2, "graph") < report.predicted.stage_seconds[BUILD_GRAPH]);
    assert_true(told_seconds(&told, 2, "encode") == report.predicted.stage_seconds[BUILD_ENCODE]);
    build_report_fini(&report);
    told = build_told(*state, 16, &report); /* nothing to look for */
    for (unsigned time = 0; time < told.times; time++)
        assert_true(told_seconds(&told, time, BUILD_PHASE_PROBE) == 0);
    build_report_fini(&report);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(what_is_expected_at_first_lies_between_easy_and_hard_data,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(what_a_build_has_been_through_is_expected_as_it_was,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test(a_budget_below_the_rows_lets_them_stay_in_a_file),
    cmocka_unit_test_setup_teardown(a_build_is_sound_and_reports_what_it_did, scratch_make,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(only_what_builds_leave_is_taken_away, scratch_make,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(vectors_and_ids_belong_together, scratch_make, scratch_remove),
    cmocka_unit_test_setup_teardown(any_number_of_threads_gives_the_same_bytes, scratch_make,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(another_seed_is_another_generation, scratch_make,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(few_rows_and_every_metric_build, scratch_make, scratch_remove),
    cmocka_unit_test_setup_teardown(a_stopped_build_leaves_the_old_index_and_no_debris,
                                    scratch_make, scratch_remove),
    cmocka_unit_test_setup_teardown(a_failed_allocation_is_an_error_and_nothing_more, scratch_make,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(a_directory_that_cannot_be_locked_is_refused, scratch_make,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(a_directory_that_is_being_built_in_is_refused, scratch_make,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(a_build_above_the_memory_budget_is_refused_with_its_need,
                                    scratch_make, scratch_remove),
    cmocka_unit_test(estimates_grow_with_rows_and_refuse_nonsense),
};

FATHOM_TEST_MAIN(tests)
