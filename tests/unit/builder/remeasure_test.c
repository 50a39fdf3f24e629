/* Measuring an index that is there anew: all but its points stays, and when it is killed, fails or
 * is stopped anywhere, what is there is the old index or the new one, byte by byte. */
#include "trial.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "format.h"
#include "lock.h"
#include "work.h"

#define ROWS           TRIAL_ROWS_MANY
#define QUERIES        60 /* few: how many they are changes nothing here but the time */
#define QUERIES_FEWEST 3
#define PLACES         16 /* in a run, where it is killed, fails or is stopped */
#define ENDING         16 /* operations that end it: publishing is among them */
#define ALONE          3  /* entries of a folder that holds one file, with . and .. */

/* An index, what it is to be measured on, and what comes of it. */
struct anew {
    struct trial trial;
    char query[SCRATCH_PATH_MAX];
    uint32_t queries;
    struct bytes old, new;
};

static struct bytes bytes_of(const char *path)
{
    struct bytes bytes;
    bytes.data = file_slurp(path, &bytes.count);
    return bytes;
}

static bool is_equal(const struct bytes *a, const struct bytes *b)
{
    return a->count == b->count && memcmp(a->data, b->data, a->count) == 0;
}

static struct build_options options_of(const struct anew *anew, const struct env *env)
{
    struct build_options options = build_options_default();
    options.out = anew->trial.out;
    options.query = anew->query;
    options.measured = anew->queries;
    options.threads = 1; /* so that operations have the same numbers every time */
    options.env = env;
    return options;
}

static int run(const struct build_options *options, struct fathom_error *err)
{
    struct points_report report;
    return build_points(options, &report, err);
}

static void run_or_fail(const struct build_options *options)
{
    struct fathom_error err;
    if (run(options, &err) != 0)
        fail_msg("%s", err.msg);
}

/* The old index is there again, and nothing beside it. */
static void lay_old(const struct anew *anew)
{
    char *left;
    while ((left = path_with(anew->trial.out, TRIAL_MARK))) {
        unlink(left);
        free(left);
    }
    FILE *file = fopen(anew->trial.index, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(anew->old.data, 1, anew->old.count, file), anew->old.count);
    fclose(file);
}

static struct anew *anew_make_of(const struct scratch *scratch, uint32_t queries)
{
    struct anew *anew = calloc(1, sizeof *anew);
    struct fathom_error err;
    anew->trial = trial_of(scratch, ROWS);
    anew->trial.measured = anew->queries = queries;
    scratch_name(scratch, "query.fbin", anew->query);
    floats_file(anew->query, queries, TRIAL_DIM, 2);
    if (trial_build(&anew->trial, env_os(), false, &err) != 0)
        fail_msg("%s", err.msg);
    anew->old = bytes_of(anew->trial.index);
    struct build_options options = options_of(anew, env_os());
    run_or_fail(&options);
    anew->new = bytes_of(anew->trial.index);
    assert_false(is_equal(&anew->old, &anew->new));
    lay_old(anew);
    return anew;
}

static struct anew *anew_make(const struct scratch *scratch)
{
    return anew_make_of(scratch, QUERIES);
}

static void anew_free(struct anew *anew)
{
    free(anew->old.data);
    free(anew->new.data);
    free(anew);
}

/* Whether it is the new one. */
static bool assert_old_or_new(const struct anew *anew, const char *plan)
{
    struct bytes now = bytes_of(anew->trial.index);
    bool old = is_equal(&now, &anew->old), new = is_equal(&now, &anew->new);
    free(now.data);
    if (!old && !new)
        fail_msg("%s: neither the old index nor the new one", plan);
    return new;
}

/* ---- what comes of it ---- */

struct collected {
    uint8_t *data;
    size_t bytes;
};

static int collect(void *context, const uint8_t *payload, size_t bytes, struct fathom_error *err)
{
    struct collected *all = context;
    (void)err;
    all->data = realloc(all->data, all->bytes + bytes);
    memcpy(all->data + all->bytes, payload, bytes);
    all->bytes += bytes;
    return 0;
}

