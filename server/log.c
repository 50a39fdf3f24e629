/* A ring of lines between any number of threads and one writer. The lock is held to copy a line of
 * at most 512 bytes in or out, never while writing. */
#include "log.h"

#include "error.h"
#include "mem.h"
#include "utf8.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_BYTES      1024
#define LOG_LINES           1024
#define LOG_PEER_PER_SECOND 20
#define LOG_CLOSE_SECONDS   1

struct log_entry {
    struct timespec when;
    enum log_level level;
    char text[LOG_LINE_BYTES];
};

struct log {
    int fd;
    enum log_format format;
    enum log_level level;
    pthread_t writer;
    pthread_mutex_t lock;
    pthread_cond_t changed;    /* a line was queued or written, or the log closes */
    struct log_entry *entries; /* a ring of LOG_LINES; all below under the lock */
    unsigned head, count;
    bool closing, writing;
    uint64_t dropped, reported; /* lines lost for ever; those already told of */
    time_t peer_second;
    unsigned peer_lines;
};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

/* Out as the inside of a JSON string, cut at a whole character when it does not fit. */
static void escape_json(char *out, size_t room, const char *text)
{
    size_t at = 0;
    for (; *text && at + 7 < room; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            at += (size_t)snprintf(out + at, room - at, "\\%c", c);
        else if (c < 0x20)
            at += (size_t)snprintf(out + at, room - at, "\\u%04x", c);
        else
            out[at++] = (char)c;
    }
    for (; ((unsigned char)*text & 0xc0) == 0x80; text--) /* it goes with its first byte */
        at--;
    out[at] = '\0';
}

static int render(const struct log *log, const struct log_entry *entry, char *out, size_t room)
{
    struct tm parts;
    char stamp[32];
    gmtime_r(&entry->when.tv_sec, &parts);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &parts);
    unsigned ms = (unsigned)(entry->when.tv_nsec / 1000000);
    const char *level = level_names[entry->level];
    if (log->format == LOG_FORMAT_TEXT)
        return snprintf(out, room, "%s.%03uZ %s %s\n", stamp, ms, level, entry->text);
    char utf8[UTF8_ESCAPED_BYTES(LOG_LINE_BYTES)], escaped[2 * LOG_LINE_BYTES];
    escape_json(escaped, sizeof escaped, utf8_escape(utf8, sizeof utf8, entry->text));
    return snprintf(out, room, "{\"time\":\"%s.%03uZ\",\"level\":\"%s\",\"message\":\"%s\"}\n",
                    stamp, ms, level, escaped);
}

/* Whoever gave us this end may have made it one that does not block. */
static bool await_room(int fd)
{
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    return poll(&room, 1, -1) == 1 || errno == EINTR;
}

static void write_line(const struct log *log, const struct log_entry *entry)
{
    char line[3 * LOG_LINE_BYTES];
    int size = render(log, entry, line, sizeof line);
    int at = 0;
    while (at < size) {
        ssize_t put = write(log->fd, line + at, (size_t)(size - at));
        if (put < 0 && (errno == EINTR || (errno == EAGAIN && await_room(log->fd))))
            continue;
        if (put <= 0)
            return; /* nobody to tell */
        at += (int)put;
    }
}

/* Takes the oldest line, or makes one that tells how many were lost. False when there is none. */
static bool take_locked(struct log *log, struct log_entry *out)
{
    if (log->count > 0) {
        *out = log->entries[log->head];
        log->head = (log->head + 1) % LOG_LINES;
        log->count--;
        return true;
    }
    if (log->dropped == log->reported)
        return false;
    timespec_get(&out->when, TIME_UTC);
    out->level = LOG_LEVEL_WARN;
    snprintf(out->text, sizeof out->text, "%llu log lines were dropped",
             (unsigned long long)(log->dropped - log->reported));
    log->reported = log->dropped;
    return true;
}

