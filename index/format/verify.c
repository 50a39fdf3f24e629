/* Verifying a generation: every page's checksum, and with deep every reference: list bytes,
 * neighbour ids, cells, entries, ids, the model, and that each row can be reached. Reads everything
 * once; deep reads lists again until all are reached, and keeps some MiB of them and two bits a row
 * in memory. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "bits.h"
#include "centroids.h"
#include "error.h"
#include "file_path.h"
#include "le.h"
#include "lists.h"
#include "mem.h"

#define CHUNK_PAGES 256
#define LOAD_BYTES  (16u << 20) /* read at a time */

struct verify {
    const struct index_file *file;
    struct fathom_verify_report *report;
    void (*damage)(void *context, const char *what);
    void *context;
    const struct format_stop *stop;
    char first[400]; /* the first damage found, for the error */
};

static bool is_stopped(const struct verify *v)
{
    return v->stop && v->stop->stopped && v->stop->stopped(v->stop->context);
}

static int stopped(const struct verify *v, struct fathom_error *err)
{
    return error_set(err, FATHOM_EINTERRUPTED, "%s: not verified to the end: %s", v->file->path,
                     fathom_strerror(FATHOM_EINTERRUPTED));
}

__attribute__((format(printf, 2, 3))) static void found(struct verify *v, const char *format, ...)
{
    char what[400];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    if (!v->first[0])
        memcpy(v->first, what, sizeof what);
    if (v->damage)
        v->damage(v->context, what);
}

static void bad_reference(struct verify *v, const char *what, uint64_t row)
{
    v->report->bad_references++;
    found(v, "%s: %s (row %" PRIu64 ")", v->file->path, what, row);
}

/* ---- pages ---- */

static int verify_section_pages(struct verify *v, const struct section *section, uint8_t *buffer,
                                struct fathom_error *err)
{
    const struct index_file *file = v->file;
    for (uint64_t done = 0; done < section->page_count;) {
        uint64_t left = section->page_count - done, step = left < CHUNK_PAGES ? left : CHUNK_PAGES;
        int status = is_stopped(v) ? stopped(v, err)
                                   : file_read_full(file->env, file->fd, file->path, buffer,
                                                    step * PAGE_BYTES,
                                                    (section->first_page + done) * PAGE_BYTES, err);
        if (status)
            return status;
        for (uint64_t i = 0; i < step; i++) {
            uint64_t number = section->first_page + done + i;
            struct page_place place = {file->super.properties.generation, section->kind, number};
            v->report->pages++;
            if (page_check(buffer + i * PAGE_BYTES, &place))
                continue;
            v->report->bad_pages++;
            found(v, "%s: section %s: checksum mismatch in page %" PRIu64 " (offset %" PRIu64 ")",
                  file->path, section_name(section->kind), number, number * PAGE_BYTES);
        }
        done += step;
    }
    return 0;
}

static int verify_pages(struct verify *v, struct fathom_error *err)
{
    const struct superblock *super = &v->file->super;
    uint64_t most = 1; /* a small index needs no large buffer */
    for (uint32_t i = 0; i < super->section_count; i++)
        most = super->sections[i].page_count > most ? super->sections[i].page_count : most;
    most = most < CHUNK_PAGES ? most : CHUNK_PAGES;
    uint8_t *buffer = mem_alloc_pages(most);
    int status = buffer ? 0 : error_set(err, -ENOMEM, "%s: no memory to verify", v->file->path);
    v->report->pages++; /* the superblock, checked when the file was opened */
    for (uint32_t i = 0; status == 0 && i < super->section_count; i++)
        status = verify_section_pages(v, &super->sections[i], buffer, err);
    mem_free_pages(buffer, most);
    return status;
}

/* ---- references ---- */

/* A whole stream section in memory, with slack behind it. */
static int load_section(struct verify *v, enum section_kind kind, uint8_t **out,
                        struct fathom_error *err)
{
    const struct section *section = superblock_find(&v->file->super, kind);
    *out = mem_alloc(section->bytes + 64);
    if (!*out)
        return error_set(err, -ENOMEM,
                         "%s: no memory for section %s (%" PRIu64 " bytes) to verify it",
                         v->file->path, section_name(kind), section->bytes);
    int status = 0;
    for (uint64_t at = 0; at < section->bytes && status == 0; at += LOAD_BYTES) {
        uint64_t left = section->bytes - at;
        status = is_stopped(v) ? stopped(v, err)
                               : index_file_read(v->file, section, at, *out + at,
                                                 left < LOAD_BYTES ? left : LOAD_BYTES, err);
    }
    return status;
}

