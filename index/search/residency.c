/* Loading what the plan makes resident, every page checked, every reference bounded, every byte in
 * the ledger. */
#include <emmintrin.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "bits.h"
#include "error.h"
#include "index.h"
#include "le.h"
#include "mem.h"
#include "recode.h"
#include "trellis.h"

#define STREAM_PAGES_LEAST 16 /* read at once while loading, however little memory there is */

/* Every query reads at random places of it. */
void *residency_take(struct fathom_index *index, enum part part, uint64_t bytes,
                     struct fathom_error *err)
{
    void *memory =
        mem_alloc_prepared(bytes, bytes >= ENV_LARGE_LEAST_BYTES ? env_prefer_large : NULL);
    if (!memory) {
        error_set(err, -ENOMEM, "%s: no memory for a resident part of %" PRIu64 " bytes",
                  index->file.path, bytes);
        return NULL;
    }
    index->memory[index->memory_count++] = memory;
    index->part_bytes[part] += size_round_up(bytes ? bytes : 1, MEM_ALIGN);
    return memory;
}

static const struct section *find(const struct fathom_index *index, enum section_kind kind)
{
    return superblock_find(&index->file.super, kind);
}

/* A whole stream section with slack bytes behind it. */
static int load_stream(struct fathom_index *index, enum section_kind kind, enum part part,
                       size_t slack, const void **out, struct fathom_error *err)
{
    const struct section *section = find(index, kind);
    void *memory = residency_take(index, part, section->bytes + slack, err);
    *out = memory;
    return memory ? index_file_read(&index->file, section, 0, memory, section->bytes, err)
                  : -ENOMEM;
}

static int out_of_range(const struct fathom_index *index, enum section_kind kind,
                        struct fathom_error *err)
{
    return error_set(err, FATHOM_ECORRUPT,
                     "%s: section %s: a value is out of range; rebuild the index", index->file.path,
                     section_name(kind));
}

/* ---- model ---- */

static void *copy_to(struct fathom_index *index, const void *from, size_t bytes, size_t slack,
                     struct fathom_error *err)
{
    void *to = residency_take(index, PART_MODEL, bytes + slack, err);
    if (to)
        memcpy(to, from, bytes);
    return to;
}

/* What a first look at sliced codes goes by. */
static int trim_coarse(struct fathom_index *index, const struct planes_model *planes,
                       struct fathom_error *err)
{
    uint32_t level = coarse_level(planes, index->plan.level);
    struct coarse_codes *coarse = &index->coarse;
    coarse->level = planes->levels[level];
    coarse->rest_bytes = index->level.code_bytes - coarse->level.code_bytes;
    coarse->units =
        copy_to(index, planes->order, coarse->level.code_bytes * sizeof *coarse->units, 0, err);
    coarse_weights_fit(&coarse->weights, planes);
    index->model.planes.order = coarse->units; /* the same as long as there is one look */
    return coarse->units ? 0 : -ENOMEM;
}

/* What codes with a trellis are scored by. kappa stays: by how much errors are less depends on the
 * data (docs/adr/0050). */
static int trim_trellis(struct fathom_index *index, const struct planes_model *planes,
                        uint8_t *level_bytes, uint8_t *sentinel, struct fathom_error *err)
{
    struct kernel_trellis *trellis = residency_take(index, PART_MODEL, sizeof *trellis, err);
    if (!trellis)
        return -ENOMEM;
    trellis_level_table(level_bytes, planes);
    trellis_sentinels(sentinel, &index->codes_plan);
    kernel_trellis_prepare(trellis, &index->codes_plan);
    index->codes_plan.trellis = trellis;
    return 0;
}

