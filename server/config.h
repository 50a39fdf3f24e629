/* The server's settings. Every one has a flag (--dram-budget), an environment variable
 * (FATHOM_DRAM_BUDGET) and a key of the configuration file (dram-budget = 1GiB); a flag wins over
 * the environment, that over the file, that over the default. One table in config.c knows them all.
 */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include "log.h"

#include "fathom/fathom.h"

#define CONFIG_INDEXES_MAX 64
#define CONFIG_LISTENS_MAX 16

struct config_index {
    char *name, *dir;
};

/* Bytes of all indexes together, 0: none; or, where share is above 0, that part of the vectors of
 * each index as f32. */
struct config_budget {
    uint64_t bytes;
    double share;
};

/* The recall that the plan of an index is for. */
struct config_recall {
    char *index; /* NULL: of all that have none of their own */
    float recall;
};

struct config {
    struct config_index indexes[CONFIG_INDEXES_MAX];
    unsigned index_count;
    char *listens[CONFIG_LISTENS_MAX];
    unsigned listen_count;
    struct config_recall recalls[CONFIG_INDEXES_MAX];
    unsigned recall_count;
    char *http; /* HOST:PORT, or "off" */
    char *config_file, *token_file;
    enum fathom_navigator navigator;
    enum fathom_io io;
    int urgency; /* enum env_urgency, whose header is not for all who include this one */
    enum log_format log_format;
    enum log_level log_level;
    struct config_budget dram_budget;
    uint64_t workers, inflight, max_queue, max_connections;
    uint64_t max_message_bytes, connection_memory_bytes;
    uint64_t drain_ns, first_byte_ns, message_ns, idle_ns;
    char ignored[256];   /* variables like FATHOM_X that are no setting, for the log; "": none */
    uint8_t sources[32]; /* private: where each setting came from, by its place in the table */
};

/* Zeroes config and fills in the defaults; 0 or -ENOMEM. */
int config_init(struct config *config) FATHOM_MUST_USE;
void config_fini(struct config *config);
/* Defaults, file, environment (of the form NAME=value), flags. What is wrong is said on stderr by
 * flag, variable or file and line. Returns an exit code: 0, or 2 (usage), 3 (I/O). --help and
 * --version end the process, as in every program. */
int config_load(struct config *config, int argc, char **argv, char **environment);
/* The parts of config_load, each over what is there already. */
int config_load_text(struct config *config, const char *text, const char *path,
                     struct fathom_error *err) FATHOM_MUST_USE;
int config_load_environment(struct config *config, char **environment,
                            struct fathom_error *err) FATHOM_MUST_USE;
/* What only shows at the end: that there is an index, that no two have the same name. */
int config_check(const struct config *config, struct fathom_error *err) FATHOM_MUST_USE;
/* Of the index of this name; 0: none. */
float config_plan_recall(const struct config *config, const char *index);
/* One line per setting, with its source. */
void config_log(const struct config *config, struct log *log);

#endif
