/* The planner: from a DRAM budget to what is resident and who navigates. It only does arithmetic;
 * residency.c loads.
 *
 * A budget leaves four ways to spend it: the 8-bit rows and all lists (graph); codes and all lists
 * (graph); or the longest codes that fit and no lists (cells); or, where not even the shortest
 * codes fit, no codes at all, or some: the cells read the others (scan.c). Those that fit are
 * compared by what the index's own operating points say that they reach, and what a query costs,
 * from the smallest on, so that more memory is never worse. An index without points goes by bits a
 * dimension. Lists in part are for those who ask for them
 * (docs/adr/0011). */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "bits.h"
#include "error.h"
#include "index.h"
#include "mem.h"
#include "navigate.h"
#include "pages.h"
#include "recode.h"

/* Without operating points: where lists fit beside codes of this many bits a dimension, the graph
 * wins by CPU; below, cells win, which spend the bytes of the lists on codes and so read less
 * (docs/adr/0004). */
#define GRAPH_BITS_PER_DIM      3.4
#define GRAPH_BITS_PER_DIM_WIDE 1.8 /* from WIDE_DIM on, estimates average over more dimensions */
#define WIDE_DIM                256
#define GRAPH_BITS_LEAST        1.5 /* with points: fewer are not worth a look */

/* A graph whose lists are partly on SSD has codes of at most so many bits a dimension, and what is
 * left goes to lists (docs/adr/0011). */
#define PARTLY_BITS_PER_DIM 2.0

static uint64_t resident(uint64_t bytes)
{
    return size_round_up(bytes, MEM_ALIGN);
}

/* Who reads codes asks for no row's cell. */
static uint64_t cells_part_bytes(const struct properties *p, const struct plan *plan)
{
    unsigned bits = cell_block_bits(plan->navigator);
    uint64_t blocks = plan->scan_reads ? 0 : ((p->rows - 1) >> bits) + 1;
    return rank_part_bytes(p, plan->navigator) + resident(4 * ((uint64_t)p->cells + 1)) +
           resident(4 * blocks);
}

/* With the table of list pages (of list_pages entries) where not all lists are resident. */
static uint64_t directory_part_bytes(const struct properties *p, uint64_t list_pages,
                                     uint32_t hot_ranks)
{
    uint64_t bytes = 0;
    if (hot_ranks > 0)
        bytes += resident(p->rows * p->list_length_bytes + 64) +
                 resident(8 * ((p->rows + DIRECTORY_BLOCK - 1) / DIRECTORY_BLOCK));
    if (hot_ranks < FORMAT_HEAT_RANKS)
        bytes += resident(4 * (list_pages + 1));
    return bytes;
}

/* Without the rotation rows of dimensions that have no bit at this level. */
static uint64_t model_part_bytes(const struct model *model, const struct plan *plan)
{
    const struct planes_model *planes = &model->planes;
    uint64_t bytes = resident(4 * (uint64_t)planes->dim);
    if (plan->rows8)
        return bytes;
    uint64_t coded = planes_coded_dim(&planes->levels[plan->level]);
    if (plan->navigator == FATHOM_NAVIGATOR_CELLS)
        bytes += resident(sizeof(uint16_t) *
                          planes->levels[coarse_level(planes, plan->level)].code_bytes);
    if (recode_wanted(planes, plan))
        bytes += resident(sizeof(struct kernel_trellis));
    return bytes + resident(128) + resident(planes->dim) + resident(size_round_up(coded, 64)) +
           2 * resident(4 * coded) + resident(coded * planes->dim + 64);
}

/* Sizes that do not depend on the choice. */
struct sizes {
    const struct superblock *super;
    const struct model *model;
    const struct operating_point *points;
    uint32_t point_count;
    uint64_t list_pages, fixed;
    uint64_t budget;     /* UINT64_MAX: none */
    uint64_t scan_pages; /* of section scan */
    uint64_t scratch[3]; /* by enum query_waits */
};

