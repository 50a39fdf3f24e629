/* Verbs, arguments, signals and JSON documents, seen from outside: each case runs in a child
 * process whose output and exit code are what is checked. Progress too, since it writes to the
 * process' stderr. */
#include "fathom_test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "env.h"
#include "tool.h"

struct outcome {
    char out[8192], err[8192];
    int status; /* as of waitpid */
};

static void slurp(FILE *file, char out[8192])
{
    rewind(file);
    size_t bytes = fread(out, 1, 8191, file);
    out[bytes] = 0;
    fclose(file);
}

/* Runs fn(context) in a child with its output caught. */
static struct outcome run_child(int (*fn)(void *context), void *context)
{
    struct outcome outcome;
    FILE *out = tmpfile(), *err = tmpfile();
    assert_true(out && err);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(fileno(out), STDOUT_FILENO);
        dup2(fileno(err), STDERR_FILENO);
        int code = fn(context);
        fflush(NULL);
        _exit(code);
    }
    assert_int_equal(waitpid(pid, &outcome.status, 0), pid);
    slurp(out, outcome.out);
    slurp(err, outcome.err);
    return outcome;
}

static void assert_outcome(const struct outcome *outcome, int code, const char *out_part,
                           const char *err_part)
{
    if (!WIFEXITED(outcome->status) || WEXITSTATUS(outcome->status) != code ||
        !strstr(outcome->out, out_part) || !strstr(outcome->err, err_part))
        fail_msg("wanted %d, '%s', '%s'; got status %d, '%s', '%s'", code, out_part, err_part,
                 outcome->status, outcome->out, outcome->err);
}

/* ---- a program with one verb ---- */

