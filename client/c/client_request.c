/* Packing requests with msgpack-c. Writes to a buffer alone; what it is given was checked in
 * client.c. */
#include "client_request.h"

#include <string.h>

#include "protocol.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "vectors are sent as they lie in memory, and the wire is little-endian");

/* A message being packed. Every step or-s its outcome into failed, so that the callers read
 * straight down. */
struct packing {
    msgpack_packer packer;
    msgpack_sbuffer *out;
    size_t start;
    int failed;
};

static void pack_text(struct packing *pack, const char *text)
{
    pack->failed |= msgpack_pack_str_with_body(&pack->packer, text, strlen(text));
}

static void pack_uint(struct packing *pack, uint64_t value)
{
    pack->failed |= msgpack_pack_uint64(&pack->packer, value);
}

static void pack_key_text(struct packing *pack, const char *key, const char *value)
{
    pack_text(pack, key);
    pack_text(pack, value);
}

static void pack_key_uint(struct packing *pack, const char *key, uint64_t value)
{
    pack_text(pack, key);
    pack_uint(pack, value);
}

static void pack_key_true(struct packing *pack, const char *key)
{
    pack_text(pack, key);
    pack->failed |= msgpack_pack_true(&pack->packer);
}

static struct packing pack_begin(msgpack_sbuffer *out, size_t elements)
{
    struct packing pack = {.out = out, .start = out->size};
    msgpack_packer_init(&pack.packer, out, msgpack_sbuffer_write);
    pack.failed |= msgpack_pack_array(&pack.packer, elements);
    return pack;
}

static void pack_key_float(struct packing *pack, const char *key, float value)
{
    pack_text(pack, key);
    pack->failed |= msgpack_pack_float(&pack->packer, value);
}

static void pack_params(struct packing *pack, const char *method, size_t pairs)
{
    pack_text(pack, method);
    pack->failed |= msgpack_pack_array(&pack->packer, 1);
    pack->failed |= msgpack_pack_map(&pack->packer, pairs);
}

static struct packing request_begin(msgpack_sbuffer *out, uint32_t msgid, const char *method,
                                    size_t pairs)
{
    struct packing pack = pack_begin(out, 4);
    pack_uint(&pack, PROTOCOL_REQUEST);
    pack_uint(&pack, msgid);
    pack_params(&pack, method, pairs);
    return pack;
}

static bool pack_end(struct packing *pack)
{
    if (pack->failed)
        pack->out->size = pack->start;
    return !pack->failed;
}

bool client_request_hello(msgpack_sbuffer *out, uint32_t msgid, const char *client,
                          const char *token)
{
    struct packing pack = request_begin(out, msgid, PROTOCOL_METHOD_HELLO, token ? 3 : 2);
    pack_key_uint(&pack, PROTOCOL_KEY_PROTOCOL, PROTOCOL_VERSION);
    pack_key_text(&pack, PROTOCOL_KEY_CLIENT, client);
    if (token)
        pack_key_text(&pack, PROTOCOL_KEY_TOKEN, token);
    return pack_end(&pack);
}

bool client_request_plain(msgpack_sbuffer *out, uint32_t msgid, const char *method,
                          const char *index)
{
    struct packing pack = request_begin(out, msgid, method, index ? 1 : 0);
    if (index)
        pack_key_text(&pack, PROTOCOL_KEY_INDEX, index);
    return pack_end(&pack);
}

bool client_request_reload_under(msgpack_sbuffer *out, uint32_t msgid, const char *index,
                                 const struct fathom_client_terms *terms)
{
    bool recall = terms->plan_recall != 0 && !terms->no_plan_recall;
    struct packing pack =
        request_begin(out, msgid, PROTOCOL_METHOD_RELOAD,
                      1 + (terms->dram_budget != NULL) + (recall || terms->no_plan_recall));
    pack_key_text(&pack, PROTOCOL_KEY_INDEX, index);
    if (terms->dram_budget)
        pack_key_text(&pack, PROTOCOL_KEY_DRAM_BUDGET, terms->dram_budget);
    if (terms->no_plan_recall)
        pack_key_uint(&pack, PROTOCOL_KEY_PLAN_RECALL, 0);
    else if (recall)
        pack_key_float(&pack, PROTOCOL_KEY_PLAN_RECALL, terms->plan_recall);
    return pack_end(&pack);
}

bool client_request_cancel(msgpack_sbuffer *out, uint32_t msgid)
{
    struct packing pack = pack_begin(out, 3);
    pack_uint(&pack, PROTOCOL_NOTIFICATION);
    pack_params(&pack, PROTOCOL_METHOD_CANCEL, 1);
    pack_key_uint(&pack, PROTOCOL_KEY_MSGID, msgid);
    return pack_end(&pack);
}

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
    [FATHOM_CLIENT_F32] = {"f32", 4},
    [FATHOM_CLIENT_F16] = {"f16", 2},
    [FATHOM_CLIENT_I8] = {"i8", 1},
    [FATHOM_CLIENT_U8] = {"u8", 1},
};

size_t client_request_vector_bytes(const struct fathom_client_search *search)
{
    return (size_t)search->n * search->dim * dtypes[search->dtype].bytes;
}

size_t client_request_search_bytes_max(const struct fathom_client_search *search)
{
    return client_request_vector_bytes(search) +
           512; /* keys, names and numbers take less than 300 */
}

static size_t count_options(const struct fathom_client_search *search)
{
    return (search->search_list > 0) + (search->target_recall != 0) + (search->deadline_ms > 0) +
           (search->stats != NULL) + search->exact_distances +
           (search->rerank != FATHOM_CLIENT_RERANK_AUTO);
}

static void pack_options(struct packing *pack, const struct fathom_client_search *search)
{
    if (search->search_list > 0)
        pack_key_uint(pack, PROTOCOL_KEY_SEARCH_LIST, search->search_list);
    if (search->target_recall != 0)
        pack_key_float(pack, PROTOCOL_KEY_TARGET_RECALL, search->target_recall);
    if (search->deadline_ms > 0)
        pack_key_uint(pack, PROTOCOL_KEY_DEADLINE_MS, search->deadline_ms);
    if (search->stats)
        pack_key_true(pack, PROTOCOL_KEY_EXPLAIN);
    if (search->exact_distances)
        pack_key_true(pack, PROTOCOL_KEY_EXACT_DISTANCES);
    if (search->rerank != FATHOM_CLIENT_RERANK_AUTO)
        pack_key_text(pack, PROTOCOL_KEY_RERANK,
                      search->rerank == FATHOM_CLIENT_RERANK_ON ? "on" : "off");
}

bool client_request_search(msgpack_sbuffer *out, uint32_t msgid,
                           const struct fathom_client_search *search)
{
    size_t pairs = 5 + count_options(search);
    struct packing pack = request_begin(out, msgid, PROTOCOL_METHOD_SEARCH, pairs);
    pack_key_text(&pack, PROTOCOL_KEY_INDEX, search->index);
    pack_key_text(&pack, PROTOCOL_KEY_DTYPE, dtypes[search->dtype].name);
    pack_text(&pack, PROTOCOL_KEY_SHAPE);
    pack.failed |= msgpack_pack_array(&pack.packer, 2);
    pack_uint(&pack, search->n);
    pack_uint(&pack, search->dim);
    pack_key_uint(&pack, PROTOCOL_KEY_K, search->k);
    pack_options(&pack, search);
    pack_text(&pack, PROTOCOL_KEY_VECTORS);
    pack.failed |= msgpack_pack_bin_with_body(&pack.packer, search->vectors,
                                              client_request_vector_bytes(search));
    return pack_end(&pack);
}
