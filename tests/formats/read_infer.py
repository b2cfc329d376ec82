#!/usr/bin/env python3
"""A second reader of .infer files, written from formats/SPEC.md alone: standard library only, nothing of libinfer.

    read_infer.py FILE            checks everything in the file and lists its tensors
"""
import json
import struct
import sys

MAGIC = b"\x89INFER\r\n"
NONE = 0xFFFFFFFF


class Malformed(Exception):
    pass


def need(condition, what):
    if not condition:
        raise Malformed(what)


# ---- XXH3, 64 bits, seed 0 (github.com/Cyan4973/xxHash, doc/xxhash_spec.md) ----

M64 = (1 << 64) - 1
P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P64_1, P64_2, P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P64_4, P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
PMX_1, PMX_2 = 0x165667919E3779F9, 0x9FB21C651E98DF25
SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364ea"
    "c5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e")


def u32(b, i=0):
    return struct.unpack_from("<I", b, i)[0]


def u64(b, i=0):
    return struct.unpack_from("<Q", b, i)[0]


def mul_fold(a, b):
    product = a * b
    return (product & M64) ^ (product >> 64)


def avalanche(h):
    h ^= h >> 37
    h = h * PMX_1 & M64
    return h ^ h >> 32


def avalanche_64(h):
    h ^= h >> 33
    h = h * P64_2 & M64
    h ^= h >> 29
    h = h * P64_3 & M64
    return h ^ h >> 32


def rotl64(x, n):
    return (x << n | x >> (64 - n)) & M64


def mix16(data, i, secret):
    return mul_fold(u64(data, i) ^ u64(SECRET, secret), u64(data, i + 8) ^ u64(SECRET, secret + 8))


def xxh3_short(data):
    n = len(data)
    if n == 0:
        return avalanche_64(u64(SECRET, 56) ^ u64(SECRET, 64))
    if n <= 3:
        combined = data[n - 1] | n << 8 | data[0] << 16 | data[n >> 1] << 24
        return avalanche_64(combined ^ u32(SECRET, 0) ^ u32(SECRET, 4))
    if n <= 8:
        x = (u32(data, n - 4) | u32(data) << 32) ^ (u64(SECRET, 8) ^ u64(SECRET, 16))
        x ^= rotl64(x, 49) ^ rotl64(x, 24)
        x = x * PMX_2 & M64
        x ^= (x >> 35) + n
        x = x * PMX_2 & M64
        return x ^ x >> 28
    low = u64(data) ^ (u64(SECRET, 24) ^ u64(SECRET, 32))
    high = u64(data, n - 8) ^ (u64(SECRET, 40) ^ u64(SECRET, 48))
    swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
    return avalanche((n + swapped + high + mul_fold(low, high)) & M64)


