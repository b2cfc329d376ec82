"""Forward passes of the architectures of formats/SPEC.md in numpy, written from that text and the conventions of the published models (named where
they are easily got wrong). Nothing of libinfer. `dtype` float64 is the reference; float32 shows what rounding alone does."""
import numpy as np


def weights(file):
    """{name: array} of a read_infer.File, vectors of one dimension."""
    out = {}
    for name, t in file.tensors.items():
        if t.layout == "rows":
            out[name] = np.frombuffer(t.data(), "<f4")
            continue
        panels, groups = -(-t.rows // 16), -(-t.cols // t.group)
        if t.type == "f32":
            values = np.frombuffer(t.data(), "<f4").reshape(panels, groups, 16, 4).transpose(0, 2, 1, 3)
        elif t.type == "t2r":
            raw = np.frombuffer(t.data(), np.uint8).reshape(panels, 64 + groups * 128)
            scales = np.ascontiguousarray(raw[:, :64]).view("<f4").astype(np.float64)
            bits = raw[:, 64:].reshape(panels, groups, 2, 16, 4)
            codes = np.stack([(bits >> 2 * b & 3) - 1.0 for b in range(4)], axis=4)  # [panels][groups][2][16][4 b][4 j]
            values = codes.transpose(0, 3, 1, 2, 4, 5).reshape(panels, 16, groups, 32) * scales[..., None, None]
        else:
            raw = np.frombuffer(t.data(), np.uint8).reshape(panels, groups, 544)
            scales = np.ascontiguousarray(raw[:, :, :32]).view("<f2").astype(np.float64)
            codes = np.ascontiguousarray(raw[:, :, 32:]).view(np.int8).reshape(panels, groups, 8, 16, 4).transpose(0, 3, 1, 2, 4)
            values = codes.reshape(panels, 16, groups, 32) * scales.transpose(0, 2, 1)[..., None]
        out[name] = values.reshape(panels * 16, -1)[:t.rows, :t.cols]
    return out


def rms_norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def layer_norm(x, weight, bias, eps):
    d = x - x.mean(-1, keepdims=True)
    return d / np.sqrt((d * d).mean(-1, keepdims=True) + eps) * weight + bias


def erf(x):
    """Kummer's series 2/sqrt(pi) exp(-x^2) sum 2^n x^(2n+1) / (2n+1)!!: all terms of one sign, so nothing cancels; 1 from |x| = 6 on."""
    a = np.minimum(np.abs(x), 6).astype(np.float64)
    term = a.copy()
    total = a.copy()
    for n in range(1, 200):
        term = term * (2 * a * a) / (2 * n + 1)
        total += term
    return (np.sign(x) * np.minimum(2 / np.sqrt(np.pi) * np.exp(-a * a) * total, 1)).astype(x.dtype)


ACTIVATIONS = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    # transformers' "gelu_new" (GPT-2) and "gelu_pytorch_tanh" (Gemma) are both this
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi).astype(x.dtype) * (x + x.dtype.type(0.044715) * x ** 3))),
    "gelu": lambda x: x / 2 * (1 + erf(x / np.sqrt(2).astype(x.dtype))),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
}


def rope_angles(rope, head_dim, positions, local):
    """([positions][dim / 2] angles, factor of cos and sin)."""
    dim = rope.get("dim", head_dim)
    theta = rope["local_theta"] if local else rope["theta"]
    frequency = theta ** (-np.arange(0, dim, 2) / dim)
    scaling = {"type": "none"} if local else rope.get("scaling", {"type": "none"})
    if scaling["type"] == "linear":
        frequency = frequency / scaling["factor"]
    elif scaling["type"] == "factors":
        frequency = frequency / np.array(scaling["factors"])
    elif scaling["type"] == "llama3":  # transformers, modeling_rope_utils.py, _compute_llama3_parameters
        wavelength = 2 * np.pi / frequency
        low, high, context = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["original_context"]
        smooth = (context / wavelength - low) / (high - low)
        between = (1 - smooth) * frequency / scaling["factor"] + smooth * frequency
        frequency = np.where(wavelength > context / low, frequency / scaling["factor"], np.where(wavelength < context / high, frequency, between))
    return np.arange(positions)[:, None] * frequency, scaling.get("magnitude", 1)


