/* Builds of a trial, each in a scratch of its own. */
#include "trial.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "format.h"
#include "work.h"

/* Sanitizers look for what is the same whichever operation is the last, and make builds several
 * times as slow. Without them every step is taken. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SPARSER 4
#else
#define SPARSER 1
#endif

#ifdef __SANITIZE_ADDRESS__
/* Freed memory is kept from being used again, 256 MiB of it, and each fork copies the tables of its
 * pages. These builds free some MiB each. */
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
    return "quarantine_size_mb=32";
}
#endif

struct trial trial_of(const struct scratch *scratch, uint64_t rows)
{
    struct trial trial = {0};
    scratch_name(scratch, "base.fbin", trial.input);
    scratch_name(scratch, "index", trial.out);
    scratch_name(scratch, "index/" FORMAT_FILE_NAME, trial.index);
    floats_file(trial.input, rows, TRIAL_DIM, 1);
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

struct build_options trial_options(struct trial *trial, const struct env *env, bool resume)
{
    struct build_options options = build_options_default();
    options.input = trial->input;
    options.out = trial->out;
    options.query = trial->query;
    options.degree = trial->tuned ? 0 : 8;
    options.build_list = trial->tuned ? 0 : 8;
    options.threads = 1; /* so that operations have the same numbers every time */
    options.checkpoint_ns = 0;
    options.parts = trial->parts;
    options.held_rows = trial->held;
    options.piece_rows = trial->piece;
    options.resume = resume;
    options.measured = trial->measured;
    options.env = env;
    options.watch = (struct build_watch){.note = take_note, .phase = take_phase, .context = trial};
    trial->notes[0] = trial->phases[0] = 0;
    return options;
}

int trial_run(const struct build_options *options, struct fathom_error *err)
{
    struct build_report report;
    int status = build_run(options, &report, err);
    if (status == 0)
        build_report_fini(&report);
    return status;
}

int trial_build(struct trial *trial, const struct env *env, bool resume, struct fathom_error *err)
{
    struct build_options options = trial_options(trial, env, resume);
    struct build_report report;
    int status = build_run(&options, &report, err);
    trial->parts_told = report.parts;
    if (status == 0)
        build_report_fini(&report);
    return status;
}

/* The index of a build that is left alone. */
struct bytes trial_undisturbed(struct trial *trial)
{
    struct bytes bytes;
    struct fathom_error err;
    if (trial_build(trial, env_os(), false, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(names_with(trial->out, TRIAL_MARK), 0);
    bytes.data = file_slurp(trial->index, &bytes.count);
    unlink(trial->index);
    trial->parts_expected = trial->parts_told;
    return bytes;
}

void trial_assert_index(const struct trial *trial, const struct bytes *expected, const char *plan)
{
    struct bytes got;
    got.data = file_slurp(trial->index, &got.count);
    if (got.count != expected->count || memcmp(got.data, expected->data, got.count) != 0)
        fail_msg("after %s: another index", plan);
    free(got.data);
    unlink(trial->index);
}

void trial_assert_resumes_to(struct trial *trial, const struct bytes *expected, const char *plan)
{
    struct fathom_error err;
    if (trial_build(trial, env_os(), true, &err) != 0)
        fail_msg("resuming after %s: %s", plan, err.msg);
    trial_assert_index(trial, expected, plan);
    if (trial->parts_expected && trial->parts_told != trial->parts_expected)
        fail_msg("resuming after %s: %u parts are told, not %u", plan, trial->parts_told,
                 trial->parts_expected);
    if (names_with(trial->out, TRIAL_MARK) != 0)
        fail_msg("resuming after %s: a work file is left", plan);
}

/* The same env, which counts work files of some kinds as they get their names. */
struct counted {
    struct env env;
    const char *const *kinds;
    unsigned count;
    int *made;
};

static int counted_rename(void *context, const char *from, const char *to)
{
    struct counted *counted = context;
    for (unsigned i = 0; i < counted->count; i++)
        counted->made[i] += strstr(to, counted->kinds[i]) != NULL;
    return env_os()->rename(env_os()->context, from, to);
}

void trial_count_made(struct trial *trial, const char *const kinds[], unsigned count, int made[],
                      const struct bytes *expected)
{
    struct counted counted = {.env = *env_os(), .kinds = kinds, .count = count, .made = made};
    memset(made, 0, count * sizeof *made);
    counted.env.rename = counted_rename;
    counted.env.context = &counted;
    assert_int_equal(trial_build(trial, &counted.env, true, NULL), 0);
    trial_assert_index(trial, expected, "resuming");
}

void trial_flip_in(const char *path, long offset)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, offset, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, offset, SEEK_SET);
    fputc(byte ^ 4, file);
    fclose(file);
}

int trial_kill_before_points(struct trial *trial, const struct scratch *scratch, int from, int step)
{
    char path[SCRATCH_PATH_MAX];
    scratch_name(scratch, "index/" WORK_PREFIX "written", path);
    for (int n = from;; n += step) {
        char plan[64];
        snprintf(plan, sizeof plan, "op=%d:kill", n);
        assert_true(trial_build_killed(trial, plan, false));
        if (path_exists(path))
            return n;
    }
}

/* A build in a process of its own, killed before the nth operation. False: it was not. */
bool trial_build_killed(struct trial *trial, const char *plan, bool resume)
{
    int how;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct fault_env fault;
        if (fault_init(&fault, env_os(), plan, NULL) == 0)
            (void)!trial_build(trial, &fault.env, resume, NULL);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    return WIFSIGNALED(how);
}

/* The same env, whose process is gone once a work file of this kind has got its name so often. */
struct deadly {
    struct env env;
    const char *kind;
    int left;
};

static int deadly_rename(void *context, const char *from, const char *to)
{
    struct deadly *deadly = context;
    int status = env_os()->rename(env_os()->context, from, to);
    if (strstr(to, deadly->kind) && --deadly->left == 0)
        (void)kill(getpid(), SIGKILL);
    return status;
}

bool trial_killed_behind(struct trial *trial, const char *kind, int times)
{
    int how;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char name[64];
        struct deadly deadly = {.env = *env_os(), .kind = name, .left = times};
        snprintf(name, sizeof name, WORK_PREFIX "%s", kind);
        deadly.env.rename = deadly_rename;
        deadly.env.context = &deadly;
        (void)!trial_build(trial, &deadly.env, false, NULL);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    return WIFSIGNALED(how);
}

void trial_kill_everywhere(struct trial *trial, int step)
{
    struct bytes expected = trial_undisturbed(trial);
    int killed = 0, gone_on = 0;
    for (int n = 1;; n += SPARSER * step, killed++) {
        char plan[64];
        snprintf(plan, sizeof plan, "op=%d:kill", n);
        if (!trial_build_killed(trial, plan, false))
            break;
        trial_assert_resumes_to(trial, &expected, plan);
        gone_on += strstr(trial->notes, "nothing to resume") == NULL;
    }
    assert_true(killed > 70 / SPARSER);
    assert_true(gone_on > killed / 2);
    free(expected.data);
}

/* What fails may leave work files; a build that takes over uses them or does without. */
void trial_fail_everywhere(struct trial *trial, int step)
{
    static const char *const actions[] = {":ENOSPC", ":EIO", "+:ENOSPC"};
    struct bytes expected = trial_undisturbed(trial);
    for (size_t a = 0; a < sizeof actions / sizeof *actions; a++) {
        for (int n = 1;; n += SPARSER * step) {
            struct fault_env fault;
            struct fathom_error err = {0};
            char plan[64];
            unsigned fds = open_fds();
            snprintf(plan, sizeof plan, "op=%d%s", n, actions[a]);
            assert_int_equal(fault_init(&fault, env_os(), plan, NULL), 0);
            int status = trial_build(trial, &fault.env, false, &err);
            assert_int_equal(open_fds(), fds);
            if (status != 0 && err.msg[0] == 0)
                fail_msg("%s: %d without a message", plan, status);
            if (status == 0)
                trial_assert_index(trial, &expected, plan);
            if (fault_fired(&fault) == 0)
                break;
            trial_assert_resumes_to(trial, &expected, plan);
        }
    }
    free(expected.data);
}
