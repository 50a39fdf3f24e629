/* MessagePack to JSON. Integers keep all 64 bits; NaN and infinities, which JSON has not, become
 * null; binary becomes hexadecimal text; bytes that are no UTF-8 become U+FFFD. Depth is bounded by
 * the scanner. */
#include "client_json.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol.h"

struct text {
    char *data;
    size_t size, capacity;
    bool failed; /* no memory: what follows is dropped */
};

static void text_add(struct text *text, const void *data, size_t bytes)
{
    if (text->capacity - text->size <= bytes && !text->failed) {
        size_t capacity = 2 * text->capacity + bytes + 256;
        char *grown = realloc(text->data, capacity);
        text->failed = grown == NULL;
        if (grown) {
            text->data = grown;
            text->capacity = capacity;
        }
    }
    if (text->failed)
        return;
    memcpy(text->data + text->size, data, bytes);
    text->size += bytes;
    text->data[text->size] = '\0';
}

static void text_add_text(struct text *text, const char *string)
{
    text_add(text, string, strlen(string));
}

/* Bytes of the UTF-8 sequence at the start of data; 0 when there is none (overlong and surrogates
 * are none). */
static size_t utf8_bytes(const uint8_t *data, size_t left)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t bytes = *data < 0x80             ? 1
                   : (*data & 0xe0) == 0xc0 ? 2
                   : (*data & 0xf0) == 0xe0 ? 3
                   : (*data & 0xf8) == 0xf0 ? 4
                                            : 0;
    if (bytes <= 1 || bytes > left)
        return bytes == 1;
    uint32_t point = *data & (0x7fu >> bytes);
    for (size_t i = 1; i < bytes; i++) {
        if ((data[i] & 0xc0) != 0x80)
            return 0;
        point = point << 6 | (data[i] & 0x3f);
    }
    return point < least[bytes] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000) ? 0
                                                                                           : bytes;
}

static void add_string(struct text *text, const struct item *item)
{
    text_add_text(text, "\"");
    for (size_t i = 0; i < item->count;) {
        size_t bytes = utf8_bytes(item->bytes + i, item->count - i);
        uint8_t byte = item->bytes[i];
        char escape[8];
        if (bytes == 0)
            text_add_text(text, "\xef\xbf\xbd");
        else if (byte == '"' || byte == '\\')
            text_add(text, (char[2]){'\\', (char)byte}, 2);
        else if (byte < 0x20)
            text_add(text, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", byte));
        else
            text_add(text, item->bytes + i, bytes);
        i += bytes ? bytes : 1;
    }
    text_add_text(text, "\"");
}

static void add_hex(struct text *text, const struct item *item)
{
    static const char digits[] = "0123456789abcdef";
    text_add_text(text, "\"");
    for (size_t i = 0; i < item->count; i++)
        text_add(text, (char[2]){digits[item->bytes[i] >> 4], digits[item->bytes[i] & 15]}, 2);
    text_add_text(text, "\"");
}

static void add_scalar(struct text *text, const struct item *item)
{
    char number[40];
    switch (item->kind) {
    case ITEM_BOOL:
        text_add_text(text, item->value.boolean ? "true" : "false");
        return;
    case ITEM_STR:
        add_string(text, item);
        return;
    case ITEM_BIN:
    case ITEM_EXT:
        add_hex(text, item);
        return;
    case ITEM_UINT:
        snprintf(number, sizeof number, "%" PRIu64, item->value.u);
        break;
    case ITEM_INT:
        snprintf(number, sizeof number, "%" PRId64, item->value.i);
        break;
    case ITEM_FLOAT:
        if (isfinite(item->value.f)) {
            snprintf(number, sizeof number, "%.17g", item->value.f);
            char *comma = strchr(number, ',');
            if (comma)
                *comma = '.'; /* the caller's locale may write decimal commas */
            if (!strpbrk(number, ".eE"))
                strcat(number, ".0"); /* stays a real for parsers that tell the two apart */
            break;
        }
        /* fallthrough */
    default:
        strcpy(number, "null");
    }
    text_add_text(text, number);
}

/* Generations take all 64 bits, which many JSON parsers cut: they are written as all programs show
 * them. */
static bool add_generation(struct text *text, const struct item *key, struct item_reader *reader)
{
    struct item_reader at = *reader;
    struct item value;
    char digits[24];
    static const char name[] = PROTOCOL_KEY_GENERATION; /* and "previous_generation" */
    size_t bytes = sizeof name - 1;
    if (key->count < bytes || memcmp(key->bytes + key->count - bytes, name, bytes) ||
        !client_item_read(&at, &value) || value.kind != ITEM_UINT)
        return false;
    snprintf(digits, sizeof digits, "\"%016" PRIx64 "\"", value.value.u);
    text_add_text(text, digits);
    *reader = at;
    return true;
}

static int add_value(struct text *text, struct item_reader *reader)
{
    struct item item, key;
    if (!client_item_read(reader, &item))
        return -EINVAL;
    if (item.kind != ITEM_ARRAY && item.kind != ITEM_MAP) {
        add_scalar(text, &item);
        return 0;
    }
    bool is_map = item.kind == ITEM_MAP;
    text_add_text(text, is_map ? "{" : "[");
    for (uint32_t i = 0; i < item.count; i++) {
        if (i > 0)
            text_add_text(text, ", ");
        if (is_map) {
            if (!client_item_read(reader, &key) || key.kind != ITEM_STR)
                return -EINVAL;
            add_string(text, &key);
            text_add_text(text, ": ");
            if (add_generation(text, &key, reader))
                continue;
        }
        int code = add_value(text, reader);
        if (code)
            return code;
    }
    text_add_text(text, is_map ? "}" : "]");
    return 0;
}

int client_json_from_items(char **out, struct item_reader *reader)
{
    struct text text = {0};
    int code = add_value(&text, reader);
    if (code == 0 && text.failed)
        code = -ENOMEM;
    if (code) {
        free(text.data);
        text.data = NULL;
    }
    *out = text.data;
    return code;
}
