/* The life of a search: taken from the pool -> live, queued while it has rows to submit -> answered
 * once -> back to the pool when no row is running any more. */
#include "dispatch.h"

#include "env.h"
#include "mem.h"
#include "protocol.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define POOL_SEARCHES_MAX    256
#define POOL_BLOCK_BYTES_MAX (64u << 10) /* larger blocks are not kept */
#define POLL_RESULTS         64
#define RATE_WINDOW_NS       50000000u
#define PUMP_NS              1000000u /* a pump lasts no longer than this, so that sockets are served */
#define BACKLOG_ROWS         8 /* so many waiting rows are a backlog: throughput counts, not delay */
#define BACKLOG_SUBMITS      4 /* of which this many are submitted in one go */

struct dispatch {
    struct dispatch_options options;
    struct fathom_engine *engine;
    struct search *live; /* all that are started and not over */
    struct search *queue, **queue_end;
    struct search *pool; /* through queue_next */
    unsigned pool_count;
    unsigned waiting_rows, deadlines;
    uint64_t answers; /* so far */
    /* The rate at which rows finish while others wait: what a place in the queue costs. window_ns
     * is 0 while nobody waits. */
    uint64_t window_ns, window_rows;
    double rows_per_s;
    struct fathom_result results[POLL_RESULTS];
};

int dispatch_create(struct dispatch **out, const struct dispatch_options *options,
                    struct fathom_error *err)
{
    *out = NULL;
    struct dispatch *dispatch = mem_alloc(sizeof *dispatch);
    if (!dispatch) {
        if (err)
            snprintf(err->msg, sizeof err->msg, "no memory for a worker's queue");
        return -ENOMEM;
    }
    dispatch->options = *options;
    dispatch->queue_end = &dispatch->queue;
    struct fathom_engine_options engine = fathom_engine_options_default();
    engine.io = options->io;
    engine.inflight = options->inflight;
    engine.index = options->index;
    int rc = fathom_engine_create(&dispatch->engine, &engine, err);
    if (rc < 0) {
        mem_free(dispatch);
        return rc;
    }
    *out = dispatch;
    return 0;
}

/* ---- memory ---- */

static void free_search(struct dispatch *dispatch, struct search *search)
{
    allowance_give(dispatch->options.allowance, search->block_bytes);
    mem_free(search->block);
    mem_free(search);
}

static struct search *pool_take(struct dispatch *dispatch)
{
    struct search *search = dispatch->pool;
    if (!search)
        return mem_alloc(sizeof *search);
    dispatch->pool = search->queue_next;
    dispatch->pool_count--;
    void *block = search->block;
    size_t bytes = search->block_bytes;
    memset(search, 0, sizeof *search);
    search->block = block;
    search->block_bytes = bytes;
    return search;
}

/* Kept only while the allowance is half free: what lies idle here must not be missing elsewhere. */
static void pool_give(struct dispatch *dispatch, struct search *search)
{
    const struct buffer_allowance *allowance = dispatch->options.allowance;
    edition_release(search->edition);
    search->edition = NULL;
    if (dispatch->pool_count == POOL_SEARCHES_MAX || search->block_bytes > POOL_BLOCK_BYTES_MAX ||
        atomic_load_explicit(&allowance->used, memory_order_relaxed) > allowance->limit / 2) {
        free_search(dispatch, search);
        return;
    }
    search->queue_next = dispatch->pool;
    dispatch->pool = search;
    dispatch->pool_count++;
}

/* Replaces the block when it is too small; the content is not kept. */
static int block_reserve(struct dispatch *dispatch, struct search *search, size_t bytes)
{
    struct buffer_allowance *allowance = dispatch->options.allowance;
    if (bytes <= search->block_bytes)
        return 0;
    allowance_give(allowance, search->block_bytes);
    mem_free(search->block);
    search->block = NULL;
    search->block_bytes = 0;
    if (!allowance_take(allowance, bytes))
        return -ENOMEM;
    search->block = mem_alloc(bytes);
    if (!search->block) {
        allowance_give(allowance, bytes);
        return -ENOMEM;
    }
    search->block_bytes = bytes;
    return 0;
}

/* One block holds all arrays of a search. All factors are bounded by the protocol (1024 rows, 4096
 * values of k or of a vector), so that no product overflows. */
