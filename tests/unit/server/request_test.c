/* Requests: what is taken, and that each wrong value of each key is refused by that key's name. */
#include "fathom_test.h"

#include "message.h"

#include <errno.h>
#include <math.h>

/* ---- a search that is right, but for one key ---- */

enum {
    KEY_INDEX,
    KEY_VECTORS,
    KEY_DTYPE,
    KEY_SHAPE,
    KEY_K,
    KEY_LIST,
    KEY_DEADLINE,
    KEY_EXPLAIN,
    KEY_EXACT,
    KEY_RERANK,
    KEY_COUNT
};

static const char *const keys[KEY_COUNT] = {
    "index",       "vectors",     "dtype",   "shape",           "k",
    "search_list", "deadline_ms", "explain", "exact_distances", "rerank"};

static void put_good(struct message *message, int key)
{
    msgpack_packer *packer = &message->packer;
    switch (key) {
    case KEY_INDEX:
        text(message, "words");
        break;
    case KEY_VECTORS:
        bin(message, "\0\0\200\77\0\0\0\300", 8);
        break; /* 1, -2 */
    case KEY_DTYPE:
        text(message, "f32");
        break;
    case KEY_SHAPE:
        msgpack_pack_array(packer, 2);
        msgpack_pack_int(packer, 1);
        msgpack_pack_int(packer, 2);
        break;
    case KEY_K:
        msgpack_pack_int(packer, 10);
        break;
    case KEY_LIST:
        msgpack_pack_int(packer, 50);
        break;
    case KEY_DEADLINE:
        msgpack_pack_int(packer, 100);
        break;
    case KEY_EXPLAIN:
        msgpack_pack_true(packer);
        break;
    case KEY_EXACT:
        msgpack_pack_false(packer);
        break;
    case KEY_RERANK:
        text(message, "off");
        break;
    }
}

static void begin_search(struct message *message, int odd_key, enum value value)
{
    begin(message, "search", KEY_COUNT);
    for (int key = 0; key < KEY_COUNT; key++) {
        text(message, keys[key]);
        if (key == odd_key)
            put_value(message, value);
        else
            put_good(message, key);
    }
}

static bool is_fine(int key, enum value value)
{
    switch (key) {
    case KEY_INDEX:
        return value == VALUE_TEXT;
    case KEY_VECTORS:
        return value == VALUE_BIN || value == VALUE_NESTED;
    case KEY_K:
    case KEY_LIST:
        return value == VALUE_ONE;
    case KEY_DEADLINE:
        return value == VALUE_ZERO || value == VALUE_ONE || value == VALUE_HUGE;
    case KEY_EXPLAIN:
    case KEY_EXACT:
        return value == VALUE_TRUE;
    default:
        return false;
    }
}

static void every_type_in_every_key_of_search_is_taken_or_refused_by_name(void **state)
{
    (void)state;
    for (int key = 0; key < KEY_COUNT; key++) {
        for (int value = 0; value < VALUE_COUNT; value++) {
            struct message message;
            struct request request;
            struct rpc_error err;
            begin_search(&message, key, (enum value)value);
            if (is_fine(key, (enum value)value)) {
                assert_int_equal(decode(&message, &request, &err), REQUEST_OK);
                msgpack_sbuffer_destroy(&message.bytes);
            } else {
                expect_field(&message, keys[key]);
            }
        }
    }
}

/* A good search that lacks one more pair. */
static void begin_search_and_more(struct message *message)
{
    begin(message, "search", 6);
    for (int key = KEY_INDEX; key <= KEY_K; key++) {
        text(message, keys[key]);
        put_good(message, key);
    }
}

static void target_recall_is_a_float_between_0_and_1(void **state)
{
    (void)state;
    for (int value = 0; value < VALUE_COUNT; value++) {
        struct message message;
        struct request request;
        struct rpc_error err;
        begin_search_and_more(&message);
        text(&message, "target_recall");
        put_value(&message, (enum value)value);
        if (value == VALUE_FLOAT) {
            assert_int_equal(decode(&message, &request, &err), REQUEST_OK);
            assert_true(request.search.target_recall == 0.5f);
            msgpack_sbuffer_destroy(&message.bytes);
        } else {
            expect_field(&message, "target_recall");
        }
    }
}

