/* The closed loop: every thread keeps its slots full and records what comes back. The open loop:
 * query number i is due at begin + i / rate; a thread that is free takes the next, due or not, and
 * waits for its time or for the reads of its queries.
 *
 *     gate -> warm-up -> gate -> measured queries -> sums
 *
 * Tickets number the queries of a phase over all threads; ticket modulo query count is the query.
 * The answers of the first measured pass are kept for recall, so recall and speed are those of the
 * same queries. Latency ends with the poll that returned the result. In a closed loop it runs from
 * submit; with several queries in flight it includes waiting for one another. In an open loop it
 * runs from the appointed time, whatever kept the query from being submitted then. */
#include "search_run.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "error.h"
#include "mem.h"

#define RESULTS_MAX     64
#define GATE_TIMEOUT_NS 60000000000ull
#define WAIT_NS_MAX     50000000ull /* the stop flag is looked at this often */

struct slot {
    uint64_t ticket;
    uint64_t begin_ns;
};

struct worker {
    struct bench *bench;
    struct fathom_engine *engine;
    struct slot *slots; /* plan->inflight, those in use */
    struct slot **idle; /* a stack of the others */
    unsigned idle_count;
    struct latency latency, late;
    struct search_run sums;
    uint64_t begin_ns, end_ns;
    int status;
    struct fathom_error err;
};

struct bench {
    const struct search_plan *plan;
    struct worker *workers;
    _Atomic uint64_t tickets;  /* of the phase at hand; relaxed, nothing else hangs on the order */
    _Atomic uint64_t begin_ns; /* of an open loop: set by the first, for all; relaxed likewise */
    _Atomic unsigned arrivals; /* at the gates */
    _Atomic bool failed; /* some worker has given up; release pairs with acquire at the gate */
    struct stops *stops; /* of CPUs, in an open loop; NULL: none are watched */
};

/* Waits until every worker has come here for the round-th time (from 1). False when one has failed,
 * or never came: a thread that could not be started must not hang the others. */
static bool gate_pass(struct bench *bench, unsigned round)
{
    const struct env *env = bench->plan->env;
    uint64_t limit_ns = env_clock_ns(env) + GATE_TIMEOUT_NS;
    atomic_fetch_add_explicit(&bench->arrivals, 1, memory_order_acq_rel);
    while (atomic_load_explicit(&bench->arrivals, memory_order_acquire) <
           round * bench->plan->threads) {
        if (atomic_load_explicit(&bench->failed, memory_order_acquire))
            return false;
        if (env_clock_ns(env) > limit_ns)
            return false;
        sched_yield();
    }
    return !atomic_load_explicit(&bench->failed, memory_order_acquire);
}

static int worker_fail(struct worker *worker, int status)
{
    worker->status = status;
    atomic_store_explicit(&worker->bench->failed, true, memory_order_release);
    return status;
}

/* A phase goes on until this many tickets, and then until this time. */
struct phase {
    uint64_t tickets_min, tickets_max;
    uint64_t until_ns;
    bool measured;
};

static bool take_ticket(struct worker *worker, const struct phase *phase, uint64_t *out)
{
    struct bench *bench = worker->bench;
    if (atomic_load_explicit(&bench->failed, memory_order_relaxed) || bench->plan->stop())
        return false;
    uint64_t ticket = atomic_fetch_add_explicit(&bench->tickets, 1, memory_order_relaxed);
    *out = ticket;
    if (ticket < phase->tickets_min)
        return true;
    return ticket < phase->tickets_max && env_clock_ns(bench->plan->env) < phase->until_ns;
}

