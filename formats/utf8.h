/* UTF-8, one character at a time. */
#ifndef INFER_FORMATS_UTF8_H
#define INFER_FORMATS_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes (1..4) of the character at s, of which n >= 1 bytes are there; 0 when it is malformed (RFC 3629: no overlong forms, no surrogates,
 * at most U+10FFFF). */
static inline size_t utf8_character(const uint8_t *s, size_t n)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t bytes = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;
    uint32_t c;

    if (bytes < 2)
        return bytes;
    if (bytes > n)
        return 0;
    c = s[0] & (0x7fu >> bytes);
    for (size_t i = 1; i < bytes; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    return c < least[bytes] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : bytes;
}

#endif
