/* One pass through the lists of all parts, each in the order of rows. A row that several parts know
 * gets the neighbours of all of them, in turn by rank, its own part's first, up to R. */
#include "merge.h"

#include <errno.h>
#include <stdlib.h>

#include "error.h"

#define PAUSE_ROWS 65536 /* as a rule */

static const char merged_name[] = "merged", merging_name[] = "merging";

/* One part's file while it is walked through. */
struct reader {
    struct work_file *file;
    uint64_t offset, next; /* of the current record, and of the one behind it */
    uint32_t left;         /* records behind the current one */
    /* The current one; its row is UINT32_MAX at the end. */
    struct part_record record;
    uint32_t ids[MERGE_LIST_MAX];
};

/* The first of "merged". */
struct merged_header {
    uint32_t rows, entry_count;
    uint32_t entries[GRAPH_ENTRIES_MAX];
};

/* Of "merging"; a reader_place of each part follows. */
struct merging_header {
    uint64_t bytes; /* of merged */
    uint32_t row;   /* the next */
    uint32_t parts;
};

struct reader_place {
    uint64_t offset; /* of the current record */
    uint32_t left, row;
};

struct pass {
    const struct merge *merge;
    struct reader *readers; /* one a part */
    struct work_writer *writer;
    uint64_t bytes; /* of merged */
    uint32_t row;   /* the next */
    bool saved;     /* as far as it had come at some time */
};

int merge_malformed(struct fathom_error *err)
{
    return error_set(err, FATHOM_ECORRUPT,
                     "a work file of lists is not what this build would "
                     "write; build without --resume to begin again");
}

int merge_stopped(const struct merge *merge, struct fathom_error *err)
{
    return crew_stopped(merge->parts->crew)
               ? error_set(err, FATHOM_EINTERRUPTED, "%s", fathom_strerror(FATHOM_EINTERRUPTED))
               : 0;
}

bool merge_pauses(const struct merge *merge, uint32_t row)
{
    uint32_t rows = merge->parts->pause_rows ? merge->parts->pause_rows : PAUSE_ROWS;
    return row % rows == 0;
}

struct merge_place merge_begin(void)
{
    return (struct merge_place){.offset = sizeof(struct merged_header)};
}

/* ---- the lists of the parts ---- */

static int next_record(struct reader *reader, uint32_t rows, struct fathom_error *err)
{
    struct part_record *record = &reader->record;
    uint32_t before = record->row;
    record->row = UINT32_MAX;
    reader->offset = reader->next;
    if (reader->left == 0)
        return 0;
    int status = work_next(reader->file, record, sizeof *record, err);
    if (status == 0 && (record->row >= rows || (before != UINT32_MAX && record->row <= before) ||
                        record->count > BUILD_DEGREE_MAX))
        status = merge_malformed(err);
    if (status == 0)
        status = work_next(reader->file, reader->ids, record->count * sizeof *reader->ids, err);
    for (uint32_t i = 0; status == 0 && i < record->count; i++)
        if (reader->ids[i] >= rows)
            status = merge_malformed(err);
    reader->left--;
    reader->next += sizeof *record + record->count * sizeof *reader->ids;
    return status;
}

