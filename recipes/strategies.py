#!/usr/bin/env python3
"""Every strategy on the bundled problems: accuracy against what it cost.

Runs `ponder solve` once a problem, strategy and scorer, and prints a Markdown table: accuracy with a 95 %
Wilson interval, generated tokens, nodes scored and dependent decode steps a problem, and beside it the
majority vote at equal tokens (of 64 plain lines, as many as the strategy's mean tokens pay for).
usage: strategies.py [--ponder P] [--limit N] [--first N] [--samples N] [--seed S] [--jobs N]
[--scorers tiny-prm,oracle,…] [--only NAME,…]
"""
import argparse
import collections
import concurrent.futures
import json
import os
import sqlite3
import subprocess
import tempfile

from baseline import HERE, lines_of, wilson

LINES = 64  # of the majority vote at equal tokens


def plans(n):
    """name -> (options, needs a scorer); n lines, particles or continuations a round."""
    half = max(n // 2, 1)
    return {
        "single": ([], False),
        "self_consistency": ([f"samples={n}"], False),
        "mbr": ([f"samples={n}", "utility=chrf"], False),
        "first_finish": ([f"samples={n}"], False),
        "short_m_at_k": ([f"samples={n}"], False),
        "adaptive_consistency": ([f"samples={n}"], False),
        "early_stopping_consistency": ([f"samples={n}"], False),
        "best_of_n": ([f"samples={n}"], True),
        "beam": ([f"samples={n}"], True),
        "lookahead": ([f"samples={n}"], True),
        "dvts": ([f"samples={n}"], True),
        "astar": ([], True),
        "particle_filter": ([f"samples={n}"], True),
        "particle_gibbs": ([f"samples={half}", "iterations=2"], True),
        "parallel_tempering": ([f"samples={max(n // 8, 1)}", "iterations=2"], True),
        "mcts": ([f"samples={2 * n}"], True),
        "elastic": (["think=96", "solution=16"], False),
        "spec_reason": ([], True),
        "resample_limit": ([f"samples={n}", "fallback=best"], True),
    }


def solve(a, folder, problem, strategy, options, scorer, threads=1):
    cmd = [a.ponder, "solve", "--json", "-s", strategy, "--seed", str(a.seed), "--threads", str(threads)]
    cmd += [x for o in options for x in ("-o", o)] + (["--scorer", scorer] if scorer else [])
    cmd += ["--no-trace"] if folder is None else ["--data-dir", folder]
    run = subprocess.run(cmd + ["-p", problem["id"]], capture_output=True, text=True)
    if run.returncode not in (0, 1, 5) or not run.stdout:
        raise SystemExit(f"{problem['id']}, {strategy}: {run.stderr.strip()}")
    return json.loads(run.stdout)


def plain_lines(a, problems, pool):
    """Of each problem, (answer, tokens) of LINES plain lines: the majority vote at any cost."""
    def one(p):
        with tempfile.TemporaryDirectory() as folder:
            out = solve(a, folder, p, "self_consistency", [f"samples={LINES}"], None)
            db = sqlite3.connect(os.path.join(folder, "ponder.db"))
            answers = [x for x, _ in lines_of(db, out["trace"])]
            tokens = [t for t, in db.execute(
                "SELECT n_tokens FROM node WHERE job_id = ? AND id > 0 ORDER BY id", (out["trace"],))]
            db.close()
            return list(zip(answers, tokens))
    return list(pool.map(one, problems))


def majority_at(lines, problems, tokens):
    """Accuracy of the vote of the first lines that `tokens` a problem pay for (at least one)."""
    right = 0
    for p, ls in zip(problems, lines):
        votes, spent = collections.Counter(), 0
        for i, (answer, cost) in enumerate(ls):
            if i and spent + cost > tokens:
                break
            spent += cost
            if answer is not None:
                votes[answer] += 1
        right += bool(votes) and max(votes, key=votes.get) == p["answer"]
    return right / len(problems)


def main():
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument("--ponder", default=os.path.join(HERE, "..", "ponder"))
    a.add_argument("--problems", default=os.path.join(HERE, "problems", "dev.jsonl"))
    a.add_argument("--limit", type=int, default=500)
    a.add_argument("--first", type=int, default=0, help="skip this many problems")
    a.add_argument("--samples", type=int, default=16)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--jobs", type=int, default=os.cpu_count())
    a.add_argument("--scorers", default="tiny-prm,oracle,oracle:tpr=0.9,fpr=0.1", help="separated by ,")
    a.add_argument("--only", default="", help="strategies, separated by ,")
    a = a.parse_args()
    scorers = a.scorers.replace(",fpr", ";fpr").split(",")
    with open(a.problems) as f:
        problems = [json.loads(line) for line in f][a.first:a.first + a.limit]
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        lines = plain_lines(a, problems, pool)
        print(f"{len(problems)} problems, N = {a.samples}, seed {a.seed}\n")
        print("| strategy | scorer | accuracy | 95 % interval | majority, equal tokens | tokens | nodes scored |"
              " sequential |\n|---|---|---|---|---|---|---|---|")
        for name, (options, scored) in plans(a.samples).items():
            if a.only and name not in a.only.split(","):
                continue
            for scorer in [s.replace(";", ",") for s in scorers] if scored else [None]:
                outs = list(pool.map(lambda p: solve(a, None, p, name, options, scorer), problems))
                n, right = len(outs), sum(bool(o.get("correct")) for o in outs)
                low, high = wilson(right, n)
                mean = {k: sum(o["usage"][k] for o in outs) / n
                        for k in ("generated", "scorer_passes", "sequential")}
                print(f"| {name} | {scorer or '-'} | {right / n:.3f} | {low:.3f} to {high:.3f} |"
                      f" {majority_at(lines, problems, mean['generated']):.3f} | {mean['generated']:.0f} |"
                      f" {mean['scorer_passes']:.1f} | {mean['sequential']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
