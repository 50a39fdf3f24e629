/* What every fathom program shares: sizes and times on the command line, exit codes, progress, JSON
 * documents. The library itself never includes this; only main programs print. Arguments are parsed
 * with argp (glibc).
 *
 * Conventions: results on stdout, logs and progress on stderr; --json prints exactly one document
 * on stdout. */
#ifndef TOOL_TOOL_H
#define TOOL_TOOL_H

#include <argp.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "fathom/error.h"

enum tool_exit {
    TOOL_EXIT_OK = 0,
    TOOL_EXIT_CHECK_FAILED = 1,
    TOOL_EXIT_USAGE = 2,
    TOOL_EXIT_IO = 3,
    TOOL_EXIT_CORRUPT = 4,
    TOOL_EXIT_INCOMPATIBLE = 5,
    TOOL_EXIT_INTERRUPTED = 75,
};

/* A verb of a program ("fathom-data synth"). run gets argc/argv that start at the verb. */
struct tool_verb {
    const char *name;
    const char *summary; /* one line for the program's --help */
    int (*run)(int argc, char **argv);
};

/* Finds the verb in argv[1] and runs it; answers --help and --version; unknown verbs are usage
 * errors that name the nearest verb. verbs ends with a zeroed entry. Returns the exit code. */
int tool_main(int argc, char **argv, const char *about, const struct tool_verb *verbs);

/* argp_parse with our exit codes and --version; the program name shown is "fathom-data synth". */
int tool_parse(const struct argp *argp, int argc, char **argv, void *input);

/* "64MiB", "1.5 GiB", "4096" -> bytes; "250us", "5ms", "2s" -> nanoseconds. False when malformed or
 * out of range. */
bool tool_parse_bytes(const char *text, uint64_t *out);
/* A budget of memory: a size, or "5%" of something that is only known later. 0 bytes: none. */
struct tool_budget {
    uint64_t bytes;
    double share; /* 0: bytes counts */
};

#define TOOL_BUDGET_FORM "64MiB, 1.5GiB, or 5%% (of the vectors as f32)" /* of a format */

/* Above 100% is more than the vectors take. 0% is refused: no budget is 0. */
bool tool_parse_budget(const char *text, struct tool_budget *out);
bool tool_parse_duration_ns(const char *text, uint64_t *out);
bool tool_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out);
bool tool_parse_f64(const char *text, double min, double max, double *out);
/* The place of text among words ("auto json off"), or -1. */
int tool_parse_choice(const char *text, const char *words);
/* A recall as it was typed: a float has digits of its own behind the sixth. */
double tool_recall(float recall);
/* For use in an argp parser: parse or argp_error (exit 2) naming the option. */
uint64_t tool_arg_u64(struct argp_state *state, const char *option, const char *text, uint64_t min,
                      uint64_t max);
double tool_arg_f64(struct argp_state *state, const char *option, const char *text, double min,
                    double max);
uint64_t tool_arg_bytes(struct argp_state *state, const char *option, const char *text);
struct tool_budget tool_arg_budget(struct argp_state *state, const char *option, const char *text);
int tool_arg_choice(struct argp_state *state, const char *option, const char *text,
                    const char *words);

/* "1.50 GiB", "12.3 ms": into out, which is returned. */
char *tool_format_bytes(uint64_t bytes, char out[32]);
char *tool_format_duration_ns(uint64_t ns, char out[32]);
/* The ending of what is counted: "s", or "" for one. */
const char *tool_plural(uint64_t count);

/* The exit code for a library error; and the same after printing "program: message" on stderr. */
int tool_exit_code(int code);
int tool_fail(const char *program, const struct fathom_error *err);

/* A string of text that is not ours, such as a path: what is no UTF-8 in it is told as \xNN. */
json_t *tool_json_text(const char *text);

/* Prints the document to stdout with a newline and drops the reference. Returns an exit code. */
int tool_print_json(json_t *document);

/* SIGINT and SIGTERM set a flag that long work polls; a second one within it ends the process at
 * once. */
void tool_catch_signals(void);
bool tool_interrupted(void);

/* ---- progress ---- */

enum tool_progress_mode { TOOL_PROGRESS_AUTO, TOOL_PROGRESS_JSON, TOOL_PROGRESS_OFF };
#define TOOL_PROGRESS_WORDS "auto json off" /* in that order, for tool_arg_choice */

struct tool_progress; /* AUTO: a bar on a terminal for anything above a second, nothing on a pipe */

struct tool_progress *tool_progress_create(enum tool_progress_mode mode);
void tool_progress_destroy(struct tool_progress *progress);
/* Whether anybody will see it. */
bool tool_progress_shows(const struct tool_progress *progress);
/* A new phase of total units ("rows", "vectors"...); ends the one before. */
void tool_progress_phase(struct tool_progress *progress, const char *phase, uint64_t total,
                         const char *unit);
/* The phases there will be, in order, seconds that each is thought to take, and whether it waits
 * for a device (NULL: none does): what share of the whole is done and how long it still takes then
 * follows from these, and is corrected by what phases take that do not wait. Between updates, by
 * whoever begins phases; again when more is known. */
void tool_progress_expect(struct tool_progress *progress, const char *const *phases,
                          const double *seconds, const bool *waits, uint32_t count);
/* May be called from any thread, often: draws at most ten times a second. */
void tool_progress_update(struct tool_progress *progress, uint64_t done);
void tool_progress_finish(struct tool_progress *progress);

#endif