static int lay_out(struct dispatch *dispatch, struct search *search, uint32_t n, uint32_t k,
                   size_t vector_bytes, bool explain)
{
    size_t vectors = size_round_up(vector_bytes, MEM_ALIGN);
    size_t ids = size_round_up((size_t)n * k * sizeof(uint64_t), MEM_ALIGN);
    size_t distances = size_round_up((size_t)n * k * sizeof(float), MEM_ALIGN);
    size_t rows = size_round_up((size_t)n * sizeof(struct search_row), MEM_ALIGN);
    size_t counts = explain ? (size_t)n * sizeof(struct search_counts) : 0;
    int rc = block_reserve(dispatch, search, vectors + ids + distances + rows + counts);
    if (rc < 0)
        return rc;
    uint8_t *at = search->block;
    search->vectors = at;
    search->ids = (uint64_t *)(void *)(at += vectors);
    search->distances = (float *)(void *)(at += ids);
    search->rows = (struct search_row *)(void *)(at += distances);
    search->row_counts = explain ? (struct search_counts *)(void *)(at + rows) : NULL;
    for (uint32_t row = 0; row < n; row++)
        search->rows[row] = (struct search_row){.search = search};
    if (explain)
        memset(search->row_counts, 0, counts);
    return 0;
}

/* ---- admission ---- */

/* How long the queue takes to empty at the rate of late; 0 when that is not known. */
static double queue_ms(const struct dispatch *dispatch)
{
    return dispatch->rows_per_s > 0 ? 1000.0 * dispatch->waiting_rows / dispatch->rows_per_s : 0;
}

/* Advice for a refused client. */
static uint32_t advise_ms(const struct dispatch *dispatch)
{
    double ms = dispatch->rows_per_s > 0 ? queue_ms(dispatch) : 100;
    return ms < 5 ? 5 : ms > 1000 ? 1000 : (uint32_t)ms;
}

/* Half of the time for the queue, half for the answer: admitted up to the brim, every search would
 * reach its slot with its time nearly gone, and the work would be for nothing (389 of 1,000
 * answered in time at ten times the load). */
bool dispatch_is_hopeless(const struct dispatch *dispatch, uint64_t allowed_ms,
                          struct rpc_error *err)
{
    if (dispatch->window_ns == 0 || 2 * queue_ms(dispatch) <= (double)allowed_ms)
        return false;
    rpc_error_exhausted(err, PROTOCOL_REASON_QUEUE, advise_ms(dispatch),
                        "%u queries wait already, which takes more than half of the deadline",
                        dispatch->waiting_rows);
    return true;
}

struct search *dispatch_take(struct dispatch *dispatch, struct edition *edition, uint32_t n,
                             uint32_t k, size_t vector_bytes, bool explain, struct rpc_error *err)
{
    if (dispatch->waiting_rows > 0 && dispatch->waiting_rows + n > dispatch->options.queue_rows) {
        rpc_error_exhausted(err, PROTOCOL_REASON_QUEUE, advise_ms(dispatch),
                            "%u queries wait already (--max-queue %u); try again later",
                            dispatch->waiting_rows, dispatch->options.queue_rows);
        return NULL;
    }
    struct search *search = pool_take(dispatch);
    if (!search || lay_out(dispatch, search, n, k, vector_bytes, explain) < 0) {
        if (search)
            free_search(dispatch, search);
        rpc_error_exhausted(err, PROTOCOL_REASON_MEMORY, advise_ms(dispatch),
                            "no memory for this request; try again later");
        return NULL;
    }
    search->edition = edition_retain(edition);
    search->n = n;
    search->explain = explain;
    search->query = fathom_query_default();
    search->query.k = k;
    search->complete = true;
    return search;
}

void dispatch_drop(struct dispatch *dispatch, struct search *search)
{
    pool_give(dispatch, search);
}

static void enqueue(struct dispatch *dispatch, struct search *search)
{
    search->queue_next = NULL;
    *dispatch->queue_end = search;
    dispatch->queue_end = &search->queue_next;
    search->queued = true;
}

static struct search *dequeue(struct dispatch *dispatch)
{
    struct search *search = dispatch->queue;
    dispatch->queue = search->queue_next;
    if (!dispatch->queue)
        dispatch->queue_end = &dispatch->queue;
    search->queued = false;
    return search;
}

