/* Filling struct fathom_error. Never prints. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "fathom/error.h"

/* Stores code and message in err (which may be NULL) and returns code, so that a failing
 * function reads `return error_set(err, FATHOM_EDIM, "%s: ...", path);`. */
int error_set(struct fathom_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
