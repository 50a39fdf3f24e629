/* The indexes that are served: a fixed list of names, each with its current edition (an opened
 * generation). Editions are immutable and counted: the registry holds the current one, each
 * worker's view holds what it saw last, and each search holds the one it started on, so that every
 * reply comes from one generation.
 *
 * Opening and closing take time and happen on a thread of their own (registry_run): a reload opens
 * the new edition beside the old one, swaps, and the old one is closed by that thread when its last
 * user lets go of it.
 *
 * A reload with a new budget keeps it while it is changed: two editions that together are more than
 * the larger of the two budgets are never open at once. In between serves an edition of the least
 * residency, opened beside the old one and closed when the new one is there. */
#ifndef SERVER_REGISTRY_H
#define SERVER_REGISTRY_H

#include "log.h"

#include "fathom/fathom.h"

#include <stdatomic.h>

struct registry;

/* An opened generation of one index. */
struct edition {
    struct fathom_index *index;
    struct fathom_index_info info;
    struct fathom_ledger ledger;
    unsigned slot; /* of its name in the registry */
    const char *name;
    /* private */
    struct registry *registry;
    atomic_uint users;
    struct edition *next; /* in the list of those to close */
};

struct edition *edition_retain(struct edition *edition);
void edition_release(
    struct edition *edition); /* never closes on the caller's thread; accepts NULL */

struct registry_index {
    const char *name, *dir;
    float plan_recall; /* as in fathom_open_options */
};

struct registry_options {
    const struct registry_index *indexes;
    unsigned index_count;
    uint64_t dram_budget_bytes;      /* of all indexes together (settle_terms); 0: none */
    double dram_budget_share;        /* instead, of the vectors of each as f32; 0: not */
    enum fathom_navigator navigator; /* of every index; AUTO: each its own */
    unsigned threads,
        inflight; /* engines that will search; queries in flight in each, 0: by budget */
};

/* Opens every index. The options' strings must outlive the registry. */
int registry_open(struct registry **out, const struct registry_options *options, struct log *log,
                  struct fathom_error *err) FATHOM_MUST_USE;
/* Closes what is left; every view and search must have let go. Reloads that still wait are told
 * FATHOM_EINTERRUPTED. Accepts NULL. */
void registry_close(struct registry *registry);

unsigned registry_count(const struct registry *registry);
/* The slot of a name (not terminated), or -1. */
int registry_find(const struct registry *registry, const char *name, size_t name_bytes);
const char *registry_name(const struct registry *registry, unsigned slot);

/* What one thread sees: per slot the edition current at its last refresh. */
struct registry_view {
    struct registry *registry;
    struct edition **editions;
    unsigned version;
};

int registry_view_init(struct registry_view *view, struct registry *registry) FATHOM_MUST_USE;
void registry_view_fini(struct registry_view *view);
/* Takes over what was swapped since; one atomic load when nothing was. */
void registry_view_refresh(struct registry_view *view);

/* ---- reloading ---- */

struct reload_request {
    unsigned slot;
    bool new_budget;       /* of this index, from now on */
    uint64_t budget_bytes; /* then; 0: none */
    double budget_share;   /* instead, of its vectors as f32; 0: not */
    bool new_recall;       /* that its plan is for */
    float plan_recall;     /* then; 0: none */
};

struct reload_result {
    struct fathom_error err; /* code 0: done */
    uint64_t generation, previous_generation;
    uint64_t budget_bytes; /* of the index, as it is now */
    float plan_recall;
    uint64_t milliseconds;
};

/* Called on the registry's thread when the reload is over, either way; or by registry_close. */
typedef void reload_done_fn(void *context, const struct reload_result *result);

/* Queues a reload; done may be NULL. 0 or -ENOMEM, or -EBUSY when too many wait already. */
int registry_reload(struct registry *registry, const struct reload_request *request,
                    reload_done_fn *done, void *context) FATHOM_MUST_USE;
/* The registry's thread: reloads and closes until registry_stop. */
void registry_run(struct registry *registry);
/* False when that is still busy, with an index that takes long to open, after so many seconds: then
 * the registry cannot be closed. */
bool registry_stop(struct registry *registry, unsigned patience_s) FATHOM_MUST_USE;

struct reload_counts {
    uint64_t ok, failed;
};
void registry_reload_counts(struct registry *registry, unsigned slot, struct reload_counts *out);

#endif
