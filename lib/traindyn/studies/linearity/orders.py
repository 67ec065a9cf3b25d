r"""How a Hessian's norm falls with the width: one log-log slope per seed and kind of network (Theorems 2.3.6, 2.3.8).

Norms are Lanczos values at the points examined, so a largest norm over a ball is bounded from below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import normal
from traindyn.evidence import table
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.linearity import nets as make
from traindyn.studies.linearity.curvature import Curvature
from traindyn.studies.linearity.nets import Nets


def frame(seeds: Sequence[int], widths: Sequence[int], study: Callable[[int], dict[str, Tensor]]) -> pd.DataFrame:
    """Return a tidy table of a study over widths: seed, width, and its columns (one number per seed)."""
    parts = []
    for width in widths:
        columns = {name: column.detach().cpu().numpy() for name, column in study(width).items()}
        parts.append(pd.DataFrame({"seed": list(seeds), "width": width, **columns}))
    return pd.concat(parts, ignore_index=True)


def slopes(
    found: pd.DataFrame, cases: Sequence[str] = (), y: str = "norm", x: str = "width", name: str = "slope"
) -> pd.DataFrame:
    """Return one least-squares log-log slope per seed and case as evidence.

    Widths at which y vanishes in a seed make that slope NaN.
    """
    rows = []
    groups: Iterable = found.groupby(list(cases), sort=False) if cases else [((), found)]
    for key, group in groups:
        fitted = loglog_slope(group[x], group[y], by=group["seed"])
        rows += [
            {"seed": seed, **dict(zip(cases, key, strict=True)), name: slope} for seed, slope in fitted.value.items()
        ]
    return table(pd.DataFrame(rows), list(cases))


def random_directions(nets: Nets, seeds: Sequence[int], purpose: str = "sphere") -> list[Tensor]:
    """Return unit vectors of weights, uniform on the sphere of existing edges: one tensor (s, m, k) per layer."""
    steps = [
        normal(seeds, f"{purpose}-{i}", *layer.weight.shape[1:]).to(layer.weight)
        * (1.0 if layer.mask is None else layer.mask)
        for i, layer in enumerate(nets.layers)
    ]
    length = sum(step.square().sum((1, 2)) for step in steps).sqrt()
    return [step / length[:, None, None] for step in steps]


def at_radii(nets: Nets, x: Tensor, seeds: Sequence[int], radii: Sequence[float]) -> dict[str, Tensor]:
    """Return the largest norm found at each radius: at w_0 +- R v (v the top eigenvector at w_0) and at a random point.

    Also the norm at w_0 and the residual of its Lanczos value.
    """
    centre = Curvature(nets, x)
    at = centre.norm(seeds)
    found = {"norm 0": at.value, "residual": at.residual}
    worst, chance = centre.direction(at.vector), random_directions(nets, seeds)
    for radius in radii:
        if radius > 0:
            points = [nets.moved(worst, radius), nets.moved(worst, -radius), nets.moved(chance, radius)]
            norms = torch.stack([Curvature(point, x).norm(seeds).value for point in points])
            found[f"norm {radius:g}"] = norms.amax(0)
            found[f"random {radius:g}"] = norms[2]
    return found


def hessian_norm(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Norms over widths for FCN and half-dropped DenseNet at all radii, and at w_0 for the same nets with tanh output.

    Returns:
        Tidy: seed, width, net ("fcn", "half"), norm 0, norm R, random R, residual, `bent 0` (tanh output; the largest
        over several inputs, since one with an output near 0 sees no curvature there).
    """
    X = make.inputs(seeds, size.inputs, size.points)
    x = X[:, 0]
    kinds = {
        "fcn": lambda m: make.fcn(seeds, size.inputs, [m, m]),
        "half": lambda m: make.densenet(seeds, size.inputs, m),
    }

    def study(kind: str, width: int) -> dict[str, Tensor]:
        nets = kinds[kind](width)
        bent = [Curvature(replace(nets, output="tanh"), X[:, i]).norm(seeds).value for i in range(size.points)]
        return {**at_radii(nets, x, seeds, size.radii), "bent 0": torch.stack(bent).amax(0)}

    parts = [frame(seeds, size.widths, lambda m, kind=kind: study(kind, m)).assign(net=kind) for kind in kinds]
    return pd.concat(parts, ignore_index=True)


