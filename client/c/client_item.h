/* MessagePack items, read one head at a time from bytes that a server sent, and the scanner that
 * finds where a message ends. Nothing is trusted: every length is bounded before it is used, and
 * nothing here allocates, so a reply that declares four billion elements costs nothing but an
 * error.
 *
 * msgpack-c packs our requests; it does not unpack replies, because its unpacker allocates what
 * lengths declare. */
#ifndef CLIENT_ITEM_H
#define CLIENT_ITEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

enum item_kind {
    ITEM_NIL,
    ITEM_BOOL,
    ITEM_UINT, /* also signed encodings of values >= 0 */
    ITEM_INT,  /* negative values alone */
    ITEM_FLOAT,
    ITEM_STR,
    ITEM_BIN,
    ITEM_EXT,
    ITEM_ARRAY,
    ITEM_MAP,
};

/* One item. Of an array or a map this is the head; its elements follow as items of their own. */
struct item {
    enum item_kind kind;
    uint32_t count;       /* elements of an array, pairs of a map, bytes of a str, bin or ext */
    const uint8_t *bytes; /* of a str, bin or ext: inside the reader's memory, not NUL-terminated */
    union {
        bool boolean;
        uint64_t u;
        int64_t i;
        double f;
    } value;
};

struct item_reader {
    const uint8_t *at, *end;
};

enum item_status { ITEM_OK = 1, ITEM_MORE = 0, ITEM_INVALID = -1 };

/* Reads the next item. ITEM_MORE: the bytes end inside it (at stays); ITEM_INVALID: the byte 0xc1.
 * *need is then how many bytes from at the item takes at least. */
enum item_status client_item_next(struct item_reader *reader, struct item *out, size_t *need);
/* The same over a message that was scanned: false only when the reader is at its end. */
bool client_item_read(struct item_reader *reader, struct item *out);
/* Steps over one whole value with all it holds. */
bool client_item_skip(struct item_reader *reader);
bool client_item_is_text(const struct item *item, const char *text);
/* Copies a str into a fixed buffer, cut and NUL-terminated; control bytes become '?', for it may be
 * printed. */
void client_item_copy_text(const struct item *item, char *out, size_t out_bytes);

/* ---- where a message ends ---- */

/* Resumable at any byte: the state of a message that has arrived in part. */
struct client_scan {
    size_t at;           /* bytes of the message that are known to be sound */
    size_t bytes_max;    /* a message may not be longer */
    uint64_t items_left; /* the budget of items over the whole message, however they are nested */
    unsigned depth;
    uint64_t open[1 + PROTOCOL_DEPTH_MAX]; /* items still to come at each level, the message
                                                 itself being the first */
    const char *fault;                     /* what was wrong, after ITEM_INVALID */
};

void client_scan_init(struct client_scan *scan, size_t bytes_max, uint64_t items_max);
/* data holds size bytes from the start of the message. ITEM_OK: the message is whole and scan->at
 * bytes long. */
enum item_status client_scan_step(struct client_scan *scan, const uint8_t *data, size_t size);

#endif
