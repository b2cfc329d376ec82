#!/usr/bin/env python3
"""Holds formats/SPEC.md against the library: files made by infer-convert are read by read_infer.py, and both readers refuse the same files."""
import argparse
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

import read_infer
from read_infer import xxh3

DIM, FFN, LAYERS, HEADS, VOCAB, CONTEXT = 40, 52, 2, 4, 37, 16

done = 0
failed = 0


def result(name, problem):
    global done, failed
    done += 1
    failed += problem is not None
    print(f"{'ok' if problem is None else 'not ok'} {done} - {name}")
    if problem is not None:
        print(f"# {problem}")


def check(name, function, *args):
    try:
        function(*args)
        result(name, None)
    except (AssertionError, read_infer.Malformed, subprocess.CalledProcessError, KeyError) as e:
        result(name, f"{type(e).__name__}: {e}")


def make_model(folder, seed):
    """A llama2.c checkpoint of odd sizes, as bytes and as {name: rows}."""
    rng = random.Random(seed)
    tensors = {}

    def tensor(name, rows, cols):
        tensors[name] = [[struct.unpack("<f", struct.pack("<f", rng.gauss(0, 1)))[0] for _ in range(cols)] for _ in range(rows)]

    kinds = (("attn_norm", 1, DIM), ("q", DIM, DIM), ("k", DIM, DIM), ("v", DIM, DIM), ("o", DIM, DIM), ("ffn_norm", 1, DIM), ("gate", FFN, DIM),
             ("down", DIM, FFN), ("up", FFN, DIM))
    tensor("tok_embed", VOCAB, DIM)
    for kind, rows, cols in kinds:
        for layer in range(LAYERS):
            tensor(f"layers.{layer}.{kind}", rows, cols)
    tensor("out_norm", 1, DIM)
    raw = struct.pack("<7i", DIM, FFN, LAYERS, HEADS, HEADS, VOCAB, CONTEXT)
    for rows in tensors.values():
        raw += b"".join(struct.pack(f"<{len(r)}f", *r) for r in rows)
    raw += bytes(4 * CONTEXT * DIM // HEADS)
    (folder / "model.bin").write_bytes(raw)
    texts = [b"<unk>", b"\n<s>\n", b"\n</s>\n"] + [b"<0x%02X>" % i for i in range(VOCAB - 4)] + ["é".encode()]
    (folder / "tokenizer.bin").write_bytes(struct.pack("<I", 6) + b"".join(struct.pack("<fI", -i, len(t)) + t for i, t in enumerate(texts)))
    return tensors


def same_weights(file, tensors, kind):
    assert list(file.tensors) == ["tok_embed"] + [f"layers.{i}.{k}" for i in range(LAYERS) for k in
                                                  ("attn_norm", "q", "k", "v", "o", "ffn_norm", "gate", "up", "down")] + ["out_norm"]
    for name, rows in tensors.items():
        t = file.tensors[name]
        assert (t.rows, t.cols) == (len(rows), len(rows[0])), name
        stored = {"q8g64": "q8g32", "q4g64": "q4g32"}.get(kind, kind) if name == "tok_embed" else kind
        assert (t.type, t.layout) == (("f32", "rows") if "norm" in name else (stored, "cols" if stored[-2:] == "64" else "tile16x4")), name
        rng = random.Random(name)
        places = [(rng.randrange(t.rows), rng.randrange(t.cols)) for _ in range(150)] + [(t.rows - 1, t.cols - 1), (0, 0), (t.rows - 1, 0)]
        for r, c in places:
            value, scale, code = t.at(r, c)
            wanted = rows[r][c]
            if kind == "t2r" and scale is not None:  # the mean magnitude of the row; half a step, or what lies beyond one
                mean = sum(map(abs, rows[r])) / t.cols
                assert abs(scale - mean) <= 1e-6 * mean and code in (-1, 0, 1)
                bound = max(0.51 * scale, abs(wanted) - 0.99 * scale)
            elif scale is not None:  # half a step; for q4g32 and n4g32, what lies beyond the end of the other sign
                bound = abs(scale) * {"q8g32": 0.51, "q4g32": 1.01, "n4g32": 14, "q8g64": 0.51, "q4g64": 2.6}[stored]
                assert -127 <= code <= 127
            else:
                bound = 0 if t.type == "f32" else abs(wanted) / (2048 if t.type == "f16" else 256) + 1e-7
            assert abs(value - wanted) <= bound, f"{name}[{r}][{c}]: {value}, expected {wanted}"


def same_as_inspect(tools, path, file):
    shown = json.loads(subprocess.run([tools / "infer-inspect", path, "--json", "--verify"], check=True, capture_output=True).stdout)
    assert shown["version"] == 1 and shown["verified"] is True and shown["metadata"] == file.metadata
    for tensor, t in zip(shown["tensors"], file.tensors.values(), strict=True):
        assert abs(tensor.pop("bits_per_weight") - t.bytes * 8 / (t.rows * t.cols)) < 1e-9
        assert tensor == {"name": t.name, "type": t.type, "layout": t.layout, "shape": [t.rows, t.cols], "bytes": t.bytes, "hash": f"{t.hash:016x}"}


def same_vocabulary(file):
    v = file.vocabulary
    assert (v.kind, v.unk, v.bos, v.eos, len(v.texts), v.merges) == (1, 0, 1, 2, VOCAB, [])
    assert v.texts[:4] == [b"<unk>", b"<s>", b"</s>", b"<0x00>"] and v.texts[-1] == "é".encode()
    assert v.types[:5] == bytes([2, 3, 3, 6, 6]) and v.types[-1] == 1 and v.scores[5] == -5


def examples_of_the_specification():
    class Holder:
        raw = b""
    holder = Holder()
    t = read_infer.Tensor(holder, "x", 4, 1, 17, 33, 0, 1152, 0)
    raw = bytearray(1152)
    raw[6:8] = b"\x00\x38"
    raw[110] = 0xB4
    holder.raw = bytes(raw)
    assert t.at(3, 14)[0] == 1.5 and t.at(3, 10)[0] == -2.0
    t = read_infer.Tensor(holder, "x", 5, 1, 17, 33, 0, 1152, 0)
    assert t.at(3, 14)[0] == 9.0 and t.at(3, 10)[0] == -11.5
    t = read_infer.Tensor(holder, "x", 3, 1, 17, 33, 0, 2176, 0)
    raw = bytearray(2176)
    raw[1632:1634] = b"\x00\x38"
    raw[1664] = 0xFF
    holder.raw = bytes(raw)
    assert t.at(16, 32)[0] == -0.5
    t = read_infer.Tensor(holder, "x", 10, 8, 1100, 70, 0, 81152, 0)
    raw = bytearray(81152)
    raw[4 * 69:4 * 70] = struct.pack("<f", 3.0)
    raw[512 + 4 * 1095:512 + 4 * 1096] = struct.pack("<f", 0.5)
    raw[76999] = 0xE8
    raw[77383] = 0xB4
    holder.raw = bytes(raw)
    assert t.at(1095, 69)[0] == -3.375
    counts, inputs, fours = bytes((2, 3, 0, 0)), bytes((1, 3, 2, 3, 5, 0, 0, 0)), struct.pack("<2H", 1, 3)
    for layout, places, scale, unit, size in ((3, {64: counts, 128: inputs}, 242, 356, 384), (4, {64: fours}, 178, 325, 352)):
        raw = bytearray(size)
        raw[:12] = struct.pack("<3I", 0, layout - 1, layout - 1)
        for at, part in places.items():
            raw[at:at + len(part)] = part
        raw[scale:scale + 2] = b"\x00\x38"
        raw[unit] = 0xB4
        t = read_infer.Tensor(holder, "x", 10, layout, 20, 70, 0, len(raw), 0)
        holder.raw = bytes(raw)
        t.check_sparse(t.data())
        assert read_infer.sparse_fits(t.layout, t.type, 20, 70, len(raw)) and not read_infer.sparse_fits(t.layout, t.type, 20, 70, len(raw) - 16)
        assert t.at(9, 69)[0] == 1.5 and t.at(1, 69)[0] == 0 and t.at(9, 5)[0] == 0
    raw = bytearray(384)  # csr: row 9 holds inputs 3 and 69
    raw[:84] = struct.pack("<21I", *[0] * 10, *[2] * 11)
    raw[128:132] = struct.pack("<2H", 3, 69)
    raw[192 + 32 + 18:192 + 32 + 20] = b"\x00\x38"
    raw[320] = 0xB4
    t = read_infer.Tensor(holder, "x", 10, 5, 20, 70, 0, 321, 0)
    holder.raw = bytes(raw[:321])
    t.check_sparse(t.data())
    assert t.at(9, 69)[0] == 1.5 and t.at(9, 4)[0] == 0 and t.at(8, 69)[0] == 0
    raw = bytearray(770)  # bitmask: the same
    raw[:12] = struct.pack("<3I", 0, 2, 2)
    raw[64:72] = struct.pack("<Q", 1 << 39)
    raw[200:208] = struct.pack("<Q", 1 << 37)
    raw[576 + 18:576 + 20] = raw[576 + 32 + 18:576 + 32 + 20] = b"\x00\x38"
    raw[704:706] = b"\x02\x0B"
    t = read_infer.Tensor(holder, "x", 10, 6, 20, 70, 0, 770, 0)
    holder.raw = bytes(raw)
    t.check_sparse(t.data())
    assert t.at(9, 69)[0] == 1.5 and t.at(9, 3)[0] == -3.0 and t.at(9, 4)[0] == 0 and t.at(8, 69)[0] == 0
    t = read_infer.Tensor(holder, "x", 0, 1, 2, 6, 0, 512, 0)
    holder.raw = bytes(276) + struct.pack("<f", 7.0) + bytes(232)
    assert t.at(1, 5)[0] == 7.0
    assert xxh3(b"") == 0x2D06800538D394C2


def seal(raw):
    """Right hashes for whatever the header says the parts are."""
    for at, size, hash_ in ((24, 32, 88), (40, 48, 96), (56, 64, 104)):
        a, n = read_infer.u64(raw, at), read_infer.u64(raw, size)
        if a + n <= len(raw):
            struct.pack_into("<Q", raw, hash_, xxh3(bytes(raw[a:a + n])))
    struct.pack_into("<Q", raw, 120, xxh3(bytes(raw[:120])))


def refused_by_both(tools, folder, raw):
    path = folder / "bad.infer"
    path.write_bytes(raw)
    try:
        read_infer.File(bytes(raw)).verify()
        second = None
    except read_infer.Malformed as e:
        second = str(e)
    first = subprocess.run([tools / "infer-inspect", path, "--verify"], capture_output=True)
    message = first.stderr.decode()
    assert first.returncode == 1 and message.count("\n") == 1 and "bad.infer" in message, f"infer-inspect: {first.returncode} {message}"
    assert second is not None, f"only the library refuses it: {message}"


def bad_files(tools, folder, good):
    directory, vocab = read_infer.u64(good, 56), read_infer.u64(good, 40)
    names = directory + 48 * read_infer.u32(good, 80)
    changes = [(f"header, byte {i}: {v:#x}", i, n, v) for i, n, v in
               [(0, 1, 0), (8, 4, 2), (12, 4, 64), (16, 8, 0), (84, 4, 1), (112, 8, 1), (80, 4, 0), (80, 4, 65537)] +
               [(i, 8, v) for i in range(24, 80, 8) for v in (1, 1 << 40, (1 << 64) - 1)]]
    changes += [(f"directory, byte {i}: {v:#x}", directory + i, n, v) for i, n, v in
                [(0, 8, 0), (8, 8, 1), (16, 8, 0), (24, 8, 1 << 31), (32, 8, 5), (40, 4, 1), (44, 2, 0), (44, 2, 300), (46, 1, 9), (47, 1, 9), (47, 1, 0), (47, 1, 2)]]
    changes += [("a name with a space", names, 1, 0x20), ("two names the same", names + 10 + len("layers.0."), 1, 0)]
    changes += [(f"tokenizer, byte {i}: {v:#x}", vocab + i, 4, v) for i, v in
                [(0, 0), (4, 1 << 20), (8, 6), (12, VOCAB), (16, VOCAB), (20, VOCAB), (24, 0), (24, VOCAB - 1), (28, 1), (32, 0), (36, 0x7FC00000),
                 (36 + 4 * VOCAB, 0), (36 + 4 * VOCAB + (VOCAB + 3) // 4 * 4, 1 << 20)]]
    changes += [("padding after the metadata", 128 + read_infer.u64(good, 32), 1, 1), ("metadata that is no object", 128, 1, ord("["))]
    for name, at, size, value in changes:
        raw = bytearray(good)
        raw[at:at + size] = value.to_bytes(size, "little")
        if at != 0:
            seal(raw)
        check(f"both refuse: {name}", refused_by_both, tools, folder, raw)
    rng = random.Random(3)
    for _ in range(20):
        raw = bytearray(good)
        bit = rng.randrange(len(raw) * 8)
        raw[bit // 8] ^= 1 << bit % 8
        check(f"both refuse: bit {bit % 8} of byte {bit // 8} flipped", refused_by_both, tools, folder, raw)
    for size in (0, 7, 100, 127, 128, 5000, len(good) - 64, len(good) - 1):
        check(f"both refuse: cut to {size} bytes", refused_by_both, tools, folder, bytearray(good[:size]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", type=pathlib.Path, required=True)
    tools = parser.parse_args().tools
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        tensors = make_model(folder, 1)
        check("examples of SPEC.md", examples_of_the_specification)
        for kind in ("f32", "f16", "bf16", "q8g32", "q4g32", "n4g32", "t2r", "q8g64", "q4g64"):
            path = folder / f"{kind}.infer"
            subprocess.run([tools / "infer-convert", folder / "model.bin", "-o", path, "--type", kind, "-q"], check=True)
            file = read_infer.File(path.read_bytes())
            check(f"{kind}: hashes", file.verify)
            check(f"{kind}: weights", same_weights, file, tensors, kind)
            check(f"{kind}: as infer-inspect shows it", same_as_inspect, tools, path, file)
        check("vocabulary", same_vocabulary, file)
        bad_files(tools, folder, (folder / "q4g32.infer").read_bytes())
    print(f"1..{done}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
