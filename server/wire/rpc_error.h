/* An error as the wire shows it: a stable code by name, a message that says what to do, whether
 * trying again can help. Numbers of libfathom never leave the process; this is where they become
 * names. */
#ifndef SERVER_RPC_ERROR_H
#define SERVER_RPC_ERROR_H

#include "wire.h"

#include "fathom/error.h"

struct rpc_error {
    const char *code; /* PROTOCOL_ERROR_*; NULL: no error */
    char message[512];
    bool retryable;
    uint32_t retry_after_ms; /* 0: no advice */
    const char *reason;      /* PROTOCOL_REASON_*, of resource_exhausted; NULL otherwise */
    char field[64];          /* the key of params at fault; "" when it is none */
    int64_t row;             /* of a batch; -1 when it is none */
};

/* Each returns -1, so that a failing function reads `return rpc_error_set(err, ...)`. */
int rpc_error_set(struct rpc_error *err, const char *code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* invalid_argument for a key of params; the message starts with the key. */
int rpc_error_field(struct rpc_error *err, const char *field, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* resource_exhausted with its reason; retryable after retry_after_ms. */
int rpc_error_exhausted(struct rpc_error *err, const char *reason, uint32_t retry_after_ms,
                        const char *format, ...) __attribute__((format(printf, 4, 5)));
/* What the library refused or failed at; message may be "" (then the code's text). */
int rpc_error_from_library(struct rpc_error *err, int code, const char *message);

/* The error as a map. */
void rpc_error_put(struct wire_writer *writer, const struct rpc_error *err);
/* The HTTP status that stands for a code. */
int rpc_error_http_status(const char *code);

#endif
