/* The superblock: every field out of its bounds is refused, by name of the file, and what is
 * accepted obeys the rules that the rest of the library relies on. */
#include "fathom_test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "folder.h"
#include "prng.h"
#include "tiny_index.h"

#define TABLE 256 /* where the section table starts */
#define ENTRY 64

struct fixture {
    uint8_t page[PAGE_BYTES];
    uint64_t file_bytes;
};

/* An l2 index of f32 vectors with operating points, which has every section. */
static int make_fixture(void **state)
{
    struct tiny_options options = {
        .rows = 100, .dim = 12, .dtype = FATHOM_F32, .metric = FATHOM_METRIC_L2, .points = 3};
    struct fixture *fixture = calloc(1, sizeof *fixture);
    struct tiny_index tiny;
    size_t bytes;
    tiny_make(&tiny, &options);
    uint8_t *image = tiny_image(&tiny, &bytes);
    memcpy(fixture->page, image, PAGE_BYTES);
    fixture->file_bytes = bytes;
    free(image);
    tiny_free(&tiny);
    *state = fixture;
    return 0;
}

static int free_fixture(void **state)
{
    free(*state);
    return 0;
}

static int decode(const struct fixture *fixture, const uint8_t *page, struct superblock *super,
                  struct fathom_error *err)
{
    *err = (struct fathom_error){0};
    return superblock_decode(super, page, fixture->file_bytes, "some/index.fathom", err);
}

/* A page with bytes changed and the checksum put right. */
static void changed(const struct fixture *fixture, uint8_t page[PAGE_BYTES], size_t offset,
                    uint64_t value, size_t bytes)
{
    memcpy(page, fixture->page, PAGE_BYTES);
    memcpy(page + offset, &value, bytes);
    page_seal(page, &(struct page_place){0});
}

static void expect_refused(const struct fixture *fixture, const uint8_t *page, int code,
                           const char *what)
{
    struct superblock super;
    struct fathom_error err;
    int status = decode(fixture, page, &super, &err);
    if (status != code)
        fail_msg("%s: %d (%s), not %d", what, status, err.msg, code);
    assert_int_equal(err.code, code);
    if (!strstr(err.msg, "some/index.fathom"))
        fail_msg("%s: the message does not name the file: %s", what, err.msg);
}

/* ---- */

static void what_was_encoded_is_decoded(void **state)
{
    const struct fixture *fixture = *state;
    struct superblock super;
    struct fathom_error err;
    uint8_t page[PAGE_BYTES];
    assert_int_equal(decode(fixture, fixture->page, &super, &err), 0);
    assert_int_equal(super.properties.rows, 100);
    assert_int_equal(super.properties.dim, 12);
    assert_int_equal(super.properties.id_bits, 40);
    assert_int_equal(super.section_count, SECTION_END - 1);
    superblock_encode(&super, page);
    assert_memory_equal(page, fixture->page, PAGE_BYTES);
}

