#!/usr/bin/env python3
"""llama2.c checkpoints of versions 0, 1 and 2: the same random model in each, version 2 against a second dequantization; files with one thing wrong; and the
real stories260K in version 2 beside version 0."""
import argparse
import os
import pathlib
import random
import struct
import sys
import tempfile

from importing import Run, check, f32, finish, skip

DIM, FFN, LAYERS, HEADS, KV, VOCAB, CONTEXT, GROUP = 8, 12, 2, 2, 1, 7, 4, 8  # 12 is no multiple of the group: groups run on into the next row
SHAPE = DIM, FFN, LAYERS, HEADS, KV, VOCAB, CONTEXT
MAGIC = 0x616B3432
DEFAULT_DATA = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"


def shapes(shared):
    dim, kv = DIM, DIM // HEADS * KV
    layers = {"attn_norm": (1, dim), "q": (dim, dim), "k": (kv, dim), "v": (kv, dim), "o": (dim, dim), "ffn_norm": (1, dim), "gate": (FFN, dim),
              "down": (dim, FFN), "up": (FFN, dim)}
    out = {"tok_embed": (VOCAB, dim), "out_norm": (1, dim), **({} if shared else {"head": (VOCAB, dim)})}
    out.update({f"layers.{i}.{name}": shape for name, shape in layers.items() for i in range(LAYERS)})
    return out


def kinds(*names):
    return [f"layers.{i}.{name}" for name in names for i in range(LAYERS)]


NORMS = [*kinds("attn_norm", "ffn_norm"), "out_norm"]
MATRICES = ["tok_embed", *kinds("q", "k", "v", "o", "gate", "down", "up")]


def floats(numbers):
    return struct.pack(f"<{len(numbers)}f", *numbers)


