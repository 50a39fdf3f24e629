/* The open loop. Request number i is due at start + i / rate. A closed loop would wait for the
 * server before it asks again and so leave out the very moments when the server was slow
 * (coordinated omission), which is why it only measures the peak; here latency runs from the
 * appointed time, so time spent waiting for a free connection, or for this program, counts as well.
 *
 * This program is not what is to be measured. So it asks to run before the server's threads when a
 * request is due, since it needs little, and reports what it got, how late it was all the same, and
 * the CPU time that it took from a server on the same machine.
 *
 *     due -> request -> the next connection (submit) -> epoll -> receive -> recorded
 *
 * The appointed times are the ticks of one periodic timer. A time limit for each wait would be set
 * and taken back for every answer, and in a virtual machine each of that is a call of the host.
 *
 * One thread: sending and receiving cost a few microseconds each, and a second one would take its
 * CPU from the server when both are on one machine. */
#include "load_run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "error.h"
#include "mem.h"

#define DRAIN_NS        5000000000ull
#define CALL_TIMEOUT_MS 10000
#define WAIT_MS_MAX     50 /* the stop flag is looked at this often */
#define EVENTS_MAX      64
#define TIMER           UINT32_MAX /* among the numbers of connections */

struct request {
    struct request *next_idle, *next_made;
    uint64_t due_ns;
    uint64_t number;
    uint64_t ids[]; /* [k] */
};

struct load {
    const struct load_plan *plan;
    struct load_run *run;
    struct fathom_client **clients;
    int epoll_fd, timer_fd;
    unsigned next_client;
    struct request *idle, *made;
    uint64_t inflight;
    uint64_t start_ns, end_ns; /* end_ns: the last answer */
    uint64_t interval_ns;      /* between appointed times; 0: a closed loop */
    struct latency latency, late;
    struct stops *stops; /* of CPUs, in an open loop */
    uint64_t *ids;       /* [query_count][k], the first answer to each */
    uint8_t *answered;
};

static uint64_t now_ns(const struct load *load)
{
    return env_clock_ns(load->plan->env);
}

static bool is_closed(const struct load *load)
{
    return load->plan->rate <= 0;
}

static uint64_t due_ns(const struct load *load, uint64_t number)
{
    if (is_closed(load))
        return now_ns(load);
    return load->start_ns + number * load->interval_ns;
}

/* ---- connections ---- */

static struct fathom_client_options client_options(const struct load_plan *plan)
{
    struct fathom_client_options options = fathom_client_options_default();
    options.call_timeout_ms = CALL_TIMEOUT_MS;
    options.client_name = "fathom-bench/" FATHOM_VERSION;
    options.token = plan->token;
    return options;
}

/* A text that is no address is the caller's fault; all else is the network's. */
static int cannot_connect(const struct fathom_client_error *why, unsigned number,
                          const struct load_plan *plan, struct fathom_error *err)
{
    int code = why->code == FATHOM_CLIENT_EADDRESS ? FATHOM_EARGUMENT : -ECONNREFUSED;
    return error_set(err, code, "connection %u of %u: %s", number, plan->connections, why->message);
}

int load_reload(const struct load_plan *plan, struct fathom_error *err)
{
    const struct fathom_client_options options = client_options(plan);
    const struct fathom_client_terms terms = {.dram_budget = plan->dram_budget,
                                              .plan_recall = plan->target_recall,
                                              .no_plan_recall = plan->target_recall == 0};
    struct fathom_client *client;
    struct fathom_client_error why;
    if (!plan->dram_budget)
        return 0;
    int status = fathom_client_open(&client, plan->address, &options, &why);
    if (status)
        return cannot_connect(&why, 1, plan, err);
    if (fathom_client_reload_under(client, plan->index, &terms, NULL, &why))
        status = error_set(err, FATHOM_EARGUMENT, "%s: %s", plan->index, why.message);
    fathom_client_close(client);
    return status;
}

static int connect_all(struct load *load, struct fathom_error *err)
{
    const struct load_plan *plan = load->plan;
    const struct fathom_client_options options = client_options(plan);
    struct fathom_client_error why;
    for (unsigned i = 0; i < plan->connections; i++) {
        if (fathom_client_open(&load->clients[i], plan->address, &options, &why))
            return cannot_connect(&why, i + 1, plan, err);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        if (epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, fathom_client_fd(load->clients[i]), &event))
            return error_set(err, -errno, "connection %u cannot be watched: %s", i + 1,
                             strerrordesc_np(errno));
    }
    struct fathom_client_server server;
    fathom_client_get_server(load->clients[0], &server);
    snprintf(load->run->server, sizeof load->run->server, "%s", server.server);
    return 0;
}

/* The next connection, in turn, that can take a request; -1 when none can. */
static int choose_client(struct load *load)
{
    unsigned depth = is_closed(load) ? LOAD_PEAK_DEPTH : FATHOM_CLIENT_INFLIGHT_MAX;
    for (unsigned tried = 0; tried < load->plan->connections; tried++) {
        unsigned i = load->next_client;
        load->next_client = (i + 1) % load->plan->connections;
        if (fathom_client_fd(load->clients[i]) >= 0 &&
            fathom_client_inflight(load->clients[i]) < depth)
            return (int)i;
    }
    return -1;
}

