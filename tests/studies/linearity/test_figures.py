"""Drawings: every one is made from small tables and shows what its tables hold."""

from types import SimpleNamespace as Size

import pandas as pd
import pytest

from traindyn.studies.linearity import evidence, figures, graphs, lemmas, notions, orders, shared

SEEDS = [1, 2, 3]


def ladder(**columns):
    rows = [{"seed": s, "width": m, **{k: v(m) for k, v in columns.items()}} for s in SEEDS for m in (64, 128, 256)]
    return pd.DataFrame(rows)


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_norms_over_widths():
    size = Size(inputs=4, widths=[8, 16, 32], radii=[0.0, 1.0], points=1, waist=2, depth=3, positions=4, share=4)
    curved = orders.hessian_norm(SEEDS, size)
    convs = shared.norms(SEEDS, Size(widths=[16, 32], positions=4, share=4))
    found = evidence.headline(curved, orders.skips(SEEDS, size), convs, orders.narrow(SEEDS, size))
    ax = figures.decay(found).axes[0]
    assert texts(ax) == [*found["network"].unique(), "$m^{-1/2}$"] and ax.get_xscale() == "log"
    assert len(figures.radii(curved, size.radii).axes) == 2
    few = orders.bottlenecks(SEEDS, Size(inputs=4, widths=[16, 32]))
    assert texts(figures.counts(few).axes[1])[0] == "$b = 2$"


@pytest.mark.parametrize(("edges", "tight", "layers"), [(graphs.DRAWN, (), 5), (graphs.NARROW, ("p", "q"), 4)])
def test_graphs_are_drawn_by_the_codes_layers(edges, tight, layers):
    ax = figures.layers(edges, tight).axes[1]
    numbers = {text.get_text() for text in ax.texts if text.get_text().isdigit()}
    assert numbers == {str(level) for level in range(layers)}


def test_training_and_remainders():
    rows = ladder(change=lambda m: 10 / m, steps=lambda m: 5.0)
    worst = ladder(change=lambda m: m**-0.5)
    assert len(figures.change(rows, worst).axes[0].lines) == 4
    assert len(figures.change(rows).axes[0].lines) == 3
    assert texts(figures.variants(rows.assign(setting="relu")).axes[0]) == ["ReLU"]
    looks = pd.concat([rows.assign(setting="tanh", step=i, loss=1 / (1 + i), least=1.0, slope=2.0) for i in range(3)])
    assert [ax.get_title() for ax in figures.descent(looks).axes][0] == "loss"
    assert len(figures.remainder(ladder(**{"worst 1": lambda m: 1 / m, "random 1": lambda m: m**-2}), [1.0]).axes) == 1
    assert figures.smallest(ladder(start=lambda m: 1.0, lowest=lambda m: 0.5)).axes[0].get_ylim()[0] == 0
    kinked = lemmas.relu_remainder(SEEDS, Size(inputs=4, widths=[32, 64, 128], radius=1.0))
    assert "$m^{-1/6}$" in texts(figures.kinks(kinked).axes[0])


def test_notions_are_drawn_with_the_best_one_last():
    found = notions.sample(SEEDS[:2], Size(graphs=5, inputs=3, hidden=[4, 12], draws=1))
    compared = notions.compare(found, draws=10)
    axes = figures.notions(found, notions.NOTIONS, compared).axes
    assert axes[0].get_xlabel() == "least in-degree" and compared["notion"].iloc[0] in [ax.get_xlabel() for ax in axes]
