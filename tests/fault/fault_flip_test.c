/* Damage of the file at rest: any flipped bit of any byte, pages that were swapped, zeroed, kept
 * from another time or taken from another index. Verify finds it; live, an answer is the right one
 * or a typed error. */
#include "harm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiny_index.h"

#define QUERIES 8

/* A whole index in memory, small enough that every byte of it can have its turn. */
struct fixture {
    struct small_index small;
    struct answers right[HARM_RESIDENCIES][2];
    char dir[FOLDER_PATH_MAX], path[FOLDER_PATH_MAX]; /* a copy to harm */
    uint8_t *image;
    size_t bytes;
    struct fathom_engine *engine;
};

static void ask_right(struct fixture *fixture)
{
    for (int r = 0; r < HARM_RESIDENCIES; r++) {
        struct fathom_index *index;
        struct fathom_error err;
        if (harm_open(&index, env_os(), fixture->small.dir, r, &err) != 0)
            fail_msg("%s", err.msg);
        for (int exact = 0; exact < 2; exact++)
            harm_ask(&fixture->right[r][exact], &fixture->small, fixture->engine, index, QUERIES,
                     exact);
        fathom_index_close(index);
    }
}

static int make_fixture(void **state)
{
    struct small_options options = {.rows = 150,
                                    .dim = 40,
                                    .metric = FATHOM_METRIC_COS,
                                    .dtype = FATHOM_F32,
                                    .queries = QUERIES};
    struct fixture *fixture = calloc(1, sizeof *fixture);
    char path[FOLDER_PATH_MAX];
    small_index_make(&fixture->small, &options);
    fixture->engine = engine_make(FATHOM_IO_PREAD, 4);
    ask_right(fixture);
    folder_name(fixture->small.dir, FORMAT_FILE_NAME, path);
    fixture->image = file_load(path, &fixture->bytes);
    folder_make_fast(fixture->dir);
    folder_name(fixture->dir, FORMAT_FILE_NAME, fixture->path);
    file_store(fixture->path, fixture->image, fixture->bytes);
    assert_in_range(fixture->bytes / PAGE_BYTES, 14, 60);
    *state = fixture;
    return 0;
}

static int free_fixture(void **state)
{
    struct fixture *fixture = *state;
    fathom_engine_destroy(fixture->engine);
    for (int r = 0; r < HARM_RESIDENCIES; r++)
        for (int exact = 0; exact < 2; exact++)
            answers_free(&fixture->right[r][exact]);
    folder_remove(fixture->dir);
    small_index_remove(&fixture->small);
    free(fixture->image);
    free(fixture);
    return 0;
}

static void put(const struct fixture *fixture, uint64_t at, const void *data, size_t bytes)
{
    file_patch(fixture->path, at, data, bytes);
}

static void restore(const struct fixture *fixture)
{
    put(fixture, 0, fixture->image, fixture->bytes);
}

static bool is_damage(int status)
{
    return status == FATHOM_ECHECKSUM || status == FATHOM_ECORRUPT || status == FATHOM_EVERSION;
}

static void expect_verify_fails(const struct fixture *fixture, bool deep, const char *what)
{
    struct fathom_error err = {0};
    int status = fathom_verify(fixture->dir, deep, NULL, NULL, NULL, &err);
    if (!is_damage(status) || !strstr(err.msg, fixture->path))
        fail_msg("%s: verify gives %d (%s)", what, status, err.msg);
}

/* Opens and asks at each residency: errors, or the right answers. Returns how many queries were
 * answered. */
static uint32_t expect_right_or_refused(const struct fixture *fixture, const char *what)
{
    uint32_t answered = 0;
    for (int r = 0; r < HARM_RESIDENCIES; r++) {
        struct fathom_index *index;
        struct fathom_error err;
        int status = harm_open(&index, env_os(), fixture->dir, r, &err);
        if (status != 0 && (!is_damage(status) || !strstr(err.msg, fixture->path)))
            fail_msg("%s: opening gives %d (%s)", what, status, err.msg);
        for (int exact = 0; exact < 2 && status == 0; exact++) {
            struct answers got;
            int last = 0;
            harm_ask(&got, &fixture->small, fixture->engine, index, QUERIES, exact);
            uint32_t failed = harm_count(&fixture->right[r][exact], &got, what, &last);
            if (failed && last != FATHOM_ECHECKSUM)
                fail_msg("%s: a query gives %d", what, last);
            answered += QUERIES - failed;
            answers_free(&got);
        }
        fathom_index_close(index);
    }
    return answered;
}

/* ---- */

static void the_fixture_itself_is_sound(void **state)
{
    const struct fixture *fixture = *state;
    assert_int_equal(fathom_verify(fixture->dir, true, NULL, NULL, NULL, NULL), 0);
    assert_int_equal(expect_right_or_refused(fixture, "sound"), HARM_RESIDENCIES * 2 * QUERIES);
}

