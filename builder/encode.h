/* Every row's code, factors and list, as the sections hold them. */
#ifndef BUILDER_ENCODE_H
#define BUILDER_ENCODE_H

#include "train.h"

struct encoded_codes {
    uint64_t bytes; /* of all codes */
    uint8_t *codes; /* in bands (format.h) */
    uint64_t factor_bytes;
    uint8_t *factors; /* level after level, each with 2 or 4 bytes a row */
};

/* Room for those of so many rows. encoded_codes_fini accepts what is left after -ENOMEM. */
int encoded_codes_init(struct encoded_codes *out, const struct planes_model *planes,
                       uint32_t rows) FATHOM_MUST_USE;
int encode_codes(struct encoded_codes *out, const struct crew *crew, const struct trained *trained,
                 const struct rows8 *rows, const struct cells *cells,
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

/* heat: of each row (heat.h). */
int encode_lists(struct encoded_lists *out, const struct crew *crew, const struct graph *graph,
                 const uint32_t *heat, struct fathom_error *err) FATHOM_MUST_USE;
/* All but the pages: how many bytes there are in all, whether a length fits one byte, which rows go
 * to which page, and ranks. lengths: of each row's list. */
int encode_place(struct encoded_lists *out, const uint16_t *lengths, const uint32_t *heat,
                 uint32_t rows) FATHOM_MUST_USE;
void encoded_lists_fini(struct encoded_lists *lists);

#endif
