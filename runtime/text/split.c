/* GPT-2's cutting of text into pieces that are merged one by one. As a regular expression, alternatives in this order:
 *   's|'t|'re|'ve|'m|'ll|'d | ?\p{L}+ | ?\p{N}+ | ?[^\s\p{L}\p{N}]+ | \s+(?!\S) | \s+ */
#include "text/tables.h"
#include "text/unicode_table.h"
#include "text/utf8.h"

enum { OTHER, LETTER, NUMBER, SPACE };

static int unicode_class(uint32_t c)
{
    size_t low = 0, high = sizeof unicode_runs / sizeof *unicode_runs - 1;
    if ((c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
        c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000) /* White_Space */
        return SPACE;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (unicode_runs[middle] >> 2 < c)
            low = middle + 1;
        else
            high = middle;
    }
    return (int)(unicode_runs[low] & 3);
}

/* Class and length of the character at p[0..n), n >= 1; malformed bytes are OTHER. */
static int next_class(const uint8_t *p, size_t n, unsigned *length)
{
    static const uint8_t lead_bits[5] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    infer_utf8 what;
    uint32_t c;
    *length = infer_utf8_next(p, n, &what);
    if (what != INFER_UTF8_WHOLE)
        return OTHER;
    c = p[0] & lead_bits[*length];
    for (unsigned i = 1; i < *length; i++)
        c = c << 6 | (p[i] & 0x3fu);
    return unicode_class(c);
}

static size_t contraction(const char *p, size_t n)
{
    static const char *const endings[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    if (n < 2 || p[0] != '\'')
        return 0;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t m = strlen(endings[i]);
        if (n > m && !memcmp(p + 1, endings[i], m))
            return m + 1;
    }
    return 0;
}

/* End of the run of characters of `kind` that begins at `i`; *last gets where its last character begins. */
static size_t run_end(const uint8_t *p, size_t i, size_t n, int kind, size_t *last)
{
    for (unsigned length; i < n && next_class(p + i, n - i, &length) == kind; i += length)
        *last = i;
    return i;
}

size_t infer_split_gpt2(const char *text, size_t n)
{
    const uint8_t *p = (const uint8_t *)text;
    size_t end = contraction(text, n), start, last = 0;
    unsigned length;
    int kind;
    if (end)
        return end;
    start = n > 1 && p[0] == ' ' ? 1 : 0;
    kind = next_class(p + start, n - start, &length);
    if (kind != SPACE)
        return run_end(p, start, n, kind, &last);
    end = run_end(p, 0, n, SPACE, &last);
    return end == n || last == 0 ? end : last; /* the last space goes to the word after it */
}