static void *writer_main(void *context)
{
    struct log *log = context;
    struct log_entry entry;
    pthread_mutex_lock(&log->lock);
    for (;;) {
        if (take_locked(log, &entry)) {
            log->writing = true;
            pthread_mutex_unlock(&log->lock);
            write_line(log, &entry);
            pthread_mutex_lock(&log->lock);
            log->writing = false;
            pthread_cond_broadcast(&log->changed);
        } else if (log->closing) {
            break;
        } else {
            pthread_cond_wait(&log->changed, &log->lock);
        }
    }
    pthread_mutex_unlock(&log->lock);
    return NULL;
}

int log_open(struct log **out, int fd, enum log_format format, enum log_level level,
             struct fathom_error *err)
{
    *out = NULL;
    struct log *log = mem_alloc(sizeof *log);
    if (!log || !(log->entries = mem_alloc_array(LOG_LINES, sizeof *log->entries))) {
        mem_free(log);
        return error_set(err, -ENOMEM, "no memory for the log");
    }
    log->fd = fd;
    log->format = format;
    log->level = level;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC); /* the end waits by it */
    pthread_mutex_init(&log->lock, NULL);
    pthread_cond_init(&log->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int rc = -pthread_create(&log->writer, NULL, writer_main, log);
    if (rc < 0) {
        mem_free(log->entries);
        mem_free(log);
        return error_set(err, rc, "cannot start the log's thread");
    }
    *out = log;
    return 0;
}

bool log_flush(struct log *log)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LOG_CLOSE_SECONDS;
    pthread_mutex_lock(&log->lock);
    int rc = 0;
    while ((log->count > 0 || log->writing) && rc == 0)
        rc = pthread_cond_timedwait(&log->changed, &log->lock, &until);
    bool drained = log->count == 0 && !log->writing;
    pthread_mutex_unlock(&log->lock);
    return drained;
}

void log_close(struct log *log)
{
    if (!log)
        return;
    pthread_mutex_lock(&log->lock);
    log->closing = true;
    pthread_cond_broadcast(&log->changed);
    pthread_mutex_unlock(&log->lock);
    if (!log_flush(log))
        return; /* the writer is stuck in write(); the process is about to end and takes it along */
    pthread_join(log->writer, NULL);
    pthread_cond_destroy(&log->changed);
    pthread_mutex_destroy(&log->lock);
    mem_free(log->entries);
    mem_free(log);
}

static void append_locked(struct log *log, enum log_level level, const char *text)
{
    if (log->count == LOG_LINES) {
        log->dropped++;
        return;
    }
    struct log_entry *entry = &log->entries[(log->head + log->count) % LOG_LINES];
    timespec_get(&entry->when, TIME_UTC);
    entry->level = level;
    snprintf(entry->text, sizeof entry->text, "%s", text);
    log->count++;
    pthread_cond_broadcast(&log->changed);
}

/* A second's peer lines are counted; the first line of the next second tells what was left out. */
static bool admit_peer_locked(struct log *log)
{
    time_t now = time(NULL);
    if (now != log->peer_second) {
        unsigned over =
            log->peer_lines > LOG_PEER_PER_SECOND ? log->peer_lines - LOG_PEER_PER_SECOND : 0;
        log->peer_second = now;
        log->peer_lines = 0;
        if (over > 0) {
            char text[64];
            snprintf(text, sizeof text, "%u more lines about peers were left out", over);
            append_locked(log, LOG_LEVEL_WARN, text);
        }
    }
    return ++log->peer_lines <= LOG_PEER_PER_SECOND;
}

static void log_text(struct log *log, enum log_level level, bool peer, const char *format,
                     va_list args)
{
    if (level < log->level)
        return;
    char text[LOG_LINE_BYTES];
    vsnprintf(text, sizeof text, format, args);
    for (char *c = text; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' ';
    }
    pthread_mutex_lock(&log->lock);
    if (!peer || admit_peer_locked(log))
        append_locked(log, level, text);
    pthread_mutex_unlock(&log->lock);
}

void log_line(struct log *log, enum log_level level, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_text(log, level, false, format, args);
    va_end(args);
}

void log_peer(struct log *log, enum log_level level, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_text(log, level, true, format, args);
    va_end(args);
}

uint64_t log_dropped(struct log *log)
{
    pthread_mutex_lock(&log->lock);
    uint64_t dropped = log->dropped;
    pthread_mutex_unlock(&log->lock);
    return dropped;
}
