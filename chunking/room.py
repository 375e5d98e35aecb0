"""Whether a build can fit: refused before any work is what certainly will not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from chunking.plan import ArrayPlan, StorePlan, human_bytes
from loaders.errors import PlanRefused

# Share of its size that an array takes on disk at least: counts are mostly zeros, 1/270 of it was seen in bins of 1 ms;
# voltage and spikes are noise, at best a third. Low, because refusing what would fit is worse than running full late:
# a build that fills the disk is told so, and goes on from there.
_LEAST = {"u": 0.001, "b": 0.0, "i": 0.1, "f": 0.1}


def least_disk_bytes(stores: Iterable[StorePlan]) -> int:
    """What the large arrays of stores take on disk at the very least, however well they compress."""
    return sum(_least(array) for store in stores for array in store.arrays)


def _least(array: ArrayPlan) -> int:
    return int(array.nbytes * _LEAST[np.dtype(array.dtype).kind])


def refuse_full_disk(root: Path, stores: Iterable[StorePlan]) -> None:
    """Raise PlanRefused if the disk of the root has less room than stores that do not exist yet take at least."""
    needed = least_disk_bytes(store for store in stores if not store.exists)
    if needed > (free := shutil.disk_usage(nearest_folder(root)).free):
        raise PlanRefused(
            f"root {root}: {human_bytes(free)} are free on its disk, and the stores take at least "
            f"{human_bytes(needed)}; plan fewer insertions or products, link ap and lf, or choose another root"
        )


def nearest_folder(root: Path) -> Path:
    """The folder itself, or the nearest above it that exists."""
    absolute = root.absolute()
    return next(folder for folder in (absolute, *absolute.parents) if folder.exists())


def refuse_too_little_memory(stores: Iterable[StorePlan], workers: int = 1) -> None:
    """Raise PlanRefused if the tasks that run at once may hold more than the memory of this machine."""
    largest = max(stores, key=lambda store: store.task_bytes, default=None)
    if largest is not None and largest.task_bytes * workers > (memory := _memory_bytes()):
        raise PlanRefused(
            f"pid {largest.pid}, product {largest.product}: a task holds up to {human_bytes(largest.task_bytes)}, and "
            f"this machine has {human_bytes(memory)} for {workers} at once; use fewer workers or another layout"
        )


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
