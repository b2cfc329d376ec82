#!/usr/bin/env python3
"""Makes sample models of every format in a folder, and runs a program on it.

usage: run.py PROGRAM INFER-CONVERT
"""
import pathlib
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "fuzz"))
import seeds


def parts(raw, count):
    """What seeds.part joined: `count` parts, and the rest."""
    out = []
    for _ in range(count):
        size, = struct.unpack_from("<H", raw)
        out.append(raw[2:2 + size])
        raw = raw[2 + size:]
    return out + [raw]


def main():
    program, convert = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="infer-faults-") as name:
        folder = pathlib.Path(name)
        (folder / "hf").mkdir()
        config, tokenizer, _, tensors = parts(next(seeds.hf_folders()), 3)
        first, second = parts(next(seeds.gguf_splits()), 1)
        merges, vocab = parts(next(seeds.vocab_jsons()), 1)
        for path, raw in (("hf/config.json", config), ("hf/tokenizer.json", tokenizer), ("hf/model.safetensors", tensors), ("tokenizer.json", tokenizer),
                          ("split-00001-of-00002.gguf", first), ("split-00002-of-00002.gguf", second), ("merges.txt", merges), ("vocab.json", vocab),
                          ("model.gguf", list(seeds.gguf_models())[4]), ("tokenizer.model", next(seeds.sentencepieces())),
                          ("tokenizer.bin", seeds.tokenizer_bin(5)), ("llama2c.bin", parts(next(seeds.llama2cs()), 1)[1]),
                          ("bitllama.bin", parts(next(seeds.bitllamas()), 1)[1]),
                          ("model.infer", next(seeds.infers(pathlib.Path(convert).parent)))):
            (folder / path).write_bytes(raw)
        return subprocess.run([program, folder], stdin=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    sys.exit(main())
