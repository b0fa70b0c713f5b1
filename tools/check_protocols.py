#!/usr/bin/env python3
"""Hold the conventions of `retort eval` against the official tools, on drawn data sets in their exact layouts.

    tools/check_protocols.py build/retort [cityscapes voc ade20k]

For each: draws a miniature tree of images and labels (void, absent and rare classes among them), trains a small network on
it for a few steps so that its predictions are neither right nor constant, and evaluates it. Cityscapes: `retort predict
write=ids` makes the label ids that cityscapesscripts reads; its evaluation must give the same numbers, class by class and
category by category, with and without instances (whose weights are kept in steps of 2^-20). VOC and ADE20K: the formulas of VOCevalseg.m and of the scene parsing benchmark's evaluationDemo.m, in
numpy, from the predicted files. All scores of eval.json, the boundary scores included, are computed anew as well.
Needs numpy, SciPy, Pillow and, for Cityscapes, cityscapesscripts.
"""
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from check_eval import check, read_png

H, W, IMAGES = 72, 96, 6
CITY_IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def draw(rng, classes):
    """An image of coloured blocks and the class of each pixel; some classes never occur."""
    usual = [k for k in range(classes) if k % 7 != 3][:: max(1, classes // 20)]
    blocks = rng.choice(usual, (5, 6))
    label = np.kron(blocks, np.ones((H // 5 + 1, W // 6), int))[:H, :W]
    colour = np.stack([label * 37 % 256, label * 91 % 256, label * 151 % 256], -1)
    return np.clip(colour + rng.integers(-30, 30, (H, W, 3)), 0, 255).astype(np.uint8), label


def save(path, array, palette=False):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    image = Image.fromarray(array)
    if palette:
        image = image.convert("P") if image.mode != "P" else image
        image.putpalette(list(range(256)) * 3)
    image.save(path)


def tree_cityscapes(root, rng):
    for split in ("train", "val"):
        for i in range(IMAGES):
            city = "aachen" if i % 2 else "ulm"
            image, label = draw(rng, 19)
            ids = np.array(CITY_IDS)[label]
            ids[rng.random((H, W)) < 0.05] = rng.choice([0, 1, 4, 5, 6, 9, 10, 14, 29, 30])     # not evaluated
            stem = f"{city}/{city}_{i:06d}_000019_"
            block = np.arange(H)[:, None] // 15 * 6 + np.arange(W)[None] // 17                  # which thing of its class
            instances = np.where((ids >= 24) & (rng.random((H, W)) < 0.9), ids * 1000 + block % 4, ids)
            save(f"{root}/gtFine/{split}/{stem}gtFine_instanceIds.png", instances.astype(np.uint16))
            save(f"{root}/leftImg8bit/{split}/{stem}leftImg8bit.png", image)
            save(f"{root}/gtFine/{split}/{stem}gtFine_labelIds.png", ids.astype(np.uint8))
    return "cityscapes", 19


def tree_voc(root, rng):
    for split in ("train", "val"):
        names = [f"2007_{i:06d}" for i in range(10 * (split == "val"), 10 * (split == "val") + IMAGES)]
        for name in names:
            image, label = draw(rng, 21)
            label[(np.roll(label, 1, 1) != label) | (rng.random((H, W)) < 0.02)] = 255
            save(f"{root}/JPEGImages/{name}.jpg", image)
            save(f"{root}/SegmentationClass/{name}.png", label.astype(np.uint8), palette=True)
        os.makedirs(f"{root}/ImageSets/Segmentation", exist_ok=True)
        with open(f"{root}/ImageSets/Segmentation/{split}.txt", "w") as f:
            f.write("\n".join(names) + "\n")
    return "voc", 21


def tree_ade20k(root, rng):
    for split, short in (("training", "train"), ("validation", "val")):
        for i in range(1, IMAGES + 1):
            image, label = draw(rng, 150)
            label = label + 1
            label[rng.random((H, W)) < 0.05] = 0
            save(f"{root}/images/{split}/ADE_{short}_{i:08d}.jpg", image)
            save(f"{root}/annotations/{split}/ADE_{short}_{i:08d}.png", label.astype(np.uint8))
    return "ade20k", 150


def run(program, *args):
    r = subprocess.run([program, *args], capture_output=True, text=True)
    if r.returncode:
        sys.exit(f"{' '.join(args)}: exit {r.returncode}\n{r.stderr}")


def official_cityscapes(root, results):
    """The results of evaluateImgLists, as in its JSON."""
    os.environ.update(CITYSCAPES_DATASET=root, CITYSCAPES_RESULTS=results, CITYSCAPES_EXPORT_DIR=root)
    import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as tool

    np.in1d = np.isin                                            # which newer numpy lacks and the tool calls
    sys.argv = ["evaluate"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        tool.main()
    return json.load(open(f"{root}/resultPixelLevelSemanticLabeling.json"))


def compare(name, ours, theirs, limit=1e-12):
    """The largest difference; None and NaN are the same."""
    worst = 0
    for key, v in theirs.items():
        mine = ours.get(key)
        if (mine is None) != (v is None or np.isnan(v)):
            sys.exit(f"{name} {key}: {mine} told, {v} by the official tool")
        if mine is not None:
            worst = max(worst, abs(mine - v))
    print(f"{name}: {len(theirs)} numbers, {sum(ours.get(k) is not None for k in theirs)} of them exist, largest difference {worst:.2g}")
    if worst > limit:
        sys.exit(1)


def check_cityscapes(told, root, results):
    official = official_cityscapes(root, results)
    compare("classScores", {c["name"]: c["iou"] for c in told["classes"]}, {c["name"]: official["classScores"][c["name"]] for c in told["classes"]})
    void_less = {k: v for k, v in official["categoryScores"].items() if k != "void"}
    compare("categoryScores", told["official"], void_less)
    names = {"person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"}
    compare("classInstScores", {c["name"]: c["iiou"] for c in told["classes"]}, {k: official["classInstScores"][k] for k in names}, 1e-8)
    compare("instance averages", told, {"iiou": official["averageScoreInstClasses"], "iiou_categories": official["averageScoreInstCategories"]}, 1e-8)
    compare("averages", told["official"], {k: official[k] for k in ("averageScoreClasses", "averageScoreCategories")})


def pairs(kind, root, pred):
    """Labels as class numbers, predictions as class numbers, for every validation image in the order of its name."""
    for folder, _, files in sorted(os.walk(pred)):
        for f in sorted(files):
            if not f.endswith(".label.png"):
                continue
            stem = f[: -len(".label.png")]
            if kind == "cityscapes":
                ids = read_png(f"{root}/gtFine/val/{stem.split('_')[0]}/{stem.replace('leftImg8bit', 'gtFine_labelIds')}.png")
                label = np.full(ids.shape, 255)
                for k, i in enumerate(CITY_IDS):
                    label[ids == i] = k
            elif kind == "voc":
                label = read_png(f"{root}/SegmentationClass/{stem}.png")
            else:
                ids = read_png(f"{root}/annotations/validation/{stem}.png")
                label = np.where(ids == 0, 255, ids - 1)
            yield label, read_png(os.path.join(folder, f)), None


def official_voc(matrix, scores):
    """VOCevalseg.m: accuracies(j) = 100 * gtjresj / (gtj + resj - gtjresj), the denominator being 1 where it would be 0."""
    accuracies = []
    for j in range(21):
        gtj, resj, gtjresj = matrix[j].sum(), matrix[:, j].sum(), matrix[j, j]
        accuracies.append(gtjresj / ((gtj + resj - gtjresj) or 1))
    return np.mean(accuracies)


def official_ade20k(matrix, scores):
    """evaluationDemo.m: IoU = intersection / (eps + union), mean over 150; accuracy = correct / labelled; their mean."""
    intersection = np.diag(matrix).astype(float)
    union = matrix.sum(0) + matrix.sum(1) - intersection
    return (np.mean(intersection / (np.finfo(float).eps + union)) + intersection.sum() / matrix.sum()) / 2


OFFICIAL = {
    "cityscapes": {},
    "voc": {"average_accuracy": official_voc, "overall_accuracy": lambda m, s: np.diag(m).sum() / m.sum()},
    "ade20k": {"final_score": official_ade20k, "pixel_accuracy": lambda m, s: np.diag(m).sum() / m.sum()},
}
TREES = {"cityscapes": tree_cityscapes, "voc": tree_voc, "ade20k": tree_ade20k}
VAL_IMAGES = {"cityscapes": "leftImg8bit/val", "voc": "JPEGImages/2007_00001*.jpg", "ade20k": "images/validation"}


def main():
    program, wanted = os.path.abspath(sys.argv[1]), sys.argv[2:] or list(TREES)
    for kind in wanted:
        with tempfile.TemporaryDirectory() as work:
            root = f"{work}/data"
            classes = TREES[kind](root, np.random.default_rng(1))[1]
            print(f"== {kind}, {classes} classes")
            net = ["student.model=deeplabv3_mobilenetv2", "student.width=0.25", "student.output_stride=8"]
            run(program, "train", f"data={kind}:{root}", *net, "train.steps=100", "train.batch=2", "train.lr=0.05", "data.mirror=0",
                "report.images=0", "train.threads=1", f"out={work}/run")
            run(program, "eval", f"{work}/run", f"json={work}/eval.json", "metrics=[boundary, instances]" if kind == "cityscapes" else "metrics=[boundary]", "train.threads=1")
            images = f"{root}/{VAL_IMAGES[kind]}"
            run(program, "predict", f"{work}/run", images, f"out={work}/pred", "train.threads=1")
            run(program, "predict", f"{work}/run", images, f"out={work}/results", "write=ids", "train.threads=1")
            told = json.load(open(f"{work}/eval.json"))
            if told["protocol"] != kind:
                sys.exit(f"protocol {told['protocol']} told")
            if kind == "cityscapes":
                check_cityscapes(told, root, f"{work}/results")
            check(told, pairs(kind, root, f"{work}/pred"), classes, 255, OFFICIAL[kind])


if __name__ == "__main__":
    main()
