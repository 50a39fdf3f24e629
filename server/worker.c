/* The worker's loop. A turn: events (sockets, mail, timers) -> dispatch_pump (submit, step, answer)
 * -> settle the peers that got something to send. */
#include "worker.h"

#include "env.h"
#include "error.h"
#include "mem.h"
#include "protocol.h"

#include <errno.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define READ_BUFFER_BYTES (16u << 10)
#define SWEEP_US          250000 /* how exact the deadlines of connections are */
#define EXPIRY_US         5000   /* and those of searches */
#define ENGINE_WAIT_NS    200000 /* the engine waits no longer than this for the sockets */
/* Answers are gathered for this long before they are sent (docs/adr/0040), or for this many times
 * what reading requests has taken: under a flood of requests the engine keeps four fifths of the
 * thread. */
#define BATCH_NS    200000
#define BATCH_READS 4

/* A reload on its way through the registry's thread and back. */
struct reload_ticket {
    struct mail mail;
    struct worker *worker;
    uint64_t serial; /* of the peer that asked */
    uint32_t msgid;
    unsigned slot;
    struct reload_result result;
};

int worker_init(struct worker *worker, struct service *service, unsigned number,
                struct fathom_error *err)
{
    memset(worker, 0, sizeof *worker);
    worker->service = service;
    worker->stats = &service->stats->threads[number];
    worker->number = number;
    worker->drain_mail.kind = MAIL_DRAIN;
    worker->stop_mail.kind = MAIL_STOP;
    int rc = mailbox_init(&worker->mailbox);
    return rc < 0 ? error_set(err, rc, "cannot make an eventfd") : 0;
}

void worker_count_closed(struct worker *worker)
{
    atomic_fetch_sub_explicit(&worker->connections, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&worker->service->connections, 1, memory_order_relaxed);
}

static void free_mail(struct mail *mail)
{
    if (mail->kind == MAIL_CONNECTION || mail->kind == MAIL_RELOADED)
        mem_free(mail);
}

static void drop_mail(struct worker *worker)
{
    struct mail *mail = mailbox_take(&worker->mailbox);
    while (mail) {
        struct mail *next = mail->next;
        if (mail->kind == MAIL_CONNECTION) {
            close(((struct mail_connection *)(void *)mail)->fd);
            worker_count_closed(worker);
        }
        free_mail(mail);
        mail = next;
    }
}

void worker_fini(struct worker *worker)
{
    drop_mail(worker);
    mailbox_fini(&worker->mailbox);
}

/* ---- reloads ---- */

/* On the registry's thread. */
static void reload_done(void *context, const struct reload_result *result)
{
    struct reload_ticket *ticket = context;
    ticket->result = *result;
    mailbox_post(&ticket->worker->mailbox, &ticket->mail);
}

static int start_reload(void *context, struct session *session, uint32_t msgid,
                        const struct reload_request *request)
{
    struct worker *worker = context;
    struct peer *peer = (struct peer *)(void *)session;
    struct reload_ticket *ticket = mem_alloc(sizeof *ticket);
    if (!ticket)
        return -ENOMEM;
    *ticket = (struct reload_ticket){.mail = {.kind = MAIL_RELOADED},
                                     .worker = worker,
                                     .serial = peer->serial,
                                     .msgid = msgid,
                                     .slot = request->slot};
    int rc = registry_reload(worker->service->registry, request, reload_done, ticket);
    if (rc < 0) {
        mem_free(ticket);
        return rc;
    }
    session->conn.in_flight++;
    return 0;
}

static void answer_reload(struct worker *worker, const struct reload_ticket *ticket)
{
    for (struct peer *peer = worker->peers; peer; peer = peer->next) {
        if (peer->serial != ticket->serial)
            continue;
        methods_answer_reload(&worker->methods, &peer->session, ticket->msgid, ticket->slot,
                              &ticket->result);
        peer_mark(peer);
        return;
    }
}

/* ---- the end ---- */

