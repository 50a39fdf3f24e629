/* Cells whose codes are read: the same answers whatever part of the codes is in memory and however
 * pages come, as good as with all of them in memory, and within the budget. */
#include "fathom_test.h"

#include <string.h>

#include "answers.h"
#include "bits.h"
#include "engine.h"
#include "index.h"
#include "opened.h"
#include "query.h"
#include "runs.h"
#include "slow.h"

#define DIM     32
#define ROWS    32000 /* ids of 15 bits: some lie on two pages */
#define QUERIES 120

static const enum fathom_io engines[] = {FATHOM_IO_PREAD, FATHOM_IO_URING};

static int make_fixture(void **state)
{
    static const struct shares_how how = {.shares = {1e-6f, 0.3f, 0.8f, 1}, /* the first: none */
                                          .open = scan_open,
                                          .search_list = 12, /* a few of the pages of codes */
                                          .navigator = FATHOM_NAVIGATOR_CELLS};
    const struct small_options options = small_f32(ROWS, DIM, QUERIES, 31);
    struct fathom_error err;
    int status = shares_make(state, &options, &how);
    struct shares *fixture = *state;
    if (least_open(&fixture->least, env_os(), fixture->small.dir, 16, fixture->partly[0], &err) !=
        0)
        fail_msg("%s", err.msg);
    return status;
}

/* ---- */

static void answers_do_not_depend_on_where_codes_are(void **state)
{
    const struct shares *fixture = *state;
    for (int s = 0; s < SHARES; s++)
        shares_expect_right(fixture, fixture->partly[s]);
}

static void nor_on_where_ids_are(void **state)
{
    const struct shares *fixture = *state;
    struct fathom_ledger ledger;
    fathom_index_get_ledger(fixture->least, &ledger);
    for (unsigned i = 0; i < ledger.part_count; i++)
        if (strcmp(ledger.parts[i].name, "ids") == 0)
            assert_int_equal(ledger.parts[i].bytes, 0);
    shares_expect_right(fixture, fixture->least);
}

/* Rows whose ids end on another page than they begin on, asked for by their own vectors. */
static void an_id_may_lie_on_two_pages(void **state)
{
    const struct shares *fixture = *state;
    const unsigned width = fixture->whole->properties.id_bits;
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 1);
    unsigned asked = 0;
    for (uint32_t row = 0; row < ROWS; row++) {
        struct fathom_query request = small_request(&fixture->small, 0);
        uint64_t id = bits_load(fixture->whole->ids, width, row), got = ROWS;
        float distance;
        if (bits_first_byte(width, row) / PAGE_PAYLOAD == bits_last_byte(width, row) / PAGE_PAYLOAD)
            continue;
        request.vector = fixture->small.rows + (size_t)id * DIM;
        request.k = 1;
        assert_int_equal(
            fathom_search(engine, fixture->least, &request, &got, &distance, NULL, NULL), 1);
        assert_int_equal(got, id);
        asked++;
    }
    assert_true(asked > 5);
    fathom_engine_destroy(engine);
}

static uint32_t count_right(const struct shares *fixture, const struct answers *answers)
{
    uint32_t right = 0;
    for (uint32_t q = 0; q < QUERIES; q++)
        right += small_right(&fixture->small, q, answers->all[q].ids, answers->k);
    return right;
}

/* Codes in memory are looked at twice, which may lose one in a while; never the other way round. */
static void they_are_as_good_as_with_codes_in_memory(void **state)
{
    const struct shares *fixture = *state;
    struct answers memory;
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 4);
    shares_ask(&memory, fixture, engine, fixture->whole, 4);
    uint32_t read = count_right(fixture, &fixture->right), kept = count_right(fixture, &memory);
    if (read * 100 < kept * 99 || kept * 2 < QUERIES * memory.k)
        fail_msg("%u right with codes that are read, %u with codes in memory", read, kept);
    answers_free(&memory);
    fathom_engine_destroy(engine);
}

