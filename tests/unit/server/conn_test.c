/* A connection without a socket: framing at every split, strangers, limits, deadlines, and how it
 * ends. */
#include "fathom_test.h"

#include "conn.h"
#include "mem.h"
#include "protocol.h"

#include <msgpack.h>
#include <string.h>

#define SECOND 1000000000ull

static const struct conn_limits limits = {
    .message_bytes_max = 65536,
    .first_byte_ns = 2 * SECOND,
    .message_ns = 10 * SECOND,
    .idle_ns = 300 * SECOND,
    .stall_ns = 10 * SECOND,
    .output_soft = 1000,
    .output_hard = 5000,
};

/* What a connection handed over, one after the other. */
struct taken {
    uint8_t bytes[65536];
    size_t size;
    unsigned messages;
    int answer; /* of the callback */
};

static int take(void *context, struct conn *conn, const uint8_t *bytes, size_t count)
{
    struct taken *taken = context;
    (void)conn;
    assert_true(taken->size + count <= sizeof taken->bytes);
    memcpy(taken->bytes + taken->size, bytes, count);
    taken->size += count;
    taken->messages++;
    return taken->answer;
}

struct fixture {
    struct buffer_allowance allowance;
    struct conn conn;
    struct taken taken;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    memset(&fixture, 0, sizeof fixture);
    fixture.allowance.limit = 200000;
    conn_init(&fixture.conn, &limits, &fixture.allowance, 1 * SECOND);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    conn_fini(&fixture->conn);
    return fixture->allowance.used == 0 ? 0 : -1;
}

static int feed(struct fixture *fixture, const void *bytes, size_t count, uint64_t now_ns)
{
    return conn_feed(&fixture->conn, bytes, count, now_ns, take, &fixture->taken);
}

/* Three messages: 2 + 301 + 3 bytes. */
static size_t three_messages(uint8_t *out)
{
    memcpy(out, "\x91\x05", 2);
    memcpy(out + 2, "\x91\xc5\x01\x29", 4);
    memset(out + 6, 0x90, 297);
    memcpy(out + 303, "\x92\x01\xc0", 3);
    return 306;
}

static void messages_come_out_whole_at_every_split(void **state)
{
    struct fixture *fixture = *state;
    uint8_t bytes[400];
    size_t count = three_messages(bytes);
    for (size_t first = 0; first <= count; first++) {
        memset(&fixture->taken, 0, sizeof fixture->taken);
        assert_int_equal(feed(fixture, bytes, first, 2 * SECOND), 0);
        assert_int_equal(feed(fixture, bytes + first, count - first, 2 * SECOND), 0);
        assert_int_equal(fixture->taken.messages, 3);
        assert_int_equal(fixture->taken.size, count);
        assert_memory_equal(fixture->taken.bytes, bytes, count);
        assert_int_equal(fixture->conn.in.size, 0);
    }
}

static void messages_come_out_whole_byte_by_byte(void **state)
{
    struct fixture *fixture = *state;
    uint8_t bytes[400];
    size_t count = three_messages(bytes);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(feed(fixture, bytes + i, 1, 2 * SECOND), 0);
    assert_int_equal(fixture->taken.messages, 3);
    assert_memory_equal(fixture->taken.bytes, bytes, count);
}

static bool count_allocation(void *context)
{
    (*(unsigned *)context)++;
    return false;
}

static void whole_messages_need_no_memory(void **state)
{
    struct fixture *fixture = *state;
    uint8_t bytes[400];
    unsigned allocations = 0;
    size_t count = three_messages(bytes);
    mem_set_fault(count_allocation, &allocations);
    for (int i = 0; i < 100; i++)
        assert_int_equal(feed(fixture, bytes, count, 2 * SECOND), 0);
    mem_set_fault(NULL, NULL);
    assert_int_equal(fixture->taken.messages, 300);
    assert_int_equal(allocations, 0);
}

static void a_callback_that_ends_the_connection_is_the_last_one(void **state)
{
    struct fixture *fixture = *state;
    fixture->taken.answer = -1;
    uint8_t bytes[400];
    size_t count = three_messages(bytes);
    assert_int_equal(feed(fixture, bytes, count, 2 * SECOND), -1);
    assert_int_equal(fixture->taken.messages, 1);
}

