"""The networks of docs/networks.md in PyTorch, written from their description: the other side of every
parity check (parity_nets.py, parity_steps.py) and of bench/torch_step.py. Not needed to build or use retort.

    python tools/torch_nets.py TSV_FOLDER      compares names and shapes with the published tables
"""
import math
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

RESNETS = {"resnet18": ("basic", (2, 2, 2, 2)), "resnet34": ("basic", (3, 4, 6, 3)),
           "resnet50": ("bottleneck", (3, 4, 6, 3)), "resnet101": ("bottleneck", (3, 4, 23, 3))}
MOBILENET = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
LITE_KERNELS, LITE_STRIDES = (3, 3, 5, 3, 5, 5, 3), (1, 2, 2, 2, 1, 2, 1)
LITE_REPEATS = ((1, 2, 2, 3, 3, 4, 1), (1, 3, 3, 4, 4, 5, 1), (1, 3, 3, 4, 4, 5, 1))
LITE_CHANNELS = ((16, 24, 40, 80, 112, 192, 320), (16, 24, 40, 80, 112, 192, 320), (16, 24, 48, 88, 120, 208, 352))


def conv(cin, cout, k, stride=1, dilation=1, groups=1, bias=False):
    return nn.Conv2d(cin, cout, k, stride, dilation * (k // 2), dilation, groups, bias)


def conv_bn_relu(cin, cout, k, dilation=1):
    return [conv(cin, cout, k, dilation=dilation), nn.BatchNorm2d(cout), nn.ReLU()]


def resize(x, size):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


class Basic(nn.Module):
    expansion = 1

    def __init__(self, cin, planes, stride, first, rest):
        super().__init__()
        self.conv1, self.bn1 = conv(cin, planes, 3, stride, first), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv(planes, planes, 3, 1, rest), nn.BatchNorm2d(planes)
        self.downsample = projection(cin, planes, stride)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.downsample(x) if self.downsample else x))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, cin, planes, stride, first, rest):
        super().__init__()
        self.conv1, self.bn1 = conv(cin, planes, 1), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv(planes, planes, 3, stride, first), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = conv(planes, 4 * planes, 1), nn.BatchNorm2d(4 * planes)
        self.downsample = projection(cin, 4 * planes, stride)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (self.downsample(x) if self.downsample else x))


def projection(cin, cout, stride):
    if stride == 1 and cin == cout:
        return None
    return nn.Sequential(conv(cin, cout, 1, stride), nn.BatchNorm2d(cout))


