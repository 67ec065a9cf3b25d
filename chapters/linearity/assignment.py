"""What students do not see of the assignment: hidden inputs, what they should give, and the claim's criterion.

Expected results come from networkx, from automatic differentiation or from the definition, never from the model
solutions, which are checked by them. Tolerances: all of it is float64 and right to 1e-10; 1e-6 costs nobody a point.
"""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import torch

from traindyn.run.course.compare import close, finite_number
from traindyn.run.course.questions import NotAllowed, Part, Question, Rubric, Spec, Study

# ---- graphs


def drawn(rng, kind):
    """Return the edges of a random graph in random order: a layered one, or one with edges that skip layers."""
    sizes = [int(size) for size in rng.integers(2, 5, rng.integers(3, 5))]
    names = rng.permutation(sum(sizes)) if kind == "named" else np.arange(sum(sizes))
    layers, first = [], 0
    for size in sizes:
        layers.append([int(name) for name in names[first : first + size]])
        first += size
    edges = []
    for k in range(1, len(layers)):
        for v in layers[k]:
            before = layers[k - 1] if kind == "layered" else [u for layer in layers[:k] for u in layer]
            kept = [u for u in before if kind == "layered" or rng.random() < 0.6]
            edges += [[u, v] for u in kept or before[-1:]]
    return [edges[i] for i in rng.permutation(len(edges))]


def graphs(kind):
    return lambda rng, variant: [{"edges": drawn(rng, kind)} for _ in range(3)]


def by_networkx(arguments, variant):
    graph = nx.DiGraph([tuple(edge) for edge in arguments["edges"]])
    layer = {}
    for node in nx.topological_sort(graph):
        layer[node] = 1 + max((layer[u] for u in graph.predecessors(node)), default=-1)
    deep = [graph.in_degree(node) for node, at in layer.items() if at >= 2]
    return [{str(node): at for node, at in layer.items()}, min(deep, default=0)]


def both(result):
    return result if isinstance(result, list) and len(result) == 2 and isinstance(result[0], dict) else None


def same_layers(result, expected):
    if both(result) is None:
        return "expected a mapping from neuron to layer, and the width"
    wrong = [node for node, at in expected[0].items() if finite_number(result[0].get(node)) != at]
    return f"{len(wrong)} of {len(expected[0])} neurons are in another layer" if wrong else None


def same_width(result, expected):
    if both(result) is None:
        return "expected a mapping from neuron to layer, and the width"
    return None if finite_number(result[1]) == expected[1] else "not the width"


def some_without(rng, variant):
    """Also a graph that has no neuron beyond the first layer."""
    return [{"edges": [[0, 2], [1, 2], [0, 3]]}, *graphs("named")(rng, variant)]


LAYERS = Question(
    "layers",
    (
        Part("layered", 1, "the layers of a network with layers", graphs("layered"), by_networkx, same_layers),
        Part("skips", 2, "the layers where edges skip layers", graphs("named"), by_networkx, same_layers),
        Part("width", 2, "the width", some_without, by_networkx, same_width),
    ),
)


# ---- 2. evaluation


def weighted(kind):
    def inputs(rng, variant):
        found = []
        for _ in range(3):
            edges = drawn(rng, kind)
            sources = {u for u, _ in edges} - {v for _, v in edges}
            found.append({"edges": edges, "w": rng.standard_normal(len(edges)), "x": rng.standard_normal(len(sources))})
        return found

    return inputs


def by_matrices(arguments, variant):
    """Iterate all neurons at once, as often as the longest path has edges."""
    edges, w, x = arguments["edges"], arguments["w"], arguments["x"]
    names = sorted({node for edge in edges for node in edge})
    place, n = {name: k for k, name in enumerate(names)}, len(names)
    A = np.zeros((n, n))
    for (u, v), weight in zip(edges, w, strict=True):
        A[place[v], place[u]] = weight
    degree = (A != 0).sum(1)
    inputs, outputs = degree == 0, (A != 0).sum(0) == 0
    values = np.zeros(n)
    values[inputs] = x
    for _ in range(n):
        total = A @ values / np.sqrt(np.maximum(degree, 1))
        values = np.where(inputs, values, np.where(outputs, total, np.tanh(total)))
    return values[outputs]


