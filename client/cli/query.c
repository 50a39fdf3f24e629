/* fathom-cli query and explain: options, and answers as a table, as JSON, or as a file in the
 * layout of a truth set. */
#include "query.h"

#include <inttypes.h>
#include <string.h>

#include "env.h"
#include "protocol.h"

enum {
    OPTION_VECTORS = 2000,
    OPTION_LIST,
    OPTION_RECALL,
    OPTION_EXACT,
    OPTION_RERANK,
    OPTION_DTYPE,
    OPTION_ROUND,
    OPTION_OUT,
    OPTION_IDS64,
    OPTION_DEADLINE,
    OPTION_BATCH,
    OPTION_INFLIGHT,
    OPTION_ROW,
    OPTION_PROGRESS,
    INFLIGHT_MAX = 256,
};

/* ---- options ---- */

/* What query and explain have in common. */
static const struct argp_option search_options[] = {
    {"index", 'i', "NAME", 0, "The index, by its name on the server", 1},
    {"vectors", OPTION_VECTORS, "FILE", 0,
     "The queries: .fvecs .bvecs .fbin .f16bin .i8bin .u8bin .npy, or FILE.hdf5::test", 1},
    {"k", 'k', "K", 0, "Results per query (default: 10)", 1},
    {"search-list", OPTION_LIST, "L", 0,
     "How many candidates are kept: longer finds more and takes longer (default: the index's)", 1},
    {"target-recall", OPTION_RECALL, "R", 0,
     "Instead of --search-list: have the index choose it for this recall", 1},
    {"exact-distances", OPTION_EXACT, NULL, 0,
     "Compute every distance from the full vector, which costs reads", 1},
    {"rerank", OPTION_RERANK, "auto|on|off", 0,
     "Read full vectors to rank those results whose order 8 bits leave in doubt (default: auto, "
     "where that is the cheapest way to the target recall)",
     1},
    {"dtype", OPTION_DTYPE, "f32|f16|u8|i8", 0,
     "Cast the queries to this type; values that do not fit are refused (default: the type in "
     "FILE)",
     1},
    {"round", OPTION_ROUND, NULL, 0, "Round and clamp the values that --dtype would refuse", 1},
    {"deadline", OPTION_DEADLINE, "TIME", 0, "Have the server give up after this time", 1},
    {0},
};

static uint32_t parse_deadline(struct argp_state *state, const char *text)
{
    uint64_t ns = 0;
    if (!tool_parse_duration_ns(text, &ns) || ns < 1000000 ||
        ns > PROTOCOL_DEADLINE_MS_MAX * UINT64_C(1000000))
        argp_error(state, "--deadline: '%s' is not a time from 1ms to a day", text);
    return (uint32_t)(ns / 1000000);
}