/* begin_ns: where its latency starts. */
static int submit(struct worker *worker, uint64_t ticket, uint64_t begin_ns)
{
    const struct search_plan *plan = worker->bench->plan;
    struct slot *slot = worker->idle[worker->idle_count - 1];
    struct fathom_query query = fathom_query_default();
    query.vector =
        workload_vector(plan->workload, (uint32_t)(ticket % plan->workload->query_count));
    query.dtype = plan->workload->dtype;
    query.dim = plan->workload->dim;
    query.k = plan->k;
    query.search_list = plan->search_list;
    query.target_recall = plan->target_recall;
    query.exact_distances = plan->exact_distances;
    query.rerank = plan->rerank;
    query.refine_threshold = plan->refine_threshold;
    query.user = slot;
    *slot = (struct slot){.ticket = ticket, .begin_ns = begin_ns};
    int status = fathom_engine_submit(worker->engine, plan->index, &query, &worker->err);
    if (!status)
        worker->idle_count--;
    return status;
}

static void add_stats(struct search_run *sums, const struct fathom_query_stats *stats)
{
    sums->queries++;
    sums->hops += stats->hops;
    sums->rounds += stats->rounds;
    sums->reads += stats->reads;
    sums->bytes += stats->bytes;
    sums->code_distances += stats->code_distances;
    sums->full_distances += stats->full_distances;
    sums->resident_lists += stats->resident_lists;
    sums->list_reads += stats->list_reads;
    sums->code_reads += stats->code_reads;
    sums->widened += stats->widened;
    sums->queue_ns += stats->queue_ns;
    sums->io_ns += stats->io_ns;
    sums->compute_ns += stats->compute_ns;
}

static int take_result(struct worker *worker, const struct fathom_result *result, uint64_t now_ns,
                       bool measured)
{
    struct bench *bench = worker->bench;
    const struct workload *workload = bench->plan->workload;
    struct slot *slot = result->user;
    uint64_t ticket = slot->ticket;
    worker->idle[worker->idle_count++] = slot;
    if (result->status)
        return error_set(&worker->err, result->status, "query %llu: %s",
                         (unsigned long long)(ticket % workload->query_count),
                         result->detail ? result->detail : fathom_strerror(result->status));
    if (!measured)
        return 0;
    add_stats(&worker->sums, &result->stats);
    worker->end_ns = now_ns;
    if (ticket < workload->query_count) {
        memcpy(workload->ids + ticket * workload->k, result->ids,
               workload->k * sizeof *result->ids);
        workload->answered[ticket] = 1;
    }
    if (latency_add(&worker->latency, now_ns, now_ns - slot->begin_ns))
        return error_set(&worker->err, -ENOMEM, "no memory for the latencies");
    return 0;
}

/* Fills the idle slots. ENGINE slots can be busy for longer than ours, for a result is ours until
 * the next poll: such a ticket is kept in *held and tried again. */
static int fill_slots(struct worker *worker, const struct phase *phase, uint64_t *held, bool *holds,
                      bool *more)
{
    while (worker->idle_count && (*more || *holds)) {
        if (!*holds && !(*more = take_ticket(worker, phase, held)))
            return 0;
        int status = submit(worker, *held, env_clock_ns(worker->bench->plan->env));
        *holds = status == FATHOM_EBUSY;
        if (*holds)
            return 0;
        if (status)
            return status;
    }
    return 0;
}

/* How many results there were, or negative. */
static int poll_results(struct worker *worker, uint64_t until_ns, bool measured)
{
    struct fathom_result results[RESULTS_MAX];
    int count = fathom_engine_poll_until(worker->engine, results, RESULTS_MAX, until_ns);
    if (count < 0)
        return error_set(&worker->err, count, "polling the engine: %s", fathom_strerror(count));
    uint64_t now_ns = env_clock_ns(worker->bench->plan->env);
    for (int i = 0; i < count; i++) {
        int status = take_result(worker, &results[i], now_ns, measured);
        if (status)
            return status;
    }
    return count;
}

static int run_phase(struct worker *worker, const struct phase *phase)
{
    const struct search_plan *plan = worker->bench->plan;
    uint64_t held = 0;
    bool holds = false, more = true;
    for (;;) {
        int status = fill_slots(worker, phase, &held, &holds, &more);
        if (status)
            return worker_fail(worker, status);
        if (worker->idle_count == plan->inflight)
            return holds ? worker_fail(worker, FATHOM_EBUSY) : 0;
        status = poll_results(worker, UINT64_MAX, phase->measured);
        if (status < 0)
            return worker_fail(worker, status);
    }
}

