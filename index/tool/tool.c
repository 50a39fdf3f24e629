/* The frame round every program: verbs, arguments, exit codes, signals, JSON documents. */
#include "tool.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "mem.h"
#include "utf8.h"

#define VERB_MAX 32 /* characters of a verb that are compared */

/* ---- verbs ---- */

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned least = a < b ? a : b;
    return least < c ? least : c;
}

/* Edit distance, Levenshtein's, of two short words. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[VERB_MAX + 1];
    size_t rows = strlen(a), columns = strlen(b);
    if (rows > VERB_MAX || columns > VERB_MAX)
        return VERB_MAX;
    for (size_t j = 0; j <= columns; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= rows; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= columns; j++) {
            unsigned above = row[j];
            row[j] = min3(row[j - 1] + 1, above + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[columns];
}

/* The verb that was probably meant, or NULL when none is near. */
static const char *nearest_verb(const char *word, const struct tool_verb *verbs)
{
    const char *nearest = NULL;
    unsigned best = 3;
    for (; verbs->name; verbs++) {
        unsigned distance = edit_distance(word, verbs->name);
        if (distance < best) {
            best = distance;
            nearest = verbs->name;
        }
    }
    return nearest;
}

static void print_help(FILE *out, const char *program, const char *about,
                       const struct tool_verb *verbs)
{
    fprintf(out, "Usage: %s VERB [OPTION...]\n%s\n\nVerbs:\n", program, about);
    for (; verbs->name; verbs++)
        fprintf(out, "  %-10s %s\n", verbs->name, verbs->summary);
    fprintf(
        out,
        "\n`%s VERB --help` tells a verb's options; --version prints the version.\n"
        "Exit codes: 0 ok, 1 a check failed, 2 usage, 3 I/O, 4 corrupt, 5 incompatible format,\n"
        "75 interrupted and resumable.\n",
        program);
}

/* What a verb printed must have arrived: on a full disk it has not. A verb that failed so has said
 * it. */
static int end(const char *program, int code)
{
    if (code == TOOL_EXIT_IO || (!fflush(stdout) && !ferror(stdout)))
        return code;
    fprintf(stderr, "%s: the output cannot be written to stdout\n", program);
    return TOOL_EXIT_IO;
}

int tool_main(int argc, char **argv, const char *about, const struct tool_verb *verbs)
{
    const char *program = program_invocation_short_name;
    signal(SIGXFSZ, SIG_IGN); /* a write beyond `ulimit -f` is an error like a full disk */
    if (argc < 2) {
        print_help(stderr, program, about, verbs);
        return TOOL_EXIT_USAGE;
    }
    const char *word = argv[1];
    if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "-?") ||
        !strcmp(word, "help")) {
        print_help(stdout, program, about, verbs);
        return TOOL_EXIT_OK;
    }
    if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
        printf("%s %s\n", program, FATHOM_VERSION);
        return TOOL_EXIT_OK;
    }
    for (const struct tool_verb *verb = verbs; verb->name; verb++) {
        if (!strcmp(word, verb->name))
            return end(program, verb->run(argc - 1, argv + 1));
    }
    const char *nearest = nearest_verb(word, verbs);
    if (nearest)
        fprintf(stderr, "%s: there is no verb '%s'; did you mean '%s'?\n", program, word, nearest);
    else
        fprintf(stderr, "%s: there is no verb '%s'; `%s --help` lists them\n", program, word,
                program);
    return TOOL_EXIT_USAGE;
}

/* ---- arguments ---- */

static void print_version(FILE *out, struct argp_state *state)
{
    (void)state;
    fprintf(out, "%s %s\n", program_invocation_short_name, FATHOM_VERSION);
}

/* What every verb answers alike, when its own parser does not take it. */
static error_t parse_rest(int key, char *arg, struct argp_state *state)
{
    if (key == 'h')
        argp_state_help(state, state->out_stream, ARGP_HELP_STD_HELP);
    else if (key == ARGP_KEY_ARG)
        argp_error(state, "'%s' is one argument too many", arg);
    else
        return ARGP_ERR_UNKNOWN;
    return 0;
}

