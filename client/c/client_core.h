/* The inside of a client: one socket, bytes on their way out, bytes that came in, and a table of
 * the requests that wait for an answer.
 *
 *     submit -> request packed at the end of `out` -> client_core_step sends and reads -> each
 * whole message is scanned, matched by msgid to its slot, and decoded straight into the caller's
 * arrays -> slot is DONE
 *
 * Invariants: `out` holds whole messages (but for the first, which may be sent in part), so a call
 * that ran out of time never breaks the stream. A slot that nobody waits for any more is ABANDONED
 * until its answer has come, so that a late answer cannot be taken for another's. Once the
 * connection is lost, no slot is WAITING. */
#ifndef CLIENT_CORE_H
#define CLIENT_CORE_H

#include <msgpack.h>

#include "client_item.h"
#include "fathom/client.h"

/* A msgid is its slot's index in the low bits and a sequence number above. */
enum { CORE_SLOT_BITS = 10 };
_Static_assert(1 << CORE_SLOT_BITS == FATHOM_CLIENT_INFLIGHT_MAX, "a msgid names its slot");

enum slot_state { SLOT_FREE, SLOT_WAITING, SLOT_DONE, SLOT_ABANDONED };

struct slot {
    enum slot_state state;
    uint32_t msgid;
    bool queued;       /* submitted: joins the done list, for fathom_client_receive */
    struct slot *next; /* in the free or the done list */
    /* Decodes the result of a reply. 0, FATHOM_CLIENT_EPROTOCOL or -ENOMEM with err filled. */
    int (*decode)(struct slot *slot, struct item_reader *result, struct fathom_client_error *err);
    void *out; /* where decode puts what it read, for methods other than search */
    struct fathom_client_search search; /* its arrays alone are used */
    struct fathom_client_result result;
    struct fathom_client_error error;
};

struct fathom_client {
    int fd; /* -1: closed, and lost says why */
    char *address, *name, *token;
    struct fathom_client_options options;
    struct fathom_client_server server;
    struct fathom_client_error lost,
        closing; /* closing: the server's own words, code 0 when it said none */

    struct slot *slots[FATHOM_CLIENT_INFLIGHT_MAX]; /* the first slot_count are made */
    unsigned slot_count;
    struct slot *free_slots, *done_first, *done_last;
    unsigned inflight; /* queued slots that are WAITING or DONE */
    unsigned ready;    /* those that are DONE */
    uint32_t sequence;

    msgpack_sbuffer out;
    size_t out_sent;
    uint8_t *in;
    size_t in_bytes, in_capacity;
    struct client_scan scan;
    uint64_t quiet_since_ns; /* the last byte, or the start of the call */
};

/* Connects and sets a fresh stream up (no hello). */
int client_core_connect(struct fathom_client *client, uint64_t deadline_ns,
                        struct fathom_client_error *err);
/* Closes the connection; every request that waits fails with this error. */
void client_core_lose(struct fathom_client *client, const struct fathom_client_error *why);

/* A slot for a new request, or NULL with err filled. */
struct slot *client_core_take_slot(struct fathom_client *client, struct fathom_client_error *err);
void client_core_free_slot(struct fathom_client *client, struct slot *slot);
/* Nobody waits for this answer any more; asks the server to drop the request. */
void client_core_abandon(struct fathom_client *client, struct slot *slot);

/* Sends what is to be sent, or else reads. When nothing can be done at once, waits until the socket
 * is ready or deadline_ns has come. 0, or FATHOM_CLIENT_EDEADLINE; losing the connection is not an
 * error here but of the slots. */
int client_core_step(struct fathom_client *client, uint64_t deadline_ns,
                     struct fathom_client_error *err);
/* Steps until all requests are sent. */
int client_core_flush(struct fathom_client *client, uint64_t deadline_ns,
                      struct fathom_client_error *err);
/* Steps until slot is DONE; abandons and frees it when it is not in time. Returns the status of its
 * answer. */
int client_core_await(struct fathom_client *client, struct slot *slot, uint64_t deadline_ns,
                      struct fathom_client_error *err);

static inline bool client_core_has_output(const struct fathom_client *client)
{
    return client->out_sent < client->out.size;
}

#endif
