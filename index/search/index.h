/* An opened index: what is resident, and where the rest is. Immutable after open, shared by all
 * engines; the budget's slack is the one atomic. */
#ifndef SEARCH_INDEX_H
#define SEARCH_INDEX_H

#include <stdatomic.h>

#include "centroids.h"
#include "coarse.h"
#include "format.h"
#include "lists.h"
#include "points.h"

#define DIRECTORY_BLOCK 32 /* rows that share an offset in the list directory */

/* What the planner decided for a budget. */
struct plan {
    enum fathom_navigator navigator;
    bool rows8;         /* the 8-bit rows are resident, instead of codes */
    uint32_t level;     /* of the codes, when not rows8 */
    uint32_t hot_ranks; /* lists of so many ranks of heat are resident; FORMAT_HEAT_RANKS: all */
    bool scan_reads;    /* cells: codes lie on SSD, but for those of scan_pages pages */
    uint64_t scan_pages;
    bool ids_read; /* with scan_reads: ids lie on SSD, and those of a result are read at its end */
    uint64_t index_bytes, scratch_bytes;
};

/* Parts of the ledger. */
enum part {
    PART_CODES,
    PART_LISTS,
    PART_DIRECTORY,
    PART_IDS,
    PART_CELLS,
    PART_ENTRIES,
    PART_MODEL,
    PART_FIXED,
    PART_COUNT
};

/* Neighbour lists in memory, and where each begins: an offset per block of rows plus a length per
 * row, 0 for lists that are not resident. Those lie in the pages of section lists. */
struct list_store {
    const uint8_t *bytes;
    const uint64_t *block_offset;
    const uint8_t *length8; /* one of the two, as the format says; none when no list is resident */
    const uint16_t *length16;
    const uint32_t *page_first; /* first row of each page and of the end; NULL: all are resident */
    uint32_t page_count;
};

/* Codes as the cells scan them. Rows come in blocks of KERNEL_LANES, of which the bytes of a
 * shorter level lie sliced, for a first look at all rows of a cell; the other bytes of the codes
 * follow row by row, plane after plane. */
struct coarse_codes {
    struct planes_level level; /* of the first look */
    struct coarse_weights weights;
    const uint16_t *units; /* level.code_bytes of the model's order */
    const uint8_t *blocks; /* blocks of rows x level.code_bytes x KERNEL_LANES */
    const uint8_t *rest;   /* rows x rest_bytes */
    uint32_t rest_bytes;   /* 0: the first look sees all of the code */
    const void *factors;   /* rows, of the first look */
};

/* Centroids as they lie in the file (rank.c); |c|^2 - |low|^2 of each, low that of its clump; and
 * the same of the middle of each clump, where clumps are ordered. */
struct cell_ranks {
    struct centroids centroids;
    const float *excess;
    const float *middle; /* rank_ordered_clumps */
};

/* Pages of section scan in memory: resident of them, in clumps spread evenly over all, so that
 * every query finds its share there. */
struct scan_store {
    const struct section *section;
    const uint8_t *payloads; /* resident x PAGE_PAYLOAD */
    uint64_t resident;
};

struct fathom_index {
    atomic_uint references;
    struct index_file file;
    struct properties properties;
    const struct section *records, *vectors; /* vectors is NULL when records are exact */
    const struct section *list_section, *id_section;
    struct plan plan;
    struct fathom_open_options options;
    struct model model;
    struct planes_level level; /* of the resident codes */
    struct kernel_codes codes_plan;
    const uint8_t *sentinel;
    const uint8_t *codes;       /* graph: rows x level.code_bytes, plane-major; or NULL */
    struct coarse_codes coarse; /* cells */
    struct scan_store scan;     /* cells, where the plan reads codes */
    const void *factors;        /* rows, packed in level.factor_bytes each */
    const uint8_t *rows8;       /* rows x records->row_bytes; or NULL */
    struct list_store lists;
    uint64_t resident_lists;       /* rows whose list is in memory */
    const uint8_t *centroids;      /* cells x work_dim, with codes and the graph */
    struct cell_ranks ranks;       /* cells navigator */
    const uint32_t *cell_first;    /* cells + 1 */
    const uint32_t *cell_of_block; /* the cell of each block's first row; NULL with scan_reads */
    unsigned cell_block_bits;      /* rows of such a block: 1 << this */
    const uint8_t *ids;            /* packed; NULL where the plan reads them */
    const uint32_t *entries;
    const struct operating_point *points; /* of this residency; NULL when there are none */
    uint32_t point_count;
    uint32_t level_count;
    uint32_t level_bytes[PLANES_LEVELS_MAX]; /* the code sizes that this index offers */
    uint32_t scan_code_bytes;                /* of these, that of section scan */
    struct page_arena *arena;                /* page buffers of its engines */
    float row_noise; /* error of a distance from a record of scale 1, as a factor of the distance's
                        root */
    uint64_t part_bytes[PART_COUNT];
    void *memory[24]; /* every resident array, for close: 22 at the most */
    unsigned memory_count;
    atomic_int_least64_t
        slack; /* bytes of the budget that are still free; INT64_MAX without a budget */
};

