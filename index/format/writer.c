/* Writing a generation: sections in order into a temporary file, the superblock last, all of it
 * read back and verified, then one rename. A crash at any point leaves the old index and at most a
 * temporary file, which the next build removes. */
#include "format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "file_path.h"
#include "le.h"
#include "mem.h"

#define BUFFER_PAGES          256
#define SUPERBLOCK_FILE_PAGES 40 /* offset of the field; docs/FORMAT.md */

struct index_writer {
    const struct env *env;
    int fd;
    char *path, *tmp_path;
    struct superblock super;
    struct section *section; /* the one being written, or NULL */
    uint8_t *buffer;         /* BUFFER_PAGES pages; the last one in use is being filled */
    uint64_t first_page;     /* of the buffer, within the file */
    uint32_t pages;          /* complete pages in the buffer */
    uint32_t fill;           /* payload bytes in the page being filled */
};

static void writer_free(struct index_writer *writer)
{
    mem_free(writer->path);
    mem_free(writer->tmp_path);
    mem_free_pages(writer->buffer, BUFFER_PAGES);
    mem_free(writer);
}

static struct index_writer *writer_make(const struct env *env, const char *dir, uint64_t generation,
                                        struct fathom_error *err)
{
    char name[64];
    snprintf(name, sizeof name, FORMAT_FILE_NAME ".tmp-%016" PRIx64, generation);
    struct index_writer *writer = mem_alloc(sizeof *writer);
    if (writer) {
        writer->env = env;
        writer->fd = -1;
        writer->path = path_join(dir, FORMAT_FILE_NAME);
        writer->tmp_path = path_join(dir, name);
        writer->buffer = mem_alloc_pages(BUFFER_PAGES);
        if (writer->path && writer->tmp_path && writer->buffer)
            return writer;
        writer_free(writer);
    }
    (void)error_set(err, -ENOMEM, "%s: no memory for an index writer", dir);
    return NULL;
}

int index_writer_create(struct index_writer **out, const struct env *env, const char *dir,
                        const struct properties *properties, struct fathom_error *err)
{
    *out = NULL;
    struct index_writer *writer = writer_make(env, dir, properties->generation, err);
    if (!writer)
        return -ENOMEM;
    writer->super.properties = *properties;
    writer->super.version = FORMAT_VERSION;
    writer->first_page = 1;
    int status = dir_ensure(env, dir, err);
    if (status == 0)
        status = dir_remove_debris(env, dir, FORMAT_FILE_NAME, err);
    if (status == 0)
        status = writer->fd = file_create(env, writer->tmp_path, err);
    if (status < 0) {
        index_writer_abandon(writer);
        return status;
    }
    *out = writer;
    return 0;
}

/* What was written later is cut off. */
static int cut(struct index_writer *writer, uint64_t bytes, struct fathom_error *err)
{
    int status = writer->env->ftruncate(writer->env->context, writer->fd, bytes);
    return status == 0 ? 0
                       : error_set(err, status, "%s: cannot be cut: %s", writer->tmp_path,
                                   fathom_strerror(status));
}

/* The superblock says how far the file was when it was made a file that can be opened. */
static int cut_to_superblock(struct index_writer *writer, struct fathom_error *err)
{
    uint64_t bytes;
    const char *path = writer->tmp_path;
    int status = file_bytes(writer->env, writer->fd, path, &bytes, err);
    if (status == 0)
        status = file_read_full(writer->env, writer->fd, path, writer->buffer, PAGE_BYTES, 0, err);
    if (status)
        return status;
    uint64_t whole = le_load64(writer->buffer + SUPERBLOCK_FILE_PAGES) * PAGE_BYTES;
    status = superblock_decode(&writer->super, writer->buffer, whole, path, err);
    return status == 0 && bytes > whole ? cut(writer, whole, err) : status;
}

static int take_over(struct index_writer *writer, const struct format_stop *stop,
                     struct fathom_error *err)
{
    struct index_file file;
    struct fathom_verify_report report = {0};
    writer->fd = file_open_update(writer->env, writer->tmp_path, err);
    int status = writer->fd < 0 ? writer->fd : cut_to_superblock(writer, err);
    if (status == 0)
        status = index_file_open_path(&file, writer->env, writer->tmp_path, err);
    if (status)
        return status;
    status = index_file_verify(&file, true, &report, NULL, NULL, stop, err);
    index_file_close(&file);
    writer->first_page = writer->super.file_pages;
    return status;
}

