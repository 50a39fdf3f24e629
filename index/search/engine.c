/* The engine: many queries on one ring. A submit navigates as far as memory goes and hands wanted
 * pages to the ring when there are several; a poll hands over the others, checks the pages that
 * have come, steps their queries and gives back the finished ones. It waits only when asked to. A
 * page buffer is the ring's until its completion, also when its query was cancelled. */
#include <errno.h>
#include <string.h>

#include "engine.h"
#include "error.h"
#include "mem.h"
#include "runs.h"

#define INFLIGHT_MAX    256
#define INFLIGHT_USUAL  16
#define PAGES_PER_QUERY 8 /* page buffers for each query in flight */
#define PAGES_MIN       32
#define PAGES_ENOUGH    64   /* without more for many in flight, where a budget is small */
#define BUFFERS_PART    0.25 /* of a budget, for more than enough (docs/adr/0063) */
#define RING_BYTES_PER_READ                                                                        \
    (64 + 2 * 16 + 8) /* a submission, two completions, an index: what the kernel maps */

/* ---- sizes ---- */

#define PAGES_MOST (INFLIGHT_MAX * PAGES_PER_QUERY)

/* The longest run of pages must find room, or a query would wait for ever. */
_Static_assert(FATHOM_PAGE_BUFFERS_MIN >= RUN_PAGES_MAX, "a run fits the fewest page buffers");

bool engine_page_buffers_valid(unsigned page_buffers)
{
    return page_buffers == 0 ||
           (page_buffers >= FATHOM_PAGE_BUFFERS_MIN && page_buffers <= PAGES_MOST);
}

static uint32_t pool_pages(unsigned inflight, unsigned page_buffers)
{
    uint32_t pages = inflight * PAGES_PER_QUERY;
    if (page_buffers)
        return page_buffers;
    return pages > PAGES_MIN ? pages : PAGES_MIN;
}

unsigned engine_page_buffers(unsigned engines, unsigned inflight, uint64_t budget_bytes)
{
    uint32_t usual = pool_pages(inflight, 0), enough = inflight * PAGES_PER_QUERY / 2;
    if (enough < PAGES_ENOUGH)
        enough = usual < PAGES_ENOUGH ? usual : PAGES_ENOUGH;
    double share = BUFFERS_PART * (double)budget_bytes / ((double)engines * PAGE_BYTES);
    if (budget_bytes == 0 || share >= usual)
        return usual;
    return share > enough ? (unsigned)share : enough;
}

uint64_t engine_page_buffer_bytes(void)
{
    return PAGE_BYTES + 1 + sizeof(struct read_info) + RING_BYTES_PER_READ;
}

uint64_t engine_buffer_bytes(unsigned engines, unsigned inflight, unsigned page_buffers)
{
    return page_arena_bytes(engines, pool_pages(inflight, page_buffers));
}

int engine_arena_create(struct page_arena **out, const struct env *env, unsigned engines,
                        unsigned inflight, unsigned page_buffers, bool may_cut)
{
    return page_arena_create(out, env, engines, pool_pages(inflight, page_buffers), may_cut);
}

uint64_t engine_scratch_bytes(const struct properties *p, unsigned inflight, unsigned page_buffers,
                              enum query_waits waits)
{
    struct query_capacity slot = query_reserved(p, waits == WAITS_FOR_CODES);
    uint64_t pages = pool_pages(inflight, page_buffers);
    return sizeof(struct fathom_engine) + pages * (engine_page_buffer_bytes() - PAGE_BYTES) +
           3 * MEM_ALIGN + /* what arrays of so many are rounded up by */
           inflight * (sizeof(struct query) + query_memory_bytes(slot)) +
           scratch_bytes(p, inflight, waits);
}

/* ---- life ---- */

struct fathom_engine_options fathom_engine_options_default(void)
{
    return (struct fathom_engine_options){.io = FATHOM_IO_AUTO};
}

static enum ring_engine ring_kind(enum fathom_io io)
{
    return io == FATHOM_IO_URING ? RING_URING : io == FATHOM_IO_PREAD ? RING_PREAD : RING_AUTO;
}

static int engine_init(struct fathom_engine *engine, const struct env *env,
                       const struct fathom_engine_options *options, struct fathom_error *err)
{
    struct page_arena *arena = options->index ? options->index->arena : NULL;
    uint32_t pages = pool_pages(options->inflight, options->page_buffers);
    if (arena && options->page_buffers == 0 && pages > arena->slice_pages)
        pages = arena->slice_pages;
    engine->env = env;
    engine->inflight = options->inflight;
    engine->slots = mem_alloc_array(options->inflight, sizeof *engine->slots);
    engine->reads = mem_alloc_array(pages, sizeof *engine->reads);
    if (!engine->slots || !engine->reads || page_pool_init(&engine->pool, pages, arena))
        return error_set(err, -ENOMEM, "no memory for an engine of %u queries in flight",
                         options->inflight);
    struct ring_options ring = {.engine = ring_kind(options->io),
                                .depth = pages,
                                .buffers = engine->pool.region,
                                .buffers_bytes = (size_t)pages * PAGE_BYTES};
    return ring_create(&engine->ring, engine->env, &ring, err);
}

