#!/usr/bin/env python3
"""Every architecture on a small random model against an independent float64 forward pass (reference.py), and files that must be refused. Prints TAP.

test_models.py --logits PROGRAM (logits.c)
"""
import argparse
import copy
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "formats"))
import read_infer
import reference
from write_infer import infer_file

POSITIONS = 330  # two chunks of the context, the first of them left behind by some windows

BASE = {"architecture": "llama", "dim": 48, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 16, "ffn_dim": 80, "vocab": 90, "context": 600,
        "norm_eps": 1e-5, "rope": {"theta": 10000, "pairs": "halves"}}
GEMMA = {"architecture": "gemma", "head_dim": 24, "embed_scale": 48 ** 0.5, "activation": "gelu_tanh", "tied_head": True}


def rope(**keys):
    return {"rope": {**BASE["rope"], **keys}}


# What a family has beside BASE.
MODELS = {
    "llama2": {**rope(pairs="adjacent"), "kv_heads": 4, "head_dim": 12},
    "llama3": rope(theta=500000, scaling={"type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_context": 128}),
    "linear": {**rope(scaling={"type": "linear", "factor": 4}), "kv_heads": 1, "tied_head": True},
    "mistral": {"window": {"size": 270}},
    "qwen2": {"qkv_bias": True, "tied_head": True},
    "qwen3": {"qk_norm": True, "head_dim": 32},
    "phi3": {**rope(dim=12, scaling={"type": "factors", "factors": [1.05, 1.5, 2.0, 8.0, 20.0, 60.0], "magnitude": 1.19}), "window": {"size": 300}},
    "gemma1": {**GEMMA, "kv_heads": 1},
    "gemma2": {**GEMMA, "layers": 4, "post_norms": True, "attention_softcap": 1.5, "logit_softcap": 3.0, "attention_scale": 0.3,
               "window": {"size": 60, "global_every": 2}},
    "gemma3": {**GEMMA, **rope(theta=1000000, local_theta=100, scaling={"type": "linear", "factor": 8}), "layers": 6, "kv_heads": 1, "post_norms": True,
               "qk_norm": True, "attention_scale": 0.4, "window": {"size": 40, "global_every": 3}},
    "bitnet": {"architecture": "bitnet", "sub_norms": True, "activation": "relu2", "norm_eps": 1e-5},
    "gpt2": {"architecture": "gpt2", "rope": None, "kv_heads": 4, "head_dim": 12, "activation": "gelu_tanh", "tied_head": True},
    "gelu": {"activation": "gelu", "window": {"size": 256}},
    "relu2": {"activation": "relu2", "head_dim": 40, "window": {"size": 1, "global_every": 2}},
}

done = 0
failed = 0


def result(name, problem):
    global done, failed
    done += 1
    failed += problem is not None
    print(f"{'ok' if problem is None else 'not ok'} {done} - {name}", flush=True)
    if problem is not None:
        print(f"# {problem}")


def metadata(keys):
    meta = {**copy.deepcopy(BASE), **copy.deepcopy(keys)}
    return {key: value for key, value in meta.items() if value is not None}


def shapes(meta):
    """{name: shape} of the tensors that SPEC.md lists."""
    dim, ffn, vocab, head_dim = meta["dim"], meta["ffn_dim"], meta["vocab"], meta["head_dim"]
    q, kv = meta["heads"] * head_dim, meta["kv_heads"] * head_dim
    gpt2 = meta["architecture"] == "gpt2"
    out = {"tok_embed": (vocab, dim)}
    if gpt2:
        out["pos_embed"] = (meta["context"], dim)
    for i in range(meta["layers"]):
        layer = {"attn_norm": (dim,), "q": (q, dim), "k": (kv, dim), "v": (kv, dim), "o": (dim, q), "ffn_norm": (dim,), "up": (ffn, dim),
                 "down": (dim, ffn)}
        if not gpt2:
            layer["gate"] = (ffn, dim)
        if gpt2:
            layer |= {f"{name}_bias": shape[:1] for name, shape in layer.items()}
        if meta.get("qkv_bias"):
            layer |= {"q_bias": (q,), "k_bias": (kv,), "v_bias": (kv,)}
        if meta.get("qk_norm"):
            layer |= {"q_norm": (head_dim,), "k_norm": (head_dim,)}
        if meta.get("sub_norms"):
            layer |= {"attn_sub_norm": (q,), "ffn_sub_norm": (ffn,)}
        if meta.get("post_norms"):
            layer |= {"attn_post_norm": (dim,), "ffn_post_norm": (dim,)}
        out |= {f"layers.{i}.{name}": shape for name, shape in layer.items()}
    out["out_norm"] = (dim,)
    if gpt2:
        out["out_norm_bias"] = (dim,)
    if not meta.get("tied_head"):
        out["head"] = (vocab, dim)
    return out