int index_writer_reopen(struct index_writer **out, const struct env *env, const char *dir,
                        uint64_t generation, const struct format_stop *stop,
                        struct fathom_error *err)
{
    *out = NULL;
    struct index_writer *writer = writer_make(env, dir, generation, err);
    if (!writer)
        return -ENOMEM;
    int status = take_over(writer, stop, err);
    if (status == 0)
        *out = writer;
    else
        index_writer_suspend(writer);
    return status;
}

/* ---- going on with sections ---- */

static int not_a_progress(const struct index_writer *writer, struct fathom_error *err)
{
    return error_set(err, FATHOM_ECORRUPT, "%s: is not what is known of it", writer->tmp_path);
}

static int check_page_range(struct index_writer *writer, const struct section *section,
                            const struct format_stop *stop, struct fathom_error *err)
{
    struct page_place place = {.generation = writer->super.properties.generation,
                               .section = section->kind};
    const uint64_t end = section->first_page + section->page_count;
    int status = 0;
    for (uint64_t first = section->first_page, take; first < end && status == 0; first += take) {
        take = end - first < BUFFER_PAGES ? end - first : BUFFER_PAGES;
        if (stop->stopped && stop->stopped(stop->context))
            return error_set(err, FATHOM_EINTERRUPTED, "%s: %s", writer->tmp_path,
                             fathom_strerror(FATHOM_EINTERRUPTED));
        status = file_read_full(writer->env, writer->fd, writer->tmp_path, writer->buffer,
                                take * PAGE_BYTES, first * PAGE_BYTES, err);
        for (uint64_t i = 0; i < take && status == 0; i++) {
            place.number = first + i;
            if (!page_check(writer->buffer + i * PAGE_BYTES, &place))
                status = error_set(err, FATHOM_ECHECKSUM, "%s: page %" PRIu64 " is damaged",
                                   writer->tmp_path, place.number);
        }
    }
    return status;
}

/* Sections fill the file as far as it goes, and are of pages of this generation. */
static int check_progress(struct index_writer *writer, const struct index_progress *progress,
                          const struct format_stop *stop, struct fathom_error *err)
{
    const struct superblock *super = &progress->super;
    uint64_t next = 1;
    int status = 0;
    if (super->section_count > FORMAT_SECTIONS_MAX || (progress->open && !super->section_count))
        return not_a_progress(writer, err);
    for (uint32_t i = 0; i < super->section_count && status == 0; i++) {
        const struct section *section = &super->sections[i];
        if (section->first_page != next || section->page_count > super->file_pages - next)
            return not_a_progress(writer, err);
        next += section->page_count;
        status = check_page_range(writer, section, stop, err);
    }
    return status == 0 && next != super->file_pages ? not_a_progress(writer, err) : status;
}

int index_writer_go_on(struct index_writer **out, const struct env *env, const char *dir,
                       const struct index_progress *progress, const struct format_stop *stop,
                       struct fathom_error *err)
{
    *out = NULL;
    struct index_writer *writer = writer_make(env, dir, progress->super.properties.generation, err);
    if (!writer)
        return -ENOMEM;
    writer->super = progress->super;
    int status = writer->fd = file_open_update(env, writer->tmp_path, err);
    if (status >= 0)
        status = check_progress(writer, progress, stop, err);
    if (status == 0)
        status = cut(writer, writer->super.file_pages * PAGE_BYTES, err);
    if (status != 0) {
        index_writer_suspend(writer);
        return status;
    }
    writer->first_page = writer->super.file_pages;
    writer->section =
        progress->open ? &writer->super.sections[writer->super.section_count - 1] : NULL;
    *out = writer;
    return 0;
}

uint64_t index_writer_begun_bytes(const struct index_writer *writer, enum section_kind kind)
{
    return writer->section && writer->section->kind == (uint32_t)kind ? writer->section->bytes : 0;
}

void index_writer_suspend(struct index_writer *writer)
{
    if (!writer)
        return;
    file_close(writer->env, writer->fd);
    writer_free(writer);
}

void index_writer_abandon(struct index_writer *writer)
{
    if (!writer)
        return;
    if (writer->fd >= 0)
        writer->env->unlink(writer->env->context, writer->tmp_path);
    index_writer_suspend(writer);
}

int index_writer_begin(struct index_writer *writer, enum section_kind kind, uint32_t row_bytes,
                       struct fathom_error *err)
{
    struct superblock *super = &writer->super;
    if (writer->section || super->section_count == FORMAT_SECTIONS_MAX)
        return error_set(err, FATHOM_EARGUMENT, "index writer: section %s begun out of turn",
                         section_name(kind));
    writer->section = &super->sections[super->section_count++];
    *writer->section = (struct section){
        .kind = kind, .row_bytes = row_bytes, .first_page = writer->first_page + writer->pages};
    if (row_bytes) {
        writer->section->rows_per_page = PAGE_PAYLOAD / row_bytes;
        writer->section->pages_per_row = (row_bytes + PAGE_PAYLOAD - 1) / PAGE_PAYLOAD;
    }
    return 0;
}