def legacy(tensors, shared):
    order = ["tok_embed", *kinds("attn_norm", "q", "k", "v", "o", "ffn_norm", "gate", "down", "up"), "out_norm"]
    out = struct.pack("<7i", DIM, FFN, LAYERS, HEADS, KV, VOCAB if shared else -VOCAB, CONTEXT) + b"".join(floats(tensors[n]) for n in order)
    return out + bytes(4 * CONTEXT * DIM // HEADS) + (b"" if shared else floats(tensors["head"]))


def header(version, shared, group=None):
    out = struct.pack("<II7iB", MAGIC, version, *SHAPE, shared) + (b"" if group is None else struct.pack("<i", group))
    return out + bytes(256 - len(out))


def version1(tensors, shared):
    return header(1, shared) + b"".join(floats(tensors[n]) for n in NORMS + MATRICES + ([] if shared else ["head"]))


def version2(tensors, shared, rng):
    """The file, and the numbers that it means."""
    out, means = header(2, shared, GROUP), {n: tensors[n] for n in NORMS}
    out += b"".join(floats(tensors[n]) for n in NORMS)
    for name in MATRICES + ([] if shared else ["head"]):
        codes = [rng.randint(-127, 127) for _ in tensors[name]]
        scales = [f32(rng.random() * 2.0 ** rng.randint(-20, 0)) for _ in range(len(codes) // GROUP)]
        out += struct.pack(f"<{len(codes)}b", *codes) + floats(scales)
        means[name] = [f32(scale * code) for scale, start in zip(scales, range(0, len(codes), GROUP)) for code in codes[start:start + GROUP]]
    return out, means


def numbers(tensor):
    raw = tensor.data()
    return [tensor.at(r, c, raw)[0] for r in range(tensor.rows) for c in range(tensor.cols)]


def same(file, tensors, shared):
    assert set(file.tensors) == set(shapes(shared)), set(file.tensors) ^ set(shapes(shared))
    assert file.metadata["tied_head"] == shared and file.metadata["context"] == CONTEXT
    for name, shape in shapes(shared).items():
        t = file.tensors[name]
        assert (t.rows, t.cols) == shape, name
        assert numbers(t) == tensors[name], name


def good_cases(run, seed):
    path = run.folder / "model.bin"
    for shared in True, False:
        rng = random.Random(f"{seed} {shared}")
        tensors = {name: [f32(rng.gauss(0, 1)) for _ in range(r * c)] for name, (r, c) in shapes(shared).items()}
        quantized, means = version2(tensors, shared, rng)
        for version, data, expected in ((0, legacy(tensors, shared), tensors), (1, version1(tensors, shared), tensors), (2, quantized, means)):
            def body():
                path.write_bytes(data)
                same(run.good(path), expected, shared)

            def without_suffix():
                other = run.folder / "model"
                other.write_bytes(data)
                same(run.good(other), expected, shared)

            head = "shared head" if shared else "head"
            check(f"version {version}, {head} (seed {seed})", body)
            if version > 0:
                check(f"version {version}, {head}: told by its magic (seed {seed})", without_suffix)


def bad_cases(run):
    rng = random.Random(0)
    tensors = {name: [0.0] * (r * c) for name, (r, c) in shapes(True).items()}
    path = run.folder / "bad.bin"
    files = {1: version1(tensors, True), 2: version2(tensors, True, rng)[0]}

    def refuse(name, expected, data):
        def body():
            path.write_bytes(data)
            run.bad(path, expected)
        check(name, body)

    def put(data, at, kind, value):
        raw = struct.pack("<" + kind, value)
        return data[:at] + raw + data[at + len(raw):]

    for version, data in files.items():
        for size in (4, 7, 8, 36, 40, 41, 255, 256, 257, len(data) - 1):
            refuse(f"version {version}: cut to {size} bytes", "bad.bin: ", data[:size])
        refuse(f"version {version}: a byte too many", f"{len(data) + 1} bytes, expected {len(data)}", data + b"\0")
        for i, what in enumerate(("dim", "ffn dim", "layers", "heads", "KV heads", "tokens", "context")):
            for value in (0, -1, -2 ** 31) + (2 ** 31 - 1,) * (what != "context"):
                refuse(f"version {version}: {what} {value}", "bad.bin: ", put(data, 8 + 4 * i, "i", value))
        refuse(f"version {version}: a head that is shared twice", "shared head, at offset 36: found 2", put(data, 36, "B", 2))
        refuse(f"version {version}: a head that is missing", f"{len(data)} bytes, but head needs", put(data, 36, "B", 0))
    for version in 0, 3, 2 ** 32 - 1:
        refuse(f"version {version} with a magic", f"version {version}, supported are", put(files[1], 4, "I", version))
    for group in 0, -1, -2 ** 31:
        refuse(f"{group} numbers a scale", f"numbers a scale, at offset 37: found {group}", put(files[2], 37, "i", group))
    for group in 3, 64, 2 ** 31 - 1:
        refuse(f"{group} numbers a scale", f"expected a multiple of the {group} that share a scale", put(files[2], 37, "i", group))
    refuse("4 numbers a scale where 8 were written", "bad.bin: ", put(files[2], 37, "i", 4))
    refuse("the other version: floats as codes", "bad.bin: ", put(put(files[1], 4, "I", 2), 37, "i", GROUP))
    refuse("the other version: codes as floats", "bad.bin: ", put(files[2], 4, "I", 1))


def real_model(run, data):
    folder = pathlib.Path(data or os.environ.get("INFER_TEST_DATA") or DEFAULT_DATA) / "models" / "stories260K"
    name = "stories260K in version 2: dequantized as a second reader does, half a step from version 0"
    if not (folder / "stories260K-q8.bin").exists():
        skip(name, "no stories260K-q8.bin")
        return

    def body():
        raw = (folder / "stories260K-q8.bin").read_bytes()
        floats_of = run.good(folder / "stories260K.bin", tokenizer=folder / "tok512.bin").tensors
        found = run.good(folder / "stories260K-q8.bin", tokenizer=folder / "tok512.bin").tensors
        layers, group = struct.unpack_from("<i", raw, 16)[0], struct.unpack_from("<i", raw, 37)[0]
        assert set(found) == set(floats_of)

        def each(*names):
            return [f"layers.{i}.{n}" for n in names for i in range(layers)]

        at = 256
        for tensor in (*each("attn_norm", "ffn_norm"), "out_norm"):
            want = list(struct.unpack_from(f"<{found[tensor].cols}f", raw, at))
            assert numbers(found[tensor]) == want == numbers(floats_of[tensor]), tensor
            at += 4 * len(want)
        for tensor in ("tok_embed", *each("q", "k", "v", "o", "gate", "down", "up")):
            count = found[tensor].rows * found[tensor].cols
            codes = struct.unpack_from(f"<{count}b", raw, at)
            scales = struct.unpack_from(f"<{count // group}f", raw, at + count)
            at += count + 4 * (count // group)
            mine = numbers(found[tensor])
            assert mine == [f32(code * scales[i // group]) for i, code in enumerate(codes)], tensor
            steps = [abs(a - b) / scales[i // group] for i, (a, b) in enumerate(zip(mine, numbers(floats_of[tensor]))) if scales[i // group]]
            assert max(steps) < 0.501, f"{tensor}: {max(steps)} steps"
        assert at == len(raw)

    check(name, body)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", required=True)
    parser.add_argument("--data", help="folder of the test data; default: INFER_TEST_DATA, else ../shared/data beside the checkout")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(args.tools, pathlib.Path(folder), VOCAB)
        good_cases(run, os.environ.get("INFER_TEST_SEED") or random.randrange(1 << 32))
        bad_cases(run)
        real_model(run, args.data)
    return finish()


sys.exit(main())
