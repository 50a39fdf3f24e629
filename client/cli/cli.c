/* Common options, connecting and failing: see cli.h. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "protocol.h"

enum { OPTION_JSON = 1000, OPTION_SERVER, OPTION_TIMEOUT, OPTION_TOKEN };

static const struct argp_option options[] = {
    {"server", OPTION_SERVER, "ADDR", 0,
     "HOST:PORT, [IPv6]:PORT or unix:PATH (default: $FATHOM_SERVER, else " PROTOCOL_DEFAULT_LISTEN
     ")",
     10},
    {"timeout", OPTION_TIMEOUT, "TIME", 0, "Give a call up after this time (default: 60s)", 10},
    {"token", OPTION_TOKEN, "TOKEN", 0,
     "The token, for a server that asks for one; in $FATHOM_TOKEN it does not show in process "
     "lists",
     10},
    {"json", OPTION_JSON, NULL, 0, "Print one JSON document on stdout", 10},
    {0},
};

static uint32_t parse_timeout(struct argp_state *state, const char *text)
{
    uint64_t ns = 0;
    if (!tool_parse_duration_ns(text, &ns) || ns < 1000000 || ns > UINT32_MAX * UINT64_C(1000000))
        argp_error(state, "--timeout: '%s' is not a time from 1ms on; write it like 500ms or 10s",
                   text);
    return (uint32_t)(ns / 1000000);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct cli_common *common = state->input;
    switch (key) {
    case OPTION_SERVER:
        common->server = arg;
        break;
    case OPTION_TIMEOUT:
        common->timeout_ms = parse_timeout(state, arg);
        break;
    case OPTION_TOKEN:
        common->token = arg;
        break;
    case OPTION_JSON:
        common->json = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

const struct argp cli_common_argp = {.options = options, .parser = parse};

static const char *from_environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

void cli_common_init(struct cli_common *common)
{
    const char *server = from_environment("FATHOM_SERVER");
    *common = (struct cli_common){
        .server = server ? server : PROTOCOL_DEFAULT_LISTEN,
        .token = from_environment("FATHOM_TOKEN"),
        .timeout_ms = 60000,
    };
}

int cli_connect(struct fathom_client **out, const struct cli_common *common, const char *verb)
{
    struct fathom_client_options client = fathom_client_options_default();
    struct fathom_client_error err;
    client.client_name = "fathom-cli/" FATHOM_VERSION;
    client.token = common->token;
    client.call_timeout_ms = common->timeout_ms;
    client.read_timeout_ms = 0; /* --timeout is the one bound that a user has to know */
    if (common->timeout_ms < client.connect_timeout_ms)
        client.connect_timeout_ms = common->timeout_ms;
    if (!fathom_client_open(out, common->server, &client, &err))
        return TOOL_EXIT_OK;
    return cli_fail(common, verb, &err);
}

static int exit_code(int code)
{
    switch (code) {
    case FATHOM_CLIENT_ESERVER:
        return TOOL_EXIT_CHECK_FAILED;
    case FATHOM_CLIENT_EARGUMENT:
    case FATHOM_CLIENT_EADDRESS:
    case FATHOM_CLIENT_ELIMIT:
        return TOOL_EXIT_USAGE;
    default:
        return TOOL_EXIT_IO;
    }
}

int cli_fail(const struct cli_common *common, const char *verb,
             const struct fathom_client_error *err)
{
    fprintf(stderr, "%s: %s%s%s\n", verb, err->code == FATHOM_CLIENT_ESERVER ? err->name : "",
            err->code == FATHOM_CLIENT_ESERVER ? ": " : "", err->message);
    if (err->retry_after_ms)
        fprintf(stderr, "%s: try again after %u ms\n", verb, err->retry_after_ms);
    if (common->json)
        tool_print_json(json_pack("{s: {s:s, s:o, s:b, s:i, s:s}}", "error", "code", err->name,
                                  "message", tool_json_text(err->message), "retryable",
                                  err->retryable, "retry_after_ms", (int)err->retry_after_ms,
                                  "reason", err->reason));
    return exit_code(err->code);
}
