/* From an address in words to listening sockets. */
#include "listener.h"

#include "error.h"
#include "protocol.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 1024

/* ---- unix sockets ---- */

/* A socket file that nobody listens on is what a killed server left; anything else is not ours to
 * remove. */
static int remove_stale(const struct sockaddr_un *name, const char *path, struct fathom_error *err)
{
    struct stat stat;
    if (lstat(path, &stat) < 0)
        return errno == ENOENT ? 0 : error_set(err, -errno, "%s: %s", path, strerror(errno));
    if (!S_ISSOCK(stat.st_mode))
        return error_set(err, -EADDRINUSE, "%s: exists and is not a socket", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    int rc = connect(fd, (const struct sockaddr *)name, sizeof *name) < 0 ? errno : 0;
    close(fd);
    if (rc != ECONNREFUSED)
        return error_set(err, -EADDRINUSE, "%s: another process listens there", path);
    return unlink(path) < 0 ? error_set(err, -errno, "%s: %s", path, strerror(errno)) : 0;
}

static int bind_unix(const char *path, struct listener_socket *out, struct fathom_error *err)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof name.sun_path)
        return error_set(err, FATHOM_EARGUMENT, "unix:%s: a path of 1 to %zu bytes is expected",
                         path, sizeof name.sun_path - 1);
    memcpy(name.sun_path, path, size);
    int rc = remove_stale(&name, path, err);
    if (rc < 0)
        return rc;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&name, sizeof name) < 0 ||
        listen(fd, BACKLOG) < 0) {
        rc = error_set(err, -errno, "unix:%s: cannot listen: %s%s", path, strerror(errno),
                       errno == ENOENT ? "; its folder must be there" : "");
        if (fd >= 0)
            close(fd);
        return rc;
    }
    out->fd = fd;
    out->is_unix = true;
    snprintf(out->address, sizeof out->address, PROTOCOL_UNIX_PREFIX "%s", path);
    return 1;
}

/* ---- TCP ---- */

/* "host:port" or "[host]:port" into its parts; an empty host or * stands for every address. */
static int split_address(const char *address, char host[256], char port[8],
                         struct fathom_error *err)
{
    const char *colon = strrchr(address, ':'), *end = colon;
    if (!colon)
        return error_set(err, FATHOM_EARGUMENT, "'%s' is not HOST:PORT or unix:PATH", address);
    if (address[0] == '[' && colon > address && colon[-1] == ']') {
        address++;
        end = colon - 1;
    } else if (memchr(address, ':', (size_t)(colon - address))) {
        return error_set(err, FATHOM_EARGUMENT, "'%s': write an IPv6 address as [HOST]:PORT",
                         address);
    }
    unsigned value;
    char rest;
    if (end - address >= 256 || strlen(colon + 1) > 5 ||
        sscanf(colon + 1, "%5u%c", &value, &rest) != 1 || value > 65535)
        return error_set(err, FATHOM_EARGUMENT, "%s: '%s' is not a port (0 to 65535)", address,
                         colon + 1);
    snprintf(host, 256, "%.*s", (int)(end - address), address);
    snprintf(port, 8, "%u", value);
    if (strcmp(host, "*") == 0)
        host[0] = '\0';
    return 0;
}

static void describe(struct listener_socket *socket_out)
{
    struct sockaddr_storage name;
    socklen_t size = sizeof name;
    char host[96], port[8];
    if (getsockname(socket_out->fd, (struct sockaddr *)&name, &size) < 0 ||
        getnameinfo((struct sockaddr *)&name, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    snprintf(socket_out->address, sizeof socket_out->address,
             name.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

static int bind_one(const struct addrinfo *info, struct listener_socket *out)
{
    int one = 1;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (info->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    out->fd = fd;
    out->is_unix = false;
    describe(out);
    return 0;
}

/* A name may stand for addresses of a family that this machine does not have; one that works is
 * enough. With port 0 only the first is bound, because each would get a port of its own. */
static int bind_tcp(const char *address, struct listener_socket *out, unsigned max,
                    struct fathom_error *err)
{
    char host[256], port[8];
    int rc = split_address(address, host, port, err);
    if (rc < 0)
        return rc;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list;
    int failed = getaddrinfo(host[0] ? host : NULL, port, &hints, &list);
    if (failed)
        return error_set(err, FATHOM_EARGUMENT, "%s: %s", address, gai_strerror(failed));
    unsigned count = 0;
    for (struct addrinfo *info = list; info && count < max; info = info->ai_next) {
        int bound = bind_one(info, &out[count]);
        if (bound == 0)
            count++;
        else
            rc = bound;
        if (bound == -EADDRINUSE || bound == -EACCES || (count > 0 && strcmp(port, "0") == 0))
            break;
    }
    freeaddrinfo(list);
    bool fatal = count == 0 || rc == -EADDRINUSE || rc == -EACCES;
    if (!fatal)
        return (int)count;
    while (count > 0)
        close(out[--count].fd);
    return error_set(err, rc ? rc : -EMFILE, "%s: cannot listen: %s%s", address, strerror(-rc),
                     rc == -EADDRINUSE ? "; another process listens there: give another address"
                     : rc == -EADDRNOTAVAIL ? "; this machine has no such address"
                                            : "");
}

int listener_bind(const char *address, struct listener_socket *out, unsigned max,
                  struct fathom_error *err)
{
    size_t prefix = sizeof PROTOCOL_UNIX_PREFIX - 1;
    if (max == 0)
        return error_set(err, FATHOM_ELIMIT, "%s: too many addresses", address);
    if (strncmp(address, PROTOCOL_UNIX_PREFIX, prefix) == 0)
        return bind_unix(address + prefix, out, err);
    return bind_tcp(address, out, max, err);
}
