"""Twenty training steps from the same weights on the same batches, in `retort train` and in PyTorch.

    python tools/parity_steps.py [PROGRAM] [ARM ...]      (default build/retort, every arm)

A small data set is drawn and written in CamVid's layout; the order of its images is that of the program, repeated
here from its counter-based generator. SGD with momentum 0.9, weight decay 1e-4 on everything, polynomial learning
rate, batch statistics, dropout off, no augmentation. The arm `rdd` has a teacher, its two stages for ten steps each,
and kd. The losses must agree with PyTorch in float64 within 1e-3 (relative) at each step; float32 PyTorch's own
difference stands beside. Exit 1 on a miss. The learning rates are small because training amplifies rounding: at
0.01 PyTorch with one thread and with two differs from itself by 1e-2 after ten steps.
"""
import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib

import numpy as np
import torch

import torch_losses as L
from torch_nets import Segmenter, load_formula

STEPS, BATCH, IMAGES, H, W, CLASSES, SEED, POWER = 20, 4, 22, 65, 81, 11, 5, 0.9
TEACHER = "deeplabv3_resnet18"
#       student, learning rate, task loss and terms
ARMS = {"ce": ("deeplabv3_resnet18", 1e-4, False), "ce-mobile": ("deeplabv3_mobilenetv2", 2e-5, False),
        "rdd": ("deeplabv3_resnet18", 3e-5, True), "rdd-mobile": ("deeplabv3_mobilenetv2", 5e-6, True)}
M64, M32 = (1 << 64) - 1, (1 << 32) - 1


def mix64(x):
    x = (x + 0x9E3779B97F4A7C15) & M64
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & M64
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & M64
    return x ^ x >> 31


def philox(key, hi, index):
    c, k = [index & M32, index >> 32, hi & M32, hi >> 32], [key & M32, key >> 32]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [p1 >> 32 ^ c[1] ^ k[0], p1 & M32, p0 >> 32 ^ c[3] ^ k[1], p0 & M32]
        k = [(k[0] + 0x9E3779B9) & M32, (k[1] + 0xBB67AE85) & M32]
    return c


