/* One table of settings; every source of values ends in apply(). */
#include "config.h"
#include "config_lists.h"

#include "env.h"
#include "error.h"
#include "mem.h"
#include "protocol.h"
#include "tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum source { SOURCE_DEFAULT, SOURCE_FILE, SOURCE_ENVIRONMENT, SOURCE_FLAG };

static const char *const source_names[] = {"default", "file", "environment", "flag"};

enum kind {
    KIND_INDEX,
    KIND_LISTEN,
    KIND_TEXT,
    KIND_COUNT,
    KIND_BYTES,
    KIND_BUDGET,
    KIND_RECALL,
    KIND_TIME,
    KIND_CHOICE
};

struct setting {
    const char *name;
    enum kind kind;
    size_t offset;        /* in struct config */
    const char *preset;   /* the default; NULL: none */
    uint64_t min, max;    /* of counts, bytes, nanoseconds */
    const char *choices;  /* "auto uring pread": the value is the place in the list */
    const char *argument; /* in --help */
    const char *help;
};

#define AT(member) offsetof(struct config, member)
#define SECOND     1000000000ull
#define KIB        1024ull
#define MIB        (1024 * KIB)

static const struct setting settings[] = {
    {"index", KIND_INDEX, AT(indexes), NULL, 0, 0, NULL, "NAME=DIR",
     "Serve the index in DIR as NAME (repeatable)"},
    {"listen", KIND_LISTEN, AT(listens), PROTOCOL_DEFAULT_LISTEN, 0, 0, NULL, "ADDR",
     "Address to serve on: HOST:PORT or unix:PATH (repeatable; port 0 takes a free one)"},
    {"http", KIND_TEXT, AT(http), PROTOCOL_DEFAULT_HTTP, 0, 0, NULL, "HOST:PORT",
     "Address of the admin port (health, metrics, JSON search), or off"},
    {"dram-budget", KIND_BUDGET, AT(dram_budget), "0", 0, 0, NULL, "SIZE|SHARE%",
     "Bound of memory for all indexes together, or for each this share of its vectors as f32 (0: "
     "none)"},
    {"plan-recall", KIND_RECALL, AT(recalls), NULL, 0, 0, NULL, "[NAME=]R",
     "Target recall that queries will ask for, of every index or of one: what is kept in memory is "
     "then the cheapest for it (repeatable; otherwise what reaches most)"},
    {"workers", KIND_COUNT, AT(workers), "0", 0, 256, NULL, "N", "Event loops (0: one per CPU)"},
    {"inflight", KIND_COUNT, AT(inflight), "0", 0, 256, NULL, "N",
     "Queries in flight per worker (0: 16, or fewer where a small budget is better spent "
     "otherwise)"},
    {"urgency", KIND_CHOICE, AT(urgency), "slice", 0, 0, "normal slice realtime", "URGENCY",
     "How soon a worker that wakes up gets a CPU: normal, slice, or realtime (needs rights)"},
    {"max-queue", KIND_COUNT, AT(max_queue), "1024", 1, 1000000, NULL, "N",
     "Queries that may wait per worker; more are refused"},
    {"max-connections", KIND_COUNT, AT(max_connections), "10000", 1, 1000000, NULL, "N",
     "Most connections, of all workers together"},
    {"max-message-bytes", KIND_BYTES, AT(max_message_bytes), "16MiB", PROTOCOL_MESSAGE_BYTES_MIN,
     PROTOCOL_MESSAGE_BYTES_MAX, NULL, "SIZE", "Longest message, in either direction"},
    {"connection-memory", KIND_BYTES, AT(connection_memory_bytes), "512MiB", MIB, UINT64_MAX / 4,
     NULL, "SIZE",
     "Most memory for unfinished requests and unread replies, of all connections together"},
    {"navigator", KIND_CHOICE, AT(navigator), "auto", 0, 0, "auto graph cells", "NAVIGATOR",
     "How candidates are found, in every index: graph, cells, or auto (by budget and data)"},
    {"io", KIND_CHOICE, AT(io), "auto", 0, 0, "auto uring pread", "ENGINE",
     "How to read: auto (io_uring, or pread where that is refused), uring or pread"},
    {"token-file", KIND_TEXT, AT(token_file), NULL, 0, 0, NULL, "FILE",
     "Clients must send the token in this file with hello"},
    {"drain-timeout", KIND_TIME, AT(drain_ns), "10s", 0, 3600 * SECOND, NULL, "TIME",
     "How long requests in flight may take after SIGTERM"},
    {"first-byte-timeout", KIND_TIME, AT(first_byte_ns), "2s", 1000000, 3600 * SECOND, NULL, "TIME",
     "How long a new connection may take to send its first byte"},
    {"message-timeout", KIND_TIME, AT(message_ns), "10s", 1000000, 3600 * SECOND, NULL, "TIME",
     "How long a message may take from its first byte to its last, and a reply may wait to be "
     "read"},
    {"idle-timeout", KIND_TIME, AT(idle_ns), "300s", 1000000, 86400 * SECOND, NULL, "TIME",
     "How long a connection may be idle between messages"},
    {"log-format", KIND_CHOICE, AT(log_format), "text", 0, 0, "text json", "FORMAT",
     "text or json"},
    {"log-level", KIND_CHOICE, AT(log_level), "info", 0, 0, "debug info warn error", "LEVEL",
     "debug, info, warn or error"},
    {"config", KIND_TEXT, AT(config_file), NULL, 0, 0, NULL, "FILE",
     "File with lines of `key = value`; keys are named like the flags"},
};
#define SETTINGS (sizeof settings / sizeof settings[0])
_Static_assert(PROTOCOL_MESSAGE_BYTES_DEFAULT == 16 * MIB, "the table says so in text");
_Static_assert(SETTINGS <= sizeof(((struct config *)0)->sources), "a source for each setting");

