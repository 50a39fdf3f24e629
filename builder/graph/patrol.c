/* In rounds: each member opens its nearest unopened row, and the unseen neighbours of all that was
 * opened are scored for all members, a chunk at a time. It ends when nothing is left to open.
 *
 * A beam is as long as pruning wants candidates, but only its front is opened: on SIFT half of the
 * beam gives the same graph as all of it, for others have opened most of the rest. So only the
 * front is in order while the search goes on. What is behind lies as it came, with room for some
 * more than a beam holds; when that is full, the farthest go, and where they begin is what the beam
 * still takes. A row comes to be scored once, so that keys are never equal. */
#include "patrol.h"

#include <errno.h>

#include "keys.h"
#include "prune.h"

#define SEEN_START 4096 /* rows, at the least; more are some times as many as a round adds */
#define SPARE      64   /* keys behind the front that are one too many before the farthest go */

enum { MARK_SCORED = 1, MARK_OPENED = 2 };

static int init_beams(struct patrol *patrol)
{
    for (uint32_t i = 0; i < PATROL_ROWS; i++) {
        patrol->beams[i].keys = mem_alloc_array(patrol->list + SPARE, sizeof(uint64_t));
        if (!patrol->beams[i].keys)
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
                              .round_ids =
                                  PATROL_ROWS * (uint32_t)(graph->stride > 2 ? graph->stride : 2)};
    patrol->id_room = patrol->round_ids > SEEN_START ? patrol->round_ids : SEEN_START;
    patrol->limits = mem_alloc_array(PATROL_ROWS, sizeof *patrol->limits);
    patrol->biases = mem_alloc_array(PATROL_ROWS, sizeof *patrol->biases);
    patrol->marks = mem_alloc_array(rows->count / 32 + 1, sizeof *patrol->marks);
    patrol->panel = mem_alloc_array(PATROL_ROWS, rows->stride);
    patrol->ids = mem_alloc_array(patrol->id_room, sizeof *patrol->ids);
    patrol->dots = mem_alloc_array((size_t)PATROL_CHUNK * PATROL_ROWS, sizeof *patrol->dots);
    if (patrol->limits && patrol->biases && patrol->marks && patrol->panel && patrol->ids &&
        patrol->dots && init_beams(patrol) == 0)
        return 0;
    patrol_fini(patrol);
    return -ENOMEM;
}

