/* Replies that were spoilt on their way: whatever the bytes say, decoding ends with an answer or an
 * error, reads nothing beyond them, and writes nothing but the arrays of the search. */
#include "client_reply.h"

#include <stdlib.h>
#include <string.h>

#include "client_fake.h"
#include "fathom_test.h"
#include "prng.h"

enum { N = 2, K = 3, GUARD = 8, ROUNDS = 200000 };

/* The arrays of a search, each with sentinels on both sides. */
struct arrays {
    uint64_t ids[GUARD + N * K + GUARD];
    float distances[GUARD + N * K + GUARD];
    struct fathom_client_stats stats[1 + N + 1];
};

static void pack_stats_map(msgpack_packer *pack, int queries)
{
    msgpack_pack_map(pack, queries ? 4 : 3);
    fake_pack_text(pack, "hops");
    msgpack_pack_int(pack, 5);
    fake_pack_text(pack, "total_us");
    msgpack_pack_double(pack, 1e30);
    fake_pack_text(pack, "stop_reason");
    fake_pack_text(pack, "a reason longer than its field can hold");
    if (queries) {
        fake_pack_text(pack, "queries");
        msgpack_pack_array(pack, (size_t)queries);
        for (int i = 0; i < queries; i++)
            pack_stats_map(pack, 0);
    }
}

static void pack_reply(msgpack_sbuffer *buffer, int queries)
{
    msgpack_packer pack;
    msgpack_packer_init(&pack, buffer, msgpack_sbuffer_write);
    fake_pack_search(&pack, 2048, N, K, 100, 1);
    fake_pack_text(&pack, "stats");
    pack_stats_map(&pack, queries);
}

/* Scans and decodes a reply as the client does. 1: decoded; 0: refused. */
static int decode(const uint8_t *bytes, size_t size, struct arrays *arrays)
{
    struct client_scan scan;
    client_scan_init(&scan, 1 << 16, 1000);
    if (client_scan_step(&scan, bytes, size) != ITEM_OK)
        return 0;
    struct item_reader reader = {bytes, bytes + scan.at};
    struct item head;
    for (int i = 0; i < 4; i++) /* the array, the type, the msgid, the error */
        if (!client_item_read(&reader, &head))
            return 0;
    struct slot slot = {.search = {.n = N, .k = K}};
    slot.search.ids = arrays->ids + GUARD;
    slot.search.distances = arrays->distances + GUARD;
    slot.search.stats = arrays->stats + 1;
    struct fathom_client_error err = {0};
    struct item_reader again = reader;
    int code = client_reply_search(&slot, &reader, &err);
    assert_true(code == 0 || (code == FATHOM_CLIENT_EPROTOCOL && err.message[0]));
    assert_int_equal(client_reply_error(&again, &err), FATHOM_CLIENT_ESERVER);
    assert_true(err.name[0] && err.message[0] && memchr(err.message, 0, sizeof err.message));
    return code == 0;
}

static void assert_guards(const struct arrays *arrays)
{
    for (int i = 0; i < GUARD; i++) {
        assert_true(arrays->ids[i] == 7 && arrays->ids[GUARD + N * K + i] == 7);
        assert_true(arrays->distances[i] == 7 && arrays->distances[GUARD + N * K + i] == 7);
    }
    assert_true(arrays->stats[0].hops == 7 && arrays->stats[N + 1].hops == 7);
}

static void arrays_init(struct arrays *arrays)
{
    memset(arrays, 0, sizeof *arrays);
    for (size_t i = 0; i < sizeof arrays->ids / sizeof *arrays->ids; i++) {
        arrays->ids[i] = 7;
        arrays->distances[i] = 7;
    }
    arrays->stats[0].hops = arrays->stats[N + 1].hops = 7;
}

static void a_sound_reply_is_decoded_with_its_long_and_large_fields_cut(void **state)
{
    (void)state;
    msgpack_sbuffer buffer = {0};
    struct arrays arrays;
    arrays_init(&arrays);
    pack_reply(&buffer, N);
    assert_int_equal(decode((uint8_t *)buffer.data, buffer.size, &arrays), 1);
    assert_true(arrays.ids[GUARD] == 100 && arrays.ids[GUARD + N * K - 1] == 105);
    assert_int_equal(arrays.stats[2].hops, 5);
    assert_string_equal(arrays.stats[2].stop_reason, "a reason longer");
    assert_guards(&arrays);
    msgpack_sbuffer_destroy(&buffer);
}

