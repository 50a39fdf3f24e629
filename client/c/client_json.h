/* A MessagePack value as JSON text, for the answers that people and scripts read (info, stats). */
#ifndef CLIENT_JSON_H
#define CLIENT_JSON_H

#include "client_item.h"

/* The next value of reader, which was scanned. *out is to be freed with free(), and NULL on
 * failure: -ENOMEM, or -EINVAL for a map whose key is no text. */
int client_json_from_items(char **out, struct item_reader *reader);

#endif
