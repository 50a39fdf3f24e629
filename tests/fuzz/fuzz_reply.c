/* What a server sends, read by libfathom_client from a socket: framing, matching of answers to
 * requests, and each method's result. Five requests wait: hello, two searches, one with stats, an
 * info, and one whose caller has given up.
 *
 * Whatever the bytes are: when they have come to their end nobody waits any more, a failure has a
 * name or a code and a message, and nothing is written but the arrays of the searches. */
#include "fuzz.h"

#include <sys/socket.h>
#include <unistd.h>

#include "client_core.h"
#include "client_fake.h"
#include "client_reply.h"
#include "protocol.h"

enum { N = 2, K = 3, GUARD = 4, SLOTS = 5, BYTES_MAX = 60000 };

/* The arrays of a search, with sevens on both sides. */
struct arrays {
    uint64_t ids[GUARD + N * K + GUARD];
    float distances[GUARD + N * K + GUARD];
    struct fathom_client_stats stats[1 + N + 1];
};

static void arrays_init(struct arrays *arrays)
{
    memset(arrays, 0, sizeof *arrays);
    for (int i = 0; i < GUARD + N * K + GUARD; i++) {
        arrays->ids[i] = 7;
        arrays->distances[i] = 7;
    }
    arrays->stats[0].hops = arrays->stats[N + 1].hops = 7;
}

static void arrays_check(const struct arrays *arrays)
{
    bool kept = arrays->stats[0].hops == 7 && arrays->stats[N + 1].hops == 7;
    for (int i = 0; i < GUARD; i++)
        kept = kept && arrays->ids[i] == 7 && arrays->ids[GUARD + N * K + i] == 7 &&
               arrays->distances[i] == 7 && arrays->distances[GUARD + N * K + i] == 7;
    FUZZ_CHECK(kept, "something was written beside the arrays of a search");
}

static struct slot *ask(struct fathom_client *client,
                        int (*decode)(struct slot *slot, struct item_reader *result,
                                      struct fathom_client_error *err),
                        void *out)
{
    struct fathom_client_error err;
    struct slot *slot = client_core_take_slot(client, &err);
    FUZZ_CHECK(slot, "no slot: %s", err.message);
    slot->decode = decode;
    slot->out = out;
    return slot;
}

static struct slot *ask_search(struct fathom_client *client, struct arrays *arrays, bool stats)
{
    struct slot *slot = ask(client, client_reply_search, NULL);
    arrays_init(arrays);
    slot->search = (struct fathom_client_search){.n = N, .k = K};
    slot->search.ids = arrays->ids + GUARD;
    slot->search.distances = arrays->distances + GUARD;
    slot->search.stats = stats ? arrays->stats + 1 : NULL;
    return slot;
}

/* Until the other end is closed, which loses the connection at the latest. */
static void step_to_the_end(struct fathom_client *client)
{
    while (client->fd >= 0) {
        struct fathom_client_error err;
        int code = client_core_step(client, UINT64_MAX, &err);
        FUZZ_CHECK(code == 0, "stepping: %d (%s)", code, err.message);
    }
}

static void check_slots(const struct fathom_client *client)
{
    for (unsigned i = 0; i < client->slot_count; i++) {
        const struct slot *slot = client->slots[i];
        FUZZ_CHECK(slot->state == SLOT_DONE || slot->state == SLOT_FREE,
                   "request %u still waits on a lost connection", i);
        FUZZ_CHECK(slot->error.code == 0 || slot->error.message[0],
                   "request %u fails with %d and no word", i, slot->error.code);
        FUZZ_CHECK(memchr(slot->error.message, 0, sizeof slot->error.message),
                   "a message without an end");
    }
}

