/* Little-endian loads and stores at any alignment; the only way bytes of a file or a socket become
 * numbers. */
#ifndef BASE_LE_H
#define BASE_LE_H

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "fathom's bulk paths copy little-endian arrays as they are; port them before building here"
#endif

static inline uint16_t le_load16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t le_load32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint64_t le_load64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void le_store16(void *p, uint16_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void le_store32(void *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void le_store64(void *p, uint64_t v)
{
    memcpy(p, &v, sizeof v);
}

#endif
