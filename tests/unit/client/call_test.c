/* The calls of libfathom_client against a scripted server that behaves. */
#include "fathom/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client_fake.h"
#include "fathom_test.h"

static struct fathom_client *open_client(const struct fake *fake)
{
    struct fathom_client *client;
    struct fathom_client_error err = {0};
    if (fathom_client_open(&client, fake->address, NULL, &err))
        fail_msg("%s: %s", err.name, err.message);
    return client;
}

static struct fathom_client_search tiny_search(const float *vectors, uint32_t n, uint64_t *ids,
                                               float *distances)
{
    struct fathom_client_search search = fathom_client_search_default();
    search.index = "tiny";
    search.vectors = vectors;
    search.n = n;
    search.dim = 3;
    search.k = 4;
    search.ids = ids;
    search.distances = distances;
    return search;
}

/* ---- hello ---- */

static void check_hello(struct fake_conn *conn)
{
    fake_hello(conn);
    assert_int_equal(fake_param(conn, "protocol").via.u64, 1);
    msgpack_object token = fake_param(conn, "token");
    *(bool *)conn->context = token.type == MSGPACK_OBJECT_STR && token.via.str.size == 6;
    fake_read(conn);
}

static void open_says_hello_and_keeps_what_the_server_said(void **state)
{
    (void)state;
    struct fake fake;
    bool token_came = false;
    fake_start(&fake, NULL, 1, check_hello, &token_came);
    struct fathom_client_options options = fathom_client_options_default();
    options.token = "secret";
    struct fathom_client *client;
    assert_int_equal(fathom_client_open(&client, fake.address, &options, NULL), 0);
    struct fathom_client_server server;
    fathom_client_get_server(client, &server);
    assert_string_equal(server.server, "fake/1");
    assert_int_equal(server.max_message_bytes, 1 << 20);
    fathom_client_close(client);
    fake_join(&fake);
    assert_true(token_came);
}

/* ---- search ---- */

static void serve_searches(struct fake_conn *conn)
{
    fake_hello(conn);
    for (uint64_t first_id = 100; fake_read(conn); first_id += 100)
        fake_answer_search(conn, first_id);
}

static void search_fills_ids_and_distances(void **state)
{
    (void)state;
    struct fake fake;
    fake_start(&fake, NULL, 1, serve_searches, NULL);
    struct fathom_client *client = open_client(&fake);
    float vectors[6] = {0}, distances[8];
    uint64_t ids[8];
    int mine;
    struct fathom_client_search search = tiny_search(vectors, 2, ids, distances);
    search.user = &mine;
    struct fathom_client_result result;
    assert_int_equal(fathom_client_search(client, &search, &result, NULL), 0);
    assert_true(ids[0] == 100 && ids[7] == 107);
    assert_true(distances[7] == 3.5f);
    assert_true(result.generation == UINT64_MAX - 1);
    assert_true(result.complete && result.status == 0);
    assert_ptr_equal(result.user, &mine);
    search.distances = NULL;
    assert_int_equal(fathom_client_search(client, &search, NULL, NULL), 0);
    assert_true(ids[0] == 200);
    fathom_client_close(client);
    fake_join(&fake);
}

static void search_works_over_a_unix_socket(void **state)
{
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "/tmp/fathom-client-%d.sock", (int)getpid());
    struct fake fake;
    fake_start(&fake, path, 1, serve_searches, NULL);
    struct fathom_client *client = open_client(&fake);
    float vector[3] = {0};
    uint64_t ids[4];
    struct fathom_client_search search = tiny_search(vector, 1, ids, NULL);
    assert_int_equal(fathom_client_search(client, &search, NULL, NULL), 0);
    assert_true(ids[3] == 103);
    fathom_client_close(client);
    fake_join(&fake);
    unlink(path);
}

/* What the request held, copied by the server's thread. */
struct seen {
    char dtype[8], index[8];
    uint64_t n, dim, k, search_list, deadline_ms;
    double target_recall;
    char rerank[8];
    bool explain, exact;
    uint8_t vectors[12];
};

static void copy_text(msgpack_object object, char *out, size_t out_bytes)
{
    assert_int_equal(object.type, MSGPACK_OBJECT_STR);
    snprintf(out, out_bytes, "%.*s", (int)object.via.str.size, object.via.str.ptr);
}

static void pack_stats(msgpack_packer *pack, unsigned value)
{
    msgpack_pack_map(pack, 6);
    fake_pack_text(pack, "reranked");
    msgpack_pack_unsigned_int(pack, 1);
    fake_pack_text(pack, "hops");
    msgpack_pack_unsigned_int(pack, value);
    fake_pack_text(pack, "bytes");
    msgpack_pack_unsigned_int(pack, value * 4096);
    fake_pack_text(pack, "device_us");
    msgpack_pack_double(pack, value + 0.25);
    fake_pack_text(pack, "io_engine");
    fake_pack_text(pack, "uring");
    fake_pack_text(pack, "of_a_later_version");
    msgpack_pack_array(pack, 1);
    msgpack_pack_nil(pack);
}