/* What pages of codes cost for each cell of a search list, in reads by themselves: so much of the
 * pages that its rows fill, and of a page more (docs/adr/0060). */
#define CELL_PAGES_PRICE 0.36
#define CELL_PAGES_MORE  0.8
/* Where ids are read: the results of a query lie in a few places (measured, docs/adr/0038: 1.4
 * where there are 30 pages of ids, 2 of 44, 4.1 of 233, 2.9 of 613). */
static double id_reads(const struct section *ids)
{
    return fmin(3.5, 0.3 * sqrt((double)ids->page_count));
}

struct points_cost plan_cost(const struct plan *plan, const struct superblock *super,
                             uint32_t code_bytes)
{
    const struct properties *p = &super->properties;
    struct points_cost cost = points_cost(p, plan->navigator, code_bytes);
    if (!plan->scan_reads)
        return cost;
    double pages = (double)superblock_find(super, SECTION_SCAN)->page_count;
    double away = 1 - (double)plan->scan_pages / pages;
    if (plan->ids_read)
        cost.fixed_reads = id_reads(superblock_find(super, SECTION_IDS));
    points_cost_scan(&cost, p, code_bytes,
                     CELL_PAGES_PRICE * CELLS_PER_SEARCH_LIST * away *
                         (CELL_PAGES_MORE + pages / p->cells));
    return cost;
}

struct points_residency plan_residency(const struct plan *plan, const struct planes_model *full,
                                       uint32_t code_bytes)
{
    bool in_memory = plan->navigator == FATHOM_NAVIGATOR_CELLS && !plan->rows8 && !plan->scan_reads;
    return (struct points_residency){
        .navigator = plan->navigator,
        .code_bytes = code_bytes,
        .unlike_bytes = in_memory ? full->levels[format_scan_level(full)].code_bytes : 0};
}

static uint32_t code_bytes_of(const struct sizes *sizes, const struct plan *plan)
{
    const struct properties *p = &sizes->super->properties;
    return plan->rows8 ? row8_record_bytes(p->work_dim, p->records_exact)
                       : sizes->model->planes.levels[plan->level].code_bytes;
}

/* The operating points of a plan's residency; out has room for POINTS_RESIDENT_MAX. */
static uint32_t points_of_plan(const struct sizes *sizes, const struct plan *plan,
                               struct operating_point *out)
{
    const struct points_residency residency =
        plan_residency(plan, &sizes->model->planes, code_bytes_of(sizes, plan));
    return points_for(sizes->points, sizes->point_count, &residency, out);
}

static uint64_t points_bytes(const struct sizes *sizes, const struct plan *plan)
{
    struct operating_point points[POINTS_RESIDENT_MAX];
    uint32_t count = points_of_plan(sizes, plan, points);
    return count ? resident(count * sizeof(struct operating_point)) : 0;
}

static uint64_t index_bytes(const struct sizes *sizes, const struct plan *plan)
{
    const struct properties *p = &sizes->super->properties;
    uint64_t bytes = sizes->fixed + points_bytes(sizes, plan) +
                     model_part_bytes(sizes->model, plan) +
                     (plan->ids_read ? 0 : resident(bits_bytes(p->rows, p->id_bits) + 64));
    if (plan->rows8)
        bytes += resident(p->rows * row8_record_bytes(p->work_dim, p->records_exact) + 64);
    else
        bytes += codes_part_bytes(p, &sizes->model->planes, plan) + cells_part_bytes(p, plan);
    if (plan->navigator == FATHOM_NAVIGATOR_GRAPH)
        bytes += (plan->hot_ranks ? resident(format_hot_bytes(p, plan->hot_ranks) + 64) : 0) +
                 directory_part_bytes(p, sizes->list_pages, plan->hot_ranks) +
                 resident(4 * (uint64_t)p->entry_count);
    else if (plan->rows8)
        bytes += cells_part_bytes(p, plan);
    return bytes;
}

