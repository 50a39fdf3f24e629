/* fathom-check: says what an index is (inspect) and whether it is sound (verify). Reads only. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fathom/fathom.h"
#include "format.h"
#include "tool.h"

struct check_arguments {
    const char *dir;
    bool json, deep;
};

enum { OPTION_JSON = 1, OPTION_DEEP };

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct check_arguments *arguments = state->input;
    switch (key) {
    case OPTION_JSON:
        arguments->json = true;
        return 0;
    case OPTION_DEEP:
        arguments->deep = true;
        return 0;
    case ARGP_KEY_ARG:
        if (arguments->dir)
            return ARGP_ERR_UNKNOWN;
        arguments->dir = argument;
        return 0;
    case ARGP_KEY_END:
        if (!arguments->dir)
            argp_error(state, "name an index directory");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- inspect ---- */

static json_t *sections_json(const struct superblock *super)
{
    json_t *sections = json_array();
    for (uint32_t i = 0; i < super->section_count; i++) {
        const struct section *s = &super->sections[i];
        json_t *section = json_pack("{s:s, s:I, s:I, s:I}", "name", section_name(s->kind),
                                    "first_page", (json_int_t)s->first_page, "pages",
                                    (json_int_t)s->page_count, "bytes", (json_int_t)s->bytes);
        if (s->row_bytes) {
            json_object_set_new(section, "row_bytes", json_integer(s->row_bytes));
            json_object_set_new(section, "rows_per_page", json_integer(s->rows_per_page));
            json_object_set_new(section, "pages_per_row", json_integer(s->pages_per_row));
        }
        json_array_append_new(sections, section);
    }
    return sections;
}

static json_t *features_json(const struct superblock *super)
{
    return json_pack("{s:I, s:I}", "compat", (json_int_t)super->compat, "incompat",
                     (json_int_t)super->incompat);
}

static json_t *provenance_json(const struct index_file *file, struct fathom_error *err)
{
    const struct section *section = superblock_find(&file->super, SECTION_MANIFEST);
    json_t *manifest = NULL;
    char *text = calloc(1, section->bytes + 1);
    if (text && index_file_read(file, section, 0, text, section->bytes, err) == 0)
        manifest = json_loadb(text, section->bytes, 0, NULL);
    free(text);
    return manifest ? manifest : json_null();
}

/* How many operating points there are, and what they were measured on; NULL: there are none. */
static const char *points_of(const struct index_file *file, uint64_t *count,
                             struct fathom_error *err)
{
    static const char *const names[] = {
        [FORMAT_MEASURED_ON_ROWS] = "rows", [FORMAT_MEASURED_ON_QUERIES] = "queries"};
    const struct section *section = superblock_find(&file->super, SECTION_POINTS);
    uint8_t first[FORMAT_POINT_BYTES];
    *count = section ? section->bytes / FORMAT_POINT_BYTES : 0;
    if (*count == 0 || index_file_read(file, section, 0, first, sizeof first, err) != 0)
        return NULL;
    uint32_t on = format_point_measured_on(first);
    return on < FORMAT_MEASURED_ON_END ? names[on] : NULL;
}

/* Distances by which a search recognises a query that is unlike those that operating points were
 * measured on. Indexes of earlier builds have zeros. */
static bool usual_is_known(const struct usual *usual)
{
    return usual->row > 0 || usual->cell > 0;
}

static json_t *usual_json(const struct usual *usual)
{
    if (!usual_is_known(usual))
        return json_null();
    return json_pack("{s:f, s:f}", "row", (double)usual->row, "cell", (double)usual->cell);
}

static json_t *points_json(const struct index_file *file, struct fathom_error *err)
{
    uint64_t count;
    const char *on = points_of(file, &count, err);
    return on ? json_pack("{s:I, s:s}", "count", (json_int_t)count, "measured_on", on)
              : json_null();
}

/* The queries that points were measured on, NULL where these are rows: those that the build was
 * given, unless points were measured anew. */
static const json_t *queries_of(const json_t *provenance)
{
    const json_t *anew = json_object_get(provenance, "points");
    return json_object_get(anew ? anew : provenance, "queries");
}

static void print_usual(const struct usual *usual)
{
    if (usual_is_known(usual))
        printf(
            "  99%% of those have a row within %g and a centroid within %g (squared distances in "
            "row units)\n\n",
            (double)usual->row, (double)usual->cell);
    else
        printf("  by an earlier version, so queries unlike those are not recognised; `fathom-build "
               "points` mends that\n\n");
}

