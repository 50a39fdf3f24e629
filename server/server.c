/* Threads: this one accepts connections and takes signals; W workers; one for the registry (opening
 * and closing indexes); one for the admin port; one for the log.
 *
 * Start: log -> registry (opens every index) -> threads -> listener -> "listening on". End, on
 * SIGTERM, SIGINT or shutdown: the listener closes, workers finish what is in flight (a second
 * signal, or --drain-timeout, cuts that short), then the admin thread, the registry and the log
 * end. Signals are read from a signalfd, so that no handler interrupts anything; but while indexes
 * are opened there is nothing to drain, and SIGTERM and SIGINT end the process. */
#include "server.h"

#include "env.h"
#include "error.h"
#include "http.h"
#include "listener.h"
#include "mem.h"
#include "tool.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <unistd.h>

#define OPENING_PATIENCE_S 1 /* at the end, for an index that is being opened */

struct thread {
    struct server *server;
    struct worker *worker; /* NULL: the registry's or the admin thread */
    pthread_t id;
    bool running;
};

struct server {
    struct service service;
    struct worker *workers;
    unsigned worker_count, workers_made;
    struct http *http;
    struct listener listener;
    struct event_base *base;
    struct event *signal_event, *shutdown_event, *drain_event, *left_event;
    sigset_t signals;
    int signal_fd, left_fd; /* left_fd: an eventfd that counts workers that have ended */
    unsigned workers_left;
    bool draining, stopped;
    struct thread *worker_threads, registry_thread, http_thread;
    /* Starting up: how many threads have said that they are ready. */
    pthread_mutex_t lock;
    pthread_cond_t ready;
    unsigned ready_count;
    int ready_rc;
    struct fathom_error ready_err;
};

static void add_to(int fd)
{
    uint64_t one = 1;
    ssize_t put = write(fd, &one, sizeof one);
    (void)put; /* full: the reader is woken already */
}

/* ---- threads ---- */

static void thread_ready(void *context, int rc, const struct fathom_error *err)
{
    struct server *server = context;
    pthread_mutex_lock(&server->lock);
    server->ready_count++;
    if (rc < 0 && server->ready_rc == 0) {
        server->ready_rc = rc;
        server->ready_err = *err;
    }
    pthread_cond_signal(&server->ready);
    pthread_mutex_unlock(&server->lock);
}

static void *worker_main(void *context)
{
    struct thread *thread = context;
    worker_run(thread->worker, thread_ready, thread->server);
    add_to(thread->server->left_fd);
    return NULL;
}

static void *http_main(void *context)
{
    struct thread *thread = context;
    http_run(thread->server->http, thread_ready, thread->server);
    return NULL;
}

static void *registry_main(void *context)
{
    struct thread *thread = context;
    registry_run(thread->server->service.registry);
    return NULL;
}

static int start_thread(struct server *server, struct thread *thread, void *(*body)(void *context),
                        struct fathom_error *err)
{
    thread->server = server;
    int rc = -pthread_create(&thread->id, NULL, body, thread);
    if (rc < 0)
        return error_set(err, rc, "cannot start a thread: %s", strerror(-rc));
    thread->running = true;
    return 0;
}

static void join_thread(struct thread *thread)
{
    if (thread->running)
        pthread_join(thread->id, NULL);
    thread->running = false;
}

static int await_ready(struct server *server, unsigned count, struct fathom_error *err)
{
    pthread_mutex_lock(&server->lock);
    while (server->ready_count < count)
        pthread_cond_wait(&server->ready, &server->lock);
    int rc = server->ready_rc;
    if (rc < 0)
        *err = server->ready_err;
    pthread_mutex_unlock(&server->lock);
    return rc;
}

