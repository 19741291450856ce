"""Llama-architecture decoder (RMSNorm, RoPE, GQA, SwiGLU, tied embeddings), Muon, checkpoints.

Weights and the residual stream are float32. Where the machine multiplies bfloat16 natively, matrix
products and attention run in it: on a CPU with AVX512-BF16 that is twice to four times as fast as
float32, and the models learn the same.
"""
import math
import os

import torch
import torch.nn as nn
import torch.nn.functional as F

CONTEXT = 512
CONFIGS = {
    "base": dict(dim=256, layers=6, heads=4, kv=2, ff=512),
    "draft": dict(dim=128, layers=3, heads=2, kv=1, ff=320),
    "unit-base": dict(dim=64, layers=2, heads=2, kv=1, ff=128),
    "unit-draft": dict(dim=32, layers=1, heads=1, kv=1, ff=64),
}


def fast_type(device):
    """bfloat16 where the machine has it in hardware, else float32."""
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    try:
        with open("/proc/cpuinfo") as f:
            flags = f.read()
    except OSError:
        flags = ""
    ok = "avx512_bf16" in flags and torch.backends.mkldnn.is_available()
    return torch.bfloat16 if ok else torch.float32


class Norm(torch.autograd.Function):
    """RMSNorm without gain, few passes over memory; float32 in, `dtype` out."""

    @staticmethod
    def forward(ctx, x, dtype):
        r = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        r = r.square_().div_(x.shape[-1]).add_(1e-5).rsqrt_()
        y = (x * r).to(dtype)
        ctx.save_for_backward(y, r)
        return y

    @staticmethod
    def backward(ctx, g):
        y, r = ctx.saved_tensors
        y, g = y.float(), g.float()
        m = (g * y).mean(-1, keepdim=True)
        return torch.addcmul(g, y, m, value=-1).mul_(r), None


def rope_table(hd, n, base=10000.0):
    """Rotations of n positions as complex numbers; pairs are (2i, 2i+1), as in llama's GGUF."""
    f = 1.0 / base ** (torch.arange(0, hd, 2).float() / hd)
    a = torch.outer(torch.arange(n).float(), f)
    return torch.polar(torch.ones_like(a), a)


