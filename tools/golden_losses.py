"""Writes tests/golden/losses.safetensors: values and gradients of the losses, from PyTorch in float64 (torch_losses.py).

    python tools/golden_losses.py      (PyTorch, numpy and safetensors; seconds)

GROUP/student.logits, ... are float32 inputs, GROUP/labels bytes (255 = void); GROUP/METHOD OPTION .../loss and
.../grad.student.logits, ... (gradients that are not 0) what `retort loss METHOD OPTION ...` should give for them. As in parity_losses.py no
probability lies near a threshold. tests/test_loss_golden.c runs every case it finds; no PyTorch is needed there.
"""
import os

import numpy as np
import torch
from safetensors.numpy import save_file

import parity_losses as P
import torch_losses as L

BASE = P.Case("", {}, 5, (3, 4), (25, 34), 2, None, 0.1, ("aux", "aux"), 2.0)
FEW = [("ce", {}), ("ohem", P.LOW), ("kd", {}), ("rdd-tfe", {}), ("rdd-tse", {}), ("rdd-tse", P.LOW)]
COMPAT = [("rdd-tfe", {"compat": "rdd2023"}), ("rdd-tse", {"compat": "rdd2023", "min_kept_count": 90, "theta": 0.1}),
          ("rdd-tse", {"compat": "rdd2023", "min_kept_count": 90, "class_weights": True})]
RDD = [("rdd-tfe", {"tfe": "entropy"}), ("rdd-tse", {"rule": "or", **P.LOW})]
LAYERS = BASE._replace(classes=4, grid=(4, 5), size=(23, 30), channels=(5, 9), heads=(None, None))
TERMS = [(m, o) for m, o in P.TERMS if not m.startswith("skd.ho")]       # its discriminator is too big to keep
VALID = [(m, o) for m, o in TERMS if "mask" in o or m == "ifvd"]
GROUPS = {
    "every": (BASE._replace(classes=11), P.METHODS),
    "cityscapes": (BASE._replace(classes=19, batch=1, grid=(2, 4), size=(23, 30)), FEW + COMPAT),
    "two classes": (BASE._replace(classes=2, grid=(1, 7), size=(9, 50)), FEW + COMPAT[:1]),
    "one column": (BASE._replace(classes=3, grid=(6, 1), size=(40, 7)), FEW[2:]),
    "many classes": (BASE._replace(classes=150, batch=1, grid=(2, 2), size=(14, 17)), FEW[3:5]),
    "shrinking": (BASE._replace(classes=3, grid=(6, 7), size=(4, 5)), FEW),
    "other grid": (BASE._replace(teacher_grid=(7, 4)), FEW[2:] + RDD),
    "nothing labelled": (BASE._replace(classes=3, void=1.0, grid=(2, 3), size=(11, 9)), FEW + RDD),
    "more void than valid": (BASE._replace(void=0.9), FEW[1:] + RDD),
    "student is teacher": (BASE._replace(likeness=0.0), FEW[2:] + RDD),
    "no teacher aux": (BASE._replace(heads=("aux", None)), FEW[4:] + RDD),
    "no student aux": (BASE._replace(heads=(None, "aux")), FEW[1:] + RDD),
    "layers alike": (LAYERS._replace(channels=(6, 6)), TERMS),
    "layers of other channels": (LAYERS, TERMS),
    "layers on another grid": (LAYERS._replace(teacher_grid=(6, 4)), TERMS[::2]),
    "layers, nothing labelled": (LAYERS._replace(void=1.0), VALID),
}


def inputs(base, cases, seed):
    """One set of tensors that every case can use."""
    t = P.make(base, seed)
    while True:
        before = t["labels"].copy()
        for case in cases:
            P.settle(case, t)
        if (t["labels"] == before).all():
            return t


def main():
    torch.set_num_threads(1)
    tensors, count = {}, 0
    for seed, (group, (base, methods)) in enumerate(GROUPS.items()):
        cases = [base._replace(method=m, options=o) for m, o in methods]
        t = inputs(base, cases, seed)
        tensors |= {f"{group}/{n}": v.astype(np.uint8) if n == "labels" else v for n, v in t.items()}
        for case in cases:
            options = P.real_options(case)
            value, grads = L.value_and_gradients(case.method, t, options)
            value, *exact = (np.where(np.abs(v) < 1e-15, 0, v) for v in (value, *grads.values()))    # float64's own rounding
            name = f"{group}/{' '.join([case.method, *P.option_words(case)])}"
            tensors[f"{name}/loss"] = value.astype(np.float32).reshape(1)
            tensors |= {f"{name}/grad.{n}": g.astype(np.float32) for n, g in zip(grads, exact) if g.any() or n == "student.logits"}
            count += 1
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/golden/losses.safetensors")
    save_file({n: np.ascontiguousarray(v) for n, v in tensors.items()}, path)
    print(f"{count} cases, {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    main()
