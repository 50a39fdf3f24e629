/* What tests of interrupted builds share: a small build, what it comes to when nobody disturbs it,
 * and what it comes to when it is killed or fails anywhere. */
#ifndef UNIT_BUILDER_TRIAL_H
#define UNIT_BUILDER_TRIAL_H

#include "builder_support.h"

#define TRIAL_ROWS      500
#define TRIAL_ROWS_MANY 2100 /* operating points are measured from 2,000 on */
#define TRIAL_DIM       6
#define TRIAL_MARK      ".tmp-"

/* Where the builds of a test read and write, and what they have in common. */
struct trial {
    char input[SCRATCH_PATH_MAX], out[SCRATCH_PATH_MAX], index[SCRATCH_PATH_MAX];
    char notes[1024], phases[256]; /* of the last build */
    uint32_t parts;                /* of its graph; 0: all in memory */
    uint32_t held;                 /* rows in memory at a time until then; 0: all */
    uint32_t piece;                /* rows that are encoded and written between two checkpoints */
    const char *query;             /* file that points are measured on, or NULL */
    uint32_t measured;             /* rows or queries that they are measured on; 0: as usual */
    bool tuned;                    /* R and L are chosen by the build */
    /* Parts that the last build told of, and the one that was left alone; 0: none was. */
    uint32_t parts_told, parts_expected;
};

struct trial trial_of(const struct scratch *scratch, uint64_t rows);
struct build_options trial_options(struct trial *trial, const struct env *env, bool resume);
int trial_run(const struct build_options *options, struct fathom_error *err);
int trial_build(struct trial *trial, const struct env *env, bool resume, struct fathom_error *err);

struct bytes {
    uint8_t *data;
    size_t count;
};

/* The index of a build that is left alone. */
struct bytes trial_undisturbed(struct trial *trial);
/* What a build has published is that index, byte by byte; it is removed. */
void trial_assert_index(const struct trial *trial, const struct bytes *expected, const char *plan);
void trial_assert_resumes_to(struct trial *trial, const struct bytes *expected, const char *plan);
/* A build in a process of its own, killed before the nth operation. False: it was not. */
bool trial_build_killed(struct trial *trial, const char *plan, bool resume);
/* Resumes to the same index, which is removed; made: how often a work file whose name has this kind
 * in it got its name on the way. */
void trial_count_made(struct trial *trial, const char *const kinds[], unsigned count, int made[],
                      const struct bytes *expected);
/* A build in a process of its own, killed once a work file of this name got it so often. False: it
 * was over before. */
bool trial_killed_behind(struct trial *trial, const char *kind, int times);
/* Inverts a bit of the byte at offset. */
void trial_flip_in(const char *path, long offset);
/* Kills builds, each so many operations later than the one before, from one on, until one has left
 * an index that is whole but for its operating points. Returns at which operation. */
int trial_kill_before_points(struct trial *trial, const struct scratch *scratch, int from,
                             int step);
/* A build is killed at, or fails at, every step-th operation, and the next one resumes to the index
 * of one that is left alone. One that does not fail by it has made that index itself. */
void trial_kill_everywhere(struct trial *trial, int step);
void trial_fail_everywhere(struct trial *trial, int step);

#endif
