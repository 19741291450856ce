"""Traces of the problems: who writes them, how they err, what is right in them, and as what
documents they reach a model.

Two authors write the training traces. The sure one is terse and mostly right; the unsure one errs
more, hesitates, checks and goes back. So a trace that has become long is more often wrong, as with
large reasoning models. An error is either noticed, and redone in a step that begins with "Wait,",
or it stays, and every later result is computed from it.
"""
import dataclasses
import random
import re
import time

from problems import LIMIT, NAMES, Bad, Step, compute, make_problem


@dataclasses.dataclass
class Noise:
    """How the authors err; pairs are (sure, unsure). Sampling at a temperature below 1 sharpens:
    slips, spread over many wrong values, become much rarer than here, traps a little commoner."""

    unsure: float = 0.5  # share of traces by the unsure author
    slip: tuple = (0.04, 0.30)  # P(wrong arithmetic) of a step
    hard: tuple = (0.58, 0.82)  # P(falling into a hard trap)
    mild: tuple = (0.03, 0.30)  # P(falling into a mild trap)
    notice: tuple = (0.15, 0.28)  # P(noticing an error at once)
    relapse: tuple = (0.10, 0.45)  # P(a wrong result again when a step is redone)
    review: tuple = (0.0, 0.12)  # P(noticing a standing error at the end, and redoing from there)
    doubt: tuple = (0.50, 0.50)  # P(a line that repeats a wrong result, unaware)
    alarm: tuple = (0.0, 0.06)  # P(redoing a right result)
    check: tuple = (0.0, 0.12)  # P(a line that repeats a right result)
    filler: tuple = (0.0, 0.50)  # P(words before a step)

    @staticmethod
    def parse(text):
        """From "unsure=0.4 slip=0.05,0.2"; what is not named stays."""
        n = Noise()
        for part in text.split():
            key, _, v = part.partition("=")
            if key not in {f.name for f in dataclasses.fields(Noise)}:
                raise ValueError(f"no noise is called '{key}'")
            xs = tuple(map(float, v.split(",")))
            if len(xs) != (1 if key == "unsure" else 2):
                raise ValueError(f"noise '{part}': wrong count of numbers")
            setattr(n, key, xs if len(xs) == 2 else xs[0])
        return n


CAREFUL = Noise(
    unsure=0.0, slip=(0.01, 0), hard=(0.2, 0), mild=(0.01, 0), notice=(0.5, 0), doubt=(0, 0)
)
WAITS = ["Wait, that is not right. ", "Wait, I made a mistake. ", "Wait, let me redo this. "]
BACK = ["Wait, I must go back. ", "Wait, an earlier result is wrong. "]
FILLER = ["Hmm. ", "Let me think. ", "Let me see. ", "Now, ", "Well, "]
DOUBT = ["Let me check: ", "I get ", "So I have "]
LINK = ["", "", "", "So ", "Then ", "Next, "]
FIRST = {n: n for n in NAMES}


def slip(r, op, a, b, c):
    """A plausible wrong result, spread over many values."""
    for _ in range(30):
        k = r.random()
        if k < 0.25:
            w = c + r.choice([-1, 1, -2, 2])
        elif k < 0.5:
            w = c + r.choice([-10, 10, -20, 20])
        elif k < 0.65:
            w = c + r.choice([-9, 9, -11, 11, -8, 8, -12, 12])
        elif k < 0.75:
            w = c + r.choice([-100, 100])
        elif k < 0.85:
            w = c + r.choice([-1, 1]) * r.choice([a, b])
        else:  # one digit is another one
            d = list(str(c))
            d[r.randrange(len(d))] = str(r.randrange(10))
            w = int("".join(d))
        if 0 < w <= LIMIT and w != c:
            return w
    raise Bad


def sentence(prefix, text, equation):
    """A step's words behind a prefix; a name keeps its capital."""
    word = text.split(" ", 1)[0]
    if prefix and not prefix.endswith(". ") and word not in FIRST:
        text = text[0].lower() + text[1:]
    return prefix + text.replace("{eq}", equation)


def solve(p, r, noise=Noise(), clean=False):
    """A trace: (list of step texts, final answer). Without errors and detours if clean."""
    for _ in range(50):
        try:
            return _Author(r, noise).write(p) if not clean else _Author(r, None).write(p)
        except Bad:  # an error has led out of the range of numbers
            pass
    return _Author(r, None).write(p)


