#!/usr/bin/python3
"""An independent reference for the engine: reads a GGUF file and computes the forward pass in double
precision, with exact weights, activations and cache. Written from the papers and the description of
the format, not from the engine, so that it is a second opinion. Needs NumPy; slow, meant for the
tiny shapes of tests/support/random_model.c.

    tests/reference/forward.py build       makes every model of CASES with build/tests/tools/make_model
                                           and rewrites the JSON files of this folder
    tests/reference/forward.py MODEL.gguf [ID...]
                                           the five largest logits after these token ids
    tests/reference/forward.py --perplexity N MODEL.gguf ID...
                                           of these ids as `ponder bench --perplexity --ctx N` counts
                                           (of a vocabulary that wants no BOS)

A JSON file is one shape:
    prompt     token ids
    text       more of them, where there is one; a context of its own
    cases      per type of tensors
        greedy     the arg-max continuation of the prompt
        top        per step of it, [id, logit] of the five largest logits
        logprobs   of each token of prompt and continuation but the first
        nll        of the text: the mean negative log-probability of its tokens but the first
        cls        per step, where there is one: what the classification head makes of the position
"""
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np

N_PROMPT, N_STEPS, SEED = 56, 24, 1
N_TEXT = {"tiny-llama": 1024}
EVERY_TYPE = ("F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K "
              "Q3_K_M Q4_K_M Q5_K_M").split()
SOME_TYPES = "F32 Q8_0 Q4_K_M".split()
CASES = {
    "tiny-llama": EVERY_TYPE,
    "tiny-llama3": SOME_TYPES,
    "tiny-llama-linear": SOME_TYPES,
    "tiny-qwen2": SOME_TYPES,
    "tiny-qwen2-yarn": SOME_TYPES,
    "tiny-qwen2-cls": SOME_TYPES,
    "tiny-qwen3": SOME_TYPES,
    "tiny-qwen3moe": SOME_TYPES,
    "tiny-phi3": SOME_TYPES,
    "tiny-phi3-long": SOME_TYPES,
    "tiny-gemma": SOME_TYPES,
    "tiny-gemma2": SOME_TYPES,
    "tiny-gemma3": SOME_TYPES,
    "bundled": "Q3_K_M Q4_K_M Q5_K_M Q6_K".split(),  # 192 wide: falls back to types of 32
}

# ---- tensor types: bytes of whole blocks, as uint8 [n, block bytes], to weights [n, block elements]


def half(b):
    """[n, 2] bytes of a binary16 → [n, 1]"""
    return np.ascontiguousarray(b).view("<f2").astype(np.float64)


def nibbles(q):
    """[n, k] bytes → [n, 2k]: the low halves, then the high ones"""
    return np.concatenate([q & 15, q >> 4], axis=1)


def bits(q, shift):
    """[n, k] bytes → [n, 8k]: bit `shift` is not used; bit i of byte j is element 8j + i"""
    return (q[:, :, None] >> np.arange(8, dtype=np.uint8) & 1).reshape(len(q), -1) << shift


def q8_0(b):
    return half(b[:, :2]) * b[:, 2:].view(np.int8)


def q4_0(b):
    return half(b[:, :2]) * (nibbles(b[:, 2:]).astype(np.float64) - 8)


def q4_1(b):
    return half(b[:, :2]) * nibbles(b[:, 4:]) + half(b[:, 2:4])


def q5_0(b):
    return half(b[:, :2]) * ((nibbles(b[:, 6:]) | bits(b[:, 2:6], 4)).astype(np.float64) - 16)


def q5_1(b):
    return half(b[:, :2]) * (nibbles(b[:, 8:]) | bits(b[:, 4:8], 4)) + half(b[:, 2:4])


def two_bits(q):
    """[n, 64] bytes → [n, 256]: two halves of 32 bytes, in each the four bit pairs in turn"""
    q = q.reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[None, None, :, None] & 3
    return q.reshape(len(q), 256)


def spread(x, n):
    """one number per group of n weights"""
    return np.repeat(x.astype(np.float64), n, axis=1)


