#!/usr/bin/env python3
"""Every family of models from a folder in Hugging Face's form and from GGUF: tiny random files are converted, and each tensor of the result must be
the numbers that went in, split, transposed or shifted as the family needs; then files with one thing wrong, each refused in one line."""
import argparse
import json
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile

from importing import Run, check, f32, finish, gguf

DIM, FFN, LAYERS, HEADS, KV, HEAD, VOCAB, CONTEXT = 24, 40, 2, 4, 2, 8, 37, 64
Q, K = HEADS * HEAD, KV * HEAD

# ---- numbers ----

def bf16(x):
    return struct.unpack("<f", b"\0\0" + struct.pack("<f", x)[2:])[0]


class Matrix:
    """rows x cols numbers that a bf16 holds exactly, so that every type gives them back."""

    def __init__(self, rng, rows, cols):
        self.rows = [[bf16(rng.gauss(0, 1)) for _ in range(cols)] for _ in range(rows)]

    def part(self, first, count):
        m = Matrix.__new__(Matrix)
        m.rows = self.rows[first:first + count]
        return m

    def columns(self, first, count):
        m = Matrix.__new__(Matrix)
        m.rows = [r[first:first + count] for r in self.rows]
        return m

    def transposed(self):
        m = Matrix.__new__(Matrix)
        m.rows = [list(r) for r in zip(*self.rows)]
        return m

    def plus(self, x):
        m = Matrix.__new__(Matrix)
        m.rows = [[f32(v + x) for v in r] for r in self.rows]
        return m

    def raw(self, dtype):
        flat = [v for r in self.rows for v in r]
        if dtype == "BF16":
            return b"".join(struct.pack("<f", v)[2:] for v in flat)
        if dtype == "U8":
            return bytes(flat)
        return struct.pack(f"<{len(flat)}{'f' if dtype == 'F32' else 'e'}", *flat)


# ---- files ----

