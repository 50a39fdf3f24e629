/* Merged lists are encoded in two passes: the first finds out how long each becomes, for what page
 * it lies on follows from the lengths of all; the second puts them there, page by page. */
#include <errno.h>
#include <stdlib.h>

#include "encode.h"
#include "error.h"
#include "gather.h"
#include "lists.h"
#include "merge.h"
#include "page.h"

static const char measured_name[] = "measured", joined_name[] = "joined", lists_name[] = "lists",
                  listing_name[] = "listing", thin_name[] = "thin";

/* What is known of the whole: the file "joined". The first rows of pages and ranks follow. */
struct joined_header {
    uint64_t list_bytes, edges;
    uint32_t length_bytes, page_count, entry_count, reserved;
    uint32_t entries[GRAPH_ENTRIES_MAX];
};

struct encoding {
    const struct merge *merge;
    struct encoded_lists *lists;
    struct work_writer *writer; /* of the pass's file */
    bool saved;                 /* as far as it had come at some time */
    uint8_t bytes[1 + (LISTS_DEGREE_MAX + 3) / 4 + 4 * (LISTS_DEGREE_MAX + 3)];
    /* First pass. */
    uint16_t *lengths;
    uint32_t *heat;
    uint64_t edges;
    /* Second pass: the page that is being filled. */
    uint32_t page;
    struct merge_place first; /* its first row */
    uint16_t page_lengths[PAGE_PAYLOAD];
    uint8_t page_lists[PAGE_PAYLOAD], payload[PAGE_PAYLOAD];
    uint32_t page_rows, page_bytes;
};

static struct checkpoint *checkpoint_of(const struct encoding *e)
{
    return e->merge->parts->checkpoint;
}

/* Ends the pass's file: a build that goes on may need it. */
static int finish_file(struct encoding *e, int status, struct fathom_error *err)
{
    struct work_writer *writer = e->writer;
    e->writer = NULL;
    if (status == 0)
        return work_commit(writer, err);
    if (e->saved)
        work_suspend(writer);
    else
        work_abandon(writer);
    return status;
}

/* ---- lengths, heat and thin lists ---- */

/* Of "measured": lengths and heat of the rows before it follow. */
struct measured_header {
    struct merge_place next;
    uint64_t edges;
};

/* Neighbours at equal ranks: what training compares with should be neither all near nor all far. */
static int append_thin(struct encoding *e, const uint32_t *list, struct fathom_error *err)
{
    uint32_t thin[GATHER_THIN] = {0};
    uint32_t most = list[0] < GATHER_THIN - 1 ? list[0] : GATHER_THIN - 1;
    for (uint32_t i = 0; i < most; i++)
        thin[++thin[0]] = list[1 + (uint64_t)i * list[0] / most];
    return work_append(e->writer, thin, sizeof thin, err);
}

static int measure_list(void *context, const struct merge_place *place, uint32_t heat,
                        uint32_t *list, struct fathom_error *err)
{
    struct encoding *e = context;
    int status = append_thin(e, list, err); /* by rank: encoding sorts them */
    e->edges += list[0];
    e->heat[place->row] = heat;
    e->lengths[place->row] =
        (uint16_t)list_encode(place->row, list + 1, list[0], e->merge->parts->rows, e->bytes);
    return status;
}

static int keep_measured(void *context, const struct merge_place *next, struct fathom_error *err)
{
    struct encoding *e = context;
    struct checkpoint *checkpoint = checkpoint_of(e);
    struct measured_header header = {.next = *next, .edges = e->edges};
    uint64_t lengths = next->row * sizeof *e->lengths, heat = next->row * sizeof *e->heat;
    struct work_writer *writer;
    if (!checkpoint_due(checkpoint, lengths + heat))
        return 0;
    uint64_t start = env_clock_ns(checkpoint->work.env);
    int status = work_flush(e->writer, err);
    if (status == 0)
        status = work_create(&writer, &checkpoint->work, measured_name, err);
    if (status != 0)
        return status;
    status = work_append(writer, &header, sizeof header, err);
    if (status == 0)
        status = work_append(writer, e->lengths, lengths, err);
    if (status == 0)
        status = work_append(writer, e->heat, heat, err);
    status = checkpoint_finish(checkpoint, writer, status, start, lengths + heat, err);
    e->saved |= status == 0;
    return status;
}

static int read_measured(struct encoding *e, struct work_file *file, struct merge_place *from,
                         struct fathom_error *err)
{
    struct measured_header header;
    int status = work_next(file, &header, sizeof header, err);
    if (status != 0)
        return status;
    uint64_t rows = header.next.row;
    if (rows > e->merge->parts->rows ||
        work_bytes(file) != sizeof header + rows * (sizeof *e->lengths + sizeof *e->heat))
        return checkpoint_malformed(measured_name, err);
    *from = header.next;
    e->edges = header.edges;
    status = work_next(file, e->lengths, rows * sizeof *e->lengths, err);
    return status == 0 ? work_next(file, e->heat, rows * sizeof *e->heat, err) : status;
}

