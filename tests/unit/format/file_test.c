/* Writer and reader: what goes in comes out, for streams and row stores of every relation between
 * row and page, and the file is byte for byte what FORMAT.md says (tiny_image lays it out by the
 * document). */
#include "fathom_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file_path.h"
#include "folder.h"
#include "prng.h"
#include "tiny_index.h"

#define WRITER_BUFFER_PAGES                                                                        \
    256 /* of writer.c: a section longer than that is flushed in between                           \
         */

struct fixture {
    char dir[FOLDER_PATH_MAX], path[FOLDER_PATH_MAX];
};

static int make_fixture(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    folder_make_fast(fixture->dir);
    folder_name(fixture->dir, FORMAT_FILE_NAME, fixture->path);
    *state = fixture;
    return 0;
}

static int free_fixture(void **state)
{
    struct fixture *fixture = *state;
    folder_remove(fixture->dir);
    free(fixture);
    return 0;
}

/* ---- */

static void write_or_fail(const struct fixture *fixture, const struct tiny_index *tiny,
                          size_t piece_rows)
{
    struct fathom_error err = {0};
    if (tiny_write(tiny, env_os(), fixture->dir, piece_rows, &err) != 0)
        fail_msg("writing: %s", err.msg);
}

static void expect_image(const struct fixture *fixture, const struct tiny_index *tiny)
{
    size_t wanted_bytes, got_bytes;
    uint8_t *wanted = tiny_image(tiny, &wanted_bytes), *got = file_load(fixture->path, &got_bytes);
    assert_int_equal(got_bytes, wanted_bytes);
    for (size_t page = 0; page < got_bytes / PAGE_BYTES; page++)
        if (memcmp(got + page * PAGE_BYTES, wanted + page * PAGE_BYTES, PAGE_BYTES) != 0)
            fail_msg("page %zu is not what FORMAT.md says", page);
    free(wanted);
    free(got);
}

struct collector {
    uint8_t *out;
    size_t bytes, room;
    unsigned visits;
};

static int collect(void *context, const uint8_t *payload, size_t bytes, struct fathom_error *err)
{
    struct collector *c = context;
    (void)err;
    assert_true(c->bytes + bytes <= c->room);
    memcpy(c->out + c->bytes, payload, bytes);
    c->bytes += bytes;
    c->visits++;
    return 0;
}

/* Each row's first part counted from the beginning of its page's payload, its second from the end.
 */
static void expect_parts(const struct section *s, const struct tiny_section *wanted,
                         const uint8_t *payloads)
{
    size_t first_bytes = s->row_bytes - wanted->second_bytes;
    for (uint64_t row = 0; row < wanted->bytes / s->row_bytes; row++) {
        const uint8_t *page = payloads + row / s->rows_per_page * PAGE_PAYLOAD,
                      *right = wanted->data + row * s->row_bytes;
        uint64_t slot = row % s->rows_per_page, left = s->rows_per_page - slot;
        assert_memory_equal(page + slot * first_bytes, right, first_bytes);
        assert_memory_equal(page + PAGE_PAYLOAD - left * wanted->second_bytes, right + first_bytes,
                            wanted->second_bytes);
    }
}

/* Each row where section_row_place says. payloads: the whole section's. */
static void expect_rows(const struct section *s, const struct tiny_section *wanted,
                        const uint8_t *payloads)
{
    for (uint64_t row = 0; row < wanted->bytes / s->row_bytes; row++) {
        struct row_place place = section_row_place(s, row);
        const uint8_t *at = payloads + (place.page - s->first_page) * PAGE_PAYLOAD + place.byte;
        assert_true(place.byte + (uint64_t)s->row_bytes <=
                    (uint64_t)place.page_count * PAGE_PAYLOAD);
        assert_memory_equal(at, wanted->data + row * s->row_bytes, s->row_bytes);
    }
}

static void expect_section(const struct index_file *file, enum section_kind kind,
                           const struct tiny_section *wanted)
{
    const struct section *s = superblock_find(&file->super, kind);
    struct fathom_error err = {0};
    assert_non_null(s);
    assert_int_equal(s->bytes, wanted->bytes);
    size_t room = s->page_count * PAGE_PAYLOAD;
    struct collector all = {.out = malloc(room), .room = room};
    if (index_file_stream(file, s, collect, &all, &err) != 0)
        fail_msg("%s: %s", section_name(kind), err.msg);
    if (s->row_bytes) {
        assert_int_equal(all.bytes, room);
        if (wanted->second_bytes)
            expect_parts(s, wanted, all.out);
        else
            expect_rows(s, wanted, all.out);
    } else {
        assert_int_equal(all.bytes, wanted->bytes);
        assert_memory_equal(all.out, wanted->data, wanted->bytes);
    }
    free(all.out);
}

