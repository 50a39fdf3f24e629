/* The admin thread. Its loop is the worker's in small: events, then one pump of its dispatch.
 * Answers to searches come later than the request, so each pending one keeps the evhttp_request;
 * evhttp keeps that alive when the client goes away and drops the reply then. */
#include "http.h"

#include "admission.h"
#include "env.h"
#include "error.h"
#include "http_json.h"
#include "listener.h"
#include "mem.h"
#include "metrics.h"
#include "protocol.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#define HTTP_QUEUE_ROWS   256
#define HTTP_TIMEOUT_S    10
#define HTTP_HEADERS_MAX  16384
#define HTTP_BODY_MAX     (8u << 20)
#define HTTP_MEMORY       (64u << 20)
#define HTTP_SOCKETS_MAX  8
#define READY_DEADLINE_NS 2000000000ull
#define TICK_US           10000  /* while searches have deadlines */
#define IDLE_TICK_US      250000 /* otherwise */
#define PAUSE_US          100000

struct http {
    struct service *service;
    struct thread_stats *stats;
    struct listener_socket sockets[HTTP_SOCKETS_MAX];
    unsigned socket_count;
    int stop_fd;
    /* The admin thread's. */
    struct event_base *base;
    struct evhttp *server;
    struct evconnlistener *listeners[HTTP_SOCKETS_MAX];
    struct event *stop_event, *engine_event, *tick_event, *resume_event;
    struct dispatch *dispatch;
    struct registry_view view;
    struct buffer_allowance allowance;
    bool stopped, ticks_fast;
};

/* What a search is for: one POST, or one index of a /readyz. */
struct ready_check {
    struct http *http;
    struct evhttp_request *request;
    unsigned pending;
    bool failed;
    struct evbuffer *report;
};

struct http_owner {
    struct evhttp_request *request; /* of a POST; NULL for a check */
    struct ready_check *check;
};

/* ---- replies ---- */

static void send_text(struct evhttp_request *request, int status, const char *type,
                      struct evbuffer *body)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    evhttp_add_header(headers, "Content-Type", type);
    evhttp_add_header(headers, "Cache-Control", "no-store");
    evhttp_send_reply(request, status, NULL, body);
}

static void send_words(struct evhttp_request *request, int status, const char *words)
{
    struct evbuffer *body = evbuffer_new();
    if (body)
        evbuffer_add_printf(body, "%s\n", words);
    send_text(request, status, "text/plain; charset=utf-8", body);
    if (body)
        evbuffer_free(body);
}

static void send_json(struct evhttp_request *request, int status, json_t *document)
{
    char *text = document ? json_dumps(document, JSON_COMPACT) : NULL;
    struct evbuffer *body = evbuffer_new();
    json_decref(document);
    if (text && body)
        evbuffer_add_printf(body, "%s\n", text);
    send_text(request, text ? status : HTTP_INTERNAL, "application/json", body);
    free(text);
    if (body)
        evbuffer_free(body);
}

static void send_error(struct http *http, struct evhttp_request *request,
                       const struct rpc_error *err)
{
    stats_count_reply(http->stats, err);
    if (err->retry_after_ms > 0) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%u", (err->retry_after_ms + 999) / 1000);
        evhttp_add_header(evhttp_request_get_output_headers(request), "Retry-After", seconds);
    }
    send_json(request, rpc_error_http_status(err->code), http_json_error(err));
}

/* ---- searches ---- */

static void check_done(struct ready_check *check, const struct search *search)
{
    bool empty =
        !search->err.code && search->edition->info.rows > 0 && search->ids[0] == FATHOM_ID_NONE;
    check->failed |= search->err.code || empty;
    evbuffer_add_printf(check->report, "index %s: %s\n", search->edition->name,
                        search->err.code ? search->err.message
                        : empty          ? "a query has no results"
                                         : "ok");
}

static void check_finish(struct ready_check *check)
{
    if (check->pending > 0)
        return;
    send_text(check->request, check->failed ? HTTP_SERVUNAVAIL : HTTP_OK,
              "text/plain; charset=utf-8", check->report);
    evbuffer_free(check->report);
    mem_free(check);
}