/* Replaces the decoded model by the part that queries need at this level. */
static int trim_model(struct fathom_index *index, struct model *full, struct fathom_error *err)
{
    const struct planes_model *planes = &full->planes;
    uint32_t dim = planes->dim;
    index->model.row8 = full->row8;
    index->model.row8.mean = copy_to(index, full->row8.mean, 4 * (size_t)dim, 0, err);
    if (!index->model.row8.mean)
        return -ENOMEM;
    if (index->plan.rows8)
        return 0;
    index->level = planes->levels[index->plan.level];
    uint32_t coded = planes_coded_dim(&index->level);
    uint8_t *level_bytes = copy_to(index, planes->level_bytes, 128, 0, err);
    index->model.planes = (struct planes_model){
        .dim = dim,
        .code_dim = coded,
        .level_quantum = planes->level_quantum,
        .rotation = copy_to(index, planes->rotation, (size_t)coded * dim, 64, err),
        .rotation_scale = copy_to(index, planes->rotation_scale, 4 * (size_t)coded, 0, err),
        .sigma = copy_to(index, planes->sigma, 4 * (size_t)coded, 0, err),
        .origin = copy_to(index, planes->origin, dim, 0, err),
        .level_bytes = level_bytes};
    uint8_t *sentinel = residency_take(index, PART_MODEL, size_round_up(coded, 64), err);
    const struct planes_model *kept = &index->model.planes;
    if (!kept->rotation || !kept->rotation_scale || !kept->sigma || !kept->level_bytes ||
        !kept->origin || !sentinel)
        return -ENOMEM;
    index->sentinel = sentinel;
    planes_kernel_codes(kept, &index->level, sentinel, &index->codes_plan);
    if (recode_wanted(planes, &index->plan) &&
        trim_trellis(index, planes, level_bytes, sentinel, err))
        return -ENOMEM;
    return index->plan.navigator == FATHOM_NAVIGATOR_CELLS ? trim_coarse(index, planes, err) : 0;
}

/* ---- 8-bit rows ---- */

struct row_copy {
    uint8_t *out;
    const struct section *section;
    uint64_t left;   /* rows */
    uint32_t row_at; /* bytes of a spanning row that have been copied */
};

static int copy_rows(void *context, const uint8_t *payload, size_t bytes, struct fathom_error *err)
{
    struct row_copy *copy = context;
    const struct section *section = copy->section;
    (void)err;
    for (size_t at = 0; at < bytes && copy->left; at += PAGE_PAYLOAD) {
        if (section->rows_per_page) {
            uint64_t rows =
                copy->left < section->rows_per_page ? copy->left : section->rows_per_page;
            memcpy(copy->out, payload + at, rows * section->row_bytes);
            copy->out += rows * section->row_bytes;
            copy->left -= rows;
        } else {
            uint32_t rest = section->row_bytes - copy->row_at,
                     take_now = rest < PAGE_PAYLOAD ? rest : PAGE_PAYLOAD;
            memcpy(copy->out, payload + at, take_now);
            copy->out += take_now;
            copy->row_at = take_now == rest ? 0 : copy->row_at + take_now;
            copy->left -= take_now == rest;
        }
    }
    return 0;
}

static int load_rows8(struct fathom_index *index, struct fathom_error *err)
{
    uint64_t bytes = index->properties.rows * index->records->row_bytes;
    uint8_t *rows8 = residency_take(index, PART_CODES, bytes + 64, err);
    if (!rows8)
        return -ENOMEM;
    index->rows8 = rows8;
    struct row_copy copy = {
        .out = rows8, .section = index->records, .left = index->properties.rows};
    return index_file_stream(&index->file, index->records, copy_rows, &copy, err);
}

/* ---- lists ---- */

/* Copies the lists of the ranks that are resident, and fills the directory. */
struct list_copy {
    struct fathom_index *index;
    const uint32_t *page_first; /* rows, of all pages */
    const uint8_t *heat;        /* of all rows */
    uint8_t *lists, *lengths;
    uint64_t *block_offset;
    uint64_t page, bytes, room, seen; /* the next page; bytes so far, and what there is room for */
};

/* The directory takes the place of the ranks, which lie at its end (see load_lists): a row's rank
 * is read before its length is written. */
static void note_length(const struct list_copy *copy, uint64_t row, size_t bytes)
{
    if (copy->index->properties.list_length_bytes == 1)
        copy->lengths[row] = (uint8_t)bytes;
    else
        le_store16(copy->lengths + 2 * row, (uint16_t)bytes);
}

