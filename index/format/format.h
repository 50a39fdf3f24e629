/* The index file, DIR/index.fathom: one file a generation, published by one rename, never changed
 * afterwards.
 *
 *   page 0      superblock: magic, version, features, properties, section table
 *   page 1...   sections, each a run of whole pages, in the order of enum section_kind
 *
 * Two kinds of section. A stream is the concatenation of its pages' payloads. A row store keeps
 * rows of fixed bytes that never straddle: rows_per_page to a page, or, when a row is longer than a
 * payload, pages_per_row pages to a row. docs/FORMAT.md is the specification; this header and that
 * document say the same. */
#ifndef FORMAT_FORMAT_H
#define FORMAT_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "fathom/fathom.h"
#include "env.h"
#include "page.h"
#include "planes.h"
#include "row8.h"

#define FORMAT_FILE_NAME      "index.fathom"
#define FORMAT_MAGIC          0x78644d6f68746146u /* "FathoMdx" */
#define FORMAT_VERSION        3
#define FORMAT_INCOMPAT_KNOWN 0u /* incompat feature bits that this library understands */
#define FORMAT_SECTIONS_MAX   24

/* Values are on disk and pinned. */
enum section_kind {
    SECTION_MANIFEST = 1, /* stream: JSON text, provenance */
    SECTION_MODEL,        /* stream: 8-bit model, rotation, levels (model.c) */
    SECTION_CENTROIDS,    /* stream: in four bits a dimension (codec/centroids.h) */
    SECTION_CELLS,        /* stream: u32 first_row[cells + 1] */
    SECTION_CODES, /* stream: bands of FORMAT_BAND_BYTES units: band b holds bytes [16b, 16b+16) of
                      every code (the last band is narrower), row after row */
    SECTION_FACTORS,    /* stream: for each level, u16 or u32 packed factors[rows] */
    SECTION_LIST_PAGES, /* stream: u32 first_row[pages of lists + 1] */
    SECTION_LISTS,      /* stream: pages of encoded lists (codec/lists.h), row after row */
    SECTION_HEAT,    /* stream: u8 rank of each row's list, 0 for those that searches need most */
    SECTION_IDS,     /* stream: packed ids of id_bits each, row after row */
    SECTION_ENTRIES, /* stream: u32 row[entry_count], where graph searches start */
    SECTION_RECORDS, /* row store: row8_record_bytes a row */
    SECTION_VECTORS, /* row store: full vectors; absent when records hold them exactly */
    SECTION_SCAN,    /* row store in two parts: on each page the codes of its rows at one level,
                        plane after plane, and behind them their factors: what cells are scanned by
                        where codes are not resident */
    SECTION_POINTS,  /* stream: operating points (search/points.h), 48 bytes each; may be missing */
    SECTION_END
};

#define FORMAT_BAND_BYTES  16
#define FORMAT_HEAT_RANKS  256 /* each holds as many bytes of lists */
#define FORMAT_POINT_BYTES 48  /* of an operating point */
#define FORMAT_POINTS_MAX  2048

struct section {
    uint32_t kind;
    uint32_t row_bytes;     /* row stores; 0 for streams */
    uint32_t rows_per_page; /* row stores: 0 when a row spans pages */
    uint32_t pages_per_row; /* row stores: 1 unless a row spans pages */
    uint64_t first_page, page_count;
    uint64_t bytes; /* of payload (streams), or rows * row_bytes */
};

/* What is usual of the queries that operating points were measured on: of 99 in 100 the nearest
 * row, and the nearest centroid, is no farther. Squared distances in row units; 0: not known. */
struct usual {
    float row, cell;
};

/* Properties of the index, in the superblock. */
struct properties {
    uint64_t generation;
    uint64_t rows; /* 1 .. 2^32 - 2 */
    uint32_t dim, work_dim;
    uint32_t dtype, metric;
    uint32_t cells, entry_count;
    uint32_t degree_max;
    uint32_t list_length_bytes; /* 1 or 2 */
    uint64_t list_bytes;        /* of all lists, without the rest of their pages */
    uint32_t id_bits;           /* 1..64 */
    uint32_t records_exact;     /* 1: the 8-bit form is the vector itself */
    uint32_t external_ids;      /* 1: ids came from a file; 0: they are row numbers */
    uint32_t default_search_list;
    double max_norm;    /* M of metric.h; 0 unless ip */
    uint64_t zero_rows; /* rows left out because cosine is undefined there */
    struct usual usual;
};

struct superblock;

/* The pages of section lists. */
static inline uint64_t format_list_pages(const struct section *lists)
{
    return lists->bytes / PAGE_PAYLOAD;
}

/* At the most, what the lists of the hottest ranks take: a list belongs to the rank in which it
 * begins when all are laid out from hot to cold. */
uint64_t format_hot_bytes(const struct properties *properties, uint32_t ranks);
/* True when codes, factors and scan rows are of the sizes that the model says. */
bool format_codes_valid(const struct superblock *super, const struct planes_model *planes);
/* The level of section scan: the longest of at most a bit a dimension, or the shortest there is;
 * and the bytes of a row there. */
