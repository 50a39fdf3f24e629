/* libfathom_client: a blocking client of fathom-server, over TCP or a unix socket.
 *
 *     struct fathom_client *client;
 *     struct fathom_client_error err;
 *     struct fathom_client_options options = fathom_client_options_default();
 *     if (fathom_client_open(&client, "127.0.0.1:7117", &options, &err))
 *         return complain(err.message);
 *     uint64_t ids[10];
 *     float distances[10];
 *     struct fathom_client_search search = fathom_client_search_default();
 *     search.index = "wordnet";
 *     search.vectors = floats;        // n x dim scalars without gaps
 *     search.dim = 384;
 *     search.ids = ids;               // n x k
 *     search.distances = distances;
 *     struct fathom_client_result result;
 *     if (fathom_client_search(client, &search, &result, &err))
 *         return complain(err.message);
 *     fathom_client_close(client);
 *
 * Many requests may be in flight on one connection: fathom_client_submit sends one,
 * fathom_client_receive takes whichever answer is there first. Both kinds of call may be mixed.
 *
 * Errors: calls return 0, or a negative code and fill the error: -errno where the OS refused, else
 * one of enum fathom_client_code. What to branch on is error.name, the stable name of the protocol
 * ("not_found"), set for local failures too. A server that restarts or closes the connection is
 * never hidden: every request in flight fails as "unavailable", and so does each later call until
 * fathom_client_reconnect has been called. Nothing is sent twice without the caller's knowledge.
 *
 * Threads: a client belongs to one thread at a time; different clients are independent. Signals:
 * SIGPIPE is never raised, EINTR never shows. The library never prints. */
#ifndef FATHOM_CLIENT_H
#define FATHOM_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FATHOM_CLIENT_API      __attribute__((visibility("default")))
#define FATHOM_CLIENT_MUST_USE __attribute__((warn_unused_result))
#else
#define FATHOM_CLIENT_API
#define FATHOM_CLIENT_MUST_USE
#endif

#define FATHOM_CLIENT_INFLIGHT_MAX 1024       /* requests without an answer on one connection */
#define FATHOM_CLIENT_ID_NONE      UINT64_MAX /* pads rows of fewer than k results; distance +inf */

/* Pinned for ever; new ones are added at the end. */
enum fathom_client_code {
    FATHOM_CLIENT_ESERVER = -11001, /* the server answered with an error: see error.name */
    FATHOM_CLIENT_EPROTOCOL =
        -11002, /* bytes that no fathom server sends; the connection is lost */
    FATHOM_CLIENT_EDEADLINE = -11003, /* no whole answer in the time allowed */
    FATHOM_CLIENT_ECLOSED = -11004,   /* the connection is closed: fathom_client_reconnect */
    FATHOM_CLIENT_EARGUMENT = -11005, /* refused here, nothing was sent */
    FATHOM_CLIENT_EADDRESS = -11006,  /* not an address, or a host name that does not resolve */
    FATHOM_CLIENT_ELIMIT = -11007,    /* too large, or too many in flight; nothing was sent */
};

/* Why a call failed. Every pointer to one may be NULL. */
struct fathom_client_error {
    int code;                /* what the call returned */
    bool retryable;          /* the same request may succeed later */
    uint32_t retry_after_ms; /* not before this; 0: no advice */
    char name[32];           /* "not_found", "unavailable"...; never empty after a failure */
    char reason[16];         /* of "resource_exhausted": "rate", "memory", "disk", "queue" */
    char message[512];       /* what, where and what to do; NUL-terminated, printable */
};

struct fathom_client_options {
    /* For the connection and its hello; 0: none. Name resolution is not bounded by it. */
    uint32_t connect_timeout_ms;
    /* The longest silence while an answer is awaited; 0: none. */
    uint32_t read_timeout_ms;
    /* Absolute: a call returns within it whatever the server does; 0: none. */
    uint32_t call_timeout_ms;
    uint64_t max_reply_bytes; /* a longer reply is refused, and the connection closed */
    const char *client_name;  /* for the server's log; NULL: "libfathom_client/VERSION" */
    const char *token;        /* for a server that asks for one; NULL: none */
};

struct fathom_client;

/* 5 s to connect, 30 s of silence, 60 s for a call, replies up to 64 MiB. */
FATHOM_CLIENT_API struct fathom_client_options fathom_client_options_default(void);
FATHOM_CLIENT_API const char *fathom_client_version(void);

