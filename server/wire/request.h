/* Requests: from scanned bytes to a checked struct whose texts and vectors are views of those
 * bytes. Everything that can be judged without an index is judged here, once, with the name of the
 * key at fault; nothing is copied. */
#ifndef SERVER_REQUEST_H
#define SERVER_REQUEST_H

#include "rpc_error.h"

#include "fathom/fathom.h"

enum method {
    METHOD_HELLO,
    METHOD_SEARCH,
    METHOD_INFO,
    METHOD_STATS,
    METHOD_PING,
    METHOD_RELOAD,
    METHOD_SHUTDOWN,
    METHOD_CANCEL,
    METHOD_UNKNOWN,
};
#define METHOD_COUNT METHOD_UNKNOWN

const char *method_name(enum method method);

/* Characters inside the message; not terminated. bytes is NULL when the key was absent. */
struct text_view {
    const char *bytes;
    uint32_t size;
};

struct search_params {
    struct text_view index;
    enum fathom_dtype dtype;
    uint32_t n, dim;
    uint32_t k;
    uint32_t search_list; /* 0: absent */
    float target_recall;  /* 0: absent */
    bool has_deadline;
    uint32_t deadline_ms;
    bool explain, exact_distances;
    enum fathom_rerank rerank;
    /* The vectors: a bin of n * dim scalars, or the inside of an array of n arrays of dim numbers.
     */
    const uint8_t *bin;
    uint32_t bin_bytes;
    struct wire_cursor nested; /* at the first row's head; at == NULL for a bin */
    uint32_t nested_n, nested_dim;
};

struct request {
    bool notification;
    uint32_t msgid;
    enum method method;
    union {
        struct {
            uint64_t protocol;
            struct text_view client, token;
        } hello;
        struct search_params search;
        struct text_view index; /* of info */
        struct {
            struct text_view index;
            bool new_budget, new_recall;
            uint64_t dram_budget_bytes; /* when new_budget; 0: none */
            double dram_budget_share;   /* instead, when above 0 */
            float plan_recall;          /* when new_recall; 0: none */
        } reload;
        uint32_t cancel_msgid;
    };
};

enum request_status {
    REQUEST_OK = 0,
    REQUEST_BAD = -1,       /* answer with the error: type and msgid are known */
    REQUEST_MALFORMED = -2, /* not even a request: the connection cannot go on */
};

/* Decodes one whole message that the scanner has passed. */
int request_decode(struct request *out, const uint8_t *bytes, size_t count,
                   struct rpc_error *err) FATHOM_MUST_USE;

/* The bytes of the n * dim scalars of search->dtype. */
size_t search_vector_bytes(const struct search_params *search);
/* Writes them to out (aligned for the type) and refuses values that are not finite, naming row and
 * column. */
int search_copy_vectors(const struct search_params *search, void *out,
                        struct rpc_error *err) FATHOM_MUST_USE;

#endif
