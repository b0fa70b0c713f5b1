#!/usr/bin/env python3
"""check_events.py - read a run's event file with TensorBoard's own reader and hold it against metrics.jsonl.

    check_events.py RUN [--images N]

Every number of every line must be there once, at its step, as a float32 of the same value, and nothing
else. With --images at least N pictures must decode to the size they claim. Needs PyPI's tensorboard.
"""
import argparse, json, os, struct, sys

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
except ImportError:
    print("skip: no tensorboard in this Python (pip install tensorboard)")
    sys.exit(77)


def expected(run):
    """{tag: [(step, value)]} of the lines of metrics.jsonl."""
    tags = {}

    def add(group, numbers, step):
        for name, v in (numbers or {}).items():
            if isinstance(v, (int, float)) and not isinstance(v, bool):
                tags.setdefault(f"{group}/{name}", []).append((step, v))

    for line in open(os.path.join(run, "metrics.jsonl"), encoding="utf-8"):
        if not line.endswith("\n"):
            continue
        o = json.loads(line)
        s = o["step"]
        for group in ("loss", "kept", "kept_class"):
            add(group, o.get(group), s)
        g = o.get("gradients", {})
        add("gradient_norm", g.get("norm"), s), add("gradient_cosine", g.get("cosine"), s)
        add("train", {k: o[k] for k in ("lr", "grad_norm", "images_per_s", "stall", "epoch") if k in o}, s)
        e = o.get("eval")
        if e:
            add("eval", e, s), add("eval_ema", e.get("ema"), s)
            add("iou", {c["name"]: c["iou"] for c in e.get("classes", [])}, s)
    return tags


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("run"), p.add_argument("--images", type=int, default=0)
    a = p.parse_args()
    bad = []
    files = [f for f in os.listdir(a.run) if "tfevents" in f]
    if len(files) != 1:
        bad.append(f"{len(files)} event files, expected 1")
    records = sum(1 for f in files for _ in RawEventFileLoader(os.path.join(a.run, f)).Load())  # checks every checksum
    seen = EventAccumulator(a.run, size_guidance={"scalars": 0, "tensors": 0, "images": 0})
    seen.Reload()
    want = expected(a.run)
    have = set(seen.Tags()["scalars"])
    if have != set(want):
        bad.append(f"tags: missing {sorted(set(want) - have)[:5]}, beyond {sorted(have - set(want))[:5]}")
    points = 0
    for tag in have & set(want):
        got = [(e.step, e.value) for e in seen.Scalars(tag)]
        exact = [(s, struct.unpack("<f", struct.pack("<f", v))[0]) for s, v in want[tag]]
        points += len(got)
        if got != exact:
            bad.append(f"{tag}: {len(got)} points, expected {len(exact)}; first difference "
                       f"{next(((g, e) for g, e in zip(got, exact) if g != e), 'in number')}")
    pictures = [(tag, e) for tag in seen.Tags()["images"] for e in seen.Images(tag)]
    for tag, e in pictures:
        w, h = struct.unpack(">II", e.encoded_image_string[16:24])
        if (w, h) != (e.width, e.height) or not e.encoded_image_string.startswith(b"\x89PNG"):
            bad.append(f"{tag} at {e.step}: {e.width} x {e.height}, the picture {w} x {h}")
    if len(pictures) < a.images:
        bad.append(f"{len(pictures)} pictures, expected {a.images}")
    print(f"{records} records, {len(have)} scalars with {points} points, {len(pictures)} pictures")
    print("\n".join(bad) if bad else "ok")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
