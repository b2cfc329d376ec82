/* Characters as BERT's tokenizer sees them (Unicode's data come from utf8proc). */
#ifndef INFER_TEXT_UNICODE_H
#define INFER_TEXT_UNICODE_H

#include "text/utf8.h"

#include <stdbool.h>
#include <string.h>
#include <utf8proc.h>

typedef enum infer_char_kind {
    INFER_CHAR_OTHER,
    INFER_CHAR_SPACE,
    INFER_CHAR_CONTROL, /* and U+0000, U+FFFD, malformed bytes */
    INFER_CHAR_PUNCTUATION,
    INFER_CHAR_IDEOGRAPH /* CJK: written without spaces between words */
} infer_char_kind;

typedef struct infer_char {
    uint32_t code;
    unsigned bytes; /* 1..4 */
    infer_char_kind kind;
} infer_char;

/* The blocks that BERT takes for CJK ideographs. */
static inline bool infer_is_ideograph(uint32_t c)
{
    static const uint32_t ranges[][2] = {{0x3400, 0x4dbf},   {0x4e00, 0x9fff},   {0xf900, 0xfaff},   {0x20000, 0x2a6df},
                                         {0x2a700, 0x2b73f}, {0x2b740, 0x2b81f}, {0x2b920, 0x2ceaf}, {0x2f800, 0x2fa1f}};
    for (size_t i = 0; c >= ranges[0][0] && i < sizeof ranges / sizeof *ranges; i++)
        if (c >= ranges[i][0] && c <= ranges[i][1])
            return true;
    return false;
}

static inline infer_char_kind infer_char_kind_of(uint32_t c)
{
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') /* the other spaces among the controls are controls to BERT */
        return INFER_CHAR_SPACE;
    if (c < 0x80 && c > ' ' && c < 0x7f)
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ? INFER_CHAR_OTHER : INFER_CHAR_PUNCTUATION;
    if (c == 0 || c == 0xfffd)
        return INFER_CHAR_CONTROL;
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return INFER_CHAR_SPACE;
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
        return INFER_CHAR_CONTROL;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
        return INFER_CHAR_PUNCTUATION;
    default:
        return infer_is_ideograph(c) ? INFER_CHAR_IDEOGRAPH : INFER_CHAR_OTHER;
    }
}

/* The one letter whose lower case is two characters, i and a dot above. */
#define INFER_DOTTED_I 0x130
#define INFER_DOT_ABOVE 0x307

/* Unicode's property White_Space. */
static inline bool infer_is_white(uint32_t c)
{
    return c < 0x80 ? c == ' ' || (c >= 9 && c <= 13)
                    : c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
                          c == 0x205f || c == 0x3000;
}

/* Letters, marks, digits, numbers that are letters, connectors (UTS 18, \w). */
static inline bool infer_is_word(uint32_t c)
{
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default: /* joiners; letters in circles and squares */
        return c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
               (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189);
    }
}

/* The character at text[0..n), n >= 1. Malformed bytes have the code U+FFFD. */
static inline uint32_t infer_code_at(const char *text, size_t n, unsigned *bytes)
{
    static const uint8_t lead_bits[5] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    const uint8_t *p = (const uint8_t *)text;
    infer_utf8 what;
    uint32_t code;
    *bytes = infer_utf8_next(p, n, &what);
    code = p[0] & lead_bits[*bytes];
    for (unsigned i = 1; i < *bytes; i++)
        code = code << 6 | (p[i] & 0x3fu);
    return what == INFER_UTF8_WHOLE ? code : 0xfffd;
}

/* The character that ends at text[n), n >= 1. */
static inline uint32_t infer_code_before(const char *text, size_t n, unsigned *bytes)
{
    size_t start = n - 1;
    while (start > 0 && n - start < 4 && ((uint8_t)text[start] & 0xc0) == 0x80)
        start--;
    const uint32_t code = infer_code_at(text + start, n - start, bytes);
    if (*bytes == n - start)
        return code;
    *bytes = 1;
    return 0xfffd;
}

static inline infer_char infer_char_at(const char *text, size_t n)
{
    infer_char c;
    c.code = infer_code_at(text, n, &c.bytes);
    c.kind = infer_char_kind_of(c.code);
    return c;
}

#endif
