/* Navigators: from a query to candidates with estimated distances and error bounds. The cells, and
 * the graph while all lists are resident, touch memory only and run from start to end without
 * waiting, in scratch that belongs to the engine. Where lists are read from SSD the graph walks in
 * steps, between which it waits for pages; then each query has a navigator of its own, with room
 * for the pages that came (graph.c). */
#ifndef SEARCH_NAVIGATE_H
#define SEARCH_NAVIGATE_H

#include "index.h"
#include "pool.h"
#include "visited.h"

struct candidate {
    float estimate; /* squared distance, row units */
    float sigma;    /* its standard error */
    uint32_t row;
};

#define CELLS_PER_SEARCH_LIST 4 /* cells scanned for each unit of search list */
#define SCAN_RANKED_MORE                                                                           \
    256 /* where codes are read twice as many are looked at, up to so many more */

static inline uint32_t scan_cells_of(uint32_t search_list, uint32_t cells)
{
    uint64_t wanted = (uint64_t)search_list * CELLS_PER_SEARCH_LIST;
    return wanted < cells ? (uint32_t)wanted : cells;
}

/* A scan of pages of codes looks at more cells than it is for (scan.c): */
static inline uint32_t scan_cells_ranked(uint32_t search_list, uint32_t cells)
{
    uint64_t wanted = scan_cells_of(search_list, cells),
             ranked = wanted + (wanted < SCAN_RANKED_MORE ? wanted : SCAN_RANKED_MORE);
    return ranked < cells ? (uint32_t)ranked : cells;
}
/* reads no more pages than this, */
uint32_t scan_pages_most(uint32_t search_list, const struct properties *p);
/* and weighs no more than this, counting those twice that two cells lie on. */
uint32_t scan_pages_weighed(uint32_t search_list, const struct properties *p);

#define BASE_CACHE        1024 /* cells whose |q - c|^2 is remembered while the graph is walked */
#define SCORE_BATCH       512
#define JOINED_CODES      32  /* whole codes put together at a time */
#define LOOKED_AT         2   /* candidates of a first look for each of a query's */
#define NAVIGATOR_BUCKETS 512 /* of the sort of cells by distance */
#define CLUMP_ROWS        64  /* lows, and steps, of clumps of cells that are scored at a time */
#define RANK_SPARE(wanted)                                                                         \
    (2 * (uint64_t)(wanted) + CENTROIDS_CLUMP) /* cells among the nearest so far, at the most */

/* Pages of lists that a walk keeps, those on their way included: near rows lie on the same page, so
 * one often serves several expansions. */
#define LIST_PAGES_KEPT 16
#define BEAM_MAX        4 /* pages on their way at the same time */

enum list_page_state { LIST_PAGE_EMPTY, LIST_PAGE_WANTED, LIST_PAGE_READING, LIST_PAGE_HERE };

struct list_page {
    uint32_t number; /* counted from the first of section lists */
    uint32_t used;   /* at which hop */
    enum list_page_state state;
};

struct navigator {
    /* the query, prepared */
    float *work, *units, *rotated;
    int8_t *code_hi, *code_lo;
    struct planes_query planes;
    struct planes_query coarse;
    uint8_t *tables; /* of coarse */
    /* the graph */
    struct pool pool;
    struct visited visited;
    uint32_t *ids; /* a batch of rows, their cells, and those of which the base is not known yet */
    uint32_t *cells, *missing;
    float *scores, *estimates;
    struct kernel_score8 *row_scores;
    struct {
        uint32_t cell;
        float base;
    } * base_cache;
    struct list_page list_pages[LIST_PAGES_KEPT];
    uint8_t *list_payloads; /* of those, LIST_PAYLOAD_BYTES each; NULL: all lists are resident */
    /* the cells */
    int16_t *weights;     /* of the query, whole */
    uint8_t *joined;      /* JOINED_CODES whole codes */
    float *cell_distance; /* of those that were measured */
    uint32_t *cell_order, *bucket;
    float *clump_low, *clump_middle;
    uint32_t *clump_order;
    union {
        uint32_t *cell_spare;
        float *spare_distance;
    };
    float *kept_estimates; /* of the scan */
    uint32_t *kept_rows;
    /* refine: pages by hash; scan: pages in the order of the file. Where cells were ranked and rows
     * were kept, or the graph was walked: then that is over. */
    struct page_slot {
        uint32_t page; /* counted as in query->pages; by hash: and 1, 0 is free */
        float gain;
        uint32_t chosen;
    } * page_slots;
    uint32_t page_mask; /* of those in use */
    float tail[80];     /* upper tail of the Gaussian at i / 16 */