static void every_flipped_bit_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    uint8_t page[PAGE_BYTES];
    memcpy(page, fixture->page, PAGE_BYTES);
    for (unsigned bit = 0; bit < 8 * PAGE_BYTES; bit++) {
        struct superblock super;
        struct fathom_error err;
        page[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int status = decode(fixture, page, &super, &err);
        if (status != FATHOM_ECHECKSUM && status != FATHOM_EVERSION && status != FATHOM_ECORRUPT)
            fail_msg("bit %u: %d", bit, status);
        page[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void each_field_out_of_bounds_is_refused(void **state)
{
    static const struct {
        const char *what;
        size_t offset, bytes;
        uint64_t value;
    } cases[] = {
        {"magic", 8, 8, 0x1122334455667788},
        {"page bytes", 28, 4, 8192},
        {"page bytes 0", 28, 4, 0},
        {"generation 0", 32, 8, 0},
        {"pages 0", 40, 8, 0},
        {"pages huge", 40, 8, UINT64_MAX},
        {"rows 0", 48, 8, 0},
        {"rows one more", 48, 8, 101},
        {"rows 2^32 - 1", 48, 8, UINT32_MAX},
        {"rows huge", 48, 8, UINT64_MAX},
        {"max_norm of a metric that has none", 64, 8, 0x3ff0000000000000},
        {"max_norm negative", 64, 8, 0xbff0000000000000},
        {"max_norm infinite", 64, 8, 0x7ff0000000000000},
        {"max_norm NaN", 64, 8, 0x7ff8000000000000},
        {"usual row negative", 136, 4, 0xbf800000},
        {"usual row NaN", 136, 4, 0x7fc00000},
        {"usual cell negative", 140, 4, 0xbf800000},
        {"usual cell infinite", 140, 4, 0x7f800000},
        {"dim 0", 72, 4, 0},
        {"dim 4097", 72, 4, 4097},
        {"dim other", 72, 4, 13},
        {"work_dim", 76, 4, 13},
        {"dtype 0", 80, 4, 0},
        {"dtype 5", 80, 4, 5},
        {"dtype other", 80, 4, FATHOM_F16},
        {"metric 0", 84, 4, 0},
        {"metric 4", 84, 4, 4},
        {"metric ip", 84, 4, FATHOM_METRIC_IP},
        {"cells 0", 88, 4, 0},
        {"cells above rows", 88, 4, 101},
        {"cells other", 88, 4, 3},
        {"entry points 0", 92, 4, 0},
        {"entry points above rows", 92, 4, 101},
        {"entry points other", 92, 4, 2},
        {"degree 256", 96, 4, 256},
        {"list length bytes 0", 100, 4, 0},
        {"list length bytes 3", 100, 4, 3},
        {"id bits 0", 104, 4, 0},
        {"id bits 65", 104, 4, 65},
        {"id bits other", 104, 4, 32},
        {"records exact 1", 108, 4, 1},
        {"records exact 2", 108, 4, 2},
        {"external ids 2", 112, 4, 2},
        {"search list 0", 116, 4, 0},
        {"search list huge", 116, 4, FATHOM_SEARCH_LIST_MAX + 1},
        {"list bytes 0", 128, 8, 0},
        {"list bytes of fewer than the rows", 128, 8, 99},
        {"list bytes more than the section", 128, 8, PAGE_BYTES},
        {"list bytes huge", 128, 8, UINT64_MAX},
        {"sections 0", 120, 4, 0},
        {"sections one less", 120, 4, SECTION_END - 2},
        {"sections one more", 120, 4, SECTION_END},
        {"sections 25", 120, 4, FORMAT_SECTIONS_MAX + 1},
        {"sections huge", 120, 4, UINT32_MAX},
    };
    const struct fixture *fixture = *state;
    uint8_t page[PAGE_BYTES];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        changed(fixture, page, cases[i].offset, cases[i].value, cases[i].bytes);
        expect_refused(fixture, page, FATHOM_ECORRUPT, cases[i].what);
    }
}

static void each_field_of_each_section_is_checked(void **state)
{
    static const struct {
        const char *what;
        size_t offset, bytes;
        uint64_t add;
    } cases[] = {
        {"kind", 0, 4, 1},          {"kind unknown", 0, 4, 100},  {"row bytes", 4, 4, 1},
        {"rows a page", 8, 4, 1},   {"pages a row", 12, 4, 1},    {"first page", 16, 8, 1},
        {"first page", 16, 8, -1u}, {"pages", 24, 8, 1},          {"pages", 24, 8, UINT64_MAX},
        {"pages", 24, 8, 1u << 31}, {"bytes", 32, 8, PAGE_BYTES}, {"bytes", 32, 8, UINT64_MAX / 2},
    };
    const struct fixture *fixture = *state;
    for (uint32_t s = 0; s < SECTION_END - 1; s++)
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            size_t offset = TABLE + s * ENTRY + cases[i].offset;
            uint8_t page[PAGE_BYTES];
            uint64_t value = 0;
            char what[64];
            memcpy(&value, fixture->page + offset, cases[i].bytes);
            snprintf(what, sizeof what, "section %u: %s + %llu", s, cases[i].what,
                     (unsigned long long)cases[i].add);
            changed(fixture, page, offset, value + cases[i].add, cases[i].bytes);
            expect_refused(fixture, page, FATHOM_ECORRUPT, what);
        }
}

static void reserved_bytes_must_be_zero(void **state)
{
    const struct fixture *fixture = *state;
    uint8_t page[PAGE_BYTES];
    char what[64];
    for (size_t at = 124; at < PAGE_BYTES;
         at += at == 127 ? 17 : 1) { /* 128: bytes of lists, 136: usual */
        size_t entry = (at - TABLE) / ENTRY, field = (at - TABLE) % ENTRY;
        bool in_table = at >= TABLE && at < TABLE + FORMAT_SECTIONS_MAX * ENTRY;
        if (in_table && entry < SECTION_END - 1 && field < 40)
            continue; /* a field with a meaning */
        snprintf(what, sizeof what, "byte %zu", at);
        changed(fixture, page, at, 1, 1);
        expect_refused(fixture, page, FATHOM_ECORRUPT, what);
    }
}

static void another_version_is_named_with_ours(void **state)
{
    const struct fixture *fixture = *state;
    const uint32_t versions[] = {0, 2, 4, 1000, UINT32_MAX};
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        uint8_t page[PAGE_BYTES];
        struct superblock super;
        struct fathom_error err;
        char theirs[32], ours[32];
        changed(fixture, page, 16, versions[i], 4);
        assert_int_equal(decode(fixture, page, &super, &err), FATHOM_EVERSION);
        snprintf(theirs, sizeof theirs, "version %u", versions[i]);
        snprintf(ours, sizeof ours, "version %d", FORMAT_VERSION);
        assert_non_null(strstr(err.msg, theirs));
        assert_non_null(strstr(err.msg, ours));
        assert_non_null(strstr(err.msg, "some/index.fathom"));
    }
}

