"""Batched sampling with a KV cache, rewards of a PRM, and reading single tokens."""
import torch
import torch.nn.functional as F

from model import CONTEXT, Norm
from traces import judged


@torch.no_grad()
def generate(net, tok, prompts, n, temp, seed=0, rows=512):
    """n samples for each prompt (token lists), greedy for temp 0.

    Returns for each prompt n token lists without the end token; a sample that fills the context is
    cut off there.
    """
    gen = torch.Generator(device=net.emb.weight.device).manual_seed(seed)
    out = [None] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    per = max(1, rows // n)
    for s in range(0, len(order), per):
        idx = order[s : s + per]
        for i, r in zip(idx, _batch(net, tok, [prompts[i] for i in idx], n, temp, gen)):
            out[i] = r
    return out


def _batch(net, tok, prompts, n, temp, gen):
    """Sample one batch of prompts; a prompt is computed once for all its samples."""
    dev, fast = net.emb.weight.device, net.fast
    b0 = net.blocks[0]
    g, kv, hd = b0.h // b0.kv, b0.kv, b0.hd
    U, P, grow = len(prompts), max(map(len, prompts)), 64
    L = torch.tensor([len(p) for p in prompts], device=dev)
    ids = torch.tensor([p + [tok.eot] * (P - len(p)) for p in prompts], device=dev)
    mask = torch.full((P, P), -1e9, device=dev).triu(1).repeat(g, 1)[None].to(fast)
    K, V = [], []
    x = net.emb(ids)
    for b in net.blocks:
        h = Norm.apply(x, fast)
        _, k, v = b.qkv(h, net.c[:P])
        for C, t in ((K, k), (V, v)):
            t = F.pad(t.permute(0, 2, 1, 3), (0, 0, 0, grow))
            C.append(t.repeat_interleave(n, 0).contiguous())
        x = x + b.attend(h, net.c[:P], mask)
        x = x + b.mlp(Norm.apply(x, fast))
    h = Norm.apply(x, fast)[torch.arange(U, device=dev), L - 1].repeat_interleave(n, 0)
    lens = L.repeat_interleave(n)
    row = torch.arange(U * n, device=dev)
    outs = [[] for _ in range(U * n)]
    att = (torch.arange(P, device=dev)[None] >= lens[:, None]) * -1e9  # hides the padding
    done = torch.zeros(U * n, dtype=torch.bool, device=dev)
    T = P
    for t in range(CONTEXT - P):
        logits = net.logits(h)
        if temp:  # Gumbel's trick
            logits = logits / temp - torch.empty_like(logits).exponential_(generator=gen).log_()
        nxt = logits.argmax(-1)
        done |= (nxt == tok.im_end) | (nxt == tok.eot)
        for i, o, d in zip(row.tolist(), nxt.tolist(), done.tolist()):
            if not d:
                outs[i].append(o)
        if done.all():
            break
        if t % 8 == 7 and done.sum() > 0.1 * len(done):  # drop finished rows
            keep = (~done).nonzero().squeeze(1)
            K, V = [c[keep] for c in K], [c[keep] for c in V]
            row, lens, att, nxt, done = row[keep], lens[keep], att[keep], nxt[keep], done[keep]
        if T == K[0].shape[2]:
            K, V = [[F.pad(c, (0, 0, 0, grow)) for c in C] for C in (K, V)]
        B = len(row)
        c = net.c[lens + t][:, None]
        m = F.pad(att, (0, T + 1 - P)).to(fast).repeat_interleave(kv, 0)[:, None]
        x = net.emb(nxt)[:, None]
        for i, b in enumerate(net.blocks):
            q, k, v = b.qkv(Norm.apply(x, fast), c)
            K[i][:, :, T] = k[:, 0]
            V[i][:, :, T] = v[:, 0]
            kk = K[i].view(B * kv, -1, hd)[:, : T + 1]
            vv = V[i].view(B * kv, -1, hd)[:, : T + 1]
            q = q.reshape(B * kv, g, hd)
            a = torch.baddbmm(m, q, kk.transpose(1, 2), alpha=hd**-0.5).softmax(-1)
            x = x + b.out(torch.bmm(a, vv).view(B, 1, -1))
            x = x + b.mlp(Norm.apply(x, fast))
        h = Norm.apply(x, fast)[:, 0]
        T += 1
    return [outs[i * n : (i + 1) * n] for i in range(U)]


def in_batches(docs, budget=16000):
    """Lists of indices of docs (token lists) of like length, at most budget tokens each."""
    cur = []
    for i in sorted(range(len(docs)), key=lambda i: len(docs[i])):
        if cur and (len(cur) + 1) * len(docs[i]) > budget:
            yield cur
            cur = []
        cur.append(i)
    if cur:
        yield cur


@torch.no_grad()
def read(net, tok, docs, labels):
    """Probabilities of the labels (token ids), among themselves, behind each of docs (id lists)."""
    dev = net.emb.weight.device
    out = [None] * len(docs)
    for part in in_batches(docs):
        T = max(len(docs[i]) for i in part)
        ids = torch.tensor([docs[i] + [tok.eot] * (T - len(docs[i])) for i in part], device=dev)
        last = torch.tensor([len(docs[i]) - 1 for i in part], device=dev)
        h = net.hidden(ids)[torch.arange(len(part), device=dev), last]
        for i, p in zip(part, net.logits(h)[:, labels].softmax(-1).tolist()):
            out[i] = p
    return out


@torch.no_grad()
def rewards(prm, tok, items):
    """items: (question, steps, answer or None) -> P('+') after each step and the answer; nothing
    for one that is longer than the context."""
    dev = prm.emb.weight.device
    docs = [judged(tok, q, s, a, [True] * (len(s) + 1)).ids for q, s, a in items]
    out = [[] for _ in items]
    w = prm.emb.weight[tok.plus] - prm.emb.weight[tok.minus]
    for part in in_batches([d if len(d) <= CONTEXT else [] for d in docs]):
        part = [i for i in part if len(docs[i]) <= CONTEXT]
        if not part:
            continue
        T = max(len(docs[i]) for i in part)
        ids = torch.tensor([docs[i] + [tok.eot] * (T - len(docs[i])) for i in part], device=dev)
        at = (ids == tok.step).nonzero()
        h = prm.hidden(ids)[at[:, 0], at[:, 1]].float()
        for k, p in zip(at[:, 0].tolist(), torch.sigmoid(h @ w).tolist()):
            out[part[k]].append(p)
    return out
