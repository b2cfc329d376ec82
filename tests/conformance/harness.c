#include "conformance.h"

#include "ref/mathf.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#include <unistd.h>
#define HAVE_GUARD_PAGES 1
#endif

/* ---- running a test ---- */

static sigjmp_buf escape; /* where failures and crashes go */
enum { ESCAPE_FAILED = 1, ESCAPE_CRASHED = 2 };
static volatile sig_atomic_t crash_signal;

static void on_crash(int sig)
{
    crash_signal = sig;
    siglongjmp(escape, ESCAPE_CRASHED);
}

static void catch_crashes(void)
{
    static char stack[1 << 16];
    const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_ONSTACK};
    static const int signals[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE};

    if (sigaltstack(&alternate, NULL) != 0) /* some emulators have none */
        action.sa_flags = 0;
    for (size_t i = 0; i < ARRAY_COUNT(signals); i++)
        sigaction(signals[i], &action, NULL);
}

static const char *signal_name(int sig)
{
    switch (sig) {
    case SIGILL:
        return "SIGILL";
    case SIGSEGV:
        return "SIGSEGV";
    case SIGBUS:
        return "SIGBUS";
    default:
        return "SIGFPE";
    }
}

void run_test(uint32_t number, const char *name, test_fn *fn, uint64_t seed, const infer_kernel *kernel, infer_kernel_fn *ref, bool *failed)
{
    static test t; /* static: kept across siglongjmp */
    static bool catching;

    if (!catching)
        catch_crashes();
    catching = true;
    memset(&t, 0, sizeof t);
    t.rng = seed;
    t.kernel = kernel;
    t.ref = ref;
    switch (sigsetjmp(escape, 1)) {
    case 0:
        fn(&t);
        printf("ok %u - %s (%llu cases)\n", number, name, (unsigned long long)t.cases);
        break;
    case ESCAPE_FAILED:
        printf("not ok %u - %s\n# %s: %s\n", number, name, t.current, t.failure);
        *failed = true;
        break;
    default:
        printf("not ok %u - %s\n# %s: %s\n", number, name, t.current, signal_name(crash_signal));
        *failed = true;
    }
    fflush(stdout);
}

uint32_t every = 1;

bool skip_case(test *t) { return t->offered++ % every != 0; }

void begin_case(test *t, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(t->current, sizeof t->current, format, args);
    va_end(args);
    t->cases++;
}

void fail(test *t, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(t->failure, sizeof t->failure, format, args);
    va_end(args);
    siglongjmp(escape, ESCAPE_FAILED);
}

/* ---- random numbers: splitmix64 ---- */

