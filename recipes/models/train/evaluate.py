"""Sample a problem set and measure: pass@k, votes, best-of-n, short-m@k, PRM AUC and F1.

evaluate.py BASE PRM SET --n 32 --temp .8 --max 200 (PRM may be "none")
"""
import argparse
import collections
import json
import math
import random
import time

import runtime

from bpe import Tokenizer
from model import Model
from problems import label_steps
from sample import PROMPT, generate, parse_trace, prm_scores

runtime.one_thread()

ap = argparse.ArgumentParser()
ap.add_argument("base")
ap.add_argument("prm")
ap.add_argument("set")
ap.add_argument("--n", type=int, default=32)
ap.add_argument("--temp", type=float, default=0.8)
ap.add_argument("--max", type=int, default=10**9)
ap.add_argument("--tok", default=runtime.TOKENIZER)
ap.add_argument("--save")
ap.add_argument("--load")
A = ap.parse_args()
tok = Tokenizer.load(A.tok)
net = Model.load(A.base)
prm = Model.load(A.prm) if A.prm != "none" else None
probs = [json.loads(l) for l in open(A.set)][: A.max]
rnd = random.Random(0)
if A.load:
    probs = json.load(open(A.load))[: A.max]
t = time.time()
res = (
    []
    if A.load
    else generate(
        net, tok, [tok.encode(PROMPT.format(p["question"])) for p in probs], A.n, A.temp, seed=11
    )
)
nt = sum(len(o) for rs in res for o in rs)
gs = time.time() - t
for p, rs in zip(probs, res):
    tr = {tuple(e) for e in p["equations"]} | {
        (b, o, a, c) for a, o, b, c in p["equations"] if o in "+*"
    }
    p["s"] = []
    for o in rs:
        st, a = parse_trace(tok.decode(o))
        p["s"].append(
            dict(
                len=len(o),
                steps=st,
                ans=a,
                ok=a == p["answer"],
                lab=label_steps(tr, st) + [a == p["answer"]],
                waits=sum(x.startswith("Wait") for x in st),
                hmm=any(
                    x.split(".")[0] in ("Hmm", "Let me think", "Let me see")
                    or x.startswith(("Wait", "Let me check"))
                    for x in st
                ),
            )
        )
t = time.time()
if prm:
    sc = prm_scores(
        prm, tok, [(p["question"], s["steps"], s["ans"]) for p in probs for s in p["s"]]
    )
    for s, x in zip((s for p in probs for s in p["s"]), sc):
        s["prm"] = x
print(
    f"temp {A.temp} n {A.n} problems {len(probs)}; sampling {nt} tokens {nt / gs:.0f} tok/s;",
    f"scoring {time.time() - t:.0f} s",
)
if A.save:
    json.dump([{k: v for k, v in p.items()} for p in probs], open(A.save, "w"))


def vote(ss, w):
    """The answer with the most weight."""
    c = collections.defaultdict(float)
    for s in ss:
        if s["ans"] is not None:
            c[s["ans"]] += w(s)
    if not c:
        return None
    m = max(c.values())
    return rnd.choice([a for a, v in c.items() if v == m])


def auc(pairs):
    """Area under the ROC curve of (score, label) pairs; ties count half."""
    pairs = sorted(pairs)
    r = i = 0
    P = sum(l for _, l in pairs)
    N = len(pairs) - P
    if not P or not N:
        return float("nan")
    while i < len(pairs):
        j = i
        while j < len(pairs) and pairs[j][0] == pairs[i][0]:
            j += 1
        r += (i + j + 1) / 2 * sum(l for _, l in pairs[i:j])
        i = j
    return (r - P * (P + 1) / 2) / (P * N)


def one(s):
    """Every vote counts the same."""
    return 1.0


AGG = dict(
    min=lambda s: min(s["prm"]),
    prod=lambda s: math.prod(s["prm"]),
    last=lambda s: s["prm"][-1],
    mean=lambda s: sum(s["prm"]) / len(s["prm"]),
)


