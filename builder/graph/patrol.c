/* In rounds: each member opens its nearest unopened row, and the unseen neighbours of all that was
 * opened are scored for all members, a chunk at a time. It ends when nothing is left to open.
 *
 * A beam is as long as pruning wants candidates, but only its front is opened: on SIFT half of the
 * beam gives the same graph as all of it, for others have opened most of the rest. Candidates of a
 * chunk are collected, then merged into the beam in one pass, which is half the work of inserting
 * each. */
#include "patrol.h"

#include <errno.h>

#include "prune.h"

#define OPENED_START 512

enum { MARK_SCORED = 1, MARK_OPENED = 2 };

static int init_beams(struct patrol *patrol)
{
    for (uint32_t i = 0; i < PATROL_ROWS; i++) {
        patrol->beams[i].keys = mem_alloc_array(patrol->list, sizeof(uint64_t));
        patrol->beams[i].pending = mem_alloc_array(PATROL_CHUNK, sizeof(uint64_t));
        if (!patrol->beams[i].keys || !patrol->beams[i].pending)
            return -ENOMEM;
    }
    return 0;
}

int patrol_init(struct patrol *patrol, const struct graph *graph, const struct rows8 *rows,
                uint32_t list)
{
    *patrol = (struct patrol){.graph = graph,
                              .rows = rows,
                              .list = list,
                              .width = (list + 1) / 2,
                              .opened_room = OPENED_START};
    size_t ids = PATROL_ROWS * (graph->stride > 2 ? graph->stride : 2);
    patrol->limits = mem_alloc_array(PATROL_ROWS, sizeof *patrol->limits);
    patrol->biases = mem_alloc_array(PATROL_ROWS, sizeof *patrol->biases);
    patrol->marks = mem_alloc_array(rows->count / 32 + 1, sizeof *patrol->marks);
    patrol->opened = mem_alloc_array(OPENED_START, sizeof *patrol->opened);
    patrol->panel = mem_alloc_array(PATROL_ROWS, rows->stride);
    patrol->ids = mem_alloc_array(ids, sizeof *patrol->ids);
    patrol->dots = mem_alloc_array((size_t)PATROL_CHUNK * PATROL_ROWS, sizeof *patrol->dots);
    if (patrol->limits && patrol->biases && patrol->marks && patrol->opened && patrol->panel &&
        patrol->ids && patrol->dots && init_beams(patrol) == 0)
        return 0;
    patrol_fini(patrol);
    return -ENOMEM;
}

void patrol_fini(struct patrol *patrol)
{
    for (uint32_t i = 0; i < PATROL_ROWS; i++) {
        mem_free(patrol->beams[i].keys);
        mem_free(patrol->beams[i].pending);
    }
    mem_free(patrol->limits);
    mem_free(patrol->biases);
    mem_free(patrol->marks);
    mem_free(patrol->opened);
    mem_free(patrol->panel);
    mem_free(patrol->ids);
    mem_free(patrol->dots);
    *patrol = (struct patrol){0};
}

/* ---- marks ---- */

static inline unsigned marks_of(const struct patrol *patrol, uint32_t row)
{
    return patrol->marks[row / 32] >> row % 32 * 2 & 3;
}

static inline void mark(struct patrol *patrol, uint32_t row, unsigned marks)
{
    patrol->marks[row / 32] |= (uint64_t)marks << row % 32 * 2;
}

/* Puts a row on the list of those to be scored, unless it has been there. Without a branch: which
 * it is, nobody can predict. */
static inline void want(struct patrol *patrol, uint32_t row)
{
    patrol->ids[patrol->id_count] = row;
    patrol->id_count += !(marks_of(patrol, row) & MARK_SCORED);
    mark(patrol, row, MARK_SCORED);
}

