"""Fine-tune the base model into a process reward model: P('+') at <|step|> after every step.

Samples from the base model first, then trains on the samples and on generated traces.
train_prm.py BASE OUT --cpu 480
"""
import argparse
import json
import os
import random
import time

import runtime

import torch
import torch.nn.functional as F

from bpe import Tokenizer
from model import Model, Muon
from problems import judged, label_steps, make_problem, solve, truths
from sample import PROMPT, generate, parse_trace

runtime.one_thread()

ap = argparse.ArgumentParser()
ap.add_argument("base")
ap.add_argument("out")
ap.add_argument("--tok", default=runtime.TOKENIZER)
ap.add_argument("--cpu", type=float, default=480, help="length of the schedule in CPU seconds")
ap.add_argument("--sample-cpu", type=float, default=150, help="CPU seconds of sampling")
ap.add_argument("--lr", type=float, default=2e-3)
ap.add_argument("--per", type=int, default=4, help="samples of each problem")
ap.add_argument("--synthetic", type=float, default=0.3, help="share of generated traces")
ap.add_argument("--batch", type=int, default=5000)
ap.add_argument("--seed", type=int, default=2000)
ap.add_argument("--extra", type=int, default=3, help="new blocks on top of the base")
ap.add_argument("--cache", help="file to keep the samples in")
ap.add_argument(
    "--trunk", type=int, default=-1, help="blocks to keep frozen, when BASE is already a PRM"
)
ap.add_argument("--wall", type=float, default=1e9, help="stop after this many seconds of real time")
A = ap.parse_args()
w0 = time.time()
tok = Tokenizer.load(A.tok)
net = Model.load(A.base)
rng = random.Random(A.seed)
torch.manual_seed(A.seed)

t0 = time.process_time()
data = []
right = total = 0
if A.cache and os.path.exists(A.cache):
    data = json.load(open(A.cache))
while not (A.cache and os.path.exists(A.cache)) and time.process_time() - t0 < A.sample_cpu:
    ps = [make_problem(rng, rng.choices([1, 2, 3], [2, 4, 4])[0]) for _ in range(128)]
    for p, rs in zip(
        ps,
        generate(
            net,
            tok,
            [tok.encode(PROMPT.format(p.text)) for p in ps],
            A.per,
            rng.choice([0.8, 1.0]),
            seed=rng.randrange(1 << 30),
        ),
    ):
        for o in rs:
            st, a = parse_trace(tok.decode(o))
            if not st or a is None:
                continue
            right += a == p.answer
            total += 1
            d = judged(tok, p.text, st, a, label_steps(truths(p), st) + [a == p.answer])
            if len(d[0]) <= 480:
                data.append(d)
print(
    f"{len(data)} samples from the base model in {time.process_time() - t0:.0f} s cpu,",
    f"{right / max(1, total):.3f} right",
    flush=True,
)
if not data and A.synthetic < 1:
    ap.error("the base model finished no trace; train it for longer, or use --synthetic 1")
if A.cache:
    json.dump(data, open(A.cache, "w"))
rng.shuffle(data)
own = 0


def docs(n):
    """n judged documents: samples of the base model and a share of generated traces."""
    global own
    out = []
    for _ in range(n):
        if rng.random() < A.synthetic:
            p = make_problem(rng, rng.choices([1, 2, 3], [2, 4, 4])[0])
            st, a = solve(p, rng)
            d = judged(tok, p.text, st, a, label_steps(truths(p), st) + [a == p.answer])
            if len(d[0]) <= 480:
                out.append(d)
        else:
            out.append(data[own % len(data)])
            own += 1
    return out


# A step can be judged once the model's own prediction of each token is known, which is only so
# after the last block: so the PRM is the base, frozen, with new blocks on top that compare
# prediction and text.
trunk = A.trunk if A.trunk >= 0 else net.cfg["layers"] if A.extra else 0
if A.extra:
    net = net.grow(A.extra)
opt = Muon(net, A.lr, blocks=net.blocks[trunk:] if trunk else None)
t0 = time.process_time()
step = toks = 0
avg = None
last = t0
seen = 0
w1 = time.time()


def prog():
    """How much of the schedule is done."""
    return max((time.process_time() - t0) / A.cpu, (time.time() - w1) / (A.wall - (w1 - w0)))


while prog() < 1:
    pool = sorted(docs(1200), key=lambda d: len(d[0]))
    bs, cur = [], []
    for d in pool:
        if cur and (len(cur) + 1) * len(d[0]) > A.batch:
            bs.append(cur)
            cur = []
        cur.append(d)
    rng.shuffle(bs)
    for b in bs:
        f = prog()
        if f >= 1:
            break
        T = max(len(d[0]) for d in b)
        ids = torch.tensor([d[0] + [tok.eot] * (T - len(d[0])) for d in b])
        y = torch.tensor([d[1] + [tok.eot] * (T - len(d[1])) for d in b])
        pos = ids == tok.step
        h = net.hidden(ids, trunk)[pos]
        z = h @ (net.emb.weight[tok.plus] - net.emb.weight[tok.minus])
        loss = F.binary_cross_entropy_with_logits(z, (y[pos] == tok.plus).float())
        loss.backward()
        opt.step(min(1, (step + 1) / 20) * max(0.03, 1 - f))
        step += 1
        seen += len(b)
        toks += sum(len(d[0]) for d in b)
        l = loss.item()
        avg = l if avg is None else 0.97 * avg + 0.03 * l
        if time.process_time() - last > 15:
            last = time.process_time()
            print(
                f"{last - t0:.0f}s step {step} docs {seen} toks {toks / 1e6:.2f}M loss {avg:.4f}",
                f"own epoch {own / max(1, len(data)):.2f}",
                flush=True,
            )
net.save(A.out)
print(
    json.dumps(
        dict(
            prm=True,
            cpu_s=time.process_time() - t0,
            steps=step,
            docs=seen,
            tokens=toks,
            own_samples=len(data),
            own_epochs=own / max(1, len(data)),
            loss=avg,
        )
    )
)
