/* The superblock: page 0, which says what the file is and where its sections are. Decoding trusts
 * nothing: every field is bounded, sections must tile the file in order, and their sizes must
 * follow from the properties. */
#include "format.h"

#include "error.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "bits.h"
#include "centroids.h"
#include "le.h"
#include "lists.h"
#include "mem.h"

struct section_disk {
    uint32_t kind, row_bytes, rows_per_page, pages_per_row;
    uint64_t first_page, page_count, bytes;
    uint64_t reserved[3];
};

struct superblock_disk {
    uint64_t checksum;
    uint64_t magic;
    uint32_t version, compat, incompat, page_bytes;
    uint64_t generation, file_pages, rows, zero_rows;
    double max_norm;
    uint32_t dim, work_dim, dtype, metric;
    uint32_t cells, entry_count, degree_max, list_length_bytes;
    uint32_t id_bits, records_exact, external_ids, default_search_list;
    uint32_t section_count, reserved0;
    uint64_t list_bytes;
    float usual_row, usual_cell;
    uint8_t reserved1[112];
    struct section_disk sections[FORMAT_SECTIONS_MAX];
    uint8_t reserved2[PAGE_BYTES - 256 - FORMAT_SECTIONS_MAX * sizeof(struct section_disk)];
};

_Static_assert(sizeof(struct section_disk) == 64, "section entries are 64 bytes on disk");
_Static_assert(offsetof(struct superblock_disk, generation) == 32, "see docs/FORMAT.md");
_Static_assert(offsetof(struct superblock_disk, dim) == 72, "see docs/FORMAT.md");
_Static_assert(offsetof(struct superblock_disk, sections) == 256, "see docs/FORMAT.md");
_Static_assert(sizeof(struct superblock_disk) == PAGE_BYTES, "the superblock is one page");

static const struct page_place superblock_place = {0, 0, 0};

static const char *const section_names[SECTION_END] = {
    [SECTION_MANIFEST] = "manifest",
    [SECTION_MODEL] = "model",
    [SECTION_CENTROIDS] = "centroids",
    [SECTION_CELLS] = "cells",
    [SECTION_CODES] = "codes",
    [SECTION_FACTORS] = "factors",
    [SECTION_LIST_PAGES] = "list_pages",
    [SECTION_LISTS] = "lists",
    [SECTION_HEAT] = "heat",
    [SECTION_IDS] = "ids",
    [SECTION_ENTRIES] = "entries",
    [SECTION_RECORDS] = "records",
    [SECTION_VECTORS] = "vectors",
    [SECTION_SCAN] = "scan",
    [SECTION_POINTS] = "points",
};

const char *section_name(enum section_kind kind)
{
    return kind > 0 && kind < SECTION_END ? section_names[kind] : "unknown";
}

const struct section *superblock_find(const struct superblock *super, enum section_kind kind)
{
    for (uint32_t i = 0; i < super->section_count; i++)
        if (super->sections[i].kind == (uint32_t)kind)
            return &super->sections[i];
    return NULL;
}

uint64_t format_hot_bytes(const struct properties *p, uint32_t ranks)
{
    if (ranks >= FORMAT_HEAT_RANKS)
        return p->list_bytes;
    uint64_t begin_below = (p->list_bytes * ranks + FORMAT_HEAT_RANKS - 1) / FORMAT_HEAT_RANKS;
    uint64_t most = begin_below + list_bytes_max(p->degree_max);
    return ranks == 0 ? 0 : most < p->list_bytes ? most : p->list_bytes;
}

uint32_t format_scan_level(const struct planes_model *planes)
{
    uint32_t level = planes->level_count - 1;
    while (level > 0 && planes->levels[level].code_bytes * 8 > planes->dim)
        level--;
    return level;
}

uint32_t format_scan_bytes(const struct planes_model *planes)
{
    const struct planes_level *level = &planes->levels[format_scan_level(planes)];
    return level->code_bytes + level->factor_bytes;
}

bool format_codes_valid(const struct superblock *super, const struct planes_model *planes)
{
    uint64_t rows = super->properties.rows;
    return superblock_find(super, SECTION_CODES)->bytes == rows * planes->order_count &&
           superblock_find(super, SECTION_FACTORS)->bytes ==
               rows * planes_factor_bytes_below(planes, planes->level_count) &&
           superblock_find(super, SECTION_SCAN)->row_bytes == format_scan_bytes(planes);
}

bool format_list_pages_valid(const uint32_t *first_row, uint64_t pages, const struct properties *p)
{
    if (first_row[0] != 0 || first_row[pages] != p->rows)
        return false;
    for (uint64_t i = 0; i < pages; i++)
        if (first_row[i] >= first_row[i + 1] ||
            (uint64_t)(first_row[i + 1] - first_row[i]) * (p->list_length_bytes + 1) > PAGE_PAYLOAD)
            return false;
    return true;
}