static void counters_tell_where_codes_came_from(void **state)
{
    const struct shares *fixture = *state;
    uint64_t reads[SHARES] = {0}, pages[SHARES] = {0};
    for (int s = 0; s < SHARES; s++) {
        struct answers answers;
        struct fathom_engine *engine = engine_make(FATHOM_IO_AUTO, 16);
        shares_ask(&answers, fixture, engine, fixture->partly[s], 16);
        for (uint32_t q = 0; q < QUERIES; q++) {
            const struct fathom_query_stats *got = &answers.all[q].stats,
                                            *right = &fixture->right.all[q].stats;
            assert_int_equal(got->navigator, FATHOM_NAVIGATOR_CELLS);
            assert_int_equal(got->hops, right->hops);
            assert_int_equal(got->code_distances, right->code_distances);
            assert_int_equal(got->reads - got->code_reads, right->reads - right->code_reads);
            assert_in_range(got->bytes / PAGE_BYTES, got->reads, got->reads * runs_large.pages_max);
            pages[s] += got->bytes / PAGE_BYTES;
            assert_int_equal(got->rounds, (got->code_reads > 0) + (got->reads > got->code_reads));
            assert_string_equal(got->stop_reason, right->stop_reason);
            reads[s] += got->code_reads;
        }
        assert_true(s == 0 || (reads[s] < reads[s - 1] && pages[s] < pages[s - 1]));
        answers_free(&answers);
        fathom_engine_destroy(engine);
    }
    assert_true(reads[0] > QUERIES);
    assert_int_equal(reads[SHARES - 1], 0);
}

/* Ids are one round more, of a page for each result at the most, and no other reads. */
static void ids_are_read_in_a_round_of_their_own(void **state)
{
    const struct shares *fixture = *state;
    struct answers answers;
    struct fathom_engine *engine = engine_make(FATHOM_IO_AUTO, 16);
    shares_ask(&answers, fixture, engine, fixture->least, 16);
    for (uint32_t q = 0; q < QUERIES; q++) {
        const struct fathom_query_stats *got = &answers.all[q].stats,
                                        *right = &fixture->right.all[q].stats;
        assert_int_equal(got->rounds, right->rounds + 1);
        assert_int_equal(got->code_reads, right->code_reads);
        assert_in_range(got->reads - right->reads, 1, answers.k + 1);
        assert_in_range(got->bytes - right->bytes, PAGE_BYTES, 2 * answers.k * PAGE_BYTES);
    }
    answers_free(&answers);
    fathom_engine_destroy(engine);
}

/* Each page of codes of a query is read once; here they are all, and make runs of full length. */
static void no_page_is_read_twice(void **state)
{
    const struct shares *fixture = *state;
    const struct section *scan = fixture->partly[0]->scan.section;
    struct fathom_query request = small_request(&fixture->small, 1);
    struct fathom_query_stats stats;
    uint64_t ids[10];
    float distances[10];
    uint32_t most =
        fixture->partly[0]->arena->together ? runs_large.pages_max : runs_small.pages_max;
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 1);
    request.search_list = FATHOM_SEARCH_LIST_MAX < ROWS ? FATHOM_SEARCH_LIST_MAX : ROWS;
    assert_int_equal(
        fathom_search(engine, fixture->partly[0], &request, ids, distances, &stats, NULL), 10);
    assert_int_equal(stats.code_reads, (scan->page_count + most - 1) / most);
    assert_int_equal(stats.code_distances, ROWS);
    assert_string_equal(stats.stop_reason, "exhausted");
    fathom_engine_destroy(engine);
}

/* ---- memory ---- */

/* From the least on, every budget is kept, and more memory never means more reads of codes. */
static void every_budget_is_kept(void **state)
{
    const struct shares *fixture = *state;
    struct fathom_open_options options = {
        .threads = 1, .inflight = 4, .page_buffers = 32, .code_share = 1};
    struct fathom_outlook outlook;
    uint64_t pages = fixture->partly[0]->scan.section->page_count, before = 0;
    assert_int_equal(fathom_index_outlook(fixture->small.dir, &options, &outlook, NULL), 0);
    for (uint64_t more = 0; more <= pages * PAGE_PAYLOAD + MEM_ALIGN; more += 3000) {
        struct fathom_index *index;
        struct fathom_ledger ledger;
        options.dram_budget_bytes = outlook.least_bytes + more;
        assert_int_equal(fathom_index_open(&index, fixture->small.dir, &options, NULL), 0);
        fathom_index_get_ledger(index, &ledger);
        assert_true(ledger.total_bytes <= options.dram_budget_bytes);
        assert_true(options.dram_budget_bytes - ledger.total_bytes < PAGE_PAYLOAD + MEM_ALIGN);
        assert_int_equal(ledger.total_bytes, index->plan.index_bytes + index->plan.scratch_bytes);
        assert_true(index->scan.resident >= before);
        before = index->scan.resident;
        fathom_index_close(index);
    }
    assert_true(before > pages / 2);
    options.dram_budget_bytes = outlook.least_bytes - 1;
    struct fathom_index *index;
    assert_int_equal(fathom_index_open(&index, fixture->small.dir, &options, NULL), FATHOM_EBUDGET);
}

