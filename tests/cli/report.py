"""Recomputes every figure of `ponder report --json` from the trace database, by other means.

usage: report.py DATABASE REPORT.json PROBLEMS.jsonl [ideal].  Prints what differs; nothing when all is well.
"""
import collections
import json
import math
import random
import re
import sqlite3
import statistics
import sys

db = sqlite3.connect(sys.argv[1])
report = json.load(open(sys.argv[2]))
truth = {p["id"]: p["answer"] for p in map(json.loads, open(sys.argv[3]))}
BOXED = re.compile(r"\\boxed\{(-?\d+)\}")


def check(what, got, want, within=1e-9):
    if got is None or want is None or isinstance(want, (str, bool)):
        bad = got != want
    else:
        bad = not abs(got - want) <= within
    if bad:
        print(f"{what}: {got}, recomputed {want}")


def wilson(k, n, z=statistics.NormalDist().inv_cdf(0.975)):
    mid, half = k / n + z * z / (2 * n), z * math.sqrt(k / n * (1 - k / n) / n + z * z / (4 * n * n))
    return (mid - half) / (1 + z * z / n), (mid + half) / (1 + z * z / n)


def lines_of(job, problem):
    """(answer or None, right, tokens, rewards, their sum) of the lines of a job of independent ones."""
    for text, finish, tokens, steps, value in db.execute(
            "SELECT t.data, n.finish, n.n_tokens, s.steps, s.value FROM node n JOIN blob t ON t.id = n.text_id"
            " LEFT JOIN score s ON s.job_id = n.job_id AND s.node_id = n.id"
            " WHERE n.job_id = ? AND n.depth = 1 ORDER BY n.id", (job,)):
        text = text.decode() if isinstance(text, bytes) else text
        found = BOXED.findall(text) if finish == "eos" else []
        answer = int(found[-1]) if found else None
        yield answer, answer == truth[problem], tokens, json.loads(steps) if steps else [], value


def vote(lines):
    count = collections.Counter(a for a, *_ in lines if a is not None)
    best = max(count, key=count.get, default=None)  # ties: whose first vote came first
    return next((right for a, right, *_ in lines if a == best and a is not None), False)


def pick(lines, rule):
    """What majority, weighted:HOW or best:HOW make of these lines: (answer, right, ...)."""
    kind, _, how = rule.partition(":")
    reward = {"last": lambda r: r[-1], "min": min, "prod": math.prod, "mean": lambda r: sum(r) / len(r),
              "": lambda r: 1}[how]
    voters = [x for x in lines if x[0] is not None and (x[3] or not how)]
    if kind == "best" or not voters:
        return max(voters, key=lambda x: reward(x[3]), default=(None, False))
    weight = collections.Counter()
    for x in voters:
        weight[x[0]] += reward(x[3])
    best = max(weight, key=weight.get)  # ties: whose first line came first
    return next(x for x in voters if x[0] == best)


def circle(lines, first, k):
    return [lines[(first + i) % len(lines)] for i in range(k)]


def paid(lines, first, tokens):
    spent = k = 0
    while k < len(lines) and (k == 0 or spent + lines[(first + k) % len(lines)][2] <= tokens):
        spent += lines[(first + k) % len(lines)][2]
        k += 1
    return k, k == len(lines) and spent < 0.99 * tokens


def sign_test(b, c):
    """Two-sided p by adding up which of the 2^n outcomes are no likelier than this one."""
    n = b + c
    p = sum(math.comb(n, i) for i in range(n + 1) if math.comb(n, i) <= math.comb(n, b)) / 2 ** n
    return min(p, 1)


