/* fathom-cli ping, info, stats, reload and shutdown: one call each, its answer shown. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "env.h"

enum { OPTION_DRAM_BUDGET = 0x100, OPTION_PLAN_RECALL };

struct request {
    struct cli_common common;
    const char *verb;  /* for messages */
    const char *index; /* NULL: not given */
    bool takes_index, needs_index, takes_terms;
    struct fathom_client_terms terms;
};

static const struct argp_option index_options[] = {
    {"index", 'i', "NAME", 0, "The index, by its name on the server", 0},
    {0},
};

static const struct argp_option reload_options[] = {
    {"index", 'i', "NAME", 0, "The index, by its name on the server", 0},
    {"dram-budget", OPTION_DRAM_BUDGET, "SIZE|SHARE%", 0,
     "Bound of its memory from now on, in bytes or as a share of its vectors as f32; 0 for none "
     "(default: as it was)",
     0},
    {"plan-recall", OPTION_PLAN_RECALL, "R", 0,
     "Target recall that its queries will ask for: what is kept in memory is then the cheapest for "
     "it; 0 for any (default: as it was)",
     0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct request *request = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &request->common;
        break;
    case 'i':
        request->index = arg;
        break;
    case OPTION_DRAM_BUDGET:
        (void)tool_arg_budget(state, "--dram-budget", arg);
        request->terms.dram_budget = arg;
        break;
    case OPTION_PLAN_RECALL:
        request->terms.no_plan_recall = strcmp(arg, "0") == 0;
        if (!request->terms.no_plan_recall)
            request->terms.plan_recall =
                (float)tool_arg_f64(state, "--plan-recall", arg, 0.01, 0.9999);
        break;
    case ARGP_KEY_ARG:
        if (!request->takes_index || request->index)
            return ARGP_ERR_UNKNOWN;
        request->index = arg;
        break;
    case ARGP_KEY_END:
        if (request->needs_index && !request->index)
            argp_error(state, "--index is missing");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_child children[] = {{&cli_common_argp, 0, NULL, 0}, {0}};

/* Parses the options and connects. */
static int begin(struct request *request, struct fathom_client **client, const char *doc, int argc,
                 char **argv)
{
    struct argp argp = {.parser = parse, .doc = doc, .children = children};
    if (request->takes_index) {
        argp.options = request->takes_terms ? reload_options : index_options;
        argp.args_doc = request->needs_index ? "NAME" : "[NAME]";
    }
    cli_common_init(&request->common);
    int code = tool_parse(&argp, argc, argv, request);
    return code ? code : cli_connect(client, &request->common, request->verb);
}

/* Ends a call whose answer is JSON text: shown, or told why there is none. */
static int finish(const struct request *request, struct fathom_client *client, int code, char *json,
                  const struct fathom_client_error *err)
{
    fathom_client_close(client);
    if (code)
        return cli_fail(&request->common, request->verb, err);
    json_t *document = json_loads(json, JSON_DECODE_ANY, NULL);
    int status = TOOL_EXIT_OK;
    if (document && request->common.json) {
        status = tool_print_json(document);
    } else if (document) {
        cli_show(document);
        json_decref(document);
    } else { /* numbers that jansson cannot hold */
        puts(json);
    }
    free(json);
    return status;
}

int cli_ping(int argc, char **argv)
{
    struct request request = {.verb = "fathom-cli ping"};
    struct fathom_client *client;
    struct fathom_client_error err;
    int status = begin(&request, &client, "Is the server there, and how long does an answer take?",
                       argc, argv);
    if (status)
        return status;
    uint64_t start_ns = env_clock_ns(env_os());
    if (fathom_client_ping(client, &err)) {
        fathom_client_close(client);
        return cli_fail(&request.common, request.verb, &err);
    }
    uint64_t took_ns = env_clock_ns(env_os()) - start_ns;
    struct fathom_client_server server;
    fathom_client_get_server(client, &server);
    fathom_client_close(client);
    if (request.common.json)
        return tool_print_json(json_pack("{s:o, s:s, s:I, s:f}", "address",
                                         tool_json_text(request.common.server), "server",
                                         server.server, "protocol", (json_int_t)server.protocol,
                                         "round_trip_us", (double)took_ns / 1000));
    char text[32];
    printf("%s: %s, protocol %u, answered in %s\n", request.common.server, server.server,
           server.protocol, tool_format_duration_ns(took_ns, text));
    return TOOL_EXIT_OK;
}

int cli_info(int argc, char **argv)
{
    struct request request = {.verb = "fathom-cli info", .takes_index = true};
    struct fathom_client *client;
    struct fathom_client_error err;
    char *json = NULL;
    int status = begin(&request, &client,
                       "What the server serves: rows, dimension, metric, generation, memory. "
                       "Without NAME, every index.",
                       argc, argv);
    if (status)
        return status;
    int code = fathom_client_info(client, request.index, &json, &err);
    return finish(&request, client, code, json, &err);
}

int cli_stats(int argc, char **argv)
{
    struct request request = {.verb = "fathom-cli stats"};
    struct fathom_client *client;
    struct fathom_client_error err;
    char *json = NULL;
    int status =
        begin(&request, &client, "What the server has counted since its start.", argc, argv);
    if (status)
        return status;
    int code = fathom_client_stats(client, &json, &err);
    return finish(&request, client, code, json, &err);
}

int cli_reload(int argc, char **argv)
{
    struct request request = {
        .verb = "fathom-cli reload", .takes_index = true, .needs_index = true, .takes_terms = true};
    struct fathom_client *client;
    struct fathom_client_error err;
    char *json = NULL;
    int status = begin(
        &request, &client,
        "Have the server open the newest generation of an index beside the old one "
        "and swap them. When it cannot be opened, the old one stays. With "
        "--dram-budget or --plan-recall it is kept under new terms from then on, and no query "
        "fails.",
        argc, argv);
    if (status)
        return status;
    int code = fathom_client_reload_under(client, request.index, &request.terms, &json, &err);
    return finish(&request, client, code, json, &err);
}

int cli_shutdown(int argc, char **argv)
{
    struct request request = {.verb = "fathom-cli shutdown"};
    struct fathom_client *client;
    struct fathom_client_error err;
    int status = begin(
        &request, &client,
        "Let the server finish what it is doing, and end. Returns when it has agreed.", argc, argv);
    if (status)
        return status;
    int code = fathom_client_shutdown(client, &err);
    fathom_client_close(client);
    if (code)
        return cli_fail(&request.common, request.verb, &err);
    if (request.common.json)
        return tool_print_json(json_pack("{s:o, s:b}", "address",
                                         tool_json_text(request.common.server), "ending", true));
    printf("%s finishes what it is doing and ends\n", request.common.server);
    return TOOL_EXIT_OK;
}