static void a_share_of_codes_is_the_cells_alone(void **state)
{
    const struct shares *fixture = *state;
    const struct fathom_open_options cases[] = {
        {.threads = 1, .inflight = 1, .code_share = -0.1f},
        {.threads = 1, .inflight = 1, .code_share = 1.1f},
        {.threads = 1, .inflight = 1, .code_share = 0.5f, .list_share = 0.5f},
        {.threads = 1, .inflight = 1, .code_share = 0.5f, .navigator = FATHOM_NAVIGATOR_GRAPH}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fathom_index *index;
        assert_int_equal(fathom_index_open(&index, fixture->small.dir, &cases[i], NULL),
                         FATHOM_EARGUMENT);
    }
}

static struct fathom_index *open_with_room(const struct shares *fixture, uint64_t room)
{
    struct fathom_open_options options = {
        .threads = 1, .inflight = 16, .page_buffers = 128, .code_share = 1e-6f};
    struct fathom_index *index;
    options.dram_budget_bytes =
        fixture->partly[0]->plan.index_bytes + fixture->partly[0]->plan.scratch_bytes + room;
    assert_int_equal(fathom_index_open(&index, fixture->small.dir, &options, NULL), 0);
    return index;
}

/* More than a slot reserves: it borrows and gives back, or is refused. */
static void a_large_query_borrows_from_the_budget_and_gives_back(void **state)
{
    const struct shares *fixture = *state;
    static uint64_t ids[1024];
    static float distances[1024];
    struct fathom_engine *engine = engine_make(FATHOM_IO_AUTO, 4);
    for (uint64_t room = 0; room <= 1 << 20; room += 1 << 20) {
        struct fathom_index *index = open_with_room(fixture, room);
        const int64_t slack = atomic_load(&index->slack);
        for (uint32_t k = 32; k <= 1024; k *= 2) {
            struct fathom_query request = small_request(&fixture->small, 3);
            request.k = k;
            int found = fathom_search(engine, index, &request, ids, distances, NULL, NULL);
            assert_int_equal(found, k <= QUERY_RESERVED_K || room > 0 ? (int)k : FATHOM_EBUDGET);
            assert_true(atomic_load(&index->slack) >= 0);
        }
        struct fathom_query usual = small_request(&fixture->small, 4);
        assert_int_equal(fathom_search(engine, index, &usual, ids, distances, NULL, NULL), 10);
        assert_int_equal(atomic_load(&index->slack), slack);
        fathom_index_close(index);
    }
    fathom_engine_destroy(engine);
}

/* With room for one run of pages sixteen queries wait for each other, and get the same. */
static void few_page_buffers_take_less_and_answer_the_same(void **state)
{
    const struct shares *fixture = *state;
    struct fathom_open_options options = {
        .threads = 1, .inflight = 16, .page_buffers = 128, .code_share = 1e-6f};
    struct fathom_engine_options few = {
        .io = FATHOM_IO_AUTO, .inflight = 16, .page_buffers = FATHOM_PAGE_BUFFERS_MIN};
    struct fathom_outlook usual, less;
    struct fathom_index *index;
    struct fathom_engine *engine;
    struct answers answers;
    assert_int_equal(fathom_index_outlook(fixture->small.dir, &options, &usual, NULL), 0);
    options.page_buffers = few.page_buffers;
    assert_int_equal(fathom_index_outlook(fixture->small.dir, &options, &less, NULL), 0);
    assert_true(less.least_bytes + 100 * PAGE_BYTES < usual.least_bytes);
    options.dram_budget_bytes = less.least_bytes;
    assert_int_equal(fathom_index_open(&index, fixture->small.dir, &options, NULL), 0);
    assert_int_equal(fathom_engine_create(&engine, &few, NULL), 0);
    shares_ask(&answers, fixture, engine, index, 16);
    answers_assert_same(&fixture->right, &answers);
    answers_free(&answers);
    fathom_engine_destroy(engine);
    fathom_index_close(index);
    for (unsigned bad = FATHOM_PAGE_BUFFERS_MIN - 1; bad < 5000; bad += 4000) {
        options.page_buffers = few.page_buffers = bad;
        assert_int_equal(fathom_engine_create(&engine, &few, NULL), FATHOM_ELIMIT);
        assert_int_equal(fathom_index_open(&index, fixture->small.dir, &options, NULL),
                         FATHOM_EARGUMENT);
    }
}

/* Where a budget has no room for as many page buffers as usual there are as many as it has room
 * for, and an engine for that index has no more. */
