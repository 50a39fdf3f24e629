/* Codes of the library to names of the wire. A wrong question is the client's (invalid_argument),
 * wrong bytes on disk are data_loss, a device that fails may work on the next try (unavailable);
 * everything else is ours (internal). */
#include "rpc_error.h"

#include "protocol.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void start(struct rpc_error *err, const char *code)
{
    err->code = code;
    err->retryable = false;
    err->retry_after_ms = 0;
    err->reason = NULL;
    err->field[0] = '\0';
    err->row = -1;
}

/* Messages repeat what clients sent; only printable ASCII goes back, so that the reply is always
 * valid UTF-8 and a log line stays one line. */
static void make_printable(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f)
            *text = '?';
    }
}

static void set_message(struct rpc_error *err, const char *prefix, const char *format, va_list args)
{
    int at = 0;
    if (prefix)
        at = snprintf(err->message, sizeof err->message, "%s: ", prefix);
    vsnprintf(err->message + at, sizeof err->message - (size_t)at, format, args);
    make_printable(err->message);
}

int rpc_error_set(struct rpc_error *err, const char *code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    start(err, code);
    set_message(err, NULL, format, args);
    va_end(args);
    err->retryable = strcmp(code, PROTOCOL_ERROR_UNAVAILABLE) == 0 ||
                     strcmp(code, PROTOCOL_ERROR_DEADLINE_EXCEEDED) == 0;
    return -1;
}

int rpc_error_field(struct rpc_error *err, const char *field, const char *format, ...)
{
    start(err, PROTOCOL_ERROR_INVALID_ARGUMENT);
    snprintf(err->field, sizeof err->field, "%s", field);
    make_printable(err->field);
    va_list args;
    va_start(args, format);
    set_message(err, err->field, format, args);
    va_end(args);
    return -1;
}

int rpc_error_exhausted(struct rpc_error *err, const char *reason, uint32_t retry_after_ms,
                        const char *format, ...)
{
    va_list args;
    va_start(args, format);
    start(err, PROTOCOL_ERROR_RESOURCE_EXHAUSTED);
    set_message(err, NULL, format, args);
    va_end(args);
    err->reason = reason;
    err->retryable = true;
    err->retry_after_ms = retry_after_ms;
    return -1;
}

static const char *code_name(int code)
{
    switch (code) {
    case FATHOM_EDIM:
    case FATHOM_ELIMIT:
    case FATHOM_EARGUMENT:
    case FATHOM_EINPUT:
        return PROTOCOL_ERROR_INVALID_ARGUMENT;
    case FATHOM_ECORRUPT:
    case FATHOM_ECHECKSUM:
    case -ENODATA:
        return PROTOCOL_ERROR_DATA_LOSS;
    case FATHOM_EVERSION:
        return PROTOCOL_ERROR_FAILED_PRECONDITION;
    case FATHOM_EDEADLINE:
        return PROTOCOL_ERROR_DEADLINE_EXCEEDED;
    case FATHOM_ECANCELLED:
        return PROTOCOL_ERROR_CANCELLED;
    case FATHOM_EINTERRUPTED:
    case -EIO:
    case -EINTR:
    case -EAGAIN:
        return PROTOCOL_ERROR_UNAVAILABLE;
    case -ENOENT:
    case -ENOTDIR:
        return PROTOCOL_ERROR_NOT_FOUND;
    default:
        return PROTOCOL_ERROR_INTERNAL;
    }
}

static const char *exhausted_reason(int code)
{
    switch (code) {
    case FATHOM_EBUDGET:
    case -ENOMEM:
        return PROTOCOL_REASON_MEMORY;
    case FATHOM_EBUSY:
        return PROTOCOL_REASON_QUEUE;
    case -EMFILE:
    case -ENFILE:
    case -ENOSPC:
        return PROTOCOL_REASON_DISK;
    default:
        return NULL;
    }
}

int rpc_error_from_library(struct rpc_error *err, int code, const char *message)
{
    const char *text = message[0] ? message : fathom_strerror(code);
    const char *reason = exhausted_reason(code);
    if (reason)
        return rpc_error_exhausted(err, reason, 0, "%s", text);
    return rpc_error_set(err, code_name(code), "%s", text);
}

static unsigned detail_count(const struct rpc_error *err)
{
    return (err->reason != NULL) + (err->field[0] != '\0') + (err->row >= 0);
}

void rpc_error_put(struct wire_writer *writer, const struct rpc_error *err)
{
    unsigned details = detail_count(err);
    wire_put_map(writer, 3u + (err->retry_after_ms > 0) + (details > 0));
    wire_pair_text(writer, PROTOCOL_KEY_CODE, err->code);
    wire_pair_text(writer, PROTOCOL_KEY_MESSAGE, err->message);
    wire_pair_bool(writer, PROTOCOL_KEY_RETRYABLE, err->retryable);
    if (err->retry_after_ms > 0)
        wire_pair_uint(writer, PROTOCOL_KEY_RETRY_AFTER_MS, err->retry_after_ms);
    if (details == 0)
        return;
    wire_put_text(writer, PROTOCOL_KEY_DETAILS);
    wire_put_map(writer, details);
    if (err->reason)
        wire_pair_text(writer, PROTOCOL_KEY_REASON, err->reason);
    if (err->field[0])
        wire_pair_text(writer, PROTOCOL_KEY_FIELD, err->field);
    if (err->row >= 0)
        wire_pair_uint(writer, PROTOCOL_KEY_ROW, (uint64_t)err->row);
}

int rpc_error_http_status(const char *code)
{
    static const struct {
        const char *code;
        int status;
    } statuses[] = {
        {PROTOCOL_ERROR_INVALID_ARGUMENT, 400}, {PROTOCOL_ERROR_FAILED_PRECONDITION, 400},
        {PROTOCOL_ERROR_UNAUTHENTICATED, 401},  {PROTOCOL_ERROR_PERMISSION_DENIED, 403},
        {PROTOCOL_ERROR_NOT_FOUND, 404},        {PROTOCOL_ERROR_RESOURCE_EXHAUSTED, 429},
        {PROTOCOL_ERROR_CANCELLED, 499},        {PROTOCOL_ERROR_UNIMPLEMENTED, 501},
        {PROTOCOL_ERROR_UNAVAILABLE, 503},      {PROTOCOL_ERROR_DEADLINE_EXCEEDED, 504},
    };
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        if (strcmp(code, statuses[i].code) == 0)
            return statuses[i].status;
    }
    return 500;
}
