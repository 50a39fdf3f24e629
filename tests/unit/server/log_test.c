/* A log whose reader is slow, or gone for good: nothing is lost without a word, and the end is not
 * held up, whatever the clock on the wall says. */
#include "fathom_test.h"

#include "log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINES      800 /* more than a pipe holds, and no more than the queue */
#define PATIENCE_S 60

#ifdef __SANITIZE_THREAD__
/* One is left in write(), for good. */
const char *__tsan_default_options(void);

const char *__tsan_default_options(void)
{
    return "report_thread_leaks=0";
}
#endif

/* The linker sends the server's look at the wall's clock here: it is set back an hour behind it. */
int __real_timespec_get(struct timespec *out, int base);
int __wrap_timespec_get(struct timespec *out, int base);

int __wrap_timespec_get(struct timespec *out, int base)
{
    int got = __real_timespec_get(out, base);
    out->tv_sec += 3600;
    return got;
}

static struct log *open_on(int fd)
{
    struct log *log;
    struct fathom_error err;
    assert_int_equal(log_open(&log, fd, LOG_FORMAT_TEXT, LOG_LEVEL_INFO, &err), 0);
    return log;
}

static void fill(struct log *log, int lines)
{
    char text[501];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    for (int i = 0; i < lines; i++)
        log_line(log, LOG_LEVEL_INFO, "%s", text);
}

/* Reads until a line with this in it has come; returns how many came before. */
static unsigned long read_to(FILE *file, const char *part, char line[1024])
{
    unsigned long lines = 0;
    while (fgets(line, 1024, file) && !strstr(line, part))
        lines++;
    assert_non_null(strstr(line, part));
    return lines;
}

static void an_end_that_does_not_block_loses_no_line(void **state)
{
    int ends[2], lines = 0;
    char bytes[4096];
    (void)state;
    alarm(PATIENCE_S);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    struct log *log = open_on(ends[1]);
    fill(log, LINES);
    while (lines < LINES) {
        ssize_t got = read(ends[0], bytes, sizeof bytes);
        assert_true(got > 0);
        for (ssize_t i = 0; i < got; i++)
            lines += bytes[i] == '\n';
    }
    assert_int_equal(log_dropped(log), 0);
    log_close(log);
    close(ends[0]);
    close(ends[1]);
    alarm(0);
}

/* A log, and the end at which its lines are read. */
struct piped {
    int end;
    FILE *file;
    struct log *log;
};

static struct piped piped_open(void)
{
    int ends[2];
    alarm(PATIENCE_S);
    assert_int_equal(pipe(ends), 0);
    return (struct piped){.end = ends[1], .file = fdopen(ends[0], "r"), .log = open_on(ends[1])};
}

static void piped_close(struct piped *piped)
{
    log_close(piped->log);
    fclose(piped->file);
    close(piped->end);
    alarm(0);
}

static void lines_that_nobody_reads_are_counted(void **state)
{
    enum { SENT = 5 * LINES };
    char line[1024];
    (void)state;
    struct piped piped = piped_open();
    fill(piped.log, SENT);
    uint64_t dropped = log_dropped(piped.log);
    assert_in_range(dropped, 1, SENT - 1);
    unsigned long read = read_to(piped.file, "log lines were dropped", line);
    assert_int_equal(read, SENT - dropped);
    assert_int_equal(strtoull(strstr(line, "warn ") + strlen("warn "), NULL, 10), dropped);
    piped_close(&piped);
}

/* Whatever they do: in the second in which they begin, and the next one at the most. */
static void lines_about_peers_are_few_and_the_rest_is_counted(void **state)
{
    char line[1024];
    (void)state;
    struct piped piped = piped_open();
    unsigned long sent = 0;
    time_t first = time(NULL);
    while (time(NULL) == first)
        usleep(1000);
    for (first = time(NULL); time(NULL) == first; sent++) {
        log_peer(piped.log, LOG_LEVEL_WARN, "peer");
        if (sent > 100)
            usleep(10000);
    }
    if (sent <= 20) /* the machine was away for all of the second */
        skip();
    log_peer(piped.log, LOG_LEVEL_WARN, "the last one");
    unsigned long read = read_to(piped.file, "were left out", line);
    unsigned long more = strtoul(strstr(line, "warn ") + strlen("warn "), NULL, 10);
    assert_int_equal(read, 20);
    assert_in_range(read + more, sent - 1, sent);
    piped_close(&piped);
}

static void a_clock_that_is_set_back_does_not_hold_the_end_up(void **state)
{
    int ends[2];
    (void)state;
    alarm(PATIENCE_S);
    assert_int_equal(pipe(ends), 0);
    struct log *log = open_on(ends[1]);
    fill(log, LINES);
    log_close(log); /* nobody reads */
    alarm(0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(an_end_that_does_not_block_loses_no_line),
    cmocka_unit_test(lines_that_nobody_reads_are_counted),
    cmocka_unit_test(lines_about_peers_are_few_and_the_rest_is_counted),
    cmocka_unit_test(a_clock_that_is_set_back_does_not_hold_the_end_up),
};

FATHOM_TEST_MAIN(tests)