/* ---- values ---- */

/* As it is written in a configuration: "64", "10 s", "16 MiB". */
static char *format_number(const struct setting *setting, uint64_t number, char out[32])
{
    if (setting->kind == KIND_TIME)
        return tool_format_duration_ns(number, out);
    if (setting->kind != KIND_COUNT)
        return tool_format_bytes(number, out);
    snprintf(out, 32, "%llu", (unsigned long long)number);
    return out;
}

static int parse_number(const struct setting *setting, const char *value, uint64_t *out,
                        struct fathom_error *err)
{
    uint64_t number = 0;
    char min[32], max[32];
    bool ok;
    const char *what;
    if (setting->kind == KIND_BYTES) {
        ok = tool_parse_bytes(value, &number);
        what = "a size like 4096, 64MiB or 1.5GiB";
    } else if (setting->kind == KIND_TIME) {
        ok = tool_parse_duration_ns(value, &number);
        what = "a time like 250us, 5ms or 2s";
    } else {
        ok = tool_parse_u64(value, 0, UINT64_MAX, &number);
        what = "a whole number";
    }
    if (!ok)
        return error_set(err, FATHOM_EARGUMENT, "'%s' is not %s", value, what);
    if (number < setting->min || number > setting->max)
        return error_set(err, FATHOM_EARGUMENT, "'%s' is out of range (%s to %s)", value,
                         format_number(setting, setting->min, min),
                         format_number(setting, setting->max, max));
    *out = number;
    return 0;
}

static int parse_budget(const char *value, struct config_budget *out, struct fathom_error *err)
{
    struct tool_budget budget;
    if (!tool_parse_budget(value, &budget))
        return error_set(err, FATHOM_EARGUMENT, "'%s' is no budget like " TOOL_BUDGET_FORM, value);
    *out = (struct config_budget){.bytes = budget.bytes, .share = budget.share};
    return 0;
}

/* The enums of the choices all start at 0 in the order of the list. */
static int parse_choice(const struct setting *setting, const char *value, int *out,
                        struct fathom_error *err)
{
    *out = tool_parse_choice(value, setting->choices);
    if (*out >= 0)
        return 0;
    return error_set(err, FATHOM_EARGUMENT, "'%s' is none of: %s", value, setting->choices);
}

