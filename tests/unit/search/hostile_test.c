/* Indexes that no builder would write, under checksums that are right: opening refuses them, or
 * queries answer something of the index or fail with a typed status. Never a crash, never a hang,
 * never a row that does not exist. */
#include "fathom_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "folder.h"
#include "index.h"
#include "le.h"
#include "prng_unit.h"
#include "tiny_index.h"

#define ROWS    200
#define DIM     20
#define QUERIES 6

struct fixture {
    char dir[FOLDER_PATH_MAX], path[FOLDER_PATH_MAX];
    struct tiny_index tiny;
    uint8_t *image;
    size_t bytes;
    float queries[QUERIES * DIM];
};

static int make_fixture(void **state)
{
    struct tiny_options options = {.rows = ROWS,
                                   .dim = DIM,
                                   .dtype = FATHOM_F32,
                                   .metric = FATHOM_METRIC_L2,
                                   .code_dim = 24,
                                   .degree = 8,
                                   .points = 6};
    struct fixture *fixture = calloc(1, sizeof *fixture);
    struct prng prng;
    folder_make_fast(fixture->dir);
    folder_name(fixture->dir, FORMAT_FILE_NAME, fixture->path);
    tiny_make(&fixture->tiny, &options);
    fixture->image = tiny_image(&fixture->tiny, &fixture->bytes);
    prng_init(&prng, 9, 0);
    for (int i = 0; i < QUERIES * DIM; i++)
        fixture->queries[i] = (float)(20 * prng_unit(&prng) - 10);
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

/* ---- what may come of it ---- */

static const int typed[] = {0, FATHOM_ECORRUPT, FATHOM_EVERSION, FATHOM_ECHECKSUM};

static bool is_typed(int status)
{
    for (size_t i = 0; i < sizeof typed / sizeof typed[0]; i++)
        if (status == typed[i])
            return true;
    return false;
}

/* Ids of rows are 7 * row + 3 unless the ids are what was changed. */
static void check_answers(const struct answers *answers, bool ids_are_known)
{
    for (uint32_t q = 0; q < answers->count; q++) {
        const struct answer *answer = &answers->all[q];
        if (!is_typed(answer->status))
            fail_msg("query %u: %d (%s)", q, answer->status, answer->detail);
        if (answer->status && !answer->detail[0])
            fail_msg("query %u: %d without a detail", q, answer->status);
        for (uint32_t i = 0; answer->status == 0 && ids_are_known && i < answer->count; i++)
            if (answer->ids[i] % 7 != 3 || answer->ids[i] / 7 >= ROWS)
                fail_msg("query %u: %llu is no id of a row", q, (unsigned long long)answer->ids[i]);
    }
}

enum residency { CELLS, ROWS8, CODES, PARTLY, RESIDENCIES };

/* Opens at each residency and asks. Returns how many of them opened. */
static unsigned survive(const struct fixture *fixture, bool ids_are_known, struct fathom_error *err)
{
    unsigned opened = 0;
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 4);
    file_store(fixture->path, fixture->image, fixture->bytes);
    for (int variant = 0; variant < RESIDENCIES; variant++) {
        struct fathom_open_options options = {.threads = 1, .inflight = 4};
        struct fathom_index *index;
        options.navigator = variant == CELLS ? FATHOM_NAVIGATOR_CELLS : FATHOM_NAVIGATOR_GRAPH;
        options.code_bytes = variant == CODES || variant == PARTLY ? 6 : 0;
        options.list_share = variant == PARTLY ? 0.4f : 0;
        int status = fathom_index_open(&index, fixture->dir, &options, err);
        if (status != 0 && (!err->msg[0] || (!is_typed(status) && status != FATHOM_EARGUMENT &&
                                             status != FATHOM_EBUDGET)))
            fail_msg("opening: %d (%s)", status, err->msg);
        if (status != 0)
            continue;
        opened++;
        for (int exact = 0; exact < 2; exact++) {
            struct fathom_query request = fathom_query_default();
            struct answers answers;
            request.exact_distances = exact;
            request.search_list = 40;
            answers_get(&answers, engine, index, &request, fixture->queries, DIM, QUERIES, 4);
            check_answers(&answers, ids_are_known);
            answers_free(&answers);
        }
        fathom_index_close(index);
    }
    fathom_engine_destroy(engine);
    return opened;
}

/* Opening refuses it, where what was changed is loaded at all. */
static void expect_refused(const struct fixture *fixture, unsigned may_open, const char *part)
{
    struct fathom_error err = {0};
    unsigned opened = survive(fixture, true, &err);
    if (opened != may_open || !strstr(err.msg, part) || !strstr(err.msg, fixture->dir))
        fail_msg("%u of 4 residencies open; '%s' does not say '%s'", opened, err.msg, part);
}

/* ---- one change at a time ---- */

static void the_fixture_itself_opens_everywhere(void **state)
{
    struct fathom_error err;
    assert_int_equal(survive(*state, true, &err), RESIDENCIES);
}

static void entry_points_beyond_the_rows_are_refused(void **state)
{
    change_u32(*state, SECTION_ENTRIES, 0, ROWS);
    expect_refused(*state, 1, "section entries");
}