/* Every section but two has what it had. */
static void assert_rest_equal(const struct index_file *before, const struct index_file *after)
{
    assert_int_equal(before->super.section_count, after->super.section_count);
    for (uint32_t i = 0; i < before->super.section_count; i++) {
        const struct section *a = &before->super.sections[i], *b = &after->super.sections[i];
        struct collected one = {0}, other = {0};
        assert_int_equal(a->kind, b->kind);
        if (a->kind == SECTION_MANIFEST || a->kind == SECTION_POINTS)
            continue;
        assert_int_equal(index_file_stream(before, a, collect, &one, NULL), 0);
        assert_int_equal(index_file_stream(after, b, collect, &other, NULL), 0);
        assert_int_equal(a->bytes, b->bytes);
        assert_int_equal(one.bytes, other.bytes);
        assert_memory_equal(one.data, other.data, one.bytes);
        free(one.data);
        free(other.data);
    }
}

static void all_but_manifest_and_points_stays(void **state)
{
    struct anew *anew = anew_make(*state);
    struct build_options options = options_of(anew, env_os());
    struct index_file before, after;
    struct fathom_verify_report verified;
    struct points_report report;
    assert_int_equal(index_file_open(&before, env_os(), anew->trial.out, NULL), 0);
    assert_int_equal(build_points(&options, &report, NULL), 0);
    /* Who has the old one open reads it to the end. */
    assert_int_equal(index_file_open(&after, env_os(), anew->trial.out, NULL), 0);
    assert_rest_equal(&before, &after);
    struct properties expected = before.super.properties;
    assert_int_equal(report.previous_generation, expected.generation);
    assert_int_not_equal(report.generation, expected.generation);
    expected.generation = report.generation;
    assert_true(after.super.properties.usual.row != expected.usual.row); /* rows, then queries */
    expected.usual = after.super.properties.usual;
    assert_memory_equal(&after.super.properties, &expected, sizeof expected);
    assert_int_equal(report.points * FORMAT_POINT_BYTES,
                     superblock_find(&after.super, SECTION_POINTS)->bytes);
    assert_int_equal(report.queries, QUERIES);
    assert_int_equal(report.index_bytes, after.super.file_pages * PAGE_BYTES);
    assert_int_equal(fathom_verify(anew->trial.out, true, &verified, NULL, NULL, NULL), 0);
    assert_int_equal(names_with(anew->trial.out, ""), ALONE);
    index_file_close(&before);
    index_file_close(&after);
    anew_free(anew);
}

static void the_same_queries_give_the_same_bytes(void **state)
{
    struct anew *anew = anew_make(*state);
    struct build_options options = options_of(anew, env_os());
    /* Of the old index by several threads; and of what has been measured before, on others. */
    for (options.threads = 2; options.threads <= 4; options.threads += 2) {
        run_or_fail(&options);
        assert_true(assert_old_or_new(anew, "threads"));
    }
    options.query = NULL;
    run_or_fail(&options);
    struct bytes by_rows = bytes_of(anew->trial.index);
    assert_false(is_equal(&by_rows, &anew->new));
    free(by_rows.data);
    options.query = anew->query;
    run_or_fail(&options);
    assert_true(assert_old_or_new(anew, "again"));
    anew_free(anew);
}

/* ---- what ends it ---- */

static int operations(const struct anew *anew)
{
    struct fault_env fault;
    assert_int_equal(fault_init(&fault, env_os(), "", NULL), 0);
    struct build_options options = options_of(anew, &fault.env);
    run_or_fail(&options);
    lay_old(anew);
    return (int)fault_ops(&fault);
}

/* The next of all operations to be tried: PLACES of them, and each of the last. */
static int next_place(int n, int all)
{
    int step = all / PLACES > 0 ? all / PLACES : 1, ending = all - ENDING;
    return n >= ending ? n + 1 : n + step < ending ? n + step : ending;
}

static bool is_killed(const struct anew *anew, const char *plan)
{
    int how;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct fault_env fault;
        struct build_options options = options_of(anew, &fault.env);
        if (fault_init(&fault, env_os(), plan, NULL) == 0)
            (void)!run(&options, NULL);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    return WIFSIGNALED(how);
}

