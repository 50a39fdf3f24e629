/* Pages in, pages out, through one buffer each. A file that is being written has the name of the
 * finished one with ".part" behind it, and is debris like it when nobody goes on. Where a build has
 * noted how much of it is good (checkpoint.h), the next one appends to it. */
#include "work.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "error.h"
#include "file_path.h"
#include "le.h"
#include "mem.h"
#include "page.h"

#define WORK_MAGIC   0x6b726f776f687466u /* "fthowork" */
#define BUFFER_PAGES (WORK_AHEAD_BYTES / PAGE_BYTES)
#define FIRST_PAGES  4    /* of a writer's buffer: most files of a small build have fewer */
#define GROWTH       4    /* times as many, up to BUFFER_PAGES, whenever they are full */
#define SHARED_PAGES 1024 /* of the buffers of files that are read side by side, */
#define LEAST_PAGES  2    /* of which each has so many */

struct work_writer {
    const struct env *env;
    const struct crew *crew;
    struct work_tally *tally;
    int fd;
    char *path, *part;
    struct page_place place; /* of the page being filled */
    uint8_t *buffer;
    uint32_t buffer_pages;
    uint32_t pages, fill; /* complete pages in the buffer, payload bytes in the next */
    uint64_t bytes;
};

struct work_file {
    const struct env *env;
    int fd;
    char *path;
    struct page_place place;
    uint64_t bytes, at; /* of the stream; where work_next goes on */
    uint8_t *buffer;
    uint32_t buffer_pages;
    uint64_t first_page; /* of the buffer, within the stream */
    uint32_t pages;      /* of the stream in the buffer, all checked */
};

/* The place of the page that holds the length. */
static struct page_place place_of(const struct work *work, const char *name)
{
    return (struct page_place){.generation = work->identity,
                               .section = (uint32_t)XXH3_64bits(name, strlen(name))};
}

static char *path_of(const struct work *work, const char *name, const char *suffix)
{
    char file[sizeof WORK_PREFIX + WORK_NAME_MAX + 8];
    snprintf(file, sizeof file, WORK_PREFIX "%s%s", name, suffix);
    return path_join(work->dir, file);
}

static int stopped(const char *path, struct fathom_error *err)
{
    return error_set(err, FATHOM_EINTERRUPTED, "%s: %s", path,
                     fathom_strerror(FATHOM_EINTERRUPTED));
}

static int damaged(const char *path, uint64_t page, struct fathom_error *err)
{
    return error_set(err, FATHOM_ECORRUPT, "%s: page %" PRIu64 " is damaged, or from another build",
                     path, page);
}

static uint64_t pages_of(uint64_t stream_bytes)
{
    return stream_bytes / PAGE_PAYLOAD + (stream_bytes % PAGE_PAYLOAD != 0);
}

uint64_t work_file_bytes(uint64_t stream_bytes)
{
    return (1 + pages_of(stream_bytes)) * PAGE_BYTES;
}

/* ---- what there is ---- */

static struct work_size *tally_find(struct work_tally *tally, uint32_t section)
{
    for (uint32_t i = 0; i < tally->count; i++)
        if (tally->files[i].section == section)
            return &tally->files[i];
    return NULL;
}

static void tally_remove(struct work_tally *tally, uint32_t section)
{
    struct work_size *size = tally ? tally_find(tally, section) : NULL;
    if (!size)
        return;
    tally->bytes -= size->bytes;
    *size = tally->files[--tally->count];
}

/* The file is whole. One of the same name that it takes the place of was there until now. */
static void tally_add(struct work_tally *tally, uint32_t section, uint64_t bytes)
{
    if (!tally)
        return;
    if (tally->bytes + bytes > tally->bytes_max)
        tally->bytes_max = tally->bytes + bytes;
    tally_remove(tally, section);
    if (tally->count == WORK_FILES_MAX)
        return;
    tally->files[tally->count++] = (struct work_size){section, bytes};
    tally->bytes += bytes;
}