/* Connects and says hello. address: "HOST:PORT", "[IPv6]:PORT" or "unix:PATH". options may be NULL
 * (the defaults); its strings are copied. On failure *out is NULL. */
FATHOM_CLIENT_API int fathom_client_open(struct fathom_client **out, const char *address,
                                         const struct fathom_client_options *options,
                                         struct fathom_client_error *err) FATHOM_CLIENT_MUST_USE;
/* Closes and frees; requests in flight are given up and their memory is no longer written. Accepts
 * NULL. */
FATHOM_CLIENT_API void fathom_client_close(struct fathom_client *client);
/* Drops the connection, if there is one, and makes a new one to the same address. Requests that
 * were in flight fail as "unavailable" and are still handed out by fathom_client_receive. */
FATHOM_CLIENT_API int
fathom_client_reconnect(struct fathom_client *client,
                        struct fathom_client_error *err) FATHOM_CLIENT_MUST_USE;
/* For calls that start after this one; 0: no bound. */
FATHOM_CLIENT_API void fathom_client_set_call_timeout(struct fathom_client *client,
                                                      uint32_t timeout_ms);

/* What the server said in its hello. */
struct fathom_client_server {
    char server[64];            /* "fathom-server/0.1.0" */
    uint32_t protocol;          /* the version that both sides speak */
    uint64_t max_message_bytes; /* of a request */
};

FATHOM_CLIENT_API void fathom_client_get_server(const struct fathom_client *client,
                                                struct fathom_client_server *out);

/* ---- searching ---- */

/* The values of enum fathom_dtype in fathom/fathom.h. */
enum fathom_client_dtype {
    FATHOM_CLIENT_F32 = 1,
    FATHOM_CLIENT_F16 = 2,
    FATHOM_CLIENT_I8 = 3,
    FATHOM_CLIENT_U8 = 4,
};

/* What the server did for one query. Fields that the server did not send are zero. */
struct fathom_client_stats {
    uint32_t hops;           /* nodes expanded, or cells scanned */
    uint32_t rounds;         /* waves of reads */
    uint32_t reads;          /* of all kinds */
    uint32_t list_reads;     /* those of them that brought neighbour lists */
    uint32_t code_reads;     /* and those that brought codes */
    uint32_t resident_lists; /* neighbour lists served from memory */
    uint64_t bytes;          /* read from the index file */
    uint32_t code_distances, full_distances;
    uint32_t reranked; /* 1: by full vectors, where 8 bits left the result in doubt */
    uint32_t widened;  /* 1: the search list was made longer: the query is unlike those that target
                          recall was measured on */
    uint64_t queue_us, device_us, compute_us, total_us;
    char stop_reason[16]; /* "converged", "exhausted", "limit" */
    char io_engine[16];   /* "uring", "pread" */
    char navigator[16];   /* "graph", "cells" */
};

/* Whether results that 8-bit rows leave in doubt are ranked by their full vectors, for a few reads
 * more. AUTO: where the target recall asks for it. Changes nothing where 8 bits are exact. */
enum fathom_client_rerank {
    FATHOM_CLIENT_RERANK_AUTO,
    FATHOM_CLIENT_RERANK_OFF,
    FATHOM_CLIENT_RERANK_ON,
};

/* One batch: n queries in one request. (In C++ its name needs the word struct: the call has it
 * too.) */
struct fathom_client_search {
    const char *index;              /* the name that the server gives it */
    const void *vectors;            /* [n][dim] scalars; read before submit returns */
    enum fathom_client_dtype dtype; /* may differ from the index's */
    uint32_t n, dim;
    uint32_t k;
    uint32_t search_list; /* L; 0: from target_recall, or the server's default */
    float target_recall;  /* in (0, 1); 0: not used */
    enum fathom_client_rerank rerank;
    bool exact_distances; /* have the server read the full vector of every result */
    uint32_t deadline_ms; /* the server gives up after this, the client a second later; 0: none */
    uint64_t *ids;        /* out [n][k], nearest first; untouched when the search fails */
    float *distances;     /* out [n][k]; NULL when not wanted */
    struct fathom_client_stats *stats; /* out [n]; NULL: not asked for */
    void *user;                        /* given back with the result */
};

/* f32, n = 1, k = 10, all else zero. */
FATHOM_CLIENT_API struct fathom_client_search fathom_client_search_default(void);

