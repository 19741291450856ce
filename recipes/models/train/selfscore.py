"""Rank saved samples (evaluate.py --save) by the base model's own probabilities, without a PRM."""
import argparse
import collections
import json
import math

import runtime

import torch

from bpe import Tokenizer
from model import Model
from sample import PROMPT

runtime.one_thread()

ap = argparse.ArgumentParser(description=__doc__)
ap.add_argument("base")
ap.add_argument("samples", help="JSON file written by evaluate.py --save")
ap.add_argument("--n", type=int, default=16, help="samples of each problem to use")
ap.add_argument("--tok", default=runtime.TOKENIZER)
A = ap.parse_args()
tok = Tokenizer.load(A.tok)
net = Model.load(A.base)
probs = json.load(open(A.samples))
N = A.n
docs = []
for p in probs:
    p["s"] = p["s"][:N]
    a = tok.encode(PROMPT.format(p["question"]))
    for s in p["s"]:
        docs.append(
            (
                a
                + tok.encode(
                    "\n\n".join(s["steps"])
                    + f"\n</think>\nThe answer is \\boxed{{{s['ans']}}}.<|im_end|>"
                ),
                len(a),
                s,
            )
        )
docs.sort(key=lambda d: len(d[0]))
with torch.no_grad():
    for i in range(0, len(docs), 48):
        b = docs[i : i + 48]
        T = len(b[-1][0])
        ids = torch.tensor([d[0] + [tok.eot] * (T - len(d[0])) for d in b])
        lp = net(ids[:, :-1]).log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
        for (x, n, s), r in zip(b, lp):
            v = r[n - 1 : len(x) - 1]
            s["sum"], s["mean"], s["min"] = v.sum().item(), v.mean().item(), v.min().item()


def best(g, k):
    """How often the sample with the highest score k is right."""
    score = lambda s: s[k] if s["ans"] is not None else -1e9
    return sum(max(p["s"], key=score)["ok"] for p in g) / len(g)


def weighted(p):
    """Is the vote weighted by mean log-probability right?"""
    c = collections.defaultdict(float)
    for s in p["s"]:
        c[s["ans"]] += math.exp(s["mean"] * 10)
    return max(c, key=c.get) == p["answer"]


def majority(p):
    """Is the plain vote right?"""
    return collections.Counter(s["ans"] for s in p["s"]).most_common(1)[0][0] == p["answer"]


for lv in (1, 2, 3):
    g = [p for p in probs if p["difficulty"] == lv]
    if not g:
        continue
    print(
        f"difficulty {lv}: best of {N} by total log-prob {best(g, 'sum'):.3f},",
        f"mean {best(g, 'mean'):.3f}, weakest token {best(g, 'min'):.3f},",
        f"vote weighted by mean log-prob {sum(map(weighted, g)) / len(g):.3f},",
        f"majority {sum(map(majority, g)) / len(g):.3f}",
    )
