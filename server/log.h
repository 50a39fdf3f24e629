/* The server's log: one line per event on stderr, as text or JSON. Lines are handed to a thread of
 * their own through a bounded queue, so that a blocked pipe never blocks a worker; what does not
 * fit is dropped and counted. */
#ifndef SERVER_LOG_H
#define SERVER_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "fathom/error.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

struct log; /* shared by all threads */

int log_open(struct log **out, int fd, enum log_format format, enum log_level level,
             struct fathom_error *err) FATHOM_MUST_USE;
/* Writes what is queued, waiting at most a second for a blocked reader: false, it is blocked still.
 */
bool log_flush(struct log *log);
/* The same, and frees. Accepts NULL. */
void log_close(struct log *log);
void log_line(struct log *log, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* For what a peer can cause at will: at most 20 such lines a second, then one that counts the rest.
 */
void log_peer(struct log *log, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
uint64_t log_dropped(struct log *log);

#endif
