#!/usr/bin/python3
"""Trains a small BitNet b1.58 language model on a CPU, in a given wall-clock time.

    train.py PREPARED_FOLDER --budget SECONDS [--threads 2] [--seed 1] [--resume]

PREPARED_FOLDER comes from data.py. Checkpoints and log.txt go there as well; with --resume a run goes on where its last
checkpoint stopped, and time that passed before counts towards the budget. Schedules are functions of elapsed time, so
a run ends on time on any machine; on a slower one it sees fewer tokens. Needs torch, numpy and gcc (Debian's
python3-torch, python3-numpy), and is fastest on a processor with avx512_bf16.

The graph is that of the GGUF architecture bitnet-b1.58 (see reference.py, which is the definition): every projection is
ternary (absmean, one scale per tensor), its input is int8 (absmax per token), gradients pass straight through both
quantizers. Activations are whole numbers up to 127 and weights are -1, 0, 1, both exact in bf16, so a bf16 product with
float32 accumulation computes the integer arithmetic of inference exactly up to the rounding of its result.

Forward and backward are written out by hand: matrix products by torch, the rest by train_kernels.c.
"""
import argparse
import ctypes
import math
import os
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

CONFIG = dict(vocab=4096, dim=256, layers=8, heads=4, kv_heads=2, head_dim=64, ffn=768, context=512, theta=10000.0,
              eps=1e-5)
MATRICES = ("q", "k", "v", "o", "gate", "up", "down")
NORMS = ("attn_norm", "attn_sub_norm", "ffn_norm", "ffn_sub_norm")


def build_kernels():
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "train_kernels.c")
    target = os.path.join(tempfile.mkdtemp(), "train_kernels.so")
    subprocess.run(["gcc", "-O3", "-march=native", "-ffast-math", "-fopenmp", "-shared", "-fPIC", source, "-o", target,
                    "-lm"], check=True)
    lib = ctypes.CDLL(target)
    lib.ternarize.restype = ctypes.c_float
    return lib


class Kernels:
    """Calls C functions: tensors become pointers, Python floats become C floats, ints become the declared type."""
    LONG_FIRST = {"add_norm_quant", "norm_bwd", "softmax_causal", "softmax_bwd", "ffn_mid", "ffn_mid_bwd",
                  "cross_entropy"}

    def __init__(self):
        self.lib = build_kernels()

    def __call__(self, name, *args):
        out = []
        for i, a in enumerate(args):
            if a is None:
                out.append(ctypes.c_void_p(0))
            elif isinstance(a, torch.Tensor):
                assert a.is_contiguous()
                out.append(ctypes.c_void_p(a.data_ptr()))
            elif isinstance(a, float):
                out.append(ctypes.c_float(a))
            elif name == "ternarize" or (i == 0 and name in self.LONG_FIRST):
                out.append(ctypes.c_long(a))
            else:
                out.append(ctypes.c_int(a))
        return getattr(self.lib, name)(*out)


def shapes(c):
    q, kv = c["heads"] * c["head_dim"], c["kv_heads"] * c["head_dim"]
    return dict(q=(q, c["dim"]), k=(kv, c["dim"]), v=(kv, c["dim"]), o=(c["dim"], q), gate=(c["ffn"], c["dim"]),
                up=(c["ffn"], c["dim"]), down=(c["dim"], c["ffn"]))


def init(c, seed):
    g = torch.Generator().manual_seed(seed)
    p = {"embed": torch.randn(c["vocab"], c["dim"], generator=g) * 0.05, "output_norm": torch.ones(c["dim"])}
    for n in range(c["layers"]):
        for name, shape in shapes(c).items():
            std = shape[1] ** -0.5
            if name in ("o", "down"):
                std /= math.sqrt(2 * c["layers"])
            p[f"{n}.{name}"] = torch.randn(*shape, generator=g) * std
        for name in NORMS:
            p[f"{n}.{name}"] = torch.ones(c["ffn"] if name == "ffn_sub_norm" else c["dim"])
    return p


def empty(*shape, dtype=torch.bfloat16):
    return torch.empty(*shape, dtype=dtype)


