#!/usr/bin/env python3
"""Baselines of the bundled models: single, majority, best-of-n and weighted vote over the problem set.

Runs `ponder solve -s best_of_n` once a problem into a database of its own and computes all four from
the stored trace: the same lines, so the comparison is paired.  usage: baseline.py [--ponder P]
[--limit N] [--samples N] [--seed S].  Prints a Markdown table with 95 % Wilson intervals.
"""
import argparse
import collections
import json
import math
import os
import re
import sqlite3
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BOXED = re.compile(r"\\boxed\{(-?\d+)\}")


def wilson(k, n, z=1.96):
    p, d = k / n, 1 + z * z / n
    mid, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (mid - half) / d, (mid + half) / d


def lines_of(db, job):
    """(answer or None, last step's reward) of every line, in branch order."""
    rows = db.execute(
        "SELECT n.id, n.finish, t.data, s.steps FROM node n JOIN blob t ON t.id = n.text_id"
        " LEFT JOIN score s ON s.job_id = n.job_id AND s.node_id = n.id"
        " WHERE n.job_id = ? AND n.id > 0 ORDER BY n.id", (job,)).fetchall()
    for _, finish, text, steps in rows:
        text = text.decode() if isinstance(text, bytes) else text
        found = BOXED.findall(text)
        rewards = json.loads(steps) if steps else []
        yield (int(found[-1]) if found and finish == "eos" else None), (rewards[-1] if rewards else -1)


def main():
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument("--ponder", default=os.path.join(HERE, "..", "ponder"))
    a.add_argument("--problems", default=os.path.join(HERE, "problems", "dev.jsonl"))
    a.add_argument("--limit", type=int, default=500)
    a.add_argument("--samples", type=int, default=16)
    a.add_argument("--seed", type=int, default=1)
    a = a.parse_args()
    problems = [json.loads(line) for line in open(a.problems)][:a.limit]
    right = collections.Counter()
    tokens = 0
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "PONDER_DATA_DIR": folder}
        for p in problems:
            run = subprocess.run(
                [a.ponder, "solve", "--json", "-s", "best_of_n", "-o", f"samples={a.samples}", "--seed",
                 str(a.seed), "--", p["question"]], env=env, capture_output=True, text=True)
            if run.returncode not in (0, 1, 5) or not run.stdout:
                raise SystemExit(f"{p['id']}: {run.stderr.strip()}")
            out = json.loads(run.stdout)
            tokens += out["usage"]["generated"]
            db = sqlite3.connect(os.path.join(folder, "ponder.db"))
            lines = list(lines_of(db, out["trace"]))
            db.close()
            voters = [(x, r) for x, r in lines if x is not None]
            count, weight = collections.Counter(), collections.Counter()
            for x, r in voters:
                count[x] += 1
                weight[x] += r
            truth = p["answer"]
            right["single (mean of the lines)"] += sum(x == truth for x, _ in lines) / len(lines)
            right[f"pass@{a.samples} (any line right)"] += any(x == truth for x, _ in voters)
            if voters:
                right["majority"] += max(count, key=count.get) == truth
                right["best of n (vote=none)"] += max(voters, key=lambda v: v[1])[0] == truth
                right["weighted vote"] += max(weight, key=weight.get) == truth
    n = len(problems)
    print(f"{n} problems, {a.samples} samples each, seed {a.seed}, {tokens} tokens generated\n")
    print("| rule | accuracy | 95 % interval |\n|---|---|---|")
    for name, k in right.items():
        low, high = wilson(k, n)
        print(f"| {name} | {k / n:.3f} | {low:.3f} to {high:.3f} |")


if __name__ == "__main__":
    main()
