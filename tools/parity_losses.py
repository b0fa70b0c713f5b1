"""Holds `retort loss` against PyTorch in float64 (torch_losses.py): value and gradients of every task loss and method.

    python tools/parity_losses.py [--all] [only=METHOD,...] [PROGRAM ...]    (default build/retort; --all: a row for each case)

Figures are max |a - b| / max |b|, at most 1e-5, of the value and of the worst gradient, for both backends. Which
pixels are hard is a matter of comparisons: no probability of any map lies within 1e-5 of its threshold, nor the k-th
smallest that close to the next, or float32 and float64 would rightly differ. Inputs with such pixels are mended by
making those void. Prints a table, each row the worst of its cases; exit 1 on a miss.
"""
import itertools
import os
import subprocess
import sys
import tempfile
from collections import namedtuple

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

import torch_losses as L

LIMIT, GAP = 1e-5, 1e-5
LIMITS = {"cwd": 1e-4, "dsd": 1e-4, "cirkd": 1e-4, "skd.ho": 1e-4, "skd.ho-discriminator": 1e-4}      # a softmax over the positions of the grid
GRADIENT_LIMITS = {"lovasz": 1e-3}      # it turns where two errors change ranks: in float32 some of the closest do
Case = namedtuple("Case", "method options classes grid size batch teacher_grid void heads likeness channels", defaults=(None,))

#        batch, low grid, full size: no multiples, single rows and columns, more cells than pixels, the same size
SHAPES = ((2, (9, 12), (65, 89)), (1, (5, 7), (33, 50)), (2, (1, 9), (17, 70)), (2, (8, 1), (61, 15)), (1, (1, 1), (7, 9)),
          (1, (6, 5), (1, 1)), (2, (12, 14), (7, 9)), (1, (7, 11), (7, 11)), (1, (13, 40), (100, 313)))
CLASSES = (2, 11, 19, 150)
LOW = {"theta": 0.3, "min_kept_fraction": 0.4}
METHODS = [("ce", {}), ("ce", {"class_weights": True}), ("ohem", {}), ("ohem", LOW), ("ohem", {"theta": 0.05, "min_kept_count": 37}),
           ("ohem", {"class_weights": True, "min_kept_count": 10**9}), ("kd", {}), ("kd", {"tau": 4}), ("kd", {"tau": 0.5}),
           ("kd", {"tau": 2, "mask": "valid"}), ("rdd-tfe", {}), ("rdd-tfe", {"tfe": "flip"}), ("rdd-tfe", {"tfe": "entropy"}),
           ("rdd-tfe", {"compat": "rdd2023"}), ("rdd-tse", {}), ("rdd-tse", {"rule": "or"}), ("rdd-tse", {"rule": "and", **LOW}),
           ("rdd-tse", {"rule": "student"}), ("rdd-tse", {"rule": "student-not-teacher"}), ("rdd-tse", LOW),
           ("rdd-tse", {"theta": 0, "min_kept_fraction": 0.7}), ("rdd-tse", {"theta": 0.2, "min_kept_count": 150}),
           ("rdd-tse", {"class_weights": True, **LOW}), ("rdd-tfe", {"tfe_kl": "main-other", "normaliser": "all"}),
           ("rdd-tse", {"min_kept_scope": "image", "theta": 0.2, "min_kept_fraction": 0.5}), ("rdd-tse", {"aux_mask": "main", **LOW}),
           ("ohem", {"min_kept_scope": "image", "theta": 0.05, "min_kept_count": 37}), ("dice", {}), ("dice", {"smooth": 10, "class_weights": True}),
           ("lovasz", {}), ("lovasz", {"class_weights": True})]