def random_tensors(meta, seed):
    """Matrices keep the size of what they multiply; norms about 1; biases of every size."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes(meta).items():
        values = rng.standard_normal(shape)
        if len(shape) == 2:
            values *= 1.5 * shape[1] ** -0.5 if name.endswith((".q", ".k")) else shape[1] ** -0.5
        elif name.endswith("norm"):
            values = 1 + 0.2 * values
        tensors[name] = values.astype(np.float32)
    tensors["tok_embed"] /= np.float32(meta.get("embed_scale", 1)) * np.float32(0.5)
    return tensors


def without(meta):
    """(what, metadata) with each feature taken out: the reference must notice."""
    def change(what, **keys):
        return what, metadata_of(keys)

    def metadata_of(keys):
        return {k: v for k, v in {**copy.deepcopy(meta), **keys}.items() if v is not None}

    optional = ("qkv_bias", "qk_norm", "post_norms", "sub_norms", "attention_softcap", "logit_softcap", "attention_scale", "embed_scale", "window")
    yield from (change(f"without {key}", **{key: None}) for key in optional if meta.get(key))
    other = {"silu": "gelu_tanh", "gelu_tanh": "gelu", "gelu": "gelu_tanh", "relu2": "silu"}[meta.get("activation", "silu")]
    yield change(f"with {other}", activation=other)
    for key in ("size", "global_every"):
        if meta.get("window", {}).get(key):
            yield change(f"with another window.{key}", window={**meta["window"], key: meta["window"][key] + 1})
    for key in ("scaling", "local_theta"):
        if meta.get("rope", {}).get(key):
            yield change(f"without rope.{key}", rope={k: v for k, v in meta["rope"].items() if k != key})
    if "magnitude" in meta.get("rope", {}).get("scaling", {}):
        yield change("without the magnitude", rope={**meta["rope"], "scaling": {**meta["rope"]["scaling"], "magnitude": 1}})


class Runner:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def run(self, raw, ids, threads=2, batch=0, split=0, context=0, level=None):
        """The process; its logits are in `out`."""
        (self.folder / "model.infer").write_bytes(raw)
        (self.folder / "ids").write_bytes(np.array(ids, "<i4").tobytes())
        numbers = [str(n) for n in (threads, batch, split, context)]
        return subprocess.run([self.program, self.folder / "model.infer", self.folder / "ids", self.folder / "out", *numbers], capture_output=True,
                              text=True, env={**os.environ, **({"INFER_CPU": level} if level else {})})

    def logits(self, raw, ids, vocab, **how):
        process = self.run(raw, ids, **how)
        if process.returncode != 0:
            raise ValueError(f"status {process.returncode}: {process.stderr}")
        return np.frombuffer((self.folder / "out").read_bytes(), "<f4").reshape(-1, vocab)


def check_model(runner, name, keys, seed):
    meta = metadata(keys)
    tensors = random_tensors(meta, seed)
    ids = np.random.default_rng(seed + 1).integers(0, meta["vocab"], POSITIONS)
    raw = infer_file(meta, tensors)
    file = read_infer.File(raw)
    file.verify()
    exact = reference.forward(meta, reference.weights(file), ids)
    # What rounding does to this model: a forward pass in float32 with sums in another order. The library may be off by a few times as much.
    bound = 3 * np.abs(reference.forward(meta, reference.weights(file), ids, np.float32) - exact).max()
    try:
        got = runner.logits(raw, ids, meta["vocab"])
    except ValueError as e:
        result(f"{name}: runs", str(e))
        return
    error = np.abs(got - exact).max()
    print(f"# {name}: f32 logits are off by {error:.2e}, bound {bound:.2e}")
    result(f"{name}: f32 logits of {POSITIONS} positions as close to float64 as rounding allows", None if error <= bound else f"off by {error:.3e}")
    for threads, batch, split, level in ((1, 0, 0, None), (2, 7, 0, None), (1, 64, 0, "ref"), (2, 0, 1, None), (1, 0, 1, None), (2, 0, 257, None)):
        again = runner.logits(raw, ids, meta["vocab"], threads=threads, batch=batch, split=split, level=level)
        how = f"{threads} threads, batches of {batch or 512}, {split or POSITIONS} at a time, level {level or 'best'}"
        result(f"{name}: same bits, {how}", None if again.tobytes() == got.tobytes() else f"they differ by {np.abs(again - got).max():.3e}")
    for what, other in without(meta):
        n = POSITIONS if "window" in what else 128  # the logits of the first positions do not depend on later ones
        difference = np.abs(reference.forward(other, tensors, ids[:n]) - exact[:n]).max()
        result(f"{name}: the logits {what} are others", None if difference > 30 * bound else f"they differ by {difference:.3e} only")
    for kind in ("q8g32", "t2r") if meta.get("sub_norms") else ("q8g32",):
        raw = infer_file(meta, tensors, kind)
        exact = reference.forward(meta, reference.weights(read_infer.File(raw)), ids)
        got = runner.logits(raw, ids, meta["vocab"])
        relative = np.sqrt(((got - exact) ** 2).mean() / (exact ** 2).mean())
        result(f"{name}: {kind} logits within 5 % of float64 on the same codes", None if relative < 0.05 else f"they are off by {relative:.3f}")


def refuse(runner, what, expected, keys, drop=(), other=None, **how):
    """A model of `keys` without the tensors `drop`, those of `other` in another shape."""
    meta = metadata(keys)
    tensors = {name: t for name, t in random_tensors({**BASE, **meta}, 1).items() if name not in drop} | (other or {})
    process = runner.run(infer_file(meta, tensors), [1, 2, 3], **how)
    said = process.stderr
    ok = process.returncode == 1 and said.count("\n") == 1 and expected in said
    result(f"refused: {what}", None if ok else f"expected '{expected}', status {process.returncode}: {said}")


def check_refusals(runner):
    for keys, expected in (
            ({"architecture": "mamba"}, 'found "mamba", expected "llama", "gemma"'),
            ({"architecture": 7}, '"architecture": expected a string'),
            ({"activation": "swish"}, 'found "swish", expected "silu", "gelu_tanh", "gelu" or "relu2"'),
            (rope(scaling={"type": "yarn"}), 'found "yarn", expected "none", "linear", "llama3" or "factors"'),
            (rope(pairs="quads"), 'found "quads"'),
            (rope(scaling={"type": "factors", "factors": [1] * 7}), '"rope.scaling.factors": expected 8 numbers'),
            (rope(scaling={"type": "factors", "factors": [1] * 9}), '"rope.scaling.factors": expected 8 numbers'),
            (rope(scaling={"type": "factors", "factors": [1] * 7 + [0]}), '"rope.scaling.factors": expected 8 numbers'),
            (rope(scaling={"type": "factors", "factors": {"a": 1}}), '"rope.scaling.factors": expected 8 numbers'),
            (rope(scaling={"type": "factors"}), '"factors" is missing'),
            (rope(scaling={"type": "factors", "factors": [1] * 8, "magnitude": 0}), '"magnitude": found 0'),
            (rope(local_theta=0), '"local_theta": found 0'),
            ({"rope": None}, '"rope" is missing'),
            ({"window": {"size": 0}}, '"size": found 0'),
            ({"window": {}}, '"size" is missing'),
            ({"window": {"size": 5.5}}, "expected a whole number"),
            ({"window": {"size": 8, "global_every": -1}}, '"global_every": found -1'),
            ({"attention_scale": 0}, '"attention_scale": found 0'),
            ({"attention_softcap": -1}, '"attention_softcap": found -1'),
            ({"logit_softcap": "x"}, '"logit_softcap": found no number'),
            ({"embed_scale": 1e9}, '"embed_scale": found 1e+09'),
            ({"qkv_bias": 1}, '"qkv_bias": expected true or false'),
            ({"dim": 4000, "heads": 1, "kv_heads": 1, "head_dim": None}, "dim / heads: found 4000, expected at most 512")):
        what = ", ".join(f"{k} {v}" for k, v in keys.items())
        refuse(runner, what, expected, keys)
    refuse(runner, "qkv_bias without a tensor", "tensor layers.1.k_bias is missing", MODELS["qwen2"], drop=("layers.1.k_bias",))
    refuse(runner, "qk_norm without a tensor", "tensor layers.0.q_norm is missing", MODELS["qwen3"], drop=("layers.0.q_norm",))
    refuse(runner, "a q_norm for other heads", "tensor layers.0.q_norm: found shape 1 x 16, expected 1 x 32", MODELS["qwen3"],
           other={"layers.0.q_norm": np.ones(16, np.float32)})
    refuse(runner, "sub_norms without a tensor", "tensor layers.0.ffn_sub_norm is missing", MODELS["bitnet"], drop=("layers.0.ffn_sub_norm",))
    refuse(runner, "a position table that is too short", "tensor pos_embed: found shape 500 x 48, expected 600 x 48", MODELS["gpt2"],
           other={"pos_embed": np.ones((500, 48), np.float32)})
    refuse(runner, "more positions than were learned", "found context 601; the model has learned positions for 600", MODELS["gpt2"], context=601)
    refuse(runner, "gpt2 without a bias", "tensor out_norm_bias is missing", MODELS["gpt2"], drop=("out_norm_bias",))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--logits", type=pathlib.Path, required=True)
    parser.add_argument("--only", help="one of the models")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(a.logits, pathlib.Path(folder))
        for seed, (name, keys) in enumerate(MODELS.items()):
            if a.only in (None, name):
                check_model(runner, name, keys, 100 * seed)
        if not a.only:
            check_refusals(runner)
    print(f"1..{done}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
