/* Replies: each function packs one whole message at the end of a buffer. 0, or -ENOMEM with the
 * buffer as it was. */
#ifndef SERVER_REPLY_H
#define SERVER_REPLY_H

#include "dispatch.h"
#include "service.h"

int reply_error(struct buffer *out, uint32_t msgid, const struct rpc_error *err) FATHOM_MUST_USE;
/* An empty map: done. */
int reply_empty(struct buffer *out, uint32_t msgid) FATHOM_MUST_USE;
int reply_hello(struct buffer *out, uint32_t msgid, const struct service *service) FATHOM_MUST_USE;
/* The results of a search that has them. */
int reply_search(struct buffer *out, uint32_t msgid, const struct search *search,
                 enum fathom_io io) FATHOM_MUST_USE;
/* slot -1: all indexes. */
int reply_info(struct buffer *out, uint32_t msgid, const struct service *service,
               const struct registry_view *view, int slot) FATHOM_MUST_USE;
int reply_stats(struct buffer *out, uint32_t msgid, const struct service *service,
                const struct registry_view *view, uint64_t now_ns) FATHOM_MUST_USE;
int reply_reload(struct buffer *out, uint32_t msgid, const char *index,
                 const struct reload_result *result) FATHOM_MUST_USE;

/* The size of a search's reply is at most this. */
size_t reply_search_bytes_max(uint32_t n, uint32_t k, bool explain);

#endif
