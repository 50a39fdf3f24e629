/* The cursor reads what msgpack-c writes, and never past the end of what it was given. */
#include "fathom_test.h"

#include "prng.h"
#include "wire.h"

#include <msgpack.h>
#include <string.h>

static struct buffer_allowance allowance = {.limit = 1 << 20};

static void integers_of_every_width_are_read_as_written(void **state)
{
    (void)state;
    static const int64_t values[] = {
        0,         1,  127, 128, 255,  256,  65535,  65536,  INT32_MAX, UINT32_MAX,
        INT64_MAX, -1, -32, -33, -128, -129, -32768, -32769, INT32_MIN, INT64_MIN};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        msgpack_sbuffer bytes;
        msgpack_packer packer;
        msgpack_sbuffer_init(&bytes);
        msgpack_packer_init(&packer, &bytes, msgpack_sbuffer_write);
        msgpack_pack_int64(&packer, values[i]);
        struct wire_cursor cursor = {(const uint8_t *)bytes.data,
                                     (const uint8_t *)bytes.data + bytes.size};
        struct wire_value value;
        assert_true(wire_next(&cursor, &value));
        assert_int_equal(value.kind, values[i] < 0 ? WIRE_INT : WIRE_UINT);
        assert_true(values[i] < 0 ? value.negative == values[i]
                                  : value.number == (uint64_t)values[i]);
        assert_ptr_equal(cursor.at, cursor.end);
        msgpack_sbuffer_destroy(&bytes);
    }
}

static void a_signed_encoding_of_a_positive_number_is_not_negative(void **state)
{
    (void)state;
    const uint8_t bytes[] = {0xd0, 5, 0xd3, 0, 0, 0, 0, 0, 0, 1, 0};
    struct wire_cursor cursor = {bytes, bytes + sizeof bytes};
    struct wire_value value;
    assert_true(wire_next(&cursor, &value));
    assert_int_equal(value.kind, WIRE_UINT);
    assert_int_equal(value.number, 5);
    assert_true(wire_next(&cursor, &value));
    assert_int_equal(value.kind, WIRE_UINT);
    assert_int_equal(value.number, 256);
}

static void floats_texts_and_containers_are_read_as_written(void **state)
{
    (void)state;
    struct buffer out;
    struct wire_writer writer;
    buffer_init(&out, &allowance);
    wire_begin(&writer, &out);
    wire_put_array(&writer, 6);
    wire_put_float(&writer, 0.25);
    msgpack_pack_float(&writer.packer, 1.5f);
    wire_put_text(&writer, "name");
    wire_put_bin(&writer, "\0\1\2", 3);
    wire_put_map(&writer, 1);
    wire_pair_bool(&writer, "yes", true);
    wire_put_nil(&writer);
    assert_int_equal(wire_end(&writer), 0);
    struct wire_cursor cursor = {out.bytes, out.bytes + out.size};
    struct wire_value value;
    assert_true(wire_next(&cursor, &value) && value.kind == WIRE_ARRAY && value.count == 6);
    assert_true(wire_next(&cursor, &value) && value.kind == WIRE_FLOAT && value.real == 0.25);
    assert_true(wire_next(&cursor, &value) && value.kind == WIRE_FLOAT && value.real == 1.5);
    assert_true(wire_next(&cursor, &value) && wire_text_is(&value, "name"));
    assert_false(wire_text_is(&value, "names"));
    assert_true(wire_next(&cursor, &value) && value.kind == WIRE_BIN && value.text.size == 3);
    assert_true(wire_next(&cursor, &value) && value.kind == WIRE_MAP && value.count == 1);
    assert_true(wire_next(&cursor, &value) && wire_text_is(&value, "yes"));
    assert_true(wire_next(&cursor, &value) && value.kind == WIRE_BOOL && value.truth);
    assert_true(wire_next(&cursor, &value) && value.kind == WIRE_NIL);
    assert_false(wire_next(&cursor, &value));
    buffer_fini(&out);
}

static void cut_bytes_are_never_read_past_their_end(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 2, 0);
    for (int round = 0; round < 100000; round++) {
        size_t count = prng_below(&prng, 24);
        uint8_t *bytes = malloc(count ? count : 1); /* so that a sanitizer sees the end */
        for (size_t i = 0; i < count; i++)
            bytes[i] = (uint8_t)prng_next(&prng);
        struct wire_cursor cursor = {bytes, bytes + count};
        struct wire_value value;
        while (wire_next(&cursor, &value))
            assert_true(cursor.at <= cursor.end);
        free(bytes);
    }
}

static void a_reply_without_room_leaves_the_buffer_as_it_was(void **state)
{
    (void)state;
    struct buffer_allowance small = {.limit = 2048};
    struct buffer out;
    struct wire_writer writer;
    char blob[4000] = {0};
    buffer_init(&out, &small);
    assert_int_equal(buffer_append(&out, "before", 6), 0);
    wire_begin(&writer, &out);
    wire_put_array(&writer, 2);
    wire_put_bin(&writer, blob, sizeof blob);
    wire_put_text(&writer, "after");
    assert_true(wire_end(&writer) < 0);
    assert_int_equal(out.size, 6);
    assert_memory_equal(out.bytes, "before", 6);
    buffer_fini(&out);
    assert_int_equal(small.used, 0);
}

static void the_allowance_is_shared_and_given_back(void **state)
{
    (void)state;
    struct buffer_allowance small = {.limit = 4096};
    struct buffer a, b;
    buffer_init(&a, &small);
    buffer_init(&b, &small);
    assert_int_equal(buffer_reserve(&a, 2048), 0);
    assert_int_equal(buffer_reserve(&b, 2048), 0);
    assert_int_equal(small.used, 4096);
    assert_true(buffer_reserve(&b, 2049) < 0);
    buffer_clear(&a, 0);
    assert_int_equal(small.used, 2048);
    assert_int_equal(buffer_reserve(&a, 1024), 0);
    buffer_fini(&a);
    buffer_fini(&b);
    assert_int_equal(small.used, 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(integers_of_every_width_are_read_as_written),
    cmocka_unit_test(a_signed_encoding_of_a_positive_number_is_not_negative),
    cmocka_unit_test(floats_texts_and_containers_are_read_as_written),
    cmocka_unit_test(cut_bytes_are_never_read_past_their_end),
    cmocka_unit_test(a_reply_without_room_leaves_the_buffer_as_it_was),
    cmocka_unit_test(the_allowance_is_shared_and_given_back),
};

FATHOM_TEST_MAIN(tests)
