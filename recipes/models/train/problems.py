"""Procedural word problems with checkable chains of thought.

A problem is a list of question sentences and a list of symbolic steps
(op, a, b -> var) where a and b are integers or earlier variables.  From one problem come:
  * the true solution,
  * noisy traces: slips in arithmetic, misread comparisons ("traps"), self-corrections
    ("Wait, ..."), written by a "sure" (terse, accurate) or an "unsure" (wordy, error-prone) author,
  * exact labels for any trace text: is the state after each step still on track?
"""
import random
import re
import time

HIS = "Tom Ben Sam Leo Max Jack Adam Omar Ivan Noah Luke Hugo Paul Carl Eric Finn"
HER = "Mia Ann Eva Zoe Lily Rosa Nina Sara Emma Ruth Jane Kate Lucy Vera Iris Dora"
NAMES = {  # name -> (he/she, his/her)
    **{n: ("He", "his") for n in HIS.split()},
    **{n: ("She", "her") for n in HER.split()},
}
THINGS = (
    "apples books coins cards shells stamps pens marbles stickers eggs plums beads stones cups "
    "roses photos"
).split()
PACKS = "boxes bags packs baskets jars".split()
GOODS = "pen book ruler lamp hat mug ball bag clock toy scarf kite".split()
MADE = "cups toys lamps hats kites candles chairs bags cakes pies masks bowls".split()
FRAC = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth"}
TIMES = {2: "twice", 3: "3 times", 4: "4 times", 5: "5 times", 6: "6 times"}
LIMIT = 999


class Bad(Exception):
    """This attempt at a problem does not work out; try another."""


def compute(op, a, b):
    """The result, or Bad when it is not a whole number from 1 to LIMIT."""
    if op == "+":
        r = a + b
    elif op == "-":
        r = a - b
    elif op == "*":
        r = a * b
    else:
        if b == 0 or a % b:
            raise Bad
        r = a // b
    if not 0 < r <= LIMIT:
        raise Bad
    return r


class Problem:
    """Sentences, symbolic steps and the values of their variables."""

    def __init__(self, level):
        self.level, self.facts, self.steps, self.vals = level, [], [], {}
        self.question = self.answer = None

    def say(self, s):
        self.facts.append(s)

    def step(self, op, a, b, text, trap=None, hard=False):
        """trap: the operation a careless reader would use instead."""
        va, vb = self.v(a), self.v(b)
        var = "v%d" % len(self.steps)
        self.vals[var] = compute(op, va, vb)
        if trap:
            try:
                compute(trap, va, vb)
            except Bad:
                trap = None
        self.steps.append(dict(var=var, op=op, a=a, b=b, text=text, trap=trap, hard=hard))
        return var

    def v(self, x):
        return self.vals[x] if isinstance(x, str) else x


