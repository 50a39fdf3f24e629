/* JSON for the admin port. A request's body is rewritten as a wire message and decoded by
 * request.h, so that both ways in obey the same rules with the same messages. */
#ifndef SERVER_HTTP_JSON_H
#define SERVER_HTTP_JSON_H

#include "dispatch.h"
#include "request.h"

#include <jansson.h>

/* body: the JSON object of a search. message receives the wire form, which out points into. */
int http_json_read_search(struct request *out, struct buffer *message, const char *index,
                          const char *body, size_t count, struct rpc_error *err) FATHOM_MUST_USE;
/* New references; NULL when there is no memory. */
json_t *http_json_results(const struct search *search, enum fathom_io io);
json_t *http_json_error(const struct rpc_error *err);
json_t *http_json_index(const struct edition *edition);

#endif
