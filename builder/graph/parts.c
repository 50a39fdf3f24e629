/* Which cells make a part and its halo, and the graph of one. How large a halo must be was measured
 * (docs/adr/0043): the smaller the parts, the more of their rows are near a border. A sample of all
 * rows, the same one in every part, gives lists the far edges that a part alone has not. */
#include "parts.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "error.h"
#include "heat.h"
#include "prune.h"

#define CELL_BLOCK 32  /* cells of one block of work */
#define SCAN_CELLS 512 /* distances computed at once */

/* Rows of a halo, of those of the part: in three parts, for each part more, and in many. */
#define HALO_FROM    3
#define HALO_LEAST   0.4
#define HALO_STEP    0.4
#define HALO_MOST    1.5
#define SAMPLE_SHARE 0.2 /* of it, for the sample */

int parts_init(struct parts *parts, struct checkpoint *checkpoint, const struct cells *cells,
               uint32_t rows, uint32_t dim, uint32_t count, struct fathom_error *err)
{
    *parts = (struct parts){.count = count,
                            .checkpoint = checkpoint,
                            .crew = checkpoint->crew,
                            .cells = cells,
                            .rows = rows,
                            .dim = dim};
    parts->list = mem_alloc_array(count, sizeof *parts->list);
    if (!parts->list)
        return error_set(err, -ENOMEM, "no memory for %u parts", count);
    uint32_t cell = 0;
    for (uint32_t p = 0; p < count; p++) {
        struct part *part = &parts->list[p];
        uint64_t end = (uint64_t)rows * (p + 1) / count;
        part->cell = cell;
        part->row = cells->first[cell];
        while (cell < cells->count && cells->first[cell] < end)
            cell++;
        part->cell_end = cell;
        part->row_end = cells->first[cell];
    }
    return 0;
}

void parts_fini(struct parts *parts)
{
    mem_free(parts->list);
    mem_free(parts->near);
    *parts = (struct parts){0};
}

/* ---- the halo ---- */

double parts_halo(uint32_t count)
{
    double halo = HALO_LEAST + HALO_STEP * ((double)count - HALO_FROM);
    return halo < HALO_LEAST ? HALO_LEAST : halo < HALO_MOST ? halo : HALO_MOST;
}

/* Of the sample's rows one from the next. */
static uint32_t sample_stride(const struct parts *parts)
{
    double stride = parts->count / (SAMPLE_SHARE * parts_halo(parts->count));
    return stride < parts->rows ? (uint32_t)stride : parts->rows;
}

struct near {
    uint64_t keys[PARTS_NEAR]; /* distance, then cell; rising */
    uint32_t count;
};

static void near_add(struct near *near, uint64_t key)
{
    uint32_t at = near->count;
    if (at == PARTS_NEAR && key >= near->keys[at - 1])
        return;
    at -= at == PARTS_NEAR;
    for (; at > 0 && near->keys[at - 1] > key; at--)
        near->keys[at] = near->keys[at - 1];
    near->keys[at] = key;
    near->count += near->count < PARTS_NEAR;
}

static void find_near(const struct rows8 *centroids, uint32_t cell, int8_t *query,
                      struct near *near)
{
    uint32_t ids[SCAN_CELLS];
    int32_t dots[SCAN_CELLS];
    near->count = 0;
    rows8_centre(rows8_at(centroids, cell), centroids->stride, query);
    for (uint32_t first = 0; first < centroids->count; first += SCAN_CELLS) {
        uint32_t left = centroids->count - first, count = left < SCAN_CELLS ? left : SCAN_CELLS;
        for (uint32_t i = 0; i < count; i++)
            ids[i] = first + i;
        kernels_get()->dot_u8s8_gather(dots, query, centroids->bytes, centroids->stride, ids,
                                       count);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t distance = rows8_distance_from_dot(&centroids->terms[first + i],
                                                        centroids->terms[cell].bias, dots[i]);
            near_add(near, (uint64_t)distance << 32 | (first + i));
        }
    }
}

/* Where there are fewer cells, a cell stands in for what is missing of its own list. */
static int near_block(void *context, uint64_t block, unsigned worker)
{
    (void)worker;
    struct parts *parts = context;
    const struct rows8 *centroids = &parts->cells->centroids;
    struct near near;
    int8_t *query = mem_alloc(centroids->stride);
    if (!query)
        return -ENOMEM;
    uint32_t begin = (uint32_t)block * CELL_BLOCK;
    for (uint32_t c = begin; c < begin + CELL_BLOCK && c < parts->cells->count; c++) {
        find_near(centroids, c, query, &near);
        for (uint32_t i = 0; i < PARTS_NEAR; i++)
            parts->near[(size_t)c * PARTS_NEAR + i] = i < near.count ? (uint32_t)near.keys[i] : c;
    }
    mem_free(query);
    return 0;
}