/* 1: *from is where a killed build had come to, and the file of thin lists as far. */
static int load_measured(struct encoding *e, struct merge_place *from, struct fathom_error *err)
{
    struct checkpoint *checkpoint = checkpoint_of(e);
    struct work_file *file;
    int status = work_open(&file, &checkpoint->work, measured_name, err);
    if (status == 0) {
        status = read_measured(e, file, from, err);
        work_close(file);
        if (status == 0)
            status = work_reopen(&e->writer, &checkpoint->work, thin_name,
                                 from->row * GATHER_THIN * sizeof(uint32_t), err);
        if (status == -ENOENT)
            status = FATHOM_ECORRUPT; /* it is what the other was to be gone on with */
    }
    e->saved = status == 0;
    return status == 0 ? 1 : checkpoint_unusable(checkpoint, measured_name, status, err);
}

static int store_joined(struct encoding *e, struct fathom_error *err)
{
    const struct parts *parts = e->merge->parts;
    const struct encoded_lists *lists = e->lists;
    struct work_writer *writer;
    struct joined_header header = {.list_bytes = lists->bytes,
                                   .edges = e->edges,
                                   .length_bytes = lists->length_bytes,
                                   .page_count = lists->page_count,
                                   .entry_count = parts->entry_count};
    memcpy(header.entries, parts->entries, sizeof header.entries);
    int status = work_create(&writer, &parts->checkpoint->work, joined_name, err);
    if (status != 0)
        return status;
    status = work_append(writer, &header, sizeof header, err);
    if (status == 0)
        status = work_append(writer, lists->page_first, 4 * ((size_t)lists->page_count + 1), err);
    if (status == 0)
        status = work_append(writer, lists->heat, parts->rows, err);
    return checkpoint_finish(parts->checkpoint, writer, status, 0, 0, err);
}

/* "thin" gets its name last, and stands for both. */
static int measure_with(struct encoding *e, struct fathom_error *err)
{
    struct parts *parts = e->merge->parts;
    struct merge_visitor visitor = {.visit = measure_list, .keep = keep_measured, .context = e};
    struct merge_place from;
    int status = load_measured(e, &from, err);
    if (status == 0) {
        from = merge_begin();
        e->edges = 0;
        status = work_create(&e->writer, &parts->checkpoint->work, thin_name, err);
    }
    if (status >= 0)
        status = merge_each(e->merge, &from, &visitor, err);
    if (status == 0) {
        status = encode_place(e->lists, parts->crew, e->lengths, e->heat, parts->rows);
        if (status != 0)
            (void)error_set(err, status, "lists: %s", fathom_strerror(status));
    }
    parts->edges = e->edges;
    if (status == 0)
        status = store_joined(e, err);
    return finish_file(e, status, err);
}

static int measure(struct encoding *e, struct fathom_error *err)
{
    uint32_t rows = e->merge->parts->rows;
    e->lengths = mem_alloc_array(rows, sizeof *e->lengths);
    e->heat = mem_alloc_array(rows, sizeof *e->heat);
    int status = e->lengths && e->heat
                     ? measure_with(e, err)
                     : error_set(err, -ENOMEM, "lists: no memory to encode %u of them", rows);
    mem_free(e->lengths);
    mem_free(e->heat);
    return status;
}

/* ---- pages ---- */

/* Of "listing". */
struct listing_header {
    struct merge_place first; /* row of the page */
    uint32_t page, reserved;
};

static int end_page(struct encoding *e, struct fathom_error *err)
{
    memset(e->payload, 0, sizeof e->payload);
    uint8_t *at =
        list_page_begin(e->payload, e->page_lengths, e->page_rows, e->lists->length_bytes);
    memcpy(at, e->page_lists, e->page_bytes);
    e->page++;
    return work_append(e->writer, e->payload, sizeof e->payload, err);
}

static int append_list(void *context, const struct merge_place *place, uint32_t heat,
                       uint32_t *list, struct fathom_error *err)
{
    (void)heat;
    struct encoding *e = context;
    const uint32_t *page_first = e->lists->page_first;
    if (page_first[e->page] == place->row) {
        e->first = *place;
        e->page_rows = e->page_bytes = 0;
    }
    size_t bytes = list_encode(place->row, list + 1, list[0], e->merge->parts->rows, e->bytes);
    if (e->page_rows == PAGE_PAYLOAD || bytes > PAGE_PAYLOAD - e->page_bytes)
        return merge_malformed(err);
    memcpy(e->page_lists + e->page_bytes, e->bytes, bytes);
    e->page_lengths[e->page_rows++] = (uint16_t)bytes;
    e->page_bytes += (uint32_t)bytes;
    return page_first[e->page + 1] == place->row + 1 ? end_page(e, err) : 0;
}

