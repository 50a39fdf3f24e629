/* The little that the shared part does itself. */
#include "service.h"

#include "env.h"
#include "error.h"
#include "mem.h"
#include "protocol.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

const char *service_io_name(const struct service *service)
{
    return fathom_io_name((enum fathom_io)atomic_load_explicit(&service->io, memory_order_relaxed));
}

void service_request_shutdown(struct service *service)
{
    uint64_t one = 1;
    ssize_t put = write(service->shutdown_fd, &one, sizeof one);
    (void)put; /* full means that it was asked for already */
}

bool service_token_matches(const struct service *service, const char *token, size_t token_bytes)
{
    unsigned char difference = token_bytes != service->token_bytes;
    for (size_t i = 0; i < token_bytes; i++)
        difference |= (unsigned char)(token[i] ^ service->token[i % service->token_bytes]);
    return difference == 0;
}

int service_read_token(struct service *service, const char *path, struct fathom_error *err)
{
    const struct env *env = env_os();
    uint64_t bytes;
    int fd = file_open_read(env, path, false, NULL, err);
    if (fd < 0)
        return fd;
    int rc = file_bytes(env, fd, path, &bytes, err);
    if (rc == 0 && (bytes == 0 || bytes > PROTOCOL_TOKEN_BYTES_MAX))
        rc = error_set(err, FATHOM_EINPUT, "%s: a token of 1 to %d bytes is expected", path,
                       PROTOCOL_TOKEN_BYTES_MAX);
    if (rc == 0 && !(service->token = mem_alloc(bytes + 1)))
        rc = error_set(err, -ENOMEM, "no memory for the token");
    if (rc == 0)
        rc = file_read_full(env, fd, path, service->token, bytes, 0, err);
    file_close(env, fd);
    if (rc < 0)
        return rc;
    service->token_bytes = strcspn(service->token, "\r\n"); /* an editor's line end is none of it */
    if (service->token_bytes == 0)
        return error_set(err, FATHOM_EINPUT, "%s: the first line is empty", path);
    return 0;
}
