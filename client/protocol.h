/* The wire protocol's names and limits: the one header that server and clients share
 * (docs/PROTOCOL.md is the contract in words). Constants only: no types, no functions, nothing to
 * link. A name here is on the wire and is never changed; new ones are added. */
#ifndef CLIENT_PROTOCOL_H
#define CLIENT_PROTOCOL_H

#define PROTOCOL_VERSION        1
#define PROTOCOL_DEFAULT_LISTEN "127.0.0.1:7117"
#define PROTOCOL_DEFAULT_HTTP   "127.0.0.1:7118"
#define PROTOCOL_UNIX_PREFIX    "unix:" /* unix:PATH in every place where HOST:PORT may stand */

/* The first element of each message (MessagePack-RPC). */
#define PROTOCOL_REQUEST      0 /* [0, msgid, method, [params]] */
#define PROTOCOL_REPLY        1 /* [1, msgid, error or nil, result or nil] */
#define PROTOCOL_NOTIFICATION 2 /* [2, method, [params]] */

/* ---- limits ---- */

#define PROTOCOL_DEPTH_MAX    8          /* of nested arrays and maps in one message */
#define PROTOCOL_ELEMENTS_MAX (1u << 22) /* values in one message, all levels together */
#define PROTOCOL_MESSAGE_BYTES_DEFAULT                                                             \
    (16u << 20) /* of one message either way; hello tells the server's */
#define PROTOCOL_MESSAGE_BYTES_MIN (64u << 10)
#define PROTOCOL_MESSAGE_BYTES_MAX (256u << 20)
#define PROTOCOL_BATCH_MAX         1024     /* rows of one search request */
#define PROTOCOL_DIM_MAX           4096     /* = FATHOM_DIM_MAX */
#define PROTOCOL_K_MAX             4096     /* = FATHOM_K_MAX */
#define PROTOCOL_SEARCH_LIST_MAX   16384    /* = FATHOM_SEARCH_LIST_MAX */
#define PROTOCOL_DEADLINE_MS_MAX   86400000 /* a day; more means a day */
#define PROTOCOL_NAME_BYTES_MAX    64       /* of an index's name: letters, digits and ._- */
#define PROTOCOL_CLIENT_BYTES_MAX  256      /* of hello's client */
#define PROTOCOL_TOKEN_BYTES_MAX   1024
#define PROTOCOL_ID_NONE                                                                           \
    0xffffffffffffffffull /* pads rows with fewer than k results; distance is +inf */

/* ---- methods ---- */

#define PROTOCOL_METHOD_HELLO    "hello"
#define PROTOCOL_METHOD_SEARCH   "search"
#define PROTOCOL_METHOD_INFO     "info"
#define PROTOCOL_METHOD_STATS    "stats"
#define PROTOCOL_METHOD_PING     "ping"
#define PROTOCOL_METHOD_RELOAD   "reload"
#define PROTOCOL_METHOD_SHUTDOWN "shutdown"
#define PROTOCOL_METHOD_CANCEL   "cancel" /* notification, client to server */
#define PROTOCOL_METHOD_CLOSING                                                                    \
    "closing" /* notification, server to client: why it closes; an error map */

/* ---- keys of params ---- */

#define PROTOCOL_KEY_PROTOCOL "protocol" /* hello: uint */
#define PROTOCOL_KEY_CLIENT   "client"   /* hello: str, name and version */
#define PROTOCOL_KEY_TOKEN    "token"    /* hello: str, optional */
#define PROTOCOL_KEY_INDEX    "index"    /* search, reload: str; info: optional */
#define PROTOCOL_KEY_DRAM_BUDGET                                                                   \
    "dram_budget" /* reload: uint, bytes, 0: none; or str, "5%" or "64MiB"; optional */
#define PROTOCOL_KEY_PLAN_RECALL                                                                   \
    "plan_recall"                            /* reload: float in (0, 1), or 0 for none, optional */
#define PROTOCOL_KEY_VECTORS       "vectors" /* search: bin, or array of arrays of numbers */
#define PROTOCOL_KEY_DTYPE         "dtype"   /* search: "f32" "f16" "u8" "i8" */
#define PROTOCOL_KEY_SHAPE         "shape"   /* search: [n, dim]; its reply: [n, k] */
#define PROTOCOL_KEY_K             "k"       /* search: uint */
#define PROTOCOL_KEY_SEARCH_LIST   "search_list"   /* search: uint, optional */
#define PROTOCOL_KEY_TARGET_RECALL "target_recall" /* search: float in (0, 1), optional */
#define PROTOCOL_KEY_DEADLINE_MS                                                                   \
    "deadline_ms" /* search: uint, from the server's reading on, optional */
