/* Names as text that JSON can hold. Pure; allocates nothing. */
#include "utf8.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Bytes of the character that begins here; 0: none does. Overlong forms, surrogates and what lies
 * above U+10FFFF are none. */
static size_t character_bytes(const unsigned char *text)
{
    if (text[0] < 0x80)
        return 1;
    size_t count = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
    uint32_t code = text[0] & (0x7fu >> count);
    if (text[0] < 0xc2 || text[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < count; i++) {
        if ((text[i] & 0xc0) != 0x80) /* also the end of the text */
            return 0;
        code = code << 6 | (text[i] & 0x3f);
    }
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    bool surrogate = code >= 0xd800 && code <= 0xdfff;
    return code >= least[count] && code <= 0x10ffff && !surrogate ? count : 0;
}

char *utf8_escape(char *out, size_t out_bytes, const char *text)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *in = (const unsigned char *)text;
    size_t at = 0;
    while (*in) {
        size_t count = character_bytes(in);
        const char escaped[4] = {'\\', 'x', digits[*in >> 4], digits[*in & 15]};
        size_t wanted = count ? count : sizeof escaped;
        if (wanted >= out_bytes - at)
            break;
        memcpy(out + at, count ? (const char *)in : escaped, wanted);
        at += wanted;
        in += count ? count : 1;
    }
    out[at] = '\0';
    return out;
}
