/* Opening an index file and streaming its sections, each page checked before its bytes are used.
 * For opening and verifying; queries read single pages through the ring (search/). */
#include "format.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "file_path.h"
#include "mem.h"

char *path_join(const char *dir, const char *name)
{
    size_t dir_bytes = strlen(dir), name_bytes = strlen(name);
    char *path = mem_alloc(dir_bytes + name_bytes + 2);
    if (path) {
        memcpy(path, dir, dir_bytes);
        path[dir_bytes] = '/';
        memcpy(path + dir_bytes + 1, name, name_bytes + 1);
    }
    return path;
}

static int open_path(struct index_file *file, const struct env *env, const char *path, bool direct,
                     struct fathom_error *err)
{
    *file = (struct index_file){.env = env, .fd = -1};
    uint64_t bytes = 0;
    int status = -ENOMEM;
    uint8_t *page = mem_alloc_pages(1);
    file->path = mem_alloc(strlen(path) + 1);
    if (!page || !file->path) {
        error_set(err, status, "%s: no memory to open the index", path);
        goto fail;
    }
    memcpy(file->path, path, strlen(path) + 1);
    status = file->fd = file_open_read(env, path, direct, &file->direct, err);
    if (status < 0)
        goto fail;
    status = file_bytes(env, file->fd, path, &bytes, err);
    if (status < 0)
        goto fail;
    if (bytes < PAGE_BYTES) {
        status = error_set(err, FATHOM_ECORRUPT,
                           "%s: %" PRIu64 " bytes are too few for an index: it is empty or was "
                           "truncated",
                           path, bytes);
        goto fail;
    }
    status = file_read_full(env, file->fd, path, page, PAGE_BYTES, 0, err);
    if (status < 0)
        goto fail;
    status = superblock_decode(&file->super, page, bytes, path, err);
    if (status < 0)
        goto fail;
    mem_free_pages(page, 1);
    return 0;
fail:
    mem_free_pages(page, 1);
    index_file_close(file);
    return status;
}

int index_file_open_path(struct index_file *file, const struct env *env, const char *path,
                         struct fathom_error *err)
{
    return open_path(file, env, path, true, err);
}

int index_file_open_cached(struct index_file *file, const struct env *env, const char *path,
                           struct fathom_error *err)
{
    return open_path(file, env, path, false, err);
}

static bool is_there(const struct env *env, const char *path)
{
    int fd = env->open(env->context, path, O_RDONLY | O_NONBLOCK, 0);
    file_close(env, fd);
    return fd != -ENOENT;
}

int index_file_open(struct index_file *file, const struct env *env, const char *dir,
                    struct fathom_error *err)
{
    *file = (struct index_file){.env = env, .fd = -1};
    char *path = path_join(dir, FORMAT_FILE_NAME);
    if (!path)
        return error_set(err, -ENOMEM, "%s: no memory to open the index", dir);
    int status = index_file_open_path(file, env, path, err);
    if (status == -ENOTDIR)
        error_set(err, status, "%s: is no directory; an index is named by its directory", dir);
    else if (status == -ENOENT && !is_there(env, dir))
        error_set(err, status, "%s: there is no such directory; an index is built by fathom-build",
                  dir);
    else if (status == -ENOENT)
        error_set(err, status,
                  "%s: there is no index in this directory (no %s); build one with fathom-build",
                  dir, FORMAT_FILE_NAME);
    mem_free(path);
    return status;
}

void index_file_close(struct index_file *file)
{
    file_close(file->env, file->fd);
    mem_free(file->path);
    file->fd = -1;
    file->path = NULL;
}

struct row_place section_row_place(const struct section *section, uint64_t row)
{
    if (section->rows_per_page == 0)
        return (struct row_place){.page = section->first_page + row * section->pages_per_row,
                                  .page_count = section->pages_per_row};
    return (struct row_place){.page = section->first_page + row / section->rows_per_page,
                              .page_count = 1,
                              .byte =
                                  (uint32_t)(row % section->rows_per_page) * section->row_bytes};
}

/* Checks count pages and moves their payloads together at the front of the buffer. */
static int collect_payloads(const struct index_file *file, const struct section *section,
                            uint64_t first, uint32_t count, uint8_t *pages,
                            struct fathom_error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        struct page_place place = {file->super.properties.generation, section->kind, first + i};
        uint8_t *page = pages + (size_t)i * PAGE_BYTES;
        if (!page_check(page, &place))
            return error_set(err, FATHOM_ECHECKSUM,
                             "%s: section %s: checksum mismatch in page %" PRIu64
                             " (offset %" PRIu64 "); restore the "
                             "index from a copy or rebuild it",
                             file->path, section_name(section->kind), first + i,
                             (first + i) * PAGE_BYTES);
        memmove(pages + (size_t)i * PAGE_PAYLOAD, page + PAGE_HEADER, PAGE_PAYLOAD);
    }
    return 0;
}