int engine_create_with(struct fathom_engine **out, const struct env *env,
                       const struct fathom_engine_options *asked, struct fathom_error *err)
{
    struct fathom_engine_options settled = *asked;
    const struct fathom_engine_options *options = &settled;
    *out = NULL;
    if (settled.inflight == 0)
        settled.inflight = settled.index ? settled.index->options.inflight : INFLIGHT_USUAL;
    if (options->inflight > INFLIGHT_MAX)
        return error_set(err, FATHOM_ELIMIT, "queries in flight must be 1 to %d", INFLIGHT_MAX);
    if (!engine_page_buffers_valid(options->page_buffers))
        return error_set(err, FATHOM_ELIMIT, "page buffers must be %d to %d, or 0 for the usual",
                         FATHOM_PAGE_BUFFERS_MIN, PAGES_MOST);
    struct fathom_engine *engine = mem_alloc(sizeof *engine);
    if (!engine)
        return error_set(err, -ENOMEM, "no memory for an engine");
    int status = engine_init(engine, env, options, err);
    if (status) {
        fathom_engine_destroy(engine);
        return status;
    }
    *out = engine;
    return 0;
}

int fathom_engine_create(struct fathom_engine **out, const struct fathom_engine_options *options,
                         struct fathom_error *err)
{
    return engine_create_with(out, env_os(), options, err);
}

static void release_slot(struct fathom_engine *engine, struct query *query)
{
    struct fathom_index *index = (struct fathom_index *)query->index;
    scratch_release_walk(query);
    query_release(query);
    fathom_index_close(index);
    engine->running--;
}

void fathom_engine_destroy(struct fathom_engine *engine)
{
    if (!engine)
        return;
    ring_destroy(engine->ring); /* waits: no read may land in freed memory */
    for (unsigned i = 0; engine->slots && i < engine->inflight; i++) {
        if (engine->slots[i].phase != QUERY_FREE)
            release_slot(engine, &engine->slots[i]);
        mem_free(engine->slots[i].memory);
        navigator_fini(&engine->slots[i].own);
    }
    scratch_fini(&engine->scratch);
    page_pool_fini(&engine->pool);
    mem_free(engine->reads);
    mem_free(engine->slots);
    mem_free(engine);
}

/* ---- submitting ---- */

static unsigned outstanding(const struct query *query)
{
    return query->row_reads_out + query->navigation_reads_out;
}

/* Frees the slots whose results the caller has had, once no read of theirs is out. */
static void recycle(struct fathom_engine *engine)
{
    for (unsigned i = 0; i < engine->inflight; i++)
        if (engine->slots[i].phase == QUERY_RETURNED && outstanding(&engine->slots[i]) == 0)
            release_slot(engine, &engine->slots[i]);
}

