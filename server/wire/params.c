/* Each value is checked where it is read, against its kind and its range. Messages say what was
 * expected and what came. */
#include "params.h"

#include "protocol.h"
#include "tool.h"

#include <stdio.h>
#include <string.h>

/* What the wire allows is what the library takes. */
_Static_assert(PROTOCOL_DIM_MAX == FATHOM_DIM_MAX && PROTOCOL_K_MAX == FATHOM_K_MAX &&
                   PROTOCOL_SEARCH_LIST_MAX == FATHOM_SEARCH_LIST_MAX &&
                   PROTOCOL_ID_NONE == FATHOM_ID_NONE,
               "limits of protocol.h and fathom.h");

/* ---- values of one kind ---- */

static int next_value(struct wire_cursor *cursor, const char *key, struct wire_value *out,
                      struct rpc_error *err)
{
    if (!wire_next(cursor, out))
        return rpc_error_field(err, key, "the message ends early");
    return 0;
}

static int wrong_uint(const char *key, const struct wire_value *value, uint64_t min, uint64_t max,
                      struct rpc_error *err)
{
    char got[32];
    if (value->kind == WIRE_UINT)
        snprintf(got, sizeof got, "%llu", (unsigned long long)value->number);
    else if (value->kind == WIRE_INT)
        snprintf(got, sizeof got, "%lld", (long long)value->negative);
    else
        snprintf(got, sizeof got, "%s", wire_kind_name(value->kind));
    return rpc_error_field(err, key, "an integer from %llu to %llu is expected, not %s",
                           (unsigned long long)min, (unsigned long long)max, got);
}

static int take_uint(struct wire_cursor *cursor, const char *key, uint64_t min, uint64_t max,
                     uint64_t *out, struct rpc_error *err)
{
    struct wire_value value;
    if (next_value(cursor, key, &value, err) < 0)
        return -1;
    if (value.kind != WIRE_UINT || value.number < min || value.number > max)
        return wrong_uint(key, &value, min, max, err);
    *out = value.number;
    return 0;
}

static int take_u32(struct wire_cursor *cursor, const char *key, uint32_t min, uint32_t max,
                    uint32_t *out, struct rpc_error *err)
{
    uint64_t value = 0;
    if (take_uint(cursor, key, min, max, &value, err) < 0)
        return -1;
    *out = (uint32_t)value;
    return 0;
}

static int take_bool(struct wire_cursor *cursor, const char *key, bool *out, struct rpc_error *err)
{
    struct wire_value value;
    if (next_value(cursor, key, &value, err) < 0)
        return -1;
    if (value.kind != WIRE_BOOL)
        return rpc_error_field(err, key, "a boolean is expected, not %s",
                               wire_kind_name(value.kind));
    *out = value.truth;
    return 0;
}

static int take_text(struct wire_cursor *cursor, const char *key, uint32_t size_max,
                     struct text_view *out, struct rpc_error *err)
{
    struct wire_value value;
    if (next_value(cursor, key, &value, err) < 0)
        return -1;
    if (value.kind != WIRE_STR)
        return rpc_error_field(err, key, "a string is expected, not %s",
                               wire_kind_name(value.kind));
    if (value.text.size == 0 || value.text.size > size_max)
        return rpc_error_field(err, key, "a string of 1 to %u bytes is expected, not of %u",
                               size_max, value.text.size);
    out->bytes = (const char *)value.text.bytes;
    out->size = value.text.size;
    return 0;
}

/* A float between 0 and 1; where there may be none, an integer 0 says so. */
static int take_recall(struct wire_cursor *cursor, const char *key, bool or_none, float *out,
                       struct rpc_error *err)
{
    struct wire_value value;
    if (next_value(cursor, key, &value, err) < 0)
        return -1;
    if (or_none && value.kind == WIRE_UINT && value.number == 0) {
        *out = 0;
        return 0;
    }
    if (value.kind != WIRE_FLOAT)
        return rpc_error_field(err, key, "a float between 0 and 1 is expected, not %s",
                               wire_kind_name(value.kind));
    /* As a float of the library's width, so that nothing rounds to 0 or 1 behind the check. */
    float recall = (float)value.real;
    if (!(recall > 0 && recall < 1))
        return rpc_error_field(err, key, "a float between 0 and 1 is expected, not %g", value.real);
    *out = recall;
    return 0;
}

