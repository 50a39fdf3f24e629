/* The connection's rules. Deadlines are absolute: a byte a second does not push them back, as it
 * would an inactivity timeout. */
#include "conn.h"

#include "protocol.h"

#include <stdio.h>
#include <string.h>

#define CONN_BUFFER_KEEP 16384 /* bytes that an idle buffer may hold on to */

void conn_init(struct conn *conn, const struct conn_limits *limits,
               struct buffer_allowance *allowance, uint64_t now_ns)
{
    memset(conn, 0, sizeof *conn);
    conn->limits = limits;
    scanner_init(&conn->scanner, limits->message_bytes_max, PROTOCOL_ELEMENTS_MAX);
    buffer_init(&conn->in, allowance);
    buffer_init(&conn->out, allowance);
    conn->opened_ns = conn->active_ns = now_ns;
}

void conn_fini(struct conn *conn)
{
    buffer_fini(&conn->in);
    buffer_fini(&conn->out);
}

/* ---- the end ---- */

static void pack_closing(struct conn *conn, const struct rpc_error *err)
{
    struct wire_writer writer;
    wire_begin(&writer, &conn->out);
    wire_put_array(&writer, 3);
    wire_put_uint(&writer, PROTOCOL_NOTIFICATION);
    wire_put_text(&writer, PROTOCOL_METHOD_CLOSING);
    wire_put_array(&writer, 1);
    rpc_error_put(&writer, err);
    int rc = wire_end(&writer);
    (void)rc; /* without memory for it the peer only sees the close */
}

