/* One query as a state machine, free of I/O: query_begin navigates and says which pages it wants,
 * query_page takes one page that has arrived and been checked, query_next says what follows when
 * all have. Where lists or codes are on SSD too, navigating goes on with query_list_page or
 * query_code_page. The engine moves pages; nothing here waits.
 *
 * Distances inside are squared and in row units (codec/row8.h); order is by (distance, row), a
 * total order, so that results do not depend on the order in which pages arrive. */
#ifndef SEARCH_QUERY_H
#define SEARCH_QUERY_H

#include "index.h"
#include "navigate.h"
#include "pages.h"
#include "runs.h"

enum query_phase {
    QUERY_FREE,
    QUERY_WALK,     /* pages of lists, which the graph cannot go on without */
    QUERY_SCAN,     /* pages of codes, those that are worth most */
    QUERY_REFINE,   /* pages of rows whose place in the result is in doubt */
    QUERY_EXACT,    /* pages of full vectors: of all results, or of those still in doubt */
    QUERY_IDS,      /* pages of ids of the results, where these are not in memory */
    QUERY_DONE,     /* results are ready */
    QUERY_RETURNED, /* handed to the caller; free at its next call */
};

/* A result: key orders, distance is what the user sees. */
struct hit {
    float key;
    uint32_t row;
    float distance;
    float sigma; /* standard error of key; 0: distance comes from the full vector */
};

/* Where codes are read: a cell some of whose rows are scored. */
struct scan_cell {
    uint32_t cell;
    union {
        float distance;
        float worth; /* of its rows, while pages are chosen */
    };
};

struct query {
    enum query_phase phase;
    const struct fathom_index *index;
    void *user;
    uint32_t k;    /* results wanted */
    uint32_t keep; /* hits kept: query_keep_max, when they are re-ranked by exact distances */
    uint32_t search_list;
    uint32_t excluded; /* a row that is searched for without being found, or ROW_NONE */
    const struct query_probe *probe; /* NULL unless operating points are measured */
    bool exact_distances, cancelled;
    bool rerank;    /* by full vectors, where 8-bit rows leave the result in doubt */
    bool may_widen; /* its search list is an operating point's, which speaks for usual queries */
    uint64_t deadline_ns;
    float refine_threshold;

    double norm_sq;    /* of the query, in user space */
    double work_scale; /* what its work-space form is multiplied by; 1 unless ip */
    struct row8_query row8;
    float *vector;   /* dim floats, user space */
    int8_t *hi, *lo; /* of row8 */
    struct candidate *candidates;
    uint32_t candidate_count, candidate_limit;
    struct hit *hits; /* a max-heap by (key, row) while it is filled, sorted at the end */
    uint32_t hit_count;
    uint32_t *pages; /* wanted, each once, in the order of the file: see query_page_at */
    uint32_t page_count, pages_issued, pages_done;
    struct navigator own;          /* where lists are read from SSD; kept from query to query */
    int64_t own_borrowed;          /* bytes of it that the index's budget lent */
    uint32_t navigation_reads_out; /* of lists or codes on their way */
    uint32_t row_reads_out;        /* of rows, vectors or ids likewise */
    struct scan_cell *scan_cells;  /* in the order of the file */
    uint32_t scan_cell_count;
    float scan_threshold; /* candidates beyond it are not kept */
    struct planes_query scan_planes;
    int8_t *scan_hi, *scan_lo; /* of those */
    uint64_t *ids;             /* of the result */
    float *distances;
    float *scratch; /* work_dim floats, where candidates were */

    int status;
    char detail[256]; /* of a failure */
    uint64_t started_ns;
    struct fathom_query_stats stats;

    void *memory; /* one block behind the pointers above */
    uint64_t memory_bytes;
    struct query_capacity {
        uint32_t dim, k, candidates;
        uint32_t cells, pages; /* of a scan; 0 where codes are in memory */
    } capacity;
    int64_t borrowed; /* bytes beyond the reserved size, taken from the index's budget */
};

/* What plans reserve for a slot; larger queries grow their slot and give it back. */
#define QUERY_RESERVED_K          128
#define QUERY_RESERVED_CANDIDATES 1024

/* Where codes are read no more candidates are kept than are meant to be (scan.c). */
static inline uint32_t query_reserved_candidates(bool scan_reads)
{
    return scan_reads ? QUERY_RESERVED_CANDIDATES / 2 : QUERY_RESERVED_CANDIDATES;
}

/* Where codes are read: a search list of 128. */
#define QUERY_RESERVED_SCAN 128
static inline struct query_capacity query_reserved(const struct properties *p, bool scan_reads)
{
    return (struct query_capacity){
        .dim = p->dim,
        .k = QUERY_RESERVED_K,
        .candidates = query_reserved_candidates(scan_reads),
        .cells = scan_reads ? scan_cells_ranked(QUERY_RESERVED_SCAN, p->cells) : 0,
        .pages = scan_reads ? scan_pages_most(QUERY_RESERVED_SCAN, p) : 0};
}

/* Hits beyond k that are re-ranked by exact distances, at least. */
#define QUERY_EXACT_MARGIN 8
static inline uint32_t query_keep_max(uint32_t k)
{
    return k + k / 4 + QUERY_EXACT_MARGIN;
}

/* Bytes of a slot's block at a capacity. */
uint64_t query_memory_bytes(struct query_capacity capacity);
/* Makes room for a query: grows or shrinks the block. 0, -ENOMEM or FATHOM_EBUDGET. */
int query_reserve(struct query *query, const struct fathom_index *index,
                  struct query_capacity capacity) FATHOM_MUST_USE;
