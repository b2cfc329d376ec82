/* UTF-8, one character at a time (Unicode 15, section 3.9, table 3-7: well-formed byte sequences). */
#ifndef INFER_TEXT_UTF8_H
#define INFER_TEXT_UTF8_H

#include <stddef.h>
#include <stdint.h>

typedef enum infer_utf8 {
    INFER_UTF8_WHOLE,   /* a character */
    INFER_UTF8_PARTIAL, /* the beginning of one: the bytes end too early */
    INFER_UTF8_BAD      /* can never become one */
} infer_utf8;

/* Length (1..4) of what stands at p[0..n), n >= 1: the character, or the longest piece that began like one. */
static inline unsigned infer_utf8_next(const uint8_t *p, size_t n, infer_utf8 *what)
{
    unsigned lead = p[0], need, low = 0x80, high = 0xbf;
    *what = INFER_UTF8_WHOLE;
    if (lead < 0x80)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf)
        need = 2;
    else if (lead >= 0xe0 && lead <= 0xef) {
        need = 3;
        low = lead == 0xe0 ? 0xa0 : 0x80;  /* overlong */
        high = lead == 0xed ? 0x9f : 0xbf; /* surrogates */
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        need = 4;
        low = lead == 0xf0 ? 0x90 : 0x80;
        high = lead == 0xf4 ? 0x8f : 0xbf; /* beyond U+10FFFF */
    } else {
        *what = INFER_UTF8_BAD;
        return 1;
    }
    for (unsigned i = 1; i < need; i++) {
        if (i == n) {
            *what = INFER_UTF8_PARTIAL;
            return i;
        }
        if (p[i] < low || p[i] > high) {
            *what = INFER_UTF8_BAD;
            return i;
        }
        low = 0x80, high = 0xbf;
    }
    return need;
}

#endif