static void print_points(const struct index_file *file)
{
    struct fathom_error err;
    uint64_t count, rows = 0;
    const char *on = points_of(file, &count, &err), *name = NULL;
    if (!on) {
        printf("  no operating points\n\n");
        return;
    }
    json_t *provenance = provenance_json(file, &err);
    const json_t *queries = queries_of(provenance);
    name = json_string_value(json_object_get(queries, "name"));
    rows = (uint64_t)json_integer_value(json_object_get(queries, "rows"));
    printf("  %" PRIu64 " operating points, measured on ", count);
    if (name)
        printf("%s of %s (%" PRIu64 ")\n", on, name, rows);
    else
        printf("%s\n", on);
    json_decref(provenance);
    print_usual(&file->super.properties.usual);
}

static json_t *inspect_json(const struct index_file *file, struct fathom_error *err)
{
    const struct superblock *super = &file->super;
    const struct properties *p = &super->properties;
    char generation[20];
    snprintf(generation, sizeof generation, "%016" PRIx64, p->generation);
    json_t *document = json_pack(
        "{s:o, s:I, s:o, s:s, s:I, s:I, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:b, s:b, s:I}", "path",
        tool_json_text(file->path), "format_version", (json_int_t)super->version, "features",
        features_json(super), "generation", generation, "rows", (json_int_t)p->rows, "dim",
        (json_int_t)p->dim, "zero_rows", (json_int_t)p->zero_rows, "dtype",
        fathom_dtype_name(p->dtype), "metric", fathom_metric_name(p->metric), "cells",
        (json_int_t)p->cells, "entry_points", (json_int_t)p->entry_count, "degree_max",
        (json_int_t)p->degree_max, "default_search_list", (json_int_t)p->default_search_list,
        "records_exact", p->records_exact, "external_ids", p->external_ids, "index_bytes",
        (json_int_t)(super->file_pages * PAGE_BYTES));
    json_object_set_new(
        document, "raw_bytes",
        json_integer((json_int_t)(p->rows * p->dim * fathom_dtype_bytes(p->dtype))));
    json_object_set_new(document, "operating_points", points_json(file, err));
    json_object_set_new(document, "usual", usual_json(&p->usual));
    json_object_set_new(document, "sections", sections_json(super));
    json_object_set_new(document, "provenance", provenance_json(file, err));
    return document;
}

static void inspect_print(const struct index_file *file)
{
    const struct superblock *super = &file->super;
    const struct properties *p = &super->properties;
    char bytes[32], raw[32];
    printf("%s\n", file->path);
    printf("  format version %" PRIu32 ", generation %016" PRIx64 "\n", super->version,
           p->generation);
    printf("  %" PRIu64 " row%s x %" PRIu32 " %s, metric %s%s\n", p->rows, tool_plural(p->rows),
           p->dim, fathom_dtype_name(p->dtype), fathom_metric_name(p->metric),
           p->external_ids ? ", ids from a file" : "");
    printf("  %" PRIu32 " cell%s, degree at most %" PRIu32 ", %" PRIu32 " entry point%s\n",
           p->cells, tool_plural(p->cells), p->degree_max, p->entry_count,
           tool_plural(p->entry_count));
    printf("  %s on disk, raw vectors %s\n",
           tool_format_bytes(super->file_pages * PAGE_BYTES, bytes),
           tool_format_bytes(p->rows * p->dim * fathom_dtype_bytes(p->dtype), raw));
    print_points(file);
    printf("  %-14s %12s %12s %10s  %s\n", "section", "first page", "pages", "bytes", "layout");
    for (uint32_t i = 0; i < super->section_count; i++) {
        const struct section *s = &super->sections[i];
        printf("  %-14s %12" PRIu64 " %12" PRIu64 " %10s  ", section_name(s->kind), s->first_page,
               s->page_count, tool_format_bytes(s->bytes, bytes));
        if (s->rows_per_page)
            printf("%" PRIu32 " row%s a page\n", s->rows_per_page, tool_plural(s->rows_per_page));
        else if (s->row_bytes)
            printf("%" PRIu32 " pages a row\n", s->pages_per_row);
        else
            printf("stream\n");
    }
}

static const struct argp_option inspect_options[] = {
    {"json", OPTION_JSON, 0, 0, "one JSON document on stdout", 0}, {0}};

