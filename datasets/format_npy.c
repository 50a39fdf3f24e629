/* NumPy's .npy, format versions 1.0, 2.0 and 3.0: a magic, a header length, a Python dictionary
 * with exactly the keys descr, fortran_order and shape, then the array. The dictionary is read by a
 * small strict parser that only moves forward in a bounded buffer; anything that np.save would not
 * have written is refused. The format:
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
#include "vector_format.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "le.h"
#include "mem.h"

#define NPY_PREFIX_MAX 12          /* magic 6, version 2, header length 2 or 4 */
#define NPY_HEADER_MAX (64u << 10) /* real ones have some hundred bytes */
#define NPY_AXES_MAX   2

struct npy_header {
    char descr[16];
    bool fortran_order;
    uint64_t shape[NPY_AXES_MAX];
    unsigned axes;
};

struct cursor {
    const char *at, *end;
};

/* ---- the dictionary ---- */

static void skip_space(struct cursor *cursor)
{
    while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\n'))
        cursor->at++;
}

static bool take(struct cursor *cursor, char wanted)
{
    skip_space(cursor);
    if (cursor->at == cursor->end || *cursor->at != wanted)
        return false;
    cursor->at++;
    return true;
}

static bool take_word(struct cursor *cursor, const char *word)
{
    size_t length = strlen(word);
    skip_space(cursor);
    if ((size_t)(cursor->end - cursor->at) < length || memcmp(cursor->at, word, length))
        return false;
    cursor->at += length;
    return true;
}

static bool take_string(struct cursor *cursor, char *out, size_t out_bytes)
{
    skip_space(cursor);
    if (cursor->at == cursor->end || (*cursor->at != '\'' && *cursor->at != '"'))
        return false;
    char quote = *cursor->at++;
    size_t length = 0;
    while (cursor->at < cursor->end && *cursor->at != quote) {
        if (*cursor->at == '\\' || length + 1 >= out_bytes)
            return false;
        out[length++] = *cursor->at++;
    }
    out[length] = 0;
    return take(cursor, quote);
}

static bool take_number(struct cursor *cursor, uint64_t *out)
{
    skip_space(cursor);
    const char *start = cursor->at;
    uint64_t value = 0;
    while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9') {
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*cursor->at - '0'), &value))
            return false;
        cursor->at++;
    }
    *out = value;
    return cursor->at > start;
}

/* A tuple of one or more numbers; axes beyond NPY_AXES_MAX are counted, not kept. */
static bool take_shape(struct cursor *cursor, struct npy_header *header)
{
    if (!take(cursor, '('))
        return false;
    while (!take(cursor, ')')) {
        uint64_t value;
        if (!take_number(cursor, &value))
            return false;
        if (header->axes < NPY_AXES_MAX)
            header->shape[header->axes] = value;
        header->axes++;
        if (!take(cursor, ',')) {
            if (header->axes == 1)
                return false;
            return take(cursor, ')');
        }
    }
    return true;
}

static bool take_bool(struct cursor *cursor, bool *out)
{
    *out = take_word(cursor, "True");
    return *out || take_word(cursor, "False");
}

/* The whole dictionary, each key once. fault says what was not understood. */
static bool parse_header(struct cursor *cursor, struct npy_header *header, const char **fault)
{
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    bool seen[3] = {false, false, false};
    *fault = "it is not a dictionary";
    if (!take(cursor, '{'))
        return false;
    while (!take(cursor, '}')) {
        char key[16];
        int index = -1;
        *fault = "a key is not one of descr, fortran_order and shape";
        if (!take_string(cursor, key, sizeof key) || !take(cursor, ':'))
            return false;
        for (int i = 0; i < 3; i++)
            index = strcmp(key, keys[i]) ? index : i;
        if (index < 0)
            return false;
        *fault = "a key is there twice";
        if (seen[index])
            return false;
        seen[index] = true;
        *fault = "the element type is not a plain one (structured arrays hold no vectors)";
        if (index == 0 && !take_string(cursor, header->descr, sizeof header->descr))
            return false;
        *fault = "fortran_order is neither True nor False";
        if (index == 1 && !take_bool(cursor, &header->fortran_order))
            return false;
        *fault = "the shape is not a tuple of numbers below 2^64";
        if (index == 2 && !take_shape(cursor, header))
            return false;
        *fault = "the dictionary does not end";
        if (!take(cursor, ',') && !(cursor->at < cursor->end && *cursor->at == '}'))
            return false;
    }
    skip_space(cursor);
    *fault = cursor->at == cursor->end ? "a key is missing" : "text follows the dictionary";
    return seen[0] && seen[1] && seen[2] && cursor->at == cursor->end;
}

/* ---- what it means ---- */