static int start_threads(struct server *server, struct fathom_error *err)
{
    unsigned started = 0;
    int rc = start_thread(server, &server->registry_thread, registry_main, err);
    for (unsigned i = 0; rc == 0 && i < server->worker_count; i++) {
        server->worker_threads[i].worker = &server->workers[i];
        rc = start_thread(server, &server->worker_threads[i], worker_main, err);
        started += rc == 0;
    }
    if (rc == 0 && server->http) {
        rc = start_thread(server, &server->http_thread, http_main, err);
        started += rc == 0;
    }
    struct fathom_error ready_err = {.msg = ""};
    int ready_rc = await_ready(server, started, &ready_err);
    if (rc == 0 && ready_rc < 0) {
        rc = ready_rc;
        *err = ready_err;
    }
    return rc;
}

/* ---- ending ---- */

static void stop_workers(struct server *server)
{
    if (server->stopped)
        return;
    server->stopped = true;
    for (unsigned i = 0; i < server->workers_made; i++)
        mailbox_post(&server->workers[i].mailbox, &server->workers[i].stop_mail);
}

static void start_drain(struct server *server, const char *why)
{
    struct service *service = &server->service;
    if (server->draining) {
        log_line(service->log, LOG_LEVEL_WARN, "%s again: ending at once", why);
        stop_workers(server);
        return;
    }
    server->draining = true;
    atomic_store_explicit(&service->draining, true, memory_order_relaxed);
    listener_close(&server->listener);
    log_line(service->log, LOG_LEVEL_INFO, "%s: draining, for at most %.3g s", why,
             (double)service->config->drain_ns / 1e9);
    for (unsigned i = 0; i < server->worker_count; i++)
        mailbox_post(&server->workers[i].mailbox, &server->workers[i].drain_mail);
    struct timeval patience = {.tv_sec = (time_t)(service->config->drain_ns / 1000000000),
                               .tv_usec =
                                   (suseconds_t)(service->config->drain_ns / 1000 % 1000000)};
    event_add(server->drain_event, &patience);
}

static void on_drain_timeout(evutil_socket_t fd, short what, void *context)
{
    struct server *server = context;
    (void)fd;
    (void)what;
    log_line(server->service.log, LOG_LEVEL_WARN,
             "requests were still in flight at the end of --drain-timeout");
    stop_workers(server);
}

static void on_worker_left(evutil_socket_t fd, short what, void *context)
{
    struct server *server = context;
    uint64_t count = 0;
    (void)what;
    ssize_t got = read(fd, &count, sizeof count);
    (void)got;
    server->workers_left += (unsigned)count;
    if (server->workers_left == server->worker_count)
        event_base_loopbreak(server->base);
}

/* ---- signals ---- */

static void reload_all(struct server *server)
{
    struct registry *registry = server->service.registry;
    log_line(server->service.log, LOG_LEVEL_INFO, "SIGHUP: reloading all indexes");
    for (unsigned i = 0; i < registry_count(registry); i++) {
        const struct reload_request request = {.slot = i};
        if (registry_reload(registry, &request, NULL, NULL) < 0)
            log_line(server->service.log, LOG_LEVEL_WARN, "%s is not reloaded: too many wait",
                     registry_name(registry, i));
    }
}

static void on_signal(evutil_socket_t fd, short what, void *context)
{
    struct server *server = context;
    struct signalfd_siginfo info;
    (void)what;
    while (read(fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP)
            reload_all(server);
        else
            start_drain(server, info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
    }
}

static void on_shutdown(evutil_socket_t fd, short what, void *context)
{
    struct server *server = context;
    uint64_t count;
    (void)what;
    ssize_t got = read(fd, &count, sizeof count);
    (void)got;
    if (!server->draining)
        start_drain(server, "shutdown");
}

/* Before any thread starts, the log's included, so that all inherit the mask. */
static void block_signals(sigset_t *signals)
{
    sigemptyset(signals);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGINT);
    sigaddset(signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a log that may not grow ends no server */
}

static int make_fds(struct server *server, struct fathom_error *err)
{
    server->signal_fd = signalfd(-1, &server->signals, SFD_NONBLOCK | SFD_CLOEXEC);
    server->left_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    server->service.shutdown_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (server->signal_fd < 0 || server->left_fd < 0 || server->service.shutdown_fd < 0)
        return error_set(err, -errno, "cannot make a signalfd or an eventfd: %s", strerror(errno));
    return 0;
}

/* ---- starting ---- */

/* As many descriptors as all this may need, as far as the hard limit allows. */
static void raise_file_limit(const struct config *config, struct log *log)
{
    struct rlimit limit;
    rlim_t wanted = config->max_connections + 256 + 8 * (config->index_count + config->workers);
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur =
        limit.rlim_max == RLIM_INFINITY || limit.rlim_max >= wanted ? wanted : limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < wanted)
        log_line(log, LOG_LEVEL_WARN,
                 "%llu file descriptors are allowed, %llu are needed for --max-connections %llu; "
                 "raise `ulimit -n`",
                 (unsigned long long)limit.rlim_cur, (unsigned long long)wanted,
                 (unsigned long long)config->max_connections);
}

