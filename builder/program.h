/* What the verbs of fathom-build share. */
#ifndef BUILDER_PROGRAM_H
#define BUILDER_PROGRAM_H

#include "builder.h"
#include "tool.h"

#define PROGRAM "fathom-build"

/* Signals stop, progress (which may be NULL) shows, notes go to stderr. */
struct build_watch program_watch(struct tool_progress *progress);
/* As many as this process may run on. */
unsigned program_threads(void);

/* The verb of main_points.c. */
int verb_points(int argc, char **argv);

#endif
