"""Sample models on training problems, for the training of a PRM; goes on where OUT ends.

One problem a line: question, answer, equations, samples as [steps, answer], and, as `reach`, for
every step of the first sample the share of continuations from there that end right (Monte Carlo).
collect.py OUT base.pt draft.pt --problems 4000
"""
import argparse
import json
import os
import random

import runtime

from bpe import Tokenizer
from model import CONTEXT, Model
from problems import LEVELS, make_problem
from sample import generate
from traces import parse_answer, parse_trace, prompt


def reachability(net, tok, problems, n, temp, seed):
    """For the first sample of each problem: P(right) after each step, from n continuations."""
    where, prompts = [], []
    for p in problems:
        p["reach"] = []
        for k in range(1, len(p["samples"][0][0]) + 1):
            ids = tok.encode(prompt(p["question"]))
            ids += tok.encode("\n\n".join(p["samples"][0][0][:k]) + "\n\n")
            if len(ids) < CONTEXT - 32:
                where.append(p)
                prompts.append(ids)
    for p, outs in zip(where, generate(net, tok, prompts, n, temp, seed=seed)):
        right = sum(parse_answer(tok.decode(o)) == p["answer"] for o in outs)
        p["reach"].append(round(right / n, 3))


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("out")
    ap.add_argument("models", nargs="+")
    ap.add_argument("--tok", default=runtime.TOKENIZER)
    ap.add_argument("--problems", type=int, default=4000)
    ap.add_argument("--n", type=int, default=8, help="samples of each problem and model")
    ap.add_argument("--levels", default="2,3,3,3", help="weights of the difficulties")
    ap.add_argument("--temps", type=float, nargs="+", default=[0.8, 1.0])
    ap.add_argument("--rollouts", type=int, default=0, help="continuations for `reach`; 0: none")
    ap.add_argument("--seed", type=int, default=2000)
    ap.add_argument("--device", default="cpu")
    ap.add_argument("--threads", type=int, default=1)
    a = ap.parse_args()
    runtime.threads(a.threads)
    tok = Tokenizer.load(a.tok)
    weights = [float(x) for x in a.levels.split(",")]
    nets = [Model.load(m, a.device) for m in a.models]
    size = 64
    done = sum(1 for _ in open(a.out)) // size if os.path.exists(a.out) else 0
    if done:  # an interrupted chunk is made again
        with open(a.out) as f:
            lines = f.readlines()[: done * size]
        with open(a.out + ".tmp", "w") as f:
            f.writelines(lines)
        os.replace(a.out + ".tmp", a.out)
    for i in range(done, -(-a.problems // size)):
        r = random.Random(f"{a.seed} {i}")
        rows, ids = [], []
        for _ in range(size):
            p = make_problem(r, r.choices(LEVELS, weights)[0])
            equations = [s.equation() for s in p.steps]
            rows.append(
                dict(
                    question=p.text, answer=p.answer, level=p.level, equations=equations, samples=[]
                )
            )
            ids.append(tok.encode(prompt(p.text)))
        for net in nets:
            seed, temp = r.randrange(1 << 30), r.choice(a.temps)
            for row, outs in zip(rows, generate(net, tok, ids, a.n, temp, seed=seed)):
                row["samples"] += [parse_trace(tok.decode(o)) for o in outs]
        if a.rollouts:
            reachability(nets[0], tok, rows, a.rollouts, 0.8, r.randrange(1 << 30))
        with open(a.out, "a") as f:
            f.writelines(json.dumps(row) + "\n" for row in rows)
        right = [ans == row["answer"] for row in rows for _, ans in row["samples"]]
        print(json.dumps(dict(problems=(i + 1) * size, right=sum(right) / len(right))), flush=True)


if __name__ == "__main__":
    main()