static void page_buffers_are_as_many_as_a_small_budget_has_room_for(void **state)
{
    const struct shares *fixture = *state;
    struct fathom_open_options options = {.threads = 2, .inflight = 8};
    struct fathom_outlook usual;
    unsigned before = 0;
    options.page_buffers = 64;
    assert_int_equal(fathom_index_outlook(fixture->small.dir, &options, &usual, NULL), 0);
    options.page_buffers = 0;
    for (int64_t less = 112 * PAGE_BYTES; less >= 0; less -= 8 * PAGE_BYTES) {
        struct fathom_index_info info;
        struct fathom_ledger ledger;
        struct fathom_index *index;
        options.dram_budget_bytes = usual.least_bytes - (uint64_t)less;
        int status = fathom_index_open(&index, fixture->small.dir, &options, NULL);
        if (status) {
            assert_int_equal(status, FATHOM_EBUDGET);
            assert_true(before == 0);
        } else {
            struct fathom_engine *engine = engine_make_for(index, FATHOM_IO_AUTO, 8);
            struct answers answers;
            fathom_index_get_info(index, &info);
            fathom_index_get_ledger(index, &ledger);
            assert_in_range(info.page_buffers, FATHOM_PAGE_BUFFERS_MIN, 64);
            assert_true(info.page_buffers >= before);
            assert_true(ledger.total_bytes <= options.dram_budget_bytes);
            assert_int_equal(engine->pool.pages, info.page_buffers);
            assert_non_null(engine->pool.arena);
            before = info.page_buffers;
            shares_ask(&answers, fixture, engine, index, 8);
            answers_assert_same(&fixture->right, &answers);
            answers_free(&answers);
            fathom_engine_destroy(engine);
            fathom_index_close(index);
        }
    }
    assert_int_equal(before, 64);
}

static void many_page_buffers_are_for_large_budgets(void **state)
{
    static const struct {
        unsigned engines, inflight;
        uint64_t budget;
        unsigned buffers;
    } cases[] = {{2, 1, 0, 32},          {2, 4, 1000, 32},       {2, 8, 1000, 64},
                 {2, 16, 0, 128},        {2, 16, 1 << 20, 64},   {2, 16, 3 << 20, 96},
                 {1, 16, 3 << 20, 128},  {2, 16, 64 << 20, 128}, {2, 256, 1000, 1024},
                 {2, 256, 1 << 30, 2048}};
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
        assert_int_equal(engine_page_buffers(cases[c].engines, cases[c].inflight, cases[c].budget),
                         cases[c].buffers);
}

/* ---- ends before the end ---- */

static void a_damaged_page_of_codes_fails_its_query_by_name(void **state)
{
    const struct shares *fixture = *state;
    for (size_t e = 0; e < 2 && io_works(engines[e]); e++) {
        struct fault_env fault;
        struct fathom_error err = {0};
        struct fathom_query request = small_request(&fixture->small, 0);
        uint64_t ids[10];
        float distances[10];
        struct fathom_engine *engine = slow_engine(&fault, engines[e], "read#2:flip=bit9000");
        assert_int_equal(
            fathom_search(engine, fixture->partly[0], &request, ids, distances, NULL, &err),
            FATHOM_ECHECKSUM);
        assert_non_null(strstr(err.msg, "section scan: checksum mismatch in page "));
        assert_non_null(strstr(err.msg, fixture->small.dir));
        shares_expect_usable(fixture, engine);
        fathom_engine_destroy(engine);
    }
}

static uint32_t code_reads(const struct fathom_query_stats *stats)
{
    return stats->code_reads;
}

static void a_deadline_is_kept_while_codes_stall(void **state)
{
    shares_expect_deadline(*state, code_reads);
}

static void an_engine_may_end_while_codes_are_on_their_way(void **state)
{
    shares_expect_end(*state);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_do_not_depend_on_where_codes_are),
        cmocka_unit_test(nor_on_where_ids_are),
        cmocka_unit_test(an_id_may_lie_on_two_pages),
        cmocka_unit_test(they_are_as_good_as_with_codes_in_memory),
        cmocka_unit_test(counters_tell_where_codes_came_from),
        cmocka_unit_test(ids_are_read_in_a_round_of_their_own),
        cmocka_unit_test(no_page_is_read_twice),
        cmocka_unit_test(every_budget_is_kept),
        cmocka_unit_test(a_share_of_codes_is_the_cells_alone),
        cmocka_unit_test(a_large_query_borrows_from_the_budget_and_gives_back),
        cmocka_unit_test(few_page_buffers_take_less_and_answer_the_same),
        cmocka_unit_test(page_buffers_are_as_many_as_a_small_budget_has_room_for),
        cmocka_unit_test(many_page_buffers_are_for_large_budgets),
        cmocka_unit_test(a_damaged_page_of_codes_fails_its_query_by_name),
        cmocka_unit_test(a_deadline_is_kept_while_codes_stall),
        cmocka_unit_test(an_engine_may_end_while_codes_are_on_their_way),
    };
    return cmocka_run_group_tests(tests, make_fixture, shares_free);
}