/* The pending output is one closing notification with this code. */
static void expect_closing(struct fixture *fixture, const char *code)
{
    size_t count;
    const char *bytes = (const char *)conn_pending(&fixture->conn, &count);
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    assert_int_equal(msgpack_unpack_next(&unpacked, bytes, count, NULL), MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(unpacked.data.type, MSGPACK_OBJECT_ARRAY);
    msgpack_object_array envelope = unpacked.data.via.array;
    assert_int_equal(envelope.size, 3);
    assert_int_equal(envelope.ptr[0].via.u64, PROTOCOL_NOTIFICATION);
    assert_memory_equal(envelope.ptr[1].via.str.ptr, "closing", 7);
    msgpack_object_map error = envelope.ptr[2].via.array.ptr[0].via.map;
    assert_memory_equal(error.ptr[0].key.via.str.ptr, "code", 4);
    assert_int_equal(error.ptr[0].val.via.str.size, strlen(code));
    assert_memory_equal(error.ptr[0].val.via.str.ptr, code, strlen(code));
    msgpack_unpacked_destroy(&unpacked);
}

static void strangers_are_recognised(void **state)
{
    static const struct {
        const char *bytes;
        size_t count;
        enum conn_end end;
    } strangers[] = {
        {"GET / HTTP/1.1\r\n", 16, CONN_END_HTTP},
        {"POST /x HTTP/1.1\r\n", 18, CONN_END_HTTP},
        {"PRI * HTTP/2.0\r\n", 16, CONN_END_HTTP},
        {"\x16\x03\x01\x02\x00\x01", 6, CONN_END_TLS},
        {"SSH-2.0-OpenSSH\r\n", 17, CONN_END_SSH},
        {"hello there", 11, CONN_END_MALFORMED},
        {"\0\0\0\0", 4, CONN_END_MALFORMED},
        {"\xc1\xff", 2, CONN_END_MALFORMED},
        {"\x16", 1, CONN_END_TLS},
        {"\x81\x01\x01", 3, CONN_END_MALFORMED},
    };
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        set_up(state);
        struct fixture *fixture = *state;
        size_t count;
        assert_int_equal(feed(fixture, strangers[i].bytes, strangers[i].count, 2 * SECOND), -1);
        assert_int_equal(fixture->conn.end, strangers[i].end);
        assert_int_equal(fixture->taken.messages, 0);
        const uint8_t *answer = conn_pending(&fixture->conn, &count);
        if (strangers[i].end == CONN_END_HTTP)
            assert_memory_equal(answer, "HTTP/1.1 400", 12);
        else if (strangers[i].end == CONN_END_MALFORMED)
            expect_closing(fixture, PROTOCOL_ERROR_INVALID_ARGUMENT);
        else
            assert_int_equal(count, 0);
        assert_int_equal(feed(fixture, "\x90", 1, 2 * SECOND), -1); /* over is over */
        tear_down(state);
    }
    set_up(state);
}

static void a_message_above_the_limit_is_refused_when_it_says_so(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(feed(fixture, "\x91\xc6\x00\x01\x00\x00", 6, 2 * SECOND), -1);
    assert_int_equal(fixture->conn.end, CONN_END_TOO_LONG);
    expect_closing(fixture, PROTOCOL_ERROR_INVALID_ARGUMENT);
}

static void without_memory_for_an_unfinished_message_the_connection_ends(void **state)
{
    struct fixture *fixture = *state;
    uint8_t bytes[5000] = {0x91, 0xc6, 0x00, 0x00, 0xf0, 0x00};
    fixture->allowance.limit = 4000;
    assert_int_equal(feed(fixture, bytes, sizeof bytes, 2 * SECOND), -1);
    assert_int_equal(fixture->conn.end, CONN_END_MEMORY);
    expect_closing(fixture, PROTOCOL_ERROR_RESOURCE_EXHAUSTED);
}

/* ---- deadlines ---- */

static bool expired(struct fixture *fixture, uint64_t now_ns)
{
    struct rpc_error err;
    return conn_expired(&fixture->conn, now_ns, &err);
}

static void silence_ends_after_two_seconds(void **state)
{
    struct fixture *fixture = *state;
    assert_false(expired(fixture, 3 * SECOND));
    assert_true(expired(fixture, 3 * SECOND + 1));
    assert_int_equal(feed(fixture, "\x90", 1, 2 * SECOND), 0);
    assert_false(expired(fixture, 100 * SECOND));
}

static void a_byte_a_second_does_not_push_the_deadline_of_a_message_back(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(feed(fixture, "\x91\xc6\x00\x00\x01\x00", 6, 2 * SECOND), 0);
    for (uint64_t second = 3; second <= 12; second++) {
        assert_false(expired(fixture, second * SECOND));
        assert_int_equal(feed(fixture, "x", 1, second * SECOND), 0);
    }
    assert_true(expired(fixture, 12 * SECOND + 1));
}