static error_t parse_search(int key, char *arg, struct argp_state *state)
{
    struct query_request *request = state->input;
    switch (key) {
    case 'i':
        request->index = arg;
        break;
    case OPTION_VECTORS:
        request->vectors = arg;
        break;
    case 'k':
        request->k = (uint32_t)tool_arg_u64(state, "k", arg, 1, PROTOCOL_K_MAX);
        break;
    case OPTION_LIST:
        request->search_list =
            (uint32_t)tool_arg_u64(state, "search-list", arg, 1, PROTOCOL_SEARCH_LIST_MAX);
        break;
    case OPTION_RECALL:
        request->target_recall = (float)tool_arg_f64(state, "target-recall", arg, 0.01, 0.9999);
        break;
    case OPTION_EXACT:
        request->exact_distances = true;
        break;
    case OPTION_RERANK:
        request->rerank = tool_arg_choice(state, "rerank", arg, "auto off on");
        break;
    case OPTION_DTYPE:
        if (!vectors_dtype_parse(arg, &request->dtype))
            argp_error(state, "--dtype: '%s' is none of f32, f16, u8 and i8", arg);
        break;
    case OPTION_ROUND:
        request->round = true;
        break;
    case OPTION_DEADLINE:
        request->deadline_ms = parse_deadline(state, arg);
        break;
    case ARGP_KEY_END:
        if (!request->index || !request->vectors)
            argp_error(state, "%s is missing", request->index ? "--vectors" : "--index");
        if (request->search_list && request->target_recall > 0)
            argp_error(state, "--search-list and --target-recall both say how far to search; "
                              "give one of them");
        if (request->round && !request->dtype)
            argp_error(state, "--round says how to cast; --dtype, which says to what, is missing");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp search_argp = {.options = search_options, .parser = parse_search};

static const struct argp_child children[] = {
    {&search_argp, 0, NULL, 0}, {&cli_common_argp, 0, NULL, 0}, {0}};

static void init_children(struct argp_state *state)
{
    struct query_request *request = state->input;
    state->child_inputs[0] = request;
    state->child_inputs[1] = &request->common;
}

static const struct argp_option query_options[] = {
    {"out", OPTION_OUT, "FILE", 0, "Write ids and distances to FILE, in the layout of a truth set",
     2},
    {"ids64", OPTION_IDS64, NULL, 0, "Ids in FILE are u64, not u32", 2},
    {"batch", OPTION_BATCH, "N", 0, "Queries per request (default: by size, at most 64)", 2},
    {"inflight", OPTION_INFLIGHT, "N", 0, "Requests in flight (default: 4)", 2},
    {"progress", OPTION_PROGRESS, "auto|json|off", 0,
     "A bar on a terminal (auto), JSON lines on stderr, or nothing", 10},
    {0},
};

static error_t parse_query(int key, char *arg, struct argp_state *state)
{
    struct query_request *request = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        init_children(state);
        break;
    case OPTION_OUT:
        request->out = arg;
        break;
    case OPTION_IDS64:
        request->ids64 = true;
        break;
    case OPTION_BATCH:
        request->batch = (uint32_t)tool_arg_u64(state, "batch", arg, 1, PROTOCOL_BATCH_MAX);
        break;
    case OPTION_INFLIGHT:
        request->inflight = (uint32_t)tool_arg_u64(state, "inflight", arg, 1, INFLIGHT_MAX);
        break;
    case OPTION_PROGRESS:
        request->progress = tool_arg_choice(state, "progress", arg, TOOL_PROGRESS_WORDS);
        break;
    case ARGP_KEY_END:
        if (request->ids64 && !request->out)
            argp_error(state, "--ids64 says how to write --out, which is missing");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp query_argp = {
    .options = query_options,
    .parser = parse_query,
    .doc = "Search an index for the nearest of each vector of a file.\v"
           "Distances: smaller is nearer; squared Euclidean for l2, 1 - cosine for cos, minus the "
           "inner product for ip.\n\n"
           "Examples:\n"
           "  fathom-cli query --index words --vectors query.fbin -k 10 --json\n"
           "  fathom-cli query --index words --vectors words.hdf5::test --out res.bin\n",
    .children = children};

static const struct argp_option explain_options[] = {
    {"row", OPTION_ROW, "N", 0, "Which vector of FILE, from 0 (default: 0)", 2},
    {0},
};

static error_t parse_explain(int key, char *arg, struct argp_state *state)
{
    struct query_request *request = state->input;
    if (key == ARGP_KEY_INIT)
        init_children(state);
    else if (key == OPTION_ROW)
        request->row = tool_arg_u64(state, "row", arg, 0, UINT64_MAX);
    else
        return ARGP_ERR_UNKNOWN;
    return 0;
}

static const struct argp explain_argp = {
    .options = explain_options,
    .parser = parse_explain,
    .doc = "Search for one vector and tell what that took: hops, reads, times, why it stopped.",
    .children = children};

/* ---- answers ---- */

/* Results of query i: rows with fewer than k end in no id. */
static uint32_t count_results(const struct truth *results, uint32_t i)
{
    uint32_t count = 0;
    while (count < results->k && results->ids[(size_t)i * results->k + count] != FATHOM_ID_NONE)
        count++;
    return count;
}

/* JSON numbers end at 2^63 - 1 for many parsers; ids above are text. */
static json_t *json_id(uint64_t id)
{
    char text[24];
    if (id <= INT64_MAX)
        return json_integer((json_int_t)id);
    snprintf(text, sizeof text, "%" PRIu64, id);
    return json_string(text);
}

static json_t *json_row(const struct truth *results, uint32_t i)
{
    json_t *ids = json_array(), *distances = json_array();
    uint32_t count = count_results(results, i);
    for (uint32_t j = 0; j < count; j++) {
        size_t place = (size_t)i * results->k + j;
        json_array_append_new(ids, json_id(results->ids[place]));
        json_array_append_new(distances, json_real((double)results->distances[place]));
    }
    return json_pack("{s:o, s:o}", "ids", ids, "distances", distances);
}

static json_t *json_stats(const struct fathom_client_stats *stats)
{
    return json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
        "s:I}",
        "navigator", stats->navigator, "stop_reason", stats->stop_reason, "io_engine",
        stats->io_engine, "hops", (json_int_t)stats->hops, "rounds", (json_int_t)stats->rounds,
        "reads", (json_int_t)stats->reads, "list_reads", (json_int_t)stats->list_reads,
        "code_reads", (json_int_t)stats->code_reads, "bytes", (json_int_t)stats->bytes,
        "resident_lists", (json_int_t)stats->resident_lists, "code_distances",
        (json_int_t)stats->code_distances, "full_distances", (json_int_t)stats->full_distances,
        "reranked", (json_int_t)stats->reranked, "widened", (json_int_t)stats->widened, "queue_us",
        (json_int_t)stats->queue_us, "device_us", (json_int_t)stats->device_us, "compute_us",
        (json_int_t)stats->compute_us, "total_us", (json_int_t)stats->total_us);
}

static int print_json(const struct query_request *request, const struct query_answer *answer)
{
    char generation[24];
    snprintf(generation, sizeof generation, "%016" PRIx64, answer->generation);
    json_t *document =
        json_pack("{s:s, s:o, s:s, s:b, s:b, s:I, s:I, s:f}", "server", answer->server.server,
                  "index", tool_json_text(request->index), "generation", generation,
                  "mixed_generations", answer->mixed_generations, "complete", answer->complete, "k",
                  (json_int_t)request->k, "queries", (json_int_t)answer->results->query_count,
                  "seconds", (double)answer->took_ns / 1e9);
    if (request->explain)
        json_object_set_new(document, "stats", json_stats(&answer->stats));
    if (request->out) {
        json_object_set_new(document, "out", tool_json_text(request->out));
        return tool_print_json(document);
    }
    json_t *rows = json_array();
    for (uint32_t i = 0; i < answer->results->query_count; i++)
        json_array_append_new(rows, json_row(answer->results, i));
    json_object_set_new(document, "results", rows);
    return tool_print_json(document);
}

static void print_rows(const struct query_answer *answer, uint64_t first_row)
{
    const struct truth *results = answer->results;
    for (uint32_t i = 0; i < results->query_count; i++) {
        uint32_t count = count_results(results, i);
        printf("%squery %" PRIu64 "\n  rank                    id      distance\n", i ? "\n" : "",
               first_row + i);
        for (uint32_t j = 0; j < count; j++) {
            size_t place = (size_t)i * results->k + j;
            printf("  %4u  %20" PRIu64 "  %12.6g\n", j + 1, results->ids[place],
                   (double)results->distances[place]);
        }
        if (count < results->k)
            printf("  no more results\n");
    }
}

static void print_stats(const struct fathom_client_stats *stats)
{
    char bytes[32];
    printf("\nnavigator      %s, stopped: %s%s\n", stats->navigator, stats->stop_reason,
           stats->widened ? ", widened for an unusual query" : "");
    printf("hops           %" PRIu32 " in %" PRIu32 " rounds, %" PRIu32 " lists from memory\n",
           stats->hops, stats->rounds, stats->resident_lists);
    printf("reads          %" PRIu32 " (%s) by %s, %" PRIu32 " of them lists, %" PRIu32 " codes\n",
           stats->reads, tool_format_bytes(stats->bytes, bytes), stats->io_engine,
           stats->list_reads, stats->code_reads);
    printf("distances      %" PRIu32 " by code, %" PRIu32 " in full%s\n", stats->code_distances,
           stats->full_distances, stats->reranked ? ", re-ranked" : "");
    printf("time           %" PRIu64 " us: queue %" PRIu64 ", device %" PRIu64 ", compute %" PRIu64
           "\n",
           stats->total_us, stats->queue_us, stats->device_us, stats->compute_us);
}

/* A line on stderr about the whole run. */
static void print_summary(const struct query_request *request, const struct query_answer *answer)
{
    char took[32];
    uint32_t queries = answer->results->query_count;
    fprintf(stderr, "%s: %u quer%s in %s, generation %016" PRIx64 "%s\n", request->verb, queries,
            queries == 1 ? "y" : "ies", tool_format_duration_ns(answer->took_ns, took),
            answer->generation,
            answer->complete ? "" : ", INCOMPLETE: some results may be missing");
    if (answer->mixed_generations)
        fprintf(stderr,
                "%s: the index was reloaded meanwhile: answers are of several generations\n",
                request->verb);
}

static int report(const struct query_request *request, struct query_answer *answer)
{
    struct fathom_error err;
    if (request->out) {
        answer->results->ids64 = request->ids64;
        if (truth_write(answer->results, env_os(), request->out, &err))
            return tool_fail(request->verb, &err);
    }
    print_summary(request, answer);
    if (request->common.json)
        return print_json(request, answer);
    if (!request->out)
        print_rows(answer, request->row);
    if (request->explain)
        print_stats(&answer->stats);
    return TOOL_EXIT_OK;
}

static int run(struct query_request *request, const struct argp *argp, int argc, char **argv)
{
    struct query_answer answer = {0};
    cli_common_init(&request->common);
    request->k = 10;
    request->inflight = 4;
    int status = tool_parse(argp, argc, argv, request);
    if (status == TOOL_EXIT_OK)
        status = query_run(request, &answer);
    if (status == TOOL_EXIT_OK)
        status = report(request, &answer);
    query_answer_fini(&answer);
    return status;
}

int cli_query(int argc, char **argv)
{
    struct query_request request = {.verb = "fathom-cli query"};
    return run(&request, &query_argp, argc, argv);
}

int cli_explain(int argc, char **argv)
{
    struct query_request request = {
        .verb = "fathom-cli explain", .explain = true, .progress = TOOL_PROGRESS_OFF};
    return run(&request, &explain_argp, argc, argv);
}