void dispatch_start(struct dispatch *dispatch, struct search *search)
{
    search->live_next = dispatch->live;
    search->live_prev = &dispatch->live;
    if (dispatch->live)
        dispatch->live->live_prev = &search->live_next;
    dispatch->live = search;
    dispatch->waiting_rows += search->n;
    dispatch->deadlines += search->query.deadline_ns != 0;
    enqueue(dispatch, search);
}

/* ---- the end of a search ---- */

/* Over: answered, and nothing of it is running or queued. */
static void recycle_if_over(struct dispatch *dispatch, struct search *search)
{
    if (!search->answered || search->rows_running > 0 || search->queued)
        return;
    *search->live_prev = search->live_next;
    if (search->live_next)
        search->live_next->live_prev = search->live_prev;
    pool_give(dispatch, search);
}

/* From here on the search asks for nothing more; rows that are running are told to stop. It may
 * still be in the queue, where submit_next drops it when its turn comes. */
static void retire(struct dispatch *dispatch, struct search *search)
{
    search->answered = true;
    dispatch->deadlines -= search->query.deadline_ns != 0;
    dispatch->waiting_rows -= search->n - search->next_row;
    for (uint32_t row = 0; search->rows_running > 0 && row < search->next_row; row++) {
        if (search->rows[row].running)
            fathom_engine_cancel(dispatch->engine, &search->rows[row]);
    }
    search->next_row = search->n;
}

/* Answers it and takes it apart; the caller must not touch it again, unless it is queued or has
 * rows running. */
static void answer(struct dispatch *dispatch, struct search *search, uint64_t now_ns)
{
    retire(dispatch, search);
    search->counts.total_ns = now_ns > search->arrived_ns ? now_ns - search->arrived_ns : 0;
    dispatch->answers++;
    dispatch->options.done(dispatch->options.context, search, now_ns);
    recycle_if_over(dispatch, search);
}

void dispatch_fail(struct dispatch *dispatch, struct search *search, const struct rpc_error *err,
                   uint64_t now_ns)
{
    search->err = *err;
    answer(dispatch, search, now_ns);
}

void dispatch_abandon(struct dispatch *dispatch, struct search *search)
{
    search->owner = NULL;
    retire(dispatch, search);
    recycle_if_over(dispatch, search);
}

void dispatch_fail_all(struct dispatch *dispatch, const struct rpc_error *err, uint64_t now_ns)
{
    struct search *next;
    for (struct search *search = dispatch->live; search; search = next) {
        next = search->live_next;
        if (!search->answered)
            dispatch_fail(dispatch, search, err, now_ns);
    }
}

void dispatch_expire(struct dispatch *dispatch, uint64_t now_ns)
{
    struct search *next;
    for (struct search *search = dispatch->live; search; search = next) {
        next = search->live_next;
        if (search->answered || search->query.deadline_ns == 0 ||
            now_ns < search->query.deadline_ns)
            continue;
        struct rpc_error err;
        rpc_error_set(&err, PROTOCOL_ERROR_DEADLINE_EXCEEDED,
                      "the deadline passed with %u of %u queries answered", search->rows_done,
                      search->n);
        dispatch_fail(dispatch, search, &err, now_ns);
    }
}

/* ---- through the engine ---- */

/* message may be NULL. */
static void fail_row(struct dispatch *dispatch, struct search *search, uint32_t row, int code,
                     const char *message, uint64_t now_ns)
{
    struct rpc_error err;
    rpc_error_from_library(&err, code, message ? message : "");
    if (search->n > 1)
        err.row = row;
    dispatch_fail(dispatch, search, &err, now_ns);
}

/* Submits one row of the first search of the queue and puts the search at its end, when it has
 * more. False when every slot is taken. */
