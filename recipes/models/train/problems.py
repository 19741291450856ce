"""Procedural word problems whose every step is a checkable equation.

A problem is a list of sentences and a list of symbolic steps `a op b = c`, where a and b are given
numbers or results of earlier steps. The families share two parts: `relate`, one quantity told by
another, and `walk`, what happens to a quantity in the course of a story.

A *trap* is the step a careless reader would make instead: the wrong direction of a comparison, the
wrong branch of a rule. A trap is mild or hard; which one shows in the wording alone, so that a model
can learn how often the authors of the training traces fall into each (traces.py).

The split is by template: the text without its numbers, names and things. One template in ten, by
its hash, belongs to the dev sets; training never sees a problem of it, whatever its seed.
"""
import random
import re
import zlib

HIS = "Tom Ben Sam Leo Max Jack Adam Omar Ivan Noah Luke Hugo Paul Carl Eric Finn"
HER = "Mia Ann Eva Zoe Lily Rosa Nina Sara Emma Ruth Jane Kate Lucy Vera Iris Dora"
PRONOUNS = {n: ("He", "his") for n in HIS.split()} | {n: ("She", "her") for n in HER.split()}
NAMES = list(PRONOUNS)
THINGS = (
    "apples books coins cards shells stamps pens marbles stickers eggs plums beads stones cups "
    "roses photos"
).split()
PACKS = "boxes bags packs baskets jars".split()
GOODS = "pen book ruler lamp hat mug ball bag clock toy scarf kite".split()
MADE = "toys lamps hats kites candles chairs cakes pies masks bowls".split()
PEOPLE = "pupils guests members players workers visitors".split()
VEHICLES = "bus train truck car van tram".split()
PARTS = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth"}
TIMES = {2: "twice", 3: "3 times", 4: "4 times", 5: "5 times", 6: "6 times"}
PERCENT = {10: (10, 1), 20: (5, 1), 25: (4, 1), 50: (2, 1), 75: (4, 3), 30: (10, 3), 40: (10, 4)}
UNITS = [  # larger, smaller, how many
    ("hours", "minutes", 60),
    ("weeks", "days", 7),
    ("days", "hours", 24),
    ("years", "months", 12),
    ("meters", "centimeters", 100),
    ("dozens of eggs", "eggs", 12),
]
LIMIT = 999
LEVELS = (1, 2, 3, 4)
STEPS = {1: (2, 3), 2: (4, 5), 3: (6, 7, 8), 4: (4, 5, 6)}
SIZE = {1: 30, 2: 80, 3: 150, 4: 90}  # of the given numbers
DEV_SHARE = 10  # one template in so many


class Bad(Exception):
    """This attempt at a problem does not work out; try another."""


def compute(op, a, b):
    """The result, or Bad when it is not a whole number from 1 to LIMIT."""
    if op == "/":
        if b == 0 or a % b:
            raise Bad
        c = a // b
    else:
        c = {"+": a + b, "-": a - b, "*": a * b}[op]
    if not 0 < c <= LIMIT:
        raise Bad
    return c


class Step:
    """`a op b = c`; a and b are numbers or earlier steps. text has a place for the equation."""

    def __init__(self, op, a, b, text, trap, hard):
        self.op, self.a, self.b, self.text, self.trap, self.hard = op, a, b, text, trap, hard
        self.c = compute(op, value(a), value(b))

    def equation(self):
        return value(self.a), self.op, value(self.b), self.c


def value(x):
    """The true value of a given number or of a step."""
    return x.c if isinstance(x, Step) else x


class Problem:
    """Sentences, question and steps."""

    def __init__(self, level, n_steps):
        self.level, self.n_steps = level, n_steps
        self.facts, self.steps = [], []
        self.question = self.family = None
        self.size = SIZE[level]

    @property
    def left(self):
        """How many steps are still to come."""
        return self.n_steps - len(self.steps)

    @property
    def text(self):
        return " ".join(self.facts + [self.question])

    @property
    def answer(self):
        return self.steps[-1].c

    @property
    def traps(self):
        """How many hard ones."""
        return sum(s.hard for s in self.steps)

    def say(self, sentence):
        self.facts.append(sentence[0].upper() + sentence[1:])

    def step(self, op, a, b, text, trap=None, hard=False):
        """trap: (op, b) of the careless reader. A trap that leads out of the numbers is none."""
        if len(self.steps) == self.n_steps:
            raise Bad
        if trap:
            try:
                compute(trap[0], value(a), trap[1])
            except Bad:
                trap = None
        s = Step(op, a, b, text, trap, hard and trap is not None)
        self.steps.append(s)
        return s

    def trapdoor(self, r):
        """Whether the next trap is to be a hard one."""
        return r.random() < {1: 0.0, 2: 0.12, 3: 0.2, 4: 0.95}[self.level]