static void expect_content(const struct fixture *fixture, const struct tiny_index *tiny)
{
    struct index_file file;
    struct fathom_error err = {0};
    if (index_file_open(&file, env_os(), fixture->dir, &err) != 0)
        fail_msg("opening: %s", err.msg);
    assert_memory_equal(&file.super.properties, &tiny->properties, sizeof tiny->properties);
    for (int kind = SECTION_MANIFEST; kind < SECTION_END; kind++) {
        if (tiny->sections[kind].data)
            expect_section(&file, kind, &tiny->sections[kind]);
        else
            assert_null(superblock_find(&file.super, kind));
    }
    index_file_close(&file);
}

static void count_pages(void *context, uint64_t pages)
{
    uint64_t *count = context;
    *count += pages;
}

/* Section by section to another generation: what was written for it would be the same. */
static void expect_copy(const struct fixture *fixture, struct tiny_index *tiny)
{
    struct index_writer *writer;
    struct index_file from;
    struct format_stop stop = {0};
    struct fathom_error err = {0};
    uint64_t copied = 0;
    assert_int_equal(index_file_open(&from, env_os(), fixture->dir, NULL), 0);
    tiny->properties.generation++;
    assert_int_equal(index_writer_create(&writer, env_os(), fixture->dir, &tiny->properties, NULL),
                     0);
    for (uint32_t i = 0; i < from.super.section_count; i++)
        if (index_writer_copy(writer, &from, &from.super.sections[i], count_pages, &copied, &err))
            fail_msg("copying: %s", err.msg);
    if (index_writer_publish(writer, &stop, &err) != 0)
        fail_msg("publishing: %s", err.msg);
    assert_int_equal(copied + 1, from.super.file_pages);
    index_file_close(&from);
    expect_image(fixture, tiny);
}

static void round_trip(const struct fixture *fixture, const struct tiny_options *options,
                       size_t piece_rows)
{
    struct tiny_index tiny;
    struct fathom_verify_report report;
    struct fathom_error err = {0};
    tiny_make(&tiny, options);
    write_or_fail(fixture, &tiny, piece_rows);
    expect_image(fixture, &tiny);
    expect_content(fixture, &tiny);
    expect_copy(fixture, &tiny);
    if (fathom_verify(fixture->dir, true, &report, NULL, NULL, &err) != 0)
        fail_msg("verify: %s", err.msg);
    assert_int_equal(folder_count(fixture->dir, ""), 1);
    tiny_free(&tiny);
}

/* ---- */

static void streams_of_every_length_come_back(void **state)
{
    static const size_t pages[] = {1, 2, WRITER_BUFFER_PAGES - 1, WRITER_BUFFER_PAGES,
                                   2 * WRITER_BUFFER_PAGES};
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++)
        for (int off = -1; off <= 1; off++) {
            struct tiny_options options = {.rows = 5,
                                           .dim = 4,
                                           .dtype = FATHOM_U8,
                                           .metric = FATHOM_METRIC_L2,
                                           .manifest_bytes = pages[i] * PAGE_PAYLOAD + (size_t)off};
            round_trip(*state, &options, 0);
        }
}