/* The system would keep what is written in memory for half a minute, and the end would wait for all
 * of it to reach the device. */
static int flush(struct index_writer *writer, struct fathom_error *err)
{
    uint64_t bytes = (uint64_t)writer->pages * PAGE_BYTES, at = writer->first_page * PAGE_BYTES;
    int status =
        file_write_full(writer->env, writer->fd, writer->tmp_path, writer->buffer, bytes, at, err);
    if (status == 0)
        file_begin_writeback(writer->fd, at, bytes);
    writer->first_page += writer->pages;
    writer->pages = 0;
    return status;
}

static uint8_t *current_page(struct index_writer *writer)
{
    return writer->buffer + (size_t)writer->pages * PAGE_BYTES;
}

/* Pads, seals and counts the page being filled. */
static int finish_page(struct index_writer *writer, struct fathom_error *err)
{
    uint8_t *page = current_page(writer);
    struct page_place place = {writer->super.properties.generation, writer->section->kind,
                               writer->first_page + writer->pages};
    memset(page + PAGE_HEADER + writer->fill, 0, PAGE_PAYLOAD - writer->fill);
    page_seal(page, &place);
    writer->pages++;
    writer->fill = 0;
    writer->section->page_count++;
    return writer->pages == BUFFER_PAGES ? flush(writer, err) : 0;
}

static int append_stream(struct index_writer *writer, const uint8_t *data, size_t bytes,
                         struct fathom_error *err)
{
    while (bytes) {
        size_t room = PAGE_PAYLOAD - writer->fill, take = bytes < room ? bytes : room;
        memcpy(current_page(writer) + PAGE_HEADER + writer->fill, data, take);
        writer->fill += take;
        data += take;
        bytes -= take;
        if (writer->fill == PAGE_PAYLOAD) {
            int status = finish_page(writer, err);
            if (status)
                return status;
        }
    }
    return 0;
}

static int append_row(struct index_writer *writer, const uint8_t *row, struct fathom_error *err)
{
    const struct section *section = writer->section;
    int status = 0;
    if (section->rows_per_page && PAGE_PAYLOAD - writer->fill < section->row_bytes)
        status = finish_page(writer, err);
    if (status == 0)
        status = append_stream(writer, row, section->row_bytes, err);
    if (status == 0 && !section->rows_per_page && writer->fill)
        status = finish_page(writer, err);
    return status;
}

int index_writer_append(struct index_writer *writer, const void *data, size_t bytes,
                        struct fathom_error *err)
{
    struct section *section = writer->section;
    const uint8_t *from = data;
    if (!section || (section->row_bytes && bytes % section->row_bytes))
        return error_set(err, FATHOM_EARGUMENT,
                         "index writer: bytes outside a section, or a part of a row");
    section->bytes += bytes;
    if (!section->row_bytes)
        return append_stream(writer, from, bytes, err);
    for (size_t at = 0; at < bytes; at += section->row_bytes) {
        int status = append_row(writer, from + at, err);
        if (status)
            return status;
    }
    return 0;
}

/* A page that has been begun counts as full: its zeros are there. */
static int append_parts(struct index_writer *writer, const uint8_t *first, const uint8_t *second,
                        uint32_t second_bytes, struct fathom_error *err)
{
    struct section *section = writer->section;
    uint32_t slot = (uint32_t)(section->bytes / section->row_bytes % section->rows_per_page),
             first_bytes = section->row_bytes - second_bytes;
    uint8_t *payload = current_page(writer) + PAGE_HEADER;
    if (slot == 0)
        memset(payload, 0, PAGE_PAYLOAD);
    memcpy(payload + (size_t)slot * first_bytes, first, first_bytes);
    memcpy(payload + format_second_parts(section, second_bytes) + (size_t)slot * second_bytes,
           second, second_bytes);
    section->bytes += section->row_bytes;
    writer->fill = PAGE_PAYLOAD;
    return slot + 1 == section->rows_per_page ? finish_page(writer, err) : 0;
}

int index_writer_append_parts(struct index_writer *writer, const uint8_t *first,
                              const uint8_t *second, uint32_t second_bytes, size_t count,
                              struct fathom_error *err)
{
    const struct section *section = writer->section;
    int status = 0;
    if (!section || section->rows_per_page == 0 || second_bytes > section->row_bytes)
        return error_set(err, FATHOM_EARGUMENT,
                         "index writer: rows in parts outside a section of such rows");
    size_t first_bytes = section->row_bytes - second_bytes;
    for (size_t i = 0; i < count && status == 0; i++)
        status = append_parts(writer, first + i * first_bytes, second + i * second_bytes,
                              second_bytes, err);
    return status;
}

