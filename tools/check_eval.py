#!/usr/bin/env python3
"""Hold `retort eval` against an independent computation from the files of `retort predict`.

    retort eval MODEL data=camvid:ROOT split=val json=eval.json
    retort predict MODEL ROOT/val out=pred
    tools/check_eval.py ROOT val eval.json pred

Reads the label maps of the data set and the predicted PNGs with a decoder of its own, makes the confusion matrix with
numpy, and compares it, and every score of eval.json, with what the program wrote. Needs Python and numpy alone.
"""
import json
import os
import struct
import sys
import zlib

import numpy as np

CLASSES, VOID = 11, 11


def read_png(path):
    """H x W bytes of an 8-bit grey or palette PNG, indices as they are."""
    data = open(path, "rb").read()
    at, packed, header = 8, b"", None
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IHDR":
            header = struct.unpack(">IIBBBBB", data[at + 8 : at + 8 + size])
        if kind == b"IDAT":
            packed += data[at + 8 : at + 8 + size]
        at += size + 12
    w, h, depth, colour, _, _, interlace = header
    if depth != 8 or colour not in (0, 3) or interlace:
        sys.exit(f"{path}: depth {depth}, colour type {colour}, interlace {interlace}: not read here")
    raw = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(h, w + 1)
    out = np.zeros((h, w), np.int64)
    for y in range(h):
        kind, line = raw[y, 0], raw[y, 1:].astype(np.int64)
        above = out[y - 1] if y else np.zeros(w, np.int64)
        if kind == 0:
            out[y] = line
        elif kind == 2:
            out[y] = (line + above) % 256
        else:
            left = corner = 0
            for x in range(w):
                b = above[x]
                if kind == 1:
                    guess = left
                elif kind == 3:
                    guess = (left + b) // 2
                else:
                    p = left + b - corner
                    da, db, dc = abs(p - left), abs(p - b), abs(p - corner)
                    guess = left if da <= db and da <= dc else b if db <= dc else corner
                out[y, x] = left = (line[x] + guess) % 256
                corner = b
    return out


def main():
    root, split, eval_json, pred = sys.argv[1:5]
    told = json.load(open(eval_json))
    lines = [line.split() for line in open(os.path.join(root, split + ".txt")) if line.strip()][: told["images"]]
    matrix = np.zeros((CLASSES, CLASSES), np.int64)
    for image, label in lines:
        y = read_png(os.path.join(root, *label.split("/")[-2:]))
        p = read_png(os.path.join(pred, os.path.splitext(os.path.basename(image))[0] + ".label.png"))
        valid = y != VOID
        matrix += np.bincount(CLASSES * y[valid] + p[valid], minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    hit, row, column = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        iou, accuracy = hit / (row + column - hit), hit / row
    scores = {
        "miou": np.nanmean(iou),
        "miou_present": iou[row > 0].mean(),
        "pixel_accuracy": hit.sum() / matrix.sum(),
        "mean_accuracy": np.nanmean(accuracy),
    }
    worst = max(abs(told[k] - v) for k, v in scores.items())
    print(f"{'class':12s} {'IoU here':>12s} {'IoU told':>12s} {'pixels':>10s}")
    for k, c in enumerate(told["classes"]):
        print(f"{c['name']:12s} {iou[k]:12.6f} {c['iou'] if c['iou'] is not None else float('nan'):12.6f} {row[k]:10d}")
        for mine, theirs in ((iou[k], c["iou"]), (accuracy[k], c["accuracy"])):
            if np.isnan(mine) != (theirs is None):
                sys.exit(f"{c['name']}: {mine} here, {theirs} told")
            if theirs is not None:
                worst = max(worst, abs(mine - theirs))
    moved = int(np.abs(matrix - np.array(told["confusion"])).sum())
    print(f"{len(lines)} images, {matrix.sum()} pixels; {moved} counts differ, scores by at most {worst:.2g}; mIoU {scores['miou']:.6f}")
    sys.exit(1 if moved or worst > 1e-12 else 0)


if __name__ == "__main__":
    main()