/* A repeatable setting of a stronger source replaces the whole list of the weaker one. */
static int apply(struct config *config, unsigned place, const char *value, enum source source,
                 struct fathom_error *err)
{
    const struct setting *setting = &settings[place];
    void *at = (char *)config + setting->offset;
    bool first = config->sources[place] != source;
    config->sources[place] = (uint8_t)source;
    switch (setting->kind) {
    case KIND_INDEX:
        if (first)
            config_clear_indexes(config);
        return config_add_index(config, value, err);
    case KIND_LISTEN:
        if (first)
            config_clear_listens(config);
        return config_add_listen(config, value, err);
    case KIND_RECALL:
        if (first)
            config_clear_recalls(config);
        return config_add_recall(config, value, err);
    case KIND_TEXT:
        return config_copy_text(at, value, strlen(value), err);
    case KIND_CHOICE: {
        int choice = 0;
        int rc = parse_choice(setting, value, &choice, err);
        memcpy(at, &choice, sizeof choice);
        return rc;
    }
    case KIND_BUDGET:
        return parse_budget(value, at, err);
    default:
        return parse_number(setting, value, at, err);
    }
}

int config_init(struct config *config)
{
    memset(config, 0, sizeof *config);
    for (unsigned i = 0; i < SETTINGS; i++) {
        config->sources[i] = UINT8_MAX;
        struct fathom_error err;
        int rc =
            settings[i].preset ? apply(config, i, settings[i].preset, SOURCE_DEFAULT, &err) : 0;
        config->sources[i] = SOURCE_DEFAULT;
        if (rc < 0)
            return rc;
    }
    return 0;
}

void config_fini(struct config *config)
{
    config_clear_indexes(config);
    config_clear_listens(config);
    config_clear_recalls(config);
    mem_free(config->http);
    mem_free(config->config_file);
    mem_free(config->token_file);
    memset(config, 0, sizeof *config);
}

static int find_setting(const char *name, size_t size)
{
    for (unsigned i = 0; i < SETTINGS; i++) {
        if (strlen(settings[i].name) == size && memcmp(settings[i].name, name, size) == 0)
            return (int)i;
    }
    return -1;
}

static bool is_repeatable(const struct setting *setting)
{
    return setting->kind == KIND_INDEX || setting->kind == KIND_LISTEN ||
           setting->kind == KIND_RECALL;
}

/* ---- the file ---- */

static char *trim(char *text)
{
    while (*text == ' ' || *text == '\t')
        text++;
    size_t size = strlen(text);
    while (size > 0 && strchr(" \t\r", text[size - 1]))
        text[--size] = '\0';
    return text;
}

/* Keys are written with "-"; variables of the environment are not. */
static int refuse_key(char *key, struct fathom_error *err)
{
    char given[64];
    snprintf(given, sizeof given, "%s", key);
    for (char *at = key; *at; at++)
        *at = *at == '_' ? '-' : *at;
    if (find_setting(key, strlen(key)) >= 0)
        return error_set(err, FATHOM_EARGUMENT, "there is no setting '%s'; did you mean '%s'?",
                         given, key);
    return error_set(err, FATHOM_EARGUMENT,
                     "there is no setting '%s'; fathom-server --help lists them", given);
}

static int apply_line(struct config *config, char *line, uint32_t *seen, struct fathom_error *err)
{
    char *equals = strchr(line, '=');
    if (!equals)
        return error_set(err, FATHOM_EARGUMENT, "'%s' is not `key = value`", line);
    *equals = '\0';
    char *key = trim(line), *value = trim(equals + 1);
    int place = find_setting(key, strlen(key));
    if (place < 0)
        return refuse_key(key, err);
    if (strcmp(key, "config") == 0)
        return error_set(err, FATHOM_EARGUMENT, "config: a file cannot name another one");
    if (!is_repeatable(&settings[place]) && *seen & 1u << place)
        return error_set(err, FATHOM_EARGUMENT, "%s: is given twice", key);
    *seen |= 1u << place;
    struct fathom_error inner = {.msg = ""};
    int rc = apply(config, (unsigned)place, value, SOURCE_FILE, &inner);
    return rc < 0 ? error_set(err, rc, "%s: %.400s", key, inner.msg) : 0;
}

