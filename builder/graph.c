/* The build in batches. Rows are inserted in random order, in batches that double until they are a
 * fiftieth of all rows.
 *
 *   search   each row of a batch searches the graph of the earlier batches; it prunes what it met
 *            to its list
 *   link     the edges of the batch are listed by target, serially and in a fixed order
 *   accept   each target appends its new sources, and prunes when it has more than a slack over R
 *
 * A step reads what the one before has finished and writes lists of its own, so blocks may run in
 * any order on any thread. The rows of a batch do not see each other; that costs next to nothing at
 * a fiftieth. At the end all lists are pruned to R. */
#include "graph.h"

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "prng.h"
#include "prune.h"
#include "scout.h"

#define BATCH_SHARE  50
#define SEARCH_BLOCK 32
#define ACCEPT_BLOCK 64
#define FINISH_BLOCK 1024
#define LINK_NONE    UINT32_MAX

enum graph_stream { STREAM_INSERT = 0x67726170 };

struct link {
    uint32_t source, next; /* next link to the same target */
};

struct worker {
    struct scout scout;
    struct prune prune;
    uint32_t *ids; /* of one target: its list and its sources */
    uint64_t *keys;
};

struct vamana {
    const struct crew *crew;
    const struct rows8 *rows;
    const struct graph_options *options;
    struct graph *graph;
    uint32_t degree_slack; /* lists may grow to this between prunes */
    uint32_t *order;       /* rows to insert */
    uint32_t order_count;
    uint8_t *inserted; /* 1 for rows of earlier batches */
    const uint32_t *batch;
    uint32_t batch_count;
    struct link *links;
    uint32_t link_count;
    uint32_t *first_link; /* rows; LINK_NONE outside a batch */
    uint32_t *targets;
    uint32_t target_count;
    struct worker *workers; /* one a thread */
};

/* ---- search ---- */

/* The inserted row next to this one in the order on disk, hence near it. The medoid is one. */
static uint32_t nearby_inserted(const struct vamana *vamana, uint32_t row)
{
    for (uint32_t away = 1;; away++) {
        if (away <= row && vamana->inserted[row - away])
            return row - away;
        if (away < vamana->rows->count - row && vamana->inserted[row + away])
            return row + away;
    }
}

/* Starting near its end, a search takes a fifth less than from the medoid, and the graph is none
 * the worse: far edges come from the first batches, when near rows were far. */
static int search_row(struct vamana *vamana, struct worker *worker, uint32_t row)
{
    struct scout *scout = &worker->scout;
    uint32_t start = nearby_inserted(vamana, row);
    int status = scout_run(scout, rows8_at(vamana->rows, row), &start, 1);
    if (status != 0)
        return status;
    uint32_t *list = graph_list(vamana->graph, row);
    uint32_t count = prune_sort(scout->path, scout->path_count, row);
    list[0] = prune_run(&worker->prune, scout->path, count, vamana->options->degree, list + 1);
    return 0;
}

static int search_block(void *context, uint64_t block, unsigned worker)
{
    struct vamana *vamana = context;
    uint32_t begin = (uint32_t)block * SEARCH_BLOCK;
    int status = 0;
    for (uint32_t i = begin; i < begin + SEARCH_BLOCK && i < vamana->batch_count && status == 0;
         i++)
        status = search_row(vamana, &vamana->workers[worker], vamana->batch[i]);
    return status;
}

/* ---- link ---- */

/* Backwards, so that each target meets its sources in rising order. */
static void link_batch(struct vamana *vamana)
{
    vamana->link_count = vamana->target_count = 0;
    for (uint32_t i = vamana->batch_count; i-- > 0;) {
        const uint32_t *list = graph_list(vamana->graph, vamana->batch[i]);
        for (uint32_t j = 1; j <= list[0]; j++) {
            uint32_t target = list[j];
            if (vamana->first_link[target] == LINK_NONE)
                vamana->targets[vamana->target_count++] = target;
            vamana->links[vamana->link_count] =
                (struct link){vamana->batch[i], vamana->first_link[target]};
            vamana->first_link[target] = vamana->link_count++;
        }
    }
}

/* ---- accept ---- */

