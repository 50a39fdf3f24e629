/* What the tests of datasets share: files made byte by byte, so that a reader is not tested by the
 * writer beside it. */
#ifndef UNIT_DATASETS_SUPPORT_H
#define UNIT_DATASETS_SUPPORT_H

#include "env_support.h"

#include "vectors.h"

/* Bytes that a file is made of; starts zeroed. */
struct bytes {
    uint8_t *data;
    size_t count, room;
};

void bytes_add(struct bytes *bytes, const void *data, size_t count);
void bytes_add_u16(struct bytes *bytes, uint16_t value);
void bytes_add_u32(struct bytes *bytes, uint32_t value);
void bytes_add_text(struct bytes *bytes, const char *text);
/* The first count of the bytes as the file dir/name, whose path is returned (valid until the next
 * call). */
const char *bytes_write_part(const struct bytes *bytes, size_t count, const struct scratch *scratch,
                             const char *name);
/* All of them; frees the bytes. */
const char *bytes_write(struct bytes *bytes, const struct scratch *scratch, const char *name);

/* A .npy header for this dictionary, padded as np.save does (or not). */
void bytes_add_npy(struct bytes *bytes, unsigned version, const char *dictionary);

/* Opens and fails the test with the message when that does not work. */
struct vector_file *vectors_open_ok(const char *path);
/* Fails the test unless opening is refused with this code and a message that has both parts. */
void assert_refused(const char *path, int code, const char *part, const char *other_part);

/* 64-bit FNV-1a of a whole file: pins bytes in a test. */
uint64_t file_hash(const char *path);
uint64_t file_size(const char *path);

#endif
