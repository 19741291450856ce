#!/usr/bin/python3
"""What reward models say of steps, computed a second time: the conversation is written and cut into
tokens here, in one piece as the programs of the models' authors do it, and run through the forward
pass of forward.py in double precision. Needs NumPy. English letters only.

    tests/reference/readouts.py build      makes the models with build/tests/tools/make_model and
                                           rewrites readouts.json

readouts.json is a list; of each entry: shape (of tests/support/random_model.c, in F32), head (its kind
and the numbers of head_values; null: none), scorer (what stands behind the model's name), problem,
steps, and rewards.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

import numpy as np

from forward import Model, softmax

PROBLEM = "Tom has 3 bags of 14 marbles and gives 5 away. How many are left?"
STEPS = ["Each bag holds 14 marbles, so 3 bags hold 3 * 14 = 42.",
         "He gives 5 away.\nThat leaves 42 - 5 = 37.",
         "The answer is 37."]
SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."

# ---- tokens -------------------------------------------------------------------------------------


def gpt2_letters():
    """byte -> the letter that stands for it"""
    own = list(range(0x21, 0x7f)) + list(range(0xa1, 0xad)) + list(range(0xae, 0x100))
    rest = [b for b in range(256) if b not in own]
    return {**{b: chr(b) for b in own}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


SPLIT = re.compile(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]"
                   r"| ?[^\sA-Za-z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


class Bpe:
    def __init__(self, keys):
        tokens = keys["tokenizer.ggml.tokens"]
        self.ids = {t: i for i, t in enumerate(tokens)}
        self.rank = {tuple(m.split(" ")): i for i, m in enumerate(keys["tokenizer.ggml.merges"])}
        self.special = [t for t, kind in zip(tokens, keys["tokenizer.ggml.token_type"]) if kind == 3]
        self.letters = gpt2_letters()
        self.bos = keys["tokenizer.ggml.bos_token_id"]

    def word(self, text):
        parts = [self.letters[b] for b in text.encode()]
        while len(parts) > 1:
            ranks = [self.rank.get(pair, 1 << 30) for pair in zip(parts, parts[1:])]
            i = min(range(len(ranks)), key=ranks.__getitem__)
            if ranks[i] == 1 << 30:
                break
            parts[i:i + 2] = [parts[i] + parts[i + 1]]
        return [self.ids[p] for p in parts]

    def encode(self, text):
        ids = []
        for part in re.split("(" + "|".join(map(re.escape, self.special)) + ")", text):
            if part in self.special:
                ids.append(self.ids[part])
            else:
                ids += [i for w in SPLIT.findall(part) for i in self.word(w)]
        return ids


class Spm:
    def __init__(self, keys):
        self.tokens = keys["tokenizer.ggml.tokens"]
        self.ids = {t: i for i, t in enumerate(self.tokens)}
        self.score = keys["tokenizer.ggml.scores"]
        self.bos = keys["tokenizer.ggml.bos_token_id"]

    def encode(self, text):
        parts = list(("▁" + text).replace(" ", "▁"))
        while True:
            scores = [self.score[self.ids[a + b]] if a + b in self.ids else -np.inf
                      for a, b in zip(parts, parts[1:])]
            if not scores or max(scores) == -np.inf:
                break
            i = int(np.argmax(scores))
            parts[i:i + 2] = [parts[i] + parts[i + 1]]
        ids = []
        for p in parts:
            ids += [self.ids[p]] if p in self.ids else [self.ids[f"<0x{b:02X}>"] for b in p.encode()]
        return ids


def chatml(messages, more=""):
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in messages) + more


ASSISTANT = "<|im_start|>assistant\n"

# ---- heads --------------------------------------------------------------------------------------


def head_values(n, seed, scale):
    """n numbers in [-scale, scale), F32, that are the same everywhere"""
    i = np.arange(1, n + 1, dtype=np.uint64)
    bits = (i * np.uint64(2654435761) + np.uint64(seed * 40503)) % np.uint64(1 << 32)
    return ((bits.astype(np.float64) / 2**31 - 1) * scale).astype(np.float32).astype(np.float64)


def mlp(x):
    n = x.shape[-1]
    mid = x @ head_values(48 * n, 1, 0.03).reshape(48, n).T + head_values(48, 2, 0.5)
    return np.maximum(mid, 0) @ head_values(2 * 48, 3, 0.6).reshape(2, 48).T + head_values(2, 4, 0.5)


def value(x):
    n = x.shape[-1]
    return x @ head_values(n, 5, 0.05) + head_values(1, 6, 0.5)[0]


def score(x):
    n = x.shape[-1]
    return x @ head_values(n, 7, 0.05)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# ---- read-outs, as the models' cards describe them ----------------------------------------------


def qwen_prm(model, tok):
    text = chatml([("system", SYSTEM), ("user", PROBLEM)],
                  ASSISTANT + "".join(s + "<extra_0>" for s in STEPS) + "<|im_end|>\n")
    ids = tok.encode(text)
    rows = softmax(mlp(model.hidden(ids)))
    return [rows[i, 1] for i, t in enumerate(ids) if t == tok.ids["<extra_0>"]]


def labels(model, ids, good, bad):
    return softmax(model.logits(ids)[:, [good, bad]])[:, 0]


def math_shepherd(model, tok):
    text = PROBLEM + " " + "\n".join(f"Step {k + 1}: {s} ки" for k, s in enumerate(STEPS))
    good, bad, tag = (tok.encode(t)[-1] for t in ("+", "-", "ки"))
    ids = [tok.bos] + tok.encode(text)
    rows = labels(model, ids, good, bad)
    return [rows[i] for i, t in enumerate(ids) if t == tag]


def rlhflow(model, tok):
    rewards, turns = [], []
    for k, s in enumerate(STEPS):
        turns += [("user", PROBLEM + " " + s if k == 0 else s), ("assistant", "+")]
        ids = tok.encode(chatml(turns))
        good, bad = tok.encode("+")[-1], tok.encode("-")[-1]
        model.forget()
        at = max(i for i, t in enumerate(ids) if t == good)
        rewards.append(labels(model, ids, good, bad)[at - 1])
    return rewards


def skywork_o1(model, tok):
    ids, at = [tok.bos] + tok.encode(PROBLEM) + tok.encode("\n"), []
    for s in STEPS:
        for line in s.split("\n"):
            ids += tok.encode(line) + tok.encode("\n")
        at.append(len(ids) - 1)
    return list(sigmoid(value(model.hidden(ids)))[at])


def label_token(model, tok):
    text = chatml([("user", PROBLEM)], ASSISTANT)
    ids, at = tok.encode(text), []
    for s in STEPS:
        ids += tok.encode(s + "\n\n<extra_0>")
        at.append(len(ids) - 1)
    return list(labels(model, ids, tok.ids["y"], tok.ids["n"])[at])


def plain_label_token(model, tok):
    text = chatml([("user", PROBLEM)], ASSISTANT)
    ids, at = tok.encode(text), []
    for s in STEPS:
        ids += tok.encode(s + "\n\n")
        at.append(len(ids) - 1)
    return list(labels(model, ids, tok.ids["y"], tok.ids["n"])[at])


def sequence(model, tok):
    ids = tok.encode(chatml([("user", PROBLEM), ("assistant", "\n\n".join(STEPS))]))
    return [sigmoid(score(model.hidden(ids)))[-1]]


def step_rows(model, tok):
    """per step: log-probabilities, entropies, distances from the uniform distribution"""
    ids, at = tok.encode(chatml([("user", PROBLEM)], ASSISTANT)), []
    for s in STEPS:
        more = tok.encode(s + "\n\n")
        at.append((len(ids), len(ids) + len(more)))
        ids += more
    p = softmax(model.logits(ids))
    return ids, at, p


def mean_logprob(model, tok):
    ids, at, p = step_rows(model, tok)
    return [np.exp(np.mean([np.log(p[i - 1, ids[i]]) for i in range(*r)])) for r in at]


def self_certainty(model, tok):
    ids, at, p = step_rows(model, tok)
    far = [-np.log(row).mean() - np.log(len(row)) for row in p]
    return [1 - np.exp(-np.mean([far[i - 1] for i in range(*r)])) for r in at]


def tail_entropy(model, tok, tail=8):
    ids, at, p = step_rows(model, tok)
    h = -(p * np.log(p)).sum(axis=-1) / np.log(p.shape[1])
    return [1 - np.mean([h[i - 1] for i in range(max(r[0], r[1] - tail), r[1])]) for r in at]


def judge_prompt():
    return ("Grade the solution of a problem.\n\nProblem:\n" + PROBLEM + "\n\nSolution:\n"
            + "\n\n".join(STEPS))


def judge_digits(model, tok):
    ask = judge_prompt() + ("\n\nHow good is it, from 0 (wrong) to 9 (right in every step)? "
                            "Answer with one digit.")
    row = model.logits(tok.encode(chatml([("user", ask)], ASSISTANT)))[-1]
    p = softmax(row[[tok.ids[str(d)] for d in range(10)]])
    return [float(p @ np.arange(10)) / 9]


CASES = [("tiny-prm-bpe", "mlp", "", qwen_prm),
         ("tiny-prm-spm", None, ":kind=math_shepherd", math_shepherd),
         ("tiny-prm-bpe", None, ":kind=rlhflow", rlhflow),
         ("tiny-prm-bpe", "value", "", skywork_o1),
         ("tiny-prm-bpe", None, ":kind=label_token,tag=<extra_0>,good=y,bad=n", label_token),
         ("tiny-prm-bpe", None, ":kind=label_token,good=y,bad=n", plain_label_token),
         ("tiny-prm-bpe", "score", "", sequence),
         ("tiny-prm-bpe", None, ":kind=mean_logprob", mean_logprob),
         ("tiny-prm-bpe", None, ":kind=self_certainty", self_certainty),
         ("tiny-prm-bpe", None, ":kind=tail_entropy,tail=8", tail_entropy),
         ("tiny-prm-bpe", None, ":kind=judge", judge_digits)]


def main(build):
    here = os.path.dirname(os.path.abspath(__file__))
    out = []
    with tempfile.TemporaryDirectory() as tmp:
        for shape, head, scorer, read in CASES:
            path = os.path.join(tmp, shape + ".gguf")
            subprocess.run([os.path.join(build, "tests/tools/make_model"), shape, "F32", path],
                           check=True, stdout=subprocess.DEVNULL)
            model = Model(path)
            keys = model.file.keys
            tok = (Bpe if keys["tokenizer.ggml.model"] == "gpt2" else Spm)(keys)
            out.append({"shape": shape, "head": head, "scorer": scorer, "problem": PROBLEM,
                        "steps": STEPS,
                        "rewards": [round(float(r), 8) for r in read(model, tok)]})
    with open(os.path.join(here, "readouts.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(e) for e in out) + "\n]\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
