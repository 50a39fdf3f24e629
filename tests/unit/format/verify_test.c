/* fathom_verify finds what is damaged and names it: pages by their checksums, and, deep, content
 * that no checksum can tell from right: references that lead nowhere, under checksums that are
 * right. */
#include "fathom_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "centroids.h"
#include "folder.h"
#include "lists.h"
#include "tiny_index.h"

#define ROWS 50

struct fixture {
    char dir[FOLDER_PATH_MAX], path[FOLDER_PATH_MAX];
    struct tiny_index tiny;
    uint8_t *image;
    size_t bytes;
};

static int make_fixture(void **state)
{
    struct tiny_options options = {.rows = ROWS,
                                   .dim = 10,
                                   .dtype = FATHOM_F32,
                                   .metric = FATHOM_METRIC_L2,
                                   .degree = 6,
                                   .points = 3};
    struct fixture *fixture = calloc(1, sizeof *fixture);
    folder_make_fast(fixture->dir);
    folder_name(fixture->dir, FORMAT_FILE_NAME, fixture->path);
    tiny_make(&fixture->tiny, &options);
    fixture->image = tiny_image(&fixture->tiny, &fixture->bytes);
    *state = fixture;
    return 0;
}

static int free_fixture(void **state)
{
    struct fixture *fixture = *state;
    folder_remove(fixture->dir);
    tiny_free(&fixture->tiny);
    free(fixture->image);
    free(fixture);
    return 0;
}

/* What damage() was told. */
struct told {
    unsigned count;
    char first[512];
};

static void tell(void *context, const char *what)
{
    struct told *told = context;
    if (told->count++ == 0)
        snprintf(told->first, sizeof told->first, "%s", what);
}

static int verify(const struct fixture *fixture, bool deep, struct fathom_verify_report *report,
                  struct told *told, struct fathom_error *err)
{
    *told = (struct told){0};
    *err = (struct fathom_error){0};
    file_store(fixture->path, fixture->image, fixture->bytes);
    return fathom_verify(fixture->dir, deep, report, tell, told, err);
}

/* A change of content with a right checksum: the pages pass, deep finds it. */
static void expect_found(const struct fixture *fixture, const char *part, uint64_t bad_references)
{
    struct fathom_verify_report report;
    struct told told;
    struct fathom_error err;
    assert_int_equal(verify(fixture, false, &report, &told, &err), 0);
    assert_int_equal(told.count, 0);
    assert_int_equal(verify(fixture, true, &report, &told, &err), FATHOM_ECORRUPT);
    assert_int_equal(report.bad_pages, 0);
    assert_int_equal(report.bad_references, bad_references);
    assert_true(told.count > 0);
    if (!strstr(told.first, part) || !strstr(told.first, fixture->dir) || !strstr(err.msg, part))
        fail_msg("'%s' and '%s' do not say '%s'", told.first, err.msg, part);
}

/* Changes bytes of a section and seals their page again. */
static void change(struct fixture *fixture, enum section_kind kind, uint64_t offset,
                   const void *data, size_t bytes)
{
    uint8_t *at = image_at(fixture->image, fixture->bytes, kind, offset);
    memcpy(at, data, bytes);
    image_seal(fixture->image, (uint64_t)(at - fixture->image) / PAGE_BYTES);
}

static void change_u32(struct fixture *fixture, enum section_kind kind, uint64_t offset,
                       uint32_t value)
{
    change(fixture, kind, offset, &value, sizeof value);
}

/* Replaces the whole list of a row; its length must not change. */
static void change_list(struct fixture *fixture, uint32_t row, uint32_t *neighbours,
                        uint32_t degree)
{
    uint8_t list[1024];
    size_t bytes;
    uint64_t at = tiny_list_at(&fixture->tiny, row, &bytes);
    assert_int_equal(list_encode(row, neighbours, degree, ROWS, list), bytes);
    change(fixture, SECTION_LISTS, at, list, bytes);
}

/* ---- */

static void a_sound_index_passes_with_all_its_pages_and_references(void **state)
{
    const struct fixture *fixture = *state;
    struct fathom_verify_report report;
    struct told told;
    struct fathom_error err;
    assert_int_equal(verify(fixture, true, &report, &told, &err), 0);
    assert_int_equal(report.pages, fixture->bytes / PAGE_BYTES);
    assert_int_equal(report.references,
                     ROWS * 6 + 2 + 3 + 1 + 3); /* lists, centroids, cells, entries, points */
    assert_int_equal(report.bad_pages + report.bad_references + report.unreachable_rows, 0);
    assert_int_equal(told.count, 0);
}

