"""What safety costs: builds with the protocol of publication, and the same writes without it or without a part of it.

    python benchmarks/bench_protocol.py [--products counts_1ms ap ...] [--units 1000] [--minutes 60] [--rounds 5]

The protocol: the bytes are summed, every file is synced and read back, each part goes into the journal, the manifest is
written, names and sizes are compared, and the store is renamed. Every run is a process of its own; they take turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_counts import write_session
from measure import Run, median, ratio, spread, take_turns
from raw_session import Session


def nothing(*args: object, **options: object) -> Any:
    return []


def without_fsync() -> None:
    import os

    os.fsync = nothing


def without_read_back() -> None:
    import chunking.publish

    chunking.publish.compare_files = nothing


def without_journal() -> None:
    from chunking.journal import Journal

    Journal.add = nothing  # type: ignore[method-assign]


def without_sums() -> None:
    from chunking import encode

    encode.crc32 = lambda data: ""
    without_read_back()


def without_all() -> None:
    """Chunks and metadata are written, and the store is moved to its place."""
    import chunking.build
    import chunking.homes
    import chunking.staging

    without_journal()
    without_sums()
    chunking.staging.seal = nothing
    chunking.build.complete = nothing
    chunking.homes.publish = move


def move(store: Path, final: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    store.rename(final)


VARIANTS: dict[str, Callable[[], Any]] = {
    "without the protocol": without_all,
    "with it": nothing,
    "with it, but no fsync": without_fsync,
    "with it, but no read-back": without_read_back,
    "with it, but no journal": without_journal,
    "with it, but no read-back and no sums": without_sums,
}


def run_one(folder: Path, product: str, variant: str) -> Run:
    """Build four times, once to load everything; the least of the others. Inputs are loaded before the clock starts."""
    import cubes
    from chunking.build import build_store
    from chunking.executors import open_executor
    from chunking.products import parse_product
    from loaders.inputs import Inputs

    VARIANTS[variant]()
    source = cubes.source("folder", folder)
    pid = source.insertions()[0].pid
    inputs, runs = Inputs(source, pid), []
    for _ in range(4):
        with tempfile.TemporaryDirectory(dir=folder.parent) as root:
            plan = cubes.plan(source, [pid], [product], root=root)
            parse_product(product).origin(inputs)
            with open_executor("threads", 2) as execute:
                start, cpu = time.perf_counter(), time.process_time()
                made = parse_product(product)
                build_store(Path(root), plan.stores[0], made, inputs, execute, lambda _: None, replacing=False)
                runs.append((time.perf_counter() - start, time.process_time() - cpu))
    return {"seconds": min(wall for wall, _ in runs[1:]), "cpu": min(cpu for _, cpu in runs[1:])}


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", nargs="+", default=["counts_1ms", "counts_20ms", "spikes", "ap"])
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seconds", type=float, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--brief", action="store_true", help="all of the protocol against none of it, no part of it")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(Path(options.one[0]), *options.one[1:])))
        return
    with tempfile.TemporaryDirectory() as name:
        sorting, raw = Path(name) / "sorting/session", Path(name) / "raw"
        write_session(sorting, options.units, options.minutes, 8.3334)
        Session.write(raw, options.seconds)
        variants = list(VARIANTS)[: 2 if options.brief else None]
        for product in options.products:
            folder = sorting if product == "spikes" or product.startswith("counts") else raw / "session"
            commands = {v: [sys.executable, __file__, "--one", folder, product, v] for v in variants}
            report(product, take_turns(commands, options.rounds))


def report(product: str, results: dict[str, list[Run]]) -> None:
    print(f"\n### {product}\n\n| | seconds: median (least–greatest) | against none | CPU against none |")
    print("|---|---|---|---|")
    bare = results["without the protocol"]
    for variant, runs in results.items():
        more, cpu = (1 / ratio(bare, runs, key) - 1 for key in ("seconds", "cpu"))
        print(f"| {variant} | {spread(runs)} | {more:+.0%} | {cpu:+.0%} |", flush=True)
    print(f"\nAll of it costs {median(results['with it']) - median(bare):.2f} s.")


if __name__ == "__main__":
    main()