/* An earlier run has left it. */
static void tally_meet(struct work_tally *tally, uint32_t section, uint64_t bytes)
{
    if (tally && !tally_find(tally, section))
        tally_add(tally, section, bytes);
}

/* ---- writing ---- */

static void writer_free(struct work_writer *writer)
{
    mem_free(writer->path);
    mem_free(writer->part);
    mem_free_pages(writer->buffer, writer->buffer_pages);
    mem_free(writer);
}

void work_suspend(struct work_writer *writer)
{
    if (!writer)
        return;
    if (writer->fd >= 0)
        file_close(writer->env, writer->fd);
    writer_free(writer);
}

/* Without a file as yet. */
static int writer_make(struct work_writer **out, const struct work *work, const char *name,
                       uint32_t buffer_pages, struct fathom_error *err)
{
    struct work_writer *writer = mem_alloc(sizeof *writer);
    *out = writer;
    if (!writer)
        return error_set(err, -ENOMEM, "%s: no memory to write a work file", work->dir);
    writer->env = work->env;
    writer->crew = work->crew;
    writer->tally = work->tally;
    writer->fd = -1;
    writer->place = place_of(work, name);
    writer->place.number = 1;
    writer->path = path_of(work, name, "");
    writer->part = path_of(work, name, ".part");
    writer->buffer_pages = buffer_pages;
    writer->buffer = mem_alloc_pages(buffer_pages);
    return writer->path && writer->part && writer->buffer
               ? 0
               : error_set(err, -ENOMEM, "%s: no memory to write a work file", work->dir);
}

int work_create(struct work_writer **out, const struct work *work, const char *name,
                struct fathom_error *err)
{
    int status = writer_make(out, work, name, FIRST_PAGES, err);
    struct work_writer *writer = *out;
    if (status == 0) {
        (void)work->env->unlink(work->env->context, writer->part); /* of a build that was killed */
        status = writer->fd = file_create(work->env, writer->part, err);
    }
    if (status >= 0)
        return 0;
    work_suspend(writer);
    *out = NULL;
    return status;
}

static int write_pages(struct work_writer *writer, uint64_t first, uint32_t count,
                       struct fathom_error *err)
{
    if (crew_stopped(writer->crew))
        return stopped(writer->path, err);
    return file_write_full(writer->env, writer->fd, writer->part, writer->buffer,
                           (size_t)count * PAGE_BYTES, first * PAGE_BYTES, err);
}

/* The complete pages. */
static int flush(struct work_writer *writer, struct fathom_error *err)
{
    int status = write_pages(writer, writer->place.number - writer->pages, writer->pages, err);
    writer->pages = 0;
    return status;
}

/* Makes room for more complete pages. */
static int grow(struct work_writer *writer, struct fathom_error *err)
{
    uint32_t pages = writer->buffer_pages * GROWTH;
    pages = pages < BUFFER_PAGES ? pages : BUFFER_PAGES;
    uint8_t *buffer = mem_alloc_pages(pages);
    if (!buffer)
        return error_set(err, -ENOMEM, "%s: no memory to write it", writer->part);
    memcpy(buffer, writer->buffer, (size_t)writer->pages * PAGE_BYTES);
    mem_free_pages(writer->buffer, writer->buffer_pages);
    writer->buffer = buffer;
    writer->buffer_pages = pages;
    return 0;
}

static uint8_t *page_in_work(const struct work_writer *writer)
{
    return writer->buffer + (size_t)writer->pages * PAGE_BYTES;
}

static void seal_page(struct work_writer *writer)
{
    uint8_t *page = page_in_work(writer);
    memset(page + PAGE_HEADER + writer->fill, 0, PAGE_PAYLOAD - writer->fill);
    page_seal(page, &writer->place);
}

static int finish_page(struct work_writer *writer, struct fathom_error *err)
{
    seal_page(writer);
    writer->place.number++;
    writer->pages++;
    writer->fill = 0;
    if (writer->pages < writer->buffer_pages)
        return 0;
    return writer->pages < BUFFER_PAGES ? grow(writer, err) : flush(writer, err);
}