/* fathom_index_open through any env: tests put faults behind it. */
int index_open_with(struct fathom_index **out, const struct env *env, const char *dir,
                    const struct fathom_open_options *options,
                    struct fathom_error *err) FATHOM_MUST_USE;
/* The same for a file of any name: the builder measures before it publishes, a file that it has
 * just written and reads many times, so what of it is in the page cache comes from there. Loading,
 * and whatever is streamed later, ends when stop says so; it outlives the index. */
int index_open_file(struct fathom_index **out, const struct env *env, const char *path,
                    const struct fathom_open_options *options, const struct format_stop *stop,
                    struct fathom_error *err) FATHOM_MUST_USE;
/* fathom_index_outlook likewise. */
int index_outlook_file(const struct env *env, const char *path,
                       const struct fathom_open_options *options, struct fathom_outlook *out,
                       struct fathom_error *err) FATHOM_MUST_USE;
/* fathom_engine_create likewise (engine.c). */
int engine_create_with(struct fathom_engine **out, const struct env *env,
                       const struct fathom_engine_options *options,
                       struct fathom_error *err) FATHOM_MUST_USE;

/* fathom_engine_submit for measuring recall on the index's own rows: navigates as if a row were not
 * in the index, and shows the candidates to who measures instead of refining them. The result is
 * empty; the probe must stay until it has come. */
#define ROW_NONE UINT32_MAX
struct query;
struct navigator;
struct query_probe {
    uint32_t row; /* left out */
    void (*take)(void *context, struct query *query, struct navigator *navigator);
    void *context;
};
int engine_submit_probe(struct fathom_engine *engine, const struct fathom_index *index,
                        const struct fathom_query *request, const struct query_probe *probe,
                        struct fathom_error *err) FATHOM_MUST_USE;

/* Takes bytes of the budget for an engine's growth, or refuses. Give back with a negative number.
 */
bool index_take_budget(const struct fathom_index *index, int64_t bytes);

/* index.c: how to search for k at a target recall, by the operating points of what is resident. */
struct operating_choice index_choose(const struct fathom_index *index, uint32_t k, float target,
                                     enum fathom_rerank rerank);

#define PLAN_K 10 /* plans are compared, and their recall is told, for so many results */

/* plan.c: chooses navigator and residency for options, or says the least budget that would do. */
struct plan_input {
    const struct superblock *super;
    const struct model *model;
    const struct operating_point *points; /* all that there are */
    uint32_t point_count;
    const struct fathom_open_options *options;
    const char *path;
};
int plan_make(struct plan *plan, const struct plan_input *input,
              struct fathom_error *err) FATHOM_MUST_USE;

/* Whether a plan reaches, of the recall that counts, as much as another, at no more than so many
 * times its price. */
bool plan_is_as_good(const struct plan_input *input, const struct plan *plan,
                     const struct plan *than, double dearer);

/* plan_engines.c: the options with the queries in flight and page buffers of each engine: of those
 * that are there, or as asked for, or as many as a budget is well spent on. And with as few as a
 * budget may come to, from which the least budget follows. */
struct fathom_open_options plan_engines(const struct plan_input *input);
struct fathom_open_options plan_engines_least(const struct plan_input *input);

/* Whose operating points speak for a plan; full: the whole model. */
struct points_residency plan_residency(const struct plan *plan, const struct planes_model *full,
                                       uint32_t code_bytes);

/* What queries cost under a plan; code_bytes 0: the 8-bit rows are resident. */
struct points_cost plan_cost(const struct plan *plan, const struct superblock *super,
                             uint32_t code_bytes);

/* The cheapest plan that the options allow; index_bytes is UINT64_MAX when they allow none. */
struct plan plan_least(const struct plan_input *input);

/* residency.c: what residency_load would load. */
int residency_outlook(struct fathom_index *index, struct fathom_outlook *out,
                      struct fathom_error *err) FATHOM_MUST_USE;

/* residency.c: loads what the plan says. On failure what was loaded stays in memory[] for index
 * close. */
