/* The admin port: health, metrics, and searching in JSON, through libevent's evhttp on a thread and
 * an engine of its own, so that health answers however busy the workers are.
 *
 *     GET  /livez                    the process answers
 *     GET  /readyz                   every index answers a real query
 *     GET  /metrics                  Prometheus text
 *     GET  /v1/indexes               what is served
 *     POST /v1/indexes/NAME/search   a search in JSON
 */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include "service.h"

#define HTTP_INFLIGHT 4 /* queries at a time in the admin thread's engine */

struct http;

/* Binds address; stats is the admin thread's block. */
int http_open(struct http **out, struct service *service, struct thread_stats *stats,
              const char *address, struct fathom_error *err) FATHOM_MUST_USE;
const char *http_address(const struct http *http);
/* On the admin thread: runs until http_stop. ready is called once. */
void http_run(struct http *http,
              void (*ready)(void *context, int rc, const struct fathom_error *err), void *context);
/* From any thread. */
void http_stop(struct http *http);
void http_close(struct http *http); /* after http_run has returned, or never ran; accepts NULL */

#endif