def q2_k(b):
    scale, q = b[:, :16], two_bits(b[:, 16:80])
    return half(b[:, 80:82]) * spread(scale & 15, 16) * q - half(b[:, 82:84]) * spread(scale >> 4, 16)


def q3_k(b):
    high, q, p = b[:, :32], two_bits(b[:, 32:96]), b[:, 96:108]
    # bit i of byte l of `high` belongs to weight 32 i + l; where it is 0, 4 is taken off
    set_ = (high[:, None, :] >> np.arange(8, dtype=np.uint8)[None, :, None] & 1).reshape(-1, 256)
    # 16 scales of 6 bits: four low bits in the nibbles of 8 bytes, two high ones in 4 bytes
    low = np.concatenate([p[:, :8] & 15, p[:, :8] >> 4], axis=1)
    top = np.concatenate([p[:, 8:] >> s & 3 for s in (0, 2, 4, 6)], axis=1)
    scale = (low | top << 4).astype(np.float64) - 32
    return half(b[:, 108:110]) * spread(scale, 16) * (q.astype(np.float64) - 4 * (1 - set_.astype(np.float64)))


def six_bits(p):
    """12 bytes → eight scales and eight minima"""
    s = np.concatenate([p[:, :4] & 63, p[:, 8:] & 15 | p[:, :4] >> 6 << 4], axis=1)
    m = np.concatenate([p[:, 4:8] & 63, p[:, 8:] >> 4 | p[:, 4:8] >> 6 << 4], axis=1)
    return s, m


def runs_of_64(q):
    """[n, 128] bytes → [n, 256]: of each 32 bytes the low nibbles, then the high ones"""
    q = q.reshape(-1, 4, 32)
    return np.stack([q & 15, q >> 4], axis=2).reshape(-1, 256)


def q4_k(b):
    s, m = six_bits(b[:, 4:16])
    return half(b[:, :2]) * spread(s, 32) * runs_of_64(b[:, 16:]) - half(b[:, 2:4]) * spread(m, 32)


