"""Options of the suite, and the data, stores and truth that its cases share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from cases import Bench, cases
from datasets import CACHE, DATASETS


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("layouts")
    group.addoption("--data", type=Path, default=CACHE, help="folder in which data and stores are made, and kept")
    group.addoption("--quick", action="store_true", help="small data, as a test; also without --benchmark-...")
    group.addoption("--turns", type=int, default=2, help="how often the layouts take turns")
    group.addoption("--datasets", nargs="+", choices=DATASETS, default=[n for n, d in DATASETS.items() if not d.long])
    group.addoption("--latency-ms", type=float, default=30, help="of the store far away, to the first byte")


def is_quick(config: pytest.Config) -> bool:
    return bool(config.getoption("--quick") or config.getoption("--benchmark-disable"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Layouts are next to each other, then places, then patterns; all of that again for every turn."""
    config = metafunc.config
    if "case" in metafunc.fixturenames:
        quick = is_quick(config)
        found = list(cases(config.getoption("--datasets"), 1 if quick else config.getoption("--turns"), quick=quick))
        metafunc.parametrize("case", found, ids=str)


@pytest.fixture(scope="session")
def bench(pytestconfig: pytest.Config) -> Bench:
    quick = is_quick(pytestconfig)
    latency_s = 0.001 if quick else pytestconfig.getoption("--latency-ms") / 1e3
    return Bench(pytestconfig.getoption("--data"), latency_s, quick=quick)
