"""Twenty SGD steps from the same weights on the same batches, in retort and in PyTorch.

    python tools/parity_steps.py [PROGRAM] [NETWORK ...]      (default build/tool_steps, two networks)

Momentum 0.9, weight decay 1e-4 on everything, polynomial learning rate, batch statistics, dropout off. The losses
must agree within 1e-3 (relative) at each step. Exit 1 where they do not. The learning rates are small because
training amplifies rounding: at 0.01 PyTorch with one thread and with two differs from itself by 1e-2 after ten steps.
"""
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.numpy import save_file

from golden_nets import inputs
from torch_nets import Segmenter, load_formula, task_loss

NETWORKS = {"deeplabv3_resnet18": 1e-3, "deeplabv3_mobilenetv2": 2e-4}     # with a learning rate each
STEPS, BATCH, H, W, CLASSES, POWER = 20, 4, 65, 81, 11, 0.9


def batches():
    for step in range(STEPS):
        image, labels = inputs(100 + step, BATCH, H, W, CLASSES)
        # Something to learn: the label follows the image's first channel in blocks.
        coarse = torch.nn.functional.avg_pool2d(torch.from_numpy(image[:, :1]), 9, 1, 4).numpy()[:, 0]
        labels = np.where(labels < 0, -1, np.clip((coarse * 9 + 5.5).astype(np.int32), 0, CLASSES - 1)).astype(np.int32)
        yield image, labels


def pytorch(model, lr):
    net = load_formula(Segmenter(model, CLASSES, aux=True, dropout=0), 1).train()
    sgd = torch.optim.SGD(net.parameters(), lr, 0.9, weight_decay=1e-4)
    for step, (image, labels) in enumerate(batches()):
        for group in sgd.param_groups:
            group["lr"] = lr * (1 - step / STEPS) ** POWER
        loss = task_loss(net(torch.from_numpy(image)), torch.from_numpy(labels).long())
        sgd.zero_grad()
        loss.backward()
        norm = torch.sqrt(sum((p.grad.double() ** 2).sum() for p in net.parameters()))
        sgd.step()
        yield loss.item(), norm.item()


def retort(program, model, lr, folder):
    path = os.path.join(folder, "batches.safetensors")
    tensors = {}
    for step, (image, labels) in enumerate(batches()):
        tensors[f"image.{step}"], tensors[f"labels.{step}"] = image, labels
    save_file(tensors, path)
    words = [program, path, f"student.model={model}", "student.aux=true", f"train.steps={STEPS}", f"train.batch={BATCH}", f"train.lr={lr}",
             f"train.schedule={{kind: poly, power: {POWER}}}", "train.optimizer=sgd"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: exit {done.returncode}\n{done.stderr}")
    return [tuple(map(float, line.split()[1:3])) for line in done.stdout.splitlines()]


def main():
    torch.set_num_threads(2)
    args = sys.argv[1:]
    program = args.pop(0) if args and os.sep in args[0] else "build/tool_steps"
    missed = 0
    for model in args or NETWORKS:
        print(f"{model}, batch {BATCH} x 3 x {H} x {W}\n  step   PyTorch      retort       difference  gradient norms")
        with tempfile.TemporaryDirectory() as folder:
            ours = retort(program, model, NETWORKS[model], folder)
        theirs = list(pytorch(model, NETWORKS[model]))
        missed += abs(len(ours) - len(theirs))
        for step, ((a, na), (b, nb)) in enumerate(zip(theirs, ours)):
            off = abs(a - b) / abs(a)
            missed += not off <= 1e-3
            print(f"  {step:4d}   {a:.8f}   {b:.8f}   {off:.1e} {'    ' if off <= 1e-3 else 'MISS'}   {na:.5f}  {nb:.5f}")
    print(f"{missed} missed" if missed else "all within 1e-3")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
