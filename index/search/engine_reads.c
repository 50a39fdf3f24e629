/* The engine's traffic with its ring: which pages its queries want next, what to do with those that
 * have come, and how a query fails by one. Every page is checked against its place before it is
 * used. Never waits but in engine_reap, when asked to. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "engine.h"
#include "runs.h"

#define REAP_BATCH     64
#define HELD_BACK_MOST 8 /* pages wanted before reads are issued without a poll */
#define BEAM_IDLE      2 /* queries in flight that leave the device idle */

/* ---- queries ---- */

/* How many pages a walk has on their way. Asking ahead saves waiting and costs reads: for two pages
 * 28% fewer rounds and 3% more reads, for four 44% and 31% (docs/adr/0011). So it depends on who
 * else wants the device. */
uint32_t engine_beam(const struct fathom_engine *engine)
{
    if (engine->running <= BEAM_IDLE)
        return BEAM_MAX;
    return engine->running <= engine->inflight / 2 ? 2 : 1;
}

void engine_fail(struct query *query, int status)
{
    query->status = status;
    query->page_count = query->pages_issued;
    query->phase = QUERY_DONE;
}

void engine_fail_walk(struct query *query, int status)
{
    snprintf(query->detail, sizeof query->detail, "%s: section lists: a list does not decode",
             query->index->file.path);
    engine_fail(query, status);
}

/* ---- reading ---- */

/* The next run of pages that a query wants; false when there is none. */
static bool next_read(const struct query *query, struct read_info *read, uint64_t *page)
{
    uint32_t span, next;
    if (query->phase == QUERY_WALK)
        for (uint32_t i = 0; i < LIST_PAGES_KEPT; i++)
            if (query->own.list_pages[i].state == LIST_PAGE_WANTED) {
                *read = (struct read_info){.page = i, .span = 1, .kind = READ_LISTS};
                *page = query->index->list_section->first_page + query->own.list_pages[i].number;
                return true;
            }
    if (!engine_is_reading(query) || query->phase == QUERY_WALK ||
        query->pages_issued == query->page_count)
        return false;
    span = run_pages(query_runs(query), query->pages, query->pages_issued, query->page_count,
                     query_span(query), &next);
    *read = (struct read_info){.page = query->pages_issued,
                               .span = (uint16_t)span,
                               .wanted = (uint16_t)(next - query->pages_issued),
                               .kind = query->phase == QUERY_SCAN ? READ_CODES : READ_ROWS};
    *page = query_page_at(query, query->pages_issued);
    return true;
}

