/* One pass through the lists of all parts, each in the order of rows. A row that several parts know
 * gets the neighbours of all of them, in turn by rank, its own part's first, up to R.
 *
 * What falls away could cut a row off. So passes through the result mark what the entries reach,
 * until no more is found; a row that was missed gets an edge from one of its own neighbours, and
 * the marking begins again. Then lists are encoded. */
#include <errno.h>
#include <stdlib.h>

#include "encode.h"
#include "error.h"
#include "gather.h"
#include "lists.h"
#include "page.h"
#include "parts.h"

#define REPAIR_ROUNDS 32
#define LIST_MAX      BUILD_DEGREE_MAX
#define HEAD          2     /* of a merged list: heat and count */
#define STOP_ROWS     65536 /* between two looks at whether to stop */

/* One part's file while it is walked through. */
struct reader {
    struct work_file *file;
    uint32_t left; /* records behind the current one */
    /* The current one; its row is UINT32_MAX at the end. */
    struct part_record record;
    uint32_t ids[LIST_MAX];
};

/* An edge that is added so that row is reached. */
struct repair {
    uint32_t from, row;
};

struct merge {
    struct parts *parts;
    uint32_t degree;
    struct reader *readers; /* one a part */
    uint64_t *reached;      /* a bit a row */
    struct repair *repairs; /* sorted by from, then row */
    uint32_t repair_count, repair_room;
};

static int not_a_list(struct fathom_error *err)
{
    return error_set(err, FATHOM_ECORRUPT,
                     "a work file of lists is not what this build would "
                     "write; build without --resume to begin again");
}

static int stopped(const struct merge *merge, uint32_t row, struct fathom_error *err)
{
    if (row % STOP_ROWS != 0 || !crew_stopped(merge->parts->crew))
        return 0;
    return error_set(err, FATHOM_EINTERRUPTED, "%s", fathom_strerror(FATHOM_EINTERRUPTED));
}

/* ---- the lists of the parts ---- */

