#!/usr/bin/env python3
"""Writes small valid inputs for the fuzz targets of vocabularies: FOLDER/fuzz_NAME/.

usage: seeds.py FOLDER
"""
import json
import pathlib
import struct
import sys

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


def main():
    folder = pathlib.Path(sys.argv[1])
    for name, seeds in (("tokenizer", tokenizers()), ("tokenizer_json", (json.dumps(j).encode() for j in tokenizer_jsons())),
                        ("sentencepiece", sentencepieces()), ("gguf", ggufs())):
        target = folder / f"fuzz_{name}"
        target.mkdir(parents=True, exist_ok=True)
        for i, seed in enumerate(seeds):
            (target / f"seed{i}").write_bytes(seed)


if __name__ == "__main__":
    main()
