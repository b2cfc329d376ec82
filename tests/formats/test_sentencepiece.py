#!/usr/bin/env python3
"""SentencePiece's .model: what its normalizer does with spaces and user-defined symbols, for unigram, BPE and character models. Reports in TAP.

usage: test_sentencepiece.py --tools FOLDER
"""
import argparse
import pathlib
import struct
import subprocess
import sys
import tempfile

from importing import check, finish, refused

META = "\u2581"
NORMAL, UNKNOWN, CONTROL, USER = 1, 2, 3, 4


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3 | 5) + struct.pack("<f", value) if isinstance(value, float) else varint(number << 3) + varint(value)


def model(pieces, kind, prefix, single, suffix=False):
    """pieces: [(text, score, type)]; no begin and end tokens."""
    out = b"".join(field(1, field(1, t.encode()) + field(2, s) + field(3, k)) for t, s, k in pieces)
    trainer = field(3, kind) + field(24, int(suffix)) + field(40, 0) + b"".join(varint(n << 3) + b"\xff" * 9 + b"\1" for n in (41, 42))
    return out + field(2, trainer) + field(3, field(3, int(prefix)) + field(4, int(single)))


# <unk> first; "ab" beats its letters, "\u2581a" them too; <x> and two spaces are user-defined.
LETTERS = [("<unk>", 0.0, UNKNOWN), (META, -4.0, NORMAL), ("a", -4.0, NORMAL), ("b", -4.0, NORMAL), ("ab", -2.0, NORMAL),
           (META + "a", -3.0, NORMAL), ("<x>", 0.0, USER)]
SPACES = LETTERS + [(META * 2, 0.0, USER), ("a" + META, -1.0, NORMAL)]
CASES = [  # kind, pieces, prefix, single, suffix, text, tokens
    (1, LETTERS, True, True, False, " a  b ", [META + "a", META, "b"]),
    (1, LETTERS, True, True, False, "a<x>ab", [META + "a", "<x>", "ab"]),
    (2, LETTERS, True, True, False, "a<x>ab", [META + "a", "<x>", "ab"]),
    (1, LETTERS, True, True, False, "<x> a<x>", [META, "<x>", META + "a", "<x>"]),
    (1, LETTERS, True, True, False, "b  <x>   ", [META, "b", META, "<x>"]),
    (1, LETTERS, True, True, False, "   ", []),
    (2, LETTERS, True, False, False, " a<x> b", [META, META + "a", "<x>", META, "b"]),
    (2, SPACES, False, False, False, "b   a  <x>", ["b", META * 2, META + "a", META * 2, "<x>"]),
    (1, LETTERS + SPACES[8:], True, True, True, "a  a b<x>", ["a" + META, "a" + META, "b", "<x>", META]),
    (1, SPACES[:6], True, True, True, "a", ["a", META]),
    (4, LETTERS[:4], True, True, False, "ab z", [META, "a", "b", META, "<unk>"]),
]


def tokenize(tools, path, text):
    return subprocess.run([tools / "infer-tokenize", path], input=text.encode(), capture_output=True, timeout=60)


def good(tools, path, kind, pieces, prefix, single, suffix, text, expected):
    path.write_bytes(model(pieces, kind, prefix, single, suffix))
    done = tokenize(tools, path, text)
    found = [pieces[int(i)][0] for i in done.stdout.split()]
    assert done.returncode == 0 and found == expected, f"found {found} {done.stderr}, expected {expected}"


def bad(tools, path, kind, pieces, expected):
    path.write_bytes(model(pieces, kind, True, True))
    refused(tokenize(tools, path, "a"), expected)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", required=True, type=pathlib.Path)
    tools = parser.parse_args().tools
    with tempfile.TemporaryDirectory() as name:
        path = pathlib.Path(name) / "t.model"
        for kind, pieces, prefix, single, suffix, text, expected in CASES:
            check(f"model type {kind}, {'prefix ' * prefix}{'single ' * single}{'suffix ' * suffix}{text!r}", good, tools, path, kind,
                  pieces, prefix, single, suffix, text, expected)
        check("words", bad, tools, path, 3, LETTERS, "model type 3")
        check("spaces in a symbol", bad, tools, path, 1, LETTERS + [("x" + META, 0.0, USER)], "user-defined symbol")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
