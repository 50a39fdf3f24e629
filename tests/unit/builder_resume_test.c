/* Builds that are killed, fail or are stopped at any operation, and those that take over from them.
 * The index is the same, byte by byte, as that of a build that nobody disturbed. */
#include "builder_support.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "format.h"
#include "mem.h"
#include "work.h"

#define ROWS      500
#define ROWS_MANY 2100 /* operating points are measured from 2,000 on */
#define DIM       6
#define MARK      ".tmp-"

/* Where the builds of a test read and write, and what they have in common. */
struct trial {
    char input[SCRATCH_PATH_MAX], out[SCRATCH_PATH_MAX], index[SCRATCH_PATH_MAX];
    char notes[1024], phases[256]; /* of the last build */
    uint32_t parts;                /* of its graph; 0: all in memory */
    uint32_t held;                 /* rows in memory at a time until then; 0: all */
    uint32_t piece;                /* rows that are encoded and written between two checkpoints */
    bool tuned;                    /* R and L are chosen by the build */
};

static struct trial trial_of(const struct scratch *scratch, uint64_t rows)
{
    struct trial trial = {0};
    scratch_name(scratch, "base.fbin", trial.input);
    scratch_name(scratch, "index", trial.out);
    scratch_name(scratch, "index/" FORMAT_FILE_NAME, trial.index);
    floats_file(trial.input, rows, DIM, 1);
    return trial;
}

static void take_note(void *context, const char *text)
{
    struct trial *trial = context;
    size_t used = strlen(trial->notes);
    snprintf(trial->notes + used, sizeof trial->notes - used, "%s\n", text);
}

static void take_phase(void *context, const char *phase, uint64_t total, const char *unit)
{
    struct trial *trial = context;
    size_t used = strlen(trial->phases);
    (void)total;
    (void)unit;
    snprintf(trial->phases + used, sizeof trial->phases - used, " %s", phase);
}

static struct build_options options_for(struct trial *trial, const struct env *env, bool resume)
{
    struct build_options options = build_options_default();
    options.input = trial->input;
    options.out = trial->out;
    options.degree = trial->tuned ? 0 : 8;
    options.build_list = trial->tuned ? 0 : 8;
    options.threads = 1; /* so that operations have the same numbers every time */
    options.checkpoint_ns = 0;
    options.parts = trial->parts;
    options.held_rows = trial->held;
    options.piece_rows = trial->piece;
    options.resume = resume;
    options.env = env;
    options.watch = (struct build_watch){.note = take_note, .phase = take_phase, .context = trial};
    trial->notes[0] = trial->phases[0] = 0;
    return options;
}

static int run(const struct build_options *options, struct fathom_error *err)
{
    struct build_report report;
    int status = build_run(options, &report, err);
    if (status == 0)
        build_report_fini(&report);
    return status;
}

static int build(struct trial *trial, const struct env *env, bool resume, struct fathom_error *err)
{
    struct build_options options = options_for(trial, env, resume);
    return run(&options, err);
}

struct bytes {
    uint8_t *data;
    size_t count;
};

