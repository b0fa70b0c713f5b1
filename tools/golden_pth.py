"""Small PyTorch files of every kind that readers meet -> tests/golden/pth/*.pth, and what is in them, row-major,
under FILE/NAME in tests/golden/pth/expected.safetensors.

Run: python tools/golden_pth.py            writes the files
     python tools/golden_pth.py FILE.pth   prints what tests/test_pth.c has of a published file: number of tensors,
                                           FNV-1a of their listing, sum of all elements and of their magnitudes
"""
import argparse
import collections
import datetime
import functools
import inspect
import io
import os
import pathlib
import pickle
import sys
import zipfile

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

torch.manual_seed(5)
torch.set_num_threads(1)
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden", "pth")
expected = {}


def save(name, obj, tensors, **options):
    torch.save(obj, os.path.join(HERE, name), **options)
    expect(name, tensors)


def expect(name, tensors):
    for key, t in tensors.items():
        expected[f"{name}/{key}"] = t.detach().clone(memory_format=torch.contiguous_format)


def every_kind():
    """Each element type; views with strides, offsets and shared storages; nothing, a scalar, a count."""
    base = torch.arange(60, dtype=torch.float32).reshape(5, 12) / 8
    tied = torch.randn(3, 4)
    d = collections.OrderedDict()
    d["conv.weight"] = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    d["bn.num_batches_tracked"] = torch.tensor(1234567890123)
    d["rows"], d["columns"], d["every.third"] = base[2:4], base.t()[1:3], base[:, ::3]
    d["tied.a"], d["tied.b"] = tied, tied
    d["expanded"] = torch.tensor([[7.0]]).expand(2, 3)
    d["scalar"], d["empty"] = torch.tensor(2.5), torch.zeros(3, 0)
    d["half"], d["bfloat"] = torch.randn(5).half(), torch.randn(5).bfloat16()
    d["double"] = torch.randn(3, dtype=torch.float64)
    for dtype in (torch.int32, torch.int64, torch.uint8, torch.int8):
        d[str(dtype)[6:]] = torch.tensor([1, 2, 100], dtype=dtype)
    d["bool"] = torch.tensor([True, False, True])
    d["n\u00e4me"] = torch.ones(1)
    return d


class Config(argparse.Namespace):
    pass


class History:                                       # as mmengine keeps its losses
    def __init__(self):
        self.values, self.counts, self.window = np.arange(3.0), np.ones(3, dtype=np.int64), collections.deque([1.5, 2.5])


def checkpoint(state):
    """What training programs put beside the weights: none of it may matter."""
    net = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return {
        "epoch": 12, "best": float("inf"), "big": 2 ** 70, "config": Config(lr=0.1, path=pathlib.PurePosixPath("a/b"), args=["x"]),
        "history": History(), "hooks": functools.partial(int, "7"), "when": datetime.datetime(2020, 2, 3), "groups": {1, 2, 3},
        "frozen": frozenset(["a"]), "defaults": collections.defaultdict(list, {"a": [1]}), "number": np.float64(0.25), "size": torch.Size([2, 3]),
        "optimizer": optimizer.state_dict(), "state_dict": state, "rng": torch.get_rng_state()[:16], "device": torch.device("cuda", 1), "type": torch.float16,
    }


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3), nn.ReLU())
        self.body = nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Sequential()})
        self.scale = nn.Parameter(torch.randn(2))
        self.register_buffer("kept", torch.arange(3))
        self.register_buffer("dropped", torch.arange(4), persistent=False)
        self.unused = None


# ---- files by hand: what old programs wrote -------------------------------------------------------
class OldPickler(pickle._Pickler):
    """Stands in for tensors as torch 0.3 wrote them: _rebuild_tensor over a view of a storage on a GPU."""

    def __init__(self, file, storages):
        super().__init__(file, protocol=2)
        self.storages = storages

    def persistent_id(self, obj):
        if not isinstance(obj, tuple) or not obj or obj[0] != "storage!":
            return None
        _, key, part = obj
        return ("storage", torch.DoubleStorage, key, "cuda:1", len(self.storages[key]), part)


class OldTensor:
    def __init__(self, *args):
        self.args = args

    def __reduce__(self):
        return torch._utils._rebuild_tensor, self.args