class ResNet(nn.Module):
    """Deep stem, or torchvision's plain one. Gives (stage 2, stage 3, stage 4), the taps of the heads."""

    def __init__(self, kind, blocks, output_stride, stem="deep"):
        super().__init__()
        self.deep, width = stem == "deep", 64
        self.conv1, self.bn1 = conv(3, 64, 3 if self.deep else 7, 2), nn.BatchNorm2d(64)
        if self.deep:
            self.conv2, self.bn2 = conv(64, 64, 3), nn.BatchNorm2d(64)
            self.conv3, self.bn3 = conv(64, 128, 3), nn.BatchNorm2d(128)
            width = 128
        # (stride, dilation of the first block's first 3x3, of every other 3x3) of stages 3 and 4
        deep = {8: ((1, 1, 2), (1, 2, 4)), 16: ((2, 1, 1), (1, 1, 2)), 32: ((2, 1, 1), (2, 1, 1))}[output_stride]
        for i, (stride, first, rest) in enumerate(((1, 1, 1), (2, 1, 1), *deep)):
            block, layers = {"basic": Basic, "bottleneck": Bottleneck}[kind], []
            for b in range(blocks[i]):
                layers.append(block(width, 64 << i, stride if b == 0 else 1, first if b == 0 else rest, rest))
                width = (64 << i) * block.expansion
            setattr(self, f"layer{i + 1}", nn.Sequential(*layers))
        self.widths = (width // 4, width // 2, width)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if self.deep:
            x = F.relu(self.bn2(self.conv2(x)))
            x = F.relu(self.bn3(self.conv3(x)))
        c2 = self.layer2(self.layer1(F.max_pool2d(x, 3, 2, 1)))
        c3 = self.layer3(c2)
        return c2, c3, self.layer4(c3)


class Inverted(nn.Module):
    def __init__(self, cin, cout, t, stride, dilation):
        super().__init__()
        wide, layers = cin * t, []
        if t != 1:
            layers = [conv(cin, wide, 1), nn.BatchNorm2d(wide), nn.ReLU6()]
        layers += [conv(wide, wide, 3, stride, dilation, wide), nn.BatchNorm2d(wide), nn.ReLU6(),
                   conv(wide, cout, 1), nn.BatchNorm2d(cout)]
        self.conv = nn.Sequential(*layers)
        self.same = stride == 1 and cin == cout

    def forward(self, x):
        return x + self.conv(x) if self.same else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, width, output_stride):
        super().__init__()
        stem = int(32 * width)
        features = [nn.Sequential(conv(3, stem, 3, 2), nn.BatchNorm2d(stem), nn.ReLU6())]
        cin, taken, dilation = stem, 2, 1          # taken: the stride so far
        for t, c, repeats, s in MOBILENET:
            first, rest, stride = dilation, dilation, s
            if s == 2:
                if taken >= output_stride:     # the stride is lost: dilate what follows instead
                    stride, rest = 1, dilation * 2
                else:
                    taken *= 2
            for i in range(repeats):
                cout = int(c * width)
                features.append(Inverted(cin, cout, t, stride if i == 0 else 1, first if i == 0 else rest))
                cin = cout
            dilation = rest
        self.net = nn.Module()
        self.net.features = nn.Sequential(*features)
        self.widths = (int(32 * width), int(96 * width), int(320 * width))

    def forward(self, x):
        for i, f in enumerate(self.net.features):
            x = f(x)
            if i == 6:
                c2 = x
            if i == 13:
                c3 = x
        return c2, c3, x


class SameConv(nn.Conv2d):
    """TensorFlow's padding: zeros that make ceil(side / stride) outputs, an odd one behind."""

    def forward(self, x):
        pad = []
        for i in (1, 0):                       # F.pad begins with the last side
            side, s, reach = x.shape[2 + i], self.stride[i], self.dilation[i] * (self.kernel_size[i] - 1) + 1
            all_ = max((math.ceil(side / s) - 1) * s + reach - side, 0)
            pad += [all_ // 2, all_ - all_ // 2]
        return F.conv2d(F.pad(x, pad), self.weight, None, self.stride, 0, self.dilation, self.groups)


def lite_bn(c):
    return nn.BatchNorm2d(c, eps=1e-3, momentum=0.01)


class MbConv(nn.Module):
    def __init__(self, cin, cout, k, t, stride, dilation):
        super().__init__()
        wide = cin * t
        if t != 1:
            self._expand_conv, self._bn0 = nn.Conv2d(cin, wide, 1, bias=False), lite_bn(wide)
        self._depthwise_conv = SameConv(wide, wide, k, stride, 0, dilation, wide, bias=False)
        self._bn1 = lite_bn(wide)
        self._project_conv, self._bn2 = nn.Conv2d(wide, cout, 1, bias=False), lite_bn(cout)
        self.expands, self.same = t != 1, stride == 1 and cin == cout

    def forward(self, x):
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = self._bn2(self._project_conv(F.relu6(self._bn1(self._depthwise_conv(y)))))
        return x + y if self.same else y


class EfficientNetLite(nn.Module):
    def __init__(self, number, output_stride):
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, 32, 3, 2, bias=False), lite_bn(32)
        blocks, cin, taken, dilation = [], 32, 2, 1
        for g in range(7):
            for i in range(LITE_REPEATS[number][g]):
                stride, used = (LITE_STRIDES[g] if i == 0 else 1), dilation
                if stride == 2 and taken >= output_stride:
                    stride, dilation = 1, dilation * 2
                taken *= stride
                cout = LITE_CHANNELS[number][g]
                blocks.append(MbConv(cin, cout, LITE_KERNELS[g], 6 if g else 1, stride, used))
                cin = cout
            if g == 2:
                self.low = len(blocks) - 1
        self._blocks = nn.ModuleList(blocks)
        self.widths = (LITE_CHANNELS[number][2], LITE_CHANNELS[number][2], cin)

    def forward(self, x):
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i == self.low:
                low = x
        return low, low, x


