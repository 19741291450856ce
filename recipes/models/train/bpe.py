"""Byte-level BPE (GPT-2 byte map, qwen2 pre-tokenizer, ASCII text), training and encoding."""
import argparse
import collections
import json
import random
import re

from runtime import TOKENIZER

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<|step|>"]
# qwen2's regex restricted to ASCII letters and digits
PRE = re.compile(
    r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"
    r"|[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]| ?[^\sA-Za-z0-9]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLIT = re.compile("(" + "|".join(re.escape(s) for s in SPECIALS) + ")")


def byte_map():
    """GPT-2's map from bytes to printable characters."""
    bs = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    cs = bs[:]
    n = 0
    for b in range(256):
        if b not in bs:
            bs.append(b)
            cs.append(256 + n)
            n += 1
    return {b: chr(c) for b, c in zip(bs, cs)}


B2U = byte_map()
U2B = {u: b for b, u in B2U.items()}


def train(texts, n_merges):
    """The merges, most frequent first; fewer than n_merges when no pair occurs twice."""
    words = collections.Counter()
    for t in texts:
        for part in SPLIT.split(t):
            if part not in SPECIALS:
                words.update(PRE.findall(part))
    seqs = [([B2U[b] for b in w.encode()], c) for w, c in words.items()]
    merges = []
    while len(merges) < n_merges:
        pairs = collections.Counter()
        for s, c in seqs:
            for p in zip(s, s[1:]):
                pairs[p] += c
        if not pairs:
            break
        (a, b), c = max(pairs.items(), key=lambda kv: (kv[1], kv[0]))
        if c < 2:
            break
        merges.append((a, b))
        for s, _ in seqs:
            i = 0
            while i < len(s) - 1:
                if s[i] == a and s[i + 1] == b:
                    s[i : i + 2] = [a + b]
                else:
                    i += 1
    return merges


class Tokenizer:
    """Ids: 256 bytes, the merges, the special tokens."""

    def __init__(self, merges):
        self.merges = [tuple(m) for m in merges]
        self.tokens = [B2U[b] for b in range(256)] + [a + b for a, b in self.merges] + SPECIALS
        self.id = {t: i for i, t in enumerate(self.tokens)}
        self.rank = {m: i for i, m in enumerate(self.merges)}
        self.cache = {}
        self.eot, self.im_start, self.im_end, self.think, self.end_think, self.step = (
            self.id[s] for s in SPECIALS
        )
        self.plus, self.minus = self.id["+"], self.id["-"]

    def word(self, w):
        """Ids of one pre-token."""
        r = self.cache.get(w)
        if r is None:
            s = [B2U[b] for b in w.encode()]
            while len(s) > 1:
                k, i = min((self.rank.get(p, 1 << 30), i) for i, p in enumerate(zip(s, s[1:])))
                if k == 1 << 30:
                    break
                s[i : i + 2] = [s[i] + s[i + 1]]
            r = self.cache[w] = [self.id[x] for x in s]
        return r

    def encode(self, text):
        out = []
        for part in SPLIT.split(text):
            if part in self.id and part in SPECIALS:
                out.append(self.id[part])
            else:
                for w in PRE.findall(part):
                    out += self.word(w)
        return out

    def decode(self, ids):
        out = bytearray()
        for i in ids:
            t = self.tokens[i]
            out += t.encode() if t in SPECIALS else bytes(U2B[c] for c in t)
        return out.decode("utf-8", "replace")

    def save(self, path):
        json.dump(self.merges, open(path, "w"))

    @staticmethod
    def load(path):
        return Tokenizer(json.load(open(path)))


def main():
    """Train a tokenizer on generated documents and print how well it compresses."""
    import traces
    from problems import make_problem

    ap = argparse.ArgumentParser(description="Train the tokenizer on generated traces.")
    ap.add_argument("out", nargs="?", default=TOKENIZER, help="file for the merges (JSON)")
    ap.add_argument("--merges", type=int, default=762, help="at most this many merges")
    ap.add_argument("--documents", type=int, default=12000)
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    r = random.Random(args.seed)
    texts = []
    for _ in range(args.documents):
        p = make_problem(r)
        steps, ans = traces.solve(p, r)
        ask = r.choices(["", traces.GRADE, traces.RESTART], [8, 1, 1])[0]
        texts.append(traces.prompt(p.text) + "\n\n".join(steps) + "\n" + traces.close(ans) + ask)
    t = Tokenizer(train(texts, args.merges))
    t.save(args.out)
    n = [len(t.encode(x)) for x in texts[:2000]]
    assert all(t.decode(t.encode(x)) == x for x in texts[:200])
    chars = sum(map(len, texts[:2000])) / sum(n)
    print(f"{len(t.tokens)} tokens; {sum(n) / len(n):.1f} per document, longest {max(n)}")
    print(f"{chars:.2f} characters per token")


if __name__ == "__main__":
    main()