static int next_record(struct reader *reader, uint32_t rows, struct fathom_error *err)
{
    struct part_record *record = &reader->record;
    uint32_t before = record->row;
    record->row = UINT32_MAX;
    if (reader->left == 0)
        return 0;
    int status = work_next(reader->file, record, sizeof *record, err);
    if (status == 0 && (record->row >= rows || (before != UINT32_MAX && record->row <= before) ||
                        record->count > BUILD_DEGREE_MAX))
        status = not_a_list(err);
    if (status == 0)
        status = work_next(reader->file, reader->ids, record->count * sizeof *reader->ids, err);
    for (uint32_t i = 0; status == 0 && i < record->count; i++)
        if (reader->ids[i] >= rows)
            status = not_a_list(err);
    reader->left--;
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

static int open_reader(struct merge *merge, uint32_t p, struct fathom_error *err)
{
    char name[WORK_NAME_MAX];
    struct reader *reader = &merge->readers[p];
    const struct part *part = &merge->parts->list[p];
    struct part_header header;
    reader->record.row = UINT32_MAX;
    if (part->row == part->row_end)
        return 0;
    int status = work_open_beside(&reader->file, &merge->parts->checkpoint->work,
                                  checkpoint_name(name, "part", p), merge->parts->count, err);
    if (status == 0)
        status = work_next(reader->file, &header, sizeof header, err);
    if (status != 0)
        return status;
    bool good = header.entry_count >= 1 && header.entry_count <= GRAPH_ENTRIES_MAX;
    for (uint32_t i = 0; good && i < header.entry_count; i++)
        good = header.entries[i] < merge->parts->rows;
    if (!good)
        return not_a_list(err);
    add_entries(merge->parts, &header);
    reader->left = header.members;
    return next_record(reader, merge->parts->rows, err);
}

/* The lists of row in all parts that have it, in turn by rank. own: the part whose row it is. */
static uint32_t merge_lists(const struct merge *merge, uint32_t own, uint32_t row, uint32_t *out)
{
    uint32_t parts = merge->parts->count, count = 0;
    bool more = true;
    for (uint32_t rank = 0; more && count < merge->degree; rank++) {
        more = false;
        for (uint32_t i = 0; i < parts && count < merge->degree; i++) {
            const struct reader *reader = &merge->readers[(own + i) % parts];
            if (reader->record.row != row || rank >= reader->record.count)
                continue;
            more = true;
            if (!has_id(out, count, reader->ids[rank]))
                out[count++] = reader->ids[rank];
        }
    }
    return count;
}

static int merge_rows(struct merge *merge, struct work_writer *writer, struct fathom_error *err)
{
    struct parts *parts = merge->parts;
    uint32_t list[HEAD + LIST_MAX], own = 0;
    int status = 0;
    for (uint32_t row = 0; row < parts->rows && status == 0; row++) {
        while (row >= parts->list[own].row_end)
            own++;
        list[0] = merge->readers[own].record.heat;
        list[1] = merge_lists(merge, own, row, list + HEAD);
        status = work_append(writer, list, (HEAD + list[1]) * sizeof *list, err);
        for (uint32_t p = 0; p < parts->count && status == 0; p++)
            if (merge->readers[p].record.row == row)
                status = next_record(&merge->readers[p], parts->rows, err);
        if (status == 0)
            status = stopped(merge, row, err);
    }
    return status;
}

static int merge_parts(struct merge *merge, struct fathom_error *err)
{
    struct parts *parts = merge->parts;
    struct work_writer *writer = NULL;
    int status = 0;
    merge->readers = mem_alloc_array(parts->count, sizeof *merge->readers);
    if (!merge->readers)
        return error_set(err, -ENOMEM, "graph: no memory to merge %u parts", parts->count);
    for (uint32_t p = 0; p < parts->count && status == 0; p++)
        status = open_reader(merge, p, err);
    if (status == 0)
        status = work_create(&writer, &parts->checkpoint->work, "merged", err);
    if (status == 0)
        status = merge_rows(merge, writer, err);
    for (uint32_t p = 0; p < parts->count; p++)
        work_close(merge->readers[p].file);
    mem_free(merge->readers);
    merge->readers = NULL;
    if (status == 0)
        return work_commit(writer, err);
    work_abandon(writer);
    return status;
}

/* ---- the merged lists, with repairs ---- */

static uint32_t first_repair(const struct merge *merge, uint32_t from)
{
    uint32_t low = 0, high = merge->repair_count;
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
    while (end < merge->repair_count && merge->repairs[end].from == row)
        end++;
    uint32_t added = end - begin < merge->degree ? end - begin : merge->degree;
    if (list[0] + added > merge->degree)
        list[0] = merge->degree - added;
    for (uint32_t i = 0; i < added; i++)
        if (!has_neighbour(list, merge->repairs[begin + i].row))
            list[1 + list[0]++] = merge->repairs[begin + i].row;
}

/* Calls visit for the list of each row, in their order. */
static int each_list(struct merge *merge,
                     int (*visit)(void *context, uint32_t row, uint32_t heat, uint32_t *list,
                                  struct fathom_error *err),
                     void *context, struct fathom_error *err)
{
    struct work_file *file;
    uint32_t head[HEAD + LIST_MAX], *list = head + 1;
    int status = work_open(&file, &merge->parts->checkpoint->work, "merged", err);
    for (uint32_t row = 0; row < merge->parts->rows && status == 0; row++) {
        status = work_next(file, head, HEAD * sizeof *head, err);
        if (status == 0 && list[0] > merge->degree)
            status = not_a_list(err);
        if (status == 0)
            status = work_next(file, list + 1, list[0] * sizeof *list, err);
        if (status == 0)
            status = stopped(merge, row, err);
        if (status == 0 && merge->repair_count)
            apply_repairs(merge, row, list);
        if (status == 0)
            status = visit(context, row, head[0], list, err);
    }
    work_close(file);
    return status;
}

/* ---- reachability ---- */

static bool is_reached(const struct merge *merge, uint32_t row)
{
    return merge->reached[row / 64] >> row % 64 & 1;
}

static void reach(struct merge *merge, uint32_t row)
{
    merge->reached[row / 64] |= UINT64_C(1) << row % 64;
}

struct sweep {
    struct merge *merge;
    uint64_t found;
    uint64_t missed; /* rows that are not reached when their turn comes */
};

static int sweep_list(void *context, uint32_t row, uint32_t heat, uint32_t *list,
                      struct fathom_error *err)
{
    (void)heat;
    (void)err;
    struct sweep *sweep = context;
    if (!is_reached(sweep->merge, row)) {
        sweep->missed++;
        return 0;
    }
    for (uint32_t i = 1; i <= list[0]; i++) {
        if (!is_reached(sweep->merge, list[i])) {
            reach(sweep->merge, list[i]);
            sweep->found++;
        }
    }
    return 0;
}

/* Marks all that the entries reach; *missed receives how many rows that leaves. */
static int mark_reached(struct merge *merge, uint64_t *missed, struct fathom_error *err)
{
    const struct parts *parts = merge->parts;
    memset(merge->reached, 0, (parts->rows / 64 + 1) * sizeof *merge->reached);
    for (uint32_t i = 0; i < parts->entry_count; i++)
        reach(merge, parts->entries[i]);
    struct sweep sweep;
    int status;
    do {
        sweep = (struct sweep){.merge = merge};
        status = each_list(merge, sweep_list, &sweep, err);
    } while (status == 0 && sweep.found > 0);
    *missed = sweep.missed;
    return status;
}

static int add_repair(struct merge *merge, uint32_t from, uint32_t row)
{
    if (merge->repair_count == merge->repair_room) {
        uint32_t room = merge->repair_room ? 2 * merge->repair_room : 256;
        struct repair *grown = mem_alloc_array(room, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        if (merge->repair_count)
            memcpy(grown, merge->repairs, merge->repair_count * sizeof *grown);
        mem_free(merge->repairs);
        merge->repairs = grown;
        merge->repair_room = room;
    }
    merge->repairs[merge->repair_count++] = (struct repair){from, row};
    return 0;
}

/* An edge back from a reached neighbour. What is reached only through the row follows in the same
 * pass, or in the next. */
static int repair_list(void *context, uint32_t row, uint32_t heat, uint32_t *list,
                       struct fathom_error *err)
{
    (void)heat;
    struct sweep *sweep = context;
    struct merge *merge = sweep->merge;
    uint32_t from = UINT32_MAX;
    for (uint32_t i = 1; i <= list[0] && !is_reached(merge, row); i++)
        if (from == UINT32_MAX && is_reached(merge, list[i]))
            from = list[i];
    if (from != UINT32_MAX) {
        if (add_repair(merge, from, row) != 0)
            return error_set(err, -ENOMEM, "graph: no memory to repair lists");
        reach(merge, row);
        sweep->found++;
    }
    for (uint32_t i = 1; i <= list[0] && is_reached(merge, row); i++)
        reach(merge, list[i]);
    return 0;
}

static int compare_repairs(const void *a, const void *b)
{
    const struct repair *x = a, *y = b;
    if (x->from != y->from)
        return x->from < y->from ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* In order, each once: a repair that found no place is asked for again. */
static void sort_repairs(struct merge *merge)
{
    uint32_t kept = 0;
    qsort(merge->repairs, merge->repair_count, sizeof *merge->repairs, compare_repairs);
    for (uint32_t i = 0; i < merge->repair_count; i++)
        if (kept == 0 || compare_repairs(&merge->repairs[kept - 1], &merge->repairs[i]) != 0)
            merge->repairs[kept++] = merge->repairs[i];
    merge->repair_count = kept;
}

static int connect_rows(struct merge *merge, struct fathom_error *err)
{
    uint64_t missed = 0;
    merge->reached = mem_alloc_array(merge->parts->rows / 64 + 1, sizeof *merge->reached);
    if (!merge->reached)
        return error_set(err, -ENOMEM, "graph: no memory to see what is reached");
    for (unsigned round = 0; round < REPAIR_ROUNDS; round++) {
        int status = mark_reached(merge, &missed, err);
        if (status != 0 || missed == 0)
            return status;
        uint32_t known =
            merge->repair_count; /* each_list looks repairs up: add behind, then sort */
        struct merge pass = *merge;
        struct sweep sweep = {.merge = merge};
        pass.repairs = mem_alloc_array(known ? known : 1, sizeof *pass.repairs);
        if (!pass.repairs)
            return error_set(err, -ENOMEM, "graph: no memory to repair lists");
        if (known)
            memcpy(pass.repairs, merge->repairs, known * sizeof *pass.repairs);
        status = each_list(&pass, repair_list, &sweep, err);
        mem_free(pass.repairs);
        if (status != 0)
            return status;
        if (sweep.found == 0 && merge->parts->entry_count == GRAPH_ENTRIES_MAX)
            break;
        sort_repairs(merge);
    }
    return error_set(err, FATHOM_ECORRUPT,
                     "graph: %llu rows of the parts cannot be reached; raise --memory-budget",
                     (unsigned long long)missed);
}

/* ---- encoding ---- */

/* What is known of the whole: the file "joined". The first rows of pages and ranks follow. */
struct joined_header {
    uint64_t list_bytes, edges;
    uint32_t length_bytes, page_count, entry_count, reserved;
    uint32_t entries[GRAPH_ENTRIES_MAX];
};

struct encoding {
    struct merge *merge;
    struct encoded_lists *lists;
    struct work_writer *pages, *thin;
    uint16_t *lengths;
    uint32_t *heat;
    uint64_t edges;
    uint32_t page;                      /* being filled */
    uint8_t payload[PAGE_PAYLOAD], *at; /* and where the next list goes */
    uint8_t bytes[1 + (LISTS_DEGREE_MAX + 3) / 4 + 4 * (LISTS_DEGREE_MAX + 3)];
};

/* Neighbours at equal ranks: what training compares with should be neither all near nor all far. */
static int append_thin(struct encoding *e, const uint32_t *list, struct fathom_error *err)
{
    uint32_t thin[GATHER_THIN] = {0};
    uint32_t most = list[0] < GATHER_THIN - 1 ? list[0] : GATHER_THIN - 1;
    for (uint32_t i = 0; i < most; i++)
        thin[++thin[0]] = list[1 + (uint64_t)i * list[0] / most];
    return work_append(e->thin, thin, sizeof thin, err);
}

static int measure_list(void *context, uint32_t row, uint32_t heat, uint32_t *list,
                        struct fathom_error *err)
{
    struct encoding *e = context;
    int status = append_thin(e, list, err);
    e->edges += list[0];
    e->heat[row] = heat;
    e->lengths[row] =
        (uint16_t)list_encode(row, list + 1, list[0], e->merge->parts->rows, e->bytes);
    return status;
}

/* The page that begins at row. */
static void begin_page(struct encoding *e, uint32_t row)
{
    memset(e->payload, 0, sizeof e->payload);
    e->at = list_page_begin(e->payload, e->lengths + row, e->lists->page_first[e->page + 1] - row,
                            e->lists->length_bytes);
}

static int append_list(void *context, uint32_t row, uint32_t heat, uint32_t *list,
                       struct fathom_error *err)
{
    (void)heat;
    struct encoding *e = context;
    if (e->lists->page_first[e->page] == row)
        begin_page(e, row);
    size_t bytes = list_encode(row, list + 1, list[0], e->merge->parts->rows, e->bytes);
    memcpy(e->at, e->bytes, bytes);
    e->at += bytes;
    if (e->lists->page_first[e->page + 1] != row + 1)
        return 0;
    e->page++;
    return work_append(e->pages, e->payload, sizeof e->payload, err);
}

static int finish_file(struct work_writer *writer, int status, struct fathom_error *err)
{
    if (status == 0)
        return work_commit(writer, err);
    work_abandon(writer);
    return status;
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
    int status = work_create(&writer, &parts->checkpoint->work, "joined", err);
    if (status != 0)
        return status;
    status = work_append(writer, &header, sizeof header, err);
    if (status == 0)
        status = work_append(writer, lists->page_first, 4 * ((size_t)lists->page_count + 1), err);
    if (status == 0)
        status = work_append(writer, lists->heat, parts->rows, err);
    return finish_file(writer, status, err);
}

/* Twice through the lists: where each goes follows from the lengths of all. */
static int encode_merged(struct encoding *e, struct fathom_error *err)
{
    struct parts *parts = e->merge->parts;
    const struct work *work = &parts->checkpoint->work;
    int status = work_create(&e->thin, work, "thin", err);
    if (status != 0)
        return status;
    status = finish_file(e->thin, each_list(e->merge, measure_list, e, err), err);
    if (status == 0) {
        status = encode_place(e->lists, parts->crew, e->lengths, e->heat, parts->rows);
        if (status != 0)
            (void)error_set(err, status, "lists: %s", fathom_strerror(status));
    }
    if (status == 0)
        status = work_create(&e->pages, work, "lists", err);
    if (status == 0)
        status = finish_file(e->pages, each_list(e->merge, append_list, e, err), err);
    if (status == 0)
        status = store_joined(e, err);
    parts->edges = e->edges;
    return status;
}

static int encode_all(struct merge *merge, struct encoded_lists *lists, struct fathom_error *err)
{
    uint32_t rows = merge->parts->rows;
    struct encoding *e = mem_alloc(sizeof *e);
    if (!e)
        return error_set(err, -ENOMEM, "lists: no memory to encode them");
    e->merge = merge;
    e->lists = lists;
    e->lengths = mem_alloc_array(rows, sizeof *e->lengths);
    e->heat = mem_alloc_array(rows, sizeof *e->heat);
    int status = e->lengths && e->heat
                     ? encode_merged(e, err)
                     : error_set(err, -ENOMEM, "lists: no memory to encode %u of them", rows);
    mem_free(e->lengths);
    mem_free(e->heat);
    mem_free(e);
    return status;
}

int parts_merge(struct parts *parts, uint32_t degree, struct encoded_lists *lists,
                struct fathom_error *err)
{
    char name[WORK_NAME_MAX];
    struct merge merge = {.parts = parts, .degree = degree};
    parts->entry_count = 0;
    int status = merge_parts(&merge, err);
    if (status == 0)
        status = connect_rows(&merge, err);
    if (status == 0)
        status = encode_all(&merge, lists, err);
    mem_free(merge.reached);
    mem_free(merge.repairs);
    for (uint32_t p = 0; p < parts->count && status == 0; p++)
        work_remove(&parts->checkpoint->work, checkpoint_name(name, "part", p));
    if (status == 0)
        work_remove(&parts->checkpoint->work, "merged");
    return status;
}

/* ---- reading it back ---- */

static int read_joined(struct parts *parts, struct work_file *file, struct encoded_lists *lists,
                       struct fathom_error *err)
{
    struct joined_header header;
    int status = work_next(file, &header, sizeof header, err);
    if (status != 0)
        return status;
    uint64_t bytes = sizeof header + 4 * ((uint64_t)header.page_count + 1) + parts->rows;
    if (work_bytes(file) != bytes || header.entry_count > GRAPH_ENTRIES_MAX)
        return not_a_list(err);
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

int parts_load_merged(struct parts *parts, struct encoded_lists *lists, struct fathom_error *err)
{
    static const char *const names[] = {"joined", "lists", "thin"};
    struct work_file *file;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int has = checkpoint_has(parts->checkpoint, names[i], err);
        if (has <= 0)
            return has;
    }
    int status = work_open(&file, &parts->checkpoint->work, "joined", err);
    if (status == 0)
        status = read_joined(parts, file, lists, err);
    work_close(file);
    if (status == 0)
        return 1;
    encoded_lists_fini(lists);
    return status;
}