/* Sets the list of row to ids, pruned to R when they are more than room. */
static void set_list(struct vamana *vamana, struct worker *worker, uint32_t row,
                     const uint32_t *ids, uint32_t count, uint32_t room)
{
    uint32_t *list = graph_list(vamana->graph, row);
    if (count <= room) {
        memmove(list + 1, ids, count * sizeof *ids);
        list[0] = count;
        return;
    }
    prune_keys(&worker->prune, row, ids, count, worker->keys);
    count = prune_sort(worker->keys, count, row);
    list[0] = prune_run(&worker->prune, worker->keys, count, vamana->options->degree, list + 1);
}

static int accept_block(void *context, uint64_t block, unsigned worker_index)
{
    struct vamana *vamana = context;
    struct worker *worker = &vamana->workers[worker_index];
    uint32_t begin = (uint32_t)block * ACCEPT_BLOCK;
    for (uint32_t i = begin; i < begin + ACCEPT_BLOCK && i < vamana->target_count; i++) {
        uint32_t target = vamana->targets[i];
        const uint32_t *list = graph_list(vamana->graph, target);
        uint32_t count = list[0];
        memcpy(worker->ids, list + 1, count * sizeof *list);
        for (uint32_t at = vamana->first_link[target]; at != LINK_NONE; at = vamana->links[at].next)
            worker->ids[count++] = vamana->links[at].source;
        vamana->first_link[target] = LINK_NONE;
        set_list(vamana, worker, target, worker->ids, count, vamana->degree_slack);
    }
    return 0;
}

static int finish_block(void *context, uint64_t block, unsigned worker_index)
{
    struct vamana *vamana = context;
    struct worker *worker = &vamana->workers[worker_index];
    uint64_t begin = block * FINISH_BLOCK;
    for (uint64_t row = begin; row < begin + FINISH_BLOCK && row < vamana->rows->count; row++) {
        uint32_t *list = graph_list(vamana->graph, (uint32_t)row);
        memcpy(worker->ids, list + 1, list[0] * sizeof *list);
        set_list(vamana, worker, (uint32_t)row, worker->ids, list[0], vamana->options->degree);
    }
    return 0;
}

/* ---- the whole ---- */

/* The medoid, then all other rows that begin a run of equal rows, in random order. */
static void choose_order(struct vamana *vamana)
{
    uint32_t medoid = vamana->graph->entries[0];
    vamana->order[vamana->order_count++] = medoid;
    for (uint32_t row = 0; row < vamana->rows->count; row = graph_run_end(vamana->rows, row))
        if (row != medoid)
            vamana->order[vamana->order_count++] = row;
    struct prng prng;
    prng_init(&prng, vamana->options->seed, STREAM_INSERT);
    for (uint32_t i = vamana->order_count - 1; i > 1; i--) {
        uint32_t other = 1 + prng_below(&prng, i), kept = vamana->order[i];
        vamana->order[i] = vamana->order[other];
        vamana->order[other] = kept;
    }
}

static uint32_t batch_max(const struct vamana *vamana)
{
    uint32_t most = vamana->rows->count / BATCH_SHARE;
    return most < 1 ? 1 : most;
}