QUEUES = {"pixel_queue": 9, "region_queue": 5}          # smaller than what is drawn: all of them take part
# Terms on layers: name, options, limit. channels: the student's and the teacher's of their features.
TERMS = [("at", {}), ("at", {"norm": "image"}), ("at", {"mask": "valid"}), ("at", {"mask": "valid", "norm": "image"}), ("fitnet", {}),
         ("fitnet", {"mask": "valid"}), ("ifvd", {}), ("ifvd", {"compat": "rdd2023"}), ("cwd", {}), ("cwd", {"tau": 1, "mask": "valid"}),
         ("cwd", {"tap": "features"}), ("cwd", {"tap": "features", "compat": "rdd2023", "tau": 0.5}), ("dsd", {}), ("dsd", {"csd": 0}),
         ("dsd", {"psd": 0}), ("dsd", {"psd": 1000, "csd": 10}), ("dsd", {"mask": "valid", "taps": "features,logits", "tau": 1}), ("dist", {}),
         ("dist", {"tau": 4, "beta": 2, "gamma": 0.5}), ("dist", {"mask": "valid"}), ("skd.pa", {}), ("skd.pa", {"mask": "valid"}),
         ("cirkd", {"memory": "off"}), ("cirkd", {"memory": "off", "tau": 0.5}),
         ("cirkd", {"minibatch": 0, **QUEUES}), ("skd.ho", {}), ("skd.ho-discriminator", {}), ("cirkd", {"minibatch": 0.5, "pixel": 2, "region": 3, "tau": 0.3, **QUEUES})]
CHANNELS = ((8, 8), (5, 12), (20, 7))
COMPAT = [{"compat": "rdd2023", "min_kept_count": 40}, {"compat": "rdd2023", "min_kept_count": 200, "theta": 0.1},
          {"compat": "rdd2023", "min_kept_count": 40, "rule": "or", "class_weights": True}]


def cases():
    base = Case("", {}, 0, None, None, 0, None, 0.1, ("aux", "aux"), 2.0)
    grid = itertools.product(METHODS, CLASSES, SHAPES)
    for (method, options), classes, (batch, low, full) in grid:
        if method in ("dice", "lovasz") and full == (1, 1):      # 1 - p of one sure pixel: all rounding
            continue
        yield base._replace(method=method, options=options, classes=classes, grid=low, size=full, batch=batch)
    for options, classes, (batch, low, full) in itertools.product(COMPAT, CLASSES, (SHAPES[0], SHAPES[1], SHAPES[8])):
        yield base._replace(method="rdd-tse", options=options, classes=classes, grid=low, size=full, batch=batch)
    # At the published k: more than 100 000 labelled pixels.
    yield base._replace(method="rdd-tse", options={"compat": "rdd2023"}, classes=19, grid=(33, 49), size=(257, 385), batch=2)
    batch, low, full = SHAPES[0]
    base = base._replace(grid=low, size=full, batch=batch)
    for (method, options), classes in itertools.product(METHODS, (11, 19)):
        one = base._replace(method=method, options=options, classes=classes)
        yield one._replace(void=0.8)                                     # more void than valid
        yield one._replace(void=1.0)                                     # nothing valid
        yield one._replace(void="image")                                 # one of two images
        for there in ((None, "aux"), (None, None), ("aux", None)):       # student's and teacher's auxiliary heads
            if there[1] or options.get("tfe", "aux") != "aux" or method != "rdd-tfe":
                yield one._replace(heads=there)
        if method in ("kd", "rdd-tfe", "rdd-tse"):
            yield one._replace(teacher_grid=(5, 17))
            yield one._replace(teacher_grid=(20, 23))
            yield one._replace(likeness=0.1)                             # a student close to its teacher
        if method == "rdd-tse":
            yield one._replace(likeness=0.0)                             # the same: an empty mask, but for or, and, student


def term_cases():
    base = Case("", {}, 0, None, None, 0, None, 0.1, (None, None), 2.0)
    for (method, options), classes, (batch, low, full), channels in itertools.product(TERMS, (2, 11, 19), SHAPES, CHANNELS):
        if method.startswith("skd.ho") and (channels != CHANNELS[0] or classes == 2 or low not in ((9, 12), (5, 7))):     # they read logits alone, slowly
            continue
        if method in ("ifvd", "dist", "skd.pa", "cirkd") and low == (1, 1):      # one position alone: 1 against 1, all rounding
            continue
        yield base._replace(method=method, options=options, classes=classes, grid=low, size=full, batch=batch, channels=channels)
    batch, low, full = SHAPES[0]
    for (method, options), channels in itertools.product(TERMS, CHANNELS):
        one = base._replace(method=method, options=options, classes=11, grid=low, size=full, batch=batch, channels=channels)
        if method.startswith("skd.ho"):
            if channels == CHANNELS[0]:
                yield one._replace(teacher_grid=(65, 70))
            continue
        for void in (0.8, 1.0, "image"):
            yield one._replace(void=void)
        for there in ((5, 17), (20, 23)):
            yield one._replace(teacher_grid=there)
        yield one._replace(batch=4)
        if channels[0] == channels[1]:
            yield one._replace(likeness=0.1)


