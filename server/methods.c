/* What each method does. Every request is answered exactly once; a notification never is. */
#include "methods.h"

#include "admission.h"
#include "protocol.h"
#include "reply.h"

#include <errno.h>
#include <string.h>

/* ---- answering ---- */

/* A reply was packed (rc 0) or there was no memory for it, which ends the connection: a client must
 * not wait for ever. */
static void after_reply(struct methods *methods, struct session *session,
                        const struct rpc_error *err, int rc)
{
    stats_count_reply(methods->stats, err);
    if (rc < 0 && session->conn.end == CONN_OPEN)
        session->conn.end = CONN_END_MEMORY;
}

static void answer_error(struct methods *methods, struct session *session,
                         const struct request *request, const struct rpc_error *err)
{
    if (!request->notification)
        after_reply(methods, session, err, reply_error(&session->conn.out, request->msgid, err));
}

/* ---- who may do what ---- */

static bool needs_hello(const struct methods *methods, const struct session *session)
{
    return methods->service->token && !session->conn.greeted;
}

/* reload and shutdown change the server: from this machine, or with a token (which every request
 * needs then). */
static int check_admin(const struct methods *methods, const struct session *session,
                       const struct request *request, struct rpc_error *err)
{
    if (session->local || methods->service->token)
        return 0;
    return rpc_error_set(err, PROTOCOL_ERROR_PERMISSION_DENIED,
                         "%s is for clients on the server's machine, or with a token "
                         "(--token-file)",
                         method_name(request->method));
}

static int take_hello(struct methods *methods, struct session *session,
                      const struct request *request, struct rpc_error *err)
{
    struct service *service = methods->service;
    if (request->hello.protocol != PROTOCOL_VERSION)
        return rpc_error_set(err, PROTOCOL_ERROR_FAILED_PRECONDITION,
                             "protocol %llu is not spoken here; this server speaks %d",
                             (unsigned long long)request->hello.protocol, PROTOCOL_VERSION);
    if (service->token) {
        const struct text_view *token = &request->hello.token;
        if (!token->bytes || !service_token_matches(service, token->bytes, token->size)) {
            log_peer(service->log, LOG_LEVEL_WARN, "%s: %s token", session->address,
                     token->bytes ? "wrong" : "no");
            rpc_error_set(err, PROTOCOL_ERROR_UNAUTHENTICATED, "%s",
                          token->bytes ? "the token is wrong" : "a token is needed");
            return -1;
        }
    }
    session->conn.greeted = true;
    log_peer(service->log, LOG_LEVEL_DEBUG, "%s: hello from %.*s", session->address,
             (int)request->hello.client.size, request->hello.client.bytes);
    after_reply(methods, session, NULL, reply_hello(&session->conn.out, request->msgid, service));
    return 0;
}

/* ---- search ---- */

static void link_search(struct session *session, struct search *search)
{
    search->owner = session;
    search->owner_next = session->searches;
    search->owner_prev = &session->searches;
    if (session->searches)
        session->searches->owner_prev = &search->owner_next;
    session->searches = search;
    session->conn.in_flight++;
    session->rows_in_flight += search->n;
}

static void unlink_search(struct session *session, struct search *search)
{
    *search->owner_prev = search->owner_next;
    if (search->owner_next)
        search->owner_next->owner_prev = search->owner_prev;
    session->conn.in_flight--;
    session->rows_in_flight -= search->n;
}

bool methods_is_ahead(const struct methods *methods, const struct session *session)
{
    return session->rows_in_flight > methods->service->config->max_queue / 2;
}

static int take_search(struct methods *methods, struct session *session,
                       const struct request *request, uint64_t now_ns, struct rpc_error *err)
{
    const struct search_params *params = &request->search;
    if (methods->draining)
        return rpc_error_set(err, PROTOCOL_ERROR_UNAVAILABLE, "the server is shutting down");
    struct search *search =
        admission_search(methods->service, methods->view, methods->dispatch, params, now_ns, err);
    if (!search)
        return -1;
    search->msgid = request->msgid;
    link_search(session, search);
    dispatch_start(methods->dispatch, search);
    return 0;
}

void methods_answer_search(struct methods *methods, struct search *search, uint64_t now_ns)
{
    struct session *session = search->owner;
    unlink_search(session, search);
    admission_count_answer(methods->service, methods->stats, search);
    session->conn.active_ns = now_ns;
    if (search->err.code) {
        after_reply(methods, session, &search->err,
                    reply_error(&session->conn.out, search->msgid, &search->err));
        return;
    }
    after_reply(
        methods, session, NULL,
        reply_search(&session->conn.out, search->msgid, search, dispatch_io(methods->dispatch)));
}

void methods_forget(struct methods *methods, struct session *session)
{
    while (session->searches) {
        struct search *search = session->searches;
        unlink_search(session, search);
        dispatch_abandon(methods->dispatch, search);
    }
}

/* Every search of this msgid; a client that repeats msgids in flight cannot tell its replies apart
 * anyway. */
