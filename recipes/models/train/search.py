"""Step-level search with the PRM: beam, particle filter, speculative reasoning.

search.py BASE PRM DRAFT SET --max 120 --methods beam,pf,spec (DRAFT may be "none")
"""
import argparse
import collections
import json
import random
import time

import runtime

from bpe import Tokenizer
from model import Model
from sample import PROMPT, generate, parse_trace, prm_scores

runtime.one_thread()

ap = argparse.ArgumentParser()
ap.add_argument("base")
ap.add_argument("prm")
ap.add_argument("draft")
ap.add_argument("set")
ap.add_argument("--n", type=int, default=16)
ap.add_argument("--width", type=int, default=4)
ap.add_argument("--temp", type=float, default=0.8)
ap.add_argument("--max", type=int, default=120)
ap.add_argument("--skip", type=int, default=0)
ap.add_argument("--levels", default="1,2,3")
ap.add_argument("--methods", default="beam,pf,spec")
ap.add_argument("--tok", default=runtime.TOKENIZER)
A = ap.parse_args()
tok = Tokenizer.load(A.tok)
base, prm = Model.load(A.base), Model.load(A.prm)
draft = Model.load(A.draft) if A.draft != "none" else None
lv = set(map(int, A.levels.split(",")))
probs = [p for p in map(json.loads, open(A.set)) if p["difficulty"] in lv][A.skip : A.skip + A.max]
STOP = tuple(i for i in range(len(tok.tokens)) if tok.decode([i]).endswith("\n\n"))
rnd = random.Random(1)


class Node:
    """A trace after some steps, with the reward of its last step."""

    def __init__(self, p, ids, text="", score=1.0, done=False, ans=None, path=()):
        self.p, self.ids, self.text, self.score = p, ids, text, score
        self.done, self.ans, self.path = done, ans, path


def expand(net, nodes, k=1, limit=120):
    """k one-step continuations of every node, scored by the PRM."""
    out = []
    gen = generate(
        net,
        tok,
        [n.ids for n in nodes],
        k,
        A.temp,
        seed=rnd.randrange(1 << 30),
        limit=limit,
        stop=STOP,
    )
    for n, rs in zip(nodes, gen):
        for o in rs:
            text = n.text + tok.decode(o)
            done = not (o and o[-1] in STOP) or len(n.ids) + len(o) > 470
            st, a = parse_trace(text)
            out.append(Node(n.p, n.ids + o, text, 0, done, a if done else None, n.path))
    sc = prm_scores(prm, tok, [(c.p["question"], parse_trace(c.text)[0], c.ans) for c in out])
    for c, x in zip(out, sc):
        c.score = (0.0 if c.done and c.ans is None else x[-1]) if x else 0.0
        c.path = c.path + (c.score,)
    return out


def report(name, ans, t, extra=""):
    """Print the accuracy by difficulty."""
    r = {
        d: [ans[p["id"]] == p["answer"] for p in probs if p["difficulty"] == d] for d in sorted(lv)
    }
    print(
        f"{name:32s}",
        " ".join(f"d{d}:{sum(v)/len(v):.3f}" for d, v in r.items() if v),
        f"all:{sum(map(sum, r.values()))/len(probs):.3f}",
        f"({time.time()-t:.0f} s)",
        extra,
        flush=True,
    )


root = {p["id"]: Node(p, tok.encode(PROMPT.format(p["question"]))) for p in probs}
if "beam" in A.methods:
    t = time.time()
    beams = {p["id"]: [root[p["id"]]] for p in probs}
    for rd in range(20):
        act = [n for b in beams.values() for n in b if not n.done]
        if not act:
            break
        first = rd == 0
        new = collections.defaultdict(dict)
        for c in expand(base, act, A.n if first else A.n // A.width):
            new[c.p["id"]].setdefault(c.text, c)
        for i, d in new.items():
            pool = list(d.values()) + [n for n in beams[i] if n.done]
            beams[i] = sorted(pool, key=lambda c: -c.score)[: A.width]
    report(
        f"beam {A.width} of {A.n}",
        {i: max(b, key=lambda c: (c.done, c.score)).ans for i, b in beams.items()},
        t,
    )
if "pf" in A.methods:
    t = time.time()
    parts = {p["id"]: [root[p["id"]]] * A.n for p in probs}
    for rd in range(20):
        act = [n for b in parts.values() for n in b if not n.done]
        if not act:
            break
        it = iter(expand(base, act))
        parts = {i: [n if n.done else next(it) for n in b] for i, b in parts.items()}
        for i, b in parts.items():
            if all(n.done for n in b):
                continue
            w = [n.score + 1e-6 for n in b]
            s = sum(w)
            u = rnd.random()
            c = 0
            j = 0
            res = []
            for n, x in zip(b, w):  # systematic resampling
                c += x / s * len(b)
                while j + u < c and j < len(b):
                    res.append(n)
                    j += 1
            parts[i] = (res + b)[: len(b)]

    def wv(b):
        """Vote of the finished particles, weighted by reward."""
        c = collections.defaultdict(float)
        for n in b:
            if n.ans is not None:
                c[n.ans] += n.score
        return max(c, key=c.get) if c else None

    report(
        f"particle filter {A.n}, best",
        {i: max(b, key=lambda c: c.score).ans for i, b in parts.items()},
        t,
    )
    report(f"particle filter {A.n}, weighted vote", {i: wv(b) for i, b in parts.items()}, t)
if "spec" in A.methods and draft:
    for name, tau in (
        ("draft alone", -1),
        ("speculative, accept > 0.5", 0.5),
        ("speculative, accept > 0.9", 0.9),
        ("base alone", 2),
    ):
        t = time.time()
        cur = [root[p["id"]] for p in probs]
        nd = nb = 0
        for rd in range(20):
            act = [n for n in cur if not n.done]
            if not act:
                break
            cand = expand(draft, act) if tau < 2 else act
            keep = [c.score > tau and tau < 2 for c in cand]
            redo = iter(
                expand(base, [a for a, k in zip(act, keep) if not k]) if not all(keep) else []
            )
            nxt = iter([c if k else next(redo) for c, k in zip(cand, keep)])
            nd += sum(keep)
            nb += len(keep) - sum(keep)
            cur = [n if n.done else next(nxt) for n in cur]
        report(name, {n.p["id"]: n.ans for n in cur}, t, f"steps by draft {nd/(nd+nb):.2f}")