int residency_load(struct fathom_index *index, struct fathom_error *err) FATHOM_MUST_USE;

/* index.c: the page buffers of those that will search the index, or that search already what it is
 * to replace. They come before all that is loaded, since more is taken while they are made than
 * they keep. Counted whether the system has them to give or not. 0 or -ENOMEM. */
int index_make_arena(struct fathom_index *index, struct fathom_error *err) FATHOM_MUST_USE;
/* What loading may hold for a while, twice: it takes the place of what queries will need, half of
 * the scratch that the plan reserves for them and that is not there yet. */
uint64_t index_loading_bytes(const struct fathom_index *index);

/* Takes memory for a resident array into the ledger; freed by close. NULL, with err set, when there
 * is none. */
void *residency_take(struct fathom_index *index, enum part part, uint64_t bytes,
                     struct fathom_error *err);

/* codes.c: loads the codes of the plan's level in the navigator's layout, and their factors. */
int codes_load(struct fathom_index *index, const struct planes_model *full,
               struct fathom_error *err) FATHOM_MUST_USE;
/* What that takes. */
uint64_t codes_part_bytes(const struct properties *properties, const struct planes_model *model,
                          const struct plan *plan);
/* Puts together the codes of rows, plane-major and one behind the other, from sliced codes. Writes
 * up to CODES_JOIN_SLACK bytes behind the last. */
#define CODES_JOIN_SLACK 16
void codes_join(const struct fathom_index *index, const uint32_t *rows, uint32_t count,
                uint8_t *codes);

/* rank.c: loads centroids for the cells navigator into index->ranks, or as rows for the graph. */
int rank_load(struct fathom_index *index, struct fathom_error *err) FATHOM_MUST_USE;
int rank_load_rows(struct fathom_index *index, struct fathom_error *err) FATHOM_MUST_USE;
/* What that takes. */
uint64_t rank_part_bytes(const struct properties *properties, enum fathom_navigator navigator);

/* The graph asks for the cells of all rows that it meets, the cells for those of candidates: blocks
 * of the cell map are of 32 rows or 256. */
static inline unsigned cell_block_bits(enum fathom_navigator navigator)
{
    return navigator == FATHOM_NAVIGATOR_GRAPH ? 5 : 8;
}

/* scan.c: loads the pages of section scan that the plan makes resident; and what that takes. */
int scan_load(struct fathom_index *index, struct fathom_error *err) FATHOM_MUST_USE;
uint64_t scan_part_bytes(const struct plan *plan);

/* The cell that holds a row. */
static inline uint32_t index_cell_of(const struct fathom_index *index, uint32_t row)
{
    uint32_t cell = index->cell_of_block[row >> index->cell_block_bits];
    while (index->cell_first[cell + 1] <= row)
        cell++;
    return cell;
}

/* The bytes of a row's list; NULL when it is not resident. */
const uint8_t *index_list(const struct fathom_index *index, uint32_t row, size_t *bytes);
void index_list_prefetch(const struct fathom_index *index, uint32_t row);
/* The page of section lists, counted from its first, that holds a row's list, and the list in the
 * payload of that page; NULL when the page was written wrong. */
uint32_t index_list_page(const struct fathom_index *index, uint32_t row);
const uint8_t *index_list_in_page(const struct fathom_index *index, uint32_t page,
                                  const uint8_t *payload, uint32_t row, size_t *bytes);

/* engine.c: what one engine of inflight queries keeps for an index beside page buffers, at the
 * sizes that plans reserve. Those that wait for lists have a navigator each, those that wait for
 * codes a list of cells. */
enum query_waits { WAITS_FOR_ROWS, WAITS_FOR_LISTS, WAITS_FOR_CODES };
uint64_t engine_scratch_bytes(const struct properties *properties, unsigned inflight,
                              unsigned page_buffers, enum query_waits waits);
bool engine_page_buffers_valid(unsigned page_buffers);
/* As many as an engine has of so many unless it is told: fewer under a small budget (0: none). And
 * what each takes. */
unsigned engine_page_buffers(unsigned engines, unsigned inflight, uint64_t budget_bytes);
uint64_t engine_page_buffer_bytes(void);
/* And the page buffers of all engines: of each by itself, or in an arena. */
uint64_t engine_buffer_bytes(unsigned engines, unsigned inflight, unsigned page_buffers);
/* See page_arena_create. */
int engine_arena_create(struct page_arena **out, const struct env *env, unsigned engines,
                        unsigned inflight, unsigned page_buffers, bool may_cut) FATHOM_MUST_USE;

#endif
