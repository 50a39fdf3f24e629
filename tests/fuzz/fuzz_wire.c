/* What clients send, from the first byte of a connection to checked vectors: the scanner, the
 * framing and the decoding of requests. The first byte says in what pieces the others arrive.
 *
 * Whatever they are: pieces make the same messages as the whole, a message that is refused is
 * refused in words, and vectors that are taken are as many as the request says. */
#include "fuzz.h"

#include "client_item.h"
#include "client_request.h"
#include "conn.h"
#include "protocol.h"
#include "request.h"

#define SECOND 1000000000ull

static const struct conn_limits limits = {.message_bytes_max = PROTOCOL_MESSAGE_BYTES_MIN,
                                          .first_byte_ns = SECOND,
                                          .message_ns = SECOND,
                                          .idle_ns = SECOND,
                                          .stall_ns = SECOND,
                                          .output_soft = 1 << 16,
                                          .output_hard = 1 << 20};

/* Messages one after the other, as they were handed over. */
struct taken {
    uint8_t *bytes;
    size_t count, messages;
};

static void decode(const uint8_t *bytes, size_t count)
{
    struct request request;
    struct rpc_error err = {0};
    int status = request_decode(&request, bytes, count, &err);
    if (status == REQUEST_OK && request.method == METHOD_SEARCH) {
        void *vectors = malloc(search_vector_bytes(&request.search) + 1);
        FUZZ_CHECK(vectors, "no memory for %zu bytes", search_vector_bytes(&request.search));
        status = search_copy_vectors(&request.search, vectors, &err);
        free(vectors);
    }
    FUZZ_CHECK(status == REQUEST_OK || (err.code && err.message[0]),
               "a request is refused without a word");
}

/* The client's scanner shares no code with the server's, and takes every message that it took. */
static void compare_scanners(const uint8_t *bytes, size_t count)
{
    struct client_scan scan;
    client_scan_init(&scan, count, PROTOCOL_ELEMENTS_MAX);
    FUZZ_CHECK(client_scan_step(&scan, bytes, count) == ITEM_OK && scan.at == count,
               "the scanners disagree about a message of %zu bytes", count);
}

static int take(void *context, struct conn *conn, const uint8_t *bytes, size_t count)
{
    struct taken *taken = context;
    uint8_t *message = fuzz_copy(bytes, count);
    (void)conn;
    memcpy(taken->bytes + taken->count, bytes, count);
    taken->count += count;
    taken->messages++;
    compare_scanners(message, count);
    decode(message, count);
    free(message);
    return 0;
}

static enum conn_end feed(const uint8_t *bytes, size_t count, size_t piece, struct taken *taken)
{
    struct buffer_allowance allowance = {.limit = 1 << 20};
    struct conn conn;
    int status = 0;
    conn_init(&conn, &limits, &allowance, SECOND);
    for (size_t at = 0; at < count && status == 0; at += piece) {
        size_t part = count - at < piece ? count - at : piece;
        uint8_t *copy = fuzz_copy(bytes + at, part);
        status = conn_feed(&conn, copy, part, SECOND, take, taken);
        free(copy);
    }
    enum conn_end end = conn.end;
    FUZZ_CHECK((status != 0) == (end != CONN_OPEN), "%d with end %s", status, conn_end_name(end));
    conn_fini(&conn);
    FUZZ_CHECK(allowance.used == 0, "%zu bytes are still charged", allowance.used);
    return end;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    if (count < 2)
        return 0;
    struct taken whole = {.bytes = malloc(count)}, pieces = {.bytes = malloc(count)};
    FUZZ_CHECK(whole.bytes && pieces.bytes, "no memory");
    size_t piece = 1 + bytes[0];
    enum conn_end end = feed(bytes + 1, count - 1, count, &whole);
    enum conn_end end_of_pieces = feed(bytes + 1, count - 1, piece, &pieces);
    FUZZ_CHECK((end == CONN_OPEN) == (end_of_pieces == CONN_OPEN),
               "whole: %s, in pieces of %zu: %s", conn_end_name(end), piece,
               conn_end_name(end_of_pieces));
    FUZZ_CHECK(whole.messages == pieces.messages && whole.count == pieces.count &&
                   memcmp(whole.bytes, pieces.bytes, whole.count) == 0,
               "%zu messages of %zu bytes whole, %zu of %zu in pieces of %zu", whole.messages,
               whole.count, pieces.messages, pieces.count, piece);
    free(whole.bytes);
    free(pieces.bytes);
    return 0;
}

