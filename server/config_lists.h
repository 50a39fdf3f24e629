/* What config.c adds to the lists of a configuration, and takes from them. Adding returns 0,
 * FATHOM_EARGUMENT for a value that is wrong or given twice, FATHOM_ELIMIT when a list is full, or
 * -ENOMEM. */
#ifndef SERVER_CONFIG_LISTS_H
#define SERVER_CONFIG_LISTS_H

#include <stddef.h>

#include "config.h"

/* A copy of size bytes and a NUL in place of what was there. 0 or -ENOMEM. */
int config_copy_text(char **out, const char *text, size_t size,
                     struct fathom_error *err) FATHOM_MUST_USE;
/* "NAME=DIR" */
int config_add_index(struct config *config, const char *value,
                     struct fathom_error *err) FATHOM_MUST_USE;
void config_clear_indexes(struct config *config);
/* "HOST:PORT" or "unix:PATH" */
int config_add_listen(struct config *config, const char *value,
                      struct fathom_error *err) FATHOM_MUST_USE;
void config_clear_listens(struct config *config);
/* "R" or "NAME=R" */
int config_add_recall(struct config *config, const char *value,
                      struct fathom_error *err) FATHOM_MUST_USE;
void config_clear_recalls(struct config *config);

#endif
