/* The scripted server: see client_fake.h. */
#include "client_fake.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fathom_test.h"

static void *accept_all(void *argument)
{
    struct fake *fake = argument;
    for (unsigned i = 0; i < fake->connections; i++) {
        struct fake_conn conn = {.number = i, .context = fake->context};
        conn.fd = accept(fake->listen_fd, NULL, NULL);
        if (conn.fd < 0)
            break;
        msgpack_unpacker_init(&conn.unpacker, 1 << 16);
        msgpack_unpacked_init(&conn.message);
        fake->serve(&conn);
        msgpack_unpacked_destroy(&conn.message);
        msgpack_unpacker_destroy(&conn.unpacker);
        close(conn.fd);
    }
    return NULL;
}

void fake_start(struct fake *fake, const char *unix_path, unsigned connections,
                void (*serve)(struct fake_conn *conn), void *context)
{
    *fake = (struct fake){.connections = connections, .serve = serve, .context = context};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in internet = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr *name = unix_path ? (struct sockaddr *)&local : (struct sockaddr *)&internet;
    socklen_t length = unix_path ? sizeof local : sizeof internet;
    if (unix_path)
        strncpy(local.sun_path, unix_path, sizeof local.sun_path - 1);
    fake->listen_fd = socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fake->listen_fd >= 0);
    assert_return_code(bind(fake->listen_fd, name, length), 0);
    assert_return_code(listen(fake->listen_fd, 8), 0);
    assert_return_code(getsockname(fake->listen_fd, name, &length), 0);
    if (unix_path)
        snprintf(fake->address, sizeof fake->address, "unix:%s", unix_path);
    else
        snprintf(fake->address, sizeof fake->address, "127.0.0.1:%u", ntohs(internet.sin_port));
    assert_int_equal(pthread_create(&fake->thread, NULL, accept_all, fake), 0);
}

void fake_join(struct fake *fake)
{
    pthread_join(fake->thread, NULL);
    close(fake->listen_fd);
}

bool fake_read(struct fake_conn *conn)
{
    for (;;) {
        msgpack_unpack_return got = msgpack_unpacker_next(&conn->unpacker, &conn->message);
        if (got == MSGPACK_UNPACK_SUCCESS)
            return true;
        if (got != MSGPACK_UNPACK_CONTINUE)
            return false;
        msgpack_unpacker_reserve_buffer(&conn->unpacker, 1 << 16);
        ssize_t bytes = recv(conn->fd, msgpack_unpacker_buffer(&conn->unpacker), 1 << 16, 0);
        if (bytes <= 0)
            return false;
        msgpack_unpacker_buffer_consumed(&conn->unpacker, (size_t)bytes);
    }
}

static bool text_is(const msgpack_object *object, const char *text)
{
    return object->type == MSGPACK_OBJECT_STR && object->via.str.size == strlen(text) &&
           memcmp(object->via.str.ptr, text, object->via.str.size) == 0;
}

uint64_t fake_msgid(const struct fake_conn *conn)
{
    return conn->message.data.via.array.ptr[1].via.u64;
}

bool fake_is(const struct fake_conn *conn, const char *method)
{
    const msgpack_object_array *array = &conn->message.data.via.array;
    return text_is(&array->ptr[array->size - 2], method);
}

msgpack_object fake_param(const struct fake_conn *conn, const char *key)
{
    const msgpack_object_array *array = &conn->message.data.via.array;
    const msgpack_object_map *map = &array->ptr[array->size - 1].via.array.ptr[0].via.map;
    for (uint32_t i = 0; i < map->size; i++) {
        if (text_is(&map->ptr[i].key, key))
            return map->ptr[i].val;
    }
    return (msgpack_object){.type = MSGPACK_OBJECT_NIL};
}

