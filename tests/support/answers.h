/* The answers of an engine to a set of queries, kept so that they can be compared with those of
 * another engine, or with what a naive computation says. */
#ifndef SUPPORT_ANSWERS_H
#define SUPPORT_ANSWERS_H

#include "env.h"
#include "fathom/fathom.h"

struct answer {
    int status;
    char detail[256];
    uint32_t count;
    uint64_t *ids;
    float *distances;
    struct fathom_query_stats stats;
};

struct answers {
    uint32_t count, k;
    struct answer *all;
    void *memory;
};

/* Asks count vectors, dim scalars of request->dtype each, with up to inflight of them on their way
 * at once; request gives all but the vector. Fails the test when a query is refused or never
 * answers. */
void answers_get(struct answers *out, struct fathom_engine *engine,
                 const struct fathom_index *index, const struct fathom_query *request,
                 const void *vectors, uint32_t dim, uint32_t count, unsigned inflight);
void answers_free(struct answers *answers);

/* Whether two answers to the same query are the same to the bit. */
bool answer_same(const struct answers *a, const struct answers *b, uint32_t query);
/* Fails the test unless all are. */
void answers_assert_same(const struct answers *a, const struct answers *b);
/* Fails the test unless an answer is well formed: rising distances, each id once, padding behind.
 */
void answer_assert_formed(const struct answers *answers, uint32_t query);

/* Opens an index for the graph with this share (above 0) of its lists in memory and codes of
 * middling length. 0 or what is wrong with the index. */
int partly_open(struct fathom_index **out, const struct env *env, const char *dir, float share,
                unsigned inflight, struct fathom_error *err);

/* Opens an index for cells whose codes are read, but for this share (above 0) of their pages. 0 or
 * what is wrong with the index. */
int scan_open(struct fathom_index **out, const struct env *env, const char *dir, float share,
              unsigned inflight, struct fathom_error *err);

/* The same with as little memory as will do: no codes and no ids. How much that is, is asked for
 * outside of env. engines_of: as in fathom_open_options. */
int least_open(struct fathom_index **out, const struct env *env, const char *dir, unsigned inflight,
               const struct fathom_index *engines_of, struct fathom_error *err);

/* For io in turn: whether this machine lets us use it. */
bool io_works(enum fathom_io io);
/* Opens an index for one query of one thread with codes of that many bytes in memory; 0: whatever
 * the plan takes. Fails the test when it cannot. */
struct fathom_index *index_of_codes(const char *dir, uint32_t code_bytes,
                                    enum fathom_navigator navigator);

/* An engine or a failed test. */
struct fathom_engine *engine_make(enum fathom_io io, unsigned inflight);
struct fathom_engine *engine_make_for(const struct fathom_index *index, enum fathom_io io,
                                      unsigned inflight);

#endif
