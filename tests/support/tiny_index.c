/* Indexes of any shape without the builder; see tiny_index.h. */
#include "tiny_index.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bits.h"
#include "centroids.h"
#include "fathom_test.h"
#include "folder.h"
#include "lists.h"
#include "metric.h"
#include "prng_unit.h"

static uint8_t *take(struct tiny_index *tiny, enum section_kind kind, size_t bytes,
                     uint32_t row_bytes)
{
    uint8_t *data = calloc(1, bytes + 64);
    assert_non_null(data);
    tiny->sections[kind] =
        (struct tiny_section){.data = data, .bytes = bytes, .row_bytes = row_bytes};
    return data;
}

static void fill_random(struct prng *prng, uint8_t *out, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)prng_next(prng);
}

/* ---- sections ---- */

static void make_properties(struct tiny_index *tiny, const struct tiny_options *o)
{
    bool exact = o->metric == FATHOM_METRIC_L2 && (o->dtype == FATHOM_U8 || o->dtype == FATHOM_I8);
    uint32_t degree = o->degree ? o->degree : 2;
    tiny->properties = (struct properties){.generation = 0x5eed0000u + (o->seed ? o->seed : 1),
                                           .rows = o->rows,
                                           .dim = o->dim,
                                           .work_dim = metric_work_dim(o->metric, o->dim),
                                           .dtype = o->dtype,
                                           .metric = o->metric,
                                           .cells = o->rows > 1 ? 2 : 1,
                                           .entry_count = 1,
                                           .degree_max = degree < o->rows ? degree : o->rows - 1,
                                           .list_length_bytes = degree > 180 ? 2 : 1,
                                           .id_bits = 40,
                                           .records_exact = exact,
                                           .external_ids = 1,
                                           .default_search_list = 32,
                                           .max_norm = o->metric == FATHOM_METRIC_IP ? 64 : 0};
}

static void make_manifest(struct tiny_index *tiny, size_t bytes)
{
    static const char text[] = "{\"made\": \"by a test\"}";
    size_t least = sizeof text - 1;
    uint8_t *data = take(tiny, SECTION_MANIFEST, bytes > least ? bytes : least, 0);
    memset(data, ' ', bytes);
    memcpy(data, text, least);
}

#define FACTOR_BYTES (2 + 4) /* of a row at both levels */

/* Two levels: one plane, and two. The rotation keeps the first dimensions as they are. */
static void make_model(struct tiny_index *tiny, uint32_t code_dim, struct prng *prng)
{
    const struct properties *p = &tiny->properties;
    uint32_t groups = code_dim / PLANES_GROUP, order_count = 2 * groups;
    struct planes_level levels[2] = {{.code_bytes = groups,
                                      .groups = {groups},
                                      .kappa = 0.4f,
                                      .factor_bytes = 2,
                                      .scale_base = 0x3e000000,
                                      .offset_step = 100},
                                     {.code_bytes = order_count,
                                      .groups = {groups, groups},
                                      .kappa = 0.2f,
                                      .factor_bytes = 4,
                                      .scale_base = 0x3f000000,
                                      .offset_step = 1}};
    float *mean = calloc(p->work_dim, sizeof *mean), *scale = calloc(code_dim, sizeof *scale);
    float *sigma = calloc(code_dim, sizeof *sigma);
    uint16_t *order = calloc(order_count, sizeof *order);
    int8_t *rotation = calloc(code_dim, p->work_dim);
    uint8_t table[128], *origin = malloc(p->work_dim);
    struct model model = {
        .row8 = {.dim = p->work_dim, .step = p->records_exact ? 1 : 0.25f, .mean = mean},
        .planes = {.dim = p->work_dim,
                   .code_dim = code_dim,
                   .order_count = order_count,
                   .level_count = 2,
                   .rotation = rotation,
                   .rotation_scale = scale,
                   .sigma = sigma,
                   .order = order,
                   .origin = origin,
                   .levels = levels,
                   .level_bytes = table}};
    assert_true(mean && scale && sigma && order && rotation && origin);
    memset(origin, 130, p->work_dim);
    planes_level_table(table, &model.planes.level_quantum);
    for (uint32_t d = 0; d < p->work_dim; d++)
        mean[d] = p->records_exact && p->dtype == FATHOM_U8 ? 128 : 0;
    for (uint32_t d = 0; d < code_dim; d++) {
        scale[d] = 1.0f / 127;
        sigma[d] = 8 + (float)prng_unit(prng);
        if (d < p->work_dim)
            rotation[d * p->work_dim + d] = 127;
    }
    for (uint32_t i = 0; i < order_count; i++)
        order[i] = (uint16_t)(i < groups ? i : 1u << 12 | (i - groups));
    model_encode(&model, take(tiny, SECTION_MODEL, model_encoded_bytes(&model), 0));
    free(mean);
    free(scale);
    free(sigma);
    free(order);
    free(rotation);
    free(origin);
}