static void rerank_is_one_of_three_words(void **state)
{
    static const struct {
        const char *word;
        int rerank; /* negative: refused */
    } cases[] = {{"auto", FATHOM_RERANK_AUTO},
                 {"on", FATHOM_RERANK_ON},
                 {"off", FATHOM_RERANK_OFF},
                 {"", -1},
                 {"On", -1},
                 {"o", -1},
                 {"offf", -1},
                 {"true", -1}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct message message;
        struct request request;
        struct rpc_error err;
        begin_search_and_more(&message);
        text(&message, "rerank");
        text(&message, cases[i].word);
        if (cases[i].rerank < 0) {
            expect_field(&message, "rerank");
            continue;
        }
        assert_int_equal(decode(&message, &request, &err), REQUEST_OK);
        assert_int_equal(request.search.rerank, cases[i].rerank);
        msgpack_sbuffer_destroy(&message.bytes);
    }
}

static void a_search_is_decoded_to_views_of_the_message(void **state)
{
    (void)state;
    struct message message;
    struct request request;
    struct rpc_error err;
    begin_search(&message, -1, VALUE_NIL);
    assert_int_equal(decode(&message, &request, &err), REQUEST_OK);
    assert_int_equal(request.method, METHOD_SEARCH);
    assert_int_equal(request.msgid, 9);
    assert_false(request.notification);
    assert_int_equal(request.search.index.size, 5);
    assert_memory_equal(request.search.index.bytes, "words", 5);
    assert_int_equal(request.search.n, 1);
    assert_int_equal(request.search.dim, 2);
    assert_int_equal(request.search.k, 10);
    assert_int_equal(request.search.search_list, 50);
    assert_int_equal(request.search.deadline_ms, 100);
    assert_true(request.search.has_deadline && request.search.explain);
    const char *vectors = (const char *)request.search.bin;
    assert_true(vectors > message.bytes.data && vectors < message.bytes.data + message.bytes.size);
    float copied[2];
    assert_int_equal(search_copy_vectors(&request.search, copied, &err), 0);
    assert_true(copied[0] == 1 && copied[1] == -2);
    msgpack_sbuffer_destroy(&message.bytes);
}

static void nested_arrays_take_every_number_and_set_the_shape(void **state)
{
    (void)state;
    struct message message;
    struct request request;
    struct rpc_error err;
    float copied[4];
    begin(&message, "search", 3);
    text(&message, "k");
    msgpack_pack_int(&message.packer, 1);
    text(&message, "vectors");
    msgpack_pack_array(&message.packer, 2);
    msgpack_pack_array(&message.packer, 2);
    msgpack_pack_float(&message.packer, 1.5f);
    msgpack_pack_double(&message.packer, -0.25);
    msgpack_pack_array(&message.packer, 2);
    msgpack_pack_int(&message.packer, -7);
    msgpack_pack_int(&message.packer, 300);
    text(&message, "index");
    text(&message, "words");
    assert_int_equal(decode(&message, &request, &err), REQUEST_OK);
    assert_int_equal(request.search.n, 2);
    assert_int_equal(request.search.dim, 2);
    assert_int_equal(request.search.dtype, FATHOM_F32);
    assert_int_equal(search_copy_vectors(&request.search, copied, &err), 0);
    assert_true(copied[0] == 1.5f && copied[1] == -0.25f && copied[2] == -7 && copied[3] == 300);
    msgpack_sbuffer_destroy(&message.bytes);
}

