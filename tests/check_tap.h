/* A few lines of TAP for tests that cannot use Criterion: those that ThreadSanitizer or an emulator runs. */
#ifndef INFER_TESTS_CHECK_TAP_H
#define INFER_TESTS_CHECK_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static unsigned tap_count, tap_failures;

__attribute__((format(printf, 2, 3))) static inline void tap_ok(bool ok, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%s %u - ", ok ? "ok" : "not ok", ++tap_count);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
    tap_failures += !ok;
}

__attribute__((format(printf, 2, 3))) static inline void tap_skip(const char *why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("ok %u - ", ++tap_count);
    vprintf(format, args);
    printf(" # SKIP %s\n", why);
    va_end(args);
}

/* Prints the plan; the exit status. */
static inline int tap_done(void)
{
    printf("1..%u\n", tap_count);
    return tap_failures != 0;
}

#endif