static void search_done(void *context, struct search *search, uint64_t now_ns)
{
    struct http *http = context;
    struct http_owner *owner = search->owner;
    (void)now_ns;
    if (owner->check) {
        check_done(owner->check, search);
        owner->check->pending--;
        check_finish(owner->check);
    } else {
        admission_count_answer(http->service, http->stats, search);
        if (search->err.code) {
            send_error(http, owner->request, &search->err);
        } else {
            stats_count_reply(http->stats, NULL);
            send_json(owner->request, HTTP_OK,
                      http_json_results(search, dispatch_io(http->dispatch)));
        }
    }
    mem_free(owner);
}

static int start_search(struct http *http, struct search *search, struct evhttp_request *request,
                        struct ready_check *check)
{
    struct http_owner *owner = mem_alloc(sizeof *owner);
    if (!owner)
        return -ENOMEM;
    owner->request = request;
    owner->check = check;
    search->owner = owner;
    dispatch_start(http->dispatch, search);
    return 0;
}

/* A vector that is no row of the index, is not zero, and is the same each time. */
static void fill_probe(float *vector, uint32_t dim)
{
    for (uint32_t i = 0; i < dim; i++)
        vector[i] = sinf((float)i + 1.0f);
}

static bool start_probe(struct http *http, struct ready_check *check, unsigned slot,
                        uint64_t now_ns)
{
    struct edition *edition = http->view.editions[slot];
    uint32_t dim = edition->info.dim;
    struct rpc_error err;
    struct search *search =
        dispatch_take(http->dispatch, edition, 1, 1, dim * sizeof(float), false, &err);
    if (!search)
        return false;
    search->query.dtype = FATHOM_F32;
    search->query.dim = dim;
    search->query.deadline_ns = now_ns + READY_DEADLINE_NS;
    search->arrived_ns = now_ns;
    fill_probe(search->vectors, dim);
    if (start_search(http, search, NULL, check) == 0)
        return true;
    dispatch_drop(http->dispatch, search);
    return false;
}

/* ---- the paths ---- */

static void get_live(struct http *http, struct evhttp_request *request)
{
    (void)http;
    send_words(request, HTTP_OK, "ok");
}

static void get_ready(struct http *http, struct evhttp_request *request)
{
    if (atomic_load_explicit(&http->service->draining, memory_order_relaxed)) {
        send_words(request, HTTP_SERVUNAVAIL, "draining");
        return;
    }
    struct ready_check *check = mem_alloc(sizeof *check);
    if (!check || !(check->report = evbuffer_new())) {
        mem_free(check);
        send_words(request, HTTP_SERVUNAVAIL, "no memory");
        return;
    }
    check->http = http;
    check->request = request;
    uint64_t now_ns = env_clock_ns(env_os());
    unsigned count = registry_count(http->service->registry);
    for (unsigned slot = 0; slot < count; slot++) {
        if (start_probe(http, check, slot, now_ns)) {
            check->pending++;
        } else {
            check->failed = true;
            evbuffer_add_printf(check->report, "index %s: no memory for a query\n",
                                registry_name(http->service->registry, slot));
        }
    }
    check_finish(check);
}

static void get_metrics(struct http *http, struct evhttp_request *request)
{
    struct evbuffer *body = evbuffer_new();
    if (body)
        metrics_render(body, http->service, &http->view, env_clock_ns(env_os()));
    send_text(request, body ? HTTP_OK : HTTP_INTERNAL, "text/plain; version=0.0.4; charset=utf-8",
              body);
    if (body)
        evbuffer_free(body);
}

static void get_indexes(struct http *http, struct evhttp_request *request)
{
    json_t *indexes = json_array();
    for (unsigned i = 0; i < registry_count(http->service->registry); i++)
        json_array_append_new(indexes, http_json_index(http->view.editions[i]));
    send_json(request, HTTP_OK, json_pack("{s:o}", PROTOCOL_KEY_INDEXES, indexes));
}

