/* Reading ids. The name says the form: what vector files know is a table, anything else is text. */
#include "ids.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "fathom/fathom.h"
#include "mem.h"
#include "vector_format.h"

#define TEXT_PIECE (64u << 10)
#define ROOM_FIRST 1024 /* of text that may have any number of ids */

struct ids {
    const char *path;
    uint64_t *all;
    uint64_t count, room, wanted; /* wanted 0: any number of them */
};

static int make_room(struct ids *ids, uint64_t room, struct fathom_error *err)
{
    uint64_t *more = mem_alloc_array(room, sizeof *more);
    if (!more)
        return error_set(err, -ENOMEM, "%s: no memory for %" PRIu64 " ids", ids->path, room);
    if (ids->count)
        memcpy(more, ids->all, ids->count * sizeof *more);
    mem_free(ids->all);
    ids->all = more;
    ids->room = room;
    return 0;
}

static int check_count(const struct ids *ids, uint64_t found, struct fathom_error *err)
{
    if (found == 0 && ids->wanted == 0)
        return error_set(err, FATHOM_EINPUT, "%s: has no ids", ids->path);
    if (ids->wanted == 0 || ids->wanted == found)
        return 0;
    return error_set(err, FATHOM_EINPUT,
                     "%s: has %" PRIu64 " ids, but the vectors have %" PRIu64 " rows", ids->path,
                     found, ids->wanted);
}

static int read_table(struct ids *ids, const struct env *env, struct fathom_error *err)
{
    struct vector_file *file;
    int status = vector_file_open_integers(&file, env, ids->path, NULL, err);
    if (status != 0)
        return status;
    struct vector_info info = vector_file_info(file);
    status = info.dim == 1 ? check_count(ids, info.rows, err)
                           : error_set(err, FATHOM_EINPUT,
                                       "%s: has %" PRIu32 " columns; ids are one number a row",
                                       ids->path, info.dim);
    if (status == 0)
        status = make_room(ids, info.rows, err);
    if (status == 0)
        status = vector_file_read_u64(file, 0, info.rows, ids->all, err);
    ids->count = info.rows;
    vector_file_close(file);
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

static int add_id(struct ids *ids, uint64_t id, struct fathom_error *err)
{
    uint64_t first = ids->wanted ? ids->wanted : ROOM_FIRST;
    if (ids->wanted && ids->count == ids->wanted)
        return error_set(err, FATHOM_EINPUT,
                         "%s: has more ids than the vectors have rows (%" PRIu64 ")", ids->path,
                         ids->wanted);
    int status =
        ids->count < ids->room ? 0 : make_room(ids, ids->room ? 2 * ids->room : first, err);
    if (status == 0)
        ids->all[ids->count++] = id;
    return status;
}

static int read_text(struct ids *ids, const struct env *env, struct fathom_error *err)
{
    struct text text = {.env = env, .path = ids->path};
    bool direct;
    text.fd = file_open_read(env, ids->path, false, &direct, err);
    if (text.fd < 0)
        return text.fd;
    text.piece = mem_alloc(TEXT_PIECE);
    int status = text.piece ? file_bytes(env, text.fd, ids->path, &text.bytes, err)
                            : error_set(err, -ENOMEM, "%s: no memory to read it", ids->path);
    for (int more = 1; status == 0 && more > 0;) {
        uint64_t id;
        more = read_line(&text, ids->count, &id, err);
        status = more < 0 ? more : more ? add_id(ids, id, err) : check_count(ids, ids->count, err);
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

/* The next row from first on that has this id. */
static uint64_t row_of(const uint64_t *ids, uint64_t id, uint64_t first)
{
    while (ids[first] != id)
        first++;
    return first;
}

static int refuse_repeated(const uint64_t *ids, uint64_t id, const char *path,
                           struct fathom_error *err)
{
    uint64_t first = row_of(ids, id, 0);
    return error_set(err, FATHOM_EINPUT,
                     "%s: id %" PRIu64 " appears more than once: in rows %" PRIu64 " and %" PRIu64
                     " (counted from 0)",
                     path, id, first, row_of(ids, id, first + 1));
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
            error_set(err, FATHOM_EINPUT,
                      "%s: the id of row %" PRIu64 " (counted from 0) is 2^64-1, which stands for "
                      "no result",
                      path, row_of(ids, FATHOM_ID_NONE, 0));
    for (uint64_t i = 1; i < rows && status == 0; i++)
        if (sorted[i] == sorted[i - 1])
            status = refuse_repeated(ids, sorted[i], path, err);
    mem_free(sorted);
    return status;
}

static int read_ids(uint64_t **out, struct ids *ids, const struct env *env,
                    struct fathom_error *err)
{
    int status =
        vector_format_find(ids->path) ? read_table(ids, env, err) : read_text(ids, env, err);
    if (status == 0)
        status = check_unique(ids->all, ids->count, ids->path, err);
    if (status != 0) {
        mem_free(ids->all);
        ids->all = NULL;
    }
    *out = ids->all;
    return status;
}

int ids_read(uint64_t **out, const struct env *env, const char *path, uint64_t rows,
             struct fathom_error *err)
{
    struct ids ids = {.path = path, .wanted = rows};
    return read_ids(out, &ids, env, err);
}

int ids_read_all(uint64_t **out, uint64_t *rows, const struct env *env, const char *path,
                 struct fathom_error *err)
{
    struct ids ids = {.path = path};
    int status = read_ids(out, &ids, env, err);
    *rows = ids.count;
    return status;
}
