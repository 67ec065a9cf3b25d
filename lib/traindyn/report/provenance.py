"""Where a result came from: versions, machine, revision, seeds, data, time and memory."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

PACKAGES = ("torch", "numpy", "pandas", "matplotlib", "seaborn", "scikit-learn", "scipy")


def versions() -> dict[str, str]:
    """Return the versions of Python, this library and the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in ("traindyn", *PACKAGES):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def revision(root: Path) -> dict[str, Any]:
    """Return the git commit of `root` and whether the tree was changed since, or Nones outside a checkout."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "changed": None if status is None else bool(status)}


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    if sys.platform == "win32":
        return round(psutil.Process().memory_info().peak_wset / 2**20, 1)
    import resource  # Unix only

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)  # macOS counts bytes, Linux KiB


def collect(root: Path, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return what this process knows of the circumstances of a run.

    Args:
        root: the project's folder.
        device: where the run computes.
        dtype: its floating-point type.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": {"type": device.type, "name": name},
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "git": revision(root),
        "peak_memory_mb": peak_memory_mb(),
    }
