/* The records of an index file, once, from the first to the last, in pieces small enough for a
 * cache (points_sample.h). Whoever looks at them is called by several threads at a time. */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "mem.h"
#include "points_sample.h"

struct stream {
    const struct fathom_index *index;
    const struct sample_watch *watch;
    unsigned threads;
    const struct points_pass *pass;
    uint8_t *rows; /* of the piece */
    struct record_piece piece;
    size_t tail; /* bytes behind its rows, of a record that has not come whole yet */
};

static void look_worker(void *context, unsigned worker)
{
    struct stream *stream = context;
    stream->pass->look(stream->pass->context, &stream->piece, worker);
}

/* Rows of the pages of a piece, one behind the other, without the rest of each page. */
static void collect_rows(struct stream *stream, const uint8_t *payload, size_t bytes)
{
    const struct section *records = stream->index->records;
    uint64_t left = stream->index->properties.rows - stream->piece.first;
    uint8_t *out = stream->rows;
    uint32_t count = 0;
    for (size_t at = 0; at < bytes && count < left; at += PAGE_PAYLOAD) {
        if (records->rows_per_page) {
            uint64_t rows = left - count;
            rows = rows < records->rows_per_page ? rows : records->rows_per_page;
            memcpy(out, payload + at, rows * records->row_bytes);
            out += rows * records->row_bytes;
            count += (uint32_t)rows;
            continue;
        }
        size_t rest = records->row_bytes - stream->tail;
        size_t take = rest < PAGE_PAYLOAD ? rest : PAGE_PAYLOAD;
        memcpy(out + stream->tail, payload + at, take);
        stream->tail += take;
        if (take == rest) {
            out += records->row_bytes;
            count++;
            stream->tail = 0;
        }
    }
    stream->piece.count = count;
}

static int visit_piece(void *context, const uint8_t *payload, size_t bytes,
                       struct fathom_error *err)
{
    struct stream *stream = context;
    const struct sample_watch *watch = stream->watch;
    if (watch->stopped(watch->context))
        return points_failed(stream->index, FATHOM_EINTERRUPTED, err);
    collect_rows(stream, payload, bytes);
    int status = env_run_parallel(stream->threads, look_worker, stream);
    if (status != 0)
        return points_failed(stream->index, status, err);
    /* The beginning of a record whose end is in the next piece. */
    memmove(stream->rows, stream->rows + stream->piece.count * stream->index->records->row_bytes,
            stream->tail);
    stream->piece.first += stream->piece.count;
    watch->advance(watch->context, stream->piece.count);
    return stream->pass->keep(stream->pass->context, stream->piece.first, err);
}

bool points_pass_begins(const struct fathom_index *index, uint64_t row)
{
    uint32_t per_page = index->records->rows_per_page;
    return row <= index->properties.rows &&
           (row == index->properties.rows || per_page == 0 || row % per_page == 0);
}

int points_stream(const struct fathom_index *index, unsigned threads,
                  const struct sample_watch *watch, const struct points_pass *pass,
                  struct fathom_error *err)
{
    const struct section *records = index->records;
    watch->advance(watch->context, pass->first);
    if (pass->first == index->properties.rows)
        return 0;
    /* A piece, and the part of a record that its end may cut off. */
    uint8_t *rows = mem_alloc(FORMAT_STREAM_PAGES * PAGE_PAYLOAD + records->row_bytes);
    struct stream stream = {.index = index,
                            .watch = watch,
                            .threads = threads,
                            .pass = pass,
                            .rows = rows,
                            .piece = {.rows = rows, .first = pass->first}};
    int status =
        rows ? index_file_stream_rows(&index->file, records, pass->first, visit_piece, &stream, err)
             : points_failed(index, -ENOMEM, err);
    mem_free(rows);
    return status;
}
