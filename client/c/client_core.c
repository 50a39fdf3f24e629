/* The exchange of bytes and messages: see client_core.h. Requests are packed elsewhere
 * (client_request.c), and results decoded elsewhere (client_reply.c). */
#include "client_core.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "client_error.h"
#include "client_net.h"
#include "client_reply.h"
#include "client_request.h"
#include "protocol.h"

enum { READ_BYTES = 64 << 10 };

/* ---- slots ---- */

struct slot *client_core_take_slot(struct fathom_client *client, struct fathom_client_error *err)
{
    struct slot *slot = client->free_slots;
    if (slot) {
        client->free_slots = slot->next;
    } else {
        if (client->slot_count == FATHOM_CLIENT_INFLIGHT_MAX) {
            client_error_set(err, FATHOM_CLIENT_ELIMIT,
                             "%d requests are in flight already: receive some answers first",
                             FATHOM_CLIENT_INFLIGHT_MAX);
            return NULL;
        }
        slot = calloc(1, sizeof *slot);
        if (!slot) {
            client_error_set(err, -ENOMEM, "no memory for another request in flight");
            return NULL;
        }
        slot->msgid = client->slot_count;
        client->slots[client->slot_count++] = slot;
    }
    uint32_t index = slot->msgid & (FATHOM_CLIENT_INFLIGHT_MAX - 1);
    memset(slot, 0, sizeof *slot);
    slot->msgid = ++client->sequence << CORE_SLOT_BITS | index;
    slot->state = SLOT_WAITING;
    return slot;
}

void client_core_free_slot(struct fathom_client *client, struct slot *slot)
{
    slot->state = SLOT_FREE;
    slot->next = client->free_slots;
    client->free_slots = slot;
}

static void slot_done(struct fathom_client *client, struct slot *slot)
{
    slot->state = SLOT_DONE;
    slot->result.msgid = slot->msgid;
    slot->result.user = slot->search.user;
    slot->result.status = slot->error.code;
    if (!slot->queued)
        return;
    client->ready++;
    slot->next = NULL;
    if (client->done_last)
        client->done_last->next = slot;
    else
        client->done_first = slot;
    client->done_last = slot;
}

void client_core_abandon(struct fathom_client *client, struct slot *slot)
{
    if (slot->state != SLOT_WAITING) {
        client_core_free_slot(client, slot);
        return;
    }
    slot->state = SLOT_ABANDONED;
    if (client_request_cancel(&client->out, slot->msgid))
        (void)client_core_step(client, 0,
                               NULL); /* at once or with the next call: it is only advice */
}

/* ---- the connection ---- */

void client_core_lose(struct fathom_client *client, const struct fathom_client_error *why)
{
    client_net_close(client->fd);
    client->fd = -1;
    client->lost = *why;
    client->out.size = client->out_sent = client->in_bytes = 0;
    for (unsigned i = 0; i < client->slot_count; i++) {
        struct slot *slot = client->slots[i];
        if (slot->state == SLOT_WAITING) {
            slot->error = *why;
            slot_done(client, slot);
        } else if (slot->state == SLOT_ABANDONED) {
            client_core_free_slot(client, slot);
        }
    }
}

/* The socket failed. When the server had said why it would close, its words are worth more than
 * ours. */
static void lose_socket(struct fathom_client *client, int code)
{
    struct fathom_client_error why;
    if (client->closing.code) {
        why = client->closing;
        why.code = FATHOM_CLIENT_ECLOSED;
    } else if (code == -EPIPE || code == -ECONNRESET) {
        client_error_set(&why, FATHOM_CLIENT_ECLOSED,
                         "%s closed the connection; reconnect when it is back", client->address);
    } else {
        client_error_set(&why, code, "connection to %s failed: %s", client->address,
                         strerrordesc_np(-code));
    }
    client_core_lose(client, &why);
}

static void lose_protocol(struct fathom_client *client, const char *what)
{
    struct fathom_client_error why;
    client_error_set(&why, FATHOM_CLIENT_EPROTOCOL,
                     "a message from %s %s: is a fathom-server listening there, and not HTTP?",
                     client->address, what);
    client_core_lose(client, &why);
}

