/* Packing requests. Each function appends one whole message to out, or nothing and returns false
 * when there is no memory. */
#ifndef CLIENT_REQUEST_H
#define CLIENT_REQUEST_H

#include <msgpack.h>

#include "fathom/client.h"

bool client_request_hello(msgpack_sbuffer *out, uint32_t msgid, const char *client,
                          const char *token);
/* A method with no parameters but, optionally, the name of an index. */
bool client_request_plain(msgpack_sbuffer *out, uint32_t msgid, const char *method,
                          const char *index);
bool client_request_reload_under(msgpack_sbuffer *out, uint32_t msgid, const char *index,
                                 const struct fathom_client_terms *terms);
bool client_request_search(msgpack_sbuffer *out, uint32_t msgid,
                           const struct fathom_client_search *search);
bool client_request_cancel(msgpack_sbuffer *out, uint32_t msgid);

/* Bytes of vectors, and an upper bound of the whole request. */
size_t client_request_vector_bytes(const struct fathom_client_search *search);
size_t client_request_search_bytes_max(const struct fathom_client_search *search);

#endif
