/* llama2.c checkpoints: what the importers of its formats share. bitllama writes the header of version 1 before other tensors, so that only
 * the file's size tells the two apart: an importer of its must probe for that, and stand before this one in importers.c. */
#ifndef INFER_FORMATS_IMPORT_LLAMA2C_H
#define INFER_FORMATS_IMPORT_LLAMA2C_H

#include "import/arch.h"

#define INFER_LLAMA2C_HEADER_BYTES 256u /* of versions 1 and 2; version 0 has 28 bytes */

typedef struct infer_llama2c_header {
    uint32_t version; /* 0, 1, 2 */
    uint32_t group;   /* version 2: numbers that share a scale */
} infer_llama2c_header;

/* The header and the model that it describes, from the first `bytes` bytes of the file; 64 are enough. FORMAT: no such header, or a number out
 * of range; UNSUPPORTED: another version. */
infer_status infer_llama2c_read_header(const uint8_t *data, size_t bytes, const char *path, infer_llama2c_header *out, infer_arch *m, infer_error *err);
/* The vocabulary of s: from the file `tokenizer`, else from tokenizer.bin or tokN.bin (N tokens) beside the checkpoint m->path. */
infer_status infer_llama2c_read_vocab(infer_source *s, const infer_arch *m, const char *tokenizer, infer_error *err);

#endif