static bool partly_resident(const struct plan *plan)
{
    return plan->navigator == FATHOM_NAVIGATOR_GRAPH && plan->hot_ranks < FORMAT_HEAT_RANKS;
}

/* Ranks that are resident when none has to stay on SSD for want of room. */
static uint32_t most_ranks(const struct fathom_open_options *options)
{
    return options->list_share > 0 ? (uint32_t)(options->list_share * FORMAT_HEAT_RANKS)
                                   : FORMAT_HEAT_RANKS;
}

/* Fills in the cost; true when it fits and the options allow it. */
static bool fits(const struct sizes *sizes, struct plan *plan,
                 const struct fathom_open_options *options)
{
    bool graph = options->navigator == FATHOM_NAVIGATOR_GRAPH || options->list_share > 0;
    if (graph ? plan->navigator != FATHOM_NAVIGATOR_GRAPH
              : options->navigator == FATHOM_NAVIGATOR_CELLS &&
                    plan->navigator != FATHOM_NAVIGATOR_CELLS)
        return false;
    if (options->code_share > 0 && !plan->scan_reads)
        return false;
    if (options->code_bytes &&
        (plan->rows8 || sizes->model->planes.levels[plan->level].code_bytes != options->code_bytes))
        return false;
    plan->index_bytes = index_bytes(sizes, plan);
    plan->scratch_bytes = sizes->scratch[plan->scan_reads        ? WAITS_FOR_CODES
                                         : partly_resident(plan) ? WAITS_FOR_LISTS
                                                                 : WAITS_FOR_ROWS];
    return plan->index_bytes + plan->scratch_bytes <= sizes->budget;
}

/* Codes first, then as many lists as there is room for, the hottest first. */
static bool choose_partly(const struct sizes *sizes, struct plan *plan,
                          const struct fathom_open_options *options)
{
    const struct planes_model *planes = &sizes->model->planes;
    double most = PARTLY_BITS_PER_DIM * sizes->super->properties.work_dim;
    for (uint32_t l = planes->level_count; l-- > 0;) {
        plan->level = l;
        plan->hot_ranks = 0;
        if (l > 0 && options->code_bytes == 0 && planes->levels[l].code_bytes * 8.0 > most)
            continue;
        if (!fits(sizes, plan, options))
            continue;
        uint32_t low = 0, high = most_ranks(options) + 1; /* low fits */
        while (high - low > 1) {
            plan->hot_ranks = (low + high) / 2;
            if (fits(sizes, plan, options))
                low = plan->hot_ranks;
            else
                high = plan->hot_ranks;
        }
        plan->hot_ranks = low;
        return fits(sizes, plan, options);
    }
    return false;
}

/* All lists, and the largest codes that fit, of at least so many bits a dimension. */
static bool choose_graph(const struct sizes *sizes, struct plan *plan,
                         const struct fathom_open_options *options, double bits_least)
{
    const struct planes_model *planes = &sizes->model->planes;
    double least = bits_least * sizes->super->properties.work_dim;
    plan->hot_ranks = most_ranks(options);
    for (uint32_t l = planes->level_count; l-- > 0;) {
        plan->level = l;
        if (planes->levels[l].code_bytes * 8.0 >= least && fits(sizes, plan, options))
            return true;
    }
    return false;
}

static bool choose_cells(const struct sizes *sizes, struct plan *plan,
                         const struct fathom_open_options *options)
{
    plan->navigator = FATHOM_NAVIGATOR_CELLS;
    for (uint32_t l = sizes->model->planes.level_count; l-- > 0;) {
        plan->level = l;
        if (fits(sizes, plan, options))
            return true;
    }
    return false;
}

/* What points_choose makes of the points of a plan that fits, and at what price; INFINITY when the
 * points do not say, or say that the target is out of reach. */