class Model:
    def __init__(self, config, params):
        self.c, self.p, self.call = config, params, Kernels()
        self.grad = {k: torch.zeros_like(v) for k, v in params.items()}
        pos = np.arange(config["context"])[:, None]
        freq = config["theta"] ** (-np.arange(0, config["head_dim"], 2) / config["head_dim"])
        self.cos = torch.tensor(np.cos(pos * freq), dtype=torch.float32).contiguous()
        self.sin = torch.tensor(np.sin(pos * freq), dtype=torch.float32).contiguous()

    def quantize_weights(self):
        """Per layer and group of projections: ternary, transposed; effective; scales."""
        self.w = []
        for n in range(self.c["layers"]):
            groups = {}
            for group in (("q", "k", "v"), ("o",), ("gate", "up"), ("down",)):
                ws = [self.p[f"{n}.{m}"] for m in group]
                rows, cols = sum(w.shape[0] for w in ws), ws[0].shape[1]
                t, eff, scales, at = empty(cols, rows), empty(rows, cols), [], 0
                for w in ws:
                    scales.append(self.call("ternarize", w.shape[0], cols, w, t, rows, at, eff[at:at + w.shape[0]]))
                    at += w.shape[0]
                groups[group[0]] = (t, eff, torch.tensor(scales))
            self.w.append(groups)
        self.embed16 = self.p["embed"].bfloat16()
        self.embed16_t = self.embed16.t().contiguous()

    def step(self, tokens, train=True):
        """tokens [B, T+1]. Returns the per-token loss [B*T] and, if asked, adds gradients (of the summed loss / N)."""
        c, p, call, f32 = self.c, self.p, self.call, torch.float32
        B, T = tokens.shape[0], tokens.shape[1] - 1
        D, F, H, K, hd = c["dim"], c["ffn"], c["heads"], c["kv_heads"], c["head_dim"]
        N, G = B * T, H // K
        ids, targets = tokens[:, :-1].reshape(-1), tokens[:, 1:].reshape(-1).contiguous()
        x = p["embed"][ids]
        y = yinv = None
        yscale, saved = 0.0, []
        for n in range(c["layers"]):
            w, s = self.w[n], {}
            a1 = x if y is None else empty(N, D, dtype=f32)
            s["xq"], s["rs"], s["inv"] = empty(N, D), empty(N, dtype=f32), empty(N, dtype=f32)
            call("add_norm_quant", N, D, x, y, yinv, yscale, a1, p[f"{n}.attn_norm"], 1, s["xq"], s["rs"], s["inv"])
            s["x"] = a1
            qkv = s["xq"] @ w["q"][0]
            s["q"], s["k"], s["v"] = empty(B * K, G * T, hd), empty(B * K, T, hd), empty(B * K, T, hd)
            call("rope_split", B, T, H, K, hd, qkv, s["inv"], w["q"][2], self.cos, self.sin, s["q"], s["k"], s["v"])
            s["P"] = torch.bmm(s["q"], s["k"].transpose(1, 2))
            call("softmax_causal", B * H * T, T, s["P"])
            s["O"] = torch.bmm(s["P"], s["v"])
            s["oq"], s["ors"], s["oinv"] = empty(N, D), empty(N, dtype=f32), empty(N, dtype=f32)
            call("heads_norm_quant", B, T, H, hd, s["O"], p[f"{n}.attn_sub_norm"], s["oq"], s["ors"], s["oinv"])
            y = s["oq"] @ w["o"][0]
            s["x2"], s["xq2"] = empty(N, D, dtype=f32), empty(N, D)
            s["rs2"], s["inv2"] = empty(N, dtype=f32), empty(N, dtype=f32)
            call("add_norm_quant", N, D, a1, y, s["oinv"], float(w["o"][2]), s["x2"], p[f"{n}.ffn_norm"], 1, s["xq2"],
                 s["rs2"], s["inv2"])
            s["gu"] = s["xq2"] @ w["gate"][0]
            s["hq"], s["hrs"], s["hinv"] = empty(N, F), empty(N, dtype=f32), empty(N, dtype=f32)
            call("ffn_mid", N, F, s["gu"], s["inv2"], w["gate"][2], p[f"{n}.ffn_sub_norm"], s["hq"], s["hrs"],
                 s["hinv"])
            y, yinv, yscale, x = s["hq"] @ w["down"][0], s["hinv"], float(w["down"][2]), s["x2"]
            saved.append(s)
        xf, hn, frs, one = empty(N, D, dtype=f32), empty(N, D), empty(N, dtype=f32), empty(N, dtype=f32)
        call("add_norm_quant", N, D, x, y, yinv, yscale, xf, p["output_norm"], 0, hn, frs, one)

        loss, dh, chunk, g = empty(N, dtype=f32), empty(N, D), 1024, self.grad
        for i in range(0, N, chunk):
            h = hn[i:i + chunk]
            logits = h @ self.embed16_t
            call("cross_entropy", len(h), c["vocab"], logits, targets[i:i + chunk], loss[i:i + chunk])
            if train:
                dh[i:i + chunk] = logits @ self.embed16
                g["embed"] += (logits.t() @ h).float() / N
        if not train:
            return loss

        gx = torch.zeros(N, D)
        gz = empty(N, D)
        call("norm_bwd", N, D, xf, p["output_norm"], frs, dh, one, 1.0 / N, gx, g["output_norm"], saved[-1]["hinv"], gz)
        for n in reversed(range(c["layers"])):
            w, s = self.w[n], saved[n]
            g[f"{n}.down"] += gz.t() @ s["hq"]
            dgu = empty(N, 2 * F)
            call("ffn_mid_bwd", N, F, s["gu"], s["inv2"], w["gate"][2], p[f"{n}.ffn_sub_norm"], s["hrs"], s["hinv"],
                 gz @ w["down"][1], dgu, g[f"{n}.ffn_sub_norm"])
            dw = dgu.t() @ s["xq2"]
            g[f"{n}.gate"] += dw[:F]
            g[f"{n}.up"] += dw[F:]
            call("norm_bwd", N, D, s["x2"], p[f"{n}.ffn_norm"], s["rs2"], dgu @ w["gate"][1], s["inv2"], 1.0, gx,
                 g[f"{n}.ffn_norm"], s["oinv"], gz)
            g[f"{n}.o"] += gz.t() @ s["oq"]
            dO = empty(B * K, G * T, hd)
            call("heads_norm_bwd", B, T, H, hd, s["O"], p[f"{n}.attn_sub_norm"], s["ors"], gz @ w["o"][1], s["oinv"], dO,
                 g[f"{n}.attn_sub_norm"])
            dv = torch.bmm(s["P"].transpose(1, 2), dO)
            dS = torch.bmm(dO, s["v"].transpose(1, 2))
            call("softmax_bwd", B * H * T, T, s["P"], dS)
            dq, dk = torch.bmm(dS, s["k"]), torch.bmm(dS.transpose(1, 2), s["q"])
            dqkv = empty(N, (H + 2 * K) * hd)
            call("rope_merge", B, T, H, K, hd, dq, dk, dv, s["inv"], self.cos, self.sin, dqkv)
            dw = dqkv.t() @ s["xq"]
            g[f"{n}.q"] += dw[:H * hd]
            g[f"{n}.k"] += dw[H * hd:(H + K) * hd]
            g[f"{n}.v"] += dw[(H + K) * hd:]
            before = saved[n - 1]["hinv"] if n else None
            call("norm_bwd", N, D, s["x"], p[f"{n}.attn_norm"], s["rs"], dqkv @ w["q"][1], s["inv"], 1.0, gx,
                 g[f"{n}.attn_norm"], before, gz if n else None)
            saved[n] = None
        g["embed"].index_add_(0, ids, gx)
        return loss


