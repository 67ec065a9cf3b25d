"""Repetitions that are left out give every table, without rows, and evidence that is unknown and never false."""

import torch

from traindyn import parameters
from traindyn.studies.catapults import evidence_gd, evidence_sgd, gallery, gd, sgd, tasks

SIZES = parameters.load_presets("catapults")["laptop"].sizes


def size(name):
    return parameters.sized("catapults", name, SIZES[name])


def test_without_seeds_every_table_is_there_and_empty():
    read = size("readings")
    more = gallery.runs(size, tasks.follower([], torch.float32, "cpu", "none"), 1.67, 1e-3)
    assert {"digits-cnn", "fcn-zero", "hessian-cnn", "sgd-torch-fast"} < set(more)
    assert all(table.empty for table in more.values())
    tables = [
        evidence_gd.climbing({"fcn": more["digits-fcn"]}, read.fallen),
        evidence_gd.by_space(more["multi-rank2"]),
        *evidence_gd.phases({"cnn": gd.phases(more["multi-cnn"], [0, 10, 40])}),
        evidence_gd.end(more["from-start-cnn"]),
        evidence_sgd.networks({"CNN": more["sgd-cnn"], "ViT": more["sgd-vit"]}, read),
        evidence_sgd.match({"cnn": sgd.match(more["sgd-cnn"], read)}),
        evidence_sgd.thresholds({"cnn": more["hessian-cnn"]}),
    ]
    assert all(table.empty and len(table.columns) for table in tables)
    assert {"climb", "share"} < set(tables[0]) and "share_10" in tables[1] and "inside_nets" in tables[4]