static void make_cells(struct tiny_index *tiny, struct prng *prng)
{
    const struct properties *p = &tiny->properties;
    size_t bytes = centroids_bytes(p->cells, p->work_dim);
    uint8_t *centroids = take(tiny, SECTION_CENTROIDS, bytes, 0),
            *block = centroids + 2 * (size_t)p->work_dim; /* of the one clump */
    fill_random(prng, centroids, 2 * (size_t)p->work_dim);
    for (uint32_t d = 0; d < 2 * p->work_dim; d++) /* low, then step */
        centroids[d] %= d < p->work_dim ? 128 : 8;
    for (uint32_t c = 0; c < p->cells; c++)
        for (uint32_t d = 0; d < p->work_dim; d++)
            block[centroids_byte(c, d)] |=
                (uint8_t)(prng_below(prng, CENTROIDS_VALUES) << centroids_shift(d));
    uint32_t first[3] = {0, p->cells == 2 ? (uint32_t)p->rows / 2 : (uint32_t)p->rows,
                         (uint32_t)p->rows};
    memcpy(take(tiny, SECTION_CELLS, 4 * ((size_t)p->cells + 1), 0), first,
           4 * ((size_t)p->cells + 1));
}

/* Of each row, code and factors of the last level of at most a bit a dimension, or of the first. */
static void make_scan(struct tiny_index *tiny, uint32_t code_dim)
{
    const uint8_t *codes = tiny->sections[SECTION_CODES].data,
                  *factors = tiny->sections[SECTION_FACTORS].data;
    uint32_t groups = code_dim / PLANES_GROUP;
    bool second = 2 * code_dim <= tiny->properties.work_dim;
    size_t rows = tiny->properties.rows, code_bytes = second ? 2 * groups : groups,
           factor_bytes = second ? 4 : 2, row_bytes = code_bytes + factor_bytes;
    uint8_t *scan = take(tiny, SECTION_SCAN, rows * row_bytes, (uint32_t)row_bytes);
    for (size_t row = 0; row < rows; row++) {
        for (size_t byte = 0; byte < code_bytes; byte++) {
            size_t first = byte / FORMAT_BAND_BYTES * FORMAT_BAND_BYTES, left = 2 * groups - first,
                   width = left < FORMAT_BAND_BYTES ? left : FORMAT_BAND_BYTES;
            scan[row * row_bytes + byte] = codes[first * rows + row * width + byte - first];
        }
        memcpy(scan + row * row_bytes + code_bytes,
               factors + (second ? 2 * rows : 0) + factor_bytes * row, factor_bytes);
    }
    tiny->sections[SECTION_SCAN].second_bytes = (uint32_t)factor_bytes;
}

static void make_codes(struct tiny_index *tiny, uint32_t code_dim, struct prng *prng)
{
    size_t rows = tiny->properties.rows, bytes = rows * 2 * (code_dim / PLANES_GROUP);
    fill_random(prng, take(tiny, SECTION_CODES, bytes, 0), bytes);
    fill_random(prng, take(tiny, SECTION_FACTORS, rows * FACTOR_BYTES, 0), rows * FACTOR_BYTES);
    make_scan(tiny, code_dim);
}