/* The index of a build that is left alone. */
static struct bytes undisturbed(struct trial *trial)
{
    struct bytes bytes;
    struct fathom_error err;
    if (build(trial, env_os(), false, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(names_with(trial->out, MARK), 0);
    bytes.data = file_slurp(trial->index, &bytes.count);
    unlink(trial->index);
    return bytes;
}

static void assert_resumes_to(struct trial *trial, const struct bytes *expected, const char *plan)
{
    struct bytes got;
    struct fathom_error err;
    if (build(trial, env_os(), true, &err) != 0)
        fail_msg("resuming after %s: %s", plan, err.msg);
    got.data = file_slurp(trial->index, &got.count);
    if (got.count != expected->count || memcmp(got.data, expected->data, got.count) != 0)
        fail_msg("resuming after %s: another index", plan);
    if (names_with(trial->out, MARK) != 0)
        fail_msg("resuming after %s: a work file is left", plan);
    free(got.data);
    unlink(trial->index);
}

/* A build in a process of its own, killed before the nth operation. False: it was not. */
static bool build_killed(struct trial *trial, const char *plan, bool resume)
{
    int how;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct fault_env fault;
        if (fault_init(&fault, env_os(), plan, NULL) == 0)
            (void)!build(trial, &fault.env, resume, NULL);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    return WIFSIGNALED(how);
}

static void kill_everywhere(struct trial *trial, int step)
{
    struct bytes expected = undisturbed(trial);
    int killed = 0, gone_on = 0;
    for (int n = 1;; n += step, killed++) {
        char plan[64];
        snprintf(plan, sizeof plan, "op=%d:kill", n);
        if (!build_killed(trial, plan, false))
            break;
        assert_resumes_to(trial, &expected, plan);
        gone_on += strstr(trial->notes, "nothing to resume") == NULL;
    }
    assert_true(killed > 70);
    assert_true(gone_on > killed / 2);
    free(expected.data);
}

static void a_build_killed_at_any_operation_resumes_to_the_same_index(void **state)
{
    struct trial trial = trial_of(*state, ROWS);
    kill_everywhere(&trial, 1);
}

static void a_build_in_parts_killed_at_any_operation_resumes_to_the_same_index(void **state)
{
    struct trial trial = trial_of(*state, ROWS);
    trial.parts = 3;
    kill_everywhere(&trial, 11); /* the graph of each part is saved after every batch */
}

/* What fails may leave work files; a build that takes over uses them or does without. */
static void fail_everywhere(struct trial *trial, int step)
{
    static const char *const actions[] = {":ENOSPC", ":EIO", "+:ENOSPC"};
    struct bytes expected = undisturbed(trial);
    for (size_t a = 0; a < sizeof actions / sizeof *actions; a++) {
        for (int n = 1;; n += step) {
            struct fault_env fault;
            struct fathom_error err = {0};
            char plan[64];
            unsigned fds = open_fds();
            snprintf(plan, sizeof plan, "op=%d%s", n, actions[a]);
            assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
            int status = build(trial, &fault.env, false, &err);
            assert_int_equal(open_fds(), fds);
            if (status != 0 && err.msg[0] == 0)
                fail_msg("%s: %d without a message", plan, status);
            if (fault_fired(&fault) == 0)
                break;
            assert_resumes_to(trial, &expected, plan);
        }
        unlink(trial->index);
    }
    free(expected.data);
}

static void
a_build_with_rows_in_a_file_killed_at_any_operation_resumes_to_the_same_index(void **state)
{
    struct trial trial = trial_of(*state, ROWS);
    trial.parts = 2;
    trial.held = 150;
    kill_everywhere(&trial, 13);
}

static void a_build_with_rows_in_a_file_that_failed_resumes_to_the_same_index(void **state)
{
    struct trial trial = trial_of(*state, ROWS);
    trial.parts = 2;
    trial.held = 150;
    fail_everywhere(&trial, 41);
}

/* Whatever of the order was saved is gone on with: cells are not made again. */
static int kill_in_the_order(struct trial *trial, const struct scratch *scratch)
{
    struct bytes expected = undisturbed(trial);
    char ordered[SCRATCH_PATH_MAX], rows[SCRATCH_PATH_MAX];
    scratch_name(scratch, "index/" WORK_PREFIX "ordered", ordered);
    scratch_name(scratch, "index/" WORK_PREFIX "rows", rows);
    const struct work all = {.env = env_os(), .dir = trial->out};
    int killed = 0;
    for (int n = 1;; n++) {
        char plan[64];
        snprintf(plan, sizeof plan, "op=%d:kill", n);
        assert_true(build_killed(trial, plan, false));
        if (path_exists(rows))
            break;
        if (!path_exists(ordered)) {
            assert_int_equal(work_remove_all(&all, NULL), 0); /* or the next one has more to do */
            continue;
        }
        killed++;
        assert_resumes_to(trial, &expected, plan);
        if (strstr(trial->notes, "again") || strstr(trial->phases, "cells"))
            fail_msg("%s: cells were made again: %s (%s)", plan, trial->notes, trial->phases);
    }
    free(expected.data);
    return killed;
}

static void a_build_killed_while_rows_are_put_in_order_goes_on_there(void **state)
{
    struct trial trial = trial_of(*state, ROWS);
    assert_true(kill_in_the_order(&trial, *state) >= 5);
    trial.parts = 2;
    trial.held = 90;
    assert_true(kill_in_the_order(&trial, *state) > 20);
}

static void a_build_in_pieces_killed_at_any_operation_resumes_to_the_same_index(void **state)
{
    struct trial trial = trial_of(*state, ROWS);
    trial.piece = 190; /* three */
    kill_everywhere(&trial, 1);
}

static void a_build_in_pieces_that_failed_resumes_to_the_same_index(void **state)
{
    struct trial trial = trial_of(*state, ROWS);
    trial.piece = 190;
    fail_everywhere(&trial, 13);
}

/* The same env, which counts work files of some kind as they get their names. */
struct counted {
    struct env env;
    const char *kind;
    int count;
};

static int counted_rename(void *context, const char *from, const char *to)
{
    struct counted *counted = context;
    counted->count += strstr(to, counted->kind) != NULL;
    return env_os()->rename(env_os()->context, from, to);
}

static int count_made(struct trial *trial, const char *kind, const struct bytes *expected)
{
    struct counted counted = {.env = *env_os(), .kind = kind};
    struct bytes got;
    counted.env.rename = counted_rename;
    counted.env.context = &counted;
    assert_int_equal(build(trial, &counted.env, true, NULL), 0);
    got.data = file_slurp(trial->index, &got.count);
    assert_int_equal(got.count, expected->count);
    assert_memory_equal(got.data, expected->data, got.count);
    free(got.data);
    unlink(trial->index);
    return counted.count;
}

static int pieces_there(const struct scratch *scratch, const char *kind, int most)
{
    int count = 0;
    for (int i = 0; i < most; i++) {
        char name[64], path[SCRATCH_PATH_MAX];
        snprintf(name, sizeof name, "index/" WORK_PREFIX "%s%d", kind, i);
        scratch_name(scratch, name, path);
        count += path_exists(path);
    }
    return count;
}

/* Wherever it was killed: what was there of lists and codes is not made again. */
static void pieces_that_are_there_are_not_made_again(void **state)
{
    static const char *const kinds[] = {"lists", "codes"};
    struct trial trial = trial_of(*state, ROWS);
    trial.piece = 90;
    const int pieces = 6;
    struct bytes expected = undisturbed(&trial);
    for (size_t k = 0; k < 2; k++) {
        int seen = 0; /* a bit for each number of pieces that a kill left */
        for (int n = 40;; n += 2) {
            char plan[64];
            snprintf(plan, sizeof plan, "op=%d:kill", n);
            if (!build_killed(&trial, plan, false))
                break;
            int there = pieces_there(*state, kinds[k], pieces);
            if (seen >> there & 1)
                continue;
            seen |= 1 << there;
            int made = count_made(&trial, kinds[k], &expected);
            if (made != pieces - there)
                fail_msg("%s: %d %s were there, and %d made", plan, there, kinds[k], made);
        }
        assert_int_equal(seen, (1 << (pieces + 1)) - 1);
        unlink(trial.index);
    }
    free(expected.data);
}

/* A file that is being written is gone on with: what is in it is not written again. */
static void a_build_killed_while_it_writes_goes_on_there(void **state)
{
    struct trial trial = trial_of(*state, ROWS);
    char writing[SCRATCH_PATH_MAX], written[SCRATCH_PATH_MAX];
    scratch_name(*state, "index/" WORK_PREFIX "writing", writing);
    scratch_name(*state, "index/" WORK_PREFIX "written", written);
    trial.piece = 169; /* vectors of one page; records fill another two and a part */
    struct bytes expected = undisturbed(&trial);
    int most = 0, times = 0;
    for (int n = 60;; n++) {
        char plan[64];
        snprintf(plan, sizeof plan, "op=%d:kill", n);
        assert_true(build_killed(&trial, plan, false));
        if (path_exists(written))
            break;
        if (!path_exists(writing))
            continue;
        int saved = count_made(&trial, "writing", &expected);
        if (most == 0)
            most = saved;
        assert_true(saved <= most);
        most = saved;
        times++;
    }
    assert_true(times > 15);
    assert_true(most <= 1);
    free(expected.data);
}

/* Killed, resumed, killed again further on, and so on to the end. */
static void a_build_killed_again_and_again_gets_there(void **state)
{
    struct trial trial = trial_of(*state, ROWS);
    struct bytes expected = undisturbed(&trial);
    for (int step = 60; step <= 150; step += 45) {
        char plan[64];
        int kills = 0;
        snprintf(plan, sizeof plan, "op=%d:kill", step);
        while (build_killed(&trial, plan, kills > 0) && kills < 100)
            kills++;
        assert_true(kills > 1);
        if (!path_exists(trial.index))
            assert_resumes_to(&trial, &expected, plan); /* from where it never gets past */
        unlink(trial.index);
    }
    free(expected.data);
}

static void a_build_that_failed_at_any_operation_resumes_to_the_same_index(void **state)
{
    struct trial trial = trial_of(*state, ROWS);
    fail_everywhere(&trial, 17);
}

/* The same while resuming: what is read of the checkpoints may fail, or be cut short or changed. */
static void resuming_may_fail_at_any_operation(void **state)
{
    static const char *const actions[] = {"op=%d:EIO", "op=%d:kill", "read#%d:flip=bit4000",
                                          "read#%d:short=100", "read#%d:EIO"};
    struct trial trial = trial_of(*state, ROWS);
    struct bytes expected = undisturbed(&trial);
    int noted = 0;
    for (size_t a = 0; a < sizeof actions / sizeof *actions; a++) {
        bool fired = true;
        for (int n = 1; fired; n += actions[a][0] == 'o' ? 29 : 3) {
            char plan[64];
            snprintf(plan, sizeof plan, actions[a], n);
            assert_true(build_killed(&trial, "op=120:kill", false));
            if (strstr(plan, "kill")) {
                fired = build_killed(&trial, plan, true);
            } else {
                struct fault_env fault;
                struct fathom_error err = {0};
                assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
                int status = build(&trial, &fault.env, true, &err);
                fired = fault_fired(&fault) > 0;
                noted += strstr(trial.notes, "made again") != NULL;
                if (status != 0 && err.msg[0] == 0)
                    fail_msg("%s: %d without a message", plan, status);
            }
            assert_resumes_to(&trial, &expected, plan);
        }
    }
    assert_true(noted > 0);
    free(expected.data);
}

/* ---- what is refused, and what is made again ---- */

static void another_input_or_option_is_refused_by_name(void **state)
{
    struct trial trial = trial_of(*state, ROWS);
    struct bytes expected = undisturbed(&trial);
    struct fathom_error err;
    assert_true(build_killed(&trial, "op=120:kill", false));
    struct build_options changed = options_for(&trial, env_os(), true);
    changed.degree = 12;
    assert_int_equal(run(&changed, &err), FATHOM_EARGUMENT);
    assert_true(message_has(&err, "degree was 8") && message_has(&err, "12"));
    changed = options_for(&trial, env_os(), true);
    changed.seed = 9;
    assert_int_equal(run(&changed, &err), FATHOM_EARGUMENT);
    assert_true(message_has(&err, "seed"));
    changed = options_for(&trial, env_os(), true);
    changed.metric = FATHOM_METRIC_IP;
    assert_int_equal(run(&changed, &err), FATHOM_EARGUMENT);
    assert_true(message_has(&err, "metric was \"l2\""));
    floats_file(trial.input, ROWS, DIM, 2); /* as many rows, other values */
    assert_int_equal(build(&trial, env_os(), true, &err), FATHOM_EARGUMENT);
    assert_true(message_has(&err, "input"));
    floats_file(trial.input, ROWS, DIM, 1);
    assert_resumes_to(&trial, &expected, "refusals");
    assert_null(strstr(trial.notes, "nothing to resume"));
    free(expected.data);
}

static void flip_in(const char *path, long offset)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, offset, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, offset, SEEK_SET);
    fputc(byte ^ 4, file);
    fclose(file);
}