/* The one function type of this file; a typedef keeps the five signatures readable. */
typedef int visit_fn(void *context, const uint8_t *payload, size_t bytes, struct fathom_error *err);

static int ask_to_stop(const struct index_file *file, struct fathom_error *err)
{
    const struct format_stop *stop = file->stop;
    if (!stop || !stop->stopped || !stop->stopped(stop->context))
        return 0;
    return error_set(err, FATHOM_EINTERRUPTED, "%s: %s", file->path,
                     fathom_strerror(FATHOM_EINTERRUPTED));
}

/* What is read at once of few pages needs no memory: codes are loaded by tens of thousands of reads
 * of some ten pages each, and a mapping for each of these costs more than what is read. */
#define FEW_PAGES 16

/* Streams the payload of pages from first on: skip bytes are passed over, then bytes are visited.
 */
static int stream_pages(const struct index_file *file, const struct section *section,
                        uint64_t first, size_t skip, uint64_t bytes, visit_fn *visit, void *context,
                        struct fathom_error *err)
{
    uint64_t count = (skip + bytes + PAGE_PAYLOAD - 1) / PAGE_PAYLOAD;
    uint32_t most = file->stream_pages ? file->stream_pages : FORMAT_STREAM_PAGES;
    size_t buffer_pages = count < most ? count : most;
    _Alignas(PAGE_BYTES) uint8_t few[FEW_PAGES * PAGE_BYTES];
    uint8_t *mapped = buffer_pages > FEW_PAGES ? mem_alloc_pages(buffer_pages) : NULL;
    uint8_t *buffer = buffer_pages > FEW_PAGES ? mapped : few;
    int status = 0;
    if (!buffer)
        return error_set(err, -ENOMEM, "%s: no memory for a read buffer", file->path);
    for (uint64_t done = 0; done < count && status == 0;) {
        uint32_t step = count - done < most ? (uint32_t)(count - done) : most;
        status = ask_to_stop(file, err);
        if (status == 0)
            status = file_read_full(file->env, file->fd, file->path, buffer,
                                    (size_t)step * PAGE_BYTES, (first + done) * PAGE_BYTES, err);
        if (status == 0)
            status = collect_payloads(file, section, first + done, step, buffer, err);
        size_t payload = (size_t)step * PAGE_PAYLOAD - skip;
        if (payload > bytes)
            payload = bytes;
        if (status == 0)
            status = visit(context, buffer + skip, payload, err);
        skip = 0;
        bytes -= payload;
        done += step;
    }
    mem_free_pages(mapped, buffer_pages);
    return status;
}

int index_file_stream(const struct index_file *file, const struct section *section, visit_fn *visit,
                      void *context, struct fathom_error *err)
{
    uint64_t bytes = section->row_bytes ? section->page_count * PAGE_PAYLOAD : section->bytes;
    return bytes ? stream_pages(file, section, section->first_page, 0, bytes, visit, context, err)
                 : 0;
}

int index_file_stream_rows(const struct index_file *file, const struct section *section,
                           uint64_t first, visit_fn *visit, void *context, struct fathom_error *err)
{
    uint64_t page = section_row_place(section, first).page,
             end = section->first_page + section->page_count;
    return page < end ? stream_pages(file, section, page, 0, (end - page) * PAGE_PAYLOAD, visit,
                                     context, err)
                      : 0;
}

int index_file_stream_range(const struct index_file *file, const struct section *section,
                            uint64_t offset, uint64_t bytes, visit_fn *visit, void *context,
                            struct fathom_error *err)
{
    if (offset > section->bytes || bytes > section->bytes - offset)
        return error_set(err, FATHOM_ECORRUPT,
                         "%s: section %s: %" PRIu64 " bytes at %" PRIu64 " are outside of it",
                         file->path, section_name(section->kind), bytes, offset);
    if (bytes == 0)
        return 0;
    return stream_pages(file, section, section->first_page + offset / PAGE_PAYLOAD,
                        offset % PAGE_PAYLOAD, bytes, visit, context, err);
}

static int copy_piece(void *context, const uint8_t *payload, size_t bytes, struct fathom_error *err)
{
    uint8_t **out = context;
    (void)err;
    memcpy(*out, payload, bytes);
    *out += bytes;
    return 0;
}

int index_file_read(const struct index_file *file, const struct section *section, uint64_t offset,
                    void *out, size_t bytes, struct fathom_error *err)
{
    uint8_t *at = out;
    return index_file_stream_range(file, section, offset, bytes, copy_piece, &at, err);
}

int index_file_read_row(const struct index_file *file, const struct section *section, uint64_t row,
                        void *out, struct fathom_error *err)
{
    struct row_place place = section_row_place(section, row);
    uint8_t *at = out;
    return stream_pages(file, section, place.page, place.byte, section->row_bytes, copy_piece, &at,
                        err);
}
