/* fathom-cli query and explain: what was asked for, and the batches that ask the server. */
#ifndef CLI_QUERY_H
#define CLI_QUERY_H

#include "cli.h"
#include "truth.h"
#include "vectors.h"

struct query_request {
    struct cli_common common;
    const char *verb; /* for messages */
    const char *index, *vectors, *out;
    enum fathom_dtype dtype; /* 0: the file's */
    uint32_t k, search_list, deadline_ms;
    float target_recall;
    bool round; /* where the cast would be refused */
    bool exact_distances, ids64, explain;
    enum fathom_client_rerank rerank;
    uint64_t row;             /* explain's */
    uint32_t batch, inflight; /* rows a request, requests in flight; batch 0: chosen by size */
    enum tool_progress_mode progress;
};

struct query_answer {
    struct vector_info info;
    struct truth *results;            /* a row for each query */
    struct fathom_client_stats stats; /* explain's */
    struct fathom_client_server server;
    uint64_t generation;
    bool complete;          /* all replies were */
    bool mixed_generations; /* the index was reloaded between two requests */
    uint64_t took_ns;
};

/* Reads the vectors and asks. An exit code, after telling what is wrong; *answer is to be given to
 * query_answer_fini in any case. */
int query_run(const struct query_request *request, struct query_answer *answer);
void query_answer_fini(struct query_answer *answer);

#endif