def q5_k(b):
    s, m = six_bits(b[:, 4:16])
    fifth = (b[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[None, :, None] & 1).reshape(-1, 256)
    q = runs_of_64(b[:, 48:]) | fifth << 4
    return half(b[:, :2]) * spread(s, 32) * q - half(b[:, 2:4]) * spread(m, 32)


def q6_k(b):
    low, high = b[:, :128].reshape(-1, 2, 64), two_bits(b[:, 128:192])
    low = np.concatenate([low & 15, low >> 4], axis=2).reshape(-1, 256)
    q = (low | high << 4).astype(np.float64) - 32
    return half(b[:, 208:210]) * spread(b[:, 192:208].view(np.int8), 16) * q


def bf16(b):
    return (np.ascontiguousarray(b).view("<u2").astype(np.uint32) << 16).view(np.float32).astype(np.float64)


TYPES = {  # number: elements, bytes, what they mean
    0: (1, 4, lambda b: np.ascontiguousarray(b).view("<f4").astype(np.float64)),
    1: (1, 2, half), 30: (1, 2, bf16), 8: (32, 34, q8_0),
    2: (32, 18, q4_0), 3: (32, 20, q4_1), 6: (32, 22, q5_0), 7: (32, 24, q5_1),
    10: (256, 84, q2_k), 11: (256, 110, q3_k), 12: (256, 144, q4_k), 13: (256, 176, q5_k),
    14: (256, 210, q6_k),
}

# ---- the file -----------------------------------------------------------------------------------


class Gguf:
    SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def __init__(self, path):
        with open(path, "rb") as f:
            self.bytes = f.read()
        magic, version, n_tensors, n_keys = struct.unpack_from("<4sIQQ", self.bytes)
        assert magic == b"GGUF" and version in (2, 3)
        self.at = 24
        self.keys, self.tensors, self.loaded = {}, {}, {}
        for _ in range(n_keys):
            key = self.string()
            self.keys[key] = self.value(self.one("I"))
        for _ in range(n_tensors):
            name = self.string()
            extents = [self.one("Q") for _ in range(self.one("I"))]
            self.tensors[name] = (extents, self.one("I"), self.one("Q"))
        align = self.keys.get("general.alignment", 32)
        self.base = (self.at + align - 1) // align * align

    def one(self, code):
        v, = struct.unpack_from("<" + code, self.bytes, self.at)
        self.at += struct.calcsize("<" + code)
        return v

    def string(self):
        n = self.one("Q")
        self.at += n
        return self.bytes[self.at - n:self.at].decode("utf-8", "replace")

    def value(self, kind):
        if kind == 8:
            return self.string()
        if kind == 9:
            kind, n = self.one("I"), self.one("Q")
            return [self.value(kind) for _ in range(n)]
        return self.one(self.SCALARS[kind])

    def __contains__(self, name):
        return name in self.tensors

    def __getitem__(self, name):
        """The tensor in double precision, its extents outermost first."""
        if name not in self.loaded:
            extents, kind, offset = self.tensors[name]
            elems, size, decode = TYPES[kind]
            n = int(np.prod(extents)) // elems
            raw = np.frombuffer(self.bytes, np.uint8, n * size, self.base + offset)
            self.loaded[name] = decode(raw.reshape(n, size)).reshape(extents[::-1])
        return self.loaded[name]


# ---- the model ----------------------------------------------------------------------------------


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


class Model:
    def __init__(self, path):
        self.file = g = Gguf(path)
        self.arch = g.keys["general.architecture"]
        key = lambda name, default=None: g.keys.get(f"{self.arch}.{name}", default)
        self.n_layer = key("block_count")
        self.n_embd = key("embedding_length")
        self.n_head = key("attention.head_count")
        self.n_head_kv = key("attention.head_count_kv", self.n_head)
        self.head_dim = key("attention.key_length", self.n_embd // self.n_head)
        self.n_ctx = key("context_length")
        self.eps = key("attention.layer_norm_rms_epsilon")
        self.n_rot = key("rope.dimension_count", self.head_dim)
        self.base = key("rope.freq_base", 10000.0)
        self.scaling = key("rope.scaling.type", "linear")
        self.factor = key("rope.scaling.factor", 1.0) or 1.0
        self.original = key("rope.scaling.original_context_length", self.n_ctx)
        self.attn_factor = key("rope.scaling.attn_factor", 1.0)
        self.window = key("attention.sliding_window", 0)
        self.attn_cap = key("attn_logit_softcapping", 0.0)
        self.final_cap = key("final_logit_softcapping", 0.0)
        self.n_used = key("expert_used_count", 0)
        self.gemma = self.arch.startswith("gemma")
        self.act = gelu if self.gemma else silu
        self.scale = self.head_dim ** -0.5
        if (self.arch, self.n_layer) in (("gemma2", 46), ("gemma3", 62)):  # the 27B models
            self.scale = (self.n_embd // self.n_head) ** -0.5
        self.forget()

    def forget(self):
        self.cache = [None] * self.n_layer
        self.n_past = 0

    def is_local(self, layer):
        if not self.window:
            return False
        if self.arch == "gemma2":
            return layer % 2 == 0
        if self.arch == "gemma3":
            return (layer + 1) % 6 != 0
        return True

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.eps) * self.file[name + ".weight"]

    def linear(self, x, name):
        y = x @ self.file[name + ".weight"].T
        return y + self.file[name + ".bias"] if name + ".bias" in self.file else y

    def angles(self, pos, layer):
        """cos and sin [n, n_rot/2] of the rotation at these positions"""
        i = np.arange(self.n_rot // 2)
        base, factor, scale = self.base, self.factor, 1.0
        if self.arch == "gemma3" and self.is_local(layer):
            base, factor = 10000.0, 1.0
        theta = base ** (-2.0 * i / self.n_rot)
        if self.scaling == "yarn":  # Peng et al., arXiv:2309.00071, section 3.2 to 3.4
            turns = lambda beta: self.n_rot * np.log(self.original / (beta * 2 * np.pi)) / (2 * np.log(base))
            low, high = max(np.floor(turns(32)), 0), min(np.ceil(turns(1)), self.n_rot - 1)
            keep = 1 - np.clip((i - low) / max(high - low, 0.001), 0, 1)
            theta = theta / factor * (1 - keep) + theta * keep
            scale = self.attn_factor * (1 + 0.1 * np.log(factor))
        elif self.scaling == "linear":
            theta = theta / factor
        if "rope_freqs.weight" in self.file:
            theta = theta / self.file["rope_freqs.weight"]
        if "rope_factors_long.weight" in self.file:
            kind = "long" if self.n_ctx > self.original else "short"
            theta = theta / self.file[f"rope_factors_{kind}.weight"]
            scale = self.attn_factor
        a = pos[:, None] * theta
        return scale * np.cos(a), scale * np.sin(a)

    def rotate(self, x, cos, sin):
        """x [n, heads, head_dim]"""
        y = x.copy()
        if self.arch == "llama":  # neighbours
            a, b = slice(0, self.n_rot, 2), slice(1, self.n_rot, 2)
        else:  # halves
            a, b = slice(0, self.n_rot // 2), slice(self.n_rot // 2, self.n_rot)
        c, s = cos[:, None, :], sin[:, None, :]
        y[..., a] = x[..., a] * c - x[..., b] * s
        y[..., b] = x[..., a] * s + x[..., b] * c
        return y

    def attention(self, x, layer, pos):
        p, n, d = f"blk.{layer}.", len(x), self.head_dim
        n_q, n_kv = self.n_head * d, self.n_head_kv * d
        if p + "attn_qkv.weight" in self.file:
            q, k, v = np.split(self.linear(x, p + "attn_qkv"), [n_q, n_q + n_kv], axis=1)
        else:
            q, k, v = (self.linear(x, p + "attn_" + c) for c in "qkv")
        q, k, v = q.reshape(n, -1, d), k.reshape(n, -1, d), v.reshape(n, -1, d)
        if p + "attn_q_norm.weight" in self.file:
            q, k = self.norm(q, p + "attn_q_norm"), self.norm(k, p + "attn_k_norm")
        cos, sin = self.angles(pos, layer)
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        if self.cache[layer]:
            k, v = (np.concatenate(pair) for pair in zip(self.cache[layer], (k, v)))
        self.cache[layer] = k, v
        group = self.n_head // self.n_head_kv
        scores = np.einsum("nhd,mhd->hnm", q * self.scale, np.repeat(k, group, axis=1))
        if self.attn_cap:
            scores = self.attn_cap * np.tanh(scores / self.attn_cap)
        back = pos[:, None] - np.arange(len(k))  # how far key m is behind query n
        hidden = back < 0
        if self.is_local(layer):
            hidden |= back >= self.window
        scores[:, hidden] = -np.inf
        out = np.einsum("hnm,mhd->nhd", softmax(scores), np.repeat(v, group, axis=1))
        return self.linear(out.reshape(n, -1), p + "attn_output")

    def feed_forward(self, x, layer):
        p = f"blk.{layer}.ffn_"
        if p + "gate_inp.weight" in self.file:
            return self.experts(x, p)
        if p + "gate.weight" in self.file:
            gate, up = self.linear(x, p + "gate"), self.linear(x, p + "up")
        else:
            gate, up = np.split(self.linear(x, p + "up"), 2, axis=1)
        return self.linear(self.act(gate) * up, p + "down")

    def experts(self, x, p):
        w = {name: self.file[f"{p}{name}_exps.weight"] for name in ("gate", "up", "down")}
        share = softmax(self.linear(x, p + "gate_inp"))
        y = np.zeros_like(x)
        for n, row in enumerate(x):
            best = np.argsort(-share[n], kind="stable")[:self.n_used]
            for e, weight in zip(best, share[n, best] / share[n, best].sum()):
                y[n] += weight * (w["down"][e] @ (self.act(w["gate"][e] @ row) * (w["up"][e] @ row)))
        return y

    def hidden(self, ids):
        """[len(ids), n_embd] after the last norm, of tokens that go on from those before"""
        pos = np.arange(self.n_past, self.n_past + len(ids))
        x = self.file["token_embd.weight"][ids]
        if self.gemma:
            x = x * np.sqrt(self.n_embd)
        for layer in range(self.n_layer):
            p = f"blk.{layer}."
            y = self.attention(self.norm(x, p + "attn_norm"), layer, pos)
            x = x + (self.norm(y, p + "post_attention_norm")
                     if p + "post_attention_norm.weight" in self.file else y)
            y = self.feed_forward(self.norm(x, p + "ffn_norm"), layer)
            x = x + (self.norm(y, p + "post_ffw_norm")
                     if p + "post_ffw_norm.weight" in self.file else y)
        self.n_past += len(ids)
        return self.norm(x, "output_norm")

    def classify(self, x):
        return self.linear(np.tanh(self.linear(x, "cls")), "cls.output")

    def logits(self, ids):
        """[len(ids), vocabulary] after each of these tokens"""
        x = self.hidden(ids)
        out = x @ self.file["output.weight" if "output.weight" in self.file else "token_embd.weight"].T
        return self.final_cap * np.tanh(out / self.final_cap) if self.final_cap else out


# ---- what is committed --------------------------------------------------------------------------


def five_largest(logits):
    return [[int(i), round(float(logits[i]), 4)] for i in np.argsort(-logits, kind="stable")[:5]]


def logprobs(rows, ids):
    """of ids[1:], given the logits after each of ids"""
    return [float(np.log(softmax(rows[i]))[t]) for i, t in enumerate(ids[1:])]


def perplexity(model, n_ctx, ids):
    scored = []
    for at in range(0, len(ids) - n_ctx + 1, n_ctx):
        chunk = ids[at:at + n_ctx]
        model.forget()
        scored += logprobs(model.logits(chunk), chunk)[n_ctx // 2:]
    return np.exp(-np.mean(scored))


def some_ids(model, n):
    n_vocab = len(model.file.keys["tokenizer.ggml.tokens"])
    return [300 + i * i * 37 % (n_vocab - 310) for i in range(n)]  # no control tokens


def case(model, kind, prompt, text):
    ids, rows, last = [], [], prompt
    while len(ids) < N_STEPS:
        rows.append(model.logits(last))
        ids.append(int(rows[-1][-1].argmax()))
        last = ids[-1:]
    rows = np.concatenate(rows)
    out = {"type": kind, "greedy": ids, "top": [five_largest(row) for row in rows[N_PROMPT - 1:]],
           "logprobs": [round(x, 4) for x in logprobs(rows, prompt + ids)]}
    if "cls.output.weight" in model.file:
        model.forget()
        rows = model.classify(model.hidden((prompt + ids)[:-1]))
        out["cls"] = [[round(float(v), 4) for v in row] for row in rows[N_PROMPT - 1:]]
    if text:
        model.forget()
        out["nll"] = round(-float(np.mean(logprobs(model.logits(text), text))), 6)
    return out


def regenerate(build):
    here = os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryDirectory() as tmp:
        for shape, kinds in CASES.items():
            cases = []
            for kind in kinds:
                path = os.path.join(tmp, "model.gguf")
                pure = [] if "_M" in kind else ["--pure"]
                subprocess.run([os.path.join(build, "tests/tools/make_model"), *pure,
                                "--seed", str(SEED), shape, kind, path], check=True)
                model = Model(path)
                prompt, text = some_ids(model, N_PROMPT), some_ids(model, N_TEXT.get(shape, 0))
                cases.append(case(model, kind, prompt, text))
            lines = ",\n".join("  " + json.dumps(c, separators=(",", ":")) for c in cases)
            with open(os.path.join(here, shape + ".json"), "w") as f:
                f.write('{"seed": %d,\n "prompt": %s,\n "text": %s,\n "cases": [\n%s\n]}\n'
                        % (SEED, json.dumps(prompt), json.dumps(text), lines))
            print(shape, flush=True)


def main():
    if len(sys.argv) == 2 and os.path.isdir(sys.argv[1]):
        regenerate(sys.argv[1])
    elif len(sys.argv) > 4 and sys.argv[1] == "--perplexity":
        print(perplexity(Model(sys.argv[3]), int(sys.argv[2]), [int(a) for a in sys.argv[4:]]))
    elif len(sys.argv) > 2:
        print(*five_largest(Model(sys.argv[1]).logits([int(a) for a in sys.argv[2:]])[-1]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
