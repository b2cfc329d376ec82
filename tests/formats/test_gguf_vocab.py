#!/usr/bin/env python3
"""Each kind of vocabulary that a GGUF file can have, and keys that lie about it. Reports in TAP.

usage: test_gguf_vocab.py --tools FOLDER
"""
import argparse
import pathlib
import subprocess
import tempfile
import sys

from importing import check, finish, gguf, refused

TOKENS = ["?", "a", "b", "\u2581ab", "ab"]
COMMON = {"tokenizer.ggml.tokens": TOKENS, "tokenizer.ggml.scores": [0.0, -1.0, -2.0, -3.0, -4.0]}
# Of "ab b". The families' own ids: T5's unknown token is 2 and its end token 1; BERT's unknown token 100 is not there, so that "b" is left out.
GOOD = {"llama": ({}, "1 3 0 2"), "gpt2": ({"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.merges": ["a b"]}, "4 2"), "t5": ({}, "4 2 1"),
        "bert": ({}, "3"), "gemma4": ({"tokenizer.ggml.pre": "nothing", "tokenizer.ggml.merges": ["a b"]}, "4 2")}
BAD = {"a model of RWKV": ({"tokenizer.ggml.model": "rwkv"}, "rwkv"), "a model of PLaMo": ({"tokenizer.ggml.model": "plamo2"}, "plamo2"),
       "an unknown model": ({"tokenizer.ggml.model": "nothing"}, "nothing"), "no tokens": ({"tokenizer.ggml.tokens": None}, "tokenizer.ggml.tokens"),
       "scores for fewer tokens": ({"tokenizer.ggml.scores": [0.0, -1.0]}, "scores: found 2, expected 5"),
       "scores that are texts": ({"tokenizer.ggml.scores": TOKENS}, "tokenizer.ggml.scores"),
       "a map of characters that is a text": ({"tokenizer.ggml.model": "t5", "tokenizer.ggml.precompiled_charsmap": "x"}, "precompiled_charsmap"),
       "an unknown pre-tokenizer": ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "nothing"}, "nothing"),
       "an end token beyond the last": ({"tokenizer.ggml.eos_token_id": 5}, "eos"),
       "a flag that is a number": ({"tokenizer.ggml.add_bos_token": 1}, "add_bos_token")}


def tokenize(tools, folder, values):
    path = folder / "v.gguf"
    path.write_bytes(gguf({key: value for key, value in values.items() if value is not None}, {}))
    return subprocess.run([tools / "infer-tokenize", path], input=b"ab b", capture_output=True, timeout=60)


def good(tools, folder, values, expected):
    done = tokenize(tools, folder, values)
    assert done.returncode == 0 and done.stdout.decode().strip() == expected, f"found {done.stdout} {done.stderr}, expected {expected}"


def bad(tools, folder, values, expected):
    refused(tokenize(tools, folder, values), expected)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", required=True, type=pathlib.Path)
    tools = parser.parse_args().tools
    with tempfile.TemporaryDirectory() as name:
        for model, (more, expected) in GOOD.items():
            check(f"a vocabulary of {model}", good, tools, pathlib.Path(name), {"tokenizer.ggml.model": model, **COMMON, **more}, expected)
        for what, (more, expected) in BAD.items():
            check(what, bad, tools, pathlib.Path(name), {"tokenizer.ggml.model": "llama", **COMMON, **more}, expected)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