static int copy_list_page(struct list_copy *copy, const uint8_t *payload, struct fathom_error *err)
{
    const struct properties *p = &copy->index->properties;
    uint32_t first = copy->page_first[copy->page], count = copy->page_first[copy->page + 1] - first;
    size_t bytes;
    if (!list_page_find(payload, PAGE_PAYLOAD, count, p->list_length_bytes, count - 1, &bytes))
        return out_of_range(copy->index, SECTION_LISTS, err); /* the last one leaves the page */
    for (uint32_t slot = 0; slot < count; slot++) {
        const uint8_t *list =
            list_page_find(payload, PAGE_PAYLOAD, count, p->list_length_bytes, slot, &bytes);
        uint32_t row = first + slot;
        bool hot = copy->heat[row] < copy->index->plan.hot_ranks;
        if (!list || copy->seen + bytes > p->list_bytes)
            return out_of_range(copy->index, SECTION_LISTS, err);
        if (hot && copy->bytes + bytes > copy->room)
            return out_of_range(copy->index, SECTION_HEAT, err);
        if (row % DIRECTORY_BLOCK == 0)
            copy->block_offset[row / DIRECTORY_BLOCK] = copy->bytes;
        note_length(copy, row, hot ? bytes : 0);
        copy->seen += bytes;
        copy->index->resident_lists += hot;
        if (hot) {
            memcpy(copy->lists + copy->bytes, list, bytes);
            copy->bytes += bytes;
        }
    }
    copy->page++;
    return 0;
}

static int copy_list_pages(void *context, const uint8_t *payload, size_t bytes,
                           struct fathom_error *err)
{
    int status = 0;
    for (size_t at = 0; at < bytes && status == 0; at += PAGE_PAYLOAD)
        status = copy_list_page(context, payload + at, err);
    return status;
}

/* The resident lists and their directory. */
static int load_hot_lists(struct fathom_index *index, const uint32_t *page_first,
                          struct fathom_error *err)
{
    const struct properties *p = &index->properties;
    uint64_t room = format_hot_bytes(p, index->plan.hot_ranks);
    uint64_t lengths = p->rows * p->list_length_bytes;
    struct list_copy copy = {.index = index, .page_first = page_first, .room = room};
    copy.lists = residency_take(index, PART_LISTS, room + 64, err);
    copy.lengths = residency_take(index, PART_DIRECTORY, lengths + 64, err);
    copy.block_offset = residency_take(
        index, PART_DIRECTORY, 8 * ((p->rows + DIRECTORY_BLOCK - 1) / DIRECTORY_BLOCK), err);
    if (!copy.lists || !copy.lengths || !copy.block_offset)
        return -ENOMEM;
    copy.heat = copy.lengths + lengths - p->rows;
    int status = index_file_read(&index->file, find(index, SECTION_HEAT), 0,
                                 copy.lengths + lengths - p->rows, p->rows, err);
    if (status == 0)
        status = index_file_stream(&index->file, find(index, SECTION_LISTS), copy_list_pages, &copy,
                                   err);
    if (status == 0 && copy.seen != p->list_bytes)
        status = out_of_range(index, SECTION_LISTS, err);
    index->lists.bytes = copy.lists;
    index->lists.block_offset = copy.block_offset;
    index->lists.length8 = p->list_length_bytes == 1 ? copy.lengths : NULL;
    index->lists.length16 = p->list_length_bytes == 2 ? (const void *)copy.lengths : NULL;
    return status;
}

/* The table of list pages. It stays only where pages will be read. */
static int load_list_pages(struct fathom_index *index, const uint32_t **out,
                           struct fathom_error *err)
{
    const struct section *section = find(index, SECTION_LIST_PAGES);
    bool stays = index->plan.hot_ranks < FORMAT_HEAT_RANKS;
    uint32_t *first = stays ? residency_take(index, PART_DIRECTORY, section->bytes, err)
                            : mem_alloc(section->bytes);
    *out = first;
    if (!first)
        return stays ? -ENOMEM
                     : error_set(err, -ENOMEM, "%s: no memory for the table of list pages",
                                 index->file.path);
    int status = index_file_read(&index->file, section, 0, first, section->bytes, err);
    uint64_t pages = format_list_pages(find(index, SECTION_LISTS));
    if (status == 0 && !format_list_pages_valid(first, pages, &index->properties))
        status = out_of_range(index, SECTION_LIST_PAGES, err);
    if (stays) {
        index->lists.page_first = first;
        index->lists.page_count = (uint32_t)pages;
    }
    return status;
}