static void killed_anywhere_it_leaves_the_old_index_or_the_new(void **state)
{
    struct anew *anew = anew_make(*state);
    struct build_options options = options_of(anew, env_os());
    int all = operations(anew), new = 0;
    for (int n = 1; n <= all; n = next_place(n, all)) {
        char plan[64];
        snprintf(plan, sizeof plan, "op=%d:kill", n);
        lay_old(anew);
        assert_true(is_killed(anew, plan));
        new += assert_old_or_new(anew, plan);
    }
    assert_true(new >= 1 && new < ENDING);
    /* What the last ones left is taken away by the next. */
    lay_old(anew);
    assert_true(is_killed(anew, "op=40:kill"));
    assert_true(names_with(anew->trial.out, TRIAL_MARK) == 1);
    run_or_fail(&options);
    assert_true(assert_old_or_new(anew, "debris"));
    assert_int_equal(names_with(anew->trial.out, ""), ALONE);
    anew_free(anew);
}

/* One run under a plan. */
static void try_plan(const struct anew *anew, const char *plan)
{
    struct fault_env fault;
    struct fathom_error err = {0};
    unsigned fds = open_fds();
    lay_old(anew);
    assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
    struct build_options options = options_of(anew, &fault.env);
    int status = run(&options, &err);
    assert_int_equal(open_fds(), fds);
    assert_true(fault_fired(&fault) > 0);
    if (status != 0 && err.msg[0] == 0)
        fail_msg("%s: %d without a message", plan, status);
    bool new = assert_old_or_new(anew, plan);
    if (status == 0 && !new)
        fail_msg("%s: passed, and the index is the old one", plan);
    /* What fails last is syncing the directory, which says so. */
    if (status != 0 && new && !message_has(&err, "is in place"))
        fail_msg("%s: the new index is there, and yet: %s", plan, err.msg);
    /* It was the file that shows that the folder can be written to which could not be removed. */
    bool tried = names_with(anew->trial.out, WORK_PREFIX "lock") > 0;
    if (!strchr(plan, '+') && names_with(anew->trial.out, TRIAL_MARK) != tried)
        fail_msg("%s: a temporary file is left", plan);
}

static void any_operation_may_fail(void **state)
{
    static const char *const actions[] = {":EIO", ":ENOSPC", ":EINTR", "+:EIO", "+:ENOSPC"};
    struct anew *anew = anew_make(*state);
    int all = operations(anew), turn = 0;
    for (int n = 1; n <= all; n = next_place(n, all)) {
        char plan[64];
        snprintf(plan, sizeof plan, "op=%d%s", n,
                 actions[turn++ % (sizeof actions / sizeof *actions)]);
        try_plan(anew, plan);
    }
    anew_free(anew);
}

/* Each, and not some as above: on so few queries that there is time for it. */
static void each_operation_may_fail_or_be_the_last(void **state)
{
    static const char *const actions[] = {":EIO", ":ENOSPC", "+:EIO", ":EINTR", "+:ENOSPC"};
    struct anew *anew = anew_make_of(*state, QUERIES_FEWEST);
    int all = operations(anew), new = 0;
    for (int n = 1; n <= all; n++) {
        char plan[64];
        snprintf(plan, sizeof plan, "op=%d%s", n, actions[n % (sizeof actions / sizeof *actions)]);
        try_plan(anew, plan);
        snprintf(plan, sizeof plan, "op=%d:kill", n);
        lay_old(anew);
        assert_true(is_killed(anew, plan));
        new += assert_old_or_new(anew, plan);
    }
    assert_true(new >= 1 && new < ENDING);
    anew_free(anew);
}

static void what_is_read_wrong_is_found(void **state)
{
    struct anew *anew = anew_make(*state);
    for (int n = 1; n < 400; n += 1 + n / 6) {
        char plan[64];
        snprintf(plan, sizeof plan, "read#%d:flip=bit%d", n, 40000 + 77 * n);
        try_plan(anew, plan);
    }
    anew_free(anew);
}

/* Wants to end once it was asked so often. */
struct patience {
    int asked, last; /* last 0: never */
};