/* What a newer fathom wrote may be laid out otherwise: its version is believed before its checksum.
 */
static void another_version_is_told_whatever_the_checksum(void **state)
{
    const struct fixture *fixture = *state;
    uint8_t page[PAGE_BYTES];
    changed(fixture, page, 16, FORMAT_VERSION + 1, 4);
    page[0] ^= 1;
    expect_refused(fixture, page, FATHOM_EVERSION, "a newer version with another checksum");
}

static void an_unknown_incompat_bit_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    for (unsigned bit = 0; bit < 32; bit++) {
        uint8_t page[PAGE_BYTES];
        struct superblock super;
        struct fathom_error err;
        char feature[32];
        changed(fixture, page, 24, UINT64_C(1) << bit, 4);
        assert_int_equal(decode(fixture, page, &super, &err), FATHOM_EVERSION);
        snprintf(feature, sizeof feature, "0x%x", 1u << bit);
        assert_non_null(strstr(err.msg, feature));
    }
}

static void a_compat_bit_is_ignored(void **state)
{
    const struct fixture *fixture = *state;
    for (unsigned bit = 0; bit < 32; bit++) {
        uint8_t page[PAGE_BYTES];
        struct superblock super;
        struct fathom_error err;
        changed(fixture, page, 20, UINT64_C(1) << bit, 4);
        assert_int_equal(decode(fixture, page, &super, &err), 0);
        assert_int_equal(super.compat, 1u << bit);
    }
}

static void a_file_of_another_length_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    const int64_t off[] = {-4096, -1, 1, 512, 4095, 4096};
    for (size_t i = 0; i < sizeof off / sizeof off[0]; i++) {
        struct superblock super;
        struct fathom_error err = {0};
        uint64_t bytes = fixture->file_bytes + (uint64_t)off[i];
        assert_int_equal(superblock_decode(&super, fixture->page, bytes, "f", &err),
                         FATHOM_ECORRUPT);
        assert_non_null(strstr(err.msg, "truncated or appended"));
    }
}

static int decode_image(const struct tiny_index *tiny, struct fathom_error *err)
{
    struct superblock super;
    size_t bytes;
    uint8_t *image = tiny_image(tiny, &bytes);
    *err = (struct fathom_error){0};
    int status = superblock_decode(&super, image, bytes, "some/index.fathom", err);
    free(image);
    return status;
}

