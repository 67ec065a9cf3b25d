"""data.load: shipped sets, local folders with a manifest, damaged files, features and labels."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pytest
import torch
from PIL import Image

from traindyn import used
from traindyn.errors import InputError
from traindyn.files import sha256_file
from traindyn.learn import data
from traindyn.learn.data import features, local, registry


@pytest.fixture(autouse=True)
def nothing_local(monkeypatch, tmp_path):
    monkeypatch.delenv("TRAINDYN_DATA", raising=False)
    monkeypatch.setattr(local, "cache", lambda: tmp_path / "cache")


def folder(path, name="toy", file=None, classes=("a", "b", "c"), extra="", **arrays):
    path.mkdir(exist_ok=True)
    file = file or path / f"{name}.npz"
    if arrays:
        np.savez(file, **arrays)
    entry = f'[[dataset]]\nname = "{name}"\nfile = "{file.name}"\nsha256 = "{sha256_file(file)}"\n'
    entry += f"classes = {list(classes)!r}\n{extra}\n".replace("'", '"')
    with open(path / "MANIFEST.toml", "a") as handle:
        handle.write(entry)
    return path


def pictures(n=30, side=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, side, side), dtype=np.uint8), np.arange(n, dtype=np.int64) % 3


@pytest.fixture
def toy(tmp_path):
    (x, y), (xt, yt) = pictures(30), pictures(12, seed=1)
    return folder(tmp_path / "data", x_train=x, y_train=y, x_test=xt, y_test=yt), x, y


def test_samples_and_labels_stay_together(toy):
    root, x, y = toy
    got = data.load("toy", root=root, scale="raw", dtype=torch.float64)
    assert got.X_train.shape == (30, 1, 4, 4) and got.X_test.shape == (12, 1, 4, 4)
    label_of = {image.tobytes(): label for image, label in zip(x, y, strict=True)}
    for image, label in zip(got.X_train[:, 0], got.y_train, strict=True):
        assert label_of[image.numpy().astype(np.uint8).tobytes()] == label
    assert got.meta["counts_train"] == [10, 10, 10] and got.meta["file"] == "toy.npz"


def test_draws_are_balanced_disjoint_and_fixed_by_the_seed(toy):
    root, *_ = toy
    one = data.load("toy", root=root, n_train=8, n_test=0, seed=3)
    assert one.meta["counts_train"] == [3, 3, 2] and one.X_test.shape == (0, 1, 4, 4)
    assert torch.equal(one.X_train, data.load("toy", root=root, n_train=8, n_test=0, seed=3).X_train)
    assert not torch.equal(one.y_train, data.load("toy", root=root, n_train=8, seed=4).y_train)
    with pytest.raises(InputError, match="which has 10"):
        data.load("toy", root=root, n_train=33)


@pytest.mark.parametrize("n_test", [None, 0, 40])
def test_a_set_without_test_part_is_split_without_overlap(n_test):
    got = data.load("digits", n_test=n_test, scale="raw", flatten=True)
    train, test = ({row.numpy().tobytes() for row in part} for part in (got.X_train, got.X_test))
    assert not train & test and len(got.X_train) + len(got.X_test) == 1797
    few = data.load("digits", n_train=50, n_test=n_test, scale="raw", flatten=True)
    assert torch.equal(few.X_train, data.load("digits", n_train=50, scale="raw", flatten=True).X_train)


def test_labels(toy):
    root, *_ = toy
    pm1 = data.load("toy", root=root, classes=["c", "a"], labels="pm1")
    index = data.load("toy", root=root, classes=["c", "a"])
    assert torch.equal(pm1.y_train, 2.0 * index.y_train - 1) and index.y_train.dtype == torch.int64
    assert index.meta["classes"] == ["c", "a"]
    onehot = data.load("toy", root=root, labels="onehot", dtype=torch.float64)
    assert torch.equal(onehot.y_train.argmax(1), data.load("toy", root=root).y_train)
    assert onehot.y_train.dtype == torch.float64 and onehot.y_train.sum() == 30
    for bad, message in [
        ({"labels": "pm1"}, "two classes"),
        ({"classes": ["d"]}, "no class"),
        ({"labels": "pm"}, "pm1"),
    ]:
        with pytest.raises(InputError, match=message):
            data.load("toy", root=root, **bad)


def test_scales(toy):
    root, x, _ = toy
    standard = data.load("toy", root=root, dtype=torch.float64)
    assert abs(standard.X_train.mean()) < 1e-12 and standard.X_train.std(correction=0) == pytest.approx(1, abs=1e-12)
    assert standard.X_test.mean().abs() > 1e-6  # scaled by the training set's numbers
    unit = data.load("toy", root=root, scale="unit", dtype=torch.float64)
    assert unit.X_train.max() == x.max() / 255 and unit.X_train.min() >= 0
    norm = data.load("toy", root=root, scale="norm", dtype=torch.float64).X_test
    torch.testing.assert_close(norm.flatten(1).norm(dim=1), torch.ones(12, dtype=torch.float64))


def test_images_shrink_by_averaging_areas():
    x = np.arange(16.0).reshape(1, 4, 4)
    assert features.images(x, 2).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    coloured = features.images(np.zeros((2, 5, 5, 3)))
    assert coloured.shape == (2, 3, 5, 5)
    assert data.load("mnist5k", n_train=10, n_test=5, size=14).X_train.shape == (10, 1, 14, 14)


def test_patches_are_a_two_class_colour_set():
    got = data.load("patches", labels="pm1")
    assert got.X_train.shape[1:] == (3, 32, 32) and sorted(got.y_train.unique().tolist()) == [-1, 1]
    from sklearn.datasets import load_sample_images

    corner = load_sample_images().images[0][32:64, :32].transpose(2, 0, 1)
    raw = data.load("patches", scale="raw", n_test=0).X_train
    assert any(np.array_equal(image.numpy(), corner) for image in raw)


def test_encoded_images_and_an_is_test_column(tmp_path):
    rng = np.random.default_rng(0)
    blobs = []
    for value in rng.integers(0, 256, (4, 3)):
        buffer = io.BytesIO()
        Image.fromarray(np.broadcast_to(value.astype(np.uint8), (8, 8, 3)).copy()).save(buffer, "JPEG", quality=95)
        blobs.append(np.frombuffer(buffer.getvalue(), np.uint8))
    offset = np.cumsum([0, *map(len, blobs)])
    arrays = {"y_train": np.arange(4) % 2, "y_test": np.zeros(1, int), "offset_test": offset[:2]}
    arrays |= {"jpeg_train": np.concatenate(blobs), "offset_train": offset, "jpeg_test": blobs[0]}
    root = folder(tmp_path / "jpeg", classes=("a", "b"), **arrays)
    got = data.load("toy", root=root, scale="unit")
    assert got.X_train.shape == (4, 3, 8, 8) and got.X_test.shape == (1, 3, 8, 8)
    assert got.X_train.std((2, 3)).max() < 0.02
    assert data.load("toy", root=root, n_test=0).X_test.shape == (0, 3, 8, 8)

    x = rng.integers(-3000, 3000, (6, 1000), dtype=np.int16)
    is_test = np.asarray([True, False] * 3)
    root = folder(tmp_path / "sound", classes=("0", "1"), x=x, y=np.arange(6) // 3, is_test=is_test)
    wave = data.load("toy", root=root, features="wave", scale="raw")
    assert len(wave.X_train) == 3 and {tuple(r.int().tolist()) for r in wave.X_test} == {tuple(r) for r in x[is_test]}
    assert data.load("toy", root=root, size=8).X_train.shape == (3, 1, 8, 6)


def test_a_pure_tone_lights_one_mel_band():
    t = np.arange(8000) / features.RATE
    tones = np.stack([3000 * np.sin(2 * np.pi * f * t) for f in (400, 1500, 3000)])
    loud = features.logmel(tones, 24)[:, 0].mean(2).argmax(1)
    centre = 2595 * np.log10(1 + np.asarray([400, 1500, 3000]) / 700)
    top = 2595 * np.log10(1 + 4000 / 700)
    assert (np.abs(loud.numpy() - (centre / top * 25 - 1)) <= 1).all()
    assert features.spectrogram(tones)[:, 0].mean(2).argmax(1).tolist() == [13, 48, 96]  # f / (8000 / 256)


def test_text_becomes_word_frequencies(tmp_path):
    words = {0: "rocket orbit launch", 1: "goal match referee"}
    path = tmp_path / "news"
    path.mkdir()
    with gzip.open(path / "news.csv.gz", "wt") as handle:
        handle.write("label,title,description\n")
        for i in range(20):
            handle.write(f'{i % 2},"{words[i % 2]}","number {i}"\n')
    folder(path, "news", file=path / "news.csv.gz", classes=("space", "sport"))
    got = data.load("news", root=path, size=7, scale="raw")
    assert got.X_train.shape == (16, 7) and len(got.X_test) == 4
    torch.testing.assert_close(got.X_train.norm(dim=1), torch.ones(16))
    same = got.X_train @ got.X_train[got.y_train == 0][0]
    assert same[got.y_train == 0].min() > same[got.y_train == 1].max()


def test_class_names_with_numbers(tmp_path):
    x, y = pictures(9)
    root = folder(
        tmp_path / "d", classes=("48 motorcycle", "53 orange", "94 wardrobe"), x=x, y=np.asarray([48, 53, 94])[y]
    )
    for classes in (["orange", 48], ["53 orange", "motorcycle"], [53, "48 motorcycle"]):
        got = data.load("toy", root=root, classes=classes, n_test=0)
        assert got.meta["classes"] == ["53 orange", "48 motorcycle"] and len(got.y_train) == 6


def test_damaged_files_give_one_clear_line(toy):
    root, *_ = toy
    good = (root / "toy.npz").read_bytes()

    def message():
        with pytest.raises(InputError) as caught:
            data.load("toy", root=root)
        assert "\n" not in str(caught.value) and caught.value.__suppress_context__ | (caught.value.__cause__ is None)
        return str(caught.value)

    (root / "toy.npz").write_bytes(good[:-7] + b"changed")
    assert "checksum" in message()
    (root / "toy.npz").write_bytes(good[: len(good) // 2])
    text = (root / "MANIFEST.toml").read_text().split("sha256")[0]
    (root / "MANIFEST.toml").write_text(f'{text}sha256 = "{sha256_file(root / "toy.npz")}"\n')
    assert "cannot be read" in message()
    assert data.present("toy", root)
    (root / "toy.npz").unlink()
    assert "missing" in message() and not data.present("toy", root)
    (row,) = (row for row in registry.listing(root) if row["name"] == "toy")
    assert row["here"] == "" and "toy.npz is missing" in row["fetch"]
    (root / "MANIFEST.toml").write_text("[[dataset]]\nname = 3\n")
    assert "manifest" in message()
    with pytest.raises(InputError, match="no folder"):
        data.load("toy", root=root / "elsewhere")


def test_a_missing_set_says_what_brings_it(monkeypatch, toy):
    with pytest.raises(InputError, match="traindyn data fetch cifar10.*closest here: 'patches'"):
        data.load("cifar10")
    with pytest.raises(InputError, match="did you mean 'cifar10'"):
        data.load("cifar1o")
    monkeypatch.setenv("TRAINDYN_DATA", str(toy[0]))
    assert len(data.load("toy").X_train) == 30
    assert "toy" in local.local_names() and "cifar10" in registry.entries()


def test_what_was_loaded_is_noted_once_with_a_digest_of_the_samples(toy):
    root, *_ = toy
    used.forget()
    first = data.load("toy", root=root, n_train=8, seed=3)
    data.load("toy", root=root, n_train=8, seed=3)
    other = data.load("toy", root=root, n_train=8, seed=4)
    data.load("digits", n_train=10, n_test=0)
    noted = used.data()
    assert set(noted) == {"toy", "digits"} and len(noted["toy"]["draws"]) == 2
    assert noted["toy"]["sha256"] == sha256_file(root / "toy.npz") and noted["toy"]["file"] == "toy.npz"
    draw = noted["toy"]["draws"][0]
    assert draw["seed"] == 3 and draw["counts_train"] == [3, 3, 2] and draw["classes"] == ["a", "b", "c"]
    assert draw["digest"] == first.meta["digest"] != other.meta["digest"]
    first.meta["seed"] = 99
    noted["toy"]["draws"].clear()
    assert used.data()["toy"]["draws"][0]["seed"] == 3  # nobody's copy is the record


def test_what_is_handed_out_is_the_callers_own(toy):
    root, *_ = toy
    for name, where in (("toy", root), ("digits", None)):
        first = data.load(name, root=where, scale="raw")
        kept = first.X_train.clone()
        first.X_train.zero_()
        first.meta["classes"].clear()
        again = data.load(name, root=where, scale="raw")
        assert torch.equal(again.X_train, kept) and again.meta["classes"]


@pytest.mark.parametrize("file", ["../s.npz", "/etc/s.npz", "a/../../s.npz", "..\\s.npz", "C:\\s.npz", "C:s.npz", ""])
def test_a_manifest_points_only_below_its_own_folder(tmp_path, file):
    inside = tmp_path / "data"
    x, y = pictures()
    folder(inside, x=x, y=y)
    (inside / "toy.npz").rename(tmp_path / "s.npz")
    text = (inside / "MANIFEST.toml").read_text().replace('"toy.npz"', repr(file))
    (inside / "MANIFEST.toml").write_text(text)
    with pytest.raises(InputError, match="points outside"):
        data.load("toy", root=inside)