static struct operating_choice choice_for(const struct sizes *sizes, const struct plan *plan,
                                          float target, double *price_us)
{
    struct operating_point points[POINTS_RESIDENT_MAX];
    uint32_t count = points_of_plan(sizes, plan, points);
    struct operating_choice none = {0};
    *price_us = INFINITY;
    if (count == 0)
        return none;
    struct points_cost cost =
        plan_cost(plan, sizes->super, plan->rows8 ? 0 : code_bytes_of(sizes, plan));
    struct operating_choice choice =
        points_choose(points, count, PLAN_K, target, FATHOM_RERANK_AUTO, &cost);
    if (choice.recall_low >= target)
        *price_us = points_cost_us(&cost, &choice);
    return choice;
}

/* Cells must be cheaper by a twentieth: for the same target they reach less (docs/adr/0053). */
#define CELLS_HANDICAP 1.05
static double price(const struct sizes *sizes, const struct plan *plan, float target)
{
    double price_us;
    (void)choice_for(sizes, plan, target, &price_us);
    return plan->navigator == FATHOM_NAVIGATOR_CELLS ? price_us * CELLS_HANDICAP : price_us;
}

/* The recall that plans are compared at. */
static float asked_recall(const struct fathom_open_options *options)
{
    return options->plan_recall > 0 ? options->plan_recall : FATHOM_TARGET_RECALL;
}

/* The recall that a plan reaches; 0 when nobody knows: codes that are shorter than any that was
 * measured reach less than those. */
static float reach(const struct sizes *sizes, const struct plan *plan)
{
    double price_us;
    struct operating_point points[POINTS_RESIDENT_MAX];
    uint32_t count = points_of_plan(sizes, plan, points);
    if (count == 0 || points[0].code_bytes > code_bytes_of(sizes, plan))
        return 0;
    return choice_for(sizes, plan, 1, &price_us).recall_low;
}

static double graph_bits_least(const struct properties *p)
{
    return p->work_dim >= WIDE_DIM ? GRAPH_BITS_PER_DIM_WIDE : GRAPH_BITS_PER_DIM;
}

/* Cells whose codes, of one level, are read: as many of their pages are resident as fit, up to
 * most. */
static bool fill_scan(const struct sizes *sizes, struct plan *plan,
                      const struct fathom_open_options *options, uint64_t most, bool ids_read)
{
    *plan = (struct plan){.navigator = FATHOM_NAVIGATOR_CELLS,
                          .level = format_scan_level(&sizes->model->planes),
                          .hot_ranks = FORMAT_HEAT_RANKS,
                          .scan_reads = true,
                          .ids_read = ids_read};
    if (!fits(sizes, plan, options))
        return false;
    uint64_t left = (sizes->budget - plan->index_bytes - plan->scratch_bytes) / MEM_ALIGN *
                    MEM_ALIGN / PAGE_PAYLOAD;
    plan->scan_pages = left < most ? left : most;
    return fits(sizes, plan, options);
}

/* The same, with ids in memory or, where more pages of codes instead are worth more, on SSD.
 * Without operating points pages are. Ids are one more wave of reads to wait for. */
#define IDS_HANDICAP 1.05
static bool choose_scan(const struct sizes *sizes, struct plan *plan,
                        const struct fathom_open_options *options, uint64_t most)
{
    struct plan kept;
    bool kept_fits = fill_scan(sizes, &kept, options, most, false);
    if (!fill_scan(sizes, plan, options, most, true))
        return false; /* it takes less */
    float target = fminf(reach(sizes, plan), asked_recall(options));
    if (kept_fits &&
        (kept.scan_pages == plan->scan_pages ||
         (target > 0 && price(sizes, &kept, target) <= IDS_HANDICAP * price(sizes, plan, target))))
        *plan = kept;
    return true;
}

/* Pages of codes that are resident when none has to stay on SSD for want of room. */
static uint64_t most_pages(const struct sizes *sizes, const struct fathom_open_options *options)
{
    return options->code_share > 0
               ? (uint64_t)((double)options->code_share * (double)sizes->scan_pages)
               : sizes->scan_pages;
}

