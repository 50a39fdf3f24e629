/* A connection's socket. Reading hands bytes to the session's conn; everything that may close or
 * free the peer happens in peer_settle or peer_close, never while a search is being answered. */
#include "worker.h"

#include "env.h"
#include "mem.h"
#include "protocol.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES                                                                                 \
    (16u << 10) /* at a time: few enough small requests that a peer is not far ahead at once */
#define READS_PER_TURN  8 /* of one peer, so that a busy one does not starve the others */
#define DRAIN_READS_MAX 256
#define LINGER_NS       1000000000ull

static void set_reading(struct peer *peer, bool on)
{
    if (peer->reading == on)
        return;
    if ((on ? event_add(&peer->read_event, NULL) : event_del(&peer->read_event)) != 0)
        return;
    peer->reading = on;
    conn_reading(&peer->session.conn, on, peer->worker->now_ns);
}

static void set_writing(struct peer *peer, bool on)
{
    if (peer->writing == on)
        return;
    if ((on ? event_add(&peer->write_event, NULL) : event_del(&peer->write_event)) == 0)
        peer->writing = on;
}

void peer_mark(struct peer *peer)
{
    if (peer->dirty)
        return;
    peer->dirty = true;
    peer->dirty_next = peer->worker->dirty;
    peer->worker->dirty = peer;
}

void peer_close(struct peer *peer)
{
    struct worker *worker = peer->worker;
    struct session *session = &peer->session;
    methods_forget(&worker->methods, session);
    set_reading(peer, false);
    set_writing(peer, false);
    close(peer->fd);
    counter_add(&worker->stats->ended[session->conn.end], 1);
    *peer->prev = peer->next;
    if (peer->next)
        peer->next->prev = peer->prev;
    conn_fini(&session->conn);
    worker->peer_count--;
    worker_count_closed(worker);
    atomic_store_explicit(&worker->stats->connections, worker->peer_count, memory_order_relaxed);
    mem_free(peer);
}

/* ---- sending ---- */