/* search {index, k, vectors: an array of two rows of these lengths}. */
static void begin_ragged(struct message *message, unsigned first, unsigned second)
{
    begin(message, "search", 3);
    text(message, "index");
    text(message, "words");
    text(message, "k");
    msgpack_pack_int(&message->packer, 1);
    text(message, "vectors");
    msgpack_pack_array(&message->packer, 2);
    msgpack_pack_array(&message->packer, first);
    for (unsigned i = 0; i < first; i++)
        msgpack_pack_int(&message->packer, 1);
    msgpack_pack_array(&message->packer, second);
    for (unsigned i = 0; i < second; i++)
        msgpack_pack_int(&message->packer, 1);
}

static void ragged_and_too_wide_rows_are_refused(void **state)
{
    (void)state;
    struct message message;
    begin_ragged(&message, 2, 3);
    expect_field(&message, "vectors");
    begin_ragged(&message, 0, 0);
    expect_field(&message, "vectors");
    begin_ragged(&message, PROTOCOL_DIM_MAX + 1, PROTOCOL_DIM_MAX + 1);
    expect_field(&message, "vectors");
}

static void a_bin_must_have_exactly_the_bytes_of_its_shape(void **state)
{
    (void)state;
    static const size_t wrong[] = {0, 1, 7, 9, 16};
    char bytes[16] = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct message message;
        begin(&message, "search", 5);
        for (int key = KEY_INDEX; key <= KEY_K; key++) {
            text(&message, keys[key]);
            if (key == KEY_VECTORS)
                bin(&message, bytes, wrong[i]);
            else
                put_good(&message, key);
        }
        expect_field(&message, "vectors");
    }
}

static void values_that_are_not_finite_are_named_by_row_and_column(void **state)
{
    (void)state;
    static const uint32_t odd[] = {0x7fc00000, 0x7f800000, 0xff800000, 0x7f800001};
    for (size_t i = 0; i < 4; i++) {
        uint32_t vectors[6] = {0x3f800000, 0, 0x7f7fffff, 0, 0x80000000, 0};
        float copied[6];
        struct rpc_error err;
        struct search_params search = {
            .dtype = FATHOM_F32, .n = 2, .dim = 3, .bin = (uint8_t *)vectors};
        assert_int_equal(search_copy_vectors(&search, copied, &err), 0);
        vectors[4] = odd[i];
        assert_int_equal(search_copy_vectors(&search, copied, &err), -1);
        assert_string_equal(err.field, "vectors");
        assert_int_equal(err.row, 1);
        assert_non_null(strstr(err.message, "row 1, column 1"));
    }
    uint16_t halves[2] = {0x7bff, 0x7c00}; /* the largest f16, and infinity */
    uint16_t copied[2];
    struct rpc_error err;
    struct search_params search = {.dtype = FATHOM_F16, .n = 1, .dim = 1, .bin = (uint8_t *)halves};
    assert_int_equal(search_copy_vectors(&search, copied, &err), 0);
    search.n = 2;
    assert_int_equal(search_copy_vectors(&search, copied, &err), -1);
}

static void unknown_repeated_and_missing_keys_are_named(void **state)
{
    (void)state;
    struct message message;
    begin(&message, "ping", 1);
    text(&message, "verbose");
    put_value(&message, VALUE_TRUE);
    expect_field(&message, "verbose");

    begin(&message, "reload", 2);
    text(&message, "index");
    text(&message, "a");
    text(&message, "index");
    text(&message, "b");
    expect_field(&message, "index");

    begin(&message, "hello", 1);
    text(&message, "protocol");
    msgpack_pack_int(&message.packer, 1);
    expect_field(&message, "client");

    begin(&message, "ping", 1);
    msgpack_pack_int(&message.packer, 3);
    msgpack_pack_int(&message.packer, 3);
    expect_code(&message, REQUEST_BAD, PROTOCOL_ERROR_INVALID_ARGUMENT);
}