def orthogonalize(m, steps=5):
    """Newton-Schulz iteration of Muon on a stack of matrices [n, rows, cols]."""
    tall = m.shape[1] > m.shape[2]
    x = m.transpose(1, 2) if tall else m
    x = (x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)).bfloat16().contiguous()
    for _ in range(steps):
        a = torch.bmm(x, x.transpose(1, 2))
        b = torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, b, x, beta=3.4445, alpha=1.0)
    return (x.transpose(1, 2) if tall else x).float()


class Optimizer:
    """Muon for the matrices, Adam for the embedding and the norms."""

    def __init__(self, params, grad, matrix="muon"):
        self.p, self.g, self.kind = params, grad, matrix
        self.m = {k: torch.zeros_like(v) for k, v in params.items()}
        self.v = {k: torch.zeros_like(v) for k, v in params.items() if not self.is_matrix(k) or matrix != "muon"}
        self.t = 0

    @staticmethod
    def is_matrix(name):
        return name.split(".")[-1] in MATRICES

    def state(self):
        return {"m": self.m, "v": self.v, "t": self.t}

    def load(self, s):
        self.m, self.v, self.t = s["m"], s["v"], s["t"]

    def step(self, lr, decay, momentum=0.95, lr_embed=4e-3, lr_norm=4e-3, lr_adam=3e-3):
        """lr: 0..1, a factor on every base rate."""
        self.t += 1
        names = [k for k in self.p if self.is_matrix(k)]
        norm = math.sqrt(sum(float(g.square().sum()) for g in self.g.values()))
        if self.kind == "muon":
            by_shape = {}
            for k in names:
                self.m[k].lerp_(self.g[k], 1 - momentum)
                by_shape.setdefault(tuple(self.p[k].shape), []).append(k)
            for shape, keys in by_shape.items():
                u = orthogonalize(torch.stack([self.g[k].lerp(self.m[k], momentum) for k in keys]))
                rate = 0.02 * lr * max(1, shape[0] / shape[1]) ** 0.5
                for i, k in enumerate(keys):
                    self.p[k].mul_(1 - 0.02 * lr * decay).sub_(u[i], alpha=rate)
        clip = min(1.0, 1.0 / (norm + 1e-9))
        for k, v in self.v.items():
            base = lr_adam if self.is_matrix(k) else lr_embed if k == "embed" else lr_norm
            g = self.g[k] * clip
            self.m[k].mul_(0.9).add_(g, alpha=0.1)
            v.mul_(0.98).addcmul_(g, g, value=0.02)
            bias1, bias2 = 1 - 0.9 ** self.t, 1 - 0.98 ** self.t
            if self.is_matrix(k):
                self.p[k].mul_(1 - base * lr * decay)
            self.p[k].addcdiv_(self.m[k], v.sqrt().div_(math.sqrt(bias2)).add_(1e-8), value=-base * lr / bias1)
        for g in self.g.values():
            g.zero_()
        return norm


