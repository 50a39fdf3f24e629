/* What falls away as lists are merged could cut a row off. So passes through the merged lists mark
 * what the entries reach, until no more is found; a row that was missed gets an edge from one of
 * its own neighbours, or, where none of those is reached either, from the row that lies nearest to
 * it in the order, and the marking begins again. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "error.h"
#include "merge.h"

#define REPAIR_ROUNDS 32

static const char reached_name[] = "reached";

enum reach_step { REACH_MARK, REACH_REPAIR, REACH_ATTACH, REACH_DONE };

/* As it is saved, but for the marks and the repairs. */
struct reach_state {
    struct merge_place place; /* of the pass */
    uint64_t found;           /* in this pass: rows that are marked, or repaired */
    uint64_t missed;          /* rows that were not reached when their turn came */
    uint32_t step, round;     /* enum reach_step */
    uint32_t repair_count, repaired;
};

struct reach {
    struct merge *merge;
    uint64_t *marks; /* a bit a row */
    struct reach_state state;
};

static size_t marks_bytes(const struct reach *reach)
{
    return (reach->merge->parts->rows / 64 + 1) * sizeof *reach->marks;
}

static bool is_marked(const struct reach *reach, uint32_t row)
{
    return reach->marks[row / 64] >> row % 64 & 1;
}

static void mark(struct reach *reach, uint32_t row)
{
    reach->marks[row / 64] |= UINT64_C(1) << row % 64;
}

/* ---- what a pass does ---- */

static int mark_list(void *context, const struct merge_place *place, uint32_t heat, uint32_t *list,
                     struct fathom_error *err)
{
    (void)heat;
    (void)err;
    struct reach *reach = context;
    if (!is_marked(reach, place->row)) {
        reach->state.missed++;
        return 0;
    }
    for (uint32_t i = 1; i <= list[0]; i++) {
        if (!is_marked(reach, list[i])) {
            mark(reach, list[i]);
            reach->state.found++;
        }
    }
    return 0;
}