static void row_stores_of_every_shape_come_back(void **state)
{
    static const struct tiny_options shapes[] = {
        /* records and vectors of a row: */
        {.rows = 3, .dim = 1, .dtype = FATHOM_U8, .metric = FATHOM_METRIC_L2},      /* 1, exact */
        {.rows = 1, .dim = 1, .dtype = FATHOM_F32, .metric = FATHOM_METRIC_COS},    /* 5, 4 */
        {.rows = 1000, .dim = 7, .dtype = FATHOM_F16, .metric = FATHOM_METRIC_COS}, /* 11, 14 */
        {.rows = 600, .dim = 6, .dtype = FATHOM_I8, .metric = FATHOM_METRIC_IP},    /* 11, 6 */
        {.rows = 40, .dim = 1021, .dtype = FATHOM_F32, .metric = FATHOM_METRIC_L2}, /* 1025, 4084 */
        {.rows = 40,
         .dim = 1022,
         .dtype = FATHOM_F32,
         .metric = FATHOM_METRIC_L2}, /* 1026, 4088: just a page */
        {.rows = 40,
         .dim = 1023,
         .dtype = FATHOM_F32,
         .metric = FATHOM_METRIC_IP}, /* 1028, 4092: just above */
        {.rows = 9, .dim = 4084, .dtype = FATHOM_U8, .metric = FATHOM_METRIC_COS}, /* 4088, 4084 */
        {.rows = 9, .dim = 4088, .dtype = FATHOM_U8, .metric = FATHOM_METRIC_L2},  /* 4088, exact */
        {.rows = 9, .dim = 4089, .dtype = FATHOM_I8, .metric = FATHOM_METRIC_L2},  /* 4089, exact */
        {.rows = 9,
         .dim = 4088,
         .dtype = FATHOM_F16,
         .metric = FATHOM_METRIC_COS}, /* 4092, 2 whole pages */
        {.rows = 30,
         .dim = 4096,
         .dtype = FATHOM_F32,
         .metric = FATHOM_METRIC_IP}, /* 4101, 16384 */
        {.rows = 4088,
         .dim = 2,
         .dtype = FATHOM_U8,
         .metric = FATHOM_METRIC_L2}, /* 2044 rows a page, twice */
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (size_t piece = 0; piece < 3; piece++)
            round_trip(*state, &shapes[i], piece);
}

static void any_range_of_a_stream_can_be_read(void **state)
{
    const struct fixture *fixture = *state;
    struct tiny_options options = {.rows = 4,
                                   .dim = 4,
                                   .dtype = FATHOM_U8,
                                   .metric = FATHOM_METRIC_L2,
                                   .manifest_bytes = 5 * PAGE_PAYLOAD + 100};
    struct tiny_index tiny;
    struct index_file file;
    struct prng prng;
    tiny_make(&tiny, &options);
    struct tiny_section *manifest = &tiny.sections[SECTION_MANIFEST];
    prng_init(&prng, 3, 0);
    for (size_t i = 0; i < manifest->bytes; i++)
        manifest->data[i] = (uint8_t)prng_next(&prng);
    write_or_fail(fixture, &tiny, 0);
    assert_int_equal(index_file_open(&file, env_os(), fixture->dir, NULL), 0);
    const struct section *s = superblock_find(&file.super, SECTION_MANIFEST);
    for (int round = 0; round < 3000; round++) {
        uint64_t offset = prng_below(&prng, (uint32_t)manifest->bytes + 1);
        size_t bytes = prng_below(&prng, (uint32_t)(manifest->bytes - offset) + 1);
        uint8_t *out = malloc(bytes + 1);
        out[bytes] = 0x77;
        assert_int_equal(index_file_read(&file, s, offset, out, bytes, NULL), 0);
        assert_memory_equal(out, manifest->data + offset, bytes);
        assert_int_equal(out[bytes], 0x77);
        free(out);
    }
    index_file_close(&file);
    tiny_free(&tiny);
}

static void a_range_outside_of_a_stream_is_refused(void **state)
{
    const struct fixture *fixture = *state;
    struct tiny_options options = {
        .rows = 4, .dim = 4, .dtype = FATHOM_U8, .metric = FATHOM_METRIC_L2};
    struct tiny_index tiny;
    struct index_file file;
    uint8_t out[64];
    tiny_make(&tiny, &options);
    write_or_fail(fixture, &tiny, 0);
    assert_int_equal(index_file_open(&file, env_os(), fixture->dir, NULL), 0);
    const struct section *s = superblock_find(&file.super, SECTION_IDS);
    const uint64_t ranges[][2] = {
        {0, s->bytes + 1}, {s->bytes, 1}, {s->bytes + 1, 0}, {UINT64_MAX, 1}, {1, SIZE_MAX}};
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        struct fathom_error err = {0};
        assert_int_equal(index_file_read(&file, s, ranges[i][0], out, ranges[i][1], &err),
                         FATHOM_ECORRUPT);
        assert_non_null(strstr(err.msg, "section ids"));
    }
    index_file_close(&file);
    tiny_free(&tiny);
}

static int stop_at_once(void *context, const uint8_t *payload, size_t bytes,
                        struct fathom_error *err)
{
    (void)payload;
    (void)bytes;
    (void)err;
    ++*(unsigned *)context;
    return -ECANCELED;
}

