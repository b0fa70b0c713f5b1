"""Values of each op, forward and backward, from torch in float64 -> tests/golden/ops.safetensors.

Inputs are float32 numbers; results are kept in float64. Tensors are named CASE/src0, CASE/param0 (all
parameters in the op's order), CASE/dst, CASE/ddst, CASE/dsrc0, CASE/dparam0; CASE/after2 and after3 are
batch norm's running statistics after the step. The attributes are repeated in tests/test_ops_golden.c.
Run: python tools/golden_ops.py
"""
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(20)
torch.set_num_threads(1)
out = {}


def rand(*shape):
    return torch.rand(*shape, dtype=torch.float32).mul(2).sub(1)


def case(name, fn, src, param=(), n_trainable=None):
    """fn(sources, parameters) -> result; gradients of all sources and the first n_trainable parameters."""
    n_trainable = len(param) if n_trainable is None else n_trainable
    xs = [x.double().requires_grad_() for x in src]
    ps = [p.double().requires_grad_(i < n_trainable) for i, p in enumerate(param)]
    for i, x in enumerate(src):
        out[f"{name}/src{i}"] = x.clone()
    for i, p in enumerate(param):
        out[f"{name}/param{i}"] = p.clone()
    y = fn(xs, ps)
    dy = rand(*y.shape)
    y.backward(dy.double())
    out[f"{name}/dst"], out[f"{name}/ddst"] = y.detach().contiguous(), dy
    for i, x in enumerate(xs):
        out[f"{name}/dsrc{i}"] = x.grad.contiguous()
    for i, p in enumerate(ps[:n_trainable]):
        out[f"{name}/dparam{i}"] = p.grad.contiguous()
    return ps


def conv(name, o, k, bias=False, shape=(2, 4, 9, 8), groups=1, **kw):
    param = [rand(o, shape[1] // groups, k, k)] + ([rand(o)] if bias else [])
    case(name, lambda x, p: F.conv2d(x[0], p[0], p[1] if bias else None, groups=groups, **kw), [rand(*shape)], param)


conv("conv3", 6, 3, padding=1)
conv("conv3_s2", 6, 3, padding=1, stride=2)
conv("conv3_dilated", 3, 3, padding=2, dilation=2, bias=True)
conv("conv1_bias", 5, 1, bias=True)
conv("conv7_s2", 3, 7, padding=3, stride=2)
conv("conv3_depthwise_s2", 4, 3, padding=1, stride=2, groups=4)
conv("conv3_groups", 6, 3, padding=1, groups=2)
conv("conv3_wide", 2, 3, padding=1, shape=(1, 1, 3, 140))


def bn(name, training, residual=False, act=None):
    x = [rand(2, 3, 4, 5) * 3 + 1] + ([rand(2, 3, 4, 5)] if residual else [])
    param = [rand(3), rand(3), rand(3), rand(3).abs() + 0.3]

    def f(x, p):
        y = F.batch_norm(x[0], p[2], p[3], p[0], p[1], training=training, momentum=0.1, eps=1e-5)
        y = y + x[1] if residual else y
        return act(y) if act else y

    ps = case(name, f, x, param, 2)
    out[f"{name}/after2"], out[f"{name}/after3"] = ps[2].detach().clone(), ps[3].detach().clone()


bn("bn_train", True)
bn("bn_eval", False)
bn("bn_train_relu", True, act=F.relu)
bn("bn_train_residual_relu", True, True, F.relu)
bn("bn_eval_residual_relu6", False, True, F.relu6)
case("relu", lambda x, p: F.relu(x[0]), [rand(2, 3, 5)])
case("relu6", lambda x, p: F.relu6(x[0]), [rand(2, 3, 5) * 9])
case("add", lambda x, p: x[0] + x[1], [rand(2, 3, 2, 2), rand(2, 3, 2, 2)])
case("concat", lambda x, p: torch.cat(x, 1), [rand(2, 3, 2, 2), rand(2, 1, 2, 2)])
case("max_pool", lambda x, p: F.max_pool2d(x[0], 3, 2, 1), [rand(2, 2, 7, 8)])
case("max_pool2", lambda x, p: F.max_pool2d(x[0], 2), [rand(1, 2, 5, 7)])
case("pool_1", lambda x, p: F.adaptive_avg_pool2d(x[0], 1), [rand(2, 2, 5, 7)])
case("pool_3x2", lambda x, p: F.adaptive_avg_pool2d(x[0], (3, 2)), [rand(2, 2, 5, 7)])
case("pool_6", lambda x, p: F.adaptive_avg_pool2d(x[0], 6), [rand(1, 2, 5, 8)])
for align in (True, False):
    tail = "_aligned" if align else ""
    for name, to in (("up", (11, 13)), ("down", (3, 2)), ("one", (1, 1))):
        case(f"resize_{name}{tail}", lambda x, p: F.interpolate(x[0], to, mode="bilinear", align_corners=align), [rand(2, 2, 5, 6)])
    case(f"resize_from_one{tail}", lambda x, p: F.interpolate(x[0], (4, 3), mode="bilinear", align_corners=align), [rand(2, 2, 1, 1)])

here = os.path.dirname(os.path.abspath(__file__))
save_file(out, os.path.join(here, "..", "tests", "golden", "ops.safetensors"))
print(len(out), "tensors")
