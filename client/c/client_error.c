/* Errors seen on this side of the wire get the same stable names as those from the other side, so
 * that a caller branches on one thing alone. */
#include "client_error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "protocol.h"

static const char *code_name(int code)
{
    switch (code) {
    case FATHOM_CLIENT_EPROTOCOL:
        return PROTOCOL_ERROR_INTERNAL;
    case FATHOM_CLIENT_EDEADLINE:
        return PROTOCOL_ERROR_DEADLINE_EXCEEDED;
    case FATHOM_CLIENT_EARGUMENT:
    case FATHOM_CLIENT_EADDRESS:
    case FATHOM_CLIENT_ELIMIT:
        return PROTOCOL_ERROR_INVALID_ARGUMENT;
    case -ENOMEM:
        return PROTOCOL_ERROR_RESOURCE_EXHAUSTED;
    default:
        return PROTOCOL_ERROR_UNAVAILABLE;
    }
}

int client_error_set(struct fathom_client_error *err, int code, const char *format, ...)
{
    if (err) {
        va_list args;
        *err = (struct fathom_client_error){.code = code};
        snprintf(err->name, sizeof err->name, "%s", code_name(code));
        err->retryable = strcmp(err->name, PROTOCOL_ERROR_UNAVAILABLE) == 0 ||
                         strcmp(err->name, PROTOCOL_ERROR_DEADLINE_EXCEEDED) == 0;
        va_start(args, format);
        vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
    }
    return code;
}

int client_error_copy(struct fathom_client_error *err, const struct fathom_client_error *from)
{
    if (err && from)
        *err = *from;
    return from ? from->code : 0;
}
