/* The public calls of libfathom_client: they check their arguments, take a slot, have the request
 * packed and the answer awaited. How bytes move is in client_core.c. */
#include "fathom/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client_core.h"
#include "client_error.h"
#include "client_net.h"
#include "client_reply.h"
#include "client_request.h"
#include "protocol.h"

_Static_assert(FATHOM_CLIENT_ID_NONE == PROTOCOL_ID_NONE, "what pads rows of results");

enum { DEADLINE_GRACE_MS = 1000 }; /* for the server's own "deadline_exceeded" to arrive */

const char *fathom_client_version(void)
{
    return FATHOM_VERSION;
}

struct fathom_client_options fathom_client_options_default(void)
{
    return (struct fathom_client_options){
        .connect_timeout_ms = 5000,
        .read_timeout_ms = 30000,
        .call_timeout_ms = 60000,
        .max_reply_bytes = 64u << 20,
    };
}

struct fathom_client_search fathom_client_search_default(void)
{
    return (struct fathom_client_search){.dtype = FATHOM_CLIENT_F32, .n = 1, .k = 10};
}

/* ---- opening and closing ---- */

static int copy_strings(struct fathom_client *client, const char *address)
{
    const char *name = client->options.client_name;
    client->address = strdup(address);
    client->name = strdup(name ? name : "libfathom_client/" FATHOM_VERSION);
    if (client->options.token)
        client->token = strdup(client->options.token);
    client->options.client_name = client->options.token = NULL;
    return client->address && client->name ? 0 : -ENOMEM;
}

static int say_hello(struct fathom_client *client, uint64_t deadline_ns,
                     struct fathom_client_error *err)
{
    memset(&client->server, 0, sizeof client->server);
    client->quiet_since_ns = client_net_now_ns();
    struct slot *slot = client_core_take_slot(client, err);
    if (!slot)
        return FATHOM_CLIENT_ELIMIT;
    slot->decode = client_reply_hello;
    slot->out = &client->server;
    if (!client_request_hello(&client->out, slot->msgid, client->name, client->token)) {
        client_core_free_slot(client, slot);
        return client_error_set(err, -ENOMEM, "no memory to pack a hello");
    }
    int code = client_core_await(client, slot, deadline_ns, err);
    if (code == FATHOM_CLIENT_EDEADLINE)
        client_error_set(err, code,
                         "%s takes connections, but answered no hello in the time allowed: is that "
                         "fathom-server's --listen address, and not its HTTP port?",
                         client->address);
    return code;
}

/* Connects and says hello, within one deadline. After a failure the connection is closed. */
static int connect_client(struct fathom_client *client, struct fathom_client_error *err)
{
    struct fathom_client_error why = {0};
    uint64_t deadline_ns = client_net_deadline(client->options.connect_timeout_ms);
    int code = client_core_connect(client, deadline_ns, &why);
    if (code == 0)
        code = say_hello(client, deadline_ns, &why);
    if (code) {
        client_core_lose(client, &why);
        client_error_copy(err, &why);
    }
    return code;
}

static int check_options(const struct fathom_client_options *options,
                         struct fathom_client_error *err)
{
    if (options->max_reply_bytes < PROTOCOL_MESSAGE_BYTES_MIN)
        return client_error_set(err, FATHOM_CLIENT_EARGUMENT, "max_reply_bytes must be at least %u",
                                PROTOCOL_MESSAGE_BYTES_MIN);
    if (options->max_reply_bytes > PROTOCOL_MESSAGE_BYTES_MAX)
        return client_error_set(err, FATHOM_CLIENT_EARGUMENT, "max_reply_bytes must be at most %u",
                                PROTOCOL_MESSAGE_BYTES_MAX);
    if (options->client_name && strlen(options->client_name) > PROTOCOL_CLIENT_BYTES_MAX)
        return client_error_set(err, FATHOM_CLIENT_EARGUMENT, "client_name is longer than %d bytes",
                                PROTOCOL_CLIENT_BYTES_MAX);
    if (options->token && strlen(options->token) > PROTOCOL_TOKEN_BYTES_MAX)
        return client_error_set(err, FATHOM_CLIENT_EARGUMENT, "token is longer than %d bytes",
                                PROTOCOL_TOKEN_BYTES_MAX);
    return 0;
}

