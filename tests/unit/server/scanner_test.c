/* The scanner against every type, every split, and everything that a hostile length can say. */
#include "fathom_test.h"

#include "prng.h"
#include "scanner.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_MAX    100000
#define ELEMENTS_MAX 1000

static int scan(const uint8_t *bytes, size_t count, size_t *used)
{
    struct scanner scanner;
    scanner_init(&scanner, BYTES_MAX, ELEMENTS_MAX);
    return scanner_feed(&scanner, bytes, count, used);
}

/* Scans in two parts, split at every byte; all must end alike. */
static void check_every_split(const uint8_t *bytes, size_t count, int expected, size_t end)
{
    for (size_t split = 0; split <= count; split++) {
        struct scanner scanner;
        size_t first = 0, second = 0;
        scanner_init(&scanner, BYTES_MAX, ELEMENTS_MAX);
        int status = scanner_feed(&scanner, bytes, split, &first);
        if (status == SCANNER_MORE) {
            assert_int_equal(first, split);
            status = scanner_feed(&scanner, bytes + split, count - split, &second);
        }
        assert_int_equal(status, expected);
        if (expected == SCANNER_DONE)
            assert_int_equal(first + second, end);
    }
}

/* A type byte with its length field, and how many bytes of payload follow. */
struct sample {
    uint8_t head[9];
    uint8_t head_bytes;
    uint32_t payload;
};

static const struct sample samples[] = {
    {{0x00}, 1, 0},
    {{0x7f}, 1, 0},
    {{0xe0}, 1, 0},
    {{0xff}, 1, 0},
    {{0xc0}, 1, 0},
    {{0xc2}, 1, 0},
    {{0xc3}, 1, 0},
    {{0xa0}, 1, 0},
    {{0xbf}, 1, 31},
    {{0x80}, 1, 0},
    {{0x90}, 1, 0},
    {{0xc4, 0}, 2, 0},
    {{0xc4, 200}, 2, 200},
    {{0xc5, 1, 0}, 3, 256},
    {{0xc6, 0, 0, 1, 1}, 5, 257},
    {{0xc7, 3}, 2, 4},
    {{0xc8, 0, 3}, 3, 4},
    {{0xc9, 0, 0, 0, 3}, 5, 4},
    {{0xca}, 1, 4},
    {{0xcb}, 1, 8},
    {{0xcc}, 1, 1},
    {{0xcd}, 1, 2},
    {{0xce}, 1, 4},
    {{0xcf}, 1, 8},
    {{0xd0}, 1, 1},
    {{0xd1}, 1, 2},
    {{0xd2}, 1, 4},
    {{0xd3}, 1, 8},
    {{0xd4}, 1, 2},
    {{0xd5}, 1, 3},
    {{0xd6}, 1, 5},
    {{0xd7}, 1, 9},
    {{0xd8}, 1, 17},
    {{0xd9, 5}, 2, 5},
    {{0xda, 0, 5}, 3, 5},
    {{0xdb, 0, 0, 0, 5}, 5, 5},
    {{0xdc, 0, 0}, 3, 0},
    {{0xdd, 0, 0, 0, 0}, 5, 0},
    {{0xde, 0, 0}, 3, 0},
    {{0xdf, 0, 0, 0, 0}, 5, 0},
};
#define SAMPLES (sizeof samples / sizeof samples[0])

static size_t put_sample(uint8_t *out, const struct sample *sample)
{
    memcpy(out, sample->head, sample->head_bytes);
    memset(out + sample->head_bytes, 0xc1, sample->payload); /* a payload may hold anything */
    return sample->head_bytes + sample->payload;
}

static void every_type_ends_where_it_should_at_every_split(void **state)
{
    (void)state;
    uint8_t bytes[512];
    for (size_t i = 0; i < SAMPLES; i++) {
        size_t count = put_sample(bytes, &samples[i]);
        bytes[count] = 0x01; /* the next value must be left alone */
        check_every_split(bytes, count + 1, SCANNER_DONE, count);
        for (size_t cut = 0; cut < count; cut++) {
            size_t used;
            assert_int_equal(scan(bytes, cut, &used), SCANNER_MORE);
            assert_int_equal(used, cut);
        }
    }
}

static void every_type_counts_as_one_value_inside_containers(void **state)
{
    (void)state;
    uint8_t bytes[600];
    for (size_t i = 0; i < SAMPLES; i++) {
        bytes[0] = 0x92; /* an array of two: the sample and a map of nil to nil */
        size_t count = 1 + put_sample(bytes + 1, &samples[i]);
        memcpy(bytes + count, "\x81\xc0\xc0", 3);
        check_every_split(bytes, count + 3, SCANNER_DONE, count + 3);
    }
}

static void the_byte_that_is_never_used_is_refused(void **state)
{
    (void)state;
    check_every_split((const uint8_t *)"\xc1", 1, SCANNER_EBYTE, 0);
    check_every_split((const uint8_t *)"\x93\x01\xc1\x01", 4, SCANNER_EBYTE, 0);
}

static void nesting_ends_at_eight_levels(void **state)
{
    (void)state;
    uint8_t bytes[64];
    memset(bytes, 0x91, sizeof bytes);
    bytes[8] = 0x05;
    check_every_split(bytes, 9, SCANNER_DONE, 9);
    memset(bytes, 0x91, sizeof bytes);
    bytes[9] = 0x05;
    check_every_split(bytes, 10, SCANNER_EDEPTH, 0);
    size_t used;
    uint8_t maps[40];
    for (int level = 0; level < 20; level++) {
        maps[2 * level] = 0x81;
        maps[2 * level + 1] = 0x01;
    }
    assert_int_equal(scan(maps, sizeof maps, &used), SCANNER_EDEPTH);
}

