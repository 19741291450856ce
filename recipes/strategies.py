#!/usr/bin/env python3
"""Every strategy on the bundled problems: accuracy against what it cost.

Runs recipes/results/strategies.json (what an earlier call with the same --out has done is not done again) and prints
a Markdown table: accuracy with a 95 % Wilson interval, the majority vote at equal tokens, generated tokens, nodes
scored and dependent decode steps a problem.
usage: strategies.py --out DIR [--ponder P] [--data-dir DIR] [--limit N] [--only NAME,…] [--table]
"""
import argparse
import collections
import csv
import io
import json
import os
import subprocess

from baseline import HERE

RECIPE = os.path.join(HERE, "results", "strategies.json")
SCORERS = {"": "-", "tiny-prm": "tiny-prm", "oracle": "oracle", "oracle:tpr=0.9,fpr=0.1": "oracle 90/10"}


def main():
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument("--out", required=True, help="folder of the run")
    a.add_argument("--ponder", default=os.path.join(HERE, "..", "ponder"))
    a.add_argument("--data-dir")
    a.add_argument("--limit", type=int, default=100, help="the first so many problems")
    a.add_argument("--only", default="", help="strategies of the recipe, or variants as beam@16, separated by ,")
    a.add_argument("--table", action="store_true", help="run nothing: the table of what is there")
    a = a.parse_args()
    where = ["--data-dir", a.data_dir] if a.data_dir else []
    for only in [] if a.table else a.only.split(","):
        cmd = [a.ponder, "run", RECIPE, "--out", a.out, "--limit", str(a.limit), "--concurrency", "8"] + where
        subprocess.run(cmd + (["--only", only] if only else []), check=True)
    with open(os.path.join(a.out, "results.jsonl")) as f:
        done = [j for j in map(json.loads, f) if j["status"] == "done"]
    passes = collections.defaultdict(list)
    for j in done:
        passes[j["variant"]].append(j["usage"]["scorer_passes"])
    report = subprocess.run([a.ponder, "report", a.out, "--format", "csv"] + where, check=True,
                            capture_output=True, text=True).stdout
    print("| strategy | scorer | n | accuracy | 95 % interval | majority, equal tokens | tokens | nodes scored |"
          " sequential |\n|---|---|---|---|---|---|---|---|---|")
    for v in csv.DictReader(io.StringIO(report)):
        if int(v["n"]) == 0 or v["variant"] not in passes:  # not at all, or just now
            continue
        name = v["variant"].replace("-oracle", "").replace("-blurred", "")
        scored = passes[v["variant"]]
        print(f"| {name} | {SCORERS[v['scorer']]} | {v['n']} | {float(v['accuracy']):.3f} |"
              f" {float(v['low']):.3f} to {float(v['high']):.3f} | {float(v['majority'] or 'nan'):.3f} |"
              f" {float(v['tokens']):.0f} | {sum(scored) / len(scored):.1f} | {float(v['sequential']):.0f} |")


if __name__ == "__main__":
    main()