static int run_inspect(int argc, char **argv)
{
    static const struct argp argp = {
        .options = inspect_options,
        .parser = parse_option,
        .args_doc = "DIR",
        .doc = "Says what an index is: format, features, sizes, sections, provenance.\v"
               "Example: fathom-check inspect wordnet.fathom --json | jq .provenance"};
    struct check_arguments arguments = {0};
    struct fathom_error err = {0};
    struct index_file file;
    int status = tool_parse(&argp, argc, argv, &arguments);
    if (status)
        return status;
    if (index_file_open(&file, env_os(), arguments.dir, &err))
        return tool_fail("fathom-check inspect", &err);
    if (arguments.json)
        status = tool_print_json(inspect_json(&file, &err));
    else
        inspect_print(&file);
    index_file_close(&file);
    return status;
}

/* ---- verify ---- */

#define DAMAGE_LISTED 100 /* lines of damage; the rest is only counted */

struct damage_list {
    json_t *lines;
    uint64_t count;
    bool json;
};

static void note_damage(void *context, const char *what)
{
    struct damage_list *list = context;
    if (list->count++ >= DAMAGE_LISTED)
        return;
    if (list->json)
        json_array_append_new(list->lines, tool_json_text(what));
    else
        printf("damaged: %s\n", what);
}

static void verify_print(const struct check_arguments *arguments,
                         const struct fathom_verify_report *report, int status)
{
    printf("%s: %" PRIu64 " pages", arguments->dir, report->pages);
    if (arguments->deep)
        printf(", %" PRIu64 " references", report->references);
    if (status == 0)
        printf(": sound\n");
    else
        printf(": %" PRIu64 " bad page%s, %" PRIu64 " bad reference%s, %" PRIu64
               " unreachable row%s\n",
               report->bad_pages, tool_plural(report->bad_pages), report->bad_references,
               tool_plural(report->bad_references), report->unreachable_rows,
               tool_plural(report->unreachable_rows));
}

static int verify_report(const struct check_arguments *arguments,
                         const struct fathom_verify_report *report, struct damage_list *damage,
                         int status, const struct fathom_error *err)
{
    if (!arguments->json) {
        if (report->pages)
            verify_print(arguments, report, status);
        return status ? tool_fail("fathom-check verify", err) : TOOL_EXIT_OK;
    }
    json_t *document = json_pack(
        "{s:o, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:O}", "path", tool_json_text(arguments->dir),
        "sound", status == 0, "deep", arguments->deep, "pages", (json_int_t)report->pages,
        "bad_pages", (json_int_t)report->bad_pages, "references", (json_int_t)report->references,
        "bad_references", (json_int_t)report->bad_references, "unreachable_rows",
        (json_int_t)report->unreachable_rows, "damage", damage->lines);
    if (status)
        json_object_set_new(document, "error", tool_json_text(err->msg));
    int printed = tool_print_json(document);
    return status ? tool_exit_code(status) : printed;
}

static const struct argp_option verify_options[] = {
    {"deep", OPTION_DEEP, 0, 0,
     "also check every reference: lists, cells, entry points, reachability", 0},
    {"json", OPTION_JSON, 0, 0, "one JSON document on stdout", 0},
    {0}};

static int run_verify(int argc, char **argv)
{
    static const struct argp argp = {
        .options = verify_options,
        .parser = parse_option,
        .args_doc = "DIR",
        .doc = "Reads every page of an index and checks it against its checksum; names what is "
               "damaged.\v"
               "Exit codes: 0 sound, 3 cannot be read, 4 damaged, 5 a format that this program "
               "does not know."};
    struct check_arguments arguments = {0};
    struct fathom_verify_report report = {0};
    struct fathom_error err = {0};
    int status = tool_parse(&argp, argc, argv, &arguments);
    if (status)
        return status;
    struct damage_list damage = {.lines = json_array(), .json = arguments.json};
    status = fathom_verify(arguments.dir, arguments.deep, &report, note_damage, &damage, &err);
    status = verify_report(&arguments, &report, &damage, status, &err);
    json_decref(damage.lines);
    return status;
}

int main(int argc, char **argv)
{
    static const struct tool_verb verbs[] = {
        {"inspect", "say what an index is: format, sizes, sections, provenance", run_inspect},
        {"verify", "read every page and check it; name what is damaged", run_verify},
        {0}};
    return tool_main(argc, argv, "Looks into an index and checks it.", verbs);
}
