"""Writes .infer files as formats/SPEC.md says: matrices in tile16x4 as f32, q8g32 or t2r, vectors in rows. Nothing of libinfer."""
import json
import struct

import numpy as np
from read_infer import MAGIC, align, xxh3


def tiles(matrix, group):
    """[rows][cols] -> [panels][16][groups][group], padded with zeros."""
    rows, cols = matrix.shape
    padded = np.zeros((-(-rows // 16) * 16, -(-cols // group) * group), np.float32)
    padded[:rows, :cols] = matrix
    return padded.reshape(padded.shape[0] // 16, 16, -1, group)


def pack_f32(matrix):
    return tiles(matrix, 4).transpose(0, 2, 1, 3).astype("<f4").tobytes()


def pack_q8g32(matrix):
    t = tiles(matrix, 32)
    scales = (np.abs(t).max(axis=3) / 127).astype(np.float16)
    divisor = np.where(scales == 0, 1, scales).astype(np.float32)
    codes = np.clip(np.rint(t / divisor[..., None]), -127, 127).astype(np.int8)
    panels, _, groups, _ = t.shape
    out = np.zeros((panels, groups, 544), np.uint8)
    out[:, :, :32] = scales.transpose(0, 2, 1).astype("<f2").copy().view(np.uint8)
    out[:, :, 32:] = codes.reshape(panels, 16, groups, 8, 4).transpose(0, 2, 3, 1, 4).reshape(panels, groups, 512).view(np.uint8)
    return out.tobytes()


def pack_t2r(matrix):
    """Rows as -s, 0, s with s the mean magnitude."""
    t = tiles(matrix, 32)
    panels, _, groups, _ = t.shape
    scales = (np.abs(t).sum(axis=(2, 3)) / matrix.shape[1]).astype("<f4")
    divisor = np.where(scales == 0, 1, scales)[..., None, None]
    codes = (np.clip(np.rint(t / divisor), -1, 1) + 1).astype(np.uint8).reshape(panels, 16, groups, 2, 4, 4)
    packed = (codes << np.array([0, 2, 4, 6], np.uint8)[:, None]).sum(axis=4, dtype=np.uint8)  # [panels][16][groups][2][4 j]
    body = packed.transpose(0, 2, 3, 1, 4).reshape(panels, groups * 128)
    return np.concatenate([scales.view(np.uint8).reshape(panels, 64), body], axis=1).tobytes()


PACK = {"f32": (0, pack_f32), "q8g32": (3, pack_q8g32), "t2r": (6, pack_t2r)}


def infer_file(metadata, tensors, kind="f32"):
    """tensors: {name: array}, matrices of two dimensions, vectors of one. -> the bytes of the file, without a tokenizer."""
    meta = json.dumps(metadata).encode()
    entries, names, data, parts = b"", b"", [], []
    for name, values in tensors.items():
        matrix = values.ndim == 2
        raw = PACK[kind][1](values) if matrix else values.astype("<f4").tobytes()
        rows, cols = values.shape if matrix else (1, values.size)
        parts.append((len(raw), rows, cols, xxh3(raw), len(names), len(name), PACK[kind][0] if matrix else 0, int(matrix)))
        names += name.encode() + b"\0"
        data.append(raw)
    directory_at = align(128 + len(meta))
    at = start = align(directory_at + 48 * len(parts) + len(names))
    for (size, *rest) in parts:
        entries += struct.pack("<5QIHBB", at, size, *rest)
        at = align(at + size)
    directory = entries + names
    header = struct.pack("<8sIQ", MAGIC, 1, 128)[:12] + struct.pack("<IQ", 128, at)
    header += struct.pack("<7QII", 128, len(meta), directory_at, 0, directory_at, len(directory), start, len(parts), 0)
    header += struct.pack("<4Q", xxh3(meta), xxh3(b""), xxh3(directory), 0)
    out = bytearray(at)
    out[:120], out[120:128] = header, struct.pack("<Q", xxh3(header))
    out[128:128 + len(meta)] = meta
    out[directory_at:directory_at + len(directory)] = directory
    at = start
    for raw in data:
        out[at:at + len(raw)] = raw
        at = align(at + len(raw))
    return bytes(out)
