/* What a build takes, by arithmetic. */
#ifndef BUILDER_PREDICT_H
#define BUILDER_PREDICT_H

#include "builder.h"

/* Degrees and lists must be chosen already. */
void predict_shape(const struct build_options *options, struct build_estimate *estimate);

#endif