static bool is_over(void *context)
{
    struct patience *patience = context;
    return ++patience->asked > patience->last && patience->last;
}

static void stopped_anywhere_it_leaves_the_old_index_alone(void **state)
{
    struct anew *anew = anew_make(*state);
    struct build_options options = options_of(anew, env_os());
    struct patience patience = {0};
    options.watch = (struct build_watch){.stopped = is_over, .context = &patience};
    run_or_fail(&options);
    int all = patience.asked;
    lay_old(anew);
    assert_true(all > 10 * PLACES);
    for (int i = 0; i < PLACES; i++) {
        struct fathom_error err = {0};
        patience = (struct patience){.last = 1 + (all - 2) / (PLACES - 1) * i};
        assert_int_equal(run(&options, &err), FATHOM_EINTERRUPTED);
        assert_true(err.msg[0] != 0);
        assert_false(assert_old_or_new(anew, "a stop"));
        assert_int_equal(names_with(anew->trial.out, ""), ALONE);
    }
    anew_free(anew);
}

/* ---- progress ---- */

struct progress {
    pthread_mutex_t lock;
    uint64_t last;
    unsigned steps;
    bool measuring;
};

static void note_phase(void *context, const char *phase, uint64_t total, const char *unit)
{
    struct progress *progress = context;
    (void)total, (void)unit;
    progress->measuring = strcmp(phase, "measure") == 0;
}

/* Threads may tell a little late what another has overtaken. */
static void note_advance(void *context, uint64_t done)
{
    struct progress *progress = context;
    pthread_mutex_lock(&progress->lock);
    if (progress->measuring && done > progress->last) {
        progress->last = done;
        progress->steps++;
    }
    pthread_mutex_unlock(&progress->lock);
}

/* A residency takes a thirteenth of the time: too long to stand still. */
static void measuring_moves_on_within_each_residency(void **state)
{
    struct anew *anew = anew_make(*state);
    struct build_options options = options_of(anew, env_os());
    struct progress progress = {.lock = PTHREAD_MUTEX_INITIALIZER};
    options.watch =
        (struct build_watch){.phase = note_phase, .advance = note_advance, .context = &progress};
    run_or_fail(&options);
    assert_true(progress.steps > 2 * 13);
    assert_in_range(progress.last, ROWS / 2, ROWS);
    anew_free(anew);
}

/* ---- beside builds ---- */

static void a_build_in_the_same_directory_comes_first(void **state)
{
    struct anew *anew = anew_make(*state);
    struct build_options options = options_of(anew, env_os());
    struct fathom_error err = {0};
    int lock = lock_directory(env_os(), anew->trial.out, NULL);
    assert_true(lock >= 0);
    assert_int_equal(run(&options, &err), -EBUSY);
    assert_true(message_has(&err, "another build"));
    file_close(env_os(), lock);
    assert_false(assert_old_or_new(anew, "a lock"));
    run_or_fail(&options);
    anew_free(anew);
}

static void an_interrupted_build_can_still_be_gone_on_with(void **state)
{
    struct anew *anew = anew_make(*state);
    struct trial *trial = &anew->trial;
    struct build_options options = options_of(anew, env_os());
    trial_kill_before_points(trial, *state, 120, 10);
    run_or_fail(&options);
    assert_true(assert_old_or_new(anew, "beside a build"));
    assert_true(names_with(trial->out, WORK_PREFIX) > 0);
    trial_assert_resumes_to(trial, &anew->old, "measuring");
    anew_free(anew);
}

/* ---- what is refused ---- */

static void refuse(const struct anew *anew, const struct build_options *options, int status,
                   const char *first, const char *second)
{
    struct fathom_error err = {0};
    assert_int_equal(run(options, &err), status);
    if (!message_has(&err, first) || !message_has(&err, second))
        fail_msg("%s: neither %s nor %s", err.msg, first, second);
    assert_false(assert_old_or_new(anew, first));
    assert_int_equal(names_with(anew->trial.out, ""), ALONE);
}

