/* Decoding the parts of replies. The bytes were scanned (client_item.h), so items are whole; what
 * they say is checked here, and ids and distances are written to the caller's arrays only when all
 * of it was right. */
#ifndef CLIENT_REPLY_H
#define CLIENT_REPLY_H

#include "client_core.h"

/* An error map of the server into err; returns FATHOM_CLIENT_ESERVER (whatever the map looks like).
 */
int client_reply_error(struct item_reader *reader, struct fathom_client_error *err);

/* slot->decode of the methods. */
int client_reply_hello(struct slot *slot, struct item_reader *reader,
                       struct fathom_client_error *err);
int client_reply_search(struct slot *slot, struct item_reader *reader,
                        struct fathom_client_error *err);
int client_reply_json(struct slot *slot, struct item_reader *reader,
                      struct fathom_client_error *err);

#endif