static bool submit_next(struct dispatch *dispatch, uint64_t now_ns)
{
    struct search *search = dispatch->queue;
    if (search->answered) {
        dequeue(dispatch);
        recycle_if_over(dispatch, search);
        return true;
    }
    uint32_t row = search->next_row;
    struct fathom_query query = search->query;
    size_t stride = (size_t)query.dim * fathom_dtype_bytes(query.dtype);
    query.vector = (const uint8_t *)search->vectors + row * stride;
    query.user = &search->rows[row];
    struct fathom_error err = {.msg = ""};
    int rc = fathom_engine_submit(dispatch->engine, search->edition->index, &query, &err);
    if (rc == FATHOM_EBUSY)
        return false;
    dequeue(dispatch);
    if (rc < 0) {
        fail_row(dispatch, search, row, rc, err.msg, now_ns);
        return true;
    }
    search->rows[row].running = true;
    search->rows_running++;
    search->next_row++;
    dispatch->waiting_rows--;
    uint64_t waited_ns = now_ns > search->arrived_ns ? now_ns - search->arrived_ns : 0;
    search->counts.queue_ns += waited_ns;
    if (search->row_counts)
        search->row_counts[row].queue_ns = waited_ns;
    histogram_record(&dispatch->options.stats->indexes[search->edition->slot].queue_us,
                     waited_ns / 1000);
    if (search->next_row < search->n)
        enqueue(dispatch, search);
    return true;
}

static void add_counts(struct search_counts *counts, const struct fathom_query_stats *stats)
{
    counts->hops += stats->hops;
    counts->rounds += stats->rounds;
    counts->reads += stats->reads;
    counts->bytes += stats->bytes;
    counts->list_reads += stats->list_reads;
    counts->code_reads += stats->code_reads;
    counts->resident_lists += stats->resident_lists;
    counts->code_distances += stats->code_distances;
    counts->full_distances += stats->full_distances;
    counts->reranked += stats->reranked;
    counts->widened += stats->widened;
    counts->queue_ns += stats->queue_ns;
    counts->io_ns += stats->io_ns;
    counts->compute_ns += stats->compute_ns;
    counts->total_ns += stats->total_ns;
    counts->stop_reason = stats->stop_reason;
}

/* The engine's arrays are lent until its next call, so they are copied at once; the padding is
 * written here, so that the wire never depends on what a slot held before. */
static void copy_results(struct search *search, uint32_t row, const struct fathom_result *result)
{
    uint32_t k = search->query.k;
    uint32_t count = result->count < k ? result->count : k;
    uint64_t *ids = search->ids + (size_t)row * k;
    float *distances = search->distances + (size_t)row * k;
    memcpy(ids, result->ids, count * sizeof *ids);
    memcpy(distances, result->distances, count * sizeof *distances);
    for (uint32_t i = count; i < k; i++) {
        ids[i] = FATHOM_ID_NONE;
        distances[i] = INFINITY;
    }
    uint64_t wanted = search->edition->info.rows < k ? search->edition->info.rows : k;
    if (count < wanted)
        search->complete = false;
}

static void count_row(struct dispatch *dispatch, const struct search *search,
                      const struct fathom_result *result)
{
    struct index_stats *stats = &dispatch->options.stats->indexes[search->edition->slot];
    counter_add(&stats->rows, 1);
    counter_add(&stats->widened, result->stats.widened);
    counter_add(&stats->reads, result->stats.reads);
    counter_add(&stats->read_bytes, result->stats.bytes);
    histogram_record(&stats->reads_per_query, result->stats.reads);
    dispatch->window_rows++;
}

static void finish_row(struct dispatch *dispatch, const struct fathom_result *result,
                       uint64_t now_ns)
{
    struct search_row *handle = result->user;
    struct search *search = handle->search;
    uint32_t row = (uint32_t)(handle - search->rows);
    handle->running = false;
    search->rows_running--;
    count_row(dispatch, search, result);
    if (search->answered) {
        recycle_if_over(dispatch, search);
        return;
    }
    if (result->status < 0) {
        fail_row(dispatch, search, row, result->status, result->detail, now_ns);
        return;
    }
    copy_results(search, row, result);
    add_counts(&search->counts, &result->stats);
    if (search->row_counts)
        add_counts(&search->row_counts[row], &result->stats);
    if (++search->rows_done == search->n)
        answer(dispatch, search, now_ns);
}

static void measure_rate(struct dispatch *dispatch, uint64_t now_ns)
{
    if (dispatch->waiting_rows == 0) {
        dispatch->window_ns = 0;
        return;
    }
    if (dispatch->window_ns != 0 && now_ns - dispatch->window_ns < RATE_WINDOW_NS)
        return;
    if (dispatch->window_ns != 0)
        dispatch->rows_per_s =
            (double)dispatch->window_rows * 1e9 / (double)(now_ns - dispatch->window_ns);
    dispatch->window_ns = now_ns;
    dispatch->window_rows = 0;
}

