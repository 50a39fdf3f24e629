/* Names and forms here are those of the manifest, which are part of what a generation is hashed
 * from: equal builds must give equal text. */
#include "provenance.h"

#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

static json_t *hash_json(const uint64_t hash[2])
{
    char text[33];
    snprintf(text, sizeof text, "%016" PRIx64 "%016" PRIx64, hash[1], hash[0]);
    return json_string(text);
}

json_t *provenance_input(const struct input *input, bool hashed)
{
    json_t *json = json_pack("{s:I s:i s:s s:I}", "rows", (json_int_t)input->info.rows, "dim",
                             (int)input->info.dim, "dtype", fathom_dtype_name(input->info.dtype),
                             "zero_rows", (json_int_t)input->zero_count);
    if (hashed && json_object_set_new(json, PROVENANCE_HASH, hash_json(input->hash)) != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

json_t *provenance_ids(const struct input *input, const uint64_t *ids)
{
    char hash[17];
    if (!ids)
        return json_pack("{s:s}", "kind", "row_numbers");
    snprintf(hash, sizeof hash, "%016" PRIx64,
             (uint64_t)XXH3_64bits(ids, input->info.rows * sizeof *ids));
    return json_pack("{s:s s:s}", "kind", "external", "xxh3_64", hash);
}

json_t *provenance_queries(const struct queries *queries)
{
    return json_pack("{s:I s:s s:I s:o}", "rows", (json_int_t)queries->info.rows, "dtype",
                     fathom_dtype_name(queries->info.dtype), "zero_rows",
                     (json_int_t)queries->zero_count, PROVENANCE_HASH, hash_json(queries->hash));
}

json_t *provenance_options(const struct build_options *options)
{
    json_t *json = json_pack(
        "{s:s s:i s:i s:f s:i s:I s:s}", "metric", fathom_metric_name(options->metric), "degree",
        (int)options->degree, "build_list", (int)options->build_list, "alpha", options->alpha,
        "code_bits", (int)options->code_bits, "seed", (json_int_t)options->seed, "zero_rows",
        options->skip_zero_rows ? "skip" : "reject");
    if (json && options->dram_budget_bytes &&
        json_object_set_new(json, "dram_budget",
                            json_integer((json_int_t)options->dram_budget_bytes)) != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}