def methods():
    """(name, samples -> answer) of every way to choose."""
    yield "majority", lambda ss: vote(ss, one)
    yield "first finish (short-1)", lambda ss: min(ss, key=lambda s: s["len"])["ans"]
    yield "short-3 majority", lambda ss: vote(sorted(ss, key=lambda s: s["len"])[:3], one)
    yield "short-half majority", lambda ss: vote(
        sorted(ss, key=lambda s: s["len"])[: max(1, len(ss) // 2)], one
    )
    yield "longest", lambda ss: max(ss, key=lambda s: s["len"])["ans"]
    if prm:
        for k, f in AGG.items():
            yield "best-of-n " + k, lambda ss, f=f: max(ss, key=f)["ans"]
        for k in ("min", "last"):
            yield "weighted vote " + k, lambda ss, f=AGG[k]: vote(ss, f)


groups = [(lv, [p for p in probs if p["difficulty"] == lv]) for lv in (1, 2, 3)] + [("all", probs)]
for lv, g in groups:
    if not g or A.save and not prm:
        continue
    S = [s for p in g for s in p["s"]]
    acc = sum(s["ok"] for s in S) / len(S)
    tokens = sum(s["len"] for s in S) / len(S)
    ended = sum(s["ans"] is not None for s in S) / len(S)
    print(
        f"\n## difficulty {lv}: {len(g)} problems, single {acc:.3f}, tokens {tokens:.0f},",
        f"finished {ended:.3f}",
    )
    ks = [k for k in (1, 2, 4, 8, 16, 32) if k <= A.n]
    pk = [
        sum(1 - math.comb(A.n - sum(s["ok"] for s in p["s"]), k) / math.comb(A.n, k) for p in g)
        / len(g)
        for k in ks
    ]
    print("pass@k   ", " ".join(f"{k}:{v:.3f}" for k, v in zip(ks, pk)))
    for name, f in methods():
        row = []
        for k in ks[2:]:
            R = max(1, min(8, A.n // k * 2)) if k < A.n else 1
            hit = 0
            for p in g:
                for _ in range(R):
                    ss = rnd.sample(p["s"], k)
                    hit += f(ss) == p["answer"]
            row.append(hit / R / len(g))
        print(f"{name:24s}", " ".join(f"{k}:{v:.3f}" for k, v in zip(ks[2:], row)))
    q = [[0, 0] for _ in range(4)]
    for p in g:
        for i, s in enumerate(sorted(p["s"], key=lambda s: s["len"])):
            j = min(3, i * 4 // len(p["s"]))
            q[j][0] += s["ok"]
            q[j][1] += 1
    print(
        "accuracy by length quartile within a problem:", " ".join(f"{a/b:.3f}" for a, b in q if b)
    )
    print(
        "accuracy by number of Wait steps:",
        {
            w: (round(sum(s["ok"] for s in S if min(s["waits"], 3) == w) / n, 3), n)
            for w in range(4)
            if (n := sum(min(s["waits"], 3) == w for s in S))
        },
        "| sure",
        round(sum(s["ok"] for s in S if not s["hmm"]) / max(1, sum(not s["hmm"] for s in S)), 3),
        "unsure",
        round(sum(s["ok"] for s in S if s["hmm"]) / max(1, sum(s["hmm"] for s in S)), 3),
    )
    if prm:
        pr = [(x, l) for s in S for x, l in zip(s["prm"][:-1], s["lab"][:-1])]
        fa = [(s["prm"][-1], s["ok"]) for s in S]
        tp = sum(x < 0.5 and not l for x, l in pr)
        fp = sum(x < 0.5 and l for x, l in pr)
        fn = sum(x >= 0.5 and not l for x, l in pr)
        fe = [
            (s["lab"].index(False), next((i for i, x in enumerate(s["prm"]) if x < 0.5), None))
            for s in S
            if not all(s["lab"])
        ]
        right = sum((x > 0.5) == l for x, l in pr) / len(pr)
        rate = sum(l for _, l in pr) / len(pr)
        f1 = 2 * tp / max(1, 2 * tp + fp + fn)
        exact = sum(a == b for a, b in fe) / max(1, len(fe))
        clean = [s for s in S if all(s["lab"])]
        passed = sum(all(x > 0.5 for x in s["prm"]) for s in clean) / max(1, len(clean))
        print(
            f"PRM step AUC {auc(pr):.3f}, accuracy {right:.3f} (base rate {rate:.3f}),",
            f"error F1 {f1:.3f}, answer AUC {auc(fa):.3f},",
            f"first error found exactly {exact:.3f}; clean traces passed {passed:.3f}",
        )