static void take_cancel(struct methods *methods, struct session *session, uint32_t msgid,
                        uint64_t now_ns)
{
    struct search *next;
    for (struct search *search = session->searches; search; search = next) {
        next = search->owner_next;
        if (search->msgid != msgid)
            continue;
        struct rpc_error err;
        rpc_error_set(&err, PROTOCOL_ERROR_CANCELLED, "cancelled by the client");
        dispatch_fail(methods->dispatch, search, &err, now_ns);
    }
}

/* ---- the others ---- */

static int take_info(struct methods *methods, struct session *session,
                     const struct request *request, struct rpc_error *err)
{
    int slot = -1;
    if (request->index.bytes &&
        (slot = admission_find_index(methods->service, &request->index, err)) < 0)
        return -1;
    after_reply(
        methods, session, NULL,
        reply_info(&session->conn.out, request->msgid, methods->service, methods->view, slot));
    return 0;
}

static int take_reload(struct methods *methods, struct session *session,
                       const struct request *request, struct rpc_error *err)
{
    if (check_admin(methods, session, request, err) < 0)
        return -1;
    int slot = admission_find_index(methods->service, &request->reload.index, err);
    if (slot < 0)
        return -1;
    const struct reload_request reload = {.slot = (unsigned)slot,
                                          .new_budget = request->reload.new_budget,
                                          .budget_bytes = request->reload.dram_budget_bytes,
                                          .budget_share = request->reload.dram_budget_share,
                                          .new_recall = request->reload.new_recall,
                                          .plan_recall = request->reload.plan_recall};
    int rc = methods->reload(methods->context, session, request->msgid, &reload);
    if (rc == -EBUSY)
        return rpc_error_exhausted(err, PROTOCOL_REASON_QUEUE, 1000,
                                   "too many reloads wait already");
    return rc < 0 ? rpc_error_from_library(err, rc, "") : 0;
}

/* The library's message goes out as it is: it names the file and what to do. */
void methods_answer_reload(struct methods *methods, struct session *session, uint32_t msgid,
                           unsigned slot, const struct reload_result *result)
{
    session->conn.in_flight--;
    if (result->err.code == 0) {
        const char *name = registry_name(methods->service->registry, slot);
        after_reply(methods, session, NULL, reply_reload(&session->conn.out, msgid, name, result));
        return;
    }
    struct rpc_error err;
    rpc_error_from_library(&err, result->err.code, result->err.msg);
    after_reply(methods, session, &err, reply_error(&session->conn.out, msgid, &err));
}

static int take_shutdown(struct methods *methods, struct session *session,
                         const struct request *request, struct rpc_error *err)
{
    if (check_admin(methods, session, request, err) < 0)
        return -1;
    log_line(methods->service->log, LOG_LEVEL_INFO, "%s asks for a shutdown", session->address);
    after_reply(methods, session, NULL, reply_empty(&session->conn.out, request->msgid));
    service_request_shutdown(methods->service);
    return 0;
}

static int take_request(struct methods *methods, struct session *session,
                        const struct request *request, uint64_t now_ns, struct rpc_error *err)
{
    struct buffer *out = &session->conn.out;
    switch (request->method) {
    case METHOD_HELLO:
        return take_hello(methods, session, request, err);
    case METHOD_SEARCH:
        return take_search(methods, session, request, now_ns, err);
    case METHOD_INFO:
        return take_info(methods, session, request, err);
    case METHOD_RELOAD:
        return take_reload(methods, session, request, err);
    case METHOD_SHUTDOWN:
        return take_shutdown(methods, session, request, err);
    case METHOD_PING:
        after_reply(methods, session, NULL, reply_empty(out, request->msgid));
        return 0;
    case METHOD_STATS:
        after_reply(methods, session, NULL,
                    reply_stats(out, request->msgid, methods->service, methods->view, now_ns));
        return 0;
    default:
        return rpc_error_set(err, PROTOCOL_ERROR_INVALID_ARGUMENT,
                             "%s is a notification: [2, \"%s\", [params]]",
                             method_name(request->method), method_name(request->method));
    }
}

int methods_take(struct methods *methods, struct session *session, const uint8_t *bytes,
                 size_t count, uint64_t now_ns)
{
    struct request request;
    struct rpc_error err;
    int status = request_decode(&request, bytes, count, &err);
    counter_add(&methods->stats->requests[request.method], 1);
    if (status == REQUEST_MALFORMED)
        return conn_finish(&session->conn, CONN_END_MALFORMED, &err);
    if (needs_hello(methods, session) && request.method != METHOD_HELLO) {
        rpc_error_set(&err, PROTOCOL_ERROR_UNAUTHENTICATED, "say hello with a token first");
        answer_error(methods, session, &request, &err);
        return conn_finish(&session->conn, CONN_END_AUTH, &err);
    }
    if (request.notification) {
        if (status == REQUEST_OK && request.method == METHOD_CANCEL)
            take_cancel(methods, session, request.cancel_msgid, now_ns);
        return 0;
    }
    if (status == REQUEST_OK)
        status = take_request(methods, session, &request, now_ns, &err);
    if (status < 0) {
        answer_error(methods, session, &request, &err);
        if (strcmp(err.code, PROTOCOL_ERROR_UNAUTHENTICATED) == 0)
            return conn_finish(&session->conn, CONN_END_AUTH, &err);
    }
    return session->conn.end == CONN_OPEN ? 0 : -1;
}