class _Author:
    """One attempt at a trace."""

    def __init__(self, r, noise):
        self.r, self.noise = r, noise
        self.who = int(bool(noise) and r.random() < noise.unsure)
        self.linked = r.random() < 0.3
        self.out = []

    def rate(self, name):
        return getattr(self.noise, name)[self.who] if self.noise else 0.0

    def happens(self, name):
        return self.r.random() < self.rate(name)

    def line(self, s, op, a, b, c, prefix=""):
        self.out.append(sentence(prefix, s.text, f"{a} {op} {b} = {c}"))

    def result(self, s, a, b):
        """(op, b, c) as this author first finds it."""
        op = s.op
        if s.trap and self.happens("hard" if s.hard else "mild"):
            op, b = s.trap
        c = compute(op, a, b)
        if self.happens("slip"):
            c = slip(self.r, op, a, b, c)
        return op, b, c

    def redo(self, s, a, b):
        """The result of going over a step again."""
        c = compute(s.op, a, b)
        return slip(self.r, s.op, a, b, c) if self.happens("relapse") else c

    def step(self, s, env, prefix=None):
        """Write a step, with what is noticed and what is not; its result goes into env. Returns
        whether it follows rightly from env."""
        r = self.r
        a, b0 = (env[x] if isinstance(x, Step) else x for x in (s.a, s.b))
        op, b, c = self.result(s, a, b0)
        good = compute(s.op, a, b0)
        if prefix is None:
            prefix = r.choice(FILLER) if self.happens("filler") else ""
            if not prefix and self.linked and self.out:
                prefix = r.choice(LINK)
        self.line(s, op, a, b, c, prefix)
        for _ in range(2):
            if (op, b, c) != (s.op, b0, good):
                if not self.happens("notice"):
                    break
            elif not self.happens("alarm"):
                break
            op, b, c = s.op, b0, self.redo(s, a, b0)
            self.line(s, op, a, b, c, r.choice(WAITS))
        right = (op, b, c) == (s.op, b0, good)
        if self.happens("check" if right else "doubt"):
            self.out.append(f"{r.choice(DOUBT)}{a} {op} {b} = {c}.")
        env[s] = c
        return right

    def write(self, p):
        env, wrong = {}, None
        for i, s in enumerate(p.steps):
            if not self.step(s, env) and wrong is None:
                wrong = i
        if wrong is not None and self.happens("review"):
            for s in p.steps[wrong:]:
                a, b = (env[x] if isinstance(x, Step) else x for x in (s.a, s.b))
                c = compute(s.op, a, b)
                self.line(s, s.op, a, b, c, self.r.choice(BACK) if s is p.steps[wrong] else "")
                env[s] = c
        return self.out, env[p.steps[-1]]


# ---------------------------------------------------------------- checking
EQ = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")


def truths(equations):
    """The set of true equations [a, op, b, c], sums and products both ways round."""
    t = {tuple(e) for e in equations}
    return t | {(b, op, a, c) for a, op, b, c in t if op in "+*"}


def label_steps(truth, steps):
    """True for each step after which the trace is on track: every error so far has been redone
    rightly in a step that starts with "Wait,". A step without an equation is off track."""
    ok, out = True, []
    for s in steps:
        m = EQ.findall(s)
        right = bool(m) and (int(m[-1][0]), m[-1][1], int(m[-1][2]), int(m[-1][3])) in truth
        ok = right and (ok or s.startswith("Wait,"))
        out.append(ok)
    return out


def grade(truth, steps, k):
    """0 to 9 for step k alone: 9 right and new, 7 right but said before, 3 right arithmetic from a
    wrong number or with a wrong operation, 0 wrong arithmetic or none."""
    m = EQ.findall(steps[k])
    if not m:
        return 0
    a, op, b, c = int(m[-1][0]), m[-1][1], int(m[-1][2]), int(m[-1][3])
    try:
        if compute(op, a, b) != c:
            return 0
    except Bad:
        return 0
    if (a, op, b, c) not in truth:
        return 3
    before = {e for s in steps[:k] for e in EQ.findall(s)}
    return 7 if m[-1] in before else 9


def parse_answer(text):
    """The number in the first box, or None."""
    m = re.search(r"\\boxed\{(-?\d+)\}", text)
    return int(m.group(1)) if m else None


def parse_trace(text):
    """(steps, answer or None) of what a model wrote."""
    body, _, tail = text.partition("</think>")
    return [s.strip() for s in body.split("\n\n") if s.strip()], parse_answer(tail)


# ---------------------------------------------------------------- documents
# What strategies put behind a line (strategies/spec_reason.c, adaptive_restart.c) to read a token.
GRADE = (
    "\n\nHow good is the last step, from 0 (wrong) to 9 (right and useful)? Only facts and logic "
    "count, not style.\nI think the quality score is: "
)
RESTART = (
    "\n\nWould a better answer be found by starting over? Reply Y for yes or N for no.\nReply: "
)
AGAIN = "Wait"  # budget_force.c writes it where thinking would have ended


def prompt(question):
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n<think>\n"


