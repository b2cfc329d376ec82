#!/usr/bin/env python3
"""Every number type of GGUF: random blocks are converted to f32 and compared, bit for bit, with a second decoder; then files that lie about their tensors.
The decoder follows the pictures of the blocks in llama.cpp's gguf-py (quants.py), runs of codes first, and shares no formula with gguf_types.c."""
import argparse
import os
import pathlib
import random
import struct
import sys
import tempfile

from importing import Run, check, f32, finish, gguf, llama_gguf, string

DIM, VOCAB = 256, 19
IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)

# ---- the second decoder ----


def runs(raw, bits, length):
    """Codes of `bits` bits: each `length` bytes hold 8 / bits runs of that length, the first lowest."""
    for i in range(0, len(raw), length):
        for shift in range(0, 8, bits):
            yield from (b >> shift & (1 << bits) - 1 for b in raw[i:i + length])


def scaled(factors, codes):
    """Factors of equal groups, each product rounded."""
    codes = list(codes)
    size = len(codes) // len(factors)
    return [f32(factors[i // size] * c) for i, c in enumerate(codes)]


def minus(a, b):
    size = len(a) // len(b)
    return [f32(x - b[i // size]) for i, x in enumerate(a)]


def half(raw):
    return struct.unpack("<e", raw)[0]


def plain(kind):
    return lambda raw: [f32(struct.unpack("<" + kind, raw)[0])]


def bf16(raw):
    return list(struct.unpack("<f", b"\0\0" + raw))


def q4_0(raw):
    return scaled([half(raw[:2])], (c - 8 for c in runs(raw[2:], 4, 16)))


def q4_1(raw):
    return minus(scaled([half(raw[:2])], runs(raw[4:], 4, 16)), [-half(raw[2:4])])


def fives(high, low):
    return [c + 16 * h for c, h in zip(runs(low, 4, 16), (int.from_bytes(high, "little") >> i & 1 for i in range(32)))]


def q5_0(raw):
    return scaled([half(raw[:2])], (c - 16 for c in fives(raw[2:6], raw[6:])))


def q5_1(raw):
    return minus(scaled([half(raw[:2])], fives(raw[4:8], raw[8:])), [-half(raw[2:4])])


def q8_0(raw):
    return scaled([half(raw[:2])], struct.unpack("32b", raw[2:]))


def q8_1(raw):
    return scaled([half(raw[:2])], struct.unpack("32b", raw[4:]))


def q2_k(raw):
    scales, codes, d, least = raw[:16], runs(raw[16:80], 2, 32), half(raw[80:82]), half(raw[82:])
    return minus(scaled([f32(d * (s % 16)) for s in scales], codes), [f32(least * (s // 16)) for s in scales])


def q3_k(raw):
    codes = [c - 4 + 4 * h for c, h in zip(runs(raw[32:96], 2, 32), runs(raw[:32], 1, 32))]
    scales = [low + 16 * high - 32 for low, high in zip(runs(raw[96:104], 4, 8), runs(raw[104:108], 2, 4))]
    return scaled([f32(half(raw[108:]) * s) for s in scales], codes)


def k_scales(raw):
    """Twelve bytes EEAAAAAA (4), eeaaaaaa (4), eeeeEEEE (4): scales A and E, minima a and e."""
    first, second, third = raw[:4], raw[4:8], raw[8:]
    scales = [b % 64 for b in first] + [t % 16 + b // 64 * 16 for b, t in zip(first, third)]
    return scales, [b % 64 for b in second] + [t // 16 + b // 64 * 16 for b, t in zip(second, third)]


def q4_k(raw, codes=None):
    d, least = half(raw[:2]), half(raw[2:4])
    scales, minima = k_scales(raw[4:16])
    return minus(scaled([f32(d * s) for s in scales], codes or runs(raw[16:], 4, 32)), [f32(least * m) for m in minima])


def q5_k(raw):
    return q4_k(raw, [c + 16 * h for c, h in zip(runs(raw[48:], 4, 32), runs(raw[16:48], 1, 32))])


def q6_k(raw):
    codes = [c + 16 * h - 32 for c, h in zip(runs(raw[:128], 4, 64), runs(raw[128:192], 2, 32))]
    return scaled([f32(half(raw[208:]) * s) for s in struct.unpack("16b", raw[192:208])], codes)


def q8_k(raw):
    return scaled([struct.unpack("<f", raw[:4])[0]], struct.unpack("256b", raw[4:260]))


def iq4_nl(raw):
    return scaled([half(raw[:2])], (IQ4[c] for c in runs(raw[2:], 4, 16)))


def iq4_xs(raw):
    high = int.from_bytes(raw[2:4], "little")
    low = [n for b in raw[4:8] for n in (b % 16, b // 16)]
    factors = [f32(half(raw[:2]) * (n + 16 * (high // 4 ** i % 4) - 32)) for i, n in enumerate(low)]
    return scaled(factors, (IQ4[c] for c in runs(raw[8:], 4, 16)))


def trits(raw, count, length):
    """Runs of base-three digits: a byte is 256/243 of the number that five of them make, the first is the highest."""
    for i in range(0, len(raw), length):
        for digit in range(count):
            yield from (b * 243 // 256 // 3 ** (4 - digit) % 3 - 1 for b in raw[i:i + length])


def tq1_0(raw):
    return scaled([half(raw[52:])], [*trits(raw[:32], 5, 32), *trits(raw[32:48], 5, 16), *trits(raw[48:52], 4, 4)])


def tq2_0(raw):
    return scaled([half(raw[64:])], (c - 1 for c in runs(raw[:64], 2, 32)))


TYPES = {  # name: number, numbers and bytes of a block, decoder, where its floats lie
    "F32": (0, 1, 4, plain("f"), "f0"), "F16": (1, 1, 2, plain("e"), "e0"), "BF16": (30, 1, 2, bf16, "b0"), "F64": (28, 1, 8, plain("d"), "d0"),
    "I8": (24, 1, 1, plain("b"), ""), "I16": (25, 1, 2, plain("h"), ""), "I32": (26, 1, 4, plain("i"), ""),
    "Q4_0": (2, 32, 18, q4_0, "e0"), "Q4_1": (3, 32, 20, q4_1, "e0 e2"), "Q5_0": (6, 32, 22, q5_0, "e0"), "Q5_1": (7, 32, 24, q5_1, "e0 e2"),
    "Q8_0": (8, 32, 34, q8_0, "e0"), "Q8_1": (9, 32, 36, q8_1, "e0 e2"), "Q2_K": (10, 256, 84, q2_k, "e80 e82"), "Q3_K": (11, 256, 110, q3_k, "e108"),
    "Q4_K": (12, 256, 144, q4_k, "e0 e2"), "Q5_K": (13, 256, 176, q5_k, "e0 e2"), "Q6_K": (14, 256, 210, q6_k, "e208"),
    "Q8_K": (15, 256, 292, q8_k, "f0"), "IQ4_NL": (20, 32, 18, iq4_nl, "e0"), "IQ4_XS": (23, 256, 136, iq4_xs, "e0"),
    "TQ1_0": (34, 256, 54, tq1_0, "e52"), "TQ2_0": (35, 256, 66, tq2_0, "e64"),
}
REFUSED = {"IQ2_XXS": 16, "IQ2_XS": 17, "IQ3_XXS": 18, "IQ1_S": 19, "IQ3_S": 21, "IQ2_S": 22, "I64": 27, "IQ1_M": 29, "I2_S": 36, "MXFP4": 39, "NVFP4": 40,
           "unknown": 99}

# ---- files ----

VALUES, TENSORS = llama_gguf(DIM, 32, 8, VOCAB)


def model(kind, raw, cols=DIM):
    """Tensors of zeros, but for the embedding."""
    return {**TENSORS, "token_embd.weight": ([cols, VOCAB], kind, raw)}


def block(rng, size, floats):
    raw = bytearray(rng.randbytes(size))
    for where in floats.split():
        kind, at = where[0], int(where[1:])
        value = rng.choice((0, -1, 1)) if rng.random() < 0.1 else rng.gauss(0, 1) * 2.0 ** rng.randint(-20, 3)
        if kind == "b":
            raw[at:at + 2] = struct.pack("<f", value)[2:]
        else:
            raw[at:at + struct.calcsize(kind)] = struct.pack("<" + kind, value)
    return bytes(raw)


def good_cases(run, seed):
    for name, (number, numbers, size, decode, floats) in TYPES.items():
        def body():
            rng = random.Random(f"{name} {seed}")
            rows = [[block(rng, size, floats) for _ in range(DIM // numbers)] for _ in range(VOCAB)]
            path = run.folder / "model.gguf"
            path.write_bytes(gguf(VALUES, model(number, b"".join(b for r in rows for b in r))))
            t = run.good(path, "--type", "f32").tensors["tok_embed"]
            assert (t.rows, t.cols, t.type) == (VOCAB, DIM, "f32")
            for r, blocks in enumerate(rows):
                want = [x for b in blocks for x in decode(b)]
                assert len(want) == DIM
                for c, x in enumerate(want):
                    found = t.at(r, c)[0]
                    assert found == x, f"seed {seed}, [{r}][{c}]: {found!r}, expected {x!r}"
        check(f"{name}: every number", body)


def bad_cases(run):
    path = run.folder / "bad.gguf"

    def refuse(name, expected, data):
        def body():
            path.write_bytes(data)
            run.bad(path, expected)
        check(name, body)

    for name, number in REFUSED.items():
        refuse(f"{name} is refused by name", f"token_embd.weight: type {name} ({number})", gguf(VALUES, model(number, bytes(DIM * VOCAB))))
    for name, (number, numbers, size, _, _) in TYPES.items():
        raw = bytes(DIM // numbers * size * VOCAB)
        whole = gguf(VALUES, model(number, raw))
        if numbers > 1:
            refuse(f"{name}: a row that ends within a block", f"expected a multiple of {numbers}", gguf(VALUES, model(number, raw, DIM - 8)))
        refuse(f"{name}: the end is missing", "bad.gguf", whole[:-DIM * 4])
        refuse(f"{name}: data for one block less", "token_embd.weight", gguf(VALUES, {"token_embd.weight": ([DIM, VOCAB], number, b"")}))
    at = len(string("token_embd.weight")) + 4
    whole = gguf(VALUES, model(12, bytes(144 * VOCAB)))
    start = whole.index(string("token_embd.weight")) + at
    for name, place, value in (("rows", start + 8, 1 << 63), ("rows", start + 8, 1 << 30), ("columns", start, (1 << 64) - 256), ("tensors", 8, 1 << 62),
                               ("keys", 16, 1 << 62), ("tensors", 8, 65535), ("keys", 16, 65535)):
        refuse(f"{name}: {value}", "bad.gguf", whole[:place] + struct.pack("<Q", value) + whole[place + 8:])


def bitnet(kind, blocks, scales, rng):
    """A BitNet model whose layer matrices are blocks of `kind`; {name: rows of blocks}. `scales`: {name: tensor} beside them."""
    dim, ffn, heads, number = 512, 512, 8, TYPES[kind][0]
    values, tensors = llama_gguf(dim, ffn, heads, VOCAB)
    values = {k.replace("llama.", "bitnet."): v for k, v in values.items()} | {"general.architecture": "bitnet"}
    raw = {}
    for name, (shape, _, _) in tensors.items():
        if name.startswith("blk.") and "norm" not in name:
            raw[name] = [[blocks(rng) for _ in range(shape[0] // TYPES[kind][1])] for _ in range(shape[1])]
            tensors[name] = (shape, number, b"".join(b for row in raw[name] for b in row))
    tensors |= {"blk.0.attn_sub_norm.weight": ([dim], 0, bytes(4 * dim)), "blk.0.ffn_sub_norm.weight": ([ffn], 0, bytes(4 * ffn))}
    return gguf(values, {**tensors, **scales}), raw


def ternary_cases(run, seed):
    """Scales of whole matrices in tensors of their own, as in BitNet's files, and ternary blocks carried over as t2r."""
    path = run.folder / "bitnet.gguf"
    names = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}

    def scale(x, kind=0):
        return ([1], kind, struct.pack("<f", x) if kind == 0 else struct.pack("<e", x))

    def ternary_block(kind, d):
        def make(rng):
            if kind == "TQ2_0":
                return bytes(sum(rng.randrange(3) << s for s in (0, 2, 4, 6)) for _ in range(64)) + struct.pack("<e", d(rng))
            return rng.randbytes(52) + struct.pack("<e", d(rng))
        return make

    def good(kind, expected, blocks, scaled_names):
        rng = random.Random(f"{kind} {seed}")
        factors = {n: f32(rng.uniform(0.01, 3)) for n in scaled_names}
        data, raw = bitnet(kind, blocks, {f"blk.0.{names[n]}.scale": scale(x) for n, x in factors.items()}, rng)
        path.write_bytes(data)
        file = run.good(path)
        for ours, theirs in names.items():
            t, rows = file.tensors[f"layers.0.{ours}"], raw[f"blk.0.{theirs}.weight"]
            assert t.type == (expected if not callable(expected) else expected(ours)), f"{ours}: {t.type}"
            for r in (0, 17, t.rows - 1):
                want = [x for b in rows[r] for x in TYPES[kind][3](b)]
                for c in range(t.cols):
                    x = f32(want[c] * factors.get(ours, 1))
                    assert t.at(r, c)[0] == x, f"seed {seed}, {ours}[{r}][{c}]: {t.at(r, c)[0]!r}, expected {x!r}"

    def bad(expected, scales):
        path.write_bytes(bitnet("F16", lambda rng: b"\0\0", scales, random.Random(1))[0])
        run.bad(path, expected)

    for kind in "TQ1_0", "TQ2_0":
        check(f"{kind}: one scale in a row is t2r", good, kind, "t2r", ternary_block(kind, lambda rng: 0.75), ())
        check(f"{kind}: scales of the matrices in tensors beside them", good, kind, "t2r", ternary_block(kind, lambda rng: 1), names)
        check(f"{kind}: several scales in a row are floats", good, kind, "f32", ternary_block(kind, lambda rng: rng.choice((0.5, 0.25, 3))), ("q", "down"))
    check("TQ2_0: a code that is no trit is a float", good, "TQ2_0", "f32", lambda rng: bytes([0b11000110]) * 64 + struct.pack("<e", 0.5), ())
    check("F16: the scale of a matrix, some have none", good, "F16", lambda ours: "f32" if ours in "qk" else "f16",
          lambda rng: struct.pack("<e", rng.choice((-1, 0, 1))), ("q", "k"))
    check("Q8_0: codes are not carried over beside a scale", good, "Q8_0", lambda ours: "f32" if ours == "o" else "q8g32",
          lambda rng: struct.pack("<e", 0.5) + rng.randbytes(32).replace(b"\x80", b"\0"), ("o",))
    check("a scale of two numbers", bad, "attn_q.scale: expected one number of type F32", {"blk.0.attn_q.scale": ([2], 0, bytes(8))})
    check("a scale in F16", bad, "ffn_up.scale: expected one number of type F32", {"blk.0.ffn_up.scale": scale(1, 1)})
    for x in 0, float("nan"), float("inf"):
        check(f"a scale of {x}", bad, "ffn_down.scale: scale", {"blk.0.ffn_down.scale": scale(x)})
    check("a scale of no matrix", bad, "blk.0.attn_norm.scale has no place", {"blk.0.attn_norm.scale": scale(1)})
    check("a scale of the embeddings", bad, "token_embd.scale has no place", {"token_embd.scale": scale(1)})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(args.tools, pathlib.Path(folder), VOCAB)
        seed = os.environ.get("INFER_TEST_SEED") or random.randrange(1 << 32)
        good_cases(run, seed)
        ternary_cases(run, seed)
        bad_cases(run)
    return finish()


sys.exit(main())