/* The engine itself failed, which no query can be blamed for. */
static void fail_engine(struct dispatch *dispatch, int code, uint64_t now_ns)
{
    struct rpc_error err;
    rpc_error_from_library(&err, code, "");
    dispatch_fail_all(dispatch, &err, now_ns);
}

static void show_gauges(struct dispatch *dispatch)
{
    struct thread_stats *stats = dispatch->options.stats;
    atomic_store_explicit(&stats->running, fathom_engine_running(dispatch->engine),
                          memory_order_relaxed);
    atomic_store_explicit(&stats->waiting, dispatch->waiting_rows, memory_order_relaxed);
}

static bool has_backlog(const struct dispatch *dispatch)
{
    return dispatch->waiting_rows >= BACKLOG_ROWS;
}

/* Submitting computes, for as long as a query navigates. So the engine is polled after each row:
 * what it wants read is on its way before the next one computes, and what has been read is taken.
 * In a backlog nobody is helped by that, and it costs a tenth of the throughput, in calls for reads
 * (docs/adr/0024). True when every slot is taken. */
static bool submit_some(struct dispatch *dispatch, uint64_t now_ns)
{
    for (int left = has_backlog(dispatch) ? BACKLOG_SUBMITS : 1; left && dispatch->queue; left--) {
        if (!submit_next(dispatch, now_ns))
            return true;
    }
    return false;
}

/* What is answered is sent only when the pump is over. */
static uint64_t pump_limit_ns(const struct dispatch *dispatch, bool answered, uint64_t batch_ns)
{
    return !answered || has_backlog(dispatch) || batch_ns > PUMP_NS ? PUMP_NS : batch_ns;
}

/* The engine is polled even when nothing runs: late reads of queries that were answered free their
 * slots there. */
bool dispatch_pump(struct dispatch *dispatch, uint64_t now_ns, uint64_t batch_ns)
{
    uint64_t started_ns = now_ns, answers = dispatch->answers;
    bool again;
    do {
        bool full = submit_some(dispatch, now_ns);
        int finished = fathom_engine_poll(dispatch->engine, dispatch->results, POLL_RESULTS, false);
        now_ns = env_clock_ns(env_os());
        for (int i = 0; i < finished; i++)
            finish_row(dispatch, &dispatch->results[i], now_ns);
        if (finished < 0)
            fail_engine(dispatch, finished, now_ns);
        /* After results the engine keeps their slots until the next poll. */
        again = finished > 0 || (dispatch->queue && !full);
    } while (again &&
             now_ns - started_ns < pump_limit_ns(dispatch, dispatch->answers != answers, batch_ns));
    measure_rate(dispatch, now_ns);
    show_gauges(dispatch);
    /* Without an event fd the engine's reads are done inside poll, which then always has something
     * to do. */
    return again || (fathom_engine_event_fd(dispatch->engine) < 0 &&
                     fathom_engine_running(dispatch->engine) > 0);
}

/* ---- asking ---- */

bool dispatch_has_deadlines(const struct dispatch *dispatch)
{
    return dispatch->deadlines > 0;
}

int dispatch_event_fd(const struct dispatch *dispatch)
{
    return fathom_engine_event_fd(dispatch->engine);
}

enum fathom_io dispatch_io(const struct dispatch *dispatch)
{
    return fathom_engine_io(dispatch->engine);
}

const char *dispatch_io_note(const struct dispatch *dispatch)
{
    return fathom_engine_io_note(dispatch->engine);
}

bool dispatch_is_empty(const struct dispatch *dispatch)
{
    return dispatch->live == NULL;
}

void dispatch_destroy(struct dispatch *dispatch)
{
    if (!dispatch)
        return;
    /* The engine first: it waits for reads that use the searches' editions. */
    fathom_engine_destroy(dispatch->engine);
    while (dispatch->live) {
        struct search *search = dispatch->live;
        dispatch->live = search->live_next;
        edition_release(search->edition);
        free_search(dispatch, search);
    }
    while (dispatch->pool) {
        struct search *search = dispatch->pool;
        dispatch->pool = search->queue_next;
        free_search(dispatch, search);
    }
    mem_free(dispatch);
}