/* What the clients have sent so far is still served; what they send from here on is refused. */
static void start_drain(struct worker *worker)
{
    if (worker->draining)
        return;
    for (struct peer *peer = worker->peers; peer; peer = peer->next)
        peer_read_all(peer);
    worker->draining = worker->methods.draining = true;
    for (struct peer *peer = worker->peers; peer; peer = peer->next)
        peer_mark(peer);
}

static void stop(struct worker *worker)
{
    struct rpc_error err;
    rpc_error_set(&err, PROTOCOL_ERROR_UNAVAILABLE, "the server is shutting down");
    worker->draining = worker->methods.draining = worker->stopped = true;
    dispatch_fail_all(worker->dispatch, &err, worker->now_ns);
}

/* ---- events ---- */

static void take_mail(struct worker *worker, struct mail *mail)
{
    switch (mail->kind) {
    case MAIL_CONNECTION:
        peer_open(worker, (struct mail_connection *)(void *)mail);
        break;
    case MAIL_RELOADED:
        answer_reload(worker, (struct reload_ticket *)(void *)mail);
        break;
    case MAIL_DRAIN:
        start_drain(worker);
        break;
    case MAIL_STOP:
        stop(worker);
        break;
    }
}

static void on_mail(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    (void)fd;
    (void)what;
    worker->now_ns = env_clock_ns(env_os());
    registry_view_refresh(&worker->view);
    struct mail *mail = mailbox_take(&worker->mailbox);
    while (mail) {
        struct mail *next = mail->next;
        take_mail(worker, mail);
        free_mail(mail);
        mail = next;
    }
}

/* The engine has work; the turn's pump does it. */
static void on_engine(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    (void)context;
}

static void on_sweep(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    (void)fd;
    (void)what;
    worker->now_ns = env_clock_ns(env_os());
    registry_view_refresh(&worker->view); /* an idle worker must not keep an old edition open */
    for (struct peer *peer = worker->peers; peer; peer = peer->next)
        peer_check_deadlines(peer);
}

static void on_expiry(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    (void)fd;
    (void)what;
    worker->now_ns = env_clock_ns(env_os());
    dispatch_expire(worker->dispatch, worker->now_ns);
}

static void search_done(void *context, struct search *search, uint64_t now_ns)
{
    struct worker *worker = context;
    struct peer *peer = search->owner;
    methods_answer_search(&worker->methods, search, now_ns);
    peer_mark(peer);
}

/* ---- the loop ---- */

static bool pump(struct worker *worker)
{
    uint64_t batch_ns = BATCH_READS * worker->read_ns;
    bool busy =
        dispatch_pump(worker->dispatch, worker->now_ns, batch_ns > BATCH_NS ? batch_ns : BATCH_NS);
    worker->read_ns = 0;
    worker->now_ns = worker->pumped_ns = env_clock_ns(env_os());
    return busy;
}

void worker_pump_if_due(struct worker *worker)
{
    uint64_t started_ns = worker->now_ns;
    worker->now_ns = env_clock_ns(env_os());
    worker->read_ns += worker->now_ns - started_ns;
    if (worker->now_ns - worker->pumped_ns > ENGINE_WAIT_NS)
        pump(worker);
}

static void settle_dirty(struct worker *worker)
{
    while (worker->dirty) {
        struct peer *peer = worker->dirty;
        worker->dirty = peer->dirty_next;
        peer_settle(peer);
    }
}

/* The timer of search deadlines runs only while there are some, so that an idle server sleeps. */
static void arm_expiry(struct worker *worker)
{
    static const struct timeval period = {.tv_usec = EXPIRY_US};
    bool wanted = dispatch_has_deadlines(worker->dispatch);
    if (wanted == worker->expiry_armed)
        return;
    if ((wanted ? event_add(&worker->expiry_event, &period) : event_del(&worker->expiry_event)) ==
        0)
        worker->expiry_armed = wanted;
}