static void count_failure(struct load *load, const struct fathom_client_error *why)
{
    struct load_run *run = load->run;
    unsigned i = 0;
    run->failed++;
    while (i < run->failure_count && strcmp(run->failures[i].name, why->name))
        i++;
    if (i == LOAD_FAILURES_MAX)
        return;
    if (i == run->failure_count) {
        run->failure_count++;
        snprintf(run->failures[i].name, sizeof run->failures[i].name, "%s", why->name);
        snprintf(run->failures[i].message, sizeof run->failures[i].message, "%s", why->message);
    }
    run->failures[i].count++;
}

/* ---- requests ---- */

static struct request *take_request(struct load *load)
{
    struct request *request = load->idle;
    if (request) {
        load->idle = request->next_idle;
        return request;
    }
    request = mem_alloc(sizeof *request + load->plan->k * sizeof request->ids[0]);
    if (request) {
        request->next_made = load->made;
        load->made = request;
    }
    return request;
}

static void return_request(struct load *load, struct request *request)
{
    request->next_idle = load->idle;
    load->idle = request;
}

static int add_late(struct load *load, const struct request *request)
{
    uint64_t now = now_ns(load);
    return latency_add(&load->late, now, now - request->due_ns);
}

/* Sends request number on connection i. A refusal is counted, not returned: only our own want of
 * memory is an error. */
static int send_request(struct load *load, unsigned i, uint64_t number)
{
    const struct load_plan *plan = load->plan;
    const struct workload *workload = plan->workload;
    struct fathom_client_search search = fathom_client_search_default();
    struct fathom_client_error why;
    struct request *request = take_request(load);
    if (!request)
        return -ENOMEM;
    request->number = number;
    request->due_ns = due_ns(load, number);
    search.index = plan->index;
    search.vectors = workload_vector(workload, (uint32_t)(number % workload->query_count));
    search.dtype = (enum fathom_client_dtype)workload->dtype;
    search.dim = workload->dim;
    search.k = plan->k;
    search.search_list = plan->search_list;
    search.target_recall = plan->target_recall;
    search.exact_distances = plan->exact_distances;
    search.rerank = plan->rerank;
    search.deadline_ms = plan->deadline_ms;
    search.ids = request->ids;
    search.user = request;
    int status = is_closed(load) ? 0 : add_late(load, request);
    load->run->sent++;
    if (fathom_client_submit(load->clients[i], &search, NULL, &why)) {
        count_failure(load, &why);
        return_request(load, request);
    } else {
        load->inflight++;
    }
    return status;
}

static int take_answer(struct load *load, const struct fathom_client_result *result,
                       const struct fathom_client_error *why)
{
    const struct workload *workload = load->plan->workload;
    struct request *request = result->user;
    load->inflight--;
    return_request(load, request);
    load->end_ns = now_ns(load);
    if (result->status) {
        count_failure(load, why);
        return 0;
    }
    load->run->answered++;
    load->run->incomplete += !result->complete;
    if (request->number < workload->query_count) {
        memcpy(load->ids + request->number * workload->k, request->ids,
               workload->k * sizeof *request->ids);
        load->answered[request->number] = 1;
    }
    return latency_add(&load->latency, load->end_ns, load->end_ns - request->due_ns);
}

/* Takes the answers that have arrived on connection i; waits for the rest of the first when only
 * its beginning is here. */
static int receive_answers(struct load *load, unsigned i)
{
    struct fathom_client *client = load->clients[i];
    int status = 0;
    do {
        struct fathom_client_result result;
        struct fathom_client_error why = {0};
        /* Negative: nothing came in the call's time, and all are still in flight. */
        if (fathom_client_receive(client, &result, &why) <= 0)
            break;
        status = take_answer(load, &result, &why);
    } while (!status && fathom_client_ready(client));
    return status;
}

/* ---- the loop ---- */

/* Waits for an answer, for the next appointed time, or for as long as the stop flag may; then takes
 * what is there. */
static int wait_and_receive(struct load *load)
{
    struct epoll_event events[EVENTS_MAX];
    int ready = epoll_wait(load->epoll_fd, events, EVENTS_MAX, WAIT_MS_MAX);
    for (int i = 0; i < ready; i++) {
        uint64_t ticks;
        if (events[i].data.u32 == TIMER) { /* reading it sets the next tick */
            ssize_t got = read(load->timer_fd, &ticks, sizeof ticks);
            (void)got;
            continue;
        }
        int status = receive_answers(load, events[i].data.u32);
        if (status)
            return status;
    }
    return 0;
}