static int keep_listing(void *context, const struct merge_place *next, struct fathom_error *err)
{
    struct encoding *e = context;
    struct checkpoint *checkpoint = checkpoint_of(e);
    bool between = e->lists->page_first[e->page] == next->row;
    struct listing_header header = {.first = between ? *next : e->first, .page = e->page};
    struct work_writer *writer;
    if (!checkpoint_due(checkpoint, WORK_AHEAD_BYTES))
        return 0;
    int status = work_flush(e->writer, err);
    if (status == 0)
        status = work_create(&writer, &checkpoint->work, listing_name, err);
    if (status != 0)
        return status;
    status = work_append(writer, &header, sizeof header, err);
    status = checkpoint_finish(checkpoint, writer, status, 0, 0, err);
    e->saved |= status == 0;
    return status;
}

/* 1: *from is where a killed build had come to, and the file of lists as far. */
static int load_listing(struct encoding *e, struct merge_place *from, struct fathom_error *err)
{
    struct checkpoint *checkpoint = checkpoint_of(e);
    struct listing_header header;
    struct work_file *file;
    int status = work_open(&file, &checkpoint->work, listing_name, err);
    if (status == 0) {
        status = work_next(file, &header, sizeof header, err);
        work_close(file);
        if (status == 0 && (header.page > e->lists->page_count ||
                            e->lists->page_first[header.page] != header.first.row))
            status = checkpoint_malformed(listing_name, err);
        if (status == 0)
            status = work_reopen(&e->writer, &checkpoint->work, lists_name,
                                 (uint64_t)header.page * PAGE_PAYLOAD, err);
        if (status == -ENOENT)
            status = FATHOM_ECORRUPT; /* it is what the other was to be gone on with */
    }
    e->saved = status == 0;
    if (status != 0)
        return checkpoint_unusable(checkpoint, listing_name, status, err);
    *from = header.first;
    e->page = header.page;
    return 1;
}

static int write_pages(struct encoding *e, struct fathom_error *err)
{
    struct merge_visitor visitor = {.visit = append_list, .keep = keep_listing, .context = e};
    struct merge_place from;
    int status = load_listing(e, &from, err);
    if (status == 0) {
        from = merge_begin();
        e->page = 0;
        status = work_create(&e->writer, &checkpoint_of(e)->work, lists_name, err);
    }
    if (status >= 0)
        status = merge_each(e->merge, &from, &visitor, err);
    return finish_file(e, status, err);
}

/* ---- reading back ---- */

static int read_joined(struct parts *parts, struct work_file *file, struct encoded_lists *lists,
                       struct fathom_error *err)
{
    struct joined_header header;
    int status = work_next(file, &header, sizeof header, err);
    if (status != 0)
        return status;
    uint64_t bytes = sizeof header + 4 * ((uint64_t)header.page_count + 1) + parts->rows;
    if (work_bytes(file) != bytes || header.entry_count > GRAPH_ENTRIES_MAX)
        return merge_malformed(err);
    lists->bytes = header.list_bytes;
    lists->length_bytes = header.length_bytes;
    lists->page_count = header.page_count;
    lists->page_first = mem_alloc_array((size_t)header.page_count + 1, sizeof *lists->page_first);
    lists->heat = mem_alloc(parts->rows);
    if (!lists->page_first || !lists->heat)
        return error_set(err, -ENOMEM, "no memory to resume a build");
    parts->edges = header.edges;
    parts->entry_count = header.entry_count;
    memcpy(parts->entries, header.entries, sizeof parts->entries);
    status = work_next(file, lists->page_first, 4 * ((size_t)header.page_count + 1), err);
    return status == 0 ? work_next(file, lists->heat, parts->rows, err) : status;
}

/* 1: these files are whole, and what the first says is in parts and lists. */
static int load_joined(struct parts *parts, const char *const *names, unsigned count,
                       struct encoded_lists *lists, struct fathom_error *err)
{
    struct work_file *file;
    for (unsigned i = 0; i < count; i++) {
        int has = checkpoint_has(parts->checkpoint, names[i], err);
        if (has <= 0)
            return has;
    }
    int status = work_open(&file, &parts->checkpoint->work, joined_name, err);
    if (status == 0)
        status = read_joined(parts, file, lists, err);
    work_close(file);
    if (status == 0)
        return 1;
    encoded_lists_fini(lists);
    return status;
}

int parts_load_merged(struct parts *parts, struct encoded_lists *lists, struct fathom_error *err)
{
    static const char *const names[] = {joined_name, lists_name, thin_name};
    return load_joined(parts, names, 3, lists, err);
}

/* ---- the whole ---- */

int merge_join(const struct merge *merge, struct encoded_lists *lists, struct fathom_error *err)
{
    static const char *const names[] = {joined_name, thin_name};
    struct encoding *e = mem_alloc(sizeof *e);
    if (!e)
        return error_set(err, -ENOMEM, "lists: no memory to encode them");
    e->merge = merge;
    e->lists = lists;
    int status = load_joined(merge->parts, names, 2, lists, err);
    if (status == 0) {
        status = measure(e, err);
        e->saved = false;
    }
    if (status >= 0)
        work_remove(&checkpoint_of(e)->work, measured_name);
    if (status >= 0)
        status = write_pages(e, err);
    mem_free(e);
    return status;
}