uint32_t format_scan_level(const struct planes_model *planes);
uint32_t format_scan_bytes(const struct planes_model *planes);
/* Where in the payload of a page the second parts of its rows begin: they end where it ends, so
 * that numbers of 2, 4 or 8 bytes are aligned. The first parts begin where it begins. */
static inline uint32_t format_second_parts(const struct section *section, uint32_t second_bytes)
{
    return PAGE_PAYLOAD - section->rows_per_page * second_bytes;
}
/* True when first_row (pages + 1 entries) rises from 0 to rows, and no page has more lists than
 * bytes for their lengths. */
bool format_list_pages_valid(const uint32_t *first_row, uint64_t pages,
                             const struct properties *properties);

/* Whether an operating point (FORMAT_POINT_BYTES, of any alignment) can be used: its k and list are
 * such as a query may ask for, and its figures are numbers. */
bool format_point_valid(const uint8_t *point);

/* What a point was measured on. Values are on disk and pinned. */
enum format_measured_on {
    FORMAT_MEASURED_ON_ROWS,    /* of the index, each left out of its own search */
    FORMAT_MEASURED_ON_QUERIES, /* that were given for it */
    FORMAT_MEASURED_ON_END
};
uint32_t format_point_measured_on(const uint8_t *point);

struct superblock {
    struct properties properties;
    uint32_t version, compat, incompat;
    uint64_t file_pages;
    uint32_t section_count;
    struct section sections[FORMAT_SECTIONS_MAX];
};

void superblock_encode(const struct superblock *super, uint8_t page[PAGE_BYTES]);
/* Checks magic, version, features, checksum, and that every section and property is within bounds
 * and consistent with the others. path is for messages. */
int superblock_decode(struct superblock *out, const uint8_t page[PAGE_BYTES], uint64_t file_bytes,
                      const char *path, struct fathom_error *err) FATHOM_MUST_USE;
const struct section *superblock_find(const struct superblock *super,
                                      enum section_kind kind); /* or NULL */
const char *section_name(enum section_kind kind);

/* ---- model section ---- */

/* Everything that turns a query into scores. One allocation; pointers of row8 and planes point into
 * it. */
struct model {
    struct row8_model row8;
    struct planes_model planes;
    void *memory;
    uint64_t bytes; /* kept in memory */
};

/* Bytes of the encoded model; encode into out of that size. */
size_t model_encoded_bytes(const struct model *model);
void model_encode(const struct model *model, uint8_t *out);
int model_decode(struct model *out, const uint8_t *bytes, size_t count,
                 const struct properties *properties, const char *path,
                 struct fathom_error *err) FATHOM_MUST_USE;
void model_fini(struct model *model);

/* ---- writing (builder) ---- */

struct index_writer;
struct index_file;

/* Whether a caller wants long work to end soon, with FATHOM_EINTERRUPTED; asked many times a
 * second. */
struct format_stop {
    bool (*stopped)(void *context); /* NULL: never */
    void *context;
};

/* Starts DIR/index.fathom.tmp-<generation>; the directory is made if missing, such files of earlier
 * runs are removed. properties.generation must be final. Sections are written in rising order of
 * kind, each in one or more calls. */
int index_writer_create(struct index_writer **out, const struct env *env, const char *dir,
                        const struct properties *properties,
                        struct fathom_error *err) FATHOM_MUST_USE;
/* Takes over such a file as index_writer_checkpoint left it, whoever wrote it, after a deep
 * verification. -ENOENT: there is none. FATHOM_EINTERRUPTED leaves it. */
int index_writer_reopen(struct index_writer **out, const struct env *env, const char *dir,
                        uint64_t generation, const struct format_stop *stop,
                        struct fathom_error *err) FATHOM_MUST_USE;
/* Begins a section: a stream (row_bytes 0) or a row store. */
int index_writer_begin(struct index_writer *writer, enum section_kind kind, uint32_t row_bytes,
                       struct fathom_error *err) FATHOM_MUST_USE;
/* Appends stream bytes, or whole rows of the row store. */
int index_writer_append(struct index_writer *writer, const void *data, size_t bytes,
                        struct fathom_error *err) FATHOM_MUST_USE;
/* Appends count rows of a row store in two parts, of which several fit a page: first has
 * row_bytes - second_bytes of each, second the rest. All rows of such a section come this way. */
int index_writer_append_parts(struct index_writer *writer, const uint8_t *first,
                              const uint8_t *second, uint32_t second_bytes, size_t count,
                              struct fathom_error *err) FATHOM_MUST_USE;
int index_writer_end(struct index_writer *writer, struct fathom_error *err) FATHOM_MUST_USE;
/* A whole section of an index that is there, page by page: each is checked, and sealed anew for its
 * place and generation. advance (or NULL) is told of pages as they are copied; from->stop ends it.
 */
