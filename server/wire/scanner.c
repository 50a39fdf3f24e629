/* The scanner. A value is a head (type byte and, for some types, a big-endian length), then a
 * payload to skip or a number of inner values. Where we stand is (head bytes so far, payload bytes
 * to skip, values open at each level): that is all of the state, which is why any byte may be the
 * last one of a feed. */
#include "scanner.h"

#include <string.h>

/* How the head of each type is read: bytes of the length field, and what the length counts. */
enum head_kind { HEAD_FIXED, HEAD_BYTES, HEAD_ARRAY, HEAD_MAP, HEAD_EXT, HEAD_BAD };

struct head_rule {
    uint8_t kind;
    uint8_t length_bytes; /* big-endian, follows the type byte */
    uint8_t payload;      /* bytes after the head, besides what the length says */
};

/* 0xc0..0xdf; the other type bytes carry their length in themselves. */
static const struct head_rule head_rules[32] = {
    [0x00] = {HEAD_FIXED, 0, 0},  /* nil */
    [0x01] = {HEAD_BAD, 0, 0},    /* never used */
    [0x02] = {HEAD_FIXED, 0, 0},  /* false */
    [0x03] = {HEAD_FIXED, 0, 0},  /* true */
    [0x04] = {HEAD_BYTES, 1, 0},  /* bin 8 */
    [0x05] = {HEAD_BYTES, 2, 0},  /* bin 16 */
    [0x06] = {HEAD_BYTES, 4, 0},  /* bin 32 */
    [0x07] = {HEAD_EXT, 1, 1},    /* ext 8 */
    [0x08] = {HEAD_EXT, 2, 1},    /* ext 16 */
    [0x09] = {HEAD_EXT, 4, 1},    /* ext 32 */
    [0x0a] = {HEAD_FIXED, 0, 4},  /* float 32 */
    [0x0b] = {HEAD_FIXED, 0, 8},  /* float 64 */
    [0x0c] = {HEAD_FIXED, 0, 1},  /* uint 8 */
    [0x0d] = {HEAD_FIXED, 0, 2},  /* uint 16 */
    [0x0e] = {HEAD_FIXED, 0, 4},  /* uint 32 */
    [0x0f] = {HEAD_FIXED, 0, 8},  /* uint 64 */
    [0x10] = {HEAD_FIXED, 0, 1},  /* int 8 */
    [0x11] = {HEAD_FIXED, 0, 2},  /* int 16 */
    [0x12] = {HEAD_FIXED, 0, 4},  /* int 32 */
    [0x13] = {HEAD_FIXED, 0, 8},  /* int 64 */
    [0x14] = {HEAD_FIXED, 0, 2},  /* fixext 1 */
    [0x15] = {HEAD_FIXED, 0, 3},  /* fixext 2 */
    [0x16] = {HEAD_FIXED, 0, 5},  /* fixext 4 */
    [0x17] = {HEAD_FIXED, 0, 9},  /* fixext 8 */
    [0x18] = {HEAD_FIXED, 0, 17}, /* fixext 16 */
    [0x19] = {HEAD_BYTES, 1, 0},  /* str 8 */
    [0x1a] = {HEAD_BYTES, 2, 0},  /* str 16 */
    [0x1b] = {HEAD_BYTES, 4, 0},  /* str 32 */
    [0x1c] = {HEAD_ARRAY, 2, 0},  /* array 16 */
    [0x1d] = {HEAD_ARRAY, 4, 0},  /* array 32 */
    [0x1e] = {HEAD_MAP, 2, 0},    /* map 16 */
    [0x1f] = {HEAD_MAP, 4, 0},    /* map 32 */
};

void scanner_init(struct scanner *scanner, uint64_t bytes_max, uint64_t elements_max)
{
    memset(scanner, 0, sizeof *scanner);
    scanner->bytes_max = bytes_max;
    scanner->elements_max = elements_max;
}

void scanner_reset(struct scanner *scanner)
{
    scanner_init(scanner, scanner->bytes_max, scanner->elements_max);
}

static unsigned head_length(uint8_t type)
{
    return type >= 0xc0 && type <= 0xdf ? 1u + head_rules[type - 0xc0].length_bytes : 1u;
}

