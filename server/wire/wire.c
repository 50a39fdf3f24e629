/* The cursor follows the table in the MessagePack specification; every step checks the bytes that
 * are left, although the scanner has done so before, because a decoder that trusts its caller is
 * one bug away from reading past the end. */
#include "wire.h"

#include <string.h>

static bool take(struct wire_cursor *cursor, size_t count, const uint8_t **out)
{
    if (count > (size_t)(cursor->end - cursor->at))
        return false;
    *out = cursor->at;
    cursor->at += count;
    return true;
}

static bool take_big_endian(struct wire_cursor *cursor, unsigned count, uint64_t *out)
{
    const uint8_t *bytes;
    if (!take(cursor, count, &bytes))
        return false;
    uint64_t value = 0;
    for (unsigned i = 0; i < count; i++)
        value = value << 8 | bytes[i];
    *out = value;
    return true;
}

static bool take_text(struct wire_cursor *cursor, enum wire_kind kind, uint64_t size,
                      struct wire_value *out)
{
    out->kind = kind;
    out->text.size = (uint32_t)size;
    return take(cursor, size, &out->text.bytes);
}

/* A str or bin whose length is in the next length_bytes bytes. */
static bool take_long_text(struct wire_cursor *cursor, enum wire_kind kind, unsigned length_bytes,
                           struct wire_value *out)
{
    uint64_t size;
    return take_big_endian(cursor, length_bytes, &size) && take_text(cursor, kind, size, out);
}

static bool take_ext(struct wire_cursor *cursor, unsigned length_bytes, uint64_t size,
                     struct wire_value *out)
{
    if (length_bytes > 0 && !take_big_endian(cursor, length_bytes, &size))
        return false;
    return take_text(cursor, WIRE_EXT, size + 1, out); /* the byte of the type is part of it here */
}

static bool take_count(struct wire_cursor *cursor, enum wire_kind kind, unsigned length_bytes,
                       struct wire_value *out)
{
    uint64_t count;
    if (!take_big_endian(cursor, length_bytes, &count))
        return false;
    out->kind = kind;
    out->count = (uint32_t)count;
    return true;
}

static bool take_uint(struct wire_cursor *cursor, unsigned bytes, struct wire_value *out)
{
    out->kind = WIRE_UINT;
    return take_big_endian(cursor, bytes, &out->number);
}

static bool take_int(struct wire_cursor *cursor, unsigned bytes, struct wire_value *out)
{
    uint64_t raw;
    if (!take_big_endian(cursor, bytes, &raw))
        return false;
    unsigned shift = 64 - 8 * bytes;
    int64_t value = (int64_t)(raw << shift) >> shift;
    out->kind = value < 0 ? WIRE_INT : WIRE_UINT;
    if (value < 0)
        out->negative = value;
    else
        out->number = (uint64_t)value;
    return true;
}

static bool take_float(struct wire_cursor *cursor, unsigned bytes, struct wire_value *out)
{
    uint64_t raw;
    if (!take_big_endian(cursor, bytes, &raw))
        return false;
    out->kind = WIRE_FLOAT;
    if (bytes == 4) {
        uint32_t narrow = (uint32_t)raw;
        float value;
        memcpy(&value, &narrow, sizeof value);
        out->real = value;
    } else {
        memcpy(&out->real, &raw, sizeof out->real);
    }
    return true;
}

/* Types that carry their length, or their value, in the type byte. */
static bool take_fixed(struct wire_cursor *cursor, uint8_t type, struct wire_value *out)
{
    if (type < 0x80 || type >= 0xe0) {
        out->kind = type < 0x80 ? WIRE_UINT : WIRE_INT;
        if (type < 0x80)
            out->number = type;
        else
            out->negative = (int8_t)type;
        return true;
    }
    if (type < 0xa0) {
        out->kind = type < 0x90 ? WIRE_MAP : WIRE_ARRAY;
        out->count = type & 0x0f;
        return true;
    }
    return take_text(cursor, WIRE_STR, type & 0x1f, out);
}

/* The types 0xc0 to 0xdf: how their values are read, and from how many bytes (of the value, or of
 * its length). */
enum how {
    HOW_NEVER, /* 0xc1 */
    HOW_NIL,
    HOW_BOOL,
    HOW_UINT,
    HOW_INT,
    HOW_FLOAT,
    HOW_STR,
    HOW_BIN,
    HOW_EXT,
    HOW_FIXED_EXT,
    HOW_ARRAY,
    HOW_MAP,
};

static const struct {
    uint8_t how, bytes;
} type_rules[32] = {
    {HOW_NIL, 0},        {HOW_NEVER, 0},     {HOW_BOOL, 0},      {HOW_BOOL, 0},
    {HOW_BIN, 1},        {HOW_BIN, 2},       {HOW_BIN, 4},       {HOW_EXT, 1},
    {HOW_EXT, 2},        {HOW_EXT, 4},       {HOW_FLOAT, 4},     {HOW_FLOAT, 8},
    {HOW_UINT, 1},       {HOW_UINT, 2},      {HOW_UINT, 4},      {HOW_UINT, 8},
    {HOW_INT, 1},        {HOW_INT, 2},       {HOW_INT, 4},       {HOW_INT, 8},
    {HOW_FIXED_EXT, 1},  {HOW_FIXED_EXT, 2}, {HOW_FIXED_EXT, 4}, {HOW_FIXED_EXT, 8},
    {HOW_FIXED_EXT, 16}, {HOW_STR, 1},       {HOW_STR, 2},       {HOW_STR, 4},
    {HOW_ARRAY, 2},      {HOW_ARRAY, 4},     {HOW_MAP, 2},       {HOW_MAP, 4},
};

