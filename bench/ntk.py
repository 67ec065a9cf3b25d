"""What the structured tangent kernel costs beside the alternatives: CPU seconds, peak memory, relative difference.

    python bench/ntk.py                      the FCN and the CNN, all routes that are installed
    python bench/ntk.py all                  every case below
    python bench/ntk.py fcn cnn64 --threads 1
    python bench/ntk.py fcn --neural-tangents /path/to/python    (an environment with neural-tangents 0.6.5, jax 0.5.3)

Every number is measured in a process of its own: the best of three after a first call, in CPU seconds of all threads
(steadier than wall time on a busy machine), and the growth of the resident peak. The reference is the plain layerwise
loop where a case has one. `training` is one forward and backward pass of the loss. `unguarded` leaves out the
comparison with a backward pass and the guard around the model, `proving` compares at every call, as for a network that
routes its samples (case `routed`). On a GPU (--device cuda) the
columns are milliseconds of wall time and the allocator's peak.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CASES = {  # name: (model, n)
    "fcn": ("fcn", {"width": 1024}, 128),
    "fcn-wide": ("fcn", {"width": 4096}, 128),
    "fcn-n1024": ("fcn", {"width": 1024}, 1024),
    "cnn64": ("cnn", {"channels": 64}, 64),
    "cnn256": ("cnn", {"channels": 256}, 64),
    "wrn": ("wrn", {"widen": 4}, 32),
    "vit": ("vit", {"dim": 128}, 32),
    "routed": ("routed", {"width": 1024}, 128),
}
GROWTH = {f"fcn-w{width}-n{n}": ("fcn", {"width": width}, n) for width in (256, 512, 1024, 2048) for n in (64, 256)}
ROUTES = ("loop", "structured", "unguarded", "proving", "training", "nngeometry", "jacobian", "neural-tangents")
SLOW = {"jacobian": {"fcn", "cnn64", "vit"}}  # elsewhere it takes minutes or tens of GiB
IMAGE = (3, 32, 32)


def build(kind: str, options: dict, n: int, device: str):
    """The case's network and inputs, from fixed seeds."""
    import torch

    from traindyn.learn import models

    seed = torch.Generator().manual_seed(0)
    model = {
        "fcn": lambda: models.FCN(3072, options["width"], 5, generator=seed),
        "cnn": lambda: models.CNN(IMAGE, options["channels"], 5, readout="mean", generator=seed),
        "wrn": lambda: models.WideResNet(IMAGE, widen=options["widen"], generator=seed),
        "vit": lambda: models.ViT(IMAGE, dim=options["dim"], generator=seed),
        "routed": lambda: sorting(models.FCN(3072, options["width"], 5, generator=seed)),
    }[kind]()
    shape = (n, 3072) if kind in ("fcn", "routed") else (n, *IMAGE)
    return model.to(device), torch.randn(shape, generator=seed).to(device)


def sorting(network):
    """The network on inputs whose features are sorted: an operation that may send samples anywhere."""
    from torch import nn

    class Sorting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x.sort(1).values)

    return Sorting()


def layerwise_loop(model, X):
    """The reference: forward, backward and Gram products of a bias-free ReLU network, written out."""
    import torch

    layers = [module for module in model.layers if hasattr(module, "weight")]
    with torch.no_grad():
        inputs, gates = [X], []
        for layer in layers[:-1]:
            z = inputs[-1] @ layer.weight.T * layer.scale
            gates.append(z > 0)
            inputs.append(z.relu())
        K = X.new_zeros(len(X), len(X))
        signal = X.new_ones(len(X), 1)
        for index in reversed(range(len(layers))):
            layer = layers[index]
            K += (inputs[index] @ inputs[index].T) * (signal @ signal.T) * layer.scale**2
            if index:
                signal = (signal @ layer.weight) * layer.scale * gates[index - 1]
    return K


def plain_torch(model):
    """The same network from torch's own layers, for a library that knows only those (its kernel differs by scales)."""
    import torch
    from torch import nn

    from traindyn.layers import Activation, Conv, Linear

    def convert(module):
        if isinstance(module, Linear):
            layer = nn.Linear(module.weight.shape[1], module.weight.shape[0], bias=module.bias is not None)
        elif isinstance(module, Conv):
            layer = nn.Conv2d(
                module.weight.shape[1],
                module.weight.shape[0],
                module.weight.shape[2:],
                padding=module.padding,
                bias=False,
            )
        else:
            return nn.ReLU() if isinstance(module, Activation) else module
        with torch.no_grad():
            layer.weight.copy_(module.weight * module.scale)
        return layer

    if hasattr(model, "layers"):
        return nn.Sequential(*map(convert, model.layers))
    return nn.Sequential(*map(convert, model.features), nn.AdaptiveAvgPool2d(1), nn.Flatten(), convert(model.readout))


def route(name: str, kind: str, model, X) -> tuple[Callable, Callable]:
    """The computation to be timed, and the kernel that its result is compared with."""
    from traindyn.measure.ntk import empirical_ntk

    if name == "loop":
        return lambda: layerwise_loop(model, X), lambda: empirical_ntk(model, X)
    if name == "structured":
        return lambda: empirical_ntk(model, X), lambda: None
    if name == "unguarded":
        import contextlib

        from traindyn.measure.ntk import empirical, passes

        passes.Pass._prove = lambda self, *rest: None
        empirical.undisturbed = lambda model: contextlib.nullcontext()
        return lambda: empirical_ntk(model, X), lambda: None
    if name == "proving":
        from traindyn.measure.ntk.plan import plan_for

        wanted = dict(model.named_parameters())

        def forgetful():
            plan_for(model, X, wanted).proved.clear()
            return empirical_ntk(model, X)

        return forgetful, lambda: None
    if name == "jacobian":
        return lambda: empirical_ntk(model, X, method="jacobian"), lambda: empirical_ntk(model, X)
    if name == "training":

        def step():
            model.zero_grad()
            model(X).square().mean().backward()

        return step, lambda: None
    if name == "nngeometry":
        from nngeometry.gram import GramMatrix
        from torch.utils.data import DataLoader, TensorDataset

        model = plain_torch(model).to(X.device)
        loader = DataLoader(TensorDataset(X, X.new_zeros(len(X))), batch_size=len(X))
        return (
            lambda: GramMatrix(model, loader, function=lambda x, _: model(x)).to_torch()[0, :, 0],
            lambda: empirical_ntk(model, X),
        )
    raise SystemExit(f"no route {name}")


