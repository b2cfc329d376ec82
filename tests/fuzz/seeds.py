#!/usr/bin/env python3
"""Writes small valid inputs for the fuzz targets: FOLDER/NAME/.

usage: seeds.py FOLDER TOOLS

TOOLS: the folder with infer-convert and infer-eval, which make .infer files and what infer-eval reads back.
"""
import json
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "formats"))
from importing import gguf, llama_gguf, tokenizer_bin

META = "\u2581"
NONE = 0xFFFFFFFF
VOCAB = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["?", "a", "b", META + "ab", "ab"], "tokenizer.ggml.scores": [0.0, -1.0, -2.0, -3.0, -4.0]}


def section(kind, flags, pre, texts, scores=None, types=None, merges=(), patterns=b"", steps=(), charsmap=b""):
    """A tokenizer section (formats/SPEC.md) and a text, as fuzz_tokenizer wants them."""
    raw = [t.encode() for t in texts]
    n = len(raw)
    out = struct.pack("<9I", kind, flags, pre, 0, NONE, NONE, n, len(merges), sum(map(len, raw)))
    out += struct.pack(f"<{n}f", *(scores or [-i for i in range(n)])) + bytes(types or [2] + [1] * (n - 1)) + bytes(-n % 4)
    out += struct.pack(f"<{n}I", *(sum(map(len, raw[:i + 1])) for i in range(n)))
    out += b"".join(struct.pack("<2I", *m) for m in merges) + b"".join(raw)
    lists = [(what, argument, text.encode(), content.encode()) for what, argument, text, content in steps]
    listed = b"".join(struct.pack("<4I", what, argument, len(a), len(b)) + a + b + bytes(-len(a + b) % 4) for what, argument, a, b in lists)
    for block in [patterns] * (pre == 5) + [listed] * (pre == 6) + [charsmap] * bool(flags & 65536):
        out += bytes(-len(out) % 4) + struct.pack("<I", len(block)) + block
    return struct.pack("<I", len(out)) + out + " Ab\u00e9  ab1\n\nba".encode()