/* A ring: row v leads to the next few. */
static size_t ring_list(const struct properties *p, uint32_t row, uint8_t *out)
{
    uint32_t neighbours[LISTS_DEGREE_MAX + 4];
    for (uint32_t i = 0; i < p->degree_max; i++)
        neighbours[i] = (uint32_t)((row + 1 + i) % p->rows);
    size_t bytes = list_encode(row, neighbours, p->degree_max, (uint32_t)p->rows, out);
    assert_in_range(bytes, 1, p->list_length_bytes == 1 ? 255 : 2047);
    return bytes;
}

/* The rows of one page: their lengths, then their lists. Returns how many they are. */
static uint32_t ring_page(const struct properties *p, uint32_t first, uint8_t *page)
{
    uint8_t list[2048], *at;
    size_t room = PAGE_PAYLOAD;
    uint32_t count = 0;
    for (; first + count < p->rows; count++) {
        size_t bytes = ring_list(p, first + count, list);
        if (bytes + p->list_length_bytes > room)
            break;
        room -= bytes + p->list_length_bytes;
        memcpy(page + count * p->list_length_bytes, &bytes, p->list_length_bytes);
    }
    at = page + count * p->list_length_bytes;
    for (uint32_t i = 0; i < count; i++)
        at += ring_list(p, first + i, at);
    return count;
}

/* The first rows are the hottest. */
static void make_lists(struct tiny_index *tiny)
{
    struct properties *p = &tiny->properties;
    size_t most = p->rows * (list_bytes_max(p->degree_max) + 2) / (PAGE_PAYLOAD / 2) + 1;
    uint32_t *first_row = (void *)take(tiny, SECTION_LIST_PAGES, 4 * (most + 1), 0);
    uint8_t *pages = take(tiny, SECTION_LISTS, most * PAGE_PAYLOAD, 0), *heat, list[2048];
    uint32_t page = 0;
    for (; first_row[page] < p->rows; page++) {
        assert_true(page < most);
        first_row[page + 1] =
            first_row[page] + ring_page(p, first_row[page], pages + page * PAGE_PAYLOAD);
    }
    tiny->sections[SECTION_LIST_PAGES].bytes = 4 * (page + 1);
    tiny->sections[SECTION_LISTS].bytes = page * PAGE_PAYLOAD;
    for (uint32_t row = 0; row < p->rows; row++)
        p->list_bytes += ring_list(p, row, list);
    heat = take(tiny, SECTION_HEAT, p->rows, 0);
    uint64_t before = 0;
    for (uint32_t row = 0; row < p->rows; row++) {
        heat[row] = (uint8_t)(before * FORMAT_HEAT_RANKS / p->list_bytes);
        before += ring_list(p, row, list);
    }
    take(tiny, SECTION_ENTRIES, 4, 0);
}

uint64_t tiny_list_at(const struct tiny_index *tiny, uint32_t row, size_t *bytes)
{
    const uint32_t *first_row = (const void *)tiny->sections[SECTION_LIST_PAGES].data;
    uint64_t page = 0;
    while (first_row[page + 1] <= row)
        page++;
    const uint8_t *lengths = tiny->sections[SECTION_LISTS].data + page * PAGE_PAYLOAD;
    const uint32_t width = tiny->properties.list_length_bytes;
    uint64_t at = page * PAGE_PAYLOAD + (first_row[page + 1] - first_row[page]) * width;
    for (uint32_t r = first_row[page];; r++) {
        *bytes = 0;
        memcpy(bytes, lengths + (r - first_row[page]) * width, width);
        if (r == row)
            return at;
        at += *bytes;
    }
}

