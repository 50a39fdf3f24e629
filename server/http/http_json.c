/* JSON in both directions. 64-bit numbers that a JavaScript client could not hold exactly: the
 * generation is written as 16 hexadecimal digits; ids are plain integers up to 2^63 - 1 and decimal
 * strings above. */
#include "http_json.h"

#include "protocol.h"
#include "tool.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- in ---- */

static bool put_value(struct wire_writer *writer, const json_t *value, unsigned depth);

static bool put_array(struct wire_writer *writer, const json_t *array, unsigned depth)
{
    wire_put_array(writer, json_array_size(array));
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (!put_value(writer, json_array_get(array, i), depth))
            return false;
    }
    return true;
}

/* False when it is nested too deep; what it may be otherwise is the decoder's to judge. */
static bool put_value(struct wire_writer *writer, const json_t *value, unsigned depth)
{
    switch (json_typeof(value)) {
    case JSON_ARRAY:
        return depth < PROTOCOL_DEPTH_MAX && put_array(writer, value, depth + 1);
    case JSON_OBJECT:
        wire_put_map(writer, 0);
        return true; /* no key takes one */
    case JSON_STRING:
        wire_put_text(writer, json_string_value(value));
        return true;
    case JSON_INTEGER:
        if (json_integer_value(value) < 0)
            msgpack_pack_int64(&writer->packer, json_integer_value(value));
        else
            wire_put_uint(writer, (uint64_t)json_integer_value(value));
        return true;
    case JSON_REAL:
        wire_put_float(writer, json_real_value(value));
        return true;
    case JSON_TRUE:
        wire_put_bool(writer, true);
        return true;
    case JSON_FALSE:
        wire_put_bool(writer, false);
        return true;
    default:
        wire_put_nil(writer);
        return true;
    }
}

static bool put_request(struct wire_writer *writer, const char *index, json_t *object)
{
    const char *key;
    json_t *value;
    wire_put_array(writer, 4);
    wire_put_uint(writer, PROTOCOL_REQUEST);
    wire_put_uint(writer, 0);
    wire_put_text(writer, PROTOCOL_METHOD_SEARCH);
    wire_put_array(writer, 1);
    wire_put_map(writer, json_object_size(object) + 1);
    wire_pair_text(writer, PROTOCOL_KEY_INDEX, index);
    json_object_foreach(object, key, value)
    {
        wire_put_text(writer, key);
        if (!put_value(writer, value, 0))
            return false;
    }
    return true;
}

/* Parsed, arrays, objects and strings take up to a hundred times their text, and a request has a
 * few more of them than vectors. A number takes some 48 bytes, whatever its text: of more than
 * these, vectors come in several requests, or by the binary protocol. */
#define LARGE_MAX  (4 * PROTOCOL_BATCH_MAX)
#define VALUES_MAX (1 << 20)

static int check_contents(const char *body, size_t count, struct rpc_error *err)
{
    size_t large = 0, values = 1;
    for (size_t i = 0; i < count; i++) {
        large += body[i] == '[' || body[i] == '{' || body[i] == '"';
        values += body[i] == ',';
    }
    if (large > LARGE_MAX)
        return rpc_error_set(err, PROTOCOL_ERROR_INVALID_ARGUMENT,
                             "more than %d arrays, objects and strings", LARGE_MAX);
    if (values > VALUES_MAX)
        return rpc_error_set(err, PROTOCOL_ERROR_INVALID_ARGUMENT,
                             "more than %d values; send fewer vectors at a time", VALUES_MAX);
    return 0;
}

