/* Page buffers that lie together: slices of an arena, and that answers are the same without.
 * Whether this machine has such memory does not matter here: an env says that it has, or that it
 * has none. */
#include "fathom_test.h"

#include "answers.h"
#include "index.h"
#include "mem.h"
#include "opened.h"
#include "pages.h"

#define DIM      32
#define ROWS     6000
#define QUERIES  40
#define SLICE    24 /* pages */
#define INFLIGHT 8  /* of an index: more than a few page buffers */

static unsigned mapped; /* regions that are out */

static void *map_any(void *context, size_t bytes)
{
    (void)context;
    assert_int_equal(bytes % PAGE_BYTES, 0);
    mapped++;
    return mem_alloc_pages(bytes / PAGE_BYTES);
}

static void unmap_any(void *context, void *memory, size_t bytes)
{
    (void)context;
    mapped--;
    mem_free_pages(memory, bytes / PAGE_BYTES);
}

static void *map_none(void *context, size_t bytes)
{
    (void)context;
    (void)bytes;
    return NULL;
}

static struct env env_with(void *(*map_large)(void *context, size_t bytes))
{
    struct env env = *env_os();
    env.map_large = map_large;
    env.unmap_large = unmap_any;
    return env;
}

static int make_fixture(void **state)
{
    const struct small_options options = small_f32(ROWS, DIM, QUERIES, 91);
    return opened_make(state, &options);
}

/* Codes are read, so that there is much to gain. */
static struct fathom_index *open_index(const struct opened *fixture, const struct env *env,
                                       uint64_t budget, const struct fathom_index *engines_of)
{
    struct fathom_open_options options = {.threads = 2,
                                          .inflight = INFLIGHT,
                                          .code_share = 0.1f,
                                          .dram_budget_bytes = budget,
                                          .engines_of = engines_of};
    return index_opened(env, fixture->small.dir, &options);
}

static void ask(struct answers *out, const struct opened *fixture, const struct fathom_index *index,
                const struct fathom_index *engine_index)
{
    struct fathom_engine *engine = engine_make_for(engine_index, FATHOM_IO_AUTO, 4);
    struct fathom_query request = small_request(&fixture->small, 0);
    answers_get(out, engine, index, &request, fixture->small.raw_queries, DIM, QUERIES, 4);
    fathom_engine_destroy(engine);
}

/* ---- slices ---- */

static void slices_are_dealt_out_and_come_back(void **state)
{
    struct env env = env_with(map_any);
    struct page_arena *arena;
    struct page_pool first, second, third, large;
    (void)state;
    assert_int_equal(page_arena_create(&arena, &env, 2, SLICE, true), 0);
    assert_non_null(arena);
    assert_int_equal(mapped, 1);
    assert_int_equal(page_pool_init(&first, SLICE, arena), 0);
    assert_int_equal(page_pool_init(&large, SLICE + 1, arena), 0); /* more than a slice */
    assert_int_equal(page_pool_init(&second, SLICE / 2, arena), 0);
    assert_int_equal(page_pool_init(&third, SLICE, arena), 0); /* none is left */
    assert_ptr_equal(first.region, arena->region);
    assert_ptr_equal(second.region, arena->region + (size_t)SLICE * PAGE_BYTES);
    assert_null(third.arena);
    assert_null(large.arena);
    page_pool_fini(&third);
    page_pool_fini(&large);
    page_pool_fini(&first);
    assert_int_equal(page_pool_init(&third, SLICE, arena), 0);
    assert_ptr_equal(third.region, arena->region);
    page_arena_release(arena);
    page_pool_fini(&second);
    assert_int_equal(mapped, 1); /* a pool still has it */
    page_pool_fini(&third);
    assert_int_equal(mapped, 0);
}

static void an_arena_takes_what_its_pages_do(void **state)
{
    (void)state;
    assert_int_equal(page_arena_bytes(1, 1), PAGE_BYTES);
    assert_int_equal(page_arena_bytes(5, 128), 5 * 128 * PAGE_BYTES);
}

static void where_the_system_has_none_pages_are_scattered(void **state)
{
    struct env some = env_with(map_any), none = env_with(map_none);
    struct page_arena *arena;
    (void)state;
    assert_int_equal(page_arena_create(&arena, &none, 2, SLICE, true), 0);
    assert_false(arena->together);
    page_arena_release(arena);
    assert_int_equal(page_arena_create(&arena, &some, 2, SLICE, false), 0);
    assert_false(arena->together);
    page_arena_release(arena);
    assert_int_equal(mapped, 0);
}

/* ---- indexes ---- */

static void an_arena_is_counted_whole(void **state)
{
    const struct opened *fixture = *state;
    struct env env = env_with(map_any);
    struct fathom_index *index = open_index(fixture, &env, 0, NULL);
    struct fathom_ledger ledger;
    fathom_index_get_ledger(index, &ledger);
    assert_int_equal(mapped, 1);
    assert_true(ledger.scratch_bytes > engine_buffer_bytes(2, INFLIGHT, 0));
    assert_int_equal(ledger.total_bytes, index->plan.index_bytes + index->plan.scratch_bytes);
    fathom_index_close(index);
    assert_int_equal(mapped, 0);
}

