/* Decoding hello, search and errors: see client_reply.h. Unknown keys are stepped over, so that a
 * newer server may say more; a key whose value has the wrong type or length is a protocol error. */
#include "client_reply.h"

#include <errno.h>
#include <string.h>

#include "client_error.h"
#include "client_json.h"
#include "protocol.h"

static int malformed(struct fathom_client_error *err, const char *what)
{
    return client_error_set(err, FATHOM_CLIENT_EPROTOCOL, "the server's reply is malformed: %s",
                            what);
}

/* Opens a map; -1 when the next item is none. */
static int64_t open_map(struct item_reader *reader)
{
    struct item item;
    return client_item_read(reader, &item) && item.kind == ITEM_MAP ? (int64_t)item.count : -1;
}

/* ---- errors ---- */

static void error_details(struct item_reader *reader, struct fathom_client_error *err)
{
    struct item_reader at = *reader;
    int64_t pairs = open_map(&at);
    if (pairs < 0 || !client_item_skip(reader)) {
        client_item_skip(reader);
        return;
    }
    for (; pairs > 0; pairs--) {
        struct item key, value;
        struct item_reader peek;
        if (!client_item_read(&at, &key))
            return;
        peek = at;
        if (client_item_is_text(&key, PROTOCOL_KEY_REASON) && client_item_read(&peek, &value))
            client_item_copy_text(&value, err->reason, sizeof err->reason);
        client_item_skip(&at);
    }
}

static void error_field(const struct item *key, struct item_reader *reader,
                        struct fathom_client_error *err)
{
    struct item_reader at = *reader;
    struct item value;
    if (client_item_is_text(key, PROTOCOL_KEY_DETAILS)) {
        error_details(reader, err);
        return;
    }
    client_item_skip(reader);
    if (!client_item_read(&at, &value))
        return;
    if (client_item_is_text(key, PROTOCOL_KEY_CODE))
        client_item_copy_text(&value, err->name, sizeof err->name);
    else if (client_item_is_text(key, PROTOCOL_KEY_MESSAGE))
        client_item_copy_text(&value, err->message, sizeof err->message);
    else if (client_item_is_text(key, PROTOCOL_KEY_REASON))
        client_item_copy_text(&value, err->reason, sizeof err->reason);
    else if (client_item_is_text(key, PROTOCOL_KEY_RETRYABLE) && value.kind == ITEM_BOOL)
        err->retryable = value.value.boolean;
    else if (client_item_is_text(key, PROTOCOL_KEY_RETRY_AFTER_MS) && value.kind == ITEM_UINT)
        err->retry_after_ms = value.value.u > UINT32_MAX ? UINT32_MAX : (uint32_t)value.value.u;
}

int client_reply_error(struct item_reader *reader, struct fathom_client_error *err)
{
    struct item_reader at = *reader;
    *err = (struct fathom_client_error){.code = FATHOM_CLIENT_ESERVER};
    struct item first;
    if (client_item_read(&at, &first) &&
        first.kind == ITEM_STR) /* what other MessagePack-RPC servers send */
        client_item_copy_text(&first, err->message, sizeof err->message);
    else
        for (int64_t pairs = open_map(reader); pairs > 0; pairs--) {
            struct item key;
            if (!client_item_read(reader, &key))
                break;
            error_field(&key, reader, err);
        }
    if (err->name[0] == '\0')
        strcpy(err->name, PROTOCOL_ERROR_INTERNAL);
    if (err->message[0] == '\0')
        strcpy(err->message, "the server gave no message");
    return FATHOM_CLIENT_ESERVER;
}

/* ---- hello ---- */