static uint64_t load_big_endian(const uint8_t *bytes, unsigned count)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < count; i++)
        value = value << 8 | bytes[i];
    return value;
}

/* A payload of this many bytes begins. */
static int begin_payload(struct scanner *scanner, uint64_t bytes)
{
    if (bytes > scanner->bytes_max - scanner->bytes)
        return SCANNER_ETOOLONG;
    scanner->skip = bytes;
    return SCANNER_MORE;
}

/* An array or map of this many values begins; an empty one has ended already. */
static int begin_container(struct scanner *scanner, uint64_t values)
{
    if (values > scanner->elements_max - scanner->elements)
        return SCANNER_EBUDGET;
    if (values > scanner->bytes_max - scanner->bytes)
        return SCANNER_ETOOLONG;
    scanner->elements += values;
    if (scanner->depth == PROTOCOL_DEPTH_MAX)
        return SCANNER_EDEPTH;
    if (values > 0)
        scanner->open[scanner->depth++] = values;
    return SCANNER_MORE;
}

/* The head is whole: what does it announce? */
static int begin_value(struct scanner *scanner)
{
    uint8_t type = scanner->head[0];
    if (type < 0x80 || type >= 0xe0) /* fixint */
        return SCANNER_MORE;
    if (type < 0x90) /* fixmap */
        return begin_container(scanner, 2u * (type & 0x0f));
    if (type < 0xa0) /* fixarray */
        return begin_container(scanner, type & 0x0f);
    if (type < 0xc0) /* fixstr */
        return begin_payload(scanner, type & 0x1f);

    const struct head_rule *rule = &head_rules[type - 0xc0];
    uint64_t length = load_big_endian(scanner->head + 1, rule->length_bytes);
    switch (rule->kind) {
    case HEAD_BAD:
        return SCANNER_EBYTE;
    case HEAD_ARRAY:
        return begin_container(scanner, length);
    case HEAD_MAP:
        return begin_container(scanner, 2 * length);
    default:
        return begin_payload(scanner, length + rule->payload);
    }
}

/* A value has ended; so have the containers of which it was the last. True when that was the
 * outermost. */
static int end_value(struct scanner *scanner)
{
    while (scanner->depth > 0) {
        if (--scanner->open[scanner->depth - 1] > 0)
            return 0;
        scanner->depth--;
    }
    return 1;
}

/* Takes one byte of a head; returns SCANNER_DONE when that ended the outermost value. */
static int take_head_byte(struct scanner *scanner, uint8_t byte)
{
    if (scanner->bytes == scanner->bytes_max)
        return SCANNER_ETOOLONG;
    if (scanner->bytes == 0)
        scanner->elements = 1;
    scanner->bytes++;
    if (scanner->head_have == 0)
        scanner->head_need = head_length(byte);
    scanner->head[scanner->head_have++] = byte;
    if (scanner->head_have < scanner->head_need)
        return SCANNER_MORE;

    scanner->head_have = 0;
    unsigned depth = scanner->depth;
    int status = begin_value(scanner);
    if (status < 0 || scanner->skip > 0 || scanner->depth > depth)
        return status;
    return end_value(scanner) ? SCANNER_DONE : SCANNER_MORE;
}

int scanner_feed(struct scanner *scanner, const uint8_t *bytes, size_t count, size_t *used)
{
    size_t at = 0;
    int status = SCANNER_MORE;
    while (status == SCANNER_MORE && at < count) {
        if (scanner->skip > 0) {
            uint64_t step = scanner->skip < count - at ? scanner->skip : count - at;
            scanner->skip -= step;
            scanner->bytes += step;
            at += step;
            if (scanner->skip == 0 && end_value(scanner))
                status = SCANNER_DONE;
        } else {
            status = take_head_byte(scanner, bytes[at++]);
        }
    }
    *used = at;
    return status;
}

const char *scanner_strerror(int status)
{
    switch (status) {
    case SCANNER_EDEPTH:
        return "nested deeper than 8 levels";
    case SCANNER_EBUDGET:
        return "declares more values than a message may hold";
    case SCANNER_ETOOLONG:
        return "declares more bytes than the limit of a message";
    case SCANNER_EBYTE:
        return "holds the byte 0xc1, which MessagePack never uses";
    default:
        return "ok";
    }
}
