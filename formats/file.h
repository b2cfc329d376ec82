/* The .infer file: reader and writer. formats/SPEC.md is the contract; this header only names its parts. */
#ifndef INFER_FORMATS_FILE_H
#define INFER_FORMATS_FILE_H

#include "core/core.h"
#include "qtypes.h"

#include <stdio.h>

#define INFER_FILE_VERSION 1u
#define INFER_FILE_ALIGN 64u      /* of every tensor */
#define INFER_FILE_MAX_TENSORS 65536u
#define INFER_FILE_MAX_NAME 255u  /* bytes of a tensor name */
#define INFER_FILE_MAX_DIM (1u << 30)     /* rows or columns of a tensor */
#define INFER_FILE_MAX_META (1u << 20)    /* bytes of the JSON metadata */
#define INFER_FILE_MAX_VOCAB (256u << 20) /* bytes of the tokenizer section */

typedef struct infer_tensor_info {
    const char *name; /* NUL-terminated, owned by the file */
    infer_qtype type;
    infer_layout layout;
    uint64_t rows, cols; /* vectors: rows = 1 */
    uint64_t offset, bytes;
    uint64_t hash; /* XXH3, 64 bits, of the bytes */
} infer_tensor_info;

/* ---- reader.c ---- */

typedef struct infer_file infer_file;

/* Maps `path`, checks header, directory hash, every range and size; reads no tensor. */
infer_status infer_file_open(const infer_allocator *a, const char *path, infer_file **out, infer_error *err);

/* Where a file's bytes come from. */
typedef struct infer_file_origin {
    const char *name; /* the path, and what messages call it */
    int fd;           /* a descriptor to map instead of the path, it stays the caller's; -1: none */
    const void *data; /* memory instead of a file, aligned to 64 bytes unless it is copied; it must stay as it is until the file is closed. NULL: none */
    size_t bytes;
    bool copy;        /* into memory, instead of a map */
    bool guard;       /* the map, as infer_guard does; the tokenizer section is copied, so that only tensors can be lost */
} infer_file_origin;
infer_status infer_file_open_from(const infer_allocator *a, const infer_file_origin *from, infer_file **out, infer_error *err);
void infer_file_close(infer_file *f);
const char *infer_file_path(const infer_file *f);
uint64_t infer_file_bytes(const infer_file *f);
/* Of the header, which holds those of metadata, tokenizer and directory, which holds those of the tensors: of all that the file says. */
uint64_t infer_file_hash(const infer_file *f);
/* The metadata as NUL-terminated text: one JSON object, checked to be one. */
const char *infer_file_metadata(const infer_file *f);
/* The tokenizer section; *bytes may be 0. */
const uint8_t *infer_file_vocab(const infer_file *f, size_t *bytes);
size_t infer_file_tensor_count(const infer_file *f);
const infer_tensor_info *infer_file_tensor(const infer_file *f, size_t index); /* NULL beyond the count */
/* NULL when there is none. O(1) on average. */
const infer_tensor_info *infer_file_find(const infer_file *f, const char *name);
/* The tensor's bytes in the map. Nothing is checked or copied. */
const void *infer_file_data(const infer_file *f, const infer_tensor_info *t);
/* Whether the pointers and positions of a sparse layout are right; other layouts are. Reads them, not the values. No kernel may see a sparse tensor that was
 * not checked: CORRUPT names the place. */
infer_status infer_file_check_sparse(const infer_file *f, const infer_tensor_info *t, infer_error *err);
/* Compares the tensor's hash with its bytes, and checks it as infer_file_check_sparse: CORRUPT names tensor, offset, found and expected. */
infer_status infer_file_verify(const infer_file *f, const infer_tensor_info *t, infer_error *err);
/* CORRUPT when the file became shorter than its map, or was written to. */
infer_status infer_file_check(const infer_file *f, infer_error *err);

/* ---- writer.c ---- */

/* Writes to a temporary file beside `path` and renames it at the end: an existing file is replaced whole or left as it was. Order of calls:
 * create, declare every tensor, write each tensor's data in the declared order, finish. Abort at any point removes what was made. */
typedef struct infer_writer infer_writer;

typedef struct infer_writer_options {
    const char *metadata;  /* one JSON object; borrowed, like the vocabulary, during infer_writer_create */
    const void *vocab;     /* tokenizer section */
    size_t vocab_bytes;
    bool overwrite;        /* else an existing path is an error */
} infer_writer_options;

infer_status infer_writer_create(const infer_allocator *a, const char *path, const infer_writer_options *options, infer_writer **out,
                                 infer_error *err);
infer_status infer_writer_declare(infer_writer *w, const char *name, infer_qtype type, infer_layout layout, uint64_t rows, uint64_t cols,
                                  infer_error *err);
/* The same for a sparse layout, whose size depends on what is kept: bytes as infer_sparse_bytes says. */
infer_status infer_writer_declare_sparse(infer_writer *w, const char *name, infer_qtype type, infer_layout layout, uint64_t rows, uint64_t cols,
                                         uint64_t bytes, infer_error *err);
/* Appends `bytes` of the current tensor; a tensor ends when all its bytes are there. */
infer_status infer_writer_write(infer_writer *w, const void *data, size_t bytes, infer_error *err);
/* Header, directory, fsync, rename. Frees the writer, whatever the status. */
infer_status infer_writer_finish(infer_writer *w, infer_error *err);
void infer_writer_abort(infer_writer *w);

/* ---- metadata keys (SPEC.md, "Metadata") ----
 * "architecture": "llama", "name", "dim", "layers", "heads", "kv_heads", "head_dim", "ffn_dim", "vocab", "context", "norm_eps",
 * "rope": {"theta", "dim", "pairs": "adjacent"|"halves", "scaling": {"type": "none"|"linear"|"llama3", "factor", ...}},
 * "bos": id, "eos": [ids], "tied_head": bool, "source": {...}
 *
 * ---- tensor names ----
 * "tok_embed" [vocab][dim]; "out_norm" [1][dim]; "head" [vocab][dim], absent when tied; per layer i:
 * "layers.i.attn_norm", "layers.i.q" [heads*head_dim][dim], "layers.i.k", "layers.i.v", "layers.i.o" [dim][heads*head_dim],
 * "layers.i.ffn_norm", "layers.i.gate" [ffn][dim], "layers.i.up", "layers.i.down" [dim][ffn]
 */
#endif