static void set_limits(struct service *service)
{
    const struct config *config = service->config;
    service->allowance.limit = config->connection_memory_bytes;
    service->limits = (struct conn_limits){
        .message_bytes_max = (uint32_t)config->max_message_bytes,
        .first_byte_ns = config->first_byte_ns,
        .message_ns = config->message_ns,
        .idle_ns = config->idle_ns,
        .stall_ns = config->message_ns,
        .output_soft = 1u << 20,
        .output_hard = 2 * (size_t)config->max_message_bytes + (1u << 20),
    };
}

/* It searches with an engine of its own. */
static bool has_http(const struct config *config)
{
    return strcmp(config->http, "off") != 0;
}

static int try_addresses(const struct config *config, struct fathom_error *err)
{
    char *addresses[CONFIG_LISTENS_MAX + 1];
    unsigned count = config->listen_count;
    memcpy(addresses, config->listens, count * sizeof *addresses);
    if (has_http(config))
        addresses[count++] = config->http;
    return listener_try(addresses, count, err);
}

/* The log's thread may be behind, and stderr full: the line is for whoever can have it. */
static void end_at_once(int number)
{
    static const char line[] = "fathom-server: ended by a signal before it was ready\n";
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    (void)number;
    ssize_t put = poll(&out, 1, 0) == 1 ? write(out.fd, line, sizeof line - 1) : 0;
    (void)put;
    _exit(TOOL_EXIT_OK);
}

/* From here on they wait for nothing, until they are the event loop's again. */
static void let_signals_end(sigset_t *ending)
{
    sigemptyset(ending);
    sigaddset(ending, SIGTERM);
    sigaddset(ending, SIGINT);
    signal(SIGTERM, end_at_once);
    signal(SIGINT, end_at_once);
    pthread_sigmask(SIG_UNBLOCK, ending, NULL);
}

