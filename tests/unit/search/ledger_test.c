/* The ledger against what mem_alloc has really handed out: the linker puts a count round every
 * allocation of the library. */
#include "fathom_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "folder.h"
#include "index.h"
#include "mem.h"
#include "opened.h"
#include "prng_unit.h"
#include "query.h"
#include "tiny_index.h"

/* ---- counting (the linker's --wrap sends each call here) ---- */

void *__real_mem_alloc(size_t bytes);
void *__real_mem_alloc_array(size_t count, size_t size);
void *__real_mem_alloc_pages(size_t pages);
void *__real_mem_alloc_prepared(size_t bytes, void (*prepare)(void *memory, size_t bytes));
void __real_mem_free(void *memory);
void __real_mem_free_pages(void *memory, size_t pages);
void *__wrap_mem_alloc(size_t bytes);
void *__wrap_mem_alloc_array(size_t count, size_t size);
void *__wrap_mem_alloc_pages(size_t pages);
void *__wrap_mem_alloc_prepared(size_t bytes, void (*prepare)(void *memory, size_t bytes));
void __wrap_mem_free(void *memory);
void __wrap_mem_free_pages(void *memory, size_t pages);

#define BLOCKS_MAX 4096

static struct {
    void *memory[BLOCKS_MAX];
    size_t bytes[BLOCKS_MAX];
    uint64_t live, most;
} heap;

static void *note(void *memory, size_t bytes, size_t align)
{
    if (!memory)
        return NULL;
    unsigned i = 0;
    while (i < BLOCKS_MAX && heap.memory[i])
        i++;
    assert_in_range(i, 0, BLOCKS_MAX - 1);
    heap.memory[i] = memory;
    heap.bytes[i] = size_round_up(bytes ? bytes : 1, align);
    heap.live += heap.bytes[i];
    if (heap.live > heap.most)
        heap.most = heap.live;
    return memory;
}

void *__wrap_mem_alloc(size_t bytes)
{
    return note(__real_mem_alloc(bytes), bytes, MEM_ALIGN);
}

void *__wrap_mem_alloc_array(size_t count, size_t size)
{
    return note(__real_mem_alloc_array(count, size), count * size, MEM_ALIGN);
}

void *__wrap_mem_alloc_pages(size_t pages)
{
    return note(__real_mem_alloc_pages(pages), pages * MEM_PAGE, MEM_PAGE);
}

void *__wrap_mem_alloc_prepared(size_t bytes, void (*prepare)(void *memory, size_t bytes))
{
    return note(__real_mem_alloc_prepared(bytes, prepare), bytes, MEM_ALIGN);
}

static size_t forget(const void *memory)
{
    unsigned i = 0;
    while (memory && i < BLOCKS_MAX && heap.memory[i] != memory)
        i++;
    assert_in_range(i, 0, BLOCKS_MAX - 1); /* or it was never handed out */
    if (!memory)
        return 0;
    heap.memory[i] = NULL;
    heap.live -= heap.bytes[i];
    return heap.bytes[i];
}

void __wrap_mem_free(void *memory)
{
    (void)forget(memory);
    __real_mem_free(memory);
}

void __wrap_mem_free_pages(void *memory, size_t pages)
{
    assert_true(!memory || forget(memory) == pages * MEM_PAGE);
    __real_mem_free_pages(memory, pages);
}

/* ---- */

static const struct tiny_options shapes[] = {
    {.rows = 5000,
     .dim = 32,
     .dtype = FATHOM_F32,
     .metric = FATHOM_METRIC_L2,
     .code_dim = 32,
     .degree = 20},
    {.rows = 5000,
     .dim = 33,
     .dtype = FATHOM_U8,
     .metric = FATHOM_METRIC_L2,
     .code_dim = 40,
     .points = 20},
    {.rows = 900,
     .dim = 300,
     .dtype = FATHOM_I8,
     .metric = FATHOM_METRIC_IP,
     .code_dim = 304,
     .points = 3},
    {.rows = 33, .dim = 4096, .dtype = FATHOM_F32, .metric = FATHOM_METRIC_COS, .code_dim = 64},
};
#define SHAPES (sizeof shapes / sizeof shapes[0])

static int make_folders(void **state)
{
    return tiny_folders_make(state, shapes, SHAPES);
}

/* Calls visit for budgets from the least to everything, for both navigators, and for lists in part.
 */
