"""Holds `retort info FILE` against what PyTorch lists: every name, element type and shape, in its order.

    python tools/compare_info.py FILE.pth ... [PROGRAM]      (default build/retort)

Prints one line a file; exit 1 on a difference.
"""
import subprocess
import sys

import torch


def told(program, path):
    out = subprocess.run([program, "info", path], capture_output=True, text=True, check=True).stdout
    return [tuple(line.split("\t")) for line in out.splitlines() if not line.startswith("#")]


def listed(path):
    state = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model", "net"):
        state = state[key] if isinstance(state.get(key), dict) else state
    return [(k, str(v.dtype).removeprefix("torch."), "x".join(map(str, v.shape)) or "scalar") for k, v in state.items() if torch.is_tensor(v)]


def main():
    files = sys.argv[1:]
    program = files.pop() if files and not files[-1].endswith((".pth", ".pt", ".bin", ".ckpt")) else "build/retort"
    missed = 0
    for path in files:
        ours, theirs = told(program, path), listed(path)
        wrong = [(a, b) for a, b in zip(ours, theirs) if a != b]
        missed += bool(wrong) or len(ours) != len(theirs)
        print(f"{path}: {len(theirs)} tensors, {len(ours)} told, {len(wrong)} differ{': ' + str(wrong[0]) if wrong else ''}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