int config_load_text(struct config *config, const char *text, const char *path,
                     struct fathom_error *err)
{
    uint32_t seen = 0;
    for (unsigned number = 1; *text; number++) {
        char line[4096];
        size_t size = strcspn(text, "\n");
        struct fathom_error inner = {.msg = ""};
        int rc = 0;
        if (size >= sizeof line) {
            rc = error_set(&inner, FATHOM_ELIMIT, "a line of more than %zu bytes", sizeof line - 1);
        } else {
            memcpy(line, text, size);
            line[size] = '\0';
            char *content = trim(line);
            if (*content && *content != '#')
                rc = apply_line(config, content, &seen, &inner);
        }
        if (rc < 0)
            return error_set(err, rc, "%s:%u: %.460s", path, number, inner.msg);
        text += size + (text[size] == '\n');
    }
    return 0;
}

static int load_file(struct config *config, const char *path, struct fathom_error *err)
{
    const struct env *env = env_os();
    uint64_t bytes;
    char *text = NULL;
    int fd = file_open_read(env, path, false, NULL, err);
    if (fd < 0)
        return fd;
    int rc = file_bytes(env, fd, path, &bytes, err);
    if (rc == 0 && bytes > MIB)
        rc = error_set(err, FATHOM_ELIMIT, "%s: more than 1 MiB", path);
    if (rc == 0 && !(text = mem_alloc(bytes + 1)))
        rc = error_set(err, -ENOMEM, "no memory for %s", path);
    if (rc == 0)
        rc = file_read_full(env, fd, path, text, bytes, 0, err);
    if (rc == 0 && strlen(text) != bytes)
        rc = error_set(err, FATHOM_EINPUT, "%s: holds a zero byte; a text file is expected", path);
    if (rc == 0)
        rc = config_load_text(config, text, path, err);
    mem_free(text);
    file_close(env, fd);
    return rc;
}

/* ---- the environment ---- */

/* FATHOM_DRAM_BUDGET -> its place; -1 for a variable that is none of ours. */
static int find_variable(const char *name, size_t size)
{
    char flag[64];
    if (size < 8 || size - 7 >= sizeof flag || memcmp(name, "FATHOM_", 7) != 0)
        return -1;
    for (size_t i = 7; i < size; i++) {
        char c = name[i];
        flag[i - 7] = c == '_' ? '-' : c >= 'A' && c <= 'Z' ? (char)(c + 32) : '?';
    }
    return find_setting(flag, size - 7);
}

/* Repeatable settings are separated by commas here. */
static int apply_list(struct config *config, unsigned place, const char *value,
                      struct fathom_error *err)
{
    char item[4096];
    for (;;) {
        size_t size = strcspn(value, ",");
        if (size >= sizeof item)
            return error_set(err, FATHOM_ELIMIT, "an item of more than %zu bytes", sizeof item - 1);
        memcpy(item, value, size);
        item[size] = '\0';
        int rc = apply(config, place, item, SOURCE_ENVIRONMENT, err);
        if (rc < 0 || !value[size])
            return rc;
        value += size + 1;
    }
}

/* A setting that is spelt wrong should not pass in silence. Not an error: other programs have
 * variables of this form too (Kubernetes makes some of the name of a service). */
static void note_ignored(struct config *config, const char *name, size_t size)
{
    static const char *const of_others[] = {"FATHOM_CPU_MAX", "FATHOM_SERVER", "FATHOM_TOKEN"};
    size_t used = strlen(config->ignored);
    if (size < 7 || memcmp(name, "FATHOM_", 7) != 0)
        return;
    for (size_t i = 0; i < sizeof of_others / sizeof *of_others; i++) {
        if (strlen(of_others[i]) == size && memcmp(of_others[i], name, size) == 0)
            return;
    }
    snprintf(config->ignored + used, sizeof config->ignored - used, "%s%.*s", used ? ", " : "",
             (int)(size < 64 ? size : 64), name);
}

