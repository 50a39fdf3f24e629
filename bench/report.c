/* Pieces of JSON that both verbs report. */
#include "bench.h"

#include <math.h>

json_t *report_real(double value)
{
    if (!(value >= 0) || isinf(value))
        return json_null();
    return json_real(value);
}

const char *report_rerank(int rerank)
{
    static const char *const words[] = {"auto", "off", "on"};
    return words[rerank];
}

json_t *report_latency(const struct latency_summary *latency)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "mean", latency->mean_us, "p50",
                     latency->p50_us, "p95", latency->p95_us, "p99", latency->p99_us, "p999",
                     latency->p999_us, "max", latency->max_us);
}