static void what_clients_sent_is_repeated_only_in_printable_characters(void **state)
{
    (void)state;
    struct message message;
    struct request request;
    struct rpc_error err;
    begin(&message, "ping", 1);
    text(&message, "a\x1b[31m\xff\n");
    put_value(&message, VALUE_TRUE);
    assert_int_equal(decode(&message, &request, &err), REQUEST_BAD);
    for (const char *c = err.message; *c; c++)
        assert_true(*c >= 0x20 && *c < 0x7f);
    msgpack_sbuffer_destroy(&message.bytes);
}

static void search_list_and_target_recall_exclude_each_other(void **state)
{
    (void)state;
    struct message message;
    begin(&message, "search", 7);
    for (int key = KEY_INDEX; key <= KEY_LIST; key++) {
        text(&message, keys[key]);
        put_good(&message, key);
    }
    text(&message, "target_recall");
    msgpack_pack_double(&message.packer, 0.9);
    expect_field(&message, "target_recall");
}

/* ---- envelopes ---- */

static int decode_bytes(const char *bytes, size_t count, struct request *request,
                        struct rpc_error *err)
{
    return request_decode(request, (const uint8_t *)bytes, count, err);
}

static void envelopes_that_cannot_be_answered_are_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t count;
    } bad[] = {
        {"\x01", 1},                                      /* not an array */
        {"\x90", 1},                                      /* an empty one */
        {"\x94\x03\x01\xa4ping\x90", 9},                  /* a type that does not exist */
        {"\x94\x01\x01\xa4ping\x90", 9},                  /* a reply */
        {"\x93\x00\x01\xa4ping", 8},                      /* a request of three */
        {"\x94\x02\x01\xa4ping\x90", 9},                  /* a notification of four */
        {"\x94\x00\xff\xa4ping\x90", 9},                  /* a negative msgid */
        {"\x94\x00\xa1x\xa4ping\x90", 10},                /* one that is a string */
        {"\x94\x00\xcf\0\0\0\1\0\0\0\0\xa4ping\x90", 17}, /* one of 2^32 */
    };
    struct request request;
    struct rpc_error err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(decode_bytes(bad[i].bytes, bad[i].count, &request, &err),
                         REQUEST_MALFORMED);
}

static void methods_and_params_that_are_wrong_can_be_answered(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t count;
        const char *code;
    } bad[] = {
        {"\x94\x00\x01\xa4pong\x90", 9, PROTOCOL_ERROR_UNIMPLEMENTED},
        {"\x94\x00\x01\x05\x90", 5, PROTOCOL_ERROR_INVALID_ARGUMENT},          /* method 5 */
        {"\x94\x00\x01\xa4ping\x80", 9, PROTOCOL_ERROR_INVALID_ARGUMENT},      /* params a map */
        {"\x94\x00\x01\xa4ping\x91\xc0", 10, PROTOCOL_ERROR_INVALID_ARGUMENT}, /* [nil] */
        {"\x94\x00\x01\xa4ping\x92\x80\x80", 11, PROTOCOL_ERROR_INVALID_ARGUMENT},
    };
    struct request request;
    struct rpc_error err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(decode_bytes(bad[i].bytes, bad[i].count, &request, &err), REQUEST_BAD);
        assert_int_equal(request.msgid, 1);
        assert_string_equal(err.code, bad[i].code);
    }
}

static void an_empty_array_stands_for_an_empty_map(void **state)
{
    (void)state;
    struct request request;
    struct rpc_error err;
    assert_int_equal(decode_bytes("\x94\x00\xcc\x07\xa4ping\x90", 10, &request, &err), REQUEST_OK);
    assert_int_equal(request.method, METHOD_PING);
    assert_int_equal(request.msgid, 7);
    assert_int_equal(decode_bytes("\x93\x02\xa4ping\x91\x80", 9, &request, &err), REQUEST_OK);
    assert_true(request.notification);
}

