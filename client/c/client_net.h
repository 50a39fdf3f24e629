/* Sockets with absolute deadlines. The only file of the library that calls the OS for more than
 * memory. */
#ifndef CLIENT_NET_H
#define CLIENT_NET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "fathom/client.h"

#define NET_NEVER UINT64_MAX /* a deadline that does not come */

uint64_t client_net_now_ns(void); /* monotonic */
/* timeout_ms from now; 0 is NET_NEVER. */
uint64_t client_net_deadline(uint32_t timeout_ms);
/* Connects a non-blocking socket; the message of a failure names the address and what to do. */
int client_net_connect(int *fd, const char *address, uint64_t deadline_ns,
                       struct fathom_client_error *err);
/* Waits for events (POLLIN, POLLOUT). Returns what is ready, 0 when the deadline came first, or
 * -errno. */
int client_net_wait(int fd, short events, uint64_t deadline_ns);
/* What could be sent or received at once; 0 would-block, -errno (received: -EPIPE at the end of the
 * stream). */
ssize_t client_net_send(int fd, const void *data, size_t bytes);
ssize_t client_net_receive(int fd, void *out, size_t bytes);
void client_net_close(int fd); /* accepts -1 */

#endif
