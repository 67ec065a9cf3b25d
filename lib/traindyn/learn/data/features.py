"""From stored samples to tensors: images, spectrograms of sound, word frequencies of text, and their scale."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from traindyn.errors import InputError, choose, import_extra

SCALES = ("standard", "unit", "norm", "raw")
FEATURES = {"image": ("pixels",), "audio": ("logmel", "spectrogram", "wave"), "text": ("tfidf",), "table": ("columns",)}
RATE = 8000  # samples per second of the spoken digits


def images(stored: np.ndarray, size: int | None = None) -> Tensor:
    """Return images as float64 of shape (n, channels, h, w), resized by averaging over areas.

    Args:
        stored: (n, h, w) or (n, h, w, channels), any numeric type.
        size: new height and width; None keeps them.
    """
    pixels = torch.as_tensor(np.asarray(stored, dtype=np.float64))
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    return pixels if size is None or len(pixels) == 0 else F.interpolate(pixels, size=(size, size), mode="area")


def spectrogram(waves: np.ndarray, window: int = 256, hop: int = 128) -> Tensor:
    """Return log power spectra log(1 + |STFT|^2), float64 of shape (n, 1, window/2 + 1, frames); Hann window.

    Args:
        waves: (n, samples), integers of 16 bits or floats in the same units.
        window, hop: samples per frame and between frames.
    """
    return _power(waves, window, hop).log1p()[:, None]


def logmel(waves: np.ndarray, bands: int = 32, window: int = 256, hop: int = 128) -> Tensor:
    """Return log(1 + power in mel bands), float64 of shape (n, 1, bands, frames).

    Bands are triangles, equally spaced on mel(f) = 2595 log10(1 + f/700) between 0 and half the sampling rate.

    Args:
        waves: (n, samples) at 8 kHz.
        bands: number of bands.
        window, hop: as for `spectrogram`.
    """
    power = _power(waves, window, hop)
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bands + 2, dtype=torch.float64) / 2595) - 1)
    frequency = torch.linspace(0, RATE / 2, power.shape[1], dtype=torch.float64)
    rise = (frequency - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - frequency) / (edges[2:] - edges[1:-1])[:, None]
    return torch.einsum("bf,nft->nbt", torch.minimum(rise, fall).clamp(min=0), power).log1p()[:, None]


def _power(waves: np.ndarray, window: int, hop: int) -> Tensor:
    signal = torch.as_tensor(np.asarray(waves, dtype=np.float64)) / 32768 * window
    if len(signal) == 0:  # the Fourier transform refuses it
        return signal.new_zeros(0, window // 2 + 1, 1 + (signal.shape[1] - window) // hop)
    hann = torch.hann_window(window, dtype=torch.float64)
    return torch.stft(signal, window, hop, window=hann, center=False, return_complex=True).abs().square()


def tfidf(train: Any, test: Any, words: int = 1000) -> tuple[Tensor, Tensor]:
    """Return word frequencies weighted by rarity, rows of Euclidean norm 1, float64 of shape (n, words).

    Vocabulary and weights come from the training texts alone (scikit-learn's TfidfVectorizer, English stop words).

    Args:
        train, test: texts.
        words: size of the vocabulary: the most frequent ones.
    """
    text = import_extra("sklearn.feature_extraction.text", "word frequencies of text")
    vectors = text.TfidfVectorizer(max_features=words, stop_words="english")
    try:
        fitted = vectors.fit_transform(train).toarray()
    except ValueError as error:  # no word is left
        raise InputError(f"the training texts hold no words to count ({error})") from None
    rest = vectors.transform(test).toarray() if len(test) else np.zeros((0, fitted.shape[1]))
    return torch.as_tensor(fitted), torch.as_tensor(rest)


def extract(kind: str, features: str | None, train: Any, test: Any, size: int | None) -> tuple[Tensor, Tensor, str]:
    """Return the features of training and test samples, and which they are.

    Args:
        kind: "image", "audio" or "text".
        features: one of `FEATURES[kind]`; None: the first of them.
        train, test: stored samples.
        size: side of images, number of mel bands, or size of the vocabulary; None: the default.

    Raises:
        InputError: the features do not belong to this kind, or size does not apply.
    """
    features = choose(f"features of {kind}", features or FEATURES[kind][0], FEATURES[kind])
    if size is not None and (size < 1 or features in ("wave", "spectrogram", "columns")):
        raise InputError(f"size: expected a positive number, and None for waves, spectrograms and tables, got {size}")
    if features in ("spectrogram", "logmel") and np.shape(train)[1] < 256:
        raise InputError(f"sound of {np.shape(train)[1]} samples is shorter than a window of 256; use features='wave'")
    if features == "tfidf":
        return *tfidf(train, test, size or 1000), features
    maps = {
        "pixels": lambda part: images(part, size),
        "logmel": lambda part: logmel(part, size or 32),
        "spectrogram": spectrogram,
        "wave": _numbers,
        "columns": _numbers,
    }
    return maps[features](train), maps[features](test), features


def _numbers(part: np.ndarray) -> Tensor:
    return torch.as_tensor(np.asarray(part, dtype=np.float64))


def rescale(train: Tensor, test: Tensor, scale: str, top: float, low: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return both sets on one scale, learned from the training set alone.

    Args:
        train, test: float tensors, (n, channels, ...) or (n, d).
        scale: "standard": mean 0 and variance 1 over the training set (per channel for images and sound, one pair of
            numbers for all entries of vectors); "unit": (x - low) / (top - low), so that images lie in [0, 1]; "norm":
            every sample divided by its Euclidean norm; "raw": as stored.
        top: the largest value a stored sample can have; NaN if that is not known.
        low: the smallest one; 0 for sound.

    Raises:
        InputError: the scale is unknown, or "unit" where the largest value is not known.
    """
    choose("scale", scale, SCALES)
    if scale == "raw" or len(train) == 0:
        return train, test
    if scale == "unit":
        if math.isnan(top):
            raise InputError("scale='unit': the largest value is not known; give range = [low, high] in the manifest")
        return (train - low) / (top - low), (test - low) / (top - low)
    if scale == "norm":
        return tuple(
            part / part.flatten(1).norm(dim=1).clamp(min=1e-300).view(-1, *[1] * (part.ndim - 1))
            for part in (train, test)
        )
    axes = [axis for axis in range(train.ndim) if axis != 1 or train.ndim == 2]
    mean, std = train.mean(axes, keepdim=True), train.std(axes, correction=0, keepdim=True)
    std = torch.where(std > 0, std, 1.0)
    return (train - mean) / std, (test - mean) / std
