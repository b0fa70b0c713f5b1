"""Each loss beside its composition in PyTorch (tools/torch_losses.py, float32): time of forward and backward, and memory
beyond inputs and results. `./run bench losses`.

    python bench/losses.py [rounds=3] [threads=2] [time=wall|cpu] [only=METHOD,...] [PROGRAM]

Both run in turns on the same processors, in processes of their own. Times are medians; time=cpu takes
processor time in place of the clock's, which on a busy machine with threads=1 is the steadier. PyTorch's memory is how far the
peak of its resident set in the first run on full-size tensors lies above where it began, after a run on small ones and with what was freed
given back and the peak reset (Linux); retort's is its plan's arena.
"""
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))

# name, method, options, batch, grid, labels' size, channels of the features (0: none), runs of retort and of PyTorch
FULL, SMALL = ((65, 129), (512, 1024)), ((33, 65), (256, 512))
ROWS = [("ce", {}, FULL, 0), ("ohem", {}, FULL, 0), ("rdd-tfe", {}, FULL, 0), ("rdd-tse", {}, FULL, 0), ("kd", {}, FULL, 0),
        ("at", {}, FULL, 256), ("fitnet", {}, FULL, 256), ("skd.pa", {}, FULL, 256), ("ifvd", {}, FULL, 256), ("cwd", {}, FULL, 0),
        ("cwd", {"tap": "features"}, FULL, 256), ("dsd", {}, FULL, 256), ("dist", {}, FULL, 0), ("cirkd", {"memory": "off"}, SMALL, 256),
        ("cirkd", {"minibatch": 0, "pixel_queue": 216, "region_queue": 54}, FULL, 256),        # as many as are drawn by default
        ("dice", {}, SMALL, 0), ("lovasz", {}, SMALL, 0), ("skd.ho", {}, FULL, 0)]
BATCH, CLASSES = 4, 19


def tensors(grid, size, channels, seed=1):
    g = np.random.default_rng(seed)
    names = [f"{who}.{what}" for who in ("student", "teacher") for what in ("logits", "aux")]
    t = {n: 2 * g.standard_normal((BATCH, CLASSES, *grid), np.float32) for n in names}
    if channels:
        for who in ("student", "teacher"):
            for what in ("mid", "features"):
                t[f"{who}.{what}"] = np.maximum(g.standard_normal((BATCH, channels, *grid), np.float32), 0)
    t["labels"] = np.where(g.random((BATCH, *size)) < 0.05, -1, g.integers(0, CLASSES, (BATCH, *size))).astype(np.int32)
    return t