static struct query *free_slot(struct fathom_engine *engine)
{
    for (unsigned i = 0; i < engine->inflight; i++)
        if (engine->slots[i].phase == QUERY_FREE)
            return &engine->slots[i];
    return NULL;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* Slots keep their navigators from walk to walk, but not for ever after the last: the slot of a
 * query that needs none, and another that is free, in turn. */
static void drop_stale(struct fathom_engine *engine, struct query *query)
{
    if (!scratch_is_stale(&engine->scratch))
        return;
    struct query *other = &engine->slots[engine->scratch.resident_runs % engine->inflight];
    if (query->own.memory)
        navigator_fini(&query->own);
    if (other->phase == QUERY_FREE && other->own.memory)
        navigator_fini(&other->own);
}

struct fathom_query fathom_query_default(void)
{
    return (struct fathom_query){.dtype = FATHOM_F32, .k = 10};
}

/* Whether two indexes of one generation have the same operating points, at the same prices. */
static bool same_residency(const struct plan *a, const struct plan *b)
{
    return a->navigator == b->navigator && a->rows8 == b->rows8 && a->level == b->level &&
           a->hot_ranks == b->hot_ranks && a->scan_reads == b->scan_reads &&
           a->scan_pages == b->scan_pages && a->ids_read == b->ids_read;
}

/* What reaches the request's target recall, by the index's operating points. */
static struct operating_choice choose_by_points(struct fathom_engine *engine,
                                                const struct fathom_index *index,
                                                const struct fathom_query *request)
{
    float target = request->target_recall > 0 ? request->target_recall : FATHOM_TARGET_RECALL;
    /* Exact distances rank no worse than re-ranking does, whatever is asked beside them. */
    enum fathom_rerank rerank = request->exact_distances ? FATHOM_RERANK_ON : request->rerank;
    if (!index->vectors)
        rerank = FATHOM_RERANK_OFF;
    struct chosen *chosen = &engine->chosen;
    if (chosen->generation == index->properties.generation && chosen->k == request->k &&
        chosen->target == target && chosen->rerank == rerank &&
        same_residency(&chosen->plan, &index->plan))
        return chosen->choice;
    *chosen = (struct chosen){.generation = index->properties.generation,
                              .plan = index->plan,
                              .k = request->k,
                              .target = target,
                              .rerank = rerank,
                              .choice = index_choose(index, request->k, target, rerank)};
    return chosen->choice;
}

/* As asked for; or what reaches the target recall; or the default. */
static struct operating_choice choose(struct fathom_engine *engine,
                                      const struct fathom_index *index,
                                      const struct fathom_query *request)
{
    struct operating_choice choice = {.search_list = request->search_list};
    if (request->search_list == 0)
        choice = choose_by_points(engine, index, request);
    if (request->rerank != FATHOM_RERANK_AUTO)
        choice.rerank = request->rerank == FATHOM_RERANK_ON && index->vectors;
    if (choice.search_list == 0)
        choice.search_list = index->properties.default_search_list;
    if (request->refine_threshold > 0)
        choice.refine_threshold = request->refine_threshold;
    choice.search_list =
        larger(choice.search_list, query_least_list(index->plan.navigator, request->k));
    if (choice.search_list > index->properties.rows)
        choice.search_list = (uint32_t)index->properties.rows;
    return choice;
}

static int reserve(struct fathom_engine *engine, struct query *query,
                   const struct fathom_index *index, const struct fathom_query *request,
                   struct navigator **navigator, struct fathom_error *err)
{
    struct operating_choice choice = choose(engine, index, request);
    uint32_t search_list = choice.search_list;
    uint32_t candidates = query_candidates(index, search_list, request->k);
    struct query_capacity want = {
        .dim = index->properties.dim, .k = request->k, .candidates = candidates};
    if (index->plan.scan_reads) {
        want.cells = scan_cells_ranked(search_list, index->properties.cells);
        want.pages = scan_pages_most(search_list, &index->properties);
    }
    int status = query_reserve(query, index, want);
    if (status == 0) {
        status =
            scratch_reserve(&engine->scratch, query, index, search_list, candidates, navigator);
        if (status)
            query_unreserve(query, index);
    }
    query->search_list = search_list;
    query->candidate_limit = candidates;
    query->refine_threshold = choice.refine_threshold;
    query->rerank = choice.rerank;
    query->may_widen = request->search_list == 0 && index->points;
    if (status == FATHOM_EBUDGET)
        error_set(err, status,
                  "no memory within the DRAM budget for k %u with search_list %u; lower them or "
                  "raise the "
                  "budget",
                  request->k, search_list);
    else if (status)
        error_set(err, status, "no memory for a query");
    return status;
}

int fathom_engine_submit(struct fathom_engine *engine, const struct fathom_index *index,
                         const struct fathom_query *request, struct fathom_error *err)
{
    return engine_submit_probe(engine, index, request, NULL, err);
}

int engine_submit_probe(struct fathom_engine *engine, const struct fathom_index *index,
                        const struct fathom_query *request, const struct query_probe *probe,
                        struct fathom_error *err)
{
    int status = query_check(index, request, err);
    if (status)
        return status;
    recycle(engine);
    struct query *query = free_slot(engine);
    if (!query)
        return error_set(err, FATHOM_EBUSY, "all %u query slots are taken", engine->inflight);
    struct navigator *navigator;
    status = reserve(engine, query, index, request, &navigator, err);
    if (status)
        return status;
    query->index = fathom_index_retain((struct fathom_index *)index);
    query->user = request->user;
    query->probe = probe;
    query->excluded = probe ? probe->row : ROW_NONE;
    query->deadline_ns = request->deadline_ns;
    query->stats = (struct fathom_query_stats){.reranked = query->rerank};
    query->detail[0] = '\0';
    query->started_ns = env_clock_ns(engine->env);
    engine->running++;
    status = query_begin(query, navigator, request, engine_beam(engine));
    scratch_release_large(&engine->scratch, index);
    drop_stale(engine, query);
    if (status)
        engine_fail_walk(query, status);
    query->stats.compute_ns = env_clock_ns(engine->env) - query->started_ns;
    engine_issue_early(engine, query);
    return 0;
}

/* ---- polling ---- */

/* Ends queries that were cancelled or whose time is up. Returns the nearest deadline that is left,
 * 0 for none. */
static uint64_t expire(struct fathom_engine *engine, uint64_t now)
{
    uint64_t nearest = 0;
    for (unsigned i = 0; i < engine->inflight; i++) {
        struct query *query = &engine->slots[i];
        if (!engine_is_reading(query))
            continue;
        if (query->cancelled)
            engine_fail(query, FATHOM_ECANCELLED);
        else if (query->deadline_ns && now >= query->deadline_ns)
            engine_fail(query, FATHOM_EDEADLINE);
        else if (query->deadline_ns && (!nearest || query->deadline_ns < nearest))
            nearest = query->deadline_ns;
    }
    return nearest;
}

static unsigned collect(struct fathom_engine *engine, struct fathom_result *out, unsigned max,
                        uint64_t now)
{
    unsigned count = 0;
    for (unsigned i = 0; i < engine->inflight && count < max; i++) {
        struct query *query = &engine->slots[i];
        if (query->phase != QUERY_DONE)
            continue;
        query->phase = QUERY_RETURNED;
        query->stats.total_ns = now - query->started_ns;
        query->stats.io_ns = query->stats.total_ns - query->stats.compute_ns;
        out[count++] = (struct fathom_result){.user = query->user,
                                              .status = query->status,
                                              .detail = query->detail[0] ? query->detail : NULL,
                                              .count = query->status ? 0 : query->hit_count,
                                              .ids = query->ids,
                                              .distances = query->distances,
                                              .stats = query->stats};
    }
    return count;
}

static bool any_done(const struct fathom_engine *engine)
{
    for (unsigned i = 0; i < engine->inflight; i++)
        if (engine->slots[i].phase == QUERY_DONE)
            return true;
    return false;
}

/* One turn is one call of the kernel where reads must be awaited: it takes what is queued and
 * sleeps. */
int fathom_engine_poll_until(struct fathom_engine *engine, struct fathom_result *out, unsigned max,
                             uint64_t until_ns)
{
    recycle(engine);
    for (;;) {
        uint64_t now = env_clock_ns(engine->env), deadline = expire(engine, now);
        uint64_t limit = deadline && deadline < until_ns ? deadline : until_ns;
        engine_queue(engine);
        bool waits = now < until_ns && engine->running > 0 && ring_in_flight(engine->ring) > 0 &&
                     !any_done(engine);
        int status = engine_reap(engine, waits ? engine_reads_lacking(engine) : 0,
                                 limit == UINT64_MAX ? 0 : limit - now);
        if (status < 0)
            return status;
        unsigned count = collect(engine, out, max, env_clock_ns(engine->env));
        if (count == 0 && waits)
            continue;
        if (status > 0) { /* queries that went on to a second wave */
            engine_queue(engine);
            status = ring_submit(engine->ring);
        }
        return status < 0 && count == 0 ? status : (int)count;
    }
}

int fathom_engine_poll(struct fathom_engine *engine, struct fathom_result *out, unsigned max,
                       bool wait)
{
    return fathom_engine_poll_until(engine, out, max, wait ? UINT64_MAX : 0);
}

void fathom_engine_cancel(struct fathom_engine *engine, void *user)
{
    for (unsigned i = 0; i < engine->inflight; i++)
        if (engine->slots[i].phase != QUERY_FREE && engine->slots[i].user == user)
            engine->slots[i].cancelled = true;
}

unsigned fathom_engine_running(const struct fathom_engine *engine)
{
    unsigned running = 0;
    for (unsigned i = 0; i < engine->inflight; i++)
        running += engine->slots[i].phase != QUERY_FREE && engine->slots[i].phase != QUERY_RETURNED;
    return running;
}

int fathom_engine_event_fd(const struct fathom_engine *engine)
{
    return ring_event_fd(engine->ring);
}

enum fathom_io fathom_engine_io(const struct fathom_engine *engine)
{
    return ring_engine(engine->ring) == RING_URING ? FATHOM_IO_URING : FATHOM_IO_PREAD;
}

const char *fathom_engine_io_note(const struct fathom_engine *engine)
{
    return ring_fallback_reason(engine->ring);
}

int fathom_search(struct fathom_engine *engine, const struct fathom_index *index,
                  const struct fathom_query *query, uint64_t *ids, float *distances,
                  struct fathom_query_stats *stats, struct fathom_error *err)
{
    struct fathom_result result;
    int status = fathom_engine_submit(engine, index, query, err);
    if (status)
        return status;
    do {
        status = fathom_engine_poll(engine, &result, 1, true);
    } while (status == 0);
    if (status < 0)
        return error_set(err, status, "%s: waiting for reads: %s", index->file.path,
                         fathom_strerror(status));
    if (stats)
        *stats = result.stats;
    if (result.status)
        return error_set(err, result.status, "%s",
                         result.detail ? result.detail : fathom_strerror(result.status));
    memcpy(ids, result.ids, query->k * sizeof *ids);
    memcpy(distances, result.distances, query->k * sizeof *distances);
    return (int)result.count;
}
