/* Where things lie in a version 1 file: the numbers that reader.c and writer.c share. formats/SPEC.md explains them. */
#ifndef INFER_FORMATS_LAYOUT_H
#define INFER_FORMATS_LAYOUT_H

#include "core/core.h"
#include "file.h"

#define MAGIC "\x89INFER\r\n" /* a byte beyond ASCII and a line end, so that text-mode transfers show at once */
#define MAGIC_BYTES 8u

/* Byte offsets in the header. */
enum {
    HEADER_VERSION = 8,      /* u32 */
    HEADER_BYTES_FIELD = 12, /* u32 */
    HEADER_FILE_BYTES = 16,  /* u64, and so on */
    HEADER_META_OFFSET = 24,
    HEADER_META_BYTES = 32,
    HEADER_VOCAB_OFFSET = 40,
    HEADER_VOCAB_BYTES = 48,
    HEADER_DIR_OFFSET = 56,
    HEADER_DIR_BYTES = 64,
    HEADER_DATA_OFFSET = 72,
    HEADER_TENSORS = 80, /* u32 */
    HEADER_FLAGS = 84,   /* u32, zero */
    HEADER_META_HASH = 88,
    HEADER_VOCAB_HASH = 96,
    HEADER_DIR_HASH = 104,
    HEADER_RESERVED = 112, /* u64, zero */
    HEADER_HASH = 120,     /* of bytes 0..119 */
    HEADER_BYTES = 128
};

/* Byte offsets in a directory entry. The names follow the entries: NUL-terminated, in the same order, without gaps. */
enum {
    ENTRY_OFFSET = 0,
    ENTRY_BYTES_FIELD = 8,
    ENTRY_ROWS = 16,
    ENTRY_COLS = 24,
    ENTRY_HASH = 32,
    ENTRY_NAME_OFFSET = 40, /* u32, from the first name */
    ENTRY_NAME_BYTES = 44,  /* u16, without the NUL */
    ENTRY_TYPE = 46,        /* u8 */
    ENTRY_LAYOUT = 47,      /* u8 */
    ENTRY_BYTES = 48
};

static inline uint64_t align_up(uint64_t offset) { return (offset + INFER_FILE_ALIGN - 1) / INFER_FILE_ALIGN * INFER_FILE_ALIGN; }

/* Tensor names are printable ASCII without the space, so that they can be shown and matched anywhere. */
static inline bool name_byte_ok(unsigned char c) { return c > 0x20 && c < 0x7f; }

#endif
