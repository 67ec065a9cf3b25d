"""What is read off sweeps, ladders and spikes, and the drawings."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from traindyn.errors import InputError
from traindyn.studies.quadratic import eigenspace, figures, images, line, missed, show, sweeps, thresholds


class Size(SimpleNamespace):
    def changed(self, **changes):
        return Size(**{**self.__dict__, **changes})


SMALL = Size(
    data="digits", classes=[3, 8], side=0, n=16, n_test=20, net="fc", activation="relu", width=32, batch=0, longer=0,
    rates=[1.0, 1.9, 2.6, 3.0], steps=12, every=4,
)  # fmt: skip


def table(best, **more):
    """A sweep's table of one seed: {model: best per rate}."""
    rates = [1.0, 1.9, 2.2, 2.6]
    rows = [
        {"seed": 1, "model": model, "rate": rate, "best": b, "matched": b, "wrong": b / 10, "peak": 3.0, "last": 0.1}
        for model, values in best.items()
        for rate, b in zip(rates, values, strict=True)
    ]
    return pd.DataFrame(rows).assign(**more)


def test_gains_compare_each_model_with_itself():
    found = table({"f": [4, 3, 2, 1], "lin": [4, 3, np.inf, np.inf], "quad": [4, 3.3, 3.2, np.inf]})
    long = pd.DataFrame([{"seed": 1, "model": "long", "rate": 1.9, "best": 2.0}])
    row = sweeps.gains(pd.concat([found, long]))[1]
    assert row["gain_f"] == pytest.approx(np.log(1 / 3)) and row["gain_quad"] == pytest.approx(np.log(3.2 / 3.3))
    assert row["apart_f"] == 0 and row["apart_quad"] == pytest.approx(np.log(1.1))
    assert row["over_lin_quad"] == pytest.approx(np.log(3.2 / 3)) and row["lin_survives"] == 0
    assert row["falls_f"] == pytest.approx(np.log(1 / 2)) and np.isnan(row["falls_quad"])
    assert row["accuracy_f"] == pytest.approx(0.2) and row["longer"] == pytest.approx(np.log(1 / 2))
    assert row["margin_f"] == pytest.approx(np.log(3)) and np.isnan(row["fixed_f"]) and row["agree"] == 1
    assert sweeps.evidence_of({"a": found}).loc[(1, "a"), "gain_f"] == row["gain_f"]


def test_a_sweep_has_a_row_per_run_and_infinity_for_divergence():
    found = sweeps.sweep([0], SMALL.changed(longer=2), torch.float64)
    assert len(found) == 13 and set(found["model"]) == {"f", "lin", "quad", "long"}
    lin = found[(found["model"] == "lin") & (found["rate"] > 2)]
    assert (np.isinf(lin["best"]) == lin["diverged"]).all()
    f = found[found["model"] == "f"].set_index("rate")
    assert (f["matched"] >= f["best"]).all() and f["matched"][1.0] == f["best"][1.0]
    again = sweeps.sweep([0, 1], SMALL.changed(longer=2), torch.float64)
    assert found.equals(again[again["seed"] == 0].reset_index(drop=True))  # a seed does not depend on its block


def test_batches_pass_once_over_the_samples_in_an_epoch():
    found = sweeps.batches(3, 10, 5, 7)
    assert found.shape == (7, 5) and sorted(found[:2].flatten().tolist()) == list(range(10))
    assert sweeps.batches(3, 10, 0, 7) is None


def test_the_shuffled_model_is_the_quadratic_one_while_nothing_is_shuffled(monkeypatch):
    size = SMALL.changed(lr=0.02, steps=6)
    found = sweeps.shuffled(0, size, torch.float64).pivot(index="step", columns="run", values="train")
    assert (found["f_quad"] - found["f_quad, shuffled"]).abs()[2:].min() > 1e-4
    monkeypatch.setattr(torch, "randperm", lambda n, generator=None: torch.arange(n))
    found = sweeps.shuffled(0, size, torch.float64)
    for column in ("train", "test"):
        wide = found.pivot(index="step", columns="run", values=column)
        assert np.allclose(wide["f_quad"], wide["f_quad, shuffled"], rtol=1e-10)


@pytest.mark.parametrize("net", images.NETS)
def test_all_models_of_a_seed_start_alike(net):
    size = SMALL.changed(net=net, width=6)
    found = images.task(1, size, torch.float64)
    make = images.maker(1, size, found)
    outputs = [make(model).value() for model in ("f", "lin", "quad", "cubic")]
    assert all(torch.allclose(outputs[0], other) for other in outputs[1:]) and found.y.shape == (16, 1)
    with pytest.raises(InputError, match="net"):
        images.maker(1, size.changed(net="rnn"), found)


def test_classes_are_one_hot_where_none_are_picked():
    found = images.task(1, SMALL.changed(classes=[], n=30), torch.float32)
    assert found.y.shape == (30, 10) and found.y.dtype == torch.float32 and (found.y.sum(1) == 1).all()