int config_load_environment(struct config *config, char **environment, struct fathom_error *err)
{
    for (; *environment; environment++) {
        const char *equals = strchr(*environment, '=');
        size_t size = equals ? (size_t)(equals - *environment) : 0;
        int place = find_variable(*environment, size);
        if (place < 0) {
            note_ignored(config, *environment, size);
            continue;
        }
        bool list = is_repeatable(&settings[place]);
        struct fathom_error inner = {.msg = ""};
        int rc = list ? apply_list(config, (unsigned)place, equals + 1, &inner)
                      : apply(config, (unsigned)place, equals + 1, SOURCE_ENVIRONMENT, &inner);
        if (rc < 0)
            return error_set(err, rc, "%.*s: %.400s", (int)size, *environment, inner.msg);
    }
    return 0;
}

/* ---- flags ---- */

#define FLAG_KEY  0x1000 /* argp keys from here on: no short options */
#define FLAGS_MAX 256
#define HELP_MAX  256 /* bytes of what --help tells of a setting */

/* Flags are gathered first, because the file that one of them names is weaker than all of them. */
struct flags {
    struct {
        unsigned place;
        const char *value;
    } given[FLAGS_MAX];
    unsigned count;
};

static error_t gather_flag(int key, char *arg, struct argp_state *state)
{
    struct flags *flags = state->input;
    if (key < FLAG_KEY || key >= FLAG_KEY + (int)SETTINGS)
        return ARGP_ERR_UNKNOWN;
    if (flags->count == FLAGS_MAX) {
        argp_error(state, "more than %d flags", FLAGS_MAX);
        return EINVAL;
    }
    flags->given[flags->count].place = (unsigned)(key - FLAG_KEY);
    flags->given[flags->count++].value = arg;
    return 0;
}

/* A 0 has a meaning of its own, which the help tells. */
static void describe(const struct setting *setting, char doc[HELP_MAX])
{
    bool shown = setting->preset && strcmp(setting->preset, "0") != 0;
    snprintf(doc, HELP_MAX, "%s%s%s", setting->help, shown ? "; default " : "",
             shown ? setting->preset : "");
}

static int gather_flags(struct flags *flags, int argc, char **argv)
{
    struct argp_option options[SETTINGS + 1] = {0};
    char docs[SETTINGS][HELP_MAX];
    for (unsigned i = 0; i < SETTINGS; i++) {
        describe(&settings[i], docs[i]);
        options[i] = (struct argp_option){.name = settings[i].name,
                                          .key = FLAG_KEY + (int)i,
                                          .arg = settings[i].argument,
                                          .doc = docs[i]};
    }
    const struct argp argp = {
        .options = options,
        .parser = gather_flag,
        .doc = "Serves vector indexes over MessagePack-RPC; runs in the foreground.\v"
               "Every flag is also FATHOM_FLAG_NAME in the environment and a key of the file that "
               "--config names; flags win over the environment, that over the file. SIGHUP reloads "
               "all indexes, SIGTERM ends after the requests in flight.\n"
               "Exit codes: 0 ended as asked, 2 usage, 3 I/O (an address in use, too), 4 corrupt "
               "index, 5 incompatible format."};
    return tool_parse(&argp, argc, argv, flags);
}

static int apply_flags(struct config *config, const struct flags *flags, struct fathom_error *err)
{
    for (unsigned i = 0; i < flags->count; i++) {
        struct fathom_error inner = {.msg = ""};
        unsigned place = flags->given[i].place;
        int rc = apply(config, place, flags->given[i].value, SOURCE_FLAG, &inner);
        if (rc < 0)
            return error_set(err, rc, "--%s: %.400s", settings[place].name, inner.msg);
    }
    return 0;
}