def xxh3_medium(data):
    n = len(data)
    acc = n * P64_1 & M64
    if n <= 128:
        for i in reversed(range((n - 1) // 32 + 1)):
            acc += mix16(data, 16 * i, 32 * i) + mix16(data, n - 16 * (i + 1), 32 * i + 16)
        return avalanche(acc & M64)
    for i in range(8):
        acc += mix16(data, 16 * i, 16 * i)
    acc = avalanche(acc & M64)
    for i in range(8, n // 16):
        acc += mix16(data, 16 * i, 16 * (i - 8) + 3)
    acc += mix16(data, n - 16, 136 - 17)
    return avalanche(acc & M64)


def xxh3_long(data):
    acc = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1]
    keys = [struct.unpack_from("<8Q", SECRET, 8 * i) for i in range(16)]
    scramble_keys = struct.unpack_from("<8Q", SECRET, len(SECRET) - 64)

    def accumulate(stripe, key):
        for lane in range(8):
            value = stripe[lane] ^ key[lane]
            acc[lane ^ 1] = (acc[lane ^ 1] + stripe[lane]) & M64
            acc[lane] = (acc[lane] + (value & 0xFFFFFFFF) * (value >> 32)) & M64

    stripes = (len(data) - 1) // 64
    for i in range(stripes):
        accumulate(struct.unpack_from("<8Q", data, 64 * i), keys[i % 16])
        if i % 16 == 15:
            for lane in range(8):
                acc[lane] = ((acc[lane] ^ acc[lane] >> 47) ^ scramble_keys[lane]) * P32_1 & M64
    accumulate(struct.unpack_from("<8Q", data, len(data) - 64), struct.unpack_from("<8Q", SECRET, len(SECRET) - 64 - 7))
    merge = struct.unpack_from("<8Q", SECRET, 11)
    result = len(data) * P64_1 & M64
    for i in range(4):
        result += mul_fold(acc[2 * i] ^ merge[2 * i], acc[2 * i + 1] ^ merge[2 * i + 1])
    return avalanche(result & M64)


def xxh3(data):
    if len(data) <= 16:
        return xxh3_short(data)
    if len(data) <= 240:
        return xxh3_medium(data)
    return xxh3_long(data)


# ---- the file ----

# name, inputs a group, bytes a panel's head, bytes a group, bytes a number in rows
TYPES = {0: ("f32", 4, 0, 256, 4), 1: ("f16", 4, 0, 128, 2), 2: ("bf16", 4, 0, 128, 2), 3: ("q8g32", 32, 0, 544, 0), 4: ("q4g32", 32, 0, 288, 0),
         5: ("n4g32", 32, 0, 288, 0), 6: ("t2r", 32, 64, 128, 0), 9: ("q8g64", 64, 0, 0, 0), 10: ("q4g64", 64, 0, 0, 0)}
COLS_BITS = {"q8g64": 8, "q4g64": 4}
N4_VALUES = (-63, -49, -39, -30, -23, -17, -11, -5, 0, 6, 12, 18, 25, 32, 41, 52)
LAYOUTS = {0: "rows", 1: "tile16x4", 3: "bcsr16x1", 4: "bcsr16x4", 5: "csr", 6: "bitmask", 8: "cols"}
SPARSE = ("bcsr16x1", "bcsr16x4", "csr", "bitmask")


def align(x):
    return (x + 63) // 64 * 64


class Sparse:
    """The parts of a sparse tensor: offsets in its bytes."""

    def __init__(self, layout, type_, rows, cols, units):
        self.panels, self.blocks, self.csr, bitmask = -(-rows // 16), -(-cols // 64), layout == "csr", layout == "bitmask"
        self.pointers = (rows if self.csr else self.panels) + 1
        self.most = rows * cols if self.csr else self.panels * -(-cols // 4) * (32 if bitmask else 1)
        self.counts = align(4 * self.pointers)
        self.positions = self.counts + (align(self.panels * self.blocks) if layout == "bcsr16x1" else 0)
        cells = self.panels * self.blocks
        self.scales = self.positions + align({"bcsr16x1": 4 * units, "bcsr16x4": 2 * cells, "csr": 2 * units, "bitmask": 128 * cells}[layout])
        self.values = self.scales + align(32 * self.panels * self.blocks)
        bits = (8 if type_ == "q8g64" else 4) * (1 if self.csr else 2 if bitmask else 64)
        self.bytes = self.values + -(-units * bits // 8) + (64 if bitmask else 0)


def sparse_fits(layout, type_, rows, cols, size):
    low, high = 0, min(Sparse(layout, type_, rows, cols, 0).most, NONE)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if Sparse(layout, type_, rows, cols, middle).bytes < size else (low, middle)
    return Sparse(layout, type_, rows, cols, low).bytes == size


class Tensor:
    def __init__(self, file, name, type_, layout, rows, cols, offset, size, hash_):
        self.file, self.name, self.rows, self.cols, self.offset, self.bytes, self.hash = file, name, rows, cols, offset, size, hash_
        self.type, self.group, self.head_bytes, self.group_bytes, self.number_bytes = TYPES[type_]
        self.layout = LAYOUTS[layout]

    def data(self):
        return self.file.raw[self.offset:self.offset + self.bytes]

    def number(self, raw, i):
        """Number i of an array of floats."""
        if self.type == "f32":
            return struct.unpack_from("<f", raw, 4 * i)[0]
        if self.type == "f16":
            return struct.unpack_from("<e", raw, 2 * i)[0]
        return struct.unpack("<f", b"\0\0" + raw[2 * i:2 * i + 2])[0]

    def at(self, row, col, raw=None):
        """(value, scale, code) of one weight; scale and code are None for floats. Who asks for many gives data() once."""
        raw = raw or self.data()
        if self.layout == "rows":
            return self.number(raw, row * self.cols + col), None, None
        if self.layout == "cols":
            return self.at_cols(row, col, raw)
        if self.layout in SPARSE:
            return self.at_sparse(row, col, raw)
        panel = row // 16 * (self.head_bytes + -(-self.cols // self.group) * self.group_bytes)
        start = panel + self.head_bytes + col // self.group * self.group_bytes
        r, i = row % 16, col % self.group
        row_scale = struct.unpack_from("<f", raw, panel + 4 * r)[0] if self.head_bytes else None
        raw = raw[start:start + self.group_bytes]
        if self.type == "t2r":
            code = (raw[64 * (i // 16) + 4 * r + i % 4] >> 2 * (i % 16 // 4) & 3) - 1
            return row_scale * code, row_scale, code
        if self.group == 4:
            return self.number(raw, 4 * r + i), None, None
        scale = struct.unpack_from("<e", raw, 2 * r)[0]
        if self.type == "q8g32":
            code = struct.unpack_from("<b", raw, 32 + 64 * (i // 4) + 4 * r + i % 4)[0]
        else:
            byte = raw[32 + 64 * (i // 8) + 4 * r + i % 4]
            code = byte >> 4 if i % 8 >= 4 else byte & 15
            code = N4_VALUES[code] if self.type == "n4g32" else code - 8
        return scale * code, scale, code

    def at_cols(self, row, col, raw):
        bits, groups, outputs = COLS_BITS[self.type], -(-self.cols // 64), -(-self.rows // 128) * 128
        column, = struct.unpack_from("<f", raw, 4 * col)
        factor, = struct.unpack_from("<f", raw, 256 * groups + 4 * row)
        most = 2048 // bits
        stripe, o = row // most * most, row % most
        width = min(most, outputs - stripe)
        group = 256 * groups + 4 * outputs + groups * stripe * (1 + 8 * bits) + col // 64 * width * (1 + 8 * bits)
        byte = raw[group + o]
        scale = (16 + (byte & 15)) / 16 * 2.0 ** ((byte >> 4 & 7) - 7) * (-1 if byte & 128 else 1) * factor * column
        codes = group + width + col % 64 * width * bits // 8
        if bits == 8:
            code, = struct.unpack_from("<b", raw, codes + o)
        else:
            code = (raw[codes + o // 128 * 64 + o % 64] >> (4 if o % 128 >= 64 else 0) & 15) - 8
        return code * scale, scale, code


    def sparse(self, raw):
        pointers = (self.rows if self.layout == "csr" else -(-self.rows // 16)) + 1
        return Sparse(self.layout, self.type, self.rows, self.cols, u32(raw, 4 * pointers - 4))

    def kept(self, raw, s, panel):
        """bcsr16: the inputs that a panel keeps, in order; beyond cols too, where bcsr16x4 has some of four."""
        inputs, first = [], panel * s.blocks
        if self.layout == "bcsr16x4":
            for b in range(s.blocks):
                mask, = struct.unpack_from("<H", raw, s.positions + 2 * (first + b))
                inputs += [64 * b + i for i in range(64) if mask >> i // 4 & 1]
            return inputs
        at = s.positions + 4 * u32(raw, 4 * panel)
        for b, count in enumerate(raw[s.counts + first:s.counts + first + s.blocks]):
            need(count <= 64, f"{self.name}: counts")
            need(all(i < 64 for i in raw[at:at + count]), f"{self.name}: positions")
            inputs += [64 * b + i for i in raw[at:at + count]]
            at += count
        return inputs

    def check_sparse(self, raw):
        pointers = (self.rows if self.layout == "csr" else -(-self.rows // 16)) + 1
        need(u32(raw) == 0 and u32(raw, 4 * pointers - 4) <= NONE, f"{self.name}: pointers")
        s = self.sparse(raw)
        units = u32(raw, 4 * pointers - 4)
        need(units <= s.most and s.bytes == len(raw), f"{self.name}: bytes")
        starts = struct.unpack_from(f"<{pointers}I", raw)
        need(all(a <= b for a, b in zip(starts, starts[1:])), f"{self.name}: pointers")
        for i in range(pointers - 1):
            if self.layout == "csr":
                inputs = struct.unpack_from(f"<{starts[i + 1] - starts[i]}H", raw, s.positions + 2 * starts[i])
                need(all(a < b for a, b in zip(inputs, inputs[1:])) and all(c < self.cols for c in inputs[-1:]), f"{self.name}: inputs")
                continue
            if self.layout == "bitmask":
                self.check_masks(raw, s, i)
                continue
            if self.layout == "bcsr16x1":
                count = sum(raw[s.counts + i * s.blocks:s.counts + (i + 1) * s.blocks])
                need(starts[i + 1] - starts[i] == -(-count // 4), f"{self.name}: pointers")
            inputs = self.kept(raw, s, i)
            need(starts[i + 1] - starts[i] == -(-len(inputs) // 4), f"{self.name}: pointers")
            need(all(a < b for a, b in zip(inputs, inputs[1:])), f"{self.name}: positions")
            need(inputs[-1:] < [self.cols if self.layout == "bcsr16x1" else -(-self.cols // 4) * 4], f"{self.name}: positions")

    def masks(self, raw, s, panel):
        """bitmask: of each tile of a panel."""
        return struct.unpack_from(f"<{16 * s.blocks}Q", raw, s.positions + 128 * panel * s.blocks)

    def check_masks(self, raw, s, panel):
        masks = self.masks(raw, s, panel)
        first, end = struct.unpack_from("<2I", raw, 4 * panel)
        need(end - first == sum((m.bit_count() + 1) // 2 for m in masks), f"{self.name}: pointers")
        for tile, mask in enumerate(masks):
            kept = [(16 * panel + i // 4, 4 * tile + i % 4) for i in range(64) if mask >> i & 1]
            need(all(r < self.rows and c < self.cols for r, c in kept), f"{self.name}: masks")

    def at_sparse(self, row, col, raw):
        s, panel, r = self.sparse(raw), row // 16, row % 16
        scale, = struct.unpack_from("<e", raw, s.scales + 32 * (panel * s.blocks + col // 64) + 2 * r)
        if s.csr:
            first, end = struct.unpack_from("<2I", raw, 4 * row)
            inputs = struct.unpack_from(f"<{end - first}H", raw, s.positions + 2 * first)
            if col not in inputs:
                return 0.0, scale, 0
            n = first + inputs.index(col)
            code = struct.unpack_from("<b", raw, s.values + n)[0] if self.type == "q8g64" else (raw[s.values + n // 2] >> 4 * (n % 2) & 15) - 8
            return scale * code, scale, code
        if self.layout == "bitmask":
            masks, bit = self.masks(raw, s, panel), 4 * r + col % 4
            if not masks[col // 4] >> bit & 1:
                return 0.0, scale, 0
            unit = s.values + (2 if self.type == "q8g64" else 1) * (u32(raw, 4 * panel) + sum((m.bit_count() + 1) // 2 for m in masks[:col // 4]))
            n = (masks[col // 4] & (1 << bit) - 1).bit_count()
            code = struct.unpack_from("<b", raw, unit + n)[0] if self.type == "q8g64" else (raw[unit + n // 2] >> 4 * (n % 2) & 15) - 8
            return scale * code, scale, code
        inputs = self.kept(raw, s, panel)
        if col not in inputs:
            return 0.0, scale, 0
        kept = inputs.index(col)
        unit = s.values + (64 if self.type == "q8g64" else 32) * (u32(raw, 4 * panel) + kept // 4)
        if self.type == "q8g64":
            code, = struct.unpack_from("<b", raw, unit + 4 * r + kept % 4)
        else:
            code = (raw[unit + 4 * (r % 8) + kept % 4] >> 4 * (r // 8) & 15) - 8
        return scale * code, scale, code


def align_to(n, multiple):
    return (n + multiple - 1) // multiple * multiple


class Vocabulary:
    def __init__(self, raw):
        need(len(raw) >= 36, "tokenizer: too short")
        self.kind, self.flags, self.pretokenizer, self.unk, self.bos, self.eos, n, m, text_bytes = struct.unpack_from("<9I", raw)
        need(self.kind in (1, 2, 3, 4, 5), "tokenizer: kind")
        need(self.flags < 1048576 and (self.flags >> 10 & 7).bit_count() <= 1, "tokenizer: flags")
        need(self.pretokenizer <= 6, "tokenizer: pre-tokenizer")
        need(1 <= n <= 4194304 and m <= 8388608, "tokenizer: counts")
        padded = (n + 3) // 4 * 4
        at = 36 + 4 * n + padded + 4 * n + 8 * m + text_bytes
        need(len(raw) >= at, "tokenizer: length")
        patterns, at = self.block(raw, at) if self.pretokenizer == 5 else (b"", at)
        steps, at = self.block(raw, at) if self.pretokenizer == 6 else (b"", at)
        self.charsmap, at = self.block(raw, at) if self.flags & 65536 else (b"", at)
        need(len(raw) == at, "tokenizer: length")
        self.patterns = patterns.split(b"\0")[:-1]
        need(self.pretokenizer != 5 or (patterns[-1:] == b"\0" and 1 <= len(self.patterns) <= 8 and len(patterns) <= 4096), "tokenizer: patterns")
        for token in (self.unk, self.bos, self.eos):
            need(token < n or token == NONE, "tokenizer: id")
        at = 36
        self.scores = struct.unpack_from(f"<{n}f", raw, at)
        at += 4 * n
        self.types = raw[at:at + n]
        need(not any(raw[at + n:at + padded]), "tokenizer: padding")
        at += padded
        ends = struct.unpack_from(f"<{n}I", raw, at)
        at += 4 * n
        flat = struct.unpack_from(f"<{2 * m}I", raw, at)
        self.merges = list(zip(flat[::2], flat[1::2]))
        at += 8 * m
        starts = (0,) + ends[:-1]
        need(all(a <= b for a, b in zip(starts, ends)) and ends[-1] == text_bytes, "tokenizer: text ends")
        self.texts = [raw[at + a:at + b] for a, b in zip(starts, ends)]
        need(all(s - s == 0 for s in self.scores), "tokenizer: scores")
        for kind, text in zip(self.types, self.texts):
            need(1 <= kind & 15 <= 7, "tokenizer: type")
            need(kind & 15 != 6 or (len(text) == 6 and text[:3] == b"<0x" and text[5:] == b">" and all(c in b"0123456789ABCDEF" for c in text[3:5])),
                 "tokenizer: byte token")
        for pair in self.merges:
            need(all(i < n and self.texts[i] for i in pair), "tokenizer: merge")
        self.steps = list(self.read_steps(steps, n))
        need(self.pretokenizer != 6 or not self.flags & 0xff80, "tokenizer: flags beside steps")

    def read_steps(self, raw, tokens):
        """(what, argument, text, content)"""
        at = count = 0
        need(len(raw) <= 65536, "tokenizer: steps")
        while at < len(raw):
            need(len(raw) - at >= 16 and count < 64, "tokenizer: steps")
            what, argument, a, b = struct.unpack_from("<4I", raw, at)
            end = at + 16 + a + b
            need(align_to(end, 4) <= len(raw) and not any(raw[end:align_to(end, 4)]), "tokenizer: step")
            text, content = raw[at + 16:at + 16 + a].decode(), raw[at + 16 + a:end].decode()
            arguments = {1: range(1, 5), 3: range(1, 5), 4: (1, 2), 6: range(2), 7: range(1, 4), 8: range(5), 12: range(2), 13: (1, 2, 3, 4, 5, 17, 18, 19, 20, 21), 14: range(1 << 32),
                         15: range(tokens), 16: range(tokens)}.get(what, (0,))
            need(1 <= what <= 16 and argument in arguments and (a > 0) == (what in (8, 9, 10, 13)) and (b == 0 or what in (9, 10)) and
                 (what != 6 or self.flags & 65536), "tokenizer: step")
            yield what, argument, text, content
            at, count = align_to(end, 4), count + 1

    @staticmethod
    def block(raw, at):
        start = (at + 3) // 4 * 4
        need(len(raw) >= start + 4 and not any(raw[at:start]), "tokenizer: block")
        end = start + 4 + struct.unpack_from("<I", raw, start)[0]
        need(len(raw) >= end, "tokenizer: block")
        return raw[start + 4:end], end


class File:
    def __init__(self, raw):
        self.raw = raw
        need(raw[:8] == MAGIC, "magic")
        need(len(raw) >= 128, "header: too short")
        need(u32(raw, 8) == 1, "version")
        need(u64(raw, 120) == xxh3(raw[:120]), "header: hash")
        need(u32(raw, 12) == 128 and u32(raw, 84) == 0 and u64(raw, 112) == 0, "header: constants")
        need(u64(raw, 16) == len(raw), "header: bytes of the file")
        (meta_at, meta_bytes, vocab_at, vocab_bytes, dir_at, dir_bytes, data_at) = struct.unpack_from("<7Q", raw, 24)
        count = u32(raw, 80)
        meta_hash, vocab_hash, dir_hash = struct.unpack_from("<3Q", raw, 88)
        need(2 <= meta_bytes <= 1048576 and vocab_bytes <= 268435456 and count <= 65536, "header: sizes")
        need(count * 50 <= dir_bytes <= count * 304, "header: directory bytes")
        need(meta_at == 128, "metadata: offset")
        need(vocab_at == align(meta_at + meta_bytes), "tokenizer: offset")
        need(dir_at == align(vocab_at + vocab_bytes), "directory: offset")
        need(data_at == align(dir_at + dir_bytes) and data_at <= len(raw), "tensors: offset")
        meta, vocab, directory = (raw[a:a + n] for a, n in ((meta_at, meta_bytes), (vocab_at, vocab_bytes), (dir_at, dir_bytes)))
        need((xxh3(meta), xxh3(vocab), xxh3(directory)) == (meta_hash, vocab_hash, dir_hash), "hash of a part")
        for a, b in ((meta_at + meta_bytes, vocab_at), (vocab_at + vocab_bytes, dir_at), (dir_at + dir_bytes, data_at)):
            need(not any(raw[a:b]), "padding")
        try:
            self.metadata = json.loads(meta.decode("utf-8"))
        except ValueError as e:
            raise Malformed(f"metadata: {e}") from e
        need(isinstance(self.metadata, dict) and b"\0" not in meta, "metadata: no object")
        self.vocabulary = Vocabulary(vocab) if vocab else None
        self.tensors = self.read_directory(directory, count, data_at)

    def read_directory(self, directory, count, at):
        names, name_at, tensors = directory[48 * count:], 0, {}
        for i in range(count):
            offset, size, rows, cols, hash_, name_offset, name_bytes, type_, layout = struct.unpack_from("<5QIHBB", directory, 48 * i)
            need(name_offset == name_at and 1 <= name_bytes <= 255 and name_at + name_bytes < len(names), "directory: name")
            name = names[name_at:name_at + name_bytes]
            need(names[name_at + name_bytes] == 0 and all(0x21 <= c <= 0x7E for c in name), "directory: name")
            name = name.decode("ascii")
            name_at += name_bytes + 1
            need(name not in tensors, "directory: two of one name")
            need(type_ in TYPES and layout in LAYOUTS, "directory: type or layout")
            need(1 <= rows <= 1 << 30 and 1 <= cols <= 1 << 30, "directory: shape")
            _, group, head_bytes, group_bytes, number_bytes = TYPES[type_]
            need((number_bytes, group_bytes)[layout] if layout < 2 else TYPES[type_][0] in COLS_BITS and (layout not in (5, 6) or cols <= 65536), "directory: type and layout")
            if LAYOUTS[layout] == "cols":
                groups, outputs = -(-cols // 64), -(-rows // 128) * 128
                expected = 256 * groups + 4 * outputs + groups * outputs * (1 + 8 * COLS_BITS[TYPES[type_][0]])
            else:
                expected = rows * cols * number_bytes if layout == 0 else -(-rows // 16) * (head_bytes + -(-cols // group) * group_bytes)
            need(sparse_fits(LAYOUTS[layout], TYPES[type_][0], rows, cols, size) if LAYOUTS[layout] in SPARSE else size == expected, "directory: bytes")
            need(offset == at and align(offset + size) <= len(self.raw), "directory: offset")
            at = align(offset + size)
            tensors[name] = Tensor(self, name, type_, layout, rows, cols, offset, size, hash_)
        need(name_at == len(names), "directory: bytes of names")
        need(at == len(self.raw), "bytes after the last tensor")
        return tensors

    def verify(self):
        for t in self.tensors.values():
            end = t.offset + t.bytes
            need(not any(self.raw[end:align(end)]), f"{t.name}: padding")
            need(xxh3(t.data()) == t.hash, f"{t.name}: hash")
            if t.layout in SPARSE:
                t.check_sparse(t.data())


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], "rb") as f:
        raw = f.read()
    try:
        file = File(raw)
        file.verify()
    except Malformed as e:
        sys.exit(f"{sys.argv[1]}: {e}")
    for t in file.tensors.values():
        print(f"{t.name} {t.type} {t.layout} [{t.rows}][{t.cols}] {t.hash:016x}")


if __name__ == "__main__":
    main()
