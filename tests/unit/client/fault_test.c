/* libfathom_client against servers that refuse, stall, close or lie: a typed error each time, in
 * time, and nothing written to the caller's arrays. */
#include "fathom/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client_fake.h"
#include "fathom_test.h"

static struct fathom_client *open_client(const struct fake *fake, uint32_t read_timeout_ms,
                                         uint32_t call_timeout_ms)
{
    struct fathom_client *client;
    struct fathom_client_options options = fathom_client_options_default();
    struct fathom_client_error err = {0};
    if (read_timeout_ms)
        options.read_timeout_ms = read_timeout_ms;
    if (call_timeout_ms)
        options.call_timeout_ms = call_timeout_ms;
    if (fathom_client_open(&client, fake->address, &options, &err))
        fail_msg("%s: %s", err.name, err.message);
    return client;
}

static const float vector[3];
static uint64_t ids[4];

static struct fathom_client_search tiny_search(void)
{
    struct fathom_client_search search = fathom_client_search_default();
    search.index = "tiny";
    search.vectors = vector;
    search.dim = 3;
    search.k = 4;
    search.ids = ids;
    memset(ids, 0x55, sizeof ids);
    return search;
}

static void assert_untouched(void)
{
    for (int i = 0; i < 4; i++)
        assert_true(ids[i] == UINT64_C(0x5555555555555555));
}

/* ---- addresses ---- */

static void addresses_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",         "host",      ":7117", "host:", "host:70000x", "host:123456",
        "::1:7117", "[::1]7117", "[]:1",  "unix:"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fathom_client *client;
        struct fathom_client_error err = {0};
        assert_int_equal(fathom_client_open(&client, bad[i], NULL, &err), FATHOM_CLIENT_EADDRESS);
        assert_null(client);
        assert_string_equal(err.name, "invalid_argument");
        assert_non_null(strstr(err.message, bad[i]));
    }
    char path[200] = "unix:/";
    memset(path + 6, 'a', 150);
    assert_int_equal(fathom_client_open(&(struct fathom_client *){NULL}, path, NULL, NULL),
                     FATHOM_CLIENT_EADDRESS);
}

static void no_server_is_unavailable_and_the_message_says_what_to_do(void **state)
{
    (void)state;
    struct fathom_client *client;
    struct fathom_client_error err = {0};
    assert_int_equal(fathom_client_open(&client, "127.0.0.1:1", NULL, &err), -ECONNREFUSED);
    assert_string_equal(err.name, "unavailable");
    assert_true(err.retryable);
    assert_non_null(strstr(err.message, "127.0.0.1:1"));
    assert_non_null(strstr(err.message, "fathom-server"));
    assert_int_equal(fathom_client_open(&client, "unix:/nonexistent/socket", NULL, &err), -ENOENT);
    assert_non_null(strstr(err.message, "unix:/nonexistent/socket"));
}

/* ---- errors of the server ---- */

static void answer_with_an_error(struct fake_conn *conn)
{
    fake_hello(conn);
    fake_read(conn);
    msgpack_sbuffer buffer = {0};
    msgpack_packer pack;
    msgpack_packer_init(&pack, &buffer, msgpack_sbuffer_write);
    msgpack_pack_array(&pack, 4);
    msgpack_pack_int(&pack, 1);
    msgpack_pack_uint64(&pack, fake_msgid(conn));
    msgpack_pack_map(&pack, 5);
    fake_pack_text(&pack, "details");
    msgpack_pack_map(&pack, 2);
    fake_pack_text(&pack, "other");
    msgpack_pack_map(&pack, 0);
    fake_pack_text(&pack, "reason");
    fake_pack_text(&pack, "queue");
    fake_pack_text(&pack, "code");
    fake_pack_text(&pack, "resource_exhausted");
    fake_pack_text(&pack, "message");
    fake_pack_text(&pack, "all 64 slots are taken");
    fake_pack_text(&pack, "retryable");
    msgpack_pack_true(&pack);
    fake_pack_text(&pack, "retry_after_ms");
    msgpack_pack_int(&pack, 25);
    msgpack_pack_nil(&pack);
    fake_send_buffer(conn, &buffer);
    fake_read(conn);
    fake_answer_search(conn, 1);
    fake_read(conn);
}

