/* Provenance: what was built from what, and how. No time, no path and no thread count, so that
 * equal builds are equal bytes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "degree.h"
#include "error.h"
#include "provenance.h"
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
    degree_explain(product->options, product->probed_degree, reason);
    return json_pack("{s:i s:i s:f s:s}", "degree", (int)product->graph->degree_max, "build_list",
                     (int)product->build_list, "probed_degree", product->probed_degree, "reason",
                     reason);
}

static json_t *manifest_json(const struct product *product)
{
    return json_pack("{s:{s:s s:i s:s} s:o s:o s:o s:o s:o}", "fathom", "version", FATHOM_VERSION,
                     "format_version", FORMAT_VERSION, "cpu_level", kernels_get()->name, "input",
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

/* Names of files come after hashing: the same vectors under another name are the same index. */
static bool set_name(json_t *manifest, const char *group, const char *path)
{
    json_t *name = json_string(base_name(path));
    return name && json_object_set_new(json_object_get(manifest, group), "name", name) == 0;
}

#define DUMP_FLAGS (JSON_SORT_KEYS | JSON_INDENT(1) | JSON_REAL_PRECISION(9))

int manifest_make(const struct product *product, char **text, uint64_t *generation,
                  struct fathom_error *err)
{
    json_t *manifest = manifest_json(product);
    if (product->parts)
        json_object_set_new(json_object_get(manifest, "chosen"), "parts",
                            json_integer(product->parts->count));
    if (product->queries->file)
        json_object_set_new(manifest, "queries", provenance_queries(product->queries));
    char *hashed = manifest ? json_dumps(manifest, DUMP_FLAGS) : NULL;
    *text = NULL;
    if (hashed) {
        uint64_t hash = XXH3_64bits(hashed, strlen(hashed));
        *generation = hash ? hash : 1;
        if (set_name(manifest, "input", product->options->input) &&
            (!product->queries->file || set_name(manifest, "queries", product->options->query)))
            *text = json_dumps(manifest, DUMP_FLAGS);
    }
    free(hashed);
    json_decref(manifest);
    return *text ? 0 : error_set(err, -ENOMEM, "manifest: %s", fathom_strerror(-ENOMEM));
}