static void operating_points_are_optional_and_bounded(void **state)
{
    struct tiny_options options = {
        .rows = 10, .dim = 4, .dtype = FATHOM_U8, .metric = FATHOM_METRIC_L2};
    struct tiny_index tiny;
    struct fathom_error err;
    (void)state;
    tiny_make(&tiny, &options);
    assert_int_equal(decode_image(&tiny, &err), 0);
    tiny_free(&tiny);
    options.points = FORMAT_POINTS_MAX + 1;
    tiny_make(&tiny, &options);
    assert_int_equal(decode_image(&tiny, &err), FATHOM_ECORRUPT);
    assert_non_null(strstr(err.msg, "(points)"));
    struct tiny_section *points = &tiny.sections[SECTION_POINTS];
    points->bytes -= FORMAT_POINT_BYTES;
    assert_int_equal(decode_image(&tiny, &err), 0);
    points->bytes -= 1;
    assert_int_equal(decode_image(&tiny, &err), FATHOM_ECORRUPT);
    tiny_free(&tiny);
}

/* ---- random damage ---- */

/* What readers take for granted, said once more and by other means. */
static void assert_rules(const struct superblock *super, uint64_t file_bytes)
{
    const struct properties *p = &super->properties;
    uint64_t next = 1;
    assert_in_range(p->rows, 1, UINT32_MAX - 1);
    assert_in_range(p->dim, 1, FATHOM_DIM_MAX);
    assert_in_range(p->cells, 1, p->rows);
    assert_in_range(p->entry_count, 1, p->rows);
    assert_in_range(p->degree_max, 0, 255);
    assert_in_range(super->section_count, SECTION_END - 3, SECTION_END - 1);
    for (uint32_t i = 0; i < super->section_count; i++) {
        const struct section *s = &super->sections[i];
        assert_int_equal(s->first_page, next);
        next += s->page_count;
        if (s->row_bytes == 0) {
            assert_true(s->bytes <= s->page_count * PAGE_PAYLOAD);
            continue;
        }
        struct row_place last = section_row_place(s, p->rows - 1);
        assert_true(last.page + last.page_count == next);
        assert_true(last.byte + (uint64_t)s->row_bytes <= (uint64_t)last.page_count * PAGE_PAYLOAD);
    }
    assert_int_equal(next * PAGE_BYTES, file_bytes);
    assert_true(isfinite(p->max_norm));
}

static void what_random_damage_passes_obeys_the_rules(void **state)
{
    const struct fixture *fixture = *state;
    struct prng prng;
    prng_init(&prng, 7, 0);
    unsigned accepted = 0;
    for (int round = 0; round < 200000; round++) {
        uint8_t page[PAGE_BYTES];
        struct superblock super;
        struct fathom_error err;
        memcpy(page, fixture->page, PAGE_BYTES);
        for (uint32_t change = 0; change <= prng_below(&prng, 3); change++) {
            size_t at = 28 + prng_below(&prng, TABLE + SECTION_END * ENTRY - 28);
            uint64_t draw = prng_next(&prng);
            page[at] = draw % 4 ? (uint8_t)(page[at] + (draw >> 8) % 5 - 2) : (uint8_t)(draw >> 8);
        }
        page_seal(page, &(struct page_place){0});
        if (decode(fixture, page, &super, &err) != 0)
            continue;
        accepted++;
        assert_rules(&super, fixture->file_bytes);
    }
    assert_true(accepted > 100); /* or the loop has tested nothing */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_encoded_is_decoded),
        cmocka_unit_test(every_flipped_bit_is_refused),
        cmocka_unit_test(each_field_out_of_bounds_is_refused),
        cmocka_unit_test(each_field_of_each_section_is_checked),
        cmocka_unit_test(reserved_bytes_must_be_zero),
        cmocka_unit_test(another_version_is_named_with_ours),
        cmocka_unit_test(another_version_is_told_whatever_the_checksum),
        cmocka_unit_test(an_unknown_incompat_bit_is_refused),
        cmocka_unit_test(a_compat_bit_is_ignored),
        cmocka_unit_test(a_file_of_another_length_is_refused),
        cmocka_unit_test(operating_points_are_optional_and_bounded),
        cmocka_unit_test(what_random_damage_passes_obeys_the_rules),
    };
    return cmocka_run_group_tests(tests, make_fixture, free_fixture);
}
