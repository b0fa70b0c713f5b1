"""Holds `retort run` against PyTorch in float64: whole networks from formula weights at odd sizes.

    python tools/parity_nets.py [PROGRAM] [NETWORK[:OPTION=VALUE...] ...]      (default build/retort, three networks)

For example fcn_resnet50:stem=plain:output_stride=16; `all` is every head on every backbone, and what options change.

Figures are L2 ratios, |a - b| / |b|. Evaluation-mode outputs at most 1e-5, training-mode outputs (batch
statistics, dropout off) at most 2e-4, every parameter's gradient at most twice the error that float32
PyTorch itself has. That error is a draw of chance: any rounding flips ReLUs whose input is near zero, and one flip
early in a network outweighs all other rounding (PyTorch in two memory formats differs from itself by 10 to 400
times the error of the luckier one). So it is taken as the largest of several float32 runs that are equal but for
the order of their sums: memory formats, and the order of the images in the batch. Two, and where those do not cover ours
two more and eight more: with four, PyTorch held against itself misses by up to 8.7 on LR-ASPP-MobileNetV2, with twelve by
1.6 at most. Where a gradient is zero but for rounding, 1e-6 of the whole gradient stands for it. Prints each figure, then
a table (the worse size of each network); exit 1 on a miss.
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
BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "mobilenetv2",
             "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
HEADS = ("deeplabv3", "pspnet", "fcn", "lraspp")
VARIANTS = ("deeplabv3_resnet50:stem=plain", "fcn_resnet50:stem=plain", "fcn_resnet18:stem=plain",
            "deeplabv3_resnet18:output_stride=16", "deeplabv3_resnet50:output_stride=32",
            "pspnet_mobilenetv2:output_stride=32", "deeplabv3_mobilenetv2:output_stride=16:width=0.5",
            "deeplabv3_efficientnet_lite0:output_stride=16", "fcn_efficientnet_lite2:output_stride=32",
            "lraspp_mobilenetv2:output_stride=8")
ALL = tuple(f"{h}_{b}" for b in BACKBONES for h in HEADS) + VARIANTS
SIZES = ((4, 65, 97), (3, 75, 61))      # not 2: the global pool's batch norm over two values is a sign function
CLASSES = 11
OUTPUTS = ("logits", "aux", "features")


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


def torch_net(model, dtype, memory):
    name, options = options_of(model)
    net = Segmenter(name, CLASSES, aux=True, dropout=0, **options)
    return load_formula(net, 1).to(dtype).to(memory_format=memory)


def torch_image(image, dtype, memory):
    return torch.from_numpy(np.ascontiguousarray(image)).to(dtype).contiguous(memory_format=memory)


def evaluated(model, image):
    """{outputs} in evaluation mode, float64"""
    net, x = (f(v, torch.float64, torch.contiguous_format) for f, v in ((torch_net, model), (torch_image, image)))
    with torch.no_grad():
        return {k: v.numpy() for k, v in net.eval()(x).items()}


def trained(model, image, labels, dtype, memory=torch.contiguous_format):
    """({outputs} in training mode, loss, {gradients})"""
    net = torch_net(model, dtype, memory)
    y = net.train()(torch_image(image, dtype, memory))
    loss = task_loss(y, torch.from_numpy(np.ascontiguousarray(labels)).long())
    loss.backward()
    return ({k: v.detach().numpy() for k, v in y.items()}, loss.item(),
            {n: p.grad.double().numpy() for n, p in net.named_parameters()})


class Float32:
    """The largest errors of PyTorch's float32 runs so far: of training-mode outputs and of each gradient."""

    def __init__(self, model, image, labels, truth):
        self.args, self.truth = (model, image, labels), truth
        self.outputs, self.grads = dict.fromkeys(truth[0], 0.0), dict.fromkeys(truth[2], 0.0)

    def run(self, orders):
        model, image, labels = self.args
        for memory, order in itertools.product((torch.contiguous_format, torch.channels_last), orders):
            order = list(order)
            y, _, grads = trained(model, image[order], labels[order], torch.float32, memory)
            for k, e in self.outputs.items():
                self.outputs[k] = max(e, ratio(y[k], self.truth[0][k][order]))
            for n, e in self.grads.items():
                self.grads[n] = max(e, np.linalg.norm(grads[n] - self.truth[2][n]))

    def times(self, ours, least):
        return {n: ours[n] / max(e, least) for n, e in self.grads.items()}


def norm(errors):
    return np.sqrt(sum(v * v for v in errors.values()))


def judge(rows, what, value, limit):
    rows.append((what, value, limit, value <= limit))


def compare(program, model, size):
    """(rows of a report, row of the table)"""
    image, labels = inputs(11, *size, CLASSES)
    ev, truth = evaluated(model, image), trained(model, image, labels, torch.float64)
    tr, loss, grads = truth
    orders = list(itertools.islice(itertools.permutations(range(size[0])), 6))
    theirs = Float32(model, image, labels, truth)
    rows = []
    got = retort(program, model, image, labels, "eval")
    for k in OUTPUTS:
        judge(rows, f"eval {k}", ratio(got[k], ev[k]), 1e-5)
    got = retort(program, model, image, labels, "train")
    whole = np.sqrt(sum(np.linalg.norm(g) ** 2 for g in grads.values()))
    ours = {n: np.linalg.norm(np.float64(got["grad." + n]) - g) for n, g in grads.items()}
    for more in (orders[:1], orders[1:2], orders[2:]):
        theirs.run(more)
        times = theirs.times(ours, 1e-6 * whole)
        if max(times.values()) <= 2:
            break
    for k in OUTPUTS:
        judge(rows, f"train {k} (PyTorch's in float32: {theirs.outputs[k]:.2e})", ratio(got[k], tr[k]), 2e-4)
    judge(rows, "loss", abs(float(got["loss"].ravel()[0]) - loss) / loss, 1e-5)
    judge(rows, "gradient, whole", norm(ours) / whole, 2 * norm(theirs.grads) / whole)
    worst = max(times, key=times.get)
    judge(rows, f"worst of {len(times)} gradients over PyTorch's: {worst}", times[worst], 2.0)
    n = len(OUTPUTS)
    return rows, (max(r[1] for r in rows[:n]), max(r[1] for r in rows[n:2 * n]), max(theirs.outputs.values()),
                  norm(ours) / whole, norm(theirs.grads) / whole, times[worst])


def main():
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
    args = sys.argv[1:]
    program = args.pop(0) if args and os.sep in args[0] else "build/retort"
    missed, table = 0, []
    for model in ALL if args == ["all"] else args or NETWORKS:
        figures = []
        for size in SIZES:
            rows, row = compare(program, model, size)
            figures.append(row)
            print(f"{model} {size[0]} x 3 x {size[1]} x {size[2]}")
            for what, value, limit, ok in rows:
                print(f"  {'ok  ' if ok else 'MISS'} {what}: {value:.2e}, limit {limit:.2e}", flush=True)
                missed += not ok
        table.append(f"| `{model}` | " + " | ".join(f"{max(f):.1e}" if i < 5 else f"{max(f):.2f}" for i, f in enumerate(zip(*figures))) + " |")
    print("| network | eval | train | PyTorch's | gradient | PyTorch's | worst parameter |")
    print("| --- |" + " --- |" * 6, *table, sep="\n")
    print(f"{missed} missed" if missed else "all within their limits")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
