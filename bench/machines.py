"""How much of a chapter's evidence another machine would change: python bench/machines.py [chapter ...]

Each chapter is run at smoke on this processor, and again as if it were an older one: no AVX in PyTorch, MKL, oneDNN and
OpenBLAS, so that every sum is taken in another order, as on another model; and, where torch sees a GPU and the chapter
offers a choice, on that. Printed: verdicts that differ, and quantiles over all numbers of evidence of the relative
change. Only finite numbers above 1e-9 count: what is zero but for rounding has no relative change.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from traindyn import files, parameters
from traindyn.report.columns import evidence_from_json
from traindyn.run import execute

OLDER = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX",
}


def run(chapter: str, folder: Path, variables: dict[str, str], **values: str) -> dict[str, dict]:
    """Return the records of a run by claim."""
    resolved = parameters.resolve(chapter, "smoke", values)
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        out = execute.execute(resolved, folder)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return {record["id"]: record for record in files.read_json(out / "claims.json")["claims"]}


def changes(one: dict[str, dict], other: dict[str, dict]) -> tuple[list[str], np.ndarray]:
    """Return the claims whose verdict differs, and the relative changes of all numbers."""
    found = []
    for claim in one.keys() & other.keys():
        mine, theirs = (evidence_from_json(records[claim]["evidence"]) for records in (one, other))
        for name in mine.keys() & theirs.keys():
            for case, rows in mine[name].rows.items():
                for seed, a in rows.items():
                    b = theirs[name].rows.get(case, {}).get(seed, math.nan)
                    if math.isfinite(a) and math.isfinite(b) and max(abs(a), abs(b)) > 1e-9:
                        found.append(abs(a - b) / max(abs(a), abs(b)))
    different = [claim for claim in one if other.get(claim, {}).get("verdict") != one[claim]["verdict"]]
    return different, np.array(found)


def devices(chapter: str) -> list[dict[str, str]]:
    """Return the parameters that put a chapter on the CPU and, if it offers a choice and there is one, on the GPU."""
    known = parameters.declared(parameters.source(chapter)).get("device")
    if known is None:
        return [{}]
    return [{"device": name} for name in ("cpu", "cuda")[: 2 if torch.cuda.is_available() and not known.choices else 1]]


def main(chapters: list[str]) -> None:
    """Measure and print."""
    for chapter in chapters:
        on, *gpu = devices(chapter)
        others = [("an older processor", OLDER, on), *(("the GPU", {}, where) for where in gpu)]
        for precision in ("float64", "float32"):
            with tempfile.TemporaryDirectory() as name:
                first = run(chapter, Path(name) / "first", {}, precision=precision, **on)
                for number, (word, variables, where) in enumerate(others):
                    second = run(chapter, Path(name) / str(number), variables, precision=precision, **where)
                    different, by = changes(first, second)
                    spread = ", ".join(f"{q:.0%} {np.quantile(by, q):.1e}" for q in (0.5, 0.9, 0.99))
                    print(
                        f"{chapter}, {precision}, {word}: {len(different)} of {len(first)} verdicts differ "
                        f"({', '.join(different) or 'none'}); {len(by)} numbers, {np.mean(by == 0):.0%} equal, "
                        f"quantiles {spread}, largest {by.max():.1e}",
                        flush=True,
                    )


if __name__ == "__main__":
    main(sys.argv[1:] or parameters.chapters())
