"""Data to train on: real sets by name, synthetic inputs and targets.

`load` gives a registered set; `polynomial`, `parity`, `sphere`, `teacher`, ... make one.
"""

from traindyn.learn.data.loading import Dataset, load, open_set, present
from traindyn.learn.data.synthetic import l1_norm, parity, polynomial, sphere, teacher, two_clusters

__all__ = [
    "Dataset",
    "l1_norm",
    "load",
    "open_set",
    "parity",
    "polynomial",
    "present",
    "sphere",
    "teacher",
    "two_clusters",
]