static void for_each_budget(const struct tiny_folders *fixture,
                            void (*visit)(const char *dir, uint32_t dim,
                                          struct fathom_open_options options))
{
    for (size_t i = 0; i < SHAPES; i++)
        for (int navigator = FATHOM_NAVIGATOR_GRAPH; navigator <= FATHOM_NAVIGATOR_CELLS;
             navigator++) {
            struct fathom_open_options options = {
                .threads = 1, .inflight = 4, .navigator = navigator};
            struct fathom_ledger ledger;
            struct fathom_index *index = index_opened(env_os(), fixture->dirs[i], &options);
            fathom_index_get_ledger(index, &ledger);
            fathom_index_close(index);
            visit(fixture->dirs[i], shapes[i].dim, options);
            for (int step = 20; step > 0; step--) {
                options.dram_budget_bytes = ledger.total_bytes * step / 20;
                if (fathom_index_open(&index, fixture->dirs[i], &options, NULL) != 0)
                    break;
                fathom_index_close(index);
                visit(fixture->dirs[i], shapes[i].dim, options);
            }
        }
    for (size_t i = 0; i < SHAPES; i++)
        for (float share = 0.001f; share < 1; share += 0.3f) {
            struct fathom_open_options options = {.threads = 1, .inflight = 4, .list_share = share};
            visit(fixture->dirs[i], shapes[i].dim, options);
        }
}

/* They count as scratch. */
static uint64_t buffers_of(const struct fathom_index *index)
{
    return page_arena_bytes(index->arena->slices, index->arena->slice_pages);
}

static void check_ledger(const char *dir, uint32_t dim, struct fathom_open_options options)
{
    struct fathom_ledger ledger;
    (void)dim;
    assert_int_equal(heap.live, 0);
    struct fathom_index *index = index_opened(env_os(), dir, &options);
    fathom_index_get_ledger(index, &ledger);
    uint64_t held = heap.live - (index->arena->together ? 0 : buffers_of(index));
    if (held != ledger.index_bytes)
        fail_msg("the ledger says %llu, but %llu bytes are held",
                 (unsigned long long)ledger.index_bytes, (unsigned long long)held);
    fathom_index_close(index);
    assert_int_equal(heap.live, 0);
}

static void the_ledger_is_what_an_index_holds_to_the_byte(void **state)
{
    for_each_budget(*state, check_ledger);
}

/* What loading needs for a while has room where queries will be: it takes no more than they. */
static void opening_takes_no_more_than_is_kept_for_searching(void **state)
{
    static const struct tiny_options shape = {.rows = 60000,
                                              .dim = 32,
                                              .dtype = FATHOM_U8,
                                              .metric = FATHOM_METRIC_L2,
                                              .code_dim = 32,
                                              .degree = 4};
    char dir[FOLDER_PATH_MAX];
    struct tiny_index tiny;
    (void)state;
    folder_make_fast(dir);
    tiny_make(&tiny, &shape);
    tiny_write_raw(&tiny, dir);
    tiny_free(&tiny);
    for (uint64_t kib = 4096; kib > 200; kib = kib * 4 / 5) {
        struct fathom_open_options options = {
            .threads = 1, .inflight = 4, .dram_budget_bytes = kib << 10};
        struct fathom_index *index;
        heap.most = heap.live;
        if (fathom_index_open(&index, dir, &options, NULL) != 0)
            break;
        if (heap.most > options.dram_budget_bytes)
            fail_msg("%llu bytes were held while opening with a budget of %llu",
                     (unsigned long long)heap.most, (unsigned long long)options.dram_budget_bytes);
        fathom_index_close(index);
    }
    folder_remove(dir);
}

/* Random floats that no index minds. */
static float *random_vectors(uint32_t count, uint32_t dim)
{
    struct prng prng;
    float *vectors = calloc((size_t)count * dim, sizeof *vectors);
    assert_non_null(vectors);
    prng_init(&prng, 5, 0);
    for (size_t i = 0; i < (size_t)count * dim; i++)
        vectors[i] = (float)(200 * prng_unit(&prng) - 100);
    return vectors;
}