int client_reply_hello(struct slot *slot, struct item_reader *reader,
                       struct fathom_client_error *err)
{
    struct fathom_client_server *server = slot->out;
    int64_t pairs = open_map(reader);
    if (pairs < 0)
        return malformed(err, "hello is no map");
    for (; pairs > 0; pairs--) {
        struct item key, value;
        if (!client_item_read(reader, &key))
            return malformed(err, "hello ends early");
        struct item_reader at = *reader;
        if (!client_item_skip(reader) || !client_item_read(&at, &value))
            return malformed(err, "hello ends early");
        if (client_item_is_text(&key, PROTOCOL_KEY_SERVER))
            client_item_copy_text(&value, server->server, sizeof server->server);
        else if (client_item_is_text(&key, PROTOCOL_KEY_PROTOCOL) && value.kind == ITEM_UINT)
            server->protocol = (uint32_t)value.value.u;
        else if (client_item_is_text(&key, PROTOCOL_KEY_MAX_MESSAGE_BYTES) &&
                 value.kind == ITEM_UINT)
            server->max_message_bytes = value.value.u;
    }
    if (server->protocol != PROTOCOL_VERSION)
        return client_error_set(err, FATHOM_CLIENT_EPROTOCOL,
                                "the server speaks protocol %u, this client %d", server->protocol,
                                PROTOCOL_VERSION);
    if (server->max_message_bytes < PROTOCOL_MESSAGE_BYTES_MIN)
        return malformed(err, "hello without a sensible max_message_bytes");
    return 0;
}

/* ---- search ---- */

/* What a search result holds, found in one pass and not yet believed. */
struct search_reply {
    struct item ids, distances, generation, complete;
    uint64_t shape[2];
    struct item_reader stats; /* at == NULL: none */
};

static bool read_shape(struct item_reader *reader, uint64_t shape[2])
{
    struct item item;
    if (!client_item_read(reader, &item) || item.kind != ITEM_ARRAY || item.count != 2)
        return false;
    for (int i = 0; i < 2; i++) {
        if (!client_item_read(reader, &item) || item.kind != ITEM_UINT)
            return false;
        shape[i] = item.value.u;
    }
    return true;
}

static bool search_field(const struct item *key, struct item_reader *reader,
                         struct search_reply *out)
{
    if (client_item_is_text(key, PROTOCOL_KEY_SHAPE))
        return read_shape(reader, out->shape);
    if (client_item_is_text(key, PROTOCOL_KEY_STATS))
        out->stats = *reader;
    else if (client_item_is_text(key, PROTOCOL_KEY_IDS))
        return client_item_read(reader, &out->ids);
    else if (client_item_is_text(key, PROTOCOL_KEY_DISTANCES))
        return client_item_read(reader, &out->distances);
    else if (client_item_is_text(key, PROTOCOL_KEY_GENERATION))
        return client_item_read(reader, &out->generation);
    else if (client_item_is_text(key, PROTOCOL_KEY_COMPLETE))
        return client_item_read(reader, &out->complete);
    return client_item_skip(reader);
}

static void stats_field(const struct item *key, const struct item *value,
                        struct fathom_client_stats *out)
{
    uint64_t number = 0;
    if (value->kind == ITEM_UINT)
        number = value->value.u;
    else if (value->kind == ITEM_FLOAT && value->value.f > 0 && value->value.f < 1e18)
        number = (uint64_t)(value->value.f + 0.5);
    const struct {
        const char *key;
        uint32_t *narrow;
        uint64_t *wide;
        char *text;
    } fields[] = {
        {PROTOCOL_KEY_HOPS, &out->hops, NULL, NULL},
        {PROTOCOL_KEY_ROUNDS, &out->rounds, NULL, NULL},
        {PROTOCOL_KEY_READS, &out->reads, NULL, NULL},
        {PROTOCOL_KEY_LIST_READS, &out->list_reads, NULL, NULL},
        {PROTOCOL_KEY_CODE_READS, &out->code_reads, NULL, NULL},
        {PROTOCOL_KEY_RESIDENT_LISTS, &out->resident_lists, NULL, NULL},
        {PROTOCOL_KEY_CODE_DISTANCES, &out->code_distances, NULL, NULL},
        {PROTOCOL_KEY_FULL_DISTANCES, &out->full_distances, NULL, NULL},
        {PROTOCOL_KEY_RERANKED, &out->reranked, NULL, NULL},
        {PROTOCOL_KEY_WIDENED, &out->widened, NULL, NULL},
        {PROTOCOL_KEY_BYTES, NULL, &out->bytes, NULL},
        {PROTOCOL_KEY_QUEUE_US, NULL, &out->queue_us, NULL},
        {PROTOCOL_KEY_DEVICE_US, NULL, &out->device_us, NULL},
        {PROTOCOL_KEY_COMPUTE_US, NULL, &out->compute_us, NULL},
        {PROTOCOL_KEY_TOTAL_US, NULL, &out->total_us, NULL},
        {PROTOCOL_KEY_STOP_REASON, NULL, NULL, out->stop_reason},
        {PROTOCOL_KEY_IO_ENGINE, NULL, NULL, out->io_engine},
        {PROTOCOL_KEY_NAVIGATOR, NULL, NULL, out->navigator},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (!client_item_is_text(key, fields[i].key))
            continue;
        if (fields[i].narrow)
            *fields[i].narrow = number > UINT32_MAX ? UINT32_MAX : (uint32_t)number;
        else if (fields[i].wide)
            *fields[i].wide = number;
        else
            client_item_copy_text(value, fields[i].text, sizeof out->stop_reason);
    }
}