static void note_issued(struct query *query, const struct read_info *read)
{
    query->navigation_reads_out += read->kind != READ_ROWS;
    query->row_reads_out += read->kind == READ_ROWS;
    if (read->kind == READ_LISTS) {
        query->own.list_pages[read->page].state = LIST_PAGE_READING;
        query->stats.list_reads++;
    } else {
        query->pages_issued += read->wanted;
        query->stats.code_reads += read->kind == READ_CODES;
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

void engine_queue(struct fathom_engine *engine)
{
    engine->held_back = 0;
    engine->is_short = false;
    for (unsigned n = 0; n < engine->inflight; n++) {
        unsigned i = (engine->next_issue + n) % engine->inflight;
        struct read_info read;
        uint64_t page;
        while (next_read(&engine->slots[i], &read, &page))
            if (!issue_one(engine, &engine->slots[i], read, page)) {
                engine->next_issue = i;
                engine->is_short = true;
                return;
            }
    }
}

/* Between submits nobody polls: without this, all slots would navigate while the device has nothing
 * to do, and then wait for it together (docs/adr/0027). A failure shows up again in the next poll.
 */
void engine_issue_early(struct fathom_engine *engine, const struct query *query)
{
    engine->held_back += query->phase == QUERY_WALK ? 1 : query->page_count;
    if (!engine_is_reading(query) || engine->held_back < HELD_BACK_MOST)
        return;
    engine_queue(engine);
    (void)!ring_submit(engine->ring);
}

/* ---- completions ---- */

/* Checks the pages of one row and moves their payloads together. NULL when one is damaged. */
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

/* What a read has brought of span pages; NULL when the query has failed by it. */
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
        engine_fail(query, result < 0 ? result : FATHOM_ECHECKSUM);
    return payload;
}

static void next_phase(struct fathom_engine *engine, struct query *query)
{
    struct navigator *navigator = NULL;
    int status = 0;
    if (query_next_weighs(query))
        status = scratch_reserve(&engine->scratch, query, query->index, query->search_list,
                                 query->candidate_limit, &navigator);
    if (status)
        engine_fail(query, status);
    else
        query_next(query, navigator);
    scratch_release_large(&engine->scratch, query->index);
}

/* What the i-th wanted page of a read holds; NULL when the query has failed by it. */
static const uint8_t *wanted_payload(struct query *query, const struct read_info *read, uint32_t i,
                                     uint8_t *buffer, int result)
{
    uint64_t first = query_page_at(query, read->page), page = query_page_at(query, read->page + i);
    return payload_of(query, query_section(query), buffer + (page - first) * PAGE_BYTES, page,
                      query_span(query), result);
}

static void take_rows(struct fathom_engine *engine, struct query *query,
                      const struct read_info *read, uint8_t *buffer, int result)
{
    for (uint32_t i = 0; i < read->wanted; i++) {
        const uint8_t *payload = wanted_payload(query, read, i, buffer, result);
        if (!payload)
            return;
        query_page(query, read->page + i, payload, engine->scores);
    }
    if (query->pages_done == query->page_count)
        next_phase(engine, query);
}

/* A page of lists: the walk goes on. */
static void take_lists(struct fathom_engine *engine, struct query *query,
                       const struct read_info *read, uint8_t *buffer, int result)
{
    const struct section *section = query->index->list_section;
    uint64_t page = section->first_page + query->own.list_pages[read->page].number;
    const uint8_t *payload = payload_of(query, section, buffer, page, 1, result);
    if (!payload)
        return;
    int status = query_list_page(query, read->page, payload, engine_beam(engine));
    if (status)
        engine_fail_walk(query, status);
}

static void take_codes(struct fathom_engine *engine, struct query *query,
                       const struct read_info *read, uint8_t *buffer, int result)
{
    struct navigator *navigator;
    int status = scratch_reserve(&engine->scratch, query, query->index, query->search_list,
                                 query->candidate_limit, &navigator);
    if (status)
        engine_fail(query, status);
    for (uint32_t i = 0; i < read->wanted && status == 0; i++) {
        const uint8_t *payload = wanted_payload(query, read, i, buffer, result);
        if (!payload)
            break;
        query_code_page(query, navigator, read->page + i, payload);
    }
    scratch_release_large(&engine->scratch, query->index);
}

/* Pages of lists or codes: navigating goes on. */
static void take_navigation(struct fathom_engine *engine, struct query *query,
                            const struct read_info *read, uint8_t *buffer, int result)
{
    uint64_t started_ns = env_clock_ns(engine->env);
    if (read->kind == READ_LISTS)
        take_lists(engine, query, read, buffer, result);
    else
        take_codes(engine, query, read, buffer, result);
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
    query->row_reads_out -= rows;
    if (!rows && (query->phase == QUERY_WALK || query->phase == QUERY_SCAN))
        take_navigation(engine, query, &read, buffer, completion->result);
    else if (rows && engine_is_reading(query))
        take_rows(engine, query, &read, buffer, completion->result);
    page_pool_give(&engine->pool, first, read.span);
}

/* Rows are judged when the last of their wave is in, so a query that lacks two is not helped by the
 * first, and being woken costs more than taking it later. Pages of lists and codes are work at
 * once. */
static unsigned reads_lacking(const struct query *query)
{
    bool navigates = query->phase == QUERY_WALK || query->phase == QUERY_SCAN;
    return navigates ? 1 : query->row_reads_out;
}

unsigned engine_reads_lacking(const struct fathom_engine *engine)
{
    unsigned least = UINT_MAX;
    for (unsigned i = 0; i < engine->inflight; i++) {
        const struct query *query = &engine->slots[i];
        unsigned lacking = engine_is_reading(query) ? reads_lacking(query) : UINT_MAX;
        least = lacking < least ? lacking : least;
    }
    return engine->is_short || least == UINT_MAX ? 1 : least;
}

int engine_reap(struct fathom_engine *engine, unsigned wait_min, uint64_t timeout_ns)
{
    struct ring_completion done[REAP_BATCH];
    int count = ring_reap(engine->ring, done, REAP_BATCH, wait_min, timeout_ns);
    for (int i = 0; i < count; i++)
        complete(engine, &done[i]);
    return count;
}
