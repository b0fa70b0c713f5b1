#!/usr/bin/env python3
"""Hold study.json of `retort study` against an independent computation.

    tools/check_study.py OUT

From RUN/counts.SPLIT.safetensors and RUN/metrics.jsonl alone: scores, Student's t intervals (scipy.stats.t), paired
differences, Bonferroni, the smallest difference that could be shown (scipy.stats.nct), the bootstrap over images (NumPy's
own generator, so its ends agree within what 2000 draws scatter), and the scores at equal time. Needs numpy, scipy, safetensors.
"""
import json
import os
import sys

import numpy as np
from safetensors.numpy import load_file
from scipy import stats
from scipy.optimize import brentq

LEVEL, POWER, DRAWS = 0.95, 0.8, 20000
worst = 0.0


def same(what, here, told, tolerance=1e-9):
    global worst
    here, told = np.atleast_1d(np.asarray(here, float)), np.atleast_1d(np.array([np.nan if v is None else v for v in np.atleast_1d(told)], float))
    if here.shape != told.shape or (np.isnan(here) != np.isnan(told)).any():
        sys.exit(f"{what}: {here} here, {told} told")
    if np.isnan(here).all():
        return
    off = np.nanmax(np.abs(here - told))
    worst = max(worst, off / tolerance)
    if off > tolerance:
        sys.exit(f"{what}: {here} here, {told} told; off by {off:.3g}")


def miou(counts):
    """counts: ... x K x 3 of right, labelled, predicted pixels."""
    hit, row, column = np.moveaxis(counts.astype(float), -1, 0)
    either = row + column - hit
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nanmean(np.where(either > 0, hit / either, np.nan), axis=-1)


def moments(what, x, told, level=LEVEL):
    x = np.asarray(x)[np.isfinite(x)]
    sd = x.std(ddof=1) if len(x) > 1 else np.nan
    half = stats.t.ppf(0.5 + level / 2, len(x) - 1) * sd / np.sqrt(len(x)) if len(x) > 1 else np.nan
    mean = x.mean() if len(x) else np.nan
    same(what + " mean", mean, told["mean"])
    same(what + " sd", sd, told["sd"])
    same(what + " interval", [mean - half, mean + half], told["interval"])
    return mean, sd


def detectable(n):
    if n < 2:
        return np.nan
    limit = stats.t.ppf(0.5 + LEVEL / 2, n - 1)
    chance = lambda d: stats.nct.sf(limit, n - 1, d) + np.nan_to_num(stats.nct.cdf(-limit, n - 1, d))
    return brentq(lambda d: chance(d) - POWER, 0.1, 25, xtol=1e-12) / np.sqrt(n)


def at_time(arm, told):
    """Scores of every run at told step, linear between evaluations."""
    values = []
    for run, why in zip(arm["runs"], arm["failed"]):
        if why:
            values.append(np.nan)
            continue
        lines = [json.loads(line) for line in open(os.path.join(run, "metrics.jsonl"))]
        evals = [(line["step"], line["eval"]["miou"]) for line in lines if "eval" in line]
        x, y = zip(*evals)
        step = told["step_then"]
        values.append(np.interp(step, x, y) if x[0] <= step <= x[-1] else np.nan)
    return np.array(values)


def main():
    out = sys.argv[1].rstrip("/")
    told = json.load(open(f"{out}/study.json"))
    if not told["complete"]:
        sys.exit(f"{out}: not complete yet")
    arms = {arm["name"]: arm for arm in told["arms"]}
    for arm in told["arms"]:         # as they lie beneath OUT, wherever the study was started
        arm["runs"] = [os.path.join(out, "teacher" if arm["name"] == "teacher" else f"{arm['name']}/{os.path.basename(run)}") for run in arm["runs"]]
    counts = {}
    for name, arm in arms.items():
        files = [None if why else os.path.join(run, f"counts.{told['split']}.safetensors") for run, why in zip(arm["runs"], arm["failed"])]
        none = np.full((told["images"], len(arm["class_iou"]), 3), np.nan)       # of a run that failed
        counts[name] = np.stack([load_file(f)["counts"] if f else none for f in files])        # seeds x images x K x 3
        score = miou(counts[name].sum(1))
        same(f"{name} miou", score, arm["miou"])
        moments(name, score, arm)
    base = told["time"][0]["arm"]
    m = len(told["differences"])
    rng = np.random.default_rng(1)
    per_image = told["units"] == told["images"]
    for diff in told["differences"]:
        d = miou(counts[diff["arm"]].sum(1)) - miou(counts[base].sum(1))
        same(f"{diff['arm']} by seed", d, diff["by_seed"])
        mean, sd = moments(f"{diff['arm']} - {base}", d, diff)
        n_pairs = np.isfinite(d).sum()
        if n_pairs > 1:
            half = stats.t.ppf(1 - (1 - LEVEL) / m / 2, n_pairs - 1) * sd / np.sqrt(n_pairs)
            same("together", [mean - half, mean + half], diff["interval_together"])
        same("detectable", detectable(n_pairs) * sd, diff["detectable"])
        if per_image and n_pairs:
            n = told["images"]
            draws = np.empty(DRAWS)
            for t in range(DRAWS):
                weight = np.bincount(rng.integers(n, size=n), minlength=n)
                draws[t] = np.nanmean(miou(np.einsum("sikc,i->skc", counts[diff["arm"]], weight)) - miou(np.einsum("sikc,i->skc", counts[base], weight)))
            lo, hi = np.quantile(draws, [0.025, 0.975])
            same("over images", [lo, hi], diff["interval_images"], 0.25 * (hi - lo) + 1e-6)
        by_seed, by_image = (np.array([np.nan if v is None else v for v in diff[k]], float) for k in ("interval", "interval_images"))
        side = lambda x: 1 if x[0] > 0 else -1 if x[1] < 0 else 0
        shown = side(by_seed) if side(by_seed) == side(by_image) else 0
        if diff["shown"] != {1: "ahead", -1: "behind", 0: "not shown"}[shown]:
            sys.exit(f"{diff['arm']}: said to be {diff['shown']}")
    first = at_time(arms[base], told["time"][0])
    for t in told["time"]:
        then = at_time(arms[t["arm"]], t)
        same(f"{t['arm']} then", then, t["miou_then"])
        if t["arm"] != base:
            moments(f"{t['arm']} then", then - first, t)
    print(f"{out}: {len(arms)} arms, {m} differences, {told['images']} images in {told['units']} units; all agree, at worst {worst:.2g} of the tolerance")


if __name__ == "__main__":
    main()
