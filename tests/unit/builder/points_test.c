/* Operating points measured under a budget: they are those that would be measured without one, as
 * far as there is room. */
#include "builder_support.h"

#include <pthread.h>
#include <string.h>

#include "format.h"
#include "index.h"
#include "points.h"

#define DIM           12
#define ROWS          72000 /* so many that lists take more than the scratch of reading them */
#define DEGREE        64
#define STOPPED_ROWS  20000
#define STRETCH_BYTES (64u << 10) /* more than a search reads at once */
#define WALKS         8           /* searches in flight while points are measured */

struct measured {
    struct operating_point points[POINTS_MAX];
    uint32_t count;
    pthread_mutex_t lock;
    double share; /* of it that was reported in the end */
};

/* The path of an index with many long lists. */
static void build_index(const struct scratch *scratch, uint64_t rows, char *path)
{
    char input[SCRATCH_PATH_MAX], out[SCRATCH_PATH_MAX];
    struct build_options options = build_options_default();
    struct build_report report;
    struct fathom_error err;
    scratch_name(scratch, "base.fbin", input);
    scratch_name(scratch, "index", out);
    scratch_name(scratch, "index/" FORMAT_FILE_NAME, path);
    floats_file(input, rows, DIM, 1);
    options.input = input;
    options.out = out;
    options.degree = DEGREE;
    options.build_list = DEGREE / 2;
    options.threads = 2;
    options.no_points = true; /* measured by each case as it wants */
    if (build_run(&options, &report, &err) != 0)
        fail_msg("%s", err.msg);
    build_report_fini(&report);
}

/* By one of several threads: what comes late is not less than what was said before. */
static void note_share(void *context, uint64_t done, uint64_t total)
{
    struct measured *measured = context;
    double share = (double)done / (double)total;
    assert_true(done <= total);
    pthread_mutex_lock(&measured->lock);
    measured->share = share > measured->share ? share : measured->share;
    pthread_mutex_unlock(&measured->lock);
}

static void measure(const char *path, unsigned threads, uint64_t budget, struct measured *out)
{
    struct points_options options = {.threads = threads,
                                     .budget_bytes = budget,
                                     .sample_share = 0.6,
                                     .watch = {.advance = note_share, .context = out}};
    struct fathom_error err;
    pthread_mutex_init(&out->lock, NULL);
    out->share = 0;
    struct usual usual;
    if (points_measure(env_os(), path, &options, out->points, &out->count, &usual, &err) != 0)
        fail_msg("%s", err.msg);
}

static uint32_t count_of(const struct measured *measured, const struct operating_point *like)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < measured->count; i++)
        count += measured->points[i].navigator == like->navigator &&
                 measured->points[i].code_bytes == like->code_bytes;
    return count;
}

/* Every point of part is one of all, and a residency has all of its points or none. */
static void assert_part_of(const struct measured *part, const struct measured *all)
{
    for (uint32_t i = 0; i < part->count; i++) {
        bool known = false;
        for (uint32_t j = 0; j < all->count; j++)
            known = known || memcmp(&part->points[i], &all->points[j], sizeof *all->points) == 0;
        assert_true(known);
        assert_int_equal(count_of(part, &part->points[i]), count_of(all, &part->points[i]));
    }
}

/* What an opened index with these codes and so much of its lists keeps in memory. */
static uint64_t opened_bytes(const char *path, uint32_t code_bytes, float list_share)
{
    struct fathom_open_options options = fathom_open_options_default();
    struct fathom_outlook outlook;
    struct fathom_error err;
    options.navigator = FATHOM_NAVIGATOR_GRAPH;
    options.code_bytes = code_bytes;
    options.list_share = list_share;
    options.inflight = WALKS;
    options.page_buffers = 8 * WALKS;
    if (index_outlook_file(env_os(), path, &options, &outlook, &err) != 0)
        fail_msg("%s", err.msg);
    return outlook.total_bytes;
}

static void a_budget_leaves_points_as_they_are(void **state)
{
    static struct measured all, part;
    char path[SCRATCH_PATH_MAX];
    build_index(*state, ROWS, path);
    measure(path, 2, 0, &all);
    assert_true(all.share > 0.99);
    const struct operating_point *graph = &all.points[0];
    assert_int_equal(graph->navigator, FATHOM_NAVIGATOR_GRAPH);

    /* Room for the codes, and not for all lists beside them. */
    uint64_t whole = opened_bytes(path, graph->code_bytes, 0);
    uint64_t budget = opened_bytes(path, graph->code_bytes, 0.01f);
    assert_true(budget < whole);
    for (unsigned threads = 1; threads <= 2; threads++) {
        measure(path, threads, budget, &part);
        assert_part_of(&part, &all);
        assert_int_equal(count_of(&part, graph), count_of(&all, graph));
        assert_true(part.count < all.count);
    }
    /* Room for everything, one after the other. */
    measure(path, 2, opened_bytes(path, 0, 0), &part);
    assert_int_equal(part.count, all.count);
    assert_memory_equal(part.points, all.points, all.count * sizeof *all.points);
    /* And for nothing. */
    measure(path, 2, 1 << 16, &part);
    assert_int_equal(part.count, 0);
    assert_true(part.share < 0.61);
}

/* ---- a stop ---- */

/* An env that counts the reads of whole stretches of the file, and wants all to end after some. */
struct counting {
    struct env env;
    const struct env *real;
    uint32_t reads, last; /* last: after which it is to stop; 0: never */
};

static ssize_t counting_pread(void *context, int fd, void *out, size_t bytes, uint64_t offset)
{
    struct counting *counting = context;
    counting->reads += bytes >= STRETCH_BYTES;
    return counting->real->pread(counting->real->context, fd, out, bytes, offset);
}

static bool enough(void *context)
{
    const struct counting *counting = context;
    return counting->last && counting->reads >= counting->last;
}

static int measure_until(const char *path, struct counting *counting)
{
    static struct operating_point points[POINTS_MAX];
    struct points_options options = {.threads = 1,
                                     .watch = {.stopped = enough, .context = counting}};
    struct fathom_error err;
    uint32_t count;
    *counting = (struct counting){.env = *env_os(), .real = env_os(), .last = counting->last};
    counting->env.pread = counting_pread;
    counting->env.context = counting;
    struct usual usual;
    return points_measure(&counting->env, path, &options, points, &count, &usual, &err);
}

/* Residencies of a large index are GiBs: neither the one that is being loaded nor those that would
 * follow may keep a stop waiting. */
static void nothing_more_is_loaded_once_it_is_to_stop(void **state)
{
    char path[SCRATCH_PATH_MAX];
    struct counting counting = {.last = 0};
    build_index(*state, STOPPED_ROWS, path);
    assert_int_equal(measure_until(path, &counting), 0);
    uint32_t whole = counting.reads;
    assert_true(whole > 10);
    for (uint32_t last = 1; last < whole; last += 1 + last / 3) {
        counting.last = last;
        assert_int_equal(measure_until(path, &counting), FATHOM_EINTERRUPTED);
        assert_int_equal(counting.reads, last);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(nothing_more_is_loaded_once_it_is_to_stop, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(a_budget_leaves_points_as_they_are, scratch_make_fast,
                                    scratch_remove),
};

FATHOM_TEST_MAIN(tests)