static void an_error_of_the_server_is_typed_and_leaves_the_connection_whole(void **state)
{
    (void)state;
    struct fake fake;
    fake_start(&fake, NULL, 1, answer_with_an_error, NULL);
    struct fathom_client *client = open_client(&fake, 0, 0);
    struct fathom_client_search search = tiny_search();
    struct fathom_client_error err;
    assert_int_equal(fathom_client_search(client, &search, NULL, &err), FATHOM_CLIENT_ESERVER);
    assert_string_equal(err.name, "resource_exhausted");
    assert_string_equal(err.reason, "queue");
    assert_string_equal(err.message, "all 64 slots are taken");
    assert_true(err.retryable);
    assert_int_equal(err.retry_after_ms, 25);
    assert_untouched();
    assert_int_equal(fathom_client_search(client, &search, NULL, &err), 0);
    fathom_client_close(client);
    fake_join(&fake);
}

/* ---- time ---- */

/* Answers the first request late, after the second has come. */
static void answer_late(struct fake_conn *conn)
{
    fake_hello(conn);
    fake_read(conn);
    uint64_t late = fake_msgid(conn);
    bool cancelled =
        fake_read(conn) && fake_is(conn, "cancel") && fake_param(conn, "msgid").via.u64 == late;
    *(bool *)conn->context = cancelled;
    fake_read(conn);
    msgpack_sbuffer buffer = {0};
    msgpack_packer pack;
    msgpack_packer_init(&pack, &buffer, msgpack_sbuffer_write);
    fake_pack_search(&pack, late, 1, 4, 666, 0);
    fake_send_buffer(conn, &buffer);
    fake_answer_search(conn, 7);
    fake_read(conn);
}

static void a_late_answer_is_dropped_and_its_request_cancelled(void **state)
{
    (void)state;
    struct fake fake;
    bool cancelled = false;
    fake_start(&fake, NULL, 1, answer_late, &cancelled);
    struct fathom_client *client = open_client(&fake, 0, 50);
    struct fathom_client_search search = tiny_search();
    struct fathom_client_error err;
    assert_int_equal(fathom_client_search(client, &search, NULL, &err), FATHOM_CLIENT_EDEADLINE);
    assert_string_equal(err.name, "deadline_exceeded");
    assert_untouched();
    fathom_client_set_call_timeout(client, 0);
    assert_int_equal(fathom_client_search(client, &search, NULL, &err), 0);
    assert_true(ids[0] == 7);
    fathom_client_close(client);
    fake_join(&fake);
    assert_true(cancelled);
}

/* A message that never ends, for as long as the client listens. */
static void trickle(struct fake_conn *conn)
{
    char byte = 1;
    fake_hello(conn);
    fake_read(conn);
    fake_send(conn, "\x94\x01\x01\xc0\xc6\0\xff\xff\xff", 9);
    do {
        fake_send(conn, "\0", 1);
        usleep(5000);
    } while (recv(conn->fd, &byte, 1, MSG_DONTWAIT) != 0);
}

static void a_trickle_of_bytes_cannot_stretch_a_call(void **state)
{
    (void)state;
    struct fake fake;
    fake_start(&fake, NULL, 1, trickle, NULL);
    struct fathom_client *client = open_client(&fake, 3600000, 60);
    struct fathom_client_search search = tiny_search();
    assert_int_equal(fathom_client_search(client, &search, NULL, NULL), FATHOM_CLIENT_EDEADLINE);
    fathom_client_close(client);
    fake_join(&fake);
}

static void say_nothing(struct fake_conn *conn)
{
    fake_hello(conn);
    while (fake_read(conn))
        ;
}

/* Silence is not borne for long: on a busy machine that may be the time until the hello, which is
 * then said again to another server. */
static struct fathom_client *open_impatient(struct fake *fake)
{
    struct fathom_client *client;
    struct fathom_client_options options = fathom_client_options_default();
    options.read_timeout_ms = 40;
    for (;;) {
        fake_start(fake, NULL, 1, say_nothing, NULL);
        if (fathom_client_open(&client, fake->address, &options, NULL) == 0)
            return client;
        fake_join(fake);
    }
}

static void silence_ends_a_call_that_has_no_other_bound(void **state)
{
    (void)state;
    struct fake fake;
    struct fathom_client *client = open_impatient(&fake);
    fathom_client_set_call_timeout(client, 0);
    struct fathom_client_error err;
    assert_int_equal(fathom_client_ping(client, &err), FATHOM_CLIENT_EDEADLINE);
    assert_non_null(strstr(err.message, "read_timeout_ms"));
    fathom_client_close(client);
    fake_join(&fake);
}

static void stay_mute(struct fake_conn *conn)
{
    while (fake_read(conn))
        ;
}