static struct search *read_search(struct http *http, struct evhttp_request *request,
                                  const char *index, struct rpc_error *err)
{
    struct evbuffer *body = evhttp_request_get_input_buffer(request);
    size_t count = evbuffer_get_length(body);
    struct request decoded;
    struct buffer message;
    struct search *search = NULL;
    const unsigned char *bytes = count ? evbuffer_pullup(body, -1) : (const unsigned char *)"";
    if (!bytes) {
        rpc_error_exhausted(err, PROTOCOL_REASON_MEMORY, 1000, "no memory for this request");
        return NULL;
    }
    buffer_init(&message, &http->allowance);
    if (http_json_read_search(&decoded, &message, index, (const char *)bytes, count, err) == 0)
        search = admission_search(http->service, &http->view, http->dispatch, &decoded.search,
                                  env_clock_ns(env_os()), err);
    buffer_fini(&message);
    return search;
}

static void post_search(struct http *http, struct evhttp_request *request, const char *index)
{
    struct rpc_error err;
    counter_add(&http->stats->requests[METHOD_SEARCH], 1);
    struct search *search = read_search(http, request, index, &err);
    if (search && start_search(http, search, request, NULL) < 0) {
        dispatch_drop(http->dispatch, search);
        rpc_error_exhausted(&err, PROTOCOL_REASON_MEMORY, 1000, "no memory for this request");
        search = NULL;
    }
    if (!search)
        send_error(http, request, &err);
}

/* What shows or searches content asks for the token, as "Authorization: Bearer TOKEN"; health and
 * metrics do not. */
static bool is_authorised(const struct http *http, struct evhttp_request *request)
{
    static const char scheme[] = "Bearer ";
    if (!http->service->token)
        return true;
    const char *given =
        evhttp_find_header(evhttp_request_get_input_headers(request), "Authorization");
    if (!given || strncmp(given, scheme, sizeof scheme - 1) != 0)
        return false;
    given += sizeof scheme - 1;
    return service_token_matches(http->service, given, strlen(given));
}

/* "/v1/indexes/NAME/search" -> NAME. */
static bool match_search(const char *path, char name[PROTOCOL_NAME_BYTES_MAX + 1])
{
    static const char before[] = "/v1/indexes/", after[] = "/search";
    size_t size = strlen(path), fixed = sizeof before - 1 + sizeof after - 1;
    if (size <= fixed || size - fixed > PROTOCOL_NAME_BYTES_MAX ||
        strncmp(path, before, sizeof before - 1) != 0 ||
        strcmp(path + size - (sizeof after - 1), after) != 0)
        return false;
    memcpy(name, path + sizeof before - 1, size - fixed);
    name[size - fixed] = '\0';
    return true;
}

static void refuse_method(struct http *http, struct evhttp_request *request, const char *allowed)
{
    struct rpc_error err;
    rpc_error_set(&err, PROTOCOL_ERROR_UNIMPLEMENTED, "this path takes %s only", allowed);
    evhttp_add_header(evhttp_request_get_output_headers(request), "Allow", allowed);
    stats_count_reply(http->stats, &err);
    send_json(request, HTTP_BADMETHOD, http_json_error(&err));
}

static void route_content(struct http *http, struct evhttp_request *request, const char *path,
                          enum evhttp_cmd_type method)
{
    char name[PROTOCOL_NAME_BYTES_MAX + 1];
    struct rpc_error err;
    bool is_search = match_search(path, name), is_list = strcmp(path, "/v1/indexes") == 0;
    if (!is_search && !is_list) {
        rpc_error_set(
            &err, PROTOCOL_ERROR_NOT_FOUND,
            "there is nothing at this path; there are /livez, /readyz, /metrics, /v1/indexes and "
            "/v1/indexes/NAME/search");
        send_error(http, request, &err);
    } else if (method != (is_search ? EVHTTP_REQ_POST : EVHTTP_REQ_GET)) {
        refuse_method(http, request, is_search ? "POST" : "GET");
    } else if (!is_authorised(http, request)) {
        rpc_error_set(&err, PROTOCOL_ERROR_UNAUTHENTICATED,
                      "a token is needed: Authorization: Bearer TOKEN");
        send_error(http, request, &err);
    } else if (is_search) {
        post_search(http, request, name);
    } else {
        get_indexes(http, request);
    }
}

