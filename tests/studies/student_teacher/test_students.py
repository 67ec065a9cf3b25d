"""Students trained by hand-written gradients, against torch's own; and their teachers."""

import pytest
import torch

from traindyn.errors import InputError
from traindyn.studies.student_teacher import students, teachers


def looked(net, runs, step):
    return {"w": net.weights[0].reshape(net.runs, -1)}


@pytest.mark.parametrize("loss", ["half_mse", "mse_entries"])
@pytest.mark.parametrize("linear", [False, True])
def test_a_run_is_what_torch_would_do(loss, linear):
    seeds = [3, 4]
    teacher = teachers.two_layer(seeds, 5, 3, 2)
    nets = students.students(seeds, [5, 6, 4, 2], 0.3, linear=linear)
    start = nets.to(torch.float64)
    X = torch.randn(2, 40, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = teacher(X)
    plan = [(0, 0.1), (4, 0.05)]
    students.train(nets, students.from_set(X, y, seeds, 8), 7, plan, looked, [0, 7], loss=loss)
    batches = students.from_set(X, y, seeds, 8)
    xs, ys = batches(slice(0, 2), 0, 7)
    for run in range(2):
        parameters = [part[run].clone().requires_grad_() for part in (*start.weights, *start.biases)]
        for step in range(7):
            net = students.Nets([w[None] for w in parameters[:3]], [b[None] for b in parameters[3:]], linear)
            squared = (ys[step, run] - net(xs[step, run])[0]).square()
            value = squared.sum(1).mean() / 2 if loss == "half_mse" else squared.mean()
            grads = torch.autograd.grad(value, parameters)
            rate = 0.1 if step < 4 else 0.05
            parameters = [(p - rate * g).detach().requires_grad_() for p, g in zip(parameters, grads, strict=True)]
        for ours, theirs in zip((*nets.weights, *nets.biases), parameters, strict=True):
            assert torch.allclose(ours[run], theirs, atol=1e-12)


def test_frozen_layers_and_biases_stay():
    nets = students.students([0], [4, 5, 3, 2], 0.5)
    before = nets.to(torch.float64)
    X = torch.randn(1, 30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = torch.ones(1, 30, 2, dtype=torch.float64)
    batches = students.from_set(X, y, [0], 6)
    students.train(nets, batches, 3, 0.1, looked, [3], layers=[2], biases=False)
    moved = [not torch.equal(a, b) for a, b in zip(nets.weights, before.weights, strict=True)]
    assert moved == [False, True, False]
    assert all(torch.equal(a, b) for a, b in zip(nets.biases, before.biases, strict=True))


def test_runs_do_not_depend_on_their_neighbours_or_on_chunks(monkeypatch):
    def trained(seeds):
        teacher = teachers.two_layer(seeds, 6, 3, 4)
        nets = students.students(seeds, [6, 9, 4])
        batches = students.online(teacher, seeds, 5, 1.5)
        return students.train(nets, batches, 60, 0.05, looked, [0, 30, 60])

    together, times = trained([1, 2, 3])
    assert times.tolist() == [0, 30, 60] and together["w"].shape == (3, 3, 54)
    alone, _ = trained([2])
    assert abs(together["w"][1] - alone["w"][0]).max() < 1e-12
    monkeypatch.setattr(students, "CACHE", 1)
    assert abs(trained([1, 2, 3])[0]["w"] - together["w"]).max() < 1e-12


def test_wrong_settings_are_one_line():
    nets = students.students([0], [2, 2, 1])
    batches = students.from_set(torch.zeros(1, 4, 2).double(), torch.zeros(1, 4, 1).double(), [0], 2)
    with pytest.raises(InputError, match="unknown loss"):
        students.train(nets, batches, 1, 0.1, looked, [0], loss="mse")
    with pytest.raises(InputError, match="expected steps between 0 and 1"):
        students.train(nets, batches, 1, 0.1, looked, [2])


def test_teachers_are_graded_and_visible():
    net = teachers.two_layer([0, 1], 100, 20, 50, p=2.0)
    assert torch.allclose(net.weights[0].norm(dim=1), torch.ones(2, 20, dtype=torch.float64))
    scaled = net.weights[1] * torch.arange(1, 21, dtype=torch.float64)[:, None] ** 2
    assert torch.allclose(scaled, (4 * scaled).round() / 4, atol=1e-9) and scaled.abs().max() <= 1
    assert not torch.equal(net.weights[0][0], net.weights[0][1])
    assert torch.equal(teachers.two_layer([1], 100, 20, 50, p=2.0).weights[0][0], net.weights[0][1])
    deep = teachers.deep([0], [10, 6, 5, 3], 10.0)
    X = 10 * torch.randn(4000, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    *hidden, out = deep.layers(X)
    for f in hidden:
        assert ((f > 0).double().mean(1) - 0.5).abs().max() < 0.08
    assert out.mean(1).abs().max() < 0.15 and (out.std(1) - 1).abs().max() < 0.15


def test_recorded_steps_spread():
    steps = students.epochs(1000)
    assert steps[0] == 0 and steps[-1] == 1000 and steps == sorted(set(steps))


def test_threads_share_the_chunks_out():
    def trained():
        teacher = teachers.two_layer(range(5), 6, 3, 4)
        nets = students.students(range(5), [6, 9, 4])
        return students.train(nets, students.online(teacher, range(5), 5, 1.5), 40, 0.05, looked, [0, 40])[0]["w"]

    alone, before = trained(), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        shared = trained()
    finally:
        torch.set_num_threads(before)
    assert abs(alone - shared).max() < 1e-12