static void verify_cells(struct verify *v, const uint8_t *cells)
{
    const struct properties *p = &v->file->super.properties;
    for (uint32_t c = 0; c <= p->cells; c++) {
        uint32_t first = le_load32(cells + 4 * (size_t)c);
        bool right = c == 0 ? first == 0 : first >= le_load32(cells + 4 * (size_t)c - 4);
        v->report->references++;
        if (!right || (c == p->cells && first != p->rows))
            bad_reference(v, "section cells: first rows do not rise from 0 to the row count",
                          first);
    }
}

/* A row of each cell, and zeros for those that are not there. */
static void verify_centroids(struct verify *v, const uint8_t *bytes)
{
    const struct properties *p = &v->file->super.properties;
    struct centroids all = centroids_of(bytes, p->cells, p->work_dim);
    uint32_t dim = p->work_dim, lanes = (uint32_t)centroids_blocks(p->cells) * KERNEL_LANES;
    uint8_t row[KERNEL_DIM_MAX];
    for (uint32_t c = 0; c < lanes; c++) {
        const uint8_t *block = centroids_block(&all, c);
        bool right = c >= p->cells || centroids_decode(&all, c, row);
        for (uint32_t d = c < p->cells ? dim : 0; d < size_round_up(dim, 8); d++)
            right = right && centroids_value(block, c % KERNEL_LANES, d) == 0;
        v->report->references += c < p->cells;
        if (!right)
            bad_reference(v, "section centroids: a value is out of range", c);
    }
}

static void verify_entries(struct verify *v, const uint8_t *entries)
{
    const struct properties *p = &v->file->super.properties;
    for (uint32_t i = 0; i < p->entry_count; i++) {
        v->report->references++;
        if (le_load32(entries + 4 * (size_t)i) >= p->rows)
            bad_reference(v, "section entries: an entry point is not a row",
                          le_load32(entries + 4 * (size_t)i));
    }
}

/* ---- lists ---- */

/* So many pages of lists are in memory at a time, however many rows there are. */
#define WALK_PAGES 256
#define WALK_STOP  64 /* pages between two looks at whether to go on */

/* A walk from the entry points through lists that are read in chunks: what was reached and not yet
 * gone on from waits for its chunk, and chunks come by until nothing waits. */
struct walk {
    struct verify *v;
    const uint32_t *first_row;       /* of each page, and the row count */
    uint64_t pages;                  /* of all */
    uint8_t *lists, *heat;           /* of the pages and rows of the chunk */
    uint64_t chunk, chunk_end;       /* its pages */
    uint64_t *seen, *waiting;        /* a bit a row */
    bool lost;                       /* what waits cannot be reached, nor what it names */
    uint64_t hot[FORMAT_HEAT_RANKS]; /* bytes of lists */
};

static bool bit_of(const uint64_t *bits, uint64_t row)
{
    return bits[row / 64] >> row % 64 & 1;
}

static void reach_row(struct walk *walk, uint64_t row)
{
    if (bit_of(walk->seen, row))
        return;
    walk->seen[row / 64] |= UINT64_C(1) << row % 64;
    walk->waiting[row / 64] |= UINT64_C(1) << row % 64;
}

/* The first waiting row of [first, end), or end. */
static uint64_t next_waiting(const struct walk *walk, uint64_t first, uint64_t end)
{
    while (first < end) {
        uint64_t word = walk->waiting[first / 64] >> first % 64;
        if (word)
            first += (uint64_t)__builtin_ctzll(word);
        else
            first = (first / 64 + 1) * 64;
        if (word)
            break;
    }
    return first < end ? first : end;
}