static void take_signals_back(const sigset_t *ending)
{
    pthread_sigmask(SIG_BLOCK, ending, NULL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
}

/* It takes as long as the device likes. */
static int open_registry(struct service *service, struct fathom_error *err)
{
    const struct config *config = service->config;
    sigset_t ending;
    struct registry_index indexes[CONFIG_INDEXES_MAX];
    for (unsigned i = 0; i < config->index_count; i++)
        indexes[i] = (struct registry_index){config->indexes[i].name, config->indexes[i].dir,
                                             config_plan_recall(config, config->indexes[i].name)};
    const struct registry_options options = {.indexes = indexes,
                                             .index_count = config->index_count,
                                             .dram_budget_bytes = config->dram_budget.bytes,
                                             .dram_budget_share = config->dram_budget.share,
                                             .navigator = config->navigator,
                                             .threads =
                                                 (unsigned)config->workers + has_http(config),
                                             .inflight = (unsigned)config->inflight};
    let_signals_end(&ending);
    int rc = registry_open(&service->registry, &options, service->log, err);
    take_signals_back(&ending);
    return rc;
}

static int make_workers(struct server *server, struct fathom_error *err)
{
    server->workers = mem_alloc_array(server->worker_count, sizeof *server->workers);
    server->worker_threads = mem_alloc_array(server->worker_count, sizeof *server->worker_threads);
    if (!server->workers || !server->worker_threads)
        return error_set(err, -ENOMEM, "no memory for the workers");
    for (unsigned i = 0; i < server->worker_count; i++) {
        int rc = worker_init(&server->workers[i], &server->service, i, err);
        if (rc < 0)
            return rc;
        server->workers_made++;
    }
    return 0;
}

static int make_events(struct server *server, struct fathom_error *err)
{
    server->base = event_base_new();
    if (!server->base)
        return error_set(err, -ENOMEM, "no memory for the event loop");
    server->signal_event =
        event_new(server->base, server->signal_fd, EV_READ | EV_PERSIST, on_signal, server);
    server->shutdown_event = event_new(server->base, server->service.shutdown_fd,
                                       EV_READ | EV_PERSIST, on_shutdown, server);
    server->left_event =
        event_new(server->base, server->left_fd, EV_READ | EV_PERSIST, on_worker_left, server);
    server->drain_event = event_new(server->base, -1, 0, on_drain_timeout, server);
    if (!server->signal_event || !server->shutdown_event || !server->left_event ||
        !server->drain_event || event_add(server->signal_event, NULL) < 0 ||
        event_add(server->shutdown_event, NULL) < 0 || event_add(server->left_event, NULL) < 0)
        return error_set(err, -ENOMEM, "no memory for the event loop");
    return 0;
}

static int open_http(struct server *server, struct fathom_error *err)
{
    const struct config *config = server->service.config;
    if (!has_http(config))
        return 0;
    return http_open(&server->http, &server->service,
                     &server->service.stats->threads[server->worker_count], config->http, err);
}

/* What the engines really read with, said once. */
static void note_io(struct server *server)
{
    struct service *service = &server->service;
    const struct dispatch *dispatch = server->workers[0].dispatch;
    atomic_store_explicit(&service->io, (int)dispatch_io(dispatch), memory_order_relaxed);
    const char *note = dispatch_io_note(dispatch);
    if (note)
        log_line(service->log, LOG_LEVEL_WARN, "reading with %s: %s", service_io_name(service),
                 note);
}

/* The default takes what it gets; who asks for realtime is told when it is not to be had. */
static void note_urgency(struct server *server)
{
    enum env_urgency got = server->workers[0].urgency;
    if (server->service.config->urgency == ENV_URGENCY_REALTIME && got != ENV_URGENCY_REALTIME)
        log_line(server->service.log, LOG_LEVEL_WARN,
                 "workers run at urgency %s: realtime is not allowed here; grant CAP_SYS_NICE or "
                 "RLIMIT_RTPRIO (systemd: LimitRTPRIO=1)",
                 env_urgency_name(got));
}

static void log_ready(struct server *server)
{
    struct log *log = server->service.log;
    for (unsigned i = 0; i < server->listener.socket_count; i++)
        log_line(log, LOG_LEVEL_INFO, "listening on %s", server->listener.sockets[i].address);
    if (server->http)
        log_line(log, LOG_LEVEL_INFO, "http listening on %s", http_address(server->http));
    log_line(log, LOG_LEVEL_INFO, "ready: %u worker%s, %s, %s", server->worker_count,
             tool_plural(server->worker_count), service_io_name(&server->service),
             fathom_cpu_level());
}

/* Refused here, since libevent ends the process where it gets none, and a server that is ready and
 * takes no connection would be found out by its clients. */
static int check_file_limit(const struct config *config, struct fathom_error *err)
{
    struct rlimit limit;
    rlim_t least = 24 + 8 * config->workers + 2 * config->index_count; /* and some connections */
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= least)
        return 0;
    return error_set(
        err, -EMFILE,
        "%llu file descriptors are allowed, and %llu worker%s need%s %llu at the least; "
        "raise `ulimit -n`",
        (unsigned long long)limit.rlim_cur, (unsigned long long)config->workers,
        tool_plural(config->workers), config->workers == 1 ? "s" : "", (unsigned long long)least);
}

