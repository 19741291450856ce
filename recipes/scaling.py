#!/usr/bin/env python3
"""Simulates step searches over many engines elsewhere, see docs/scaling.md: jobs of `--branches` lines go on step by
step, each step a request, and wait at the end of a step for the slowest of their lines. An endpoint decodes all of its
requests in one batch; a step of the batch takes longer the larger it is, and a prompt that is not in the endpoint's
prefix cache is evaluated first. What the one ponder in front has to do follows from the measured CPU time for 1,000
tokens.

usage: scaling.py [--jobs N] [--branches N] [--endpoints N] [--cores N] [--cpu-ms MS] ..."""
import argparse
import heapq
import random

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--jobs", type=int, default=625)
p.add_argument("--branches", type=int, default=16, help="of a job")
p.add_argument("--endpoints", type=int, default=64)
p.add_argument("--steps", type=int, default=8, help="of a line, on average")
p.add_argument("--step-tokens", type=int, default=40, help="on average")
p.add_argument("--prompt", type=int, default=300, help="tokens")
p.add_argument("--token-ms", type=float, default=12.0, help="a decode step of a small batch")
p.add_argument("--batch-ms", type=float, default=0.04, help="more for each request in the batch")
p.add_argument("--prefill", type=float, default=20000.0, help="tokens a second, of an endpoint")
p.add_argument("--cpu-ms", type=float, default=52.0, help="of ponder, for 1,000 tokens")
p.add_argument("--cores", type=float, default=1.0, help="that its HTTP thread can use")
p.add_argument("--seed", type=int, default=1)


def run(a, sticky):
    rng = random.Random(a.seed)
    load = [0] * a.endpoints  # requests in the batch
    prefill_free = [0.0] * a.endpoints  # when its queue of prompts is empty
    cached = [dict() for _ in range(a.endpoints)]  # job: tokens of its line that are there
    steps = [max(1, int(rng.gauss(a.steps, a.steps / 4))) for _ in range(a.jobs)]
    length = [a.prompt] * a.jobs
    waiting = [0] * a.jobs
    began = [0.0] * a.jobs
    tokens = evaluated = requests = 0
    most = busy = idle = 0.0
    in_flight = 0
    events = []  # (time, job, endpoint, duration)

    def issue(now, job):
        nonlocal tokens, evaluated, requests, in_flight, most
        home = job % a.endpoints
        ends = []
        for _ in range(a.branches):
            end = home if sticky else min(rng.sample(range(a.endpoints), 2), key=load.__getitem__)
            n = max(1, int(rng.expovariate(1 / a.step_tokens)))
            missing = length[job] - cached[end].get(job, 0)
            cached[end][job] = length[job]
            start = max(now, prefill_free[end]) if missing > 16 else now
            if missing > 16:
                prefill_free[end] = start = start + missing / a.prefill
            load[end] += 1
            duration = n * (a.token_ms + a.batch_ms * load[end]) / 1000
            ends.append(start + duration)
            heapq.heappush(events, (start + duration, job, end))
            tokens += n
            evaluated += max(missing, 0)
            requests += 1
            in_flight += 1
        most = max(most, in_flight)
        waiting[job] = a.branches
        began[job] = now
        return sum(max(ends) - e for e in ends), sum(e - now for e in ends)

    for job in range(a.jobs):
        lost, used = issue(rng.random() * 0.5, job)
        idle, busy = idle + lost, busy + used
    now = 0.0
    while events:
        now, job, end = heapq.heappop(events)
        load[end] -= 1
        in_flight -= 1
        waiting[job] -= 1
        if waiting[job]:
            continue
        length[job] += a.step_tokens
        steps[job] -= 1
        if steps[job]:
            lost, used = issue(now, job)
            idle, busy = idle + lost, busy + used
    cores = tokens / now * a.cpu_ms / 1e6
    return {"seconds": now, "tokens/s": tokens / now, "requests/s": requests / now, "in flight at most": most,
            "prompt tokens evaluated, of each drawn": evaluated / tokens,
            "share of time at a step's barrier": idle / (idle + busy), "cores of ponder": cores,
            "seconds when ponder is the bound": max(now, now * cores / a.cores)}


def main():
    a = p.parse_args()
    print(f"{a.jobs * a.branches} branches, {a.endpoints} endpoints")
    spread, sticky = run(a, False), run(a, True)
    print(f"{'':42}{'least loaded':>14}{'by prefix':>14}")
    for key, value in spread.items():
        print(f"{key:42}{value:14,.2f}{sticky[key]:14,.2f}")


main()