def _divisor(r, x, lo=2, hi=9):
    """A random divisor of x."""
    c = [d for d in range(lo, hi + 1) if x % d == 0 and x // d > 1]
    if not c:
        raise Bad
    return r.choice(c)


def _size(level):
    """How large the given numbers are."""
    return {1: 30, 2: 80, 3: 200}[level]


def _compare(p, r, x, subj_old, subj_new, have, obj, unit=""):
    """One relation between a known quantity x (subj_old) and a new one.

    Returns (sentence, op, b, trap, hard).
    """
    val, big = p.v(x), _size(p.level)
    kind = r.choices(
        ["more", "fewer", "times", "part", "inv_more", "inv_fewer", "inv_times"],
        [3, 3, 3, 2, 4, 4, 1],
    )[0]
    if kind in ("more", "inv_fewer"):
        d = r.randint(2, max(3, min(big, LIMIT - val - 1)))
        if kind == "more":
            return f"{subj_new} {have} {unit}{d} more {obj}than {subj_old}.", "+", d, None, False
        return (
            f"{subj_old} {have} {unit}{d} {'less ' if unit else 'fewer '}{obj}than {subj_new}.",
            "+",
            d,
            "-",
            r.random() < 0.7,
        )
    if kind in ("fewer", "inv_more"):
        if val < 5:
            raise Bad
        d = r.randint(2, min(big, val - 2))
        if kind == "fewer":
            return (
                f"{subj_new} {have} {unit}{d} {'less ' if unit else 'fewer '}{obj}than {subj_old}.",
                "-",
                d,
                None,
                False,
            )
        return (
            f"{subj_old} {have} {unit}{d} more {obj}than {subj_new}.",
            "-",
            d,
            "+",
            r.random() < 0.7,
        )
    as_obj = " as much as" if unit else f" as many {obj.strip()} as"
    if kind == "times":
        k = r.randint(2, 6)
        return f"{subj_new} {have} {TIMES[k]}{as_obj} {subj_old}.", "*", k, None, False
    if kind == "part":
        k = _divisor(r, val, 2, 5)
        return (
            f"{subj_new} {have} {FRAC[k]}{as_obj} {subj_old}.".replace(
                " a third as", " a third as"
            ),
            "/",
            k,
            None,
            False,
        )
    k = _divisor(r, val, 2, 6)
    return f"{subj_old} {have} {TIMES[k]}{as_obj} {subj_new}.", "/", k, "*", False


def compare(p, r, n):
    """Family: a chain of comparisons between people."""
    obj = r.choice(THINGS)
    names = r.sample(list(NAMES), min(n + 1, 8))
    big = _size(p.level)
    x0 = r.randint(3, big)
    p.say(f"{names[0]} has {x0} {obj}.")
    known = [(names[0], x0)]
    tail = r.choice(["none", "none", "sum2", "sum3"]) if n >= 3 else r.choice(["none", "sum2"])
    m = n - {"none": 0, "sum2": 1, "sum3": 2}[tail]
    for i in range(m):
        nm, x = known[-1] if r.random() < 0.75 else r.choice(known)
        new = names[i + 1]
        s, op, b, trap, hard = _compare(p, r, x, nm, new, "has", obj + " ")
        p.say(s)
        v = p.step(op, x, b, f"{new} has {{eq}} {obj}.", trap, hard)
        known.append((new, v))
    if tail == "none":
        p.question = f"How many {obj} does {known[-1][0]} have?"
    else:
        k = 2 if tail == "sum2" else 3
        if len(known) < k:
            raise Bad
        grp = r.sample(known[:-1], k - 1) + [known[-1]]
        acc = grp[0][1]
        who = grp[0][0]
        for nm, x in grp[1:]:
            who = f"{who} and {nm}"
            acc = p.step("+", acc, x, f"{who} have {{eq}} {obj}.")
        p.question = f"How many {obj} do {who} have together?"


def events(p, r, n, x, nm, obj, have="has"):
    """Generic events on a running quantity x; uses exactly n steps."""
    he, his = NAMES[nm]
    big = _size(p.level)
    left = n
    while left:
        val = p.v(x)
        kinds = ["gain", "lose", "times"]
        if left == 1:
            kinds.append("share")
        if left >= 2:
            kinds += ["gainp", "losep", "frac", "friend"] * 2
        k = r.choice(kinds)
        if k == "gain":
            d = r.randint(2, big)
            p.say(
                r.choice(
                    [
                        f"{he} buys {d} more.",
                        f"Then {he.lower()} gets {d} more.",
                        f"{he} finds {d} more.",
                    ]
                )
            )
            x = p.step("+", x, d, f"{nm} now has {{eq}} {obj}.")
        elif k == "lose":
            if val < 6:
                raise Bad
            d = r.randint(2, min(big, val - 2))
            p.say(
                r.choice(
                    [
                        f"{he} gives away {d}.",
                        f"Then {he.lower()} loses {d}.",
                        f"{he} sells {d} of them.",
                    ]
                )
            )
            x = p.step("-", x, d, f"{nm} now has {{eq}} {obj}.")
        elif k == "times":
            t = r.choice([2, 2, 3, 4])
            w = {2: "double", 3: "triple", 4: "grow to 4 times as many"}[t]
            p.say(f"Later {his} {obj} {w}.")
            x = p.step("*", x, t, f"{nm} now has {{eq}} {obj}.")
        elif k == "share":
            if left != 1:
                continue
            d = _divisor(r, val)
            p.say(f"{he} shares them equally among {d} friends.")
            x = p.step("/", x, d, f"Each friend gets {{eq}} {obj}.")
            p.question = f"How many {obj} does each friend get?"
            return x
        elif k in ("gainp", "losep"):
            c, m = r.randint(2, 9), r.randint(2, [9, 20, 60][p.level - 1])
            pk = r.choice(PACKS)
            if k == "gainp":
                p.say(f"{he} buys {c} {pk} of {m} {obj} each.")
                y = p.step("*", c, m, f"The {pk} hold {{eq}} {obj}.")
                x = p.step("+", x, y, f"{nm} now has {{eq}} {obj}.")
            else:
                p.say(f"{he} gives {m} {obj} to each of {c} friends.")
                y = p.step("*", c, m, f"The friends get {{eq}} {obj}.")
                x = p.step("-", x, y, f"{nm} now has {{eq}} {obj}.")
        elif k == "frac":
            d = _divisor(r, val, 2, 5)
            p.say(
                r.choice(
                    [f"{he} gives away {FRAC[d]} of them.", f"{he} loses {FRAC[d]} of {his} {obj}."]
                )
            )
            y = p.step("/", x, d, f"That is {{eq}} {obj} gone.")
            x = p.step("-", x, y, f"{nm} now has {{eq}} {obj}.")
        else:
            fr = r.choice([q for q in NAMES if q != nm])
            s, op, b, trap, hard = _compare(p, r, x, nm, fr, "has", obj + " ")
            if op == "*":
                continue
            p.say(s)
            y = p.step(op, x, b, f"{fr} has {{eq}} {obj}.", trap, hard)
            p.say(f"{fr} gives all of them to {nm}.")
            x = p.step("+", x, y, f"{nm} now has {{eq}} {obj}.")
        left = n - (len(p.steps) - p._base)
    p.question = p.question or f"How many {obj} does {nm} have now?"
    return x


def inventory(p, r, n):
    """Family: what happens to one person's things."""
    nm, obj = r.choice(list(NAMES)), r.choice(THINGS)
    x = r.randint(4, _size(p.level))
    p.say(f"{nm} has {x} {obj}.")
    p._base = 0
    events(p, r, n, x, nm, obj)


def shop(p, r, n):
    """Family: prices, a bill, the change."""
    nm = r.choice(list(NAMES))
    he, his = NAMES[nm]
    g = r.sample(GOODS, 4)
    big = _size(p.level)
    price = r.randint(2, [9, 20, 50][p.level - 1])
    p.say(f"A {g[0]} costs ${price}.")
    items = [(g[0], price)]
    left = n
    fin = r.choice(["total", "change", "split", "none"])
    if fin in ("change", "split"):
        left -= 1
    while left >= 3 and len(items) < 4 and r.random() < 0.7:
        old, x = items[-1]
        new = g[len(items)]
        s, op, b, trap, hard = _compare(p, r, x, "a " + old, "a " + new, "costs", "", "$")
        s = s[0].upper() + s[1:]
        p.say(s)
        y = p.step(op, x, b, f"A {new} costs {{eq}} dollars.", trap, hard)
        items.append((new, y))
        left -= 1
    if left < 1:
        raise Bad
    # k purchases cost 2k-1 steps (k products, k-1 sums)
    k = min(len(items), (left + 1) // 2)
    if left != 2 * k - 1 and left != 2 * k:
        raise Bad
    extra = left - (2 * k - 1)
    buy = items[-k:]
    r.shuffle(buy)
    cnt = [r.randint(2, 9) for _ in buy]
    p.say(f"{nm} buys " + " and ".join(f"{c} {it}s" for c, (it, _) in zip(cnt, buy)) + ".")
    parts = [p.step("*", x, c, f"The {it}s cost {{eq}} dollars.") for c, (it, x) in zip(cnt, buy)]
    tot = parts[0]
    for y in parts[1:]:
        tot = p.step("+", tot, y, "The total is now {eq} dollars.")
    if extra:
        d = r.randint(2, 20)
        val = p.v(tot)
        if r.random() < 0.5 and val > d + 2:
            p.say(f"The shop takes ${d} off the bill.")
            tot = p.step("-", tot, d, "The bill is {eq} dollars.")
        else:
            p.say(f"The shop adds ${d} for delivery.")
            tot = p.step("+", tot, d, "The bill is {eq} dollars.")
    if fin == "change":
        val = p.v(tot)
        w = val + r.randint(1, big)
        if r.random() < 0.5:
            w = (val // 50 + 1) * 50
        if w > LIMIT:
            raise Bad
        p.say(f"{he} pays with ${w}.")
        p.step("-", w, tot, f"{nm} gets {{eq}} dollars back.")
        p.question = f"How many dollars does {nm} get back?"
    elif fin == "split":
        d = _divisor(r, p.v(tot))
        p.say(f"{he} splits the bill equally among {d} people.")
        p.step("/", tot, d, "Each person pays {eq} dollars.")
        p.question = "How many dollars does each person pay?"
    else:
        p.question = f"How many dollars does {nm} pay?"


def work(p, r, n):
    """Family: making things by the hour."""
    nm = r.choice(list(NAMES))
    he, his = NAMES[nm]
    obj = r.choice(MADE)
    rate = r.randint(2, [9, 20, 40][p.level - 1])
    x = rate
    left = n
    if left >= 3 and r.random() < 0.6:
        fr = r.choice([q for q in NAMES if q != nm])
        s, op, b, trap, hard = _compare(p, r, x, fr, nm, "makes", obj + " an hour ")
        p.say(f"{fr} makes {rate} {obj} an hour.")
        p.say(s)
        x = p.step(op, x, b, f"{nm} makes {{eq}} {obj} an hour.", trap, hard)
        left -= 1
    else:
        p.say(f"{nm} makes {rate} {obj} an hour.")
    h = r.randint(2, 8)
    p.say(f"{he if left == n else nm} works {h} hours a day.")
    x = p.step("*", x, h, f"{nm} makes {{eq}} {obj} a day.")
    left -= 1
    if left and r.random() < 0.5 and p.v(x) <= 160:
        d = r.randint(2, 6)
        p.say(f"{he} works for {d} days.")
        x = p.step("*", x, d, f"In {d} days {nm} makes {{eq}} {obj}.")
        left -= 1
    q = f"How many {obj} does {nm} have in the end?"
    money = False
    while left:
        val = p.v(x)
        ks = ["less", "more"] + (["pack", "sell"] if not money else ["spend"])
        k = r.choice(ks)
        if k == "less":
            if val < 6:
                raise Bad
            d = r.randint(2, min(_size(p.level), val - 2))
            if money:
                p.say(f"{he} spends ${d} on paint.")
                x = p.step("-", x, d, f"{nm} has {{eq}} dollars left.")
            else:
                p.say(f"Then {d} of the {obj} break.")
                x = p.step("-", x, d, f"There are {{eq}} {obj} left.")
        elif k == "more":
            d = r.randint(2, _size(p.level))
            if money:
                p.say(f"{he} already had ${d} saved.")
                x = p.step("+", x, d, f"{nm} has {{eq}} dollars in total.")
            else:
                p.say(f"{he} already had {d} {obj}.")
                x = p.step("+", x, d, f"{nm} has {{eq}} {obj} in total.")
        elif k == "pack":
            d = _divisor(r, val)
            p.say(f"{he} packs the {obj} in boxes of {d}.")
            x = p.step("/", x, d, "There are {eq} boxes.")
            obj = "boxes"
            q = f"How many boxes does {nm} have in the end?"
        elif k == "sell":
            d = r.randint(2, 9)
            p.say(f"{he} sells each of the {obj} for ${d}.")
            x = p.step("*", x, d, f"{nm} gets {{eq}} dollars.")
            money = True
            q = f"How many dollars does {nm} have in the end?"
        else:
            d = _divisor(r, val, 2, 5)
            p.say(f"{he} puts away {FRAC[d]} of the money.")
            x = p.step("/", x, d, f"{nm} puts away {{eq}} dollars.")
            q = f"How many dollars does {nm} put away?"
            if left != 1:
                raise Bad
        left -= 1
    p.question = q


FAMILIES = [compare, compare, inventory, inventory, inventory, shop, work]
STEPS = {1: (2, 3), 2: (4, 5), 3: (6, 7, 8)}


def make_problem(r, level=None, n=None):
    """A problem of a level (1 to 3) and a number of steps, both random if not given."""
    while True:
        lv = level or r.choice([1, 2, 3])
        k = n or r.choice(STEPS[lv])
        p = Problem(lv)
        p._base = 0
        p.question = None
        try:
            fam = r.choice(FAMILIES)
            fam(p, r, k)
        except (Bad, IndexError):
            continue
        if len(p.steps) != k:
            continue
        p.family = fam.__name__
        p.answer = p.vals[p.steps[-1]["var"]]
        p.text = " ".join(p.facts + [p.question])
        return p


# ---------------------------------------------------------------- traces
WAITS = ["Wait, that is not right. ", "Wait, I made a mistake. ", "Wait, let me redo this. "]
HMM = ["Hmm. ", "Let me think. ", "Let me see. "]


def slip(r, op, a, b, c):
    """A plausible wrong result."""
    for _ in range(20):
        k = r.random()
        if k < 0.35:
            w = c + r.choice([-1, 1])
        elif k < 0.65:
            w = c + r.choice([-10, 10])
        elif k < 0.75:
            w = c + r.choice([-2, 2, -100, 100])
        elif k < 0.9 and op == "*":
            w = c + r.choice([-1, 1]) * a
        else:
            w = c + r.choice([-20, 20, -9, 9, 11, -11])
        if 0 < w <= LIMIT and w != c:
            return w
    raise Bad


class Noise:
    """How the authors of the training corpus err."""

    unsure = 0.40  # share of traces by the unsure author
    trap = (0.45, 0.12, 0.75, 0.55)  # P(misread): sure/hard, sure/mild, unsure/hard, unsure/mild
    slip = (0.004, 0.10)  # P(arithmetic slip) per step: sure, unsure
    wait = 0.5  # P(noticing) an error
    hmm, check = 0.4, 0.12  # unsure author's filler / re-check rates


def solve(p, r, noise=Noise, clean=False):
    """A trace (list of step texts, final answer)."""
    for _ in range(50):
        try:
            return _solve(p, r, noise, clean)
        except Bad:
            pass
    return _solve(p, r, noise, True)


def _solve(p, r, nz, clean):
    """One attempt at a trace; Bad when an error leads out of the range of numbers."""
    unsure = not clean and r.random() < nz.unsure
    env, out = {}, []
    for s in p.steps:
        a, b = (env[x] if isinstance(x, str) else x for x in (s["a"], s["b"]))
        good = compute(s["op"], a, b)

        def line(op, c):
            return s["text"].replace("{eq}", f"{a} {op} {b} = {c}")

        pre = r.choice(HMM) if unsure and r.random() < nz.hmm else ""
        op, c = s["op"], good
        if not clean and s["trap"] and r.random() < nz.trap[2 * unsure + (not s["hard"])]:
            op = s["trap"]
            c = compute(op, a, b)
        if not clean and r.random() < nz.slip[unsure]:
            c = slip(r, op, a, b, c)
        out.append(pre + line(op, c))
        tries = 0
        while (
            (op, c) != (s["op"], good)
            and r.random() < (nz.wait if unsure else nz.wait * 0.6)
            and tries < 2
        ):
            tries += 1
            op, c = s["op"], good
            if r.random() < 0.15:
                c = slip(r, op, a, b, good)
            out.append(r.choice(WAITS) + line(op, c))
        if unsure and (op, c) == (s["op"], good) and r.random() < nz.check:
            out.append(f"Let me check: {a} {op} {b} = {c}.")
        env[s["var"]] = c
    return out, env[p.steps[-1]["var"]]


# ---------------------------------------------------------------- checking
EQ = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")


def truths(p):
    """The true equations (a, op, b, c) of a problem, sums and products both ways round."""
    t = set()
    for s in p.steps:
        a, b, c = p.v(s["a"]), p.v(s["b"]), p.vals[s["var"]]
        t.add((a, s["op"], b, c))
        if s["op"] in "+*":
            t.add((b, s["op"], a, c))
    return t


def label_steps(truth, steps):
    """True for each step after which the trace is on track: every error so far has been redone
    correctly in a step that starts with 'Wait,'. truth: set of (a, op, b, c)."""
    ok, out = True, []
    for s in steps:
        m = EQ.findall(s)
        if not m:
            right = None
        else:
            a, o, b, c = m[-1]
            right = (int(a), o, int(b), int(c)) in truth
        if right is False:
            ok = False
        elif right and s.startswith("Wait,"):
            ok = True
        elif right is None:
            ok = False
        out.append(ok)
    return out


def parse_answer(text):
    """The number in the first box, or None."""
    m = re.search(r"\\boxed\{(-?\d+)\}", text)
    return int(m.group(1)) if m else None


def render(q, steps, ans):
    """(prompt, answer text) of a trace."""
    return (
        f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n<think>\n",
        "\n\n".join(steps) + f"\n</think>\nThe answer is \\boxed{{{ans}}}.<|im_end|>",
    )


def judged(tok, q, steps, ans, labels):
    """Tokens and targets of a trace with <|step|> after every step and after the answer; the target
    at a tag is '+' or '-', elsewhere the next token.  Returns (ids, targets, length of the prompt).
    """
    ids = tok.encode(f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n<think>\n")
    n = len(ids)
    tags = []
    parts = list(steps) + ([] if ans is None else [f"</think>\nThe answer is \\boxed{{{ans}}}."])
    for s in parts:
        ids += tok.encode(s + "\n\n")
        tags.append(len(ids))
        ids.append(tok.step)
    ids.append(tok.im_end)
    y = ids[1:] + [tok.eot]
    for t, ok in zip(tags, labels):
        y[t] = tok.plus if ok else tok.minus
    return ids, y, n


def main():
    """Print examples, then check 3000 problems and count how often the author errs."""
    r = random.Random(5)
    for lv in (1, 2, 3):
        for _ in range(4):
            p = make_problem(r, lv)
            st, a = solve(p, r)
            print(f"[{lv} {p.family}] " + p.text)
            print("\n".join(st))
            print(a, p.answer, label_steps(truths(p), st))
            print()
    t = time.time()
    N = 3000
    L = 0
    ok = {1: [], 2: [], 3: []}
    tr = {1: [], 2: [], 3: []}
    for _ in range(N):
        p = make_problem(r)
        st, a = solve(p, r)
        L += len(p.text) + len("\n\n".join(st))
        ok[p.level].append(a == p.answer)
        tr[p.level].append(any(s["trap"] and s["hard"] for s in p.steps))
        c, _ = solve(p, r, clean=True)
        assert all(label_steps(truths(p), c))
    print(
        N / (time.time() - t),
        "problems/s",
        L / N,
        "chars",
        {k: (sum(v) / len(v), sum(tr[k]) / len(v)) for k, v in ok.items()},
    )


if __name__ == "__main__":
    main()
