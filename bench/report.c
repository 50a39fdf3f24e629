/* Pieces of JSON that both verbs report. */
#include "bench.h"

#include <math.h>
#include <stdio.h>

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

json_t *report_stops(const struct stops_summary *stops, const struct latency_summary *untouched)
{
    if (stops->cpus == 0)
        return json_null();
    return json_pack("{s:i, s:I, s:f, s:f, s:I, s:o}", "cpus", (int)stops->cpus, "count",
                     (json_int_t)stops->count, "lost_ms", (double)stops->lost_ns / 1e6, "max_us",
                     (double)stops->longest_ns / 1e3, "untouched", (json_int_t)untouched->count,
                     "untouched_latency_us", report_latency(untouched));
}

void report_print_stops(const struct stops_summary *stops, const struct latency_summary *untouched)
{
    if (stops->count == 0)
        return;
    printf("    %llu times a CPU was away for %u us or more (%.1f ms in all, %.1f at the longest); "
           "without the queries that it touched p99 is %.1f, p99.9 %.1f us\n",
           (unsigned long long)stops->count, STOPS_LEAST_NS / 1000, (double)stops->lost_ns / 1e6,
           (double)stops->longest_ns / 1e6, untouched->p99_us, untouched->p999_us);
}