static void a_deadline_for_the_server_bounds_the_wait_here_too(void **state)
{
    (void)state;
    struct fake fake;
    fake_start(&fake, NULL, 1, say_nothing, NULL);
    struct fathom_client *client = open_client(&fake, 3600000, 3600000);
    struct fathom_client_search search = tiny_search();
    search.deadline_ms = 1;
    assert_int_equal(fathom_client_search(client, &search, NULL, NULL), FATHOM_CLIENT_EDEADLINE);
    fathom_client_close(client);
    fake_join(&fake);
}

static void a_server_that_never_says_hello_is_given_up(void **state)
{
    (void)state;
    struct fake fake;
    fake_start(&fake, NULL, 1, stay_mute, NULL);
    struct fathom_client_options options = fathom_client_options_default();
    options.connect_timeout_ms = 40;
    struct fathom_client *client;
    struct fathom_client_error err;
    assert_int_equal(fathom_client_open(&client, fake.address, &options, &err),
                     FATHOM_CLIENT_EDEADLINE);
    assert_non_null(strstr(err.message, "no hello"));
    fake_join(&fake);
}

static void a_receive_that_timed_out_can_be_repeated(void **state)
{
    (void)state;
    struct fake fake;
    bool cancelled = false;
    fake_start(&fake, NULL, 1, answer_late, &cancelled);
    struct fathom_client *client = open_client(&fake, 0, 30);
    struct fathom_client_search search = tiny_search();
    struct fathom_client_result result;
    uint32_t msgid;
    assert_int_equal(fathom_client_submit(client, &search, &msgid, NULL), 0);
    assert_int_equal(fathom_client_receive(client, &result, NULL), FATHOM_CLIENT_EDEADLINE);
    assert_int_equal(fathom_client_inflight(client), 1);
    assert_int_equal(fathom_client_cancel(client, msgid, NULL), 0);
    assert_int_equal(fathom_client_submit(client, &search, NULL, NULL), 0);
    fathom_client_set_call_timeout(client, 0);
    assert_int_equal(fathom_client_receive(client, &result, NULL), 1);
    assert_int_equal(result.msgid, msgid);
    assert_int_equal(fathom_client_receive(client, &result, NULL), 1);
    fathom_client_close(client);
    fake_join(&fake);
    assert_true(cancelled);
}

/* ---- lost connections ---- */

static void close_after_three(struct fake_conn *conn)
{
    fake_hello(conn);
    for (int i = 0; i < 3; i++)
        fake_read(conn);
    if (conn->number == 1) /* the second connection behaves */
        fake_answer_search(conn, 3);
}

static void requests_in_flight_fail_when_the_server_closes(void **state)
{
    (void)state;
    struct fake fake;
    fake_start(&fake, NULL, 2, close_after_three, NULL);
    struct fathom_client *client = open_client(&fake, 0, 5000);
    struct fathom_client_search search = tiny_search();
    struct fathom_client_result result;
    struct fathom_client_error err;
    for (int i = 0; i < 3; i++)
        assert_int_equal(fathom_client_submit(client, &search, NULL, NULL), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fathom_client_receive(client, &result, &err), 1);
        assert_int_equal(result.status, FATHOM_CLIENT_ECLOSED);
        assert_string_equal(err.name, "unavailable");
        assert_true(err.retryable);
    }
    assert_int_equal(fathom_client_receive(client, &result, &err), 0);
    assert_int_equal(fathom_client_fd(client), -1);
    assert_int_equal(fathom_client_ping(client, &err), FATHOM_CLIENT_ECLOSED);
    assert_int_equal(fathom_client_reconnect(client, &err), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(fathom_client_submit(client, &search, NULL, NULL), 0);
    assert_int_equal(fathom_client_receive(client, &result, &err), 1);
    assert_int_equal(result.status, 0);
    fathom_client_close(client);
    fake_join(&fake);
}

static void say_why_and_close(struct fake_conn *conn)
{
    fake_hello(conn);
    fake_read(conn);
    msgpack_sbuffer buffer = {0};
    msgpack_packer pack;
    msgpack_packer_init(&pack, &buffer, msgpack_sbuffer_write);
    msgpack_pack_array(&pack, 3);
    msgpack_pack_int(&pack, 2);
    fake_pack_text(&pack, "unknown notification");
    msgpack_pack_array(&pack, 0);
    msgpack_pack_array(&pack, 3);
    msgpack_pack_int(&pack, 2);
    fake_pack_text(&pack, "closing");
    msgpack_pack_array(&pack, 1);
    msgpack_pack_map(&pack, 3);
    fake_pack_text(&pack, "code");
    fake_pack_text(&pack, "deadline_exceeded");
    fake_pack_text(&pack, "message");
    fake_pack_text(&pack, "idle for 5 minutes");
    fake_pack_text(&pack, "retryable");
    msgpack_pack_true(&pack);
    fake_send_buffer(conn, &buffer);
}