static void receive(struct fathom_client *client)
{
    struct fathom_client_server server = {0};
    struct arrays plain, explained;
    char *json = NULL;
    ask(client, client_reply_hello, &server);
    ask_search(client, &plain, false);
    ask_search(client, &explained, true);
    ask(client, client_reply_json, &json);
    ask(client, NULL, NULL)->state = SLOT_ABANDONED;
    step_to_the_end(client);
    check_slots(client);
    arrays_check(&plain);
    arrays_check(&explained);
    FUZZ_CHECK(memchr(server.server, 0, sizeof server.server), "a server's name without an end");
    free(json);
    for (unsigned i = 0; i < client->slot_count; i++)
        free(client->slots[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    int ends[2];
    char address[] = "the other end";
    count = count < BYTES_MAX ? count : BYTES_MAX; /* what a socket takes without a reader */
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0,
               "no socket");
    FUZZ_CHECK(send(ends[1], bytes, count, MSG_NOSIGNAL) == (ssize_t)count, "a short send");
    close(ends[1]);
    struct fathom_client client = {.fd = ends[0], .address = address};
    client.options.max_reply_bytes = 1 << 16;
    client_scan_init(&client.scan, client.options.max_reply_bytes, PROTOCOL_ELEMENTS_MAX);
    msgpack_sbuffer_init(&client.out);
    receive(&client);
    msgpack_sbuffer_destroy(&client.out);
    free(client.in);
    return 0;
}

/* ---- seeds ---- */

/* The msgids of the five requests, as client_core_take_slot gives them. */
static uint64_t msgid_of(unsigned slot)
{
    return (uint64_t)(slot + 1) << CORE_SLOT_BITS | slot;
}

static void pack_hello(msgpack_packer *pack)
{
    fake_begin_result(pack, msgid_of(0));
    msgpack_pack_map(pack, 3);
    fake_pack_text(pack, PROTOCOL_KEY_SERVER);
    fake_pack_text(pack, "fathom 1");
    fake_pack_text(pack, PROTOCOL_KEY_PROTOCOL);
    msgpack_pack_int(pack, PROTOCOL_VERSION);
    fake_pack_text(pack, PROTOCOL_KEY_MAX_MESSAGE_BYTES);
    msgpack_pack_int(pack, 1 << 20);
}

static void pack_stats(msgpack_packer *pack, unsigned queries)
{
    msgpack_pack_map(pack, queries ? 4 : 3);
    fake_pack_text(pack, PROTOCOL_KEY_HOPS);
    msgpack_pack_int(pack, 5);
    fake_pack_text(pack, PROTOCOL_KEY_TOTAL_US);
    msgpack_pack_double(pack, 12.5);
    fake_pack_text(pack, PROTOCOL_KEY_STOP_REASON);
    fake_pack_text(pack, "converged");
    if (queries) {
        fake_pack_text(pack, PROTOCOL_KEY_QUERIES);
        msgpack_pack_array(pack, queries);
        for (unsigned i = 0; i < queries; i++)
            pack_stats(pack, 0);
    }
}

static void pack_json(msgpack_packer *pack)
{
    fake_begin_result(pack, msgid_of(3));
    msgpack_pack_map(pack, 2);
    fake_pack_text(pack, PROTOCOL_KEY_NAME);
    fake_pack_text(pack, "words \"\n\x01");
    fake_pack_text(pack, PROTOCOL_KEY_INDEXES);
    msgpack_pack_array(pack, 5);
    msgpack_pack_nil(pack);
    msgpack_pack_true(pack);
    msgpack_pack_int(pack, -1);
    msgpack_pack_double(pack, 0.1);
    msgpack_pack_bin_with_body(pack, "\0\xff", 2);
}

static void pack_error(msgpack_packer *pack, uint64_t msgid)
{
    msgpack_pack_array(pack, 4);
    msgpack_pack_int(pack, PROTOCOL_REPLY);
    msgpack_pack_uint64(pack, msgid);
    msgpack_pack_map(pack, 4);
    fake_pack_text(pack, PROTOCOL_KEY_CODE);
    fake_pack_text(pack, PROTOCOL_ERROR_RESOURCE_EXHAUSTED);
    fake_pack_text(pack, PROTOCOL_KEY_MESSAGE);
    fake_pack_text(pack, "the queue is full");
    fake_pack_text(pack, PROTOCOL_KEY_RETRY_AFTER_MS);
    msgpack_pack_int(pack, 20);
    fake_pack_text(pack, PROTOCOL_KEY_DETAILS);
    msgpack_pack_map(pack, 1);
    fake_pack_text(pack, PROTOCOL_KEY_REASON);
    fake_pack_text(pack, PROTOCOL_REASON_QUEUE);
    msgpack_pack_nil(pack);
}

static void pack_closing(msgpack_packer *pack)
{
    msgpack_pack_array(pack, 3);
    msgpack_pack_int(pack, PROTOCOL_NOTIFICATION);
    fake_pack_text(pack, PROTOCOL_METHOD_CLOSING);
    msgpack_pack_array(pack, 1);
    msgpack_pack_map(pack, 1);
    fake_pack_text(pack, PROTOCOL_KEY_CODE);
    fake_pack_text(pack, PROTOCOL_ERROR_UNAVAILABLE);
}

/* Each message alone, and all of them on one connection. */
void fuzz_seeds(fuzz_seed_fn *seed)
{
    msgpack_sbuffer out;
    msgpack_packer pack;
    size_t starts[16] = {0};
    unsigned count = 0;
    msgpack_sbuffer_init(&out);
    msgpack_packer_init(&pack, &out, msgpack_sbuffer_write);
    pack_hello(&pack);
    starts[++count] = out.size;
    fake_pack_search(&pack, msgid_of(1), N, K, 100, 0);
    starts[++count] = out.size;
    fake_pack_search(&pack, msgid_of(2), N, K, 200, 1);
    fake_pack_text(&pack, PROTOCOL_KEY_STATS);
    pack_stats(&pack, N);
    starts[++count] = out.size;
    pack_json(&pack);
    starts[++count] = out.size;
    pack_error(&pack, msgid_of(4));
    starts[++count] = out.size;
    pack_error(&pack, msgid_of(1));
    starts[++count] = out.size;
    pack_closing(&pack);
    starts[++count] = out.size;
    for (unsigned i = 0; i < count; i++)
        seed(out.data + starts[i], starts[i + 1] - starts[i]);
    seed(out.data, starts[5]);
    seed(out.data, out.size);
    msgpack_sbuffer_destroy(&out);
    seed("HTTP/1.1 400 Bad Request\r\n\r\n", 28);
}