static void start_message(struct fathom_client *client)
{
    client_scan_init(&client->scan, client->options.max_reply_bytes, PROTOCOL_ELEMENTS_MAX);
}

int client_core_connect(struct fathom_client *client, uint64_t deadline_ns,
                        struct fathom_client_error *err)
{
    int code = client_net_connect(&client->fd, client->address, deadline_ns, err);
    if (code)
        return code;
    memset(&client->closing, 0, sizeof client->closing);
    client->out.size = client->out_sent = client->in_bytes = 0;
    start_message(client);
    return 0;
}

/* ---- messages ---- */

/* [1, msgid, error, result], from msgid on. */
static const char *take_reply(struct fathom_client *client, struct item_reader *reader)
{
    struct item msgid, error;
    if (!client_item_read(reader, &msgid))
        return "is no reply";
    struct item_reader at_error = *reader;
    if (!client_item_read(reader, &error))
        return "is no reply";
    if (msgid.kind ==
        ITEM_NIL) { /* the server could not even read the msgid: its words explain what follows */
        client->closing.code = client_reply_error(&at_error, &client->closing);
        return NULL;
    }
    uint32_t index = msgid.value.u & (FATHOM_CLIENT_INFLIGHT_MAX - 1);
    struct slot *slot = index < client->slot_count ? client->slots[index] : NULL;
    if (msgid.kind != ITEM_UINT || !slot || slot->msgid != msgid.value.u ||
        (slot->state != SLOT_WAITING && slot->state != SLOT_ABANDONED))
        return "answers a request that was not made";
    if (slot->state == SLOT_ABANDONED) {
        client_core_free_slot(client, slot);
        return NULL;
    }
    if (error.kind != ITEM_NIL)
        client_reply_error(&at_error, &slot->error);
    else if (slot->decode)
        slot->error.code = slot->decode(slot, reader, &slot->error);
    slot_done(client, slot);
    return slot->error.code == FATHOM_CLIENT_EPROTOCOL ? "is not what its method answers" : NULL;
}

/* Returns what is wrong with a whole message, or NULL. */
static const char *take_message(struct fathom_client *client, struct item_reader reader)
{
    struct item head, type, method;
    if (!client_item_read(&reader, &head) || head.kind != ITEM_ARRAY || head.count < 3 ||
        !client_item_read(&reader, &type) || type.kind != ITEM_UINT)
        return "is not MessagePack-RPC";
    if (type.value.u == PROTOCOL_REPLY && head.count == 4)
        return take_reply(client, &reader);
    if (type.value.u != PROTOCOL_NOTIFICATION || head.count != 3)
        return "is neither a reply nor a notification";
    if (!client_item_read(&reader, &method) ||
        !client_item_is_text(&method, PROTOCOL_METHOD_CLOSING))
        return NULL; /* a notification of a later version: nothing that we need */
    if (client_item_read(&reader, &head) && head.kind == ITEM_ARRAY && head.count == 1)
        client->closing.code = client_reply_error(&reader, &client->closing);
    return NULL;
}

/* Takes every whole message in `in` and moves what is left to its start. */
static void take_messages(struct fathom_client *client)
{
    size_t start = 0;
    const char *fault = NULL;
    while (start < client->in_bytes && !fault) {
        const uint8_t *message = client->in + start;
        enum item_status status =
            client_scan_step(&client->scan, message, client->in_bytes - start);
        if (status == ITEM_MORE)
            break;
        if (status == ITEM_INVALID) {
            fault = client->scan.fault;
            break;
        }
        size_t bytes = client->scan.at;
        fault = take_message(client, (struct item_reader){message, message + bytes});
        start += bytes;
        start_message(client);
    }
    if (fault) {
        lose_protocol(client, fault);
        return;
    }
    if (start > 0)
        memmove(client->in, client->in + start, client->in_bytes - start);
    client->in_bytes -= start;
}

/* ---- bytes ---- */

static int grow_input(struct fathom_client *client)
{
    if (client->in_capacity - client->in_bytes >= READ_BYTES)
        return 0;
    size_t capacity =
        2 * client->in_capacity + READ_BYTES; /* the scanner bounds in_bytes, and so this */
    uint8_t *grown = realloc(client->in, capacity);
    if (!grown)
        return -ENOMEM;
    client->in = grown;
    client->in_capacity = capacity;
    return 0;
}

