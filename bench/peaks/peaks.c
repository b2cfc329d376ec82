#include "peaks.h"

#include "cpu.h"
#include "stats.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define BLOCK_UNIT 4096u            /* blocks of the buffer are multiples of it */
#define LARGEST_BLOCK (1u << 20)    /* about a task of the executor */
#define PASS_NS 2000000u            /* shortest time worth measuring, against some microseconds to start the threads */
#define BANDWIDTH_SAMPLES 5u
#define OPS_SAMPLES 5u
#define PREFETCH_BYTES 2048u
#define VARIANTS 8u                 /* of a load width: streams, prefetching, shares or chunks */
#define CHOICE_ROUNDS 3u

typedef struct reading {
    infer_peak_read_fn *fn;
    uint32_t width, streams;
    size_t ahead;
    bool chunks; /* taken from a counter, as the executor's tasks are; else a fixed share for each thread */
} reading;

struct infer_peaks {
    infer_pool *pool;
    uint8_t *buffer;
    size_t block_bytes, blocks;
    reading way; /* fn NULL: not chosen yet */
    char way_text[80];
};

/* ---- all threads start together ---- */

typedef struct race {
    infer_peaks *peaks;
    reading way;
    uint64_t passes;     /* over the buffer */
    infer_peak_fn *loop; /* NULL: read */
    uint64_t rounds;
    _Atomic uint32_t arrived;
    _Atomic uint64_t next; /* block */
    _Atomic uint64_t first_start_ns, last_end_ns;
} race;

static void read_blocks(race *r, uint32_t thread)
{
    const infer_peaks *p = r->peaks;
    const reading *w = &r->way;
    uint32_t threads = infer_pool_threads(p->pool);
    if (w->chunks) {
        uint64_t all = r->passes * p->blocks, b;
        while ((b = atomic_fetch_add_explicit(&r->next, 1, memory_order_relaxed)) < all)
            w->fn(p->buffer + b % p->blocks * p->block_bytes, p->block_bytes, w->streams, w->ahead);
    } else {
        size_t first = p->blocks * thread / threads, end = p->blocks * (thread + 1) / threads;
        for (uint64_t pass = 0; pass < r->passes; pass++)
            for (size_t b = first; b < end; b++)
                w->fn(p->buffer + b * p->block_bytes, p->block_bytes, w->streams, w->ahead);
    }
}

static void race_work(void *arg, uint32_t thread)
{
    race *r = arg;
    uint32_t threads = infer_pool_threads(r->peaks->pool);
    uint64_t now, old;
    atomic_fetch_add(&r->arrived, 1);
    for (uint32_t spins = 0; atomic_load_explicit(&r->arrived, memory_order_acquire) < threads; spins++)
        if (spins > 1000)
            sched_yield(); /* more threads than CPUs */
    now = infer_now_ns();
    for (old = atomic_load(&r->first_start_ns); now < old && !atomic_compare_exchange_weak(&r->first_start_ns, &old, now);)
        ;
    if (r->loop)
        r->loop(r->rounds);
    else
        read_blocks(r, thread);
    now = infer_now_ns();
    for (old = atomic_load(&r->last_end_ns); now > old && !atomic_compare_exchange_weak(&r->last_end_ns, &old, now);)
        ;
}

/* From the first start to the last end. */
static uint64_t run_race(race *r)
{
    uint64_t ns;
    atomic_store(&r->arrived, 0);
    atomic_store(&r->next, 0);
    atomic_store(&r->first_start_ns, UINT64_MAX);
    atomic_store(&r->last_end_ns, 0);
    infer_pool_run(r->peaks->pool, race_work, r);
    ns = atomic_load(&r->last_end_ns) - atomic_load(&r->first_start_ns);
    return ns ? ns : 1;
}

/* ---- bandwidth ---- */

static double read_once(infer_peaks *p, const reading *way, uint64_t *passes)
{
    race r = {.peaks = p, .way = *way, .passes = *passes};
    uint64_t ns = run_race(&r);
    while (ns < PASS_NS && r.passes < 1u << 30) { /* small buffers: as many passes as make a time */
        r.passes *= 2;
        ns = run_race(&r);
    }
    *passes = r.passes;
    return (double)r.passes * p->blocks * p->block_bytes * 1e9 / ns;
}