/* ---- the keys ---- */

PARAM_TAKE(param_hello_protocol)
{
    return take_uint(cursor, key, 0, UINT32_MAX, &out->hello.protocol, err);
}

PARAM_TAKE(param_hello_client)
{
    return take_text(cursor, key, PROTOCOL_CLIENT_BYTES_MAX, &out->hello.client, err);
}

PARAM_TAKE(param_hello_token)
{
    return take_text(cursor, key, PROTOCOL_TOKEN_BYTES_MAX, &out->hello.token, err);
}

PARAM_TAKE(param_index)
{
    return take_text(cursor, key, PROTOCOL_NAME_BYTES_MAX, &out->index, err);
}

PARAM_TAKE(param_reload_index)
{
    return take_text(cursor, key, PROTOCOL_NAME_BYTES_MAX, &out->reload.index, err);
}

/* Bytes as a number, or what --dram-budget takes as text. */
PARAM_TAKE(param_reload_dram_budget)
{
    struct tool_budget budget;
    struct wire_value value = {.kind = WIRE_NIL};
    char text[32];
    if (next_value(cursor, key, &value, err) < 0)
        return -1;
    out->reload.new_budget = true;
    if (value.kind == WIRE_UINT && value.number <= INT64_MAX) {
        out->reload.dram_budget_bytes = value.number;
        return 0;
    }
    if (value.kind != WIRE_STR)
        return wrong_uint(key, &value, 0, INT64_MAX, err);
    bool fits = value.text.size < sizeof text && !memchr(value.text.bytes, 0, value.text.size);
    snprintf(text, sizeof text, "%.*s", fits ? (int)value.text.size : 0,
             (const char *)value.text.bytes);
    if (!tool_parse_budget(text, &budget) || budget.bytes > INT64_MAX)
        return rpc_error_field(err, key, "'%s' is no budget like " TOOL_BUDGET_FORM, text);
    out->reload.dram_budget_bytes = budget.bytes;
    out->reload.dram_budget_share = budget.share;
    return 0;
}

PARAM_TAKE(param_reload_plan_recall)
{
    out->reload.new_recall = true;
    return take_recall(cursor, key, true, &out->reload.plan_recall, err);
}

PARAM_TAKE(param_cancel_msgid)
{
    return take_u32(cursor, key, 0, UINT32_MAX, &out->cancel_msgid, err);
}

PARAM_TAKE(param_search_index)
{
    return take_text(cursor, key, PROTOCOL_NAME_BYTES_MAX, &out->search.index, err);
}

PARAM_TAKE(param_search_k)
{
    return take_u32(cursor, key, 1, PROTOCOL_K_MAX, &out->search.k, err);
}

PARAM_TAKE(param_search_list)
{
    return take_u32(cursor, key, 1, PROTOCOL_SEARCH_LIST_MAX, &out->search.search_list, err);
}

PARAM_TAKE(param_search_explain)
{
    return take_bool(cursor, key, &out->search.explain, err);
}

PARAM_TAKE(param_search_exact_distances)
{
    return take_bool(cursor, key, &out->search.exact_distances, err);
}

PARAM_TAKE(param_search_rerank)
{
    static const char *const words[] = {"auto", "off", "on"}; /* by enum fathom_rerank */
    struct wire_value value;
    if (next_value(cursor, key, &value, err) < 0)
        return -1;
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        if (wire_text_is(&value, words[i])) {
            out->search.rerank = (enum fathom_rerank)i;
            return 0;
        }
    return rpc_error_field(err, key, "\"auto\", \"on\" or \"off\" is expected, not %s",
                           value.kind == WIRE_STR ? "another string" : wire_kind_name(value.kind));
}