static void verify_finds_a_flipped_bit_in_every_byte(void **state)
{
    const struct fixture *fixture = *state;
    for (size_t at = 0; at < fixture->bytes; at++) {
        uint8_t flipped = fixture->image[at] ^ (uint8_t)(1u << (at + at / PAGE_BYTES) % 8);
        char what[64];
        snprintf(what, sizeof what, "byte %zu of page %zu", at % PAGE_BYTES, at / PAGE_BYTES);
        put(fixture, at, &flipped, 1);
        expect_verify_fails(fixture, false, what);
        put(fixture, at, &fixture->image[at], 1);
    }
    assert_int_equal(fathom_verify(fixture->dir, true, NULL, NULL, NULL, NULL), 0);
}

static void a_flipped_bit_never_changes_an_answer(void **state)
{
    const struct fixture *fixture = *state;
    uint32_t answered = 0, asked = 0;
    for (size_t at = 0; at < fixture->bytes; at += 97) {
        uint8_t flipped = fixture->image[at] ^ (uint8_t)(1u << at % 8);
        char what[64];
        snprintf(what, sizeof what, "byte %zu of page %zu", at % PAGE_BYTES, at / PAGE_BYTES);
        put(fixture, at, &flipped, 1);
        answered += expect_right_or_refused(fixture, what);
        put(fixture, at, &fixture->image[at], 1);
        asked += HARM_RESIDENCIES * 2 * QUERIES;
    }
    /* Some damage is where nobody reads, and some is met: both kinds of outcome have been seen. */
    assert_true(answered > asked / 20 && answered < asked);
}

static void swapped_pages_are_found(void **state)
{
    const struct fixture *fixture = *state;
    size_t pages = fixture->bytes / PAGE_BYTES;
    for (size_t a = 0; a < pages; a++)
        for (size_t b = a + 1; b < pages; b++) {
            const uint8_t *at_a = fixture->image + a * PAGE_BYTES,
                          *at_b = fixture->image + b * PAGE_BYTES;
            char what[64];
            snprintf(what, sizeof what, "pages %zu and %zu", a, b);
            put(fixture, a * PAGE_BYTES, at_b, PAGE_BYTES);
            put(fixture, b * PAGE_BYTES, at_a, PAGE_BYTES);
            expect_verify_fails(fixture, true, what);
            expect_right_or_refused(fixture, what);
            put(fixture, a * PAGE_BYTES, at_a, PAGE_BYTES);
            put(fixture, b * PAGE_BYTES, at_b, PAGE_BYTES);
        }
}

static void a_page_in_anothers_place_is_found(void **state)
{
    const struct fixture *fixture = *state;
    size_t pages = fixture->bytes / PAGE_BYTES;
    for (size_t from = 0; from < pages; from++)
        for (size_t to = 0; to < pages; to += from == to + 1 ? 2 : 1) {
            char what[64];
            if (from == to)
                continue;
            snprintf(what, sizeof what, "page %zu over %zu", from, to);
            put(fixture, to * PAGE_BYTES, fixture->image + from * PAGE_BYTES, PAGE_BYTES);
            expect_verify_fails(fixture, false, what);
            put(fixture, to * PAGE_BYTES, fixture->image + to * PAGE_BYTES, PAGE_BYTES);
        }
}

static void zeroed_and_filled_pages_are_found(void **state)
{
    const struct fixture *fixture = *state;
    static const uint8_t fills[] = {0x00, 0xff, 0xa5};
    for (size_t page = 0; page < fixture->bytes / PAGE_BYTES; page++)
        for (size_t f = 0; f < sizeof fills; f++) {
            uint8_t filled[PAGE_BYTES];
            char what[64];
            memset(filled, fills[f], sizeof filled);
            snprintf(what, sizeof what, "page %zu of 0x%02x", page, fills[f]);
            put(fixture, page * PAGE_BYTES, filled, PAGE_BYTES);
            expect_verify_fails(fixture, true, what);
            expect_right_or_refused(fixture, what);
            put(fixture, page * PAGE_BYTES, fixture->image + page * PAGE_BYTES, PAGE_BYTES);
        }
}

/* Half a page was written when the power went. */
static void torn_pages_are_found(void **state)
{
    const struct fixture *fixture = *state;
    static const uint8_t zeros[PAGE_BYTES];
    for (size_t page = 0; page < fixture->bytes / PAGE_BYTES; page++)
        for (size_t sector = 0; sector < PAGE_BYTES; sector += 512) {
            const uint8_t *whole = fixture->image + page * PAGE_BYTES;
            char what[64];
            if (memcmp(whole + sector, zeros, PAGE_BYTES - sector) == 0)
                break; /* it was zero anyhow */
            snprintf(what, sizeof what, "page %zu from byte %zu", page, sector);
            put(fixture, page * PAGE_BYTES + sector, zeros, PAGE_BYTES - sector);
            expect_verify_fails(fixture, false, what);
            put(fixture, page * PAGE_BYTES, whole, PAGE_BYTES);
        }
    restore(fixture);
}