class AsppConv(nn.Module):
    def __init__(self, cin, m, dilation):
        super().__init__()
        self.block = nn.Sequential(*conv_bn_relu(cin, m, 3, dilation))

    def forward(self, x):
        return self.block(x)


class AsppPool(nn.Module):
    def __init__(self, cin, m):
        super().__init__()
        self.gap = nn.Sequential(nn.AdaptiveAvgPool2d(1), *conv_bn_relu(cin, m, 1))

    def forward(self, x):
        return resize(self.gap(x), x.shape[2:])


class Aspp(nn.Module):
    def __init__(self, cin, m, dropout):
        super().__init__()
        self.b0 = nn.Sequential(*conv_bn_relu(cin, m, 1))
        self.b1, self.b2, self.b3 = (AsppConv(cin, m, d) for d in (12, 24, 36))
        self.b4 = AsppPool(cin, m)
        self.project = nn.Sequential(*conv_bn_relu(5 * m, m, 1), nn.Dropout(0.5 * dropout))

    def forward(self, x):
        return self.project(torch.cat([b(x) for b in (self.b0, self.b1, self.b2, self.b3, self.b4)], 1))


class DeepLabHead(nn.Module):
    def __init__(self, cin, m, classes, dropout):
        super().__init__()
        self.aspp = Aspp(cin, m, dropout)
        self.block = nn.Sequential(*conv_bn_relu(m, m, 3), nn.Dropout(0.1 * dropout), conv(m, classes, 1, bias=True))

    def forward(self, x):
        features = self.block[:4](self.aspp(x))
        return self.block[4](features), features


