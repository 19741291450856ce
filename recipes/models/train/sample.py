"""Batched KV-cached sampling and PRM scoring in torch (CPU)."""
import argparse
import random
import time

import runtime

import torch
import torch.nn.functional as F

from bpe import Tokenizer
from model import Model, norm
from problems import EQ, judged, label_steps, make_problem, parse_answer, truths

runtime.one_thread()
PROMPT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n<think>\n"


@torch.no_grad()
def generate(net, tok, prompts, n, temp, seed=0, limit=330, rows=512, stop=()):
    """n samples for each prompt (token lists).

    Returns for each prompt n token lists, without <|im_end|> but with a token of `stop`, if one
    ended the sample.
    """
    gen = torch.Generator().manual_seed(seed)
    per = max(1, rows // n)
    out = [None] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for s in range(0, len(order), per):
        idx = order[s : s + per]
        for i, r in zip(
            idx, _chunk(net, tok, [prompts[i] for i in idx], n, temp, gen, limit, stop)
        ):
            out[i] = r
    return out


def _chunk(net, tok, prompts, n, temp, gen, limit, stop):
    """Sample one batch of prompts; the keys and values of a prompt are shared by its samples."""
    P = max(map(len, prompts))
    L = torch.tensor([len(p) for p in prompts])
    ids = torch.tensor([p + [tok.eot] * (P - len(p)) for p in prompts])
    U = len(prompts)
    cols = 64
    K, V = [], []
    mask = torch.full((P, P), -1e9).triu(1)
    g = net.blocks[0].h // net.blocks[0].kv
    kv, hd = net.blocks[0].kv, net.blocks[0].hd
    x = net.emb(ids)
    for b in net.blocks:  # prefill once per prompt
        q, k, v = b.qkv(norm(x), net.c[:P])
        q = q.reshape(U, P, kv, g, hd).permute(0, 2, 3, 1, 4).reshape(U * kv, g * P, hd)
        k = k.permute(0, 2, 1, 3).reshape(U * kv, P, hd)
        v = v.permute(0, 2, 1, 3).reshape(U * kv, P, hd)
        a = torch.baddbmm(mask.repeat(g, 1)[None], q, k.transpose(1, 2), alpha=hd**-0.5).softmax(
            -1
        )
        y = torch.bmm(a, v).view(U, kv, g, P, hd).permute(0, 3, 1, 2, 4).reshape(U, P, -1)
        x = x + b.o(y)
        x = x + b.mlp(norm(x))
        for C, t in ((K, k), (V, v)):
            t = F.pad(t.view(U, kv, P, hd), (0, 0, 0, cols)).repeat_interleave(n, 0)
            C.append(t.contiguous())
    h = norm(x)[torch.arange(U), L - 1].repeat_interleave(n, 0)
    B = U * n
    lens = L.repeat_interleave(n)
    rowid = torch.arange(B)
    outs = [[] for _ in range(B)]
    att = (
        torch.arange(P)[None] >= lens[:, None]
    ).float() * -1e9  # additive mask over prompt columns
    done = torch.zeros(B, dtype=torch.bool)
    T = P
    for t in range(limit):
        logits = F.linear(h, net.emb.weight)
        if temp == 0:
            nxt = logits.argmax(-1)
        else:
            nxt = (
                logits / temp - torch.empty_like(logits).exponential_(generator=gen).log_()
            ).argmax(-1)
        done |= (nxt == tok.im_end) | (nxt == tok.eot)
        for r, o, d in zip(rowid.tolist(), nxt.tolist(), done.tolist()):
            if not d:
                outs[r].append(o)
        if stop:
            done |= torch.isin(nxt, torch.tensor(stop))
        if done.all():
            break
        if t % 12 == 11 and done.sum() > 0.1 * len(done):  # drop finished rows
            keep = (~done).nonzero().squeeze(1)
            K = [c[keep] for c in K]
            V = [c[keep] for c in V]
            rowid, lens, att, nxt, done = rowid[keep], lens[keep], att[keep], nxt[keep], done[keep]
        if T == K[0].shape[2]:
            K = [F.pad(c, (0, 0, 0, 64)) for c in K]
            V = [F.pad(c, (0, 0, 0, 64)) for c in V]
        B = len(rowid)
        c = net.c[lens + t]
        x = net.emb(nxt)[:, None]
        m = F.pad(att, (0, T + 1 - P)).repeat_interleave(kv, 0)[:, None]
        for i, b in enumerate(net.blocks):
            q, k, v = b.qkv(norm(x), c[:, None])
            K[i][:, :, T] = k[:, 0]
            V[i][:, :, T] = v[:, 0]
            kk = K[i].view(B * kv, -1, hd)[:, : T + 1]
            vv = V[i].view(B * kv, -1, hd)[:, : T + 1]
            a = torch.baddbmm(
                m, q.reshape(B * kv, g, hd), kk.transpose(1, 2), alpha=hd**-0.5
            ).softmax(-1)
            x = x + b.o(torch.bmm(a, vv).view(B, 1, -1))
            x = x + b.mlp(norm(x))
        h = norm(x)[:, 0]
        T += 1
    return [outs[i * n : (i + 1) * n] for i in range(U)]


def parse_trace(text):
    """-> (steps, answer or None)"""
    body, _, tail = text.partition("</think>")
    return [s.strip() for s in body.split("\n\n") if s.strip()], parse_answer(tail)


@torch.no_grad()
def prm_scores(net, tok, items, batch=8000):
    """items: (question, steps, answer) -> list of P('+') after each step and the answer."""
    docs = [(judged(tok, q, s, a, [])[0], i) for i, (q, s, a) in enumerate(items)]
    docs.sort(key=lambda d: len(d[0]))
    out = [None] * len(items)
    cur = []

    def flush():
        """Score the batch collected in cur."""
        T = len(cur[-1][0])
        ids = torch.tensor([d + [tok.eot] * (T - len(d)) for d, _ in cur])
        pos = (ids == tok.step).nonzero()
        h = net.hidden(ids)[pos[:, 0], pos[:, 1]]
        p = torch.sigmoid(h @ (net.emb.weight[tok.plus] - net.emb.weight[tok.minus]))
        for _, i in cur:
            out[i] = []
        for r, v in zip(pos[:, 0].tolist(), p.tolist()):
            out[cur[r][1]].append(v)
        cur.clear()

    for d in docs:
        if cur and (len(cur) + 1) * len(d[0]) > batch:
            flush()
        cur.append(d)
    if cur:
        flush()
    return out


def main():
    """Accuracy, arithmetic and self-judgement by difficulty."""
    ap = argparse.ArgumentParser(description="Sample fresh problems; let the model judge itself.")
    ap.add_argument("model")
    ap.add_argument("--temp", type=float, default=0.8)
    ap.add_argument("--problems", type=int, default=40, help="problems of each difficulty")
    ap.add_argument("--n", type=int, default=4, help="samples of each problem")
    ap.add_argument("--tok", default=runtime.TOKENIZER)
    ap.add_argument("--seed", type=int, default=77)
    args = ap.parse_args()
    tok = Tokenizer.load(args.tok)
    net = Model.load(args.model)
    temp, n = args.temp, args.n
    r = random.Random(args.seed)
    t = time.time()
    nt = 0
    for lv in (1, 2, 3):
        ps = [make_problem(r, lv) for _ in range(args.problems)]
        res = generate(net, tok, [tok.encode(PROMPT.format(p.text)) for p in ps], n, temp)
        ok = al = sk = 0
        items = []
        labs = []
        for p, rs in zip(ps, res):
            tr = truths(p)
            for o in rs:
                st, a = parse_trace(tok.decode(o))
                nt += len(o)
                ok += a == p.answer
                lab = label_steps(tr, st) + [a == p.answer]
                items.append((p.text, st, a))
                labs.append(lab)
                for s in st:
                    for x, op, y, z in EQ.findall(s)[-1:]:
                        sk += 1
                        x, y, z = int(x), int(y), int(z)
                        al += {
                            "+": x + y == z,
                            "-": x - y == z,
                            "*": x * y == z,
                            "/": y and x == y * z,
                        }[op]
        sc = prm_scores(net, tok, items)
        hit = sum((s > 0.5) == l for S, Lb in zip(sc, labs) for s, l in zip(S, Lb)) / sum(
            map(len, labs)
        )
        rate = sum(map(sum, labs)) / sum(map(len, labs))
        print(
            f"level {lv}: accuracy {ok / len(ps) / n:.3f}, equations right {al / max(1, sk):.3f},"
        )
        print(f"    own judgement right {hit:.3f}, base rate {rate:.3f}")
    print(f"{nt/(time.time()-t):.0f} tokens/s")
    print(ps[0].text)
    print(tok.decode(res[0][0]))
    print(ps[0].answer, sc[0])


if __name__ == "__main__":
    main()
