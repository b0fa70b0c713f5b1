#!/usr/bin/env python3
"""Writes tests/golden/onnx/*.onnx, small ones of the networks of onnx_nets.py, and what PyTorch makes of them.

    python tools/golden_onnx.py        (torch, onnx, onnxscript, safetensors; a minute)

NAME.ts.onnx is of the TorchScript exporter, with free sizes, NAME.dy.onnx of the dynamo one, for one image of 64 x 96.
expected.safetensors: image, 2 x 3 x 64 x 96, int8 in 32nds; NAME/classes, bytes; NAME/logits where the network
ends in them, every 8th row and column, in float64 rounded once. tests/test_onnx_nets.c compares; no Python is needed there.
"""
import os
import onnx
import torch
from safetensors.torch import save_file

import onnx_nets

SMALL = {"unet": dict(w=2), "segformer": dict(dims=(4, 4, 6, 8), e=8), "bisenet": dict(w=2), "ddrnet": dict(w=2),
         "mobile": dict(w=4), "odd": dict(w=8)}
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden", "onnx")


def bare(path):
    """Without the exporters' notes, which are longer than the networks."""
    m = onnx.load(path)
    for part in [m, m.graph, *m.graph.node, *m.graph.value_info, *m.graph.input, *m.graph.output, *m.graph.initializer]:
        for field in ("doc_string", "metadata_props"):
            if field in part.DESCRIPTOR.fields_by_name:
                part.ClearField(field)
    m.graph.ClearField("value_info")
    for n in m.graph.node:
        n.ClearField("name")
    onnx.save(m, path)


def main():
    os.makedirs(HERE, exist_ok=True)
    out = {"image": (torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)) * 32).to(torch.int8)}
    for name, sizes in SMALL.items():
        torch.manual_seed(7)
        net = onnx_nets.settled(onnx_nets.NETS[name](**sizes), (64, 96))
        x = torch.randn(1, 3, 64, 96)
        free = {"image": {0: "batch", 2: "height", 3: "width"}}
        ts, dy = f"{HERE}/{name}.ts.onnx", f"{HERE}/{name}.dy.onnx"
        torch.onnx.export(net, (x,), ts, dynamo=False, opset_version=14, input_names=["image"], dynamic_axes=free)
        torch.onnx.export(net, (x,), dy, dynamo=True, input_names=["image"], external_data=False)
        bare(ts), bare(dy)
        with torch.no_grad():
            y = net.double()(out["image"].double() / 32)
        y = y[0] if isinstance(y, tuple) else y
        out[f"{name}/classes"] = (y if y.dim() == 3 else y.argmax(1)).to(torch.uint8)
        if name not in ("mobile", "odd"):
            out[f"{name}/logits"] = y[:, :, ::8, ::8].float().contiguous()
    save_file(out, f"{HERE}/expected.safetensors")


main()