static void explain_one(struct fake_conn *conn)
{
    struct seen *seen = conn->context;
    fake_hello(conn);
    fake_read(conn);
    copy_text(fake_param(conn, "dtype"), seen->dtype, sizeof seen->dtype);
    copy_text(fake_param(conn, "index"), seen->index, sizeof seen->index);
    msgpack_object shape = fake_param(conn, "shape"), vectors = fake_param(conn, "vectors");
    seen->n = shape.via.array.ptr[0].via.u64;
    seen->dim = shape.via.array.ptr[1].via.u64;
    seen->k = fake_param(conn, "k").via.u64;
    seen->search_list = fake_param(conn, "search_list").via.u64;
    seen->deadline_ms = fake_param(conn, "deadline_ms").via.u64;
    seen->target_recall = fake_param(conn, "target_recall").via.f64;
    copy_text(fake_param(conn, "rerank"), seen->rerank, sizeof seen->rerank);
    seen->explain = fake_param(conn, "explain").via.boolean;
    seen->exact = fake_param(conn, "exact_distances").via.boolean;
    if (vectors.type == MSGPACK_OBJECT_BIN && vectors.via.bin.size == sizeof seen->vectors)
        memcpy(seen->vectors, vectors.via.bin.ptr, sizeof seen->vectors);
    msgpack_sbuffer buffer = {0};
    msgpack_packer pack;
    msgpack_packer_init(&pack, &buffer, msgpack_sbuffer_write);
    fake_pack_search(&pack, fake_msgid(conn), 2, 4, 0, 1);
    fake_pack_text(&pack, "stats");
    msgpack_pack_map(&pack, 2);
    fake_pack_text(&pack, "hops");
    msgpack_pack_int(&pack, 15);
    fake_pack_text(&pack, "queries");
    msgpack_pack_array(&pack, 2);
    pack_stats(&pack, 7);
    pack_stats(&pack, 8);
    fake_send_buffer(conn, &buffer);
    fake_read(conn);
}

static void every_option_is_sent_and_stats_come_for_each_query(void **state)
{
    (void)state;
    struct fake fake;
    struct seen seen = {0};
    fake_start(&fake, NULL, 1, explain_one, &seen);
    struct fathom_client *client = open_client(&fake);
    uint16_t halves[6] = {1, 2, 3, 4, 5, 0xfffe};
    uint64_t ids[8];
    struct fathom_client_stats stats[2];
    struct fathom_client_search search = tiny_search(NULL, 2, ids, NULL);
    search.vectors = halves;
    search.dtype = FATHOM_CLIENT_F16;
    search.search_list = 77;
    search.target_recall = 0.5f;
    search.deadline_ms = 900;
    search.exact_distances = true;
    search.rerank = FATHOM_CLIENT_RERANK_OFF;
    search.stats = stats;
    assert_int_equal(fathom_client_search(client, &search, NULL, NULL), 0);
    fathom_client_close(client);
    fake_join(&fake);
    assert_string_equal(seen.dtype, "f16");
    assert_string_equal(seen.index, "tiny");
    assert_true(seen.n == 2 && seen.dim == 3 && seen.k == 4 && seen.search_list == 77);
    assert_true(seen.deadline_ms == 900 && seen.target_recall == 0.5);
    assert_true(seen.explain && seen.exact);
    assert_string_equal(seen.rerank, "off");
    assert_memory_equal(seen.vectors, halves, sizeof halves);
    assert_int_equal(stats[0].hops, 7);
    assert_int_equal(stats[1].hops, 8);
    assert_int_equal(stats[1].bytes, 8 * 4096);
    assert_int_equal(stats[1].device_us, 8);
    assert_int_equal(stats[1].rounds, 0);
    assert_int_equal(stats[1].reranked, 1);
    assert_string_equal(stats[1].io_engine, "uring");
}

/* ---- pipelining ---- */

enum { IN_FLIGHT = 50 };

/* Reads all requests, then answers them from the last to the first, each with its msgid in the
 * first id. */
static void answer_backwards(struct fake_conn *conn)
{
    uint64_t msgids[IN_FLIGHT];
    fake_hello(conn);
    for (int i = 0; i < IN_FLIGHT; i++) {
        fake_read(conn);
        msgids[i] = fake_msgid(conn);
    }
    for (int i = IN_FLIGHT - 1; i >= 0; i--) {
        msgpack_sbuffer buffer = {0};
        msgpack_packer pack;
        msgpack_packer_init(&pack, &buffer, msgpack_sbuffer_write);
        fake_pack_search(&pack, msgids[i], 1, 4, msgids[i], 0);
        fake_send_buffer(conn, &buffer);
    }
    fake_read(conn);
    fake_answer_nil(conn, fake_msgid(conn)); /* a ping */
    fake_read(conn);
}

