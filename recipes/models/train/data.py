"""Documents in batches of like length, by number: chunk i of a seed is always the same, so that a
training that goes on needs to remember only where it stood."""
import random

import torch

from model import CONTEXT


def width(doc):
    """The length a document is padded to. Few widths mean few shapes of matrices, for each of
    which the library makes and keeps a kernel."""
    return -(-len(doc[0]) // 16) * 16


def pack(docs, budget, r):
    """Batches of at most `budget` tokens (padding counts), in random order."""
    docs = sorted(docs, key=lambda d: len(d[0]))
    out, cur = [], []
    for d in docs:
        if cur and (len(cur) + 1) * width(d) > budget:
            out.append(cur)
            cur = []
        cur.append(d)
    if cur:
        out.append(cur)
    r.shuffle(out)
    return out


def tensors(batch, pad, device):
    """(ids, flat positions that are learnt, their targets, their weights)."""
    T = width(batch[-1])
    ids = torch.tensor([d[0] + [pad] * (T - len(d[0])) for d in batch])
    y = torch.tensor([d[1] + [pad] * (T - len(d[1])) for d in batch]).flatten()
    w = torch.tensor([d[2] + [0.0] * (T - len(d[2])) for d in batch]).flatten()
    at = w.nonzero().squeeze(1)
    return ids.to(device), at.to(device), y[at].to(device), w[at].to(device)


def chunks(make, seed, first=0, size=2048):
    """(number, documents) of the chunks from `first` on; make(r) gives one Document."""
    i = first
    while True:
        r = random.Random(f"{seed} {i}")
        docs = []
        while len(docs) < size:
            d = make(r).arrays()
            if len(d[0]) <= CONTEXT:
                docs.append(d)
        yield i, docs
        i += 1


def batches(make, seed, budget, at):
    """Batches from where `at` says; at["chunk"] and at["batch"] are kept up to date for the one
    that is to come after the yielded one."""
    for i, docs in chunks(make, seed, at.setdefault("chunk", 0)):
        packed = pack(docs, budget, random.Random(f"{seed} order {i}"))
        for k in range(at.setdefault("batch", 0), len(packed)):
            at["chunk"], at["batch"] = i, k + 1
            yield packed[k]
        at["chunk"], at["batch"] = i + 1, 0