bool format_point_valid(const uint8_t *point)
{
    uint32_t navigator = le_load32(point), k = le_load32(point + 8),
             search_list = le_load32(point + 12);
    float figures[7]; /* threshold; recall, its lower end and reads, twice */
    memcpy(figures, point + 16, sizeof figures);
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        if (!isfinite(figures[i]))
            return false;
    return (navigator == FATHOM_NAVIGATOR_GRAPH || navigator == FATHOM_NAVIGATOR_CELLS) && k >= 1 &&
           k <= FATHOM_K_MAX && search_list >= 1 && search_list <= FATHOM_SEARCH_LIST_MAX &&
           figures[0] >= 0 && format_point_measured_on(point) < FORMAT_MEASURED_ON_END;
}

uint32_t format_point_measured_on(const uint8_t *point)
{
    return le_load32(point + 44);
}

void superblock_encode(const struct superblock *super, uint8_t page[PAGE_BYTES])
{
    const struct properties *p = &super->properties;
    struct superblock_disk disk = {
        .magic = FORMAT_MAGIC,
        .version = super->version,
        .compat = super->compat,
        .incompat = super->incompat,
        .page_bytes = PAGE_BYTES,
        .generation = p->generation,
        .file_pages = super->file_pages,
        .rows = p->rows,
        .zero_rows = p->zero_rows,
        .max_norm = p->max_norm,
        .dim = p->dim,
        .work_dim = p->work_dim,
        .dtype = p->dtype,
        .metric = p->metric,
        .cells = p->cells,
        .entry_count = p->entry_count,
        .degree_max = p->degree_max,
        .list_length_bytes = p->list_length_bytes,
        .list_bytes = p->list_bytes,
        .id_bits = p->id_bits,
        .records_exact = p->records_exact,
        .external_ids = p->external_ids,
        .default_search_list = p->default_search_list,
        .usual_row = p->usual.row,
        .usual_cell = p->usual.cell,
        .section_count = super->section_count,
    };
    for (uint32_t i = 0; i < super->section_count; i++) {
        const struct section *s = &super->sections[i];
        disk.sections[i] = (struct section_disk){.kind = s->kind,
                                                 .row_bytes = s->row_bytes,
                                                 .rows_per_page = s->rows_per_page,
                                                 .pages_per_row = s->pages_per_row,
                                                 .first_page = s->first_page,
                                                 .page_count = s->page_count,
                                                 .bytes = s->bytes};
    }
    memcpy(page, &disk, sizeof disk);
    page_seal(page, &superblock_place);
}

static int corrupt(const char *path, const char *what, struct fathom_error *err)
{
    return error_set(err, FATHOM_ECORRUPT,
                     "%s: superblock: %s; rebuild the index or restore it from a copy", path, what);
}

/* Magic, version and features come before the checksum: an older or newer file must be told as
 * such. */
static int check_identity(const struct superblock_disk *disk, const uint8_t *page, const char *path,
                          struct fathom_error *err)
{
    if (disk->magic != FORMAT_MAGIC)
        return corrupt(path, "this is not a fathom index (wrong magic)", err);
    if (disk->version != FORMAT_VERSION)
        return error_set(err, FATHOM_EVERSION,
                         "%s: format version %" PRIu32
                         ", but this fathom %s reads version %d; rebuild the index or "
                         "use the fathom that wrote it",
                         path, disk->version, FATHOM_VERSION, FORMAT_VERSION);
    if (disk->incompat & ~FORMAT_INCOMPAT_KNOWN)
        return error_set(err, FATHOM_EVERSION,
                         "%s: needs features 0x%" PRIx32
                         " that this fathom %s (format version %d) does not know",
                         path, disk->incompat & ~FORMAT_INCOMPAT_KNOWN, FATHOM_VERSION,
                         FORMAT_VERSION);
    if (!page_check(page, &superblock_place))
        return error_set(err, FATHOM_ECHECKSUM,
                         "%s: superblock: checksum mismatch in page 0; rebuild the index or "
                         "restore it from a copy",
                         path);
    return 0;
}

static bool all_zero(const void *bytes, size_t count)
{
    const uint8_t *p = bytes;
    uint8_t seen = 0;
    for (size_t i = 0; i < count; i++)
        seen |= p[i];
    return seen == 0;
}

/* What is reserved in the section table: the end of each entry, and the entries behind the last. */
static bool table_reserved_zero(const struct superblock_disk *disk)
{
    for (uint32_t i = 0; i < FORMAT_SECTIONS_MAX; i++) {
        const struct section_disk *s = &disk->sections[i];
        bool used = i < disk->section_count;
        if (!all_zero(used ? (const void *)s->reserved : s, used ? sizeof s->reserved : sizeof *s))
            return false;
    }
    return true;
}