static void answers_in_any_order_find_their_request(void **state)
{
    (void)state;
    struct fake fake;
    fake_start(&fake, NULL, 1, answer_backwards, NULL);
    struct fathom_client *client = open_client(&fake);
    float vector[3] = {0};
    uint64_t ids[IN_FLIGHT][4];
    uint32_t msgids[IN_FLIGHT];
    for (int i = 0; i < IN_FLIGHT; i++) {
        struct fathom_client_search search = tiny_search(vector, 1, ids[i], NULL);
        search.user = ids[i];
        assert_int_equal(fathom_client_submit(client, &search, &msgids[i], NULL), 0);
    }
    assert_int_equal(fathom_client_inflight(client), IN_FLIGHT);
    struct fathom_client_result result;
    for (int i = IN_FLIGHT - 1; i >= 0; i--) {
        assert_int_equal(fathom_client_receive(client, &result, NULL), 1);
        assert_int_equal(result.msgid, msgids[i]);
        assert_true(fathom_client_ready(client) <= (unsigned)i);
        assert_ptr_equal(result.user, ids[i]);
        assert_true(ids[i][0] == msgids[i]);
    }
    assert_int_equal(fathom_client_receive(client, &result, NULL), 0);
    assert_int_equal(fathom_client_ping(client, NULL), 0);
    fathom_client_close(client);
    fake_join(&fake);
}

/* Answers the ping at once and the search that came before it afterwards. */
static void ping_overtakes(struct fake_conn *conn)
{
    fake_hello(conn);
    fake_read(conn);
    uint64_t search = fake_msgid(conn);
    msgpack_sbuffer buffer = {0};
    msgpack_packer pack;
    msgpack_packer_init(&pack, &buffer, msgpack_sbuffer_write);
    fake_pack_search(&pack, search, 1, 4, 9, 0);
    fake_read(conn);
    fake_answer_nil(conn, fake_msgid(conn));
    fake_send_buffer(conn, &buffer);
    fake_read(conn);
}

static void a_blocking_call_may_be_made_while_requests_are_in_flight(void **state)
{
    (void)state;
    struct fake fake;
    fake_start(&fake, NULL, 1, ping_overtakes, NULL);
    struct fathom_client *client = open_client(&fake);
    float vector[3] = {0};
    uint64_t ids[4];
    struct fathom_client_search search = tiny_search(vector, 1, ids, NULL);
    assert_int_equal(fathom_client_submit(client, &search, NULL, NULL), 0);
    assert_int_equal(fathom_client_ping(client, NULL), 0);
    struct fathom_client_result result;
    assert_int_equal(fathom_client_receive(client, &result, NULL), 1);
    assert_true(result.status == 0 && ids[0] == 9);
    assert_int_equal(fathom_client_ready(client), 0);
    fathom_client_close(client);
    fake_join(&fake);
}

/* Answers each request before it reads the next, with more bytes than the sockets hold: a client
 * that only sends would block for ever. */
static void answer_much_before_reading_on(struct fake_conn *conn)
{
    fake_hello(conn);
    while (fake_read(conn))
        fake_answer_search(conn, 0);
}

static void submitting_reads_answers_so_that_neither_side_blocks(void **state)
{
    (void)state;
    enum { N = 64, K = 512, DIM = 1024, REQUESTS = 40 };
    struct fake fake;
    fake_start(&fake, NULL, 1, answer_much_before_reading_on, NULL);
    struct fathom_client *client = open_client(&fake);
    float *vectors = calloc(N * DIM, sizeof *vectors);
    uint64_t *ids = calloc(N * K, sizeof *ids);
    struct fathom_client_search search = tiny_search(vectors, N, ids, NULL);
    search.k = K;
    search.dim = DIM;
    for (int i = 0; i < REQUESTS; i++)
        assert_int_equal(fathom_client_submit(client, &search, NULL, NULL), 0);
    struct fathom_client_result result;
    int received = 0;
    while (fathom_client_receive(client, &result, NULL) == 1)
        received += result.status == 0;
    assert_int_equal(received, REQUESTS);
    assert_true(ids[N * K - 1] == N * K - 1);
    fathom_client_close(client);
    fake_join(&fake);
    free(vectors);
    free(ids);
}

/* ---- the rest ---- */

