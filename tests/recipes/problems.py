"""Tests of recipes/models/train: problems, split, traces, labels, tokenizer. TAP.

usage: problems.py TREE
"""
import ast
import os
import random
import re
import sys
import traceback

TREE = sys.argv[1]
TRAIN = os.path.join(TREE, "recipes", "models", "train")
sys.path.insert(0, TRAIN)

import bpe  # noqa: E402
import make_sets  # noqa: E402
import problems  # noqa: E402
import traces  # noqa: E402

TOK = bpe.Tokenizer.load(os.path.join(TRAIN, "tokenizer.json"))


def some(n, seed, **kw):
    r = random.Random(seed)
    return [problems.make_problem(r, **kw) for _ in range(n)]


def skeleton(text):
    """What the generator calls a template, found in another way: the words that are neither
    numbers, nor begin with a capital inside a sentence, nor are things."""
    words = re.findall(r"[A-Za-z]+|\d+|[.?,;]", text)
    skip = set(problems.WORDS) | {"he", "she", "his", "her", "He", "She"}
    return " ".join("_" if w in skip or w.isdigit() else w for w in words)


def equations_hold():
    """Every step of every family and difficulty is right, and the answer is its last result."""
    seen = set()
    for p in some(4000, 1):
        seen.add((p.family, p.level))
        for s in p.steps:
            a, op, b, c = s.equation()
            assert {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[op] == c, p.text
            assert 0 < c <= problems.LIMIT, p.text
        assert len(p.steps) in problems.STEPS[p.level] and p.answer == p.steps[-1].c
        assert p.level != 4 or p.traps >= 2, p.text
    assert len(seen) == len(problems.FAMILIES) * len(problems.LEVELS), sorted(seen)


def numbers_are_told():
    """Every number that a step takes from nowhere stands in the question, or is a known factor."""
    known = {k for _, _, k in problems.UNITS} | {d for d, _ in problems.PERCENT.values()}
    known |= {m for _, m in problems.PERCENT.values()} | set(problems.PARTS) | {2, 3, 4}
    for p in some(2000, 2):
        told = {int(x) for x in re.findall(r"\d+", p.text)} | known
        for s in p.steps:
            for x in (s.a, s.b):
                assert isinstance(x, problems.Step) or x in told, (p.text, s.equation())


def seeds_repeat():
    """The same seed makes the same problems and traces."""
    a, b = ([(p.text, traces.solve(p, random.Random(7))) for p in some(50, 3)] for _ in "ab")
    assert a == b


def no_leak():
    """No problem and no template of the dev set in training, whatever the seed."""
    dev = make_sets.problems("dev", 314159, 500)
    texts, templates = {p.text for p in dev}, {skeleton(p.text) for p in dev}
    assert len(texts) == 500
    for seed in (314159, 4, 5):
        for p in some(4000, seed):
            assert p.text not in texts, p.text
            assert skeleton(p.text) not in templates, p.text


def split_is_seen():
    """no_leak would notice: training problems without the split do share templates with dev."""
    dev = {skeleton(p.text) for p in some(500, 6, split="dev")}
    keep, problems.is_dev = problems.is_dev, lambda text: False
    try:
        assert any(skeleton(p.text) in dev for p in some(4000, 7))
    finally:
        problems.is_dev = keep


def clean_traces_are_right():
    """A clean trace is on track after every step, and its grades are all 9 or, said twice, 7."""
    for p in some(500, 8):
        steps, ans = traces.solve(p, random.Random(1), clean=True)
        truth = traces.truths(s.equation() for s in p.steps)
        assert ans == p.answer and all(traces.label_steps(truth, steps))
        assert {traces.grade(truth, steps, k) for k in range(len(steps))} <= {7, 9}


def labels_follow_errors():
    """Off track from a wrong result until "Wait," redoes it; grades tell the kinds apart."""
    truth = traces.truths([(41, "+", 14, 55), (55, "-", 5, 50)])
    steps = [
        "It is 41 + 14 = 45.",
        "It is 45 - 5 = 40.",
        "Wait, it is 14 + 41 = 55.",
        "So 55 - 5 = 50.",
    ]
    assert traces.label_steps(truth, steps) == [False, False, True, True]
    assert traces.label_steps(truth, steps[:2] + ["It is 41 + 14 = 55."]) == [False] * 3
    assert traces.label_steps(truth, ["Hmm."]) == [False]
    assert [traces.grade(truth, steps, k) for k in range(4)] == [0, 3, 9, 9]
    assert traces.grade(truth, steps + steps[3:], 4) == 7


def errors_make_traces_longer():
    """Of the traces of one problem the shortest third is more often right than the longest."""
    short = long = 0
    for p in some(300, 9):
        r = random.Random(p.text)
        ts = sorted((traces.solve(p, r) for _ in range(9)), key=lambda t: len("".join(t[0])))
        short += sum(ans == p.answer for _, ans in ts[:3])
        long += sum(ans == p.answer for _, ans in ts[-3:])
    assert short > long + 0.2 * 900, (short, long)


def wrong_answers_scatter():
    """The commonest wrong answer below difficulty 4 is rarely commoner than the right one."""
    lost = 0
    for p in some(200, 10, level=2):
        r = random.Random(p.text)
        count = {}
        for _ in range(16):
            ans = traces.solve(p, r)[1]
            count[ans] = count.get(ans, 0) + 1
        lost += max(count.values()) > count.get(p.answer, 0)
    assert lost < 40, lost


def digits_are_tokens():
    """A number is one token a digit, and text survives the tokenizer."""
    assert (
        len(TOK.encode("Tom has 123 + 45 = 168 cups")) - len(TOK.encode("Tom has  +  =  cups")) >= 8
    )
    assert not any(re.search(r"\d.|.\d", t) for t in TOK.tokens)
    for p in some(100, 11):
        steps, ans = traces.solve(p, random.Random(2))
        text = traces.prompt(p.text) + "\n\n".join(steps) + "\n" + traces.close(ans)
        assert TOK.decode(TOK.encode(text)) == text


def documents_learn_the_right_tokens():
    """What each kind of document is to predict, token by token."""
    for kind in traces.MIX:
        r = random.Random(kind)
        for _ in range(50):
            d = traces.document(TOK, r, 2, traces.Noise(), mix={kind: 1})
            ids, y, w = d.arrays()
            assert len(ids) == len(y) == len(w) and ids[0] == TOK.im_start
            learnt = [TOK.decode([t]) for t, x in zip(y, w) if x]
            start = TOK.encode("<think>\n")
            assert not any(w[: ids.index(start[0]) + len(start) - 1])
            for i, (t, x) in enumerate(zip(y, w)):
                if x and ids[i] != TOK.step:
                    assert t == ids[i + 1]
                elif x:
                    assert kind == "judged" and t in (TOK.plus, TOK.minus)
            if kind == "grade":
                assert learnt[-1] in "0379"
            if kind == "restart":
                assert learnt[-1] in "YN"


def c_literal(path, name):
    """The value of a string macro of a C file."""
    with open(os.path.join(TREE, path)) as f:
        text = f.read().replace("\\\n", " ")
    body = re.search(rf"#define {name}\s+((?:\"(?:[^\"\\]|\\.)*\"\s*)+)", text).group(1)
    return "".join(ast.literal_eval(s) for s in re.findall(r"\"(?:[^\"\\]|\\.)*\"", body))


def strategies_ask_the_same():
    """The questions the base is trained to answer are those that the strategies put."""
    assert c_literal("strategies/spec_reason.c", "GRADE") == traces.GRADE
    assert c_literal("strategies/adaptive_restart.c", "QUESTION") == traces.RESTART
    with open(os.path.join(TREE, "strategies/budget_force.c")) as f:
        assert f'PD_STR("{traces.AGAIN}")' in f.read()


TESTS = [
    equations_hold,
    numbers_are_told,
    seeds_repeat,
    no_leak,
    split_is_seen,
    clean_traces_are_right,
    labels_follow_errors,
    errors_make_traces_longer,
    wrong_answers_scatter,
    digits_are_tokens,
    documents_learn_the_right_tokens,
    strategies_ask_the_same,
]
failed = 0
print(f"1..{len(TESTS)}")
for i, test in enumerate(TESTS, 1):
    try:
        test()
        print(f"ok {i} - {test.__name__}")
    except Exception:
        failed = 1
        print(f"not ok {i} - {test.__name__}")
        print("".join("# " + line + "\n" for line in traceback.format_exc().splitlines()), end="")
sys.exit(failed)
