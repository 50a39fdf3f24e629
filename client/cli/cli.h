/* What the verbs of fathom-cli share: the options that say which server and how, connecting, and
 * how a failure is told. The protocol is the library's business (fathom/client.h); files are those
 * of datasets/. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "fathom/client.h"
#include "tool.h"

struct cli_common {
    const char *server, *token;
    uint32_t timeout_ms;
    bool json;
};

/* An argp child: its input is a struct cli_common that cli_common_init has filled. */
extern const struct argp cli_common_argp;
/* From FATHOM_SERVER and FATHOM_TOKEN where they are set. */
void cli_common_init(struct cli_common *common);

/* Connects; an exit code, after telling what is wrong. verb is "fathom-cli ping". */
int cli_connect(struct fathom_client **out, const struct cli_common *common, const char *verb);
/* Tells a failure on stderr and, with --json, as the one document {"error": ...}. Returns the exit
 * code: 1 when the server answered an error, 2 for what was asked wrongly, 3 when it could not be
 * asked. */
int cli_fail(const struct cli_common *common, const char *verb,
             const struct fathom_client_error *err);

/* A JSON document for people: one "name  value" a line, arrays of maps as tables. */
void cli_show(const json_t *document);

int cli_ping(int argc, char **argv);
int cli_info(int argc, char **argv);
int cli_stats(int argc, char **argv);
int cli_reload(int argc, char **argv);
int cli_shutdown(int argc, char **argv);
int cli_query(int argc, char **argv);
int cli_explain(int argc, char **argv);

#endif
