/* The build in batches that double until they are a fiftieth of all rows. The first rows, one in
 * 64, come singly and in random order: they give the graph its far edges. The others come in random
 * order too, but in groups of sixteen that are next to each other in the order on disk, hence near:
 * a patrol searches for all of them at once, at a third of the cost and to the same graph
 * (docs/adr/0009).
 *
 *   search   the rows of a patrol search the graph of the earlier batches; each prunes what was
 *            met to its list
 *   link     the edges of the batch are listed by target, serially and in a fixed order
 *   accept   each target appends its new sources, and prunes when it has more than a slack over R
 *
 * A step reads what the one before has finished and writes lists of its own, so blocks may run in
 * any order on any thread. The patrols of a batch do not see each other; that costs next to nothing
 * at a fiftieth. At the end all lists are pruned to R. */
#include "graph.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "error.h"
#include "large.h"
#include "patrol.h"
#include "prng.h"
#include "prune.h"

#define BATCH_SHARE    50
#define SINGLE_STRETCH 64 /* one row of so many comes singly */
#define ACCEPT_BLOCK   64
#define FINISH_BLOCK   1024
#define LINK_NONE      UINT32_MAX

/* For progress: what follows on the last batch takes about a twelfth of the time, and a row the
 * more the more there are before it, to the power of .2 where it has neighbours in many directions,
 * of 0 where in few (docs/adr/0057). */
#define FINISH_SHARE (1.0 / 12)
#define GROWTH_USUAL 1.15 /* of all that are there */
#define GROWTH_MOST  1.2
#define LID_FEW      8
#define LID_MANY     14

enum insertion { NOT_INSERTED, INSERTED, INSERTING }; /* the last: in this batch */

enum graph_stream { STREAM_INSERT = 0x67726170 };

struct link {
    uint32_t source, next; /* next link to the same target */
};

struct worker {
    struct patrol patrol;
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
    uint32_t *order;       /* rows to insert: the medoid, single rows, groups */
    uint32_t order_count, groups_begin;
    uint8_t *inserted; /* enum insertion, of each row */
    const uint32_t *batch;
    uint32_t batch_count;
    struct link *links;
    uint32_t link_count;
    uint32_t *first_link; /* rows; LINK_NONE outside a batch */
    uint32_t *targets;
    uint32_t target_count;
    struct worker *workers; /* one a thread */
};

static uint32_t degree_slack(uint32_t degree)
{
    return degree + degree * 3 / 10;
}

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
static int search_block(void *context, uint64_t block, unsigned worker_index)
{
    struct vamana *vamana = context;
    struct worker *worker = &vamana->workers[worker_index];
    const uint32_t *members = vamana->batch + block * PATROL_ROWS;
    uint32_t left = vamana->batch_count - (uint32_t)block * PATROL_ROWS;
    uint32_t count = left < PATROL_ROWS ? left : PATROL_ROWS, starts[PATROL_ROWS] = {0};
    for (uint32_t i = 0; i < count; i++)
        starts[i] = nearby_inserted(vamana, members[i]);
    int status = patrol_run(&worker->patrol, members, starts, count);
    for (uint32_t i = 0; i < count && status == 0; i++) {
        struct patrol_beam *beam = &worker->patrol.beams[i];
        uint32_t *list = graph_list(vamana->graph, members[i]);
        list[0] =
            prune_run(&worker->prune, beam->keys, beam->count, vamana->options->degree, list + 1);
    }
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

static bool contains(const uint32_t *ids, uint32_t count, uint32_t row)
{
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] == row)
            return true;
    return false;
}

/* The list of a target and its new sources, to worker->ids. A row of this batch may have chosen a
 * source itself: members of a patrol see each other. */
static uint32_t gather_sources(struct vamana *vamana, struct worker *worker, uint32_t target)
{
    const uint32_t *list = graph_list(vamana->graph, target);
    uint32_t count = list[0], known = vamana->inserted[target] == INSERTING ? count : 0;
    memcpy(worker->ids, list + 1, count * sizeof *list);
    for (uint32_t at = vamana->first_link[target]; at != LINK_NONE; at = vamana->links[at].next)
        if (!contains(list + 1, known, vamana->links[at].source))
            worker->ids[count++] = vamana->links[at].source;
    vamana->first_link[target] = LINK_NONE;
    return count;
}

