/* The engine: many queries on one ring. A submit navigates as far as memory goes and hands wanted
 * pages to the ring when there are several; a poll hands over the others, checks the pages that
 * have come, steps their queries and gives back the finished ones. It waits only when asked to. A
 * page buffer is the ring's until its completion, also when its query was cancelled. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "mem.h"
#include "pages.h"
#include "query.h"
#include "ring.h"
#include "scratch.h"

#define INFLIGHT_MAX    256
#define PAGES_PER_QUERY 8 /* page buffers for each query in flight */
#define PAGES_MIN       32
#define REAP_BATCH      64
#define HELD_BACK_MOST  8 /* pages wanted before reads are issued without a poll */
#define BEAM_IDLE       2 /* queries in flight that leave the device idle */
#define RING_BYTES_PER_READ                                                                        \
    (64 + 2 * 16 + 8) /* a submission, two completions, an index: what the kernel maps */

struct read_info {
    uint32_t slot, page; /* which query, and which of its wanted pages */
    uint16_t span;       /* pages of the run */
    enum read_kind {
        READ_ROWS,
        READ_LISTS, /* page counts own.list_pages */
        READ_CODES  /* page counts from the first of section scan */
    } kind;
};

struct fathom_engine {
    const struct env *env;
    struct ring *ring;
    struct page_pool pool;
    struct read_info *reads; /* by first page of the run */
    struct query *slots;
    unsigned inflight, running;
    unsigned next_issue; /* slot to serve first, so that none starves */
    unsigned held_back;  /* pages wanted since reads were last issued, about */
    struct scratch scratch;
    struct kernel_score8 scores[QUERY_PAGE_BATCH];
};

/* ---- sizes ---- */

static uint32_t pool_pages(unsigned inflight)
{
    uint32_t pages = inflight * PAGES_PER_QUERY;
    return pages > PAGES_MIN ? pages : PAGES_MIN;
}

uint64_t engine_scratch_bytes(const struct properties *p, unsigned inflight, enum query_waits waits)
{
    struct query_capacity slot = {.dim = p->dim,
                                  .k = QUERY_RESERVED_K,
                                  .candidates = QUERY_RESERVED_CANDIDATES,
                                  .cells = waits == WAITS_FOR_CODES ? query_reserved_cells(p) : 0};
    uint64_t pages = pool_pages(inflight);
    return sizeof(struct fathom_engine) +
           pages * (PAGE_BYTES + 1 + sizeof(struct read_info) + RING_BYTES_PER_READ) +
           inflight * (sizeof(struct query) + query_memory_bytes(slot)) +
           scratch_bytes(p, inflight, waits);
}

/* ---- life ---- */

struct fathom_engine_options fathom_engine_options_default(void)
{
    return (struct fathom_engine_options){.io = FATHOM_IO_AUTO, .inflight = 16};
}

static enum ring_engine ring_kind(enum fathom_io io)
{
    return io == FATHOM_IO_URING ? RING_URING : io == FATHOM_IO_PREAD ? RING_PREAD : RING_AUTO;
}

static int engine_init(struct fathom_engine *engine, const struct env *env,
                       const struct fathom_engine_options *options, struct fathom_error *err)
{
    uint32_t pages = pool_pages(options->inflight);
    engine->env = env;
    engine->inflight = options->inflight;
    engine->slots = mem_alloc_array(options->inflight, sizeof *engine->slots);
    engine->reads = mem_alloc_array(pages, sizeof *engine->reads);
    if (!engine->slots || !engine->reads || page_pool_init(&engine->pool, pages))
        return error_set(err, -ENOMEM, "no memory for an engine of %u queries in flight",
                         options->inflight);
    struct ring_options ring = {.engine = ring_kind(options->io),
                                .depth = pages,
                                .buffers = engine->pool.region,
                                .buffers_bytes = (size_t)pages * PAGE_BYTES};
    return ring_create(&engine->ring, engine->env, &ring, err);
}

int engine_create_with(struct fathom_engine **out, const struct env *env,
                       const struct fathom_engine_options *options, struct fathom_error *err)
{
    *out = NULL;
    if (options->inflight < 1 || options->inflight > INFLIGHT_MAX)
        return error_set(err, FATHOM_ELIMIT, "queries in flight must be 1 to %d", INFLIGHT_MAX);
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
    return query->pages_issued - query->pages_done + query->navigation_reads_out;
}

