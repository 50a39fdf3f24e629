/* MessagePack, both ways. Reading is a cursor over bytes that the scanner has passed (scanner.h);
 * values point into those bytes. Writing is msgpack-c's packer over a connection's output buffer,
 * through a few helpers that keep replies short to write. Knows types, not the protocol. */
#ifndef SERVER_WIRE_H
#define SERVER_WIRE_H

#include "buffer.h"

#include <msgpack/pack.h>

/* ---- reading ---- */

enum wire_kind {
    WIRE_NIL,
    WIRE_BOOL,
    WIRE_UINT, /* not negative, whatever its encoding */
    WIRE_INT,  /* negative */
    WIRE_FLOAT,
    WIRE_STR,
    WIRE_BIN,
    WIRE_ARRAY, /* its values follow in the cursor */
    WIRE_MAP,   /* its keys and values follow, in turn */
    WIRE_EXT,
};

struct wire_value {
    enum wire_kind kind;
    union {
        bool truth;
        uint64_t number;
        int64_t negative;
        double real;
        uint32_t count; /* of an array or (pairs) a map */
        struct {
            const uint8_t *bytes;
            uint32_t size;
        } text; /* str, bin and ext */
    };
};

struct wire_cursor {
    const uint8_t *at, *end;
};

/* Reads one value; of an array or a map the head alone. False at the end of the bytes (which
 * scanned bytes never reach within a value; checked all the same). */
bool wire_next(struct wire_cursor *cursor, struct wire_value *out) FATHOM_MUST_USE;
/* "an integer", "a string"...: for messages about a value of the wrong kind. */
const char *wire_kind_name(enum wire_kind kind);
/* The value is the string text. */
bool wire_text_is(const struct wire_value *value, const char *text);

/* ---- writing ---- */

/* A message under way. The first failed write is remembered and the rest ignored, so that code that
 * packs a reply reads straight down; wire_end then takes back what was written. */
struct wire_writer {
    struct buffer *out;
    size_t start;
    int rc;
    msgpack_packer packer;
};

void wire_begin(struct wire_writer *writer, struct buffer *out);
/* 0, or -ENOMEM with the buffer as it was before wire_begin. */
int wire_end(struct wire_writer *writer) FATHOM_MUST_USE;

void wire_put_nil(struct wire_writer *writer);
void wire_put_bool(struct wire_writer *writer, bool value);
void wire_put_uint(struct wire_writer *writer, uint64_t value);
void wire_put_float(struct wire_writer *writer, double value);
void wire_put_text(struct wire_writer *writer, const char *text);
void wire_put_bin(struct wire_writer *writer, const void *bytes, size_t count);
void wire_put_array(struct wire_writer *writer, size_t count);
void wire_put_map(struct wire_writer *writer, size_t pairs);

/* A pair of a map. */
void wire_pair_bool(struct wire_writer *writer, const char *key, bool value);
void wire_pair_uint(struct wire_writer *writer, const char *key, uint64_t value);
void wire_pair_float(struct wire_writer *writer, const char *key, double value);
void wire_pair_text(struct wire_writer *writer, const char *key, const char *value);

#endif