static int accept_block(void *context, uint64_t block, unsigned worker_index)
{
    struct vamana *vamana = context;
    struct worker *worker = &vamana->workers[worker_index];
    uint32_t begin = (uint32_t)block * ACCEPT_BLOCK;
    for (uint32_t i = begin; i < begin + ACCEPT_BLOCK && i < vamana->target_count; i++) {
        uint32_t target = vamana->targets[i];
        uint32_t count = gather_sources(vamana, worker, target);
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

static void shuffle(struct prng *prng, uint32_t *order, uint32_t count, uint32_t group)
{
    for (uint32_t i = count / group; i > 1; i--) {
        uint32_t *a = order + (size_t)(i - 1) * group;
        uint32_t *b = order + (size_t)prng_below(prng, i) * group;
        for (uint32_t j = 0; j < group; j++) {
            uint32_t kept = a[j];
            a[j] = b[j];
            b[j] = kept;
        }
    }
}

/* The medoid, then all other rows that begin a run of equal rows: a random one of each stretch, and
 * in groups those that are left. */
static void choose_order(struct vamana *vamana)
{
    uint32_t medoid = vamana->graph->entries[0], single = 0, count = 0, singles;
    uint32_t *others = vamana->first_link; /* free until the first batch */
    for (uint32_t row = 0; row < vamana->rows->count; row = graph_run_end(vamana->rows, row))
        if (row != medoid)
            others[count++] = row;
    struct prng prng;
    prng_init(&prng, vamana->options->seed, STREAM_INSERT);
    singles = (count + SINGLE_STRETCH - 1) / SINGLE_STRETCH;
    uint32_t *order = vamana->order, *groups = order + 1 + singles;
    order[0] = medoid;
    for (uint32_t i = 0; i < count; i++) {
        if (i % SINGLE_STRETCH == 0) {
            uint32_t left = count - i < SINGLE_STRETCH ? count - i : SINGLE_STRETCH;
            single = i + prng_below(&prng, left);
        }
        if (i == single)
            order[1 + i / SINGLE_STRETCH] = others[i];
        else
            *groups++ = others[i];
    }
    vamana->order_count = count + 1;
    vamana->groups_begin = 1 + singles;
    shuffle(&prng, order + 1, singles, 1);
    shuffle(&prng, order + 1 + singles, count - singles, PATROL_ROWS);
    memset(vamana->first_link, 0xff, vamana->rows->count * sizeof *vamana->first_link);
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
    /* In the order of rows, so that searches that follow each other share what they touch; groups
     * stay whole. */
    qsort(vamana->order + begin, count, sizeof *vamana->order, compare_rows);
    vamana->batch = vamana->order + begin;
    vamana->batch_count = count;
    int status = crew_run(vamana->crew, crew_blocks(count, PATROL_ROWS), search_block, vamana);
    if (status != 0)
        return status;
    link_batch(vamana);
    for (uint32_t i = 0; i < count; i++)
        vamana->inserted[vamana->batch[i]] = INSERTING;
    status = crew_run(vamana->crew, crew_blocks(vamana->target_count, ACCEPT_BLOCK), accept_block,
                      vamana);
    for (uint32_t i = 0; i < count; i++)
        vamana->inserted[vamana->batch[i]] = INSERTED;
    return status;
}

/* As many as are there already, up to the most; single rows or whole groups. */
static uint32_t batch_size(const struct vamana *vamana, uint32_t done)
{
    uint32_t most = batch_max(vamana), count = done < most ? done : most;
    uint32_t end = done < vamana->groups_begin ? vamana->groups_begin : vamana->order_count;
    if (count >= end - done)
        return end - done;
    return done < vamana->groups_begin || count < PATROL_ROWS ? count
                                                              : count / PATROL_ROWS * PATROL_ROWS;
}

static int save(const struct vamana *vamana, uint32_t done, struct fathom_error *err)
{
    const struct graph_options *options = vamana->options;
    return options->save ? options->save(options->save_context, vamana->graph, done, err) : 0;
}

static double growth_of(double lid)
{
    double many = (lid - LID_FEW) / (LID_MANY - LID_FEW);
    return lid > 0 ? 1 + (GROWTH_MOST - 1) * fmin(1, fmax(0, many)) : GROWTH_USUAL;
}

/* By the time that so many of the rows take. */
static void advance(const struct vamana *vamana, uint32_t done)
{
    double growth = growth_of(vamana->options->lid);
    double share = pow((double)done / vamana->order_count, growth) * (1 - FINISH_SHARE);
    crew_advance(vamana->crew, (uint64_t)(share * vamana->rows->count));
}

/* Rows are inserted in batches of the same sizes, whether or not all of them are in this run. */
static int insert_all(struct vamana *vamana, struct fathom_error *err)
{
    uint32_t before = vamana->options->done;
    for (uint32_t i = 0; i < before; i++)
        vamana->inserted[vamana->order[i]] = INSERTED;
    vamana->inserted[vamana->order[0]] = INSERTED;
    for (uint32_t done = before ? before : 1, count; done < vamana->order_count; done += count) {
        count = batch_size(vamana, done);
        int status = insert_batch(vamana, done, count);
        if (status == 0)
            status = save(vamana, done + count, err);
        if (status != 0)
            return status;
        advance(vamana, done + count);
    }
    return 0;
}

static int finish_all(struct vamana *vamana)
{
    return crew_run(vamana->crew, crew_blocks(vamana->rows->count, FINISH_BLOCK), finish_block,
                    vamana);
}

static void vamana_fini(struct vamana *vamana)
{
    for (unsigned w = 0; w < vamana->crew->threads && vamana->workers; w++) {
        patrol_fini(&vamana->workers[w].patrol);
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
        prune_init(&worker->prune, vamana->rows, vamana->options->alpha, vamana->options->degree) !=
            0)
        return -ENOMEM;
    return patrol_init(&worker->patrol, vamana->graph, vamana->rows, vamana->options->list);
}

static int vamana_init(struct vamana *vamana)
{
    uint32_t rows = vamana->rows->count;
    size_t links = (size_t)batch_max(vamana) * vamana->options->degree;
    vamana->order = mem_alloc_array(rows, sizeof *vamana->order);
    vamana->inserted = mem_alloc(rows);
    vamana->first_link = large_alloc_array(rows, sizeof *vamana->first_link);
    vamana->links = large_alloc_array(links, sizeof *vamana->links);
    vamana->targets = mem_alloc_array(links, sizeof *vamana->targets);
    vamana->workers = mem_alloc_array(vamana->crew->threads, sizeof *vamana->workers);
    if (!vamana->order || !vamana->inserted || !vamana->first_link || !vamana->links ||
        !vamana->targets || !vamana->workers)
        return -ENOMEM;
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

int graph_init(struct graph *out, uint32_t rows, uint32_t degree)
{
    *out = (struct graph){.rows = rows, .degree_max = degree};
    out->stride = size_round_up(degree_slack(degree) + 1, MEM_ALIGN / sizeof(uint32_t));
    out->lists = large_alloc_array(rows, out->stride * sizeof *out->lists);
    return out->lists ? 0 : -ENOMEM;
}

int graph_build(struct graph *out, const struct crew *crew, const struct rows8 *rows,
                const uint32_t *cell_first, uint32_t cell_count,
                const struct graph_options *options, struct fathom_error *err)
{
    struct vamana vamana = {.crew = crew, .rows = rows, .options = options, .graph = out};
    struct fathom_error why = {0};
    vamana.degree_slack = degree_slack(options->degree);
    int status = 0;
    if (options->done == 0)
        status = graph_init(out, rows->count, options->degree);
    if (status == 0 && options->done == 0)
        status = graph_choose_entries(out, crew, rows, cell_first, cell_count);
    if (status == 0)
        status = vamana_init(&vamana);
    if (status == 0) {
        choose_order(&vamana);
        status = insert_all(&vamana, &why);
    }
    if (status == 0)
        status = finish_all(&vamana);
    if (status == 0)
        status = complete(&vamana);
    if (status == 0)
        status = save(&vamana, GRAPH_DONE, &why);
    vamana_fini(&vamana);
    crew_advance(crew, rows->count);
    if (status != 0) {
        graph_fini(out);
        return error_set(err, status, "graph: %s", why.msg[0] ? why.msg : fathom_strerror(status));
    }
    return 0;
}

void graph_fini(struct graph *graph)
{
    mem_free(graph->lists);
    *graph = (struct graph){0};
}