static bool properties_valid(const struct properties *p)
{
    return p->generation && p->rows >= 1 && p->rows < UINT32_MAX && p->dim >= 1 &&
           p->dim <= FATHOM_DIM_MAX && p->dtype >= FATHOM_F32 && p->dtype <= FATHOM_U8 &&
           p->metric >= FATHOM_METRIC_L2 && p->metric <= FATHOM_METRIC_COS &&
           p->work_dim == (p->metric == FATHOM_METRIC_IP ? p->dim + 1 : p->dim) && p->cells >= 1 &&
           p->cells <= p->rows && p->entry_count >= 1 && p->entry_count <= p->rows &&
           p->degree_max <= LISTS_DEGREE_MAX &&
           (p->list_length_bytes == 1 || p->list_length_bytes == 2) && p->list_bytes >= p->rows &&
           p->list_bytes <= p->rows * list_bytes_max(p->degree_max) && p->id_bits >= 1 &&
           p->id_bits <= 64 && p->records_exact <= 1 && p->external_ids <= 1 &&
           p->default_search_list >= 1 && p->default_search_list <= FATHOM_SEARCH_LIST_MAX &&
           isfinite(p->usual.row) && p->usual.row >= 0 && isfinite(p->usual.cell) &&
           p->usual.cell >= 0 && isfinite(p->max_norm) && p->max_norm >= 0 &&
           (p->max_norm == 0 || p->metric == FATHOM_METRIC_IP);
}

/* Bytes that a section must have, where the properties alone tell; 0: any (checked where it is
 * decoded). */
static uint64_t expected_bytes(const struct properties *p, uint32_t kind)
{
    switch (kind) {
    case SECTION_CENTROIDS:
        return centroids_bytes(p->cells, p->work_dim);
    case SECTION_CELLS:
        return ((uint64_t)p->cells + 1) * 4;
    case SECTION_HEAT:
        return p->rows;
    case SECTION_IDS:
        return bits_bytes(p->rows, p->id_bits);
    case SECTION_ENTRIES:
        return (uint64_t)p->entry_count * 4;
    case SECTION_RECORDS:
        return p->rows * row8_record_bytes(p->work_dim, p->records_exact);
    case SECTION_VECTORS:
        return p->rows * p->dim * fathom_dtype_bytes(p->dtype);
    default:
        return 0;
    }
}

static uint32_t expected_row_bytes(const struct properties *p, uint32_t kind)
{
    if (kind == SECTION_RECORDS)
        return row8_record_bytes(p->work_dim, p->records_exact);
    return kind == SECTION_VECTORS ? p->dim * (uint32_t)fathom_dtype_bytes(p->dtype) : 0;
}

static uint64_t pages_of(uint64_t rows, uint64_t bytes, uint32_t row_bytes)
{
    if (row_bytes == 0)
        return (bytes + PAGE_PAYLOAD - 1) / PAGE_PAYLOAD;
    uint32_t per_page = PAGE_PAYLOAD / row_bytes;
    return per_page ? (rows + per_page - 1) / per_page
                    : rows * ((row_bytes + PAGE_PAYLOAD - 1) / PAGE_PAYLOAD);
}

static int check_section(const struct superblock *super, uint32_t i, uint64_t next_page,
                         const char *path, struct fathom_error *err)
{
    const struct section *s = &super->sections[i];
    const struct properties *p = &super->properties;
    char what[160];
    const char *wrong = NULL;
    if (s->kind < SECTION_MANIFEST || s->kind >= SECTION_END ||
        (i && s->kind <= super->sections[i - 1].kind))
        wrong = "unknown kind or order";
    else if (s->first_page != next_page || s->page_count > super->file_pages - next_page)
        wrong = "does not follow the section before it";
    else if (expected_bytes(p, s->kind) && s->bytes != expected_bytes(p, s->kind))
        wrong = "size does not follow from rows and dimension";
    else if (s->kind == SECTION_POINTS &&
             (s->bytes % FORMAT_POINT_BYTES || s->bytes > FORMAT_POINTS_MAX * FORMAT_POINT_BYTES))
        wrong = "size is not that of operating points";
    else if (s->kind == SECTION_LISTS &&
             (s->bytes % PAGE_PAYLOAD || s->bytes == 0 || s->bytes < p->list_bytes))
        wrong = "size is not that of pages of lists";
    else if (s->kind == SECTION_LISTS && i &&
             super->sections[i - 1].bytes != 4 * (format_list_pages(s) + 1))
        wrong = "section list_pages is not of as many pages";
    else if (s->kind == SECTION_SCAN && (s->row_bytes == 0 || s->row_bytes > PAGE_PAYLOAD ||
                                         s->bytes != p->rows * s->row_bytes))
        wrong = "size is not that of codes with factors";
    else if (s->bytes / PAGE_PAYLOAD > super->file_pages ||
             (s->kind != SECTION_SCAN && s->row_bytes != expected_row_bytes(p, s->kind)) ||
             s->page_count != pages_of(p->rows, s->bytes, s->row_bytes))
        wrong = "page count does not follow from its size";
    else if (s->rows_per_page != (s->row_bytes ? PAGE_PAYLOAD / s->row_bytes : 0) ||
             s->pages_per_row != (s->row_bytes + PAGE_PAYLOAD - 1) / PAGE_PAYLOAD)
        wrong = "row layout does not follow from the row size";
    if (!wrong)
        return 0;
    snprintf(what, sizeof what, "section %" PRIu32 " (%s): %s", i, section_name(s->kind), wrong);
    return corrupt(path, what, err);
}

