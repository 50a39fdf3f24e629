/* Sockets with absolute deadlines: see client_net.h. Every wait is a poll with what is left until
 * the deadline, so that a peer that sends one byte a second cannot stretch a call. */
#include "client_net.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "client_error.h"

uint64_t client_net_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t client_net_deadline(uint32_t timeout_ms)
{
    return timeout_ms ? client_net_now_ns() + timeout_ms * UINT64_C(1000000) : NET_NEVER;
}

int client_net_wait(int fd, short events, uint64_t deadline_ns)
{
    for (;;) {
        uint64_t now = client_net_now_ns();
        int timeout_ms = -1;
        if (deadline_ns != NET_NEVER) {
            uint64_t left_ms = deadline_ns > now ? (deadline_ns - now + 999999) / 1000000 : 0;
            timeout_ms = left_ms > 3600000 ? 3600000 : (int)left_ms;
        }
        struct pollfd poll_fd = {.fd = fd, .events = events};
        int ready = poll(&poll_fd, 1, timeout_ms);
        if (ready > 0)
            return poll_fd.revents;
        if (ready < 0 && errno != EINTR)
            return -errno;
        if (ready == 0 && timeout_ms >= 0 && client_net_now_ns() >= deadline_ns)
            return 0;
    }
}

static bool would_block(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

ssize_t client_net_send(int fd, const void *data, size_t bytes)
{
    ssize_t sent = send(fd, data, bytes, MSG_NOSIGNAL);
    if (sent < 0)
        return would_block(errno) ? 0 : -errno;
    return sent;
}

ssize_t client_net_receive(int fd, void *out, size_t bytes)
{
    ssize_t received = recv(fd, out, bytes, 0);
    if (received < 0)
        return would_block(errno) ? 0 : -errno;
    return received ? received : -EPIPE;
}

void client_net_close(int fd)
{
    if (fd >= 0)
        close(fd);
}

/* A socket on its way to one address; 0 when it is there before the deadline. */
static int connect_one(int *out, int family, const struct sockaddr *address, socklen_t length,
                       uint64_t deadline_ns)
{
    int code, fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, address, length) < 0) {
        if (errno != EINPROGRESS && errno != EINTR) {
            code = -errno; /* EAGAIN from a unix socket: its backlog is full, waiting on the fd
                              would not help */
            goto fail;
        }
        int ready = client_net_wait(fd, POLLOUT, deadline_ns);
        int error = 0;
        socklen_t error_length = sizeof error;
        if (ready > 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_length) < 0)
            error = errno;
        code = ready == 0 ? -ETIMEDOUT : ready < 0 ? ready : -error;
        if (code)
            goto fail;
    }
    int yes = 1;
    if (family !=
        AF_UNIX) /* small requests must not wait for one another; a failure costs only latency */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    *out = fd;
    return 0;

fail:
    client_net_close(fd);
    return code;
}

static int connect_failed(const char *address, int code, struct fathom_client_error *err)
{
    const char *hint = "";
    if (code == -ECONNREFUSED)
        hint = "; is fathom-server running there? (its --listen gives the address)";
    else if (code == -ENOENT)
        hint = "; no such socket: is fathom-server running, with --listen unix:PATH?";
    else if (code == -EACCES || code == -EPERM)
        hint = "; this user may not use that socket";
    else if (code == -EAGAIN)
        hint = "; the server's queue of connections is full, try again";
    else if (code == -ETIMEDOUT)
        hint = "; check the host, the port and firewalls, or allow more time";
    return client_error_set(err, code, "cannot connect to %s: %s%s", address,
                            strerrordesc_np(-code), hint);
}

static int connect_unix(int *fd, const char *address, uint64_t deadline_ns,
                        struct fathom_client_error *err)
{
    const char *path = address + strlen("unix:");
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (*path == '\0' || strlen(path) >= sizeof name.sun_path)
        return client_error_set(err, FATHOM_CLIENT_EADDRESS,
                                "bad address '%s': the path of a unix socket has 1 to %zu bytes",
                                address, sizeof name.sun_path - 1);
    memcpy(name.sun_path, path, strlen(path) + 1);
    int code = connect_one(fd, AF_UNIX, (struct sockaddr *)&name, sizeof name, deadline_ns);
    return code ? connect_failed(address, code, err) : 0;
}

/* "HOST:PORT" or "[IPv6]:PORT" into host and port. */
static bool split_address(const char *address, char *host, size_t host_bytes, char port[6])
{
    const char *colon = strrchr(address, ':');
    if (!colon || colon == address || strlen(colon + 1) > 5 || colon[1] == '\0')
        return false;
    if (strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return false;
    const char *start = address, *end = colon;
    if (*address == '[') {
        if (colon[-1] != ']')
            return false;
        start++;
        end--;
    } else if (memchr(address, ':', (size_t)(colon - address))) {
        return false; /* an IPv6 address without brackets: which colon starts the port? */
    }
    if (end <= start || (size_t)(end - start) >= host_bytes)
        return false;
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    memcpy(port, colon + 1, strlen(colon + 1) + 1);
    return true;
}

static int connect_tcp(int *fd, const char *address, uint64_t deadline_ns,
                       struct fathom_client_error *err)
{
    char host[256], port[6];
    if (!split_address(address, host, sizeof host, port))
        return client_error_set(err, FATHOM_CLIENT_EADDRESS,
                                "bad address '%s': use HOST:PORT, [IPv6]:PORT or unix:PATH",
                                address);
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int code = getaddrinfo(host, port, &hints, &found);
    if (code)
        return client_error_set(err, FATHOM_CLIENT_EADDRESS,
                                "cannot resolve '%s' of address '%s': %s", host, address,
                                gai_strerror(code));
    code = -EADDRNOTAVAIL;
    for (struct addrinfo *at = found; at && code; at = at->ai_next)
        code = connect_one(fd, at->ai_family, at->ai_addr, at->ai_addrlen, deadline_ns);
    freeaddrinfo(found);
    return code ? connect_failed(address, code, err) : 0;
}

int client_net_connect(int *fd, const char *address, uint64_t deadline_ns,
                       struct fathom_client_error *err)
{
    *fd = -1;
    if (strncmp(address, "unix:", 5) == 0)
        return connect_unix(fd, address, deadline_ns, err);
    return connect_tcp(fd, address, deadline_ns, err);
}
