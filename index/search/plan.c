/* The planner: from a DRAM budget to what is resident and who navigates. It only does arithmetic;
 * residency.c loads. Spend order (docs/adr): codes first; then all lists, which brings the graph;
 * then more code bits; at last the 8-bit rows themselves. */
#include <inttypes.h>
#include <string.h>

#include "bits.h"
#include "error.h"
#include "index.h"
#include "mem.h"

/* Where lists fit beside codes of this many bits a dimension, the graph wins by CPU; below, cells
 * win, which spend the bytes of the lists on codes and so read less (docs/adr/0004). */
#define GRAPH_BITS_PER_DIM      3.4
#define GRAPH_BITS_PER_DIM_WIDE 1.8 /* from WIDE_DIM on, estimates average over more dimensions */
#define WIDE_DIM                256

static uint64_t resident(uint64_t bytes)
{
    return size_round_up(bytes, MEM_ALIGN);
}

uint64_t cells_part_bytes(const struct properties *p, bool centroids)
{
    return resident(centroids ? (uint64_t)p->cells * p->work_dim + 64 : 0) +
           resident(4 * ((uint64_t)p->cells + 1)) +
           resident(4 * ((p->rows + DIRECTORY_BLOCK - 1) / DIRECTORY_BLOCK));
}

uint64_t directory_part_bytes(const struct properties *p)
{
    return resident(p->rows * p->list_length_bytes + 64) +
           resident(8 * ((p->rows + DIRECTORY_BLOCK - 1) / DIRECTORY_BLOCK));
}

uint64_t model_part_bytes(const struct model *model, const struct plan *plan)
{
    const struct planes_model *planes = &model->planes;
    uint64_t bytes = resident(4 * (uint64_t)planes->dim);
    if (plan->rows8)
        return bytes;
    uint64_t coded = planes_coded_dim(&planes->levels[plan->level]);
    return bytes + resident(128) + resident(planes->dim) + resident(size_round_up(coded, 64)) +
           2 * resident(4 * coded) + resident(coded * planes->dim + 64);
}

/* Sizes that do not depend on the choice. */
struct sizes {
    const struct superblock *super;
    const struct model *model;
    uint64_t lists, fixed;
};

static uint64_t index_bytes(const struct sizes *sizes, const struct plan *plan)
{
    const struct properties *p = &sizes->super->properties;
    uint64_t bytes = sizes->fixed + model_part_bytes(sizes->model, plan) +
                     resident(bits_bytes(p->rows, p->id_bits) + 64);
    if (plan->rows8)
        bytes += resident(p->rows * row8_record_bytes(p->work_dim, p->records_exact) + 64);
    else
        bytes += resident(p->rows * sizes->model->planes.levels[plan->level].code_bytes +
                          KERNEL_CODE_SLACK) +
                 resident(p->rows * sizes->model->planes.levels[plan->level].factor_bytes) +
                 cells_part_bytes(p, true);
    if (plan->navigator == FATHOM_NAVIGATOR_GRAPH)
        bytes += resident(sizes->lists + 64) + directory_part_bytes(p) +
                 resident(4 * (uint64_t)p->entry_count);
    else if (plan->rows8)
        bytes += cells_part_bytes(p, true);
    return bytes;
}

static bool graph_can_navigate(const struct properties *p, const struct planes_level *level)
{
    double bits = p->work_dim >= WIDE_DIM ? GRAPH_BITS_PER_DIM_WIDE : GRAPH_BITS_PER_DIM;
    return level->code_bytes * 8.0 >= bits * p->work_dim;
}

/* Fills in the cost; true when it fits and the options allow it. */
static bool fits(const struct sizes *sizes, struct plan *plan, uint64_t limit,
                 const struct fathom_open_options *options)
{
    if (options->navigator != FATHOM_NAVIGATOR_AUTO && options->navigator != plan->navigator)
        return false;
    if (options->code_bytes &&
        (plan->rows8 || sizes->model->planes.levels[plan->level].code_bytes != options->code_bytes))
        return false;
    plan->index_bytes = index_bytes(sizes, plan);
    return plan->index_bytes <= limit;
}