/* ---- the open loop ---- */

/* The next query of a worker that is free to take one: no other worker wakes for its time. */
struct appointment {
    uint64_t ticket, due_ns;
    bool is_made, is_last; /* is_last: there will be no other */
};

static void make_appointment(struct worker *worker, uint64_t total, struct appointment *next)
{
    struct bench *bench = worker->bench;
    const struct search_plan *plan = bench->plan;
    uint64_t begin_ns = atomic_load_explicit(&bench->begin_ns, memory_order_relaxed);
    next->ticket = atomic_fetch_add_explicit(&bench->tickets, 1, memory_order_relaxed);
    next->due_ns = begin_ns + (uint64_t)((double)next->ticket * 1e9 / plan->rate);
    next->is_made = next->ticket < total;
    next->is_last = !next->is_made;
}

static bool must_stop(const struct worker *worker)
{
    return atomic_load_explicit(&worker->bench->failed, memory_order_relaxed) ||
           worker->bench->plan->stop();
}

/* Polls until results are there or the time has come. */
static int poll_or_sleep(struct worker *worker, uint64_t until_ns)
{
    const struct env *env = worker->bench->plan->env;
    uint64_t now_ns = env_clock_ns(env);
    if (until_ns > now_ns + WAIT_NS_MAX)
        until_ns = now_ns + WAIT_NS_MAX;
    int finished = poll_results(worker, until_ns, true);
    now_ns = env_clock_ns(env);
    if (finished == 0 && now_ns < until_ns) /* nothing is running */
        nanosleep(&(struct timespec){.tv_nsec = (long)(until_ns - now_ns)}, NULL);
    return finished;
}

/* As a server's worker does (docs/adr/0024): one query at a time is submitted between polls, for
 * short tails; of a backlog, where each submission by itself would make it longer, some. */
#define BACKLOG       8
#define BACKLOG_BATCH 4

static unsigned batch_of(const struct worker *worker, uint64_t late_ns)
{
    return (double)late_ns * worker->bench->plan->rate > BACKLOG * 1e9 ? BACKLOG_BATCH : 1;
}

/* Submits what is due, unless every slot of the engine is busy. */
static int keep_appointment(struct worker *worker, struct appointment *next, uint64_t now_ns)
{
    int status = submit(worker, next->ticket, next->due_ns);
    if (status == FATHOM_EBUSY)
        return 0;
    next->is_made = false;
    if (!status && latency_add(&worker->late, now_ns, now_ns - next->due_ns))
        status = error_set(&worker->err, -ENOMEM, "no memory for the latencies");
    return status;
}

static int run_open(struct worker *worker, uint64_t total)
{
    const struct search_plan *plan = worker->bench->plan;
    struct appointment next = {0};
    unsigned unpolled = 0;
    for (;;) {
        if (must_stop(worker)) {
            next.is_made = false;
            next.is_last = true;
        }
        if (!next.is_made && !next.is_last && worker->idle_count)
            make_appointment(worker, total, &next);
        uint64_t now_ns = env_clock_ns(plan->env);
        bool is_due = next.is_made && next.due_ns <= now_ns;
        if (!is_due || unpolled >= batch_of(worker, now_ns - next.due_ns)) {
            uint64_t until_ns = is_due ? 0 : next.is_made ? next.due_ns : UINT64_MAX;
            int finished = poll_or_sleep(worker, until_ns);
            if (finished < 0)
                return worker_fail(worker, finished);
            unpolled = 0;
            if (next.is_last && worker->idle_count == plan->inflight)
                return 0;
        }
        if (!is_due)
            continue;
        int status = keep_appointment(worker, &next, now_ns);
        if (status)
            return worker_fail(worker, status);
        unpolled++;
    }
}

