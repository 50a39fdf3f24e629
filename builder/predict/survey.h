/* What a short sample of the input says before a build: R and L, how full lists are, and how slow
 * this machine is. */
#ifndef BUILDER_SURVEY_H
#define BUILDER_SURVEY_H

#include "predict.h"

/* Chooses options->degree and options->build_list where they are 0, as a build would on a sample of
 * rows from all over the file. */
int survey_run(struct build_options *options, struct predict_known *out,
               struct fathom_error *err) FATHOM_MUST_USE;

#endif