def costs(run, of_lines):
    """What report --json calls cost, by variant: (jobs' ids, cost), worked out line by line; and of a prompt, a line."""
    lock = json.loads(db.execute("SELECT lock FROM run WHERE id = ?", (run["run"],)).fetchone()[0])
    shape = {m["name"]: m["shape"] for m in lock["models"]}
    parent = {(j, c): p for j, c, p in db.execute("SELECT job_id, call_id, parent FROM node")}
    total = collections.defaultdict(lambda: collections.Counter())
    for variant, job, seq, op, model, prompt, cached, drawn in db.execute(
            "SELECT variant, job_id, seq, op, c.model, prompt_tokens, cached_tokens, generated_tokens"
            " FROM job j JOIN call c ON c.job_id = j.id WHERE run_id = ? AND j.status = 'done'", (run["run"],)):
        s, flop, own = shape[model], 0, 0
        for before in [*range(cached, prompt), *(prompt + i for i in range(drawn))]:
            # a token behind `before` others: the middle of it, as the paper's integral has it
            flop += 2 * s["weights"] + 4 * s["heads"] * s["head_dim"] * s["layers"] * (before + 0.5)
        own = 4 * s["heads_kv"] * s["head_dim"] * s["layers"] * sum(i + 0.5 for i in range(drawn))
        shared = 4 * s["heads_kv"] * s["head_dim"] * s["layers"] * prompt * drawn
        for what in {variant} | ({"line" if drawn else "prompt"} if variant == of_lines and op != "score" else set()):
            total[what]["flop"] += flop
            total[what]["own"] += own
            if drawn:
                key = "shared", job, parent[job, seq], model
                total[what][key] = max(total[what][key], shared)
    return {what: {"flop": t["flop"], "bytes": t["own"] + sum(v for k, v in t.items() if k[0] == "shared")}
            for what, t in total.items()}


