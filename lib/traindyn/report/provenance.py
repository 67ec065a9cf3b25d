"""Where a result came from: versions, machine, revision, seeds, data, time and memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from traindyn import used

# packages that compute, read data or draw: another version of one may change a result
PACKAGES = (
    "torch", "numpy", "pandas", "scipy", "sympy", "scikit-learn", "mlxtend", "pillow", "pyarrow", "safetensors",
    "matplotlib", "seaborn", "ipykernel", "ipython",
)  # fmt: skip
# variables that change numbers or figures, beside every TRAINDYN_* one
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_CBWR", "NVIDIA_TF32_OVERRIDE",
             "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "PYTHONHASHSEED",
             "MATPLOTLIBRC")  # fmt: skip
PLACES = ("TRAINDYN_ROOT", "TRAINDYN_DATA")  # where things lie: what lies there is recorded instead


def environment() -> dict[str, str]:
    """Return the environment variables that can change a result, as far as they are set."""
    names = [*VARIABLES, *sorted(name for name in os.environ if name.startswith("TRAINDYN_") and name not in PLACES)]
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def versions() -> dict[str, str]:
    """Return the versions of Python, this library and the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in ("traindyn", *PACKAGES):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device_name(device: torch.device) -> str:
    """Return what a device is: the GPU's model, or the processor's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()


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
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": {"type": device.type, "name": device_name(device)},
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "environment": environment(),
        "data": used.data(),
        "git": revision(root),
        "peak_memory_mb": peak_memory_mb(),
    }