/* Its answer depends on reads. */
static bool reading(const struct query *query)
{
    return query->phase == QUERY_WALK || query->phase == QUERY_SCAN ||
           query->phase == QUERY_REFINE || query->phase == QUERY_EXACT;
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

/* How many pages a walk has on their way. Asking ahead saves waiting and costs reads: for two pages
 * 28% fewer rounds and 3% more reads, for four 44% and 31% (docs/adr/0011). So it depends on who
 * else wants the device. */
static uint32_t beam(const struct fathom_engine *engine)
{
    if (engine->running <= BEAM_IDLE)
        return BEAM_MAX;
    return engine->running <= engine->inflight / 2 ? 2 : 1;
}

struct fathom_query fathom_query_default(void)
{
    return (struct fathom_query){.dtype = FATHOM_F32, .k = 10};
}

/* As asked for; or what reaches the target recall, by the index's operating points; or the default.
 */
static struct operating_choice choose(const struct fathom_index *index,
                                      const struct fathom_query *request)
{
    struct operating_choice choice = {.search_list = request->search_list};
    if (request->search_list == 0) {
        float target = request->target_recall > 0 ? request->target_recall : FATHOM_TARGET_RECALL;
        struct points_cost cost = plan_cost(&index->plan, &index->file.super,
                                            index->plan.rows8 ? 0 : index->level.code_bytes);
        choice = points_choose(index->points, index->point_count, request->k, target, &cost);
    }
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
    struct operating_choice choice = choose(index, request);
    uint32_t search_list = choice.search_list;
    uint32_t candidates = query_candidates(index, search_list, request->k);
    struct query_capacity want = {
        .dim = index->properties.dim,
        .k = request->k,
        .candidates = candidates,
        .cells = index->plan.scan_reads ? scan_cells_of(search_list, index->properties.cells) : 0};
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

/* A failed query answers at once; its reads in flight only return their buffers. */
static void fail(struct query *query, int status)
{
    query->status = status;
    query->page_count = query->pages_issued;
    query->phase = QUERY_DONE;
}

static void fail_walk(struct query *query, int status)
{
    snprintf(query->detail, sizeof query->detail, "%s: section lists: a list does not decode",
             query->index->file.path);
    fail(query, status);
}

/* ---- reading ---- */

/* The next page that a query wants, as a read; false when there is none. */
static bool next_read(const struct query *query, struct read_info *read, uint64_t *page)
{
    if (query->phase == QUERY_WALK)
        for (uint32_t i = 0; i < LIST_PAGES_KEPT; i++)
            if (query->own.list_pages[i].state == LIST_PAGE_WANTED) {
                *read = (struct read_info){.page = i, .span = 1, .kind = READ_LISTS};
                *page = query->index->list_section->first_page + query->own.list_pages[i].number;
                return true;
            }
    if (query->phase == QUERY_SCAN && scan_wants(query, page)) {
        *read = (struct read_info){.page = (uint32_t)*page, .span = 1, .kind = READ_CODES};
        *page += query->index->scan.section->first_page;
        return true;
    }
    if ((query->phase != QUERY_REFINE && query->phase != QUERY_EXACT) ||
        query->pages_issued == query->page_count)
        return false;
    *read = (struct read_info){.page = query->pages_issued,
                               .span = (uint16_t)query_section(query)->pages_per_row};
    *page = query->pages[query->pages_issued];
    return true;
}

static void note_issued(struct query *query, const struct read_info *read)
{
    query->navigation_reads_out += read->kind != READ_ROWS;
    if (read->kind == READ_LISTS) {
        query->own.list_pages[read->page].state = LIST_PAGE_READING;
        query->stats.list_reads++;
    } else if (read->kind == READ_CODES) {
        scan_issued(query);
        query->stats.code_reads++;
    } else {
        query->pages_issued++;
    }
    query->stats.reads++;
    query->stats.bytes += (uint64_t)read->span * PAGE_BYTES;
}

/* False when the ring or the buffers have no room. */
static bool issue_one(struct fathom_engine *engine, struct query *query, struct read_info read,
                      uint64_t page)
{
    uint32_t first = page_pool_take(&engine->pool, read.span);
    if (first == PAGES_NONE)
        return false;
    int status = ring_read(engine->ring, query->index->file.fd, page_pool_at(&engine->pool, first),
                           read.span * PAGE_BYTES, page * PAGE_BYTES, first);
    if (status) {
        page_pool_give(&engine->pool, first, read.span);
        return false;
    }
    read.slot = (uint32_t)(query - engine->slots);
    engine->reads[first] = read;
    note_issued(query, &read);
    return true;
}

static int issue(struct fathom_engine *engine)
{
    engine->held_back = 0;
    for (unsigned n = 0; n < engine->inflight; n++) {
        unsigned i = (engine->next_issue + n) % engine->inflight;
        struct read_info read;
        uint64_t page;
        while (next_read(&engine->slots[i], &read, &page))
            if (!issue_one(engine, &engine->slots[i], read, page)) {
                engine->next_issue = i;
                return ring_submit(engine->ring);
            }
    }
    return ring_submit(engine->ring);
}

/* Between submits nobody polls: without this, all slots would navigate while the device has nothing
 * to do, and then wait for it together (docs/adr/0027). A failure shows up again in the next poll.
 */
static void issue_early(struct fathom_engine *engine, const struct query *query)
{
    engine->held_back += query->phase == QUERY_WALK   ? 1
                         : query->phase == QUERY_SCAN ? HELD_BACK_MOST
                                                      : query->page_count;
    if (reading(query) && engine->held_back >= HELD_BACK_MOST)
        (void)!issue(engine);
}

/* ---- submitting ---- */

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
    query->stats = (struct fathom_query_stats){0};
    query->detail[0] = '\0';
    query->started_ns = env_clock_ns(engine->env);
    engine->running++;
    status = query_begin(query, navigator, request, beam(engine));
    scratch_release_large(&engine->scratch, index);
    drop_stale(engine, query);
    if (status)
        fail_walk(query, status);
    query->stats.compute_ns = env_clock_ns(engine->env) - query->started_ns;
    issue_early(engine, query);
    return 0;
}

/* ---- completions ---- */

/* Checks the pages of one read and moves their payloads together. NULL when one is damaged. */
static const uint8_t *check_pages(struct query *query, const struct section *section,
                                  uint8_t *buffer, uint64_t first, uint32_t span)
{
    for (uint32_t i = 0; i < span; i++) {
        struct page_place place = {query->index->properties.generation, section->kind, first + i};
        if (!page_check(buffer + (size_t)i * PAGE_BYTES, &place)) {
            snprintf(query->detail, sizeof query->detail,
                     "%s: section %s: checksum mismatch in page %" PRIu64 " (offset %" PRIu64 ")",
                     query->index->file.path, section_name(section->kind), first + i,
                     (first + i) * PAGE_BYTES);
            return NULL;
        }
    }
    for (uint32_t i = 1; i < span; i++)
        memmove(buffer + PAGE_HEADER + (size_t)i * PAGE_PAYLOAD,
                buffer + (size_t)i * PAGE_BYTES + PAGE_HEADER, PAGE_PAYLOAD);
    return buffer + PAGE_HEADER;
}

/* What a read has brought; NULL when the query has failed by it. */
static const uint8_t *payload_of(struct query *query, const struct section *section,
                                 uint8_t *buffer, uint64_t page, uint32_t span, int result)
{
    const uint8_t *payload = NULL;
    if (result >= 0)
        payload = check_pages(query, section, buffer, page, span);
    else
        snprintf(query->detail, sizeof query->detail,
                 "%s: reading page %" PRIu64 " (offset %" PRIu64 "): %s", query->index->file.path,
                 page, page * PAGE_BYTES, fathom_strerror(result));
    if (!payload)
        fail(query, result < 0 ? result : FATHOM_ECHECKSUM);
    return payload;
}

static void take_page(struct fathom_engine *engine, struct query *query, uint32_t page,
                      uint8_t *buffer, int result)
{
    const struct section *section = query_section(query);
    const uint8_t *payload =
        payload_of(query, section, buffer, query->pages[page], section->pages_per_row, result);
    if (!payload) {
        query->pages_done++;
        return;
    }
    query_page(query, page, payload, engine->scores);
    if (query->pages_done == query->page_count)
        query_next(query);
}

static int step_scan(struct fathom_engine *engine, struct query *query, uint32_t page,
                     const uint8_t *payload)
{
    struct navigator *navigator;
    int status = scratch_reserve(&engine->scratch, query, query->index, query->search_list,
                                 query->candidate_limit, &navigator);
    if (status == 0)
        query_scan_page(query, navigator, page, payload);
    scratch_release_large(&engine->scratch, query->index);
    return status;
}

/* A page of lists or codes: navigating goes on. */
static void take_navigation_page(struct fathom_engine *engine, struct query *query,
                                 const struct read_info *read, uint8_t *buffer, int result)
{
    const struct fathom_index *index = query->index;
    bool lists = read->kind == READ_LISTS;
    const struct section *section = lists ? index->list_section : index->scan.section;
    uint64_t number = lists ? query->own.list_pages[read->page].number : read->page;
    const uint8_t *payload =
        payload_of(query, section, buffer, section->first_page + number, 1, result);
    if (!payload)
        return;
    uint64_t started_ns = env_clock_ns(engine->env);
    int status = lists ? query_list_page(query, read->page, payload, beam(engine))
                       : step_scan(engine, query, read->page, payload);
    if (status && lists)
        fail_walk(query, status);
    else if (status)
        fail(query, status);
    query->stats.compute_ns += env_clock_ns(engine->env) - started_ns;
}

/* Late pages, of queries that have answered or walked on without them, only return their buffers.
 */
static void complete(struct fathom_engine *engine, const struct ring_completion *completion)
{
    uint32_t first = (uint32_t)completion->tag;
    struct read_info read = engine->reads[first];
    struct query *query = &engine->slots[read.slot];
    uint8_t *buffer = page_pool_at(&engine->pool, first);
    bool rows = read.kind == READ_ROWS;
    query->navigation_reads_out -= !rows;
    if (!rows && (query->phase == QUERY_WALK || query->phase == QUERY_SCAN))
        take_navigation_page(engine, query, &read, buffer, completion->result);
    else if (rows && reading(query))
        take_page(engine, query, read.page, buffer, completion->result);
    else
        query->pages_done += rows;
    page_pool_give(&engine->pool, first, read.span);
}

static int reap(struct fathom_engine *engine, bool wait, uint64_t timeout_ns)
{
    struct ring_completion done[REAP_BATCH];
    int count = ring_reap(engine->ring, done, REAP_BATCH, wait, timeout_ns);
    for (int i = 0; i < count; i++)
        complete(engine, &done[i]);
    return count;
}

/* ---- polling ---- */

/* Ends queries that were cancelled or whose time is up. Returns the nearest deadline that is left,
 * 0 for none. */
static uint64_t expire(struct fathom_engine *engine, uint64_t now)
{
    uint64_t nearest = 0;
    for (unsigned i = 0; i < engine->inflight; i++) {
        struct query *query = &engine->slots[i];
        if (!reading(query))
            continue;
        if (query->cancelled)
            fail(query, FATHOM_ECANCELLED);
        else if (query->deadline_ns && now >= query->deadline_ns)
            fail(query, FATHOM_EDEADLINE);
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

int fathom_engine_poll(struct fathom_engine *engine, struct fathom_result *out, unsigned max,
                       bool wait)
{
    recycle(engine);
    for (;;) {
        uint64_t now = env_clock_ns(engine->env);
        uint64_t deadline = expire(engine, now);
        int status = issue(engine);
        if (status == 0)
            status = reap(engine, false, 0);
        if (status > 0)
            status = issue(engine); /* queries that went on to a second wave */
        if (status < 0)
            return status;
        unsigned count = collect(engine, out, max, now);
        if (count || !wait || engine->running == 0 || ring_in_flight(engine->ring) == 0)
            return (int)count;
        status = reap(engine, true, deadline ? deadline - now : 0);
        if (status < 0)
            return status;
    }
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
