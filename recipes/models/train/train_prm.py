"""Train a process reward model, from the base's weights, all layers; goes on from OUT if there.

It must know whether a result is right, not how hard a problem is. So: every problem comes with
several traces, right ones and wrong ones, near each other; the label stands right after each result;
and a third of the documents are a right trace up to a step in which exactly one number was changed
(the same trace unchanged is in the batch too). train_prm.py BASE OUT --samples own.jsonl
"""
import argparse
import json
import time

import runtime

import torch
import torch.nn.functional as F

import traces
from bpe import Tokenizer
from data import batches, tensors
from model import Model, Run, schedule
from problems import LEVELS, LIMIT, make_problem


def corrupt(r, step, truth):
    """The step with exactly one number of its equation changed, or None."""
    m = list(traces.EQ.finditer(step))
    if not m:
        return None
    e = m[-1]
    k = r.choice([1, 3, 4, 4, 4, 4])
    x = [int(e[1]), e[2], int(e[3]), int(e[4])]
    try:
        new = traces.slip(r, x[1], x[0], x[2], x[k - 1])
    except traces.Bad:
        return None
    x[k - 1] = new
    if not 0 < new <= LIMIT or tuple(x) in truth:
        return None
    return step[: e.start(k)] + str(new) + step[e.end(k) :]


class Source:
    """Groups of traces of one problem: (question, equations, answer, [(steps, answer)])."""

    def __init__(self, files, noise, synthetic, per, levels):
        self.rows = [json.loads(line) for f in files for line in open(f)]
        self.noise, self.per, self.levels = noise, per, levels
        self.synthetic = synthetic if self.rows else 1.0

    def group(self, r):
        if r.random() < self.synthetic:
            p = make_problem(r, r.choices(LEVELS, self.levels)[0])
            samples = [traces.solve(p, r, self.noise) for _ in range(self.per)]
            return p.text, [s.equation() for s in p.steps], p.answer, samples
        row = r.choice(self.rows)
        right = [s for s in row["samples"] if s[1] == row["answer"]]
        wrong = [s for s in row["samples"] if s[1] != row["answer"] and s[0]]
        half = self.per // 2
        pick = r.sample(right, min(half, len(right))) + r.sample(wrong, min(half, len(wrong)))
        return row["question"], row["equations"], row["answer"], pick


def documents(tok, r, group, pairs, text):
    """The documents of a group."""
    q, equations, answer, samples = group
    truth = traces.truths(equations)
    for steps, ans in samples:
        labels = traces.label_steps(truth, steps)
        yield traces.judged(
            tok, q, steps, ans, labels + [ans == answer], text * (ans == answer), 1.0
        )
        good = [k for k, ok in enumerate(labels) if ok and (k == 0 or labels[k - 1])]
        if good and r.random() < pairs:
            k = r.choice(good)
            bad = corrupt(r, steps[k], truth)
            if bad:
                yield traces.judged(tok, q, steps[:k] + [bad], None, labels[:k] + [False], 0.0, 1.0)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("base", help="checkpoint to begin with")
    ap.add_argument("out")
    ap.add_argument("--samples", nargs="*", default=[], help="files written by collect.py")
    ap.add_argument("--tok", default=runtime.TOKENIZER)
    ap.add_argument("--steps", type=int, default=3000)
    ap.add_argument("--stop", type=int, help="stop after this step, as if interrupted")
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--batch", type=int, default=8192)
    ap.add_argument("--extra", type=int, default=0, help="new blocks on top")
    ap.add_argument("--per", type=int, default=6, help="traces of a problem")
    ap.add_argument("--pairs", type=float, default=0.5, help="P(a corrupted twin) of a trace")
    ap.add_argument("--synthetic", type=float, default=0.4, help="share of generated groups")
    ap.add_argument("--text", type=float, default=0.1, help="weight of the text of right traces")
    ap.add_argument("--noise", default="slip=0.12,0.22 hard=0.5,0.5 mild=0.2,0.3")
    ap.add_argument("--levels", default="2,3,3,3", help="weights of the difficulties")
    ap.add_argument("--seed", type=int, default=2000)
    ap.add_argument("--device", default="cpu")
    ap.add_argument("--threads", type=int, default=1)
    a = ap.parse_args()
    runtime.threads(a.threads)
    torch.manual_seed(a.seed)
    tok = Tokenizer.load(a.tok)
    levels = [float(x) for x in a.levels.split(",")]
    source = Source(a.samples, traces.Noise.parse(a.noise), a.synthetic, a.per, levels)
    run = Run(a.out, lambda: Model.load(a.base).grow(a.extra), a.lr, a.device)
    net, at = run.net, run.at
    queue = []

    def make(r):
        """One document; the groups of a chunk are drawn whole."""
        if make.r is not r:  # a new chunk: nothing is left over from the last one
            make.r = r
            queue.clear()
        while not queue:
            queue.extend(documents(tok, r, source.group(r), a.pairs, a.text))
        return queue.pop()

    make.r = None
    sums = [0.0, 0, 0]
    saved, cpu = time.time(), time.process_time()
    for batch in batches(make, a.seed, a.batch, at):
        if at["step"] >= min(a.steps, a.stop or a.steps):
            break
        ids, pos, y, w = tensors(batch, tok.eot, a.device)
        h = net.hidden(ids).flatten(0, 1)[pos]
        tag = ids.flatten()[pos] == tok.step
        z = h[tag].float() @ (net.emb.weight[tok.plus] - net.emb.weight[tok.minus])
        good = y[tag] == tok.plus
        loss = F.binary_cross_entropy_with_logits(z, good.float())
        total = loss
        if a.text and not tag.all():
            words = F.cross_entropy(net.logits(h[~tag]), y[~tag])
            total = loss + a.text * words
        total.backward()
        run.step(schedule(at["step"], a.steps, hold=0.3))
        sums = [
            sums[0] + loss.item() * len(z),
            sums[1] + len(z),
            sums[2] + ((z > 0) == good).sum().item(),
        ]
        at["tokens"] += sum(len(d[0]) for d in batch)
        at["documents"] += len(batch)
        if at["step"] % 25 == 0:
            at["cpu_s"] += time.process_time() - cpu
            cpu = time.process_time()
            at["loss"], at["right"] = sums[0] / sums[1], sums[2] / sums[1]
            sums = [0.0, 0, 0]
            print(json.dumps(at), flush=True)
        if time.time() - saved > 180:
            run.save()
            saved = time.time()
    run.save()


if __name__ == "__main__":
    main()
