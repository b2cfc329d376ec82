"""What the tests of importers share: cases as TAP, files of other formats, and infer-convert run on them. Standard library only."""
import math
import os
import pathlib
import resource
import struct
import subprocess
import time

import read_infer

done = 0
failed = 0


def check(name, function, *args, **options):
    global done, failed
    done += 1
    try:
        function(*args, **options)
        print(f"ok {done} - {name}")
    except (AssertionError, read_infer.Malformed, subprocess.CalledProcessError, subprocess.TimeoutExpired, KeyError, ValueError) as e:
        failed += 1
        print(f"not ok {done} - {name}\n# {type(e).__name__}: {str(e)[:400]}")


def skip(name, why):
    global done
    done += 1
    print(f"ok {done} - {name} # SKIP {why}")


def refused(process, expected):
    """The tool has failed with one line, in which that stands."""
    lines = process.stderr.decode().splitlines()
    assert process.returncode == 1 and len(lines) == 1 and expected in lines[0], \
        f"status {process.returncode}: {process.stderr}, expected {expected}"


def finish():
    """Prints the plan; the exit status."""
    print(f"1..{done}")
    return failed != 0


# ---- files ----

def f32(x):
    """The nearest float."""
    return struct.unpack("<f", struct.pack("<f", x))[0]


def tokenizer_bin(count):
    """llama2.c's tokenizer.bin with so many tokens, four at least."""
    texts = [b"<unk>", b"\n<s>\n", b"\n</s>\n"] + [b"<0x%02X>" % i for i in range(count - 4)] + ["é".encode()]
    return struct.pack("<I", 6) + b"".join(struct.pack("<fI", -i, len(t)) + t for i, t in enumerate(texts))


def string(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def gguf(values, tensors):
    """GGUF 3: values {key: int, float, str or list of them}; tensors {name: (dimensions, number of the type, bytes)}."""
    out = [struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(values))]

    def item(v):
        if isinstance(v, bool):
            return 7, struct.pack("<B", v)
        if isinstance(v, int):
            return 4, struct.pack("<I", v)
        if isinstance(v, float):
            return 6, struct.pack("<f", v)
        return 8, string(v)

    for key, v in values.items():
        if isinstance(v, list):
            out += [string(key), struct.pack("<IIQ", 9, item(v[0])[0], len(v))] + [item(x)[1] for x in v]
        else:
            kind, raw = item(v)
            out += [string(key), struct.pack("<I", kind), raw]
    data, at = [], 0
    for name, (dims, kind, raw) in tensors.items():
        out += [string(name), struct.pack(f"<I{len(dims)}Q", len(dims), *dims), struct.pack("<IQ", kind, at)]
        data += [raw, bytes(-len(raw) % 32)]
        at += len(data[-2]) + len(data[-1])
    head = b"".join(out)
    return head + bytes(-len(head) % 32) + b"".join(data)


def llama_gguf(dim, ffn, heads, vocab, layers=1, fill=bytes):
    """Values and tensors of a Llama with one KV head for gguf(); `fill` makes so many bytes of numbers in F32."""
    kv = dim // heads
    values = {"general.architecture": "llama", "llama.embedding_length": dim, "llama.block_count": layers, "llama.attention.head_count": heads,
              "llama.attention.head_count_kv": 1, "llama.feed_forward_length": ffn, "llama.context_length": 16,
              "llama.attention.layer_norm_rms_epsilon": 1e-5}
    shapes = {"token_embd": [dim, vocab], "output_norm": [dim]}
    for i in range(layers):
        shapes.update({f"blk.{i}.{name}": shape for name, shape in {
            "attn_norm": [dim], "attn_q": [dim, dim], "attn_k": [dim, kv], "attn_v": [dim, kv], "attn_output": [dim, dim], "ffn_norm": [dim],
            "ffn_gate": [dim, ffn], "ffn_up": [dim, ffn], "ffn_down": [ffn, dim]}.items()})
    return values, {name + ".weight": (shape, 0, fill(4 * math.prod(shape))) for name, shape in shapes.items()}


# ---- infer-convert ----

class Run:
    def __init__(self, tools, folder, tokens):
        self.convert, self.folder = pathlib.Path(tools) / "infer-convert", folder
        self.tokenizer = folder / "tokenizer.bin"  # where llama2.c models in the folder find it as well
        self.tokenizer.write_bytes(tokenizer_bin(tokens))

    def run(self, source, *options, tokenizer=None):
        out = self.folder / "out.infer"
        out.unlink(missing_ok=True)
        start = time.monotonic()
        # tools/check.sh sets ASAN_OPTIONS for sanitizers, which reserve terabytes of addresses.
        limit = None if "ASAN_OPTIONS" in os.environ else lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
        p = subprocess.run([self.convert, source, "--tokenizer", tokenizer or self.tokenizer, "-o", out, "-q", *options], capture_output=True, timeout=60,
                           preexec_fn=limit)
        return p, out, time.monotonic() - start

    def good(self, source, *options, tokenizer=None):
        p, out, _ = self.run(source, *options, tokenizer=tokenizer)
        assert p.returncode == 0, p.stderr.decode()
        return read_infer.File(out.read_bytes())

    def bad(self, source, expected):
        p, out, seconds = self.run(source)
        lines = p.stderr.decode().splitlines()
        assert p.returncode == 1, f"status {p.returncode}: {p.stderr.decode()[:300]}"
        assert len(lines) == 1 and expected in lines[0], f"found {lines}, expected {expected!r}"
        assert seconds < 5, f"took {seconds:.1f} s"  # a second, on a machine with nothing else to do
        assert not out.exists()
