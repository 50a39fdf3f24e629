/* The shape of kernel_check: a table of kernels, each with a check of one level against the
 * definition in kernel.h and a bench of it, over the same inputs. Shared by its files only. */
#ifndef KERNEL_CHECK_H
#define KERNEL_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel.h"
#include "prng.h"

struct tally {
    unsigned passed, failed;
    const char *kernel, *level; /* for the message of a failure */
};

/* A size to bench. bytes: of a code, or of a row that is not dim long. */
struct shape {
    uint32_t dim, bytes;
};

#define SHAPES_MAX 12

struct kernel_entry {
    const char *name;
    const char *promise;
    void (*check)(struct tally *tally, const struct kernels *kernels);
    /* Nanoseconds per row (or per call, where there are no rows). far: rows all over an array much
     * larger than the caches. */
    double (*bench)(const struct kernels *kernels, struct shape shape, bool far);
    bool gathers; /* has a far bench */
    struct shape shapes[SHAPES_MAX];
};

extern const struct kernel_entry row_entries[], code_entries[], sliced_entries[], encode_entries[],
    float_entries[]; /* end with no name */

/* Extremes as well as noise: saturation and overflow show only there. */
enum content { CONTENT_NOISE, CONTENT_MAX, CONTENT_MIN, CONTENT_EXTREMES, CONTENT_ZERO, CONTENTS };

/* The dimensions to check: 1..130, and some around the sizes that people use. Returns 0 behind the
 * last. */
uint32_t check_dim(unsigned i);
/* Rows of case i: 0 to 9, or 33. */
size_t check_count(unsigned i);

void tally_case(struct tally *tally, bool ok, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void fill_u8(struct prng *prng, uint8_t *out, size_t count, enum content content);
/* Between low and high. */
void fill_i8(struct prng *prng, int8_t *out, size_t count, int low, int high, enum content content);
void fill_f32(struct prng *prng, float *out, size_t count);
void fill_ids(struct prng *prng, uint32_t *ids, size_t count, uint32_t rows);

/* A query with padding: hi in [-127, 127], lo in [-64, 63], zeros behind dim. hi and lo have room
 * for dim rounded up to 64. */
void fill_query(struct prng *prng, int8_t *hi, int8_t *lo, uint32_t dim, enum content content);

/* Rows in a bench's array, and how many of them one call takes. */
enum { BENCH_NEAR_ROWS = 256, BENCH_FAR_BYTES = 256 << 20, BENCH_CALL_ROWS = 32 };

/* Best nanoseconds per unit of run(context, i) for i = 0, 1, .. calls - 1, over many rounds. */
double bench_best(void (*run)(void *context, size_t call), void *context, size_t calls,
                  size_t units_per_call, bool far);
/* Rows of a bench, and an array of them filled with noise; ids for `calls` gathers. Exits when
 * there is no memory. */
size_t bench_rows(size_t row_bytes, bool far);
void *bench_array(size_t bytes);

#endif
