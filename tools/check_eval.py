#!/usr/bin/env python3
"""Hold `retort eval` against an independent computation from the files of `retort predict`.

    retort eval MODEL data=camvid:ROOT split=val json=eval.json metrics=[boundary,calibration]
    retort predict MODEL ROOT/val out=pred [--probs]
    tools/check_eval.py ROOT val eval.json pred

Reads the label maps of the data set and the predicted PNGs with a decoder of its own, makes the confusion matrix with
numpy, and compares it, and every score of eval.json, with what the program wrote. Boundary scores, where eval.json has
them, are done class by class with SciPy's erosions and distance transforms; the calibration error from the written
probabilities. Needs Python and numpy; SciPy for boundary scores. `check(...)` serves other tools.
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


def read_probs(path):
    """C x H x W float32 of a file that `retort predict --probs` wrote."""
    data = open(path, "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8 : 8 + n])["probs"]
    begin, end = entry["data_offsets"]
    return np.frombuffer(data[8 + n + begin : 8 + n + end], "<f4").reshape(entry["shape"])


def outline(mask, known):
    """Pixels of the mask with a neighbour to the left, right, above or below that is known and not in the mask."""
    out = np.zeros_like(mask)
    other = known & ~mask
    out[1:] |= other[:-1]
    out[:-1] |= other[1:]
    out[:, 1:] |= other[:, :-1]
    out[:, :-1] |= other[:, 1:]
    return out & mask


class Boundary:
    def __init__(self, classes):
        self.both, self.either = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
        self.f = [[] for _ in range(classes)]

    def add(self, y, p, valid):
        from scipy import ndimage

        diagonal = np.hypot(*y.shape)
        d, theta = max(1, int(np.floor(0.02 * diagonal + 0.5))), max(1.0, 0.0075 * diagonal)
        for k in range(len(self.f)):
            g, q = (y == k) & valid, (p == k) & valid
            if not g.any() and not q.any():
                continue
            square = np.ones((3, 3))
            band = [m & ~ndimage.binary_erosion(m, square, d, border_value=0) for m in (g, q)]
            self.both[k] += (band[0] & band[1]).sum()
            self.either[k] += (band[0] | band[1]).sum()
            a, b = outline(g, valid), outline(q, valid)
            if not a.any() and not b.any():
                continue
            if not a.any() or not b.any():
                self.f[k].append(0.0)
                continue
            recall = (ndimage.distance_transform_edt(~b)[a] <= theta).mean()
            precision = (ndimage.distance_transform_edt(~a)[b] <= theta).mean()
            self.f[k].append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)

    def scores(self):
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.both / self.either, np.array([np.mean(f) if f else np.nan for f in self.f])


class Calibration:
    def __init__(self, bins=15):
        self.n, self.right, self.sure = np.zeros(bins), np.zeros(bins), np.zeros(bins)

    def add(self, y, p, valid, probs):
        sure, right = probs.max(0)[valid].astype(np.float64), (y == p)[valid]
        edges = np.linspace(0, 1, len(self.n) + 1)
        for b in range(len(self.n)):
            inside = (sure > edges[b]) & (sure <= edges[b + 1])
            self.n[b] += inside.sum()
            self.right[b] += right[inside].sum()
            self.sure[b] += sure[inside].sum()

    def error(self):
        return np.abs(self.right - self.sure).sum() / self.n.sum()


def check(told, pairs, classes, void, official=None):
    """pairs: (label H x W of class numbers, prediction H x W, probabilities or None) for each image. Exits with 1 when
    anything of `told` differs; returns the confusion matrix."""
    matrix = np.zeros((classes, classes), np.int64)
    boundary = Boundary(classes) if "boundary_iou" in told else None
    calibration = Calibration() if "ece" in told else None
    images = 0
    for y, p, probs in pairs:
        valid = y != void
        images += 1
        matrix += np.bincount(classes * y[valid] + p[valid], minlength=classes**2).reshape(classes, classes)
        if boundary:
            boundary.add(y, p, valid)
        if calibration and probs is not None:
            calibration.add(y, p, valid, probs)
    hit, row, column = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        iou, accuracy, dice = hit / (row + column - hit), hit / row, 2 * hit / (row + column)
    scores = {
        "miou": np.nanmean(iou),
        "miou_present": iou[row > 0].mean(),
        "miou_all": np.nan_to_num(iou).mean(),
        "pixel_accuracy": hit.sum() / matrix.sum(),
        "mean_accuracy": np.nanmean(accuracy),
        "mean_dice": np.nanmean(dice),
        "weighted_iou": np.nansum(iou * row) / row.sum(),
    }
    by_class = {"iou": iou, "accuracy": accuracy, "dice": dice}
    if boundary:
        by_class["boundary_iou"], by_class["boundary_f1"] = boundary.scores()
        scores["boundary_iou"], scores["boundary_f1"] = (np.nanmean(v) for v in boundary.scores())
    if calibration and calibration.n.sum():
        scores["ece"] = calibration.error()
    scores.update({k: v(matrix, scores) for k, v in (official or {}).items()})
    worst = {}
    for k, v in scores.items():
        theirs = told["official"][k] if official and k in official else told[k]
        worst[k] = abs(theirs - v)
    print(f"{'class':24s}" + "".join(f"{key + ' here':>19s} {'told':>9s}" for key in by_class))
    for k, c in enumerate(told["classes"]):
        if (row[k] or column[k]) and classes <= 40:
            told_text = lambda v: f"{v:9.6f}" if v is not None else "        -"
            print(f"{c['name']:24s}" + "".join(f"{v[k]:19.6f} {told_text(c[key])}" for key, v in by_class.items()))
        for key, v in by_class.items():
            if np.isnan(v[k]) != (c[key] is None):
                sys.exit(f"{c['name']}: {key} {v[k]} here, {c[key]} told")
            if c[key] is not None:
                worst["class " + key] = max(worst.get("class " + key, 0), abs(v[k] - c[key]))
    moved = int(np.abs(matrix - np.array(told["confusion"])).sum())
    print(f"{images} images, {matrix.sum()} pixels; {moved} counts differ; mIoU {scores['miou']:.6f}; largest differences:")
    print("  " + ", ".join(f"{k} {v:.2g}" for k, v in worst.items()))
    # F of an image is kept in steps of 2^-30, a confidence in steps of 2^-24; all else is whole numbers.
    limit = {"boundary_f1": 1e-8, "class boundary_f1": 1e-8, "ece": 1e-6}
    if moved or any(not v <= limit.get(k, 1e-12) for k, v in worst.items()):
        sys.exit(1)
    return matrix


def camvid_pairs(root, split, pred, images):
    lines = [line.split() for line in open(os.path.join(root, split + ".txt")) if line.strip()][:images]
    for image, label in lines:
        stem = os.path.join(pred, os.path.splitext(os.path.basename(image))[0])
        probs = read_probs(stem + ".probs.safetensors") if os.path.exists(stem + ".probs.safetensors") else None
        yield read_png(os.path.join(root, *label.split("/")[-2:])), read_png(stem + ".label.png"), probs


def main():
    root, split, eval_json, pred = sys.argv[1:5]
    told = json.load(open(eval_json))
    check(told, camvid_pairs(root, split, pred, told["images"]), CLASSES, VOID)


if __name__ == "__main__":
    main()