def layers(case, g, grids):
    """Features that follow a few hidden fields, positive in part as behind a ReLU; an adapter where channels differ."""
    t, (own, there) = {}, case.channels
    tap = case.options.get("tap", "logits" if case.method == "cwd" else "features")
    for name, stride in (("mid", 1), ("features", 1)):
        hidden = g.standard_normal((case.batch, there, 3, 4))
        teacher = np.maximum(L.up(torch.from_numpy(hidden), grids["teacher"]).numpy() * 2 + g.standard_normal((case.batch, there, *grids["teacher"])), 0)
        mix = np.eye(there) if own == there else g.standard_normal((own, there)) / there**0.5
        student = np.einsum("ot,nthw->nohw", mix, L.up(torch.from_numpy(teacher), case.grid).numpy())
        t[f"teacher.{name}"], t[f"student.{name}"] = teacher, student + 0.25 * case.likeness * g.standard_normal(student.shape)
    if own != there and (not case.method or case.method == "fitnet" or (case.method == "cwd" and tap == "features")):
        t["adapter.weight"] = g.standard_normal((there, own, 1, 1)) / own**0.5
    if case.method.startswith("skd.ho"):
        t |= discriminator(case, g)
    if not case.method or (case.method == "cirkd" and case.options.get("memory") != "off"):
        t |= queues(case, g, own, there)
    return t