class Psp(nn.Module):
    def __init__(self, cin):
        super().__init__()
        for i, size in enumerate((1, 2, 3, 6)):
            setattr(self, f"conv{i + 1}", nn.Sequential(*conv_bn_relu(cin, cin // 4, 1)))

    def forward(self, x):
        pools = [F.adaptive_avg_pool2d(x, s) for s in (1, 2, 3, 6)]
        return torch.cat([x] + [resize(getattr(self, f"conv{i + 1}")(p), x.shape[2:]) for i, p in enumerate(pools)], 1)


class PspHead(nn.Module):
    def __init__(self, cin, m, classes, dropout):
        super().__init__()
        self.psp = Psp(cin)
        self.block = nn.Sequential(*conv_bn_relu(2 * cin, m, 3), nn.Dropout(0.1 * dropout))
        self.classifier = conv(m, classes, 1, bias=True)

    def forward(self, x):
        features = self.block(self.psp(x))
        return self.classifier(features), features


class FcnHead(nn.Module):
    def __init__(self, cin, classes, dropout):
        super().__init__()
        self.block = nn.Sequential(*conv_bn_relu(cin, cin // 4, 3), nn.Dropout(0.1 * dropout),
                                   conv(cin // 4, classes, 1, bias=True))

    def forward(self, x):
        features = self.block[:4](x)
        return self.block[4](features), features


class LrasppHead(nn.Module):
    """torchvision's; features: what goes into the last 1x1."""

    def __init__(self, low, high, classes):
        super().__init__()
        self.cbr = nn.Sequential(*conv_bn_relu(high, 128, 1))
        self.scale = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(high, 128, 1), nn.Sigmoid())
        self.low_classifier = conv(low, classes, 1, bias=True)
        self.high_classifier = conv(128, classes, 1, bias=True)

    def forward(self, low, x):
        x = self.cbr(x) * self.scale(x)
        x = F.interpolate(x, size=low.shape[2:], mode="bilinear", align_corners=False)
        return self.low_classifier(low) + self.high_classifier(x), x


class Segmenter(nn.Module):
    """forward gives {"logits", "aux" where there is one, "features"} on the low-resolution grid."""

    def __init__(self, model, classes, aux, width=1.0, output_stride=None, stem="deep", dropout=1):
        super().__init__()
        head, backbone = model.split("_", 1)
        self.two_inputs = head == "lraspp"
        output_stride = output_stride or (16 if head == "lraspp" else 8)
        if backbone == "mobilenetv2":
            self.pretrained = MobileNetV2(width, output_stride)
        elif backbone.startswith("efficientnet_lite"):
            self.pretrained = EfficientNetLite(int(backbone[-1]), output_stride)
        else:
            self.pretrained = ResNet(*RESNETS[backbone], output_stride, stem)
        c2, c3, c4 = self.pretrained.widths
        big = backbone in ("resnet50", "resnet101")
        if head == "deeplabv3":
            self.head = DeepLabHead(c4, 256 if big else 128, classes, dropout)
        elif head == "pspnet":
            self.head = PspHead(c4, 512 if big else 128, classes, dropout)
        elif head == "fcn":
            self.head = FcnHead(c4, classes, dropout)
        else:
            self.head = LrasppHead(c2, c4, classes)
        self.auxlayer = FcnHead(c3, classes, dropout) if aux else None

    def forward(self, x):
        c2, c3, c4 = self.pretrained(x)
        logits, features = self.head(c2, c4) if self.two_inputs else self.head(c4)
        out = {"logits": logits, "features": features}
        if self.auxlayer is not None:
            out["aux"] = self.auxlayer(c3)[0]
        return out


def formula(name, shape, seed):
    """The formula weights of docs/formats.md: any program can repeat them."""
    mask, h = (1 << 64) - 1, 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & mask
    n = int(np.prod(shape)) if shape else 1
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64((seed * 0xD1B54A32D192ED03) & mask)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    u = (z >> np.uint64(40)).astype(np.float64) / 2.0**24
    if len(shape) == 4:
        v = (2 * u - 1) * math.sqrt(3.0 / (shape[1] * shape[2] * shape[3]))
    elif name.endswith("running_var") or name.endswith(".weight"):
        v = 0.5 + u
    else:                                      # biases and running means
        v = (2 * u - 1) * 0.1
    return torch.from_numpy(v.astype(np.float32).reshape(shape))


def load_formula(net, seed):
    for name, t in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            t.zero_()
        else:
            t.copy_(formula(name, tuple(t.shape), seed))
    return net


def task_loss(out, labels):
    """Mean cross-entropy at full resolution, plus 0.4 times the auxiliary one; labels < 0 are ignored."""
    def ce(logits):
        return F.cross_entropy(resize(logits, labels.shape[1:]), labels, ignore_index=-1)
    return ce(out["logits"]) + (0.4 * ce(out["aux"]) if "aux" in out else 0.0)


def check_tables(folder):
    bad = 0
    for file in sorted(os.listdir(folder)):
        if not file.endswith(".tsv"):
            continue
        model = file[:-4]
        want = [line.rstrip("\n").split("\t") for line in open(os.path.join(folder, file)) if not line.startswith("#")]
        with torch.device("meta"):
            net = Segmenter(model, 19, aux="mobilenetv2" not in model)
        have = [[n, "x".join(map(str, t.shape)) or "scalar", str(t.dtype).split(".")[1]] for n, t in net.state_dict().items()]
        wrong = [(a, b) for a, b in zip(want, have) if a != b]
        if wrong or len(want) != len(have):
            bad += 1
        print(f"{model}: {len(have)} tensors, {'equal' if not wrong and len(want) == len(have) else f'DIFFERENT {wrong[:3]} {len(want)}'}")
    return bad


if __name__ == "__main__":
    sys.exit(1 if check_tables(sys.argv[1]) else 0)
