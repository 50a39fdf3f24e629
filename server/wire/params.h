/* The values of params: one function per key, and the loop that applies them. Private to request.c.
 */
#ifndef SERVER_PARAMS_H
#define SERVER_PARAMS_H

#include "request.h"

/* A key: its name, whether it must be there, and how its value is taken from the cursor. */
struct param_rule {
    const char *key;
    bool required;
    int (*take)(struct request *out, const char *key, struct wire_cursor *cursor,
                struct rpc_error *err);
};

#define PARAM_RULES_MAX 32 /* keys seen are bits of a word */

/* Reads pairs keys and values; refuses unknown, repeated and missing keys by name. */
int params_decode(struct request *out, struct wire_cursor *cursor, uint32_t pairs,
                  const struct param_rule *rules, unsigned rule_count, struct rpc_error *err);
/* What only shows when all keys are known: that vectors, dtype and shape agree. */
int params_check_search(struct search_params *search, struct rpc_error *err);

/* The keys, each with the signature of param_rule.take. */
#define PARAM_TAKE(name)                                                                           \
    int name(struct request *out, const char *key, struct wire_cursor *cursor,                     \
             struct rpc_error *err)

PARAM_TAKE(param_hello_protocol);
PARAM_TAKE(param_hello_client);
PARAM_TAKE(param_hello_token);
PARAM_TAKE(param_search_index);
PARAM_TAKE(param_search_vectors);
PARAM_TAKE(param_search_dtype);
PARAM_TAKE(param_search_shape);
PARAM_TAKE(param_search_k);
PARAM_TAKE(param_search_list);
PARAM_TAKE(param_search_target_recall);
PARAM_TAKE(param_search_deadline_ms);
PARAM_TAKE(param_search_explain);
PARAM_TAKE(param_search_exact_distances);
PARAM_TAKE(param_search_rerank);
PARAM_TAKE(param_index);
PARAM_TAKE(param_reload_index);
PARAM_TAKE(param_reload_dram_budget);
PARAM_TAKE(param_reload_plan_recall);
PARAM_TAKE(param_cancel_msgid);

#endif