static void on_request(struct evhttp_request *request, void *context)
{
    struct http *http = context;
    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request));
    enum evhttp_cmd_type method = evhttp_request_get_command(request);
    static const struct {
        const char *path;
        void (*get)(struct http *http, struct evhttp_request *request);
    } pages[] = {{"/livez", get_live}, {"/readyz", get_ready}, {"/metrics", get_metrics}};
    registry_view_refresh(&http->view);
    if (!path)
        path = "/";
    bool reads = method == EVHTTP_REQ_GET || method == EVHTTP_REQ_HEAD;
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        if (strcmp(path, pages[i].path) != 0)
            continue;
        if (reads)
            pages[i].get(http, request);
        else
            refuse_method(http, request, "GET");
        return;
    }
    route_content(http, request, path, method);
}

/* ---- the loop ---- */

static void on_stop(evutil_socket_t fd, short what, void *context)
{
    struct http *http = context;
    (void)fd;
    (void)what;
    http->stopped = true;
}

static void on_engine(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    (void)context;
}

/* Deadlines, and letting go of editions that a reload replaced. */
static void on_tick(evutil_socket_t fd, short what, void *context)
{
    struct http *http = context;
    (void)fd;
    (void)what;
    registry_view_refresh(&http->view);
    dispatch_expire(http->dispatch, env_clock_ns(env_os()));
}

static void on_resume(evutil_socket_t fd, short what, void *context)
{
    struct http *http = context;
    (void)fd;
    (void)what;
    for (unsigned i = 0; i < http->socket_count; i++)
        evconnlistener_enable(http->listeners[i]);
}

/* Out of file descriptors: evhttp would try again at once and for ever. */
static void on_accept_error(struct evconnlistener *listener, void *context)
{
    static const struct timeval pause = {.tv_usec = PAUSE_US};
    struct http *http = context;
    (void)listener;
    for (unsigned i = 0; i < http->socket_count; i++)
        evconnlistener_disable(http->listeners[i]);
    event_add(http->resume_event, &pause);
}

static void set_tick(struct http *http)
{
    bool fast = dispatch_has_deadlines(http->dispatch);
    struct timeval tick = {.tv_usec = fast ? TICK_US : IDLE_TICK_US};
    if (fast != http->ticks_fast && event_add(http->tick_event, &tick) == 0)
        http->ticks_fast = fast;
}

static int make_server(struct http *http)
{
    http->server = evhttp_new(http->base);
    if (!http->server)
        return -ENOMEM;
    evhttp_set_timeout(http->server, HTTP_TIMEOUT_S);
    evhttp_set_max_headers_size(http->server, HTTP_HEADERS_MAX);
    evhttp_set_max_body_size(http->server, HTTP_BODY_MAX);
    evhttp_set_allowed_methods(http->server, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST |
                                                 EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE);
    evhttp_set_gencb(http->server, on_request, http);
    for (unsigned i = 0; i < http->socket_count; i++) {
        /* The listener owns the socket from here on. */
        http->listeners[i] = evconnlistener_new(http->base, NULL, NULL,
                                                LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0,
                                                http->sockets[i].fd);
        if (!http->listeners[i])
            return -ENOMEM;
        http->sockets[i].fd = -1;
        if (!evhttp_bind_listener(http->server, http->listeners[i])) {
            evconnlistener_free(http->listeners[i]);
            http->listeners[i] = NULL;
            return -ENOMEM;
        }
        evconnlistener_set_error_cb(http->listeners[i], on_accept_error);
    }
    return 0;
}

static int make_events(struct http *http)
{
    static const struct timeval tick = {.tv_usec = IDLE_TICK_US};
    int engine_fd = dispatch_event_fd(http->dispatch);
    http->stop_event = event_new(http->base, http->stop_fd, EV_READ | EV_PERSIST, on_stop, http);
    http->tick_event = event_new(http->base, -1, EV_PERSIST, on_tick, http);
    http->resume_event = event_new(http->base, -1, 0, on_resume, http);
    if (engine_fd >= 0)
        http->engine_event =
            event_new(http->base, engine_fd, EV_READ | EV_PERSIST, on_engine, http);
    if (!http->stop_event || !http->tick_event || !http->resume_event ||
        (engine_fd >= 0 && !http->engine_event))
        return -ENOMEM;
    if (event_add(http->stop_event, NULL) < 0 || event_add(http->tick_event, &tick) < 0 ||
        (engine_fd >= 0 && event_add(http->engine_event, NULL) < 0))
        return -ENOMEM;
    return 0;
}