class Sampler:
    """Random windows. Half of them begin with a whole document, as a prompt does; the others anywhere."""

    def __init__(self, path, seed):
        self.a = dict(np.load(path))
        self.rng = np.random.default_rng(seed)

    def window(self, source, length):
        ids, starts = self.a[source], self.a[source + ".starts"]
        if self.rng.random() < (0.9 if source == "tiny" else 0.4):
            out, n = [], 0
            while n < length:
                i = self.rng.integers(len(starts))
                end = starts[i + 1] if i + 1 < len(starts) else len(ids)
                out.append(ids[starts[i]:min(end, starts[i] + length - n)])
                n += len(out[-1])
            return np.concatenate(out)
        at = self.rng.integers(len(ids) - length)
        return ids[at:at + length]

    def batch(self, mix, rows, length):
        names = list(mix)
        w = np.array([mix[k] for k in names], float)
        pick = self.rng.choice(len(names), rows, p=w / w.sum())
        return torch.from_numpy(np.stack([self.window(names[i], length) for i in pick]).astype(np.int64))

    def held_out(self, source, length, limit):
        ids = self.a[source]
        rows = min((len(ids) - 1) // length, limit)
        return torch.from_numpy(np.stack([ids[i * length:i * length + length + 1] for i in range(rows)]).astype(np.int64))


def mixture(f):
    """Shares of the sources at progress f (0..1): all books first, plain stories last."""
    k = min(max((f - 0.45) / 0.25, 0), 1)
    first = dict(books=0.55, plain=0.17, fairy=0.18, tiny=0.10)
    last = dict(books=0.07, plain=0.28, fairy=0.33, tiny=0.32)
    return {s: first[s] * (1 - k) + last[s] * k for s in first}


def rate(f):
    """Learning rate factor: warm-up over 1.5 % of the time, constant, linear to zero."""
    return min(f / 0.015 + 0.02, 1.0, max((1 - f) / 0.65, 0.0))


class Threads:
    """On a machine that others use too, two threads that wait for each other can be slower than one: tries both."""

    def __init__(self, most):
        self.most, self.pace, self.n = most, {}, 0

    def choose(self):
        self.n += 1
        options = list(range(1, self.most + 1))
        untried = [k for k in options if k not in self.pace]
        best = min(self.pace, key=self.pace.get) if self.pace else None
        others = [k for k in options if k != best]
        self.now = untried[0] if untried else others[self.n // 8 % len(others)] if self.n % 8 == 0 and others else best
        torch.set_num_threads(self.now)

    def record(self, seconds):
        self.pace[self.now] = self.pace.get(self.now, seconds) * 0.6 + seconds * 0.4


def save(path, model, opt, info):
    torch.save({"config": model.c, "params": model.p, "optimizer": opt.state(), "info": info}, path + ".new")
    os.replace(path + ".new", path)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("folder")
    a.add_argument("--budget", type=float, required=True, help="seconds")
    a.add_argument("--threads", type=int, default=2)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--tokens", type=int, default=8192, help="per step")
    a.add_argument("--matrix-optimizer", choices=("muon", "adam"), default="muon")
    a.add_argument("--name", default="model", help="of the checkpoint")
    a.add_argument("--resume", action="store_true")
    a = a.parse_args()
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:      # keep big blocks mapped: a third faster with long sequences
        os.environ.update(MALLOC_MMAP_THRESHOLD_="4000000000", MALLOC_TRIM_THRESHOLD_="8000000000",
                          MALLOC_TOP_PAD_="500000000", OMP_NUM_THREADS=str(a.threads),
                          OMP_WAIT_POLICY="passive")
        os.execv(sys.executable, [sys.executable] + sys.argv)
    torch.set_num_threads(a.threads)
    torch.set_grad_enabled(False)

    path, info = os.path.join(a.folder, a.name + ".pt"), {"elapsed": 0.0, "step": 0, "tokens": 0}
    params, state = init(CONFIG, a.seed), None
    if a.resume and os.path.exists(path):
        loaded = torch.load(path)
        params, state, info = loaded["params"], loaded["optimizer"], loaded["info"]
    model = Model(CONFIG, params)
    opt = Optimizer(params, model.grad, a.matrix_optimizer)
    if state:
        opt.load(state)
    sampler = Sampler(os.path.join(a.folder, "tokens.npz"), a.seed * 1000 + info["step"])
    log = open(os.path.join(a.folder, a.name + ".log"), "a")

    def say(text):
        print(text, flush=True)
        print(text, file=log, flush=True)

    say(f"{sum(v.numel() for v in params.values())} parameters, {model.c}")
    begin, offset = time.time(), info["elapsed"]
    last_save = last_eval = begin
    mean, since, tokens0 = None, begin, info["tokens"]
    stop, threads = [], Threads(a.threads)
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))        # save, then leave; --resume goes on
    while True:
        info["elapsed"] = offset + time.time() - begin
        f = info["elapsed"] / a.budget
        done = f >= 1
        if done or time.time() - last_eval > 240:
            model.quantize_weights()
            values = []
            for name in ("tiny.val", "fairy.val"):
                x = sampler.held_out(name, 512, 48)
                values.append(f"{name} {float(torch.cat([model.step(x[i:i + 16], False) for i in range(0, len(x), 16)]).mean()):.4f}")
            say(f"  held out: {', '.join(values)}")
            last_eval = time.time()
        if done or stop or time.time() - last_save > 180:
            save(path, model, opt, info)
            last_save = time.time()
        if done or stop:
            break
        threads.choose()
        start = time.time()
        length = 256 if f < 0.7 else 512
        batch = sampler.batch(mixture(f), a.tokens // length, length + 1)
        model.quantize_weights()
        loss = float(model.step(batch).mean())
        norm = opt.step(rate(f), 0.1 if f < 0.5 else 0.0)
        threads.record(time.time() - start)
        info["step"] += 1
        info["tokens"] += batch.shape[0] * length
        mean = loss if mean is None else mean * 0.95 + loss * 0.05
        if info["step"] % 20 == 0:
            speed = (info["tokens"] - tokens0) / (time.time() - since)
            since, tokens0 = time.time(), info["tokens"]
            say(f"step {info['step']} tokens {info['tokens'] / 1e6:.2f}M f {f:.3f} loss {mean:.4f} grad {norm:.3f} "
                f"{speed:.0f} tok/s, seconds by threads { {k: round(v, 2) for k, v in threads.pace.items()} }")


if __name__ == "__main__":
    main()
