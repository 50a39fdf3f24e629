/* R and L where they are not given: by the data. */
#ifndef BUILDER_DEGREE_H
#define BUILDER_DEGREE_H

#include "crew.h"
#include "rows8.h"

#define DEGREE_USUAL 32
#define DEGREE_HARD  40
#define DEGREE_LEAST 24 /* of an index that cells answer for */

#define DEGREE_PROBE      48 /* R and L of the graph that decides, and rows of its sample */
#define DEGREE_PROBE_LIST 64
#define DEGREE_PROBE_ROWS 16384

#define DEGREE_REASON_BYTES 128

/* The numbers of the rows that R is probed on, of so many in their final order; numbers:
 * DEGREE_PROBE_ROWS, or NULL. Returns how many they are. */
uint32_t degree_sample_rows(uint32_t rows, uint32_t *numbers);
/* These rows, of those in memory. -ENOMEM; rows8_fini accepts what is left. */
int degree_sample(struct rows8 *out, const struct rows8 *rows) FATHOM_MUST_USE;
/* Neighbours of a list of the sample, on average; 0: they did not need to be measured. */
struct degree_probe {
    double mean; /* with DEGREE_PROBE: what the choice is made by */
    double cut;  /* of the same lists, cut to the R that was chosen */
    double lid;  /* local intrinsic dimension, which what searches take goes by (lid.h) */
};

/* What mean and lid of such a sample will be about, in a twentieth of the time: its rows may be in
 * any order. Of fewer than DEGREE_PROBE_ROWS the lid alone: the probe itself is over before more
 * would pay. */
#define DEGREE_GLANCE_ROWS 4096
int degree_glance(const struct build_options *options, const struct crew *crew,
                  const struct rows8 *sample, struct degree_probe *probe,
                  struct fathom_error *err) FATHOM_MUST_USE;
/* How sure R will be DEGREE_HARD by such a mean: 0 to 1. */
double degree_hardness(double mean);

/* Chooses options->degree and options->build_list where they are 0, for so many rows; by the sample
 * when the degree is, whose rows are what the crew is told of. */
int degree_choose(struct build_options *options, const struct crew *crew,
                  const struct rows8 *sample, uint32_t rows, uint32_t dim,
                  struct degree_probe *probe, struct fathom_error *err) FATHOM_MUST_USE;

/* Bits a dimension that codes of an index can have in options->dram_budget_bytes, at most
 * options->code_bits. */
uint32_t degree_code_bits(const struct build_options *options, uint64_t rows, uint32_t dim);

/* The L that goes with an R. */
uint32_t degree_list(uint32_t degree);

/* Why options have this R, for people. mean_degree: degree_probe.mean. text: DEGREE_REASON_BYTES.
 */
void degree_explain(const struct build_options *options, double mean_degree, char *text);

#endif