void fake_send(struct fake_conn *conn, const void *data, size_t bytes)
{
    for (const char *at = data; bytes > 0;) {
        ssize_t sent = send(conn->fd, at, bytes, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* the client has gone: its test looks at that from the other side */
        at += sent;
        bytes -= (size_t)sent;
    }
}

void fake_send_buffer(struct fake_conn *conn, msgpack_sbuffer *buffer)
{
    fake_send(conn, buffer->data, buffer->size);
    msgpack_sbuffer_destroy(buffer);
}

void fake_pack_text(msgpack_packer *pack, const char *text)
{
    msgpack_pack_str_with_body(pack, text, strlen(text));
}

void fake_begin_result(msgpack_packer *pack, uint64_t msgid)
{
    msgpack_pack_array(pack, 4);
    msgpack_pack_int(pack, 1);
    msgpack_pack_uint64(pack, msgid);
    msgpack_pack_nil(pack);
}

void fake_hello(struct fake_conn *conn)
{
    if (!fake_read(conn) || !fake_is(conn, "hello"))
        return;
    msgpack_sbuffer buffer = {0};
    msgpack_packer pack;
    msgpack_packer_init(&pack, &buffer, msgpack_sbuffer_write);
    fake_begin_result(&pack, fake_msgid(conn));
    msgpack_pack_map(&pack, 4);
    fake_pack_text(&pack, "server");
    fake_pack_text(&pack, "fake/1");
    fake_pack_text(&pack, "protocol");
    msgpack_pack_int(&pack, 1);
    fake_pack_text(&pack, "max_message_bytes");
    msgpack_pack_int(&pack, 1 << 20);
    fake_pack_text(&pack, "indexes");
    msgpack_pack_array(&pack, 1);
    fake_pack_text(&pack, "tiny");
    fake_send_buffer(conn, &buffer);
}

void fake_pack_search(msgpack_packer *pack, uint64_t msgid, unsigned n, unsigned k,
                      uint64_t first_id, unsigned extra_pairs)
{
    size_t count = (size_t)n * k;
    uint64_t *ids = calloc(count, sizeof *ids);
    float *distances = calloc(count, sizeof *distances);
    for (size_t i = 0; i < count; i++) {
        ids[i] = first_id + i;
        distances[i] = (float)i / 2;
    }
    fake_begin_result(pack, msgid);
    msgpack_pack_map(pack, 5 + extra_pairs);
    fake_pack_text(pack, "ids");
    msgpack_pack_bin_with_body(pack, ids, count * sizeof *ids);
    fake_pack_text(pack, "distances");
    msgpack_pack_bin_with_body(pack, distances, count * sizeof *distances);
    fake_pack_text(pack, "shape");
    msgpack_pack_array(pack, 2);
    msgpack_pack_unsigned_int(pack, n);
    msgpack_pack_unsigned_int(pack, k);
    fake_pack_text(pack, "generation");
    msgpack_pack_uint64(pack, UINT64_MAX - 1);
    fake_pack_text(pack, "complete");
    msgpack_pack_true(pack);
    free(ids);
    free(distances);
}

void fake_answer_search(struct fake_conn *conn, uint64_t first_id)
{
    msgpack_sbuffer buffer = {0};
    msgpack_packer pack;
    msgpack_packer_init(&pack, &buffer, msgpack_sbuffer_write);
    msgpack_object shape = fake_param(conn, "shape");
    fake_pack_search(&pack, fake_msgid(conn), (unsigned)shape.via.array.ptr[0].via.u64,
                     (unsigned)fake_param(conn, "k").via.u64, first_id, 0);
    fake_send_buffer(conn, &buffer);
}

void fake_answer_nil(struct fake_conn *conn, uint64_t msgid)
{
    msgpack_sbuffer buffer = {0};
    msgpack_packer pack;
    msgpack_packer_init(&pack, &buffer, msgpack_sbuffer_write);
    fake_begin_result(&pack, msgid);
    msgpack_pack_nil(&pack);
    fake_send_buffer(conn, &buffer);
}