static int note_opened(struct patrol *patrol, uint32_t row)
{
    if (patrol->opened_count == patrol->opened_room) {
        uint32_t *grown = mem_alloc_array(2 * (size_t)patrol->opened_room, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        memcpy(grown, patrol->opened, patrol->opened_count * sizeof *grown);
        mem_free(patrol->opened);
        patrol->opened = grown;
        patrol->opened_room *= 2;
    }
    patrol->opened[patrol->opened_count++] = row;
    mark(patrol, row, MARK_OPENED);
    return 0;
}

/* Every marked row is a member, a start, or in the list of an opened row. */
static void forget_all(struct patrol *patrol, const uint32_t *starts)
{
    for (uint32_t i = 0; i < patrol->member_count; i++)
        patrol->marks[patrol->members[i] / 32] = patrol->marks[starts[i] / 32] = 0;
    for (uint32_t i = 0; i < patrol->opened_count; i++) {
        const uint32_t *list = graph_list(patrol->graph, patrol->opened[i]);
        for (uint32_t j = 1; j <= list[0]; j++)
            patrol->marks[list[j] / 32] = 0;
    }
}

/* ---- beams ---- */

/* Merges the pending keys of a member into its beam, from the back. */
static void settle(struct patrol *patrol, uint32_t member)
{
    struct patrol_beam *beam = &patrol->beams[member];
    uint64_t *keys = beam->keys, *pending = beam->pending;
    uint32_t left = beam->count;
    uint32_t fresh = prune_sort(pending, beam->pending_count, patrol->members[member]);
    beam->pending_count = 0;
    while (left + fresh > patrol->list) {
        if (fresh == 0 || (left > 0 && keys[left - 1] > pending[fresh - 1]))
            left--;
        else
            fresh--;
    }
    uint32_t place = beam->count = left + fresh;
    while (fresh > 0) {
        place--;
        if (left > 0 && keys[left - 1] > pending[fresh - 1])
            keys[place] = keys[--left];
        else
            keys[place] = pending[--fresh];
    }
    beam->next = place < beam->next ? place : beam->next;
    if (beam->count == patrol->list)
        patrol->limits[member] = (int32_t)(keys[beam->count - 1] >> 32);
}

static void score_chunk(struct patrol *patrol, const uint32_t *ids, uint32_t count)
{
    const struct rows8 *rows = patrol->rows;
    const struct kernels *kernels = kernels_get();
    int32_t norms[PATROL_CHUNK];
    uint16_t near[PATROL_CHUNK];
    for (uint32_t i = 0; i < count; i++)
        __builtin_prefetch(&rows->terms[ids[i]]);
    kernels->dot_u8s8_panel(patrol->dots, patrol->panel, rows->bytes, rows->stride, ids, count);
    for (uint32_t i = 0; i < count; i++)
        norms[i] = rows->terms[ids[i]].norm;
    kernels->panel_near(patrol->dots, near, norms, patrol->biases, patrol->limits, count);
    for (uint32_t i = 0; i < count; i++)
        for (unsigned members = near[i]; members; members &= members - 1) {
            unsigned member = (unsigned)__builtin_ctz(members);
            struct patrol_beam *beam = &patrol->beams[member];
            uint32_t distance = (uint32_t)patrol->dots[(size_t)i * PATROL_ROWS + member];
            beam->pending[beam->pending_count++] = prune_key(distance, ids[i]);
        }
    for (uint32_t i = 0; i < patrol->member_count; i++)
        if (patrol->beams[i].pending_count > 0)
            settle(patrol, i);
}

static void score_all(struct patrol *patrol)
{
    for (uint32_t i = 0; i < patrol->id_count; i += PATROL_CHUNK) {
        uint32_t left = patrol->id_count - i;
        score_chunk(patrol, patrol->ids + i, left < PATROL_CHUNK ? left : PATROL_CHUNK);
    }
    patrol->id_count = 0;
}

/* ---- the search ---- */

static void set_members(struct patrol *patrol, const uint32_t *members, uint32_t count)
{
    patrol->members = members;
    patrol->member_count = count;
    rows8_panel(patrol->rows, members, count, patrol->panel);
    for (uint32_t i = 0; i < PATROL_ROWS; i++) {
        patrol->biases[i] = i < count ? patrol->rows->terms[members[i]].bias : 0;
        patrol->limits[i] = i < count ? INT32_MAX : INT32_MIN;
        patrol->beams[i].count = patrol->beams[i].next = patrol->beams[i].pending_count = 0;
    }
}

/* The nearest row of a beam that nobody has opened, or GRAPH_NONE. */
static uint32_t next_unopened(struct patrol *patrol, struct patrol_beam *beam)
{
    uint32_t end = beam->count < patrol->width ? beam->count : patrol->width;
    while (beam->next < end) {
        uint32_t row = (uint32_t)beam->keys[beam->next];
        if (!(marks_of(patrol, row) & MARK_OPENED))
            return row;
        beam->next++;
    }
    return GRAPH_NONE;
}

/* Opens a row for each member that has one, and wants their neighbours. */
static int open_round(struct patrol *patrol)
{
    uint32_t first = patrol->opened_count;
    for (uint32_t i = 0; i < patrol->member_count; i++) {
        uint32_t row = next_unopened(patrol, &patrol->beams[i]);
        if (row == GRAPH_NONE)
            continue;
        int status = note_opened(patrol, row);
        if (status != 0)
            return status;
        const char *list = (const char *)graph_list(patrol->graph, row);
        for (size_t byte = 0; byte < patrol->graph->stride * sizeof(uint32_t); byte += 64)
            __builtin_prefetch(list + byte);
    }
    for (uint32_t i = first; i < patrol->opened_count; i++) {
        const uint32_t *list = graph_list(patrol->graph, patrol->opened[i]);
        for (uint32_t j = 1; j <= list[0]; j++)
            want(patrol, list[j]);
    }
    return 0;
}

int patrol_run(struct patrol *patrol, const uint32_t *members, const uint32_t *starts,
               uint32_t count)
{
    patrol->opened_count = 0;
    set_members(patrol, members, count);
    for (uint32_t i = 0; i < count; i++) {
        want(patrol, members[i]);
        mark(patrol, members[i], MARK_OPENED);
    }
    for (uint32_t i = 0; i < count; i++)
        want(patrol, starts[i]);
    for (uint32_t opened = UINT32_MAX; opened != patrol->opened_count;) {
        score_all(patrol);
        opened = patrol->opened_count;
        int status = open_round(patrol);
        if (status != 0)
            return status; /* the patrol is of no further use */
    }
    forget_all(patrol, starts);
    return 0;
}
