"""The Hessian in few coordinates against automatic differentiation, for every kind of network of the chapter."""

from types import SimpleNamespace

import pytest
import torch
from torch.func import hessian

from traindyn.studies.linearity import curvature, identities, nets, orders, shared

SEEDS, D = [1, 2, 3], 4
KINDS = {
    "fcn": lambda: nets.fcn(SEEDS, D, [5, 6]),
    "skip": lambda: nets.fcn(SEEDS, D, [6, 6, 6], skip=True),
    "half": lambda: nets.densenet(SEEDS, D, 6),
    "refed": lambda: nets.densenet(SEEDS, D, 6, refeed=True, depth=4),
    "original": lambda: nets.densenet(SEEDS, D, 6, normalizer="original"),
    "bottlenecks": lambda: nets.bottlenecked(SEEDS, D, 6, 3),
    "bridged": lambda: nets.narrow(SEEDS, D, 6, bridge=True),
    "bent": lambda: nets.fcn(SEEDS, D, [5, 6], output="tanh", activation="swish"),
    "softplus": lambda: nets.fcn(SEEDS, D, [5, 6], activation="softplus", outputs=2),
}


def whole(made, s, x):
    """The full Hessian of one network's summed output, with masked weights as free numbers that do nothing."""
    layers = made.layers
    shapes = [layer.weight[s].shape for layer in layers]
    masks = [None if layer.mask is None else layer.mask[s % len(layer.mask)] for layer in layers]
    scales = [layer.scale[s % len(layer.scale)] for layer in layers]

    def f(flat):
        parts = flat.split([shape.numel() for shape in shapes])
        values = x
        for depth, (layer, part, shape, mask, scale) in enumerate(
            zip(layers, parts, shapes, masks, scales, strict=True)
        ):
            W = part.view(shape) if mask is None else part.view(shape) * mask
            z = W @ values[layer.reads] * scale
            out = nets.CURVES[made.output if depth + 1 == len(layers) else made.activation](z)[0]
            out = out if layer.skip is None else out + values[layer.skip]
            values = torch.cat([values, out])
        return out.sum()

    return hessian(f)(torch.cat([layer.weight[s].flatten() for layer in layers]))


@pytest.mark.parametrize("kind", KINDS)
def test_norms_products_and_directions(kind):
    made = KINDS[kind]()
    x = nets.inputs(SEEDS, D)[:, 0]
    curved = curvature.Curvature(made, x)
    found = curved.norm(SEEDS, tol=1e-9)
    step = torch.cat([part.flatten(1) for part in curved.direction(found.vector)], 1)
    turned = curved.product(found.vector, curved.metric(found.vector))
    image = torch.cat([part.flatten(1) for part in curved.direction(turned)], 1)
    for s in range(3):
        H = whole(made, s, x[s])
        assert found.value[s].item() == pytest.approx(torch.linalg.matrix_norm(H, 2).item(), rel=1e-7)
        assert torch.allclose(H @ step[s], image[s], atol=1e-10)
    assert torch.allclose(step.norm(dim=1), torch.ones(3, dtype=torch.float64))
    assert torch.allclose(curved.output, made.values(x[:, None])[:, 0])


def test_blocks_are_those_of_the_hessian():
    made = nets.fcn(SEEDS, D, [5, 6])
    x = nets.inputs(SEEDS, D)[:, 0]
    curved, ends = curvature.Curvature(made, x), [0, 20, 50, 56]
    H = whole(made, 0, x[0])
    for a in range(3):
        for b in range(a, 3):
            block = H[ends[a] : ends[a + 1], ends[b] : ends[b + 1]]
            norm = torch.linalg.matrix_norm(block, 2).item()
            assert curved.block(SEEDS, a, b, tol=1e-9).value[0].item() == pytest.approx(norm, rel=1e-6, abs=1e-12)


def test_a_seed_does_not_depend_on_its_block():
    size = SimpleNamespace(inputs=D, widths=[8, 16], radii=[0.0, 1.0], points=2)
    many, one = (orders.hessian_norm(seeds, size) for seeds in ([5, 6, 7], [6]))
    rows = many[many["seed"] == 6].reset_index(drop=True)
    assert (rows.drop(columns="net") - one.drop(columns="net")).abs().max().max() < 1e-12


def test_a_layer_of_preactivations_is_linear_and_the_next_is_not():
    made = nets.fcn(SEEDS, D, [5, 6])
    x = nets.inputs(SEEDS, D)[:, 0]
    assert curvature.Curvature(nets.below(made, 1, [2]), x).norm(SEEDS).value.max() == 0
    assert curvature.Curvature(nets.below(made, 2, [2]), x).norm(SEEDS).value.min() > 1e-3


def test_convolutional_curvature():
    channels, positions = 3, 4
    weights = shared.weights([1], channels, positions)
    x = nets.inputs([1], positions)[:, 0]
    shapes = [w[0].shape for w in weights]

    def f(flat):
        parts = flat.split([shape.numel() for shape in shapes])
        return shared.ConvCurvature([p.view(1, *shape) for p, shape in zip(parts, shapes, strict=True)], x).output[0]

    H = hessian(f)(torch.cat([w.flatten() for w in weights]))
    found = shared.ConvCurvature(weights, x).norm([1], tol=1e-9)
    assert found.value.item() == pytest.approx(torch.linalg.matrix_norm(H, 2).item(), rel=1e-7)
    # the forward pass against torch's own convolution
    one, two, three = (w[0] for w in weights)
    kernel = lambda w, c: w.view(channels, 3, c).permute(0, 2, 1)  # noqa: E731
    a = torch.nn.functional.conv1d(x[:, None], kernel(one, 1) / 3**0.5, padding=1).tanh()
    b = torch.nn.functional.conv1d(a, kernel(two, channels) / 9**0.5, padding=1).tanh()
    wanted = (three.flatten() * b.flatten()).sum() / (channels * positions) ** 0.5
    assert shared.ConvCurvature(weights, x).output.item() == pytest.approx(wanted.item())


def test_derivatives_along_a_direction():
    made = nets.densenet(SEEDS, D, 6)
    x = nets.inputs(SEEDS, D)[:, 0]
    step = orders.random_directions(made, SEEDS)
    assert torch.allclose(sum(s.square().sum((1, 2)) for s in step), torch.ones(3, dtype=torch.float64))
    f, first, second = orders.jet(made, x, step)
    h = 1e-4
    up, down = (made.moved(step, by).values(x[:, None])[:, 0] for by in (h, -h))
    assert torch.allclose(first, (up - down) / (2 * h), atol=1e-6)
    assert torch.allclose(second, (up - 2 * f + down) / h**2, atol=1e-5)


def test_identities_hold_and_their_printed_readings_do_not():
    read = identities.recursion(SEEDS, SimpleNamespace(inputs=3, width=5))
    assert read[["split", "one_edge"]].max().max() < 1e-12
    assert read[["literal", "second_form"]].min().min() > 0.01
    skipped = identities.skip_recursion(SEEDS, SimpleNamespace(width=4))
    assert skipped["all_steps"].max() < 1e-12 < skipped["one_step"].min()
    assert identities.blocks([1], SimpleNamespace(matrices=5, sides=[3, 2]))["violations"].max() == 0


def test_the_tensor_of_several_outputs_lies_between_its_bounds():
    found = orders.several_outputs(SEEDS, SimpleNamespace(inputs=D, widths=[6, 12], outputs=3, rounds=4))
    assert (found["over"] >= 1 - 1e-3).all() and (found["over"] <= 3**0.5).all()