def hessian_slopes(found: pd.DataFrame, radii: Sequence[float]) -> pd.DataFrame:
    """Return the slopes of `hessian_norm` per seed, net and radius, beside that of the tanh output at w_0."""
    columns = []
    bent = slopes(found, ["net"], "bent 0", name="bent")
    for radius in radii:
        part = slopes(found, ["net"], f"norm {radius:g}").join(bent)
        columns.append(part.assign(radius=float(radius)).set_index("radius", append=True))
    joined = pd.concat(columns)
    return joined.reset_index().pipe(table, ["net", "radius"])


def simple(seeds: Sequence[int], size: SimpleNamespace, build: Callable[[int], Nets]) -> pd.DataFrame:
    """Return norm and residual at w_0 over widths for one family of networks."""
    x = make.inputs(seeds, size.inputs)[:, 0]

    def study(width: int) -> dict[str, Tensor]:
        found = Curvature(build(width), x).norm(seeds)
        return {"norm": found.value, "residual": found.residual}

    return frame(seeds, size.widths, study)


def spread(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Norms of networks with hidden layers (m, m^2) and (m^2, m)."""
    shapes = {"up": lambda m: [m, m * m], "down": lambda m: [m * m, m]}
    parts = [
        simple(seeds, size, lambda m, shape=shape: make.fcn(seeds, size.inputs, shape(m))).assign(order=name)
        for name, shape in shapes.items()
    ]
    return pd.concat(parts, ignore_index=True)


def skips(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Norms of residual networks (A.12): every hidden neuron adds a neuron of the layer before."""
    hidden = size.depth - 1
    return simple(seeds, size, lambda m: make.fcn(seeds, size.inputs, [m] * hidden, skip=True))


def preactivations(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Largest norm over some pre-activations of layers 1 and 2 of a fully connected network."""
    x = make.inputs(seeds, size.inputs)[:, 0]

    def study(width: int) -> dict[str, Tensor]:
        nets = make.fcn(seeds, size.inputs, [width, width])
        found = {}
        for depth in (1, 2):
            norms = [Curvature(make.below(nets, depth, [k]), x).norm(seeds).value for k in range(size.neurons)]
            found[f"layer {depth}"] = torch.stack(norms).amax(0)
        return found

    return frame(seeds, size.widths, study)


def bottlenecks(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Norms with b bottleneck neurons of in-degree 1 among m: b = 2, sqrt m, m/2, m; shared and distinct parents."""
    counts = {"two": lambda m: 2, "sqrt": lambda m: round(m**0.5), "half": lambda m: m // 2, "all": lambda m: m}
    parts = []
    for parents, shared in (("shared", True), ("distinct", False)):
        for name, count in counts.items():
            part = simple(seeds, size, lambda m, c=count, s=shared: make.bottlenecked(seeds, size.inputs, m, c(m), s))
            parts.append(part.assign(b=name, parents=parents))
    return pd.concat(parts, ignore_index=True)


def narrow(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Norms of networks with a narrow layer, without and with connections around it (App. A.6)."""
    parts = [
        simple(seeds, size, lambda m, b=bridge: make.narrow(seeds, size.inputs, m, size.waist, b)).assign(net=name)
        for name, bridge in (("narrow", False), ("bridged", True))
    ]
    return pd.concat(parts, ignore_index=True)


def nonlinear_output(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Largest norm over several inputs, with linear and with tanh output, same networks."""
    X = make.inputs(seeds, size.inputs, size.points)

    def study(width: int) -> dict[str, Tensor]:
        nets = make.densenet(seeds, size.inputs, width)
        found = {}
        for output in ("linear", "tanh"):
            these = replace(nets, output=output)
            norms = [Curvature(these, X[:, i]).norm(seeds).value for i in range(size.points)]
            found[output] = torch.stack(norms).amax(0)
        return found

    return frame(seeds, size.widths, study)


def several_outputs(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Norm of the Hessian tensor of d_L outputs by alternating maximisation over s and v (u = v), App. A.3.

    Returns:
        Tidy: seed, width, norm (the tensor's), largest (max_k |H_k|), over = norm / largest.
    """
    x = make.inputs(seeds, size.inputs)[:, 0]

    def study(width: int) -> dict[str, Tensor]:
        nets = make.fcn(seeds, size.inputs, [width, width], outputs=size.outputs)
        single = []
        best = torch.zeros(len(seeds), dtype=torch.float64)
        for k in range(size.outputs):
            weights = torch.eye(size.outputs, dtype=torch.float64)[k].expand(len(seeds), -1)
            single.append(Curvature(nets, x, weights).norm(seeds).value)
            value = single[-1]
            for _ in range(size.rounds):
                curved = Curvature(nets, x, weights)
                top = curved.norm(seeds)
                value = torch.maximum(value, top.value)
                bends = second_derivative(nets, x, curved.direction(top.vector))
                weights = bends / bends.norm(dim=1, keepdim=True)
            best = torch.maximum(best, value)
        largest = torch.stack(single).amax(0)
        return {"norm": best, "largest": largest, "over": best / largest}

    return frame(seeds, size.widths, study)


def jet(nets: Nets, x: Tensor, direction: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs, first and second derivative along a direction of weights, each (s, outputs)."""
    value = x.expand(nets.layers[0].weight.shape[0], -1)
    first, second = torch.zeros_like(value), torch.zeros_like(value)
    for depth, (layer, step) in enumerate(zip(nets.layers, direction, strict=True)):
        a, da, dda = (part[:, layer.reads, None] for part in (value, first, second))
        z = (layer.weight @ a)[..., 0] * layer.scale
        dz = (layer.weight @ da + step @ a)[..., 0] * layer.scale
        ddz = (layer.weight @ dda + 2 * (step @ da))[..., 0] * layer.scale
        last = depth + 1 == len(nets.layers)
        f, slope, bend = make.CURVES[nets.output if last else nets.activation](z)
        f, df, ddf = f, slope * dz, slope * ddz + bend * dz**2
        if layer.skip is not None:
            f, df, ddf = f + value[:, layer.skip], df + first[:, layer.skip], ddf + second[:, layer.skip]
        if last:
            return f, df, ddf
        value, first, second = (torch.cat(pair, 1) for pair in ((value, f), (first, df), (second, ddf)))
    raise AssertionError("networks have at least one layer")


def second_derivative(nets: Nets, x: Tensor, direction: Sequence[Tensor]) -> Tensor:
    """Return v^T H_k v for every output k, (s, outputs)."""
    return jet(nets, x, direction)[2]


def remainder(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    r"""|f - f_lin| on spheres around w_0: along +- the top eigenvector of the Hessian, and in random directions.

    Returns:
        Tidy: seed, width, `worst R`, `random R`, and at the first radius `identity`: the relative difference between
        f - f_lin and R^2 int_0^1 (1 - t) v^T H(w_0 + t R v) v dt by Gauss-Legendre quadrature.
    """
    x = make.inputs(seeds, size.inputs)[:, 0]
    nodes, weights = _legendre(size.nodes)

    def study(width: int) -> dict[str, Tensor]:
        nets = make.densenet(seeds, size.inputs, width)
        curved = Curvature(nets, x)
        worst = curved.direction(curved.norm(seeds).vector)
        found = {}
        for radius in size.radii:
            for name, direction in (("worst", worst), ("random", random_directions(nets, seeds))):
                start, slope, _ = jet(nets, x, direction)
                ends = [nets.moved(direction, sign * radius).values(x[:, None])[:, 0] for sign in (1, -1)]
                gaps = [f - start - sign * radius * slope for f, sign in zip(ends, (1, -1), strict=True)]
                found[f"{name} {radius:g}"] = torch.maximum(gaps[0].abs(), gaps[1].abs())[:, 0]
                if name == "worst" and radius == size.radii[0]:
                    bends = [second_derivative(nets.moved(direction, t * radius), x, direction) for t in nodes]
                    whole = radius**2 * sum(
                        w * (1 - t) * bend for t, w, bend in zip(nodes, weights, bends, strict=True)
                    )
                    found["identity"] = ((whole - gaps[0]).abs() / gaps[0].abs())[:, 0]
        return found

    return frame(seeds, size.widths, study)


def _legendre(count: int) -> tuple[list[float], list[float]]:
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(count)
    return ((nodes + 1) / 2).tolist(), (weights / 2).tolist()


def log_factor(width: float, radius: float, power: int) -> float:
    """Return (log m + R)^power, the logarithms that the theorems allow."""
    return (math.log(width) + radius) ** power
