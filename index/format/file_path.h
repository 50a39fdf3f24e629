/* Paths of index files; shared by reader and writer. */
#ifndef FORMAT_FILE_PATH_H
#define FORMAT_FILE_PATH_H

#include "format.h"

/* "dir/name"; NULL when there is no memory. Free with mem_free. */
char *path_join(const char *dir, const char *name);
/* index_file_open for a file of any name: the writer reads its own back before it publishes. */
int index_file_open_path(struct index_file *file, const struct env *env, const char *path,
                         struct fathom_error *err) FATHOM_MUST_USE;
/* The same through the page cache. */
int index_file_open_cached(struct index_file *file, const struct env *env, const char *path,
                           struct fathom_error *err) FATHOM_MUST_USE;
/* Checks every page of an open file, and with deep every reference in it (verify.c). */
int index_file_verify(const struct index_file *file, bool deep, struct fathom_verify_report *report,
                      void (*damage)(void *context, const char *what), void *context,
                      const struct format_stop *stop, struct fathom_error *err) FATHOM_MUST_USE;

#endif
