/* What `fathom-bench search` prints: a table as the runs come, or one JSON document at the end. */
#ifndef BENCH_SEARCH_REPORT_H
#define BENCH_SEARCH_REPORT_H

#include "search_options.h"
#include "search_run.h"

struct search_session {
    struct search_options options;
    struct workload workload;
    char device[256];
    unsigned opened;                  /* openings that were run */
    struct fathom_open_options shown; /* whose head was printed last, and what it came to */
    uint64_t shown_bytes;
    bool noted;                 /* the ring's note has been printed */
    json_t *document, *refused; /* with --json, from the first opening or refusal on */
    /* of the opening at hand */
    struct fathom_index *index;
    struct fathom_index_info info;
    struct fathom_ledger ledger;
};

struct search_repeats {
    struct search_run runs[BENCH_LIST_MAX];
    unsigned count; /* at least 1 */
};

void search_report_opening(struct search_session *session);
void search_report_refused(struct search_session *session, const char *why);
double search_run_qps(const struct search_run *run);
/* The repetition of median QPS; of an even number, the slower of the two in the middle. */
const struct search_run *search_repeats_median(const struct search_repeats *repeats);

/* Speeds are those of the repetition of median QPS, the spread is that of all of them; recall and
 * work are those of the first, which asked every query. */
void search_report_run(struct search_session *session, const struct search_plan *plan,
                       const struct search_repeats *repeats);
/* An open loop that followed the run reported last; the figures are those of the repetition of
 * median p99. */
void search_report_open_loop(struct search_session *session, const struct search_plan *plan,
                             const struct search_repeats *repeats);
/* With --json, the document. Returns an exit code. */
int search_report_print(struct search_session *session);

#endif