int http_json_read_search(struct request *out, struct buffer *message, const char *index,
                          const char *body, size_t count, struct rpc_error *err)
{
    json_error_t where;
    if (check_contents(body, count, err) < 0)
        return -1;
    json_t *object = json_loadb(body, count, JSON_REJECT_DUPLICATES, &where);
    if (!object)
        return rpc_error_set(err, PROTOCOL_ERROR_INVALID_ARGUMENT, "line %d, column %d: %s",
                             where.line, where.column, where.text);
    if (!json_is_object(object)) {
        json_decref(object);
        return rpc_error_set(err, PROTOCOL_ERROR_INVALID_ARGUMENT, "a JSON object is expected");
    }
    struct wire_writer writer;
    wire_begin(&writer, message);
    bool shallow = put_request(&writer, index, object);
    json_decref(object);
    if (!shallow)
        return rpc_error_set(err, PROTOCOL_ERROR_INVALID_ARGUMENT, "nested deeper than %d levels",
                             PROTOCOL_DEPTH_MAX);
    if (wire_end(&writer) < 0)
        return rpc_error_exhausted(err, PROTOCOL_REASON_MEMORY, 1000,
                                   "no memory for this request; try again later");
    return request_decode(out, message->bytes, message->size, err) == REQUEST_OK ? 0 : -1;
}

/* ---- out ---- */

static json_t *generation_json(uint64_t generation)
{
    return json_sprintf("%016" PRIx64, generation);
}

static json_t *id_json(uint64_t id)
{
    return id <= INT64_MAX ? json_integer((json_int_t)id) : json_sprintf("%" PRIu64, id);
}

/* Padding is left out: a row has as many values as results. */
static void append_row(json_t *all_ids, json_t *all_distances, const struct search *search,
                       uint32_t row)
{
    uint32_t k = search->query.k;
    const uint64_t *ids = search->ids + (size_t)row * k;
    const float *distances = search->distances + (size_t)row * k;
    json_t *row_ids = json_array(), *row_distances = json_array();
    for (uint32_t i = 0; i < k && ids[i] != FATHOM_ID_NONE; i++) {
        json_array_append_new(row_ids, id_json(ids[i]));
        json_array_append_new(row_distances, json_real(distances[i]));
    }
    json_array_append_new(all_ids, row_ids);
    json_array_append_new(all_distances, row_distances);
}

static json_t *stats_json(const struct search *search, enum fathom_io io)
{
    const struct search_counts *counts = &search->counts;
    return json_pack(
        "{s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:s}",
        PROTOCOL_KEY_NAVIGATOR, fathom_navigator_name(search->edition->info.navigator),
        PROTOCOL_KEY_IO_ENGINE, fathom_io_name(io), PROTOCOL_KEY_HOPS, (json_int_t)counts->hops,
        PROTOCOL_KEY_ROUNDS, (json_int_t)counts->rounds, PROTOCOL_KEY_READS,
        (json_int_t)counts->reads, PROTOCOL_KEY_LIST_READS, (json_int_t)counts->list_reads,
        PROTOCOL_KEY_CODE_READS, (json_int_t)counts->code_reads, PROTOCOL_KEY_BYTES,
        (json_int_t)counts->bytes, PROTOCOL_KEY_RESIDENT_LISTS, (json_int_t)counts->resident_lists,
        PROTOCOL_KEY_CODE_DISTANCES, (json_int_t)counts->code_distances,
        PROTOCOL_KEY_FULL_DISTANCES, (json_int_t)counts->full_distances, PROTOCOL_KEY_RERANKED,
        (json_int_t)counts->reranked, PROTOCOL_KEY_WIDENED, (json_int_t)counts->widened,
        PROTOCOL_KEY_QUEUE_US, (json_int_t)(counts->queue_ns / 1000), PROTOCOL_KEY_DEVICE_US,
        (json_int_t)(counts->io_ns / 1000), PROTOCOL_KEY_COMPUTE_US,
        (json_int_t)(counts->compute_ns / 1000), PROTOCOL_KEY_TOTAL_US,
        (json_int_t)(counts->total_ns / 1000), PROTOCOL_KEY_STOP_REASON,
        counts->stop_reason ? counts->stop_reason : "");
}