/* Bytes that came, 0 when there are none yet, or what is wrong with the socket. */
static ssize_t read_some(struct fathom_client *client)
{
    int code = grow_input(client);
    if (code)
        return code;
    ssize_t bytes = client_net_receive(client->fd, client->in + client->in_bytes,
                                       client->in_capacity - client->in_bytes);
    if (bytes <= 0)
        return bytes;
    client->in_bytes += (size_t)bytes;
    client->quiet_since_ns = client_net_now_ns();
    take_messages(client);
    return bytes;
}

/* Bytes that left, 0 when none can, or what is wrong with the socket. */
static ssize_t send_some(struct fathom_client *client)
{
    ssize_t bytes = client_net_send(client->fd, client->out.data + client->out_sent,
                                    client->out.size - client->out_sent);
    if (bytes <= 0)
        return bytes;
    client->out_sent += (size_t)bytes;
    if (!client_core_has_output(client))
        client->out.size = client->out_sent = 0;
    return bytes;
}

static int timed_out(struct fathom_client *client, bool silent, struct fathom_client_error *err)
{
    if (silent)
        return client_error_set(err, FATHOM_CLIENT_EDEADLINE,
                                "%s sent nothing for %u ms (read_timeout_ms)", client->address,
                                client->options.read_timeout_ms);
    return client_error_set(err, FATHOM_CLIENT_EDEADLINE, "no answer from %s in the time allowed",
                            client->address);
}

/* Waits for the socket, then reads and sends what it can. 0 when until_ns came first, negative when
 * the socket failed. */
static ssize_t move_when_ready(struct fathom_client *client, uint64_t until_ns)
{
    short events = client_core_has_output(client) ? POLLIN | POLLOUT : POLLIN;
    int ready = client_net_wait(client->fd, events, until_ns);
    ssize_t moved = ready;
    if (ready > 0 && (ready & ~POLLOUT)) /* POLLHUP, POLLERR too: the read tells what it is */
        moved = read_some(client);
    if (moved >= 0 && ready > 0 && (ready & POLLOUT) && client->fd >= 0)
        moved = send_some(client);
    return moved < 0 ? moved : ready;
}

/* What can be done at once is tried before anything is waited for: a caller that pipelines, or that
 * has polled the socket itself, is spared a system call for each message. */
int client_core_step(struct fathom_client *client, uint64_t deadline_ns,
                     struct fathom_client_error *err)
{
    if (client->fd < 0)
        return 0;
    uint64_t until = deadline_ns;
    uint64_t quiet_ns = client->options.read_timeout_ms * UINT64_C(1000000);
    if (quiet_ns && client->quiet_since_ns + quiet_ns < until)
        until = client->quiet_since_ns + quiet_ns;
    bool sending = client_core_has_output(client);
    ssize_t moved = sending ? send_some(client) : read_some(client);
    if (moved == 0) {
        moved = move_when_ready(client, until);
        if (moved == 0)
            return timed_out(client, until != deadline_ns, err);
    }
    if (moved < 0 && sending)
        (void)read_some(client); /* the server's last words may have come just before */
    if (moved < 0 && client->fd >= 0)
        lose_socket(client, (int)moved);
    return 0;
}

int client_core_flush(struct fathom_client *client, uint64_t deadline_ns,
                      struct fathom_client_error *err)
{
    int code = 0;
    while (code == 0 && client_core_has_output(client))
        code = client_core_step(client, deadline_ns, err);
    return code;
}

int client_core_await(struct fathom_client *client, struct slot *slot, uint64_t deadline_ns,
                      struct fathom_client_error *err)
{
    int code = 0;
    while (code == 0 && slot->state == SLOT_WAITING)
        code = client_core_step(client, deadline_ns, err);
    if (code) {
        client_core_abandon(client, slot);
        return code;
    }
    code = slot->error.code ? client_error_copy(err, &slot->error) : 0;
    client_core_free_slot(client, slot);
    return code;
}
