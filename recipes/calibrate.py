#!/usr/bin/env python3
"""The table of compute_optimal, from a run in the trace database.

Problems are sorted into bins by their predicted difficulty: the mean reward of the first lines of one variant
(best_of_n: plain lines that were scored). For each bin and N the variant of greatest accuracy is chosen, ties to
the cheaper one. Prints what that would have come to, chosen on one half of the problems and measured on the other,
both ways, and then the table of all problems, for `-o table=…` or a recipe.
usage: calibrate.py RUN [--data-dir DIR] [--probes VARIANT] [--n0 N] [--bins N] [--except REGEX]
"""
import argparse
import collections
import json
import os
import re
import sqlite3

from baseline import wilson

COMMON = {"temperature", "top_p", "min_p", "top_k", "max_tokens", "max_step_tokens", "max_steps", "repeat_guard",
          "presence_penalty", "frequency_penalty", "top_logprobs"}


def database(folder):
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    folder = folder or os.environ.get("PONDER_DATA_DIR") or os.path.join(state, "ponder")
    return sqlite3.connect(f"file:{os.path.join(folder, 'ponder.db')}?mode=ro", uri=True)


def call(strategy, options):
    """strategy(key=value,…) with what is its own."""
    def text(v):
        v = str(v).lower() if isinstance(v, bool) else str(v)
        return f"({v})" if re.search("[,;=@ ]", v) else v
    own = [f"{k}={text(v)}" for k, v in json.loads(options).items() if k not in COMMON and v != ""]
    return f"{strategy}({','.join(own)})" if own else strategy


def load(db, run, leave_out):
    """variant -> (N, call), and variant -> problem -> (right, tokens)."""
    what, came = {}, collections.defaultdict(dict)
    for variant, strategy, options, problem, right, tokens in db.execute(
            "SELECT j.variant, j.strategy, j.options, j.problem_key, j.correct, sum(c.generated_tokens)"
            " FROM job j JOIN call c ON c.job_id = j.id WHERE j.run_id = ? AND j.status = 'done'"
            " GROUP BY j.id", (run,)):
        if leave_out and re.search(leave_out, variant):
            continue
        what[variant] = int(variant.rpartition("@")[2]) if "@" in variant else 1, call(strategy, options)
        came[variant][problem] = right == 1, tokens
    return what, came


def rewards(db, run, variant, n0):
    """problem -> mean of the last rewards of its first n0 lines."""
    of = {}
    for job, problem in db.execute("SELECT id, problem_key FROM job WHERE run_id = ? AND variant = ?"
                                   " AND status = 'done'", (run, variant)):
        last = [r for r, in db.execute(
            "SELECT s.value FROM score s JOIN node n ON n.job_id = s.job_id AND n.id = s.node_id"
            " WHERE s.job_id = ? AND n.id <= ? AND n.status = 'finished'", (job, n0))]
        of[problem] = sum(last) / len(last) if last else 0.0
    return of


def edges_of(values, bins):
    """Falling; so many problems in each bin."""
    v = sorted(values, reverse=True)
    return [(v[len(v) * k // bins - 1] + v[len(v) * k // bins]) / 2 for k in range(1, bins)]


def bin_of(value, edges):
    return 1 + sum(value < e for e in edges)


def best(problems, difficulty, edges, what, came):
    """(bin, N) -> (variant, accuracy, tokens)"""
    cells = {}
    for b in range(1, len(edges) + 2):
        mine = [p for p in problems if bin_of(difficulty[p], edges) == b]
        for v, (n, _) in what.items():
            done = [came[v][p] for p in mine if p in came[v]]
            if not mine or len(done) < len(mine):
                continue
            accuracy, tokens = sum(r for r, _ in done) / len(done), sum(t for _, t in done) / len(done)
            if (b, n) not in cells or (accuracy, -tokens) > (cells[b, n][1], -cells[b, n][2]):
                cells[b, n] = v, accuracy, tokens
    return cells


def held_out(problems, difficulty, bins, what, came, most):
    """Chosen on one half, measured on the other: (right, tokens, predicted) of each problem."""
    out = []
    for half in (0, 1):
        train, test = problems[half::2], problems[1 - half::2]
        edges = edges_of([difficulty[p] for p in train], bins)
        cells = best(train, difficulty, edges, what, came)
        for p in test:
            mine = [(n, c) for (b, n), c in cells.items() if b == bin_of(difficulty[p], edges) and n <= most]
            if mine and p in came[max(mine)[1][0]]:
                variant, accuracy, _ = max(mine)[1]
                out.append((*came[variant][p], accuracy))
    return out


def main():
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument("run", help="folder of the run")
    a.add_argument("--data-dir")
    a.add_argument("--probes", default="best_of_n@4")
    a.add_argument("--n0", type=int, default=4)
    a.add_argument("--bins", type=int, default=5)
    a.add_argument("--except", dest="leave_out", default="-oracle|-blurred", help="variants that are not chosen")
    a = a.parse_args()
    with open(os.path.join(a.run, "lock.json")) as f:
        run = json.load(f)["run"]
    db = database(a.data_dir)
    difficulty = rewards(db, run, a.probes, a.n0)
    what, came = load(db, run, a.leave_out)
    problems = sorted(difficulty)
    if len(problems) < 2 * a.bins:
        raise SystemExit(f"{len(problems)} problems with {a.probes} are too few for {a.bins} bins")
    print(f"{len(problems)} problems, {a.bins} bins by the rewards of {a.n0} lines of {a.probes}\n")
    print("| N | predicted | came | 95 % interval | tokens | best_of_n | self_consistency |\n|---|---|---|---|---|---|---|")
    for n in sorted({n for n, _ in what.values()}):
        got = held_out(problems, difficulty, a.bins, what, came, n)
        k, m = sum(r for r, _, _ in got), len(got)
        if not m:
            continue
        fixed = [came.get(f"{s}@{n}", {}) for s in ("best_of_n", "self_consistency")]
        fixed = [f"{sum(r for r, _ in c.values()) / len(c):.3f}" if c else "-" for c in fixed]
        print(f"| {n} | {sum(x for _, _, x in got) / m:.3f} | {k / m:.3f} | {wilson(k, m)[0]:.3f} to"
              f" {wilson(k, m)[1]:.3f} | {sum(t for _, t, _ in got) / m:.0f} | {' | '.join(fixed)} |")
    edges = edges_of([difficulty[p] for p in problems], a.bins)
    cells = best(problems, difficulty, edges, what, came)
    print("\n" + ";".join([",".join(f"{e:.4g}" for e in edges)] + [
        f"{b}@{n},{what[v][1]},{accuracy:.3f},{tokens:.0f}" for (b, n), (v, accuracy, tokens) in sorted(cells.items())]))


if __name__ == "__main__":
    main()