static void queries_that_are_wrong_are_refused(void **state)
{
    struct anew *anew = anew_make(*state);
    struct build_options options = options_of(anew, env_os());
    float rows[2 * TRIAL_DIM] = {1, 2, 3};
    floats_file(anew->query, 10, TRIAL_DIM + 1, 2);
    refuse(anew, &options, FATHOM_EDIM, "query.fbin", "7 dimensions, and the vectors 6");
    rows[TRIAL_DIM + 4] = NAN;
    floats_write(anew->query, rows, 2, TRIAL_DIM);
    refuse(anew, &options, FATHOM_EINPUT, "query.fbin: row 1, column 4", "NaN");
    options.query = "missing.npy";
    refuse(anew, &options, -ENOENT, "missing.npy", "");
    anew_free(anew);
}

static void a_budget_that_is_too_small_leaves_the_points_that_there_are(void **state)
{
    struct anew *anew = anew_make(*state);
    struct build_options options = options_of(anew, env_os());
    options.memory_budget_bytes = 1 << 20;
    refuse(anew, &options, FATHOM_EBUDGET, "within 1 MiB", "raise --memory-budget");
    options.memory_budget_bytes = 1ull << 30;
    run_or_fail(&options);
    anew_free(anew);
}

static void an_index_that_is_damaged_is_not_copied(void **state)
{
    struct anew *anew = anew_make(*state);
    struct build_options options = options_of(anew, env_os());
    for (size_t page = 0; page < anew->old.count / PAGE_BYTES; page++) {
        size_t at = page * PAGE_BYTES + 100 + page;
        struct fathom_error err = {0};
        anew->old.data[at] ^= 4;
        lay_old(anew);
        int status = run(&options, &err);
        if (status == 0) { /* a point, which nobody reads any more */
            assert_true(assert_old_or_new(anew, "a point"));
        } else {
            assert_true(status == FATHOM_ECHECKSUM && message_has(&err, "checksum mismatch"));
            assert_false(assert_old_or_new(anew, "damage"));
        }
        assert_int_equal(names_with(anew->trial.out, ""), ALONE);
        anew->old.data[at] ^= 4;
    }
    anew_free(anew);
}

static void what_is_no_index_or_too_small_is_named(void **state)
{
    struct trial trial = trial_of(*state, TRIAL_ROWS);
    struct build_options options = build_options_default();
    struct fathom_error err = {0};
    options.out = trial.out;
    assert_int_equal(run(&options, &err), -ENOENT);
    assert_true(message_has(&err, trial.out) && !path_exists(trial.out));
    options.out = trial.input;
    assert_int_equal(run(&options, &err), -ENOTDIR);
    assert_int_equal(mkdir(trial.out, 0755), 0);
    options.out = trial.out;
    assert_int_equal(run(&options, &err), -ENOENT);
    assert_true(message_has(&err, "no index in this directory"));
    assert_int_equal(trial_build(&trial, env_os(), false, NULL), 0);
    struct bytes before = bytes_of(trial.index);
    assert_int_equal(run(&options, &err), FATHOM_EARGUMENT);
    assert_true(message_has(&err, "500 rows") && message_has(&err, "from 2000 rows on"));
    struct bytes after = bytes_of(trial.index);
    assert_true(is_equal(&before, &after));
    free(before.data);
    free(after.data);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, scratch_make_fast, scratch_remove)

static const struct CMUnitTest tests[] = {
    CASE(all_but_manifest_and_points_stays),
    CASE(the_same_queries_give_the_same_bytes),
    CASE(killed_anywhere_it_leaves_the_old_index_or_the_new),
    CASE(any_operation_may_fail),
    CASE(each_operation_may_fail_or_be_the_last),
    CASE(what_is_read_wrong_is_found),
    CASE(measuring_moves_on_within_each_residency),
    CASE(stopped_anywhere_it_leaves_the_old_index_alone),
    CASE(a_build_in_the_same_directory_comes_first),
    CASE(an_interrupted_build_can_still_be_gone_on_with),
    CASE(queries_that_are_wrong_are_refused),
    CASE(a_budget_that_is_too_small_leaves_the_points_that_there_are),
    CASE(an_index_that_is_damaged_is_not_copied),
    CASE(what_is_no_index_or_too_small_is_named),
};

FATHOM_TEST_MAIN(tests)
