/* fathom-data: makes, converts and describes vector files, and computes exact ground truth. */
#include "data_verbs.h"

#include <string.h>

#include "blas.h"
#include "env.h"

#define THREADS_MAX 256

static const struct tool_verb verbs[] = {
    {"synth", "draw synthetic vectors, the same bytes on every machine", data_synth},
    {"convert", "copy a vector file into another format or element type", data_convert},
    {"gt", "compute exact ground truth for a set of queries", data_gt},
    {"info", "describe a vector file, with statistics of a sample", data_info},
    {0},
};

enum { OPTION_JSON = 1000, OPTION_PROGRESS, OPTION_THREADS };

static const struct argp_option common_options[] = {
    {"json", OPTION_JSON, NULL, 0, "Print one JSON document on stdout", 10},
    {"progress", OPTION_PROGRESS, "auto|json|off", 0,
     "A bar on a terminal (auto), JSON lines on stderr, or nothing", 10},
    {"threads", OPTION_THREADS, "T", 0, "Threads to use (default: all CPUs)", 10},
    {0},
};

static error_t parse_common(int key, char *arg, struct argp_state *state)
{
    struct data_common *common = state->input;
    switch (key) {
    case OPTION_JSON:
        common->json = true;
        break;
    case OPTION_PROGRESS:
        common->progress = tool_arg_choice(state, "progress", arg, TOOL_PROGRESS_WORDS);
        break;
    case OPTION_THREADS:
        common->threads = (unsigned)tool_arg_u64(state, "threads", arg, 1, THREADS_MAX);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

const struct argp data_common_argp = {.options = common_options, .parser = parse_common};

void data_common_init(struct data_common *common)
{
    unsigned cpus = env_cpu_count();
    common->json = false;
    common->progress = TOOL_PROGRESS_AUTO;
    common->threads = cpus < THREADS_MAX ? cpus : THREADS_MAX;
}

void data_require(struct argp_state *state, bool given, const char *option)
{
    if (!given)
        argp_error(state, "--%s is missing", option);
}

char *data_format_count(uint64_t value, char out[32])
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value), used = 0;
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0)
            out[used++] = ',';
        out[used++] = digits[i];
    }
    out[used] = 0;
    return out;
}

int main(int argc, char **argv)
{
    blas_start(argv);
    return tool_main(argc, argv,
                     "Vector files: synthetic data, conversion, exact ground truth, inspection.",
                     verbs);
}