/* Plans from the smallest on, and the one that has been chosen of them so far. */
struct walk {
    const struct sizes *sizes;
    const struct fathom_open_options *options;
    struct plan chosen;
    bool any;
    float reach, best; /* of chosen, and the highest of all that were chosen before */
};

/* Whoever has not said which recall will be asked for may ask for any up to RECALL_KEPT: a plan
 * takes over only if it reaches, up to there, what those before it did, but for what a sample of
 * rows can hardly tell. */
#define RECALL_KEPT 0.98f
#define REACH_LESS  0.006f
/* Where the recall that is to be asked for is out of reach, what comes so near the best will do. */
#define REACH_NEAR 0.001f

/* A plan that promises so little less than is asked for keeps to it as often as not: a promise is
 * careful. Each .001 that is missing makes it dearer by so much, which is more than such a part of
 * recall costs where it is to be had (docs/adr/0041). */
#define PROMISE_SHORT 0.003f
#define SHORT_PRICE   0.05

/* What a plan that reaches so much costs at a target; INFINITY: it does not come near. */
static double price_near(const struct walk *walk, const struct plan *plan, float reached,
                         float target)
{
    float missing = target - reached;
    if (missing <= 0)
        return price(walk->sizes, plan, target);
    if (missing > PROMISE_SHORT)
        return INFINITY;
    return price(walk->sizes, plan, reached - REACH_NEAR) * (1 + SHORT_PRICE * missing / 0.001);
}

/* Whether a larger plan takes over: when it is no dearer at the recall that counts, or that had
 * been out of reach. So more memory costs no more and reaches no less (docs/adr/0041). */
static bool takes_over(const struct walk *walk, const struct plan *plan, float reached)
{
    float asked = walk->options->plan_recall;
    float most = fmaxf(reached, walk->reach), target = asked_recall(walk->options);
    if (most < target)
        target = most - REACH_NEAR;
    double price_us = price_near(walk, plan, reached, target),
           had_us = price_near(walk, &walk->chosen, walk->reach, target);
    if (isinf(price_us) != isinf(had_us))
        return isinf(had_us);
    if (asked == 0 && reached < fminf(RECALL_KEPT, walk->best) - REACH_LESS)
        return false;
    return price_us <= had_us;
}

static void consider(struct walk *walk, const struct plan *plan)
{
    float reached = reach(walk->sizes, plan);
    if (walk->any && !takes_over(walk, plan, reached))
        return;
    walk->chosen = *plan;
    walk->any = true;
    walk->reach = reached;
    walk->best = fmaxf(walk->best, reached);
}

static uint64_t plan_bytes(const struct plan *plan)
{
    return plan->index_bytes + plan->scratch_bytes;
}

/* All codes that fit, with either navigator, from the smallest plan to the largest. */
static unsigned plans_that_fit(const struct sizes *sizes, const struct fathom_open_options *options,
                               struct plan out[2 * PLANES_LEVELS_MAX])
{
    const struct planes_model *planes = &sizes->model->planes;
    double least_bits = GRAPH_BITS_LEAST * sizes->super->properties.work_dim;
    unsigned count = 0;
    for (uint32_t i = 0; i < 2 * planes->level_count; i++) {
        struct plan plan = {.navigator = i % 2 ? FATHOM_NAVIGATOR_CELLS : FATHOM_NAVIGATOR_GRAPH,
                            .level = i / 2,
                            .hot_ranks = most_ranks(options)};
        bool too_short = i % 2 == 0 && planes->levels[i / 2].code_bytes * 8.0 < least_bits;
        if (too_short || !fits(sizes, &plan, options))
            continue;
        unsigned at = count++;
        for (; at > 0 && plan_bytes(&out[at - 1]) > plan_bytes(&plan); at--)
            out[at] = out[at - 1];
        out[at] = plan;
    }
    return count;
}

/* Without points: the graph with long codes, or else the longest codes with the cells, or else
 * codes that are read. */