int fathom_client_open(struct fathom_client **out, const char *address,
                       const struct fathom_client_options *options, struct fathom_client_error *err)
{
    *out = NULL;
    struct fathom_client_options defaults = fathom_client_options_default();
    int code = check_options(options ? options : &defaults, err);
    if (code)
        return code;
    struct fathom_client *client = calloc(1, sizeof *client);
    if (!client)
        return client_error_set(err, -ENOMEM, "no memory for a client");
    client->fd = -1;
    client->options = options ? *options : defaults;
    bool has_token = client->options.token != NULL;
    code = copy_strings(client, address);
    if (code || (has_token && !client->token)) {
        code = client_error_set(err, -ENOMEM, "no memory for a client");
        goto fail;
    }
    code = connect_client(client, err);
    if (code)
        goto fail;
    *out = client;
    return 0;

fail:
    fathom_client_close(client);
    return code;
}

void fathom_client_close(struct fathom_client *client)
{
    if (!client)
        return;
    client_net_close(client->fd);
    for (unsigned i = 0; i < client->slot_count; i++)
        free(client->slots[i]);
    msgpack_sbuffer_destroy(&client->out);
    free(client->in);
    free(client->address);
    free(client->name);
    free(client->token);
    free(client);
}

int fathom_client_reconnect(struct fathom_client *client, struct fathom_client_error *err)
{
    struct fathom_client_error why;
    client_error_set(&why, FATHOM_CLIENT_ECLOSED,
                     "the connection to %s was given up by a reconnect", client->address);
    client_core_lose(client, &why);
    return connect_client(client, err);
}

void fathom_client_set_call_timeout(struct fathom_client *client, uint32_t timeout_ms)
{
    client->options.call_timeout_ms = timeout_ms;
}

void fathom_client_get_server(const struct fathom_client *client, struct fathom_client_server *out)
{
    *out = client->server;
}

/* ---- what all calls share ---- */

/* 0 when requests can be sent; else why the connection was lost, under its own code for the caller
 * to branch on. */
static int check_connection(struct fathom_client *client, struct fathom_client_error *err)
{
    client->quiet_since_ns = client_net_now_ns();
    if (client->fd >= 0)
        return 0;
    client_error_copy(err, &client->lost);
    if (err)
        err->code = FATHOM_CLIENT_ECLOSED;
    return FATHOM_CLIENT_ECLOSED;
}

static int out_of_memory(struct fathom_client *client, struct slot *slot,
                         struct fathom_client_error *err)
{
    client_core_free_slot(client, slot);
    return client_error_set(err, -ENOMEM, "no memory to pack a request");
}

static int check_index_name(const char *index, struct fathom_client_error *err)
{
    if (!index || *index == '\0' || strlen(index) > PROTOCOL_NAME_BYTES_MAX)
        return client_error_set(err, FATHOM_CLIENT_EARGUMENT,
                                "the name of an index has 1 to %d bytes", PROTOCOL_NAME_BYTES_MAX);
    return 0;
}

/* Takes a slot for a call whose result is JSON text, or nothing. */
static int begin_plain(struct fathom_client *client, char **json, struct slot **slot,
                       struct fathom_client_error *err)
{
    int code = check_connection(client, err);
    if (code)
        return code;
    *slot = client_core_take_slot(client, err);
    if (!*slot)
        return FATHOM_CLIENT_ELIMIT;
    (*slot)->decode = json ? client_reply_json : NULL;
    (*slot)->out = json;
    return 0;
}