def divisor(r, x, lo=2, hi=9):
    """A random divisor of x."""
    c = [d for d in range(lo, hi + 1) if x % d == 0 and x // d > 1]
    if not c:
        raise Bad
    return r.choice(c)


def amount(r, p, val=None):
    """A number to add, or to take from val."""
    if val is not None and val < 6:
        raise Bad
    return r.randint(2, p.size if val is None else min(p.size, val - 2))


# ---------------------------------------------------------------- one quantity told by another
class Kind:
    """How a comparison is worded: `A {has} {unit}5 {more} {noun}than B`."""

    def __init__(self, has, more, less, many, noun="", unit=""):
        self.has, self.more, self.less, self.many = has, more, less, many
        self.noun, self.unit = noun + " " if noun else "", unit


def things(noun):
    return Kind("has", "more", "fewer", f"as many {noun} as", noun)


COST = Kind("costs", "more", "less", "as much as", unit="$")
AGE = Kind("is", "years older", "years younger", "as old as")


def relate(p, r, x, old, new, kind, text):
    """Tell the quantity of `new` by that of `old`, which is x. Returns the step."""
    val = value(x)
    h, n, u = kind.has, kind.noun, kind.unit
    forms = ["more", "fewer", "times", "part", "inv_more", "inv_fewer", "inv_times"]
    weights = [3, 3, 3, 2, 3, 3, 1] if p.level < 4 else [1, 1, 1, 1, 6, 6, 0]
    form = r.choices(forms, weights)[0]
    if form in ("more", "inv_fewer"):
        d = amount(r, p)
        if form == "more":
            p.say(f"{new} {h} {u}{d} {kind.more} {n}than {old}.")
            return p.step("+", x, d, text)
        hard = p.trapdoor(r)
        p.say(
            f"That is {u}{d} {kind.less} {n}than {new} {h}."
            if hard and old in p.facts[-1]
            else f"Compared with {new}, {old} {h} {u}{d} {kind.less}."
            if hard
            else f"{old} {h} {u}{d} {kind.less} {n}than {new}."
        )
        return p.step("+", x, d, text, ("-", d), hard)
    if form in ("fewer", "inv_more"):
        d = amount(r, p, val)
        if form == "fewer":
            p.say(f"{new} {h} {u}{d} {kind.less} {n}than {old}.")
            return p.step("-", x, d, text)
        hard = p.trapdoor(r)
        p.say(
            f"That is {u}{d} {kind.more} {n}than {new} {h}."
            if hard and old in p.facts[-1]
            else f"Compared with {new}, {old} {h} {u}{d} {kind.more}."
            if hard
            else f"{old} {h} {u}{d} {kind.more} {n}than {new}."
        )
        return p.step("-", x, d, text, ("+", d), hard)
    if form == "times":
        k = r.randint(2, 6)
        p.say(f"{new} {h} {TIMES[k]} {kind.many} {old}.")
        return p.step("*", x, k, text)
    if form == "part":
        k = divisor(r, val, 2, 5)
        p.say(f"{new} {h} {PARTS[k]} {kind.many} {old}.")
        return p.step("/", x, k, text)
    k = divisor(r, val, 2, 6)
    p.say(f"{old} {h} {TIMES[k]} {kind.many} {new}.")
    return p.step("/", x, k, text, ("*", k))


# ---------------------------------------------------------------- what happens to a quantity
class Tale:
    """Who the story is about, and of what: the words that the events are told in."""

    def __init__(self, r, who, noun, he=None, verb="has", money=False):
        self.who, self.noun, self.verb, self.money = who, noun, verb, money
        self.he, self.his = PRONOUNS.get(who, (he or "It", "its"))
        self.u = "$" if money else ""
        self.now = f"{who} now {verb} {{eq}} {noun}."
        self.r = r

    def gain(self, d):
        he = self.he
        if self.money:
            forms = [
                f"{he} gets ${d} more.",
                f"{he} earns ${d}.",
                f"A friend gives {self.who} ${d}.",
            ]
        else:
            forms = [
                f"{he} buys {d} more.",
                f"Then {he.lower()} gets {d} more.",
                f"{he} finds {d} more.",
                f"After that {he.lower()} is given another {d}.",
            ]
        return self.r.choice(forms)

    def lose(self, d):
        he = self.he
        if self.money:
            forms = [
                f"{he} spends ${d}.",
                f"{he} pays ${d} for lunch.",
                f"Then {he.lower()} loses ${d}.",
            ]
        else:
            forms = [
                f"{he} gives away {d}.",
                f"Then {he.lower()} loses {d}.",
                f"{he} sells {d} of them.",
                f"But {d} of them break.",
            ]
        return self.r.choice(forms)


def ev_gain(p, r, t, x):
    d = amount(r, p)
    p.say(t.gain(d))
    return p.step("+", x, d, t.now)


def ev_lose(p, r, t, x):
    d = amount(r, p, value(x))
    p.say(t.lose(d))
    return p.step("-", x, d, t.now)


def ev_times(p, r, t, x):
    k = r.choice([2, 2, 3, 4])
    word = {2: "doubles", 3: "triples", 4: "becomes 4 times as large"}[k]
    p.say(f"Later the number of {t.noun} {word}.")
    return p.step("*", x, k, t.now)


def ev_packs(p, r, t, x):
    c, m = r.randint(2, 9), r.randint(2, max(5, p.size // 4))
    pack = r.choice(PACKS)
    if r.random() < 0.5:
        p.say(f"{t.he} buys {c} {pack} of {m} {t.noun} each.")
        y = p.step("*", c, m, f"The {pack} hold {{eq}} {t.noun}.")
        return p.step("+", x, y, t.now)
    p.say(f"{t.he} gives {m} {t.noun} to each of {c} friends.")
    y = p.step("*", c, m, f"The friends get {{eq}} {t.noun}.")
    return p.step("-", x, y, t.now)


def ev_part(p, r, t, x):
    k = divisor(r, value(x), 2, 5)
    p.say(
        r.choice(
            [
                f"{t.he} gives away {PARTS[k]} of them.",
                f"{t.he} loses {PARTS[k]} of {t.his} {t.noun}.",
            ]
        )
        if not t.money
        else f"{t.he} spends {PARTS[k]} of the money."
    )
    y = p.step("/", x, k, f"That is {{eq}} {t.noun} gone.")
    return p.step("-", x, y, t.now)


def percent_of(p, r, x, of, most=2):
    """The step of a percentage of x, told by {of} with a place for the number."""
    c = [k for k, (d, m) in PERCENT.items() if value(x) % d == 0 and (m == 1 or most > 1)]
    if not c:
        raise Bad
    k = r.choice(c)
    d, m = PERCENT[k]
    p.say(of.format(k))
    if m == 1:
        return p.step("/", x, d, f"{k} percent is {{eq}}.")
    y = p.step("/", x, d, f"{100 // d} percent is {{eq}}.")
    return p.step("*", y, m, f"{k} percent is {{eq}}.")


def ev_percent(p, r, t, x):
    if r.random() < 0.5:
        y = percent_of(p, r, x, f"{t.he} loses {{}} percent of {t.his} {t.noun}.", p.left - 1)
        return p.step("-", x, y, t.now)
    y = percent_of(p, r, x, f"Then the number of {t.noun} grows by {{}} percent.", p.left - 1)
    return p.step("+", x, y, t.now)


def ev_friend(p, r, t, x):
    if t.he == "It":
        raise Bad
    friend = r.choice([n for n in NAMES if n != t.who and all(n not in f for f in p.facts)])
    p.say(f"{t.who} meets {friend} when {t.he.lower()} {t.verb} these {t.noun}.")
    y = relate(p, r, x, t.who, friend, things(t.noun), f"{friend} has {{eq}} {t.noun}.")
    p.say(f"{friend} gives all of them to {t.who}.")
    return p.step("+", x, y, t.now)


def ev_rule(p, r, t, x):
    """A rule with two branches; the careless reader takes the other one."""
    val = value(x)
    bound = max(3, val + r.choice([-1, 1]) * r.randint(1, max(2, val // 3)))
    gain, loss = amount(r, p), amount(r, p, val)
    over = val > bound
    up = r.random() < 0.5  # whether it is good to have more than the bound
    first, second = (f"gets {gain} more", f"gives {loss} back")[:: 1 if up else -1]
    hard = p.trapdoor(r)
    if hard:
        p.say(
            f"{t.he} {second} unless {t.he.lower()} {t.verb} more than {bound}; then {t.he.lower()} {first}."
        )
    else:
        p.say(
            f"With more than {bound} {t.noun} {t.he.lower()} {first}, otherwise {t.he.lower()} {second}."
        )
    plus = over == up
    word = "more" if over else "not more"
    text = f"That is {word} than {bound}, so {t.who} now {t.verb} {{eq}} {t.noun}."
    return p.step(
        "+" if plus else "-",
        x,
        gain if plus else loss,
        text,
        ("-", loss) if plus else ("+", gain),
        hard,
    )


def end_share(p, r, t, x):
    d = divisor(r, value(x))
    p.say(f"{t.he} shares them equally among {d} friends.")
    p.question = f"How many {t.noun} does each friend get?"
    return p.step("/", x, d, f"Each friend gets {{eq}} {t.noun}.")


EVENTS = {  # event: (steps at least, weight below level 4, weight at level 4)
    ev_gain: (1, 3, 1),
    ev_lose: (1, 3, 1),
    ev_times: (1, 2, 1),
    ev_packs: (2, 3, 1),
    ev_part: (2, 2, 1),
    ev_percent: (2, 2, 1),
    ev_friend: (2, 3, 6),
    ev_rule: (1, 1.5, 8),
}


def walk(p, r, t, x, without=()):
    """Events until all steps are used up; sets the question unless an event did."""
    while p.left:
        if (
            p.left == 1
            and p.question is None
            and not t.money
            and t.he != "It"
            and r.random() < 0.15
        ):
            x = end_share(p, r, t, x)
            continue
        fit = [e for e in EVENTS if EVENTS[e][0] <= p.left and e not in without]
        x = r.choices(fit, [EVENTS[e][1 + (p.level == 4)] for e in fit])[0](p, r, t, x)
    if p.question is None:
        p.question = f"How many {t.noun} does {t.who} have now?"
    return x


# ---------------------------------------------------------------- families
def compare(p, r):
    """People who have more or fewer things than others."""
    obj = r.choice(THINGS)
    names = r.sample(NAMES, 8)
    x0 = r.randint(4, p.size)
    p.say(f"{names[0]} has {x0} {obj}.")
    known = [(names[0], x0)]
    n_sum = r.choice([0, 0, 1, 2] if p.n_steps >= 3 else [0, 1])
    while p.left > n_sum:
        old, x = known[-1] if r.random() < 0.75 else r.choice(known)
        new = names[len(known)]
        known.append((new, relate(p, r, x, old, new, things(obj), f"{new} has {{eq}} {obj}.")))
    if n_sum == 0:
        p.question = f"How many {obj} does {known[-1][0]} have?"
        return
    if len(known) <= n_sum:
        raise Bad
    group = r.sample(known[:-1], n_sum) + [known[-1]]
    who, acc = group[0]
    for name, x in group[1:]:
        who = f"{who} and {name}"
        acc = p.step("+", acc, x, f"{who} have {{eq}} {obj}.")
    p.question = f"How many {obj} do {who} have together?"


def inventory(p, r):
    """What happens to one person's things."""
    t = Tale(r, r.choice(NAMES), r.choice(THINGS))
    x = r.randint(5, p.size)
    p.say(r.choice([f"{t.who} has {x} {t.noun}.", f"{t.who} starts with {x} {t.noun}."]))
    walk(p, r, t, x)


def shop(p, r):
    """Prices, a bill, a discount, the change."""
    name = r.choice(NAMES)
    he = PRONOUNS[name][0]
    goods = r.sample(GOODS, 4)
    price = r.randint(2, max(9, p.size // 3))
    p.say(f"A {goods[0]} costs ${price}.")
    items = [(goods[0], price)]
    end = r.choice(["total", "change", "split"])
    tail = end != "total"
    while p.left - tail >= 3 and len(items) < 4 and r.random() < (0.7 if p.level < 4 else 0.95):
        old, x = items[-1]
        new = goods[len(items)]
        y = relate(p, r, x, f"a {old}", f"a {new}", COST, f"A {new} costs {{eq}} dollars.")
        items.append((new, y))
    k = min(len(items), (p.left - tail + 1) // 2)
    if k < 1:
        raise Bad
    buy = items[-k:]
    counts = [r.randint(2, 9) for _ in buy]
    p.say(f"{name} buys " + " and ".join(f"{c} {g}s" for c, (g, _) in zip(counts, buy)) + ".")
    parts = [p.step("*", x, c, f"The {g}s cost {{eq}} dollars.") for c, (g, x) in zip(counts, buy)]
    total = parts[0]
    for y in parts[1:]:
        total = p.step("+", total, y, "Together that is {eq} dollars.")
    while p.left > tail:
        if p.left - tail >= 2 and r.random() < 0.6:
            y = percent_of(p, r, total, "The shop takes {} percent off.", p.left - tail - 1)
            total = p.step("-", total, y, "The bill is {eq} dollars.")
        elif r.random() < 0.5:
            d = amount(r, p, value(total))
            p.say(f"The shop takes ${d} off the bill.")
            total = p.step("-", total, d, "The bill is {eq} dollars.")
        else:
            d = r.randint(2, 20)
            p.say(f"The shop adds ${d} for delivery.")
            total = p.step("+", total, d, "The bill is {eq} dollars.")
    if end == "total":
        p.question = f"How many dollars does {name} pay?"
    elif end == "change":
        val = value(total)
        w = (val // 50 + 1) * 50 if r.random() < 0.5 else val + r.randint(1, p.size)
        if w > LIMIT:
            raise Bad
        p.say(f"{he} pays with ${w}.")
        p.question = f"How many dollars does {name} get back?"
        p.step("-", w, total, f"{name} gets {{eq}} dollars back.")
    else:
        d = divisor(r, value(total))
        p.say(f"{he} splits the bill equally among {d} people.")
        p.question = "How many dollars does each person pay?"
        p.step("/", total, d, "Each person pays {eq} dollars.")


def work(p, r):
    """Making things by the hour, then selling or packing them."""
    name, obj = r.choice(NAMES), r.choice(MADE)
    rate = r.randint(3, max(9, p.size // 4))
    x = rate
    if p.left >= 3 and r.random() < (0.6 if p.level < 4 else 0.95):
        other = r.choice([n for n in NAMES if n != name])
        p.say(f"{other} makes {rate} {obj} an hour.")
        kind = Kind("makes", "more", "fewer", f"as many {obj} an hour as", f"{obj} an hour")
        x = relate(p, r, x, other, name, kind, f"{name} makes {{eq}} {obj} an hour.")
    else:
        p.say(f"{name} makes {rate} {obj} an hour.")
    h = r.randint(2, 8)
    p.say(r.choice([f"{name} works {h} hours a day.", f"A working day of {name} has {h} hours."]))
    x = p.step("*", x, h, f"{name} makes {{eq}} {obj} a day.")
    if p.left and r.random() < 0.5 and value(x) <= 160:
        d = r.randint(2, 6)
        p.say(f"{PRONOUNS[name][0]} works for {d} days.")
        x = p.step("*", x, d, f"In {d} days {name} makes {{eq}} {obj}.")
    t = Tale(r, name, obj)
    if p.left and r.random() < 0.4:
        if r.random() < 0.5:
            d = divisor(r, value(x))
            p.say(f"{t.he} packs the {obj} in boxes of {d}.")
            x = p.step("/", x, d, "There are {eq} boxes.")
            t = Tale(r, name, "boxes")
        else:
            d = r.randint(2, 9)
            p.say(f"{t.he} sells each of the {obj} for ${d}.")
            x = p.step("*", x, d, f"{name} gets {{eq}} dollars.")
            t = Tale(r, name, "dollars", money=True)
    walk(p, r, t, x, (ev_packs, ev_friend) if t.money else ())


def travel(p, r):
    """Speeds and distances."""
    a, b = r.sample(VEHICLES, 2)
    v = r.randint(10, min(90, 20 + p.size))
    p.say(f"A {a} drives {v} miles an hour.")
    who, x = a, v
    if p.left >= 3 and r.random() < (0.6 if p.level < 4 else 0.95):
        kind = Kind("drives", "more", "fewer", "as many miles an hour as", "miles an hour")
        x = relate(p, r, v, f"the {a}", f"the {b}", kind, f"The {b} drives {{eq}} miles an hour.")
        who = b
    h = r.randint(2, 6)
    p.say(
        r.choice([f"The {who} drives for {h} hours.", f"The {who} is on the road for {h} hours."])
    )
    x = p.step("*", x, h, f"In {h} hours the {who} drives {{eq}} miles.")
    q = f"How many miles is the trip of the {who}?"
    while p.left:
        e = r.choice(["more", "round", "rest", "before"])
        if e == "more":
            d = amount(r, p)
            p.say(f"Then it drives {d} miles more.")
            x = p.step("+", x, d, "The trip is now {eq} miles.")
        elif e == "round":
            k = r.randint(2, 4)
            p.say(f"It makes the same trip {k} times.")
            x = p.step("*", x, k, "All trips together are {eq} miles.")
        elif e == "before":
            d = amount(r, p, value(x))
            hard = p.trapdoor(r)
            p.say(
                f"This is {d} miles more than through the tunnel."
                if hard
                else f"A new tunnel makes the trip {d} miles shorter."
            )
            x = p.step("-", x, d, "Through the tunnel it is {eq} miles.", ("+", d), hard)
            q = "How many miles is the trip through the tunnel?" if not p.left else q
        elif p.left == 1:
            d = amount(r, p)
            p.say(f"The whole way is {value(x) + d} miles.")
            x = p.step("-", value(x) + d, x, "There are {eq} miles left.")
            q = f"How many miles does the {who} still have to drive?"
    p.question = q


def percents(p, r):
    """Shares of a group of people."""
    noun = r.choice(PEOPLE)
    place = r.choice(["club", "school", "town", "firm", "museum"])
    x = 20 * r.randint(1, 2 + p.size // 4)
    p.say(f"A {place} has {x} {noun}.")
    t = Tale(r, f"the {place}", noun)
    t.now = f"The {place} now has {{eq}} {noun}."
    t.gain = lambda d: r.choice([f"{d} new {noun} come.", f"Then {d} {noun} join."])
    t.lose = lambda d: r.choice([f"{d} {noun} leave.", f"Then {d} of the {noun} go away."])
    if p.n_steps >= 3 and r.random() < 0.5:
        if r.random() < 0.6:
            y = percent_of(p, r, x, f"{{}} percent of the {noun} are children.", p.left - 1)
        else:
            y = p.step("/", x, divisor(r, x, 2, 5), "There are {eq} children.")
            p.say(f"{PARTS[y.b]} of the {noun} are children.")
        rest = p.step("-", x, y, f"There are {{eq}} {noun} who are no children.")
        if p.left == 0:
            p.question = f"How many {noun} are no children?"
            return
        t.noun, t.now = "grown-ups", f"The {place} now has {{eq}} grown-ups."
        p.say("All others are grown-ups.")
        t.gain = lambda d: f"{d} more grown-ups come."
        t.lose = lambda d: f"{d} of the grown-ups leave."
        x = rest
    walk(p, r, t, x, (ev_packs, ev_part, ev_friend))


def ages(p, r):
    """How old people are, were and will be."""
    names = r.sample(NAMES, 8)
    x = r.randint(5, 30)
    p.say(f"{names[0]} is {x} years old.")
    who = names[0]
    i = 0
    while p.left > 1 or (p.left and r.random() < 0.5):
        i += 1
        e = r.random()
        if e < 0.3:
            d = r.randint(2, 20)
            hard = p.trapdoor(r)
            if r.random() < 0.5:
                p.say(
                    f"{who} is now as old as {names[i]} was {d} years ago."
                    if hard
                    else f"{names[i]} was as old as {who} is now {d} years ago."
                )
                y = p.step("+", x, d, f"{names[i]} is {{eq}} years old.", ("-", d), hard)
            else:
                if value(x) < d + 3:
                    raise Bad
                p.say(
                    f"{who} is now as old as {names[i]} will be in {d} years."
                    if hard
                    else f"In {d} years {names[i]} will be as old as {who} is now."
                )
                y = p.step("-", x, d, f"{names[i]} is {{eq}} years old.", ("+", d), hard)
        else:
            y = relate(p, r, x, who, names[i], AGE, f"{names[i]} is {{eq}} years old.")
        if y.c > 120:
            raise Bad
        who, x = names[i], y
        if i == 7:
            raise Bad
    if not p.left:
        p.question = f"How old is {who}?"
        return
    e = r.choice(["in", "ago", "sum"])
    d = r.randint(2, 15)
    if e == "sum" and i >= 1:
        first = p.steps[-1].a
        p.question = f"How many years are {names[i - 1]} and {who} old together?"
        p.step("+", first, x, f"{names[i - 1]} and {who} are {{eq}} years old together.")
    elif e == "ago" and value(x) > d + 1:
        p.question = f"How old was {who} {d} years ago?"
        p.step("-", x, d, f"{d} years ago {who} was {{eq}} years old.")
    else:
        p.question = f"How old will {who} be in {d} years?"
        p.step("+", x, d, f"In {d} years {who} will be {{eq}} years old.")


def geometry(p, r):
    """Rectangles: sides, fence, area, tiles, cost."""
    what = r.choice(["garden", "yard", "field", "room", "park"])
    w = r.randint(2, max(9, p.size // 5))
    p.say(r.choice([f"A {what} is {w} meters wide.", f"The width of a {what} is {w} meters."]))
    x = w
    if p.left >= 2 and r.random() < 0.75:
        kind = Kind("is", "meters longer", "meters shorter", "as long as")
        length = relate(p, r, x, "its width", "its length", kind, "The length is {eq} meters.")
    else:
        length = r.randint(2, max(9, p.size // 5))
        p.say(f"It is {length} meters long.")
    if r.random() < 0.5:
        y = p.step("*", length, x, "The area is {eq} square meters.", ("+", w))
        unit, q = "square meters", f"How many square meters is the {what}?"
        noun = "plants" if r.random() < 0.5 else "tiles"
        per = f"Each square meter needs {{}} {noun}."
    else:
        s = p.step("+", length, x, "Two sides together are {eq} meters.")
        y = p.step("*", s, 2, "The way around is {eq} meters.")
        unit, q = "meters", f"How many meters is it around the {what}?"
        noun = r.choice(["posts", "lamps"])
        per = f"Each meter of the way around needs {{}} {noun}."
    if not p.left:
        p.question = q
        return
    if r.random() < 0.5 and p.left >= 1:
        d = amount(r, p, value(y))
        p.say(f"A gate of {d} {unit} is left out.")
        y = p.step("-", y, d, f"There remain {{eq}} {unit}.")
        q = f"How many {unit} remain?"
    if not p.left:
        p.question = q
        return
    k = r.randint(2, 6)
    p.say(per.format(k))
    y = p.step("*", y, k, f"That takes {{eq}} {noun}.")
    t = Tale(r, r.choice(NAMES), noun)
    p.say(f"{t.who} gets exactly as many {noun}.")
    p.question = None if p.left else f"How many {noun} does {t.who} get?"
    walk(p, r, t, y)


def units(p, r):
    """Changing units, then going on in the smaller or larger one."""
    big, small, k = r.choice(UNITS)
    name = r.choice(NAMES)
    t = Tale(r, name, small)
    t.now = f"That makes {{eq}} {small}."
    t.gain = lambda d: r.choice([f"Then come {d} {small} more.", f"Another {d} {small} are added."])
    t.lose = lambda d: r.choice(
        [f"Then {d} {small} are taken off.", f"But {d} {small} do not count."]
    )
    n = r.randint(2, min(9, LIMIT // k))
    p.say(r.choice([f"{name} plans {n} {big} for a task.", f"{name} notes {n} {big} on a list."]))
    x = p.step("*", n, k, f"{n} {big} are {{eq}} {small}.", ("*", 10) if k in (12, 60) else None)
    p.question = f"How many {small} is that in all?"
    if p.left and r.random() < 0.5:
        d = r.randint(2, k - 1)
        p.say(f"There are also {d} {small}.")
        x = p.step("+", x, d, f"Together that is {{eq}} {small}.")
    if p.left >= 2 and r.random() < 0.4:
        m = r.randint(2, 4)
        p.say(f"A second list has {m} {big}.")
        y = p.step("*", m, k, f"{m} {big} are {{eq}} {small}.")
        x = p.step("+", x, y, f"Together that is {{eq}} {small}.")
    walk(p, r, t, x, (ev_packs, ev_part, ev_friend, ev_percent))


def algebra(p, r):
    """A number is changed step by step; the result is known, the number is asked."""
    name = r.choice(NAMES)
    x = r.randint(2, max(9, p.size // 3))
    told, undo, val = [], [], x
    last = None
    for _ in range(p.n_steps):
        op = r.choice([o for o in "+-*/" if o != last])
        if op == "*":
            b = r.randint(2, 6)
        elif op == "/":
            b = divisor(r, val, 2, 6)
        elif op == "-":
            b = amount(r, p, val)
        else:
            b = amount(r, p)
        last = op
        val = compute(op, val, b)
        hard = p.trapdoor(r) and r.random() < 0.6
        word = {
            "+": (f"adds {b}", f"makes it {b} larger"),
            "-": (f"takes {b} away", f"makes it {b} smaller"),
            "*": (f"multiplies by {b}", f"makes it {b} times as large"),
            "/": (f"divides by {b}", f"cuts it into {b} equal parts and keeps one"),
        }[op][hard]
        told.append(word)
        undo.append(({"+": "-", "-": "+", "*": "/", "/": "*"}[op], b, op, hard))
    p.say(f"{name} thinks of a number.")
    p.say(f"{PRONOUNS[name][0]} {told[0]}.")
    for w in told[1:]:
        p.say(f"Then {PRONOUNS[name][0].lower()} {w}.")
    p.say(r.choice([f"The result is {val}.", f"Now the number is {val}."]))
    p.question = f"What number did {name} think of?"
    x = val
    for i, (op, b, wrong, hard) in enumerate(reversed(undo)):
        end = i == p.n_steps - 1
        text = "The number was {eq}." if end else "Before that it was {eq}."
        x = p.step(op, x, b, text, (wrong, b), hard)


def parts(p, r):
    """A total and a difference; then what each of two people does."""
    a, b = r.sample(NAMES, 2)
    obj = r.choice(THINGS)
    low, d = r.randint(3, p.size), amount(r, p)
    p.say(f"{a} and {b} have {2 * low + d} {obj} together.")
    p.say(f"{a} has {d} more than {b}.")
    y = p.step("-", 2 * low + d, d, "Without the difference that is {eq}.")
    y = p.step("/", y, 2, f"{b} has {{eq}} {obj}.")
    if p.left and r.random() < 0.4:
        y = p.step("+", y, d, f"{a} has {{eq}} {obj}.", ("-", d))
        b = a
    t = Tale(r, b, obj)
    if p.left == 0:
        p.question = f"How many {obj} does {b} have?"
    else:
        p.say(f"Now look at {b}.")
        p.question = None
    walk(p, r, t, y)


FAMILIES = {  # family: weight
    compare: 3,
    inventory: 4,
    shop: 2,
    work: 2,
    travel: 1.5,
    percents: 1.5,
    ages: 1.5,
    geometry: 1.5,
    units: 1.5,
    algebra: 1.5,
    parts: 1,
}

ASIDE = [
    "{} has known this for {} years.",
    "{} lives in house number {}.",
    "{} will be away for {} weeks.",
]


def aside(p, r):
    """A sentence with a number that nobody needs."""
    i = r.choice([0, len(p.facts)])  # not between two that refer to each other
    p.facts.insert(i, r.choice(ASIDE).format("A neighbor", r.randint(2, 40)))


# ---------------------------------------------------------------- split
WORDS = {n: "@" for n in NAMES}
for _nouns in (THINGS, PACKS, MADE, PEOPLE, VEHICLES, GOODS, [g + "s" for g in GOODS]):
    WORDS |= {w: "~" for w in _nouns}
TOKEN = re.compile(r"[A-Za-z]+|\d+")


def template(text):
    """The text without its numbers, names and things: what makes two problems alike."""
    return TOKEN.sub(
        lambda m: "#" if m[0][0].isdigit() else WORDS.get(m[0], m[0]),
        re.sub(r"\b(He|She|he|she|his|her)\b", "@", text),
    )


def is_dev(text):
    """Whether a problem belongs to the dev sets by its template."""
    return zlib.crc32(template(text).encode()) % DEV_SHARE == 0


def make_problem(r, level=None, split="train"):
    """A problem of a level (random if not given) and of a split ("train" or "dev")."""
    level = level or r.choice(LEVELS)
    while True:
        p = Problem(level, r.choice(STEPS[level]))
        family = r.choices(list(FAMILIES), FAMILIES.values())[0]
        try:
            family(p, r)
        except (Bad, IndexError):
            continue
        if p.left or (level == 4 and p.traps < 2) or (level < 4 and p.traps > 1):
            continue
        if level > 1 and r.random() < 0.15:
            aside(p, r)
        if is_dev(p.text) == (split == "dev"):
            p.family = family.__name__
            return p


def main():
    """Print examples of every family, then measure the generator."""
    r = random.Random(5)
    shown = set()
    while len(shown) < len(FAMILIES) * len(LEVELS) and r.random() < 0.9995:
        p = make_problem(r)
        if (p.family, p.level) not in shown:
            shown.add((p.family, p.level))
            print(f"[{p.level} {p.family}, {p.traps} hard] {p.text}")
            for s in p.steps:
                a, op, b, c = s.equation()
                print("   ", s.text.replace("{eq}", f"{a} {op} {b} = {c}"), s.trap or "")


if __name__ == "__main__":
    main()
