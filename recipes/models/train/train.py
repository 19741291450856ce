"""Train a language model on freshly generated traces.

The schedule runs on CPU seconds, so that a busy machine costs nothing.
train.py OUT --model base --cpu 2400
"""
import argparse
import json
import random
import time

import runtime

import torch
import torch.nn.functional as F

from bpe import Tokenizer
from model import CONFIGS, AdamW, Model, Muon
from problems import judged, label_steps, make_problem, render, solve, truths

runtime.one_thread()

ap = argparse.ArgumentParser()
ap.add_argument("out")
ap.add_argument("--model", default="base", choices=list(CONFIGS))
ap.add_argument("--tok", default=runtime.TOKENIZER)
ap.add_argument("--cpu", type=float, default=2400, help="length of the schedule in CPU seconds")
ap.add_argument("--lr", type=float, default=6e-3)
ap.add_argument("--opt", default="muon", choices=["muon", "adamw"])
ap.add_argument("--batch", type=int, default=5000)
ap.add_argument("--resume", help="checkpoint to start from")
ap.add_argument("--start", type=float, default=0, help="CPU seconds already done (--resume)")
ap.add_argument("--tagged", type=float, default=0.25, help="share of traces with judgements")
ap.add_argument("--seed", type=int, default=1000)
ap.add_argument("--cap", type=float, default=1e9, help="stop after this many seconds of real time")
A = ap.parse_args()
tok = Tokenizer.load(A.tok)
rng = random.Random(A.seed)
torch.manual_seed(A.seed)
net = Model.load(A.resume) if A.resume else Model(len(tok.tokens), **CONFIGS[A.model])
opt = {"muon": Muon, "adamw": AdamW}[A.opt](net, A.lr)
print(A.model, sum(p.numel() for p in net.parameters()), "parameters", flush=True)


def batches(frac):
    """Batches of documents of similar length; an early share of easy problems."""
    while True:
        docs = []
        easy = max(0.0, 0.6 - 3 * frac())
        for _ in range(3000):
            p = make_problem(
                rng, 1 if rng.random() < easy else rng.choices([1, 2, 3], [3, 4, 4])[0]
            )
            steps, ans = solve(p, rng)
            if rng.random() < A.tagged:  # same text with a judgement after each step
                doc = judged(
                    tok, p.text, steps, ans, label_steps(truths(p), steps) + [ans == p.answer]
                )
            else:
                a, b = render(p.text, steps, ans)
                a, b = tok.encode(a), tok.encode(b)
                x = a + b
                doc = (x, x[1:] + [tok.eot], len(a))
            if len(doc[0]) <= 448:
                docs.append(doc)
        docs.sort(key=lambda d: len(d[0]) + 4 * rng.random())
        cur, out = [], []
        for d in docs:
            if cur and (len(cur) + 1) * len(d[0]) > A.batch:
                out.append(cur)
                cur = []
            cur.append(d)
        rng.shuffle(out)
        for b in out:
            T = max(len(d[0]) for d in b)
            ids = torch.tensor([d[0] + [tok.eot] * (T - len(d[0])) for d in b])
            y = torch.tensor([d[1] + [tok.eot] * (T - len(d[1])) for d in b])
            w = torch.tensor(
                [
                    [float(n - 3 <= i < len(x) - 1 and x[i + 1] != tok.step) for i in range(T)]
                    for x, _, n in b
                ]
            )
            yield ids, y, w.flatten().nonzero().squeeze(1), sum(len(d[0]) for d in b)


t0 = time.process_time() - A.start
w0 = time.time()
toks = atoks = docs = 0
step = 0
avg = None
last = save = t0


def frac():
    """How much of the schedule is done."""
    return min(1.0, max((time.process_time() - t0) / A.cpu, (time.time() - w0) / A.cap))


for ids, y, sel, n in batches(frac):
    f = frac()
    if f >= 1 or time.time() - w0 > A.cap:
        break
    h = net.hidden(ids).flatten(0, 1)[sel]
    target = y.flatten()[sel]
    loss = F.cross_entropy(F.linear(h, net.emb.weight), target)
    loss.backward()
    scale = min(1, (step + 1) / 60) * (1 if f < 0.35 else max(0.02, 1 - (f - 0.35) / 0.65))
    opt.step(scale)
    step += 1
    toks += n
    atoks += len(sel)
    docs += len(ids)
    l = loss.item()
    avg = l if avg is None else 0.98 * avg + 0.02 * l
    now = time.process_time()
    if now - last > 15:
        last = now
        print(
            f"{now - t0:.0f}s cpu {time.time() - w0:.0f}s wall step {step} docs {docs}",
            f"toks {toks / 1e6:.2f}M ({toks / (now - t0):.0f}/s) loss {avg:.4f} scale {scale:.3f}",
            flush=True,
        )
    if now - save > 240:
        save = now
        net.save(A.out, docs=docs, toks=toks)
net.save(A.out, docs=docs, toks=toks)
print(
    json.dumps(
        dict(
            model=A.model,
            cpu_s=time.process_time() - t0,
            wall_s=time.time() - w0,
            steps=step,
            docs=docs,
            tokens=toks,
            answer_tokens=atoks,
            loss=avg,
        )
    ),
    flush=True,
)
