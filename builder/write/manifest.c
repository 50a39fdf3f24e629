/* Provenance: what was built from what, and how. No time, no path and no thread count, so that
 * equal builds are equal bytes. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "degree.h"
#include "error.h"
#include "provenance.h"
#include "utf8.h"
#include "write.h"

static json_t *statistics_json(const struct product *product)
{
    json_t *levels = json_array();
    for (uint32_t l = 0; l < product->trained->planes.level_count; l++) {
        const struct planes_level *level = &product->trained->planes.levels[l];
        json_array_append_new(levels, json_pack("{s:i s:f}", "code_bytes", (int)level->code_bytes,
                                                "kappa", (double)level->kappa));
    }
    return json_pack("{s:i s:i s:f s:I s:f s:o}", "cells", (int)product->cells->count, "entries",
                     (int)product->graph->entry_count, "mean_degree", product->mean_degree,
                     "list_bytes", (json_int_t)product->lists->bytes, "row8_step",
                     (double)product->input->model.step, "levels", levels);
}

static json_t *chosen_json(const struct product *product)
{
    char reason[DEGREE_REASON_BYTES];
    degree_explain(product->options, product->probe.mean, reason);
    return json_pack("{s:i s:i s:f s:f s:s}", "degree", (int)product->graph->degree_max,
                     "build_list", (int)product->build_list, "probed_degree", product->probe.mean,
                     "intrinsic_dimension", product->probe.lid, "reason", reason);
}

/* What makes the index, or a part of it. */
static json_t *maker_json(void)
{
    return json_pack("{s:s s:i s:s}", "version", FATHOM_VERSION, "format_version", FORMAT_VERSION,
                     "cpu_level", kernels_get()->name);
}

static json_t *manifest_json(const struct product *product)
{
    return json_pack("{s:o s:o s:o s:o s:o s:o}", "fathom", maker_json(), "input",
                     provenance_input(product->input, true), "ids",
                     provenance_ids(product->input, product->ids), "options",
                     provenance_options(product->options), "chosen", chosen_json(product),
                     "statistics", statistics_json(product));
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool set_name(json_t *manifest, const char *group, const char *path)
{
    char name[UTF8_ESCAPED_BYTES(NAME_MAX)];
    return json_object_set_new(json_object_get(manifest, group), "name",
                               json_string(utf8_escape(name, sizeof name, base_name(path)))) == 0;
}

#define DUMP_FLAGS (JSON_SORT_KEYS | JSON_INDENT(1) | JSON_REAL_PRECISION(9))

/* The text, and the generation that it gives. Names of files are not hashed: the same vectors under
 * another name are the same index. */
static int dump(const json_t *manifest, char **text, uint64_t *generation, struct fathom_error *err)
{
    json_t *unnamed = json_deep_copy(manifest);
    json_object_del(json_object_get(unnamed, "input"), "name");
    json_object_del(json_object_get(unnamed, "queries"), "name");
    json_object_del(json_object_get(json_object_get(unnamed, "points"), "queries"), "name");
    char *hashed = json_dumps(unnamed, DUMP_FLAGS);
    *text = NULL;
    if (hashed) {
        uint64_t hash = XXH3_64bits(hashed, strlen(hashed));
        *generation = hash ? hash : 1;
        *text = json_dumps(manifest, DUMP_FLAGS);
    }
    free(hashed);
    json_decref(unnamed);
    return *text ? 0 : error_set(err, -ENOMEM, "manifest: %s", fathom_strerror(-ENOMEM));
}

int manifest_make(const struct product *product, char **text, uint64_t *generation,
                  struct fathom_error *err)
{
    json_t *manifest = manifest_json(product);
    if (product->parts)
        json_object_set_new(json_object_get(manifest, "chosen"), "parts",
                            json_integer(product->parts->count));
    if (product->queries->file)
        json_object_set_new(manifest, "queries", provenance_queries(product->queries));
    bool named =
        set_name(manifest, "input", product->options->input) &&
        (!product->queries->file || set_name(manifest, "queries", product->options->query));
    int status = dump(named ? manifest : NULL, text, generation, err);
    json_decref(manifest);
    return status;
}

/* What points were measured with. */
static json_t *points_json(const struct build_options *options, const struct queries *queries)
{
    json_t *points = json_pack("{s:o}", "fathom", maker_json());
    bool good = points != NULL;
    if (good && options->memory_budget_bytes)
        good = json_object_set_new(points, "memory_budget",
                                   json_integer((json_int_t)options->memory_budget_bytes)) == 0;
    if (good && queries->file)
        good = json_object_set_new(points, "queries", provenance_queries(queries)) == 0 &&
               set_name(points, "queries", options->query);
    if (good)
        return points;
    json_decref(points);
    return NULL;
}

static struct degree_probe probe_of(const json_t *manifest)
{
    const json_t *chosen = json_object_get(manifest, "chosen");
    const json_t *statistics = json_object_get(manifest, "statistics");
    return (struct degree_probe){
        .mean = json_number_value(json_object_get(chosen, "probed_degree")),
        .cut = json_number_value(json_object_get(statistics, "mean_degree")),
        .lid = json_number_value(json_object_get(chosen, "intrinsic_dimension"))};
}

int manifest_renew(const char *before, size_t bytes, const struct build_options *options,
                   const struct queries *queries, struct manifest_text *out,
                   struct fathom_error *err)
{
    json_t *manifest = json_loadb(before, bytes, 0, NULL);
    out->text = NULL;
    if (!json_is_object(manifest)) {
        json_decref(manifest);
        return error_set(err, FATHOM_ECORRUPT,
                         "%s: its manifest is not what a build writes; build the index anew",
                         options->out);
    }
    out->probe = probe_of(manifest);
    bool set = json_object_set_new(manifest, "points", points_json(options, queries)) == 0;
    int status = dump(set ? manifest : NULL, &out->text, &out->generation, err);
    json_decref(manifest);
    return status;
}
