/* The denominators: how fast this machine reads memory and multiplies, measured on the threads of a pool. Everything is measured anew at every
 * call, so that callers can alternate it with what they compare to it. */
#ifndef INFER_BENCH_PEAKS_H
#define INFER_BENCH_PEAKS_H

#include "core/pool.h"
#include "kernels.h"

typedef struct infer_peaks infer_peaks;

#define INFER_PEAKS_MAX_BUFFER ((size_t)2 << 30)

/* `buffer_bytes` is what infer_peaks_bandwidth reads: as much as the weights it is compared with (cut at INFER_PEAKS_MAX_BUFFER, which no cache
 * holds). The pool must outlive the peaks and do nothing else while one is measured. MEMORY. */
infer_status infer_peaks_create(infer_pool *pool, size_t buffer_bytes, infer_peaks **out, infer_error *err);
void infer_peaks_destroy(infer_peaks *peaks);

/* Bytes read per second by all threads together: the median of several passes over the buffer. The first call tries all ways to read (vector width,
 * streams, prefetching, fixed shares or chunks taken in turn) and stays with the fastest. */
double infer_peaks_bandwidth(infer_peaks *peaks);
/* What the fastest way is: "32-byte loads, 4 streams, prefetch, shares". Valid after infer_peaks_bandwidth, until destroy. */
const char *infer_peaks_bandwidth_way(const infer_peaks *peaks);

/* Operations per second (2 a multiply-add) of all threads together in the best exact sequence for weights of `type`; see peaks.def. 0: `level` has
 * none (ref). */
double infer_peaks_ops(infer_peaks *peaks, infer_qtype type, infer_cpu_level level);

/* ---- between peaks.c and the files with the loops ---- */

/* Reads `bytes` (a multiple of 4096) in 1 or 4 streams, prefetching `ahead` bytes (0: not). */
typedef void infer_peak_read_fn(const uint8_t *p, size_t bytes, uint32_t streams, size_t ahead);
typedef void infer_peak_fn(uint64_t rounds);

infer_peak_read_fn infer_peak_read__16, infer_peak_read__avx2, infer_peak_read__avx512;
#define PEAK(type, level, fn, macs) infer_peak_fn fn;
#include "peaks.def"
#undef PEAK

#endif
