"""The loader beside a torch DataLoader that does the same with OpenCV: images per second of processor time, so per
core. `./run bench loader`; not needed to build or use retort.

    python bench/torch_loader.py [data=DIR] [rounds=3] [batch=4] [size=360x360] [only=light|full] [program=build/retort]

data: a folder in CamVid's layout (train.txt); otherwise 96 drawn pictures of 360 x 480 in runs/bench/pictures. Both
programs run in turns, pinned to one processor, one worker each; medians over the rounds. light: scale of 0.5 to 2,
crop, mirror. full: also rotation, colour jitter, blur for a half, cut-out for a half. Both decode (first epoch), and
both from decoded pictures in memory (later epochs; retort's default, torch with an array per picture).

OpenCV gets the cheaper way where there are two: the region of a crop is cut out before it is scaled; with rotation all
geometry is one warpAffine; the colours are one cv2.transform; labels take INTER_NEAREST; its threads are off.
"""
import json
import os
import statistics
import subprocess
import sys
import time

import numpy

CASES = {"light": {}, "full": {"data.rotate": "10", "data.jitter": "{brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1}",
                               "data.blur": "0.5", "data.cutout": "0.5"}}
LUMA = numpy.array([0.299, 0.587, 0.114])


def draw_pictures(folder, n=96, h=360, w=480):
    import cv2
    rng = numpy.random.default_rng(1)
    os.makedirs(f"{folder}/train", exist_ok=True)
    os.makedirs(f"{folder}/trainannot", exist_ok=True)
    for i in range(n):
        picture = cv2.GaussianBlur(rng.integers(0, 256, (h, w, 3), dtype=numpy.uint8), (0, 0), 3)
        label = numpy.zeros((h, w), numpy.uint8)
        for k in range(1, 11):
            corners = rng.integers(0, (w, h), (5, 2)).astype(numpy.int32)
            cv2.fillPoly(picture, [corners], [int(v) for v in rng.integers(0, 256, 3)])
            cv2.fillPoly(label, [corners], k)
        picture = cv2.add(picture, rng.integers(0, 8, (h, w, 3), dtype=numpy.uint8))
        cv2.imwrite(f"{folder}/train/{i:04}.png", picture)
        cv2.imwrite(f"{folder}/trainannot/{i:04}.png", label)
    with open(f"{folder}/train.txt", "w") as f:
        f.writelines(f"train/{i:04}.png trainannot/{i:04}.png\n" for i in range(n))


# ---- PyTorch's side -----------------------------------------------------------------------------------------------

def colour_matrix(rng, picture):
    """Hue, saturation, brightness and contrast as one matrix, as src/data/augment_colour.c."""
    b, c, s = 1 + rng.uniform(-0.4, 0.4, 3)
    turn = 2 * numpy.pi * rng.uniform(-0.1, 0.1)
    k, q = (1 - numpy.cos(turn)) / 3, numpy.sin(turn) / numpy.sqrt(3)
    hue = numpy.cos(turn) * numpy.eye(3) + k + q * numpy.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    m = b * (s * hue + (1 - s) * LUMA @ hue)
    import cv2
    mean = LUMA @ (m @ numpy.array(cv2.mean(picture)[:3]))
    return numpy.hstack([c * m, numpy.full((3, 1), (1 - c) * mean)])