static int load_entries(struct fathom_index *index, struct fathom_error *err)
{
    const struct properties *p = &index->properties;
    const void *entries;
    int status = load_stream(index, SECTION_ENTRIES, PART_ENTRIES, 0, &entries, err);
    index->entries = entries;
    for (uint32_t i = 0; i < p->entry_count && status == 0; i++)
        if (index->entries[i] >= p->rows)
            status = out_of_range(index, SECTION_ENTRIES, err);
    return status;
}

static int load_lists(struct fathom_index *index, struct fathom_error *err)
{
    const uint32_t *page_first;
    int status = load_list_pages(index, &page_first, err);
    if (status == 0 && index->plan.hot_ranks > 0)
        status = load_hot_lists(index, page_first, err);
    if (index->lists.page_first != page_first)
        mem_free((void *)(uintptr_t)page_first);
    return status == 0 ? load_entries(index, err) : status;
}

/* Sum of the first count (< 32) of 32 byte lengths. */
static inline uint32_t sum_lengths8(const uint8_t *lengths, unsigned count)
{
    const __m128i iota = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m128i limit = _mm_set1_epi8((char)count), zero = _mm_setzero_si128();
    __m128i low =
        _mm_and_si128(_mm_loadu_si128((const __m128i *)lengths), _mm_cmplt_epi8(iota, limit));
    __m128i high = _mm_and_si128(_mm_loadu_si128((const __m128i *)(lengths + 16)),
                                 _mm_cmplt_epi8(_mm_add_epi8(iota, _mm_set1_epi8(16)), limit));
    __m128i sum = _mm_add_epi64(_mm_sad_epu8(low, zero), _mm_sad_epu8(high, zero));
    return (uint32_t)(_mm_cvtsi128_si32(sum) + _mm_cvtsi128_si32(_mm_srli_si128(sum, 8)));
}

const uint8_t *index_list(const struct fathom_index *index, uint32_t row, size_t *bytes)
{
    const struct list_store *lists = &index->lists;
    uint32_t block = row / DIRECTORY_BLOCK, first = block * DIRECTORY_BLOCK;
    uint64_t at = 0;
    *bytes = 0;
    if (lists->length8) {
        at = lists->block_offset[block] + sum_lengths8(lists->length8 + first, row - first);
        *bytes = lists->length8[row];
    } else if (lists->length16) {
        at = lists->block_offset[block];
        for (uint32_t r = first; r < row; r++)
            at += lists->length16[r];
        *bytes = lists->length16[row];
    }
    return *bytes ? lists->bytes + at : NULL;
}

void index_list_prefetch(const struct fathom_index *index, uint32_t row)
{
    size_t bytes;
    /* As a number: of a list that is not resident there is no address to count on from. */
    uintptr_t list = (uintptr_t)index_list(index, row, &bytes);
    __builtin_prefetch((const void *)list);
    __builtin_prefetch((const void *)(list + 64));
}

