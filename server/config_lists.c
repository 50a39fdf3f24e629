/* The lists of a configuration: indexes, addresses, and recalls that plans are for. Each value is
 * checked as it comes; whether they fit together, when all have come. Knows no sources. */
#include "config_lists.h"

#include "error.h"
#include "mem.h"
#include "protocol.h"
#include "tool.h"

#include <errno.h>
#include <string.h>

int config_copy_text(char **out, const char *text, size_t size, struct fathom_error *err)
{
    char *copy = mem_alloc(size + 1);
    if (!copy)
        return error_set(err, -ENOMEM, "no memory for the configuration");
    memcpy(copy, text, size);
    mem_free(*out);
    *out = copy;
    return 0;
}

void config_clear_indexes(struct config *config)
{
    for (unsigned i = 0; i < config->index_count; i++) {
        mem_free(config->indexes[i].name);
        mem_free(config->indexes[i].dir);
    }
    memset(config->indexes, 0, sizeof config->indexes);
    config->index_count = 0;
}

void config_clear_recalls(struct config *config)
{
    for (unsigned i = 0; i < config->recall_count; i++)
        mem_free(config->recalls[i].index);
    memset(config->recalls, 0, sizeof config->recalls);
    config->recall_count = 0;
}

void config_clear_listens(struct config *config)
{
    for (unsigned i = 0; i < config->listen_count; i++)
        mem_free(config->listens[i]);
    memset(config->listens, 0, sizeof config->listens);
    config->listen_count = 0;
}

static bool is_name(const char *text, size_t size)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    if (size == 0 || size > PROTOCOL_NAME_BYTES_MAX)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (!strchr(allowed, text[i]))
            return false;
    }
    return true;
}

int config_add_index(struct config *config, const char *value, struct fathom_error *err)
{
    const char *equals = strchr(value, '=');
    if (!equals || !equals[1] || !is_name(value, (size_t)(equals - value)))
        return error_set(err, FATHOM_EARGUMENT,
                         "'%s' is not NAME=DIR (a name has up to %d letters, digits and ._-)",
                         value, PROTOCOL_NAME_BYTES_MAX);
    if (config->index_count == CONFIG_INDEXES_MAX)
        return error_set(err, FATHOM_ELIMIT, "more than %d indexes", CONFIG_INDEXES_MAX);
    struct config_index *index = &config->indexes[config->index_count++];
    int rc = config_copy_text(&index->name, value, (size_t)(equals - value), err);
    return rc < 0 ? rc : config_copy_text(&index->dir, equals + 1, strlen(equals + 1), err);
}

int config_add_listen(struct config *config, const char *value, struct fathom_error *err)
{
    if (config->listen_count == CONFIG_LISTENS_MAX)
        return error_set(err, FATHOM_ELIMIT, "more than %d addresses", CONFIG_LISTENS_MAX);
    return config_copy_text(&config->listens[config->listen_count++], value, strlen(value), err);
}

/* "0.95" of every index, "NAME=0.95" of one. */
int config_add_recall(struct config *config, const char *value, struct fathom_error *err)
{
    const char *equals = strchr(value, '=');
    double recall;
    if ((equals && !is_name(value, (size_t)(equals - value))) ||
        !tool_parse_f64(equals ? equals + 1 : value, 0.01, 0.9999, &recall))
        return error_set(err, FATHOM_EARGUMENT, "'%s' is no recall like 0.95 or NAME=0.95", value);
    size_t size = equals ? (size_t)(equals - value) : 0;
    for (unsigned i = 0; i < config->recall_count; i++) {
        const char *other = config->recalls[i].index ? config->recalls[i].index : "";
        if (strlen(other) == size && memcmp(other, value, size) == 0)
            return error_set(err, FATHOM_EARGUMENT, "'%s' is the second for the same", value);
    }
    if (config->recall_count == CONFIG_INDEXES_MAX)
        return error_set(err, FATHOM_ELIMIT, "more than %d recalls", CONFIG_INDEXES_MAX);
    struct config_recall *out = &config->recalls[config->recall_count++];
    out->recall = (float)recall;
    return equals ? config_copy_text(&out->index, value, size, err) : 0;
}

static int check_recalls(const struct config *config, struct fathom_error *err)
{
    for (unsigned i = 0; i < config->recall_count; i++) {
        const char *name = config->recalls[i].index;
        unsigned j = 0;
        while (name && j < config->index_count && strcmp(config->indexes[j].name, name) != 0)
            j++;
        if (j == config->index_count)
            return error_set(err, FATHOM_EARGUMENT, "plan-recall: there is no index %s", name);
    }
    return 0;
}

int config_check(const struct config *config, struct fathom_error *err)
{
    if (config->index_count == 0)
        return error_set(err, FATHOM_EARGUMENT,
                         "there is no index to serve; name one with --index NAME=DIR");
    for (unsigned i = 0; i < config->index_count; i++) {
        for (unsigned j = 0; j < i; j++) {
            if (strcmp(config->indexes[i].name, config->indexes[j].name) == 0)
                return error_set(err, FATHOM_EARGUMENT, "index: two are named %s",
                                 config->indexes[i].name);
        }
    }
    return check_recalls(config, err);
}

float config_plan_recall(const struct config *config, const char *index)
{
    float of_all = 0;
    for (unsigned i = 0; i < config->recall_count; i++) {
        const struct config_recall *recall = &config->recalls[i];
        if (!recall->index)
            of_all = recall->recall;
        else if (strcmp(recall->index, index) == 0)
            return recall->recall;
    }
    return of_all;
}