static double read_median(infer_peaks *p)
{
    double v[BANDWIDTH_SAMPLES];
    uint64_t passes = 1;
    read_once(p, &p->way, &passes); /* warm-up */
    for (uint32_t i = 0; i < BANDWIDTH_SAMPLES; i++)
        v[i] = read_once(p, &p->way, &passes);
    return infer_median(v, BANDWIDTH_SAMPLES);
}

/* All ways in turn, several rounds of it, so that a neighbour's burst does not decide; a way counts as fast as it was once. */
static void choose_way(infer_peaks *p)
{
    static const reading widths[] = {
        {infer_peak_read__16, 16, 1, 0, false},
#if defined(__x86_64__)
        {infer_peak_read__avx2, 32, 1, 0, false},
        {infer_peak_read__avx512, 64, 1, 0, false},
#endif
    };
    static const infer_cpu_level needs[] = {INFER_CPU_REF, INFER_CPU_AVX2, INFER_CPU_AVX512};
    uint32_t levels = infer_cpu_levels_here(), count = sizeof widths / sizeof *widths * VARIANTS;
    double best = 0;
    for (uint32_t i = 0; i < CHOICE_ROUNDS * count; i++) {
        uint32_t way = i % count, width = way / VARIANTS, variant = way % VARIANTS;
        reading w = widths[width];
        uint64_t passes = 1;
        double speed;
        if (!(levels & 1u << needs[width]))
            continue;
        w.streams = variant & 1 ? 4 : 1;
        w.ahead = variant & 2 ? PREFETCH_BYTES : 0;
        w.chunks = variant & 4;
        speed = read_once(p, &w, &passes);
        if (speed > best) {
            best = speed;
            p->way = w;
        }
    }
    snprintf(p->way_text, sizeof p->way_text, "%u-byte loads, %u stream%s, %sprefetch, %s", p->way.width, p->way.streams,
             p->way.streams == 1 ? "" : "s", p->way.ahead ? "" : "no ", p->way.chunks ? "chunks" : "shares");
}

double infer_peaks_bandwidth(infer_peaks *peaks)
{
    if (!peaks->way.fn)
        choose_way(peaks);
    return read_median(peaks);
}

const char *infer_peaks_bandwidth_way(const infer_peaks *peaks) { return peaks->way_text; }

/* Plain 16-byte vectors: every 64-bit CPU has them. */
void infer_peak_read__16(const uint8_t *p, size_t bytes, uint32_t streams, size_t ahead)
{
    typedef uint64_t vector __attribute__((vector_size(16)));
    size_t part = bytes / streams;
    vector a = {0}, b = a, c = a, d = a;
    for (size_t i = 0; i < part; i += 256)
        for (uint32_t s = 0; s < streams; s++) {
            const uint8_t *q = p + s * part + i;
            const vector *v = (const vector *)(const void *)q;
            if (ahead)
                for (uint32_t line = 0; line < 256; line += 64)
                    __builtin_prefetch(q + ahead + line);
            a |= v[0] | v[4] | v[8] | v[12];
            b |= v[1] | v[5] | v[9] | v[13];
            c |= v[2] | v[6] | v[10] | v[14];
            d |= v[3] | v[7] | v[11] | v[15];
        }
    a |= b | c | d;
    __asm__ volatile("" : : "r"(a[0]), "r"(a[1]));
}

/* ---- arithmetic ---- */

typedef struct sequence {
    infer_qtype type;
    infer_cpu_level level;
    infer_peak_fn *fn;
    uint32_t macs;
} sequence;

#if defined(__x86_64__)
#define LEVEL_AVX2(...) __VA_ARGS__
#define LEVEL_AVXVNNI(...) __VA_ARGS__
#define LEVEL_AVX512(...) __VA_ARGS__
#define LEVEL_AVX512VNNI(...) __VA_ARGS__
#else
#define LEVEL_AVX2(...)
#define LEVEL_AVXVNNI(...)
#define LEVEL_AVX512(...)
#define LEVEL_AVX512VNNI(...)
#endif
#if defined(__aarch64__)
#define LEVEL_NEON(...) __VA_ARGS__
#else
#define LEVEL_NEON(...)
#endif
#ifdef INFER_PEAKS_NEON_DOTPROD
#define LEVEL_NEON_DOTPROD(...) __VA_ARGS__
#else
#define LEVEL_NEON_DOTPROD(...)
#endif
#ifdef INFER_PEAKS_NEON_I8MM
#define LEVEL_NEON_I8MM(...) __VA_ARGS__
#else
#define LEVEL_NEON_I8MM(...)
#endif