void patrol_fini(struct patrol *patrol)
{
    for (uint32_t i = 0; i < PATROL_ROWS; i++)
        mem_free(patrol->beams[i].keys);
    mem_free(patrol->limits);
    mem_free(patrol->biases);
    mem_free(patrol->marks);
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

/* For all that a round may want. */
static int make_room(struct patrol *patrol)
{
    if (patrol->id_room - patrol->id_count >= patrol->round_ids)
        return 0;
    uint32_t room = 2 * patrol->id_room + patrol->round_ids;
    uint32_t *grown = mem_alloc_array(room, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    memcpy(grown, patrol->ids, patrol->id_count * sizeof *grown);
    mem_free(patrol->ids);
    patrol->ids = grown;
    patrol->id_room = room;
    return 0;
}

static void forget_all(struct patrol *patrol)
{
    for (uint32_t i = 0; i < patrol->id_count; i++)
        patrol->marks[patrol->ids[i] / 32] = 0;
    patrol->id_count = patrol->scored_count = 0;
}

/* ---- beams ---- */

/* Leaves the nearest that the beam has room for. */
static void drop_farthest(struct patrol *patrol, uint32_t member)
{
    struct patrol_beam *beam = &patrol->beams[member];
    uint64_t *behind = beam->keys + patrol->width, farthest = 0;
    uint32_t least = patrol->list - patrol->width;
    keys_least(behind, beam->count - patrol->width, least);
    for (uint32_t i = 0; i < least; i++)
        farthest = behind[i] > farthest ? behind[i] : farthest;
    beam->count = patrol->list;
    patrol->limits[member] = (int32_t)(farthest >> 32);
}

/* The place in the front before which keys are less. Which half it is in, nobody can predict. */
static inline uint32_t place_of(const uint64_t *keys, uint32_t count, uint64_t key)
{
    size_t from = 0;
    while (count > 0) {
        uint32_t half = (count + 1) / 2;
        from += half & -(uint32_t)(keys[from + half - 1] < key);
        count -= half;
    }
    return (uint32_t)from;
}

static void take(struct patrol *patrol, uint32_t member, uint64_t key)
{
    struct patrol_beam *beam = &patrol->beams[member];
    uint64_t *keys = beam->keys;
    uint32_t front = beam->count < patrol->width ? beam->count : patrol->width;
    if (front == patrol->width && key > keys[front - 1]) {
        keys[beam->count++] = key;
    } else {
        uint32_t place = place_of(keys, front, key);
        keys[beam->count++] =
            keys[front - (front == patrol->width)]; /* the last leaves the front */
        front -= front == patrol->width;
        memmove(keys + place + 1, keys + place, (front - place) * sizeof *keys);
        keys[place] = key;
        beam->next = place < beam->next ? place : beam->next;
    }
    if (beam->count == patrol->list + SPARE)
        drop_farthest(patrol, member);
}

/* Puts all of a beam in order, as it is handed out. */
static void finish_beam(struct patrol *patrol, uint32_t member)
{
    struct patrol_beam *beam = &patrol->beams[member];
    if (beam->count > patrol->list)
        drop_farthest(patrol, member);
    if (beam->count > patrol->width)
        keys_sort(beam->keys + patrol->width, beam->count - patrol->width);
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
            uint32_t distance = (uint32_t)patrol->dots[(size_t)i * PATROL_ROWS + member];
            if (ids[i] != patrol->members[member])
                take(patrol, member, prune_key(distance, ids[i]));
        }
}

static void score_all(struct patrol *patrol)
{
    while (patrol->scored_count < patrol->id_count) {
        uint32_t left = patrol->id_count - patrol->scored_count,
                 count = left < PATROL_CHUNK ? left : PATROL_CHUNK;
        score_chunk(patrol, patrol->ids + patrol->scored_count, count);
        patrol->scored_count += count;
    }
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
        patrol->beams[i].count = patrol->beams[i].next = 0;
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

/* Opens a row for each member that has one, and wants their neighbours. Returns how many. */
static uint32_t open_round(struct patrol *patrol)
{
    uint32_t opened[PATROL_ROWS], count = 0;
    for (uint32_t i = 0; i < patrol->member_count; i++) {
        uint32_t row = next_unopened(patrol, &patrol->beams[i]);
        if (row == GRAPH_NONE)
            continue;
        opened[count++] = row;
        mark(patrol, row, MARK_OPENED);
        const char *list = (const char *)graph_list(patrol->graph, row);
        for (size_t byte = 0; byte < patrol->graph->stride * sizeof(uint32_t); byte += 64)
            __builtin_prefetch(list + byte);
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t *list = graph_list(patrol->graph, opened[i]);
        for (uint32_t j = 1; j <= list[0]; j++)
            want(patrol, list[j]);
    }
    return count;
}

int patrol_run(struct patrol *patrol, const uint32_t *members, const uint32_t *starts,
               uint32_t count)
{
    set_members(patrol, members, count);
    for (uint32_t i = 0; i < count; i++) {
        want(patrol, members[i]);
        mark(patrol, members[i], MARK_OPENED);
    }
    for (uint32_t i = 0; i < count; i++)
        want(patrol, starts[i]);
    do {
        int status = make_room(patrol);
        if (status != 0)
            return status; /* the patrol is of no further use */
        score_all(patrol);
    } while (open_round(patrol) > 0);
    for (uint32_t i = 0; i < count; i++)
        finish_beam(patrol, i);
    forget_all(patrol);
    return 0;
}