static int start(struct server *server, struct fathom_error *err)
{
    struct service *service = &server->service;
    const struct config *config = service->config;
    config_log(config, service->log);
    raise_file_limit(config, service->log);
    set_limits(service);
    int rc = check_file_limit(config, err);
    if (rc == 0)
        rc = make_fds(server, err);
    if (rc == 0 && config->token_file)
        rc = service_read_token(service, config->token_file, err);
    if (rc == 0)
        rc = try_addresses(config, err);
    if (rc == 0)
        rc = open_registry(service, err);
    if (rc == 0 && stats_create(&service->stats, server->worker_count + 1, config->index_count,
                                env_clock_ns(env_os())) < 0)
        rc = error_set(err, -ENOMEM, "no memory for the statistics");
    if (rc == 0)
        rc = make_workers(server, err);
    if (rc == 0)
        rc = make_events(server, err);
    if (rc == 0)
        rc = open_http(server, err);
    if (rc == 0)
        rc = start_threads(server, err);
    if (rc < 0)
        return rc;
    note_io(server);
    note_urgency(server);
    return listener_open(&server->listener, service, server->workers, server->worker_count,
                         server->base, err);
}

/* ---- the whole ---- */

static void free_event(struct event *event)
{
    if (event)
        event_free(event);
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

/* An index that is on its way to be served is of no use any more, and has nothing to lose. */
static void end_while_opening(struct log *log)
{
    log_line(log, LOG_LEVEL_WARN, "ended: an index was being opened, and is not waited for");
    (void)log_flush(log);
    _exit(TOOL_EXIT_OK);
}

/* Everything in the order in which one depends on the other; whatever was not made is passed over.
 */
static void finish(struct server *server)
{
    struct service *service = &server->service;
    listener_close(&server->listener);
    stop_workers(server);
    for (unsigned i = 0; server->worker_threads && i < server->worker_count; i++)
        join_thread(&server->worker_threads[i]);
    if (server->http)
        http_stop(server->http);
    join_thread(&server->http_thread);
    http_close(server->http);
    if (service->registry && !registry_stop(service->registry, OPENING_PATIENCE_S))
        end_while_opening(service->log);
    join_thread(&server->registry_thread);
    registry_close(service->registry);
    for (unsigned i = 0; i < server->workers_made; i++)
        worker_fini(&server->workers[i]);
    mem_free(server->workers);
    mem_free(server->worker_threads);
    stats_destroy(service->stats);
    free_event(server->signal_event);
    free_event(server->shutdown_event);
    free_event(server->left_event);
    free_event(server->drain_event);
    if (server->base)
        event_base_free(server->base);
    close_fd(server->signal_fd);
    close_fd(server->left_fd);
    close_fd(service->shutdown_fd);
    mem_free(service->token);
}

int server_run(const struct config *config)
{
    struct server server = {.signal_fd = -1, .left_fd = -1, .service.shutdown_fd = -1};
    struct fathom_error err = {.msg = ""};
    server.service.config = config;
    server.worker_count = (unsigned)config->workers;
    block_signals(&server.signals);
    pthread_mutex_init(&server.lock, NULL);
    pthread_cond_init(&server.ready, NULL);
    int rc =
        log_open(&server.service.log, STDERR_FILENO, config->log_format, config->log_level, &err);
    if (rc < 0)
        return tool_fail("fathom-server", &err);
    rc = start(&server, &err);
    if (rc == 0) {
        log_ready(&server);
        event_base_dispatch(server.base);
    } else {
        log_line(server.service.log, LOG_LEVEL_ERROR, "cannot start: %s",
                 err.msg[0] ? err.msg : fathom_strerror(rc));
    }
    finish(&server);
    if (rc == 0)
        log_line(server.service.log, LOG_LEVEL_INFO, "ended");
    log_close(server.service.log);
    pthread_cond_destroy(&server.ready);
    pthread_mutex_destroy(&server.lock);
    return tool_exit_code(rc);
}
