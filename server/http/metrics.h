/* The Prometheus text of /metrics. */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include "registry.h"
#include "service.h"

#include <event2/buffer.h>

/* Appends all metrics to out. Runs on the admin thread. */
void metrics_render(struct evbuffer *out, const struct service *service,
                    const struct registry_view *view, uint64_t now_ns);

#endif
