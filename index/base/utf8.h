/* Text from outside (paths, which are any bytes to the kernel) for documents that are UTF-8. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stddef.h>

/* Room that any text takes at the most, its end included. */
#define UTF8_ESCAPED_BYTES(text_bytes) (4 * (text_bytes) + 1)

/* Copies text; each byte that is part of no UTF-8 character becomes \xNN, so that a name can still
 * be told from others. What does not fit into out_bytes (at least 1) is left out, by whole
 * characters. Returns out. */
char *utf8_escape(char *out, size_t out_bytes, const char *text);

#endif