def old_stream():
    storages = {"94": [0.5 * i for i in range(10)], "7": [-1.0, 2.0]}
    whole, part = ("storage!", "94", None), ("storage!", "94", ("95", 4, 6))
    state = collections.OrderedDict([("module.a", OldTensor(whole, 1, (2, 2), (3, 1))), ("module.b", OldTensor(part, 1, (2, 2), (1, 2))),
                                     ("module.c", OldTensor(("storage!", "7", None), 0, (2,), (1,)))])
    f = io.BytesIO()
    for obj in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}):
        pickle.dump(obj, f, protocol=2)
    OldPickler(f, storages).dump({"epoch": 3, "model": state})
    pickle.dump(sorted(storages), f, protocol=2)
    for key in sorted(storages):
        f.write(len(storages[key]).to_bytes(8, "little") + np.array(storages[key]).tobytes())
    with open(os.path.join(HERE, "old.pth"), "wb") as out:
        out.write(f.getvalue())
    s = torch.tensor(storages["94"], dtype=torch.float64)
    expect("old.pth", {"module.a": s.as_strided((2, 2), (3, 1), 1), "module.b": s.as_strided((2, 2), (1, 2), 5),
                       "module.c": torch.tensor(storages["7"], dtype=torch.float64)})


def plain_values():
    """The same values in each protocol: tests/test_pickle.c knows how they must print."""
    shared = [1, (2, -3)]
    values = {"none": None, "yes": True, "no": False, "ints": [0, 255, 65535, -1, 2 ** 31 - 1, -2 ** 31, 2 ** 62, -2 ** 63], "float": [0.5, -1e300, float("inf")], "text": "a\tb 'q'", "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
              "twice": [shared, shared], "global": collections.OrderedDict, "object": collections.OrderedDict([("k", 1)]), 7: {}}
    for protocol in range(6):
        if protocol >= 2:
            values["wide"] = 2 ** 64
        with open(os.path.join(HERE, f"values{protocol}.pkl"), "wb") as f:
            pickle.dump(values, f, protocol=protocol)


def main():
    os.makedirs(HERE, exist_ok=True)
    plain_values()
    d, old = every_kind(), {"_use_new_zipfile_serialization": False}
    save("zip.pth", d, d)
    save("stream.pth", d, d, **old)
    save("protocol5.pth", {"net": d}, d, pickle_protocol=5)
    save("stream4.pth", {"net": d}, d, pickle_protocol=4, **old)
    few = {k: d[k] for k in ("conv.weight", "rows", "columns", "half")}
    wrapped = {f"module.{k}": v for k, v in few.items()}
    save("checkpoint.pth", checkpoint(wrapped), wrapped)
    save("checkpoint_stream.pth", checkpoint(wrapped), wrapped, **old)
    net = Net()
    inspect.getsourcelines = inspect.getsourcefile = None    # torch would put the source of its classes into the stream
    save("module.pth", {"epoch": 1, "model": net}, net.state_dict())
    save("module_stream.pth", net, net.state_dict(), **old)
    save("list.pth", [few["rows"], {"inner": [few["half"]]}], {"0": few["rows"], "1.inner.0": few["half"]})
    save("tensor.pth", few["rows"], {"tensor": few["rows"]})
    save("left_out.pth", {"a": few["rows"], "b": torch.zeros(2, dtype=torch.int16), "c": torch.zeros(2, dtype=torch.uint16), "d": torch.zeros([1] * 7)},
         {"a": few["rows"]})
    torch.save({"none": 1}, os.path.join(HERE, "no_tensors.pth"))
    program = os.path.join(HERE, "torchscript.pth")          # what tells one apart: it has constants
    torch.save(d, program)
    with zipfile.ZipFile(program, "a") as z:
        z.writestr("torchscript/constants.pkl", pickle.dumps((), protocol=2))
    old_stream()
    save_file(expected, os.path.join(HERE, "expected.safetensors"))


def summary(path):
    state, h = torch.load(path, map_location="cpu", weights_only=True), 0xCBF29CE484222325
    for key, t in state.items():
        for byte in f"{key}\t{str(t.dtype)[6:]}\t{'x'.join(map(str, t.shape)) or 'scalar'}\n".encode():
            h = (h ^ byte) * 0x100000001B3 % 2 ** 64
    values = torch.cat([t.double().flatten() for t in state.values()])
    print(f'{{"{os.path.basename(path)}", {len(state)}, 0x{h:016x}, {values.sum().item():.12g}, {values.abs().sum().item():.12g}}},')


if __name__ == "__main__":
    for name in sys.argv[1:]:
        summary(name)
    if len(sys.argv) == 1:
        main()