/* What is there already is not read again. */
static int load_chunk(struct walk *walk, uint64_t page, struct fathom_error *err)
{
    struct verify *v = walk->v;
    const struct section *lists = superblock_find(&v->file->super, SECTION_LISTS);
    uint64_t end = walk->pages - page < WALK_PAGES ? walk->pages : page + WALK_PAGES;
    if (is_stopped(v))
        return stopped(v, err);
    if (walk->chunk == page && walk->chunk_end == end)
        return 0;
    walk->chunk = page;
    walk->chunk_end = end;
    return index_file_read(v->file, lists, page * PAGE_PAYLOAD, walk->lists,
                           (end - page) * PAGE_PAYLOAD, err);
}

static const uint8_t *list_at(const struct walk *walk, uint64_t page, uint32_t slot, size_t *bytes)
{
    const uint32_t *first = &walk->first_row[page];
    return list_page_find(walk->lists + (page - walk->chunk) * PAGE_PAYLOAD, PAGE_PAYLOAD,
                          first[1] - first[0], walk->v->file->super.properties.list_length_bytes,
                          slot, bytes);
}

static void place_page(struct walk *walk, uint64_t page)
{
    uint32_t first = walk->first_row[page], count = walk->first_row[page + 1] - first;
    for (uint32_t slot = 0; slot < count; slot++) {
        size_t bytes;
        if (list_at(walk, page, slot, &bytes))
            walk->hot[walk->heat[first + slot - walk->first_row[walk->chunk]]] += bytes;
        else
            bad_reference(walk->v, "section lists: a list does not lie within its page",
                          first + slot);
    }
}

/* Where the lists of a chunk are. */
static int place_chunk(struct walk *walk, struct fathom_error *err)
{
    struct verify *v = walk->v;
    uint64_t first = walk->first_row[walk->chunk];
    int status = index_file_read(v->file, superblock_find(&v->file->super, SECTION_HEAT), first,
                                 walk->heat, walk->first_row[walk->chunk_end] - first, err);
    for (uint64_t page = walk->chunk; page < walk->chunk_end && status == 0; page++)
        place_page(walk, page);
    return status;
}

/* Checks a list, and notes what it reaches. */
static void expand_row(struct walk *walk, uint64_t page, uint32_t row)
{
    struct verify *v = walk->v;
    const struct properties *p = &v->file->super.properties;
    uint32_t neighbours[LISTS_DEGREE_MAX + 4];
    size_t bytes = 0;
    const uint8_t *list = list_at(walk, page, row - walk->first_row[page], &bytes);
    int degree = list_decode(row, list ? list : walk->lists, list ? bytes : 0, (uint32_t)p->rows,
                             p->degree_max, neighbours);
    walk->waiting[row / 64] &= ~(UINT64_C(1) << row % 64);
    if (degree < 0)
        bad_reference(
            v, "section lists: a list does not decode, or names a row that does not exist", row);
    for (int i = 0; i < degree; i++) {
        v->report->references++;
        if (!walk->lost)
            reach_row(walk, neighbours[i]);
    }
}

/* Until nothing waits in the chunk. */
static int expand_chunk(struct walk *walk, struct fathom_error *err)
{
    uint64_t begin = walk->first_row[walk->chunk], end = walk->first_row[walk->chunk_end];
    while (next_waiting(walk, begin, end) < end)
        for (uint64_t page = walk->chunk; page < walk->chunk_end; page++) {
            uint64_t last = walk->first_row[page + 1];
            if (page % WALK_STOP == 0 && is_stopped(walk->v))
                return stopped(walk->v, err);
            for (uint64_t row = next_waiting(walk, walk->first_row[page], last); row < last;
                 row = next_waiting(walk, row + 1, last))
                expand_row(walk, page, (uint32_t)row);
        }
    return 0;
}

static void check_hot_bytes(const struct walk *walk)
{
    const struct properties *p = &walk->v->file->super.properties;
    uint64_t total = 0;
    for (uint32_t rank = 0; rank < FORMAT_HEAT_RANKS; rank++) {
        total += walk->hot[rank];
        if (total > format_hot_bytes(p, rank + 1))
            bad_reference(walk->v, "section heat: more bytes of lists in a rank than it may hold",
                          rank);
    }
    if (total != p->list_bytes)
        bad_reference(walk->v, "section lists: lengths do not add up to the bytes of all lists",
                      p->rows);
}