static const sequence sequences[] = {
#define PEAK(type, level, fn, macs) LEVEL_##level({INFER_QTYPE_##type, INFER_CPU_##level, fn, macs}, )
#include "peaks.def"
#undef PEAK
    {INFER_QTYPE_NONE, INFER_CPU_REF, NULL, 0},
};

static double run_sequence(infer_peaks *p, const sequence *s)
{
    race r = {.peaks = p, .loop = s->fn, .rounds = 1000};
    double v[OPS_SAMPLES];
    while (run_race(&r) < PASS_NS && r.rounds < (uint64_t)1 << 40)
        r.rounds *= 2;
    for (uint32_t i = 0; i < OPS_SAMPLES; i++)
        v[i] = 2.0 * s->macs * r.rounds * infer_pool_threads(p->pool) * 1e9 / run_race(&r);
    return infer_median(v, OPS_SAMPLES);
}

double infer_peaks_ops(infer_peaks *peaks, infer_qtype type, infer_cpu_level level)
{
    infer_qtype wanted = type == INFER_QTYPE_F16 || type == INFER_QTYPE_BF16 ? INFER_QTYPE_F32 : type == INFER_QTYPE_T2R || type == INFER_QTYPE_Q4G64 ? INFER_QTYPE_Q4G32 :
                         type == INFER_QTYPE_Q8G64 ? INFER_QTYPE_Q8G32 : type;
    double best = 0;
    for (const sequence *s = sequences; s->fn; s++)
        if (s->type == wanted && infer_cpu_level_includes(level, s->level)) {
            double speed = run_sequence(peaks, s);
            best = speed > best ? speed : best;
        }
    return best;
}

/* ---- life ---- */

/* Every thread touches its own share first, so that on machines with several memories it lies near the thread. */
static void fill(void *arg, uint32_t thread)
{
    infer_peaks *p = arg;
    uint32_t threads = infer_pool_threads(p->pool);
    size_t first = p->blocks * thread / threads, end = p->blocks * (thread + 1) / threads;
    memset(p->buffer + first * p->block_bytes, 0x5a, (end - first) * p->block_bytes);
}

infer_status infer_peaks_create(infer_pool *pool, size_t buffer_bytes, infer_peaks **out, infer_error *err)
{
    size_t bytes = buffer_bytes < INFER_PEAKS_MAX_BUFFER ? buffer_bytes : INFER_PEAKS_MAX_BUFFER;
    size_t block = infer_round_up(bytes / infer_pool_threads(pool) / 8 + 1, BLOCK_UNIT);
    infer_peaks *p = infer_alloc_zero(NULL, sizeof *p);
    if (!p)
        return infer_fail_memory(err, sizeof *p, "the peaks");
    p->pool = pool;
    p->block_bytes = block < LARGEST_BLOCK ? block : LARGEST_BLOCK;
    p->blocks = infer_ceil_div(bytes ? bytes : 1, p->block_bytes);
    bytes = p->blocks * p->block_bytes;
    p->buffer = infer_alloc(NULL, bytes);
    if (!p->buffer) {
        infer_peaks_destroy(p);
        return infer_fail_memory(err, bytes, "the buffer that measures bandwidth");
    }
#ifdef MADV_HUGEPAGE
    if (bytes > (size_t)8 << 20) { /* the machine's best, not what small pages leave of it; advice only, so failures do not matter */
        uint8_t *first = (uint8_t *)infer_round_up((uintptr_t)p->buffer, (size_t)2 << 20);
        madvise(first, bytes - (size_t)(first - p->buffer), MADV_HUGEPAGE);
    }
#endif
    infer_pool_run(pool, fill, p);
    *out = p;
    return INFER_OK;
}

void infer_peaks_destroy(infer_peaks *peaks)
{
    if (!peaks)
        return;
    infer_free(NULL, peaks->buffer);
    infer_free(NULL, peaks);
}
