"""Llama-architecture decoder (RMSNorm, RoPE, GQA, SwiGLU, tied embeddings) for CPU training."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

CONFIGS = {
    "base": dict(dim=192, layers=5, heads=6, kv=2, ff=384),
    "draft": dict(dim=96, layers=3, heads=3, kv=1, ff=256),
}


class Norm(torch.autograd.Function):
    """RMSNorm without gain, few passes over memory."""

    @staticmethod
    def forward(ctx, x):
        r = (
            torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            .square_()
            .div_(x.shape[-1])
            .add_(1e-5)
            .rsqrt_()
        )
        y = x * r
        ctx.save_for_backward(y, r)
        return y

    @staticmethod
    def backward(ctx, g):
        y, r = ctx.saved_tensors
        m = (g * y).mean(-1, keepdim=True)
        return torch.addcmul(g, y, m, value=-1).mul_(r)


norm = Norm.apply


def rope_table(hd, n, base=10000.0):
    """Rotations of n positions as complex numbers."""
    f = 1.0 / base ** (torch.arange(0, hd, 2).float() / hd)
    a = torch.outer(torch.arange(n).float(), f)
    return torch.polar(torch.ones_like(a), a)  # (n, hd/2); pairs (2i, 2i+1) as in llama's GGUF


def rope(x, c):
    """Rotate the pairs of the last dimension."""
    return torch.view_as_real(torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2)) * c).flatten(
        -2
    )


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
        y = F.linear(x, torch.cat([self.q.weight, self.k.weight, self.v.weight]))
        nq = self.h * self.hd
        qk = rope(
            y[..., : nq + self.kv * self.hd].view(B, T, self.h + self.kv, self.hd), c[:, None]
        )
        return (
            qk[:, :, : self.h],
            qk[:, :, self.h :],
            y[..., nq + self.kv * self.hd :].view(B, T, self.kv, self.hd),
        )

    def mlp(self, x):
        g, u = F.linear(x, torch.cat([self.gate.weight, self.up.weight])).chunk(2, -1)
        return self.down(F.silu(g) * u)

    def forward(self, x, c, mask):
        B, T, D = x.shape
        g = self.h // self.kv
        q, k, v = self.qkv(norm(x), c)
        q = (
            q.reshape(B, T, self.kv, g, self.hd)
            .permute(0, 2, 3, 1, 4)
            .reshape(B * self.kv, g * T, self.hd)
        )  # share k/v in the group
        k = k.permute(0, 2, 3, 1).reshape(B * self.kv, self.hd, T)
        v = v.permute(0, 2, 1, 3).reshape(B * self.kv, T, self.hd)
        a = torch.baddbmm(mask, q, k, alpha=self.hd**-0.5).softmax(-1)
        y = torch.bmm(a, v).view(B, self.kv, g, T, self.hd).permute(0, 3, 1, 2, 4).reshape(B, T, D)
        x = x + self.o(y)
        return x + self.mlp(norm(x))


class Model(nn.Module):
    """The decoder; the embedding is the output matrix too."""

    def __init__(self, vocab, dim, layers, heads, kv, ff):
        super().__init__()
        self.cfg = dict(vocab=vocab, dim=dim, layers=layers, heads=heads, kv=kv, ff=ff)
        self.emb = nn.Embedding(vocab, dim)
        nn.init.normal_(self.emb.weight, std=0.05)
        self.blocks = nn.ModuleList(Block(dim, heads, kv, ff, layers) for _ in range(layers))
        self.register_buffer("c", rope_table(dim // heads, 512), persistent=False)

    def hidden(self, ids, frozen=0):
        """frozen: run the first blocks without gradients."""
        B, T = ids.shape
        g = self.blocks[0].h // self.blocks[0].kv
        mask = torch.full((T, T), -1e9).triu(1).repeat(g, 1)[None]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            x = self.emb(ids)
            for b in self.blocks[:frozen]:
                x = b(x, self.c[:T], mask)
        for b in self.blocks[frozen:]:
            x = b(x, self.c[:T], mask)
        return norm(x)

    def grow(self, extra):
        """The same model with more blocks on top, nearly the identity at first."""
        m = Model(**{**self.cfg, "layers": self.cfg["layers"] + extra})
        n = self.cfg["layers"]
        m.load_state_dict({**m.state_dict(), **self.state_dict()})
        for b in m.blocks[n:]:
            b.o.weight.data.mul_(0.2)
            b.down.weight.data.mul_(0.2)
        return m

    def forward(self, ids):
        return F.linear(self.hidden(ids), self.emb.weight)

    def save(self, path, **kw):
        torch.save(dict(cfg=self.cfg, state=self.state_dict(), **kw), path)

    @staticmethod
    def load(path):
        d = torch.load(path)
        m = Model(**d["cfg"])
        m.load_state_dict(d["state"])
        return m


class Muon:
    """Muon for the matrices, Adam for the embedding.

    lr is the Adam rate; Muon's update has Adam's RMS.
    """

    def __init__(self, model, lr, wd=0.05, mom=0.95, blocks=None):
        """blocks: train these blocks only, with a frozen embedding."""
        self.mats = [p for b in blocks or model.blocks for p in b.parameters()]
        self.emb = model.emb.weight
        self.frozen = bool(blocks)
        self.lr, self.wd, self.mom, self.t = lr, wd, mom, 0
        self.buf = [torch.zeros_like(p) for p in self.mats]
        self.m = torch.zeros_like(self.emb)
        self.v = torch.zeros_like(self.emb)

    @torch.no_grad()
    def step(self, scale):
        self.t += 1
        lr = self.lr * scale
        for p, b in zip(self.mats, self.buf):
            b.mul_(self.mom).add_(p.grad)
            g = p.grad + self.mom * b
            x = g.T if g.shape[0] > g.shape[1] else g
            x = x / (x.norm() + 1e-7)
            for _ in range(5):
                A = x @ x.T
                x = 3.4445 * x + (-4.775 * A + 2.0315 * A @ A) @ x
            if g.shape[0] > g.shape[1]:
                x = x.T
            p.mul_(1 - lr * self.wd).add_(x, alpha=-lr * 0.2 * math.sqrt(max(p.shape)))
            p.grad = None
        if self.frozen:
            return
        g = self.emb.grad
        self.m.lerp_(g, 0.1)
        self.v.lerp_(g * g, 0.02)
        self.emb.add_(
            (self.m / (1 - 0.9**self.t)) / ((self.v / (1 - 0.98**self.t)).sqrt() + 1e-8),
            alpha=-lr,
        )
        self.emb.grad = None


class AdamW:
    """AdamW with the interface of Muon."""

    def __init__(self, model, lr, wd=0.05):
        self.lr = lr
        self.o = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=wd)
        self.model = model

    def step(self, scale):
        for g in self.o.param_groups:
            g["lr"] = self.lr * scale
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.o.step()
        self.o.zero_grad(set_to_none=True)
