/* The envelope, then the params by a table per method: key, whether it must be there, and how its
 * value is taken. Unknown and repeated keys are errors, because a misspelt option that is silently
 * ignored is worse than a refusal. */
#include "request.h"

#include "params.h"
#include "protocol.h"

#include <string.h>

static const char *const method_names[METHOD_COUNT] = {
    [METHOD_HELLO] = PROTOCOL_METHOD_HELLO,       [METHOD_SEARCH] = PROTOCOL_METHOD_SEARCH,
    [METHOD_INFO] = PROTOCOL_METHOD_INFO,         [METHOD_STATS] = PROTOCOL_METHOD_STATS,
    [METHOD_PING] = PROTOCOL_METHOD_PING,         [METHOD_RELOAD] = PROTOCOL_METHOD_RELOAD,
    [METHOD_SHUTDOWN] = PROTOCOL_METHOD_SHUTDOWN, [METHOD_CANCEL] = PROTOCOL_METHOD_CANCEL,
};

const char *method_name(enum method method)
{
    return method < METHOD_COUNT ? method_names[method] : "unknown";
}

static enum method find_method(const struct wire_value *name)
{
    for (unsigned i = 0; i < METHOD_COUNT; i++) {
        if (wire_text_is(name, method_names[i]))
            return (enum method)i;
    }
    return METHOD_UNKNOWN;
}

/* ---- what each method takes ---- */

static const struct param_rule hello_rules[] = {
    {PROTOCOL_KEY_PROTOCOL, true, param_hello_protocol},
    {PROTOCOL_KEY_CLIENT, true, param_hello_client},
    {PROTOCOL_KEY_TOKEN, false, param_hello_token},
};

static const struct param_rule search_rules[] = {
    {PROTOCOL_KEY_INDEX, true, param_search_index},
    {PROTOCOL_KEY_VECTORS, true, param_search_vectors},
    {PROTOCOL_KEY_DTYPE, false, param_search_dtype},
    {PROTOCOL_KEY_SHAPE, false, param_search_shape},
    {PROTOCOL_KEY_K, true, param_search_k},
    {PROTOCOL_KEY_SEARCH_LIST, false, param_search_list},
    {PROTOCOL_KEY_TARGET_RECALL, false, param_search_target_recall},
    {PROTOCOL_KEY_DEADLINE_MS, false, param_search_deadline_ms},
    {PROTOCOL_KEY_EXPLAIN, false, param_search_explain},
    {PROTOCOL_KEY_EXACT_DISTANCES, false, param_search_exact_distances},
    {PROTOCOL_KEY_RERANK, false, param_search_rerank},
};

_Static_assert(sizeof search_rules / sizeof *search_rules <= PARAM_RULES_MAX, "the most rules");

static const struct param_rule info_rules[] = {
    {PROTOCOL_KEY_INDEX, false, param_index},
};

static const struct param_rule reload_rules[] = {
    {PROTOCOL_KEY_INDEX, true, param_reload_index},
    {PROTOCOL_KEY_DRAM_BUDGET, false, param_reload_dram_budget},
    {PROTOCOL_KEY_PLAN_RECALL, false, param_reload_plan_recall},
};

static const struct param_rule cancel_rules[] = {
    {PROTOCOL_KEY_MSGID, true, param_cancel_msgid},
};

#define RULES(array) array, sizeof(array) / sizeof(array)[0]

static int decode_method_params(struct request *out, struct wire_cursor *cursor, uint32_t pairs,
                                struct rpc_error *err)
{
    switch (out->method) {
    case METHOD_HELLO:
        return params_decode(out, cursor, pairs, RULES(hello_rules), err);
    case METHOD_SEARCH:
        if (params_decode(out, cursor, pairs, RULES(search_rules), err) < 0)
            return -1;
        return params_check_search(&out->search, err);
    case METHOD_INFO:
        return params_decode(out, cursor, pairs, RULES(info_rules), err);
    case METHOD_RELOAD:
        return params_decode(out, cursor, pairs, RULES(reload_rules), err);
    case METHOD_CANCEL:
        return params_decode(out, cursor, pairs, RULES(cancel_rules), err);
    default:
        return params_decode(out, cursor, pairs, NULL, 0, err);
    }
}

