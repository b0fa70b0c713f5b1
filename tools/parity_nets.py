"""Holds `retort run` against PyTorch in float64: whole networks from formula weights at odd sizes.

    python tools/parity_nets.py [PROGRAM] [NETWORK[:OPTION=VALUE...] ...]      (default build/retort, three networks)

For example fcn_resnet50:stem=plain:output_stride=16; `all` is those three and every new part of docs/networks.md.

Figures are L2 ratios, |a - b| / |b|. Evaluation-mode outputs at most 1e-5, training-mode outputs (batch
statistics, dropout off) at most 2e-4, every parameter's gradient at most twice the error that float32
PyTorch itself has. That error is a draw of chance: any rounding flips ReLUs whose input is near zero, and one flip
early in a network outweighs all other rounding (PyTorch in two memory formats differs from itself by 10 to 400
times the error of the luckier one). So it is taken as the largest of several float32 runs that are equal but for
the order of their sums: memory formats, and the order of the images in the batch. Four, and eight more when those do
not cover ours: with four, PyTorch held against itself misses by up to 8.7 on LR-ASPP-MobileNetV2, with twelve by 1.6
at most. Where a gradient is zero but for rounding, 1e-6 of the whole gradient stands for it. Prints a table; exit 1
on a miss.
"""
import itertools
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from golden_nets import inputs
from torch_nets import Segmenter, load_formula, task_loss

NETWORKS = ("deeplabv3_resnet18", "deeplabv3_resnet50", "deeplabv3_mobilenetv2")
PARTS = NETWORKS + ("pspnet_resnet18", "pspnet_mobilenetv2", "fcn_resnet50", "fcn_resnet50:stem=plain", "fcn_resnet18:stem=plain",
                    "lraspp_mobilenetv2", "lraspp_resnet18", "deeplabv3_efficientnet_lite0", "fcn_efficientnet_lite1",
                    "lraspp_efficientnet_lite2", "deeplabv3_resnet18:output_stride=16", "deeplabv3_resnet50:output_stride=32",
                    "pspnet_mobilenetv2:output_stride=32", "deeplabv3_mobilenetv2:output_stride=16:width=0.5",
                    "deeplabv3_efficientnet_lite0:output_stride=16", "fcn_efficientnet_lite2:output_stride=32",
                    "lraspp_mobilenetv2:output_stride=8")
SIZES = ((4, 65, 97), (3, 75, 61))      # not 2: the global pool's batch norm over two values is a sign function
CLASSES = 11


def ratio(a, b):
    return float(np.linalg.norm(np.float64(a).ravel() - np.float64(b).ravel()) / np.linalg.norm(np.float64(b).ravel()))


def options_of(model):
    """"name:width=0.5" -> (name, {"width": 0.5})"""
    name, *given = model.split(":")
    kinds = {"width": float, "output_stride": int, "stem": str}
    return name, {k: kinds[k](v) for k, v in (word.split("=") for word in given)}


def retort(program, model, image, labels, mode):
    name, options = options_of(model)
    with tempfile.TemporaryDirectory() as d:
        save_file({"image": image, "labels": labels}, f"{d}/in.safetensors")
        words = [program, "run", name, f"{d}/in.safetensors", f"{d}/out.safetensors", f"classes={CLASSES}", "aux=true",
                 "weights=formula:1", "dropout=off", f"mode={mode}"] + (["loss=ce", "grads=all"] if mode == "train" else [])
        words += [f"{k}={v}" for k, v in options.items()]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(words)}: exit {done.returncode}\n{done.stderr}")
        return load_file(f"{d}/out.safetensors")


def pytorch(model, image, labels, dtype, memory=torch.contiguous_format):
    """({eval outputs}, {train outputs}, loss, {gradients})"""
    name, options = options_of(model)
    net = load_formula(Segmenter(name, CLASSES, aux=True, dropout=0, **options), 1).to(dtype).to(memory_format=memory)
    x = torch.from_numpy(np.ascontiguousarray(image)).to(dtype).contiguous(memory_format=memory)
    with torch.no_grad():
        ev = {k: v.numpy() for k, v in net.eval()(x).items()}
    y = net.train()(x)
    loss = task_loss(y, torch.from_numpy(np.ascontiguousarray(labels)).long())
    loss.backward()
    return (ev, {k: v.detach().numpy() for k, v in y.items()}, loss.item(),
            {n: p.grad.double().numpy() for n, p in net.named_parameters()})


def float32_error(model, image, labels, truth, orders, error):
    """{parameter: L2 error of PyTorch's float32 gradient}, the largest of `error` and of runs in these orders"""
    for memory in (torch.contiguous_format, torch.channels_last):
        for order in orders:
            grads = pytorch(model, image[list(order)], labels[list(order)], torch.float32, memory)[3]
            error = {n: max(e, np.linalg.norm(grads[n] - truth[n])) for n, e in error.items()}
    return error


def norm(errors):
    return np.sqrt(sum(v * v for v in errors.values()))


def judge(rows, what, value, limit):
    rows.append((what, value, limit, value <= limit))


def compare(program, model, size):
    image, labels = inputs(11, *size, CLASSES)
    ev, tr, loss, grads = pytorch(model, image, labels, torch.float64)
    orders = list(itertools.islice(itertools.permutations(range(size[0])), 6))
    theirs = float32_error(model, image, labels, grads, orders[:2], dict.fromkeys(grads, 0.0))
    rows = []
    got = retort(program, model, image, labels, "eval")
    for k in ("logits", "aux", "features"):
        judge(rows, f"eval {k}", ratio(got[k], ev[k]), 1e-5)
    got = retort(program, model, image, labels, "train")
    for k in ("logits", "aux", "features"):
        judge(rows, f"train {k}", ratio(got[k], tr[k]), 2e-4)
    judge(rows, "loss", abs(float(got["loss"].ravel()[0]) - loss) / loss, 1e-5)
    whole = np.sqrt(sum(np.linalg.norm(g) ** 2 for g in grads.values()))
    ours = {n: np.linalg.norm(np.float64(got["grad." + n]) - g) for n, g in grads.items()}
    times = {n: ours[n] / max(theirs[n], 1e-6 * whole) for n in grads}
    if max(times.values()) > 2:
        theirs = float32_error(model, image, labels, grads, orders[2:], theirs)
        times = {n: ours[n] / max(theirs[n], 1e-6 * whole) for n in grads}
    judge(rows, "gradient, whole", norm(ours) / whole, 2 * norm(theirs) / whole)
    worst = max(times, key=times.get)
    judge(rows, f"worst of {len(times)} gradients over PyTorch's: {worst}", times[worst], 2.0)
    return rows, norm(theirs) / whole, sorted(times.values())[len(times) // 2]


def main():
    torch.set_num_threads(2)
    args = sys.argv[1:]
    program = args.pop(0) if args and os.sep in args[0] else "build/retort"
    missed = 0
    for model in PARTS if args == ["all"] else args or NETWORKS:
        for size in SIZES:
            rows, theirs, median = compare(program, model, size)
            print(f"{model} {size[0]} x 3 x {size[1]} x {size[2]} (float32 PyTorch's whole gradient: {theirs:.2e}; median parameter: {median:.2f} times its error)")
            for what, value, limit, ok in rows:
                print(f"  {'ok  ' if ok else 'MISS'} {what}: {value:.2e}, limit {limit:.2e}")
                missed += not ok
    print(f"{missed} missed" if missed else "all within their limits")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