/* ---- two indexes of the same shape ---- */

struct twins {
    char dir[FOLDER_PATH_MAX], path[FOLDER_PATH_MAX];
    uint8_t *image[2];
    size_t bytes;
};

static void make_twins(struct twins *twins)
{
    size_t bytes[2];
    for (unsigned i = 0; i < 2; i++) {
        struct tiny_options options = {.rows = 300,
                                       .dim = 40,
                                       .dtype = FATHOM_F32,
                                       .metric = FATHOM_METRIC_COS,
                                       .points = 6,
                                       .seed = 5 + i};
        struct tiny_index tiny;
        tiny_make(&tiny, &options);
        twins->image[i] = tiny_image(&tiny, &bytes[i]);
        tiny_free(&tiny);
    }
    assert_int_equal(bytes[0], bytes[1]);
    twins->bytes = bytes[0];
    folder_make_fast(twins->dir);
    folder_name(twins->dir, FORMAT_FILE_NAME, twins->path);
}

static void free_twins(struct twins *twins)
{
    folder_remove(twins->dir);
    free(twins->image[0]);
    free(twins->image[1]);
}

/* Page by page from one or the other, as the mask says; then it must be refused by whatever reads
 * it. */
static void expect_mixture_found(const struct twins *twins, const bool *from_second,
                                 const char *what)
{
    uint8_t *mixed = malloc(twins->bytes);
    struct fathom_error err = {0};
    for (size_t page = 0; page < twins->bytes / PAGE_BYTES; page++)
        memcpy(mixed + page * PAGE_BYTES, twins->image[from_second[page]] + page * PAGE_BYTES,
               PAGE_BYTES);
    file_store(twins->path, mixed, twins->bytes);
    free(mixed);
    int status = fathom_verify(twins->dir, true, NULL, NULL, NULL, &err);
    if (status != FATHOM_ECHECKSUM)
        fail_msg("%s: verify gives %d (%s)", what, status, err.msg);
}

static void a_page_of_another_generation_is_found(void **state)
{
    struct twins twins;
    (void)state;
    make_twins(&twins);
    size_t pages = twins.bytes / PAGE_BYTES;
    for (size_t page = 0; page < pages; page++) {
        bool from_second[256] = {false};
        char what[64];
        assert_in_range(pages, 2, 256);
        from_second[page] = true;
        snprintf(what, sizeof what, "page %zu of another generation", page);
        expect_mixture_found(&twins, from_second, what);
    }
    free_twins(&twins);
}

static void two_generations_mixed_are_found(void **state)
{
    struct twins twins;
    (void)state;
    make_twins(&twins);
    size_t pages = twins.bytes / PAGE_BYTES;
    for (size_t split = 1; split < pages; split++)
        for (int which = 0; which < 2; which++) {
            bool from_second[256] = {false};
            char what[64];
            for (size_t page = 0; page < pages; page++)
                from_second[page] = (page < split) == which;
            snprintf(what, sizeof what, "generations mixed at page %zu", split);
            expect_mixture_found(&twins, from_second, what);
        }
    free_twins(&twins);
}

/* Content that is the same in both is no help: the place counts. */
static void an_equal_page_of_another_generation_is_found(void **state)
{
    struct twins twins;
    (void)state;
    make_twins(&twins);
    bool from_second[256] = {false};
    from_second[1] = true; /* the manifest, which says the same in both */
    assert_memory_equal(twins.image[0] + PAGE_BYTES + PAGE_HEADER,
                        twins.image[1] + PAGE_BYTES + PAGE_HEADER, PAGE_PAYLOAD);
    expect_mixture_found(&twins, from_second, "the manifest of another generation");
    free_twins(&twins);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fixture_itself_is_sound),
        cmocka_unit_test(verify_finds_a_flipped_bit_in_every_byte),
        cmocka_unit_test(a_flipped_bit_never_changes_an_answer),
        cmocka_unit_test(swapped_pages_are_found),
        cmocka_unit_test(a_page_in_anothers_place_is_found),
        cmocka_unit_test(zeroed_and_filled_pages_are_found),
        cmocka_unit_test(torn_pages_are_found),
        cmocka_unit_test(a_page_of_another_generation_is_found),
        cmocka_unit_test(two_generations_mixed_are_found),
        cmocka_unit_test(an_equal_page_of_another_generation_is_found),
    };
    return cmocka_run_group_tests(tests, make_fixture, free_fixture);
}