def close(ans):
    return f"</think>\nThe answer is \\boxed{{{ans}}}."


class Document:
    """Token ids, the target after each of them, and its weight in the loss."""

    def __init__(self, tok, text, learn=0.0):
        self.tok, self.ids, self.weights = tok, [], []
        self.other = {}  # position: target that is not the next token
        self.add(text, learn)

    def add(self, text, learn=1.0):
        """Append text; learn: the weight of predicting its tokens."""
        ids = self.tok.encode(text)
        self.ids += ids
        self.weights += [learn] * len(ids)
        return self

    def mark(self, right, learn):
        """Append the step tag, at which '+' or '-' is to be predicted."""
        self.other[len(self.ids)] = (self.tok.plus if right else self.tok.minus, learn)
        self.ids.append(self.tok.step)
        self.weights.append(0.0)

    def arrays(self):
        """(ids, targets, weights), of one length."""
        y = self.ids[1:] + [self.tok.eot]
        w = self.weights[1:] + [0.0]
        for i, (t, learn) in self.other.items():
            y[i], w[i] = t, learn
        return self.ids, y, w


def plain(tok, question, steps, ans):
    return Document(tok, prompt(question)).add(
        "\n\n".join(steps) + "\n" + close(ans) + "<|im_end|>"
    )


def judged(tok, question, steps, ans, labels, text=1.0, mark=3.0):
    """A trace with the step tag after every step and after the answer (None: not there)."""
    d = Document(tok, prompt(question))
    for s, ok in zip(steps, labels):
        d.add(s + "\n\n", text)
        d.mark(ok, mark)
    if ans is not None:
        d.add(close(ans) + "\n\n", text)
        d.mark(labels[len(steps)], mark)
    return d


def asked(tok, question, steps, ans, what, reply):
    """A trace, whole or (ans None) up to a step, with a question behind it."""
    d = Document(tok, prompt(question))
    d.add("\n\n".join(steps) + ("\n\n" if ans is None else "\n" + close(ans)))
    return d.add(what, 0.0).add(reply, 4.0)


def again(tok, question, steps, ans, more, final):
    """A trace that was made to go on where it would have ended, and solves the problem anew."""
    d = Document(tok, prompt(question)).add("\n\n".join(steps) + "\n").add(AGAIN, 0.0)
    return d.add(
        ", let me do this again.\n\n" + "\n\n".join(more) + "\n" + close(final) + "<|im_end|>"
    )


MIX = {"plain": 0.64, "judged": 0.20, "grade": 0.07, "restart": 0.06, "again": 0.03}


def document(tok, r, level, noise, split="train", mix=None):
    """A random document of the mix."""
    p = make_problem(r, level, split)
    mix = mix or MIX
    kind = r.choices(list(mix), mix.values())[0]
    steps, ans = solve(p, r, noise)
    truth = truths(s.equation() for s in p.steps)
    labels = label_steps(truth, steps)
    if kind == "plain":
        return plain(tok, p.text, steps, ans)
    if kind == "judged":
        return judged(tok, p.text, steps, ans, labels + [ans == p.answer])
    if kind == "grade":
        k = r.randrange(len(steps))
        reply = str(grade(truth, steps, k))
        return asked(tok, p.text, steps[: k + 1], None, GRADE, reply)
    if kind == "restart":
        k = r.randrange(len(steps) + 1)
        if k == len(steps):
            return asked(tok, p.text, steps, ans, RESTART, "N" if ans == p.answer else "Y")
        return asked(tok, p.text, steps[: k + 1], None, RESTART, "N" if labels[k] else "Y")
    more, final = solve(p, r, CAREFUL)
    return again(tok, p.text, steps, ans, more, final)


def main():
    """Print examples, then count how often the authors are right."""
    r = random.Random(5)
    for level in (1, 2, 3, 4) * 2:
        p = make_problem(r, level)
        steps, ans = solve(p, r)
        print(f"[{p.level} {p.family}] {p.text}")
        for s, ok in zip(steps, label_steps(truths(s.equation() for s in p.steps), steps)):
            print(" +" if ok else " -", s)
        print(ans, p.answer, "\n")
    start, n = time.process_time(), 1500
    for level in (1, 2, 3, 4):
        rows = []
        for _ in range(n):
            p = make_problem(r, level)
            steps, ans = solve(p, r)
            rows.append((sum(map(len, steps)), ans == p.answer))
            clean, right = solve(p, r, clean=True)
            assert right == p.answer
            assert all(label_steps(truths(s.equation() for s in p.steps), clean))
        print(
            level, "right", sum(ok for _, ok in rows) / n, "characters", sum(c for c, _ in rows) / n
        )
    print(4 * n / (time.process_time() - start), "problems a second")


if __name__ == "__main__":
    main()