static int room_for_repairs(struct merge *merge, uint32_t room)
{
    struct repair *grown = mem_alloc_array(room, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    if (merge->repair_count)
        memcpy(grown, merge->repairs, merge->repair_count * sizeof *grown);
    mem_free(merge->repairs);
    merge->repairs = grown;
    merge->repair_room = room;
    return 0;
}

static int add_repair(struct merge *merge, uint32_t from, uint32_t row)
{
    if (merge->repair_count == merge->repair_room &&
        room_for_repairs(merge, merge->repair_room ? 2 * merge->repair_room : 256) != 0)
        return -ENOMEM;
    merge->repairs[merge->repair_count++] = (struct repair){from, row};
    return 0;
}

/* Near numbers are near rows. The entries are marked, so there is one. */
static uint32_t nearest_marked(const struct reach *reach, uint32_t row)
{
    for (uint32_t below = row; below-- > 0;)
        if (is_marked(reach, below))
            return below;
    while (!is_marked(reach, row))
        row++;
    return row;
}

/* An edge back from a reached neighbour. What is reached only through the row follows in the same
 * pass, or in the next. */
static int repair_list(void *context, const struct merge_place *place, uint32_t heat,
                       uint32_t *list, struct fathom_error *err)
{
    (void)heat;
    struct reach *reach = context;
    uint32_t from = UINT32_MAX, row = place->row;
    for (uint32_t i = 1; i <= list[0] && !is_marked(reach, row); i++)
        if (from == UINT32_MAX && is_marked(reach, list[i]))
            from = list[i];
    if (from == UINT32_MAX && reach->state.step == REACH_ATTACH && !is_marked(reach, row))
        from = nearest_marked(reach, row);
    if (from != UINT32_MAX) {
        if (add_repair(reach->merge, from, row) != 0)
            return error_set(err, -ENOMEM, "graph: no memory to repair lists");
        mark(reach, row);
        reach->state.found++;
    }
    for (uint32_t i = 1; i <= list[0] && is_marked(reach, row); i++)
        mark(reach, list[i]);
    return 0;
}

static int compare_repairs(const void *a, const void *b)
{
    const struct repair *x = a, *y = b;
    if (x->from != y->from)
        return x->from < y->from ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* In order, each once: a repair that found no place is asked for again. Lists have them from now
 * on. */
static void sort_repairs(struct merge *merge)
{
    uint32_t kept = 0;
    qsort(merge->repairs, merge->repair_count, sizeof *merge->repairs, compare_repairs);
    for (uint32_t i = 0; i < merge->repair_count; i++)
        if (kept == 0 || compare_repairs(&merge->repairs[kept - 1], &merge->repairs[i]) != 0)
            merge->repairs[kept++] = merge->repairs[i];
    merge->repair_count = merge->repaired = kept;
}

/* ---- how far it is ---- */

static int save(struct reach *reach, struct fathom_error *err)
{
    const struct merge *merge = reach->merge;
    struct checkpoint *checkpoint = merge->parts->checkpoint;
    struct work_writer *writer;
    reach->state.repair_count = merge->repair_count;
    reach->state.repaired = merge->repaired;
    int status = work_create(&writer, &checkpoint->work, reached_name, err);
    if (status != 0)
        return status;
    status = work_append(writer, &reach->state, sizeof reach->state, err);
    if (status == 0)
        status =
            work_append(writer, merge->repairs, merge->repair_count * sizeof *merge->repairs, err);
    if (status == 0 && reach->state.step != REACH_DONE)
        status = work_append(writer, reach->marks, marks_bytes(reach), err);
    return checkpoint_finish(checkpoint, writer, status, 0, 0, err);
}

static int keep(void *context, const struct merge_place *next, struct fathom_error *err)
{
    struct reach *reach = context;
    if (!checkpoint_due(reach->merge->parts->checkpoint, marks_bytes(reach)))
        return 0;
    reach->state.place = *next;
    return save(reach, err);
}

static bool is_state(const struct reach *reach, uint64_t bytes)
{
    const struct reach_state *state = &reach->state;
    uint64_t marks = state->step == REACH_DONE ? 0 : marks_bytes(reach);
    return state->step <= REACH_DONE && state->round < REPAIR_ROUNDS &&
           state->place.row <= reach->merge->parts->rows &&
           state->repaired <= state->repair_count &&
           bytes == sizeof *state + state->repair_count * sizeof(struct repair) + marks;
}

static int read_state(struct reach *reach, struct work_file *file, struct fathom_error *err)
{
    struct merge *merge = reach->merge;
    struct reach_state *state = &reach->state;
    int status = work_next(file, state, sizeof *state, err);
    if (status == 0 && !is_state(reach, work_bytes(file)))
        status = checkpoint_malformed(reached_name, err);
    if (status == 0 && state->repair_count)
        status =
            room_for_repairs(merge, state->repair_count) == 0
                ? work_next(file, merge->repairs, state->repair_count * sizeof *merge->repairs, err)
                : error_set(err, -ENOMEM, "graph: no memory to repair lists");
    if (status == 0 && state->step != REACH_DONE)
        status = work_next(file, reach->marks, marks_bytes(reach), err);
    if (status != 0)
        return status;
    merge->repair_count = state->repair_count;
    merge->repaired = state->repaired;
    return 0;
}

static int load(struct reach *reach, struct fathom_error *err)
{
    struct checkpoint *checkpoint = reach->merge->parts->checkpoint;
    struct work_file *file;
    int status = work_open(&file, &checkpoint->work, reached_name, err);
    if (status == 0) {
        status = read_state(reach, file, err);
        work_close(file);
    }
    return status == 0 ? 1 : checkpoint_unusable(checkpoint, reached_name, status, err);
}

/* ---- the whole ---- */

static void begin_pass(struct reach *reach, enum reach_step step)
{
    reach->state.step = step;
    reach->state.place = merge_begin();
    reach->state.found = 0;
    if (step == REACH_MARK)
        reach->state.missed = 0;
}

static void begin_marking(struct reach *reach)
{
    const struct parts *parts = reach->merge->parts;
    memset(reach->marks, 0, marks_bytes(reach));
    for (uint32_t i = 0; i < parts->entry_count; i++)
        mark(reach, parts->entries[i]);
    begin_pass(reach, REACH_MARK);
}

/* What follows on a pass. */
static int next_step(struct reach *reach, struct fathom_error *err)
{
    struct reach_state *state = &reach->state;
    if (state->step == REACH_MARK) {
        bool more = state->found > 0;
        if (!more && state->missed == 0)
            begin_pass(reach, REACH_DONE);
        else
            begin_pass(reach, more ? REACH_MARK : REACH_REPAIR);
        return 0;
    }
    if (state->round + 1 == REPAIR_ROUNDS)
        return error_set(err, FATHOM_EARGUMENT,
                         "graph: %" PRIu64 " row%s cannot be reached by lists so short; raise "
                         "--degree, or --memory-budget for a graph in fewer parts",
                         state->missed, state->missed == 1 ? "" : "s");
    if (state->found == 0 && state->step == REACH_REPAIR) { /* what was missed sees only itself */
        begin_pass(reach, REACH_ATTACH);
        return 0;
    }
    state->round++;
    sort_repairs(reach->merge);
    begin_marking(reach);
    return 0;
}

static int run_passes(struct reach *reach, struct fathom_error *err)
{
    int status = 0;
    if (reach->state.step == REACH_DONE)
        return 0;
    while (status == 0 && reach->state.step != REACH_DONE) {
        struct merge_visitor visitor = {.visit = reach->state.step == REACH_MARK ? mark_list
                                                                                 : repair_list,
                                        .keep = keep,
                                        .context = reach};
        struct merge_place from = reach->state.place;
        status = merge_each(reach->merge, &from, &visitor, err);
        if (status == 0)
            status = next_step(reach, err);
    }
    return status == 0 ? save(reach, err) : status;
}

int merge_reach(struct merge *merge, struct fathom_error *err)
{
    struct reach reach = {.merge = merge};
    reach.marks = mem_alloc(marks_bytes(&reach));
    if (!reach.marks)
        return error_set(err, -ENOMEM, "graph: no memory to see what is reached");
    int status = load(&reach, err);
    if (status == 0) {
        merge->repair_count = merge->repaired = 0;
        reach.state = (struct reach_state){0};
        begin_marking(&reach);
    }
    if (status >= 0)
        status = run_passes(&reach, err);
    mem_free(reach.marks);
    return status;
}
