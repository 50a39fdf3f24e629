/* MessagePack items and the scanner that bounds what a server may send. */
#include "client_item.h"

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "fathom_test.h"
#include "prng.h"

static struct item read_one(const void *bytes, size_t size)
{
    struct item_reader reader = {bytes, (const uint8_t *)bytes + size};
    struct item item;
    assert_true(client_item_read(&reader, &item));
    assert_ptr_equal(reader.at, reader.end);
    return item;
}

#define READ(...) read_one((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void items_of_every_family_are_read(void **state)
{
    (void)state;
    assert_int_equal(READ(0x7f).value.u, 127);
    assert_int_equal(READ(0xe0).value.i, -32);
    assert_int_equal(READ(0x8f).count, 15);
    assert_int_equal(READ(0x8f).kind, ITEM_MAP);
    assert_int_equal(READ(0x91).kind, ITEM_ARRAY);
    assert_int_equal(READ(0xa2, 'o', 'k').count, 2);
    assert_int_equal(READ(0xc0).kind, ITEM_NIL);
    assert_false(READ(0xc2).value.boolean);
    assert_true(READ(0xc3).value.boolean);
    assert_int_equal(READ(0xc4, 1, 9).kind, ITEM_BIN);
    assert_int_equal(READ(0xcd, 1, 2).value.u, 0x102);
    assert_true(READ(0xcf, 255, 255, 255, 255, 255, 255, 255, 255).value.u == UINT64_MAX);
    assert_int_equal(READ(0xd0, 0x80).value.i, -128);
    assert_int_equal(READ(0xd0, 5).kind, ITEM_UINT);
    assert_true(READ(0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0).value.i == INT64_MIN);
    assert_true(READ(0xca, 0x3f, 0x80, 0, 0).value.f == 1.0);
    assert_true(READ(0xcb, 0xbf, 0xf0, 0, 0, 0, 0, 0, 0).value.f == -1.0);
    assert_int_equal(READ(0xd6, 1, 2, 3, 4, 5).count, 5);
    assert_int_equal(READ(0xd9, 1, 'x').kind, ITEM_STR);
    assert_int_equal(READ(0xdd, 0xff, 0xff, 0xff, 0xff).count, UINT32_MAX);
    assert_int_equal(READ(0xdf, 0, 1, 0, 0).count, 65536);
}

static void an_ext_of_the_greatest_length_does_not_wrap(void **state)
{
    (void)state;
    const uint8_t bytes[] = {0xc9, 0xff, 0xff, 0xff, 0xff, 0};
    struct item_reader reader = {bytes, bytes + sizeof bytes};
    struct item item;
    size_t need;
    assert_int_equal(client_item_next(&reader, &item, &need), ITEM_MORE);
    assert_true(need == 5 + (size_t)UINT32_MAX + 1);
}

/* A message that holds every kind of item. */
static void pack_sample(msgpack_sbuffer *buffer)
{
    msgpack_packer pack;
    msgpack_packer_init(&pack, buffer, msgpack_sbuffer_write);
    static const char blob[70000];
    msgpack_pack_array(&pack, 5);
    msgpack_pack_int(&pack, -70000);
    msgpack_pack_map(&pack, 2);
    msgpack_pack_str_with_body(&pack, "ids", 3);
    msgpack_pack_bin_with_body(&pack, blob, sizeof blob);
    msgpack_pack_str_with_body(&pack, "nested", 6);
    msgpack_pack_array(&pack, 2);
    msgpack_pack_double(&pack, 0.5);
    msgpack_pack_nil(&pack);
    msgpack_pack_float(&pack, 0.5f);
    msgpack_pack_uint64(&pack, UINT64_MAX);
    msgpack_pack_ext_with_body(&pack, "abc", 3, 7);
}

static void the_scanner_finds_the_end_wherever_the_message_is_split(void **state)
{
    (void)state;
    msgpack_sbuffer buffer = {0};
    pack_sample(&buffer);
    for (size_t split = 0; split < buffer.size; split += split < 40 || split > 70030 ? 1 : 997) {
        uint8_t *exact = malloc(split + 1); /* its own block, so that a read beyond it is seen */
        memcpy(exact, buffer.data, split);
        struct client_scan scan;
        client_scan_init(&scan, 1 << 20, 100);
        assert_int_equal(client_scan_step(&scan, exact, split), ITEM_MORE);
        assert_int_equal(client_scan_step(&scan, (uint8_t *)buffer.data, buffer.size), ITEM_OK);
        assert_int_equal(scan.at, buffer.size);
        free(exact);
    }
    msgpack_sbuffer_destroy(&buffer);
}