static int worker_init(struct worker *worker)
{
    const struct search_plan *plan = worker->bench->plan;
    worker->latency.keeps_ends = plan->rate > 0 && plan->watch_cpus;
    worker->slots = mem_alloc_array(plan->inflight, sizeof *worker->slots);
    worker->idle = mem_alloc_array(plan->inflight, sizeof *worker->idle);
    if (!worker->slots || !worker->idle)
        return error_set(&worker->err, -ENOMEM, "no memory for %u query slots", plan->inflight);
    for (unsigned i = 0; i < plan->inflight; i++)
        worker->idle[worker->idle_count++] = &worker->slots[i];
    struct fathom_engine_options options = fathom_engine_options_default();
    options.io = plan->io;
    options.inflight = plan->inflight;
    options.index = plan->index;
    return fathom_engine_create(&worker->engine, &options, &worker->err);
}

static void measure_closed(struct worker *worker)
{
    const struct search_plan *plan = worker->bench->plan;
    uint64_t count = plan->workload->query_count;
    /* Without a whole pass there is a query for each slot at least, so that something is measured.
     */
    uint64_t least = plan->whole ? count : (uint64_t)plan->threads * plan->inflight;
    struct phase phase = {.tickets_min = plan->passes ? count * plan->passes : least,
                          .measured = true};
    phase.tickets_max = plan->passes ? phase.tickets_min : UINT64_MAX;
    phase.until_ns = worker->begin_ns + (uint64_t)(plan->seconds * 1e9);
    run_phase(worker, &phase);
}

static void measure_open(struct worker *worker)
{
    const struct search_plan *plan = worker->bench->plan;
    uint64_t none = 0, total = (uint64_t)(plan->rate * plan->seconds);
    atomic_compare_exchange_strong_explicit(&worker->bench->begin_ns, &none, worker->begin_ns,
                                            memory_order_relaxed, memory_order_relaxed);
    if (plan->passes)
        total = (uint64_t)plan->workload->query_count * plan->passes;
    worker->sums.urgency = env_thread_hurry(plan->urgency);
    run_open(worker, total);
}

static void worker_measure(struct worker *worker)
{
    struct bench *bench = worker->bench;
    const struct search_plan *plan = bench->plan;
    uint32_t count = plan->workload->query_count;
    struct phase phase = {.tickets_max = plan->warm_up_ns ? count : 0,
                          .until_ns = env_clock_ns(plan->env) + plan->warm_up_ns};
    if (!gate_pass(bench, 1) || run_phase(worker, &phase))
        return;
    if (!gate_pass(bench, 2))
        return;
    /* The count starts again; no ticket is taken between the second gate and the third.
     */
    atomic_store_explicit(&bench->tickets, 0, memory_order_relaxed);
    if (!gate_pass(bench, 3))
        return;
    worker->begin_ns = worker->end_ns = env_clock_ns(plan->env);
    uint64_t cpu_ns = env_thread_cpu_ns();
    if (plan->rate > 0)
        measure_open(worker);
    else
        measure_closed(worker);
    worker->sums.cpu_ns = env_thread_cpu_ns() - cpu_ns;
}

static void worker_main(void *context, unsigned number)
{
    struct bench *bench = context;
    if (number == bench->plan->threads)
        return; /* the caller of an open loop */
    struct worker *worker = &bench->workers[number];
    int status = worker_init(worker);
    if (status)
        worker_fail(worker, status);
    else
        worker_measure(worker);
    if (worker->engine) {
        const char *note = fathom_engine_io_note(worker->engine);
        worker->sums.io = fathom_engine_io(worker->engine);
        snprintf(worker->sums.io_note, sizeof worker->sums.io_note, "%s", note ? note : "");
    }
    /* The engine ends on the thread that made it. */
    fathom_engine_destroy(worker->engine);
    mem_free(worker->slots);
    mem_free(worker->idle);
}