/* A method without parameters, or with an index alone; json may be NULL. */
static int call_plain(struct fathom_client *client, const char *method, const char *index,
                      char **json, struct fathom_client_error *err)
{
    struct slot *slot;
    int code = begin_plain(client, json, &slot, err);
    if (code)
        return code;
    uint64_t deadline_ns = client_net_deadline(client->options.call_timeout_ms);
    if (!client_request_plain(&client->out, slot->msgid, method, index))
        return out_of_memory(client, slot, err);
    return client_core_await(client, slot, deadline_ns, err);
}

/* ---- searching ---- */

static int check_search(const struct fathom_client *client,
                        const struct fathom_client_search *search, struct fathom_client_error *err)
{
    int code = check_index_name(search->index, err);
    if (code)
        return code;
    if (!search->vectors || !search->ids)
        return client_error_set(err, FATHOM_CLIENT_EARGUMENT, "vectors and ids must not be NULL");
    if (search->dtype < FATHOM_CLIENT_F32 || search->dtype > FATHOM_CLIENT_U8)
        return client_error_set(err, FATHOM_CLIENT_EARGUMENT, "dtype %d is none of f32 f16 i8 u8",
                                (int)search->dtype);
    if (search->n < 1 || search->n > PROTOCOL_BATCH_MAX)
        return client_error_set(err, FATHOM_CLIENT_EARGUMENT,
                                "n is %u: one request takes 1 to %d vectors", search->n,
                                PROTOCOL_BATCH_MAX);
    if (search->dim < 1 || search->dim > PROTOCOL_DIM_MAX)
        return client_error_set(err, FATHOM_CLIENT_EARGUMENT, "dim is %u, not 1 to %d", search->dim,
                                PROTOCOL_DIM_MAX);
    if (search->k < 1 || search->k > PROTOCOL_K_MAX)
        return client_error_set(err, FATHOM_CLIENT_EARGUMENT, "k is %u, not 1 to %d", search->k,
                                PROTOCOL_K_MAX);
    uint64_t bytes_max = client_request_search_bytes_max(search);
    if (bytes_max > client->server.max_message_bytes)
        return client_error_set(
            err, FATHOM_CLIENT_ELIMIT,
            "a request of %llu bytes, the server takes %llu: send fewer vectors at once",
            (unsigned long long)bytes_max, (unsigned long long)client->server.max_message_bytes);
    if ((uint64_t)search->n * search->k * 12 + 1024 > client->options.max_reply_bytes)
        return client_error_set(
            err, FATHOM_CLIENT_ELIMIT,
            "the answer would pass max_reply_bytes (%llu): send fewer vectors at once",
            (unsigned long long)client->options.max_reply_bytes);
    return 0;
}

/* Checks and packs a search; *out is its slot. */
static int begin_search(struct fathom_client *client, const struct fathom_client_search *search,
                        struct slot **out, struct fathom_client_error *err)
{
    int code = check_connection(client, err);
    if (code == 0)
        code = check_search(client, search, err);
    if (code)
        return code;
    struct slot *slot = client_core_take_slot(client, err);
    if (!slot)
        return FATHOM_CLIENT_ELIMIT;
    slot->decode = client_reply_search;
    slot->search = *search;
    if (!client_request_search(&client->out, slot->msgid, search))
        return out_of_memory(client, slot, err);
    *out = slot;
    return 0;
}

static uint64_t search_deadline(const struct fathom_client *client,
                                const struct fathom_client_search *search)
{
    uint64_t call = client_net_deadline(client->options.call_timeout_ms);
    if (search->deadline_ms == 0 || search->deadline_ms > PROTOCOL_DEADLINE_MS_MAX)
        return call;
    uint64_t server = client_net_deadline(search->deadline_ms + DEADLINE_GRACE_MS);
    return server < call ? server : call;
}

int fathom_client_search(struct fathom_client *client, const struct fathom_client_search *search,
                         struct fathom_client_result *result, struct fathom_client_error *err)
{
    struct slot *slot = NULL;
    int code = begin_search(client, search, &slot, err);
    if (code)
        return code;
    code = client_core_await(client, slot, search_deadline(client, search), err);
    if (code == 0 && result)
        *result = slot->result; /* freed for reuse, not gone: nothing has run in between */
    return code;
}