static void loop(struct worker *worker)
{
    bool busy = false;
    while (!worker->stopped && !(worker->draining && worker->peer_count == 0)) {
        /* ONCE in both cases: NONBLOCK alone goes on for as long as any socket is ready. */
        event_base_loop(worker->base, EVLOOP_ONCE | (busy ? EVLOOP_NONBLOCK : 0));
        worker->now_ns = env_clock_ns(env_os());
        busy = pump(worker);
        settle_dirty(worker);
        arm_expiry(worker);
    }
    /* What was answered last is still sent, as far as the sockets take it at once. */
    settle_dirty(worker);
}

static int add_events(struct worker *worker)
{
    static const struct timeval sweep = {.tv_usec = SWEEP_US};
    int engine_fd = dispatch_event_fd(worker->dispatch);
    event_assign(&worker->mail_event, worker->base, worker->mailbox.fd, EV_READ | EV_PERSIST,
                 on_mail, worker);
    event_assign(&worker->sweep_event, worker->base, -1, EV_PERSIST, on_sweep, worker);
    event_assign(&worker->expiry_event, worker->base, -1, EV_PERSIST, on_expiry, worker);
    worker->has_events = true;
    if (event_add(&worker->mail_event, NULL) < 0 || event_add(&worker->sweep_event, &sweep) < 0)
        return -ENOMEM;
    if (engine_fd < 0)
        return 0;
    event_assign(&worker->engine_event, worker->base, engine_fd, EV_READ | EV_PERSIST, on_engine,
                 worker);
    worker->has_engine_event = true;
    return event_add(&worker->engine_event, NULL) < 0 ? -ENOMEM : 0;
}

static int set_up(struct worker *worker, struct fathom_error *err)
{
    const struct config *config = worker->service->config;
    if (registry_view_init(&worker->view, worker->service->registry) < 0)
        return error_set(err, -ENOMEM, "no memory for worker %u", worker->number);
    const struct edition *first = worker->view.editions[0];
    const struct dispatch_options options = {.io = config->io,
                                             .index = first->index,
                                             .inflight = first->info.inflight,
                                             .queue_rows = (unsigned)config->max_queue,
                                             .allowance = &worker->service->allowance,
                                             .stats = worker->stats,
                                             .done = search_done,
                                             .context = worker};
    int rc = dispatch_create(&worker->dispatch, &options, err);
    if (rc < 0)
        return rc;
    worker->read_buffer = mem_alloc(READ_BUFFER_BYTES);
    worker->base = event_base_new();
    if (!worker->read_buffer || !worker->base || add_events(worker) < 0)
        return error_set(err, -ENOMEM, "no memory for worker %u", worker->number);
    worker->methods = (struct methods){.service = worker->service,
                                       .view = &worker->view,
                                       .dispatch = worker->dispatch,
                                       .stats = worker->stats,
                                       .reload = start_reload,
                                       .context = worker};
    return 0;
}

static void take_down(struct worker *worker)
{
    while (worker->peers)
        peer_close(worker->peers);
    if (worker->has_events) {
        event_del(&worker->mail_event);
        event_del(&worker->sweep_event);
        event_del(&worker->expiry_event);
    }
    if (worker->has_engine_event)
        event_del(&worker->engine_event);
    if (worker->base)
        event_base_free(worker->base);
    dispatch_destroy(worker->dispatch);
    if (worker->view.editions)
        registry_view_fini(&worker->view);
    mem_free(worker->read_buffer);
}

void worker_run(struct worker *worker,
                void (*ready)(void *context, int rc, const struct fathom_error *err), void *context)
{
    struct fathom_error err = {.msg = ""};
    worker->urgency = env_thread_hurry((enum env_urgency)worker->service->config->urgency);
    worker->now_ns = env_clock_ns(env_os());
    int rc = set_up(worker, &err);
    ready(context, rc, &err);
    if (rc == 0)
        loop(worker);
    take_down(worker);
}
