/* Every row's code, factors and list, as the sections hold them. */
#ifndef BUILDER_ENCODE_H
#define BUILDER_ENCODE_H

#include "graph.h"
#include "train.h"

struct encoded_codes {
    uint64_t bytes; /* of all codes */
    uint8_t *codes; /* in bands (format.h) */
    uint64_t factor_bytes;
    uint8_t *factors; /* level after level, each with 2 or 4 bytes a row */
};

/* Of so many rows, from the first on: what is encoded between two checkpoints, some seconds' work.
 */
struct encode_piece {
    uint32_t number, first, count;
};

/* The piece of that number when each has so many rows (0: as many as take some seconds); false
 * behind the last. */
bool encode_piece_at(struct encode_piece *piece, uint32_t number, uint32_t rows, uint32_t dim,
                     uint32_t piece_rows);

/* What a killed build has left of pieces, and what keeps those of this one. */
struct encode_keeper {
    uint32_t piece_rows; /* 0: as many as take some seconds */
    /* 1: the piece is in the output now. 0: it is to be made. */
    int (*load)(void *context, const struct encode_piece *piece, struct fathom_error *err);
    int (*save)(void *context, const struct encode_piece *piece, struct fathom_error *err);
    void *context;
};

/* Room for those of so many rows. encoded_codes_fini accepts what is left after -ENOMEM. */
int encoded_codes_init(struct encoded_codes *out, const struct planes_model *planes,
                       uint32_t rows) FATHOM_MUST_USE;
/* What codes are made from. */
struct code_source {
    const struct trained *trained;
    const struct rows8 *rows;
    const struct cells *cells;
};

/* keeper may be NULL. */
int encode_codes(struct encoded_codes *out, const struct crew *crew,
                 const struct code_source *source, const struct encode_keeper *keeper,
                 struct fathom_error *err) FATHOM_MUST_USE;
void encoded_codes_fini(struct encoded_codes *codes);

struct encoded_lists {
    uint64_t bytes;        /* of all lists, without the rest of their pages */
    uint32_t length_bytes; /* 1 or 2 */
    uint32_t page_count;
    uint8_t *pages;       /* page_count x PAGE_PAYLOAD */
    uint32_t *page_first; /* first row of each page, and of the end */
    uint8_t *heat;        /* rank of each row */
};

/* Lists on their way to pages: an encoded list lies where its neighbours did, which took more. */
struct list_slots {
    struct graph *graph;
    uint16_t *lengths; /* of each row's list, in bytes; 0: still neighbours */
};

static inline uint8_t *list_slot(const struct list_slots *slots, uint32_t row)
{
    return (uint8_t *)graph_list(slots->graph, row);
}

/* Uses up the graph's lists, which are freed. heat: of each row (heat.h). keeper may be NULL. */
int encode_lists(struct encoded_lists *out, const struct crew *crew, struct list_slots *slots,
                 const uint32_t *heat, const struct encode_keeper *keeper,
                 struct fathom_error *err) FATHOM_MUST_USE;
/* All but the pages: how many bytes there are in all, whether a length fits one byte, which rows go
 * to which page, and ranks. lengths: of each row's list. */
int encode_place(struct encoded_lists *out, const struct crew *crew, const uint16_t *lengths,
                 const uint32_t *heat, uint32_t rows) FATHOM_MUST_USE;
void encoded_lists_fini(struct encoded_lists *lists);

#endif
