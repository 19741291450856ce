"""Write a problem set as JSONL, one problem a line with the true equation of every step."""
import argparse
import json
import random

from problems import make_problem


def main():
    """Difficulties 1, 2, 3 in turn, no problem twice."""
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("out")
    ap.add_argument("--prefix", default="dev", help="first part of the problem ids")
    ap.add_argument("--seed", type=int, default=314159)
    ap.add_argument("--count", type=int, default=500)
    args = ap.parse_args()
    r = random.Random(args.seed)
    seen = set()
    with open(args.out, "w") as f:
        i = 0
        while i < args.count:
            p = make_problem(r, i % 3 + 1)
            if p.text in seen:
                continue
            seen.add(p.text)
            i += 1
            eqs = [[p.v(s["a"]), s["op"], p.v(s["b"]), p.vals[s["var"]]] for s in p.steps]
            f.write(
                json.dumps(
                    dict(
                        id=f"{args.prefix}-{i:04d}",
                        question=p.text,
                        answer=p.answer,
                        difficulty=p.level,
                        family=p.family,
                        steps=len(eqs),
                        equations=eqs,
                    )
                )
                + "\n"
            )


if __name__ == "__main__":
    main()