def rope(x, c):
    """Rotate the pairs of the last dimension."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * c).flatten(-2)


class Block(nn.Module):
    """Attention with shared keys and values, then SwiGLU."""

    def __init__(self, dim, heads, kv, ff, layers):
        super().__init__()
        self.h, self.kv, self.hd = heads, kv, dim // heads
        self.q = nn.Linear(dim, dim, bias=False)
        self.k = nn.Linear(dim, kv * self.hd, bias=False)
        self.v = nn.Linear(dim, kv * self.hd, bias=False)
        self.o = nn.Linear(dim, dim, bias=False)
        self.gate = nn.Linear(dim, ff, bias=False)
        self.up = nn.Linear(dim, ff, bias=False)
        self.down = nn.Linear(ff, dim, bias=False)
        for w in (self.q, self.k, self.v, self.gate, self.up):
            nn.init.normal_(w.weight, std=dim**-0.5)
        for w in (self.o, self.down):
            nn.init.normal_(w.weight, std=(w.in_features * 2 * layers) ** -0.5)

    def qkv(self, x, c):
        """Rotated queries and keys, and values, of positions with rotations c."""
        B, T, _ = x.shape
        w = torch.cat([self.q.weight, self.k.weight, self.v.weight]).to(x.dtype)
        n = self.h + self.kv
        y = F.linear(x, w).view(B, T, n + self.kv, self.hd)
        qk = rope(y[:, :, :n], c[:, None]).to(x.dtype)
        return qk[:, :, : self.h], qk[:, :, self.h :], y[:, :, n:]

    def out(self, x):
        return F.linear(x, self.o.weight.to(x.dtype))

    def mlp(self, x):
        w = torch.cat([self.gate.weight, self.up.weight]).to(x.dtype)
        g, u = F.linear(x, w).chunk(2, -1)
        return F.linear(F.silu(g) * u, self.down.weight.to(x.dtype))

    def attend(self, x, c, mask):
        """Attention of whole rows; the queries of a group lie side by side and share k and v."""
        B, T, D = x.shape
        g = self.h // self.kv
        q, k, v = self.qkv(x, c)
        q = q.reshape(B, T, self.kv, g, self.hd).permute(0, 2, 3, 1, 4)
        q = q.reshape(B * self.kv, g * T, self.hd)
        k = k.permute(0, 2, 3, 1).reshape(B * self.kv, self.hd, T)
        v = v.permute(0, 2, 1, 3).reshape(B * self.kv, T, self.hd)
        a = torch.baddbmm(mask, q, k, alpha=self.hd**-0.5).softmax(-1)
        y = torch.bmm(a, v).view(B, self.kv, g, T, self.hd)
        return self.out(y.permute(0, 3, 1, 2, 4).reshape(B, T, D))

    def forward(self, x, c, mask):
        x = x + self.attend(Norm.apply(x, mask.dtype), c, mask)
        return x + self.mlp(Norm.apply(x, mask.dtype))


class Model(nn.Module):
    """The decoder; the embedding is the output matrix too."""

    def __init__(self, vocab, dim, layers, heads, kv, ff):
        super().__init__()
        self.cfg = dict(vocab=vocab, dim=dim, layers=layers, heads=heads, kv=kv, ff=ff)
        self.fast = torch.float32
        self.emb = nn.Embedding(vocab, dim)
        nn.init.normal_(self.emb.weight, std=0.05)
        self.blocks = nn.ModuleList(Block(dim, heads, kv, ff, layers) for _ in range(layers))
        self.register_buffer("c", rope_table(dim // heads, CONTEXT), persistent=False)

    def to_device(self, device):
        self.fast = fast_type(device)
        return self.to(device)

    def hidden(self, ids):
        """Normed last states, in the fast type."""
        T = ids.shape[1]
        b = self.blocks[0]
        mask = torch.full((T, T), -1e9, device=ids.device).triu(1).repeat(b.h // b.kv, 1)
        mask = mask[None].to(self.fast)
        x = self.emb(ids)
        for b in self.blocks:
            x = b(x, self.c[:T], mask)
        return Norm.apply(x, self.fast)

    def logits(self, h):
        return F.linear(h, self.emb.weight.to(h.dtype)).float()

    def forward(self, ids):
        return self.logits(self.hidden(ids))

    def grow(self, extra):
        """The same model with more blocks on top, nearly the identity at first."""
        m = Model(**{**self.cfg, "layers": self.cfg["layers"] + extra})
        m.load_state_dict({**m.state_dict(), **self.state_dict()})
        for b in m.blocks[self.cfg["layers"] :]:
            b.o.weight.data.mul_(0.2)
            b.down.weight.data.mul_(0.2)
        return m

    @staticmethod
    def load(path, device="cpu"):
        """The averaged weights of a checkpoint."""
        d = torch.load(path, map_location="cpu")
        m = Model(**d["cfg"])
        m.load_state_dict(d["mean"])
        return m.to_device(device)


class Muon:
    """Muon for the matrices, Adam for the embedding.

    lr is the Adam rate; Muon's update has Adam's RMS.
    """

    def __init__(self, model, lr, wd=0.05, momentum=0.95):
        self.mats = [p for b in model.blocks for p in b.parameters()]
        self.emb = model.emb.weight
        self.lr, self.wd, self.momentum, self.t = lr, wd, momentum, 0
        self.fast = model.fast
        self.buf = [torch.zeros_like(p) for p in self.mats]
        self.m = torch.zeros_like(self.emb)
        self.v = torch.zeros_like(self.emb)

    def state(self):
        return dict(t=self.t, buf=self.buf, m=self.m, v=self.v)

    def restore(self, state):
        self.t = state["t"]
        for a, b in zip([*self.buf, self.m, self.v], [*state["buf"], state["m"], state["v"]]):
            a.copy_(b)

    @torch.no_grad()
    def step(self, scale):
        self.t += 1
        lr = self.lr * scale
        for p, b in zip(self.mats, self.buf):
            b.mul_(self.momentum).add_(p.grad)
            g = p.grad + self.momentum * b
            tall = g.shape[0] > g.shape[1]
            x = g.T if tall else g
            x = (x / (x.norm() + 1e-7)).to(self.fast)
            for _ in range(5):  # Newton and Schulz: nearly the closest orthogonal matrix
                a = x @ x.T
                x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
            x = (x.T if tall else x).float()
            p.mul_(1 - lr * self.wd).add_(x, alpha=-lr * 0.2 * math.sqrt(max(p.shape)))
            p.grad = None
        g = self.emb.grad
        self.m.lerp_(g, 0.1)
        self.v.lerp_(g * g, 0.02)
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.98**self.t)
        self.emb.add_(m / (v.sqrt() + 1e-8), alpha=-lr)
        self.emb.grad = None


class Run:
    """A training that can stop at any moment: model, optimizer, averaged weights, and what the
    caller keeps in `at` (where the data stands, counts), in one file that is replaced at once."""

    def __init__(self, path, fresh, lr, device, mean=0.998):
        """fresh: makes the model, when there is no file at path yet."""
        self.path, self.decay = path, mean
        d = torch.load(path, map_location="cpu") if os.path.exists(path) else None
        self.net = Model(**d["cfg"]) if d else fresh()
        if d:
            self.net.load_state_dict(d["state"])
        self.net.to_device(device)
        self.opt = Muon(self.net, lr)
        self.mean = {k: v.clone() for k, v in self.net.state_dict().items()}
        self.at = dict(step=0, tokens=0, documents=0, cpu_s=0.0)
        if d:
            self.opt.restore(d["opt"])
            self.at = d["at"]
            for k, v in self.mean.items():
                v.copy_(d["mean"][k])

    def step(self, scale):
        """One step of the optimizer, whose gradients are there."""
        self.opt.step(scale)
        self.at["step"] += 1
        decay = min(self.decay, 1 - 10 / (10 + self.at["step"]))
        with torch.no_grad():
            for k, v in self.net.state_dict().items():
                self.mean[k].lerp_(v, 1 - decay)

    def save(self, path=None):
        """The whole state; to another path only what is needed to use the model."""
        d = dict(cfg=self.net.cfg, mean=self.mean, at=self.at)
        if path is None:
            d |= dict(state=self.net.state_dict(), opt=self.opt.state())
        path = path or self.path
        torch.save(d, path + ".tmp")
        os.replace(path + ".tmp", path)


def schedule(step, steps, warm=100, hold=0.6):
    """Scale of the learning rate: up, level, then down to a fiftieth in a straight line."""
    f = step / steps
    return min(1.0, (step + 1) / warm) * (1.0 if f < hold else max(0.02, (1 - f) / (1 - hold)))