/* ---- the envelope ---- */

/* [type, msgid, method, [params]] or [type, method, [params]]: everything before the params. */
static int decode_envelope(struct request *out, struct wire_cursor *cursor,
                           struct wire_value *method, struct rpc_error *err)
{
    struct wire_value envelope, type, msgid;
    if (!wire_next(cursor, &envelope) || envelope.kind != WIRE_ARRAY)
        return rpc_error_set(err, PROTOCOL_ERROR_INVALID_ARGUMENT,
                             "a message is an array: [0, msgid, method, [params]]");
    if (!wire_next(cursor, &type) || type.kind != WIRE_UINT ||
        (type.number != PROTOCOL_REQUEST && type.number != PROTOCOL_NOTIFICATION))
        return rpc_error_set(err, PROTOCOL_ERROR_INVALID_ARGUMENT,
                             "the first value of a message is 0 (request) or 2 (notification)");
    out->notification = type.number == PROTOCOL_NOTIFICATION;
    if (envelope.count != (out->notification ? 3 : 4))
        return rpc_error_set(err, PROTOCOL_ERROR_INVALID_ARGUMENT, "a %s has %d values, not %u",
                             out->notification ? "notification" : "request",
                             out->notification ? 3 : 4, envelope.count);
    if (!out->notification) {
        if (!wire_next(cursor, &msgid) || msgid.kind != WIRE_UINT || msgid.number > UINT32_MAX)
            return rpc_error_set(err, PROTOCOL_ERROR_INVALID_ARGUMENT,
                                 "msgid is an integer from 0 to 4294967295");
        out->msgid = (uint32_t)msgid.number;
    }
    if (!wire_next(cursor, method))
        return rpc_error_set(err, PROTOCOL_ERROR_INVALID_ARGUMENT, "the message ends early");
    return 0;
}

/* The head of [params]: how many pairs the one map has. None at all stands for an empty map. */
static int decode_params_head(struct wire_cursor *cursor, uint32_t *pairs, struct rpc_error *err)
{
    struct wire_value value;
    *pairs = 0;
    if (!wire_next(cursor, &value) || value.kind != WIRE_ARRAY || value.count > 1)
        return rpc_error_set(err, PROTOCOL_ERROR_INVALID_ARGUMENT,
                             "params is an array that holds one map");
    if (value.count == 0)
        return 0;
    if (!wire_next(cursor, &value) || value.kind != WIRE_MAP)
        return rpc_error_set(err, PROTOCOL_ERROR_INVALID_ARGUMENT,
                             "params is an array that holds one map, not %s",
                             wire_kind_name(value.kind));
    *pairs = value.count;
    return 0;
}

int request_decode(struct request *out, const uint8_t *bytes, size_t count, struct rpc_error *err)
{
    struct wire_cursor cursor = {.at = bytes, .end = bytes + count};
    struct wire_value method;
    memset(out, 0, sizeof *out);
    out->method = METHOD_UNKNOWN;
    if (decode_envelope(out, &cursor, &method, err) < 0)
        return REQUEST_MALFORMED;
    if (method.kind != WIRE_STR) {
        rpc_error_set(err, PROTOCOL_ERROR_INVALID_ARGUMENT, "the method is a string, not %s",
                      wire_kind_name(method.kind));
        return REQUEST_BAD;
    }
    out->method = find_method(&method);
    if (out->method == METHOD_UNKNOWN) {
        int shown = method.text.size < 64 ? (int)method.text.size : 64;
        rpc_error_set(err, PROTOCOL_ERROR_UNIMPLEMENTED,
                      "there is no method \"%.*s\"; hello lists them", shown,
                      (const char *)method.text.bytes);
        return REQUEST_BAD;
    }
    uint32_t pairs;
    if (decode_params_head(&cursor, &pairs, err) < 0 ||
        decode_method_params(out, &cursor, pairs, err) < 0)
        return REQUEST_BAD;
    return REQUEST_OK;
}