static int place_lists(struct walk *walk, struct fathom_error *err)
{
    int status = 0;
    for (uint64_t page = 0; page < walk->pages && status == 0; page += WALK_PAGES) {
        status = load_chunk(walk, page, err);
        if (status == 0)
            status = place_chunk(walk, err);
    }
    if (status == 0)
        check_hot_bytes(walk);
    return status;
}

/* All chunks that have something waiting, until none has. */
static int expand_lists(struct walk *walk, struct fathom_error *err)
{
    int status = 0;
    for (bool waiting = true; waiting && status == 0;) {
        waiting = false;
        for (uint64_t page = 0; page < walk->pages && status == 0; page += WALK_PAGES) {
            uint64_t left = walk->pages - page, some = left < WALK_PAGES ? left : WALK_PAGES,
                     end = walk->first_row[page + some];
            if (next_waiting(walk, walk->first_row[page], end) == end)
                continue;
            waiting = true;
            status = load_chunk(walk, page, err);
            if (status == 0)
                status = expand_chunk(walk, err);
        }
    }
    return status;
}

/* What was not reached is to be checked as well. */
static void wait_for_lost(struct walk *walk)
{
    uint64_t rows = walk->v->file->super.properties.rows;
    walk->lost = true;
    for (uint64_t row = 0; row < rows; row++)
        if (!bit_of(walk->seen, row)) {
            reach_row(walk, row);
            walk->v->report->unreachable_rows++;
        }
}

static int walk_lists(struct walk *walk, struct fathom_error *err)
{
    int status = place_lists(walk, err);
    if (status == 0)
        status = expand_lists(walk, err);
    if (status)
        return status;
    wait_for_lost(walk);
    return walk->v->report->unreachable_rows ? expand_lists(walk, err) : 0;
}

/* The most rows of a chunk. */
static uint64_t chunk_rows(const struct walk *walk)
{
    uint64_t most = 0;
    for (uint64_t page = 0; page < walk->pages; page += WALK_PAGES) {
        uint64_t left = walk->pages - page, some = left < WALK_PAGES ? left : WALK_PAGES,
                 rows = walk->first_row[page + some] - walk->first_row[page];
        most = rows > most ? rows : most;
    }
    return most;
}

static int walk_graph(struct verify *v, const uint32_t *first_row, const uint8_t *entries,
                      struct fathom_error *err)
{
    const struct properties *p = &v->file->super.properties;
    uint64_t words = (p->rows + 63) / 64,
             pages = format_list_pages(superblock_find(&v->file->super, SECTION_LISTS));
    struct walk walk = {.v = v, .first_row = first_row, .pages = pages};
    if (!format_list_pages_valid(first_row, pages, p)) {
        bad_reference(v, "section list_pages: first rows do not rise from 0 to the row count",
                      p->rows);
        return 0;
    }
    walk.lists = mem_alloc((pages < WALK_PAGES ? pages : WALK_PAGES) * PAGE_PAYLOAD + LISTS_SLACK);
    walk.heat = mem_alloc(chunk_rows(&walk));
    walk.seen = mem_alloc_array(words, sizeof *walk.seen);
    walk.waiting = mem_alloc_array(words, sizeof *walk.waiting);
    int status = 0;
    if (!walk.lists || !walk.heat || !walk.seen || !walk.waiting)
        status = error_set(err, -ENOMEM, "%s: no memory to walk the graph of %" PRIu64 " rows",
                           v->file->path, p->rows);
    for (uint32_t i = 0; i < p->entry_count && status == 0; i++)
        if (le_load32(entries + 4 * (size_t)i) < p->rows)
            reach_row(&walk, le_load32(entries + 4 * (size_t)i));
    if (status == 0)
        status = walk_lists(&walk, err);
    mem_free(walk.lists);
    mem_free(walk.heat);
    mem_free(walk.seen);
    mem_free(walk.waiting);
    return status;
}

static int verify_lists(struct verify *v, const uint8_t *entries, struct fathom_error *err)
{
    uint8_t *first_row;
    int status = load_section(v, SECTION_LIST_PAGES, &first_row, err);
    if (status == 0)
        status = walk_graph(v, (const uint32_t *)(const void *)first_row, entries, err);
    if (v->report->unreachable_rows)
        found(v, "%s: %" PRIu64 " row%s cannot be reached from the entry points", v->file->path,
              v->report->unreachable_rows, v->report->unreachable_rows == 1 ? "" : "s");
    mem_free(first_row);
    return status;
}

