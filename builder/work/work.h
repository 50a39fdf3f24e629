/* Work files: what one step of a build leaves for the next, in DIR/build.tmp-NAME. One mechanism
 * for two needs: a build that must not keep everything in memory reads them back, and so does one
 * that takes over from a killed build.
 *
 * A work file is a stream of sealed pages (format/page.h) behind a page that says how long the
 * stream is. It gets its name by a rename when it is whole, so a name that is there stands for a
 * step that was finished. Every byte read back was checked against the build's identity, the file's
 * name and its place. It is never synced: what a power failure takes is noticed and made again. */
#ifndef BUILDER_WORK_H
#define BUILDER_WORK_H

#include "crew.h"
#include "env.h"

#define WORK_NAME_MAX 32
#define WORK_PREFIX   "build.tmp-"

#define WORK_FILES_MAX 544 /* of a build: one for each part of a graph, and some more */

/* What the files of one build take, as far as it has written or opened them. */
struct work_tally {
    struct work_size {
        uint32_t section; /* stands for the name */
        uint64_t bytes;
    } files[WORK_FILES_MAX];
    uint32_t count;
    uint64_t bytes, bytes_max;
};

struct work {
    const struct env *env;
    const char *dir;
    uint64_t identity;        /* of the build: input and options */
    const struct crew *crew;  /* writing and checking a file end soon when it is stopped */
    struct work_tally *tally; /* NULL: nobody asks */
};

/* Of a file with a stream of so many bytes. */
uint64_t work_file_bytes(uint64_t stream_bytes);

/* ---- writing ---- */

struct work_writer;

int work_create(struct work_writer **out, const struct work *work, const char *name,
                struct fathom_error *err) FATHOM_MUST_USE;
int work_append(struct work_writer *writer, const void *data, size_t bytes,
                struct fathom_error *err) FATHOM_MUST_USE;
/* Ends the file and gives it its name, in the place of one that has it. Frees the writer in any
 * case. */
int work_commit(struct work_writer *writer, struct fathom_error *err) FATHOM_MUST_USE;
void work_abandon(struct work_writer *writer); /* accepts NULL */

/* All that was appended is in the file when this returns: should the build end here, a later one
 * can go on from it. */
int work_flush(struct work_writer *writer, struct fathom_error *err) FATHOM_MUST_USE;
/* Ends a writer whose file stays for work_reopen, without a name. Accepts NULL. */
void work_suspend(struct work_writer *writer);
/* A writer behind the first `bytes` bytes of such a file, each page of which is read and checked.
 * -ENOENT: there is none. FATHOM_ECORRUPT: it is damaged, ends before, or is from another build. */
int work_reopen(struct work_writer **out, const struct work *work, const char *name, uint64_t bytes,
                struct fathom_error *err) FATHOM_MUST_USE;

/* ---- reading ---- */

struct work_file; /* of one thread at a time */

/* -ENOENT: there is none. FATHOM_ECORRUPT: it is damaged, or from another build. */
int work_open(struct work_file **out, const struct work *work, const char *name,
              struct fathom_error *err) FATHOM_MUST_USE;
/* The same for one of `together` files that are read side by side: their buffers share 4 MiB as far
 * as two pages each allow, where one file has 256 KiB of its own. */
int work_open_beside(struct work_file **out, const struct work *work, const char *name,
                     uint32_t together, struct fathom_error *err) FATHOM_MUST_USE;
uint64_t work_bytes(const struct work_file *file);
/* Bytes [offset, offset + bytes) of the stream, each page checked. */
int work_read(struct work_file *file, uint64_t offset, void *out, size_t bytes,
              struct fathom_error *err) FATHOM_MUST_USE;
/* The same where those behind them are wanted next, or most of them: as many as the buffer holds,
 * WORK_AHEAD_BYTES, come in one read. */
#define WORK_AHEAD_BYTES (256u << 10)
int work_read_ahead(struct work_file *file, uint64_t offset, void *out, size_t bytes,
                    struct fathom_error *err) FATHOM_MUST_USE;
/* Where work_next goes on, from the start of the stream. */
void work_seek(struct work_file *file, uint64_t offset);
/* The bytes that follow those of the last work_next, from the start on. */
int work_next(struct work_file *file, void *out, size_t bytes,
              struct fathom_error *err) FATHOM_MUST_USE;
void work_close(struct work_file *file); /* accepts NULL */
/* Whether what failed may not fail the next time, for it says nothing about the file: descriptors
 * or memory are short, it may not be read just now, or the build is to stop. */
bool work_may_pass(int status);
/* 1: it is there, and every page was read and found good. 0: it is not, or it was damaged, which
 * err then says, and removed. What may pass is returned, and leaves it. */
int work_check(const struct work *work, const char *name, struct fathom_error *err) FATHOM_MUST_USE;

/* Removes the file when it is there. What cannot be removed is debris, which the next build takes
 * away. */
void work_remove(const struct work *work, const char *name);
/* Removes all work files. */
int work_remove_all(const struct work *work, struct fathom_error *err) FATHOM_MUST_USE;

#endif
