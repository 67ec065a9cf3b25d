"""The registry: fetching from a local directory in the hub's format, verifying, listing."""

from __future__ import annotations

import numpy as np
import pytest

from traindyn.errors import InputError
from traindyn.learn import data
from traindyn.learn.data import local, registry, samples
from traindyn.learn.data.builtin import SHIPPED


@pytest.fixture(autouse=True)
def nothing_local(monkeypatch, tmp_path):
    monkeypatch.delenv("TRAINDYN_DATA", raising=False)
    monkeypatch.setattr(local, "cache", lambda: tmp_path / "cache")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Write columns as a local directory in the hub's format."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()

    def write(features, **splits):
        folder = tmp_path / "hub"
        folder.mkdir(exist_ok=True)
        for split, columns in splits.items():
            table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
            table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
        return folder

    return datasets, write


def toy(monkeypatch, **fields):
    entry = {
        "name": "toy", "kind": "image", "citation": "Someone", "licence": 'a "free" one',
        "hub": {"repo": "nobody/toy", "sample": "image", "label": "label"}, **fields,
    }  # fmt: skip
    monkeypatch.setattr(registry, "entries", lambda: {"toy": entry})
    return entry


def pictures(n, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 6, 6), dtype=np.uint8), rng.permutation(n) % 2


def test_fetched_images_are_the_ones_of_the_source_and_load(hub, monkeypatch):
    datasets, write = hub
    (x, y), (xt, yt) = pictures(20, 0), pictures(8, 1)
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])}
    folder = write(features, train={"image": list(x), "label": y}, test={"image": list(xt), "label": yt})
    entry = toy(monkeypatch)
    file = registry.fetch("toy", source=folder)
    assert file == local.cache() / "toy.npz" and registry.path("toy") == file
    with np.load(file) as stored:
        assert np.array_equal(stored["x_train"], x) and np.array_equal(stored["y_test"], yt)
    got = data.load("toy", scale="raw", n_train=10)
    assert got.meta["classes"] == ["no", "yes"] and got.meta["licence"] == 'a "free" one'

    # another order of the same samples: same digest, same draw
    raw = data.open_set("toy")
    entry["digest"] = {part: samples.digest(raw, part) for part in ("train", "test")}
    back = np.arange(20)[::-1]
    folder = write(features, train={"image": list(x[back]), "label": y[back]}, test={"image": list(xt), "label": yt})
    registry.fetch("toy", source=folder)
    assert np.array_equal(data.load("toy", scale="raw", n_train=10).X_train, got.X_train)
    assert registry.verify() == [("toy", "ok")]

    # one pixel differs: refused, and what was there stays
    x[3, 0, 0] ^= 1
    before = file.read_bytes()
    folder = write(features, train={"image": list(x), "label": y}, test={"image": list(xt), "label": yt})
    with pytest.raises(InputError, match="part 'train' are not those"):
        registry.fetch("toy", source=folder)
    assert file.read_bytes() == before and len(local.manifest(local.cache())) == 1


def test_a_part_of_the_public_set(hub, monkeypatch):
    datasets, write = hub
    x, y = pictures(12, 2)
    features = {"image": datasets.Image(), "label": datasets.Value("int64")}
    folder = write(features, train={"image": list(x), "label": y})
    toy(monkeypatch, classes=["a", "b"], rows={"all": {"of": "train", "rows": [[2, 4], [7, 7]]}})
    with np.load(registry.fetch("toy", source=folder)) as stored:
        assert np.array_equal(stored["x"], x[[2, 3, 4, 7]]) and np.array_equal(stored["y"], y[[2, 3, 4, 7]])
    toy(monkeypatch, classes=["a", "b"], rows={"all": {"of": "train", "rows": [[0, 12]]}})
    with pytest.raises(InputError, match="12 rows"):
        registry.fetch("toy", source=folder)


def test_texts(hub, monkeypatch):
    datasets, write = hub
    texts = [f'match "{i}", goal' if i % 2 else f"rocket {i}\nlaunch" for i in range(12)]
    features = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["space", "sport"])}
    split = {"text": texts, "label": [i % 2 for i in range(12)]}
    folder = write(features, train=split, test={key: values[:4] for key, values in split.items()})
    toy(monkeypatch, kind="text", hub={"repo": "nobody/toy", "sample": "text", "label": "label"})
    assert registry.fetch("toy", source=folder).name == "toy.csv.gz"
    raw = data.open_set("toy")
    assert list(raw.take("train", np.arange(12))) == texts and len(raw.labels["test"]) == 4


def test_what_cannot_be_fetched_says_so(hub, monkeypatch, tmp_path):
    datasets, write = hub
    with pytest.raises(InputError, match="cannot be fetched: A lossy"):
        registry.fetch("cifar10_full_jpeg")
    with pytest.raises(InputError, match="did you mean 'mnist'"):
        registry.fetch("mnits")
    with pytest.raises(InputError, match="cannot be read") as caught:
        registry.fetch("mnist", source=tmp_path / "nothing")
    assert "\n" not in str(caught.value)
    folder = write(
        {"pixels": datasets.Image(), "label": datasets.Value("int64")},
        train={"pixels": [np.zeros((2, 2), np.uint8)], "label": [0]},
    )
    with pytest.raises(InputError, match="no column 'image'"):
        registry.fetch("mnist", source=folder)
    assert not local.cache().exists() or not list(local.cache().iterdir())


def test_registry_is_complete_and_honest():
    known = registry.entries()
    asked = {"cifar10", "cifar100", "svhn", "mnist", "fashion_mnist", "usps", "fsdd", "agnews", "celeba"}
    assert asked <= set(known)
    for name, entry in known.items():
        assert {"kind", "citation", "licence", "obtainable", "obtain", "offline"} <= set(entry), name
        assert set(entry["offline"]) <= set(known) | set(SHIPPED), name
        assert "revision" not in entry.get("hub", {}), f"{name}: pin a revision only when it was checked"
        assert all(len(digest) == 64 for digest in entry.get("digest", {}).values())
    rows = {row["name"]: row for row in registry.listing()}
    assert rows["digits"]["here"] == "package" and rows["svhn"]["fetch"] == "traindyn data fetch svhn"
    assert registry.verify() == []
    with pytest.raises(InputError, match="has no file"):
        registry.path("digits")
    with pytest.raises(InputError, match="fetch usps"):
        registry.path("usps")