static void arrays_that_are_longer_or_shorter_than_the_shape_are_refused(void **state)
{
    (void)state;
    enum { IDS = N * K * 8, DISTANCES = N * K * 4 };
    static const struct {
        int ids, distances, queries;
        bool is_text, is_sound;
    } cases[] = {
        {IDS, DISTANCES, N, false, true},
        {IDS + 8, DISTANCES, N, false, false},
        {IDS - 1, DISTANCES, N, false, false},
        {IDS, DISTANCES + 4, N, false, false},
        {IDS, 0, N, false, false},
        {IDS, DISTANCES, N, true, false},
        {IDS, DISTANCES, N + 1, false, false},
        {IDS, DISTANCES, N - 1, false, false},
        {IDS, DISTANCES, 0, false, false},
    };
    static const char zeroes[2 * IDS];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        msgpack_sbuffer buffer = {0};
        msgpack_packer pack;
        msgpack_packer_init(&pack, &buffer, msgpack_sbuffer_write);
        fake_begin_result(&pack, 2048);
        msgpack_pack_map(&pack, 6);
        fake_pack_text(&pack, "ids");
        if (cases[i].is_text)
            msgpack_pack_str_with_body(&pack, zeroes, (size_t)cases[i].ids);
        else
            msgpack_pack_bin_with_body(&pack, zeroes, (size_t)cases[i].ids);
        fake_pack_text(&pack, "distances");
        msgpack_pack_bin_with_body(&pack, zeroes, (size_t)cases[i].distances);
        fake_pack_text(&pack, "shape");
        msgpack_pack_array(&pack, 2);
        msgpack_pack_int(&pack, N);
        msgpack_pack_int(&pack, K);
        fake_pack_text(&pack, "generation");
        msgpack_pack_int(&pack, 1);
        fake_pack_text(&pack, "complete");
        msgpack_pack_true(&pack);
        fake_pack_text(&pack, "stats");
        pack_stats_map(&pack, cases[i].queries);
        struct arrays arrays;
        arrays_init(&arrays);
        if (decode((uint8_t *)buffer.data, buffer.size, &arrays) != cases[i].is_sound)
            fail_msg("case %zu", i);
        assert_guards(&arrays);
        msgpack_sbuffer_destroy(&buffer);
    }
}

static void spoilt_replies_are_decoded_or_refused_and_nothing_else(void **state)
{
    (void)state;
    msgpack_sbuffer buffer = {0};
    struct prng prng;
    struct arrays arrays;
    unsigned outcomes[2] = {0};
    prng_init(&prng, 11, 0);
    pack_reply(&buffer, N);
    for (int round = 0; round < ROUNDS; round++) {
        size_t size =
            prng_below(&prng, 8) ? buffer.size : prng_below(&prng, (uint32_t)buffer.size) + 1;
        uint8_t *bytes = malloc(size); /* its own block, so that a read beyond it is seen */
        memcpy(bytes, buffer.data, size);
        for (uint32_t i = 0, spoils = 1 + prng_below(&prng, 4); i < spoils; i++)
            bytes[prng_below(&prng, (uint32_t)size)] = (uint8_t)prng_below(&prng, 256);
        arrays_init(&arrays);
        outcomes[decode(bytes, size, &arrays)]++;
        assert_guards(&arrays);
        free(bytes);
    }
    assert_true(outcomes[0] > 1000 && outcomes[1] > 1000);
    msgpack_sbuffer_destroy(&buffer);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_sound_reply_is_decoded_with_its_long_and_large_fields_cut),
    cmocka_unit_test(arrays_that_are_longer_or_shorter_than_the_shape_are_refused),
    cmocka_unit_test(spoilt_replies_are_decoded_or_refused_and_nothing_else),
};

FATHOM_TEST_MAIN(tests)