int work_append(struct work_writer *writer, const void *data, size_t bytes,
                struct fathom_error *err)
{
    const uint8_t *from = data;
    writer->bytes += bytes;
    while (bytes) {
        size_t room = PAGE_PAYLOAD - writer->fill, take = bytes < room ? bytes : room;
        memcpy(page_in_work(writer) + PAGE_HEADER + writer->fill, from, take);
        writer->fill += (uint32_t)take;
        from += take;
        bytes -= take;
        int status = writer->fill == PAGE_PAYLOAD ? finish_page(writer, err) : 0;
        if (status != 0)
            return status;
    }
    return 0;
}

static int write_length(struct work_writer *writer, struct fathom_error *err)
{
    uint8_t *page = writer->buffer;
    struct page_place place = writer->place;
    place.number = 0;
    memset(page, 0, PAGE_BYTES);
    le_store64(page + PAGE_HEADER, WORK_MAGIC);
    le_store64(page + PAGE_HEADER + 8, writer->bytes);
    page_seal(page, &place);
    return file_write_full(writer->env, writer->fd, writer->part, page, PAGE_BYTES, 0, err);
}

int work_commit(struct work_writer *writer, struct fathom_error *err)
{
    int status = writer->fill ? finish_page(writer, err) : 0;
    if (status == 0 && writer->pages)
        status = flush(writer, err);
    if (status == 0)
        status = write_length(writer, err);
    if (status != 0) {
        work_abandon(writer);
        return status;
    }
    tally_add(writer->tally, writer->place.section, work_file_bytes(writer->bytes));
    status = file_finish_unsynced(writer->env, writer->fd, writer->part, writer->path, err);
    writer_free(writer);
    return status;
}

void work_abandon(struct work_writer *writer)
{
    if (!writer)
        return;
    (void)writer->env->unlink(writer->env->context, writer->part);
    work_suspend(writer);
}

/* ---- going on with a file that has no name yet ---- */

/* The page that is not full is written too, and again when more has come: what was in it stays. */
int work_flush(struct work_writer *writer, struct fathom_error *err)
{
    uint64_t first = writer->place.number - writer->pages;
    if (writer->fill)
        seal_page(writer);
    int status = write_pages(writer, first, writer->pages + (writer->fill > 0), err);
    memmove(writer->buffer, page_in_work(writer), PAGE_BYTES);
    writer->pages = 0;
    return status;
}

/* Page after page, the last one stays in the buffer. */
static int check_written(struct work_writer *writer, uint64_t bytes, struct fathom_error *err)
{
    struct page_place place = writer->place;
    uint64_t pages = pages_of(bytes);
    for (uint64_t first = 1, take; first <= pages; first += take) {
        take = pages + 1 - first < BUFFER_PAGES ? pages + 1 - first : BUFFER_PAGES;
        if (crew_stopped(writer->crew))
            return stopped(writer->path, err);
        int status = file_read_full(writer->env, writer->fd, writer->part, writer->buffer,
                                    take * PAGE_BYTES, first * PAGE_BYTES, err);
        for (uint64_t i = 0; i < take && status == 0; i++) {
            place.number = first + i;
            if (!page_check(writer->buffer + i * PAGE_BYTES, &place))
                status = damaged(writer->part, place.number, err);
        }
        if (status != 0)
            return status;
        memmove(writer->buffer, writer->buffer + (take - 1) * PAGE_BYTES, PAGE_BYTES);
    }
    writer->bytes = bytes;
    writer->fill = bytes % PAGE_PAYLOAD;
    writer->place.number = 1 + bytes / PAGE_PAYLOAD;
    return 0;
}

int work_reopen(struct work_writer **out, const struct work *work, const char *name, uint64_t bytes,
                struct fathom_error *err)
{
    int status = writer_make(out, work, name, BUFFER_PAGES, err);
    struct work_writer *writer = *out;
    if (status == 0)
        status = writer->fd = file_open_update(work->env, writer->part, err);
    if (status >= 0)
        status = check_written(writer, bytes, err);
    if (status == 0)
        return 0;
    work_suspend(writer);
    *out = NULL;
    return status;
}

