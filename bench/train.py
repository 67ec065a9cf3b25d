"""fit against a plain Python loop with torch.optim: 16 seeds x 8 rates of a two-layer network, in one process.

    python bench/train.py [--together 1 8 ...] [--widths 32 256 1024] [--device cpu] [--quick]

Every line gives the time of one step of one run, in microseconds, and the ratio loop / fit (above 1: fit is faster).
Set-up and the recording of the first step are left out on both sides, and one chunk of runs stands for all. On a CPU
the clock is processor time, so that other work on the machine counts little; both are measured in turns, the best
stands.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch

from traindyn.compute import generator
from traindyn.learn.models import FCN
from traindyn.learn.train.loop import Stop
from traindyn.learn.train.optim import Rule
from traindyn.learn.train.parallel import Job, Spec, size
from traindyn.learn.train.probes import Probe, weight_distance
from traindyn.learn.train.sampling import Source
from traindyn.learn.train.schedules import plans

SEEDS, RATES, SAMPLES, DIM = range(16), [0.01 * 2**k for k in range(8)], 128, 20


def sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def clock(device: torch.device) -> float:
    """Seconds: of the processor on a CPU, of the wall on an accelerator."""
    sync(device)
    return time.process_time() if device.type == "cpu" else time.perf_counter()


def plain(width: int, X: torch.Tensor, y: torch.Tensor, runs: int, steps: int) -> float:
    """Seconds per step and run of the plain loop."""
    spent = 0.0
    for run in range(runs):
        model = FCN(DIM, width, 2, generator=generator(run, "init")).to(X.device)
        optimiser = torch.optim.SGD(model.parameters(), lr=RATES[run % len(RATES)])
        for step in range(steps + 3):
            if step == 3:
                began = clock(X.device)
            optimiser.zero_grad()
            loss = (model(X) - y).square().mean()
            loss.backward()
            optimiser.step()
        spent += clock(X.device) - began
    return spent / (runs * steps)


def stacked(width: int, X: torch.Tensor, y: torch.Tensor, steps: int, together: int | None, **probes: Probe):
    """Seconds per step and run of fit's loop, and how many runs it trained together."""

    def build(index: int) -> FCN:
        return FCN(DIM, width, 2, generator=generator(index, "init"))

    job = Job(
        build=build, source=Source(X, y, list(SEEDS)), order_seeds=list(SEEDS), loss="mse", rule=Rule.of("sgd"),
        stop=Stop(), probes=probes, steps=steps, batch_size=None, replacement=False, record=10**9,
        dtype=torch.float32, device=X.device, trace=True,
    )  # fmt: skip
    specs = [Spec(seed, seed, plan) for seed in SEEDS for plan in plans(RATES, None)]
    together = together or size(job, specs)
    replace(job, steps=3).loop(specs[:together]).run()  # records the operations that the timed loop replays
    loop = job.loop(specs[:together])
    began = clock(X.device)
    loop.run()
    return (clock(X.device) - began) / (steps * len(loop.seeds)), together


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 256, 1024])
    parser.add_argument("--together", type=int, nargs="+", default=[])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="fewer steps and repetitions")
    args = parser.parse_args()
    device = torch.device(args.device)
    rng = generator(0, "bench")
    X = torch.randn(SAMPLES, DIM, generator=rng).to(device)
    y = torch.randn(SAMPLES, generator=rng).to(device)
    print(f"torch {torch.__version__}, {device}, threads {torch.get_num_threads()}, n={SAMPLES}, d={DIM}, 128 runs")
    print("width  together  loop us  fit us  ratio")
    for width in args.widths:
        steps = max(20, (200 if args.quick else 800) * 32 // width)
        for together in [None, *args.together]:
            loop, own = [], []
            for _ in range(3 if args.quick else 6):
                loop.append(plain(width, X, y, 4, steps))
                own.append(stacked(width, X, y, steps, together))
            best, count = min(own)
            print(
                f"{width:5}  {count:8}  {min(loop) * 1e6:7.1f}  {best * 1e6:6.1f}  {min(loop) / best:5.2f}", flush=True
            )
    probes = {
        "weight distance, every step": {"d": weight_distance()},
        "a function of each run, every 10th step": {"f": Probe(lambda state: {"f": state.loss}, every=10)},
    }
    base = min(stacked(32, X, y, 200, None)[0] for _ in range(5))
    for name, given in probes.items():
        took = min(stacked(32, X, y, 200, None, **given)[0] for _ in range(5))
        print(f"overhead at width 32, {name}: x {took / base:.2f}")


if __name__ == "__main__":
    main()
