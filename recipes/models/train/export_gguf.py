"""Write a checkpoint as a GGUF v3 file (F32, F16 or Q8_0)."""
import argparse
import struct

from runtime import TOKENIZER

import numpy as np
import torch
from bpe import Tokenizer, SPECIALS
from model import CONTEXT

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
)
U32, I32, F32, BOOL, STR, ARR = 4, 5, 6, 7, 8, 9
TYPES = {"F32": (0, 0), "F16": (1, 1), "Q8_0": (8, 7)}  # ggml type, file type


def s(x):
    """A GGUF string."""
    b = x.encode()
    return struct.pack("<Q", len(b)) + b


def kv(key, t, v):
    """One metadata entry; the value of an array is (element type, elements)."""
    h = s(key)
    if t == STR:
        return h + struct.pack("<I", STR) + s(v)
    if t == U32:
        return h + struct.pack("<II", U32, v)
    if t == F32:
        return h + struct.pack("<If", F32, v)
    if t == BOOL:
        return h + struct.pack("<IB", BOOL, v)
    et, xs = v
    return (
        h
        + struct.pack("<IIQ", ARR, et, len(xs))
        + b"".join(s(x) if et == STR else struct.pack("<i", x) for x in xs)
    )


def q8_0(a):
    """Blocks of 32: an F16 scale and 32 signed bytes."""
    b = a.reshape(-1, 32)
    d = (np.abs(b).max(1) / 127).astype(np.float32)
    inv = np.divide(1, d, out=np.zeros_like(d), where=d > 0)
    q = np.rint(b * inv[:, None]).astype(np.int8)
    out = np.empty(len(b), dtype=[("d", "<f2"), ("q", "i1", 32)])
    out["d"] = d
    out["q"] = q
    return out.tobytes()


def export(ckpt, tokfile, out, typ, name):
    """Write checkpoint `ckpt` as `out`; norms have no gain in training, so they are ones here."""
    d = torch.load(ckpt)
    c = d["cfg"]
    st = d["mean"]
    tok = Tokenizer.load(tokfile)
    gt, ft = TYPES[typ]
    hd = c["dim"] // c["heads"]
    one = np.ones(c["dim"], np.float32)
    T = [("token_embd.weight", st["emb.weight"].numpy()), ("output_norm.weight", one)]
    for i in range(c["layers"]):
        T += [(f"blk.{i}.attn_norm.weight", one), (f"blk.{i}.ffn_norm.weight", one)]
        for a, b in (
            ("attn_q", "q"),
            ("attn_k", "k"),
            ("attn_v", "v"),
            ("attn_output", "o"),
            ("ffn_gate", "gate"),
            ("ffn_up", "up"),
            ("ffn_down", "down"),
        ):
            T.append((f"blk.{i}.{a}.weight", st[f"blocks.{i}.{b}.weight"].numpy()))
    kinds = [1] * (256 + len(tok.merges)) + [
        4 if x in ("<think>", "</think>") else 3 for x in SPECIALS
    ]
    K = [
        kv("general.architecture", STR, "llama"),
        kv("general.name", STR, name),
        kv("general.file_type", U32, ft),
        kv("general.quantization_version", U32, 2),
        kv("general.license", STR, "apache-2.0"),
        kv("llama.vocab_size", U32, c["vocab"]),
        kv("llama.context_length", U32, CONTEXT),
        kv("llama.embedding_length", U32, c["dim"]),
        kv("llama.block_count", U32, c["layers"]),
        kv("llama.feed_forward_length", U32, c["ff"]),
        kv("llama.attention.head_count", U32, c["heads"]),
        kv("llama.attention.head_count_kv", U32, c["kv"]),
        kv("llama.rope.dimension_count", U32, hd),
        kv("llama.rope.freq_base", F32, 10000.0),
        kv("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        kv("tokenizer.ggml.model", STR, "gpt2"),
        kv("tokenizer.ggml.pre", STR, "qwen2"),
        kv("tokenizer.ggml.tokens", ARR, (STR, tok.tokens)),
        kv("tokenizer.ggml.token_type", ARR, (I32, kinds)),
        kv("tokenizer.ggml.merges", ARR, (STR, [a + " " + b for a, b in tok.merges])),
        kv("tokenizer.ggml.bos_token_id", U32, tok.eot),
        kv("tokenizer.ggml.eos_token_id", U32, tok.im_end),
        kv("tokenizer.ggml.padding_token_id", U32, tok.eot),
        kv("tokenizer.ggml.add_bos_token", BOOL, 0),
        kv("tokenizer.chat_template", STR, TEMPLATE),
    ]
    info, data = b"", b""
    for nm, a in T:
        a = np.ascontiguousarray(a, np.float32)
        t = gt if a.ndim == 2 else 0
        info += (
            s(nm)
            + struct.pack("<I", a.ndim)
            + struct.pack(f"<{a.ndim}Q", *a.shape[::-1])
            + struct.pack("<IQ", t, len(data))
        )
        b = a.tobytes() if t == 0 else a.astype("<f2").tobytes() if t == 1 else q8_0(a)
        data += b + bytes(-len(b) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(T), len(K)) + b"".join(K) + info
    open(out, "wb").write(head + bytes(-len(head) % 32) + data)


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("checkpoint")
    ap.add_argument("out")
    ap.add_argument("--type", choices=list(TYPES), default="Q8_0")
    ap.add_argument("--name", default="tiny-base", help="general.name of the model")
    ap.add_argument("--tok", default=TOKENIZER)
    args = ap.parse_args()
    export(args.checkpoint, args.tok, args.out, args.type, args.name)