static void expect_buffers(const struct opened *fixture, uint64_t budget, bool together)
{
    struct env some = env_with(map_any);
    struct fathom_index *index = open_index(fixture, &some, budget, NULL);
    struct fathom_index_info info;
    fathom_index_get_info(index, &info);
    assert_true(info.large_buffers == together);
    assert_int_equal(mapped, together);
    fathom_index_close(index);
    assert_int_equal(mapped, 0);
}

/* From the first moment on, and there is a whole large page while buffers are cut from it. */
static void a_budget_below_a_large_page_is_kept_too(void **state)
{
    const struct opened *fixture = *state;
    struct fathom_open_options options = {.threads = 2, .inflight = INFLIGHT, .code_share = 0.1f};
    struct fathom_outlook outlook;
    assert_int_equal(fathom_index_outlook(fixture->small.dir, &options, &outlook, NULL), 0);
    assert_true(outlook.least_bytes < ENV_LARGE_PAGE_BYTES);
    expect_buffers(fixture, outlook.least_bytes, false);
    expect_buffers(fixture, ENV_LARGE_PAGE_BYTES, false);
    expect_buffers(fixture, ENV_LARGE_PAGE_BYTES + sizeof(struct fathom_index), true);
    expect_buffers(fixture, 0, true);
}

/* What the system has does not matter to the plan, since it takes the same. */
static void the_plan_is_the_same_without(void **state)
{
    const struct opened *fixture = *state;
    struct env some = env_with(map_any), none = env_with(map_none);
    uint64_t budget = 2 * ENV_LARGE_PAGE_BYTES;
    struct fathom_index *with = open_index(fixture, &some, budget, NULL),
                        *without = open_index(fixture, &none, budget, NULL);
    assert_int_equal(mapped, 1);
    assert_int_equal(with->plan.index_bytes, without->plan.index_bytes);
    assert_int_equal(with->plan.scratch_bytes, without->plan.scratch_bytes);
    fathom_index_close(without);
    fathom_index_close(with);
    assert_int_equal(mapped, 0);
}

static uint64_t reads_of(const struct answers *answers)
{
    uint64_t reads = 0;
    for (uint32_t i = 0; i < answers->count; i++)
        reads += answers->all[i].stats.reads;
    return reads;
}

/* And reads are as long as suits the buffers that there are. */
static void answers_are_the_same_where_the_system_refuses(void **state)
{
    const struct opened *fixture = *state;
    struct env some = env_with(map_any), none = env_with(map_none);
    struct fathom_index *with = open_index(fixture, &some, 0, NULL),
                        *without = open_index(fixture, &none, 0, NULL);
    struct fathom_index_info info;
    struct answers right, answers;
    fathom_index_get_info(with, &info);
    assert_true(info.large_buffers);
    fathom_index_get_info(without, &info);
    assert_true(!info.large_buffers);
    ask(&right, fixture, without, without);
    ask(&answers, fixture, with, with);
    answers_assert_same(&right, &answers);
    assert_true(reads_of(&answers) < reads_of(&right));
    answers_free(&answers);
    answers_free(&right);
    fathom_index_close(without);
    fathom_index_close(with);
}

/* As when an index is reloaded: engines stay, and the buffers are counted wherever they search. */
static void an_index_for_engines_that_are_there_counts_their_buffers(void **state)
{
    const struct opened *fixture = *state;
    struct env env = env_with(map_any), none = env_with(map_none);
    struct fathom_index *first = open_index(fixture, &env, 0, NULL);
    struct fathom_engine *engine = engine_make_for(first, FATHOM_IO_AUTO, 4);
    struct fathom_query request = small_request(&fixture->small, 0);
    struct answers answers;
    struct fathom_index *second = open_index(fixture, &env, 0, first);
    struct fathom_index *small = open_index(fixture, &none, 0, NULL);
    struct fathom_index *third = open_index(fixture, &env, 0, small);
    assert_ptr_equal(second->arena, first->arena);
    assert_int_equal(second->plan.scratch_bytes, first->plan.scratch_bytes);
    assert_ptr_equal(third->arena, small->arena);
    fathom_index_close(first);
    fathom_index_close(small);
    answers_get(&answers, engine, second, &request, fixture->small.raw_queries, DIM, QUERIES, 4);
    answers_free(&answers);
    fathom_index_close(third);
    fathom_index_close(second);
    assert_int_equal(mapped, 1); /* the engine has it */
    fathom_engine_destroy(engine);
    assert_int_equal(mapped, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_are_dealt_out_and_come_back),
        cmocka_unit_test(an_arena_takes_what_its_pages_do),
        cmocka_unit_test(where_the_system_has_none_pages_are_scattered),
        cmocka_unit_test(an_arena_is_counted_whole),
        cmocka_unit_test(a_budget_below_a_large_page_is_kept_too),
        cmocka_unit_test(the_plan_is_the_same_without),
        cmocka_unit_test(answers_are_the_same_where_the_system_refuses),
        cmocka_unit_test(an_index_for_engines_that_are_there_counts_their_buffers),
    };
    return cmocka_run_group_tests(tests, make_fixture, opened_free);
}