/* The file from which on a resumed build looks at another: lists are of use when all of them are
 * there, and nothing is before the build is known. */
static const char *used_from(const char *name)
{
    if (strcmp(name, "lists") == 0 || strcmp(name, "thin") == 0)
        return "joined";
    if (strcmp(name, "raw") == 0) /* it is there before it is known of which input */
        return "state";
    if (strcmp(name, "rows.part") == 0)
        return "ordered";
    return strcmp(name, "input") == 0 ? "state" : name;
}

static void a_damaged_checkpoint_is_said_and_made_again(void **state)
{
    static const char *const names[] = {"state", "input",  "cells",  "ordered", "rows",
                                        "graph", "heat",   "lists1", "codes1",  "writing",
                                        "part1", "grown1", "lists",  "thin",    "joined",
                                        "codes0", "raw",   "rows.part"};
    const size_t in_memory = 10, in_file = 16;
    struct trial trial = trial_of(*state, ROWS);
    trial.piece = 190;
    struct bytes expected = undisturbed(&trial);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[SCRATCH_PATH_MAX], last[SCRATCH_PATH_MAX], name[64];
        if (i == in_memory) {
            trial.parts = 3;
            trial.piece = 0;
            free(expected.data);
            expected = undisturbed(&trial);
        }
        trial.held = i >= in_file ? 150 : 0;
        snprintf(name, sizeof name, "index/" WORK_PREFIX "%s", names[i]);
        scratch_name(*state, name, path);
        const char *awaited = used_from(names[i]);
        snprintf(name, sizeof name, "index/" WORK_PREFIX "%s", awaited);
        scratch_name(*state, name, last);
        unlink(last);
        for (int n = 20; !path_exists(last); n += trial.parts ? 30 : 1) {
            char plan[64];
            snprintf(plan, sizeof plan, "op=%d:kill", n);
            assert_true(build_killed(&trial, plan, false));
        }
        flip_in(path, 4096 + 100);
        assert_resumes_to(&trial, &expected, names[i]);
        if (!strstr(trial.notes, names[i]) || !strstr(trial.notes, "made again"))
            fail_msg("%s: damage was not said: %s", names[i], trial.notes);
    }
    free(expected.data);
}