static void a_message_that_was_completed_has_no_deadline_any_more(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(feed(fixture, "\x91\xc4\x02", 3, 2 * SECOND), 0);
    assert_int_equal(feed(fixture, "xx", 2, 11 * SECOND), 0);
    assert_int_equal(fixture->taken.messages, 1);
    assert_false(expired(fixture, 100 * SECOND));
}

/* What the client sends meanwhile waits on our side: it is not the one that is late. */
static void a_message_is_not_late_while_nothing_is_read(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(feed(fixture, "\x91\xc4\x02", 3, 2 * SECOND), 0);
    conn_reading(&fixture->conn, false, 5 * SECOND); /* three of its ten seconds are gone */
    assert_false(expired(fixture, 100 * SECOND));
    conn_reading(&fixture->conn, true, 100 * SECOND);
    assert_false(expired(fixture, 107 * SECOND));
    assert_true(expired(fixture, 107 * SECOND + 1));
}

static void idleness_ends_after_five_minutes_unless_something_is_in_flight(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(feed(fixture, "\x90", 1, 2 * SECOND), 0);
    assert_false(expired(fixture, 302 * SECOND));
    assert_true(expired(fixture, 302 * SECOND + 1));
    fixture->conn.in_flight = 1;
    assert_false(expired(fixture, 1000 * SECOND));
}

static void replies_that_nobody_reads_end_it(void **state)
{
    struct fixture *fixture = *state;
    char reply[3000] = {0};
    size_t count;
    assert_int_equal(feed(fixture, "\x90", 1, 2 * SECOND), 0);
    assert_int_equal(buffer_append(&fixture->conn.out, reply, sizeof reply), 0);
    assert_int_equal(conn_added(&fixture->conn, 20 * SECOND), 0);
    assert_true(conn_is_behind(&fixture->conn));
    assert_false(expired(fixture, 30 * SECOND));
    assert_true(expired(fixture, 30 * SECOND + 1));
    conn_sent(&fixture->conn, 2500, 30 * SECOND); /* it reads after all */
    assert_false(conn_is_behind(&fixture->conn));
    assert_false(expired(fixture, 40 * SECOND));
    conn_sent(&fixture->conn, 500, 40 * SECOND);
    conn_pending(&fixture->conn, &count);
    assert_int_equal(count, 0);
    assert_false(expired(fixture, 60 * SECOND));
    assert_int_equal(buffer_append(&fixture->conn.out, reply, sizeof reply), 0);
    assert_int_equal(buffer_append(&fixture->conn.out, reply, sizeof reply), 0);
    assert_int_equal(conn_added(&fixture->conn, 60 * SECOND), -1);
    assert_int_equal(fixture->conn.end, CONN_END_OUTPUT);
}

static void sent_bytes_leave_in_order_whatever_the_steps(void **state)
{
    struct fixture *fixture = *state;
    uint8_t bytes[4000], seen[4000];
    size_t at = 0, count;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 31 >> 3);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(buffer_append(&fixture->conn.out, bytes + 1000 * i, 1000), 0);
        const uint8_t *pending = conn_pending(&fixture->conn, &count);
        size_t step = count < 700 ? count : 700;
        memcpy(seen + at, pending, step);
        conn_sent(&fixture->conn, step, 2 * SECOND);
        at += step;
    }
    const uint8_t *pending = conn_pending(&fixture->conn, &count);
    memcpy(seen + at, pending, count);
    assert_int_equal(at + count, sizeof bytes);
    assert_memory_equal(seen, bytes, sizeof bytes);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

static const struct CMUnitTest tests[] = {
    CASE(messages_come_out_whole_at_every_split),
    CASE(messages_come_out_whole_byte_by_byte),
    CASE(whole_messages_need_no_memory),
    CASE(a_callback_that_ends_the_connection_is_the_last_one),
    CASE(strangers_are_recognised),
    CASE(a_message_above_the_limit_is_refused_when_it_says_so),
    CASE(without_memory_for_an_unfinished_message_the_connection_ends),
    CASE(silence_ends_after_two_seconds),
    CASE(a_byte_a_second_does_not_push_the_deadline_of_a_message_back),
    CASE(a_message_that_was_completed_has_no_deadline_any_more),
    CASE(a_message_is_not_late_while_nothing_is_read),
    CASE(idleness_ends_after_five_minutes_unless_something_is_in_flight),
    CASE(replies_that_nobody_reads_end_it),
    CASE(sent_bytes_leave_in_order_whatever_the_steps),
};

FATHOM_TEST_MAIN(tests)