static void a_visitor_can_stop_a_stream(void **state)
{
    const struct fixture *fixture = *state;
    struct tiny_options options = {.rows = 4,
                                   .dim = 4,
                                   .dtype = FATHOM_U8,
                                   .metric = FATHOM_METRIC_L2,
                                   .manifest_bytes = 600 * PAGE_PAYLOAD};
    struct tiny_index tiny;
    struct index_file file;
    unsigned visits = 0;
    tiny_make(&tiny, &options);
    write_or_fail(fixture, &tiny, 0);
    assert_int_equal(index_file_open(&file, env_os(), fixture->dir, NULL), 0);
    const struct section *s = superblock_find(&file.super, SECTION_MANIFEST);
    assert_int_equal(index_file_stream(&file, s, stop_at_once, &visits, NULL), -ECANCELED);
    assert_int_equal(visits, 1);
    index_file_close(&file);
    tiny_free(&tiny);
}

static void a_damaged_page_ends_a_stream_by_name(void **state)
{
    const struct fixture *fixture = *state;
    struct tiny_options options = {.rows = 4,
                                   .dim = 4,
                                   .dtype = FATHOM_U8,
                                   .metric = FATHOM_METRIC_L2,
                                   .manifest_bytes = 3 * PAGE_PAYLOAD};
    struct tiny_index tiny;
    struct index_file file;
    struct fathom_error err = {0};
    tiny_make(&tiny, &options);
    write_or_fail(fixture, &tiny, 0);
    file_patch(fixture->path, 2 * PAGE_BYTES + 99, "?", 1);
    assert_int_equal(index_file_open(&file, env_os(), fixture->dir, NULL), 0);
    struct collector all = {.out = malloc(3 * PAGE_PAYLOAD), .room = 3 * PAGE_PAYLOAD};
    const struct section *s = superblock_find(&file.super, SECTION_MANIFEST);
    assert_int_equal(index_file_stream(&file, s, collect, &all, &err), FATHOM_ECHECKSUM);
    assert_int_equal(all.bytes, 0);
    assert_non_null(strstr(err.msg, fixture->path));
    assert_non_null(strstr(err.msg, "section manifest"));
    assert_non_null(strstr(err.msg, "page 2 (offset 8192)"));
    free(all.out);
    index_file_close(&file);
    tiny_free(&tiny);
}

/* ---- the writer's own rules ---- */

static void the_writer_refuses_calls_out_of_turn(void **state)
{
    const struct fixture *fixture = *state;
    struct tiny_options options = {
        .rows = 4, .dim = 4, .dtype = FATHOM_U8, .metric = FATHOM_METRIC_L2};
    struct tiny_index tiny;
    struct index_writer *writer;
    tiny_make(&tiny, &options);
    assert_int_equal(index_writer_create(&writer, env_os(), fixture->dir, &tiny.properties, NULL),
                     0);
    assert_int_equal(index_writer_append(writer, "x", 1, NULL), FATHOM_EARGUMENT);
    assert_int_equal(index_writer_begin(writer, SECTION_RECORDS, 4, NULL), 0);
    assert_int_equal(index_writer_begin(writer, SECTION_VECTORS, 4, NULL), FATHOM_EARGUMENT);
    assert_int_equal(index_writer_append(writer, "12345", 5, NULL), FATHOM_EARGUMENT);
    const uint8_t *parts = (const uint8_t *)"12345";
    assert_int_equal(index_writer_append_parts(writer, parts, parts, 5, 1, NULL), FATHOM_EARGUMENT);
    assert_int_equal(index_writer_append(writer, "12345678", 8, NULL), 0);
    index_writer_abandon(writer);
    assert_int_equal(folder_count(fixture->dir, ".tmp-"), 0);
    tiny_free(&tiny);
}

static void an_index_that_does_not_verify_is_not_published(void **state)
{
    const struct fixture *fixture = *state;
    struct tiny_options options = {
        .rows = 20, .dim = 4, .dtype = FATHOM_U8, .metric = FATHOM_METRIC_L2};
    struct tiny_index tiny;
    struct fathom_error err = {0};
    size_t before_bytes, after_bytes;
    tiny_make(&tiny, &options);
    write_or_fail(fixture, &tiny, 0);
    uint8_t *before = file_load(fixture->path, &before_bytes);
    tiny.properties.generation++;
    tiny.sections[SECTION_ENTRIES].data[0] = 20; /* one beyond the last row */
    assert_int_equal(tiny_write(&tiny, env_os(), fixture->dir, 0, &err), FATHOM_ECORRUPT);
    assert_non_null(strstr(err.msg, "entry point"));
    uint8_t *after = file_load(fixture->path, &after_bytes);
    assert_int_equal(before_bytes, after_bytes);
    assert_memory_equal(before, after, before_bytes);
    assert_int_equal(folder_count(fixture->dir, ""), 1);
    free(before);
    free(after);
    tiny_free(&tiny);
}