def part(data):
    """As fuzz_part reads it."""
    return struct.pack("<H", len(data)) + data


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
    forms = [(1, 4, "", ""), (2, 0, "", ""), (3, 3, "", ""), (4, 2, "", ""), (5, 0, "", ""), (7, 3, "", "")]
    yield section(2, 2 | 524288 | 262144, 6, ["?", "\u0120a", "b", "ab"], steps=[(9, 0, "a", "bb"), (11, 0, "", ""), (13, 3, "b+", "")])
    yield section(3, 16 | 65536, 6, letters, types=[2, 1, 1, 1, 7 + 64, 3 + 128], charsmap=charsmap,
                  steps=[(6, 0, "", ""), (10, 0, "\\s{2,}", META), (12, 0, "", ""), (9, 0, " ", META), (8, 3, META, ""), (13, 4, META, "")])
    yield section(4, 524288, 6, letters, steps=[*forms, (13, 18, "\\p{L}+|[^\\s]", ""), (14, 3, "", ""), (15, 1, "", ""), (16, 2, "", "")])
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
    yield {"added_tokens": [{"id": 9, "content": "<s>", "single_word": True, "normalized": True}],
           "normalizer": {"type": "Sequence", "normalizers": [{"type": "Strip", "strip_left": True}, {"type": "Nmt"}, {"type": "BertNormalizer"},
                                                             {"type": "Replace", "pattern": {"Regex": "^a{1,2}+[^\\w[b]]$"}, "content": "b"}]},
           "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "FixedLength", "length": 4},
                                                                   {"type": "Punctuation", "behavior": "MergedWithNext"},
                                                                   {"type": "CharDelimiterSplit", "delimiter": "b"}]},
           "model": {"type": "BPE", "vocab": {"a": 0, "b</w>": 1, "ab</w>": 2}, "merges": [["a", "b</w>"]], "end_of_word_suffix": "</w>"}}
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
    """A model for each number type that has blocks, and one of plain numbers."""
    for kind, block in ((2, 18), (3, 20), (6, 22), (7, 24), (8, 34), (9, 36), (20, 18), (10, 84), (11, 110), (12, 144), (13, 176), (14, 210), (15, 292),
                        (23, 136), (34, 54), (35, 66)):
        dim = 256 if block > 36 else 32
        values, tensors = llama_gguf(dim, 2, dim // 2, 5)
        tensors["token_embd.weight"] = [dim, 5], kind, bytes(i % 251 for i in range(block)) * 5
        if dim == 256:  # the large ones in the shortest type
            tensors.update({f"blk.0.attn_{m}.weight": ([dim, dim], 34, bytes(54 * dim)) for m in ("q", "output")})
        yield gguf({**VOCAB, **values}, tensors)
    values, tensors = llama_gguf(4, 3, 2, 5)
    yield gguf({**VOCAB, **values}, tensors)


def gguf_splits():
    values, tensors = llama_gguf(4, 3, 2, 5)
    values.update(VOCAB)
    names = list(tensors)
    for first in 0, 5:
        split = {"split.count": 2, "split.tensors.count": len(names)}
        a = gguf({**values, **split, "split.no": 0}, {n: tensors[n] for n in names[:first]})
        b = gguf({**split, "split.no": 1}, {n: tensors[n] for n in names[first:]})
        yield part(a) + b


def llama2cs():
    """Versions 0, 1 and 2, each behind its tokenizer."""
    shape = 4, 6, 1, 2, 1, 5, 8
    norms, matrices = (4, 4, 4), (20, 16, 8, 8, 16, 24, 24, 24)
    tokenizer = tokenizer_bin(5)
    floats = sum(norms) + sum(matrices)
    header = struct.pack("<7iB", *shape, 1)
    for raw in (struct.pack("<7i", *shape) + bytes(4 * (floats + 8 * 2)), struct.pack("<II", 0x616B3432, 1) + header + bytes(219 + 4 * floats),
                struct.pack("<II", 0x616B3432, 2) + header + struct.pack("<I", 4) + bytes(215 + 4 * sum(norms) + 2 * sum(matrices))):
        yield part(tokenizer) + raw


def bitllamas():
    dim, ffn, layers, kv, vocab = 4, 8, 2, 2, 5
    tokenizer = tokenizer_bin(vocab)
    header = struct.pack("<2I7iB", 0x616B3432, 1, dim, ffn, layers, 2, 1, vocab, 8, 1).ljust(256, b"\0")
    floats = bytes(4 * (dim + vocab * dim))
    matrices = b"".join((struct.pack("<f", 0.5) + bytes([0x1D] * (rows * cols // 4))) * layers for rows, cols in (
        (dim, dim), (kv, dim), (kv, dim), (dim, dim), (ffn, dim), (dim, ffn), (ffn, dim)))
    yield part(tokenizer) + header + floats + matrices


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


def vocab_jsons():
    yield part(b"#version: 0.2\na b\n") + json.dumps({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}).encode()
    yield part(b"") + json.dumps({"a": 0}).encode()


def hf_folders():
    """config.json, tokenizer.json, index, tensors."""
    dim, ffn, vocab = 8, 12, 4
    shapes = {"model.embed_tokens": [vocab, dim], "model.norm": [dim], "lm_head": [vocab, dim]}
    layer = {"input_layernorm": [dim], "post_attention_layernorm": [dim], "self_attn.q_proj": [dim, dim], "self_attn.k_proj": [4, dim],
             "self_attn.v_proj": [4, dim], "self_attn.o_proj": [dim, dim], "mlp.gate_proj": [ffn, dim], "mlp.up_proj": [ffn, dim], "mlp.down_proj": [dim, ffn]}
    shapes.update({"model.layers.0." + name: shape for name, shape in layer.items()})
    config = {"architectures": ["LlamaForCausalLM"], "vocab_size": vocab, "hidden_size": dim, "num_hidden_layers": 1, "num_attention_heads": 2,
              "num_key_value_heads": 1, "intermediate_size": ffn, "max_position_embeddings": 32}
    bpe = {"added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}, "pre_tokenizer": {"type": "ByteLevel"}}
    for kind, size in ("F32", 4), ("BF16", 2):
        header, at = {}, 0
        for name, shape in shapes.items():
            end = at + size * shape[0] * (shape[1] if len(shape) > 1 else 1)
            header[name + ".weight"] = {"dtype": kind, "shape": shape, "data_offsets": [at, end]}
            at = end
        text = json.dumps(header).encode()
        index = {"weight_map": {name: "model.safetensors" for name in header}} if kind == "BF16" else None
        yield (part(json.dumps(config).encode()) + part(json.dumps(bpe).encode()) + part(json.dumps(index).encode() if index else b"") +
               struct.pack("<Q", len(text)) + text + bytes([1, 61]) * (at // 2))  # 0.03 as BF16, and as F32


def chats():
    say = [(0, b" Be brief."), (1, b"Who <|im_end|>\n are you? "), (2, b"[INST] I </s> am"), (1, b"\xff")]
    for template in range(10):
        for first in 0, 1:
            yield bytes([template]) + b"".join(bytes([role]) + part(text) for role, text in say[first:])
    yield b"{{ '<start_of_turn>' + role }} <end_of_turn>"


def states():
    """Of the model that fuzz_state makes, which fills in sizes and hashes: f16, f32 and q8g32, of several positions."""
    for kv, (number, panel) in enumerate(((1, 512), (0, 1024), (3, 544))):
        for position in 0, 3, 16, 17, 40:
            head = b"\x89INFKV\r\n" + struct.pack("<2I2Q6IQ", 1, 64, 0, 0, number, position, 1, 2, 16, 0, 0)
            body = bytes([0, 60, 0, 188] * (panel // 4)) * (2 * 2 * -(-position // 16))
            yield bytes([kv + (66, 192)[position % 2]]) + head + body


def infers(tools):
    """A model in every number type, and one with a chat template."""
    values, tensors = llama_gguf(32, 16, 2, 6, fill=lambda n: bytes([0, 0, 0, 61, 0, 0, 0, 189] * (n // 8 + 1))[:n])
    values.update({"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["?", "<s>", "a", "b", META + "ab", "ab"],
                   "tokenizer.ggml.scores": [0.0, 0.0, -1.0, -2.0, -3.0, -4.0], "tokenizer.ggml.bos_token_id": 1})
    with tempfile.TemporaryDirectory() as folder:
        source, out = pathlib.Path(folder) / "model.gguf", pathlib.Path(folder) / "model.infer"
        usage = subprocess.run([tools / "infer-convert", "--help"], check=True, capture_output=True, text=True).stdout
        for i, kind in enumerate(re.search("Types: (.*)", usage).group(1).split()):
            template = {"tokenizer.chat_template": "<|im_start|> <|im_end|>"} if i % 2 else {}
            source.write_bytes(gguf({**values, **template}, tensors))
            subprocess.run([tools / "infer-convert", source, "-o", out, "-f", "-q", "--type", kind], check=True)
            yield out.read_bytes()


def evals(tools, model):
    """A recorded run."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "model.infer").write_bytes(model)
        (folder / "text").write_text("ab ab a b ab a b")
        subprocess.run([tools / "infer-eval", folder / "model.infer", "--text", folder / "text", "--record", folder / "teacher"], check=True,
                       capture_output=True)
        yield (folder / "teacher").read_bytes()


def metadata(files):
    for raw in files:
        at, size = struct.unpack_from("<2Q", raw, 24)
        yield raw[at:at + size]
    base = {"architecture": "gemma", "dim": 8, "layers": 2, "heads": 2, "kv_heads": 1, "head_dim": 4, "ffn_dim": 12, "vocab": 9, "context": 32, "norm_eps": 1e-6,
            "bos": 1, "eos": [2, 3], "chat_template": "<start_of_turn><end_of_turn>"}
    for scaling in ({"type": "linear", "factor": 8}, {"type": "factors", "factors": [1, 2], "magnitude": 1.5},
                    {"type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_context": 16}):
        yield json.dumps({**base, "rope": {"theta": 10000, "dim": 4, "pairs": "halves", "scaling": scaling}}).encode()
    yield json.dumps({**base, "architecture": "gpt2"}).encode()


def main():
    folder, tools = map(pathlib.Path, sys.argv[1:])
    files = list(infers(tools))
    kinds = {1: "spm", 2: "bpe", 3: "unigram", 4: "wordpiece"}
    seeds = [("tokenizer_" + kinds[raw[4]], [raw]) for raw in tokenizers()]
    seeds += [("tokenizer_json", (json.dumps(j).encode() for j in tokenizer_jsons())), ("sentencepiece", sentencepieces()), ("vocab_json", vocab_jsons()),
              ("tokenizer_bin", [tokenizer_bin(5), tokenizer_bin(40)]), ("gguf", [*ggufs(), *gguf_models()]), ("gguf_split", gguf_splits()),
              ("llama2c", llama2cs()), ("bitllama", bitllamas()), ("hf", hf_folders()), ("safetensors", safetensors()),
              ("hf_config", (json.dumps(j).encode() for j in hf_configs())), ("chat", chats()), ("state", states()), ("metadata", metadata(files)), ("file", files),
              ("model", files), ("infer", files), ("eval", evals(tools, files[0])), ("vocab", (raw[4:4 + struct.unpack_from("<I", raw)[0]] for raw in tokenizers()))]
    count = 0
    for name, inputs in seeds:
        target = folder / name
        target.mkdir(parents=True, exist_ok=True)
        for raw in inputs:
            (target / f"seed{count}").write_bytes(raw)
            count += 1


if __name__ == "__main__":
    main()
