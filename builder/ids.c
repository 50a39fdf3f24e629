/* Reading ids. The name says the form: what vector files know is a table, anything else is text. */
#include "ids.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "fathom/fathom.h"
#include "mem.h"
#include "vectors.h"

#define TEXT_PIECE (64u << 10)

static bool is_table(const char *path)
{
    static const char *const extensions[] = {".npy", ".ivecs", ".hdf5", ".h5"};
    size_t length = strlen(path);
    for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++) {
        size_t end = strlen(extensions[i]);
        if (length > end && strcmp(path + length - end, extensions[i]) == 0)
            return true;
    }
    return strstr(path, ".hdf5::") || strstr(path, ".h5::");
}

static int wrong_count(const char *path, uint64_t found, uint64_t rows, struct fathom_error *err)
{
    return error_set(err, FATHOM_EINPUT,
                     "%s: has %" PRIu64 " ids, but the vectors have %" PRIu64 " rows", path, found,
                     rows);
}

static int read_table(const struct env *env, const char *path, uint64_t rows, uint64_t *ids,
                      struct fathom_error *err)
{
    struct vector_file *file;
    int status = vector_file_open_integers(&file, env, path, NULL, err);
    if (status != 0)
        return status;
    struct vector_info info = vector_file_info(file);
    if (info.dim != 1)
        status = error_set(err, FATHOM_EINPUT,
                           "%s: has %" PRIu32 " columns; ids are one number a row", path, info.dim);
    else if (info.rows != rows)
        status = wrong_count(path, info.rows, rows, err);
    else
        status = vector_file_read_i64(file, 0, rows, (int64_t *)ids, err);
    vector_file_close(file);
    for (uint64_t row = 0; row < rows && status == 0; row++)
        if ((int64_t)ids[row] < 0)
            status =
                error_set(err, FATHOM_EINPUT, "%s: row %" PRIu64 ": id %" PRId64 " is negative",
                          path, row, (int64_t)ids[row]);
    return status;
}

/* ---- text ---- */

struct text {
    const struct env *env;
    const char *path;
    int fd;
    uint64_t offset, bytes; /* of the next piece, of the file */
    size_t count, at;       /* in piece */
    char *piece;
};

/* The next byte, -1 at the end, or an error below that. */
static int next_byte(struct text *text, struct fathom_error *err)
{
    if (text->at == text->count) {
        uint64_t left = text->bytes - text->offset;
        text->count = left < TEXT_PIECE ? left : TEXT_PIECE;
        text->at = 0;
        if (text->count == 0)
            return -1;
        int status = file_read_full(text->env, text->fd, text->path, text->piece, text->count,
                                    text->offset, err);
        if (status != 0)
            return status < -1 ? status : -EIO;
        text->offset += text->count;
    }
    return (unsigned char)text->piece[text->at++];
}

static int bad_line(const struct text *text, uint64_t line, const char *what,
                    struct fathom_error *err)
{
    return error_set(err, FATHOM_EINPUT, "%s: line %" PRIu64 ": %s; one id a line, 0 to 2^64-2",
                     text->path, line + 1, what);
}

/* One line: 1 and an id, 0 at the end of the file, or an error. */
static int read_line(struct text *text, uint64_t line, uint64_t *id, struct fathom_error *err)
{
    int byte = next_byte(text, err);
    unsigned digits = 0;
    *id = 0;
    if (byte == -1)
        return 0;
    for (; byte >= '0' && byte <= '9'; byte = next_byte(text, err), digits++)
        if (__builtin_mul_overflow(*id, 10, id) ||
            __builtin_add_overflow(*id, (uint64_t)(byte - '0'), id))
            return bad_line(text, line, "the number is too large", err);
    if (byte == '\r')
        byte = next_byte(text, err);
    if (byte < -1)
        return byte;
    if (digits == 0 || (byte != '\n' && byte != -1))
        return bad_line(text, line, "this is not a number", err);
    return 1;
}

static int read_text(const struct env *env, const char *path, uint64_t rows, uint64_t *ids,
                     struct fathom_error *err)
{
    struct text text = {.env = env, .path = path};
    bool direct;
    text.fd = file_open_read(env, path, false, &direct, err);
    if (text.fd < 0)
        return text.fd;
    text.piece = mem_alloc(TEXT_PIECE);
    int status = text.piece ? file_bytes(env, text.fd, path, &text.bytes, err)
                            : error_set(err, -ENOMEM, "%s: no memory to read it", path);
    uint64_t row = 0, id = 0;
    while (status == 0) {
        int more = read_line(&text, row, &id, err);
        if (more <= 0) {
            status = more < 0 ? more : row == rows ? 0 : wrong_count(path, row, rows, err);
            break;
        }
        if (row == rows)
            status =
                error_set(err, FATHOM_EINPUT,
                          "%s: has more ids than the vectors have rows (%" PRIu64 ")", path, rows);
        else
            ids[row++] = id;
    }
    mem_free(text.piece);
    file_close(env, text.fd);
    return status;
}

/* ---- checks ---- */

static int compare_ids(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int check_unique(const uint64_t *ids, uint64_t rows, const char *path,
                        struct fathom_error *err)
{
    uint64_t *sorted = mem_alloc_array(rows, sizeof *sorted);
    if (!sorted)
        return error_set(err, -ENOMEM, "%s: no memory to check %" PRIu64 " ids", path, rows);
    memcpy(sorted, ids, rows * sizeof *sorted);
    qsort(sorted, rows, sizeof *sorted, compare_ids);
    int status = 0;
    if (sorted[rows - 1] == FATHOM_ID_NONE)
        status =
            error_set(err, FATHOM_EINPUT, "%s: an id is 2^64-1, which stands for no result", path);
    for (uint64_t i = 1; i < rows && status == 0; i++)
        if (sorted[i] == sorted[i - 1])
            status = error_set(err, FATHOM_EINPUT, "%s: id %" PRIu64 " appears more than once",
                               path, sorted[i]);
    mem_free(sorted);
    return status;
}

int ids_read(uint64_t **out, const struct env *env, const char *path, uint64_t rows,
             struct fathom_error *err)
{
    *out = mem_alloc_array(rows, sizeof **out);
    if (!*out)
        return error_set(err, -ENOMEM, "%s: no memory for %" PRIu64 " ids", path, rows);
    int status = is_table(path) ? read_table(env, path, rows, *out, err)
                                : read_text(env, path, rows, *out, err);
    if (status == 0)
        status = check_unique(*out, rows, path, err);
    if (status != 0) {
        mem_free(*out);
        *out = NULL;
    }
    return status;
}
