/* From a decoded search to one that an engine may run: the index is looked up, the question is held
 * against it, memory and a place in the queue are taken. The same for the wire protocol and for
 * HTTP. */
#ifndef SERVER_ADMISSION_H
#define SERVER_ADMISSION_H

#include "dispatch.h"
#include "request.h"
#include "service.h"

/* The slot of an index by name, or -1 with not_found. */
int admission_find_index(const struct service *service, const struct text_view *name,
                         struct rpc_error *err);
/* A search ready for dispatch_start, or NULL with the error. */
struct search *admission_search(const struct service *service, const struct registry_view *view,
                                struct dispatch *dispatch, const struct search_params *params,
                                uint64_t now_ns, struct rpc_error *err);
/* Counts an answered search, and logs what the operator must know of. */
void admission_count_answer(const struct service *service, struct thread_stats *stats,
                            const struct search *search);

#endif
