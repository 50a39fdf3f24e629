/* Work files: what a build says it wrote is what lay in its directory, and what is predicted is
 * near it. No case hangs on the clock: builds save wherever they may, or never, or have a clock
 * that is set by hand. */
#include "builder_support.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "prng_unit.h"
#include "spill.h"
#include "work.h"

#define ROWS 6000

/* An env that looks at all work files before each rename: between two of them files only grow. */
struct watched {
    struct env env;
    const struct env *real;
    const char *dir;
    uint64_t most;
    bool stands;       /* the clock, at 0 but for */
    uint64_t graph_ns; /* what it says from where the graph is foreseen on */
    unsigned times_foreseen;
};

static uint64_t work_files(const char *path)
{
    uint64_t bytes = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char name[SCRATCH_PATH_MAX + sizeof entry->d_name];
        struct stat stat_buffer;
        if (strncmp(entry->d_name, WORK_PREFIX, strlen(WORK_PREFIX)) != 0)
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        assert_int_equal(stat(name, &stat_buffer), 0);
        bytes += (uint64_t)stat_buffer.st_size;
    }
    closedir(dir);
    return bytes;
}

static int watched_rename(void *context, const char *from, const char *to)
{
    struct watched *watched = context;
    uint64_t now = work_files(watched->dir);
    watched->most = now > watched->most ? now : watched->most;
    return watched->real->rename(watched->real->context, from, to);
}

static uint64_t watched_clock(void *context)
{
    struct watched *watched = context;
    if (!watched->stands)
        return watched->real->clock_ns(watched->real->context);
    return watched->times_foreseen > 2 ? watched->graph_ns
                                       : 0; /* the first two are before and after reading */
}

static void count_foreseen(void *context, const struct build_phase *phases, unsigned count)
{
    struct watched *watched = context;
    (void)phases;
    (void)count;
    watched->times_foreseen++;
}

struct shape {
    uint32_t dim, parts, code_bits;
    uint64_t checkpoint_ns;
    uint32_t held;
};

/* Rows of one cloud with six directions: without gaps, so that parts have halos as real ones do. */
static void cloud_write(const char *path, uint32_t dim)
{
    struct prng prng;
    float *values = malloc((size_t)ROWS * dim * sizeof *values),
          *mix = malloc(6 * dim * sizeof *mix);
    assert_true(values && mix);
    prng_init(&prng, 1, 1);
    for (uint32_t i = 0; i < 6 * dim; i++)
        mix[i] = (float)(prng_unit(&prng) - 0.5);
    for (float *row = values; row < values + (size_t)ROWS * dim; row += dim) {
        float place[6];
        for (int i = 0; i < 6; i++)
            place[i] = (float)(prng_unit(&prng) + prng_unit(&prng) - 1);
        for (uint32_t d = 0; d < dim; d++) {
            row[d] = 0.1f * (float)prng_unit(&prng);
            for (int i = 0; i < 6; i++)
                row[d] += place[i] * mix[i * dim + d];
        }
    }
    floats_write(path, values, ROWS, dim);
    free(values);
    free(mix);
}