static void centroids_of_too_large_steps_are_refused(void **state)
{
    uint8_t step = CENTROIDS_STEP + 1;
    change(*state, SECTION_CENTROIDS, DIM, &step, 1);
    expect_refused(*state, 1, "section centroids");
}

static void centroids_that_are_no_rows_are_refused(void **state)
{
    uint8_t low = 255, step = CENTROIDS_STEP;
    for (uint32_t d = 0; d < DIM; d++) {
        change(*state, SECTION_CENTROIDS, d, &low, 1);
        change(*state, SECTION_CENTROIDS, DIM + d, &step, 1);
    }
    expect_refused(*state, 1, "section centroids");
}

static void cells_that_do_not_rise_are_refused(void **state)
{
    change_u32(*state, SECTION_CELLS, 4, ROWS + 1);
    expect_refused(*state, 1, "section cells");
}

static void cells_that_start_late_or_end_early_are_refused(void **state)
{
    struct fixture *fixture = *state;
    change_u32(fixture, SECTION_CELLS, 0, 1);
    expect_refused(fixture, 1, "section cells");
    change_u32(fixture, SECTION_CELLS, 0, 0);
    change_u32(fixture, SECTION_CELLS, 8, ROWS - 1);
    expect_refused(fixture, 1, "section cells");
    change_u32(fixture, SECTION_CELLS, 8, UINT32_MAX);
    expect_refused(fixture, 1, "section cells");
}

static void list_lengths_that_do_not_add_up_are_refused(void **state)
{
    uint8_t none = 0, two = 2;
    change(*state, SECTION_LISTS, 11, &none, 1);
    expect_refused(*state, 1, "section lists");
    change(*state, SECTION_LISTS, 11, &two, 1);
    expect_refused(*state, 1, "section lists");
}

static void lists_that_leave_their_page_are_refused(void **state)
{
    uint8_t lengths[ROWS];
    memset(lengths, 0xff, sizeof lengths);
    change(*state, SECTION_LISTS, 0, lengths, sizeof lengths);
    expect_refused(*state, 1, "section lists");
}

static void pages_of_lists_that_do_not_rise_are_refused(void **state)
{
    struct fixture *fixture = *state;
    const uint64_t end = fixture->tiny.sections[SECTION_LIST_PAGES].bytes - 4;
    const struct {
        uint64_t at;
        uint32_t value;
    } bad[] = {{0, 1}, {end, ROWS - 1}, {end, ROWS + 1}, {end, UINT32_MAX}, {0, UINT32_MAX}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        change_u32(fixture, SECTION_LIST_PAGES, 0, 0);
        change_u32(fixture, SECTION_LIST_PAGES, end, ROWS);
        change_u32(fixture, SECTION_LIST_PAGES, bad[i].at, bad[i].value);
        expect_refused(fixture, 1, "section list_pages");
    }
}

/* Ranks of more bytes than they may hold, where they decide what is resident. */
static void lists_that_are_all_hot_are_refused(void **state)
{
    uint8_t hottest[ROWS] = {0};
    change(*state, SECTION_HEAT, 0, hottest, sizeof hottest);
    expect_refused(*state, 3, "section heat");
}

static void a_search_list_of_an_operating_point_out_of_range_is_refused(void **state)
{
    struct fixture *fixture = *state;
    const uint32_t bad[] = {0, FATHOM_SEARCH_LIST_MAX + 1, UINT32_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct fathom_error err = {0};
        for (int point = 0; point < 6; point++)
            change_u32(fixture, SECTION_POINTS, point * FORMAT_POINT_BYTES + 12, bad[i]);
        assert_in_range(survive(fixture, true, &err), 0, 3);
        assert_non_null(strstr(err.msg, "section points"));
    }
}

static void codes_of_another_size_than_the_model_says_are_refused(void **state)
{
    struct fixture *fixture = *state;
    fixture->tiny.sections[SECTION_CODES].bytes -= ROWS;
    free(fixture->image);
    fixture->image = tiny_image(&fixture->tiny, &fixture->bytes);
    expect_refused(fixture, 0, "section codes");
}

/* Lists whose values are wider than what they have: known only when a walk comes by. That a
 * neighbour is a row is checked at the same place (codec_lists_test). */
static void a_list_that_does_not_decode_fails_the_query_that_meets_it(void **state)
{
    struct fixture *fixture = *state;
    for (uint32_t row = 0; row < ROWS; row++) {
        uint8_t widest = 0xff; /* the classes of the first four */
        size_t bytes;
        change(fixture, SECTION_LISTS, tiny_list_at(&fixture->tiny, row, &bytes) + 1, &widest, 1);
    }
    struct fathom_error err;
    struct fathom_index *index;
    struct fathom_open_options options = fathom_open_options_default();
    options.navigator = FATHOM_NAVIGATOR_GRAPH;
    assert_int_equal(survive(fixture, true, &err), RESIDENCIES);
    for (int partly = 0; partly < 2; partly++) {
        options.list_share = partly ? 0.001f : 0;
        assert_int_equal(fathom_index_open(&index, fixture->dir, &options, NULL), 0);
        struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 4);
        struct fathom_query request = fathom_query_default();
        struct answers answers;
        answers_get(&answers, engine, index, &request, fixture->queries, DIM, QUERIES, 4);
        for (uint32_t q = 0; q < QUERIES; q++) {
            assert_int_equal(answers.all[q].status, FATHOM_ECORRUPT);
            assert_non_null(strstr(answers.all[q].detail, "section lists"));
            assert_non_null(strstr(answers.all[q].detail, fixture->path));
        }
        answers_free(&answers);
        fathom_engine_destroy(engine);
        fathom_index_close(index);
    }
}

