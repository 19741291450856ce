"""Sample a problem set with a model and measure what the strategies will find.

Prints a Markdown table of figures with 95 % intervals (bootstrap over the problems), for all
problems and for each difficulty. evaluate.py SET base.pt --prm prm.pt --n 32
"""
import argparse
import collections
import json
import math
import random
import time

import runtime

import traces
from bpe import Tokenizer
from model import Model
from sample import generate, read, rewards
from traces import EQ, parse_answer, parse_trace, prompt


def interval(values, r, n=1000):
    """Mean of the values that are there, and its 95 % bootstrap interval."""
    v = [x for x in values if x is not None]
    if not v:
        return None
    means = sorted(sum(r.choices(v, k=len(v))) / len(v) for _ in range(n))
    return sum(v) / len(v), means[n * 25 // 1000], means[n * 975 // 1000 - 1]


def auc(pairs):
    """Area under the ROC curve of (score, label) pairs, ties half; None without both labels."""
    pairs = sorted(pairs)
    P = sum(label for _, label in pairs)
    N = len(pairs) - P
    if not P or not N:
        return None
    ranks = i = 0
    while i < len(pairs):
        j = i
        while j < len(pairs) and pairs[j][0] == pairs[i][0]:
            j += 1
        ranks += (i + j + 1) / 2 * sum(label for _, label in pairs[i:j])
        i = j
    return (ranks - P * (P + 1) / 2) / (P * N)


def vote(samples, r, weight=lambda s: 1.0):
    """The answer with the most weight."""
    c = collections.defaultdict(float)
    for s in samples:
        if s["ans"] is not None:
            c[s["ans"]] += weight(s)
    return r.choice([x for x, v in c.items() if v == max(c.values())]) if c else None


def last(s):
    return s["rewards"][-1] if s["ans"] is not None else 0.0


def weakest(s):
    return min(s["rewards"]) if s["ans"] is not None else 0.0


def choose(p, k, r, pick):
    """How often pick(k of the samples) is the answer, over some draws of k."""
    draws = 1 if k == len(p["s"]) else 8
    return sum(pick(r.sample(p["s"], k)) == p["answer"] for _ in range(draws)) / draws


def thirds(p):
    """Accuracy of the shortest third less that of the longest."""
    s = sorted(p["s"], key=lambda s: s["len"])
    k = max(1, len(s) // 3)
    return (sum(x["ok"] for x in s[:k]) - sum(x["ok"] for x in s[-k:])) / k


def first_wrong(s):
    """Whether the first wrong step is named exactly (or rightly none); on track is the label."""
    true = s["labels"].index(False) if False in s["labels"] else None
    told = next((i for i, x in enumerate(s["rewards"]) if x < 0.5), None)
    return true == told


def figures(problems, n, has_prm, r):
    """Name -> list of one value (or None) per problem."""
    ks = [k for k in (1, 4, 8, 16, 32, 64) if k <= n]
    f = {}
    f["greedy"] = [float(p["greedy"]) for p in problems]
    for k in ks:
        f[f"pass@{k}" if k > 1 else "single"] = [
            1 - math.comb(n - sum(s["ok"] for s in p["s"]), k) / math.comb(n, k) for p in problems
        ]
    for k in ks[1:]:
        f[f"majority@{k}"] = [choose(p, k, r, lambda ss: vote(ss, r)) for p in problems]
    for k in ks[1:] if has_prm else ():
        for name, pick in (
            ("best-of (last)", lambda ss: max(ss, key=last)["ans"]),
            ("best-of (min)", lambda ss: max(ss, key=weakest)["ans"]),
            ("weighted vote (last)", lambda ss: vote(ss, r, last)),
            ("weighted vote (min)", lambda ss: vote(ss, r, weakest)),
        ):
            f[f"{name}@{k}"] = [choose(p, k, r, pick) for p in problems]
    k = ks[-1]
    f[f"first finish@{k}"] = [
        choose(p, k, r, lambda ss: min(ss, key=lambda s: s["len"])["ans"]) for p in problems
    ]
    f["shortest third - longest"] = [thirds(p) for p in problems]
    f["arithmetic right"] = [p["arithmetic"] for p in problems]
    for name in ("judge agrees", "restart agrees"):
        f[name] = [p[name] for p in problems]
    f["restart AUC within"] = [auc([(s["stay"], s["ok"]) for s in p["s"]]) for p in problems]
    if has_prm:
        f["PRM AUC within (last)"] = [auc([(last(s), s["ok"]) for s in p["s"]]) for p in problems]
        f["PRM AUC within (min)"] = [auc([(weakest(s), s["ok"]) for s in p["s"]]) for p in problems]
        f["first wrong step found"] = [
            mean(first_wrong(s) for s in p["s"] if False in s["labels"]) for p in problems
        ]
        f["right traces passed"] = [
            mean(first_wrong(s) for s in p["s"] if False not in s["labels"]) for p in problems
        ]
    return f


def mean(xs):
    xs = list(xs)
    return sum(xs) / len(xs) if xs else None


def arithmetic(samples):
    """Share of equations whose result follows from their numbers."""
    ok = []
    for s in samples:
        for step in s["steps"]:
            for a, op, b, c in EQ.findall(step):
                try:
                    ok.append(traces.compute(op, int(a), int(b)) == int(c))
                except traces.Bad:
                    ok.append(False)
    return mean(ok)


def ask(net, tok, problems, r):
    """The two questions: the grade of a random step of every fourth sample, and whether to start
    over behind every finished one."""
    docs, keep = [], []
    for p in problems:
        for s in p["s"][::4]:
            if s["steps"]:
                k = r.randrange(len(s["steps"]))
                true = traces.grade(p["truth"], s["steps"], k) >= 7
                d = traces.asked(tok, p["question"], s["steps"][: k + 1], None, traces.GRADE, "")
                if len(d.ids) <= len(net.c):
                    docs.append(d.ids)
                    keep.append((p, true))
    digits = [tok.id[str(i)] for i in range(10)]
    got = collections.defaultdict(list)
    for (p, true), probs in zip(keep, read(net, tok, docs, digits)):
        got[p["id"]].append((probs.index(max(probs)) >= 7) == true)
    for p in problems:
        p["judge agrees"] = mean(got[p["id"]])
    docs, keep = [], []
    for p in problems:
        for s in p["s"]:
            s["stay"] = 0.0
            d = traces.asked(tok, p["question"], s["steps"], s["ans"], traces.RESTART, "")
            if s["ans"] is not None and len(d.ids) <= len(net.c):
                docs.append(d.ids)
                keep.append(s)
    for s, (yes, no) in zip(keep, read(net, tok, docs, [tok.id["Y"], tok.id["N"]])):
        s["stay"] = no
    for p in problems:
        p["restart agrees"] = mean((s["stay"] > 0.5) == s["ok"] for s in p["s"])


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("set", help="problems as make_sets.py writes them")
    ap.add_argument("model")
    ap.add_argument("--prm")
    ap.add_argument("--tok", default=runtime.TOKENIZER)
    ap.add_argument("--n", type=int, default=32)
    ap.add_argument("--temp", type=float, default=0.8)
    ap.add_argument("--max", type=int, default=10**9, help="only the first problems")
    ap.add_argument("--json", help="write the figures there, too")
    ap.add_argument("--device", default="cpu")
    ap.add_argument("--threads", type=int, default=1)
    a = ap.parse_args()
    runtime.threads(a.threads)
    r = random.Random(0)
    tok = Tokenizer.load(a.tok)
    net = Model.load(a.model, a.device)
    problems = [json.loads(line) for line in open(a.set)][: a.max]
    ids = [tok.encode(prompt(p["question"])) for p in problems]
    start = time.process_time()
    drawn = generate(net, tok, ids, a.n, a.temp, seed=11)
    cpu = time.process_time() - start
    n_tokens = sum(len(o) for outs in drawn for o in outs)
    for p, outs, (top,) in zip(problems, drawn, generate(net, tok, ids, 1, 0)):
        p["truth"] = traces.truths(p["equations"])
        p["greedy"] = parse_answer(tok.decode(top)) == p["answer"]
        p["s"] = []
        for o in outs:
            steps, ans = parse_trace(tok.decode(o))
            labels = traces.label_steps(p["truth"], steps) + [ans == p["answer"]]
            p["s"].append(
                dict(len=len(o), steps=steps, ans=ans, ok=ans == p["answer"], labels=labels)
            )
        p["arithmetic"] = arithmetic(p["s"])
    ask(net, tok, problems, r)
    if a.prm:
        prm = Model.load(a.prm, a.device)
        flat = [(p, s) for p in problems for s in p["s"]]
        got = rewards(prm, tok, [(p["question"], s["steps"], s["ans"]) for p, s in flat])
        for (_, s), x in zip(flat, got):
            s["rewards"] = x or [0.0]
    levels = sorted({p["difficulty"] for p in problems})
    table = {"all": figures(problems, a.n, bool(a.prm), r)}
    for lv in levels:
        table[f"d{lv}"] = figures(
            [p for p in problems if p["difficulty"] == lv], a.n, bool(a.prm), r
        )
    out = {g: {k: interval(v, r) for k, v in f.items()} for g, f in table.items()}
    if a.prm:  # of ProcessBench: the harmonic mean of the two
        for f in out.values():
            x, y = f["first wrong step found"], f["right traces passed"]
            f["first wrong step F1"] = x and y and [2 * x[0] * y[0] / (x[0] + y[0] or 1)]
    print(
        f"{len(problems)} problems, {a.n} samples at T = {a.temp}; mean length {n_tokens / len(problems) / a.n:.0f},"
    )
    print(f"{n_tokens / cpu:.0f} tokens per CPU second\n")
    print(
        "| | all | "
        + " | ".join(f"d{lv}" for lv in levels)
        + " |\n|---|"
        + "---|" * (1 + len(levels))
    )
    for name in out["all"]:
        cells = []
        for g in out:
            x = out[g][name]
            cells.append(
                ""
                if not x
                else f"{x[0]:.3f}" + (f" ({x[1]:.3f}–{x[2]:.3f})" if g == "all" and x[1:] else "")
            )
        print(f"| {name} | " + " | ".join(cells) + " |")
    if a.json:
        with open(a.json, "w") as f:
            json.dump(out, f, indent=1)


if __name__ == "__main__":
    main()