int fathom_client_submit(struct fathom_client *client, const struct fathom_client_search *search,
                         uint32_t *msgid, struct fathom_client_error *err)
{
    struct slot *slot = NULL;
    int code = begin_search(client, search, &slot, err);
    if (code)
        return code;
    slot->queued = true;
    client->inflight++;
    code = client_core_flush(client, search_deadline(client, search), err);
    if (code && slot->state == SLOT_WAITING) {
        slot->queued = false;
        client->inflight--;
        client_core_abandon(client, slot);
        return code;
    }
    /* A connection lost meanwhile has failed the slot: fathom_client_receive tells. */
    if (msgid)
        *msgid = slot->msgid;
    return 0;
}

int fathom_client_receive(struct fathom_client *client, struct fathom_client_result *out,
                          struct fathom_client_error *err)
{
    uint64_t deadline_ns = client_net_deadline(client->options.call_timeout_ms);
    client->quiet_since_ns = client_net_now_ns();
    if (client->inflight == 0)
        return 0;
    while (!client->done_first) {
        int code = client_core_step(client, deadline_ns, err);
        if (code)
            return code;
    }
    struct slot *slot = client->done_first;
    client->done_first = slot->next;
    if (!client->done_first)
        client->done_last = NULL;
    client->inflight--;
    client->ready--;
    *out = slot->result;
    if (slot->error.code)
        client_error_copy(err, &slot->error);
    client_core_free_slot(client, slot);
    return 1;
}

int fathom_client_cancel(struct fathom_client *client, uint32_t msgid,
                         struct fathom_client_error *err)
{
    int code = check_connection(client, err);
    if (code)
        return code;
    if (!client_request_cancel(&client->out, msgid))
        return client_error_set(err, -ENOMEM, "no memory to pack a request");
    return client_core_flush(client, client_net_deadline(client->options.call_timeout_ms), err);
}

unsigned fathom_client_inflight(const struct fathom_client *client)
{
    return client->inflight;
}

unsigned fathom_client_ready(const struct fathom_client *client)
{
    return client->ready;
}

int fathom_client_fd(const struct fathom_client *client)
{
    return client->fd;
}

/* ---- looking after a server ---- */

int fathom_client_ping(struct fathom_client *client, struct fathom_client_error *err)
{
    return call_plain(client, PROTOCOL_METHOD_PING, NULL, NULL, err);
}

int fathom_client_info(struct fathom_client *client, const char *index, char **json,
                       struct fathom_client_error *err)
{
    *json = NULL;
    int code = index ? check_index_name(index, err) : 0;
    return code ? code : call_plain(client, PROTOCOL_METHOD_INFO, index, json, err);
}

int fathom_client_stats(struct fathom_client *client, char **json, struct fathom_client_error *err)
{
    *json = NULL;
    return call_plain(client, PROTOCOL_METHOD_STATS, NULL, json, err);
}

int fathom_client_reload(struct fathom_client *client, const char *index, char **json,
                         struct fathom_client_error *err)
{
    if (json)
        *json = NULL;
    int code = check_index_name(index, err);
    return code ? code : call_plain(client, PROTOCOL_METHOD_RELOAD, index, json, err);
}

int fathom_client_reload_under(struct fathom_client *client, const char *index,
                               const struct fathom_client_terms *terms, char **json,
                               struct fathom_client_error *err)
{
    if (json)
        *json = NULL;
    struct slot *slot;
    int code = check_index_name(index, err);
    if (code == 0)
        code = begin_plain(client, json, &slot, err);
    if (code)
        return code;
    uint64_t deadline_ns = client_net_deadline(client->options.call_timeout_ms);
    if (!client_request_reload_under(&client->out, slot->msgid, index, terms))
        return out_of_memory(client, slot, err);
    return client_core_await(client, slot, deadline_ns, err);
}

int fathom_client_shutdown(struct fathom_client *client, struct fathom_client_error *err)
{
    return call_plain(client, PROTOCOL_METHOD_SHUTDOWN, NULL, NULL, err);
}