static void a_missing_section_is_not_published(void **state)
{
    const struct fixture *fixture = *state;
    struct tiny_options options = {
        .rows = 20, .dim = 4, .dtype = FATHOM_U8, .metric = FATHOM_METRIC_L2};
    for (int kind = SECTION_MANIFEST; kind < SECTION_VECTORS; kind++) {
        struct tiny_index tiny;
        tiny_make(&tiny, &options);
        free(tiny.sections[kind].data);
        tiny.sections[kind].data = NULL;
        assert_int_equal(tiny_write(&tiny, env_os(), fixture->dir, 0, NULL), FATHOM_ECORRUPT);
        assert_int_equal(folder_count(fixture->dir, ".tmp-"), 0);
        tiny_free(&tiny);
    }
}

/* Writes all sections but the last, makes the file openable, and goes on: the bytes must be those
 * of one go. */
static void a_checkpoint_can_be_opened_and_changes_nothing(void **state)
{
    const struct fixture *fixture = *state;
    struct tiny_options options = {
        .rows = 90, .dim = 30, .dtype = FATHOM_F32, .metric = FATHOM_METRIC_L2, .points = 5};
    struct tiny_index tiny;
    struct index_writer *writer;
    struct index_file file;
    struct fathom_verify_report report;
    tiny_make(&tiny, &options);
    assert_int_equal(index_writer_create(&writer, env_os(), fixture->dir, &tiny.properties, NULL),
                     0);
    for (int kind = SECTION_MANIFEST; kind < SECTION_END; kind++) {
        const struct tiny_section *s = &tiny.sections[kind];
        if (kind == SECTION_POINTS) {
            assert_int_equal(index_writer_checkpoint(writer, NULL), 0);
            assert_int_equal(index_file_open_path(&file, env_os(), index_writer_path(writer), NULL),
                             0);
            assert_int_equal(index_file_verify(&file, true, &report, NULL, NULL, NULL, NULL), 0);
            index_file_close(&file);
        }
        assert_int_equal(tiny_write_section(writer, kind, s, 0, NULL), 0);
    }
    assert_false(file_exists(fixture->path));
    assert_int_equal(index_writer_publish(writer, NULL, NULL), 0);
    expect_image(fixture, &tiny);
    tiny_free(&tiny);
}

static void debris_of_a_killed_run_is_removed(void **state)
{
    const struct fixture *fixture = *state;
    struct tiny_options options = {
        .rows = 20, .dim = 4, .dtype = FATHOM_U8, .metric = FATHOM_METRIC_L2};
    char debris[FOLDER_PATH_MAX];
    folder_name(fixture->dir, FORMAT_FILE_NAME ".tmp-0123", debris);
    file_store(debris, "x", 1);
    round_trip(fixture, &options, 0);
    assert_false(file_exists(debris));
}

static void equal_content_gives_equal_bytes_however_it_is_handed_over(void **state)
{
    const struct fixture *fixture = *state;
    struct tiny_options options = {
        .rows = 100, .dim = 60, .dtype = FATHOM_F32, .metric = FATHOM_METRIC_L2};
    struct tiny_index tiny;
    tiny_make(&tiny, &options);
    for (size_t piece = 0; piece < 100; piece += 7) {
        write_or_fail(fixture, &tiny, piece);
        expect_image(fixture, &tiny);
    }
    tiny_free(&tiny);
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_fixture, free_fixture)

static const struct CMUnitTest tests[] = {
    WITH_FOLDER(streams_of_every_length_come_back),
    WITH_FOLDER(row_stores_of_every_shape_come_back),
    WITH_FOLDER(any_range_of_a_stream_can_be_read),
    WITH_FOLDER(a_range_outside_of_a_stream_is_refused),
    WITH_FOLDER(a_visitor_can_stop_a_stream),
    WITH_FOLDER(a_damaged_page_ends_a_stream_by_name),
    WITH_FOLDER(the_writer_refuses_calls_out_of_turn),
    WITH_FOLDER(an_index_that_does_not_verify_is_not_published),
    WITH_FOLDER(a_missing_section_is_not_published),
    WITH_FOLDER(a_checkpoint_can_be_opened_and_changes_nothing),
    WITH_FOLDER(debris_of_a_killed_run_is_removed),
    WITH_FOLDER(equal_content_gives_equal_bytes_however_it_is_handed_over),
};

FATHOM_TEST_MAIN(tests)
