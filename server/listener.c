/* The accept loop: each connection goes to the worker that has the fewest, or is refused with a
 * reason when there are too many. */
#include "listener.h"

#include "env.h"
#include "error.h"
#include "mem.h"
#include "protocol.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define ACCEPTS_PER_TURN 64
#define PAUSE_US         100000

/* ---- who is it ---- */

static bool is_loopback(const struct sockaddr_storage *name)
{
    if (name->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)name;
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    }
    const struct sockaddr_in6 *v6 = (const void *)name;
    return name->ss_family == AF_INET6 &&
           (IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) ||
            (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr) && v6->sin6_addr.s6_addr[12] == 127));
}

static void describe_peer(struct mail_connection *mail, const struct sockaddr_storage *name,
                          socklen_t size, bool is_unix)
{
    char host[48], port[8];
    mail->tcp = !is_unix;
    mail->local = is_unix || is_loopback(name);
    if (is_unix || getnameinfo((const struct sockaddr *)name, size, host, sizeof host, port,
                               sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        snprintf(mail->address, sizeof mail->address, "%s", is_unix ? "unix" : "?");
    else
        snprintf(mail->address, sizeof mail->address,
                 name->ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

/* ---- accepting ---- */

/* Too many connections: the reason is sent as far as the fresh socket takes it, which it does. */
static void refuse(struct listener *listener, int fd)
{
    struct service *service = listener->service;
    struct buffer_allowance allowance = {.limit = 65536};
    struct conn conn;
    struct rpc_error err;
    size_t count;
    counter_add(&service->stats->refused_connections, 1);
    log_peer(service->log, LOG_LEVEL_WARN, "a connection was refused: --max-connections (%llu)",
             (unsigned long long)service->config->max_connections);
    rpc_error_exhausted(&err, PROTOCOL_REASON_RATE, 1000, "too many connections; try again later");
    conn_init(&conn, &service->limits, &allowance, 1);
    conn_finish(&conn, CONN_END_MEMORY, &err);
    const uint8_t *bytes = conn_pending(&conn, &count);
    ssize_t put = send(fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)put;
    conn_fini(&conn);
    close(fd);
}

/* The worker with the fewest connections; of several, the next in turn. In turn alone would leave a
 * worker idle when it is its clients that go away. */
static struct worker *choose_worker(struct listener *listener)
{
    struct worker *best = NULL;
    unsigned fewest = UINT_MAX, first = listener->next_worker;
    for (unsigned i = 0; i < listener->worker_count; i++) {
        struct worker *worker = &listener->workers[(first + i) % listener->worker_count];
        unsigned count = atomic_load_explicit(&worker->connections, memory_order_relaxed);
        if (count >= fewest)
            continue;
        best = worker;
        fewest = count;
    }
    listener->next_worker = (best->number + 1) % listener->worker_count;
    return best;
}

static void hand_over(struct listener *listener, int fd, const struct sockaddr_storage *name,
                      socklen_t size, bool is_unix)
{
    struct service *service = listener->service;
    unsigned open = atomic_load_explicit(&service->connections, memory_order_relaxed);
    struct mail_connection *mail =
        open < service->config->max_connections ? mem_alloc(sizeof *mail) : NULL;
    if (!mail) {
        refuse(listener, fd);
        return;
    }
    atomic_fetch_add_explicit(&service->connections, 1, memory_order_relaxed);
    counter_add(&service->stats->accepted, 1);
    mail->mail.kind = MAIL_CONNECTION;
    mail->fd = fd;
    describe_peer(mail, name, size, is_unix);
    struct worker *worker = choose_worker(listener);
    atomic_fetch_add_explicit(&worker->connections, 1, memory_order_relaxed);
    mailbox_post(&worker->mailbox, &mail->mail);
}

static void pause_accepting(struct listener *listener, int error)
{
    static const struct timeval pause = {.tv_usec = PAUSE_US};
    if (!listener->starved) /* once, not ten times a second */
        log_peer(listener->service->log, LOG_LEVEL_WARN,
                 "accepting pauses for %d ms: %s (raise `ulimit -n`, or lower --max-connections)",
                 PAUSE_US / 1000, strerror(error));
    for (unsigned i = 0; i < listener->socket_count; i++)
        event_del(&listener->sockets[i].event);
    listener->paused = listener->starved = true;
    event_add(&listener->resume_event, &pause);
}

static void on_resume(evutil_socket_t fd, short what, void *context)
{
    struct listener *listener = context;
    (void)fd;
    (void)what;
    listener->paused = false;
    for (unsigned i = 0; i < listener->socket_count; i++)
        event_add(&listener->sockets[i].event, NULL);
}

static void on_connection(evutil_socket_t fd, short what, void *context)
{
    struct listener_socket *from = context;
    (void)what;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sockaddr_storage name;
        socklen_t size = sizeof name;
        int accepted = accept4(fd, (struct sockaddr *)&name, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted >= 0) {
            from->listener->starved = false;
            hand_over(from->listener, accepted, &name, size, from->is_unix);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            pause_accepting(from->listener, errno);
        else if (errno == ECONNABORTED || errno == EINTR)
            continue;
        return;
    }
}

/* ---- opening and closing ---- */

static void close_sockets(struct listener_socket *sockets, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        close(sockets[i].fd);
        if (sockets[i].is_unix)
            unlink(sockets[i].address + sizeof PROTOCOL_UNIX_PREFIX - 1);
    }
}

/* How many sockets; on failure none is left. */
static int bind_all(struct listener_socket *sockets, unsigned max, char *const *addresses,
                    unsigned count, struct fathom_error *err)
{
    unsigned have = 0;
    for (unsigned i = 0; i < count; i++) {
        int added = listener_bind(addresses[i], &sockets[have], max - have, err);
        if (added < 0) {
            close_sockets(sockets, have);
            return added;
        }
        have += (unsigned)added;
    }
    return (int)have;
}

int listener_try(char *const *addresses, unsigned count, struct fathom_error *err)
{
    struct listener_socket sockets[LISTENER_SOCKETS_MAX];
    int bound = bind_all(sockets, LISTENER_SOCKETS_MAX, addresses, count, err);
    if (bound < 0)
        return bound;
    close_sockets(sockets, (unsigned)bound);
    return 0;
}

int listener_open(struct listener *listener, struct service *service, struct worker *workers,
                  unsigned worker_count, struct event_base *base, struct fathom_error *err)
{
    const struct config *config = service->config;
    memset(listener, 0, sizeof *listener);
    listener->service = service;
    listener->workers = workers;
    listener->worker_count = worker_count;
    int bound = bind_all(listener->sockets, LISTENER_SOCKETS_MAX, config->listens,
                         config->listen_count, err);
    if (bound < 0)
        return bound;
    listener->open = true;
    listener->socket_count = (unsigned)bound;
    event_assign(&listener->resume_event, base, -1, 0, on_resume, listener);
    for (unsigned i = 0; i < listener->socket_count; i++) {
        struct listener_socket *opened = &listener->sockets[i];
        opened->listener = listener;
        event_assign(&opened->event, base, opened->fd, EV_READ | EV_PERSIST, on_connection, opened);
        event_add(&opened->event, NULL);
    }
    return 0;
}

void listener_close(struct listener *listener)
{
    if (!listener->open)
        return;
    listener->open = false;
    event_del(&listener->resume_event);
    for (unsigned i = 0; i < listener->socket_count && !listener->paused; i++)
        event_del(&listener->sockets[i].event);
    close_sockets(listener->sockets, listener->socket_count);
    listener->socket_count = 0;
}