static void add_worker(struct search_run *out, const struct worker *worker)
{
    const struct search_run *sums = &worker->sums;
    out->queries += sums->queries;
    out->cpu_ns += sums->cpu_ns;
    out->hops += sums->hops;
    out->rounds += sums->rounds;
    out->reads += sums->reads;
    out->bytes += sums->bytes;
    out->code_distances += sums->code_distances;
    out->full_distances += sums->full_distances;
    out->resident_lists += sums->resident_lists;
    out->list_reads += sums->list_reads;
    out->code_reads += sums->code_reads;
    out->widened += sums->widened;
    out->queue_ns += sums->queue_ns;
    out->io_ns += sums->io_ns;
    out->compute_ns += sums->compute_ns;
}

static int sum_up(struct search_run *out, const struct bench *bench, struct fathom_error *err)
{
    const struct search_plan *plan = bench->plan;
    uint64_t begin_ns = UINT64_MAX, end_ns = 0;
    const struct latency **recorders = mem_alloc_array(2 * plan->threads, sizeof *recorders);
    if (!recorders)
        return error_set(err, -ENOMEM, "no memory to sum up");
    for (unsigned i = 0; i < plan->threads; i++) {
        const struct worker *worker = &bench->workers[i];
        add_worker(out, worker);
        recorders[i] = &worker->latency;
        recorders[plan->threads + i] = &worker->late;
        begin_ns = worker->begin_ns < begin_ns ? worker->begin_ns : begin_ns;
        end_ns = worker->end_ns > end_ns ? worker->end_ns : end_ns;
    }
    out->wall_ns = end_ns - begin_ns;
    out->io = bench->workers[0].sums.io;
    out->urgency = bench->workers[0].sums.urgency;
    memcpy(out->io_note, bench->workers[0].sums.io_note, sizeof out->io_note);
    out->recall = workload_recall(plan->workload, plan->workload->ids, plan->workload->answered);
    out->stopped = plan->stop();
    int status = latency_summarize(&out->latency, recorders, plan->threads, NULL);
    if (!status)
        status = latency_summarize(&out->late, recorders + plan->threads, plan->threads, NULL);
    if (!status && bench->stops)
        status = latency_summarize(&out->untouched, recorders, plan->threads, bench->stops);
    stops_summarize(bench->stops, &out->stops);
    mem_free(recorders);
    return status ? error_set(err, status, "no memory to sum up latencies") : 0;
}

static int first_failure(const struct bench *bench, struct fathom_error *err)
{
    for (unsigned i = 0; i < bench->plan->threads; i++) {
        const struct worker *worker = &bench->workers[i];
        if (!worker->status)
            continue;
        if (err)
            *err = worker->err;
        return worker->status;
    }
    return 0;
}

int search_run(struct search_run *out, const struct search_plan *plan, struct fathom_error *err)
{
    const struct workload *workload = plan->workload;
    struct bench bench = {.plan = plan};
    int status = -ENOMEM;
    *out = (struct search_run){.recall = -1};
    bench.workers = mem_alloc_array(plan->threads, sizeof *bench.workers);
    if (!bench.workers) {
        status = error_set(err, -ENOMEM, "no memory for %u threads", plan->threads);
        goto done;
    }
    memset(workload->answered, 0, workload->query_count);
    for (unsigned i = 0; i < plan->threads; i++)
        bench.workers[i].bench = &bench;
    bench.stops = plan->rate > 0 && plan->watch_cpus ? stops_begin(plan->env) : NULL;
    /* A thread that has been hurried stays so, and the calling one has closed loops to come. */
    status = env_run_parallel(plan->threads + (plan->rate > 0), worker_main, &bench);
    stops_end(bench.stops);
    if (status)
        error_set(err, status, "cannot start %u threads: %s", plan->threads,
                  fathom_strerror(status));
    if (!status)
        status = first_failure(&bench, err);
    if (!status)
        status = sum_up(out, &bench, err);
done:
    for (unsigned i = 0; bench.workers && i < plan->threads; i++) {
        latency_clear(&bench.workers[i].latency);
        latency_clear(&bench.workers[i].late);
    }
    mem_free(bench.workers);
    stops_destroy(bench.stops);
    return status;
}