/* Kills builds, each later than the one before, until one has left an index that is whole but for
 * its operating points. */
static void kill_before_points(struct trial *trial, const struct scratch *scratch)
{
    char path[SCRATCH_PATH_MAX];
    scratch_name(scratch, "index/" WORK_PREFIX "written", path);
    for (int n = 120; !path_exists(path); n += 10) {
        char plan[64];
        snprintf(plan, sizeof plan, "op=%d:kill", n);
        assert_true(build_killed(trial, plan, false));
    }
}

static void what_the_build_chose_itself_is_no_changed_option(void **state)
{
    struct trial trial = trial_of(*state, ROWS_MANY);
    trial.tuned = true;
    struct bytes expected = undisturbed(&trial);
    kill_before_points(&trial, *state);
    assert_resumes_to(&trial, &expected, "an index that waits for its points");
    free(expected.data);
}

static void a_damaged_index_that_waits_for_its_points_is_written_again(void **state)
{
    struct trial trial = trial_of(*state, ROWS_MANY);
    struct bytes expected = undisturbed(&trial);
    kill_before_points(&trial, *state);
    char *unfinished = path_with(trial.out, FORMAT_FILE_NAME MARK);
    flip_in(unfinished, 4096 * 5 + 77);
    free(unfinished);
    assert_resumes_to(&trial, &expected, "a flip in the index");
    if (!strstr(trial.notes, "page 5"))
        fail_msg("damage was not said: %s", trial.notes);
    free(expected.data);
}