/* What a large query has borrowed goes back to the budget at once; a standard block stays. */
void query_unreserve(struct query *query, const struct fathom_index *index);
void query_release(struct query *query);

/* Checks a request against an index. */
int query_check(const struct fathom_index *index, const struct fathom_query *request,
                struct fathom_error *err) FATHOM_MUST_USE;
/* The shortest search list for k: below it there is nothing beyond the result to refine against.
 * For cells as many cells do, each of which has many rows. */
static inline uint32_t query_least_list(enum fathom_navigator navigator, uint32_t k)
{
    uint32_t rows = k + k / 2;
    return navigator == FATHOM_NAVIGATOR_CELLS
               ? (rows + CELLS_PER_SEARCH_LIST - 1) / CELLS_PER_SEARCH_LIST
               : rows;
}

/* Results that a request's search list makes the navigator keep. */
uint32_t query_candidates(const struct fathom_index *index, uint32_t search_list, uint32_t k);

/* A query whose nearest is distance away, in row units, where usual is usual: when it is unlike
 * what its operating point was measured on, its search list grows, as far as its memory and the
 * navigator's go (docs/adr/0071). True: it has grown, and navigating begins again. */
bool query_widen(struct query *query, const struct navigator *navigator, float distance,
                 float usual);

/* Navigates, on the calling thread, and fills in the pages wanted: of lists (in navigator, which
 * must be query->own then), or of rows. Needs query_reserve first. beam: see graph_step. */
int query_begin(struct query *query, struct navigator *navigator,
                const struct fathom_query *request, uint32_t beam) FATHOM_MUST_USE;
/* Takes the payload of page i of query->own.list_pages and walks on. Returns the query's status. */
int query_list_page(struct query *query, uint32_t i, const uint8_t *payload,
                    uint32_t beam) FATHOM_MUST_USE;
/* Takes the payload of wanted page i, of codes: the last one leads to refining. */
void query_code_page(struct query *query, struct navigator *navigator, uint32_t i,
                     const uint8_t *payload);
/* The section that the current phase reads, and how many pages of it go together. */
const struct section *query_section(const struct query *query);
static inline uint32_t query_span(const struct query *query)
{
    const struct section *section = query_section(query);
    return section->row_bytes ? section->pages_per_row : 1;
}
/* The place of the page, or pages, of a row. */
static inline uint32_t query_place(const struct section *section, uint32_t row)
{
    return section->rows_per_page ? row / section->rows_per_page : row;
}
/* Where wanted page i is in the file: places count from the first page of the section, those of a
 * row that spans pages as one, so that 32 bits do. */
static inline uint64_t query_page_at(const struct query *query, uint32_t i)
{
    return query_section(query)->first_page + (uint64_t)query->pages[i] * query_span(query);
}
/* How its pages are read together. */
static inline struct run_limits query_runs(const struct query *query)
{
    const struct page_arena *arena = query->index->arena;
    return !arena->together                       ? runs_small
           : arena->slice_pages < RUN_BUFFERS_FEW ? runs_few
                                                  : runs_large;
}
/* Takes the payload of wanted page i (of query_span pages). scores:
 * QUERY_PAGE_BATCH. */
#define QUERY_PAGE_BATCH 256
void query_page(struct query *query, uint32_t i, const uint8_t *payload,
                struct kernel_score8 *scores);
/* All wanted pages are in: goes to the next phase, which may want pages again. */
void query_next(struct query *query, struct navigator *navigator);

/* Whether it will weigh pages in navigator's scratch. */
static inline bool query_next_weighs(const struct query *query)
{
    return query->phase == QUERY_REFINE && query->rerank;
}

/* refine.c: fills query->pages from the candidates, and moves what is certain to the hits. */
void refine_choose(struct query *query, struct navigator *navigator);
/* The same for hits and full vectors: the pages whose hits are in doubt, by the rounding of 8-bit
 * rows above all. Overwrites the candidates. */
void refine_choose_vectors(struct query *query, struct navigator *navigator);
/* Its first half: how much of the result hangs on each page of the candidates, in navigator's page
 * slots. False: nothing would be read, whatever the threshold. */
#define REFINE_DEFAULT_THRESHOLD 0.06f
bool refine_weigh(struct query *query, struct navigator *navigator);
/* Of the threshold: pages of less gain are not thought about. */
#define REFINE_LEAST_GAIN 0.125f
/* Pages that might be read at a threshold or a higher one into query->pages, in the order of the
 * file. */
void refine_list(struct query *query, const struct navigator *navigator, float threshold);
/* Its second half: the pages worth reading at a threshold into query->pages, their slots chosen; of
 * those that refine_list has found at a threshold that is no higher, if it has; and what they cost
 * the device, in reads of one page into small page buffers. */
void refine_pick(struct query *query, const struct navigator *navigator, float threshold);
void refine_pick_of(struct query *query, const struct navigator *navigator, float threshold,
                    const uint32_t *pages, uint32_t count);
float refine_price(const struct query *query);
/* The slot of the page of a candidate's row, after refine_weigh. */
struct page_slot *refine_page_of(const struct query *query, const struct navigator *navigator,
                                 uint32_t row);

/* Of count pages in query->pages: those that are wanted, each once, in the order of the file. */
void query_sort_pages(struct query *query, uint32_t count);
void hits_push(struct query *query, struct hit hit);
/* By key, then by row: no heap any more. */
void hits_sort(struct query *query);
/* A squared distance in row units, as users see it. */
float query_user_distance(const struct query *query, double key);

#endif
