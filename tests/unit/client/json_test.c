/* MessagePack answers as JSON text. */
#include "client_json.h"

#include <errno.h>
#include <math.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "fathom_test.h"

static char *to_json(const msgpack_sbuffer *buffer)
{
    struct item_reader reader = {(uint8_t *)buffer->data, (uint8_t *)buffer->data + buffer->size};
    char *json = NULL;
    assert_int_equal(client_json_from_items(&json, &reader), 0);
    assert_ptr_equal(reader.at, reader.end);
    return json;
}

static void check(msgpack_sbuffer *buffer, const char *expect)
{
    char *json = to_json(buffer);
    assert_string_equal(json, expect);
    free(json);
    msgpack_sbuffer_clear(buffer);
}

static void scalars_keep_their_value(void **state)
{
    (void)state;
    msgpack_sbuffer buffer = {0};
    msgpack_packer pack;
    msgpack_packer_init(&pack, &buffer, msgpack_sbuffer_write);
    msgpack_pack_uint64(&pack, UINT64_MAX);
    check(&buffer, "18446744073709551615");
    msgpack_pack_int64(&pack, INT64_MIN);
    check(&buffer, "-9223372036854775808");
    msgpack_pack_double(&pack, 0.1);
    check(&buffer, "0.10000000000000001");
    msgpack_pack_double(&pack, 3);
    check(&buffer, "3.0");
    msgpack_pack_double(&pack, INFINITY);
    check(&buffer, "null");
    msgpack_pack_true(&pack);
    check(&buffer, "true");
    msgpack_pack_nil(&pack);
    check(&buffer, "null");
    msgpack_pack_bin_with_body(&pack, "\x00\xff", 2);
    check(&buffer, "\"00ff\"");
    msgpack_sbuffer_destroy(&buffer);
}

static void text_is_escaped_and_always_utf8(void **state)
{
    (void)state;
    msgpack_sbuffer buffer = {0};
    msgpack_packer pack;
    msgpack_packer_init(&pack, &buffer, msgpack_sbuffer_write);
    msgpack_pack_str_with_body(&pack, "a\"\\\n\xc3\xa4", 6);
    check(&buffer, "\"a\\\"\\\\\\u000a\xc3\xa4\"");
    msgpack_pack_str_with_body(&pack, "\xc0\x80\xed\xa0\x80\xf0\x9f", 7);
    check(
        &buffer,
        "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    msgpack_sbuffer_destroy(&buffer);
}

static void containers_nest(void **state)
{
    (void)state;
    msgpack_sbuffer buffer = {0};
    msgpack_packer pack;
    msgpack_packer_init(&pack, &buffer, msgpack_sbuffer_write);
    msgpack_pack_map(&pack, 2);
    msgpack_pack_str_with_body(&pack, "a", 1);
    msgpack_pack_array(&pack, 2);
    msgpack_pack_int(&pack, 1);
    msgpack_pack_map(&pack, 0);
    msgpack_pack_str_with_body(&pack, "b", 1);
    msgpack_pack_array(&pack, 0);
    check(&buffer, "{\"a\": [1, {}], \"b\": []}");
    msgpack_sbuffer_destroy(&buffer);
}

static void generations_are_sixteen_hex_digits(void **state)
{
    (void)state;
    msgpack_sbuffer buffer = {0};
    msgpack_packer pack;
    msgpack_packer_init(&pack, &buffer, msgpack_sbuffer_write);
    msgpack_pack_map(&pack, 2);
    msgpack_pack_str_with_body(&pack, "generation", 10);
    msgpack_pack_int(&pack, 255);
    msgpack_pack_str_with_body(&pack, "previous_generation", 19);
    msgpack_pack_uint64(&pack, UINT64_MAX);
    check(&buffer, "{\"generation\": \"00000000000000ff\", "
                   "\"previous_generation\": \"ffffffffffffffff\"}");
    msgpack_sbuffer_destroy(&buffer);
}

static void a_map_key_that_is_no_text_is_refused(void **state)
{
    (void)state;
    const uint8_t bytes[] = {0x81, 0x01, 0x02};
    struct item_reader reader = {bytes, bytes + sizeof bytes};
    char *json = (char *)bytes;
    assert_int_equal(client_json_from_items(&json, &reader), -EINVAL);
    assert_null(json);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(scalars_keep_their_value),
    cmocka_unit_test(text_is_escaped_and_always_utf8),
    cmocka_unit_test(containers_nest),
    cmocka_unit_test(generations_are_sixteen_hex_digits),
    cmocka_unit_test(a_map_key_that_is_no_text_is_refused),
};

FATHOM_TEST_MAIN(tests)