/* Lists are read in chunks of 256 pages; each row of this ring names those round it alone, so that
 * a walk goes through all chunks, in both directions. */
static void a_graph_of_several_chunks_is_walked_to_its_end(void **state)
{
    const struct tiny_options options = {
        .rows = 120000, .dim = 1, .dtype = FATHOM_U8, .metric = FATHOM_METRIC_L2, .degree = 12};
    struct fixture large;
    struct fathom_verify_report report;
    struct told told;
    struct fathom_error err;
    (void)state;
    folder_make_fast(large.dir);
    folder_name(large.dir, FORMAT_FILE_NAME, large.path);
    tiny_make(&large.tiny, &options);
    large.image = tiny_image(&large.tiny, &large.bytes);
    assert_true(large.tiny.sections[SECTION_LISTS].bytes > (size_t)300 * PAGE_PAYLOAD);
    assert_int_equal(verify(&large, true, &report, &told, &err), 0);
    assert_int_equal(report.bad_references + report.unreachable_rows, 0);
    assert_true(report.references >= 12 * (uint64_t)options.rows);
    change_u32(&large, SECTION_ENTRIES, 0, options.rows);
    assert_int_equal(verify(&large, true, &report, &told, &err), FATHOM_ECORRUPT);
    assert_int_equal(report.unreachable_rows, options.rows);
    assert_true(report.references >= 12 * (uint64_t)options.rows); /* they were looked at */
    folder_remove(large.dir);
    tiny_free(&large.tiny);
    free(large.image);
}

static void each_damaged_page_is_named(void **state)
{
    struct fixture *fixture = *state;
    for (size_t page = 1; page < fixture->bytes / PAGE_BYTES; page++) {
        struct fathom_verify_report report;
        struct told told;
        struct fathom_error err;
        char where[96];
        snprintf(where, sizeof where, "checksum mismatch in page %zu (offset %zu)", page,
                 page * PAGE_BYTES);
        for (int deep = 0; deep < 2; deep++) {
            fixture->image[page * PAGE_BYTES + 8 + page] ^= 0x10;
            assert_int_equal(verify(fixture, deep, &report, &told, &err), FATHOM_ECHECKSUM);
            fixture->image[page * PAGE_BYTES + 8 + page] ^= 0x10;
            assert_int_equal(report.bad_pages, 1);
            assert_int_equal(told.count, 1);
            assert_non_null(strstr(told.first, where));
            assert_non_null(strstr(err.msg, where));
            assert_non_null(strstr(err.msg, fixture->path));
        }
    }
}

static void all_damaged_pages_are_counted(void **state)
{
    struct fixture *fixture = *state;
    struct fathom_verify_report report;
    struct told told;
    struct fathom_error err;
    size_t pages = fixture->bytes / PAGE_BYTES;
    for (size_t page = 1; page < pages; page++)
        fixture->image[page * PAGE_BYTES + 4095] ^= 1;
    assert_int_equal(verify(fixture, true, &report, &told, &err), FATHOM_ECHECKSUM);
    assert_int_equal(report.bad_pages, pages - 1);
    assert_int_equal(told.count, pages - 1);
}

static void an_entry_point_beyond_the_rows_is_found(void **state)
{
    change_u32(*state, SECTION_ENTRIES, 0, ROWS);
    /* Where nothing leads in, nothing can be reached either. */
    struct fixture *fixture = *state;
    struct fathom_verify_report report;
    struct told told;
    struct fathom_error err;
    assert_int_equal(verify(fixture, true, &report, &told, &err), FATHOM_ECORRUPT);
    assert_int_equal(report.bad_references, 1);
    assert_int_equal(report.unreachable_rows, ROWS);
    assert_non_null(strstr(told.first, "entry point"));
}

static void centroids_out_of_range_are_found(void **state)
{
    struct fixture *fixture = *state;
    const struct properties *p = &fixture->tiny.properties;
    uint32_t dim = p->work_dim;
    uint8_t low = 251, step = 1, value = 0x05, none = 0;
    uint64_t blocks = 2 * (uint64_t)dim, first = centroids_byte(0, 0),
             second = centroids_byte(1, 0);
    change(fixture, SECTION_CENTROIDS, 0, &low, 1);
    change(fixture, SECTION_CENTROIDS, dim, &step, 1);
    change(fixture, SECTION_CENTROIDS, blocks + first, &value, 1);
    change(fixture, SECTION_CENTROIDS, blocks + second, &none, 1);
    expect_found(fixture, "section centroids", 1); /* 256 */
    step = CENTROIDS_STEP + 1;
    low = 0;
    change(fixture, SECTION_CENTROIDS, 0, &low, 1);
    change(fixture, SECTION_CENTROIDS, dim, &step, 1);
    expect_found(fixture, "section centroids", p->cells);
}

