#!/usr/bin/env python3
"""onnx_nets.py - small networks of the families people bring, written out for the importer's tests.

    onnx_nets.py OUTDIR [NAME...]      random weights, statistics set by two training passes; NAME.ts.onnx by
                                       the TorchScript exporter, NAME.dy.onnx by the dynamo one; with
                                       free sizes NAME.tsfree.onnx and NAME.dyfree.onnx (batch)

segformer (after SegFormer-B0), bisenet (after BiSeNet V1), ddrnet (after DDRNet-23-slim), unet, mobile
(hard-swish, squeeze and excite), odd (what else occurs).
Needs torch, onnx and onnxscript.
"""
import sys
import torch
import torch.nn as nn
import torch.nn.functional as F

K = 11


def cbr(i, o, k=3, s=1, p=None, g=1, act=nn.ReLU):
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2 if p is None else p, groups=g, bias=False), nn.BatchNorm2d(o), act())


# ---- U-Net ------------------------------------------------------------------------------------------
class UNet(nn.Module):
    def __init__(self, w=12):
        super().__init__()
        two = lambda i, o: nn.Sequential(cbr(i, o), cbr(o, o))
        c = [w, 2 * w, 4 * w, 8 * w]
        self.down = nn.ModuleList([two(3, c[0]), two(c[0], c[1]), two(c[1], c[2])])
        self.mid = two(c[2], c[3])
        self.up = nn.ModuleList([nn.ConvTranspose2d(c[3], c[2], 2, 2), nn.ConvTranspose2d(c[2], c[1], 2, 2), nn.ConvTranspose2d(c[1], c[0], 3, 2, 1, 1)])
        self.join = nn.ModuleList([two(2 * c[2], c[2]), two(2 * c[1], c[1]), two(2 * c[0], c[0])])
        self.head = nn.Conv2d(c[0], K, 1)

    def forward(self, x):
        skips = []
        for d in self.down:
            x = d(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.mid(x)
        for u, j in zip(self.up, self.join):
            x = j(torch.cat([u(x), skips.pop()], 1))
        return self.head(x)


# ---- SegFormer ----------------------------------------------------------------------------------------
class Attention(nn.Module):
    def __init__(self, d, heads, reduce):
        super().__init__()
        self.h, self.r = heads, reduce
        self.q, self.kv, self.out = nn.Linear(d, d), nn.Linear(d, 2 * d), nn.Linear(d, d)
        if reduce > 1:
            self.sr, self.norm = nn.Conv2d(d, d, reduce, reduce), nn.LayerNorm(d)

    def forward(self, x, h, w):
        n, l, d = x.shape
        q = self.q(x).reshape(n, l, self.h, d // self.h).permute(0, 2, 1, 3)
        if self.r > 1:
            x = self.norm(self.sr(x.transpose(1, 2).reshape(n, d, h, w)).flatten(2).transpose(1, 2))
        kv = self.kv(x).reshape(n, -1, 2, self.h, d // self.h).permute(2, 0, 3, 1, 4)
        k, v = kv[0], kv[1]
        a = (q @ k.transpose(-2, -1)) * (d // self.h) ** -0.5
        x = (a.softmax(-1) @ v).transpose(1, 2).reshape(n, l, d)
        return self.out(x)


class MixFfn(nn.Module):
    def __init__(self, d, e):
        super().__init__()
        self.a, self.dw, self.b = nn.Linear(d, e), nn.Conv2d(e, e, 3, 1, 1, groups=e), nn.Linear(e, d)

    def forward(self, x, h, w):
        x = self.a(x)
        n, l, e = x.shape
        x = self.dw(x.transpose(1, 2).view(n, e, h, w)).flatten(2).transpose(1, 2)
        return self.b(F.gelu(x))


class Block(nn.Module):
    def __init__(self, d, heads, reduce):
        super().__init__()
        self.n1, self.at, self.n2, self.ff = nn.LayerNorm(d), Attention(d, heads, reduce), nn.LayerNorm(d), MixFfn(d, 4 * d)

    def forward(self, x, h, w):
        x = x + self.at(self.n1(x), h, w)
        return x + self.ff(self.n2(x), h, w)


class SegFormer(nn.Module):
    def __init__(self, dims=(16, 32, 48, 64), depth=1, e=64):
        super().__init__()
        heads, reduce = (1, 2, 3, 4), (8, 4, 2, 1)
        self.embed = nn.ModuleList()
        self.stage, self.norm, self.lin = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i, d in enumerate(dims):
            self.embed.append(nn.ModuleList([nn.Conv2d(3 if i == 0 else dims[i - 1], d, 7 if i == 0 else 3, 4 if i == 0 else 2, 3 if i == 0 else 1), nn.LayerNorm(d)]))
            self.stage.append(nn.ModuleList([Block(d, heads[i], reduce[i]) for _ in range(depth)]))
            self.norm.append(nn.LayerNorm(d))
            self.lin.append(nn.Linear(d, e))
        self.fuse, self.head = cbr(4 * e, e, 1), nn.Conv2d(e, K, 1)

    def forward(self, x):
        outs = []
        for (conv, norm), blocks, last, lin in zip(self.embed, self.stage, self.norm, self.lin):
            x = conv(x)
            n, d, h, w = x.shape
            x = norm(x.flatten(2).transpose(1, 2))
            for b in blocks:
                x = b(x, h, w)
            x = last(x).reshape(n, h, w, d).permute(0, 3, 1, 2).contiguous()
            y = lin(x.flatten(2).transpose(1, 2)).permute(0, 2, 1).reshape(n, -1, h, w)
            outs.append(y if not outs else F.interpolate(y, size=outs[0].shape[2:], mode="bilinear", align_corners=False))
        return self.head(self.fuse(torch.cat(outs[::-1], 1)))


# ---- BiSeNet --------------------------------------------------------------------------------------------
class Refine(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.conv, self.att, self.bn = cbr(i, o), nn.Conv2d(o, o, 1, bias=False), nn.BatchNorm2d(o)

    def forward(self, x):
        x = self.conv(x)
        a = torch.sigmoid(self.bn(self.att(F.adaptive_avg_pool2d(x, 1))))
        return x * a


class BiSeNet(nn.Module):
    def __init__(self, w=16):
        super().__init__()
        self.spatial = nn.Sequential(cbr(3, w, 7, 2), cbr(w, w, 3, 2), cbr(w, 2 * w, 3, 2))
        self.stem = nn.Sequential(cbr(3, w, 7, 2), nn.MaxPool2d(3, 2, 1))
        self.c8, self.c16, self.c32 = cbr(w, 2 * w, 3, 2), cbr(2 * w, 4 * w, 3, 2), cbr(4 * w, 8 * w, 3, 2)
        self.avg = cbr(8 * w, 2 * w, 1)
        self.r16, self.r32 = Refine(4 * w, 2 * w), Refine(8 * w, 2 * w)
        self.h16, self.h32 = cbr(2 * w, 2 * w), cbr(2 * w, 2 * w)
        self.fuse, self.f1, self.f2 = cbr(4 * w, 4 * w, 1), nn.Conv2d(4 * w, w, 1), nn.Conv2d(w, 4 * w, 1)
        self.head = nn.Sequential(cbr(4 * w, 2 * w), nn.Dropout(0.1), nn.Conv2d(2 * w, K, 1))
        self.aux = nn.Conv2d(2 * w, K, 1)

    def forward(self, x):
        size = x.shape[2:]
        s = self.spatial(x)
        c16 = self.c16(self.c8(self.stem(x)))
        c32 = self.c32(c16)
        a = F.interpolate(self.avg(F.adaptive_avg_pool2d(c32, 1)), c32.shape[2:], mode="nearest")
        u32 = self.h32(F.interpolate(self.r32(c32) + a, c16.shape[2:], mode="nearest"))
        u16 = self.h16(F.interpolate(self.r16(c16) + u32, scale_factor=2.0, mode="nearest"))
        f = self.fuse(torch.cat([s, u16], 1))
        g = torch.sigmoid(self.f2(F.relu(self.f1(f.mean((2, 3), keepdim=True)))))
        f = f * g + f
        y = F.interpolate(self.head(f), size, mode="bilinear", align_corners=True)
        return y, F.interpolate(self.aux(u16), size, mode="bilinear", align_corners=True)


# ---- DDRNet ---------------------------------------------------------------------------------------------
class Basic(nn.Module):
    def __init__(self, i, o, s=1, last=True):
        super().__init__()
        self.a, self.c, self.bn, self.last = cbr(i, o, 3, s), nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o), last
        self.down = nn.Sequential(nn.Conv2d(i, o, 1, s, bias=False), nn.BatchNorm2d(o)) if s > 1 or i != o else nn.Identity()

    def forward(self, x):
        y = self.bn(self.c(self.a(x))) + self.down(x)
        return F.relu(y) if self.last else y


class Dappm(nn.Module):
    def __init__(self, i, m, o):
        super().__init__()
        pre = lambda a, b, k: nn.Sequential(nn.BatchNorm2d(a), nn.ReLU(), nn.Conv2d(a, b, k, padding=k // 2, bias=False))
        self.pools = nn.ModuleList([nn.AvgPool2d(5, 2, 2), nn.AvgPool2d(9, 4, 4), nn.AdaptiveAvgPool2d(1)])
        self.s0, self.s = pre(i, m, 1), nn.ModuleList([pre(i, m, 1) for _ in self.pools])
        self.p = nn.ModuleList([pre(m, m, 3) for _ in self.pools])
        self.join, self.cut = pre(4 * m, o, 1), pre(i, o, 1)

    def forward(self, x):
        size = [x.shape[-2], x.shape[-1]]
        y = [self.s0(x)]
        for pool, s, p in zip(self.pools, self.s, self.p):
            y.append(p(F.interpolate(s(pool(x)), size=size, mode="bilinear", align_corners=False) + y[-1]))
        return self.join(torch.cat(y, 1)) + self.cut(x)


class DDRNet(nn.Module):
    def __init__(self, w=16):
        super().__init__()
        self.stem = nn.Sequential(cbr(3, w, 3, 2), cbr(w, w, 3, 2), Basic(w, w, last=False), nn.ReLU())
        self.l2 = Basic(w, 2 * w, 2, last=False)
        self.l3, self.l4, self.l5 = Basic(2 * w, 4 * w, 2, False), Basic(4 * w, 8 * w, 2, False), Basic(8 * w, 8 * w, 2, False)
        self.h3, self.h4, self.h5 = Basic(2 * w, 2 * w, 1, False), Basic(2 * w, 2 * w, 1, False), Basic(2 * w, 4 * w, 1, False)
        conv_bn = lambda i, o, k, s=1: nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o))
        self.d3, self.d4 = conv_bn(2 * w, 4 * w, 3, 2), nn.Sequential(cbr(2 * w, 4 * w, 3, 2), conv_bn(4 * w, 8 * w, 3, 2))
        self.c3, self.c4 = conv_bn(4 * w, 2 * w, 1), conv_bn(8 * w, 2 * w, 1)
        self.spp = Dappm(8 * w, w, 4 * w)
        self.head = nn.Sequential(nn.BatchNorm2d(4 * w), nn.ReLU(), nn.Conv2d(4 * w, 2 * w, 3, padding=1, bias=False), nn.BatchNorm2d(2 * w), nn.ReLU(), nn.Conv2d(2 * w, K, 1))

    def forward(self, x):
        h, w = x.shape[-2] // 8, x.shape[-1] // 8
        r = F.relu
        x2 = self.l2(self.stem(x))
        x3, h3 = self.l3(r(x2)), self.h3(r(x2))
        lo = x3 + self.d3(r(h3))
        hi = h3 + F.interpolate(self.c3(r(x3)), size=[h, w], mode="bilinear")
        x4, h4 = self.l4(r(lo)), self.h4(r(hi))
        lo = x4 + self.d4(r(h4))
        hi = h4 + F.interpolate(self.c4(r(x4)), size=[h, w], mode="bilinear")
        y = F.interpolate(self.spp(self.l5(r(lo))), size=[h, w], mode="bilinear")
        return self.head(y + self.h5(r(hi)))


# ---- mobile -----------------------------------------------------------------------------------------------
class Se(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.a, self.b = nn.Conv2d(c, c // 4, 1), nn.Conv2d(c // 4, c, 1)

    def forward(self, x):
        return x * F.hardsigmoid(self.b(F.relu(self.a(F.adaptive_avg_pool2d(x, 1)))))


class Mobile(nn.Module):
    """hard-swish, ReLU6, squeeze and excite, LR-ASPP with a fixed pool; ends in softmax."""
    def __init__(self, w=16):
        super().__init__()
        self.stem = cbr(3, w, 3, 2, act=nn.Hardswish)
        self.a = nn.Sequential(cbr(w, 4 * w, 1, act=nn.ReLU6), cbr(4 * w, 4 * w, 3, 2, g=4 * w, act=nn.ReLU6), cbr(4 * w, 2 * w, 1, act=nn.Identity))
        self.b = nn.Sequential(cbr(2 * w, 8 * w, 1, act=nn.Hardswish), cbr(8 * w, 8 * w, 5, 2, g=8 * w, act=nn.Hardswish), Se(8 * w), cbr(8 * w, 4 * w, 1, act=nn.SiLU))
        self.c = cbr(4 * w, 4 * w, act=nn.Mish)
        self.low, self.high, self.gate = nn.Conv2d(2 * w, K, 1), nn.Conv2d(4 * w, K, 1), nn.Conv2d(4 * w, 4 * w, 1, bias=False)

    def forward(self, x):
        l = self.a(self.stem(x))
        h = self.c(self.b(l))
        g = torch.sigmoid(self.gate(F.avg_pool2d(h, 4, 2, ceil_mode=True, count_include_pad=False).mean(dim=[2, 3], keepdim=True)))
        h = F.interpolate(self.high(h * g), size=l.shape[-2:], mode="bilinear", align_corners=False)
        return F.interpolate(self.low(l) + h, size=x.shape[-2:], mode="bicubic", align_corners=False).softmax(1)


class Odd(nn.Module):
    """What else occurs: group and instance norm, LeakyReLU, ELU, GELU by tanh, asymmetric and reflected
    padding, rectangular and dilated kernels, pixel shuffle, channel shuffle, split, strided slices, tile,
    an argmax at the end."""
    def __init__(self, w=16):
        super().__init__()
        self.n1, self.n2, self.n3 = nn.GroupNorm(4, w), nn.InstanceNorm2d(w, affine=True), nn.GroupNorm(1, w)
        self.c0 = nn.Conv2d(3, w, 3, 2)
        self.c1, self.c2, self.c3 = nn.Conv2d(w, w, (1, 7), padding=(0, 3)), nn.Conv2d(w, w, (7, 1), padding=(3, 0)), nn.Conv2d(w, w, 3, padding=2, dilation=2)
        self.up = nn.Conv2d(w, 4 * w, 3, padding=1)
        self.scale = nn.Parameter(torch.rand(1, w, 1, 1))
        self.pos = nn.Parameter(torch.rand(1, w, 1, 1))
        self.t = nn.ConvTranspose2d(w, w, 4, 2, 1, groups=4)
        self.act = nn.PReLU()
        self.head = nn.Conv2d(w, K, 1)

    def forward(self, x):
        x = F.leaky_relu(self.n1(self.c0(F.pad(x, (0, 1, 0, 1)))), 0.1)
        x = F.elu(self.n2(self.c1(x))) + F.gelu(self.n3(self.c2(F.pad(x, (2, 2, 1, 1), mode="reflect")[:, :, 1:-1, 2:-2])), approximate="tanh")
        n, c, h, w = x.shape
        x = x.view(n, 4, c // 4, h, w).transpose(1, 2).reshape(n, c, h, w)
        a, b = x.chunk(2, 1)
        x = torch.cat([b, torch.tanh(a)], 1) * self.scale + self.pos.expand(n, -1, h, w)
        x = self.act(self.c3(x)) + x.abs().clamp(min=0.01).sqrt() + (x ** 2).mean(1, keepdim=True)
        x = F.pixel_shuffle(self.up(x[:, :, ::2, 1::2]), 2) + x
        x = x / (x.norm(dim=1, keepdim=True) + 1e-3) + torch.exp(-x.max(1, keepdim=True)[0])
        x = F.max_pool2d(x, (3, 2), (2, 2), (1, 0), ceil_mode=True)
        return self.head(self.t(F.interpolate(x, scale_factor=1.5, mode="nearest"))).argmax(1)


NETS = {"unet": UNet, "segformer": SegFormer, "bisenet": BiSeNet, "ddrnet": DDRNet, "mobile": Mobile, "odd": Odd}


def settled(net, size):
    """The network after two training passes over noise, for statistics that are not 0 and 1, in eval mode."""
    net.train()
    with torch.no_grad():
        for _ in range(2):
            net(torch.randn(2, 3, *size))
    return net.eval()


def export(name, out, size=(96, 128)):
    torch.manual_seed(7)
    net = settled(NETS[name](), size)
    x = torch.randn(1, 3, *size)
    free = {"image": {0: "batch", 2: "height", 3: "width"}}
    torch.onnx.export(net, (x,), f"{out}/{name}.ts.onnx", dynamo=False, opset_version=17, input_names=["image"])
    torch.onnx.export(net, (x,), f"{out}/{name}.tsfree.onnx", dynamo=False, opset_version=14, input_names=["image"], dynamic_axes=free)
    torch.onnx.export(net, (x,), f"{out}/{name}.dy.onnx", dynamo=True, input_names=["image"], external_data=False)
    torch.onnx.export(net, (torch.randn(2, 3, *size),), f"{out}/{name}.dyfree.onnx", dynamo=True, input_names=["image"], external_data=False,
                      dynamic_shapes=({0: "batch"},))


if __name__ == "__main__":
    for name in sys.argv[2:] or NETS:
        export(name, sys.argv[1])
