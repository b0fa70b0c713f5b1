"""One picture brought to other sizes by Pillow: tests/golden/resize.safetensors, which test_augment compares
byte for byte with data.resize.

    python tools/golden_resize.py [FILE]
"""
import sys
import numpy
from PIL import Image
from safetensors.numpy import save_file

KERNELS = {"area": Image.BOX, "linear": Image.BILINEAR, "cubic": Image.BICUBIC, "lanczos": Image.LANCZOS}
SIZES = [(13, 17), (60, 80), (37, 20), (20, 90), (40, 53)]      # height x width

rng = numpy.random.default_rng(7)
smooth = numpy.add.outer(numpy.sin(numpy.arange(40) / 5), numpy.cos(numpy.arange(53) / 7)) * 60 + 128
picture = numpy.clip(smooth[..., None] + rng.integers(-60, 60, (40, 53, 3)), 0, 255).astype(numpy.uint8)
tensors = {"picture": picture}
for name, kernel in KERNELS.items():
    for h, w in SIZES:
        tensors[f"{name}/{h}x{w}"] = numpy.asarray(Image.fromarray(picture).resize((w, h), kernel))
save_file(tensors, sys.argv[1] if len(sys.argv) > 1 else "tests/golden/resize.safetensors")
