#!/usr/bin/env python3
"""onnx_compare.py - an ONNX file through retort and through ONNX Runtime on the same images.

    onnx_compare.py RETORT MODEL.onnx IMAGE.png... [--size HxW] [--threads N] [--rounds N]

Prints per image the share of pixels with the same class and the largest difference of the first output
(retort leaves a softmax or argmax at the end out); fails below 99.9 %. --random N: N pictures of noise; with
--rounds also the median times, both programs in turn. Needs numpy, safetensors, onnxruntime and pillow.
"""
import argparse, os, re, statistics, subprocess, tempfile, time
import numpy as np, onnxruntime as ort
from safetensors.numpy import load_file, save_file

MEAN, STD = np.array([.485, .456, .406], np.float32), np.array([.229, .224, .225], np.float32)


def image(path, size):
    from PIL import Image
    rgb = Image.open(path).convert("RGB").resize((size[1], size[0]), Image.BILINEAR)
    x = (np.asarray(rgb, np.float32) / 255 - MEAN) / STD
    return np.ascontiguousarray(x.transpose(2, 0, 1)[None])


def session(model, threads):
    o = ort.SessionOptions()
    o.intra_op_num_threads = threads
    return ort.InferenceSession(model, o, providers=["CPUExecutionProvider"])


def main():
    a = argparse.ArgumentParser()
    a.add_argument("retort"), a.add_argument("model"), a.add_argument("images", nargs="*")
    a.add_argument("--size", default="512x1024"), a.add_argument("--threads", type=int, default=2)
    a.add_argument("--rounds", type=int, default=0), a.add_argument("--random", type=int, default=0)
    a = a.parse_args()
    size = [int(v) for v in a.size.split("x")]
    s = session(a.model, a.threads)
    name = s.get_inputs()[0].name
    worst = 1.0
    with tempfile.TemporaryDirectory() as d:
        inputs = [(p, image(p, size)) for p in a.images]
        for i in range(a.random):
            inputs.append((f"random {i}", np.random.default_rng(i).standard_normal((1, 3, *size), np.float32)))
        for path, x in inputs:
            save_file({"image": x}, f"{d}/in.safetensors")
            subprocess.run([a.retort, "run", a.model, f"{d}/in.safetensors", f"{d}/out.safetensors"], check=True,
                           stdout=subprocess.DEVNULL)
            ours, theirs = load_file(f"{d}/out.safetensors")["logits"], s.run(None, {name: x})[0]
            classes = theirs.argmax(1) if theirs.shape == ours.shape else theirs.reshape(ours.argmax(1).shape)
            same = float((ours.argmax(1) == classes).mean())
            worst = min(worst, same)
            line = f"{os.path.basename(path)}: {100 * same:.4f} % of pixels equal"
            if theirs.shape == ours.shape:
                line += f", logits differ by at most {np.abs(ours - theirs).max():.2e} of {np.abs(theirs).max():.1f}"
            print(line)
        if a.rounds:
            times(a, s, name, inputs[0][1])
    raise SystemExit(worst < 0.999)


def times(a, s, name, x):
    """Medians over interleaved rounds; retort's by its own bench, in a process of its own."""
    ours, theirs = [], []
    for _ in range(a.rounds):
        s.run(None, {name: x})
        for _ in range(3):
            t = time.perf_counter()
            s.run(None, {name: x})
            theirs.append(time.perf_counter() - t)
        text = subprocess.run([a.retort, "bench", "infer", f"model={a.model}", f"size={x.shape[2]}x{x.shape[3]}", "batch=1", "runs=3", f"threads={a.threads}"],
                              check=True, capture_output=True, text=True).stdout
        ours.append(float(re.search(r'"infer_ms": ([\d.]+)', text).group(1)) / 1000)
    o, t = statistics.median(ours), statistics.median(theirs)
    print(f"retort {1000 * o:.1f} ms, ONNX Runtime {1000 * t:.1f} ms, ratio {o / t:.3f}")


main()
