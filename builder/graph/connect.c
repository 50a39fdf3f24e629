/* Every row must be reachable from the first entry, whatever the data: equal rows, islands, fewer
 * rows than R.
 *
 * Rows that equal the row before them would fill lists and beams without leading anywhere, and
 * pruning keeps hardly an edge between them. So only the first row of such a run is inserted; the
 * rest hang below it in a tree of small fan-out. Then a walk from the entry marks what it reaches,
 * and each row that it missed gets an edge from a near reached row. Edges of the walk's tree are
 * never taken away, so that what is reached stays reached. */
#include <errno.h>

#include "graph.h"
#include "scout.h"

#define UNREACHED UINT32_MAX

/* ---- runs of equal rows ---- */

uint32_t graph_run_end(const struct rows8 *rows, uint32_t row)
{
    uint32_t end = row + 1;
    while (end < rows->count && memcmp(rows8_at(rows, row), rows8_at(rows, end), rows->dim) == 0)
        end++;
    return end;
}

uint32_t graph_run_fanout(uint32_t degree)
{
    return degree / 8 > 1 ? degree / 8 : 1;
}

/* Children of the i-th row of a run are number fanout * i + 1 and those behind it; each row but the
 * first points to its parent too. The first row gives up its last, that is farthest, neighbours for
 * its children. */
void graph_hang_run(struct graph *graph, uint32_t begin, uint32_t end)
{
    uint32_t fanout = graph_run_fanout(graph->degree_max), count = end - begin;
    uint32_t *head = graph_list(graph, begin);
    if (head[0] > graph->degree_max - fanout)
        head[0] = graph->degree_max - fanout;
    for (uint32_t i = 1; i < count; i++) {
        uint32_t parent = begin + (i - 1) / fanout;
        uint32_t *above = graph_list(graph, parent), *list = graph_list(graph, begin + i);
        above[++above[0]] = begin + i;
        list[++list[0]] = parent;
    }
}

/* ---- reachability ---- */

struct walk {
    struct graph *graph;
    uint32_t *parent; /* in the walk's tree; UNREACHED, or itself for the entry */
    uint32_t *queue;
    uint32_t head, tail;
};

static void reach(struct walk *walk, uint32_t row, uint32_t parent)
{
    walk->parent[row] = parent;
    walk->queue[walk->tail++] = row;
}

/* Follows edges from all that is queued. */
static void walk_on(struct walk *walk)
{
    while (walk->head < walk->tail) {
        uint32_t row = walk->queue[walk->head++];
        const uint32_t *list = graph_list(walk->graph, row);
        for (uint32_t i = 1; i <= list[0]; i++)
            if (walk->parent[list[i]] == UNREACHED)
                reach(walk, list[i], row);
    }
}

/* Gives from an edge to row, in a free place or in that of its last edge outside the tree. False
 * when it has neither. */
static bool add_edge(struct walk *walk, uint32_t from, uint32_t row)
{
    uint32_t *list = graph_list(walk->graph, from);
    uint32_t place = 0;
    if (list[0] < walk->graph->degree_max)
        place = ++list[0];
    for (uint32_t i = list[0]; place == 0 && i > 0; i--)
        if (walk->parent[list[i]] != from)
            place = i;
    if (place == 0)
        return false;
    list[place] = row;
    reach(walk, row, from);
    return true;
}

/* An edge to row from the nearest reached row that can take one. One always can: a tree has fewer
 * edges than rows. */
static int attach(struct walk *walk, struct scout *scout, const struct rows8 *rows, uint32_t row)
{
    int status = scout_run(scout, rows8_at(rows, row), walk->graph->entries, 1);
    if (status != 0)
        return status;
    for (uint32_t i = 0; i < scout->beam_count; i++)
        if (add_edge(walk, (uint32_t)scout->beam[i], row))
            return 0;
    for (uint32_t i = 0; i < walk->tail; i++)
        if (add_edge(walk, walk->queue[i], row))
            return 0;
    return FATHOM_ECORRUPT;
}

int graph_connect(struct graph *graph, const struct rows8 *rows, uint32_t list)
{
    struct walk walk = {.graph = graph};
    struct scout scout;
    int status = scout_init(&scout, graph, rows, list);
    if (status != 0)
        return status;
    walk.parent = mem_alloc_array(rows->count, sizeof *walk.parent);
    walk.queue = mem_alloc_array(rows->count, sizeof *walk.queue);
    if (walk.parent && walk.queue) {
        memset(walk.parent, 0xff, rows->count * sizeof *walk.parent);
        reach(&walk, graph->entries[0], graph->entries[0]);
        walk_on(&walk);
        for (uint32_t row = 0; row < rows->count && status == 0; row++) {
            if (walk.parent[row] != UNREACHED)
                continue;
            status = attach(&walk, &scout, rows, row);
            walk_on(&walk);
        }
    } else {
        status = -ENOMEM;
    }
    mem_free(walk.parent);
    mem_free(walk.queue);
    scout_fini(&scout);
    return status;
}
