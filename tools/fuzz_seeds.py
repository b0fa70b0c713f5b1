"""Writes the seeds of tests/fuzz/corpus: one or two small good files per reader.

    python tools/fuzz_seeds.py tests/fuzz/corpus          (needs numpy, pillow, safetensors, torch, onnx)
"""
import io
import json
import os
import pickle
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save


def image(kind, **options):
    out = io.BytesIO()
    px = np.random.default_rng(1).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(px).convert(options.pop("mode", "RGB")).save(out, kind, **options)
    return out.getvalue()


def tensors():
    rng = np.random.default_rng(2)
    return {"conv.weight": rng.standard_normal((2, 3, 3, 3), dtype=np.float32), "bn.num_batches_tracked": np.array(3, np.int64),
            "half": rng.standard_normal(5).astype(np.float16)}


def torch_file(new):
    out = io.BytesIO()
    state = OrderedDict((k, torch.from_numpy(np.array(v))) for k, v in tensors().items())
    torch.save({"state_dict": state, "epoch": 3}, out, _use_new_zipfile_serialization=new)
    return out.getvalue()


def zip_file():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("a/stored", b"twelve bytes")
        z.writestr("a/packed", b"x" * 300, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def network():
    """A convolution, batch norm, ReLU, and a resize to the image's size by arithmetic of shapes."""
    rng = np.random.default_rng(3)
    const = lambda name, v: numpy_helper.from_array(np.asarray(v), name)
    weights = [const("w", rng.standard_normal((4, 3, 3, 3), dtype=np.float32)), const("b", rng.standard_normal(4, dtype=np.float32)),
               *(const(n, (1 + rng.random(4)).astype(np.float32)) for n in ("scale", "shift", "mean", "var")),
               const("two", np.int64([2])), const("four", np.int64([4])), const("head", np.int64([1, 4]))]
    node = helper.make_node
    nodes = [node("Conv", ["image", "w", "b"], ["c"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
             node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"]), node("Relu", ["n"], ["r"]),
             node("Shape", ["image"], ["s"]), node("Slice", ["s", "two", "four"], ["hw"]), node("Concat", ["head", "hw"], ["to"], axis=0),
             node("Resize", ["r", "", "", "to"], ["logits"], mode="linear", coordinate_transformation_mode="align_corners")]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])],
                              [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 4, "h", "w"])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


YAML = """out: runs/a
seed: 3
data: {kind: scenes, crop: 32x48, scale: [0.5, 2.0]}
student: {model: deeplabv3_mobilenetv2, width: 0.5, aux: true}
teacher:
  model: deeplabv3_resnet18
distill:
  task: {kind: rdd, warmup: 0.1}
  losses: [{kd: {weight: 1, tau: 4}}]
train: {steps: 10, lr: 1e-2, lr_groups: {head: 10}, schedule: {kind: poly, power: 0.9}}
checkpoint: {every: 10min}
"""
LINES = [{"step": 1, "epoch": 0, "lr": 0.02, "loss": {"total": 2.5, "task": 2.5}, "stage": "tfe", "kept": {"main": 1.0}, "images_per_s": 3.5},
         {"step": 2, "eval": {"miou": 0.5, "pixel_accuracy": 0.75, "classes": [{"name": "sky", "iou": 0.5, "accuracy": None, "pixels": 12}]}},
         {"state": "running", "step": 2, "steps": 10, "eta_s": 3.0, "exit_code": 0, "time": "2020-01-01T00:00:00Z"}]
SEEDS = {
    "png": [image("PNG"), image("PNG", mode="P")],
    "jpeg": [image("JPEG", quality=60), image("JPEG", progressive=True, mode="L")],
    "safetensors": [save(tensors(), {"k": "v\u00e9"})],
    "zip": [zip_file()],
    "pickle": [pickle.dumps({"a": [1, 2.5, ("x", None)], "b": b"bytes", 3: {True}}, p) for p in (0, 2, 4)],
    "pth": [torch_file(True), torch_file(False)],
    "onnx": [network()],
    "network": [network()],
    "yaml": [YAML.encode()],
    "json": ["".join(json.dumps(line) + "\n" for line in LINES).encode(), json.dumps(LINES[2]).encode()],
    "classes": [b"classes: [{name: road, id: 7, color: [128, 64, 128]}, {name: car, ids: [26, 27]}]\nignore: [255]\n",
                b"# label:color_rgb:parts:actions\nroad:128,64,128::\ncar:0,0,142::\n"],
    "list": [b"/SegNet/val/a.png /SegNet/valannot/a.png\r\n/SegNet/val/b.png /SegNet/valannot/b.png\n"],
}


def main():
    for name, files in SEEDS.items():
        os.makedirs(os.path.join(sys.argv[1], name), exist_ok=True)
        for i, data in enumerate(files):
            with open(os.path.join(sys.argv[1], name, f"seed{i + 1}"), "wb") as f:
                f.write(data)


if __name__ == "__main__":
    main()