static int set_up(struct http *http, struct fathom_error *err)
{
    if (registry_view_init(&http->view, http->service->registry) < 0)
        return error_set(err, -ENOMEM, "no memory for the admin port");
    const struct edition *first = http->view.editions[0];
    const struct dispatch_options options = {
        .io = http->service->config->io,
        .index = first->index,
        .inflight = first->info.inflight < HTTP_INFLIGHT ? first->info.inflight : HTTP_INFLIGHT,
        .queue_rows = HTTP_QUEUE_ROWS,
        .allowance = &http->allowance,
        .stats = http->stats,
        .done = search_done,
        .context = http};
    int rc = dispatch_create(&http->dispatch, &options, err);
    if (rc < 0)
        return rc;
    http->base = event_base_new();
    if (!http->base || make_events(http) < 0 || make_server(http) < 0)
        return error_set(err, -ENOMEM, "no memory for the admin port");
    return 0;
}

static void free_event(struct event *event)
{
    if (event)
        event_free(event);
}

static void take_down(struct http *http)
{
    struct rpc_error err;
    rpc_error_set(&err, PROTOCOL_ERROR_UNAVAILABLE, "the server is shutting down");
    if (http->dispatch)
        dispatch_fail_all(http->dispatch, &err, env_clock_ns(env_os()));
    if (http->server)
        evhttp_free(http->server); /* with its listeners */
    free_event(http->stop_event);
    free_event(http->tick_event);
    free_event(http->resume_event);
    free_event(http->engine_event);
    if (http->base)
        event_base_free(http->base);
    dispatch_destroy(http->dispatch);
    if (http->view.editions)
        registry_view_fini(&http->view);
}

void http_run(struct http *http,
              void (*ready)(void *context, int rc, const struct fathom_error *err), void *context)
{
    struct fathom_error err = {.msg = ""};
    bool busy = false;
    int rc = set_up(http, &err);
    ready(context, rc, &err);
    while (rc == 0 && !http->stopped) {
        event_base_loop(http->base, EVLOOP_ONCE | (busy ? EVLOOP_NONBLOCK : 0));
        busy = dispatch_pump(http->dispatch, env_clock_ns(env_os()), 0);
        set_tick(http);
    }
    take_down(http);
}

/* ---- opening and closing ---- */

int http_open(struct http **out, struct service *service, struct thread_stats *stats,
              const char *address, struct fathom_error *err)
{
    *out = NULL;
    struct http *http = mem_alloc(sizeof *http);
    if (!http)
        return error_set(err, -ENOMEM, "no memory for the admin port");
    http->service = service;
    http->stats = stats;
    http->allowance.limit = HTTP_MEMORY;
    http->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int rc = http->stop_fd < 0 ? error_set(err, -errno, "cannot make an eventfd")
                               : listener_bind(address, http->sockets, HTTP_SOCKETS_MAX, err);
    if (rc < 0) {
        http_close(http);
        return rc;
    }
    http->socket_count = (unsigned)rc;
    *out = http;
    return 0;
}

const char *http_address(const struct http *http)
{
    return http->sockets[0].address;
}

void http_stop(struct http *http)
{
    uint64_t one = 1;
    ssize_t put = write(http->stop_fd, &one, sizeof one);
    (void)put; /* full: it was stopped already */
}

void http_close(struct http *http)
{
    if (!http)
        return;
    for (unsigned i = 0; i < http->socket_count; i++) {
        if (http->sockets[i].fd >= 0)
            close(http->sockets[i].fd);
    }
    if (http->stop_fd >= 0)
        close(http->stop_fd);
    mem_free(http);
}