static int start_timer(struct load *load)
{
    uint64_t interval_ns = load->interval_ns;
    struct timespec tick = {.tv_sec = (time_t)(interval_ns / 1000000000u),
                            .tv_nsec = (long)(interval_ns % 1000000000u)};
    struct timespec first = {.tv_sec = (time_t)(load->start_ns / 1000000000u),
                             .tv_nsec = (long)(load->start_ns % 1000000000u)};
    const struct itimerspec times = {.it_interval = tick, .it_value = first};
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = TIMER};
    return timerfd_settime(load->timer_fd, TFD_TIMER_ABSTIME, &times, NULL) ||
                   epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, load->timer_fd, &event)
               ? -errno
               : 0;
}

/* Sends all that is due and finds a connection, at most a burst, so that answers are not left
 * waiting for long. */
static int send_due(struct load *load, uint64_t *next, uint64_t total)
{
    enum { BURST = 64 };
    for (unsigned sent = 0; sent < BURST && *next < total && due_ns(load, *next) <= now_ns(load);
         sent++) {
        int client = choose_client(load);
        if (client < 0)
            return 0;
        int status = send_request(load, (unsigned)client, (*next)++);
        if (status)
            return status;
    }
    return 0;
}

static bool any_connection(const struct load *load)
{
    for (unsigned i = 0; i < load->plan->connections; i++)
        if (fathom_client_fd(load->clients[i]) >= 0)
            return true;
    return false;
}

static int run_loop(struct load *load)
{
    const struct load_plan *plan = load->plan;
    uint64_t total = is_closed(load) ? UINT64_MAX : (uint64_t)(plan->rate * plan->seconds);
    uint64_t next = 0, cpu_ns = env_thread_cpu_ns();
    load->start_ns = load->end_ns = now_ns(load);
    int status = is_closed(load) ? 0 : start_timer(load);
    uint64_t last_ns = load->start_ns + (uint64_t)(plan->seconds * 1e9);
    while (!status && (next < total || load->inflight) && now_ns(load) < last_ns + DRAIN_NS &&
           any_connection(load)) {
        if (plan->stop()) {
            load->run->stopped = true;
            break;
        }
        if (is_closed(load) && now_ns(load) >= last_ns)
            total = next;
        status = send_due(load, &next, total);
        if (!status)
            status = wait_and_receive(load);
    }
    load->run->due = load->run->stopped ? next : total;
    load->run->unanswered = load->inflight;
    load->run->wall_ns = load->end_ns - load->start_ns;
    load->run->cpu_ns = env_thread_cpu_ns() - cpu_ns;
    return status;
}

static void load_fini(struct load *load)
{
    for (unsigned i = 0; load->clients && i < load->plan->connections; i++)
        fathom_client_close(load->clients[i]);
    if (load->epoll_fd >= 0)
        close(load->epoll_fd);
    if (load->timer_fd >= 0)
        close(load->timer_fd);
    for (struct request *next; load->made; load->made = next) {
        next = load->made->next_made;
        mem_free(load->made);
    }
    latency_clear(&load->latency);
    latency_clear(&load->late);
    stops_destroy(load->stops);
    mem_free(load->clients);
    mem_free(load->ids);
    mem_free(load->answered);
}

static int sum_up(struct load *load)
{
    struct load_run *run = load->run;
    const struct latency *latency = &load->latency, *late = &load->late;
    int status = latency_summarize(&run->latency, &latency, 1, NULL);
    if (!status)
        status = latency_summarize(&run->late, &late, 1, NULL);
    if (!status && load->stops)
        status = latency_summarize(&run->untouched, &latency, 1, load->stops);
    stops_summarize(load->stops, &run->stops);
    return status;
}

int load_run(struct load_run *out, const struct load_plan *plan, struct fathom_error *err)
{
    const struct workload *workload = plan->workload;
    struct load load = {.plan = plan,
                        .run = out,
                        .epoll_fd = epoll_create1(EPOLL_CLOEXEC),
                        .timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)};
    load.latency.keeps_ends = plan->rate > 0 && plan->watch_cpus;
    if (plan->rate > 0)
        load.interval_ns = plan->rate < 1e9 ? (uint64_t)(1e9 / plan->rate + .5) : 1;
    *out = (struct load_run){.recall = -1, .urgency = env_thread_hurry(ENV_URGENCY_REALTIME)};
    load.clients = mem_alloc_array(plan->connections, sizeof *load.clients);
    load.ids = mem_alloc_array((size_t)workload->query_count * workload->k, sizeof *load.ids);
    load.answered = mem_alloc(workload->query_count);
    int status = -ENOMEM;
    if (load.epoll_fd < 0 || load.timer_fd < 0) {
        status = error_set(err, -EMFILE, "no descriptors for the measurement");
        goto done;
    }
    if (load.clients && load.ids && load.answered) {
        status = connect_all(&load, err);
        if (status)
            goto done;
        load.stops = is_closed(&load) || !plan->watch_cpus ? NULL : stops_begin(plan->env);
        status = run_loop(&load);
        stops_end(load.stops);
    }
    if (!status)
        status = sum_up(&load);
    if (status)
        error_set(err, status, "the measurement failed: %s", fathom_strerror(status));
    else
        out->recall = workload_recall(workload, load.ids, load.answered);
done:
    load_fini(&load);
    return status;
}
