#!/usr/bin/python3
"""Lines of the bundled model with a label for each, for `ponder score --evaluate`: JSON Lines in the
format of ProcessBench. The labels are the oracle's, which knows the problems' own equations.

    recipes/step_labels.py [-n PROBLEMS] [-k LINES] [--seed N] PONDER recipes/problems/dev.jsonl >FILE

PONDER is the program. A line is kept once per problem, however often it was drawn.
"""
import argparse
import json
import subprocess
import tempfile


def run(*words):
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def lines_of(records):
    """text and step labels of each scored node, in the order of the trace"""
    nodes = {r["id"]: r for r in records if r["type"] == "node"}
    for r in records:
        if r["type"] == "score" and r["steps"]:
            text, node = "", nodes[r["node"]]
            while node["finish"] != "prompt":
                text = (node["text"] or "") + text
                node = nodes[node["parent"]]
            yield text, r["steps"]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-n", type=int, default=100)
    p.add_argument("-k", type=int, default=8)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("ponder")
    p.add_argument("problems")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as data:
        with open(a.problems, encoding="utf-8") as f:
            problems = [json.loads(line) for line in f][:a.n]
        for entry in problems:
            problem, question = entry["id"], entry["question"]
            job = json.loads(run(a.ponder, "solve", "-p", problem, "-s", "best_of_n", "--scorer",
                                 "oracle", "-o", f"samples={a.k}", "--seed", str(a.seed), "--json",
                                 "--data-dir", data))
            records = [json.loads(line) for line in
                       run(a.ponder, "trace", "export", job["trace"], "--format", "jsonl",
                           "--data-dir", data).splitlines()]
            seen = set()
            for text, labels in lines_of(records):
                steps = steps_of(text)
                if text in seen or len(steps) != len(labels):
                    continue
                seen.add(text)
                wrong = [k for k, v in enumerate(labels) if v < 0.5]
                print(json.dumps({"id": f"{problem}-{len(seen)}", "problem": question,
                                  "steps": steps, "label": wrong[0] if wrong else -1,
                                  "final_answer_correct": labels[-1] >= 0.5}), flush=True)


def steps_of(text):
    """as ponder cuts them: at blank lines, and before the end of thinking"""
    out = []
    for part in text.split("\n\n"):
        head, mark, tail = part.partition("</think>")
        out += [head, mark + tail] if mark and head.strip() else [part]
    return [s.strip() for s in out if s.strip()]


if __name__ == "__main__":
    main()