def measure(kind: str, options: dict, n: int, name: str, device: str) -> dict:
    """Best of three calls in this process."""
    import torch

    model, X = build(kind, options, n, device)
    run, reference = route(name, kind, model, X)
    cuda = device.startswith("cuda")

    def peak() -> float:
        if cuda:
            return torch.cuda.max_memory_allocated() / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def clock() -> float:
        if cuda:
            torch.cuda.synchronize()
            return time.perf_counter() * 1000
        return time.process_time()

    base, times = peak(), []
    K = run()
    for _ in range(3):
        start = clock()
        K = run()
        times.append(clock() - start)
    memory = peak() - base
    other = reference()
    difference = None if other is None else ((K - other).abs().max() / other.abs().max()).item()
    return {"cost": min(times), "memory": memory, "difference": difference}


NEURAL_TANGENTS = """
import json, resource, sys, time
import jax, neural_tangents as nt
from jax import numpy as jnp
import jax._src.source_info_util as info
jax.interpreters.ad.source_info_util, jax.interpreters.ad.config = info, jax.config  # where older versions had them
from neural_tangents import stax
kind, options, n = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
if kind == "fcn":
    layers = [stax.Dense(options["width"], b_std=None), stax.Relu()] * 4 + [stax.Dense(1, b_std=None)]
    shape = (n, 3072)
else:
    conv = stax.Conv(options["channels"], (3, 3), padding="SAME", b_std=None)
    layers = [conv, stax.Relu()] * 4 + [stax.GlobalAvgPool(), stax.Dense(1, b_std=None)]
    shape = (n, 32, 32, 3)
init, apply, _ = stax.serial(*layers)
_, weights = init(jax.random.PRNGKey(0), shape)
x = jax.random.normal(jax.random.PRNGKey(1), shape)
kernel = jax.jit(nt.empirical_ntk_fn(apply, trace_axes=(-1,), vmap_axes=0, implementation=3))
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
kernel(x, None, weights).block_until_ready()
times = []
for _ in range(3):
    start = time.process_time()
    kernel(x, None, weights).block_until_ready()
    times.append(time.process_time() - start)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - base
print(json.dumps({"cost": min(times), "memory": peak, "difference": None}))
"""


def spawn(case: str, name: str, arguments: argparse.Namespace) -> dict | str:
    """Measure one route in its own process; a line of text says why there is no number."""
    kind, options, n = (CASES | GROWTH)[case]
    threads = str(arguments.threads)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
    if name == "neural-tangents":
        flags = f"--xla_cpu_multi_thread_eigen={'false' if arguments.threads == 1 else 'true'}"
        environment |= {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        command = [arguments.neural_tangents, "-c", NEURAL_TANGENTS, kind, json.dumps(options), str(n)]
    else:
        command = [sys.executable, __file__, "--one", case, name, "--device", arguments.device]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["killed"])[-1][:90]
    return json.loads(done.stdout.strip().splitlines()[-1])


def applies(case: str, name: str, arguments: argparse.Namespace) -> bool:
    kind = (CASES | GROWTH)[case][0]
    if case in GROWTH:
        return name in ("loop", "structured", "training")
    return {
        "loop": kind == "fcn",
        "nngeometry": kind in ("fcn", "cnn"),
        "jacobian": case in SLOW["jacobian"],
        "neural-tangents": bool(arguments.neural_tangents) and kind in ("fcn", "cnn"),
    }.get(name, True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=["fcn", "cnn64"], help=f"all, growth, or: {', '.join(CASES)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--neural-tangents", metavar="PYTHON", help="interpreter that has neural-tangents")
    parser.add_argument("--one", nargs=2, metavar=("CASE", "ROUTE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        case, name = arguments.one
        print(json.dumps(measure(*(CASES | GROWTH)[case], name, arguments.device)))
        return
    chosen = [c for case in arguments.cases for c in {"all": [*CASES, *GROWTH], "growth": [*GROWTH]}.get(case, [case])]
    unit = "CPU s" if arguments.device == "cpu" else "ms"
    print(f"{'case':16} {'route':16} {unit:>9} {'ratio':>7} {'MiB':>7}  difference   (ratio: to structured)")
    for case in chosen:
        if case not in CASES | GROWTH:
            raise SystemExit(f"unknown case '{case}'; known: all, growth, {', '.join(CASES)}")
        results = {name: spawn(case, name, arguments) for name in ROUTES if applies(case, name, arguments)}
        ours = results["structured"]
        for name, result in results.items():
            if isinstance(result, str):
                print(f"{case:16} {name:16} {result}")
                continue
            ratio = result["cost"] / ours["cost"] if isinstance(ours, dict) else float("nan")
            difference = "" if result["difference"] is None else f"{result['difference']:.1e}"
            print(
                f"{case:16} {name:16} {result['cost']:9.4f} {ratio:7.2f} {result['memory']:7.0f}  {difference}",
                flush=True,
            )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
    main()