static void pack_http_refusal(struct conn *conn)
{
    static const char body[] = "This port speaks MessagePack-RPC. HTTP is on the admin port "
                               "(--http) instead.\n";
    char answer[256];
    int size = snprintf(answer, sizeof answer,
                        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
                        "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                        sizeof body - 1, body);
    int rc = buffer_append(&conn->out, answer, (size_t)size);
    (void)rc; /* as above */
}

int conn_finish(struct conn *conn, enum conn_end end, const struct rpc_error *err)
{
    if (conn->end != CONN_OPEN)
        return -1;
    conn->end = end;
    if (end == CONN_END_HTTP)
        pack_http_refusal(conn);
    else if (end != CONN_END_TLS && end != CONN_END_SSH)
        pack_closing(conn, err);
    return -1;
}

/* What another protocol's first bytes look like. All of them are complete MessagePack integers to
 * the scanner, which is why this is asked before it. */
static enum conn_end recognise_stranger(const uint8_t *bytes, size_t count)
{
    static const char *const methods[] = {"GET ", "POST", "PUT ", "HEAD", "DELE",
                                          "OPTI", "PATC", "CONN", "TRAC", "PRI "};
    if (bytes[0] == 0x16 && (count < 2 || bytes[1] == 0x03))
        return CONN_END_TLS;
    if (count >= 4 && memcmp(bytes, "SSH-", 4) == 0)
        return CONN_END_SSH;
    for (size_t i = 0; count >= 4 && i < sizeof methods / sizeof methods[0]; i++) {
        if (memcmp(bytes, methods[i], 4) == 0)
            return CONN_END_HTTP;
    }
    return CONN_END_MALFORMED;
}

static int refuse_bytes(struct conn *conn, enum conn_end end, const char *what)
{
    struct rpc_error err;
    rpc_error_set(&err, PROTOCOL_ERROR_INVALID_ARGUMENT, "%s", what);
    return conn_finish(conn, end, &err);
}

static int refuse_scan(struct conn *conn, int status)
{
    struct rpc_error err;
    rpc_error_set(&err, PROTOCOL_ERROR_INVALID_ARGUMENT, "the message %s%s",
                  scanner_strerror(status),
                  status == SCANNER_ETOOLONG ? " (max_message_bytes of hello)" : "");
    return conn_finish(conn, status == SCANNER_ETOOLONG ? CONN_END_TOO_LONG : CONN_END_MALFORMED,
                       &err);
}

static int refuse_memory(struct conn *conn)
{
    struct rpc_error err;
    rpc_error_exhausted(&err, PROTOCOL_REASON_MEMORY, 1000,
                        "the connections' buffers are full; try again, or raise "
                        "--connection-memory");
    return conn_finish(conn, CONN_END_MEMORY, &err);
}

/* ---- bytes in ---- */

/* A message starts with an array; anything else is refused before it is scanned. */
static int check_start(struct conn *conn, const uint8_t *bytes, size_t count)
{
    uint8_t type = bytes[0];
    if ((type & 0xf0) == 0x90 || type == 0xdc || type == 0xdd)
        return 0;
    enum conn_end end = conn->received ? CONN_END_MALFORMED : recognise_stranger(bytes, count);
    return refuse_bytes(conn, end, "a message starts with an array: [0, msgid, method, [params]]");
}

/* The message that started earlier has come to its end. */
static int hand_over_kept(struct conn *conn, conn_message_fn *message, void *context)
{
    int rc = message(context, conn, conn->in.bytes, conn->in.size);
    buffer_clear(&conn->in, CONN_BUFFER_KEEP);
    return rc;
}

/* Scans up to the end of one message, or of the bytes; returns how many were used, or -1. */
static int64_t feed_one(struct conn *conn, const uint8_t *bytes, size_t count, uint64_t now_ns,
                        conn_message_fn *message, void *context)
{
    bool kept = !scanner_idle(&conn->scanner);
    if (!kept && check_start(conn, bytes, count) < 0)
        return -1;
    conn->received = true;
    size_t used;
    int status = scanner_feed(&conn->scanner, bytes, count, &used);
    if (status < 0)
        return refuse_scan(conn, status);
    if ((kept || status == SCANNER_MORE) && buffer_append(&conn->in, bytes, used) < 0)
        return refuse_memory(conn);
    if (status == SCANNER_MORE) {
        if (!kept)
            conn->message_ns = now_ns;
        return (int64_t)used;
    }
    scanner_reset(&conn->scanner);
    conn->message_ns = 0;
    conn->active_ns = now_ns;
    int rc = kept ? hand_over_kept(conn, message, context) : message(context, conn, bytes, used);
    return rc ? -1 : (int64_t)used;
}

int conn_feed(struct conn *conn, const uint8_t *bytes, size_t count, uint64_t now_ns,
              conn_message_fn *message, void *context)
{
    while (count > 0 && conn->end == CONN_OPEN) {
        int64_t used = feed_one(conn, bytes, count, now_ns, message, context);
        if (used < 0)
            return -1;
        bytes += used;
        count -= (size_t)used;
    }
    return conn->end == CONN_OPEN ? 0 : -1;
}

/* ---- bytes out ---- */

const uint8_t *conn_pending(const struct conn *conn, size_t *count)
{
    *count = conn->out.size - conn->out_at;
    return conn->out.bytes ? conn->out.bytes + conn->out_at : NULL; /* null + 0 is undefined */
}

void conn_sent(struct conn *conn, size_t count, uint64_t now_ns)
{
    conn->out_at += count;
    conn->active_ns = now_ns;
    if (conn->out_at == conn->out.size) {
        buffer_clear(&conn->out, CONN_BUFFER_KEEP);
        conn->out_at = 0;
        conn->stalled_ns = 0;
    } else {
        conn->stalled_ns = now_ns;
        /* Moving the rest to the front costs a copy, so it is done only when half is free. */
        if (conn->out_at > conn->out.size / 2) {
            buffer_consume(&conn->out, conn->out_at);
            conn->out_at = 0;
        }
    }
}

int conn_added(struct conn *conn, uint64_t now_ns)
{
    size_t waiting = conn->out.size - conn->out_at;
    if (waiting > 0 && conn->stalled_ns == 0)
        conn->stalled_ns = now_ns;
    if (waiting <= conn->limits->output_hard)
        return 0;
    if (conn->end == CONN_OPEN)
        conn->end = CONN_END_OUTPUT;
    return -1;
}

bool conn_is_behind(const struct conn *conn)
{
    return conn->out.size - conn->out_at > conn->limits->output_soft;
}

/* ---- deadlines ---- */

static bool passed(uint64_t since_ns, uint64_t allowed_ns, uint64_t now_ns)
{
    return since_ns != 0 && now_ns > since_ns && now_ns - since_ns > allowed_ns;
}

static bool expire(struct rpc_error *err, const char *what, uint64_t allowed_ns)
{
    rpc_error_set(err, PROTOCOL_ERROR_DEADLINE_EXCEEDED, "%s within %.3g s", what,
                  (double)allowed_ns / 1e9);
    return true;
}

void conn_reading(struct conn *conn, bool on, uint64_t now_ns)
{
    if (!on) {
        conn->paused_ns = now_ns;
        return;
    }
    if (conn->paused_ns && conn->message_ns)
        conn->message_ns += now_ns - conn->paused_ns;
    conn->paused_ns = 0;
}

bool conn_expired(const struct conn *conn, uint64_t now_ns, struct rpc_error *err)
{
    const struct conn_limits *limits = conn->limits;
    if (!conn->received && passed(conn->opened_ns, limits->first_byte_ns, now_ns))
        return expire(err, "nothing was sent", limits->first_byte_ns);
    if (conn->paused_ns == 0 && passed(conn->message_ns, limits->message_ns, now_ns))
        return expire(err, "a message was not completed", limits->message_ns);
    if (passed(conn->stalled_ns, limits->stall_ns, now_ns))
        return expire(err, "no reply was read", limits->stall_ns);
    if (conn->in_flight == 0 && conn->message_ns == 0 &&
        passed(conn->active_ns, limits->idle_ns, now_ns))
        return expire(err, "no request came", limits->idle_ns);
    return false;
}

const char *conn_end_name(enum conn_end end)
{
    static const char *const names[CONN_END_COUNT] = {
        [CONN_OPEN] = "client",
        [CONN_END_RESET] = "reset",
        [CONN_END_MALFORMED] = "malformed",
        [CONN_END_HTTP] = "http",
        [CONN_END_TLS] = "tls",
        [CONN_END_SSH] = "ssh",
        [CONN_END_TOO_LONG] = "too_long",
        [CONN_END_MEMORY] = "memory",
        [CONN_END_TIMEOUT] = "timeout",
        [CONN_END_OUTPUT] = "output",
        [CONN_END_AUTH] = "auth",
        [CONN_END_SHUTDOWN] = "shutdown",
    };
    return names[end];
}
