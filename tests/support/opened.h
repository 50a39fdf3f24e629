/* What groups of search tests begin with: a small index, opened in one way or in several, and what
 * it answers. Each function fails the test when something is refused. */
#ifndef SUPPORT_OPENED_H
#define SUPPORT_OPENED_H

#include "answers.h"
#include "small_index.h"

struct fathom_index *index_opened(const struct env *env, const char *dir,
                                  const struct fathom_open_options *options);
/* Cells with the shortest codes there are, one thread, 16 queries in flight: the most reads. */
struct fathom_open_options reading_options(const char *dir);
struct fathom_index *reading_opened(const char *dir);

/* ---- opened once, or by each test ---- */

struct opened {
    struct small_index small;
    struct fathom_index *index; /* NULL: each test opens its own */
};

/* Setup and teardown of cmocka, with *state pointing to a struct opened. */
int opened_make(void **state, const struct small_options *options);         /* index NULL */
int opened_make_reading(void **state, const struct small_options *options); /* reading_opened() */
int opened_free(void **state);

/* ---- opened with this share of its lists or codes in memory, and with that ---- */

#define SHARES 4

struct shares {
    struct small_index small;
    struct fathom_index *whole, *partly[SHARES]; /* codes of the same length */
    struct fathom_index *least;                  /* NULL, or what a test opens beside them */
    struct answers right;
    const struct shares_how *how;
};

struct shares_how {
    float shares[SHARES]; /* rising */
    uint32_t search_list; /* of the requests; 0: small_request's */
    int (*open)(struct fathom_index **out, const struct env *env, const char *dir, float share,
                unsigned inflight, struct fathom_error *err); /* partly_open or scan_open */
    enum fathom_navigator navigator;                          /* of the whole */
    bool whole_is_right; /* or the first of partly, where codes in memory are searched otherwise */
};

/* Setup and teardown of cmocka, with *state pointing to a struct shares. how stays. */
int shares_make(void **state, const struct small_options *options, const struct shares_how *how);
int shares_free(void **state);
/* All queries of the small index. */
void shares_ask(struct answers *out, const struct shares *shares, struct fathom_engine *engine,
                const struct fathom_index *index, unsigned inflight);
/* An index answers as is right, by either ring, with few queries in flight and with many. */
void shares_expect_right(const struct shares *shares, const struct fathom_index *index);
/* An engine that has seen a fault answers as is right; a slot of it may still wait for its read. */
void shares_expect_usable(const struct shares *shares, struct fathom_engine *engine);
/* A query's deadline is kept while its second read stalls, and its engine is usable then. reads: of
 * the kind that the first of partly makes. Skips the test without io_uring. */
void shares_expect_deadline(const struct shares *shares,
                            uint32_t (*reads)(const struct fathom_query_stats *));
/* An engine may end while reads are on their way, and leaves nothing open. */
void shares_expect_end(const struct shares *shares);

#endif