/* Sends what the socket takes. False when the connection is broken. */
static bool send_pending(struct peer *peer)
{
    struct worker *worker = peer->worker;
    struct conn *conn = &peer->session.conn;
    for (;;) {
        size_t count;
        const uint8_t *bytes = conn_pending(conn, &count);
        if (count == 0)
            return true;
        ssize_t put = send(peer->fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
        counter_add(&worker->stats->bytes_out, (uint64_t)put);
        conn_sent(conn, (size_t)put, worker->now_ns);
    }
}

/* ---- reading ---- */

/* A few bytes may ask for a long reply: replies are sent, or counted against the connection's
 * limit, before the next request is taken. */
static int on_message(void *context, struct conn *conn, const uint8_t *bytes, size_t count)
{
    struct peer *peer = context;
    struct worker *worker = peer->worker;
    int rc = methods_take(&worker->methods, &peer->session, bytes, count, worker->now_ns);
    if (rc != 0 || !conn_is_behind(conn))
        return rc;
    peer->broken = !send_pending(peer);
    return peer->broken ? -1 : conn_added(conn, worker->now_ns);
}

static void log_end(struct peer *peer, const struct rpc_error *err)
{
    struct conn *conn = &peer->session.conn;
    const char *what = "";
    switch (conn->end) {
    case CONN_END_HTTP:
        what = "it speaks HTTP, which is for the admin port (--http)";
        break;
    case CONN_END_TLS:
        what = "it speaks TLS, which this server does not";
        break;
    case CONN_END_SSH:
        what = "it speaks SSH";
        break;
    case CONN_END_MALFORMED:
        what = "its bytes are not this protocol";
        break;
    case CONN_END_TOO_LONG:
        what = "its message is above --max-message-bytes";
        break;
    case CONN_END_MEMORY:
        what = "--connection-memory is used up";
        break;
    case CONN_END_OUTPUT:
        what = "it does not read its replies";
        break;
    case CONN_END_TIMEOUT:
        what = err ? err->message : "timeout";
        break;
    default:
        return;
    }
    log_peer(peer->worker->service->log,
             conn->end == CONN_END_TIMEOUT ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, "%s: closed: %s",
             peer->session.address, what);
}

/* Reads once. False when there is nothing more to read now, or ever. */
static bool read_once(struct peer *peer)
{
    struct worker *worker = peer->worker;
    struct conn *conn = &peer->session.conn;
    ssize_t got = recv(peer->fd, worker->read_buffer, READ_BYTES, 0);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return false;
    if (got <= 0) {
        peer->half_closed = true;
        peer->broken = got < 0; /* then nobody reads our replies either */
        return false;
    }
    counter_add(&worker->stats->bytes_in, (uint64_t)got);
    if (peer->lingering)
        return true; /* discarded */
    if (conn_feed(conn, worker->read_buffer, (size_t)got, worker->now_ns, on_message, peer) < 0) {
        log_end(peer, NULL);
        return false;
    }
    return (size_t)got == READ_BYTES && !conn_is_behind(conn) &&
           !methods_is_ahead(&worker->methods, &peer->session);
}

static void on_readable(evutil_socket_t fd, short what, void *context)
{
    struct peer *peer = context;
    struct worker *worker = peer->worker;
    (void)fd;
    (void)what;
    worker->now_ns = env_clock_ns(env_os());
    registry_view_refresh(&worker->view);
    for (int i = 0; i < READS_PER_TURN && read_once(peer); i++)
        worker_pump_if_due(worker);
    worker_pump_if_due(worker);
    peer_mark(peer);
}

void peer_read_all(struct peer *peer)
{
    for (int i = 0; i < DRAIN_READS_MAX && read_once(peer); i++) {
    }
    peer_mark(peer);
}

/* ---- writing ---- */

static void on_writable(evutil_socket_t fd, short what, void *context)
{
    struct peer *peer = context;
    (void)fd;
    (void)what;
    peer_mark(peer);
}

/* All is sent and the connection is over: our end is closed, and the peer gets a moment to read and
 * to close its own, because closing with unread bytes in the socket would reset it and throw our
 * last words away. */
static void start_linger(struct peer *peer)
{
    peer->lingering = true;
    peer->linger_until_ns = peer->worker->now_ns + LINGER_NS;
    shutdown(peer->fd, SHUT_WR);
    set_writing(peer, false);
    set_reading(peer, true);
}

/* Sends what there is to send; true when nothing more can come of this connection. */
static bool is_finished(struct peer *peer)
{
    struct conn *conn = &peer->session.conn;
    uint64_t now_ns = peer->worker->now_ns;
    if (peer->lingering)
        return peer->half_closed || now_ns >= peer->linger_until_ns;
    if (!peer->broken && !send_pending(peer))
        peer->broken = true;
    if (peer->broken) {
        if (conn->end == CONN_OPEN)
            conn->end = CONN_END_RESET;
        return true;
    }
    bool was_open = conn->end == CONN_OPEN;
    if (conn_added(conn, now_ns) < 0 && was_open)
        log_end(peer, NULL);
    size_t waiting;
    conn_pending(conn, &waiting);
    return conn->end == CONN_END_OUTPUT ||
           (peer->half_closed && waiting == 0 && (conn->in_flight == 0 || conn->end != CONN_OPEN));
}

/* Tells it that the server goes away, once nothing is in flight. */
static void dismiss(struct peer *peer)
{
    struct conn *conn = &peer->session.conn;
    size_t waiting;
    conn_pending(conn, &waiting);
    if (conn->end != CONN_OPEN || conn->in_flight > 0 || waiting > 0)
        return;
    struct rpc_error err;
    rpc_error_set(&err, PROTOCOL_ERROR_UNAVAILABLE, "the server is shutting down");
    conn_finish(conn, CONN_END_SHUTDOWN, &err);
    peer_mark(peer);
}

void peer_settle(struct peer *peer)
{
    struct conn *conn = &peer->session.conn;
    size_t waiting;
    peer->dirty = false;
    if (is_finished(peer)) {
        peer_close(peer);
        return;
    }
    if (peer->lingering)
        return;
    conn_pending(conn, &waiting);
    if (waiting == 0 && conn->end != CONN_OPEN) {
        start_linger(peer);
        return;
    }
    set_writing(peer, waiting > 0);
    set_reading(peer, conn->end == CONN_OPEN && !peer->half_closed && !conn_is_behind(conn) &&
                          !methods_is_ahead(&peer->worker->methods, &peer->session));
    if (peer->worker->draining)
        dismiss(peer);
}

/* ---- deadlines ---- */

void peer_check_deadlines(struct peer *peer)
{
    struct conn *conn = &peer->session.conn;
    uint64_t now_ns = peer->worker->now_ns;
    struct rpc_error err;
    if (peer->lingering) {
        if (now_ns >= peer->linger_until_ns)
            peer_mark(peer);
        return;
    }
    if (!conn_expired(conn, now_ns, &err))
        return;
    bool stalled = conn->stalled_ns != 0;
    if (conn->end == CONN_OPEN) {
        conn_finish(conn, stalled ? CONN_END_OUTPUT : CONN_END_TIMEOUT, &err);
        log_end(peer, &err);
    } else if (stalled) {
        conn->end = CONN_END_OUTPUT;
    }
    peer_mark(peer);
}

/* ---- opening ---- */

static void refuse(struct worker *worker, int fd)
{
    close(fd);
    worker_count_closed(worker);
}

void peer_open(struct worker *worker, const struct mail_connection *from)
{
    struct peer *peer = mem_alloc(sizeof *peer);
    if (!peer) {
        log_peer(worker->service->log, LOG_LEVEL_WARN, "%s: closed: no memory", from->address);
        refuse(worker, from->fd);
        return;
    }
    peer->worker = worker;
    peer->fd = from->fd;
    peer->serial = ++worker->serial;
    conn_init(&peer->session.conn, &worker->service->limits, &worker->service->allowance,
              worker->now_ns);
    peer->session.local = from->local;
    memcpy(peer->session.address, from->address, sizeof from->address);
    if (from->tcp) {
        int one = 1;
        setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(peer->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    }
    event_assign(&peer->read_event, worker->base, peer->fd, EV_READ | EV_PERSIST, on_readable,
                 peer);
    event_assign(&peer->write_event, worker->base, peer->fd, EV_WRITE | EV_PERSIST, on_writable,
                 peer);
    peer->next = worker->peers;
    peer->prev = &worker->peers;
    if (worker->peers)
        worker->peers->prev = &peer->next;
    worker->peers = peer;
    worker->peer_count++;
    counter_add(&worker->stats->opened, 1);
    atomic_store_explicit(&worker->stats->connections, worker->peer_count, memory_order_relaxed);
    set_reading(peer, true);
    if (!peer->reading)
        peer_close(peer);
    else if (worker->draining)
        dismiss(peer);
}