struct copying {
    struct index_writer *writer;
    void (*advance)(void *context, uint64_t pages);
    void *context;
};

/* Whole payloads, but for the end of a stream: what lies in them needs not be known. */
static int copy_piece(void *context, const uint8_t *payload, size_t bytes, struct fathom_error *err)
{
    const struct copying *copying = context;
    int status = append_stream(copying->writer, payload, bytes, err);
    if (status == 0 && copying->advance)
        copying->advance(copying->context, (bytes + PAGE_PAYLOAD - 1) / PAGE_PAYLOAD);
    return status;
}

int index_writer_copy(struct index_writer *writer, const struct index_file *from,
                      const struct section *section, void (*advance)(void *context, uint64_t pages),
                      void *context, struct fathom_error *err)
{
    struct copying copying = {.writer = writer, .advance = advance, .context = context};
    int status = index_writer_begin(writer, section->kind, section->row_bytes, err);
    if (status != 0)
        return status;
    writer->section->bytes = section->bytes;
    status = index_file_stream(from, section, copy_piece, &copying, err);
    return status == 0 ? index_writer_end(writer, err) : status;
}

int index_writer_end(struct index_writer *writer, struct fathom_error *err)
{
    int status = writer->fill ? finish_page(writer, err) : 0;
    writer->section = NULL;
    return status;
}

static int write_superblock(struct index_writer *writer, struct fathom_error *err)
{
    writer->super.file_pages = writer->first_page + writer->pages;
    int status = flush(writer, err);
    if (status)
        return status;
    superblock_encode(&writer->super, writer->buffer);
    return file_write_full(writer->env, writer->fd, writer->tmp_path, writer->buffer, PAGE_BYTES, 0,
                           err);
}

int index_writer_progress(struct index_writer *writer, struct index_progress *out,
                          struct fathom_error *err)
{
    const struct section *section = writer->section;
    /* A page that has no room for another row is sealed when that comes, or now. */
    bool full =
        section && section->rows_per_page && PAGE_PAYLOAD - writer->fill < section->row_bytes;
    int status = full ? finish_page(writer, err) : 0;
    if (status == 0 && writer->fill)
        return error_set(err, FATHOM_EARGUMENT, "index writer: progress in the middle of a page");
    if (status == 0)
        status = flush(writer, err);
    *out = (struct index_progress){.super = writer->super, .open = writer->section != NULL};
    out->super.file_pages = writer->first_page;
    return status;
}

int index_writer_checkpoint(struct index_writer *writer, struct fathom_error *err)
{
    return write_superblock(writer, err);
}

void index_writer_set_usual(struct index_writer *writer, struct usual usual)
{
    writer->super.properties.usual = usual;
}

bool index_writer_has(const struct index_writer *writer, enum section_kind kind)
{
    const struct section *section = superblock_find(&writer->super, kind);
    return section && section != writer->section;
}

const char *index_writer_path(const struct index_writer *writer)
{
    return writer->tmp_path;
}

static int sync_written(struct index_writer *writer, struct fathom_error *err)
{
    int status = writer->env->fdatasync(writer->env->context, writer->fd);
    return status < 0 ? error_set(err, status, "%s: fdatasync failed; the file is abandoned",
                                  writer->tmp_path)
                      : 0;
}

/* Reads the file from the device and checks every page and reference: a bad disk must not replace a
 * good index. A direct read takes its piece to the device first, so that little is left to sync at
 * the end: one fdatasync of everything could not be stopped, and takes many seconds for a large
 * file. */
static int verify_written(struct index_writer *writer, const struct format_stop *stop,
                          struct fathom_error *err)
{
    struct index_file file;
    struct fathom_verify_report report = {0};
    int status = index_file_open_path(&file, writer->env, writer->tmp_path, err);
    if (status)
        return status;
    if (!file.direct)
        status = sync_written(writer, err);
    if (status == 0)
        status = index_file_verify(&file, true, &report, NULL, NULL, stop, err);
    index_file_close(&file);
    return status;
}

int index_writer_publish(struct index_writer *writer, const struct format_stop *stop,
                         struct fathom_error *err)
{
    int status = write_superblock(writer, err);
    if (status == 0)
        status = verify_written(writer, stop, err);
    if (status == FATHOM_EINTERRUPTED)
        return status;
    if (status == 0) {
        status = file_finish(writer->env, writer->fd, writer->tmp_path, writer->path, err);
        writer->fd = -1; /* closed in any case, and the temporary file is gone */
    }
    index_writer_abandon(writer);
    return status;
}
