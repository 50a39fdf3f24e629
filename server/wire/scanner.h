/* A validating MessagePack scanner: finds the end of one value and proves on the way that it is
 * safe to walk.
 *
 * msgpack-c's unpacker trusts declared lengths: five bytes can ask it for 96 GB, and nested arrays
 * defeat any limit on one array. So the raw bytes are held to four rules first, and only what
 * passed is decoded (wire.h). Nesting is bounded, so that a walk needs no guard of its own. The
 * values of a message, all levels together, are within a budget, and its bytes within a limit; both
 * are charged when they are declared, not when they arrive, and each declared value needs one byte
 * at least. The one byte that MessagePack never uses (0xc1) is refused.
 *
 * The scanner may be stopped and fed again at any byte. It allocates nothing, reads no clock and
 * does no I/O. */
#ifndef SERVER_SCANNER_H
#define SERVER_SCANNER_H

#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

enum scanner_status {
    SCANNER_MORE = 0,      /* all bytes were taken and the value goes on */
    SCANNER_DONE = 1,      /* the value ends; the bytes after *used belong to the next */
    SCANNER_EDEPTH = -1,   /* nested deeper than PROTOCOL_DEPTH_MAX */
    SCANNER_EBUDGET = -2,  /* declares more values than the budget */
    SCANNER_ETOOLONG = -3, /* declares more bytes than the limit */
    SCANNER_EBYTE = -4,    /* holds 0xc1 where a type is expected */
};

struct scanner {
    uint64_t bytes_max;
    uint64_t elements_max;
    uint64_t bytes;                    /* taken from this value so far */
    uint64_t elements;                 /* declared by this value so far, itself included */
    uint64_t skip;                     /* bytes of the payload under way that are still to come */
    uint64_t open[PROTOCOL_DEPTH_MAX]; /* values still to come at each level */
    unsigned depth;
    unsigned head_have, head_need; /* of the type byte and its length field */
    uint8_t head[5];
};

/* Ready for a first value. */
void scanner_init(struct scanner *scanner, uint64_t bytes_max, uint64_t elements_max);
/* Ready for the next value, with the same limits. */
void scanner_reset(struct scanner *scanner);
/* Takes up to count bytes, tells in *used how many, and returns a scanner_status. After an error
 * only scanner_reset may follow. */
int scanner_feed(struct scanner *scanner, const uint8_t *bytes, size_t count, size_t *used);
/* Nothing of a value has been taken. */
static inline int scanner_idle(const struct scanner *scanner)
{
    return scanner->bytes == 0;
}
/* What an error status means, in words for an error message. */
const char *scanner_strerror(int status);

#endif
