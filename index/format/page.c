/* Page checksums: XXH3-64 of the payload, seeded by a hash of the page's place. */
#include "page.h"

#include <xxhash.h>

#include "le.h"

static uint64_t page_checksum(const uint8_t *page, const struct page_place *place)
{
    uint64_t words[3] = {place->generation, place->section, place->number};
    return XXH3_64bits_withSeed(page + PAGE_HEADER, PAGE_PAYLOAD, XXH3_64bits(words, sizeof words));
}

void page_seal(uint8_t page[PAGE_BYTES], const struct page_place *place)
{
    le_store64(page, page_checksum(page, place));
}

bool page_check(const uint8_t page[PAGE_BYTES], const struct page_place *place)
{
    return le_load64(page) == page_checksum(page, place);
}
