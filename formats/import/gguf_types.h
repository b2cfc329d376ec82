/* How GGUF stores numbers: blocks of so many numbers in so many bytes, read as floats. */
#ifndef INFER_FORMATS_IMPORT_GGUF_TYPES_H
#define INFER_FORMATS_IMPORT_GGUF_TYPES_H

#include "qtypes.h"

#include <stdint.h>

#define INFER_GGUF_F32 0u /* id of plain floats */
#define INFER_GGUF_MOST_NUMBERS 256 /* of a block */

typedef struct infer_gguf_number_type {
    uint32_t id; /* in the file */
    const char *name;
    uint32_t numbers, bytes; /* of a block */
    infer_qtype stored;      /* `stored` of infer_source_tensor; T2R: where all blocks of each row have one scale */
    /* One block, [bytes] -> [numbers]. NULL: known by name only, cannot be read. */
    void (*read)(const uint8_t *block, float *x);
    /* The same as codes; gives the scale, an fp16. NULL unless `stored` is Q8G32 or Q4G32. */
    uint16_t (*read_codes)(const uint8_t *block, int8_t *codes);
} infer_gguf_number_type;

/* NULL: no such type is known. */
const infer_gguf_number_type *infer_gguf_number_type_find(uint32_t id);

#endif