static bool choose_by_bits(const struct sizes *sizes, struct plan *plan,
                           const struct fathom_open_options *options)
{
    return choose_graph(sizes, plan, options, graph_bits_least(&sizes->super->properties)) ||
           choose_cells(sizes, plan, options) ||
           choose_scan(sizes, plan, options, most_pages(sizes, options));
}

/* Codes with the graph, codes with the cells, or codes that are read, as many of whose pages are
 * resident as each of the others would take. */
static bool choose_codes(const struct sizes *sizes, struct plan *plan,
                         const struct fathom_open_options *options)
{
    struct plan plans[2 * PLANES_LEVELS_MAX], scan;
    struct walk walk = {.sizes = sizes, .options = options};
    unsigned count = plans_that_fit(sizes, options, plans);
    for (unsigned i = 0; i <= count; i++) {
        struct sizes within = *sizes;
        within.budget = i < count ? plan_bytes(&plans[i]) : sizes->budget;
        if (choose_scan(&within, &scan, options, most_pages(sizes, options)))
            consider(&walk, &scan);
        if (i < count)
            consider(&walk, &plans[i]);
    }
    if (walk.best == 0)
        return choose_by_bits(sizes, plan, options);
    *plan = walk.chosen;
    return true;
}

/* A graph in memory is as good as it gets, but where it leads nowhere, as under ip when norms
 * differ much: a plan that reaches more then takes its place. */
static void give_way(const struct sizes *sizes, struct plan *plan,
                     const struct fathom_open_options *options)
{
    struct plan other = *plan;
    other.rows8 = false;
    float reached = reach(sizes, plan);
    if (options->navigator == FATHOM_NAVIGATOR_GRAPH || options->list_share > 0 || reached == 0 ||
        reached >= asked_recall(options) - PROMISE_SHORT)
        return;
    if (choose_codes(sizes, &other, options) && reach(sizes, &other) > reached + REACH_LESS)
        *plan = other;
}

/* A graph that was asked for goes on with shorter codes, then with lists in part, at last with
 * whatever fits. */
static bool choose_forced_graph(const struct sizes *sizes, struct plan *plan,
                                const struct fathom_open_options *options)
{
    double bits = graph_bits_least(&sizes->super->properties);
    if (bits > PARTLY_BITS_PER_DIM)
        bits = PARTLY_BITS_PER_DIM;
    return choose_graph(sizes, plan, options, options->code_bytes ? 0 : bits) ||
           choose_partly(sizes, plan, options) || choose_graph(sizes, plan, options, 0);
}

static bool choose(const struct sizes *sizes, struct plan *plan,
                   const struct fathom_open_options *options)
{
    if (options->code_share > 0)
        return choose_scan(sizes, plan, options, most_pages(sizes, options));
    *plan = (struct plan){
        .navigator = FATHOM_NAVIGATOR_GRAPH, .rows8 = true, .hot_ranks = most_ranks(options)};
    if (fits(sizes, plan, options)) {
        give_way(sizes, plan, options);
        return true;
    }
    plan->rows8 = false;
    return options->navigator == FATHOM_NAVIGATOR_GRAPH || options->list_share > 0
               ? choose_forced_graph(sizes, plan, options)
               : choose_codes(sizes, plan, options);
}

/* The cheapest plan that the options allow, for the message. */
static struct plan least_plan(const struct sizes *sizes, const struct fathom_open_options *options)
{
    struct sizes unbounded = *sizes;
    struct plan least = {.index_bytes = UINT64_MAX};
    unbounded.budget = UINT64_MAX;
    /* With hardly any rows or dimensions the rows themselves take less than codes and centroids. */
    struct plan plan = {
        .navigator = FATHOM_NAVIGATOR_GRAPH, .rows8 = true, .hot_ranks = most_ranks(options)};
    if (fits(&unbounded, &plan, options))
        least = plan;
    bool forced = options->navigator == FATHOM_NAVIGATOR_GRAPH || options->list_share > 0;
    if (fill_scan(&unbounded, &plan, options, 0, true) &&
        plan.index_bytes + plan.scratch_bytes < least.index_bytes + least.scratch_bytes)
        least = plan;
    const struct plan kinds[] = {
        {.navigator = FATHOM_NAVIGATOR_CELLS, .hot_ranks = FORMAT_HEAT_RANKS},
        {.navigator = FATHOM_NAVIGATOR_GRAPH, .hot_ranks = most_ranks(options)},
        {.navigator = FATHOM_NAVIGATOR_GRAPH, .hot_ranks = 0}};
    for (uint32_t l = 0; l < sizes->model->planes.level_count; l++)
        for (int kind = 0; kind < (forced ? 3 : 2); kind++) {
            plan = kinds[kind];
            plan.level = l;
            if (fits(&unbounded, &plan, options) &&
                plan.index_bytes + plan.scratch_bytes < least.index_bytes + least.scratch_bytes)
                least = plan;
        }
    return least;
}

