/* The server as a whole: threads, signals, and the order in which things start and end. */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "config.h"

/* Runs until SIGTERM, SIGINT or the shutdown method, and returns an exit code (tool.h). What fails
 * is said on stderr. */
int server_run(const struct config *config);

#endif
