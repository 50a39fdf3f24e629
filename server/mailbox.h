/* Messages from other threads to one event loop: a locked list and an eventfd that wakes the loop.
 * Off the query path: new connections, finished reloads and the order to drain travel this way. */
#ifndef SERVER_MAILBOX_H
#define SERVER_MAILBOX_H

#include "fathom/error.h"

#include <pthread.h>

enum mail_kind {
    MAIL_CONNECTION, /* struct mail_connection */
    MAIL_RELOADED,   /* struct reload_ticket of worker.c */
    MAIL_DRAIN,      /* finish what is in flight, then end */
    MAIL_STOP,       /* end now */
};

/* The head of each message; the whole of it is one mem_alloc block that the receiver frees. */
struct mail {
    struct mail *next;
    enum mail_kind kind;
};

struct mailbox {
    pthread_mutex_t lock;
    struct mail *first, **end; /* under the lock */
    int fd;                    /* readable when there is mail */
};

int mailbox_init(struct mailbox *mailbox) FATHOM_MUST_USE;
/* The mail that nobody took must have been taken with mailbox_take. */
void mailbox_fini(struct mailbox *mailbox);
/* From any thread; takes ownership. */
void mailbox_post(struct mailbox *mailbox, struct mail *mail);
/* All mail so far, in order, as a list. */
struct mail *mailbox_take(struct mailbox *mailbox);

#endif
