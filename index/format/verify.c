/* Verifying a generation: every page's checksum, and with deep every reference: list bytes,
 * neighbour ids, cells, entries, ids, the model, and that each row can be reached. Reads everything
 * once; deep keeps lists and a bit a row in memory. */
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
#define STOP_ROWS   4096        /* between two looks at whether to go on */
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
    uint8_t *buffer = mem_alloc_aligned(most * PAGE_BYTES, PAGE_BYTES);
    int status = buffer ? 0 : error_set(err, -ENOMEM, "%s: no memory to verify", v->file->path);
    v->report->pages++; /* the superblock, checked when the file was opened */
    for (uint32_t i = 0; status == 0 && i < super->section_count; i++)
        status = verify_section_pages(v, &super->sections[i], buffer, err);
    mem_free(buffer);
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

struct reach {
    const uint8_t *lists;
    uint64_t *offsets; /* of each row's list */
    uint16_t *lengths; /* 0: the list has no place */
    uint8_t *seen;
    uint32_t *stack;
};

/* The lists of one page, to offsets and lengths. */
static void place_lists(struct verify *v, const struct reach *reach, uint64_t page, uint32_t first,
                        uint32_t count)
{
    const struct properties *p = &v->file->super.properties;
    const uint8_t *payload = reach->lists + page * PAGE_PAYLOAD;
    for (uint32_t slot = 0; slot < count; slot++) {
        size_t bytes;
        const uint8_t *list =
            list_page_find(payload, PAGE_PAYLOAD, count, p->list_length_bytes, slot, &bytes);
        reach->offsets[first + slot] = list ? (uint64_t)(list - reach->lists) : 0;
        reach->lengths[first + slot] = list ? (uint16_t)bytes : 0;
        if (!list)
            bad_reference(v, "section lists: a list does not lie within its page", first + slot);
    }
}

/* Where each list is; false when the pages do not hold the rows. */
static bool place_pages(struct verify *v, const struct reach *reach, const uint32_t *first_row,
                        const uint8_t *heat)
{
    const struct properties *p = &v->file->super.properties;
    uint64_t pages = format_list_pages(superblock_find(&v->file->super, SECTION_LISTS));
    uint64_t hot[FORMAT_HEAT_RANKS] = {0}, total = 0;
    if (!format_list_pages_valid(first_row, pages, p)) {
        bad_reference(v, "section list_pages: first rows do not rise from 0 to the row count",
                      p->rows);
        return false;
    }
    for (uint64_t page = 0; page < pages; page++)
        place_lists(v, reach, page, first_row[page], first_row[page + 1] - first_row[page]);
    for (uint64_t row = 0; row < p->rows; row++)
        hot[heat[row]] += reach->lengths[row];
    for (uint32_t rank = 0; rank < FORMAT_HEAT_RANKS; rank++) {
        total += hot[rank];
        if (total > format_hot_bytes(p, rank + 1))
            bad_reference(v, "section heat: more bytes of lists in a rank than it may hold", rank);
    }
    if (total != p->list_bytes)
        bad_reference(v, "section lists: lengths do not add up to the bytes of all lists", p->rows);
    return true;
}

/* Depth-first from the entry points; checks each list on the way, and those never reached at the
 * end. */
static int verify_graph(struct verify *v, struct reach *reach, const uint8_t *entries,
                        struct fathom_error *err)
{
    const struct properties *p = &v->file->super.properties;
    uint32_t neighbours[LISTS_DEGREE_MAX + 4];
    uint64_t depth = 0;
    for (uint32_t i = 0; i < p->entry_count; i++) {
        uint32_t row = le_load32(entries + 4 * (size_t)i);
        if (row < p->rows && !reach->seen[row]) {
            reach->seen[row] = 1;
            reach->stack[depth++] = row;
        }
    }
    for (uint64_t next = 0, step = 1;; step++) {
        if (step % STOP_ROWS == 0 && is_stopped(v))
            return stopped(v, err);
        bool reached = depth > 0;
        while (!reached && next < p->rows && reach->seen[next])
            next++;
        if (!reached && next == p->rows)
            return 0;
        uint32_t row = reached ? reach->stack[--depth] : (uint32_t)next;
        reach->seen[row] = 1;
        v->report->unreachable_rows += !reached;
        int degree = list_decode(row, reach->lists + reach->offsets[row], reach->lengths[row],
                                 (uint32_t)p->rows, p->degree_max, neighbours);
        if (degree < 0)
            bad_reference(
                v, "section lists: a list does not decode, or names a row that does not exist",
                row);
        for (int i = 0; i < degree; i++) {
            v->report->references++;
            if (!reach->seen[neighbours[i]] && reached) {
                reach->seen[neighbours[i]] = 1;
                reach->stack[depth++] = neighbours[i];
            }
        }
    }
}

static int verify_lists(struct verify *v, const uint8_t *entries, struct fathom_error *err)
{
    uint64_t rows = v->file->super.properties.rows;
    uint8_t *first_row = NULL, *lists = NULL, *heat = NULL;
    struct reach reach = {.offsets = mem_alloc_array(rows, sizeof(uint64_t)),
                          .lengths = mem_alloc_array(rows, sizeof(uint16_t)),
                          .seen = mem_alloc(rows),
                          .stack = mem_alloc_array(rows, sizeof(uint32_t))};
    int status = 0;
    if (!reach.offsets || !reach.lengths || !reach.seen || !reach.stack)
        status = error_set(err, -ENOMEM, "%s: no memory to walk the graph of %" PRIu64 " rows",
                           v->file->path, rows);
    if (status == 0)
        status = load_section(v, SECTION_LIST_PAGES, &first_row, err);
    if (status == 0)
        status = load_section(v, SECTION_LISTS, &lists, err);
    if (status == 0)
        status = load_section(v, SECTION_HEAT, &heat, err);
    reach.lists = lists;
    if (status == 0 && place_pages(v, &reach, (const uint32_t *)(const void *)first_row, heat))
        status = verify_graph(v, &reach, entries, err);
    if (v->report->unreachable_rows)
        found(v, "%s: %" PRIu64 " rows cannot be reached from the entry points", v->file->path,
              v->report->unreachable_rows);
    mem_free(reach.offsets);
    mem_free(reach.lengths);
    mem_free(reach.seen);
    mem_free(reach.stack);
    mem_free(first_row);
    mem_free(lists);
    mem_free(heat);
    return status;
}

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
