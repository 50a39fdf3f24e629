/* What a fuzz target is: one file that reads hostile bytes as some part of fathom does, and says
 * what must hold whatever they are. It is linked twice: with libFuzzer (clang, preset fuzz), and
 * with the plain driver of fuzz_main.c, which any compiler builds and the tests run. */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One run, under the name that libFuzzer expects. Returns 0; what must not be ends in an abort. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

typedef void fuzz_seed_fn(const void *bytes, size_t count);

/* Hands each input to start from to seed: made by code, the same each time. */
void fuzz_seeds(fuzz_seed_fn *seed);

/* Holds for every input, or the process aborts with the sentence. */
#define FUZZ_CHECK(condition, ...)                                                                 \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* The input, taken from the front as choices; zeros when it has come to its end. */
struct fuzz_input {
    const uint8_t *at, *end;
};

static inline uint8_t fuzz_u8(struct fuzz_input *input)
{
    return input->at < input->end ? *input->at++ : 0;
}

static inline uint16_t fuzz_u16(struct fuzz_input *input)
{
    uint16_t low = fuzz_u8(input);
    return (uint16_t)(low | fuzz_u8(input) << 8);
}

static inline size_t fuzz_left(const struct fuzz_input *input)
{
    return (size_t)(input->end - input->at);
}

/* A copy in a block of exactly its size, so that a sanitizer sees a read beyond it; free() it. */
static inline uint8_t *fuzz_copy(const void *bytes, size_t count)
{
    uint8_t *copy = malloc(count ? count : 1);
    FUZZ_CHECK(copy, "no memory for %zu bytes", count);
    if (count)
        memcpy(copy, bytes, count);
    return copy;
}

#endif
