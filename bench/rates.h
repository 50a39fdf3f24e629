/* The rates of open loops, as a command line gives them: "2000,60%". Requests a second, or a share
 * of the peak that was measured in the same run. */
#ifndef BENCH_RATES_H
#define BENCH_RATES_H

#include <argp.h>
#include <stdbool.h>

#define BENCH_RATES_MAX 32

struct bench_rates {
    struct {
        double value; /* a share when is_share (0.6 for 60%), else queries a second */
        bool is_share;
    } items[BENCH_RATES_MAX];
    unsigned count;
};

/* Ends the program with a message, as argp does, when the text is no list of rates. */
void bench_rates_parse(struct bench_rates *out, struct argp_state *state, const char *text);
bool bench_rates_need_peak(const struct bench_rates *rates);
double bench_rates_qps(const struct bench_rates *rates, unsigned i, double peak_qps);

#endif