static void check_scratch(const char *dir, uint32_t dim, struct fathom_open_options options)
{
    static const uint32_t ks[] = {1, 10, QUERY_RESERVED_K}, lists[] = {1, 64, 512};
    struct fathom_index *index = index_opened(env_os(), dir, &options);
    struct fathom_ledger ledger;
    float *vectors = random_vectors(8, dim);
    fathom_index_get_ledger(index, &ledger);
    heap.most = heap.live;
    struct fathom_engine *engine = engine_make_for(index, FATHOM_IO_AUTO, options.inflight);
    /* What does not come from the heap. */
    uint64_t mapped = index->arena->together ? buffers_of(index) : 0;
    for (int i = 0; i < 9; i++) {
        struct answers answers;
        struct fathom_query request = fathom_query_default();
        request.k = ks[i % 3];
        request.search_list = lists[i / 3];
        request.exact_distances = i % 2;
        answers_get(&answers, engine, index, &request, vectors, dim, 8, options.inflight);
        answers_free(&answers);
    }
    if (heap.most + mapped > ledger.total_bytes)
        fail_msg("%llu bytes were held at a time, the ledger says %llu",
                 (unsigned long long)(heap.most + mapped), (unsigned long long)ledger.total_bytes);
    assert_true(heap.most > ledger.index_bytes); /* or nothing was counted */
    fathom_engine_destroy(engine);
    fathom_index_close(index);
    free(vectors);
    assert_int_equal(heap.live, 0);
}

static void queries_stay_within_the_scratch_that_plans_reserve(void **state)
{
    for_each_budget(*state, check_scratch);
}

/* Engines live longer than indexes: what walks needed goes when it has not been needed for long. */
static void the_scratch_of_walks_goes_when_lists_are_all_in_memory(void **state)
{
    const struct tiny_folders *fixture = *state;
    struct fathom_open_options options = {
        .threads = 1, .inflight = 4, .navigator = FATHOM_NAVIGATOR_GRAPH};
    struct fathom_index *whole = index_opened(env_os(), fixture->dirs[0], &options);
    options.list_share = 0.3f;
    struct fathom_index *partly = index_opened(env_os(), fixture->dirs[0], &options);
    struct fathom_engine *engine = engine_make(FATHOM_IO_AUTO, 4);
    struct fathom_query request = fathom_query_default();
    float *vectors = random_vectors(50, 32);
    struct fathom_ledger ledger;
    struct answers answers;
    answers_get(&answers, engine, partly, &request, vectors, 32, 50, 4);
    answers_free(&answers);
    fathom_index_close(partly);
    fathom_index_get_ledger(whole, &ledger);
    for (int i = 0; i < 50; i++) {
        answers_get(&answers, engine, whole, &request, vectors, 32, 50, 4);
        answers_free(&answers);
        if (i == 0)
            assert_true(heap.live > ledger.total_bytes); /* or there was nothing to let go of */
    }
    assert_in_range(heap.live, ledger.index_bytes, ledger.total_bytes);
    free(vectors);
    fathom_engine_destroy(engine);
    fathom_index_close(whole);
}

static void answering_takes_no_memory_once_it_is_warm(void **state)
{
    const struct tiny_folders *fixture = *state;
    struct fathom_open_options options = {
        .threads = 1, .inflight = 4, .navigator = FATHOM_NAVIGATOR_CELLS};
    struct fathom_index *index = index_opened(env_os(), fixture->dirs[0], &options);
    struct fathom_engine *engine = engine_make(FATHOM_IO_AUTO, 4);
    struct fathom_query request = fathom_query_default();
    float *vectors = random_vectors(50, 32);
    uint64_t warm = 0;
    for (int round = 0; round < 3; round++) {
        struct answers answers;
        answers_get(&answers, engine, index, &request, vectors, 32, 50, 4);
        answers_free(&answers);
        if (round == 0)
            warm = heap.most = heap.live;
        assert_int_equal(heap.live, warm);
        assert_int_equal(heap.most, warm);
    }
    free(vectors);
    fathom_engine_destroy(engine);
    fathom_index_close(index);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_ledger_is_what_an_index_holds_to_the_byte),
        cmocka_unit_test(opening_takes_no_more_than_is_kept_for_searching),
        cmocka_unit_test(queries_stay_within_the_scratch_that_plans_reserve),
        cmocka_unit_test(the_scratch_of_walks_goes_when_lists_are_all_in_memory),
        cmocka_unit_test(answering_takes_no_memory_once_it_is_warm),
    };
    return cmocka_run_group_tests(tests, make_folders, tiny_folders_remove);
}