static void answer_info(struct fake_conn *conn)
{
    fake_hello(conn);
    while (fake_read(conn)) {
        msgpack_sbuffer buffer = {0};
        msgpack_packer pack;
        msgpack_packer_init(&pack, &buffer, msgpack_sbuffer_write);
        fake_begin_result(&pack, fake_msgid(conn));
        msgpack_pack_map(&pack, 1);
        bool has_index = fake_param(conn, "index").type == MSGPACK_OBJECT_STR;
        msgpack_object budget = fake_param(conn, "dram_budget"),
                       recall = fake_param(conn, "plan_recall");
        fake_pack_text(&pack, fake_is(conn, "info")    ? "info"
                              : fake_is(conn, "stats") ? "stats"
                                                       : "reload");
        if (recall.type == MSGPACK_OBJECT_NIL && budget.type == MSGPACK_OBJECT_NIL) {
            msgpack_pack_int(&pack, has_index);
        } else {
            msgpack_pack_array(&pack, 2);
            msgpack_pack_object(&pack, budget);
            msgpack_pack_object(&pack, recall);
        }
        fake_send_buffer(conn, &buffer);
    }
}

static void info_stats_and_reload_give_json(void **state)
{
    (void)state;
    struct fake fake;
    fake_start(&fake, NULL, 1, answer_info, NULL);
    struct fathom_client *client = open_client(&fake);
    char *json;
    assert_int_equal(fathom_client_info(client, NULL, &json, NULL), 0);
    assert_string_equal(json, "{\"info\": 0}");
    free(json);
    assert_int_equal(fathom_client_info(client, "tiny", &json, NULL), 0);
    assert_string_equal(json, "{\"info\": 1}");
    free(json);
    assert_int_equal(fathom_client_stats(client, &json, NULL), 0);
    assert_string_equal(json, "{\"stats\": 0}");
    free(json);
    assert_int_equal(fathom_client_reload(client, "tiny", &json, NULL), 0);
    assert_string_equal(json, "{\"reload\": 1}");
    free(json);
    assert_int_equal(fathom_client_reload(client, "tiny", NULL, NULL), 0);
    const struct {
        struct fathom_client_terms terms;
        const char *json;
    } cases[] = {{{0}, "{\"reload\": 1}"},
                 {{.dram_budget = "5%"}, "{\"reload\": [\"5%\", null]}"},
                 {{.plan_recall = 0.5f}, "{\"reload\": [null, 0.5]}"},
                 {{.dram_budget = "0", .no_plan_recall = true}, "{\"reload\": [\"0\", 0]}"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(fathom_client_reload_under(client, "tiny", &cases[i].terms, &json, NULL),
                         0);
        assert_string_equal(json, cases[i].json);
        free(json);
    }
    assert_int_equal(fathom_client_reload_under(client, "", &cases[1].terms, &json, NULL),
                     FATHOM_CLIENT_EARGUMENT);
    assert_null(json);
    fathom_client_close(client);
    fake_join(&fake);
}

static void send_one_byte_at_a_time(struct fake_conn *conn)
{
    fake_hello(conn);
    fake_read(conn);
    msgpack_sbuffer buffer = {0};
    msgpack_packer pack;
    msgpack_packer_init(&pack, &buffer, msgpack_sbuffer_write);
    fake_pack_search(&pack, fake_msgid(conn), 1, 4, 5, 0);
    for (size_t i = 0; i < buffer.size; i++) {
        fake_send(conn, buffer.data + i, 1);
        usleep(100);
    }
    msgpack_sbuffer_destroy(&buffer);
    fake_read(conn);
}

static void an_answer_may_come_one_byte_at_a_time(void **state)
{
    (void)state;
    struct fake fake;
    fake_start(&fake, NULL, 1, send_one_byte_at_a_time, NULL);
    struct fathom_client *client = open_client(&fake);
    float vector[3] = {0};
    uint64_t ids[4];
    struct fathom_client_search search = tiny_search(vector, 1, ids, NULL);
    assert_int_equal(fathom_client_search(client, &search, NULL, NULL), 0);
    assert_true(ids[0] == 5);
    fathom_client_close(client);
    fake_join(&fake);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(open_says_hello_and_keeps_what_the_server_said),
    cmocka_unit_test(search_fills_ids_and_distances),
    cmocka_unit_test(search_works_over_a_unix_socket),
    cmocka_unit_test(every_option_is_sent_and_stats_come_for_each_query),
    cmocka_unit_test(answers_in_any_order_find_their_request),
    cmocka_unit_test(a_blocking_call_may_be_made_while_requests_are_in_flight),
    cmocka_unit_test(submitting_reads_answers_so_that_neither_side_blocks),
    cmocka_unit_test(info_stats_and_reload_give_json),
    cmocka_unit_test(an_answer_may_come_one_byte_at_a_time),
};

FATHOM_TEST_MAIN(tests)
