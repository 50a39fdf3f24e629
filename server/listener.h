/* Listening sockets: addresses in words to bound sockets, and the accept loop on the main thread's
 * event base, which hands each connection to the worker that has the fewest.
 *
 * Out of file descriptors (EMFILE), a level-triggered accept loop would spin; the listener pauses
 * itself for 100 ms instead. SO_REUSEPORT was not chosen for spreading: the kernel spreads by
 * address hash, which leaves workers idle when there are few connections. */
#ifndef SERVER_LISTENER_H
#define SERVER_LISTENER_H

#include "worker.h"

#define LISTENER_SOCKETS_MAX 64

struct listener_socket {
    int fd;
    bool is_unix;
    char address[128]; /* as bound: the port is the real one */
    struct event event;
    struct listener *listener;
};

struct listener {
    struct service *service;
    struct worker *workers;
    unsigned worker_count, next_worker;
    struct listener_socket sockets[LISTENER_SOCKETS_MAX];
    unsigned socket_count;
    struct event resume_event;
    bool paused, starved, open; /* starved: since the last connection that was taken */
};

/* Whether all these addresses can be had at once; none is kept. To be told so before indexes are
 * opened: until they are, no client is to wait at a socket that nobody serves. */
int listener_try(char *const *addresses, unsigned count, struct fathom_error *err) FATHOM_MUST_USE;
/* Binds all addresses and starts accepting. On failure nothing is left open. */
int listener_open(struct listener *listener, struct service *service, struct worker *workers,
                  unsigned worker_count, struct event_base *base,
                  struct fathom_error *err) FATHOM_MUST_USE;
/* Stops accepting and removes unix sockets. May be called twice. */
void listener_close(struct listener *listener);

/* Binds HOST:PORT ([HOST]:PORT for IPv6; port 0: a free one) or unix:PATH. HOST may name several
 * addresses: all are bound. Adds to fds and addresses; returns how many were added, or a negative
 * code. */
int listener_bind(const char *address, struct listener_socket *out, unsigned max,
                  struct fathom_error *err) FATHOM_MUST_USE;

#endif