def discriminator(case, g):
    """skd.ho's, at the scale that training starts from; its scores fall on both sides of the hinges."""
    t, width = {"bn.weight": 1 + 0.1 * g.standard_normal(case.classes), "bn.bias": 0.1 * g.standard_normal(case.classes)}, case.classes
    for i in range(4):
        t[f"conv{i + 1}.weight"] = g.standard_normal((64 << i, width, 4, 4)) / (16 * width)**0.5
        t[f"conv{i + 1}.bias"], t[f"conv{i + 1}.u"] = 0.3 * g.standard_normal(64 << i), g.standard_normal(64 << i)
        width = 64 << i
    for i, channels in ((1, 256), (2, 512)):
        for name, out in (("query", channels // 8), ("key", channels // 8), ("value", channels)):
            t[f"attention{i}.{name}.weight"] = g.standard_normal((out, channels, 1, 1)) / channels**0.5
            t[f"attention{i}.{name}.bias"] = 0.1 * g.standard_normal(out)
        t[f"attention{i}.gamma"] = np.array([0.3 * i])
    return {"discriminator." + n: v for n, v in (t | {"last.weight": g.standard_normal((1, 512, 4, 4)) / 10, "last.bias": np.array([0.1])}).items()}


def queues(case, g, own, there):
    """cirkd's projection and its queues, of each class as many entries as its number allows."""
    t = {"projection.0.weight": g.standard_normal((there, own, 1, 1)) / own**0.5, "projection.1.weight": 1 + 0.1 * g.standard_normal(there),
         "projection.1.bias": 0.1 * g.standard_normal(there), "projection.3.weight": g.standard_normal((there, there, 1, 1)) / there**0.5}
    for name, slots in (("pixels", QUEUES["pixel_queue"]), ("regions", QUEUES["region_queue"])):
        entries = g.standard_normal((case.classes, slots, there))
        count = np.arange(case.classes) * 3 % (slots + 1)
        t[name + ".entries"] = (entries / np.linalg.norm(entries, axis=2, keepdims=True)).astype(np.float16)
        t[name + ".count"] = count.astype(np.int64)
    return t


def make(case, seed):
    """Logits that follow a hidden field from which the labels come, so that probabilities spread over 0..1."""
    g = np.random.default_rng(seed)
    field = g.standard_normal((case.batch, case.classes, 4, 5))
    grids = {"student": case.grid, "teacher": case.teacher_grid or case.grid}

    def on(grid):
        return L.up(torch.from_numpy(field), grid).numpy()

    def noise(shape):
        return g.standard_normal((case.batch, case.classes, *shape))
    confident = 2 + np.log(case.classes)
    t = {f"teacher.{n}": confident * on(grids["teacher"]) + 1.5 * noise(grids["teacher"]) for n in ("logits", "aux", "flip")}
    for n in ("logits", "aux"):
        t[f"student.{n}"] = L.up(torch.from_numpy(t[f"teacher.{n}"]), case.grid).numpy() + case.likeness * noise(case.grid)
    labels = (on(case.size) + 0.5 * noise(case.size)).argmax(1).astype(np.int32)
    share = case.void if isinstance(case.void, float) else 0.1
    labels[g.random(labels.shape) < share] = -1
    if case.void == "image":
        labels[0] = -1
    if case.channels:
        t |= layers(case, g, grids)
    drop = [f"{who}.aux" for who, there in zip(("student", "teacher"), case.heads) if not there]
    if case.method in ("ce", "ohem", "dice", "lovasz"):
        drop += [n for n in t if n.startswith("teacher")]
    return {n: np.ascontiguousarray(v, np.float32 if v.dtype == np.float64 else v.dtype) for n, v in t.items() if n not in drop} | {"labels": labels}


def too_close(q, labels, theta, k):
    """Pixels within GAP of the threshold; where that is the k-th smallest: the next in order, when as close to it."""
    v = np.where(labels >= 0, q, np.inf)
    bad = np.abs(v - theta) < GAP
    order = np.argsort(v, axis=None)
    if k and k < np.isfinite(v).sum() and v.flat[order[k]] - v.flat[order[k - 1]] < GAP and v.flat[order[k]] > theta:
        bad.flat[order[k]] = True
    return bad


def settle(case, t):
    """Make void what lies too close to a threshold, until nothing does."""
    o = case.options
    if case.method not in ("ohem", "rdd-tse"):
        return t
    maps = [torch.from_numpy(v).double() for n, v in t.items() if n.split(".")[-1] in ("logits", "aux")]
    y = torch.from_numpy(t["labels"]).long()
    maps = [L.label_probability(x, y).numpy() for x in maps]
    for _ in range(1000):
        k = L.kept_at_least(torch.from_numpy(t["labels"]), o.get("min_kept_fraction", 0.0477), o.get("min_kept_count", 0), o.get("min_kept_scope", "batch"))
        if "compat" in o:
            k = o.get("min_kept_count", L.COMPAT_KEPT)
        theta = o.get("theta", 0.7)
        if isinstance(k, list):
            bad = np.logical_or.reduce([np.stack([too_close(p, y, theta, n) for p, y, n in zip(q, t["labels"], k)]) for q in maps])
        else:
            bad = np.logical_or.reduce([too_close(q, t["labels"], theta, k) for q in maps])
        if not bad.any():
            return t
        t["labels"][bad] = -1
    sys.exit(f"{case}: no input without ties found")


def real_options(case):
    weights = [round(0.25 + (7 * c % 11) / 4, 2) for c in range(case.classes)]
    taps = {"taps": case.options["taps"].split(",")} if "taps" in case.options else {}
    return {**case.options} | taps | ({"class_weights": weights} if "class_weights" in case.options else {})


def option_words(case):
    return [f"{k}={','.join(map(str, v)) if isinstance(v, list) else v}" for k, v in real_options(case).items()]


def retort(program, case, t, backend, folder):
    save_file(t, f"{folder}/in.safetensors")
    words = [program, "loss", case.method, f"{folder}/in.safetensors", f"{folder}/out.safetensors", f"backend={backend}", *option_words(case)]
    done = subprocess.run(words, capture_output=True, text=True)
    return (load_file(f"{folder}/out.safetensors"), "") if done.returncode == 0 else (None, f"exit {done.returncode} {done.stderr.strip()}")


def error(a, b):
    worst, size = np.abs(np.float64(a) - b).max(), np.abs(b).max()
    return 0.0 if worst == 0 else float(worst / size) if size > 0 else float("inf")


def compare(program, case, seed, folder):
    """[(backend, value error, gradient error, note)]"""
    for attempt in range(100):               # a kink between float32 and float64 would rightly turn the gradient
        L.KINK[0] = np.inf
        t = settle(case, make(case, seed + 10000 * attempt))
        value, grads = L.value_and_gradients(case.method, t, real_options(case))
        if L.KINK[0] > 3e-6:
            break
    largest = max(np.abs(g).max() for g in grads.values())
    grads = {n: g for n, g in grads.items() if np.abs(g).max() > 1e-12 * largest or n.startswith("student.")}    # exactly 0 but for rounding: a key's bias
    rows = []
    for backend in ("cpu", "ref"):
        out, note = retort(program, case, t, backend, folder)
        if out is None:
            rows.append((backend, float("inf"), float("inf"), note))
        else:
            rows.append((backend, error(out["loss"], np.array([value])), max(error(out.get("grad." + n, 0 * g), g) for n, g in grads.items()), ""))
    return value, rows


def refusals(program, folder):
    """What must fail: (what, exit code, part of the message)."""
    base = Case("rdd-tse", {"compat": "rdd2023"}, 19, (9, 12), (65, 89), 1, None, 0.1, ("aux", "aux"), 2.0)
    wanted = [("compat with fewer labelled pixels than k", base, "100000"),
              ("compat, one labelled pixel short", base._replace(options={"compat": "rdd2023", "min_kept_count": 65 * 89}), str(65 * 89)),
              ("tfe=aux without the teacher's auxiliary head", base._replace(method="rdd-tfe", options={}, heads=("aux", None)), "tfe=entropy")]
    for what, case, part in wanted:
        out, note = retort(program, case, make(case, 1), "cpu", folder)
        yield what, note, out is None and part in note


def name_of(case):
    return " ".join([case.method, *(f"{k}={v}" for k, v in case.options.items())])


def situation(case):
    plain = case.void == 0.1 and case.heads == ("aux", "aux") and not case.teacher_grid and case.likeness == 2.0
    return "" if plain else f"void {case.void}, aux of student/teacher {'/'.join('yes' if h else 'no' for h in case.heads)}, " \
        f"teacher {case.teacher_grid or 'alike'}, likeness {case.likeness}"


def main():
    torch.set_num_threads(1)
    args = [a for a in sys.argv[1:] if a != "--all" and not a.startswith("only=")]
    only = [m for a in sys.argv[1:] if a.startswith("only=") for m in a[5:].split(",")]
    missed, table, count, zeros = 0, {}, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for program in args or ["build/retort"]:
            for i, case in enumerate(c for c in itertools.chain(cases(), term_cases()) if not only or c.method in only):
                value, rows = compare(os.path.abspath(program), case, i, folder)
                zeros += value == 0
                for backend, v, g, note in rows:
                    limit = LIMITS.get(case.method, LIMIT)
                    ok = v <= limit and g <= GRADIENT_LIMITS.get(case.method, limit)
                    missed, count = missed + (not ok), count + 1
                    key = (name_of(case), case.classes, "special" if situation(case) else "sizes", backend)
                    old = table.get(key, (0, 0, 0))
                    table[key] = (max(old[0], v), max(old[1], g), old[2] + 1)
                    if not ok or "--all" in sys.argv:
                        print(f"{'ok  ' if ok else 'MISS'} {backend} {name_of(case)} {case.batch} x {case.classes} x {case.grid} -> {case.size} "
                              f"{situation(case)}: {v:.1e} {g:.1e} {note}")
            for what, note, ok in refusals(os.path.abspath(program), folder):
                print(f"{'ok  ' if ok else 'MISS'} refused: {what}: {note}")
                missed, count = missed + (not ok), count + 1
    print(f"\n{'loss':72} classes  cases           value   gradient")
    for (name, classes, kind, backend), (v, g, n) in table.items():
        print(f"{name:72} {classes:7d}  {n:3d} {kind:7} {backend}  {v:.1e}  {g:.1e}  {'' if v <= LIMITS.get(m := name.split()[0], LIMIT) and g <= GRADIENT_LIMITS.get(m, LIMITS.get(m, LIMIT)) else 'MISS'}")
    print(f"{missed} of {count} missed" if missed else f"all {count} within their limits ({zeros} cases with loss 0)")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