static uint64_t scratch_of(const struct plan_input *input, enum query_waits waits)
{
    const struct fathom_open_options *options = input->options;
    return engine_buffer_bytes(options->threads, options->inflight, options->page_buffers) +
           options->threads * engine_scratch_bytes(&input->super->properties, options->inflight,
                                                   options->page_buffers, waits);
}

static struct sizes sizes_of(const struct plan_input *input)
{
    const struct superblock *super = input->super;
    const struct fathom_open_options *options = input->options;
    uint64_t budget = options->dram_budget_bytes;
    return (struct sizes){
        .super = super,
        .model = input->model,
        .points = input->points,
        .point_count = input->point_count,
        .list_pages = format_list_pages(superblock_find(super, SECTION_LISTS)),
        .fixed = resident(sizeof(struct fathom_index)) + resident(strlen(input->path) + 1) +
                 page_arena_own_bytes(options->threads),
        .budget = budget ? budget : UINT64_MAX,
        .scan_pages = superblock_find(super, SECTION_SCAN)->page_count,
        .scratch = {scratch_of(input, WAITS_FOR_ROWS), scratch_of(input, WAITS_FOR_LISTS),
                    scratch_of(input, WAITS_FOR_CODES)}};
}

struct plan plan_least(const struct plan_input *input)
{
    struct sizes sizes = sizes_of(input);
    return least_plan(&sizes, input->options);
}

bool plan_is_as_good(const struct plan_input *input, const struct plan *plan,
                     const struct plan *than, double dearer)
{
    struct sizes sizes = sizes_of(input);
    struct walk walk = {.sizes = &sizes, .options = input->options};
    float reached = reach(&sizes, plan), had = reach(&sizes, than);
    float asked = input->options->plan_recall, target = asked_recall(input->options);
    if (had == 0 || reached < fminf(asked > 0 ? asked : RECALL_KEPT, had))
        return had == 0; /* nobody knows what either reaches */
    if (had < target)
        target = had - REACH_NEAR;
    return price_near(&walk, plan, reached, target) <=
           dearer * price_near(&walk, than, had, target);
}

int plan_make(struct plan *plan, const struct plan_input *input, struct fathom_error *err)
{
    struct sizes sizes = sizes_of(input);
    const struct fathom_open_options *options = input->options;
    const char *path = input->path;
    if (choose(&sizes, plan, options))
        return 0;
    struct plan least = least_plan(&sizes, options);
    if (least.index_bytes == UINT64_MAX)
        return error_set(err, FATHOM_EARGUMENT, "%s: no code of %" PRIu32 " bytes in this index",
                         path, options->code_bytes);
    return error_set(err, FATHOM_EBUDGET,
                     "%s: a DRAM budget of %" PRIu64 " bytes is too small: the least is %" PRIu64
                     " (%" PRIu64 " for the index, %" PRIu64
                     " for %u threads x %u queries in flight); raise --dram-budget or lower "
                     "threads and queries in flight",
                     path, options->dram_budget_bytes, least.index_bytes + least.scratch_bytes,
                     least.index_bytes, least.scratch_bytes, options->threads, options->inflight);
}
