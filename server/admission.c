/* Everything that can be refused without an engine is refused here, before memory is taken for it.
 */
#include "admission.h"

#include "protocol.h"
#include "reply.h"

#include <stdio.h>
#include <string.h>

/* A typing error is seen at once beside what there is. */
static void no_index(const struct service *service, const struct text_view *name,
                     struct rpc_error *err)
{
    char known[160] = "";
    size_t used = 0;
    unsigned count = registry_count(service->registry);
    for (unsigned i = 0; i < count && used < sizeof known; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "",
                                 registry_name(service->registry, i));
    rpc_error_set(err, PROTOCOL_ERROR_NOT_FOUND, "there is no index \"%.*s\"; there %s: %s%s",
                  (int)name->size, name->bytes, count == 1 ? "is" : "are", known,
                  used < sizeof known ? "" : "...");
}

int admission_find_index(const struct service *service, const struct text_view *name,
                         struct rpc_error *err)
{
    int slot = registry_find(service->registry, name->bytes, name->size);
    if (slot < 0)
        no_index(service, name, err);
    return slot;
}

static int check_against_index(const struct service *service, const struct search_params *params,
                               const struct edition *edition, struct rpc_error *err)
{
    if (params->dim != edition->info.dim)
        return rpc_error_field(err, params->bin ? PROTOCOL_KEY_SHAPE : PROTOCOL_KEY_VECTORS,
                               "dimension %u, but index %s has %u", params->dim, edition->name,
                               edition->info.dim);
    size_t bytes = reply_search_bytes_max(params->n, params->k, params->explain);
    if (bytes > service->limits.message_bytes_max)
        return rpc_error_field(err, PROTOCOL_KEY_SHAPE,
                               "the reply to %u queries with k = %u has %zu bytes, more than "
                               "max_message_bytes (%u); ask for fewer at a time",
                               params->n, params->k, bytes, service->limits.message_bytes_max);
    if (params->has_deadline && params->deadline_ms == 0)
        return rpc_error_set(err, PROTOCOL_ERROR_DEADLINE_EXCEEDED,
                             "the deadline had passed before the search began");
    return 0;
}

static void set_query(struct search *search, const struct search_params *params, uint64_t now_ns)
{
    struct fathom_query *query = &search->query;
    query->dtype = params->dtype;
    query->dim = params->dim;
    query->search_list = params->search_list;
    query->target_recall = params->target_recall;
    query->exact_distances = params->exact_distances;
    query->rerank = params->rerank;
    query->deadline_ns = params->has_deadline ? now_ns + params->deadline_ms * 1000000ull : 0;
    search->arrived_ns = now_ns;
}

struct search *admission_search(const struct service *service, const struct registry_view *view,
                                struct dispatch *dispatch, const struct search_params *params,
                                uint64_t now_ns, struct rpc_error *err)
{
    int slot = admission_find_index(service, &params->index, err);
    if (slot < 0)
        return NULL;
    struct edition *edition = view->editions[slot];
    if (check_against_index(service, params, edition, err) < 0 ||
        (params->has_deadline && dispatch_is_hopeless(dispatch, params->deadline_ms, err)))
        return NULL;
    struct search *search = dispatch_take(dispatch, edition, params->n, params->k,
                                          search_vector_bytes(params), params->explain, err);
    if (!search)
        return NULL;
    if (search_copy_vectors(params, search->vectors, err) < 0) {
        dispatch_drop(dispatch, search);
        return NULL;
    }
    set_query(search, params, now_ns);
    return search;
}

/* What the operator must know of: wrong bytes on disk, a device that fails, our own bugs. */
static void log_error(const struct service *service, const struct search *search)
{
    const char *code = search->err.code;
    if (strcmp(code, PROTOCOL_ERROR_DATA_LOSS) == 0 || strcmp(code, PROTOCOL_ERROR_INTERNAL) == 0 ||
        strcmp(code, PROTOCOL_ERROR_UNAVAILABLE) == 0)
        log_peer(service->log, LOG_LEVEL_ERROR, "index %s, generation %016llx: %s: %s",
                 search->edition->name, (unsigned long long)search->edition->info.generation, code,
                 search->err.message);
}

void admission_count_answer(const struct service *service, struct thread_stats *thread,
                            const struct search *search)
{
    struct index_stats *stats = &thread->indexes[search->edition->slot];
    counter_add(&stats->searches, 1);
    histogram_record(&stats->latency_us, search->counts.total_ns / 1000);
    if (search->err.code) {
        counter_add(&stats->failed, 1);
        log_error(service, search);
    } else if (!search->complete) {
        counter_add(&stats->incomplete, 1);
    }
}
