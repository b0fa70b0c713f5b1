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

# ---- the ops of imported networks ------------------------------------------------------------------
F2 = F.interpolate
case("resize_nearest", lambda x, p: F2(x[0], (7, 9), mode="nearest"), [rand(1, 2, 4, 5)])
case("resize_nearest_down", lambda x, p: F2(x[0], (3, 2), mode="nearest"), [rand(1, 2, 7, 5)])
case("resize_nearest_exact", lambda x, p: F2(x[0], (7, 9), mode="nearest-exact"), [rand(1, 2, 4, 5)])
for align in (True, False):
    case("resize_cubic" + ("_aligned" if align else ""),
         lambda x, p: F2(x[0], (7, 3), mode="bicubic", align_corners=align), [rand(1, 2, 4, 5)])
case("resize_step", lambda x, p: F2(x[0], scale_factor=(1.7, 2.3), mode="bilinear", recompute_scale_factor=False),
     [rand(1, 2, 4, 5)])
case("max_pool_3x2_ceil", lambda x, p: F.max_pool2d(x[0], (3, 2), (2, 2), (1, 0), ceil_mode=True), [rand(1, 2, 6, 5)])
case("conv_1x5", lambda x, p: F.conv2d(x[0], p[0], padding=(0, 2)), [rand(1, 2, 4, 6)], [rand(3, 2, 1, 5)])
case("conv_asymmetric", lambda x, p: F.conv2d(F.pad(x[0], (0, 1, 2, 1)), p[0], p[1], stride=2), [rand(1, 2, 5, 6)],
     [rand(3, 2, 3, 3), rand(3)])
case("transposed2", lambda x, p: F.conv_transpose2d(x[0], p[0], p[1], stride=2), [rand(2, 3, 3, 4)],
     [rand(3, 2, 2, 2), rand(2)])
case("transposed3", lambda x, p: F.conv_transpose2d(x[0], p[0], stride=2, padding=1, output_padding=1), [rand(1, 3, 3, 4)],
     [rand(3, 2, 3, 3)])
case("transposed_groups", lambda x, p: F.conv_transpose2d(x[0], p[0], stride=1, padding=2, dilation=2, groups=2),
     [rand(1, 4, 5, 4)], [rand(4, 3, 3, 3)])
case("slice", lambda x, p: x[0][:, 1:3].flip(2)[:, :, ::2, ::3], [rand(2, 4, 5, 7)])
case("pad_constant", lambda x, p: F.pad(x[0], (1, 2, 0, 3), value=0.5), [rand(2, 2, 3, 4)])
case("pad_negative", lambda x, p: F.pad(x[0], (-1, 2, 1, -1)), [rand(2, 2, 3, 4)])
case("pad_reflect", lambda x, p: F.pad(x[0], (2, 1, 1, 2), mode="reflect"), [rand(2, 2, 3, 4)])
case("pad_edge", lambda x, p: F.pad(x[0], (2, 1, 1, 2), mode="replicate"), [rand(2, 2, 3, 4)])
case("expand", lambda x, p: x[0].expand(2, 3, 4, 5), [rand(3, 1, 5)])
case("softmax1", lambda x, p: x[0].softmax(1), [rand(2, 4, 3, 2) * 5])
case("softmax_last", lambda x, p: x[0].softmax(-1), [rand(2, 3, 6) * 5])
case("log_softmax", lambda x, p: x[0].log_softmax(1), [rand(2, 4, 3) * 5])
case("reduce_sum", lambda x, p: x[0].sum((0, 2), keepdim=True), [rand(2, 3, 4, 5)])
case("reduce_mean", lambda x, p: x[0].mean((2, 3), keepdim=True), [rand(2, 3, 4, 5)])
case("reduce_max", lambda x, p: x[0].amax(1, keepdim=True), [(rand(2, 3, 4) * 2).round()])
case("reduce_min", lambda x, p: x[0].amin((0, 1), keepdim=True), [rand(2, 3, 4)])
case("reduce_l2", lambda x, p: x[0].norm(dim=1, keepdim=True), [rand(2, 3, 4)])
case("layer_norm", lambda x, p: F.layer_norm(x[0], (6,), eps=1e-5), [rand(2, 3, 6)])
case("layer_norm3", lambda x, p: F.layer_norm(x[0], (3, 4, 2), eps=1e-3), [rand(2, 3, 4, 2)])
case("prelu", lambda x, p: F.prelu(x[0], p[0]), [rand(2, 3, 4)], [rand(3)])
case("prelu_one", lambda x, p: F.prelu(x[0], p[0]), [rand(2, 3, 4)], [rand(1)])
case("avg_pool_padded", lambda x, p: F.avg_pool2d(x[0], 3, 2, 1), [rand(1, 2, 6, 7)])
case("avg_pool_bare", lambda x, p: F.avg_pool2d(x[0], (2, 3), 2, 1, ceil_mode=True, count_include_pad=False), [rand(1, 2, 6, 7)])
case("matmul", lambda x, p: x[0] @ x[1], [rand(2, 1, 3, 4), rand(3, 4, 5)])
case("matmul_turned", lambda x, p: x[0].mT @ x[1].mT, [rand(2, 4, 3), rand(2, 5, 4)])
case("transpose", lambda x, p: x[0].permute(2, 0, 3, 1), [rand(2, 3, 4, 5)])
case("reshape", lambda x, p: x[0].reshape(4, 15), [rand(2, 3, 2, 5)])
for name in ("add", "sub", "mul", "div"):
    case(f"binary_{name}", lambda x, p: getattr(torch, name)(x[0], x[1]), [rand(2, 3, 4), rand(3, 1) + 2])
case("binary_min", lambda x, p: torch.minimum(*x), [rand(2, 3, 4), rand(4)])
case("binary_max", lambda x, p: torch.maximum(*x), [rand(2, 3, 4), rand(2, 1, 1)])
case("binary_pow", lambda x, p: x[0] ** x[1], [rand(2, 3, 4) + 2, rand(4)])
UNARY = {"affine": lambda x: 1.5 * x - 0.25, "clip": lambda x: x.clamp(-0.5, 0.75), "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
         "elu": lambda x: F.elu(x, 0.8), "selu": F.selu, "sigmoid": torch.sigmoid, "hard_sigmoid": F.hardsigmoid,
         "hard_swish": F.hardswish, "silu": F.silu, "tanh": torch.tanh, "erf": torch.erf, "gelu": F.gelu,
         "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "softplus": F.softplus, "mish": F.mish, "exp": torch.exp,
         "abs": torch.abs}
for name, f in UNARY.items():
    case(f"unary_{name}", lambda x, p: f(x[0]), [rand(3, 17) * (4 if name.startswith("hard") else 2)])
for name, f in {"log": torch.log, "sqrt": torch.sqrt, "pow": lambda x: x ** 1.7, "reciprocal": torch.reciprocal}.items():
    case(f"unary_{name}", lambda x, p: f(x[0]), [rand(3, 17) + 1.5])

here = os.path.dirname(os.path.abspath(__file__))
save_file(out, os.path.join(here, "..", "tests", "golden", "ops.safetensors"))
print(len(out), "tensors")