def rotate(x, rope, head_dim, local):
    """x [positions][heads][head_dim]"""
    angle, magnitude = rope_angles(rope, head_dim, len(x), local)
    cos, sin = (magnitude * f(angle).astype(x.dtype)[:, None, :] for f in (np.cos, np.sin))
    dim = 2 * angle.shape[1]
    out = x.copy()
    first, second = (slice(0, dim // 2), slice(dim // 2, dim)) if rope["pairs"] == "halves" else (slice(0, dim, 2), slice(1, dim, 2))
    out[..., first] = x[..., first] * cos - x[..., second] * sin
    out[..., second] = x[..., first] * sin + x[..., second] * cos
    return out.astype(x.dtype)


def attention(q, k, v, scale, softcap, window):
    """q [positions][heads][head_dim], k and v with KV heads."""
    n, heads, head_dim = q.shape
    share = heads // k.shape[1]
    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    seen = j <= i
    if window:  # position i and the window - 1 before it: transformers, masking_utils.py, sliding_window_overlay: kv > q - window
        seen &= j > i - window
    out = np.empty_like(q)
    for h in range(heads):
        scores = q[:, h] @ k[:, h // share].T * q.dtype.type(scale)
        if softcap:  # before the mask
            scores = softcap * np.tanh(scores / softcap)
        scores = np.where(seen, scores, -np.inf).astype(q.dtype)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        out[:, h] = (p / p.sum(-1, keepdims=True)) @ v[:, h // share]
    return out.reshape(n, heads * head_dim)


def forward(meta, tensors, ids, dtype=np.float64):
    """Logits [positions][vocab]."""
    w = {name: t.astype(dtype) for name, t in tensors.items()}
    gpt2 = meta["architecture"] == "gpt2"
    eps, heads, kv_heads, head_dim = dtype(meta["norm_eps"]), meta["heads"], meta["kv_heads"], meta["head_dim"]
    activation = ACTIVATIONS[meta.get("activation", "silu")]
    window = meta.get("window", {})
    scale = meta.get("attention_scale", head_dim ** -0.5)

    def norm(x, name):
        return layer_norm(x, w[name], w[name + "_bias"], eps) if gpt2 else rms_norm(x, w[name], eps)

    def linear(x, name, bias):
        return x @ w[name].T + (w[name + "_bias"] if bias else 0)

    # Gemma: hidden states times sqrt(dim) before the first layer, not the head's weights
    x = w["tok_embed"][ids] * dtype(meta.get("embed_scale", 1))
    if gpt2:
        x = x + w["pos_embed"][:len(ids)]
    for i in range(meta["layers"]):
        def of(name, i=i):
            return f"layers.{i}.{name}"

        # Gemma 2: every 2nd, Gemma 3: every 6th layer is global, the first ones have the window
        local = window.get("size") and not (window.get("global_every") and (i + 1) % window["global_every"] == 0)
        h = norm(x, of("attn_norm"))
        bias = gpt2 or meta.get("qkv_bias")
        q = linear(h, of("q"), bias).reshape(-1, heads, head_dim)
        k, v = (linear(h, of(name), bias).reshape(-1, kv_heads, head_dim) for name in ("k", "v"))
        if meta.get("qk_norm"):
            q, k = rms_norm(q, w[of("q_norm")], eps), rms_norm(k, w[of("k_norm")], eps)
        if not gpt2:
            own_table = local and "local_theta" in meta["rope"]
            q, k = rotate(q, meta["rope"], head_dim, own_table), rotate(k, meta["rope"], head_dim, own_table)
        h = attention(q, k, v, scale, meta.get("attention_softcap"), window.get("size") if local else 0)
        if meta.get("sub_norms"):  # before the products, not behind them as in Gemma: transformers, modeling_bitnet.py
            h = norm(h, of("attn_sub_norm"))
        h = linear(h, of("o"), gpt2)
        x = x + (norm(h, of("attn_post_norm")) if meta.get("post_norms") else h)

        h = norm(x, of("ffn_norm"))
        h = activation(linear(h, of("up"), True)) if gpt2 else activation(linear(h, of("gate"), False)) * linear(h, of("up"), False)
        if meta.get("sub_norms"):
            h = norm(h, of("ffn_sub_norm"))
        h = linear(h, of("down"), gpt2)
        x = x + (norm(h, of("ffn_post_norm")) if meta.get("post_norms") else h)
    logits = norm(x, "out_norm") @ (w["tok_embed"] if meta.get("tied_head") else w["head"]).T
    if "logit_softcap" in meta:
        logits = meta["logit_softcap"] * np.tanh(logits / meta["logit_softcap"])
    return logits.astype(dtype)