/* Best first: rows8 with the graph, the graph with falling levels, cells with falling levels. */
static bool choose(const struct sizes *sizes, struct plan *plan, uint64_t limit,
                   const struct fathom_open_options *options)
{
    const struct planes_model *planes = &sizes->model->planes;
    const struct properties *p = &sizes->super->properties;
    *plan = (struct plan){
        .navigator = FATHOM_NAVIGATOR_GRAPH, .rows8 = true, .scratch_bytes = plan->scratch_bytes};
    if (fits(sizes, plan, limit, options))
        return true;
    plan->rows8 = false;
    for (uint32_t l = planes->level_count; l-- > 0;) {
        plan->level = l;
        bool forced = options->navigator == FATHOM_NAVIGATOR_GRAPH;
        if ((forced || graph_can_navigate(p, &planes->levels[l])) &&
            fits(sizes, plan, limit, options))
            return true;
    }
    plan->navigator = FATHOM_NAVIGATOR_CELLS;
    for (uint32_t l = planes->level_count; l-- > 0;) {
        plan->level = l;
        if (fits(sizes, plan, limit, options))
            return true;
    }
    return false;
}

/* The cheapest plan that the options allow, for the message. */
static uint64_t least_bytes(const struct sizes *sizes, const struct fathom_open_options *options)
{
    uint64_t least = UINT64_MAX;
    /* With hardly any rows or dimensions the rows themselves take less than codes and centroids. */
    struct plan rows8 = {.navigator = FATHOM_NAVIGATOR_GRAPH, .rows8 = true};
    if (fits(sizes, &rows8, UINT64_MAX, options))
        least = rows8.index_bytes;
    for (uint32_t l = 0; l < sizes->model->planes.level_count; l++)
        for (int graph = 0; graph < 2; graph++) {
            struct plan plan = {
                .navigator = graph ? FATHOM_NAVIGATOR_GRAPH : FATHOM_NAVIGATOR_CELLS, .level = l};
            if (fits(sizes, &plan, UINT64_MAX, options) && plan.index_bytes < least)
                least = plan.index_bytes;
        }
    return least;
}

/* At the most: which points belong to the residency is known only after it is chosen. */
static uint64_t points_bytes(const struct superblock *super)
{
    const struct section *section = superblock_find(super, SECTION_POINTS);
    uint64_t most = POINTS_RESIDENT_MAX * sizeof(struct operating_point);
    if (!section || section->bytes == 0)
        return 0;
    return resident(section->bytes < most ? section->bytes : most);
}

int plan_make(struct plan *plan, const struct superblock *super, const struct model *model,
              const struct fathom_open_options *options, const char *path, struct fathom_error *err)
{
    struct sizes sizes = {.super = super,
                          .model = model,
                          .lists = superblock_find(super, SECTION_LISTS)->bytes,
                          .fixed = resident(sizeof(struct fathom_index)) +
                                   resident(strlen(path) + 1) + points_bytes(super)};
    uint64_t scratch =
        options->threads * engine_scratch_bytes(&super->properties, options->inflight);
    uint64_t budget = options->dram_budget_bytes;
    uint64_t limit = budget == 0 ? UINT64_MAX : budget > scratch ? budget - scratch : 0;
    plan->scratch_bytes = scratch;
    if (choose(&sizes, plan, limit, options))
        return 0;
    uint64_t least = least_bytes(&sizes, options);
    if (least == UINT64_MAX)
        return error_set(err, FATHOM_EARGUMENT, "%s: no code of %" PRIu32 " bytes in this index",
                         path, options->code_bytes);
    return error_set(err, FATHOM_EBUDGET,
                     "%s: a DRAM budget of %" PRIu64 " bytes is too small: the least is %" PRIu64
                     " (%" PRIu64 " for the index, %" PRIu64
                     " for %u threads x %u queries in flight); raise --dram-budget or lower "
                     "threads and queries in flight",
                     path, budget, least + scratch, least, scratch, options->threads,
                     options->inflight);
}