/* The file is named by a flag or by the environment. */
static const char *config_path(const struct flags *flags, char **environment)
{
    const char *path = NULL;
    for (; *environment; environment++) {
        if (strncmp(*environment, "FATHOM_CONFIG=", 14) == 0)
            path = *environment + 14;
    }
    for (unsigned i = 0; i < flags->count; i++) {
        if (strcmp(settings[flags->given[i].place].name, "config") == 0)
            path = flags->given[i].value;
    }
    return path;
}

/* ---- all of it ---- */

int config_load(struct config *config, int argc, char **argv, char **environment)
{
    struct fathom_error err = {.msg = ""};
    struct flags flags = {.count = 0};
    int status = gather_flags(&flags, argc, argv);
    if (status != TOOL_EXIT_OK)
        return status;
    const char *path = config_path(&flags, environment);
    int rc = path ? load_file(config, path, &err) : 0;
    if (rc == 0)
        rc = config_load_environment(config, environment, &err);
    if (rc == 0)
        rc = apply_flags(config, &flags, &err);
    if (rc == 0)
        rc = config_check(config, &err);
    if (rc == 0 && config->workers == 0)
        config->workers = env_cpu_count();
    if (rc == 0)
        return TOOL_EXIT_OK;
    fprintf(stderr, "fathom-server: %s\n", err.msg);
    return rc <= FATHOM_ECORRUPT ? TOOL_EXIT_USAGE : TOOL_EXIT_IO;
}

/* The value of a setting that has one, as --help would have it. */
static void format_value(const struct setting *setting, const void *at, char *out, size_t bytes)
{
    const struct config_budget *budget = at;
    const uint64_t *number = at;
    char *const *text = at;
    const char *word = setting->choices;
    char formatted[32];
    int choice;
    switch (setting->kind) {
    case KIND_TEXT:
        snprintf(out, bytes, "%s", *text ? *text : "");
        return;
    case KIND_CHOICE:
        for (memcpy(&choice, at, sizeof choice); choice > 0; choice--)
            word = strchr(word, ' ') + 1;
        snprintf(out, bytes, "%.*s", (int)strcspn(word, " "), word);
        return;
    case KIND_BUDGET:
        if (budget->share > 0)
            snprintf(out, bytes, "%g%%", budget->share * 100);
        else
            snprintf(out, bytes, "%s", tool_format_bytes(budget->bytes, formatted));
        return;
    default:
        snprintf(out, bytes, "%s", format_number(setting, *number, formatted));
    }
}

static void log_setting(const struct config *config, unsigned place, struct log *log)
{
    const struct setting *setting = &settings[place];
    const char *source = source_names[config->sources[place]];
    char value[1024];
    switch (setting->kind) {
    case KIND_INDEX:
        for (unsigned i = 0; i < config->index_count; i++)
            log_line(log, LOG_LEVEL_INFO, "config: index = %s=%s (%s)", config->indexes[i].name,
                     config->indexes[i].dir, source);
        return;
    case KIND_RECALL:
        for (unsigned i = 0; i < config->recall_count; i++)
            log_line(log, LOG_LEVEL_INFO, "config: plan-recall = %g of %s (%s)",
                     (double)config->recalls[i].recall,
                     config->recalls[i].index ? config->recalls[i].index : "all", source);
        return;
    case KIND_LISTEN:
        for (unsigned i = 0; i < config->listen_count; i++)
            log_line(log, LOG_LEVEL_INFO, "config: listen = %s (%s)", config->listens[i], source);
        return;
    default:
        format_value(setting, (const char *)config + setting->offset, value, sizeof value);
        log_line(log, LOG_LEVEL_INFO, "config: %s = %s (%s)", setting->name, value, source);
    }
}

void config_log(const struct config *config, struct log *log)
{
    for (unsigned i = 0; i < SETTINGS; i++)
        log_setting(config, i, log);
    if (config->ignored[0])
        log_line(log, LOG_LEVEL_WARN, "config: no setting of this server, and ignored: %s",
                 config->ignored);
}