PARAM_TAKE(param_search_target_recall)
{
    return take_recall(cursor, key, false, &out->search.target_recall, err);
}

PARAM_TAKE(param_search_deadline_ms)
{
    uint64_t value = 0;
    if (take_uint(cursor, key, 0, UINT64_MAX, &value, err) < 0)
        return -1;
    out->search.has_deadline = true;
    out->search.deadline_ms =
        value < PROTOCOL_DEADLINE_MS_MAX ? (uint32_t)value : PROTOCOL_DEADLINE_MS_MAX;
    return 0;
}

PARAM_TAKE(param_search_dtype)
{
    static const enum fathom_dtype dtypes[] = {FATHOM_F32, FATHOM_F16, FATHOM_U8, FATHOM_I8};
    struct wire_value value;
    if (next_value(cursor, key, &value, err) < 0)
        return -1;
    for (unsigned i = 0; i < 4; i++) {
        if (wire_text_is(&value, fathom_dtype_name(dtypes[i]))) {
            out->search.dtype = dtypes[i];
            return 0;
        }
    }
    int shown = value.kind == WIRE_STR && value.text.size < 16 ? (int)value.text.size : 0;
    return rpc_error_field(err, key, "\"f32\", \"f16\", \"u8\" or \"i8\" is expected, not %s %.*s",
                           wire_kind_name(value.kind), shown,
                           shown ? (const char *)value.text.bytes : "");
}

PARAM_TAKE(param_search_shape)
{
    struct wire_value value;
    if (next_value(cursor, key, &value, err) < 0)
        return -1;
    if (value.kind != WIRE_ARRAY || value.count != 2)
        return rpc_error_field(err, key, "an array of two integers, [n, dim], is expected");
    if (take_u32(cursor, key, 1, PROTOCOL_BATCH_MAX, &out->search.n, err) < 0)
        return -1;
    return take_u32(cursor, key, 1, PROTOCOL_DIM_MAX, &out->search.dim, err);
}

/* ---- vectors ---- */

/* One row of nested arrays: *dim numbers; the first row sets it. */
static int check_nested_row(struct wire_cursor *cursor, const char *key, uint32_t row,
                            uint32_t *dim, struct rpc_error *err)
{
    struct wire_value value;
    if (next_value(cursor, key, &value, err) < 0)
        return -1;
    if (value.kind != WIRE_ARRAY)
        return rpc_error_field(err, key, "row %u is %s; an array of numbers is expected", row,
                               wire_kind_name(value.kind));
    if (value.count == 0 || value.count > PROTOCOL_DIM_MAX || (row > 0 && value.count != *dim))
        return rpc_error_field(err, key, "row %u has %u numbers; %u is expected", row, value.count,
                               row > 0 ? *dim : PROTOCOL_DIM_MAX);
    *dim = value.count;
    for (uint32_t column = 0; column < *dim; column++) {
        if (next_value(cursor, key, &value, err) < 0)
            return -1;
        if (value.kind != WIRE_FLOAT && value.kind != WIRE_UINT && value.kind != WIRE_INT)
            return rpc_error_field(err, key, "row %u, column %u is %s; a number is expected", row,
                                   column, wire_kind_name(value.kind));
    }
    return 0;
}

/* Where the shape of nested arrays is kept until the shape key, if there is one, is known too. */
static int take_nested(struct search_params *search, const char *key, uint32_t rows,
                       struct wire_cursor *cursor, struct rpc_error *err)
{
    if (rows == 0 || rows > PROTOCOL_BATCH_MAX)
        return rpc_error_field(err, key, "1 to %u rows are expected, not %u", PROTOCOL_BATCH_MAX,
                               rows);
    search->nested = *cursor;
    search->nested_n = rows;
    for (uint32_t row = 0; row < rows; row++) {
        if (check_nested_row(cursor, key, row, &search->nested_dim, err) < 0)
            return -1;
    }
    return 0;
}