static void a_build_without_resume_begins_again(void **state)
{
    struct trial trial = trial_of(*state, ROWS);
    struct bytes expected = undisturbed(&trial), got;
    assert_true(build_killed(&trial, "op=120:kill", false));
    assert_true(names_with(trial.out, MARK) > 2);
    assert_int_equal(build(&trial, env_os(), false, NULL), 0);
    assert_int_equal(names_with(trial.out, MARK), 0);
    got.data = file_slurp(trial.index, &got.count);
    assert_int_equal(got.count, expected.count);
    assert_memory_equal(got.data, expected.data, got.count);
    free(got.data);
    free(expected.data);
}

/* Counts how often a build asks whether to stop, and says so at one time. */
struct stop {
    int asked, at;      /* at 0: never */
    int asked_at_phase; /* when the last phase began */
};

static bool count_and_stop(void *context)
{
    struct stop *stop = context;
    return ++stop->asked == stop->at;
}

static void note_phase(void *context, const char *phase, uint64_t total, const char *unit)
{
    struct stop *stop = context;
    (void)phase;
    (void)total;
    (void)unit;
    stop->asked_at_phase = stop->asked;
}

static int build_with_stop(struct trial *trial, struct stop *stop)
{
    struct build_options options = options_for(trial, env_os(), false);
    options.watch =
        (struct build_watch){.stopped = count_and_stop, .phase = note_phase, .context = stop};
    return run(&options, NULL);
}

