/* Merging the lists of all parts (parts.h), in three steps: into one list for each row (merge.c),
 * with repairs so that each row is reached (reach.c), and encoded on pages (joined.c). Each is a
 * pass, or several, through a file from its first row to its last, is saved on its way, and goes on
 * from there when the build was killed.
 *
 *   merged     a list for each row: heat, count, neighbours; behind the entries of all parts
 *   merging    how far that is while it has no name yet, and where each part's reader is
 *   reached    how far marking and repairing are; in the end the repairs alone
 *   measured   how far the lengths of encoded lists and the file thin are, with lengths and heat
 *   joined     what is known of all encoded lists, but for their bytes
 *   listing    how far the file of lists is
 *
 * Of these "joined" stays with "lists" and "thin"; the rest is removed at the end. */
#ifndef BUILDER_MERGE_H
#define BUILDER_MERGE_H

#include "parts.h"

#define MERGE_LIST_MAX BUILD_DEGREE_MAX
#define MERGE_HEAD     2 /* of a merged list: heat and count */

/* An edge that is added so that row is reached. */
struct repair {
    uint32_t from, row;
};

struct merge {
    struct parts *parts;
    uint32_t degree;
    struct repair *repairs;
    uint32_t repair_count, repair_room;
    uint32_t
        repaired; /* repairs that lists have by now: the first so many, sorted by from and row */
};

/* Where a row's list lies in "merged". */
struct merge_place {
    uint64_t offset;
    uint32_t row, reserved;
};

/* What goes through the merged lists. */
struct merge_visitor {
    /* The list of a row, with repairs. */
    int (*visit)(void *context, const struct merge_place *place, uint32_t heat, uint32_t *list,
                 struct fathom_error *err);
    /* Between two rows, now and then: all before *next were visited. */
    int (*keep)(void *context, const struct merge_place *next, struct fathom_error *err);
    void *context;
};

/* Visits the lists of all rows from *from on. */
int merge_each(const struct merge *merge, const struct merge_place *from,
               const struct merge_visitor *visitor, struct fathom_error *err) FATHOM_MUST_USE;
/* Of row 0. */
struct merge_place merge_begin(void);
/* Whether a pass that has come to row asks if it is to stop, and to be kept. */
bool merge_pauses(const struct merge *merge, uint32_t row);
/* FATHOM_EINTERRUPTED when the build is to stop. */
int merge_stopped(const struct merge *merge, struct fathom_error *err) FATHOM_MUST_USE;
/* FATHOM_ECORRUPT: a work file holds what no build would write. */
int merge_malformed(struct fathom_error *err);

/* Finds the repairs. */
int merge_reach(struct merge *merge, struct fathom_error *err) FATHOM_MUST_USE;
/* Leaves the files lists, thin and joined. */
int merge_join(const struct merge *merge, struct encoded_lists *lists,
               struct fathom_error *err) FATHOM_MUST_USE;

#endif