/* Binary search: a read follows, which costs a hundred times more. */
uint32_t index_list_page(const struct fathom_index *index, uint32_t row)
{
    const struct list_store *lists = &index->lists;
    uint32_t low = 0, high = lists->page_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (lists->page_first[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

const uint8_t *index_list_in_page(const struct fathom_index *index, uint32_t page,
                                  const uint8_t *payload, uint32_t row, size_t *bytes)
{
    const uint32_t *first = &index->lists.page_first[page];
    return list_page_find(payload, PAGE_PAYLOAD, first[1] - first[0],
                          index->properties.list_length_bytes, row - first[0], bytes);
}

/* ---- cells ---- */

static int map_blocks(struct fathom_index *index, struct fathom_error *err)
{
    const struct properties *p = &index->properties;
    unsigned bits = cell_block_bits(index->plan.navigator);
    uint32_t blocks = (uint32_t)((p->rows - 1) >> bits) + 1;
    uint32_t *cell_of_block = residency_take(index, PART_CELLS, 4 * (uint64_t)blocks, err);
    if (!cell_of_block)
        return -ENOMEM;
    index->cell_of_block = cell_of_block;
    index->cell_block_bits = bits;
    for (uint32_t b = 0, cell = 0; b < blocks; b++) {
        while (index->cell_first[cell + 1] <= b << bits)
            cell++;
        cell_of_block[b] = cell;
    }
    return 0;
}

static int load_cells(struct fathom_index *index, struct fathom_error *err)
{
    const struct properties *p = &index->properties;
    const void *first;
    bool ranks = index->plan.navigator == FATHOM_NAVIGATOR_CELLS;
    int status = ranks ? rank_load(index, err) : rank_load_rows(index, err);
    if (status == 0)
        status = load_stream(index, SECTION_CELLS, PART_CELLS, 0, &first, err);
    if (status)
        return status;
    index->cell_first = first;
    if (index->cell_first[0] != 0 || index->cell_first[p->cells] != p->rows)
        return out_of_range(index, SECTION_CELLS, err);
    for (uint32_t c = 0; c < p->cells; c++)
        if (index->cell_first[c] > index->cell_first[c + 1])
            return out_of_range(index, SECTION_CELLS, err);
    return index->plan.scan_reads ? 0 : map_blocks(index, err);
}

/* ---- */

/* What plans are made from: read whole, and given back once the plan is carried out. */
struct basis {
    struct model model;
    struct operating_point *points;
    uint32_t point_count;
};

/* Keeps the operating points of this residency. */
static int keep_points(struct fathom_index *index, const struct basis *basis,
                       struct fathom_error *err)
{
    struct operating_point found[POINTS_RESIDENT_MAX];
    const struct points_residency residency =
        plan_residency(&index->plan, &basis->model.planes,
                       index->plan.rows8 ? index->records->row_bytes : index->level.code_bytes);
    uint32_t count = points_for(basis->points, basis->point_count, &residency, found);
    if (count == 0)
        return 0;
    struct operating_point *points = residency_take(index, PART_FIXED, count * sizeof *points, err);
    if (!points)
        return -ENOMEM;
    memcpy(points, found, count * sizeof *points);
    index->points = points;
    index->point_count = count;
    return 0;
}

static void note_levels(struct fathom_index *index, const struct planes_model *full)
{
    index->level_count = full->level_count;
    for (uint32_t l = 0; l < full->level_count; l++)
        index->level_bytes[l] = full->levels[l].code_bytes;
    index->scan_code_bytes = index->level_bytes[format_scan_level(full)];
}

static int load_model(struct fathom_index *index, struct model *full, struct fathom_error *err)
{
    const struct section *section = find(index, SECTION_MODEL);
    uint8_t *bytes = mem_alloc(section->bytes);
    if (!bytes)
        return error_set(err, -ENOMEM, "%s: no memory for the model", index->file.path);
    int status = index_file_read(&index->file, section, 0, bytes, section->bytes, err);
    if (status == 0)
        status =
            model_decode(full, bytes, section->bytes, &index->properties, index->file.path, err);
    mem_free(bytes);
    if (status)
        return status;
    if (format_codes_valid(&index->file.super, &full->planes))
        return 0;
    model_fini(full);
    return out_of_range(index, SECTION_CODES, err);
}

static int read_points(struct fathom_index *index, struct basis *basis, struct fathom_error *err)
{
    const struct section *section = find(index, SECTION_POINTS);
    if (!section || section->bytes == 0)
        return 0;
    basis->points = mem_alloc(section->bytes);
    if (!basis->points)
        return error_set(err, -ENOMEM, "%s: no memory for operating points", index->file.path);
    basis->point_count = (uint32_t)(section->bytes / sizeof *basis->points);
    int status = index_file_read(&index->file, section, 0, basis->points, section->bytes, err);
    for (uint32_t i = 0; i < basis->point_count && status == 0; i++)
        if (!format_point_valid((const uint8_t *)&basis->points[i]))
            status = out_of_range(index, SECTION_POINTS, err);
    return status;
}

static void points_fini(struct basis *basis)
{
    mem_free(basis->points);
    basis->points = NULL;
}

static void basis_fini(struct basis *basis)
{
    model_fini(&basis->model);
    points_fini(basis);
}

static int load_basis(struct fathom_index *index, struct basis *basis, struct fathom_error *err)
{
    *basis = (struct basis){0};
    int status = load_model(index, &basis->model, err);
    if (status)
        return status;
    status = read_points(index, basis, err);
    if (status)
        basis_fini(basis);
    return status;
}

static struct plan_input input_of(const struct fathom_index *index, const struct basis *basis)
{
    return (struct plan_input){.super = &index->file.super,
                               .model = &basis->model,
                               .points = basis->points,
                               .point_count = basis->point_count,
                               .options = &index->options,
                               .path = index->file.path};
}

int residency_outlook(struct fathom_index *index, struct fathom_outlook *out,
                      struct fathom_error *err)
{
    const struct properties *p = &index->properties;
    struct basis basis;
    int status = load_basis(index, &basis, err);
    if (status)
        return status;
    struct plan_input input = input_of(index, &basis);
    const struct fathom_open_options fewest = plan_engines_least(&input);
    struct plan_input smallest = input;
    smallest.options = &fewest;
    index->options = plan_engines(&input);
    struct plan plan, least = plan_least(&smallest);
    status = plan_make(&plan, &input, err);
    basis_fini(&basis);
    *out = (struct fathom_outlook){.least_bytes = least.index_bytes + least.scratch_bytes,
                                   .budget_bytes = index->options.dram_budget_bytes,
                                   .inflight = index->options.inflight,
                                   .page_buffers = index->options.page_buffers,
                                   .raw_bytes = p->rows * p->dim * fathom_dtype_bytes(p->dtype)};
    out->scratch_bytes = status ? least.scratch_bytes : plan.scratch_bytes;
    out->total_bytes = status ? 0 : plan.index_bytes + plan.scratch_bytes;
    return status;
}

static int load_codes(struct fathom_index *index, const struct planes_model *full,
                      struct fathom_error *err)
{
    if (index->plan.rows8)
        return load_rows8(index, err);
    return index->plan.scan_reads ? scan_load(index, err) : codes_load(index, full, err);
}

/* A share goes to the buffer for pages, as much to codes that are made anew (recode.c), and the
 * rest is for the model. */
static void bound_loading(struct fathom_index *index)
{
    uint64_t pages = index_loading_bytes(index) / PAGE_BYTES;
    if (pages < STREAM_PAGES_LEAST)
        pages = STREAM_PAGES_LEAST;
    index->file.stream_pages = pages < FORMAT_STREAM_PAGES ? (uint32_t)pages : FORMAT_STREAM_PAGES;
}

/* Decides, and keeps of the basis what queries need. */
static int make_plan(struct fathom_index *index, struct basis *basis, struct fathom_error *err)
{
    struct plan_input input = input_of(index, basis);
    index->options = plan_engines(&input);
    int status = plan_make(&index->plan, &input, err);
    if (status == 0)
        status = index_make_arena(index, err);
    if (status)
        return status;
    bound_loading(index);
    note_levels(index, &basis->model.planes);
    status = trim_model(index, &basis->model, err);
    return status ? status : keep_points(index, basis, err);
}

int residency_load(struct fathom_index *index, struct fathom_error *err)
{
    struct basis basis;
    const void *ids = NULL;
    int status = load_basis(index, &basis, err);
    if (status)
        return status;
    status = make_plan(index, &basis, err);
    points_fini(&basis);
    if (index->plan.rows8 || index->plan.scan_reads)
        model_fini(&basis.model);
    if (status == 0 && (!index->plan.rows8 || index->plan.navigator == FATHOM_NAVIGATOR_CELLS))
        status = load_cells(index, err);
    if (status == 0)
        status = load_codes(index, &basis.model.planes, err);
    basis_fini(&basis);
    if (status == 0 && !index->plan.ids_read)
        status = load_stream(index, SECTION_IDS, PART_IDS, 64, &ids, err);
    index->ids = ids;
    if (status == 0 && index->plan.navigator == FATHOM_NAVIGATOR_GRAPH)
        status = load_lists(index, err);
    return status;
}
