#include "kernels.h"

#include "cpu.h"

/* A line of kernels.def passes through the macro of its level: the whole line where that level was compiled in, nothing elsewhere. */
#define LEVEL_REF(...) __VA_ARGS__
#ifdef INFER_HAVE_AVX2
#define LEVEL_AVX2(...) __VA_ARGS__
#define LEVEL_ZEN(...) __VA_ARGS__
#else
#define LEVEL_AVX2(...)
#define LEVEL_ZEN(...)
#endif
#ifdef INFER_HAVE_AVXVNNI
#define LEVEL_AVXVNNI(...) __VA_ARGS__
#else
#define LEVEL_AVXVNNI(...)
#endif
#ifdef INFER_HAVE_AVX512
#define LEVEL_AVX512(...) __VA_ARGS__
#else
#define LEVEL_AVX512(...)
#endif
#ifdef INFER_HAVE_AVX512VNNI
#define LEVEL_AVX512VNNI(...) __VA_ARGS__
#else
#define LEVEL_AVX512VNNI(...)
#endif
#ifdef INFER_HAVE_NEON
#define LEVEL_NEON(...) __VA_ARGS__
#else
#define LEVEL_NEON(...)
#endif
#ifdef INFER_HAVE_NEON_DOTPROD
#define LEVEL_NEON_DOTPROD(...) __VA_ARGS__
#else
#define LEVEL_NEON_DOTPROD(...)
#endif
#ifdef INFER_HAVE_NEON_I8MM
#define LEVEL_NEON_I8MM(...) __VA_ARGS__
#else
#define LEVEL_NEON_I8MM(...)
#endif

static const infer_kernel table[] = {
#define KERNEL(op, type, layout, level, fn)                                                                                                \
    LEVEL_##level({INFER_OP_##op, INFER_QTYPE_##type, INFER_LAYOUT_##layout, INFER_CPU_##level, fn, #fn}, )
#include "kernels.def"
#undef KERNEL
};

#define KERNEL_COUNT (sizeof table / sizeof table[0])

const infer_kernel *infer_kernels(size_t *count)
{
    *count = KERNEL_COUNT;
    return table;
}

const infer_kernel *infer_kernel_find(infer_op_kind op, infer_qtype type, infer_layout layout, infer_cpu_level level)
{
    for (size_t i = 0; i < KERNEL_COUNT; i++) {
        const infer_kernel *k = &table[i];
        if (k->op == op && k->type == type && k->layout == layout && infer_cpu_level_includes(level, k->level))
            return k;
    }
    return NULL;
}

const char *infer_op_name(infer_op_kind op)
{
    static const char *const names[INFER_OP_COUNT] = {
        [INFER_OP_MATMUL] = "matmul",       [INFER_OP_EMBED] = "embed",       [INFER_OP_QUANTIZE] = "quantize", [INFER_OP_RMSNORM] = "rmsnorm",
        [INFER_OP_ROPE] = "rope",           [INFER_OP_STORE_K] = "store_k",   [INFER_OP_STORE_V] = "store_v",
        [INFER_OP_ATTENTION] = "attention", [INFER_OP_ACTIVATION] = "activation", [INFER_OP_ADD] = "add", [INFER_OP_LAYERNORM] = "layernorm",
        [INFER_OP_ATTENTION_CHUNKS] = "attention_chunks", [INFER_OP_ATTENTION_MERGE] = "attention_merge",
    };
    return (unsigned)op < INFER_OP_COUNT ? names[op] : "?";
}
