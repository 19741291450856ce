#!/usr/bin/python3
"""What scoring costs a search, per scored step: tokens that the reward model evaluated, beside those of
lines that are read from their beginning each time.

    recipes/scorer_cost.py [-n PROBLEMS] [-k SAMPLES] PONDER recipes/problems/dev.jsonl
"""
import argparse
import json
import subprocess
import tempfile


def run(*words):
    return subprocess.run(words, check=False, stdout=subprocess.PIPE, encoding="utf-8").stdout


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-n", type=int, default=20)
    p.add_argument("-k", type=int, default=16)
    p.add_argument("ponder")
    p.add_argument("problems")
    a = p.parse_args()
    with open(a.problems, encoding="utf-8") as f:
        problems = [json.loads(line)["id"] for line in f][:a.n]
    for strategy in "beam", "particle_filter":
        passes = evaluated = fresh = 0
        with tempfile.TemporaryDirectory() as data:
            for problem in problems:
                job = json.loads(run(a.ponder, "solve", "-p", problem, "-s", strategy, "-o",
                                     f"samples={a.k}", "--json", "--data-dir", data))
                evaluated += job["usage"]["scored"]
                trace = run(a.ponder, "trace", "export", job["trace"], "--format", "jsonl",
                            "--data-dir", data)
                records = [json.loads(line) for line in trace.splitlines()]
                nodes = {r["id"]: r for r in records if r["type"] == "node"}
                for r in records:
                    if r["type"] == "score":
                        passes += 1
                        fresh += len(r["steps"])  # a tag behind each step
                        node = nodes[r["node"]]
                        while node["finish"] != "prompt":
                            fresh += len(node["tokens"])
                            node = nodes[node["parent"]]
                        fresh += len(node["tokens"])
        print(f"{strategy}: {passes} passes, {evaluated / passes:.1f} tokens each; "
              f"{fresh / passes:.1f} from the beginning")


if __name__ == "__main__":
    main()