/* One stats map. queries (may be NULL) becomes what lies behind the head of its "queries", an array
 * of n. */
static bool read_stats(struct item_reader *reader, struct fathom_client_stats *out,
                       struct item_reader *queries, uint32_t n)
{
    int64_t pairs = open_map(reader);
    for (int64_t i = 0; i < pairs; i++) {
        struct item key, value;
        if (!client_item_read(reader, &key))
            return false;
        struct item_reader at = *reader;
        if (!client_item_skip(reader) || !client_item_read(&at, &value))
            return false;
        if (!queries || !client_item_is_text(&key, PROTOCOL_KEY_QUERIES)) {
            stats_field(&key, &value, out);
            continue;
        }
        if (value.kind != ITEM_ARRAY || value.count != n)
            return false;
        *queries = at;
    }
    return pairs >= 0;
}

/* The stats of n queries: the map itself when n is 1, else one in "queries" for each. */
static bool read_all_stats(struct item_reader *reader, struct fathom_client_stats *out, uint32_t n)
{
    struct fathom_client_stats sum = {0};
    struct item_reader queries = {0};
    memset(out, 0, n * sizeof *out);
    if (n == 1)
        return read_stats(reader, out, NULL, n);
    if (!read_stats(reader, &sum, &queries, n) || !queries.at)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        if (!read_stats(&queries, &out[i], NULL, n))
            return false;
    }
    return true;
}

static bool has_bytes(const struct item *item, uint64_t bytes)
{
    return item->kind == ITEM_BIN && item->count == bytes;
}

static void copy_results(const struct slot *slot, const struct search_reply *reply)
{
    const struct fathom_client_search *search = &slot->search;
    memcpy(search->ids, reply->ids.bytes, reply->ids.count);
    if (search->distances)
        memcpy(search->distances, reply->distances.bytes, reply->distances.count);
}

int client_reply_search(struct slot *slot, struct item_reader *reader,
                        struct fathom_client_error *err)
{
    const struct fathom_client_search *search = &slot->search;
    uint64_t entries = (uint64_t)search->n * search->k;
    struct search_reply reply = {0};
    int64_t pairs = open_map(reader);
    if (pairs < 0)
        return malformed(err, "search's result is no map");
    for (; pairs > 0; pairs--) {
        struct item key;
        if (!client_item_read(reader, &key) || !search_field(&key, reader, &reply))
            return malformed(err, "search's result has a field of the wrong type");
    }
    if (reply.shape[0] != search->n || reply.shape[1] != search->k)
        return malformed(err, "search's shape is not the one asked for");
    if (!has_bytes(&reply.ids, entries * sizeof(uint64_t)) ||
        !has_bytes(&reply.distances, entries * sizeof(float)))
        return malformed(err, "search's ids or distances are not as long as its shape says");
    if (reply.generation.kind != ITEM_UINT || reply.complete.kind != ITEM_BOOL)
        return malformed(err, "search's generation or complete is missing");
    if (search->stats &&
        (!reply.stats.at || !read_all_stats(&reply.stats, search->stats, search->n)))
        return malformed(err, "search's stats are missing or incomplete");
    copy_results(slot, &reply);
    slot->result.generation = reply.generation.value.u;
    slot->result.complete = reply.complete.value.boolean;
    return 0;
}

/* ---- info, stats, reload ---- */

int client_reply_json(struct slot *slot, struct item_reader *reader,
                      struct fathom_client_error *err)
{
    int code = client_json_from_items(slot->out, reader);
    if (code == -ENOMEM)
        return client_error_set(err, code, "no memory for the server's answer");
    return code ? malformed(err, "a key of a map is no text") : 0;
}
