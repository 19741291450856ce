"""Train a language model on freshly generated traces; goes on from OUT if that is there.

The schedule counts steps, so that a busy machine changes nothing but the time. Log lines are
JSON. train.py OUT --model base --steps 20000
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
from model import CONFIGS, Model, Run, schedule
from problems import LEVELS


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("out")
    ap.add_argument("--model", default="base", choices=list(CONFIGS))
    ap.add_argument("--tok", default=runtime.TOKENIZER)
    ap.add_argument("--steps", type=int, default=20000, help="length of the whole schedule")
    ap.add_argument("--stop", type=int, help="stop after this step, as if interrupted")
    ap.add_argument("--lr", type=float, default=6e-3)
    ap.add_argument("--batch", type=int, default=8192, help="tokens a step, with padding")
    ap.add_argument("--noise", default="", help='of the authors, as "unsure=0.4 slip=0.05,0.2"')
    ap.add_argument("--mix", default="", help='kinds of documents, as "plain=1 judged=0"')
    ap.add_argument("--levels", default="3,4,4,4", help="weights of the difficulties")
    ap.add_argument("--seed", type=int, default=1000)
    ap.add_argument("--device", default="cpu")
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--keep", type=int, default=0, help="keep a copy every so many steps")
    a = ap.parse_args()
    runtime.threads(a.threads)
    torch.manual_seed(a.seed)
    tok = Tokenizer.load(a.tok)
    noise = traces.Noise.parse(a.noise)
    mix = dict(traces.MIX)
    mix.update((k, float(v)) for k, v in (x.split("=") for x in a.mix.split()))
    weights = [float(x) for x in a.levels.split(",")]
    run = Run(a.out, lambda: Model(len(tok.tokens), **CONFIGS[a.model]), a.lr, a.device)
    net, at = run.net, run.at
    n_weights = sum(p.numel() for p in net.parameters())
    print(
        json.dumps(dict(model=a.model, parameters=n_weights, fast=str(net.fast), start=at)),
        flush=True,
    )

    def make(r):
        """Easy problems first."""
        easy = 0.6 - at["step"] / 2000
        level = 1 if r.random() < easy else r.choices(LEVELS, weights)[0]
        return traces.document(tok, r, level, noise, mix=mix)

    loss_sum = n_sum = 0.0
    saved, cpu = time.time(), time.process_time()
    for batch in batches(make, a.seed, a.batch, at):
        if at["step"] >= min(a.steps, a.stop or a.steps):
            break
        ids, pos, y, w = tensors(batch, tok.eot, a.device)
        h = net.hidden(ids).flatten(0, 1)[pos]
        loss = F.cross_entropy(net.logits(h), y, reduction="none")
        (loss @ w / w.sum()).backward()
        run.step(schedule(at["step"], a.steps))
        text = loss.detach()[w == 1]
        loss_sum, n_sum = loss_sum + text.sum().item(), n_sum + len(text)
        at["tokens"] += sum(len(d[0]) for d in batch)
        at["documents"] += len(batch)
        if at["step"] % 50 == 0:
            at["cpu_s"] += time.process_time() - cpu
            cpu = time.process_time()
            at["loss"] = loss_sum / n_sum
            loss_sum = n_sum = 0.0
            print(json.dumps(at), flush=True)
        if time.time() - saved > 180:
            run.save()
            saved = time.time()
        if a.keep and at["step"] % a.keep == 0:
            run.save(f"{a.out}.{at['step']}")
    run.save()


if __name__ == "__main__":
    main()
