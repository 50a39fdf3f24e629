/* The little that the shared part does itself. */
#include "service.h"

#include <stdint.h>
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