static void centroids_of_no_cell_are_found(void **state)
{
    struct fixture *fixture = *state;
    uint32_t dim = fixture->tiny.properties.work_dim, cells = fixture->tiny.properties.cells;
    uint8_t value = 1;
    change(fixture, SECTION_CENTROIDS, 2 * (uint64_t)dim + centroids_byte(cells, 0), &value, 1);
    expect_found(fixture, "section centroids", 1);
}

static void cells_that_do_not_rise_are_found(void **state)
{
    change_u32(*state, SECTION_CELLS, 4, ROWS + 1);
    expect_found(*state, "section cells", 1);
}

static void cells_that_do_not_start_at_0_are_found(void **state)
{
    change_u32(*state, SECTION_CELLS, 0, 1);
    expect_found(*state, "section cells", 1);
}

static void cells_that_do_not_end_at_the_rows_are_found(void **state)
{
    change_u32(*state, SECTION_CELLS, 8, ROWS - 1);
    expect_found(*state, "section cells", 1);
}

static void a_neighbour_that_is_no_row_is_found(void **state)
{
    uint32_t neighbours[6] = {0, 45, 46, 47, 48, ROWS}; /* as long as the ring's */
    change_list(*state, 44, neighbours, 6);
    expect_found(*state, "names a row that does not exist (row 44)", 1);
}

static void a_degree_above_the_largest_is_found(void **state)
{
    struct fixture *fixture = *state;
    uint8_t seven = 7;
    size_t bytes;
    change(fixture, SECTION_LISTS, tiny_list_at(&fixture->tiny, 0, &bytes), &seven, 1);
    expect_found(fixture, "section lists", 1);
}

/* Lengths of two lists that follow each other; the first page has the lengths of its rows first. */
static void change_lengths(struct fixture *fixture, uint32_t row, int by, int next_by)
{
    const uint8_t *lengths = fixture->tiny.sections[SECTION_LISTS].data + row;
    uint8_t changed[2] = {(uint8_t)(lengths[0] + by), (uint8_t)(lengths[1] + next_by)};
    change(fixture, SECTION_LISTS, row, changed, 2);
}

static void lengths_that_do_not_add_up_are_found(void **state)
{
    struct fixture *fixture = *state;
    change_lengths(fixture, ROWS - 2, 0, -1);
    expect_found(fixture, "section lists: lengths do not add up", 2);
}

static void lengths_that_shift_the_lists_are_found(void **state)
{
    change_lengths(*state, 7, 1, -1); /* the sum stays */
    expect_found(*state, "section lists", 2);
}

static void a_list_of_no_bytes_is_found(void **state)
{
    struct fixture *fixture = *state;
    int length = fixture->tiny.sections[SECTION_LISTS].data[7];
    change_lengths(fixture, 7, -length, length);
    expect_found(fixture, "section lists", 3);
}

static void pages_of_lists_that_do_not_hold_the_rows_are_found(void **state)
{
    struct fixture *fixture = *state;
    uint64_t end = fixture->tiny.sections[SECTION_LIST_PAGES].bytes - 4;
    change_u32(fixture, SECTION_LIST_PAGES, end, ROWS - 1);
    expect_found(fixture, "section list_pages", 1);
}

static void ranks_of_more_bytes_than_they_may_hold_are_found(void **state)
{
    struct fixture *fixture = *state;
    uint8_t hottest[ROWS] = {0};
    change(fixture, SECTION_HEAT, 0, hottest, sizeof hottest);
    struct fathom_verify_report report;
    struct told told;
    struct fathom_error err;
    assert_int_equal(verify(fixture, true, &report, &told, &err), FATHOM_ECORRUPT);
    assert_non_null(strstr(told.first, "section heat"));
    assert_true(report.bad_references > 100);
}

static void rows_that_nothing_leads_to_are_found(void **state)
{
    struct fixture *fixture = *state;
    struct fathom_verify_report report;
    struct told told;
    struct fathom_error err;
    /* Row 30 is what rows 24..29 lead to; now they do not. */
    for (uint32_t row = 24; row < 30; row++) {
        uint32_t neighbours[6], count = 0;
        for (uint32_t i = 1; count < 6; i++)
            if (row + i != 30)
                neighbours[count++] = row + i;
        change_list(fixture, row, neighbours, 6);
    }
    assert_int_equal(verify(fixture, false, &report, &told, &err), 0);
    assert_int_equal(verify(fixture, true, &report, &told, &err), FATHOM_ECORRUPT);
    assert_int_equal(report.unreachable_rows, 1);
    assert_int_equal(report.bad_references, 0);
    assert_non_null(strstr(told.first, "1 row cannot be reached"));
}

