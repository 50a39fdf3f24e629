/* A worker: one event loop, one engine, and the connections it was given. It never waits for
 * anything but its loop: each turn handles the sockets that are ready, submits what they asked for
 * in one go, steps the engine once, and sends the replies. */
#ifndef SERVER_WORKER_H
#define SERVER_WORKER_H

#include "env.h"
#include "mailbox.h"
#include "methods.h"

#include <event2/event.h>
#include <event2/event_struct.h>

/* A new connection, from the listener's thread; the worker owns fd from the post on. */
struct mail_connection {
    struct mail mail;
    int fd;
    bool local, tcp;
    char address[64];
};

/* A socket and its session. Private to worker.c and peer.c. */
struct peer {
    struct session session; /* first: a search's owner is this */
    struct worker *worker;
    int fd;
    uint64_t serial; /* names it to others while it may go away */
    struct event read_event, write_event;
    bool reading, writing; /* the events are added */
    bool half_closed;      /* the peer sends no more */
    bool broken;           /* nor does it read */
    bool lingering; /* we send no more; waiting for the peer's end, so that it reads our last bytes
                     */
    uint64_t linger_until_ns;
    bool dirty;
    struct peer *dirty_next;
    struct peer *next, **prev;
};

struct worker {
    struct service *service;
    struct thread_stats *stats;
    unsigned number;
    struct mailbox mailbox;
    atomic_uint connections; /* given to it and not yet closed; the listener looks for the fewest */
    struct mail drain_mail,
        stop_mail; /* here, so that ending needs no memory; each is posted once */
    /* The rest is the worker's thread's. */
    struct event_base *base;
    struct event mail_event, engine_event, sweep_event, expiry_event;
    bool has_events, has_engine_event, expiry_armed;
    struct dispatch *dispatch;
    struct registry_view view;
    struct methods methods;
    struct peer *peers;
    struct peer *dirty; /* have something to send or to decide */
    unsigned peer_count;
    uint64_t serial;
    uint64_t now_ns;    /* of this turn */
    uint64_t pumped_ns; /* when the engine was last stepped */
    uint64_t read_ns;   /* spent on reading sockets since then */
    bool draining, stopped;
    enum env_urgency urgency; /* as far as it was allowed; the main thread reads it after ready */
    uint8_t *read_buffer;
};

/* Made by the main thread, so that mail can be posted before the loop runs. */
int worker_init(struct worker *worker, struct service *service, unsigned number,
                struct fathom_error *err) FATHOM_MUST_USE;
void worker_fini(struct worker *worker);

/* On the worker's thread: set up, run until MAIL_STOP, or until MAIL_DRAIN has emptied it, and take
 * down. ready is called once, with 0 or the error that kept it from starting. */
void worker_run(struct worker *worker,
                void (*ready)(void *context, int rc, const struct fathom_error *err),
                void *context);

/* For whoever closes a connection that was given to the worker. */
void worker_count_closed(struct worker *worker);
/* For peers, after each read: steps the engine when reading sockets has kept it waiting for long
 * enough. Otherwise refusing a flood of requests would starve the ones that were let in. */
void worker_pump_if_due(struct worker *worker);

/* ---- peer.c ---- */

/* Takes over the fd; on failure it is closed. */
void peer_open(struct worker *worker, const struct mail_connection *from);
/* Closes at once; its searches are abandoned. */
void peer_close(struct peer *peer);
/* It has something to send, or has ended: peer_settle will be called before the turn ends. */
void peer_mark(struct peer *peer);
/* Sends what waits and decides what is next: read on, wait for the socket, linger, close. May free
 * the peer. */
void peer_settle(struct peer *peer);
/* Ends it when a deadline has passed. */
void peer_check_deadlines(struct peer *peer);
/* Takes what has arrived so far. */
void peer_read_all(struct peer *peer);

#endif