/* Work files and the index are read back and written piece by piece, and each piece can be the
 * last. */
static void a_build_stopped_whenever_it_asks_resumes_to_the_same_index(void **state)
{
    struct trial trial = trial_of(*state, ROWS);
    struct bytes expected = undisturbed(&trial);
    struct stop whole = {0};
    assert_int_equal(build_with_stop(&trial, &whole), 0);
    unlink(trial.index);
    /* The end verifies every section. */
    assert_true(whole.asked - whole.asked_at_phase > 10);
    for (int at = 1; at <= whole.asked; at += at < whole.asked_at_phase ? 9 : 1) {
        struct stop stop = {.at = at};
        char plan[64];
        snprintf(plan, sizeof plan, "a stop at question %d", at);
        if (build_with_stop(&trial, &stop) != FATHOM_EINTERRUPTED)
            fail_msg("%s: not stopped", plan);
        assert_false(path_exists(trial.index));
        assert_resumes_to(&trial, &expected, plan);
    }
    free(expected.data);
}

static void a_short_build_leaves_no_checkpoints_and_says_so(void **state)
{
    struct trial trial = trial_of(*state, ROWS);
    struct build_options options = options_for(&trial, env_os(), true);
    options.checkpoint_ns = 3600000000000ull;
    assert_int_equal(run(&options, NULL), 0);
    assert_non_null(strstr(trial.notes, "nothing to resume"));
    struct fault_env fault;
    assert_int_equal(fault_init(&fault, env_os(), "op=20:EIO", NULL), 0);
    options.env = &fault.env;
    assert_int_equal(run(&options, NULL), -EIO);
    assert_int_equal(names_with(trial.out, MARK), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(
        a_build_with_rows_in_a_file_killed_at_any_operation_resumes_to_the_same_index,
        scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(
        a_build_with_rows_in_a_file_that_failed_resumes_to_the_same_index, scratch_make_fast,
        scratch_remove),
    cmocka_unit_test_setup_teardown(a_build_killed_at_any_operation_resumes_to_the_same_index,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(
        a_build_in_parts_killed_at_any_operation_resumes_to_the_same_index, scratch_make_fast,
        scratch_remove),
    cmocka_unit_test_setup_teardown(a_build_killed_while_rows_are_put_in_order_goes_on_there,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(
        a_build_in_pieces_killed_at_any_operation_resumes_to_the_same_index, scratch_make_fast,
        scratch_remove),
    cmocka_unit_test_setup_teardown(a_build_in_pieces_that_failed_resumes_to_the_same_index,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(pieces_that_are_there_are_not_made_again, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(a_build_killed_while_it_writes_goes_on_there, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(a_build_killed_again_and_again_gets_there, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(a_build_that_failed_at_any_operation_resumes_to_the_same_index,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(resuming_may_fail_at_any_operation, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(another_input_or_option_is_refused_by_name, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(a_damaged_checkpoint_is_said_and_made_again, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(what_the_build_chose_itself_is_no_changed_option,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(a_damaged_index_that_waits_for_its_points_is_written_again,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(a_build_stopped_whenever_it_asks_resumes_to_the_same_index,
                                    scratch_make_fast, scratch_remove),
    cmocka_unit_test_setup_teardown(a_build_without_resume_begins_again, scratch_make_fast,
                                    scratch_remove),
    cmocka_unit_test_setup_teardown(a_short_build_leaves_no_checkpoints_and_says_so,
                                    scratch_make_fast, scratch_remove),
};

FATHOM_TEST_MAIN(tests)
