/* Requests written by hand, key by key, with values of every type: to see each refused by its key's
 * name. */
#ifndef UNIT_SERVER_MESSAGE_H
#define UNIT_SERVER_MESSAGE_H

#include "fathom_test.h"

#include "protocol.h"
#include "request.h"

#include <math.h>
#include <msgpack.h>
#include <string.h>

struct message {
    msgpack_sbuffer bytes;
    msgpack_packer packer;
};

static inline void text(struct message *message, const char *value)
{
    msgpack_pack_str(&message->packer, strlen(value));
    msgpack_pack_str_body(&message->packer, value, strlen(value));
}

static inline void bin(struct message *message, const void *bytes, size_t count)
{
    msgpack_pack_bin(&message->packer, count);
    msgpack_pack_bin_body(&message->packer, bytes, count);
}

/* [0, 9, method, [{pairs...}]], ready for the pairs. */
static inline void begin(struct message *message, const char *method, unsigned pairs)
{
    msgpack_sbuffer_init(&message->bytes);
    msgpack_packer_init(&message->packer, &message->bytes, msgpack_sbuffer_write);
    msgpack_pack_array(&message->packer, 4);
    msgpack_pack_int(&message->packer, 0);
    msgpack_pack_int(&message->packer, 9);
    text(message, method);
    msgpack_pack_array(&message->packer, 1);
    msgpack_pack_map(&message->packer, pairs);
}

static inline int decode(struct message *message, struct request *out, struct rpc_error *err)
{
    return request_decode(out, (const uint8_t *)message->bytes.data, message->bytes.size, err);
}

static inline void expect_field(struct message *message, const char *field)
{
    struct request request;
    struct rpc_error err;
    assert_int_equal(decode(message, &request, &err), REQUEST_BAD);
    assert_string_equal(err.code, PROTOCOL_ERROR_INVALID_ARGUMENT);
    assert_string_equal(err.field, field);
    assert_int_equal(strncmp(err.message, field, strlen(field)), 0);
    assert_int_equal(request.msgid, 9);
    msgpack_sbuffer_destroy(&message->bytes);
}

static inline void expect_code(struct message *message, int status, const char *code)
{
    struct request request;
    struct rpc_error err;
    assert_int_equal(decode(message, &request, &err), status);
    assert_string_equal(err.code, code);
    msgpack_sbuffer_destroy(&message->bytes);
}

/* ---- values of every type ---- */

enum value {
    VALUE_NIL,
    VALUE_TRUE,
    VALUE_ZERO,
    VALUE_ONE,
    VALUE_NEGATIVE,
    VALUE_HUGE,
    VALUE_FLOAT,
    VALUE_NAN,
    VALUE_INFINITY,
    VALUE_EMPTY_TEXT,
    VALUE_TEXT,
    VALUE_LONG_TEXT,
    VALUE_EMPTY_BIN,
    VALUE_BIN,
    VALUE_EMPTY_ARRAY,
    VALUE_ARRAY,
    VALUE_NESTED,
    VALUE_MAP,
    VALUE_EXT,
    VALUE_COUNT,
};

static inline void put_value(struct message *message, enum value value)
{
    static char long_text[2000];
    msgpack_packer *packer = &message->packer;
    memset(long_text, 'x', sizeof long_text - 1);
    switch (value) {
    case VALUE_NIL:
        msgpack_pack_nil(packer);
        break;
    case VALUE_TRUE:
        msgpack_pack_true(packer);
        break;
    case VALUE_ZERO:
        msgpack_pack_int(packer, 0);
        break;
    case VALUE_ONE:
        msgpack_pack_int(packer, 1);
        break;
    case VALUE_NEGATIVE:
        msgpack_pack_int(packer, -1);
        break;
    case VALUE_HUGE:
        msgpack_pack_uint64(packer, UINT64_MAX);
        break;
    case VALUE_FLOAT:
        msgpack_pack_double(packer, 0.5);
        break;
    case VALUE_NAN:
        msgpack_pack_double(packer, NAN);
        break;
    case VALUE_INFINITY:
        msgpack_pack_float(packer, INFINITY);
        break;
    case VALUE_EMPTY_TEXT:
        text(message, "");
        break;
    case VALUE_TEXT:
        text(message, "word");
        break;
    case VALUE_LONG_TEXT:
        text(message, long_text);
        break;
    case VALUE_EMPTY_BIN:
        bin(message, "", 0);
        break;
    case VALUE_BIN:
        bin(message, "\0\0\0\0\0\0\0\0", 8);
        break;
    case VALUE_EMPTY_ARRAY:
        msgpack_pack_array(packer, 0);
        break;
    case VALUE_ARRAY:
        msgpack_pack_array(packer, 1);
        msgpack_pack_int(packer, 1);
        break;
    case VALUE_NESTED:
        msgpack_pack_array(packer, 1);
        msgpack_pack_array(packer, 2);
        msgpack_pack_float(packer, 1);
        msgpack_pack_int(packer, -2);
        break;
    case VALUE_MAP:
        msgpack_pack_map(packer, 1);
        msgpack_pack_nil(packer);
        msgpack_pack_nil(packer);
        break;
    case VALUE_EXT:
        msgpack_pack_ext(packer, 4, 7);
        msgpack_pack_ext_body(packer, "abcd", 4);
        break;
    case VALUE_COUNT:
        break;
    }
}

#endif
