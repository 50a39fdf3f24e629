/* One build at a time in a directory. */
#ifndef BUILDER_LOCK_H
#define BUILDER_LOCK_H

#include "env.h"

/* Makes the directory if it is missing and locks it. Returns an fd to give to file_close, or a
 * negative code (-EBUSY when another build has it; what the system says when an index could not be
 * published there, which hours later would be too late to learn). The system drops the lock when
 * the process ends, however it ends. */
int lock_directory(const struct env *env, const char *dir,
                   struct fathom_error *err) FATHOM_MUST_USE;
/* The same for a directory that must be there already. */
int lock_present(const struct env *env, const char *dir, struct fathom_error *err) FATHOM_MUST_USE;

#endif