/* ---- seeds ---- */

/* The requests in out, arriving whole and in pieces; empties it. */
static void seed_requests(fuzz_seed_fn *seed, msgpack_sbuffer *out)
{
    static const uint8_t pieces[] = {0, 6, 255};
    for (size_t i = 0; i < sizeof pieces; i++) {
        uint8_t *bytes = malloc(out->size + 1);
        FUZZ_CHECK(bytes, "no memory");
        bytes[0] = pieces[i];
        memcpy(bytes + 1, out->data, out->size);
        seed(bytes, out->size + 1);
        free(bytes);
    }
    out->size = 0;
}

/* The form for those who have no bin: an array of arrays of numbers. */
static bool pack_nested_search(msgpack_sbuffer *out)
{
    msgpack_packer pack;
    int failed = 0;
    msgpack_packer_init(&pack, out, msgpack_sbuffer_write);
    failed |=
        msgpack_pack_array(&pack, 4) | msgpack_pack_int(&pack, PROTOCOL_REQUEST) |
        msgpack_pack_int(&pack, 9) | msgpack_pack_str_with_body(&pack, PROTOCOL_METHOD_SEARCH, 6) |
        msgpack_pack_array(&pack, 1) | msgpack_pack_map(&pack, 3) |
        msgpack_pack_str_with_body(&pack, PROTOCOL_KEY_INDEX, 5) |
        msgpack_pack_str_with_body(&pack, "words", 5) |
        msgpack_pack_str_with_body(&pack, PROTOCOL_KEY_K, 1) | msgpack_pack_int(&pack, 10) |
        msgpack_pack_str_with_body(&pack, PROTOCOL_KEY_VECTORS, 7) | msgpack_pack_array(&pack, 2);
    for (int row = 0; row < 2; row++)
        failed |= msgpack_pack_array(&pack, 3) | msgpack_pack_float(&pack, 0.5f) |
                  msgpack_pack_int(&pack, -7) | msgpack_pack_double(&pack, 1e300);
    return !failed;
}

static void seed_searches(fuzz_seed_fn *seed, msgpack_sbuffer *out)
{
    float vectors[8] = {1, 2, 3, 4, -1, 0.5f, 1e-3f, 7};
    struct fathom_client_stats stats;
    for (int dtype = FATHOM_CLIENT_F32; dtype <= FATHOM_CLIENT_U8; dtype++) {
        struct fathom_client_search search = {
            .index = "words", .vectors = vectors, .dtype = dtype, .n = 2, .dim = 4, .k = 10};
        FUZZ_CHECK(client_request_search(out, 7, &search), "no memory");
        seed_requests(seed, out);
        search.search_list = 100;
        search.target_recall = 0.9f;
        search.deadline_ms = 50;
        search.exact_distances = true;
        search.rerank = FATHOM_CLIENT_RERANK_ON;
        search.stats = &stats;
        FUZZ_CHECK(client_request_search(out, 8, &search), "no memory");
        seed_requests(seed, out);
    }
    FUZZ_CHECK(pack_nested_search(out), "no memory");
    seed_requests(seed, out);
}

void fuzz_seeds(fuzz_seed_fn *seed)
{
    const struct fathom_client_terms terms = {.dram_budget = "5%", .plan_recall = 0.95f};
    msgpack_sbuffer out;
    msgpack_sbuffer_init(&out);
    bool ok = client_request_hello(&out, 1, "fuzz 1", "secret") &&
              client_request_plain(&out, 2, PROTOCOL_METHOD_PING, NULL) &&
              client_request_plain(&out, 3, PROTOCOL_METHOD_INFO, "words") &&
              client_request_plain(&out, 4, PROTOCOL_METHOD_STATS, NULL) &&
              client_request_reload_under(&out, 5, "words", &terms) &&
              client_request_cancel(&out, 4) &&
              client_request_plain(&out, 6, PROTOCOL_METHOD_SHUTDOWN, NULL);
    FUZZ_CHECK(ok, "no memory");
    seed_requests(seed, &out);
    seed_searches(seed, &out);
    msgpack_sbuffer_destroy(&out);
    seed("\0GET / HTTP/1.1\r\n\r\n", 19);
    seed("\0\x16\x03\x01\x02", 5);
    seed("\0\xdd\xff\xff\xff\xff", 6);
    seed("\0\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\xc0", 12);
}