def safetensors(tensors, change=None):
    """{name: (Matrix, dtype, vector)} as bytes; `change` may spoil the header."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (m, dtype, vector) in tensors.items():
        raw = m.raw(dtype)
        shape = [len(m.rows[0])] if vector else [len(m.rows), len(m.rows[0])]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    if change:
        change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def gguf_file(values, tensors, dtype="F32"):
    """GGUF of {name: (Matrix, vector)}."""
    return gguf(values, {name: ([len(m.rows[0])] + ([] if vector else [len(m.rows)]), {"F32": 0, "BF16": 30}[dtype], m.raw(dtype))
                         for name, (m, vector) in tensors.items()})


# ---- families ----

class Family:
    """Builds the tensors once in our names; then says how either format stores them."""

    def __init__(self, name, hf_class, gguf_name, config=None, **features):
        self.name, self.hf_class, self.gguf_name, self.config = name, hf_class, gguf_name, config or {}
        self.f = features
        rng = random.Random(name)
        t = {}

        def add(key, rows, cols):
            t[key] = Matrix(rng, rows, cols)

        gpt2 = name == "gpt2"
        heads_kv = HEADS if gpt2 else KV
        head = DIM // HEADS if gpt2 else HEAD
        q, k = HEADS * head, heads_kv * head
        add("tok_embed", VOCAB, DIM)
        if gpt2:
            add("pos_embed", CONTEXT, DIM)
        for i in range(LAYERS):
            p = f"layers.{i}."
            add(p + "attn_norm", 1, DIM)
            for m, rows in (("q", q), ("k", k), ("v", k)):
                add(p + m, rows, DIM)
                if self.f.get("qkv_bias") or gpt2:
                    add(p + m + "_bias", 1, rows)
            if self.f.get("qk_norm"):
                add(p + "q_norm", 1, head)
                add(p + "k_norm", 1, head)
            if self.f.get("sub_norms"):
                add(p + "attn_sub_norm", 1, q)
                add(p + "ffn_sub_norm", 1, FFN)
            add(p + "o", DIM, q)
            if self.f.get("post_norms"):
                add(p + "attn_post_norm", 1, DIM)
                add(p + "ffn_post_norm", 1, DIM)
            add(p + "ffn_norm", 1, DIM)
            if not gpt2:
                add(p + "gate", FFN, DIM)
            add(p + "up", FFN, DIM)
            add(p + "down", DIM, FFN)
            if gpt2:
                for b, n in (("attn_norm_bias", DIM), ("o_bias", DIM), ("ffn_norm_bias", DIM), ("up_bias", FFN), ("down_bias", DIM)):
                    add(p + b, 1, n)
        add("out_norm", 1, DIM)
        if gpt2:
            add("out_norm_bias", 1, DIM)
        if not self.f.get("tied"):
            add("head", VOCAB, DIM)
        self.tensors = t

    def hf_config(self):
        if self.name == "gpt2":
            c = {"n_embd": DIM, "n_layer": LAYERS, "n_head": HEADS, "n_positions": CONTEXT, "n_inner": FFN, "vocab_size": VOCAB,
                 "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5}
        else:
            c = {"hidden_size": DIM, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV, "head_dim": HEAD,
                 "intermediate_size": FFN, "max_position_embeddings": CONTEXT, "vocab_size": VOCAB, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
                 "hidden_act": "silu", "tie_word_embeddings": bool(self.f.get("tied"))}
        c.update({"architectures": [self.hf_class], "bos_token_id": 1, "eos_token_id": [2, 3]})
        c.update(self.config)
        return c

    def hf_tensors(self, dtype):
        out = {}

        def put(name, m, vector=False):
            out[name] = (m, dtype if not vector else "F32", vector)

        t, minus = self.tensors, -1 if self.f.get("norm_plus_one") else 0
        if self.name == "gpt2":
            put("transformer.wte.weight", t["tok_embed"])
            put("transformer.wpe.weight", t["pos_embed"])
            for i in range(LAYERS):
                p, h = f"layers.{i}.", f"transformer.h.{i}."
                qkv = Matrix.__new__(Matrix)
                qkv.rows = t[p + "q"].rows + t[p + "k"].rows + t[p + "v"].rows
                bias = Matrix.__new__(Matrix)
                bias.rows = [t[p + "q_bias"].rows[0] + t[p + "k_bias"].rows[0] + t[p + "v_bias"].rows[0]]
                put(h + "attn.c_attn.weight", qkv.transposed())
                put(h + "attn.c_attn.bias", bias, True)
                for ours, theirs in (("o", "attn.c_proj"), ("up", "mlp.c_fc"), ("down", "mlp.c_proj")):
                    put(h + theirs + ".weight", t[p + ours].transposed())
                    put(h + theirs + ".bias", t[p + ours + "_bias"], True)
                for ours, theirs in (("attn_norm", "ln_1"), ("ffn_norm", "ln_2")):
                    put(h + theirs + ".weight", t[p + ours], True)
                    put(h + theirs + ".bias", t[p + ours + "_bias"], True)
                put(h + "attn.bias", Matrix(random.Random(0), 4, 4))  # a mask that old files keep
            put("transformer.ln_f.weight", t["out_norm"], True)
            put("transformer.ln_f.bias", t["out_norm_bias"], True)
            return out
        put("model.embed_tokens.weight", t["tok_embed"])
        post = self.f.get("post_norms")
        for i in range(LAYERS):
            p, h = f"layers.{i}.", f"model.layers.{i}."
            put(h + "input_layernorm.weight", t[p + "attn_norm"].plus(minus), True)
            put(h + ("pre_feedforward_layernorm" if post else "post_attention_layernorm") + ".weight", t[p + "ffn_norm"].plus(minus), True)
            if post:
                put(h + "post_attention_layernorm.weight", t[p + "attn_post_norm"].plus(minus), True)
                put(h + "post_feedforward_layernorm.weight", t[p + "ffn_post_norm"].plus(minus), True)
            if self.name == "phi3":
                qkv, gate_up = Matrix.__new__(Matrix), Matrix.__new__(Matrix)
                qkv.rows = t[p + "q"].rows + t[p + "k"].rows + t[p + "v"].rows
                gate_up.rows = t[p + "gate"].rows + t[p + "up"].rows
                put(h + "self_attn.qkv_proj.weight", qkv)
                put(h + "mlp.gate_up_proj.weight", gate_up)
            else:
                for m in "qkv":
                    put(h + f"self_attn.{m}_proj.weight", t[p + m])
                    if self.f.get("qkv_bias"):
                        put(h + f"self_attn.{m}_proj.bias", t[p + m + "_bias"], True)
                put(h + "mlp.gate_proj.weight", t[p + "gate"])
                put(h + "mlp.up_proj.weight", t[p + "up"])
            if self.f.get("qk_norm"):
                put(h + "self_attn.q_norm.weight", t[p + "q_norm"].plus(minus), True)
                put(h + "self_attn.k_norm.weight", t[p + "k_norm"].plus(minus), True)
            if self.f.get("sub_norms"):
                put(h + "self_attn.attn_sub_norm.weight", t[p + "attn_sub_norm"], True)
                put(h + "mlp.ffn_sub_norm.weight", t[p + "ffn_sub_norm"], True)
            put(h + "self_attn.o_proj.weight", t[p + "o"])
            put(h + "mlp.down_proj.weight", t[p + "down"])
        put("model.norm.weight", t["out_norm"].plus(minus), True)
        if not self.f.get("tied"):
            put("lm_head.weight", t["head"])
        return out

    def gguf_values(self):
        a = self.gguf_name
        v = {"general.architecture": a, "general.name": f"tiny {self.name}", f"{a}.embedding_length": DIM, f"{a}.block_count": LAYERS,
             f"{a}.attention.head_count": HEADS, f"{a}.feed_forward_length": FFN, f"{a}.context_length": CONTEXT}
        if self.name == "gpt2":
            v[f"{a}.attention.layer_norm_epsilon"] = 1e-5
        else:
            v.update({f"{a}.attention.head_count_kv": KV, f"{a}.attention.key_length": HEAD, f"{a}.attention.value_length": HEAD,
                      f"{a}.attention.layer_norm_rms_epsilon": 1e-6, f"{a}.rope.freq_base": 10000.0, f"{a}.rope.dimension_count": HEAD})
        v.update(self.f.get("gguf", {}))
        return v

    def gguf_tensors(self):
        names = {"attn_norm": "attn_norm", "ffn_norm": "ffn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate",
                 "up": "ffn_up", "down": "ffn_down", "q_norm": "attn_q_norm", "k_norm": "attn_k_norm", "attn_post_norm": "post_attention_norm",
                 "ffn_post_norm": "post_ffw_norm", "attn_sub_norm": "attn_sub_norm", "ffn_sub_norm": "ffn_sub_norm"}
        out = {}
        for key, m in self.tensors.items():
            part = key.split(".")
            if part[0] == "layers":
                kind, bias = (part[2][:-5], "bias") if part[2].endswith("_bias") else (part[2], "weight")
                fused = {"phi3": {"q": "attn_qkv", "k": "attn_qkv", "v": "attn_qkv", "gate": "ffn_up", "up": "ffn_up"},
                         "gpt2": {"q": "attn_qkv", "k": "attn_qkv", "v": "attn_qkv"}}.get(self.name, {})
                name = f"blk.{part[1]}.{fused.get(kind, names[kind])}.{bias}"
                if kind in fused and name in out:
                    old, vector = out[name]
                    both = Matrix.__new__(Matrix)
                    both.rows = [old.rows[0] + m.rows[0]] if vector else old.rows + m.rows
                    m = both
            else:
                name = {"tok_embed": "token_embd.weight", "pos_embed": "position_embd.weight", "out_norm": "output_norm.weight",
                        "out_norm_bias": "output_norm.bias", "head": "output.weight"}[key]
            out[name] = (m, name.endswith("bias") or "norm" in name)
        return out


FAMILIES = [
    Family("llama", "LlamaForCausalLM", "llama"),
    Family("llama3", "LlamaForCausalLM", "llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                                                    "original_max_position_embeddings": 16}}, tied=True),
    Family("mistral", "MistralForCausalLM", "llama", {"sliding_window": 7}),
    Family("qwen2", "Qwen2ForCausalLM", "qwen2", qkv_bias=True, tied=True),
    Family("qwen3", "Qwen3ForCausalLM", "qwen3", qk_norm=True),
    Family("phi3", "Phi3ForCausalLM", "phi3", {"sliding_window": 9}, gguf={"phi3.attention.sliding_window": 9}),
    Family("gemma", "GemmaForCausalLM", "gemma", {"hidden_act": "gelu"}, tied=True, norm_plus_one=True),
    Family("gemma2", "Gemma2ForCausalLM", "gemma2", {"hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": HEAD, "sliding_window": 5,
                                                     "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}, tied=True, norm_plus_one=True,
           post_norms=True, gguf={"gemma2.attention.sliding_window": 5}),
    Family("gemma3", "Gemma3ForCausalLM", "gemma3", {"hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": HEAD, "sliding_window": 5,
                                                     "rope_local_base_freq": 10000.0, "rope_theta": 1e6}, tied=True, norm_plus_one=True, post_norms=True,
           qk_norm=True, gguf={"gemma3.attention.sliding_window": 5, "gemma3.rope.freq_base": 1e6}),
    Family("gpt2", "GPT2LMHeadModel", "gpt2", tied=True),
    Family("bitnet", "BitNetForCausalLM", "bitnet", {"hidden_act": "relu2"}, tied=True, sub_norms=True),
]


# ---- checks ----

def same(file, family, kind):
    assert set(file.tensors) == set(family.tensors), set(file.tensors) ^ set(family.tensors)
    for name, want in family.tensors.items():
        t = file.tensors[name]
        assert (t.rows, t.cols) == (len(want.rows), len(want.rows[0])), name
        assert t.layout == ("rows" if len(want.rows) == 1 and name != "pos_embed" else "tile16x4"), name
        for r in range(t.rows):
            for c in range(t.cols):
                found = t.at(r, c)[0]
                assert abs(found - want.rows[r][c]) <= (2e-7 if "norm" in name else 0), f"{name}[{r}][{c}]: {found}, {want.rows[r][c]} in the {kind}"


def metadata(file, family, source):
    m = file.metadata
    assert m["architecture"] == {"gemma2": "gemma", "gemma3": "gemma", "gemma": "gemma", "gpt2": "gpt2", "bitnet": "bitnet"}.get(family.name, "llama")
    assert m["tied_head"] == bool(family.f.get("tied"))
    for key in ("qkv_bias", "qk_norm", "post_norms", "sub_norms"):
        assert bool(m.get(key)) == bool(family.f.get(key)), key
    assert ("rope" in m) == (family.name != "gpt2")
    if "rope" in m:
        assert m["rope"]["pairs"] == ("adjacent" if source == "gguf" and family.gguf_name == "llama" else "halves")
        assert m["rope"].get("local_theta") == (10000 if family.name == "gemma3" else None)
    window = {"phi3": (9, None), "gemma2": (5, 2), "gemma3": (5, 6)}.get(family.name)
    if source == "hf" and family.name == "mistral":
        window = (7, None)
    assert m.get("window") == (None if window is None else {"size": window[0], **({"global_every": window[1]} if window[1] else {})}), m.get("window")
    if family.name.startswith("gemma"):
        assert abs(m["embed_scale"] - DIM ** 0.5) < 1e-9 and m["activation"] == "gelu_tanh"
    if family.name == "gemma2":
        assert (m["attention_softcap"], m["logit_softcap"]) == (50, 30)
    if family.name == "llama3" and source == "hf":
        assert m["rope"]["scaling"] == {"type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_context": 16}
    if source == "hf":
        assert m["eos"] == [2, 3] and m["bos"] == 1


def write_folder(folder, family, dtype="F32", shards=1):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(family.hf_config()))
    tensors = list(family.hf_tensors(dtype).items())
    if shards == 1:
        (folder / "model.safetensors").write_bytes(safetensors(dict(tensors)))
        return
    where = {}
    for s in range(shards):
        name = f"model-{s + 1:05}-of-{shards:05}.safetensors"
        (folder / name).write_bytes(safetensors(dict(tensors[s::shards])))
        where.update({n: name for n, _ in tensors[s::shards]})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def good_cases(run):
    for family in FAMILIES:
        def from_folder(dtype, shards):
            folder = run.folder / "model"
            shutil.rmtree(folder, ignore_errors=True)
            write_folder(folder, family, dtype, shards)
            file = run.good(folder)
            same(file, family, "folder")
            metadata(file, family, "hf")
            if shards == 1:
                same(run.good(folder / "model.safetensors"), family, "file")

        def from_gguf(dtype):
            path = run.folder / "model.gguf"
            path.write_bytes(gguf_file(family.gguf_values(), family.gguf_tensors(), dtype))
            file = run.good(path)
            same(file, family, "gguf")
            metadata(file, family, "gguf")

        check(f"{family.name}: folder, F32", from_folder, "F32", 1)
        check(f"{family.name}: folder, BF16 in three files", from_folder, "BF16", 3)
        check(f"{family.name}: gguf, F32", from_gguf, "F32")
        check(f"{family.name}: gguf, BF16", from_gguf, "BF16")


def special_cases(run):
    llama = FAMILIES[0]

    def folder_with(change_config=None, extra=None):
        folder = run.folder / "model"
        shutil.rmtree(folder, ignore_errors=True)
        write_folder(folder, llama)
        config = llama.hf_config()
        if change_config:
            change_config(config)
        (folder / "config.json").write_text(json.dumps(config))
        for name, content in (extra or {}).items():
            (folder / name).write_text(content)
        return folder

    def template(extra, expected):
        assert run.good(folder_with(extra=extra)).metadata.get("chat_template") == expected

    def ends(extra, expected):
        assert run.good(folder_with(extra=extra)).metadata["eos"] == expected

    def longrope():
        def change(c):
            c["rope_scaling"] = {"type": "longrope", "short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [4.0] * 4}
            c["original_max_position_embeddings"] = 16
        m = run.good(folder_with(change)).metadata
        assert m["context"] == 16 and m["rope"]["scaling"]["factors"] == [1, 1.5, 2, 2.5], m["rope"]
        assert abs(m["rope"]["scaling"]["magnitude"] - (1 + 2 / 4) ** 0.5) < 1e-9

    def factors():
        path = run.folder / "model.gguf"
        tensors = llama.gguf_tensors()
        rope = Matrix.__new__(Matrix)
        rope.rows = [[1.0, 2.0, 4.0, 8.0]]
        tensors["rope_freqs.weight"] = (rope, True)
        path.write_bytes(gguf_file(llama.gguf_values(), tensors))
        assert run.good(path).metadata["rope"]["scaling"]["factors"] == [1, 2, 4, 8]

    def family_folder(name, change=None, rename=None, tensors=None):
        family = next(f for f in FAMILIES if f.name == name)
        folder = run.folder / "model"
        shutil.rmtree(folder, ignore_errors=True)
        write_folder(folder, family)
        config = family.hf_config()
        config = (change(config) or config) if change else config
        (folder / "config.json").write_text(json.dumps(config))
        stored = tensors or family.hf_tensors("F32")
        (folder / "model.safetensors").write_bytes(safetensors({(rename(n) if rename else n): t for n, t in stored.items()}))
        return folder, family

    def window(name, expected, **values):
        folder, _ = family_folder(name, lambda c: c.update(values))
        assert run.good(folder).metadata.get("window") == expected

    def sees(rename):
        def change(c):
            return {"architectures": ["Gemma3ForConditionalGeneration"], "vision_config": {}, "text_config": c}
        folder, family = family_folder("gemma3", change, rename)
        file = run.good(folder)
        same(file, family, "folder")
        metadata(file, family, "hf")

    def defaults():
        def change(c):
            for key in ("rope_theta", "rope_local_base_freq", "sliding_window", "query_pre_attn_scalar", "max_position_embeddings", "rms_norm_eps"):
                del c[key]
        m = run.good(family_folder("gemma3", change)[0]).metadata
        assert m["rope"]["theta"] == 1e6 and m["rope"]["local_theta"] == 1e4 and m["context"] == 131072 and m["norm_eps"] == 1e-6, m
        assert m["window"] == {"size": 4096, "global_every": 6} and m["attention_scale"] == 1 / 16

    def wide_window():
        folder, _ = family_folder("gemma3", lambda c: c.update(sliding_window=4 * CONTEXT, rope_local_base_freq=5e3))
        m = run.good(folder).metadata
        assert m["window"] == {"size": CONTEXT, "global_every": 6} and m["rope"]["local_theta"] == 5e3, m  # the base of five layers in six

    def version_5(name, parameters, expected):
        def change(c):
            for key in ("rope_theta", "rope_local_base_freq", "rope_scaling"):
                c.pop(key, None)
            c["rope_parameters"] = parameters
        rope = run.good(family_folder(name, change)[0]).metadata["rope"]
        assert {k: rope.get(k) for k in expected} == expected, rope

    def activation(name, key, found, expected):
        assert run.good(family_folder(name, lambda c: c.update({key: found}))[0]).metadata.get("activation") == expected

    def ternary(linear_class, scale, stored_scale, master):
        rng = random.Random(linear_class)
        family = next(f for f in FAMILIES if f.name == "bitnet")
        codes = {}
        stored = {}
        for name, (m, dtype, vector) in family.hf_tensors("F32").items():
            if vector or ".layers." not in name:
                stored[name] = (m, dtype, vector)
                continue
            rows, cols = len(m.rows), len(m.rows[0])
            codes[name] = [[rng.choice((-1, 0, 1)) for _ in range(cols)] for _ in range(rows)]
            if master:
                continue
            quarter = rows // 4
            packed = Matrix.__new__(Matrix)
            packed.rows = [[sum(codes[name][k * quarter + r][c] + 1 << 2 * k for k in range(4)) for c in range(cols)] for r in range(quarter)]
            stored[name] = (packed, "U8", False)
            one = Matrix.__new__(Matrix)
            one.rows = [[stored_scale]]
            stored[name + "_scale"] = (one, "BF16", True)
        config = {"quant_method": "bitnet", "linear_class": linear_class, "quantization_mode": "online" if master else "offline"}
        folder, _ = family_folder("bitnet", lambda c: c.update(quantization_config=config), tensors=family.hf_tensors("F32") if master else stored)
        file = run.good(folder)
        for name in ("layers.0.q", "layers.1.down"):
            t, theirs = file.tensors[name], {"q": "self_attn.q_proj", "down": "mlp.down_proj"}[name.split(".")[2]]
            assert t.type == "t2r", t.type
            if master:
                rows = family.tensors[name].rows
                mean = sum(abs(v) for r in rows for v in r) / (len(rows) * len(rows[0]))
                want = [[max(-1, min(1, round(v / mean))) * mean for v in r] for r in rows]
            else:
                want = [[v * scale for v in r] for r in codes[f"model.layers.{name.split('.')[1]}.{theirs}.weight"]]
            for r, row in enumerate(want):
                for c, v in enumerate(row):
                    assert abs(t.at(r, c)[0] - v) <= 1e-6 * abs(v), f"{name}[{r}][{c}]: {t.at(r, c)[0]}, {v}"
        return folder, stored

    def bad_code():
        folder, stored = ternary("autobitlinear", 0.5, 0.5, False)
        stored["model.layers.1.mlp.up_proj.weight"][0].rows[1][3] |= 0b11000000
        (folder / "model.safetensors").write_bytes(safetensors(stored))
        run.bad(folder, "code 3")
        del stored["model.layers.1.mlp.up_proj.weight_scale"]
        (folder / "model.safetensors").write_bytes(safetensors(stored))
        run.bad(folder, "up_proj.weight_scale")

    for name, rename in (("before", lambda n: "language_model." + n), ("in", lambda n: n.replace("model.", "model.language_model.", 1))):
        check(f"gemma3 that sees: language_model {name} the names", sees, rename)
    check("gemma3: what missing keys mean", defaults)
    check("gemma3: a window beyond the context keeps its rotary base", wide_window)
    check("mistral: sliding_window null", window, "mistral", None, sliding_window=None)
    check("layer_types: all of them full", window, "mistral", None, layer_types=["full_attention"] * LAYERS)
    check("layer_types: every second one full", window, "gemma3", {"size": 5, "global_every": 2}, layer_types=["sliding_attention", "full_attention"])
    check("layer_types: none full", window, "gemma3", {"size": 5}, layer_types=["sliding_attention"] * LAYERS)
    check("qwen2: a window in every layer", window, "qwen2", {"size": 5}, use_sliding_window=True, sliding_window=5, max_window_layers=0)
    check("qwen2: a window that is off", window, "qwen2", None, use_sliding_window=False, sliding_window=5, max_window_layers=0)
    check("rope_parameters", version_5, "llama", {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5},
          {"theta": 5e5, "scaling": {"type": "linear", "factor": 2}})
    check("rope_parameters of each kind of layer", version_5, "gemma3",
          {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 2e6}, "sliding_attention": {"rope_type": "default", "rope_theta": 2e4}},
          {"theta": 2e6, "local_theta": 2e4, "scaling": {"type": "linear", "factor": 8}})
    check("bitnet: no hidden_act", activation, "bitnet", "hidden_act", None, "relu2")
    check("gpt2: activation_function", activation, "gpt2", "activation_function", "gelu", "gelu")
    check("ternary: four codes a byte, times the scale", ternary, "autobitlinear", 0.75, 0.75, False)
    check("ternary: four codes a byte, over the scale", ternary, "bitlinear", 0.25, 4.0, False)
    check("ternary: the numbers of training", ternary, "autobitlinear", None, None, True)
    check("ternary: a code that does not exist, no scale", bad_code)
    check("an end token that no vocabulary has", lambda: ends({"generation_config.json": '{"eos_token_id":[1e300,-5,3.0]}'}, [2, 3]))
    check("chat template of tokenizer_config.json", template, {"tokenizer_config.json": json.dumps({"chat_template": "{{ a }}"})}, "{{ a }}")
    check("the default one of several chat templates", template, {"tokenizer_config.json": json.dumps(
        {"chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]})}, "yes")
    check("chat_template.jinja goes first", template, {"chat_template.jinja": "jinja", "tokenizer_config.json": json.dumps({"chat_template": "x"})}, "jinja")
    check("end tokens of generation_config.json", ends, {"generation_config.json": json.dumps({"eos_token_id": [3, 5]})}, [2, 3, 5])
    check("longrope: the short factors, up to the original context", longrope)
    check("gguf: factors of the rotary frequencies", factors)


def bad_cases(run):
    llama = FAMILIES[0]

    def case(name, expected, config=None, header=None, prepare=None, text=None, shards=1):
        def body():
            folder = run.folder / "model"
            shutil.rmtree(folder, ignore_errors=True)
            write_folder(folder, llama, shards=shards)
            c = llama.hf_config()
            if config:
                config(c)
                (folder / "config.json").write_text(json.dumps(c))
            if text is not None:
                (folder / "config.json").write_bytes(text)
            if header:
                (folder / "model.safetensors").write_bytes(safetensors(llama.hf_tensors("F32"), header))
            if prepare:
                prepare(folder)
            run.bad(folder, expected)
        check(name, body)

    def setting(**values):
        return lambda c: c.update(values)

    def entry(name, **values):
        return lambda h: h[name].update(values)

    norm, q = "model.norm.weight", "model.layers.0.self_attn.q_proj.weight"
    case("config: no JSON", "JSON", text=b"{")
    case("config: a list", "JSON", text=b"[]")
    case("config: text behind it", "JSON", text=b"{} x")
    case("config: nesting", "JSON", text=b'{"a":' * 100000)
    case("config: invalid UTF-8 in a name", "architecture", text=b'{"architectures":["\xff\xfe"]}')
    case("config: empty", "empty" if False else "JSON", text=b" ")
    case("config: unknown architecture", "MambaForCausalLM", setting(architectures=["MambaForCausalLM"]))
    case("config: no architecture", "architectures", setting(architectures=None))
    case("config: a size that is no number", "hidden_size", setting(hidden_size="24"))
    case("config: a negative size", "hidden_size", setting(hidden_size=-24))
    case("config: a fraction", "num_hidden_layers", setting(num_hidden_layers=1.5))
    case("config: a huge size", "intermediate_size", setting(intermediate_size=1e18))
    case("config: heads that do not divide", "KV heads", setting(num_key_value_heads=3))
    case("config: odd rotary dimension", "rotary", setting(partial_rotary_factor=0.4))
    case("config: unknown rotary scaling", "yarn", setting(rope_scaling={"rope_type": "yarn", "factor": 4.0}))
    case("config: rotary factors of another length", "factors", setting(rope_scaling={"type": "longrope", "short_factor": [1.0] * 7, "long_factor": []},
                                                                       original_max_position_embeddings=16))
    case("config: a rotary factor of 0", "factor 2", setting(rope_scaling={"type": "longrope", "short_factor": [1.0, 1.0, 0.0, 1.0], "long_factor": []},
                                                            original_max_position_embeddings=16))
    case("config: rotary frequencies the wrong way round", "frequencies", setting(rope_scaling={
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0, "original_max_position_embeddings": 16}))
    case("config: quantized in another way", "gptq", setting(quantization_config={"quant_method": "gptq", "bits": 4}))
    case("config: a kind of layer that is unknown", "chunked_attention", setting(layer_types=["chunked_attention"] * LAYERS))
    case("config: layers that have no window size", "without a window", setting(layer_types=["sliding_attention"] * LAYERS))
    case("config: kinds of fewer layers", "layer_types", setting(layer_types=["full_attention"]))
    case("config: windows in the upper layers only", "every n-th", setting(architectures=["MistralForCausalLM"], sliding_window=7,
                                                                           layer_types=["full_attention", "sliding_attention"]))
    case("config: a hundred thousand values", "values", text=b'{"a":[' + b"1," * 100000 + b"1]}")
    case("header: millions of values", "values", prepare=lambda f: (f / "model.safetensors").write_bytes(
        struct.pack("<Q", 8 << 20) + b'{"a":[' + b"1," * ((8 << 20) // 2 - 8) + b"1         ]}"))
    case("config: unknown activation", "mish", setting(hidden_act="mish"))
    case("config: a bias this library lacks", "attention_bias", setting(attention_bias=True))
    case("config: more layers than the file has", "missing", setting(num_hidden_layers=3))
    case("config: fewer layers than the file has", "no place", setting(num_hidden_layers=1))
    case("header: cut", "its end is missing", prepare=lambda f: (f / "model.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{"))
    case("header: length beyond the file", "header", prepare=lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 8 + b"{}"))
    case("header: too long", "at most", prepare=lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 20 << 20) + b" " * (20 << 20)))
    case("header: seven bytes", "header", prepare=lambda f: (f / "model.safetensors").write_bytes(b"1234567"))
    case("header: no object", "JSON", prepare=lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"[]"))
    case("header: a tensor that is no object", "dtype", header=lambda h: h.update({norm: 1}))
    case("tensor: unknown type", "I8", header=lambda h: h[norm].update(dtype="I8"))
    case("tensor: a shape that is no list", "shape", header=entry(norm, shape=24))
    case("tensor: a negative size", "shape", header=entry(norm, shape=[-24]))
    case("tensor: sizes that overflow", "shape", header=entry(q, shape=[1 << 29, 1 << 29, 1 << 29]))
    case("tensor: offsets that overflow", "data_offsets", header=entry(q, data_offsets=[0, 1 << 60]))
    case("tensor: offsets beyond 2^63", "data_offsets", header=entry(q, data_offsets=[1e300, 2e300]))
    case("tensor: offsets that fall", "data_offsets", header=entry(q, data_offsets=[64, 0]))
    case("tensor: one offset", "data_offsets", header=entry(q, data_offsets=[0]))
    case("tensor: offsets of another's", "overlap", header=lambda h: h[norm].update(data_offsets=[0, 4 * DIM]))
    case("tensor: bytes for another shape", "bytes", header=entry(norm, shape=[DIM + 1]))
    case("tensor: another shape", "rows of", header=lambda h: h[q].update(shape=[DIM, Q]))
    case("tensor: missing", norm + " is missing", header=lambda h: h.update({"extra": h.pop(norm)}))
    case("tensor: surplus", "no place", header=lambda h: h.update(surplus={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}))
    case("index: a file that is missing", "No such file", shards=2, prepare=lambda f: (f / "model-00002-of-00002.safetensors").unlink())
    case("index: a path out of the folder", "without a folder", prepare=lambda f: (f / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {norm: "../model.safetensors"}})))
    case("index: no map", "weight_map", prepare=lambda f: (f / "model.safetensors.index.json").write_text("{}"))
    case("index: a file that is a number", "weight_map", prepare=lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map":{"a":1}}'))
    case("index: a tensor in two files", "two tensors named", prepare=lambda f: (
        shutil.copy(f / "model.safetensors", f / "b.safetensors"),
        (f / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {norm: "b.safetensors", q: "model.safetensors"}}))))
    case("folder: no weights", "model.safetensors", prepare=lambda f: (f / "model.safetensors").unlink())
    case("folder: no configuration", "config.json", prepare=lambda f: (f / "config.json").unlink())

    def no_tokenizer():
        p = subprocess.run([run.convert, run.folder / "model", "-o", run.folder / "out.infer"], capture_output=True, timeout=60)
        assert p.returncode == 1

    check("folder: no tokenizer", no_tokenizer)

    def many_names():
        folder = run.folder / "model"
        shutil.rmtree(folder, ignore_errors=True)
        write_folder(folder, llama)
        empty = struct.pack("<Q", 2) + b"{}"
        names = [f"{'a' * 20}{i:04}" for i in range(1000)]
        for name in names:
            (folder / name).write_bytes(empty)
        (folder / "model.safetensors.index.json").write_text(
            '{"weight_map":{' + ",".join(f'"{i}":"{names[i % 1000]}"' for i in range(350000)) + "}}")
        run.bad(folder, "is missing")

    check("index: many tensors in turn from many files", many_names)

    def experts():
        path = run.folder / "model.gguf"
        path.write_bytes(gguf_file({**llama.gguf_values(), "llama.expert_count": 8}, llama.gguf_tensors(), "F32"))
        run.bad(path, "experts")

    check("gguf: a mixture of experts", experts)

    def unknown_gguf():
        path = run.folder / "model.gguf"
        path.write_bytes(gguf_file({"general.architecture": "mamba"}, llama.gguf_tensors()))
        run.bad(path, "mamba")

    check("gguf: unknown architecture", unknown_gguf)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", required=True, type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(args.tools, pathlib.Path(folder), VOCAB)
        good_cases(run)
        special_cases(run)
        bad_cases(run)
    return finish()


sys.exit(main())