    void *memory;
    uint64_t memory_bytes;
    struct navigator_capacity {
        uint32_t work_dim, cells, degree;
        uint32_t ranked;      /* of the cells */
        uint32_t search_list; /* of walks; 0: nobody walks */
        uint32_t looked_at;   /* rows kept of a first look at codes in memory; 0: nobody looks */
        uint32_t candidates, list_pages;
        uint32_t weighed; /* pages of codes; 0: none are read */
    } capacity;
};

#define LIST_PAYLOAD_BYTES (PAGE_PAYLOAD + LISTS_SLACK)

struct query;

/* Entries of the visited set for a search list; a power of two. */
uint32_t navigator_visited_slots(uint32_t search_list, uint32_t degree);
/* Page slots for so many candidates; a power of two. */
uint32_t navigator_page_slots(uint32_t candidates);
uint64_t navigator_memory_bytes(struct navigator_capacity capacity);
/* Replaces the scratch by one of this capacity. 0 or -ENOMEM (then the old one stays). */
int navigator_reserve(struct navigator *navigator,
                      struct navigator_capacity capacity) FATHOM_MUST_USE;
void navigator_fini(struct navigator *navigator);

/* Prepares the query's forms for this index: work space, row units, rotated weights. */
void navigator_prepare(struct navigator *navigator, struct query *query);

/* Estimates for count (<= SCORE_BATCH) rows into estimates. */
void navigate_estimate(struct navigator *navigator, const struct query *query, const uint32_t *rows,
                       uint32_t count, float *estimates);
/* A record's distance from its score. */
static inline float record_distance(const struct row8_query *query,
                                    const struct fathom_index *index,
                                    const struct kernel_score8 *score, const uint8_t *record)
{
    bool exact = index->properties.records_exact;
    if (exact)
        return row8_distance(query, score);
    return row8_record_distance(query, score,
                                row8_record_scale(record, index->properties.work_dim, exact));
}

/* Its standard error; 0 where records are the vectors. */
float record_sigma(const struct fathom_index *index, const uint8_t *record, float distance);

/* The standard error of a row's estimate. */
float navigate_row_sigma(const struct fathom_index *index, uint32_t row,
                         float estimate); /* from resident 8-bit rows */
float navigate_sigma(struct navigator *navigator, const struct query *query, uint32_t row,
                     float estimate);

/* Fills query->candidates (unordered) and the navigation part of its stats. */
void cells_navigate(struct navigator *navigator, struct query *query);

/* scan.c: the same where codes are read. scan_start chooses pages, scores those in memory, and
 * wants the others: query->pages. scan_page takes one of them; scan_end: all have come, the
 * candidates are put in order. */
void scan_start(struct navigator *navigator, struct query *query);
void scan_page(struct navigator *navigator, struct query *query, uint32_t page,
               const uint8_t *payload);
void scan_end(struct query *query);

/* rank.c: the wanted (1 to all) nearest cells into cell_order, nearest first, up to a bucket's
 * width, and their distances into cell_distance. Returns how many there are: wanted. Of many cells
 * a few that are among the nearest may be missed. */
uint32_t rank_nearest(struct navigator *navigator, const struct query *query, uint32_t wanted);
/* Those of its search list, by scan_cells_of or scan_cells_ranked; longer for an unusual query. */
uint32_t rank_for_list(struct navigator *navigator, struct query *query,
                       uint32_t (*cells_of)(uint32_t search_list, uint32_t cells));
/* Clumps of so many cells; 0: all cells are measured, and need no order. */
uint32_t rank_ordered_clumps(uint32_t cells);

/* The same in steps. graph_step walks until it is over, which is true, or needs a list that is not
 * there: then up to beam pages are wanted or on their way. What it finds does not depend on beam,
 * nor on the order in which pages come: rows are expanded strictly in the order of their estimates,
 * and what beam asks for ahead of its turn only waits. */
void graph_start(struct navigator *navigator, struct query *query);
bool graph_step(struct navigator *navigator, struct query *query, uint32_t beam);
/* Once it is over: from the start again, with the pages that have come and those on their way. */
void graph_restart(struct navigator *navigator, struct query *query);
/* The estimate of the nearest row found. */
static inline float graph_nearest(const struct navigator *navigator)
{
    return navigator->pool.estimates[0];
}
/* Takes the payload of list page i (of navigator->list_pages), which was LIST_PAGE_READING. */
void graph_page(struct navigator *navigator, uint32_t i, const uint8_t *payload);

#endif
