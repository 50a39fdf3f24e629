/* Rates of the command line. Never measures. */
#include "rates.h"

#include <stdio.h>
#include <string.h>

#include "tool.h"

#define QPS_MAX   1e7
#define SHARE_MAX 1000 /* per cent: an overload of ten times is a fair question */

static void parse_one(struct bench_rates *out, struct argp_state *state, char *item)
{
    size_t length = strlen(item);
    bool is_share = length > 0 && item[length - 1] == '%';
    if (out->count == BENCH_RATES_MAX)
        argp_error(state, "--rate: at most %d of them", BENCH_RATES_MAX);
    if (is_share)
        item[length - 1] = '\0';
    double value = tool_arg_f64(state, "--rate", item, 0.001, is_share ? SHARE_MAX : QPS_MAX);
    out->items[out->count].is_share = is_share;
    out->items[out->count++].value = is_share ? value / 100 : value;
}

void bench_rates_parse(struct bench_rates *out, struct argp_state *state, const char *text)
{
    out->count = 0;
    for (;;) {
        char item[32];
        size_t length = strcspn(text, ",");
        if (length >= sizeof item)
            argp_error(state, "--rate: '%s' is no list such as 2000,60%%", text);
        snprintf(item, sizeof item, "%.*s", (int)length, text);
        parse_one(out, state, item);
        if (!text[length])
            return;
        text += length + 1;
    }
}

bool bench_rates_need_peak(const struct bench_rates *rates)
{
    for (unsigned i = 0; i < rates->count; i++)
        if (rates->items[i].is_share)
            return true;
    return false;
}

double bench_rates_qps(const struct bench_rates *rates, unsigned i, double peak_qps)
{
    return rates->items[i].value * (rates->items[i].is_share ? peak_qps : 1);
}
