/* Shared by the tests of datasets. Uses stdio, not what it tests. */
#include "datasets_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bytes_add(struct bytes *bytes, const void *data, size_t count)
{
    while (bytes->count + count > bytes->room) {
        bytes->room = bytes->room ? 2 * bytes->room : 256;
        bytes->data = realloc(bytes->data, bytes->room);
        assert_non_null(bytes->data);
    }
    memcpy(bytes->data + bytes->count, data, count);
    bytes->count += count;
}

void bytes_add_u16(struct bytes *bytes, uint16_t value)
{
    uint8_t raw[2] = {value & 255, value >> 8};
    bytes_add(bytes, raw, sizeof raw);
}

void bytes_add_u32(struct bytes *bytes, uint32_t value)
{
    bytes_add_u16(bytes, value & 0xffff);
    bytes_add_u16(bytes, value >> 16);
}

void bytes_add_text(struct bytes *bytes, const char *text)
{
    bytes_add(bytes, text, strlen(text));
}

const char *bytes_write_part(const struct bytes *bytes, size_t count, const struct scratch *scratch,
                             const char *name)
{
    static char path[SCRATCH_PATH_MAX];
    scratch_name(scratch, name, path);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes->data, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
    return path;
}

const char *bytes_write(struct bytes *bytes, const struct scratch *scratch, const char *name)
{
    const char *path = bytes_write_part(bytes, bytes->count, scratch, name);
    free(bytes->data);
    memset(bytes, 0, sizeof *bytes);
    return path;
}

void bytes_add_npy(struct bytes *bytes, unsigned version, const char *dictionary)
{
    size_t length = strlen(dictionary) + 1;
    uint8_t start[8] = {0x93, 'N', 'U', 'M', 'P', 'Y', (uint8_t)version, 0};
    bytes_add(bytes, start, sizeof start);
    if (version == 1)
        bytes_add_u16(bytes, (uint16_t)length);
    else
        bytes_add_u32(bytes, (uint32_t)length);
    bytes_add_text(bytes, dictionary);
    bytes_add_text(bytes, "\n");
}

struct vector_file *vectors_open_ok(const char *path)
{
    struct vector_file *file;
    struct fathom_error err = {0};
    if (vector_file_open(&file, env_os(), path, NULL, &err))
        fail_msg("%s", err.msg);
    return file;
}

void assert_refused(const char *path, int code, const char *part, const char *other_part)
{
    struct vector_file *file;
    struct fathom_error err = {0};
    int rc = vector_file_open(&file, env_os(), path, NULL, &err);
    vector_file_close(file);
    assert_int_equal(rc, code);
    assert_int_equal(err.code, code);
    if (!message_has(&err, part) || !message_has(&err, other_part))
        fail_msg("neither '%s' nor '%s' may miss in: %s", part, other_part, err.msg);
}

static FILE *open_existing(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("%s is not there", path);
    return file;
}

uint64_t file_hash(const char *path)
{
    FILE *file = open_existing(path);
    uint64_t hash = 0xcbf29ce484222325u;
    for (int c; (c = getc(file)) != EOF;)
        hash = (hash ^ (uint64_t)c) * 0x100000001b3u;
    fclose(file);
    return hash;
}

uint64_t file_size(const char *path)
{
    FILE *file = open_existing(path);
    fseek(file, 0, SEEK_END);
    long bytes = ftell(file);
    fclose(file);
    return (uint64_t)bytes;
}
