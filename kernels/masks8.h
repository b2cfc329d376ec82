/* Tables with a row for each of the 256 masks of eight bits: INFER_EACH_MASK8(row) is row(0), row(1) ... row(255). */
#ifndef INFER_KERNELS_MASKS8_H
#define INFER_KERNELS_MASKS8_H

#define INFER_MASKS8_4(row, m) row(m), row((m) + 1), row((m) + 2), row((m) + 3)
#define INFER_MASKS8_16(row, m) INFER_MASKS8_4(row, m), INFER_MASKS8_4(row, (m) + 4), INFER_MASKS8_4(row, (m) + 8), INFER_MASKS8_4(row, (m) + 12)
#define INFER_MASKS8_64(row, m) \
    INFER_MASKS8_16(row, m), INFER_MASKS8_16(row, (m) + 16), INFER_MASKS8_16(row, (m) + 32), INFER_MASKS8_16(row, (m) + 48)
#define INFER_EACH_MASK8(row) INFER_MASKS8_64(row, 0), INFER_MASKS8_64(row, 64), INFER_MASKS8_64(row, 128), INFER_MASKS8_64(row, 192)

#endif