int index_writer_copy(struct index_writer *writer, const struct index_file *from,
                      const struct section *section, void (*advance)(void *context, uint64_t pages),
                      void *context, struct fathom_error *err) FATHOM_MUST_USE;
/* Makes what was written so far a file that can be opened (index_writer_path), so that it can be
 * measured; writing goes on. */
int index_writer_checkpoint(struct index_writer *writer, struct fathom_error *err) FATHOM_MUST_USE;
/* What operating points go by, once they were measured. */
void index_writer_set_usual(struct index_writer *writer, struct usual usual);
/* Whether the section was written and ended. */
bool index_writer_has(const struct index_writer *writer, enum section_kind kind);
const char *index_writer_path(const struct index_writer *writer);
/* Writes the superblock, reads everything back and verifies it, then publishes by rename. Frees the
 * writer, but not when it was stopped before the rename (FATHOM_EINTERRUPTED): the file is then as
 * index_writer_checkpoint leaves one. */
int index_writer_publish(struct index_writer *writer, const struct format_stop *stop,
                         struct fathom_error *err) FATHOM_MUST_USE;
/* How far a file is whose sections are still being written. */
struct index_progress {
    struct superblock super; /* with the pages and sections that there are */
    uint32_t open, reserved; /* whether the last section is not ended */
};

/* Everything written so far is in the file when this returns: should the writer end here,
 * index_writer_go_on has another one that goes on from there. Between rows that end a page, or
 * sections. */
int index_writer_progress(struct index_writer *writer, struct index_progress *out,
                          struct fathom_error *err) FATHOM_MUST_USE;
/* Each page is read and checked. -ENOENT: there is no such file. FATHOM_EINTERRUPTED leaves it. */
int index_writer_go_on(struct index_writer **out, const struct env *env, const char *dir,
                       const struct index_progress *progress, const struct format_stop *stop,
                       struct fathom_error *err) FATHOM_MUST_USE;
/* Of the section, when it is begun and not ended; else 0. */
uint64_t index_writer_begun_bytes(const struct index_writer *writer, enum section_kind kind);
/* Lets go of the file and leaves it, for index_writer_reopen or index_writer_go_on. Accepts NULL.
 */
void index_writer_suspend(struct index_writer *writer);
/* Drops what was written. Accepts NULL. */
void index_writer_abandon(struct index_writer *writer);

/* ---- reading ---- */

struct index_file {
    const struct env *env;
    int fd;
    bool direct; /* O_DIRECT is on */
    char *path;
    const struct format_stop *stop; /* of reading sections, where they are long; NULL: never */
    uint32_t
        stream_pages; /* of a section read at once, at most FORMAT_STREAM_PAGES, which 0 means */
    struct superblock super;
};

int index_file_open(struct index_file *file, const struct env *env, const char *dir,
                    struct fathom_error *err) FATHOM_MUST_USE;
void index_file_close(struct index_file *file);
/* Where a row of a row store lies. A row that spans pages is the concatenation of their payloads.
 */
struct row_place {
    uint64_t page; /* its first, within the file */
    uint32_t page_count;
    uint32_t byte; /* where it starts in the payload of the first */
};
struct row_place section_row_place(const struct section *section, uint64_t row);

#define FORMAT_STREAM_PAGES 256 /* read at once: 1 MiB */
/* Streams a section through visit in pieces of at most FORMAT_STREAM_PAGES pages, each page checked
 * first. For a row store the pieces are whole pages' payloads, padding included. */
int index_file_stream(const struct index_file *file, const struct section *section,
                      int (*visit)(void *context, const uint8_t *payload, size_t bytes,
                                   struct fathom_error *err),
                      void *context, struct fathom_error *err) FATHOM_MUST_USE;
/* The same for a row store from the page on that row `first` begins in. */
int index_file_stream_rows(const struct index_file *file, const struct section *section,
                           uint64_t first,
                           int (*visit)(void *context, const uint8_t *payload, size_t bytes,
                                        struct fathom_error *err),
                           void *context, struct fathom_error *err) FATHOM_MUST_USE;
/* The same for bytes [offset, offset + bytes) of a stream section. */
int index_file_stream_range(const struct index_file *file, const struct section *section,
                            uint64_t offset, uint64_t bytes,
                            int (*visit)(void *context, const uint8_t *payload, size_t bytes,
                                         struct fathom_error *err),
                            void *context, struct fathom_error *err) FATHOM_MUST_USE;
/* Reads bytes [offset, offset + bytes) of a stream section into out. */
int index_file_read(const struct index_file *file, const struct section *section, uint64_t offset,
                    void *out, size_t bytes, struct fathom_error *err) FATHOM_MUST_USE;
/* Reads one row of a row store into out: row_bytes of the section. */
int index_file_read_row(const struct index_file *file, const struct section *section, uint64_t row,
                        void *out, struct fathom_error *err) FATHOM_MUST_USE;

#endif