static int scalar_of(const struct vector_file *file, const char *descr, enum scalar *out,
                     struct fathom_error *err)
{
    static const struct {
        const char *descr;
        enum scalar scalar;
    } known[] = {{"<f4", SCALAR_F32}, {"<f2", SCALAR_F16}, {"|i1", SCALAR_I8},
                 {"|u1", SCALAR_U8},  {"<i4", SCALAR_I32}, {"<u4", SCALAR_U32},
                 {"<i8", SCALAR_I64}, {"<u8", SCALAR_U64}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!strcmp(descr, known[i].descr)) {
            *out = known[i].scalar;
            return 0;
        }
    }
    const char *remedy =
        file->integers ? "save it as a.astype('<u8')" : "save it as a.astype('<f4')";
    if (descr[0] == '>')
        return error_set(err, FATHOM_EINPUT, "%s: elements '%s' are big-endian; %s", file->path,
                         descr, remedy);
    return error_set(err, FATHOM_EINPUT, "%s: elements '%s' are none of %s; %s", file->path, descr,
                     file->integers ? "<i4 <u4 <i8 <u8" : "<f4 <f2 |i1 |u1", remedy);
}

static int apply_header(struct vector_file *file, const struct npy_header *header,
                        struct fathom_error *err)
{
    enum scalar scalar = 0;
    int rc = scalar_of(file, header->descr, &scalar, err);
    if (rc)
        return rc;
    if (header->fortran_order && header->axes > 1)
        return error_set(err, FATHOM_EINPUT,
                         "%s: is in Fortran order; save it as np.ascontiguousarray(a)", file->path);
    if (header->axes != 2 && !(file->integers && header->axes == 1))
        return error_set(err, FATHOM_EINPUT,
                         "%s: has %u ax%s where two are needed; save it as a.reshape(rows, "
                         "dimension)",
                         file->path, header->axes, header->axes == 1 ? "is" : "es");
    rc = vector_file_set_shape(file, header->shape[0], header->axes == 2 ? header->shape[1] : 1,
                               scalar, err);
    return rc ? rc : vector_file_check_end(file, err);
}

/* Reads magic, version and length; *offset and *bytes become the place of the dictionary. */
static int read_prefix(struct vector_file *file, uint64_t *offset, uint64_t *bytes,
                       struct fathom_error *err)
{
    uint8_t prefix[NPY_PREFIX_MAX] = {0};
    uint64_t have = file->info.file_bytes;
    int rc = file_read_full(file->env, file->fd, file->path, prefix,
                            have < sizeof prefix ? (size_t)have : sizeof prefix, 0, err);
    if (rc)
        return rc;
    if (memcmp(prefix, "\x93NUMPY", 6) || have < 10)
        return error_set(err, FATHOM_EINPUT, "%s: does not start as a .npy file does", file->path);
    if (prefix[6] < 1 || prefix[6] > 3 || prefix[7] != 0)
        return error_set(err, FATHOM_EINPUT,
                         "%s: .npy version %u.%u is not known; 1.0, 2.0 and 3.0 are", file->path,
                         prefix[6], prefix[7]);
    *offset = prefix[6] == 1 ? 10 : 12;
    *bytes = prefix[6] == 1 ? le_load16(prefix + 8) : le_load32(prefix + 8);
    if (*bytes > NPY_HEADER_MAX)
        return error_set(err, FATHOM_EINPUT,
                         "%s: a header of %llu bytes is not one of an array of vectors", file->path,
                         (unsigned long long)*bytes);
    if (have < *offset + *bytes)
        return error_set(err, FATHOM_EINPUT, "%s: truncated inside its header (%llu of %llu bytes)",
                         file->path, (unsigned long long)have,
                         (unsigned long long)(*offset + *bytes));
    return 0;
}

int npy_open(struct vector_file *file, struct fathom_error *err)
{
    uint64_t offset = 0, bytes = 0;
    int rc = read_prefix(file, &offset, &bytes, err);
    if (rc)
        return rc;
    char *text = mem_alloc(bytes);
    if (!text)
        return error_set(err, -ENOMEM, "%s: no memory for its header", file->path);
    rc = file_read_full(file->env, file->fd, file->path, text, bytes, offset, err);
    if (!rc) {
        struct npy_header header = {0};
        struct cursor cursor = {text, text + bytes};
        const char *fault;
        file->data_offset = offset + bytes;
        if (parse_header(&cursor, &header, &fault))
            rc = apply_header(file, &header, err);
        else
            rc = error_set(err, FATHOM_EINPUT, "%s: header at byte %llu: %s", file->path,
                           (unsigned long long)(offset + (uint64_t)(cursor.at - text)), fault);
    }
    mem_free(text);
    return rc;
}