static void make_ids(struct tiny_index *tiny)
{
    const struct properties *p = &tiny->properties;
    size_t bytes = bits_bytes(p->rows, p->id_bits);
    uint8_t *ids = take(tiny, SECTION_IDS, bytes + BITS_SLACK, 0);
    tiny->sections[SECTION_IDS].bytes = bytes;
    for (uint64_t row = 0; row < p->rows; row++)
        bits_store(ids, p->id_bits, row, 7 * row + 3);
}

/* A finite scalar of dtype whose bytes look random. */
static void random_scalar(struct prng *prng, enum fathom_dtype dtype, uint8_t *out)
{
    fill_random(prng, out, fathom_dtype_bytes(dtype));
    if (dtype == FATHOM_F32)
        out[3] = (uint8_t)((out[3] & 0x80) | 0x3f);
    if (dtype == FATHOM_F16)
        out[1] = (uint8_t)((out[1] & 0x83) | 0x38);
}

static void make_rows(struct tiny_index *tiny, struct prng *prng)
{
    const struct properties *p = &tiny->properties;
    uint32_t record = row8_record_bytes(p->work_dim, p->records_exact);
    uint8_t *records = take(tiny, SECTION_RECORDS, p->rows * record, record);
    fill_random(prng, records, p->rows * record);
    if (p->records_exact)
        return;
    for (uint64_t row = 0; row < p->rows; row++) {
        float scale = 0.5f + (float)prng_unit(prng);
        memcpy(records + row * record + p->work_dim, &scale, sizeof scale);
    }
    uint32_t scalar = (uint32_t)fathom_dtype_bytes(p->dtype), bytes = p->dim * scalar;
    uint8_t *vectors = take(tiny, SECTION_VECTORS, p->rows * bytes, bytes);
    for (size_t at = 0; at < p->rows * bytes; at += scalar)
        random_scalar(prng, p->dtype, vectors + at);
}

/* Search lists that rise with the number of the point, for both navigators and code sizes in turn.
 */
static void make_points(struct tiny_index *tiny, uint32_t count, uint32_t code_dim)
{
    uint8_t *points =
        count ? take(tiny, SECTION_POINTS, (size_t)count * FORMAT_POINT_BYTES, 0) : NULL;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t navigator = 1 + i * 2 / count, code_bytes = code_dim / PLANES_GROUP, k = 10,
                 search_list = 10 + 10 * i;
        float recall = 1 - 0.5f / (float)(i + 1), low = recall - 0.01f, reads = 3;
        uint8_t *at = points + (size_t)i * FORMAT_POINT_BYTES;
        memcpy(at, &navigator, 4);
        memcpy(at + 4, &code_bytes, 4);
        memcpy(at + 8, &k, 4);
        memcpy(at + 12, &search_list, 4);
        memcpy(at + 20, &recall, 4);
        memcpy(at + 24, &low, 4);
        memcpy(at + 28, &reads, 4);
    }
}

void tiny_make(struct tiny_index *tiny, const struct tiny_options *options)
{
    struct prng prng;
    uint32_t code_dim = options->code_dim ? options->code_dim : PLANES_GROUP;
    *tiny = (struct tiny_index){0};
    prng_init(&prng, options->seed ? options->seed : 1, 0);
    make_properties(tiny, options);
    make_manifest(tiny, options->manifest_bytes);
    make_model(tiny, code_dim, &prng);
    make_cells(tiny, &prng);
    make_codes(tiny, code_dim, &prng);
    make_lists(tiny);
    make_ids(tiny);
    make_rows(tiny, &prng);
    make_points(tiny, options->points, code_dim);
}

void tiny_free(struct tiny_index *tiny)
{
    for (int kind = 0; kind < SECTION_END; kind++)
        free(tiny->sections[kind].data);
    *tiny = (struct tiny_index){0};
}

/* ---- writing ---- */