static void a_million_bytes_of_open_arrays_are_refused_at_once(void **state)
{
    (void)state;
    size_t count = 1000000, used;
    uint8_t *bytes = malloc(count);
    assert_non_null(bytes);
    memset(bytes, 0x91, count);
    assert_int_equal(scan(bytes, count, &used), SCANNER_EDEPTH);
    assert_true(used <= 10);
    free(bytes);
}

static void declared_lengths_are_believed_only_within_the_limits(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t count;
        int expected;
    } bombs[] = {
        {"\xdd\xff\xff\xff\xff", 5, SCANNER_EBUDGET},
        {"\xdf\xff\xff\xff\xff", 5, SCANNER_EBUDGET},
        {"\xdc\xff\xff", 3, SCANNER_EBUDGET},
        {"\xde\xff\xff", 3, SCANNER_EBUDGET},
        {"\xc6\xff\xff\xff\xff", 5, SCANNER_ETOOLONG},
        {"\xdb\xff\xff\xff\xff", 5, SCANNER_ETOOLONG},
        {"\xc9\xff\xff\xff\xff", 5, SCANNER_ETOOLONG},
        {"\xc6\x00\x01\x86\x9c", 5, SCANNER_ETOOLONG},
        {"\xc6\x00\x01\x86\x9b", 5, SCANNER_MORE}, /* 99,995 + 5 bytes: exactly the limit */
    };
    for (size_t i = 0; i < sizeof bombs / sizeof bombs[0]; i++)
        check_every_split((const uint8_t *)bombs[i].bytes, bombs[i].count, bombs[i].expected, 0);
}

static void the_budget_counts_values_of_all_levels_together(void **state)
{
    (void)state;
    /* 40 arrays of 30 are 1 + 40 + 1,200 values; no single array is above the budget. */
    uint8_t bytes[2 + 1 + 40 * 33];
    size_t at = 0, used;
    memcpy(bytes, "\xdc\x00\x28", 3);
    at = 3;
    for (int i = 0; i < 40; i++) {
        memcpy(bytes + at, "\xdc\x00\x1e", 3);
        memset(bytes + at + 3, 0x00, 30);
        at += 33;
    }
    assert_int_equal(scan(bytes, at, &used), SCANNER_EBUDGET);
    struct scanner scanner;
    scanner_init(&scanner, BYTES_MAX, 1 + 40 + 1200);
    assert_int_equal(scanner_feed(&scanner, bytes, at, &used), SCANNER_DONE);
    assert_int_equal(used, at);
}

static void a_message_one_byte_above_the_limit_is_refused(void **state)
{
    (void)state;
    struct scanner scanner;
    const uint8_t bytes[] = {0x93, 0x01, 0x02, 0x03};
    size_t used;
    scanner_init(&scanner, 4, 10);
    assert_int_equal(scanner_feed(&scanner, bytes, 4, &used), SCANNER_DONE);
    scanner_init(&scanner, 3, 10);
    assert_int_equal(scanner_feed(&scanner, bytes, 4, &used), SCANNER_ETOOLONG);
    assert_int_equal(used, 1); /* three values cannot be in two bytes */
}

static void a_scanner_goes_on_with_the_next_message(void **state)
{
    (void)state;
    struct scanner scanner;
    const uint8_t bytes[] = {0x92, 0x01, 0xa1, 'x', 0x90, 0x91, 0xc0};
    size_t used, at = 0;
    size_t ends[] = {4, 5, 7};
    scanner_init(&scanner, BYTES_MAX, ELEMENTS_MAX);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(scanner_feed(&scanner, bytes + at, sizeof bytes - at, &used),
                         SCANNER_DONE);
        at += used;
        assert_int_equal(at, ends[i]);
        scanner_reset(&scanner);
    }
    assert_true(scanner_idle(&scanner));
}

static void noise_never_takes_more_than_it_is_given_nor_any_memory(void **state)
{
    (void)state;
    struct prng prng;
    uint8_t bytes[256];
    prng_init(&prng, 1, 0);
    size_t before = mallinfo2().uordblks;
    for (int round = 0; round < 200000; round++) {
        struct scanner scanner;
        size_t count = prng_below(&prng, sizeof bytes) + 1, used;
        for (size_t i = 0; i < count; i++)
            bytes[i] = (uint8_t)prng_next(&prng);
        scanner_init(&scanner, BYTES_MAX, ELEMENTS_MAX);
        int status = scanner_feed(&scanner, bytes, count, &used);
        assert_true(used <= count);
        assert_true(scanner.depth <= PROTOCOL_DEPTH_MAX);
        assert_true(scanner.elements <= ELEMENTS_MAX);
        if (status == SCANNER_MORE)
            assert_int_equal(used, count);
    }
    assert_int_equal(mallinfo2().uordblks, before);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_type_ends_where_it_should_at_every_split),
    cmocka_unit_test(every_type_counts_as_one_value_inside_containers),
    cmocka_unit_test(the_byte_that_is_never_used_is_refused),
    cmocka_unit_test(nesting_ends_at_eight_levels),
    cmocka_unit_test(a_million_bytes_of_open_arrays_are_refused_at_once),
    cmocka_unit_test(declared_lengths_are_believed_only_within_the_limits),
    cmocka_unit_test(the_budget_counts_values_of_all_levels_together),
    cmocka_unit_test(a_message_one_byte_above_the_limit_is_refused),
    cmocka_unit_test(a_scanner_goes_on_with_the_next_message),
    cmocka_unit_test(noise_never_takes_more_than_it_is_given_nor_any_memory),
};

FATHOM_TEST_MAIN(tests)
