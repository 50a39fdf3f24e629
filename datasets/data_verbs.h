/* The verbs of fathom-data, and what they have in common: --json, --progress, --threads. */
#ifndef DATASETS_DATA_VERBS_H
#define DATASETS_DATA_VERBS_H

#include "tool.h"

int data_synth(int argc, char **argv);
int data_convert(int argc, char **argv);
int data_gt(int argc, char **argv);
int data_info(int argc, char **argv);

struct data_common {
    bool json;
    enum tool_progress_mode progress;
    unsigned threads;
};

/* An argp child: its input is a struct data_common that data_common_init has filled. */
extern const struct argp data_common_argp;
void data_common_init(struct data_common *common);

/* argp parsers name a missing option with this; it does not return. */
void data_require(struct argp_state *state, bool given, const char *option);
/* "1,234,567" into out, which is returned. */
char *data_format_count(uint64_t value, char out[32]);

#endif
