"""What the fault tests share: tiny stores, and their contents."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import cubes

PRODUCTS = ("spikes", "channels", "counts_20ms", "counts_100ms")


@pytest.fixture
def plan_tiny(tiny: Any) -> Callable[..., Any]:
    """``plan_tiny(root, layout)``: the products of the tiny session."""
    return partial(plan, tiny)


@pytest.fixture(scope="session")
def plan_shared(shared_tiny: Any) -> Callable[..., Any]:
    """The same of a session that no test changes."""
    return partial(plan, shared_tiny)


def plan(session: Any, root: Path, layout: str = "balanced", products: tuple[str, ...] = PRODUCTS) -> Any:
    source = cubes.source("folder", session.folder)
    return cubes.plan(source, [session.pid], products, root=root, counts_layout=layout)


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """All files of the published stores of a root but the manifests, which say when they were built."""

    def read(root: Path) -> dict[str, bytes]:
        files = (path for path in root.glob("insertions/*/*.zarr/**/*") if path.is_file())
        return {str(path.relative_to(root)): path.read_bytes() for path in files if path.name != "manifest.json"}

    return read


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Syncs return at once: a busy disk takes seconds, and the kill of a process does not undo what it wrote."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