struct fathom_client_result {
    uint32_t msgid;
    int status;          /* 0: the arrays of the search are filled */
    void *user;          /* of the search */
    uint64_t generation; /* of the index that answered; one reply is always of one generation */
    bool complete;       /* false: the server could not look at everything */
};

/* Sends one batch and waits for its answer. result may be NULL. Answers to other requests in flight
 * that arrive meanwhile are kept for fathom_client_receive. */
FATHOM_CLIENT_API int fathom_client_search(struct fathom_client *client,
                                           const struct fathom_client_search *search,
                                           struct fathom_client_result *result,
                                           struct fathom_client_error *err) FATHOM_CLIENT_MUST_USE;
/* Sends one batch. The vectors may be reused at once; ids, distances and stats must stay valid
 * until the answer has been received, or the client is closed. msgid (may be NULL) is the
 * request's, for fathom_client_cancel. */
FATHOM_CLIENT_API int fathom_client_submit(struct fathom_client *client,
                                           const struct fathom_client_search *search,
                                           uint32_t *msgid,
                                           struct fathom_client_error *err) FATHOM_CLIENT_MUST_USE;
/* Waits for the answer to any request in flight. 1: *out is one (out->status may be an error, then
 * err has it); 0: nothing is in flight; negative: none came in the time allowed, and all are still
 * in flight. */
FATHOM_CLIENT_API int fathom_client_receive(struct fathom_client *client,
                                            struct fathom_client_result *out,
                                            struct fathom_client_error *err) FATHOM_CLIENT_MUST_USE;
/* Asks the server to drop a request. It is still answered (as "cancelled", or with its result when
 * that was sooner), so it must still be received. */
FATHOM_CLIENT_API int fathom_client_cancel(struct fathom_client *client, uint32_t msgid,
                                           struct fathom_client_error *err) FATHOM_CLIENT_MUST_USE;
/* Requests that were submitted and not yet handed out by fathom_client_receive. */
FATHOM_CLIENT_API unsigned fathom_client_inflight(const struct fathom_client *client);
/* Of them, those that fathom_client_receive can hand out without waiting. */
FATHOM_CLIENT_API unsigned fathom_client_ready(const struct fathom_client *client);
/* For a poll loop of the caller's own: readable when fathom_client_receive has something to read.
 * Several answers may be read at once, so receive while fathom_client_ready says so before polling
 * again. -1 when closed. */
FATHOM_CLIENT_API int fathom_client_fd(const struct fathom_client *client);

/* ---- looking after a server ---- */

FATHOM_CLIENT_API int fathom_client_ping(struct fathom_client *client,
                                         struct fathom_client_error *err) FATHOM_CLIENT_MUST_USE;
/* What the server says of one index, or of itself and all of them (index NULL), as JSON text: the
 * result map of the protocol's method as it came, with generations as 16 hex digits. *json is to be
 * freed with free(); NULL on failure. */
FATHOM_CLIENT_API int fathom_client_info(struct fathom_client *client, const char *index,
                                         char **json,
                                         struct fathom_client_error *err) FATHOM_CLIENT_MUST_USE;
FATHOM_CLIENT_API int fathom_client_stats(struct fathom_client *client, char **json,
                                          struct fathom_client_error *err) FATHOM_CLIENT_MUST_USE;
/* Has the server open the newest generation of an index beside the old one and swap. Returns when
 * it has, or with the reason why the old one is kept. json (may be NULL) as above. */
FATHOM_CLIENT_API int fathom_client_reload(struct fathom_client *client, const char *index,
                                           char **json,
                                           struct fathom_client_error *err) FATHOM_CLIENT_MUST_USE;
/* How an index is kept from now on; all zero: as it was. */
struct fathom_client_terms {
    const char *dram_budget; /* "512MiB", "5%" (of its vectors as f32), "0" for none */
    float plan_recall;       /* the target_recall that queries will have, in (0, 1) */
    bool no_plan_recall;     /* nobody knows which any more */
};

/* The same under new terms. The change itself keeps to the larger of the two budgets and what the
 * least residency takes. */
FATHOM_CLIENT_API int
fathom_client_reload_under(struct fathom_client *client, const char *index,
                           const struct fathom_client_terms *terms, char **json,
                           struct fathom_client_error *err) FATHOM_CLIENT_MUST_USE;
/* Asks the server to drain and end. Returns when it has agreed. */
FATHOM_CLIENT_API int
fathom_client_shutdown(struct fathom_client *client,
                       struct fathom_client_error *err) FATHOM_CLIENT_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