static void the_reason_that_the_server_gives_for_closing_is_passed_on(void **state)
{
    (void)state;
    struct fake fake;
    fake_start(&fake, NULL, 1, say_why_and_close, NULL);
    struct fathom_client *client = open_client(&fake, 0, 0);
    struct fathom_client_error err;
    assert_int_equal(fathom_client_ping(client, &err), FATHOM_CLIENT_ECLOSED);
    assert_string_equal(err.name, "deadline_exceeded");
    assert_string_equal(err.message, "idle for 5 minutes");
    fathom_client_close(client);
    fake_join(&fake);
}

/* ---- lies ---- */

struct lie {
    const char *why; /* part of the message; NULL: any */
    size_t bytes;
    const char *data; /* sent in place of an answer; the msgid of the first request after hello is 2
                         << 10 */
};

#define LIE(why, text)                                                                             \
    {                                                                                              \
        why, sizeof(text) - 1, text                                                                \
    }
#define REPLY "\x94\x01\xcd\x08\x00\xc0" /* [1, 2048, nil, ...] */

static const struct lie lies[] = {
    LIE("HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n"),
    LIE("MessagePack-RPC", "\x01"),
    LIE("MessagePack-RPC", "\x92\x01\x02"),
    LIE("neither", "\x94\x05\x01\xc0\xc0"),
    LIE("not made", "\x94\x01\x07\xc0\xc0"),
    LIE("not made", "\x94\x01\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xc0\xc0"),
    LIE("not made", "\x94\x01\xa1x\xc0\xc0"),
    LIE("not made", "\x94\x01\xcd\x04\x00\xc0\xc0"), /* the slot's, but of the hello before */
    LIE("0xc1", "\x94\x01\xc1"),
    LIE("too many", "\xdd\xff\xff\xff\xff"),
    LIE("too many", REPLY "\xdf\xff\xff\xff\xff"),
    LIE("longer", REPLY "\x81\xa3ids\xc6\xff\xff\xff\xff"),
    LIE("nested", REPLY "\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91"),
    LIE("no map", REPLY "\xc0"),
    LIE("no map", REPLY "\x90"),
    LIE("shape", REPLY "\x80"),
    LIE("wrong type", REPLY "\x81\xa5shape\x92\x01\xa1x"),
    LIE("wrong type", REPLY "\x81\xa5shape\x93\x01\x04\x01"),
    LIE("shape", REPLY "\x81\xa5shape\x92\x01\x05"),
    LIE("as long as", REPLY "\x81\xa5shape\x92\x01\x04"),
    LIE("as long as", REPLY "\x82\xa5shape\x92\x01\x04\xa3ids\xc4\x01\x00"),
    LIE("as long as", REPLY "\x82\xa5shape\x92\x01\x04\xa3ids\xd9\x20"
                            "0123456789abcdef0123456789abcdef"),
};

static void tell_a_lie(struct fake_conn *conn)
{
    const struct lie *lie = conn->context;
    fake_hello(conn);
    fake_read(conn);
    fake_send(conn, lie->data, lie->bytes);
    fake_read(conn);
}

static void malformed_answers_are_refused_and_nothing_is_written(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct fake fake;
        fake_start(&fake, NULL, 1, tell_a_lie, (void *)&lies[i]);
        struct fathom_client *client = open_client(&fake, 0, 5000);
        struct fathom_client_search search = tiny_search();
        struct fathom_client_error err = {0};
        int code = fathom_client_search(client, &search, NULL, &err);
        if (code != FATHOM_CLIENT_EPROTOCOL || !strstr(err.message, lies[i].why))
            fail_msg("lie %zu: %d, %s", i, code, err.message);
        assert_untouched();
        assert_int_equal(fathom_client_fd(client), -1);
        fathom_client_close(client);
        fake_join(&fake);
    }
}

static void hello_of_another_protocol(struct fake_conn *conn)
{
    fake_read(conn);
    msgpack_sbuffer buffer = {0};
    msgpack_packer pack;
    msgpack_packer_init(&pack, &buffer, msgpack_sbuffer_write);
    fake_begin_result(&pack, fake_msgid(conn));
    msgpack_pack_map(&pack, 1);
    fake_pack_text(&pack, "protocol");
    msgpack_pack_int(&pack, 2);
    fake_send_buffer(conn, &buffer);
    fake_read(conn);
}