bool wire_next(struct wire_cursor *cursor, struct wire_value *out)
{
    const uint8_t *type;
    if (!take(cursor, 1, &type))
        return false;
    if (*type < 0xc0 || *type >= 0xe0)
        return take_fixed(cursor, *type, out);
    unsigned bytes = type_rules[*type - 0xc0].bytes;
    switch (type_rules[*type - 0xc0].how) {
    case HOW_NIL:
        out->kind = WIRE_NIL;
        return true;
    case HOW_BOOL:
        out->kind = WIRE_BOOL;
        out->truth = *type == 0xc3;
        return true;
    case HOW_UINT:
        return take_uint(cursor, bytes, out);
    case HOW_INT:
        return take_int(cursor, bytes, out);
    case HOW_FLOAT:
        return take_float(cursor, bytes, out);
    case HOW_STR:
        return take_long_text(cursor, WIRE_STR, bytes, out);
    case HOW_BIN:
        return take_long_text(cursor, WIRE_BIN, bytes, out);
    case HOW_EXT:
        return take_ext(cursor, bytes, 0, out);
    case HOW_FIXED_EXT:
        return take_ext(cursor, 0, bytes, out);
    case HOW_ARRAY:
        return take_count(cursor, WIRE_ARRAY, bytes, out);
    case HOW_MAP:
        return take_count(cursor, WIRE_MAP, bytes, out);
    default:
        return false;
    }
}

const char *wire_kind_name(enum wire_kind kind)
{
    switch (kind) {
    case WIRE_NIL:
        return "nil";
    case WIRE_BOOL:
        return "a boolean";
    case WIRE_UINT:
        return "an integer";
    case WIRE_INT:
        return "a negative integer";
    case WIRE_FLOAT:
        return "a float";
    case WIRE_STR:
        return "a string";
    case WIRE_BIN:
        return "a bin";
    case WIRE_ARRAY:
        return "an array";
    case WIRE_MAP:
        return "a map";
    case WIRE_EXT:
        return "an extension";
    }
    return "?";
}

bool wire_text_is(const struct wire_value *value, const char *text)
{
    size_t size = strlen(text);
    return value->kind == WIRE_STR && value->text.size == size &&
           memcmp(value->text.bytes, text, size) == 0;
}

/* ---- writing ---- */

static int write_to_buffer(void *data, const char *bytes, size_t count)
{
    struct wire_writer *writer = data;
    if (writer->rc == 0)
        writer->rc = buffer_append(writer->out, bytes, count);
    return writer->rc;
}

void wire_begin(struct wire_writer *writer, struct buffer *out)
{
    writer->out = out;
    writer->start = out->size;
    writer->rc = 0;
    msgpack_packer_init(&writer->packer, writer, write_to_buffer);
}

int wire_end(struct wire_writer *writer)
{
    if (writer->rc < 0)
        writer->out->size = writer->start;
    return writer->rc;
}

void wire_put_nil(struct wire_writer *writer)
{
    msgpack_pack_nil(&writer->packer);
}

void wire_put_bool(struct wire_writer *writer, bool value)
{
    if (value)
        msgpack_pack_true(&writer->packer);
    else
        msgpack_pack_false(&writer->packer);
}

void wire_put_uint(struct wire_writer *writer, uint64_t value)
{
    msgpack_pack_uint64(&writer->packer, value);
}

void wire_put_float(struct wire_writer *writer, double value)
{
    msgpack_pack_double(&writer->packer, value);
}

void wire_put_text(struct wire_writer *writer, const char *text)
{
    size_t size = strlen(text);
    msgpack_pack_str(&writer->packer, size);
    msgpack_pack_str_body(&writer->packer, text, size);
}

void wire_put_bin(struct wire_writer *writer, const void *bytes, size_t count)
{
    msgpack_pack_bin(&writer->packer, count);
    msgpack_pack_bin_body(&writer->packer, bytes, count);
}

void wire_put_array(struct wire_writer *writer, size_t count)
{
    msgpack_pack_array(&writer->packer, count);
}

void wire_put_map(struct wire_writer *writer, size_t pairs)
{
    msgpack_pack_map(&writer->packer, pairs);
}

void wire_pair_bool(struct wire_writer *writer, const char *key, bool value)
{
    wire_put_text(writer, key);
    wire_put_bool(writer, value);
}

void wire_pair_uint(struct wire_writer *writer, const char *key, uint64_t value)
{
    wire_put_text(writer, key);
    wire_put_uint(writer, value);
}

void wire_pair_float(struct wire_writer *writer, const char *key, double value)
{
    wire_put_text(writer, key);
    wire_put_float(writer, value);
}

void wire_pair_text(struct wire_writer *writer, const char *key, const char *value)
{
    wire_put_text(writer, key);
    wire_put_text(writer, value);
}