PARAM_TAKE(param_search_vectors)
{
    struct wire_value value;
    if (next_value(cursor, key, &value, err) < 0)
        return -1;
    if (value.kind == WIRE_ARRAY)
        return take_nested(&out->search, key, value.count, cursor, err);
    if (value.kind != WIRE_BIN)
        return rpc_error_field(err, key, "a bin or an array of arrays is expected, not %s",
                               wire_kind_name(value.kind));
    out->search.bin = value.text.bytes;
    out->search.bin_bytes = value.text.size;
    return 0;
}

static int check_bin(const struct search_params *search, struct rpc_error *err)
{
    if (search->dtype == 0)
        return rpc_error_field(err, PROTOCOL_KEY_DTYPE, "is missing (vectors is a bin)");
    if (search->n == 0)
        return rpc_error_field(err, PROTOCOL_KEY_SHAPE, "is missing (vectors is a bin)");
    size_t bytes = search_vector_bytes(search);
    if (search->bin_bytes != bytes)
        return rpc_error_field(err, PROTOCOL_KEY_VECTORS,
                               "%u bytes, but shape [%u, %u] of %s needs %zu", search->bin_bytes,
                               search->n, search->dim, fathom_dtype_name(search->dtype), bytes);
    return 0;
}

/* Nested numbers are searched as f32 whatever the index holds. */
static int check_nested(struct search_params *search, struct rpc_error *err)
{
    if (search->dtype != 0 && search->dtype != FATHOM_F32)
        return rpc_error_field(err, PROTOCOL_KEY_DTYPE, "nested arrays are f32");
    if (search->n != 0 && (search->n != search->nested_n || search->dim != search->nested_dim))
        return rpc_error_field(err, PROTOCOL_KEY_SHAPE, "is [%u, %u], but vectors is [%u, %u]",
                               search->n, search->dim, search->nested_n, search->nested_dim);
    search->dtype = FATHOM_F32;
    search->n = search->nested_n;
    search->dim = search->nested_dim;
    return 0;
}

int params_check_search(struct search_params *search, struct rpc_error *err)
{
    if (search->search_list > 0 && search->target_recall > 0)
        return rpc_error_field(err, PROTOCOL_KEY_TARGET_RECALL,
                               "cannot be given together with search_list");
    return search->nested.at ? check_nested(search, err) : check_bin(search, err);
}

/* ---- the loop ---- */

static int find_rule(const struct wire_value *key, const struct param_rule *rules,
                     unsigned rule_count)
{
    for (unsigned i = 0; i < rule_count; i++) {
        if (wire_text_is(key, rules[i].key))
            return (int)i;
    }
    return -1;
}

static int refuse_key(const struct wire_value *key, struct rpc_error *err)
{
    if (key->kind != WIRE_STR)
        return rpc_error_set(err, PROTOCOL_ERROR_INVALID_ARGUMENT,
                             "the keys of params are strings, not %s", wire_kind_name(key->kind));
    char name[64];
    snprintf(name, sizeof name, "%.*s", key->text.size < 63 ? (int)key->text.size : 63,
             (const char *)key->text.bytes);
    return rpc_error_field(err, name, "is not a key of this method");
}

int params_decode(struct request *out, struct wire_cursor *cursor, uint32_t pairs,
                  const struct param_rule *rules, unsigned rule_count, struct rpc_error *err)
{
    uint32_t seen = 0;
    for (uint32_t pair = 0; pair < pairs; pair++) {
        struct wire_value key;
        if (!wire_next(cursor, &key))
            return rpc_error_set(err, PROTOCOL_ERROR_INVALID_ARGUMENT, "the message ends early");
        int rule = find_rule(&key, rules, rule_count);
        if (rule < 0)
            return refuse_key(&key, err);
        if (seen & 1u << rule)
            return rpc_error_field(err, rules[rule].key, "is given twice");
        seen |= 1u << rule;
        if (rules[rule].take(out, rules[rule].key, cursor, err) < 0)
            return -1;
    }
    for (unsigned i = 0; i < rule_count; i++) {
        if (rules[i].required && !(seen & 1u << i))
            return rpc_error_field(err, rules[i].key, "is missing");
    }
    return 0;
}