/* ---- reading ---- */

static int read_length(struct work_file *file, struct fathom_error *err)
{
    _Alignas(PAGE_BYTES) uint8_t page[PAGE_BYTES];
    uint64_t bytes;
    int status = file_bytes(file->env, file->fd, file->path, &bytes, err);
    if (status == 0)
        status = file_read_full(file->env, file->fd, file->path, page, PAGE_BYTES, 0, err);
    if (status != 0)
        return status;
    const uint8_t *payload = page + PAGE_HEADER;
    if (!page_check(page, &file->place) || le_load64(payload) != WORK_MAGIC)
        return damaged(file->path, 0, err);
    file->bytes = le_load64(payload + 8);
    if (pages_of(file->bytes) != bytes / PAGE_BYTES - 1)
        return error_set(err, FATHOM_ECORRUPT,
                         "%s: has %" PRIu64 " bytes, not what its first page says", file->path,
                         bytes);
    return 0;
}

static uint32_t share_of_buffers(uint32_t together)
{
    uint32_t share = SHARED_PAGES / together;
    return share < LEAST_PAGES ? LEAST_PAGES : share < BUFFER_PAGES ? share : BUFFER_PAGES;
}

/* As many pages as the file has, up to its share. */
static int make_buffer(struct work_file *file, uint32_t together, struct fathom_error *err)
{
    uint64_t all = pages_of(file->bytes);
    uint32_t share = share_of_buffers(together);
    file->buffer_pages = all == 0 ? 1 : all < share ? (uint32_t)all : share;
    file->buffer = mem_alloc_pages(file->buffer_pages);
    return file->buffer ? 0 : error_set(err, -ENOMEM, "%s: no memory to read it", file->path);
}

int work_open(struct work_file **out, const struct work *work, const char *name,
              struct fathom_error *err)
{
    return work_open_beside(out, work, name, 1, err);
}

int work_open_beside(struct work_file **out, const struct work *work, const char *name,
                     uint32_t together, struct fathom_error *err)
{
    struct work_file *file = mem_alloc(sizeof *file);
    bool direct;
    *out = NULL;
    if (!file)
        return error_set(err, -ENOMEM, "%s: no memory to read a work file", work->dir);
    file->env = work->env;
    file->fd = -1;
    file->place = place_of(work, name);
    file->path = path_of(work, name, "");
    int status =
        file->path ? 0 : error_set(err, -ENOMEM, "%s: no memory to read a work file", work->dir);
    if (status == 0)
        status = file->fd = file_open_read(work->env, file->path, false, &direct, err);
    if (status >= 0)
        status = read_length(file, err);
    if (status == 0)
        status = make_buffer(file, together, err);
    if (status == 0) {
        tally_meet(work->tally, file->place.section, work_file_bytes(file->bytes));
        *out = file;
    } else {
        work_close(file);
    }
    return status;
}

uint64_t work_bytes(const struct work_file *file)
{
    return file->bytes;
}

/* Brings the page of the stream into the buffer, and those after it as far as they hold the next
 * wanted bytes and fit. */
static int load_pages(struct work_file *file, uint64_t page, size_t wanted,
                      struct fathom_error *err)
{
    uint64_t all = pages_of(file->bytes);
    uint64_t count = wanted / PAGE_PAYLOAD + (wanted % PAGE_PAYLOAD != 0);
    count = count < file->buffer_pages ? count : file->buffer_pages;
    count = count < all - page ? count : all - page;
    file->pages = 0;
    int status = file_read_full(file->env, file->fd, file->path, file->buffer, count * PAGE_BYTES,
                                (page + 1) * PAGE_BYTES, err);
    for (uint64_t i = 0; i < count && status == 0; i++) {
        struct page_place place = file->place;
        place.number = page + i + 1;
        if (!page_check(file->buffer + i * PAGE_BYTES, &place))
            status = damaged(file->path, page + i + 1, err);
    }
    if (status != 0)
        return status;
    file->first_page = page;
    file->pages = (uint32_t)count;
    return 0;
}