static int check_sections(const struct superblock *super, const char *path,
                          struct fathom_error *err)
{
    uint64_t next_page = 1;
    for (uint32_t i = 0; i < super->section_count; i++) {
        int status = check_section(super, i, next_page, path, err);
        if (status)
            return status;
        next_page += super->sections[i].page_count;
    }
    if (next_page != super->file_pages)
        return corrupt(path, "sections do not fill the file", err);
    for (uint32_t kind = SECTION_MANIFEST; kind < SECTION_END; kind++) {
        bool needed = kind != SECTION_VECTORS || !super->properties.records_exact;
        if (kind == SECTION_POINTS) /* optional */
            continue;
        if (needed != (superblock_find(super, kind) != NULL))
            return corrupt(
                path, needed ? "a section is missing" : "a section that should not be there", err);
    }
    return 0;
}

static void copy_fields(struct superblock *out, const struct superblock_disk *disk)
{
    out->properties = (struct properties){.generation = disk->generation,
                                          .rows = disk->rows,
                                          .dim = disk->dim,
                                          .work_dim = disk->work_dim,
                                          .dtype = disk->dtype,
                                          .metric = disk->metric,
                                          .cells = disk->cells,
                                          .entry_count = disk->entry_count,
                                          .degree_max = disk->degree_max,
                                          .list_length_bytes = disk->list_length_bytes,
                                          .list_bytes = disk->list_bytes,
                                          .id_bits = disk->id_bits,
                                          .records_exact = disk->records_exact,
                                          .external_ids = disk->external_ids,
                                          .default_search_list = disk->default_search_list,
                                          .max_norm = disk->max_norm,
                                          .zero_rows = disk->zero_rows,
                                          .usual = {disk->usual_row, disk->usual_cell}};
    out->version = disk->version;
    out->compat = disk->compat;
    out->incompat = disk->incompat;
    out->file_pages = disk->file_pages;
    out->section_count = disk->section_count;
    for (uint32_t i = 0; i < disk->section_count; i++) {
        const struct section_disk *s = &disk->sections[i];
        out->sections[i] = (struct section){.kind = s->kind,
                                            .row_bytes = s->row_bytes,
                                            .rows_per_page = s->rows_per_page,
                                            .pages_per_row = s->pages_per_row,
                                            .first_page = s->first_page,
                                            .page_count = s->page_count,
                                            .bytes = s->bytes};
    }
}

int superblock_decode(struct superblock *out, const uint8_t page[PAGE_BYTES], uint64_t file_bytes,
                      const char *path, struct fathom_error *err)
{
    struct superblock_disk disk;
    memcpy(&disk, page, sizeof disk);
    int status = check_identity(&disk, page, path, err);
    if (status)
        return status;
    if (disk.page_bytes != PAGE_BYTES || disk.section_count > FORMAT_SECTIONS_MAX ||
        disk.reserved0 || !all_zero(disk.reserved1, sizeof disk.reserved1) ||
        !all_zero(disk.reserved2, sizeof disk.reserved2) || !table_reserved_zero(&disk))
        return corrupt(
            path, "reserved fields are not zero, or the page size or section count is wrong", err);
    memset(out, 0, sizeof *out);
    copy_fields(out, &disk);
    if (!properties_valid(&out->properties))
        return corrupt(path, "a property is out of range", err);
    if (file_bytes % PAGE_BYTES || file_bytes / PAGE_BYTES != out->file_pages)
        return error_set(err, FATHOM_ECORRUPT,
                         "%s: the file has %" PRIu64 " bytes but its superblock says %" PRIu64
                         " pages of %d: it was "
                         "truncated or appended to; restore it from a copy or rebuild",
                         path, file_bytes, out->file_pages, PAGE_BYTES);
    return check_sections(out, path, err);
}
