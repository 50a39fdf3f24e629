/* Filling struct fathom_client_error. Never prints. */
#ifndef CLIENT_ERROR_H
#define CLIENT_ERROR_H

#include "fathom/client.h"

/* Stores code, the stable name that stands for it and the message in err (which may be NULL);
 * returns code. */
int client_error_set(struct fathom_client_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Copies from (which may be NULL) to err (which may be NULL); returns its code. */
int client_error_copy(struct fathom_client_error *err, const struct fathom_client_error *from);

#endif