EVALUATE = Question(
    "evaluate",
    (
        Part("layered", 2, "a network with layers", weighted("layered"), by_matrices, close(1e-6)),
        Part("skips", 2, "edges that skip layers, names in any order", weighted("named"), by_matrices, close(1e-6)),
    ),
)


# ---- 3. the Hessian


def nets(*sizes):
    def inputs(rng, variant):
        return [
            {
                "W": rng.standard_normal((m, d)),
                "v": rng.standard_normal(m),
                "x": rng.uniform(0.3, 2) * rng.standard_normal(d),
            }
            for m, d in sizes
        ]

    return inputs


def by_autograd(arguments, variant):
    W, v, x = (torch.from_numpy(arguments[name]) for name in ("W", "v", "x"))
    m, d = W.shape

    def f(w):
        return w[m * d :] @ torch.tanh(w[: m * d].reshape(m, d) @ x / math.sqrt(d)) / math.sqrt(m)

    H = torch.autograd.functional.hessian(f, torch.cat([W.flatten(), v]))
    return torch.linalg.matrix_norm(H, 2).item()


def neuron_by_neuron(arguments, variant):
    """The largest norm among the neurons' own blocks, each by its d + 1 weights."""
    W, v, x = arguments["W"], arguments["v"], arguments["x"]
    m, d = W.shape
    t = np.tanh(W @ x / math.sqrt(d))
    blocks = np.zeros((m, d + 1, d + 1))
    blocks[:, :d, :d] = (v * -2 * t * (1 - t**2))[:, None, None] * np.outer(x, x) / d
    blocks[:, :d, d] = blocks[:, d, :d] = (1 - t**2)[:, None] * x / math.sqrt(d)
    return np.abs(np.linalg.eigvalsh(blocks)).max() / math.sqrt(m)


HESSIAN = Question(
    "hessian_norm",
    (
        Part("one", 1, "one neuron", nets((1, 2), (1, 4)), by_autograd, close(1e-6)),
        Part("several", 2, "several neurons", nets((5, 3), (20, 2)), by_autograd, close(1e-6)),
        Part("many", 2, "200 000 neurons", nets((200_000, 3)), neuron_by_neuron, close(1e-6)),
    ),
    seconds=12,
)


# ---- 4. kernels that move


def histories(symmetric, turns):
    def inputs(rng, variant):
        found = []
        for n in (3, 6):
            widths = [32, 64, 128, 512]
            runs = []
            for m in widths:
                root = rng.standard_normal((n, n))
                start, step = root @ root.T, rng.standard_normal((n, n))
                step = step + step.T if symmetric else step
                course = [0, 0.3, 1.0, 0.4] if turns else [0, 0.3, 0.6, 1.0]
                runs.append([start + at * step / math.sqrt(m) for at in course])
            found.append({"kernels": np.array(runs), "widths": widths})
        return found

    return inputs


def by_singular_values(arguments, variant):
    kernels, widths = arguments["kernels"], np.array(arguments["widths"], dtype=float)
    norms = np.linalg.svd(kernels - kernels[:, :1], compute_uv=False)[..., 0].max(1)
    change = norms / np.linalg.svd(kernels[:, 0], compute_uv=False)[:, 0]
    x, y = np.log(widths), np.log(change)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return [change, float(slope)]


def changes(result, expected):
    return close(1e-6)(result[0] if isinstance(result, list) and len(result) == 2 else None, expected[0])


def both_right(result, expected):
    return changes(result, expected) or close(1e-5)(finite_number(result[1]), expected[1])


MOVED = Question(
    "moved",
    (
        Part("largest", 2, "the largest change, also where it is not the last", histories(True, True),
             by_singular_values, changes),
        Part("slope", 1, "and the slope", histories(True, False), by_singular_values, both_right),
        Part("not symmetric", 1, "kernels that are not symmetric", histories(False, False), by_singular_values,
             changes),
    ),
)  # fmt: skip


# ---- 5. the claim