uint64_t random_u64(test *t)
{
    uint64_t z = t->rng += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

uint32_t random_below(test *t, uint32_t n) { return (uint32_t)((random_u64(t) >> 32) * n >> 32); }

float random_unit(test *t) { return (float)(int32_t)(random_u64(t) >> 40) * 0x1p-23f - 1.0f; }

/* ---- guarded memory ---- */

enum { FRONT_BYTES = 64 };

static struct region {
    uint8_t *base; /* capacity bytes, then the unreadable page */
    size_t capacity;
    uint8_t *data;
    size_t bytes;
} regions[SLOT_COUNT];

static void reserve(struct region *r, size_t capacity)
{
#ifdef HAVE_GUARD_PAGES
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    if (r->base)
        munmap(r->base, r->capacity + page);
    r->capacity = (capacity + page - 1) / page * page;
    r->base = mmap(NULL, r->capacity + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r->base == MAP_FAILED || mprotect(r->base + r->capacity, page, PROT_NONE) != 0) {
        printf("Bail out! no memory\n");
        exit(1);
    }
#else
    free(r->base);
    r->capacity = capacity;
    r->base = malloc(capacity);
    if (!r->base) {
        printf("Bail out! no memory\n");
        exit(1);
    }
#endif
}

void *buffer(slot s, size_t bytes, size_t align)
{
    struct region *r = &regions[s];
    uintptr_t end;

    if (r->capacity < bytes + FRONT_BYTES + align)
        reserve(r, 2 * (bytes + FRONT_BYTES + align));
    end = (uintptr_t)r->base + r->capacity;
    r->bytes = bytes;
    r->data = (uint8_t *)((end - bytes) / align * align);
    memset(r->data - FRONT_BYTES, CANARY, (size_t)(end - (uintptr_t)r->data) + FRONT_BYTES);
    return r->data;
}

void check_canaries(test *t, slot s)
{
    const struct region *r = &regions[s];
    const uint8_t *end = r->base + r->capacity;

    for (const uint8_t *p = r->data - FRONT_BYTES; p < r->data; p++)
        if (*p != CANARY)
            fail(t, "wrote %d bytes before its output", (int)(r->data - p));
    for (const uint8_t *p = r->data + r->bytes; p < end; p++)
        if (*p != CANARY)
            fail(t, "wrote %d bytes behind its output", (int)(p - r->data - (ptrdiff_t)r->bytes));
}

/* ---- comparing ---- */

bool same_float(float a, float b) { return infer_ref_float_bits(a) == infer_ref_float_bits(b) || (isnan(a) && isnan(b)); }

void check_region(test *t, const float *got, const float *want, uint32_t rows, uint32_t stride, infer_region at)
{
    const uint32_t untouched = CANARY * 0x01010101u;

    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t c = 0; c < stride; c++) {
            size_t i = (size_t)r * stride + c;
            bool inside = r >= at.row0 && r < at.row1 && c >= at.col0 && c < at.col1;
            if (inside && !same_float(got[i], want[i]))
                fail(t, "[%u][%u] is %a (%.9g), reference %a (%.9g)", r, c, got[i], got[i], want[i], want[i]);
            if (!inside && infer_ref_float_bits(got[i]) != untouched)
                fail(t, "[%u][%u] was written, outside rows %u..%u, columns %u..%u", r, c, at.row0, at.row1, at.col0, at.col1);
        }
    }
}

void check_near(test *t, double got, double want, double bound, const char *what)
{
    if (isnan(got) && isnan(want))
        return;
    if (got == want || fabs(got - want) <= bound)
        return;
    fail(t, "%s is %.17g, formula %.17g, bound %.3g", what, got, want, bound);
}

/* ---- filling ---- */

const char *fill_name(fill f)
{
    static const char *const names[FILL_COUNT] = {"random", "extreme", "alternate", "one-hot", "zero", "wide", "special"};
    return names[f];
}

void fill_floats(test *t, float *x, size_t n, fill f)
{
    static const float special[] = {INFINITY, -INFINITY, NAN, 0x1.fffffep127f, -0x1.fffffep127f, 0x1p-149f, -0.0f};
    size_t hot = n ? random_below(t, (uint32_t)n) : 0;

    for (size_t i = 0; i < n; i++) {
        float unit = random_unit(t);
        switch (f) {
        case FILL_RANDOM:
            x[i] = unit;
            break;
        case FILL_EXTREME:
            x[i] = unit < 0 ? -127.0f : 127.0f;
            break;
        case FILL_ALTERNATE:
            x[i] = i % 2 ? -127.0f : 127.0f;
            break;
        case FILL_ONE_HOT:
            x[i] = i == hot ? 1.0f : 0.0f;
            break;
        case FILL_WIDE:
            x[i] = ldexpf(unit, (int)random_below(t, 170) - 130);
            break;
        case FILL_SPECIAL:
            x[i] = random_below(t, 16) ? unit : special[random_below(t, ARRAY_COUNT(special))];
            break;
        default:
            x[i] = 0;
        }
    }
}

void fill_ints(test *t, int8_t *codes, size_t n, int low, int high, fill f)
{
    size_t hot = n ? random_below(t, (uint32_t)n) : 0;

    for (size_t i = 0; i < n; i++) {
        switch (f) {
        case FILL_EXTREME:
            codes[i] = (int8_t)(random_below(t, 2) ? low : high);
            break;
        case FILL_ALTERNATE:
            codes[i] = (int8_t)(i % 2 ? low : high);
            break;
        case FILL_ONE_HOT:
            codes[i] = (int8_t)(i == hot ? high : 0);
            break;
        case FILL_ZERO:
            codes[i] = 0;
            break;
        default:
            codes[i] = (int8_t)(low + (int)random_below(t, (uint32_t)(high - low + 1)));
        }
    }
}