struct request {
    uint64_t count, bytes;
    double share;
    enum tool_progress_mode progress;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct request *request = state->input;
    switch (key) {
    case 'c':
        request->count = tool_arg_u64(state, "count", arg, 1, 10);
        break;
    case 'n':
        request->count = tool_arg_u64(state, "--number", arg, 3, UINT64_MAX);
        break;
    case 'b':
        request->bytes = tool_arg_bytes(state, "bytes", arg);
        break;
    case 's':
        request->share = tool_arg_f64(state, "share", arg, 0, 1);
        break;
    case 'p':
        request->progress = tool_arg_choice(state, "progress", arg, TOOL_PROGRESS_WORDS);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static int run_draw(int argc, char **argv)
{
    static const struct argp_option options[] = {{"count", 'c', "N", 0, "How many", 0},
                                                 {"number", 'n', "N", 0, "How many, really", 0},
                                                 {"bytes", 'b', "SIZE", 0, "How large", 0},
                                                 {"share", 's', "S", 0, "How much", 0},
                                                 {"progress", 'p', "MODE", 0, "How chatty", 0},
                                                 {0}};
    static const struct argp argp = {
        .options = options, .parser = parse, .doc = "Draws.\vAn example."};
    struct request request = {0};
    int rc = tool_parse(&argp, argc, argv, &request);
    if (rc)
        return rc;
    return tool_print_json(json_pack("{s:I, s:I, s:f, s:i}", "count", (json_int_t)request.count,
                                     "bytes", (json_int_t)request.bytes, "share", request.share,
                                     "progress", (int)request.progress));
}

static int run_program(void *context)
{
    static const struct tool_verb verbs[] = {
        {"draw", "draws", run_draw}, {"paint", "paints", run_draw}, {0}};
    char **argv = context;
    int argc = 0;
    program_invocation_short_name = argv[0];
    while (argv[argc])
        argc++;
    return tool_main(argc, argv, "A program of the tests.", verbs);
}

#define RUN(...) run_child(run_program, (char *[]){"prog", __VA_ARGS__, NULL})

static void verbs_are_found_and_near_misses_named(void **state)
{
    (void)state;
    struct outcome outcome = RUN("draw", "--count", "7");
    assert_outcome(&outcome, 0, "\"count\": 7", "");
    outcome = RUN("drwa");
    assert_outcome(&outcome, 2, "", "prog: there is no verb 'drwa'; did you mean 'draw'?");
    outcome = RUN("pant");
    assert_outcome(&outcome, 2, "", "did you mean 'paint'?");
    outcome = RUN("xyzzy");
    assert_outcome(&outcome, 2, "", "`prog --help` lists them");
    outcome = RUN("a-verb-that-is-much-longer-than-any-verb-that-there-ever-was");
    assert_outcome(&outcome, 2, "", "lists them");
    outcome = run_child(run_program, (char *[]){"prog", NULL});
    assert_outcome(&outcome, 2, "", "Usage: prog VERB");
}

static void help_and_version_go_to_stdout(void **state)
{
    (void)state;
    struct outcome outcome = RUN("--help");
    assert_outcome(&outcome, 0, "paints", "");
    outcome = RUN("--version");
    assert_outcome(&outcome, 0, "prog " FATHOM_VERSION "\n", "");
    outcome = RUN("draw", "--version");
    assert_outcome(&outcome, 0, "prog " FATHOM_VERSION "\n", "");
    outcome = RUN("-h");
    assert_outcome(&outcome, 0, "paints", "");
    for (int i = 0; i < 2; i++) {
        outcome = RUN("draw", i ? "-h" : "--help");
        assert_outcome(&outcome, 0, "Usage: prog draw [OPTION...]\nDraws.\n", "");
        assert_outcome(&outcome, 0, "An example.", "");
    }
}

static void usage_errors_exit_with_2_and_name_the_option(void **state)
{
    (void)state;
    struct outcome outcome = RUN("draw", "--colour");
    assert_outcome(&outcome, 2, "", "prog draw: unrecognized option '--colour'");
    outcome = RUN("draw", "extra");
    assert_outcome(&outcome, 2, "", "prog draw: 'extra' is one argument too many");
    outcome = RUN("draw", "--count", "11");
    assert_outcome(&outcome, 2, "", "prog draw: --count: '11' is not a whole number from 1 to 10");
    outcome = RUN("draw", "--number", "2");
    assert_outcome(&outcome, 2, "", "--number: '2' is not a whole number from 3 on");
    outcome = RUN("draw", "--bytes", "64MB");
    assert_outcome(&outcome, 2, "", "--bytes: '64MB' is not a size");
    outcome = RUN("draw", "--share", "1.5");
    assert_outcome(&outcome, 2, "", "--share: '1.5' is not a number from 0 to 1");
    outcome = RUN("draw", "--progress", "loud");
    assert_outcome(&outcome, 2, "", "--progress: 'loud' is none of: auto json off");
}

static void arguments_arrive(void **state)
{
    (void)state;
    struct outcome outcome =
        RUN("draw", "--number", "9", "--bytes", "1.5KiB", "--share", "0.25", "--progress", "json");
    json_error_t error;
    json_t *document = json_loads(outcome.out, 0, &error);
    assert_non_null(document);
    assert_int_equal(json_integer_value(json_object_get(document, "count")), 9);
    assert_int_equal(json_integer_value(json_object_get(document, "bytes")), 1536);
    assert_true(json_real_value(json_object_get(document, "share")) == 0.25);
    assert_int_equal(json_integer_value(json_object_get(document, "progress")), TOOL_PROGRESS_JSON);
    json_decref(document);
}

/* ---- failing ---- */

static int fail_with(void *context)
{
    return tool_fail("prog draw", context);
}

static void a_failure_is_one_line_on_stderr(void **state)
{
    struct fathom_error err = {FATHOM_EINPUT, "a.fbin: is empty"}, bare = {FATHOM_EVERSION, ""};
    (void)state;
    struct outcome outcome = run_child(fail_with, &err);
    assert_outcome(&outcome, 4, "", "prog draw: a.fbin: is empty\n");
    outcome = run_child(fail_with, &bare);
    assert_outcome(&outcome, 5, "", "prog draw: unsupported format version or feature\n");
}

static int run_write(int argc, char **argv)
{
    (void)argc, (void)argv;
    if (!freopen("/dev/full", "w", stdout))
        return TOOL_EXIT_IO;
    puts("a line for people");
    return TOOL_EXIT_OK;
}

static int run_writer(void *context)
{
    static const struct tool_verb verbs[] = {{"write", "writes", run_write}, {0}};
    char *argv[] = {"prog", "write", NULL};
    (void)context;
    return tool_main(2, argv, "A program of the tests.", verbs);
}

static void text_that_cannot_be_written_is_an_io_error(void **state)
{
    (void)state;
    struct outcome outcome = run_child(run_writer, NULL);
    assert_outcome(&outcome, 3, "", "the output cannot be written to stdout");
}

static int print_to_full_device(void *context)
{
    (void)context;
    return freopen("/dev/full", "w", stdout) ? tool_print_json(json_object()) : 0;
}

static void a_document_that_cannot_be_written_is_an_io_error(void **state)
{
    (void)state;
    struct outcome outcome = run_child(print_to_full_device, NULL);
    assert_outcome(&outcome, 3, "", "cannot be written");
}

/* ---- signals ---- */

static int take_one_signal(void *number)
{
    tool_catch_signals();
    bool before = tool_interrupted();
    raise(*(int *)number);
    return !before && tool_interrupted() ? 0 : 1;
}

static int take_two_signals(void *number)
{
    tool_catch_signals();
    raise(SIGTERM);
    raise(*(int *)number);
    return 0;
}

static void the_first_signal_sets_a_flag_and_the_second_ends(void **state)
{
    int numbers[] = {SIGINT, SIGTERM};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct outcome outcome = run_child(take_one_signal, &numbers[i]);
        assert_outcome(&outcome, 0, "", "");
        outcome = run_child(take_two_signals, &numbers[i]);
        assert_outcome(&outcome, 128 + numbers[i], "", "");
    }
}

/* ---- progress ---- */

static void report_from_a_thread(void *progress, unsigned worker)
{
    for (uint64_t i = 0; i <= 100; i++)
        tool_progress_update(progress, i * (worker + 1));
}

static void update_for(struct tool_progress *progress, uint64_t done, uint64_t ns)
{
    uint64_t end_ns = env_clock_ns(env_os()) + ns;
    while (env_clock_ns(env_os()) < end_ns)
        tool_progress_update(progress, done);
    tool_progress_update(progress, done); /* at least once after it, however busy the machine is */
}

static int run_progress(void *mode)
{
    struct tool_progress *progress = tool_progress_create(*(enum tool_progress_mode *)mode);
    tool_progress_update(progress, 5); /* before any phase: ignored */
    tool_progress_phase(progress, "read \"it\"", 200, "rows");
    if (env_run_parallel(2, report_from_a_thread, progress))
        return 1;
    tool_progress_phase(progress, "graph", 0, "nodes");
    update_for(progress, 1, 250000000);
    tool_progress_finish(progress);
    tool_progress_finish(progress);
    tool_progress_destroy(progress);
    return 0;
}

static double number_of(const json_t *line, const char *key)
{
    const json_t *value = json_object_get(line, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

/* Every line parses; phases start at 0, end "done" at their last number; at most ten lines a second
 * between. */
static void progress_as_json_lines_tells_each_phase(void **state)
{
    enum tool_progress_mode mode = TOOL_PROGRESS_JSON;
    (void)state;
    struct outcome outcome = run_child(run_progress, &mode);
    assert_outcome(&outcome, 0, "", "\"event\":\"progress\"");
    unsigned lines = 0, ended = 0;
    double seconds = 0;
    for (char *line = strtok(outcome.err, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *parsed = json_loads(line, 0, NULL);
        assert_non_null(parsed);
        const char *phase = json_string_value(json_object_get(parsed, "phase"));
        bool done = !strcmp(json_string_value(json_object_get(parsed, "state")), "done");
        assert_string_equal(phase, ended ? "graph" : "read \"it\"");
        assert_true(number_of(parsed, "done") <= 200 && number_of(parsed, "share") <= 1);
        assert_true(number_of(parsed, "peak_rss_bytes") > 0 && number_of(parsed, "rate") >= 0);
        assert_true(number_of(parsed, "elapsed_seconds") >= 0);
        assert_non_null(json_object_get(parsed, "eta_seconds"));
        if (done && !ended)
            assert_true(number_of(parsed, "done") == 200 && number_of(parsed, "total") == 200);
        if (done)
            seconds += number_of(parsed, "elapsed_seconds");
        ended += done;
        lines++;
        json_decref(parsed);
    }
    assert_int_equal(ended, 2);
    assert_true(lines >= 5 && lines <= 5 + 10 * seconds);
}

static void progress_on_a_pipe_says_nothing(void **state)
{
    enum tool_progress_mode modes[] = {TOOL_PROGRESS_AUTO, TOOL_PROGRESS_OFF};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct outcome outcome = run_child(run_progress, &modes[i]);
        assert_int_equal(outcome.status, 0);
        assert_string_equal(outcome.err, "");
    }
}

/* On a terminal (a pseudo one) the bar appears after a second. */
static int run_for_a_second(void *terminal)
{
    dup2(*(int *)terminal, STDERR_FILENO);
    struct tool_progress *progress = tool_progress_create(TOOL_PROGRESS_AUTO);
    tool_progress_phase(progress, "quick", 10, "rows");
    update_for(progress, 10, 300000000);
    tool_progress_phase(progress, "slow", 4000, "rows");
    update_for(progress, 1000, 1300000000);
    tool_progress_destroy(progress);
    return 0;
}

static void progress_on_a_terminal_is_a_bar_after_a_second(void **state)
{
    char text[8192] = {0};
    (void)state;
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) || unlockpt(master))
        skip();
    int terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
    assert_true(terminal >= 0);
    struct outcome outcome = run_child(run_for_a_second, &terminal);
    assert_int_equal(outcome.status, 0);
    close(terminal);
    for (size_t used = 0; used + 1 < sizeof text;) { /* until there is no more: EIO */
        ssize_t got = read(master, text + used, sizeof text - 1 - used);
        if (got <= 0)
            break;
        used += (size_t)got;
    }
    close(master);
    assert_null(strstr(text, "quick"));
    assert_non_null(strstr(text, "slow         [######..................]  25%"));
    assert_non_null(strstr(text, "rows/s  ETA "));
    assert_non_null(strstr(text, " s  peak "));
    assert_non_null(strstr(text, "slow         1000 rows in "));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(verbs_are_found_and_near_misses_named),
    cmocka_unit_test(help_and_version_go_to_stdout),
    cmocka_unit_test(usage_errors_exit_with_2_and_name_the_option),
    cmocka_unit_test(arguments_arrive),
    cmocka_unit_test(a_failure_is_one_line_on_stderr),
    cmocka_unit_test(text_that_cannot_be_written_is_an_io_error),
    cmocka_unit_test(a_document_that_cannot_be_written_is_an_io_error),
    cmocka_unit_test(the_first_signal_sets_a_flag_and_the_second_ends),
    cmocka_unit_test(progress_as_json_lines_tells_each_phase),
    cmocka_unit_test(progress_on_a_pipe_says_nothing),
    cmocka_unit_test(progress_on_a_terminal_is_a_bar_after_a_second),
};
FATHOM_TEST_MAIN(tests)
