"""Write a problem set as JSONL, one problem a line with the true equation of every step."""
import argparse
import json
import random

from problems import LEVELS, make_problem, template


def problems(split, seed, count):
    """Problems of the difficulties in turn, no text twice; in a dev set no template more than twice."""
    r = random.Random(seed)
    texts, templates, out = set(), {}, []
    while len(out) < count:
        p = make_problem(r, LEVELS[len(out) % len(LEVELS)], split)
        t = template(p.text)
        if p.text in texts or (split == "dev" and templates.get(t, 0) == 2):
            continue
        texts.add(p.text)
        templates[t] = templates.get(t, 0) + 1
        out.append(p)
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("out")
    ap.add_argument("--prefix", default="dev", help="first part of the problem ids")
    ap.add_argument("--split", default="dev", choices=["dev", "train"])
    ap.add_argument("--seed", type=int, default=314159)
    ap.add_argument("--count", type=int, default=500)
    a = ap.parse_args()
    with open(a.out, "w") as f:
        for i, p in enumerate(problems(a.split, a.seed, a.count), 1):
            d = dict(id=f"{a.prefix}-{i:04d}", question=p.text, answer=p.answer)
            d |= dict(difficulty=p.level, family=p.family, steps=len(p.steps))
            f.write(json.dumps(d | dict(equations=[s.equation() for s in p.steps])) + "\n")


if __name__ == "__main__":
    main()