int tiny_write_section(struct index_writer *writer, enum section_kind kind,
                       const struct tiny_section *section, size_t piece_rows,
                       struct fathom_error *err)
{
    size_t unit = section->row_bytes ? section->row_bytes : 1;
    size_t piece = piece_rows ? piece_rows * unit : section->bytes;
    int status = index_writer_begin(writer, kind, section->row_bytes, err);
    for (size_t at = 0; section->second_bytes && at < section->bytes && status == 0; at += unit)
        status = index_writer_append_parts(writer, section->data + at,
                                           section->data + at + unit - section->second_bytes,
                                           section->second_bytes, 1, err);
    for (size_t at = 0; !section->second_bytes && at < section->bytes && status == 0; at += piece) {
        size_t left = section->bytes - at;
        status = index_writer_append(writer, section->data + at, left < piece ? left : piece, err);
    }
    return status == 0 ? index_writer_end(writer, err) : status;
}

int tiny_write(const struct tiny_index *tiny, const struct env *env, const char *dir,
               size_t piece_rows, struct fathom_error *err)
{
    struct index_writer *writer;
    int status = index_writer_create(&writer, env, dir, &tiny->properties, err);
    for (int kind = SECTION_MANIFEST; kind < SECTION_END && status == 0; kind++)
        if (tiny->sections[kind].data)
            status = tiny_write_section(writer, kind, &tiny->sections[kind], piece_rows, err);
    if (status == 0)
        return index_writer_publish(writer, NULL, err);
    index_writer_abandon(writer);
    return status;
}

/* ---- images ---- */

static uint64_t section_pages(const struct tiny_section *s)
{
    if (!s->row_bytes)
        return (s->bytes + PAGE_PAYLOAD - 1) / PAGE_PAYLOAD;
    uint64_t rows = s->bytes / s->row_bytes, per_page = PAGE_PAYLOAD / s->row_bytes;
    if (per_page)
        return (rows + per_page - 1) / per_page;
    return rows * ((s->row_bytes + PAGE_PAYLOAD - 1) / PAGE_PAYLOAD);
}

/* Lays content out by FORMAT.md, not by the writer's code: the one checks the other. */
static void place_content(const struct tiny_section *s, uint8_t *pages)
{
    uint64_t per_page = s->row_bytes ? PAGE_PAYLOAD / s->row_bytes : 0;
    uint64_t per_row = s->row_bytes ? (s->row_bytes + PAGE_PAYLOAD - 1) / PAGE_PAYLOAD : 0;
    for (uint64_t i = 0; i < s->bytes; i++) {
        uint64_t page = i / PAGE_PAYLOAD, byte = i % PAGE_PAYLOAD;
        if (s->row_bytes) {
            uint64_t row = i / s->row_bytes, within = i % s->row_bytes;
            page = per_page ? row / per_page : row * per_row + within / PAGE_PAYLOAD;
            byte = per_page ? row % per_page * s->row_bytes + within : within % PAGE_PAYLOAD;
            uint64_t first = s->row_bytes - s->second_bytes;
            if (s->second_bytes)
                byte = within < first
                           ? row % per_page * first + within
                           : PAGE_PAYLOAD - (per_page - row % per_page) * s->second_bytes + within -
                                 first;
        }
        pages[page * PAGE_BYTES + PAGE_HEADER + byte] = s->data[i];
    }
}

uint8_t *tiny_image(const struct tiny_index *tiny, size_t *bytes)
{
    struct superblock super = {
        .properties = tiny->properties, .version = FORMAT_VERSION, .file_pages = 1};
    for (int kind = SECTION_MANIFEST; kind < SECTION_END; kind++) {
        const struct tiny_section *s = &tiny->sections[kind];
        if (!s->data)
            continue;
        super.sections[super.section_count++] = (struct section){
            .kind = (uint32_t)kind,
            .row_bytes = s->row_bytes,
            .rows_per_page = s->row_bytes ? PAGE_PAYLOAD / s->row_bytes : 0,
            .pages_per_row = s->row_bytes ? (s->row_bytes + PAGE_PAYLOAD - 1) / PAGE_PAYLOAD : 0,
            .first_page = super.file_pages,
            .page_count = section_pages(s),
            .bytes = s->bytes};
        super.file_pages += section_pages(s);
    }
    *bytes = super.file_pages * PAGE_BYTES;
    uint8_t *image = calloc(super.file_pages, PAGE_BYTES);
    assert_non_null(image);
    superblock_encode(&super, image);
    for (uint32_t i = 0; i < super.section_count; i++)
        place_content(&tiny->sections[super.sections[i].kind],
                      image + super.sections[i].first_page * PAGE_BYTES);
    for (uint64_t page = 1; page < super.file_pages; page++)
        image_seal(image, page);
    return image;
}

