/* Synthetic vectors with a chosen intrinsic dimension, the same bytes on every machine and for any
 * number of threads.
 *
 * The model: 1,000 centres, N(0,1) in M dimensions; a row picks one of them and adds N(0, 0.6)
 * noise: z. Then x = (tanh(z W1 + b) W2 + N(0, 0.02)) * 100 with W1 ~ N(0,1)/sqrt(M) to 256 units,
 * b ~ N(0,1), W2 ~ N(0,1)/16 to D. Queries are drawn from streams of their own, so that asking for
 * them never changes the base.
 *
 * Rows come in blocks of SYNTH_BLOCK with a pseudo-random stream each; a block depends on seed,
 * dim, intrinsic dimension and its number alone. */
#ifndef DATASETS_SYNTH_H
#define DATASETS_SYNTH_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/error.h"
#include "fathom/fathom.h"

#define SYNTH_BLOCK         256
#define SYNTH_INTRINSIC_MAX 1024
#define SYNTH_THREADS_MAX   256

enum synth_part { SYNTH_BASE = 2, SYNTH_QUERIES = 3 }; /* numbers of streams: pinned */

struct synth; /* the model of a seed, with scratch for each thread */

int synth_create(struct synth **out, uint64_t seed, uint32_t dim, uint32_t intrinsic,
                 unsigned threads, struct fathom_error *err) FATHOM_MUST_USE;
void synth_destroy(struct synth *synth); /* accepts NULL */

/* Rows [first_row, first_row + rows) of a part, as dtype, into out: rows x dim without gaps.
 * first_row must be a multiple of SYNTH_BLOCK. f32 and f16 hold x itself; i8 is round(x / 2), u8 is
 * round(x / 2) + 128, both clamped to their range (x has a standard deviation of about 65, so
 * hardly anything is). */
int synth_rows(struct synth *synth, enum synth_part part, uint64_t first_row, size_t rows,
               enum fathom_dtype dtype, void *out, struct fathom_error *err) FATHOM_MUST_USE;

#endif