/* least: bytes that are brought from the disk at once, should any be. */
static int read_at(struct work_file *file, uint64_t offset, void *out, size_t bytes, size_t least,
                   struct fathom_error *err)
{
    uint8_t *to = out;
    if (offset > file->bytes || bytes > file->bytes - offset)
        return error_set(err, FATHOM_ECORRUPT,
                         "%s: ends at %" PRIu64 ", before the %zu bytes at %" PRIu64, file->path,
                         file->bytes, bytes, offset);
    while (bytes) {
        uint64_t page = offset / PAGE_PAYLOAD;
        size_t within = offset % PAGE_PAYLOAD, take = PAGE_PAYLOAD - within;
        if (page < file->first_page || page >= file->first_page + file->pages) {
            int status = load_pages(file, page, bytes < least ? least : within + bytes, err);
            if (status != 0)
                return status;
        }
        take = take < bytes ? take : bytes;
        memcpy(to, file->buffer + (page - file->first_page) * PAGE_BYTES + PAGE_HEADER + within,
               take);
        to += take;
        offset += take;
        bytes -= take;
    }
    return 0;
}

int work_read(struct work_file *file, uint64_t offset, void *out, size_t bytes,
              struct fathom_error *err)
{
    return read_at(file, offset, out, bytes, 0, err);
}

int work_read_ahead(struct work_file *file, uint64_t offset, void *out, size_t bytes,
                    struct fathom_error *err)
{
    return read_at(file, offset, out, bytes, (size_t)file->buffer_pages * PAGE_PAYLOAD, err);
}

void work_seek(struct work_file *file, uint64_t offset)
{
    file->at = offset;
}

int work_next(struct work_file *file, void *out, size_t bytes, struct fathom_error *err)
{
    int status = work_read_ahead(file, file->at, out, bytes, err);
    if (status == 0)
        file->at += bytes;
    return status;
}

void work_close(struct work_file *file)
{
    if (!file)
        return;
    file_close(file->env, file->fd);
    mem_free(file->path);
    mem_free_pages(file->buffer, file->buffer_pages);
    mem_free(file);
}

static int check_pages(struct work_file *file, const struct crew *crew, struct fathom_error *err)
{
    const uint64_t most = (uint64_t)file->buffer_pages * PAGE_PAYLOAD;
    uint8_t *piece = mem_alloc(most);
    int status = piece ? 0 : error_set(err, -ENOMEM, "%s: no memory to check it", file->path);
    for (uint64_t at = 0, take; at < file->bytes && status == 0; at += take) {
        take = file->bytes - at < most ? file->bytes - at : most;
        status =
            crew_stopped(crew) ? stopped(file->path, err) : work_read(file, at, piece, take, err);
    }
    mem_free(piece);
    return status;
}

bool work_may_pass(int status)
{
    return status == FATHOM_EINTERRUPTED || status == -ENOMEM || status == -EMFILE ||
           status == -ENFILE || status == -EACCES || status == -EPERM || status == -EINTR;
}

int work_check(const struct work *work, const char *name, struct fathom_error *err)
{
    struct work_file *file;
    *err = (struct fathom_error){0};
    int status = work_open(&file, work, name, err);
    if (status == 0) {
        status = check_pages(file, work->crew, err);
        work_close(file);
    }
    if (status == 0)
        return 1;
    if (work_may_pass(status))
        return status;
    if (status == -ENOENT)
        *err = (struct fathom_error){0};
    else
        work_remove(work, name);
    return 0;
}

/* ---- removing ---- */

void work_remove(const struct work *work, const char *name)
{
    char *path = path_of(work, name, "");
    if (path && work->env->unlink(work->env->context, path) == 0)
        tally_remove(work->tally, place_of(work, name).section);
    mem_free(path);
}

int work_remove_all(const struct work *work, struct fathom_error *err)
{
    return dir_remove_debris(work->env, work->dir, WORK_PREFIX, err);
}
