/* What the threads of one server share. Set up before the threads start; constant afterwards, but
 * for the atomics. */
#ifndef SERVER_SERVICE_H
#define SERVER_SERVICE_H

#include "config.h"
#include "conn.h"
#include "registry.h"
#include "stats.h"

#include <stdatomic.h>

struct service {
    const struct config *config;
    struct log *log;
    struct registry *registry;
    struct stats *stats;
    struct conn_limits limits;
    struct buffer_allowance allowance; /* --connection-memory, of all workers */
    char *token;                       /* NULL: none is asked for */
    size_t token_bytes;
    int shutdown_fd;      /* an eventfd of the listener's thread: adding to it asks for a drain */
    atomic_bool draining; /* set by the listener's thread; read by /readyz and ping */
    atomic_uint connections; /* accepted and not yet closed */
    atomic_int io; /* enum fathom_io that the engines really use; set once all have started */
};

const char *service_io_name(const struct service *service);
/* Asks the listener's thread to drain, as SIGTERM does. */
void service_request_shutdown(struct service *service);
/* The first line of a file. */
int service_read_token(struct service *service, const char *path,
                       struct fathom_error *err) FATHOM_MUST_USE;
/* Compares in time that does not depend on the content. */
bool service_token_matches(const struct service *service, const char *token, size_t token_bytes);

#endif
