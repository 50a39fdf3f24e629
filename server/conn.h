/* One connection of the wire protocol, without its socket: bytes go in through conn_feed, whole and
 * scanned messages come out through a callback, replies are packed into `out` and leave through
 * conn_pending / conn_sent. What must happen by when is answered by conn_expired.
 *
 * Pure: no sockets, no clock of its own, and no allocation while messages arrive whole and replies
 * leave at once. A message that arrives whole is handed over where it lies in the caller's bytes;
 * only an unfinished one is kept. */
#ifndef SERVER_CONN_H
#define SERVER_CONN_H

#include "buffer.h"
#include "rpc_error.h"
#include "scanner.h"

struct conn_limits {
    uint32_t message_bytes_max;
    uint64_t first_byte_ns; /* from the accept to the first byte */
    uint64_t message_ns;    /* from the first byte of a message to its last */
    uint64_t idle_ns;       /* without a message, and nothing in flight */
    uint64_t stall_ns;      /* replies wait, and the peer takes none of them */
    size_t output_soft;     /* replies waiting before no more requests are read */
    size_t output_hard;     /* replies waiting before the connection is given up */
};

/* Why a connection is given up. */
enum conn_end {
    CONN_OPEN,          /* or ended by the client */
    CONN_END_RESET,     /* the connection broke */
    CONN_END_MALFORMED, /* not the protocol */
    CONN_END_HTTP,      /* an HTTP request: answered in HTTP */
    CONN_END_TLS,
    CONN_END_SSH,
    CONN_END_TOO_LONG, /* a message above the limit */
    CONN_END_MEMORY,   /* no room for its bytes */
    CONN_END_TIMEOUT,  /* too slow, silent or idle */
    CONN_END_OUTPUT,   /* does not read its replies */
    CONN_END_AUTH,     /* wrong token */
    CONN_END_SHUTDOWN,
};
#define CONN_END_COUNT (CONN_END_SHUTDOWN + 1)

struct conn {
    const struct conn_limits *limits;
    struct scanner scanner;
    struct buffer in;  /* the unfinished message */
    struct buffer out; /* replies; the first out_at bytes are sent */
    size_t out_at;
    uint64_t opened_ns;
    uint64_t message_ns; /* when the first byte of the unfinished message came; 0: there is none */
    uint64_t paused_ns;  /* since when nothing is read from it; 0: it is */
    uint64_t active_ns;  /* when something last happened: a message, a reply */
    uint64_t stalled_ns; /* since when replies wait without progress; 0: none wait */
    uint32_t in_flight;  /* requests that are not answered yet; kept by the owner */
    enum conn_end end;
    bool received; /* a first byte has come */
    bool greeted;  /* hello was accepted */
};

/* Takes one message; the bytes are valid during the call only. Non-zero ends the feeding: the
 * connection is over. */
typedef int conn_message_fn(void *context, struct conn *conn, const uint8_t *bytes, size_t count);

/* limits must outlive the connection; now_ns is never 0. */
void conn_init(struct conn *conn, const struct conn_limits *limits,
               struct buffer_allowance *allowance, uint64_t now_ns);
void conn_fini(struct conn *conn);

/* Bytes from the peer. 0, or -1 when the connection is over: conn->end says why, and what the peer
 * should read before the close is in out. */
int conn_feed(struct conn *conn, const uint8_t *bytes, size_t count, uint64_t now_ns,
              conn_message_fn *message, void *context) FATHOM_MUST_USE;
/* Ends the connection: packs the closing notification (HTTP gets an HTTP answer, TLS and SSH none).
 * Returns -1. */
int conn_finish(struct conn *conn, enum conn_end end, const struct rpc_error *err);

/* Replies that wait to be sent, and how many of them were. */
const uint8_t *conn_pending(const struct conn *conn, size_t *count);
void conn_sent(struct conn *conn, size_t count, uint64_t now_ns);
/* To be called when replies were added: starts the stall clock, ends the connection above the hard
 * limit. */
int conn_added(struct conn *conn, uint64_t now_ns) FATHOM_MUST_USE;
/* The peer is behind with its replies: do not read more requests from it for now. */
bool conn_is_behind(const struct conn *conn);

/* The caller begins, or ceases, to read from the peer. What it sends meanwhile is not missed. */
void conn_reading(struct conn *conn, bool on, uint64_t now_ns);

/* An absolute deadline has passed; err says which. */
bool conn_expired(const struct conn *conn, uint64_t now_ns, struct rpc_error *err);
const char *conn_end_name(enum conn_end end);

#endif