static void a_message_cut_anywhere_is_refused_without_reading_on(void **state)
{
    (void)state;
    struct message message;
    struct request request;
    struct rpc_error err;
    begin_search(&message, KEY_VECTORS, VALUE_NESTED);
    for (size_t cut = 0; cut < message.bytes.size; cut++) {
        uint8_t *bytes = malloc(cut ? cut : 1); /* so that a sanitizer sees the end */
        memcpy(bytes, message.bytes.data, cut);
        assert_true(request_decode(&request, bytes, cut, &err) < 0);
        free(bytes);
    }
    msgpack_sbuffer_destroy(&message.bytes);
}

static void library_errors_become_names(void **state)
{
    (void)state;
    static const struct {
        int code;
        const char *name, *reason;
        bool retryable;
    } cases[] = {
        {FATHOM_EARGUMENT, PROTOCOL_ERROR_INVALID_ARGUMENT, NULL, false},
        {FATHOM_EDIM, PROTOCOL_ERROR_INVALID_ARGUMENT, NULL, false},
        {FATHOM_ELIMIT, PROTOCOL_ERROR_INVALID_ARGUMENT, NULL, false},
        {FATHOM_ECORRUPT, PROTOCOL_ERROR_DATA_LOSS, NULL, false},
        {FATHOM_ECHECKSUM, PROTOCOL_ERROR_DATA_LOSS, NULL, false},
        {-ENODATA, PROTOCOL_ERROR_DATA_LOSS, NULL, false},
        {FATHOM_EVERSION, PROTOCOL_ERROR_FAILED_PRECONDITION, NULL, false},
        {FATHOM_EBUDGET, PROTOCOL_ERROR_RESOURCE_EXHAUSTED, PROTOCOL_REASON_MEMORY, true},
        {-ENOMEM, PROTOCOL_ERROR_RESOURCE_EXHAUSTED, PROTOCOL_REASON_MEMORY, true},
        {FATHOM_EBUSY, PROTOCOL_ERROR_RESOURCE_EXHAUSTED, PROTOCOL_REASON_QUEUE, true},
        {FATHOM_EDEADLINE, PROTOCOL_ERROR_DEADLINE_EXCEEDED, NULL, true},
        {FATHOM_ECANCELLED, PROTOCOL_ERROR_CANCELLED, NULL, false},
        {-EIO, PROTOCOL_ERROR_UNAVAILABLE, NULL, true},
        {-EINVAL, PROTOCOL_ERROR_INTERNAL, NULL, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rpc_error err;
        rpc_error_from_library(&err, cases[i].code, "");
        assert_string_equal(err.code, cases[i].name);
        assert_int_equal(err.retryable, cases[i].retryable);
        assert_true(cases[i].reason ? strcmp(err.reason, cases[i].reason) == 0 : !err.reason);
        assert_true(err.message[0] != '\0');
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_type_in_every_key_of_search_is_taken_or_refused_by_name),
    cmocka_unit_test(target_recall_is_a_float_between_0_and_1),
    cmocka_unit_test(rerank_is_one_of_three_words),
    cmocka_unit_test(a_search_is_decoded_to_views_of_the_message),
    cmocka_unit_test(nested_arrays_take_every_number_and_set_the_shape),
    cmocka_unit_test(ragged_and_too_wide_rows_are_refused),
    cmocka_unit_test(a_bin_must_have_exactly_the_bytes_of_its_shape),
    cmocka_unit_test(values_that_are_not_finite_are_named_by_row_and_column),
    cmocka_unit_test(unknown_repeated_and_missing_keys_are_named),
    cmocka_unit_test(what_clients_sent_is_repeated_only_in_printable_characters),
    cmocka_unit_test(search_list_and_target_recall_exclude_each_other),
    cmocka_unit_test(envelopes_that_cannot_be_answered_are_malformed),
    cmocka_unit_test(methods_and_params_that_are_wrong_can_be_answered),
    cmocka_unit_test(an_empty_array_stands_for_an_empty_map),
    cmocka_unit_test(a_message_cut_anywhere_is_refused_without_reading_on),
    cmocka_unit_test(library_errors_become_names),
};

FATHOM_TEST_MAIN(tests)