static const char *scan_fault(const uint8_t *bytes, size_t size, size_t bytes_max,
                              uint64_t items_max)
{
    struct client_scan scan;
    client_scan_init(&scan, bytes_max, items_max);
    assert_int_equal(client_scan_step(&scan, bytes, size), ITEM_INVALID);
    assert_non_null(scan.fault);
    return scan.fault;
}

static void the_scanner_refuses_what_would_cost_memory(void **state)
{
    (void)state;
    const uint8_t deep[] = {0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0xc0};
    assert_non_null(strstr(scan_fault(deep, sizeof deep, 1000, 1000), "nested"));
    const uint8_t wide[] = {0xdd, 0xff, 0xff, 0xff, 0xff};
    assert_non_null(strstr(scan_fault(wide, sizeof wide, 1000, 1000), "too many"));
    const uint8_t map[] = {0xdf, 0xff, 0xff, 0xff, 0xff};
    assert_non_null(strstr(scan_fault(map, sizeof map, 1000, 1000), "too many"));
    const uint8_t nested[] = {0x9f, 0xdc, 0x03,
                              0xe0}; /* each within a per-array bound, together above */
    assert_non_null(strstr(scan_fault(nested, sizeof nested, 1000, 1000), "too many"));
    const uint8_t text[] = {0xdb, 0x80, 0, 0, 0};
    assert_non_null(strstr(scan_fault(text, sizeof text, 1000, 1000), "longer"));
    const uint8_t unused[] = {0x91, 0xc1};
    assert_non_null(strstr(scan_fault(unused, sizeof unused, 1000, 1000), "0xc1"));
}

static void a_message_may_be_as_deep_as_the_protocol_says(void **state)
{
    (void)state;
    const uint8_t deep[] = {0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0xc0};
    _Static_assert(sizeof deep == PROTOCOL_DEPTH_MAX + 1, "arrays, and what the last one holds");
    struct client_scan scan;
    client_scan_init(&scan, sizeof deep, 1000);
    assert_int_equal(client_scan_step(&scan, deep, sizeof deep), ITEM_OK);
    assert_int_equal(scan.at, sizeof deep);
}

static void a_message_may_be_as_long_as_the_limit_and_no_longer(void **state)
{
    (void)state;
    uint8_t bytes[102] = {0xc4, 100};
    struct client_scan scan;
    client_scan_init(&scan, 102, 10);
    assert_int_equal(client_scan_step(&scan, bytes, sizeof bytes), ITEM_OK);
    client_scan_init(&scan, 101, 10);
    assert_int_equal(client_scan_step(&scan, bytes, sizeof bytes), ITEM_INVALID);
}

static void random_bytes_are_scanned_as_another_unpacker_reads_them(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 7, 1);
    unsigned whole = 0;
    for (int round = 0; round < 20000; round++) {
        size_t size = 1 + prng_below(&prng, 24);
        uint8_t *bytes = malloc(size);
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)prng_below(&prng, 256);
        struct client_scan scan;
        client_scan_init(&scan, 1 << 16, 1000);
        if (client_scan_step(&scan, bytes, size) == ITEM_OK) {
            msgpack_unpacked message;
            msgpack_unpacked_init(&message);
            size_t at = 0;
            assert_true(msgpack_unpack_next(&message, (char *)bytes, size, &at) > 0);
            assert_int_equal(at, scan.at);
            msgpack_unpacked_destroy(&message);
            struct item_reader reader = {bytes, bytes + scan.at};
            assert_true(client_item_skip(&reader));
            assert_ptr_equal(reader.at, reader.end);
            whole++;
        }
        free(bytes);
    }
    assert_true(whole > 1000);
}

static void copied_text_is_cut_and_printable(void **state)
{
    (void)state;
    struct item item = READ(0xa5, 'a', '\n', 0x1b, 'b', 'c');
    char out[5];
    client_item_copy_text(&item, out, sizeof out);
    assert_string_equal(out, "a??b");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(items_of_every_family_are_read),
    cmocka_unit_test(an_ext_of_the_greatest_length_does_not_wrap),
    cmocka_unit_test(the_scanner_finds_the_end_wherever_the_message_is_split),
    cmocka_unit_test(the_scanner_refuses_what_would_cost_memory),
    cmocka_unit_test(a_message_may_be_as_deep_as_the_protocol_says),
    cmocka_unit_test(a_message_may_be_as_long_as_the_limit_and_no_longer),
    cmocka_unit_test(random_bytes_are_scanned_as_another_unpacker_reads_them),
    cmocka_unit_test(copied_text_is_cut_and_printable),
};

FATHOM_TEST_MAIN(tests)