def measured(seed, m, scale, d=5):
    """Both norms from the full Hessians, by automatic differentiation in the directions that matter."""
    draw = np.random.default_rng([seed, m])
    W, v, x = draw.standard_normal((m, d)), draw.standard_normal(m), draw.standard_normal(d)
    x = scale * math.sqrt(d) * x / np.linalg.norm(x)
    z, a = torch.from_numpy(W @ x / math.sqrt(d)), float(np.linalg.norm(x) / math.sqrt(d))
    free = torch.cat([torch.zeros(m, dtype=torch.float64), torch.from_numpy(v)])

    def f(s):  # shifts of the weights along x/|x|, and the outer weights
        return s[m:] @ torch.tanh(z + a * s[:m]) / math.sqrt(m)

    (value, slope), H = torch.autograd.functional.vjp(f, free), torch.autograd.functional.hessian(f, free)
    out = torch.tanh(value)
    bent = (1 - out**2) * H - 2 * out * (1 - out**2) * torch.outer(slope, slope)
    return [torch.linalg.eigvalsh(matrix).abs().max().item() for matrix in (H, bent)]


def norms_again(row, seed, variant):
    narrow, wide = row.get("narrow"), row.get("wide")
    if narrow is None or wide is None or narrow != int(narrow) or wide != int(wide) or not 4 <= narrow < wide <= 300:
        raise NotAllowed("'narrow' and 'wide' are not two whole numbers from 4 to 300, the first one smaller")
    (low, low_out), (high, high_out) = (measured(seed, int(m), variant["scale"]) for m in (narrow, wide))
    octaves = math.log(wide / narrow)
    return {
        "plain_narrow": low, "plain_wide": high, "out_narrow": low_out, "out_wide": high_out,
        "slope": math.log(high / low) / octaves, "slope_out": math.log(high_out / low_out) / octaves,
    }  # fmt: skip


def same_widths(rows):
    chosen = {(row.get("narrow"), row.get("wide")) for row in rows}
    return None if len(chosen) == 1 else "the widths differ between seeds"


FLATTEN = Question(
    "study",
    study=Study(
        claim={
            "id": "course.flatten",
            "where": "question 5",
            "kind": "claim",
            "states": "The Hessian's norm falls with the width, and with a tanh on the output it does not.",
            "seeds": 60,
            "parts": [
                {"name": "falls", "test": "mean(slope) + 2 * sem(slope) <= -0.2",
                 "says": "the mean slope, {} standard errors added, is at most -{}"},
                {"name": "apart", "test": "mean(slope_out - slope) > 3 * sem(slope_out - slope)",
                 "says": "with the tanh it is larger, by more than {} standard errors of the difference"},
                {"name": "stays", "test": "mean(slope_out) + 2 * sem(slope_out) > -0.2",
                 "says": "with the tanh the same sum of {} standard errors stays above -{}"},
                {"name": "positive", "test": "min(plain_wide, out_wide) > 0", "reads": "control",
                 "says": "all norms are above 0"},
            ],
        },
        points={"falls": 2, "apart": 2, "stays": 1, "positive": 1},
        seeds=60,
        again=norms_again,
        whole=same_widths,
        checked=2,
        rtol=1e-5,
        recomputed=3,
    ),
    seconds=60,
)  # fmt: skip


ASSIGNMENT = Spec(
    questions={"layers": LAYERS, "evaluate": EVALUATE, "hessian": HESSIAN, "moved": MOVED, "flatten": FLATTEN},
    rubrics={
        "kinks": Rubric(
            4,
            (
                "1: false: the bound needs a Hessian on the whole segment, and the gradient jumps at a kink",
                "1: the move is spent on the neurons nearest to their kinks",
                "1: the worst gap falls like m^(-1/6), slower than the smooth m^(-1/2)",
                "1: gradient descent shifts all by m^(-1/2), about sqrt(m) neurons cross, and the gap is m^(-1/2)",
            ),
        )
    },
    variants={"0": {"scale": 1.5}, "1": {"scale": 1.3}, "2": {"scale": 1.7}, "3": {"scale": 1.4}},
)