void tiny_write_raw(const struct tiny_index *tiny, const char *dir)
{
    char path[FOLDER_PATH_MAX];
    size_t bytes;
    uint8_t *image = tiny_image(tiny, &bytes);
    folder_name(dir, FORMAT_FILE_NAME, path);
    file_store(path, image, bytes);
    free(image);
}

/* ---- one of each shape ---- */

int tiny_folders_make(void **state, const struct tiny_options *shapes, size_t count)
{
    struct tiny_folders *folders = calloc(1, sizeof *folders + count * sizeof folders->dirs[0]);
    assert_non_null(folders);
    folders->count = count;
    for (size_t i = 0; i < count; i++) {
        struct tiny_index tiny;
        folder_make_fast(folders->dirs[i]);
        tiny_make(&tiny, &shapes[i]);
        tiny_write_raw(&tiny, folders->dirs[i]);
        tiny_free(&tiny);
    }
    *state = folders;
    return 0;
}

int tiny_folders_remove(void **state)
{
    struct tiny_folders *folders = *state;
    for (size_t i = 0; i < folders->count; i++)
        folder_remove(folders->dirs[i]);
    free(folders);
    return 0;
}

/* ---- changes of an image ---- */

/* The section table as it is in the image, which may have been spoiled: nothing is checked. */
static struct section table_entry(const uint8_t *image, uint32_t i)
{
    const uint8_t *at = image + 256 + (size_t)i * 64;
    struct section s;
    memcpy(&s.kind, at, 4);
    memcpy(&s.row_bytes, at + 4, 4);
    memcpy(&s.rows_per_page, at + 8, 4);
    memcpy(&s.pages_per_row, at + 12, 4);
    memcpy(&s.first_page, at + 16, 8);
    memcpy(&s.page_count, at + 24, 8);
    memcpy(&s.bytes, at + 32, 8);
    return s;
}

void image_seal(uint8_t *image, uint64_t page)
{
    struct page_place place = {.number = page};
    if (page > 0)
        memcpy(&place.generation, image + 32, 8);
    for (uint32_t i = 0; page > 0 && i < FORMAT_SECTIONS_MAX; i++) {
        struct section s = table_entry(image, i);
        if (page >= s.first_page && page - s.first_page < s.page_count)
            place.section = s.kind;
    }
    page_seal(image + page * PAGE_BYTES, &place);
}

uint8_t *image_at(uint8_t *image, size_t bytes, enum section_kind kind, uint64_t offset)
{
    for (uint32_t i = 0; i < FORMAT_SECTIONS_MAX; i++) {
        struct section s = table_entry(image, i);
        if (s.kind != (uint32_t)kind)
            continue;
        assert_in_range(offset, 0, s.bytes - 1);
        uint64_t page = offset / PAGE_PAYLOAD, byte = offset % PAGE_PAYLOAD;
        if (s.row_bytes) {
            struct row_place place = section_row_place(&s, offset / s.row_bytes);
            uint64_t within = place.byte + offset % s.row_bytes;
            page = place.page - s.first_page + within / PAGE_PAYLOAD;
            byte = within % PAGE_PAYLOAD;
        }
        uint64_t at = (s.first_page + page) * PAGE_BYTES + PAGE_HEADER + byte;
        assert_in_range(at, 0, bytes - 1);
        return image + at;
    }
    fail_msg("the image has no section %s", section_name(kind));
    return NULL;
}
