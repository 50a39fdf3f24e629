/* The methods: a scanned message comes in, a reply is packed or a search is started. One per
 * worker; runs on its thread. */
#ifndef SERVER_METHODS_H
#define SERVER_METHODS_H

#include "dispatch.h"
#include "service.h"

/* A connection as the methods see it. */
struct session {
    struct conn conn;
    struct search *searches; /* in flight, through owner_next */
    uint32_t rows_in_flight; /* in them */
    bool local;              /* a unix socket or a loopback address */
    char address[64];        /* for the log */
};

struct methods {
    struct service *service;
    struct registry_view *view;
    struct dispatch *dispatch;
    struct thread_stats *stats;
    bool draining; /* searches are refused */
    /* Starts a reload for the session and counts it in conn.in_flight; methods_answer_reload
     * answers. */
    int (*reload)(void *context, struct session *session, uint32_t msgid,
                  const struct reload_request *request);
    void *context;
};

/* Takes one message. 0, or -1 when the connection is over (conn.end says why). */
int methods_take(struct methods *methods, struct session *session, const uint8_t *bytes,
                 size_t count, uint64_t now_ns) FATHOM_MUST_USE;
/* Packs the answer of a search whose owner is a session, and takes it off the session's list. */
void methods_answer_search(struct methods *methods, struct search *search, uint64_t now_ns);
void methods_answer_reload(struct methods *methods, struct session *session, uint32_t msgid,
                           unsigned slot, const struct reload_result *result);
/* It has as much in flight as one connection may: read no more from it for now, so that one that
 * pipelines without end is slowed down rather than refused, and leaves room in the queue for
 * others. */
bool methods_is_ahead(const struct methods *methods, const struct session *session);
/* The connection is gone: its searches are abandoned. */
void methods_forget(struct methods *methods, struct session *session);

#endif