/* Builds the shape; watched->most: what lay in the directory at its most. */
static struct build_report build_watched(const struct scratch *scratch, const struct shape *shape,
                                         struct watched *watched)
{
    char input[SCRATCH_PATH_MAX], out[SCRATCH_PATH_MAX];
    struct build_options options = build_options_default();
    struct build_report report;
    struct fathom_error err;
    watched->env = *env_os();
    watched->real = env_os();
    watched->dir = out;
    watched->env.rename = watched_rename;
    watched->env.clock_ns = watched_clock;
    watched->env.context = watched;
    scratch_name(scratch, "base.fbin", input);
    scratch_name(scratch, "index", out);
    cloud_write(input, shape->dim);
    options.input = input;
    options.out = out;
    options.parts = shape->parts;
    options.code_bits = shape->code_bits;
    options.checkpoint_ns = shape->checkpoint_ns;
    options.held_rows = shape->held;
    options.degree = watched->stands ? 32 : 0; /* a probe says how fast the machine is */
    options.env = &watched->env;
    options.watch = (struct build_watch){.expect = count_foreseen, .context = watched};
    if (build_run(&options, &report, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(work_files(out), 0);
    return report;
}

static struct build_report build_shape(const struct scratch *scratch, const struct shape *shape,
                                       uint64_t *seen)
{
    struct watched watched = {0};
    struct build_report report = build_watched(scratch, shape, &watched);
    *seen = watched.most;
    return report;
}

static void a_build_says_what_its_work_files_took_and_it_was_predicted(void **state)
{
    static const struct shape shapes[] = {
        {16, 0, 6, 0, 0}, {96, 0, 6, 0, 0}, {96, 0, 1, 0, 0},    {48, 2, 6, 0, 0},
        {96, 3, 6, 0, 0}, {96, 2, 1, 0, 0}, {48, 2, 6, 0, 1500}, {512, 2, 1, 0, 1500}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        uint64_t seen;
        struct build_report report = build_shape(*state, &shapes[i], &seen);
        double predicted = (double)report.predicted.temporary_bytes;
        assert_int_equal(report.temporary_bytes, seen);
        if (predicted < 0.9 * (double)seen || predicted > 1.1 * (double)seen)
            fail_msg("shape %zu: %.0f predicted, %.0f seen", i, predicted, (double)seen);
        build_report_fini(&report);
    }
}

static void a_build_that_never_saves_writes_nothing_and_says_so(void **state)
{
    struct shape shape = {16, 0, 6, UINT64_MAX, 0};
    uint64_t seen;
    struct build_report report = build_shape(*state, &shape, &seen);
    assert_int_equal(seen, 0);
    assert_int_equal(report.temporary_bytes, 0);
    assert_int_equal(report.predicted.temporary_bytes, 0);
    build_report_fini(&report);
}

/* The clock departs from what was foreseen, to either side, and what is written does not. */
static void what_was_foreseen_is_written_though_the_clock_is_off(void **state)
{
    const uint64_t second = 1000000000;
    struct shape long_enough = {16, 0, 6, 1, 0}, too_short = {16, 0, 6, 10 * second, 0};
    struct watched fast = {.stands = true}, slow = {.stands = true, .graph_ns = 15 * second},
                   far_too_slow = {.stands = true, .graph_ns = 25 * second};
    struct build_report report = build_watched(*state, &long_enough, &fast);
    assert_true(report.predicted.temporary_bytes > ROWS * 100);
    assert_true(fast.most > ROWS * 100);
    build_report_fini(&report);
    report = build_watched(*state, &too_short, &slow);
    assert_int_equal(report.predicted.temporary_bytes, 0);
    assert_true(slow.most < 16 * 4096); /* state, input, written: once all but measuring is done */
    build_report_fini(&report);
    /* What is lost with a kill counts for more in the end. */
    report = build_watched(*state, &too_short, &far_too_slow);
    assert_true(far_too_slow.most > ROWS * 100);
    build_report_fini(&report);
}

/* A million rows, with stages of so many seconds. */
static uint64_t most_of(double graph_seconds, uint32_t parts)
{
    struct spill_shape shape = {.rows = 1000000,
                                .dim = 128,
                                .degree = 32,
                                .parts = parts,
                                .mean_degree = 25,
                                .code_bytes = 104,
                                .list_bytes = 50000000};
    double seconds[BUILD_STAGES] = {[BUILD_GRAPH] = graph_seconds};
    return spill_predict(&shape, seconds, NULL, 5000000000u).bytes;
}

/* Rows, lists and codes; nothing of it in a build that is over before it would begin. */
static void what_is_saved_is_saved_whole_or_not_at_all(void **state)
{
    uint64_t rows = 132000000, lists = 104000000, codes = 104000000, whole = rows + lists + codes;
    (void)state;
    assert_int_equal(most_of(1, 0), 0);
    assert_true(most_of(6, 0) < 100000);
    for (double seconds = 12; seconds < 1000; seconds *= 2) {
        assert_true(most_of(seconds, 0) > whole);
        assert_true((double)most_of(seconds, 0) < 1.05 * (double)whole);
    }
    assert_true(most_of(1, 2) > rows);
    assert_int_equal(most_of(1, 2), most_of(1000, 2));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(a_build_says_what_its_work_files_took_and_it_was_predicted,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(a_build_that_never_saves_writes_nothing_and_says_so,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(what_was_foreseen_is_written_though_the_clock_is_off,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test(what_is_saved_is_saved_whole_or_not_at_all),
};

FATHOM_TEST_MAIN(tests)
