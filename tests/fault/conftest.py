"""What the fault tests share: tiny stores, and their contents."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cubes

PRODUCTS = ("spikes", "channels", "counts_20ms", "counts_100ms")


@pytest.fixture
def plan_tiny(tiny: Any) -> Callable[..., Any]:
    """``plan_tiny(root, layout)``: the products of the tiny session."""

    def plan(root: Path, layout: str = "balanced", products: tuple[str, ...] = PRODUCTS) -> Any:
        source = cubes.source("folder", tiny.folder)
        return cubes.plan(source, [tiny.pid], products, root=root, counts_layout=layout)

    return plan


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """All files of the published stores of a root but the manifests, which say when they were built."""

    def read(root: Path) -> dict[str, bytes]:
        files = (path for path in root.glob("insertions/*/*.zarr/**/*") if path.is_file())
        return {str(path.relative_to(root)): path.read_bytes() for path in files if path.name != "manifest.json"}

    return read