static bool has_id(const uint32_t *ids, uint32_t count, uint32_t id)
{
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* Entries of each part in equal shares; each part's medoid is its first. */
static void add_entries(struct parts *parts, const struct part_header *header)
{
    uint32_t share = GRAPH_ENTRIES_MAX / parts->count;
    share = share < 1 ? 1 : share < header->entry_count ? share : header->entry_count;
    for (uint32_t i = 0; i < share && parts->entry_count < GRAPH_ENTRIES_MAX; i++) {
        uint32_t entry = header->entries[(uint64_t)i * header->entry_count / share];
        if (!has_id(parts->entries, parts->entry_count, entry))
            parts->entries[parts->entry_count++] = entry;
    }
}

static bool are_entries(const uint32_t *entries, uint32_t count, uint32_t rows)
{
    bool good = count >= 1 && count <= GRAPH_ENTRIES_MAX;
    for (uint32_t i = 0; good && i < count; i++)
        good = entries[i] < rows;
    return good;
}

/* In front of its first record. */
static int open_reader(struct pass *pass, uint32_t p, struct fathom_error *err)
{
    char name[WORK_NAME_MAX];
    struct reader *reader = &pass->readers[p];
    struct parts *parts = pass->merge->parts;
    struct part_header header;
    reader->record.row = UINT32_MAX;
    if (parts->list[p].row == parts->list[p].row_end)
        return 0;
    int status = work_open_beside(&reader->file, &parts->checkpoint->work,
                                  checkpoint_name(name, "part", p), parts->count, err);
    if (status == 0)
        status = work_next(reader->file, &header, sizeof header, err);
    if (status != 0)
        return status;
    if (!are_entries(header.entries, header.entry_count, parts->rows))
        return merge_malformed(err);
    add_entries(parts, &header);
    reader->left = header.members;
    reader->next = sizeof header;
    return 0;
}

/* The lists of row in all parts that have it, in turn by rank. own: the part whose row it is. */
static uint32_t merge_lists(const struct pass *pass, uint32_t own, uint32_t row, uint32_t *out)
{
    uint32_t parts = pass->merge->parts->count, degree = pass->merge->degree, count = 0;
    bool more = true;
    for (uint32_t rank = 0; more && count < degree; rank++) {
        more = false;
        for (uint32_t i = 0; i < parts && count < degree; i++) {
            const struct reader *reader = &pass->readers[(own + i) % parts];
            if (reader->record.row != row || rank >= reader->record.count)
                continue;
            more = true;
            if (!has_id(out, count, reader->ids[rank]))
                out[count++] = reader->ids[rank];
        }
    }
    return count;
}

/* ---- how far it is ---- */

static int append_places(const struct pass *pass, struct work_writer *writer,
                         struct fathom_error *err)
{
    const struct merging_header header = {
        .bytes = pass->bytes, .row = pass->row, .parts = pass->merge->parts->count};
    int status = work_append(writer, &header, sizeof header, err);
    for (uint32_t p = 0; p < header.parts && status == 0; p++) {
        const struct reader *reader = &pass->readers[p];
        struct reader_place place = {reader->offset, reader->left, reader->record.row};
        status = work_append(writer, &place, sizeof place, err);
    }
    return status;
}

static int keep_merging(struct pass *pass, struct fathom_error *err)
{
    struct checkpoint *checkpoint = pass->merge->parts->checkpoint;
    struct work_writer *writer;
    if (!checkpoint_due(checkpoint, WORK_AHEAD_BYTES))
        return 0;
    int status = work_flush(pass->writer, err);
    if (status == 0)
        status = work_create(&writer, &checkpoint->work, merging_name, err);
    if (status != 0)
        return status;
    status = checkpoint_finish(checkpoint, writer, append_places(pass, writer, err), 0, 0, err);
    pass->saved |= status == 0;
    return status;
}

/* A reader's record is the one that it was at. */
static int seek_reader(struct pass *pass, uint32_t p, const struct reader_place *place,
                       struct fathom_error *err)
{
    struct reader *reader = &pass->readers[p];
    if (!reader->file)
        return place->row == UINT32_MAX ? 0 : checkpoint_malformed(merging_name, err);
    if (place->left > reader->left || place->offset < reader->next)
        return checkpoint_malformed(merging_name, err);
    reader->next = place->offset;
    reader->left = place->left + (place->row != UINT32_MAX);
    work_seek(reader->file, place->offset);
    int status = next_record(reader, pass->merge->parts->rows, err);
    return status == 0 && reader->record.row != place->row ? checkpoint_malformed(merging_name, err)
                                                           : status;
}

static int read_places(struct pass *pass, struct work_file *file, struct fathom_error *err)
{
    const struct parts *parts = pass->merge->parts;
    struct merging_header header;
    int status = work_next(file, &header, sizeof header, err);
    if (status == 0 && (header.parts != parts->count || header.row > parts->rows))
        status = checkpoint_malformed(merging_name, err);
    for (uint32_t p = 0; p < parts->count && status == 0; p++) {
        struct reader_place place;
        status = work_next(file, &place, sizeof place, err);
        if (status == 0)
            status = seek_reader(pass, p, &place, err);
    }
    pass->row = header.row;
    pass->bytes = header.bytes;
    return status;
}

/* 1: the pass is where a killed build had come to. */
static int load_merging(struct pass *pass, struct fathom_error *err)
{
    struct checkpoint *checkpoint = pass->merge->parts->checkpoint;
    struct work_file *file;
    int status = work_open(&file, &checkpoint->work, merging_name, err);
    if (status == 0) {
        status = read_places(pass, file, err);
        work_close(file);
        if (status == 0)
            status = work_reopen(&pass->writer, &checkpoint->work, merged_name, pass->bytes, err);
        if (status == -ENOENT)
            status = FATHOM_ECORRUPT; /* it is what the other was to be gone on with */
    }
    pass->saved = status == 0;
    return status == 0 ? 1 : checkpoint_unusable(checkpoint, merging_name, status, err);
}

/* ---- the pass ---- */

static int begin_merged(struct pass *pass, struct fathom_error *err)
{
    const struct parts *parts = pass->merge->parts;
    struct merged_header header = {.rows = parts->rows, .entry_count = parts->entry_count};
    int status = 0;
    memcpy(header.entries, parts->entries, sizeof header.entries);
    for (uint32_t p = 0; p < parts->count && status == 0; p++) {
        struct reader *reader = &pass->readers[p];
        if (!reader->file)
            continue;
        struct part_header first;
        work_seek(reader->file, 0);
        status = work_next(reader->file, &first, sizeof first, err);
        reader->left = first.members;
        reader->next = sizeof first;
        reader->record.row = UINT32_MAX;
        if (status == 0)
            status = next_record(reader, parts->rows, err);
    }
    if (status == 0)
        status = work_create(&pass->writer, &parts->checkpoint->work, merged_name, err);
    if (status == 0)
        status = work_append(pass->writer, &header, sizeof header, err);
    pass->row = 0;
    pass->bytes = sizeof header;
    return status;
}

static int merge_rows(struct pass *pass, struct fathom_error *err)
{
    const struct parts *parts = pass->merge->parts;
    uint32_t list[MERGE_HEAD + MERGE_LIST_MAX], own = 0;
    int status = 0;
    while (pass->row < parts->rows && status == 0) {
        uint32_t row = pass->row;
        while (row >= parts->list[own].row_end)
            own++;
        list[0] = pass->readers[own].record.heat;
        list[1] = merge_lists(pass, own, row, list + MERGE_HEAD);
        status = work_append(pass->writer, list, (MERGE_HEAD + list[1]) * sizeof *list, err);
        for (uint32_t p = 0; p < parts->count && status == 0; p++)
            if (pass->readers[p].record.row == row)
                status = next_record(&pass->readers[p], parts->rows, err);
        pass->bytes += (MERGE_HEAD + list[1]) * sizeof *list;
        pass->row++;
        if (status == 0 && merge_pauses(pass->merge, pass->row))
            status = merge_stopped(pass->merge, err);
        if (status == 0 && merge_pauses(pass->merge, pass->row))
            status = keep_merging(pass, err);
    }
    return status;
}

static void remove_parts(const struct parts *parts)
{
    char name[WORK_NAME_MAX];
    for (uint32_t p = 0; p < parts->count; p++)
        work_remove(&parts->checkpoint->work, checkpoint_name(name, "part", p));
    work_remove(&parts->checkpoint->work, merging_name);
}

/* Leaves "merged", which takes the place of the parts' files. */
static int merge_parts(struct merge *merge, struct fathom_error *err)
{
    struct parts *parts = merge->parts;
    struct pass pass = {.merge = merge};
    int status = 0;
    parts->entry_count = 0;
    pass.readers = mem_alloc_array(parts->count, sizeof *pass.readers);
    if (!pass.readers)
        return error_set(err, -ENOMEM, "graph: no memory to merge %u parts", parts->count);
    for (uint32_t p = 0; p < parts->count && status == 0; p++)
        status = open_reader(&pass, p, err);
    if (status == 0)
        status = load_merging(&pass, err);
    if (status == 0)
        status = begin_merged(&pass, err);
    if (status >= 0)
        status = merge_rows(&pass, err);
    for (uint32_t p = 0; p < parts->count; p++)
        work_close(pass.readers[p].file);
    mem_free(pass.readers);
    if (status == 0)
        status = work_commit(pass.writer, err);
    else if (pass.saved)
        work_suspend(pass.writer);
    else
        work_abandon(pass.writer);
    if (status == 0)
        remove_parts(parts);
    return status;
}

/* ---- the merged lists, with repairs ---- */

static uint32_t first_repair(const struct merge *merge, uint32_t from)
{
    uint32_t low = 0, high = merge->repaired;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (merge->repairs[middle].from < from)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool has_neighbour(const uint32_t *list, uint32_t row)
{
    for (uint32_t i = 1; i <= list[0]; i++)
        if (list[i] == row)
            return true;
    return false;
}

/* Repairs take free places, then those of the last neighbours. A list may have what it is repaired
 * by: it was not known to be reached when the repair was asked for. */
static void apply_repairs(const struct merge *merge, uint32_t row, uint32_t *list)
{
    uint32_t begin = first_repair(merge, row), end = begin;
    while (end < merge->repaired && merge->repairs[end].from == row)
        end++;
    uint32_t added = end - begin < merge->degree ? end - begin : merge->degree;
    if (list[0] + added > merge->degree)
        list[0] = merge->degree - added;
    for (uint32_t i = 0; i < added; i++)
        if (!has_neighbour(list, merge->repairs[begin + i].row))
            list[1 + list[0]++] = merge->repairs[begin + i].row;
}

/* The list at *place; *place becomes that of the next. head: heat, then the list. */
static int read_list(const struct merge *merge, struct work_file *file, struct merge_place *place,
                     uint32_t *head, struct fathom_error *err)
{
    uint32_t *list = head + 1;
    int status = work_next(file, head, MERGE_HEAD * sizeof *head, err);
    if (status == 0 && list[0] > merge->degree)
        status = merge_malformed(err);
    if (status == 0)
        status = work_next(file, list + 1, list[0] * sizeof *list, err);
    if (status != 0)
        return status;
    place->offset += (MERGE_HEAD + list[0]) * sizeof *list;
    place->row++;
    return 0;
}

int merge_each(const struct merge *merge, const struct merge_place *from,
               const struct merge_visitor *visitor, struct fathom_error *err)
{
    struct work_file *file;
    struct merge_place next = *from;
    uint32_t head[MERGE_HEAD + MERGE_LIST_MAX];
    int status = work_open(&file, &merge->parts->checkpoint->work, merged_name, err);
    if (status != 0)
        return status;
    work_seek(file, next.offset);
    while (next.row < merge->parts->rows && status == 0) {
        struct merge_place place = next;
        status = read_list(merge, file, &next, head, err);
        if (status == 0 && merge->repaired)
            apply_repairs(merge, place.row, head + 1);
        if (status == 0)
            status = visitor->visit(visitor->context, &place, head[0], head + 1, err);
        if (status == 0 && merge_pauses(merge, next.row))
            status = merge_stopped(merge, err);
        if (status == 0 && merge_pauses(merge, next.row))
            status = visitor->keep(visitor->context, &next, err);
    }
    work_close(file);
    return status;
}

/* ---- the whole ---- */

static int read_entries(struct parts *parts, struct fathom_error *err)
{
    struct merged_header header;
    struct work_file *file;
    int status = work_open(&file, &parts->checkpoint->work, merged_name, err);
    if (status == 0) {
        status = work_next(file, &header, sizeof header, err);
        work_close(file);
    }
    if (status == 0 && (header.rows != parts->rows ||
                        !are_entries(header.entries, header.entry_count, parts->rows)))
        status = merge_malformed(err);
    if (status != 0)
        return status;
    parts->entry_count = header.entry_count;
    memcpy(parts->entries, header.entries, sizeof header.entries);
    return 0;
}

int parts_has_merged(const struct parts *parts, struct fathom_error *err)
{
    return checkpoint_has(parts->checkpoint, merged_name, err);
}

int parts_merge(struct parts *parts, bool merged, uint32_t degree, struct encoded_lists *lists,
                struct fathom_error *err)
{
    static const char *const files[] = {merged_name, "reached", "listing"};
    struct merge merge = {.parts = parts, .degree = degree};
    int status = merged ? read_entries(parts, err) : merge_parts(&merge, err);
    if (status == 0)
        status = merge_reach(&merge, err);
    if (status == 0)
        status = merge_join(&merge, lists, err);
    mem_free(merge.repairs);
    for (size_t i = 0; i < sizeof files / sizeof *files && status == 0; i++)
        work_remove(&parts->checkpoint->work, files[i]);
    return status;
}