def augment(picture, label, h, w, full, rng):
    import cv2
    scale, mirror = rng.integers(5, 21) / 10, rng.random() < 0.5
    sh, sw = round(picture.shape[0] * scale), round(picture.shape[1] * scale)
    y, x = rng.integers(0, max(sh - h, 0) + 1), rng.integers(0, max(sw - w, 0) + 1)
    ch, cw = min(sh, h), min(sw, w)
    if full:
        centre, angle = ((cw - 1) / 2, (ch - 1) / 2), rng.uniform(-10, 10)
        place = cv2.getRotationMatrix2D(centre, angle, 1) @ numpy.array([[scale, 0, -x], [0, scale, -y], [0, 0, 1]])
        if mirror:
            place = numpy.array([[-1, 0, cw - 1], [0, 1, 0]]) @ numpy.vstack([place, [0, 0, 1]])
        picture = cv2.warpAffine(picture, place, (cw, ch), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        label = cv2.warpAffine(label, place, (cw, ch), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=255)
        picture = cv2.transform(picture, colour_matrix(rng, picture))
        if rng.random() < 0.5:
            picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.1, 2), borderType=cv2.BORDER_REPLICATE)
        if rng.random() < 0.5:
            bh, bw = max(1, int(rng.uniform(0, 0.5) * ch)), max(1, int(rng.uniform(0, 0.5) * cw))
            by, bx = rng.integers(0, ch - bh + 1), rng.integers(0, cw - bw + 1)
            picture[by:by + bh, bx:bx + bw] = (124, 116, 104)
            label[by:by + bh, bx:bx + bw] = 255
    else:
        top, left, bottom, right = int(y / scale), int(x / scale), int(numpy.ceil((y + ch) / scale)), int(numpy.ceil((x + cw) / scale))
        picture = cv2.resize(picture[top:bottom, left:right], (cw, ch), interpolation=cv2.INTER_LINEAR)
        label = cv2.resize(label[top:bottom, left:right], (cw, ch), interpolation=cv2.INTER_NEAREST)
        if mirror:
            picture, label = cv2.flip(picture, 1), cv2.flip(label, 1)
    if (ch, cw) != (h, w):
        sides = (0, h - ch, w - cw, 0) if mirror else (0, h - ch, 0, w - cw)
        picture = cv2.copyMakeBorder(picture, *sides, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        label = cv2.copyMakeBorder(label, *sides, cv2.BORDER_CONSTANT, value=255)
    label = label.astype(numpy.int32)
    label[label >= 11] = -1
    return picture, label


class Pictures:
    def __init__(self, root, h, w, full, cached):
        with open(f"{root}/train.txt") as f:
            pairs = [["/".join(p.split("/")[-2:]) for p in line.split()] for line in f if line.strip()]
        self.pairs, self.root, self.h, self.w, self.full = pairs, root, h, w, full
        self.kept = [self.read(i) for i in range(len(pairs))] if cached else None

    def read(self, i):
        import cv2
        picture, label = (f"{self.root}/{p}" for p in self.pairs[i])
        return cv2.cvtColor(cv2.imread(picture), cv2.COLOR_BGR2RGB), cv2.imread(label, cv2.IMREAD_UNCHANGED)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        import torch
        picture, label = self.kept[i] if self.kept else self.read(i)
        picture, label = augment(picture, label, self.h, self.w, self.full, numpy.random.default_rng([int(time.monotonic_ns()), i]))
        return torch.from_numpy(numpy.ascontiguousarray(picture)), torch.from_numpy(label)


def cpu_of(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def torch_rate(o, full, cached, seconds=4):
    import cv2
    import torch
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    h, w = (int(v) for v in o["size"].split("x"))
    loader = torch.utils.data.DataLoader(Pictures(o["data"], h, w, full, cached), batch_size=int(o["batch"]), shuffle=True,
                                         num_workers=1, drop_last=True, persistent_workers=True)
    list(loader)                        # imports, first touch, files into the page cache
    workers = [p.pid for p in loader._iterator._workers]
    images, start, cpu = 0, time.monotonic(), time.process_time() + sum(map(cpu_of, workers))
    while time.monotonic() - start < seconds:
        for picture, _ in loader:
            images += len(picture)
    return images / (time.process_time() + sum(map(cpu_of, workers)) - cpu)


# ---- both ------------------------------------------------------------------------------------------------------------

def retort_rates(o, settings):
    words = [o["program"], "bench", "loader", f"data=camvid:{o['data']}", f"size={o['size']}", f"batch={o['batch']}", "data.scale=[0.5, 2]"]
    out = subprocess.run(words + [f"{k}={v}" for k, v in settings.items()], check=True, capture_output=True, text=True,
                         env={**os.environ, "OMP_NUM_THREADS": "1"}).stdout
    return json.loads(out)


def torch_rates(o, case):
    words = [sys.executable, os.path.abspath(__file__), f"side={case}"] + [f"{k}={v}" for k, v in o.items()]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main(words):
    o = {"data": "", "rounds": "3", "batch": "4", "size": "360x360", "only": "", "program": "build/retort", "side": ""}
    for word in words:
        key, _, value = word.partition("=")
        if key not in o:
            sys.exit(f"torch_loader.py: '{key}' is not known; {', '.join(k for k in o if k != 'side')} are")
        o[key] = value
    side = o.pop("side")
    if side:
        full = side == "full"
        return print(json.dumps({"decoding": torch_rate(o, full, False), "kept": torch_rate(o, full, True)}))
    if not o["data"]:
        o["data"] = "runs/bench/pictures"
        if not os.path.exists(f"{o['data']}/train.txt"):
            draw_pictures(o["data"])
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print("| | epoch | retort, images/s and core | torch and OpenCV | ratio |\n| --- | --- | --- | --- | --- |")
    for case, settings in CASES.items():
        if o["only"] not in ("", case):
            continue
        rows = []
        for _ in range(int(o["rounds"])):
            ours, theirs = retort_rates(o, settings), torch_rates(o, case)
            rows.append((ours["decoding_per_cpu_s"], theirs["decoding"], ours["kept_per_cpu_s"], theirs["kept"]))
        a, b, c, d = (statistics.median(r[i] for r in rows) for i in range(4))
        print(f"| {case} | first: files are decoded | {a:.0f} | {b:.0f} | {a / b:.2f} |")
        print(f"| {case} | later: retort keeps pictures, torch decodes | {c:.0f} | {b:.0f} | {c / b:.2f} |")
        print(f"| {case} | both keep pictures | {c:.0f} | {d:.0f} | {c / d:.2f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