static void a_model_out_of_range_is_found(void **state)
{
    change_u32(*state, SECTION_MODEL, 16, 0); /* step */
    expect_found(*state, "model section", 1);
}

static void an_operating_point_out_of_range_is_found(void **state)
{
    struct fixture *fixture = *state;
    const struct {
        uint64_t offset;
        uint32_t bad, good;
    } cases[] = {{0, 0, 2}, /* the navigator */
                 {0, 3, 2},
                 {8, 0, 10}, /* k, by which lists are scaled */
                 {8, FATHOM_K_MAX + 1, 10},
                 {12, 0, 10}, /* the list */
                 {12, FATHOM_SEARCH_LIST_MAX + 1, 10},
                 {16, 0xbf800000, 0}, /* figures: -1, NaN, infinity */
                 {16, 0x7fc00000, 0},
                 {20, 0x7fc00000, 0},
                 {24, 0x7f800000, 0},
                 {28, 0x7fc00000, 0},
                 {32, 0x7f800000, 0},
                 {36, 0x7fc00000, 0},
                 {40, 0xff800000, 0},
                 {44, 2, 0}}; /* what it was measured on */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        change_u32(fixture, SECTION_POINTS, 2 * FORMAT_POINT_BYTES + cases[i].offset, cases[i].bad);
        expect_found(fixture, "section points: a value of point 2", 1);
        change_u32(fixture, SECTION_POINTS, 2 * FORMAT_POINT_BYTES + cases[i].offset,
                   cases[i].good);
    }
}

static void codes_of_another_size_than_the_model_says_are_found(void **state)
{
    struct fixture *fixture = *state;
    fixture->tiny.sections[SECTION_CODES].bytes -= ROWS;
    free(fixture->image);
    fixture->image = tiny_image(&fixture->tiny, &fixture->bytes);
    fixture->tiny.sections[SECTION_CODES].bytes += ROWS;
    expect_found(fixture, "section codes", 1);
}

static void factors_of_another_size_than_the_model_says_are_found(void **state)
{
    struct fixture *fixture = *state;
    fixture->tiny.sections[SECTION_FACTORS].bytes -= 4;
    free(fixture->image);
    fixture->image = tiny_image(&fixture->tiny, &fixture->bytes);
    expect_found(fixture, "factors", 1);
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_fixture, free_fixture)

static const struct CMUnitTest tests[] = {
    WITH_FOLDER(a_sound_index_passes_with_all_its_pages_and_references),
    WITH_FOLDER(a_graph_of_several_chunks_is_walked_to_its_end),
    WITH_FOLDER(each_damaged_page_is_named),
    WITH_FOLDER(all_damaged_pages_are_counted),
    WITH_FOLDER(an_entry_point_beyond_the_rows_is_found),
    WITH_FOLDER(centroids_out_of_range_are_found),
    WITH_FOLDER(centroids_of_no_cell_are_found),
    WITH_FOLDER(cells_that_do_not_rise_are_found),
    WITH_FOLDER(cells_that_do_not_start_at_0_are_found),
    WITH_FOLDER(cells_that_do_not_end_at_the_rows_are_found),
    WITH_FOLDER(a_neighbour_that_is_no_row_is_found),
    WITH_FOLDER(a_degree_above_the_largest_is_found),
    WITH_FOLDER(lengths_that_do_not_add_up_are_found),
    WITH_FOLDER(lengths_that_shift_the_lists_are_found),
    WITH_FOLDER(a_list_of_no_bytes_is_found),
    WITH_FOLDER(pages_of_lists_that_do_not_hold_the_rows_are_found),
    WITH_FOLDER(ranks_of_more_bytes_than_they_may_hold_are_found),
    WITH_FOLDER(rows_that_nothing_leads_to_are_found),
    WITH_FOLDER(a_model_out_of_range_is_found),
    WITH_FOLDER(an_operating_point_out_of_range_is_found),
    WITH_FOLDER(codes_of_another_size_than_the_model_says_are_found),
    WITH_FOLDER(factors_of_another_size_than_the_model_says_are_found),
};

FATHOM_TEST_MAIN(tests)
