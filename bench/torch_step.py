"""One training step in PyTorch, timed like `retort bench step`: the same networks (tools/torch_nets.py), the same
loss, the same noise; one JSON object with the same names. Run by bench.sh; not needed to build or use retort.

    python3 bench/torch_step.py model=deeplabv3_resnet18 [teacher=NETWORK] [batch=4] [size=360x360] [classes=11]
                                [steps=3] [threads=0] [layout=plain|last] [precision=f32|bf16] [compile=no|yes]

Without a teacher: cross-entropy on both heads. With one: RDD's second stage (the dearer one) on both heads plus KD,
each map upsampled once and its probability taken from its cross-entropy, which is the cheapest composition of
ordinary operations. The image comes normalised, so PyTorch is spared that part. bf16 is autocast; the losses are
float32 in both. compile=yes passes both networks through torch.compile.
"""
import json
import math
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import torch
import torch.nn.functional as F

from torch_nets import Segmenter, resize

WARM_STEPS, THETA, KEPT, AUX = 2, 0.7, 0.0477, 0.4
PARTS = ("step", "teacher", "forward", "loss", "backward", "optimizer")


def status_mb(field):
    """VmHWM: peak resident memory; VmRSS: now."""
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(field)) * 1024 / 1e6


def options(words):
    o = {"teacher": "", "batch": "4", "size": "360x360", "classes": "11", "steps": "3", "threads": "0", "layout": "plain",
         "precision": "f32", "compile": "no"}
    for word in words:
        key, _, value = word.partition("=")
        if key not in o and key != "model":
            sys.exit(f"torch_step.py: '{key}' is not known; {', '.join(['model', *o])} are")
        o[key] = value
    return o


def cross_entropy(x, labels):
    """B x H x W; 0 where void."""
    return F.cross_entropy(resize(x, labels.shape[1:]), labels, ignore_index=-1, reduction="none")


def hard(ce, valid, k):
    """Pixels whose label has a probability of at most max(theta, the k-th smallest)."""
    q = torch.exp(-ce)
    return valid & (q <= max(THETA, q[valid].kthvalue(k).values.item()))


def tse(student, teacher, labels):
    valid = labels >= 0
    k = max(1, math.floor(KEPT * int(valid.sum())))
    ce = cross_entropy(student, labels)
    with torch.no_grad():
        mask = hard(ce, valid, k) ^ hard(cross_entropy(teacher, labels), valid, k)
    return (ce * mask).sum() / mask.sum().clamp(min=1)


def kd(student, teacher):
    p, q = F.log_softmax(teacher, 1), F.log_softmax(student, 1)
    return (p.exp() * (p - q)).sum(1).mean()


def loss_of(out, taught, labels):
    if taught is None:
        valid = (labels >= 0).sum()
        return (cross_entropy(out["logits"], labels).sum() + AUX * cross_entropy(out["aux"], labels).sum()) / valid
    return (tse(out["logits"], taught["logits"], labels) + AUX * tse(out["aux"], taught["aux"], labels)
            + kd(out["logits"], taught["logits"]))


def forward(net, image, bf16):
    """Outputs in float32."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = net(image)
    return {k: v.float() for k, v in out.items()}


def one_step(student, teacher, sgd, image, labels, bf16):
    """Seconds of each part, in the order of PARTS."""
    marks = [time.perf_counter()]
    taught = None
    if teacher is not None:
        with torch.no_grad():
            taught = forward(teacher, image, bf16)
    marks.append(time.perf_counter())
    out = forward(student, image, bf16)
    marks.append(time.perf_counter())
    loss = loss_of(out, taught, labels)
    marks.append(time.perf_counter())
    sgd.zero_grad(set_to_none=True)
    loss.backward()
    marks.append(time.perf_counter())
    sgd.step()
    marks.append(time.perf_counter())
    return [marks[-1] - marks[0]] + [b - a for a, b in zip(marks, marks[1:])]


def main():
    start = time.perf_counter()
    o = options(sys.argv[1:])
    batch, classes, steps = int(o["batch"]), int(o["classes"]), int(o["steps"])
    h, w = map(int, o["size"].split("x"))
    torch.manual_seed(1)
    torch.set_num_threads(int(o["threads"]) or len(os.sched_getaffinity(0)))
    layout = torch.channels_last if o["layout"] == "last" else torch.contiguous_format
    student = Segmenter(o["model"], classes, aux=True).train().to(memory_format=layout)
    teacher = Segmenter(o["teacher"], classes, aux=True).eval().to(memory_format=layout) if o["teacher"] else None
    if o["compile"] == "yes":
        student, teacher = torch.compile(student), teacher and torch.compile(teacher)
    sgd = torch.optim.SGD(student.parameters(), 0.01, 0.9, weight_decay=1e-4)
    image = torch.randn(batch, 3, h, w).to(memory_format=layout)
    labels = torch.randint(-1, classes, (batch, (h + 23) // 24, (w + 23) // 24))      # squares of 24
    labels = labels.repeat_interleave(24, 1).repeat_interleave(24, 2)[:, :h, :w].contiguous()
    loaded = status_mb("VmRSS")
    times = []
    for i in range(-WARM_STEPS, steps):
        t = one_step(student, teacher, sgd, image, labels, o["precision"] == "bf16")
        if i == -WARM_STEPS:
            first = time.perf_counter() - start
        if i >= 0:
            times.append(t)
    medians = {p: 1e3 * sorted(t[k] for t in times)[len(times) // 2] for k, p in enumerate(PARTS)}
    print(json.dumps({"model": o["model"], "teacher_model": o["teacher"], "batch": batch, "height": h, "width": w, "steps": steps,
                      **medians, "peak_rss_mb": status_mb("VmHWM"), "loaded_rss_mb": loaded, "first_step_s": first,
                      "threads": torch.get_num_threads(), "layout": o["layout"],
                      "precision": o["precision"], "compile": o["compile"], "pytorch": torch.__version__}))


if __name__ == "__main__":
    main()
