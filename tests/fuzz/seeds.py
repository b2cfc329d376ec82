#!/usr/bin/env python3
"""Writes small valid inputs for the fuzz targets of vocabularies and models: FOLDER/fuzz_NAME/.

usage: seeds.py FOLDER
"""
import json
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "formats"))
from importing import gguf, llama_gguf, tokenizer_bin

META = "\u2581"
NONE = 0xFFFFFFFF


def section(kind, flags, pre, texts, scores=None, types=None, merges=(), patterns=b"", charsmap=b""):
    """A tokenizer section (formats/SPEC.md) and a text, as fuzz_tokenizer wants them."""
    raw = [t.encode() for t in texts]
    n = len(raw)
    out = struct.pack("<9I", kind, flags, pre, 0, NONE, NONE, n, len(merges), sum(map(len, raw)))
    out += struct.pack(f"<{n}f", *(scores or [-i for i in range(n)])) + bytes(types or [2] + [1] * (n - 1)) + bytes(-n % 4)
    out += struct.pack(f"<{n}I", *(sum(map(len, raw[:i + 1])) for i in range(n)))
    out += b"".join(struct.pack("<2I", *m) for m in merges) + b"".join(raw)
    for block in [patterns] * (pre == 5) + [charsmap] * bool(flags & 65536):
        out += bytes(-len(out) % 4) + struct.pack("<I", len(block)) + block
    return struct.pack("<I", len(out)) + out + " Ab\u00e9  ab1\n\nba".encode()


def tokenizers():
    letters = ["?", "a", "b", "ab", " ", "1"]
    units = [0] * 512
    units[0], units[256 ^ 65], units[256 ^ 65 ^ 1] = 256 << 10, 65 | 1 << 8 | 1 << 10, 1 << 31
    charsmap = struct.pack("<I512I", 2048, *units) + b"a\0\0\0"
    yield section(1, 1 | 4 | 16, 0, ["?", "a", META, META + "a", "<0xC3>"], types=[2, 1, 1, 1, 6])
    yield section(2, 2, 1, letters, merges=[(1, 2)])
    yield section(2, 2 | 64, 5, letters, merges=[(1, 2)], patterns=b"\\p{N}\0 ?\\p{L}+|\\s+(?!\\S)|\\s+\0")
    yield section(3, 1 | 512 | 65536, 0, letters, charsmap=charsmap)
    yield section(3, 1024, 0, letters)
    yield section(4, 1 | 8192 | 16384 | 32768 | 16, 4, ["?", META + "a", "b", "1"])


