/* fathom-cli: asks a running fathom-server. */
#include "cli.h"

static const struct tool_verb verbs[] = {
    {"ping", "is the server there, and how long does an answer take", cli_ping},
    {"info", "what the server serves, and how", cli_info},
    {"query", "search for the vectors of a file", cli_query},
    {"explain", "search for one vector and tell what that took", cli_explain},
    {"stats", "what the server has counted since its start", cli_stats},
    {"reload", "open the newest generation of an index in place of the old one", cli_reload},
    {"shutdown", "let the server finish what it is doing, and end", cli_shutdown},
    {0},
};

int main(int argc, char **argv)
{
    return tool_main(argc, argv, "Ask a running fathom-server.", verbs);
}