static int find_all_near(struct parts *parts, struct fathom_error *err)
{
    uint32_t cells = parts->cells->count;
    parts->near = mem_alloc_array(cells, PARTS_NEAR * sizeof *parts->near);
    int status = parts->near
                     ? crew_run(parts->crew, crew_blocks(cells, CELL_BLOCK), near_block, parts)
                     : -ENOMEM;
    return status == 0 ? 0 : error_set(err, status, "graph: %s", fathom_strerror(status));
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool is_own(const struct part *part, uint32_t cell)
{
    return cell >= part->cell && cell < part->cell_end;
}

/* A vote for a foreign cell is one of the part's that has it among its nearest, or that it has. */
static void count_votes(const struct parts *parts, const struct part *part, uint32_t *votes)
{
    for (uint32_t c = 0; c < parts->cells->count; c++) {
        const uint32_t *near = parts->near + (size_t)c * PARTS_NEAR;
        for (uint32_t i = 0; i < PARTS_NEAR; i++)
            if (is_own(part, c) != is_own(part, near[i]))
                votes[is_own(part, c) ? near[i] : c]++;
    }
}

/* Marks the cells that are members whole: the part's own, and of the others those with most votes,
 * as long as they fit the halo. member: a byte for each cell, all zero. */
static int choose_cells(const struct parts *parts, const struct part *part, uint8_t *member)
{
    const uint32_t *first = parts->cells->first;
    uint32_t all = parts->cells->count, voted = 0;
    uint32_t *votes = mem_alloc_array(all, sizeof *votes);
    uint64_t *keys = mem_alloc_array(all, sizeof *keys);
    int status = votes && keys ? 0 : -ENOMEM;
    if (status == 0)
        count_votes(parts, part, votes);
    for (uint32_t c = 0; c < all && status == 0; c++) {
        member[c] = is_own(part, c);
        if (votes[c] > 0)
            keys[voted++] = (uint64_t)(UINT32_MAX - votes[c]) << 32 | c;
    }
    if (voted > 0)
        qsort(keys, voted, sizeof *keys, compare_keys);
    double room = (1 - SAMPLE_SHARE) * parts_halo(parts->count) * (part->row_end - part->row);
    for (uint32_t i = 0; i < voted; i++) {
        uint32_t cell = (uint32_t)keys[i];
        room -= first[cell + 1] - first[cell];
        if (room < 0)
            break;
        member[cell] = 1;
    }
    mem_free(votes);
    mem_free(keys);
    return status;
}

/* ---- the graph of a part ---- */

/* Rows of a part in memory, in the order of rows: those of its own cells and of the halo's, and the
 * sample of all others. */
struct members {
    uint32_t *first; /* cell_count + 1: of each cell that is there whole; the sample is between */
    uint32_t cell_count;
    uint32_t *numbers; /* in the whole graph, of each member */
    uint32_t count;
    struct rows8 rows;
};

static void members_fini(struct members *members)
{
    mem_free(members->first);
    mem_free(members->numbers);
    rows8_fini(&members->rows);
}

/* Lists the members, or without `members->numbers` counts them. */
static void list_members(const struct parts *parts, const uint8_t *member, struct members *members)
{
    const uint32_t *first = parts->cells->first;
    uint32_t stride = sample_stride(parts), count = 0, cells = 0;
    for (uint32_t c = 0; c < parts->cells->count; c++) {
        uint32_t step = member[c] ? 1 : stride;
        if (member[c] && members->numbers)
            members->first[cells] = cells ? count : 0;
        cells += member[c];
        for (uint32_t row = (first[c] + step - 1) / step * step; row < first[c + 1]; row += step) {
            if (members->numbers)
                members->numbers[count] = row;
            count++;
        }
    }
    if (members->numbers)
        members->first[cells] = count;
    members->cell_count = cells;
    members->count = count;
}

static int load_members(struct parts *parts, struct members *members, struct fathom_error *err)
{
    struct stored_rows stored;
    int status = stored_rows_open(&stored, &parts->checkpoint->work, CHECKPOINT_ROWS, err);
    if (status == 0)
        status = stored_rows_gather(&stored, members->numbers, members->count, &members->rows, err);
    stored_rows_close(&stored);
    return status;
}

static int members_init(struct parts *parts, const struct part *part, struct members *members,
                        struct fathom_error *err)
{
    *members = (struct members){0};
    uint8_t *member = mem_alloc(parts->cells->count);
    int status = member ? choose_cells(parts, part, member) : -ENOMEM;
    if (status == 0) {
        list_members(parts, member, members);
        members->first = mem_alloc_array((size_t)members->cell_count + 1, sizeof(uint32_t));
        members->numbers = mem_alloc_array(members->count, sizeof(uint32_t));
        status = members->first && members->numbers &&
                         rows8_init(&members->rows, members->count, parts->dim) == 0
                     ? 0
                     : -ENOMEM;
    }
    if (status == 0)
        list_members(parts, member, members);
    mem_free(member);
    if (status != 0)
        return error_set(err, status, "graph: no memory for a part of %u rows", members->count);
    return load_members(parts, members, err);
}

/* Nearest first, as merging wants them, and by their numbers in the whole graph. */
static void sort_list(const struct members *members, uint32_t row, uint32_t *list)
{
    uint64_t keys[BUILD_DEGREE_MAX];
    const struct rows8 *rows = &members->rows;
    for (uint32_t i = 0; i < list[0]; i++) {
        uint32_t near = list[1 + i], at = i;
        uint64_t key =
            prune_key(rows8_distance(rows8_at(rows, row), rows8_at(rows, near), rows->dim), near);
        for (; at > 0 && keys[at - 1] > key; at--)
            keys[at] = keys[at - 1];
        keys[at] = key;
    }
    for (uint32_t i = 0; i < list[0]; i++)
        list[1 + i] = members->numbers[(uint32_t)keys[i]];
}

static int spill(struct parts *parts, const struct members *members, struct graph *graph,
                 const uint32_t *heat, const char *name, struct fathom_error *err)
{
    struct work_writer *writer;
    struct part_header header = {.members = graph->rows, .entry_count = graph->entry_count};
    for (uint32_t i = 0; i < graph->entry_count; i++)
        header.entries[i] = members->numbers[graph->entries[i]];
    int status = work_create(&writer, &parts->checkpoint->work, name, err);
    if (status != 0)
        return status;
    status = work_append(writer, &header, sizeof header, err);
    for (uint32_t row = 0; row < graph->rows && status == 0; row++) {
        uint32_t *list = graph_list(graph, row);
        struct part_record record = {members->numbers[row], heat[row], list[0]};
        sort_list(members, row, list);
        status = work_append(writer, &record, sizeof record, err);
        if (status == 0)
            status = work_append(writer, list + 1, list[0] * sizeof *list, err);
    }
    if (status == 0)
        return work_commit(writer, err);
    work_abandon(writer);
    return status;
}

/* A part that is being built, and where it is saved. */
struct growth {
    struct checkpoint *checkpoint;
    char name[WORK_NAME_MAX];
    struct graph_state state;
};

static int save_growth(void *context, const struct graph *graph, uint32_t done,
                       struct fathom_error *err)
{
    struct growth *growth = context;
    uint64_t list_bytes = sizeof(uint32_t) * (uint64_t)(graph->degree_max + 1);
    if (!checkpoint_due(growth->checkpoint, graph->rows * list_bytes))
        return 0;
    growth->state.done = done;
    return checkpoint_save_graph(growth->checkpoint, growth->name, graph, &growth->state, err);
}

/* The graph of the members, from where a killed build had come to. */
static int grow(struct growth *growth, const struct crew *crew, const struct members *members,
                const struct graph_options *given, struct graph *graph, struct fathom_error *err)
{
    struct graph_options options = *given;
    growth->state = (struct graph_state){.degree = options.degree, .list = options.list};
    int status = checkpoint_load_graph(growth->checkpoint, growth->name, graph, members->rows.count,
                                       &growth->state, err);
    if (status < 0)
        return status;
    options.done = growth->state.done;
    options.save = save_growth;
    options.save_context = growth;
    return options.done == GRAPH_DONE ? 0
                                      : graph_build(graph, crew, &members->rows, members->first,
                                                    members->cell_count, &options, err);
}

static int build_part(struct parts *parts, uint32_t number, const struct graph_options *options,
                      struct fathom_error *err)
{
    const struct part *part = &parts->list[number];
    char name[WORK_NAME_MAX];
    struct growth growth = {.checkpoint = parts->checkpoint};
    struct members members;
    struct graph graph = {0};
    uint32_t *heat = NULL;
    const struct rows8 no_queries = {0}; /* nobody knows which ways they take through a part */
    (void)checkpoint_name(growth.name, "grown", number);
    int status = members_init(parts, part, &members, err);
    if (status == 0) {
        struct crew_step step, end;
        const struct crew *crew =
            crew_step(&step, parts->crew, part->row, part->row_end, members.rows.count);
        status = grow(&growth, crew, &members, options, &graph, err);
        if (status == 0)
            status =
                heat_measure(&heat, crew_step(&end, parts->crew, part->row_end, part->row_end, 1),
                             &graph, &members.rows, &no_queries, err);
    }
    if (status == 0)
        status = spill(parts, &members, &graph, heat, checkpoint_name(name, "part", number), err);
    if (status == 0) {
        work_remove(&parts->checkpoint->work, growth.name);
        checkpoint_kept(parts->checkpoint);
    }
    mem_free(heat);
    graph_fini(&graph);
    members_fini(&members);
    return status;
}

int parts_graph(struct parts *parts, const struct graph_options *options,
                struct encoded_lists *lists, struct fathom_error *err)
{
    char name[WORK_NAME_MAX];
    int status = parts_load_merged(parts, lists, err);
    if (status != 0)
        return status < 0 ? status : 0;
    int merged = parts_has_merged(parts, err);
    if (merged < 0)
        return merged;
    for (uint32_t p = 0; p < parts->count && status == 0 && !merged; p++) {
        const struct part *part = &parts->list[p];
        if (part->row == part->row_end)
            continue;
        status = checkpoint_has(parts->checkpoint, checkpoint_name(name, "part", p), err);
        if (status == 0 && !parts->near)
            status = find_all_near(parts, err);
        status = status == 0 ? build_part(parts, p, options, err) : status;
        status = status == 1 ? 0 : status;
    }
    mem_free(parts->near);
    parts->near = NULL;
    return status == 0 ? parts_merge(parts, merged, options->degree, lists, err) : status;
}

/* ---- rows and codes ---- */

static int load_rows(struct parts *parts, uint32_t first, uint32_t count, struct rows8 *out,
                     struct fathom_error *err)
{
    struct stored_rows stored;
    if (rows8_init(out, count, parts->dim) != 0)
        return error_set(err, -ENOMEM, "no memory for %u rows", count);
    int status = stored_rows_open(&stored, &parts->checkpoint->work, CHECKPOINT_ROWS, err);
    if (status == 0)
        status = stored_rows_read(&stored, first, count, out, 0, err);
    stored_rows_close(&stored);
    return status;
}

/* The cells of a part as if it were all there is; centroids are borrowed. */
static int part_cells(const struct parts *parts, const struct part *part, struct cells *out)
{
    const struct rows8 *centroids = &parts->cells->centroids;
    out->count = part->cell_end - part->cell;
    out->centroids = (struct rows8){.count = out->count,
                                    .dim = centroids->dim,
                                    .stride = centroids->stride,
                                    .bytes = centroids->bytes + part->cell * centroids->stride,
                                    .terms = centroids->terms + part->cell};
    out->first = mem_alloc_array((size_t)out->count + 1, sizeof *out->first);
    for (uint32_t c = 0; c <= out->count && out->first; c++)
        out->first[c] = parts->cells->first[part->cell + c] - part->row;
    return out->first ? 0 : -ENOMEM;
}

static int encode_part(struct parts *parts, uint32_t number, const struct trained *trained,
                       struct fathom_error *err)
{
    const struct part *part = &parts->list[number];
    struct rows8 rows = {0};
    struct cells cells = {0};
    struct encoded_codes codes = {0};
    struct encode_piece piece = {.number = number, .count = part->row_end - part->row};
    const struct code_source source = {trained, &rows, &cells};
    struct crew_step step;
    const struct crew *crew = crew_step(&step, parts->crew, part->row, part->row_end, piece.count);
    int status = part_cells(parts, part, &cells);
    if (status != 0)
        return error_set(err, status, "encode: %s", fathom_strerror(status));
    status = load_rows(parts, part->row, piece.count, &rows, err);
    if (status == 0)
        status = encode_codes(&codes, crew, &source, NULL, err);
    rows8_fini(&rows);
    if (status == 0)
        status = checkpoint_save_codes(parts->checkpoint, &codes, &trained->planes, &piece, err);
    encoded_codes_fini(&codes);
    mem_free(cells.first);
    return status;
}

int parts_encode(struct parts *parts, const struct trained *trained, struct fathom_error *err)
{
    char name[WORK_NAME_MAX];
    int status = 0;
    for (uint32_t p = 0; p < parts->count && status == 0; p++) {
        const struct part *part = &parts->list[p];
        if (part->row == part->row_end)
            continue;
        status = checkpoint_has(parts->checkpoint, checkpoint_name(name, "codes", p), err);
        status = status == 0 ? encode_part(parts, p, trained, err) : status;
        status = status == 1 ? 0 : status;
    }
    return status;
}