json_t *http_json_results(const struct search *search, enum fathom_io io)
{
    json_t *ids = json_array(), *distances = json_array();
    for (uint32_t row = 0; row < search->n; row++)
        append_row(ids, distances, search, row);
    json_t *results =
        json_pack("{s:o,s:o,s:[i,i],s:o,s:b}", PROTOCOL_KEY_IDS, ids, PROTOCOL_KEY_DISTANCES,
                  distances, PROTOCOL_KEY_SHAPE, (int)search->n, (int)search->query.k,
                  PROTOCOL_KEY_GENERATION, generation_json(search->edition->info.generation),
                  PROTOCOL_KEY_COMPLETE, (int)search->complete);
    if (search->explain)
        json_object_set_new(results, PROTOCOL_KEY_STATS, stats_json(search, io));
    return results;
}

json_t *http_json_error(const struct rpc_error *err)
{
    json_t *error = json_pack("{s:s,s:s,s:b}", PROTOCOL_KEY_CODE, err->code, PROTOCOL_KEY_MESSAGE,
                              err->message, PROTOCOL_KEY_RETRYABLE, (int)err->retryable);
    json_t *details = json_object();
    if (err->retry_after_ms > 0)
        json_object_set_new(error, PROTOCOL_KEY_RETRY_AFTER_MS, json_integer(err->retry_after_ms));
    if (err->reason)
        json_object_set_new(details, PROTOCOL_KEY_REASON, json_string(err->reason));
    if (err->field[0])
        json_object_set_new(details, PROTOCOL_KEY_FIELD, json_string(err->field));
    if (err->row >= 0)
        json_object_set_new(details, PROTOCOL_KEY_ROW, json_integer(err->row));
    if (json_object_size(details) > 0)
        json_object_set(error, PROTOCOL_KEY_DETAILS, details);
    json_decref(details);
    return json_pack("{s:o}", "error", error);
}

json_t *http_json_index(const struct edition *edition)
{
    const struct fathom_index_info *info = &edition->info;
    const struct fathom_ledger *ledger = &edition->ledger;
    json_t *dram =
        json_pack("{s:I,s:I,s:I,s:I}", "total", (json_int_t)ledger->total_bytes, "index",
                  (json_int_t)ledger->index_bytes, "scratch", (json_int_t)ledger->scratch_bytes,
                  "budget", (json_int_t)ledger->budget_bytes);
    for (unsigned i = 0; i < ledger->part_count; i++)
        json_object_set_new(dram, ledger->parts[i].name,
                            json_integer((json_int_t)ledger->parts[i].bytes));
    return json_pack(
        "{s:s,s:I,s:i,s:s,s:s,s:o,s:s,s:i,s:i,s:I,s:i,s:i,s:I,s:I,s:i,s:b,s:b,s:i,s:i,s:b,s:f,s:f,"
        "s:o}",
        PROTOCOL_KEY_NAME, edition->name, PROTOCOL_KEY_ROWS, (json_int_t)info->rows,
        PROTOCOL_KEY_DIM, (int)info->dim, PROTOCOL_KEY_DTYPE, fathom_dtype_name(info->dtype),
        PROTOCOL_KEY_METRIC, fathom_metric_name(info->metric), PROTOCOL_KEY_GENERATION,
        generation_json(info->generation), PROTOCOL_KEY_NAVIGATOR,
        fathom_navigator_name(info->navigator), "code_bits", (int)info->code_bits, "degree_max",
        (int)info->degree_max, PROTOCOL_KEY_RESIDENT_LISTS, (json_int_t)info->resident_lists,
        "cells", (int)info->cells, "rows_per_page", (int)info->rows_per_page, "index_bytes",
        (json_int_t)info->index_bytes, "raw_bytes", (json_int_t)info->raw_bytes, "format_version",
        (int)info->format_version, "direct_io", (int)info->direct_io, "large_buffers",
        (int)info->large_buffers, "inflight", (int)info->inflight, "page_buffers",
        (int)info->page_buffers, "has_external_ids", (int)info->has_external_ids,
        PROTOCOL_KEY_PLAN_RECALL, tool_recall(info->plan_recall), "recall_reached",
        tool_recall(info->recall_reached), "dram_bytes", dram);
}