int tool_parse(const struct argp *argp, int argc, char **argv, void *input)
{
    static const struct argp_option rest_options[] = {{NULL, 'h', NULL, OPTION_HIDDEN, NULL, 0},
                                                      {0}};
    static const struct argp rest = {.options = rest_options, .parser = parse_rest};
    /* Asked in this order; input goes to the first. */
    const struct argp_child both[] = {{argp, 0, NULL, 0}, {&rest, 0, NULL, 0}, {0}};
    const struct argp whole = {.children = both};
    char name[256];
    const char *slash = strrchr(argv[0], '/'), *word = slash ? slash + 1 : argv[0];
    bool is_verb = strcmp(word, program_invocation_short_name) != 0;
    snprintf(name, sizeof name, is_verb ? "%s %s" : "%s", program_invocation_short_name, word);
    argp_err_exit_status = TOOL_EXIT_USAGE;
    argp_program_version_hook = print_version;
    char *given = argv[0];
    argv[0] = name; /* what argp and getopt put before their messages */
    error_t rc = argp_parse(&whole, argc, argv, 0, NULL, input);
    argv[0] = given;
    if (!rc)
        return TOOL_EXIT_OK;
    fprintf(stderr, "%s: %s\n", name, strerror(rc));
    return TOOL_EXIT_USAGE;
}

/* Options are named with or without their dashes by those who call. */
static const char *dashes(const char *option)
{
    return option[0] == '-' ? "" : "--";
}

uint64_t tool_arg_u64(struct argp_state *state, const char *option, const char *text, uint64_t min,
                      uint64_t max)
{
    uint64_t value = min;
    if (tool_parse_u64(text, min, max, &value))
        return value;
    if (max == UINT64_MAX)
        argp_error(state, "%s%s: '%s' is not a whole number from %llu on", dashes(option), option,
                   text, (unsigned long long)min);
    else
        argp_error(state, "%s%s: '%s' is not a whole number from %llu to %llu", dashes(option),
                   option, text, (unsigned long long)min, (unsigned long long)max);
    return value;
}

double tool_arg_f64(struct argp_state *state, const char *option, const char *text, double min,
                    double max)
{
    double value = min;
    if (!tool_parse_f64(text, min, max, &value))
        argp_error(state, "%s%s: '%s' is not a number from %g to %g", dashes(option), option, text,
                   min, max);
    return value;
}

uint64_t tool_arg_bytes(struct argp_state *state, const char *option, const char *text)
{
    uint64_t value = 0;
    if (!tool_parse_bytes(text, &value))
        argp_error(state, "%s%s: '%s' is not a size; write it like 4096, 64MiB or 1.5GiB",
                   dashes(option), option, text);
    return value;
}

struct tool_budget tool_arg_budget(struct argp_state *state, const char *option, const char *text)
{
    struct tool_budget value = {0};
    if (!tool_parse_budget(text, &value))
        argp_error(state, "%s%s: '%s' is no budget; write it like " TOOL_BUDGET_FORM,
                   dashes(option), option, text);
    return value;
}

int tool_arg_choice(struct argp_state *state, const char *option, const char *text,
                    const char *words)
{
    int place = tool_parse_choice(text, words);
    if (place < 0)
        argp_error(state, "%s%s: '%s' is none of: %s", dashes(option), option, text, words);
    return place;
}

/* ---- how a program ends ---- */

int tool_exit_code(int code)
{
    switch (code) {
    case 0:
        return TOOL_EXIT_OK;
    case FATHOM_ECORRUPT:
    case FATHOM_ECHECKSUM:
    case FATHOM_EINPUT:
        return TOOL_EXIT_CORRUPT;
    case FATHOM_EVERSION:
        return TOOL_EXIT_INCOMPATIBLE;
    case FATHOM_EINTERRUPTED:
        return TOOL_EXIT_INTERRUPTED;
    case FATHOM_EDIM:
    case FATHOM_ELIMIT:
    case FATHOM_EARGUMENT:
    case FATHOM_EBUDGET:
        return TOOL_EXIT_USAGE;
    default:
        return TOOL_EXIT_IO;
    }
}

int tool_fail(const char *program, const struct fathom_error *err)
{
    fprintf(stderr, "%s: %s\n", program, err->msg[0] ? err->msg : fathom_strerror(err->code));
    return tool_exit_code(err->code);
}

json_t *tool_json_text(const char *text)
{
    char escaped[UTF8_ESCAPED_BYTES(PATH_MAX)];
    return json_string(utf8_escape(escaped, sizeof escaped, text));
}

int tool_print_json(json_t *document)
{
    bool printed =
        document && !json_dumpf(document, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    json_decref(document);
    if (printed && putchar('\n') == '\n' && !fflush(stdout))
        return TOOL_EXIT_OK;
    fprintf(stderr, "%s: the JSON document cannot be written to stdout\n",
            program_invocation_short_name);
    return TOOL_EXIT_IO;
}

/* ---- signals ---- */

/* The one way in which a signal can reach a loop. */
static volatile sig_atomic_t signal_seen;

static void on_signal(int number)
{
    if (signal_seen)
        _exit(128 + number);
    signal_seen = number;
}

void tool_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool tool_interrupted(void)
{
    return signal_seen != 0;
}
