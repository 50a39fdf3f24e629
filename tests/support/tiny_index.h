/* An index written section by section by the test itself, without the builder: of any shape, with
 * random content that is valid but means nothing. Its parts may be changed before it is written, or
 * in the file afterwards with checksums put right, to make the hostile indexes that no builder
 * would write. */
#ifndef SUPPORT_TINY_INDEX_H
#define SUPPORT_TINY_INDEX_H

#include "folder.h"
#include "format.h"

struct tiny_options {
    uint32_t rows, dim;
    enum fathom_dtype dtype;
    enum fathom_metric metric;
    size_t manifest_bytes; /* 0: a short one */
    uint32_t code_dim;     /* a multiple of 8; 0: 8 */
    uint32_t degree;       /* of the ring that is the graph; 0: 2 */
    uint32_t points;       /* operating points; 0: the section is missing */
    uint64_t seed;         /* of the content, and the generation; 0: 1 */
};

/* A section as it will be written. */
struct tiny_section {
    uint8_t *data;
    size_t bytes;
    uint32_t row_bytes, second_bytes; /* of a row that is stored in two parts: the end of it */
};

struct tiny_index {
    struct properties properties;
    struct tiny_section sections[SECTION_END]; /* by kind; data NULL: not there */
};

void tiny_make(struct tiny_index *tiny, const struct tiny_options *options);
void tiny_free(struct tiny_index *tiny);
/* Writes it through index_writer. piece_rows: rows, or bytes of a stream, handed over at once; 0:
 * all. */
int tiny_write(const struct tiny_index *tiny, const struct env *env, const char *dir,
               size_t piece_rows, struct fathom_error *err) FATHOM_MUST_USE;
/* The same without verification, for content that the writer would refuse. The directory must be
 * there. */
void tiny_write_raw(const struct tiny_index *tiny, const char *dir);
/* One of its sections, through a writer. */
int tiny_write_section(struct index_writer *writer, enum section_kind kind,
                       const struct tiny_section *section, size_t piece_rows,
                       struct fathom_error *err) FATHOM_MUST_USE;
/* The file as tiny_write_raw would write it; free() it. */
uint8_t *tiny_image(const struct tiny_index *tiny, size_t *bytes);

/* Where the list of a row begins in the content of section lists, and its bytes. */
uint64_t tiny_list_at(const struct tiny_index *tiny, uint32_t row, size_t *bytes);

/* ---- one of each shape ---- */

struct tiny_folders {
    size_t count;
    char dirs[][FOLDER_PATH_MAX]; /* each with an index, written by tiny_write_raw */
};

/* Setup and teardown of cmocka, with *state pointing to a struct tiny_folders. */
int tiny_folders_make(void **state, const struct tiny_options *shapes, size_t count);
int tiny_folders_remove(void **state);

/* ---- an image of the file ---- */

/* Seals a page of a file's image again after a change. */
void image_seal(uint8_t *image, uint64_t page);
/* Where a byte of a section's content is in the image. */
uint8_t *image_at(uint8_t *image, size_t bytes, enum section_kind kind, uint64_t offset);

#endif
