/* MessagePack items and the scanner over them: see client_item.h. Pure: no allocation, no I/O. */
#include "client_item.h"

#include <string.h>

static uint64_t load_be(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

static void set_signed(struct item *out, int64_t value)
{
    out->kind = value < 0 ? ITEM_INT : ITEM_UINT;
    if (value < 0)
        out->value.i = value;
    else
        out->value.u = (uint64_t)value;
}

/* The single-byte families: small integers, short strings and small containers. Returns the length
 * of the head. */
static size_t read_fix(uint8_t head, struct item *out)
{
    if (head < 0x80 || head >= 0xe0) {
        set_signed(out, (int8_t)head);
    } else if (head >= 0xa0) {
        out->kind = ITEM_STR;
        out->count = head & 0x1f;
    } else {
        out->kind = head >= 0x90 ? ITEM_ARRAY : ITEM_MAP;
        out->count = head & 0x0f;
    }
    return 1;
}

/* How the heads 0xc0..0xdf continue: what they hold, and how many bytes of value or length follow.
 */
static const struct {
    uint8_t kind, bytes;
    bool is_signed;
} heads[32] = {
    [0x00] = {ITEM_NIL, 0, false},   [0x02] = {ITEM_BOOL, 0, false},
    [0x03] = {ITEM_BOOL, 0, false},  [0x04] = {ITEM_BIN, 1, false},
    [0x05] = {ITEM_BIN, 2, false},   [0x06] = {ITEM_BIN, 4, false},
    [0x07] = {ITEM_EXT, 1, false},   [0x08] = {ITEM_EXT, 2, false},
    [0x09] = {ITEM_EXT, 4, false},   [0x0a] = {ITEM_FLOAT, 4, false},
    [0x0b] = {ITEM_FLOAT, 8, false}, [0x0c] = {ITEM_UINT, 1, false},
    [0x0d] = {ITEM_UINT, 2, false},  [0x0e] = {ITEM_UINT, 4, false},
    [0x0f] = {ITEM_UINT, 8, false},  [0x10] = {ITEM_UINT, 1, true},
    [0x11] = {ITEM_UINT, 2, true},   [0x12] = {ITEM_UINT, 4, true},
    [0x13] = {ITEM_UINT, 8, true},   [0x14] = {ITEM_EXT, 0, false},
    [0x15] = {ITEM_EXT, 0, false},   [0x16] = {ITEM_EXT, 0, false},
    [0x17] = {ITEM_EXT, 0, false},   [0x18] = {ITEM_EXT, 0, false},
    [0x19] = {ITEM_STR, 1, false},   [0x1a] = {ITEM_STR, 2, false},
    [0x1b] = {ITEM_STR, 4, false},   [0x1c] = {ITEM_ARRAY, 2, false},
    [0x1d] = {ITEM_ARRAY, 4, false}, [0x1e] = {ITEM_MAP, 2, false},
    [0x1f] = {ITEM_MAP, 4, false},
};

static void set_number(struct item *out, uint64_t raw, unsigned bytes, bool is_signed)
{
    if (out->kind == ITEM_FLOAT && bytes == 4) {
        uint32_t bits = (uint32_t)raw;
        float value;
        memcpy(&value, &bits, sizeof value);
        out->value.f = value;
    } else if (out->kind == ITEM_FLOAT) {
        memcpy(&out->value.f, &raw, sizeof raw);
    } else if (is_signed) {
        unsigned shift = 64 - 8 * bytes;
        set_signed(out, (int64_t)(raw << shift) >> shift);
    } else {
        out->value.u = raw;
    }
}

/* The heads 0xc0..0xdf. left is at least 1. Returns the length of the head, 0 when bytes are
 * missing (*need says how many). */
static size_t read_long(const uint8_t *at, size_t left, struct item *out, size_t *need)
{
    unsigned head = *at - 0xc0u, bytes = heads[head].bytes;
    *need = 1 + (size_t)bytes;
    if (left < *need)
        return 0;
    uint64_t raw = load_be(at + 1, bytes);
    out->kind = (enum item_kind)heads[head].kind;
    switch (out->kind) {
    case ITEM_NIL:
        break;
    case ITEM_BOOL:
        out->value.boolean = head & 1;
        break;
    case ITEM_EXT:
        out->count = 1 + (uint32_t)(bytes ? raw : 1u << (head - 0x14));
        break; /* + the type byte */
    case ITEM_UINT:
    case ITEM_INT:
    case ITEM_FLOAT:
        set_number(out, raw, bytes, heads[head].is_signed);
        break;
    default:
        out->count = (uint32_t)raw;
    }
    return *need;
}

enum item_status client_item_next(struct item_reader *reader, struct item *out, size_t *need)
{
    size_t left = (size_t)(reader->end - reader->at);
    *need = 1;
    if (left == 0)
        return ITEM_MORE;
    if (*reader->at == 0xc1)
        return ITEM_INVALID;
    memset(out, 0, sizeof *out);
    bool is_fix = *reader->at < 0xc0 || *reader->at >= 0xe0;
    size_t head = is_fix ? read_fix(*reader->at, out) : read_long(reader->at, left, out, need);
    if (head == 0)
        return ITEM_MORE;
    size_t body = 0;
    if (out->kind == ITEM_STR || out->kind == ITEM_BIN)
        body = out->count;
    else if (out->kind == ITEM_EXT)
        body = out->count ? out->count : (size_t)UINT32_MAX + 1; /* 1 + 2^32 - 1 wrapped round */
    *need = head + body;
    if (left < *need)
        return ITEM_MORE;
    out->bytes = reader->at + head;
    reader->at += head + body;
    return ITEM_OK;
}

bool client_item_read(struct item_reader *reader, struct item *out)
{
    size_t need;
    return client_item_next(reader, out, &need) == ITEM_OK;
}

static uint64_t item_children(const struct item *item)
{
    if (item->kind == ITEM_MAP)
        return 2 * (uint64_t)item->count;
    return item->kind == ITEM_ARRAY ? item->count : 0;
}

bool client_item_skip(struct item_reader *reader)
{
    struct item item;
    for (uint64_t left = 1; left > 0; left--) {
        if (!client_item_read(reader, &item))
            return false;
        left += item_children(&item);
    }
    return true;
}

bool client_item_is_text(const struct item *item, const char *text)
{
    return item->kind == ITEM_STR && item->count == strlen(text) &&
           memcmp(item->bytes, text, item->count) == 0;
}

void client_item_copy_text(const struct item *item, char *out, size_t out_bytes)
{
    size_t length = item->kind == ITEM_STR ? item->count : 0;
    if (length >= out_bytes)
        length = out_bytes - 1;
    for (size_t i = 0; i < length; i++)
        out[i] = item->bytes[i] < 0x20 || item->bytes[i] == 0x7f ? '?' : (char)item->bytes[i];
    out[length] = '\0';
}

void client_scan_init(struct client_scan *scan, size_t bytes_max, uint64_t items_max)
{
    *scan = (struct client_scan){.bytes_max = bytes_max, .items_left = items_max, .depth = 1};
    scan->open[0] = 1;
}

/* Counts an item that is whole, and opens what it holds. */
static const char *scan_take(struct client_scan *scan, const struct item *item)
{
    uint64_t children = item_children(item);
    if (children > scan->items_left)
        return "holds too many items";
    scan->items_left -= children; /* charged when declared, so that nesting cannot multiply it */
    scan->open[scan->depth - 1]--;
    if (children > 0) {
        if (scan->depth == 1 + PROTOCOL_DEPTH_MAX)
            return "is nested too deeply";
        scan->open[scan->depth++] = children;
    }
    while (scan->depth > 0 && scan->open[scan->depth - 1] == 0)
        scan->depth--;
    return NULL;
}

enum item_status client_scan_step(struct client_scan *scan, const uint8_t *data, size_t size)
{
    struct item_reader reader = {data + scan->at, data + size};
    while (scan->depth > 0 && !scan->fault) {
        struct item item;
        size_t need;
        enum item_status status = client_item_next(&reader, &item, &need);
        if (status == ITEM_INVALID)
            scan->fault = "holds a byte that MessagePack does not use (0xc1)";
        else if (need > scan->bytes_max - scan->at)
            scan->fault = "is longer than max_reply_bytes";
        else if (status == ITEM_MORE)
            return ITEM_MORE;
        else
            scan->fault = scan_take(scan, &item);
        scan->at = (size_t)(reader.at - data);
    }
    return scan->fault ? ITEM_INVALID : ITEM_OK;
}
