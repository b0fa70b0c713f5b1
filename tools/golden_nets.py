"""Writes tests/golden/nets.safetensors: whole networks at a small odd size, from PyTorch in float64.

    python tools/golden_nets.py        (PyTorch, numpy and safetensors; seconds)

Formula weights of seed 1, 11 classes, image 3 x 3 x 33 x 41, dropout off; labels are bytes,
255 = ignored. For each network CASE:
  CASE/eval.logits           float32, evaluation mode
  CASE/train.logits, .aux    float32, training mode (batch statistics)
  CASE/loss                  cross-entropy at full resolution + 0.4 of the auxiliary one, training mode
  CASE/gradsum               P x 3, in the order of the state_dict: L2 norm of a parameter's gradient, its
                             dot product with the parameter, and the L2 error of float32 PyTorch's gradient (the
                             largest of four runs; parity_nets.py says why)
tests/test_golden_nets.c compares; no PyTorch is needed there.
"""
import os

import numpy as np
import torch
from safetensors.numpy import save_file

from torch_nets import Segmenter, load_formula, task_loss

CASES = (("resnet18", "deeplabv3_resnet18", {}), ("resnet50", "deeplabv3_resnet50", {}),
         ("mobilenetv2", "deeplabv3_mobilenetv2", {}), ("mobilenetv2_w05", "deeplabv3_mobilenetv2", {"width": 0.5}),
         ("resnet18_os16", "deeplabv3_resnet18", {"output_stride": 16}),
         ("mobilenetv2_os16", "deeplabv3_mobilenetv2", {"output_stride": 16}))


def inputs(seed, batch, h, w, classes):
    g = np.random.default_rng(seed)
    image = g.standard_normal((batch, 3, h, w), dtype=np.float32)
    labels = g.integers(0, classes, (batch, h, w)).astype(np.int32)
    labels[g.random(labels.shape) < 0.1] = -1
    return image, labels


def gradients(model, options, image, labels, dtype, memory):
    """(net, outputs, loss) in training mode, gradients made"""
    net = load_formula(Segmenter(model, 11, aux=True, dropout=0, **options), 1).to(dtype).to(memory_format=memory)
    x = torch.from_numpy(np.ascontiguousarray(image)).to(dtype).contiguous(memory_format=memory)
    y = net.train()(x)
    loss = task_loss(y, torch.from_numpy(np.ascontiguousarray(labels)).long())
    loss.backward()
    return net, y, loss


def case(model, options, image, labels):
    net = load_formula(Segmenter(model, 11, aux=True, dropout=0, **options), 1).double().eval()
    with torch.no_grad():
        out = {"eval.logits": net(torch.from_numpy(image).double())["logits"].float().numpy()}
    net, y, loss = gradients(model, options, image, labels, torch.float64, torch.contiguous_format)
    for k in ("logits", "aux"):
        out[f"train.{k}"] = y[k].detach().float().numpy()
    out["loss"] = np.array([loss.item()], np.float32)
    truth = [(p.grad, p.detach()) for p in net.parameters()]
    error = [0.0] * len(truth)
    for memory in (torch.contiguous_format, torch.channels_last):
        for order in (1, -1):
            single = gradients(model, options, image[::order], labels[::order], torch.float32, memory)[0]
            error = [max(e, float((p.grad.double() - g).norm())) for e, p, (g, _) in zip(error, single.parameters(), truth)]
    out["gradsum"] = np.array([(g.norm(), (g * p).sum(), e) for (g, p), e in zip(truth, error)], np.float32)
    return out


def main():
    torch.set_num_threads(2)
    image, labels = inputs(7, 3, 33, 41, 11)
    tensors = {"image": image, "labels": labels.astype(np.uint8)}      # -1 becomes 255
    for name, model, options in CASES:
        for k, v in case(model, options, image, labels).items():
            tensors[f"{name}/{k}"] = np.ascontiguousarray(v)
        s = tensors[f"{name}/gradsum"]
        print(name, "loss", tensors[f"{name}/loss"][0], "worst float32 gradient error", (s[:, 2] / np.maximum(s[:, 0], 1e-9)).max(),
              "whole", np.linalg.norm(s[:, 2]) / np.linalg.norm(s[:, 0]))
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/golden/nets.safetensors")
    save_file(tensors, path)
    print(path, os.path.getsize(path), "bytes")


if __name__ == "__main__":
    main()
