/* An env with one file in memory, whatever it is called: what a reader sees of a disk, without
 * one. Reading only. */
#ifndef FUZZ_ONE_FILE_H
#define FUZZ_ONE_FILE_H

#include "env.h"

struct one_file {
    struct env env; /* what to hand to the code under test */
    const uint8_t *bytes;
    size_t count;
    unsigned open; /* descriptors that are not closed yet */
};

/* The bytes stay the caller's, and the file must not move while it is in use. */
void one_file_init(struct one_file *file, const uint8_t *bytes, size_t count);

#endif
