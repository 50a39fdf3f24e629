/* Pages: 4 KiB, the first 8 bytes a checksum of the other 4,088 that also binds generation, section
 * and page number, so that a stale, misplaced or foreign page is caught like a flipped bit. Pure:
 * no I/O. */
#ifndef FORMAT_PAGE_H
#define FORMAT_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE_BYTES   4096
#define PAGE_HEADER  8
#define PAGE_PAYLOAD (PAGE_BYTES - PAGE_HEADER)

/* What a page must be: bound into its checksum. */
struct page_place {
    uint64_t generation;
    uint32_t section; /* enum section_kind */
    uint64_t number;  /* within the file */
};

void page_seal(uint8_t page[PAGE_BYTES], const struct page_place *place);
bool page_check(const uint8_t page[PAGE_BYTES], const struct page_place *place);

#endif