static void a_server_of_another_protocol_is_refused_with_both_versions(void **state)
{
    (void)state;
    struct fake fake;
    fake_start(&fake, NULL, 1, hello_of_another_protocol, NULL);
    struct fathom_client *client;
    struct fathom_client_error err;
    assert_int_equal(fathom_client_open(&client, fake.address, NULL, &err),
                     FATHOM_CLIENT_EPROTOCOL);
    assert_non_null(strstr(err.message, "protocol 2, this client 1"));
    fake_join(&fake);
}

/* ---- what is refused before it is sent ---- */

static void arguments_are_checked_before_anything_is_sent(void **state)
{
    (void)state;
    struct fake fake;
    fake_start(&fake, NULL, 1, say_nothing, NULL);
    struct fathom_client *client = open_client(&fake, 0, 0);
    struct fathom_client_search good = tiny_search(), bad;
#define REFUSED(field, value, code)                                                                \
    do {                                                                                           \
        bad = good;                                                                                \
        bad.field = value;                                                                         \
        assert_int_equal(fathom_client_search(client, &bad, NULL, NULL), code);                    \
    } while (0)
    REFUSED(index, NULL, FATHOM_CLIENT_EARGUMENT);
    REFUSED(index, "", FATHOM_CLIENT_EARGUMENT);
    REFUSED(vectors, NULL, FATHOM_CLIENT_EARGUMENT);
    REFUSED(ids, NULL, FATHOM_CLIENT_EARGUMENT);
    REFUSED(dtype, 9, FATHOM_CLIENT_EARGUMENT);
    REFUSED(n, 0, FATHOM_CLIENT_EARGUMENT);
    REFUSED(n, 1025, FATHOM_CLIENT_EARGUMENT);
    REFUSED(dim, 0, FATHOM_CLIENT_EARGUMENT);
    REFUSED(dim, 4097, FATHOM_CLIENT_EARGUMENT);
    REFUSED(k, 0, FATHOM_CLIENT_EARGUMENT);
    REFUSED(k, 4097, FATHOM_CLIENT_EARGUMENT);
    bad = good;
    bad.n = 1024;
    bad.dim = 4096; /* 16 MiB, the fake server takes one */
    struct fathom_client_error err;
    assert_int_equal(fathom_client_search(client, &bad, NULL, &err), FATHOM_CLIENT_ELIMIT);
    assert_non_null(strstr(err.message, "1048576"));
    fathom_client_close(client);
    fake_join(&fake);
}

static void more_requests_in_flight_than_the_limit_are_refused(void **state)
{
    (void)state;
    struct fake fake;
    fake_start(&fake, NULL, 1, say_nothing, NULL);
    struct fathom_client *client = open_client(&fake, 0, 0);
    struct fathom_client_search search = tiny_search();
    for (int i = 0; i < FATHOM_CLIENT_INFLIGHT_MAX; i++)
        assert_int_equal(fathom_client_submit(client, &search, NULL, NULL), 0);
    assert_int_equal(fathom_client_submit(client, &search, NULL, NULL), FATHOM_CLIENT_ELIMIT);
    assert_int_equal(fathom_client_inflight(client), FATHOM_CLIENT_INFLIGHT_MAX);
    fathom_client_close(client);
    fake_join(&fake);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(addresses_that_are_none_are_refused),
    cmocka_unit_test(no_server_is_unavailable_and_the_message_says_what_to_do),
    cmocka_unit_test(an_error_of_the_server_is_typed_and_leaves_the_connection_whole),
    cmocka_unit_test(a_late_answer_is_dropped_and_its_request_cancelled),
    cmocka_unit_test(a_trickle_of_bytes_cannot_stretch_a_call),
    cmocka_unit_test(silence_ends_a_call_that_has_no_other_bound),
    cmocka_unit_test(a_deadline_for_the_server_bounds_the_wait_here_too),
    cmocka_unit_test(a_server_that_never_says_hello_is_given_up),
    cmocka_unit_test(a_receive_that_timed_out_can_be_repeated),
    cmocka_unit_test(requests_in_flight_fail_when_the_server_closes),
    cmocka_unit_test(the_reason_that_the_server_gives_for_closing_is_passed_on),
    cmocka_unit_test(malformed_answers_are_refused_and_nothing_is_written),
    cmocka_unit_test(a_server_of_another_protocol_is_refused_with_both_versions),
    cmocka_unit_test(arguments_are_checked_before_anything_is_sent),
    cmocka_unit_test(more_requests_in_flight_than_the_limit_are_refused),
};

FATHOM_TEST_MAIN(tests)