for run in report["runs"]:
    jobs = db.execute("SELECT id, variant, problem_key, repeat, answer, status FROM job WHERE run_id = ?",
                      (run["run"],)).fetchall()
    cost = dict(db.execute("SELECT job_id, generated_tokens FROM v_job_cost WHERE run_id = ?", (run["run"],)))
    check("problems", run["problems"], len({j[2] for j in jobs}))
    check("done", run["done"], sum(j[5] == "done" for j in jobs))
    pools = {(p, r): list(lines_of(j, p)) for j, v, p, r, _, _ in jobs if v == run["lines"]["of"]}
    ps, tests = [], []
    cost_of = costs(run, run["lines"]["of"])
    n_lines_jobs = sum(j[1] == run["lines"]["of"] for j in jobs)
    for key, n in (("line", run["lines"]["n"]), ("prompt", n_lines_jobs)):
        got = run["lines"][key + "_cost"]
        check(key + " flop", got["flop"] / (cost_of[key]["flop"] / n), 1)
        check(key + " bytes", got["bytes"], cost_of[key]["bytes"] / n, 1e-6 * got["bytes"])
    for v in run["variants"]:
        mine = [j for j in jobs if j[1] == v["variant"]]
        right = {(p, r): a is not None and int(a) == truth[p] for _, _, p, r, a, _ in mine}
        name, n, k = v["variant"], len(mine), sum(right.values())
        check(name + " n", v["n"], n)
        check(name + " right", v["right"], k)
        check(name + " answered", v["answered"], sum(j[4] is not None for j in mine))
        check(name + " accuracy", v["accuracy"], k / n)
        check(name + " low", v["interval"][0], max(wilson(k, n)[0], 0))
        check(name + " high", v["interval"][1], min(wilson(k, n)[1], 1))
        tokens = sum(cost[j[0]] for j in mine) / n
        check(name + " tokens", v["tokens"], tokens)
        for key in ("flop", "bytes"):
            check(f"{name} {key}", v["cost"][key] / (cost_of[name][key] / n), 1)
        check(name + " eflop", v["cost"]["eflop"] / (v["cost"]["flop"] + 562.5 * v["cost"]["bytes"]), 1)
        check(name + " in a row", v["sequential"], db.execute(
            "SELECT avg(sequential) FROM job WHERE run_id = ? AND variant = ?", (run["run"], name)).fetchone()[0])
        if len(sys.argv) > 4:  # every token of a prompt takes a millisecond, a step of N lines N + 1
            fed, scored = db.execute("SELECT sum(prefilled_tokens), sum(scored_tokens) FROM v_job_cost c JOIN job j"
                                     " ON j.id = c.job_id WHERE j.run_id = ? AND variant = ?",
                                     (run["run"], name)).fetchone()
            together = tokens / v["sequential"]
            step = (math.ceil(together) + 1) / math.ceil(together) * together
            check(name + " ideal seconds", v["cost"]["ideal_seconds"],
                  ((fed + scored) / n + (v["sequential"] - 1) * step) / 1000)
        row = db.execute("SELECT jobs, correct, generated_tokens FROM v_scaling WHERE run_id = ? AND variant = ?",
                         (run["run"], name)).fetchone()
        check(name + " in v_scaling", row[0] + row[1] + row[2], n + k + tokens)
        b, rate, drawn = v["majority_at_equal_cost"], {}, []
        only = [0, 0]
        for key, is_right in right.items():
            pool = pools[key]
            ways = [paid(pool, f, tokens) for f in range(len(pool))]
            drawn += ways
            rate[key] = sum(vote(circle(pool, f, w[0])) for f, w in enumerate(ways)) / len(pool)
            first = vote(circle(pool, 0, ways[0][0]))
            only[0] += is_right and not first
            only[1] += first and not is_right
        check(name + " majority", b["accuracy"], sum(rate.values()) / n)
        check(name + " lines", b["lines"], sum(w[0] for w in drawn) / len(drawn))
        check(name + " only it", b["only_it"], only[0])
        check(name + " only majority", b["only_majority"], only[1])
        check(name + " p", b["p"], sign_test(*only))
        if not v["added"]:
            ps.append(b["p"])
            tests.append(b)
        problems = sorted({p for p, _ in right})
        d = [statistics.mean(right[k] - rate[k] for k in right if k[0] == p) for p in problems]
        check(name + " difference", b["difference"], statistics.mean(d))
        random.seed(1)
        means = sorted(statistics.mean(random.choices(d, k=len(d))) for _ in range(10000))
        check(name + " bootstrap low", b["difference_interval"][0], means[250], 0.06)
        check(name + " bootstrap high", b["difference_interval"][1], means[9749], 0.06)
    most = 0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        most = max(most, min(ps[i] * (len(ps) - rank), 1))
        check("Holm", tests[i]["p_holm"], most)
    every = [x for pool in pools.values() for x in pool]
    check("lines", run["lines"]["n"], len(every))
    check("lines right", run["lines"]["right"], sum(x[1] for x in every))
    for point in run["lines"]["pass_at_k"]:
        k, share = int(point["k"]), []
        for p in {p for p, _ in pools}:
            of = [x[1] for key, pool in pools.items() if key[0] == p for x in pool]
            share.append(1 - math.comb(len(of) - sum(of), k) / math.comb(len(of), k))
        check(f"pass@{k}", point["value"], statistics.mean(share))
    for point in run["lines"]["majority"]:
        k = int(point["k"])
        check(f"majority of {k}", point["value"], statistics.mean(
            statistics.mean(vote(circle(pool, f, k)) for f in range(len(pool))) for pool in pools.values()))
    for rule in run["lines"]["rules"]:
        k = int(rule["k"])
        check(f"{rule['rule']} of {k}", rule["accuracy"], statistics.mean(
            statistics.mean(bool(pick(circle(pool, f, k), rule["rule"])[1]) for f in range(len(pool)))
            for pool in pools.values()))
        better = [x["accuracy"] for x in run["lines"]["rules"] if x["tokens"] < rule["tokens"]]
        same = [x for x in run["lines"]["rules"] if x["tokens"] == rule["tokens"]]
        first = max(same, key=lambda x: x["accuracy"])
        check("best", rule["best"], rule is first and rule["accuracy"] > max(better, default=-1))
    # Jobs of one strategy have the same lines: their answers are what these rules say they are.
    for _, v, p, r, answer, _ in jobs:
        name, _, option = v.partition(" vote=")
        if name.startswith(("bon@", "votes")):
            rule = {"": "weighted:last", "none": "best:last", "majority": "majority"}[option]
            k = int(name.partition("@")[2] or 4)
            check(f"{v} on {p}", None if answer is None else int(answer), pick(pools[p, r][:k], rule)[0])
    ended = [x for x in every if x[0] is not None]
    check("lines with a length", sum(x["n"] for x in run["lines"]["lengths"]), len(ended))
    for x in run["lines"]["lengths"]:
        inside = [e for e in ended if x["low"] <= e[2] <= x["high"]]
        check("length n", x["n"], len(inside))
        check("length right", x["right"], sum(e[1] for e in inside))
        check("length tokens", x["tokens"], statistics.mean(e[2] for e in inside))
    scored = [(x[4], x[1]) for x in ended if x[4] is not None]
    check("Brier", run["lines"]["brier"], statistics.mean((value - right) ** 2 for value, right in scored))
    off = 0
    for b in run["lines"]["rewards"]:
        inside = [x for x in scored if b["low"] <= x[0] < b["high"] or x[0] == b["high"] == 1]
        check("reward n", b["n"], len(inside))
        check("reward right", b["right"], sum(x[1] for x in inside))
        check("reward", b["reward"], statistics.mean(x[0] for x in inside))
        off += abs(sum(x[0] for x in inside) - sum(x[1] for x in inside)) / len(scored)
    check("rewards in bins", sum(b["n"] for b in run["lines"]["rewards"]), len(scored))
    check("calibration error", run["lines"]["calibration_error"], off)
    # Fifths of the problems by their plain lines, and the best variant of each by the other half of the problems.
    share = {p: statistics.mean(x[1] for key, pool in pools.items() if key[0] == p for x in pool)
             for p, _ in pools}
    ordered = sorted(share.values())
    edges = [ordered[math.floor(at)] + (at % 1) * (ordered[math.ceil(at)] - ordered[math.floor(at)])
             for at in ((len(ordered) - 1) * q / 5 for q in (4, 3, 2, 1))]
    bin_of = {p: sum(x < e - 1e-12 for e in edges) for p, x in share.items()}
    parity = {p: i % 2 for i, p in enumerate(sorted(share))}
    for i, b in enumerate(run["difficulty"]):
        check("problems of a bin", b["problems"], sum(x == i for x in bin_of.values()))
        for v in b["variants"]:
            inside = [j for j in jobs if j[1] == v["variant"] and bin_of[j[2]] == i]
            check("bin n", v["n"], len(inside))
            check("bin right", v["right"], sum(j[4] is not None and int(j[4]) == truth[j[2]] for j in inside))

    def outcome(variant, half, in_bin=None):
        of = [j for j in jobs if j[1] == variant and parity[j[2]] == half and in_bin in (None, bin_of[j[2]])]
        return [(j[4] is not None and int(j[4]) == truth[j[2]], cost[j[0]]) for j in of]

    for c in run["choices"]:
        among = [v["variant"] for v in run["variants"] if v["samples"] == c["samples"] and not v["added"]]
        check("choice of", c["variants"], len(among))
        chosen, same = [], []
        for half in (0, 1):
            def best(in_bin):
                of = [(v, outcome(v, half, in_bin)) for v in among]
                of = [(-statistics.mean(x[0] for x in o), statistics.mean(x[1] for x in o), i, v)
                      for i, (v, o) in enumerate(of) if o]
                return min(of)[3] if of else None
            for in_bin in range(5):
                chosen += outcome(best(in_bin) or best(None), 1 - half, in_bin)
                same += outcome(best(None), 1 - half, in_bin)
        check("chosen", c["accuracy"], statistics.mean(x[0] for x in chosen))
        check("chosen tokens", c["tokens"], statistics.mean(x[1] for x in chosen))
        check("one for all", c["one_for_all_accuracy"], statistics.mean(x[0] for x in same))
        check("one for all tokens", c["one_for_all_tokens"], statistics.mean(x[1] for x in same))
    if "choices" in run and not run["choices"]:
        print("no choices")
    for key, right in (("rewards_right", True), ("rewards_wrong", False)):
        for step in run["lines"][key]:
            values = sorted(e[3][step["step"] - 1] for e in ended if e[1] == right and len(e[3]) >= step["step"])
            check(key + " n", step["n"], len(values))
            for q, got in zip((.1, .25, .5, .75, .9), step["quantiles"]):
                at = q * (len(values) - 1)
                low, high = values[math.floor(at)], values[math.ceil(at)]
                check(key, got, low + (at - math.floor(at)) * (high - low))
        depth = max((len(e[3]) for e in ended if e[1] == right), default=0)
        check(key + " depth", len(run["lines"][key]), depth)