def test_ladders_are_read_per_seed_model_and_rate():
    size = SMALL.changed(widths=[32, 64, 128], rates=[1.0, 2.8], n_test=0)
    found = images.ladder([0], size, torch.float64)
    slopes = images.ladder_slopes(found)
    part = found[(found["model"] == "f") & (found["rate"] == 2.8)]
    expected = np.polyfit(np.log(part["width"]), np.log(part["length"]), 1)[0]
    assert slopes.loc[(0, "f", 2.8), "length"] == pytest.approx(expected)
    assert images.kernel_ends(found).loc[(0, 2.8), "end_f"] == pytest.approx(part["end"].mean())
    top = images.largest_rates([0], size.changed(widths=[64], rounds=3, steps=20), torch.float64)["largest"]
    assert top[0, "quad", 64] > 2 < top[0, "f", 64]
    assert sweeps.shrinking([0], size.changed(rate=1.0, n_test=10), torch.float64)["slope_f"].iloc[0] < 0


def test_spikes_are_read_on_high_steps_only():
    path = pd.DataFrame(
        {"step": range(6), "loss": [1, 20, 40, 30, 5, 1.0], "along": [0, 18, 38, 29, 0, 0.0], "first": 0.0, "top2": 1.0}
    ).assign(rho_f=[-1, 1, 3, 2, -1, -1], rho_k=[-1, 1, 2, -3, -1, -1])
    found = eigenspace.spikes(path)
    assert found["positive_f"] == 1 and found["positive_k"] == pytest.approx(2 / 3)
    assert found["rank_f"] == pytest.approx(1) and found["share"] == pytest.approx(85 / 90)
    assert np.isnan(eigenspace.spikes(path.assign(loss=1.0))["share"])


def test_the_scalars_along_the_top_eigenvector_have_closed_forms_for_one_direction():
    size = SMALL.changed(n=1, classes=[3, 8], n_test=0, rates=[2.6], steps=8)
    path = eigenspace.follow(0, size, "quad", 2.6, torch.float64)
    found = images.task(0, size, torch.float64)
    q = float(found.X[0] @ found.X[0]) / found.X.shape[1]
    lr, c, y = 2.6 / path["lambda"].iloc[0], q / 32, float(found.y)
    for t in range(8):  # eqs. (3.11), (3.12): R_g = c lr^2 r g, R_lambda = c lr r (4 g - lr lambda r)
        candidates = [s * (2 * path["loss"][t]) ** 0.5 for s in (1, -1)]
        assert any(path["rho_f"][t] == pytest.approx(c * lr**2 * r * (r + y), rel=1e-6) for r in candidates)
        assert any(
            path["rho_k"][t] == pytest.approx(c * lr * r * (4 * (r + y) - lr * path["lambda"][t] * r), rel=1e-6)
            for r in candidates
        )


def test_a_relu_network_of_two_layers_misses_gates_only():
    sizes = {"two": SMALL, "tanh": SMALL.changed(activation="tanh"), "three": SMALL.changed(net="deep", width=8)}
    found = missed.study([0], sizes, torch.float64)
    two = found[found["network"] == "two"]
    assert np.allclose(two["quadratic"], two["cubic"])
    wide = missed.evidence_of(found)["missed"]
    assert wide[0, "two"] == pytest.approx(0, abs=1e-9) and wide[0, "tanh"] < 0
    assert missed.answers(missed.evidence_of(found))["two"] == "no"
    told = missed.told(missed.evidence_of(found)).set_index("network")
    assert told.loc["two layers, ReLU"].tolist() == [pytest.approx(1), "no, in no seed"]


def test_every_figure_draws():
    window = thresholds.window([0, 1], [100, 1000]).reset_index()
    size = Size(n=128, m=300, steps=20, gap=[1.04, 1.08], far=1.3)
    _, paths = line.regimes([5], size, True)
    ladder = images.ladder([0], SMALL.changed(widths=[32, 64], rates=[1.0, 2.8], n_test=0), torch.float64)
    gamma = pd.DataFrame({"gamma": [1e-3, 1e-2], "rate": [2.2, 2.8], "peak": [9.0, 1.0], "end": [0.5, 0.6]})
    swept = show.stacked({"a": sweeps.sweep([0], SMALL, torch.float64)}, {"a": SMALL})
    along = eigenspace.study([0], SMALL.changed(rates=[2.6], n_test=0), torch.float64)[1]
    drawn = [
        figures.losses(show.regimes(0, 100, [1.8, 2.8], 10)),
        figures.phases(window, show.peaks([0], [100, 1000], [1.5, 2.5])),
        figures.paths(ladder),
        figures.eigenvalues(figures.relative(show.joined({"f_quad": paths}), 5)),
        figures.along(eigenspace.shown(along, 0)),
        figures.strengths(gamma, gamma, ladder),
        figures.sweep(swept),
        figures.released(sweeps.shuffled(0, SMALL.changed(lr=0.02), torch.float64)),
        figures.missed(missed.study([0], {"two": SMALL}, torch.float64)),
        figures.beside(show.beside({"a": [1.0, 2.0], "b": [1.0, 3.0]})),
    ]
    assert all(isinstance(fig, Figure) for fig in drawn)
    assert "*two layers: digits*" in show.told({"a": SMALL})


def test_panels_are_named_by_network_and_data_and_never_merged():
    named = show.experiments(["cifar: mnist5k", "mnist: mnist", "cnn-svhn: svhn_test_part", "sgd: digits"])
    assert list(named.values()) == [
        "two layers: MNIST (cifar)", "two layers: MNIST (mnist)", "convolution: SVHN", "two layers, SGD: digits",
    ]  # fmt: skip