def tokenizer_jsons():
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
    template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
                "special_tokens": {"<s>": {"ids": [3]}}}
    split = {"type": "Split", "pattern": {"Regex": " ?[^(\\s|[.,])]+"}, "behavior": "Isolated", "invert": False}
    yield {"added_tokens": [{"id": 3, "content": "<s>", "special": True, "rstrip": True}], "normalizer": {"type": "NFC"},
           "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, {"type": "Digits", "individual_digits": True}, {"type": "ByteLevel"}]},
           "post_processor": template, "model": model}
    yield {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": META},
                                                             {"type": "Replace", "pattern": {"String": " "}, "content": META}]},
           "model": {**model, "byte_fallback": True, "unk_token": "a"}}
    yield {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAAAAAAA"},
           "pre_tokenizer": {"type": "Metaspace", "replacement": META, "prepend_scheme": "first"},
           "model": {"type": "Unigram", "unk_id": 0, "vocab": [["?", 0], ["a", -1]]}}
    yield {"normalizer": {"type": "BertNormalizer", "lowercase": True}, "pre_tokenizer": {"type": "BertPreTokenizer"},
           "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "a": 1, "##b": 2}}}


def field(number, data):
    return bytes([number << 3 | 2, len(data)]) + data


def sentencepieces():
    def piece(text, score, kind):
        return field(1, field(1, text.encode()) + bytes([2 << 3 | 5]) + struct.pack("<f", score) + bytes([3 << 3, kind]))
    pieces = piece("?", 0, 2) + piece(META + "a", -1, 1) + piece("a", -2, 1) + piece("<0x0A>", 0, 6)
    for model in 1, 2:
        yield pieces + field(2, bytes([3 << 3, model, 0x98, 2, 1])) + field(3, bytes([3 << 3, 1, 4 << 3, 1]))


def ggufs():
    def string(text):
        return struct.pack("<Q", len(text.encode())) + text.encode()
    tokens = ["?", "a", "b", META + "ab", "ab"]
    for model, pre in ("llama", None), ("gpt2", "llama-bpe"), ("gpt2", "falcon"), ("t5", None), ("bert", None):
        keys = [("tokenizer.ggml.model", struct.pack("<I", 8) + string(model)),
                ("tokenizer.ggml.tokens", struct.pack("<IIQ", 9, 8, len(tokens)) + b"".join(map(string, tokens))),
                ("tokenizer.ggml.scores", struct.pack("<IIQ5f", 9, 6, 5, 0, -1, -2, -3, -4)),
                ("tokenizer.ggml.token_type", struct.pack("<IIQ5i", 9, 5, 5, 2, 1, 1, 1, 1)),
                ("tokenizer.ggml.merges", struct.pack("<IIQ", 9, 8, 1) + string("a b"))]
        keys += [("tokenizer.ggml.pre", struct.pack("<I", 8) + string(pre))] if pre else []
        yield b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(string(k) + v for k, v in keys)


def gguf_models():
    """A model for each number type that has blocks, one of plain numbers, and that with its tensors in two files."""
    vocab = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["?", "a", "b", META + "ab", "ab"],
             "tokenizer.ggml.scores": [0.0, -1.0, -2.0, -3.0, -4.0]}
    for kind, block in ((2, 18), (3, 20), (6, 22), (7, 24), (8, 34), (9, 36), (20, 18), (10, 84), (11, 110), (12, 144), (13, 176), (14, 210), (15, 292),
                        (23, 136), (34, 54), (35, 66)):
        dim = 256 if block > 36 else 32
        values, tensors = llama_gguf(dim, 2, dim // 2, 5)
        tensors["token_embd.weight"] = [dim, 5], kind, bytes(i % 251 for i in range(block)) * 5
        if dim == 256:  # the large ones in the shortest type
            tensors.update({f"blk.0.attn_{m}.weight": ([dim, dim], 34, bytes(54 * dim)) for m in ("q", "output")})
        yield gguf({**vocab, **values}, tensors)
    values, tensors = llama_gguf(4, 3, 2, 5)
    yield gguf({**vocab, **values}, tensors)


def gguf_splits():
    values, tensors = llama_gguf(4, 3, 2, 5)
    names = list(tensors)
    for first in 0, 5:
        split = {"split.count": 2, "split.tensors.count": len(names)}
        a = gguf({**values, **split, "split.no": 0}, {n: tensors[n] for n in names[:first]})
        b = gguf({**split, "split.no": 1}, {n: tensors[n] for n in names[first:]})
        yield struct.pack("<I", len(a)) + a + b


def llama2cs():
    """Versions 0, 1 and 2, each behind its tokenizer."""
    shape = 4, 6, 1, 2, 1, 5, 8
    norms, matrices = (4, 4, 4), (20, 16, 8, 8, 16, 24, 24, 24)
    tokenizer = tokenizer_bin(5)
    floats = sum(norms) + sum(matrices)
    header = struct.pack("<7iB", *shape, 1)
    for raw in (struct.pack("<7i", *shape) + bytes(4 * (floats + 8 * 2)), struct.pack("<II", 0x616B3432, 1) + header + bytes(219 + 4 * floats),
                struct.pack("<II", 0x616B3432, 2) + header + struct.pack("<I", 4) + bytes(215 + 4 * sum(norms) + 2 * sum(matrices))):
        yield struct.pack("<H", len(tokenizer)) + tokenizer + raw


def bitllamas():
    dim, ffn, layers, kv, vocab = 4, 8, 2, 2, 5
    tokenizer = tokenizer_bin(vocab)
    header = struct.pack("<2I7iB", 0x616B3432, 1, dim, ffn, layers, 2, 1, vocab, 8, 1).ljust(256, b"\0")
    floats = bytes(4 * (dim + vocab * dim))
    matrices = b"".join((struct.pack("<f", 0.5) + bytes([0x1D] * (rows * cols // 4))) * layers for rows, cols in (
        (dim, dim), (kv, dim), (kv, dim), (dim, dim), (ffn, dim), (dim, ffn), (ffn, dim)))
    yield struct.pack("<H", len(tokenizer)) + tokenizer + header + floats + matrices


def safetensors():
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for kind, size in ("F32", 4), ("F16", 2), ("BF16", 2), ("U8", 1), ("I64", 8):
        header["t." + kind] = {"dtype": kind, "shape": [2, 3], "data_offsets": [len(data), len(data) + 6 * size]}
        data += bytes(range(6 * size))
    text = json.dumps(header).encode()
    yield struct.pack("<Q", len(text)) + text + data
    yield struct.pack("<Q", 2) + b"{}"


def hf_configs():
    sizes = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
             "intermediate_size": 12, "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": [2, 3]}
    kinds = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4}
    local = {"full_attention": {"rope_type": "linear", "factor": 8, "rope_theta": 1e6}, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
    llama3 = {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 16}
    longrope = {"type": "longrope", "short_factor": [1, 2], "long_factor": [1, 2]}
    for name, more in (("Llama", {"rope_scaling": llama3, "quantization_config": {"quant_method": "bitnet"}}), ("Mistral", {"sliding_window": 4}),
                       ("Qwen2", {"use_sliding_window": True, "max_window_layers": 0}), ("Qwen3", {"layer_types": ["full_attention"] * 2}),
                       ("Phi3", {"rope_scaling": longrope, "original_max_position_embeddings": 16}), ("Gemma", {}), ("Gemma2", kinds),
                       ("Gemma3", {**kinds, "rope_parameters": local, "chat_template": [{"name": "default", "template": "x"}]}),
                       ("BitNet", {"hidden_act": "relu2", "quantization_config": {"quant_method": "bitnet", "quantization_mode": "online"}})):
        yield {"architectures": [name + "ForCausalLM"], **sizes, **more}
    yield {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": sizes}
    yield {"architectures": ["GPT2LMHeadModel"], "n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 9, "activation_function": "gelu_new"}


def main():
    folder = pathlib.Path(sys.argv[1])
    for name, seeds in (("tokenizer", tokenizers()), ("tokenizer_json", (json.dumps(j).encode() for j in tokenizer_jsons())),
                        ("sentencepiece", sentencepieces()), ("gguf", [*ggufs(), *gguf_models()]), ("gguf_split", gguf_splits()),
                        ("llama2c", llama2cs()), ("bitllama", bitllamas()),
                        ("safetensors", safetensors()), ("hf_config", (json.dumps(j).encode() for j in hf_configs()))):
        target = folder / f"fuzz_{name}"
        target.mkdir(parents=True, exist_ok=True)
        for i, seed in enumerate(seeds):
            (target / f"seed{i}").write_bytes(seed)


if __name__ == "__main__":
    main()