def discriminator(g):
    t, width = {"bn.weight": np.ones(CLASSES), "bn.bias": np.zeros(CLASSES)}, CLASSES
    for i in range(4):
        t[f"conv{i + 1}.weight"], t[f"conv{i + 1}.bias"] = g.standard_normal((64 << i, width, 4, 4)) / (16 * width)**0.5, np.zeros(64 << i)
        t[f"conv{i + 1}.u"], width = g.standard_normal(64 << i), 64 << i
    for i, channels in ((1, 256), (2, 512)):
        for name, out in (("query", channels // 8), ("key", channels // 8), ("value", channels)):
            t[f"attention{i}.{name}.weight"], t[f"attention{i}.{name}.bias"] = g.standard_normal((out, channels, 1, 1)) / channels**0.5, np.zeros(out)
        t[f"attention{i}.gamma"] = np.array([0.3])
    t |= {"last.weight": g.standard_normal((1, 512, 4, 4)) / 10, "last.bias": np.array([0.1])}
    return {"discriminator." + n: v.astype(np.float32) for n, v in t.items()}


def queues(g, options, channels):
    """cirkd's projection and full queues."""
    square = g.standard_normal((2, channels, channels, 1, 1), np.float32) / channels**0.5
    t = {"projection.0.weight": square[0], "projection.1.weight": np.ones(channels, np.float32), "projection.1.bias": np.zeros(channels, np.float32),
         "projection.3.weight": square[1]}
    for name, slots in (("pixels", options["pixel_queue"]), ("regions", options["region_queue"])):
        entries = g.standard_normal((CLASSES, slots, channels), np.float32)
        t[name + ".entries"] = (entries / np.linalg.norm(entries, axis=2, keepdims=True)).astype(np.float16)
        t[name + ".count"] = np.full(CLASSES, slots, np.int64)
    return t


def wanted(method, options, t):
    """Only what the method reads."""
    g = np.random.default_rng(2)
    if method == "skd.ho":
        return {n: v for n, v in t.items() if n.endswith(".logits")} | discriminator(g)
    if "pixel_queue" in options:
        return {n: v for n, v in t.items() if n.endswith(".features") or n == "labels"} | queues(g, options, t["student.features"].shape[1])
    features = {"at", "fitnet", "skd.pa", "ifvd", "cirkd"} | ({"cwd"} if options.get("tap") == "features" else set())
    if method in features:
        return {n: v for n, v in t.items() if n.endswith(".features") or n == "labels"}
    heads = ("logits", "aux") if method in ("ce", "ohem", "dice", "lovasz", "rdd-tfe", "rdd-tse") else ("logits", "mid", "features") if method == "dsd" else ("logits",)
    there = ("student",) if method in ("ce", "ohem", "dice", "lovasz") else ("student", "teacher")
    return {n: v for n, v in t.items() if n == "labels" or (n.split(".")[0] in there and n.split(".")[1] in heads)}


def resident(name):
    """VmRSS or VmHWM (the peak) of this process, in bytes."""
    with open("/proc/self/status") as f:
        return next(1024 * int(line.split()[1]) for line in f if line.startswith(name + ":"))


def forget_peak():
    """Gives back what was freed, then makes the present resident set the peak; returns it."""
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")
    return resident("VmRSS")


def torch_side(path, method, options, threads, runs):
    """In a process of its own: prints {"ms", "bytes"}."""
    import torch
    from safetensors.numpy import load_file
    import torch_losses as L
    torch.set_num_threads(threads)

    def inputs(t):
        """As PyTorch wants them: labels of 64 bits, no half precision."""
        x = {n: torch.from_numpy(v).long() if n == "labels" else torch.from_numpy(v).float() if v.dtype == np.float16 else torch.from_numpy(v) for n, v in t.items()}
        for n, v in x.items():
            v.requires_grad_(n.startswith(("student.", "projection.")))
        return x

    def once(x):
        student = [v for v in x.values() if v.requires_grad]
        start, cpu = time.perf_counter(), time.process_time()
        torch.autograd.grad(L.LOSSES[method](x, **options), student, allow_unused=True)
        return 1e3 * (time.perf_counter() - start), 1e3 * (time.process_time() - cpu)
    once(inputs(wanted(method, options, tensors((5, 9), (40, 72), 8))))
    x = inputs(load_file(path))
    before = forget_peak()
    times = [once(x)]
    grown = resident("VmHWM") - before
    times = [once(x) for _ in range(runs - 1)] or times
    ms, cpu = (sorted(column)[len(times) // 2] for column in zip(*times))
    print(json.dumps({"ms": ms, "cpu_ms": cpu, "bytes": grown}))


def run(words, threads):
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)})
    if done.returncode:
        sys.exit(f"bench: {' '.join(words[:4])}: {done.stderr.strip()}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    given = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
    program = os.path.abspath(next((a for a in sys.argv[1:] if "=" not in a), "build/retort"))
    rounds, threads, only = int(given.get("rounds", 3)), int(given.get("threads", os.cpu_count())), given.get("only", "").split(",")
    clock = {"wall": "ms", "cpu": "cpu_ms"}[given.get("time", "wall")]
    if "side" in given:
        return torch_side(given["in"], given["side"], json.loads(given["options"]), threads, rounds)
    from safetensors.numpy import save_file
    print(f"Batch {BATCH}, {CLASSES} classes, features of 256 channels, {threads} threads, {rounds} rounds, medians of {given.get('time', 'wall')} time.\n")
    print("| loss | grid | retort, ms | PyTorch, ms | times as fast | retort, MB | PyTorch, MB | share |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for method, options, (grid, size), channels in ROWS:
            if only != [""] and method not in only:
                continue
            path = f"{folder}/in.safetensors"
            save_file(wanted(method, options, tensors(grid, size, channels)), path)
            ours, theirs = [], []
            for _ in range(rounds):
                words = [program, "loss", method, path, f"{folder}/out.safetensors", *(f"{k}={v}" for k, v in options.items())]
                ours.append(run([*words, "runs=7"], threads))
                theirs.append(run([sys.executable, __file__, f"side={method}", f"in={path}", f"options={json.dumps(options)}", f"threads={threads}",
                                   "rounds=4"], threads))
            a, b, m, n = (sorted(x[k] for x in side)[rounds // 2] for k in (clock, "bytes") for side in (ours, theirs))
            name = " ".join([method, *(f"{k}={v}" for k, v in options.items())])
            print(f"| {name} | {grid[0]} x {grid[1]} | {a:.1f} | {b:.1f} | {b / a:.1f} | {m / 1e6:.1f} | {n / 1e6:.1f} | {m / max(n, 1):.3f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
