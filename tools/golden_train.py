"""Optimisers, schedules, clipping and averages as torch computes them -> tests/golden/train.safetensors.

A module of two small layers gets the same float32 gradients in every case; all arithmetic is torch's in
float64. Tensors: start/NAME, grad/NAME (one per step, first axis), CASE/NAME (after every step), CASE/lr and
CASE/norm (of the gradient before clipping, where the case clips). The options are repeated in
tests/test_optimizer.c. Run: python tools/golden_train.py
"""
import os

import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

STEPS, WARMUP = 12, 4
torch.manual_seed(5)
torch.set_num_threads(1)
out = {}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(3, 4)
        self.bn = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 2)


reference = Model()
start = {k: v.clone() for k, v in reference.state_dict().items() if v.is_floating_point()}
trainable = [k for k, _ in reference.named_parameters()]
grad = {k: torch.randn(STEPS, *start[k].shape) * (0.3 + 3.0 * (torch.arange(STEPS) % 4 == 2)).view(
    -1, *[1] * start[k].dim()) for k in trainable}
statistic = {k: torch.rand(STEPS, *start[k].shape) for k in ("bn.running_mean", "bn.running_var")}
out |= {f"start/{k}": v for k, v in start.items()} | {f"grad/{k}": v for k, v in (grad | statistic).items()}


def poly(o):
    return lr_scheduler.PolynomialLR(o, STEPS, 0.9)


def poly_warmup(o):
    return lr_scheduler.ChainedScheduler([lr_scheduler.LinearLR(o, 1 / WARMUP, 1.0, WARMUP - 1), poly(o)])


def cosine(o):
    return lr_scheduler.CosineAnnealingLR(o, STEPS)


def constant(o):
    return lr_scheduler.ConstantLR(o, 1.0, 1)


def case(name, optimizer, schedule=constant, clip=None, ema=None, groups=None):
    model = Model().double()
    model.load_state_dict({k: v.double() for k, v in start.items()}, strict=False)
    parameters = dict(model.named_parameters())
    factor = {k: next((f for p, f in (groups or {}).items() if k.startswith(p)), 1.0) for k in trainable}
    o = optimizer([{"params": [parameters[k]], "lr": factor[k] * optimizer.lr} for k in trainable])
    s = schedule(o)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema), use_buffers=True) if ema else None
    if average:
        average.update_parameters(model)     # the first call copies
    rows = {k: [] for k in [*trainable, "lr", "norm", *statistic]}
    for t in range(STEPS):
        for k in trainable:
            parameters[k].grad = grad[k][t].double()
        for k, v in statistic.items():
            model.get_buffer(k).copy_(v[t])
        if clip:
            rows["norm"].append(nn.utils.clip_grad_norm_(model.parameters(), clip).detach())
        rows["lr"].append(torch.tensor(o.param_groups[0]["lr"], dtype=torch.float64))
        o.step()
        s.step()
        if average:
            average.update_parameters(model)
        shown = average.module if average else model
        for k in trainable:
            rows[k].append(shown.get_parameter(k).detach().clone())
        for k in statistic if average else ():
            rows[k].append(shown.get_buffer(k).clone())
    out.update({f"{name}/{k}": torch.stack(v) for k, v in rows.items() if v})


class Bound:
    """An optimiser of given options that knows its learning rate."""

    def __init__(self, kind, lr, **kw):
        self.kind, self.lr, self.kw = kind, lr, kw

    def __call__(self, parameters):
        return self.kind(parameters, lr=self.lr, **self.kw)


SGD, AdamW = torch.optim.SGD, torch.optim.AdamW
case("sgd", Bound(SGD, 0.1, momentum=0.9, weight_decay=0.01))
case("nesterov", Bound(SGD, 0.1, momentum=0.8, weight_decay=0.01, nesterov=True))
case("plain", Bound(SGD, 0.1, momentum=0, weight_decay=0))
case("adamw", Bound(AdamW, 0.05, betas=(0.8, 0.95), weight_decay=0.1, eps=1e-6))
case("poly", Bound(SGD, 0.1, momentum=0.9, weight_decay=0), poly)
case("warmup", Bound(SGD, 0.1, momentum=0.9, weight_decay=0), poly_warmup)
case("cosine", Bound(AdamW, 0.02, weight_decay=0.01), cosine)
case("clip", Bound(SGD, 0.1, momentum=0.9, weight_decay=0.01), clip=2.0)
case("groups", Bound(AdamW, 0.01, weight_decay=0.1), poly, groups={"head.bias": 0.5, "head": 10.0})
case("ema", Bound(SGD, 0.1, momentum=0.9, weight_decay=0.01), ema=0.75)

path = os.path.join(os.path.dirname(__file__), "../tests/golden/train.safetensors")
save_file(out, path)
print(path, os.path.getsize(path), "bytes,", len(out), "tensors")
