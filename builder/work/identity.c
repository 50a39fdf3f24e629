/* Two builds with the same identity give the same bytes, so that one may go on where the other was
 * killed. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "error.h"
#include "format.h"
#include "provenance.h"
#include "state.h"

#define DUMP_FLAGS (JSON_SORT_KEYS | JSON_COMPACT | JSON_REAL_PRECISION(17))

/* That there are none is told too: else a build that has none would go on with one that had some.
 */
static json_t *queries_json(const struct queries *queries)
{
    return queries->file ? provenance_queries(queries)
                         : json_pack("{s:s s:s}", "dtype", "none", PROVENANCE_HASH, "none");
}

char *identity_text(const struct build *build, bool hashed)
{
    const struct build_options *options = &build->options;
    const struct input *input = &build->input;
    json_t *options_json = provenance_options(options);
    json_t *input_json = provenance_input(input, hashed);
    /* Known only when the input has been read, and it follows from the hash. */
    json_object_del(input_json, "zero_rows");
    /* They decide about parts, hence about bytes. */
    json_object_set_new(options_json, "parts", json_integer((json_int_t)options->parts));
    json_object_set_new(options_json, "held_rows", json_integer((json_int_t)options->held_rows));
    json_object_set_new(options_json, "memory_budget",
                        json_integer((json_int_t)options->memory_budget_bytes));
    json_t *json =
        json_pack("{s:{s:s s:i s:s} s:o s:o s:o s:o}", "program", "version", FATHOM_VERSION,
                  "format_version", FORMAT_VERSION, "cpu_level", kernels_get()->name, "input",
                  input_json, "ids", provenance_ids(input, build->ids), "queries",
                  queries_json(&build->queries), "options", options_json);
    char *text = json ? json_dumps(json, DUMP_FLAGS) : NULL;
    json_decref(json);
    return text;
}

uint64_t identity_hash(const char *text)
{
    return XXH3_64bits(text, strlen(text));
}

static int differs(const char *dir, const char *what, const json_t *before, const json_t *now,
                   struct fathom_error *err)
{
    char *was = json_dumps(before, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    char *is = json_dumps(now, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    int status = error_set(err, FATHOM_EARGUMENT,
                           "%s: cannot resume: %s was %s when the build began, and is %s now; "
                           "resume with what it was, or build without --resume to begin again",
                           dir, what, was ? was : "?", is ? is : "missing");
    free(was);
    free(is);
    return status;
}

/* What is in now and not in before, as the hash of an input that is not read yet, does not count.
 */
static int compare_group(const char *dir, const char *group, const json_t *before, json_t *now,
                         struct fathom_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(now, key, value)
    {
        const json_t *was = json_object_get(before, key);
        char what[64];
        snprintf(what, sizeof what, "%s %s", group, key);
        if (!json_equal(was, value))
            return differs(dir, what, was, value, err);
    }
    return 0;
}

int identity_compare(const char *dir, const char *before, const char *now, struct fathom_error *err)
{
    json_t *was = json_loads(before, 0, NULL), *is = json_loads(now, 0, NULL);
    const char *group;
    json_t *value;
    int status = was && is
                     ? 0
                     : error_set(err, FATHOM_ECORRUPT,
                                 "%s: what is known of the interrupted build cannot be read", dir);
    if (status == 0) {
        json_object_foreach(is, group, value)
        {
            status = compare_group(dir, group, json_object_get(was, group), value, err);
            if (status != 0)
                break;
        }
    }
    json_decref(was);
    json_decref(is);
    return status;
}