/* A graph that leads round and round is walked once. */
static void cycles_end(void **state)
{
    struct fixture *fixture = *state;
    uint32_t neighbours[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    for (uint32_t row = 8; row < 100; row++) {
        uint8_t list[64];
        size_t bytes;
        uint64_t at = tiny_list_at(&fixture->tiny, row, &bytes);
        if (list_encode(row, neighbours, 8, (uint32_t)fixture->tiny.properties.rows, list) == bytes)
            change(fixture, SECTION_LISTS, at, list, bytes);
    }
    struct fathom_error err;
    assert_int_equal(survive(fixture, true, &err), RESIDENCIES);
}

/* ---- many at random ---- */

static void random_changes_are_survived(void **state)
{
    struct fixture *fixture = *state;
    struct prng prng;
    uint8_t *good = malloc(fixture->bytes);
    unsigned opened = 0, refused = 0;
    memcpy(good, fixture->image, fixture->bytes);
    prng_init(&prng, 21, 0);
    for (int round = 0; round < 1500; round++) {
        struct fathom_error err = {0};
        bool ids = false;
        memcpy(fixture->image, good, fixture->bytes);
        for (uint32_t n = 0; n <= prng_below(&prng, 6); n++) {
            /* All sections alike, or the small ones that steer would hardly be met. */
            enum section_kind kind =
                SECTION_MODEL + prng_below(&prng, SECTION_POINTS - SECTION_MODEL + 1);
            uint64_t offset = prng_below(&prng, (uint32_t)fixture->tiny.sections[kind].bytes);
            uint64_t draw = prng_next(&prng);
            uint8_t *byte = image_at(fixture->image, fixture->bytes, kind, offset);
            uint8_t value =
                draw % 3 ? (uint8_t)(*byte ^ (1u << (draw >> 8) % 8)) : (uint8_t)(draw >> 8);
            change(fixture, kind, offset, &value, 1);
            ids = ids || kind == SECTION_IDS;
        }
        unsigned now = survive(fixture, !ids, &err);
        opened += now;
        refused += 3 - now;
    }
    free(good);
    assert_true(opened > 500 && refused > 100);
}

/* The superblock too: what passes its checks must be consistent with the file. */
static void random_superblocks_are_survived(void **state)
{
    struct fixture *fixture = *state;
    struct prng prng;
    uint8_t *good = malloc(fixture->bytes);
    memcpy(good, fixture->image, fixture->bytes);
    prng_init(&prng, 22, 0);
    unsigned opened = 0;
    for (int round = 0; round < 3000; round++) {
        struct fathom_error err = {0};
        memcpy(fixture->image, good, fixture->bytes);
        uint32_t at = 32 + prng_below(&prng, 124 - 32);
        fixture->image[at] =
            prng_below(&prng, 2) ? (uint8_t)prng_next(&prng) : (uint8_t)(fixture->image[at] + 1);
        /* Pages are sealed for the generation that the superblock says now. */
        for (uint64_t page = 0; page < fixture->bytes / PAGE_BYTES; page++)
            image_seal(fixture->image, page);
        opened += survive(fixture, false, &err);
    }
    free(good);
    assert_true(opened > 100);
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_fixture, free_fixture)

static const struct CMUnitTest tests[] = {
    WITH_FOLDER(the_fixture_itself_opens_everywhere),
    WITH_FOLDER(entry_points_beyond_the_rows_are_refused),
    WITH_FOLDER(centroids_of_too_large_steps_are_refused),
    WITH_FOLDER(centroids_that_are_no_rows_are_refused),
    WITH_FOLDER(cells_that_do_not_rise_are_refused),
    WITH_FOLDER(cells_that_start_late_or_end_early_are_refused),
    WITH_FOLDER(list_lengths_that_do_not_add_up_are_refused),
    WITH_FOLDER(lists_that_leave_their_page_are_refused),
    WITH_FOLDER(pages_of_lists_that_do_not_rise_are_refused),
    WITH_FOLDER(lists_that_are_all_hot_are_refused),
    WITH_FOLDER(a_search_list_of_an_operating_point_out_of_range_is_refused),
    WITH_FOLDER(codes_of_another_size_than_the_model_says_are_refused),
    WITH_FOLDER(a_list_that_does_not_decode_fails_the_query_that_meets_it),
    WITH_FOLDER(cycles_end),
    WITH_FOLDER(random_changes_are_survived),
    WITH_FOLDER(random_superblocks_are_survived),
};

FATHOM_TEST_MAIN(tests)