/* ---- the rest ---- */

static int verify_model(struct verify *v, struct fathom_error *err)
{
    const struct section *section = superblock_find(&v->file->super, SECTION_MODEL);
    const struct properties *p = &v->file->super.properties;
    struct fathom_error detail = {0};
    struct model model;
    uint8_t *bytes;
    int status = load_section(v, SECTION_MODEL, &bytes, err);
    if (status == 0)
        status = model_decode(&model, bytes, section->bytes, p, v->file->path, &detail);
    mem_free(bytes);
    if (status == FATHOM_ECORRUPT && detail.code) {
        v->report->bad_references++;
        found(v, "%s", detail.msg);
        return 0;
    }
    if (status)
        return detail.code ? error_set(err, status, "%s", detail.msg) : status;
    const struct planes_model *planes = &model.planes;
    if (!format_codes_valid(&v->file->super, planes))
        bad_reference(v, "section codes, factors or scan: size does not follow from the model",
                      p->rows);
    model_fini(&model);
    return 0;
}

static int verify_points(struct verify *v, struct fathom_error *err)
{
    const struct section *section = superblock_find(&v->file->super, SECTION_POINTS);
    uint8_t *points = NULL;
    int status = section && section->bytes ? load_section(v, SECTION_POINTS, &points, err) : 0;
    for (uint64_t at = 0; status == 0 && points && at < section->bytes; at += FORMAT_POINT_BYTES) {
        v->report->references++;
        if (format_point_valid(points + at))
            continue;
        v->report->bad_references++;
        found(v, "%s: section points: a value of point %" PRIu64 " is out of range", v->file->path,
              at / FORMAT_POINT_BYTES);
    }
    mem_free(points);
    return status;
}

static int verify_references(struct verify *v, struct fathom_error *err)
{
    uint8_t *centroids = NULL, *cells = NULL, *entries = NULL;
    int status = verify_model(v, err);
    if (status == 0)
        status = verify_points(v, err);
    if (status == 0)
        status = load_section(v, SECTION_CENTROIDS, &centroids, err);
    if (status == 0)
        status = load_section(v, SECTION_CELLS, &cells, err);
    if (status == 0)
        status = load_section(v, SECTION_ENTRIES, &entries, err);
    if (status == 0) {
        verify_centroids(v, centroids);
        verify_cells(v, cells);
        verify_entries(v, entries);
        status = verify_lists(v, entries, err);
    }
    mem_free(centroids);
    mem_free(cells);
    mem_free(entries);
    return status;
}

/* ---- */

int index_file_verify(const struct index_file *file, bool deep, struct fathom_verify_report *report,
                      void (*damage)(void *context, const char *what), void *context,
                      const struct format_stop *stop, struct fathom_error *err)
{
    struct verify v = {
        .file = file, .report = report, .damage = damage, .context = context, .stop = stop};
    *report = (struct fathom_verify_report){0};
    int status = verify_pages(&v, err);
    if (status == 0 && deep && report->bad_pages == 0)
        status = verify_references(&v, err);
    if (status)
        return status;
    if (report->bad_pages)
        return error_set(err, FATHOM_ECHECKSUM, "%s; %" PRIu64 " of %" PRIu64 " pages are damaged",
                         v.first, report->bad_pages, report->pages);
    if (report->bad_references || report->unreachable_rows)
        return error_set(err, FATHOM_ECORRUPT, "%s; %" PRIu64 " bad references in all", v.first,
                         report->bad_references);
    return 0;
}

int fathom_verify(const char *dir, bool deep, struct fathom_verify_report *out,
                  void (*damage)(void *context, const char *what), void *context,
                  struct fathom_error *err)
{
    struct index_file file;
    struct fathom_verify_report report;
    int status = index_file_open(&file, env_os(), dir, err);
    if (status)
        return status;
    status = index_file_verify(&file, deep, out ? out : &report, damage, context, NULL, err);
    index_file_close(&file);
    return status;
}