#define PROTOCOL_KEY_EXPLAIN         "explain"         /* search: bool, optional: reply has stats */
#define PROTOCOL_KEY_EXACT_DISTANCES "exact_distances" /* search: bool, optional */
#define PROTOCOL_KEY_RERANK          "rerank"          /* search: "auto" "on" "off", optional */
#define PROTOCOL_KEY_MSGID           "msgid"           /* cancel: uint */

/* ---- keys of results ---- */

#define PROTOCOL_KEY_SERVER            "server"            /* hello: str */
#define PROTOCOL_KEY_MAX_MESSAGE_BYTES "max_message_bytes" /* hello: uint */
#define PROTOCOL_KEY_METHODS           "methods"           /* hello: array of str */
#define PROTOCOL_KEY_INDEXES           "indexes" /* hello: array of str; info, stats: array of maps */
#define PROTOCOL_KEY_IDS               "ids"     /* search: bin of u64, n * k */
#define PROTOCOL_KEY_DISTANCES         "distances"  /* search: bin of f32, n * k */
#define PROTOCOL_KEY_GENERATION        "generation" /* search, info, reload: uint */
#define PROTOCOL_KEY_COMPLETE          "complete"   /* search: bool */
#define PROTOCOL_KEY_STATS             "stats"      /* search: map, when explain was true */
#define PROTOCOL_KEY_NAME              "name"
#define PROTOCOL_KEY_ROWS              "rows"
#define PROTOCOL_KEY_DIM               "dim"
#define PROTOCOL_KEY_METRIC            "metric" /* "l2" "ip" "cos" */
#define PROTOCOL_KEY_NAVIGATOR         "navigator"

/* keys of search's stats: sums over the rows; "queries" has one such map per row when there are
 * several */
#define PROTOCOL_KEY_HOPS           "hops"
#define PROTOCOL_KEY_ROUNDS         "rounds"
#define PROTOCOL_KEY_READS          "reads"
#define PROTOCOL_KEY_BYTES          "bytes"
#define PROTOCOL_KEY_LIST_READS     "list_reads"
#define PROTOCOL_KEY_CODE_READS     "code_reads"
#define PROTOCOL_KEY_RESIDENT_LISTS "resident_lists"
#define PROTOCOL_KEY_CODE_DISTANCES "code_distances"
#define PROTOCOL_KEY_FULL_DISTANCES "full_distances"
#define PROTOCOL_KEY_RERANKED       "reranked"
#define PROTOCOL_KEY_WIDENED        "widened"
#define PROTOCOL_KEY_QUEUE_US       "queue_us"
#define PROTOCOL_KEY_DEVICE_US      "device_us"
#define PROTOCOL_KEY_COMPUTE_US     "compute_us"
#define PROTOCOL_KEY_TOTAL_US       "total_us"
#define PROTOCOL_KEY_STOP_REASON    "stop_reason"
#define PROTOCOL_KEY_IO_ENGINE      "io_engine"
#define PROTOCOL_KEY_QUERIES        "queries"

/* ---- errors: {code, message, retryable, retry_after_ms?, details?} ---- */

#define PROTOCOL_KEY_CODE           "code"
#define PROTOCOL_KEY_MESSAGE        "message"
#define PROTOCOL_KEY_RETRYABLE      "retryable"
#define PROTOCOL_KEY_RETRY_AFTER_MS "retry_after_ms"
#define PROTOCOL_KEY_DETAILS        "details"
#define PROTOCOL_KEY_REASON         "reason" /* in details of resource_exhausted */
#define PROTOCOL_KEY_FIELD          "field"  /* in details of invalid_argument: the key of params */
#define PROTOCOL_KEY_ROW            "row"    /* in details: the row of a batch */

#define PROTOCOL_ERROR_CANCELLED           "cancelled"
#define PROTOCOL_ERROR_INVALID_ARGUMENT    "invalid_argument"
#define PROTOCOL_ERROR_DEADLINE_EXCEEDED   "deadline_exceeded"
#define PROTOCOL_ERROR_NOT_FOUND           "not_found"
#define PROTOCOL_ERROR_PERMISSION_DENIED   "permission_denied"
#define PROTOCOL_ERROR_RESOURCE_EXHAUSTED  "resource_exhausted"
#define PROTOCOL_ERROR_FAILED_PRECONDITION "failed_precondition"
#define PROTOCOL_ERROR_UNIMPLEMENTED       "unimplemented"
#define PROTOCOL_ERROR_INTERNAL            "internal"
#define PROTOCOL_ERROR_UNAVAILABLE         "unavailable"
#define PROTOCOL_ERROR_DATA_LOSS           "data_loss"
#define PROTOCOL_ERROR_UNAUTHENTICATED     "unauthenticated"

#define PROTOCOL_REASON_RATE   "rate"
#define PROTOCOL_REASON_MEMORY "memory"
#define PROTOCOL_REASON_DISK   "disk"
#define PROTOCOL_REASON_QUEUE  "queue"

#endif
