/* A server made of a script, for the tests of libfathom_client: a thread accepts connections, and
 * calls the test's function for each. Requests are read with msgpack-c's unpacker, so that what the
 * client packs is judged by another's code. */
#ifndef TESTS_CLIENT_FAKE_H
#define TESTS_CLIENT_FAKE_H

#include <msgpack.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct fake_conn {
    int fd;
    unsigned number; /* of the connection, from 0 */
    msgpack_unpacker unpacker;
    msgpack_unpacked message; /* the last one read */
    void *context;
};

struct fake {
    char address[128]; /* for fathom_client_open */
    int listen_fd;
    pthread_t thread;
    unsigned connections;
    void (*serve)(struct fake_conn *conn);
    void *context;
};

/* Starts a server that answers `connections` of them, one after the other, and then no more.
 * unix_path NULL: TCP. */
void fake_start(struct fake *fake, const char *unix_path, unsigned connections,
                void (*serve)(struct fake_conn *conn), void *context);
/* Waits until all its connections have come and gone. */
void fake_join(struct fake *fake);

/* Reads one message into conn->message; false at the end of the stream. */
bool fake_read(struct fake_conn *conn);
uint64_t fake_msgid(const struct fake_conn *conn);
bool fake_is(const struct fake_conn *conn, const char *method);
/* A value of the request's params; its type is MSGPACK_OBJECT_NIL when the key is missing. */
msgpack_object fake_param(const struct fake_conn *conn, const char *key);

void fake_send(struct fake_conn *conn, const void *data, size_t bytes);
/* Reads a hello and answers it. */
void fake_hello(struct fake_conn *conn);
/* Appends `[1, msgid, nil, ` or `[1, msgid, `: the test packs what follows. */
void fake_begin_result(msgpack_packer *pack, uint64_t msgid);
void fake_pack_text(msgpack_packer *pack, const char *text);
/* A whole search reply: ids first_id + i, distances i / 2. extra pairs follow by the caller. */
void fake_pack_search(msgpack_packer *pack, uint64_t msgid, unsigned n, unsigned k,
                      uint64_t first_id, unsigned extra_pairs);
void fake_send_buffer(struct fake_conn *conn, msgpack_sbuffer *buffer);
/* Answers the last request as a search with ids from first_id on. */
void fake_answer_search(struct fake_conn *conn, uint64_t first_id);
void fake_answer_nil(struct fake_conn *conn, uint64_t msgid);

#endif