def epoch_order(epoch):
    """As src/data/loader.c and src/base/rng.c: stream (seed, 1 = shuffling, epoch, 0), Fisher and Yates from behind."""
    key = mix64((mix64((mix64((mix64(SEED) + 1) & M64) + epoch) & M64)) & M64)
    hi = mix64(mix64(epoch ^ 0x6A09E667F3BCC908))
    order = list(range(IMAGES))
    for i in range(IMAGES, 1, -1):
        j = philox(key, hi, i // 4)[i % 4] * i >> 32
        order[i - 1], order[j] = order[j], order[i - 1]
    return order


def draw(index):
    """Blocks of classes, each with its colour, noise over it, some void: (H x W x 3 and H x W, bytes)."""
    g = np.random.default_rng(1000 + index)
    coarse = g.integers(0, CLASSES, (8, 10)).repeat(9, 0).repeat(9, 1)[:H, :W]
    colours = np.random.default_rng(1).integers(40, 216, (CLASSES, 3))
    image = np.clip(colours[coarse] + g.normal(0, 25, (H, W, 3)), 0, 255).astype(np.uint8)
    labels = np.where(g.random((H, W)) < 0.07, CLASSES, coarse).astype(np.uint8)
    return image, labels


def write_png(path, a):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    rows = b"".join(b"\0" + row.tobytes() for row in a)
    head = struct.pack(">IIBBBBB", a.shape[1], a.shape[0], 8, 2 if a.ndim == 3 else 0, 0, 0, 0)
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def write_data(root):
    os.makedirs(f"{root}/all")
    names = []
    for i in range(IMAGES):
        for kind, a in zip(("image", "label"), draw(i)):
            write_png(f"{root}/all/{kind}{i}.png", a)
        names.append(f"all/image{i}.png all/label{i}.png\n")
    for split in ("train", "val", "test"):
        with open(f"{root}/{split}.txt", "w") as f:
            f.writelines(names if split == "train" else names[:1])


def batches():
    order = [i for epoch in range(1 + STEPS * BATCH // IMAGES) for i in epoch_order(epoch)]
    for step in range(STEPS):
        images, labels = zip(*(draw(i) for i in order[step * BATCH:(step + 1) * BATCH]))
        y = np.stack(labels).astype(np.int64)
        yield torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).double(), torch.from_numpy(np.where(y == CLASSES, -1, y))


def normalised(x, norm):
    if norm == "rgb-imagenet":
        mean, std = 255 * np.array([0.485, 0.456, 0.406]), 255 * np.array([0.229, 0.224, 0.225])
    else:
        x, mean, std = x.flip(1), np.array([104.00698793, 116.66876762, 122.67891434]), np.ones(3)
    return (x - torch.from_numpy(mean)[:, None, None]) / torch.from_numpy(std)[:, None, None]


def objective(out, taught, labels, step):
    t = {"student.logits": out["logits"], "student.aux": out["aux"], "labels": labels}
    if taught is None:
        return L.ce(t)
    t |= {"teacher.logits": taught["logits"], "teacher.aux": taught["aux"]}
    return (L.rdd_tfe if step < STEPS // 2 else L.rdd_tse)(t) + L.kd(t)


def pytorch(student, lr, distil, dtype):
    net = load_formula(Segmenter(student, CLASSES, aux=True, dropout=0), 1).to(dtype).train()
    teacher = load_formula(Segmenter(TEACHER, CLASSES, aux=True, dropout=0), 2).to(dtype).eval()
    sgd = torch.optim.SGD(net.parameters(), lr, 0.9, weight_decay=1e-4)
    for step, (image, labels) in enumerate(batches()):
        for group in sgd.param_groups:
            group["lr"] = lr * (1 - step / STEPS) ** POWER
        with torch.no_grad():
            taught = teacher(normalised(image, "bgr-caffe").to(dtype)) if distil else None
        loss = objective(net(normalised(image, "rgb-imagenet").to(dtype)), taught, labels, step)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        yield loss.item()


def retort(program, student, lr, distil, folder):
    words = [program, "train", "check=off", f"data=camvid:{folder}/data", f"out={folder}/run", f"seed={SEED}", "data.mirror=0", f"student.model={student}",
             "student.aux=true", "student.weights=formula:1", "student.dropout=false", f"train.steps={STEPS}", f"train.batch={BATCH}",
             f"train.lr={lr}", f"train.schedule={{kind: poly, power: {POWER}}}", "report.metrics=1", "train.precision=f32"]
    if distil:
        words += [f"teacher.model={TEACHER}", "teacher.aux=true", "teacher.weights=formula:2", "distill.task={kind: rdd, warmup: 0.5}",
                  "distill.losses=[kd]"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: exit {done.returncode}\n{done.stderr}")
    with open(f"{folder}/run/metrics.jsonl") as f:
        return [r["loss"]["total"] for r in map(json.loads, f) if "loss" in r]


def main():
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    args = sys.argv[1:]
    program = args.pop(0) if args and os.sep in args[0] else "build/retort"
    missed = 0
    for arm in args or ARMS:
        print(f"{arm}: {ARMS[arm][0]}, batch {BATCH} x 3 x {H} x {W}\n  step   PyTorch      retort       difference       float32 PyTorch's")
        with tempfile.TemporaryDirectory() as folder:
            write_data(f"{folder}/data")
            ours = retort(os.path.abspath(program), *ARMS[arm], folder)
        truth, single = (list(pytorch(*ARMS[arm], dtype)) for dtype in (torch.float64, torch.float32))
        missed += abs(len(ours) - STEPS)
        for step, (a, b, c) in enumerate(zip(truth, ours, single)):
            off = abs(a - b) / abs(a)
            missed += not off <= 1e-3
            print(f"  {step:4d}   {a:.8f}   {b:.8f}   {off:.1e} {'    ' if off <= 1e-3 else 'MISS'}     {abs(a - c) / abs(a):.1e}", flush=True)
    print(f"{missed} missed" if missed else "all within 1e-3")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