static int compare_rows(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int insert_batch(struct vamana *vamana, uint32_t begin, uint32_t count)
{
    /* In the order of rows, so that searches that follow each other share what they touch. */
    qsort(vamana->order + begin, count, sizeof *vamana->order, compare_rows);
    vamana->batch = vamana->order + begin;
    vamana->batch_count = count;
    int status = crew_run(vamana->crew, crew_blocks(count, SEARCH_BLOCK), search_block, vamana);
    if (status != 0)
        return status;
    link_batch(vamana);
    for (uint32_t i = 0; i < count; i++)
        vamana->inserted[vamana->batch[i]] = 1;
    return crew_run(vamana->crew, crew_blocks(vamana->target_count, ACCEPT_BLOCK), accept_block,
                    vamana);
}

static int insert_all(struct vamana *vamana)
{
    uint32_t most = batch_max(vamana);
    vamana->inserted[vamana->order[0]] = 1;
    for (uint32_t done = 1, count; done < vamana->order_count; done += count) {
        count = done < most ? done : most;
        if (count > vamana->order_count - done)
            count = vamana->order_count - done;
        int status = insert_batch(vamana, done, count);
        if (status != 0)
            return status;
        crew_advance(vamana->crew, done + count);
    }
    return crew_run(vamana->crew, crew_blocks(vamana->rows->count, FINISH_BLOCK), finish_block,
                    vamana);
}

static void vamana_fini(struct vamana *vamana)
{
    for (unsigned w = 0; w < vamana->crew->threads && vamana->workers; w++) {
        scout_fini(&vamana->workers[w].scout);
        prune_fini(&vamana->workers[w].prune);
        mem_free(vamana->workers[w].ids);
        mem_free(vamana->workers[w].keys);
    }
    mem_free(vamana->workers);
    mem_free(vamana->order);
    mem_free(vamana->inserted);
    mem_free(vamana->links);
    mem_free(vamana->first_link);
    mem_free(vamana->targets);
}

static int worker_init(struct vamana *vamana, struct worker *worker)
{
    size_t most = (size_t)batch_max(vamana) + vamana->degree_slack;
    worker->ids = mem_alloc_array(most, sizeof *worker->ids);
    worker->keys = mem_alloc_array(most, sizeof *worker->keys);
    if (!worker->ids || !worker->keys ||
        prune_init(&worker->prune, vamana->rows, vamana->options->alpha) != 0)
        return -ENOMEM;
    return scout_init(&worker->scout, vamana->graph, vamana->rows, vamana->options->list);
}

static int vamana_init(struct vamana *vamana)
{
    uint32_t rows = vamana->rows->count;
    size_t links = (size_t)batch_max(vamana) * vamana->options->degree;
    vamana->order = mem_alloc_array(rows, sizeof *vamana->order);
    vamana->inserted = mem_alloc(rows);
    vamana->first_link = mem_alloc_array(rows, sizeof *vamana->first_link);
    vamana->links = mem_alloc_array(links, sizeof *vamana->links);
    vamana->targets = mem_alloc_array(links, sizeof *vamana->targets);
    vamana->workers = mem_alloc_array(vamana->crew->threads, sizeof *vamana->workers);
    if (!vamana->order || !vamana->inserted || !vamana->first_link || !vamana->links ||
        !vamana->targets || !vamana->workers)
        return -ENOMEM;
    memset(vamana->first_link, 0xff, rows * sizeof *vamana->first_link);
    int status = 0;
    for (unsigned w = 0; w < vamana->crew->threads && status == 0; w++)
        status = worker_init(vamana, &vamana->workers[w]);
    return status;
}

/* What is not searched for: equal rows, and rows that no search would find. */
static int complete(struct vamana *vamana)
{
    const struct rows8 *rows = vamana->rows;
    for (uint32_t row = 0; row < rows->count;) {
        uint32_t end = graph_run_end(rows, row);
        if (end > row + 1)
            graph_hang_run(vamana->graph, row, end);
        row = end;
    }
    return graph_connect(vamana->graph, rows, vamana->options->list);
}

int graph_build(struct graph *out, const struct crew *crew, const struct rows8 *rows,
                const uint32_t *cell_first, uint32_t cell_count,
                const struct graph_options *options, struct fathom_error *err)
{
    struct vamana vamana = {.crew = crew, .rows = rows, .options = options, .graph = out};
    vamana.degree_slack = options->degree + options->degree * 3 / 10;
    *out = (struct graph){.rows = rows->count, .degree_max = options->degree};
    out->stride = size_round_up(vamana.degree_slack + 1, MEM_ALIGN / sizeof(uint32_t));
    out->lists = mem_alloc_array(rows->count, out->stride * sizeof *out->lists);
    int status =
        out->lists ? graph_choose_entries(out, crew, rows, cell_first, cell_count) : -ENOMEM;
    if (status == 0)
        status = vamana_init(&vamana);
    if (status == 0) {
        choose_order(&vamana);
        status = insert_all(&vamana);
    }
    if (status == 0)
        status = complete(&vamana);
    vamana_fini(&vamana);
    if (status != 0) {
        graph_fini(out);
        return error_set(err, status, "graph: %s", fathom_strerror(status));
    }
    return 0;
}

void graph_fini(struct graph *graph)
{
    mem_free(graph->lists);
    *graph = (struct graph){0};
}
