/* An index that is being written (write.c), and those of its sections that have a file of their
 * own. */
#ifndef BUILDER_WRITING_H
#define BUILDER_WRITING_H

#include "write.h"

struct write {
    const struct product *product;
    struct index_writer *writer;
    struct properties properties;
    uint64_t sum; /* input_row_sum of the rows in the section that is open, if it is of vectors */
    bool saved;   /* as far as it had come at some time */
};

/* Notes how far the file is, when that is due. Between sections, or rows that end a page. */
int write_keep(struct write *write, struct fathom_error *err) FATHOM_MUST_USE;

/* The vectors themselves, or the sharper 8-bit records that are made from them; on from where a
 * killed build had come to. */
int write_from_vectors(struct write *write, enum section_kind kind,
                       struct fathom_error *err) FATHOM_MUST_USE;

#endif
