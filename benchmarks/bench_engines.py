"""Engines and settings that read and write our chunks: zarr-python, zarrs, tensorstore, and bare calls.

    PYTHON=python3.13 sh benchmarks/peers/engines.sh                              # once
    PYTHON=python3.11 VENV=.venv-engines-3.11 sh benchmarks/peers/engines.sh      # once, for the older zarr
    python benchmarks/bench_engines.py [--seconds 8] [--rounds 3] [--report]

Generated AP of 384 channels in chunks of 96 channels x 1 s with the codecs of our stores, each a file, or in shards of
all channels x 8 s. Each engine writes the array, reads all of it, windows of 1 s of all channels at random places, and
one channel of everything; by one caller, except where dask is named, whose tasks are chunks (shards where they are
written). "numcodecs, 2 threads" is the floor: blosc, checksum and files. Every run is a process of its own, and they
take turns; what was read and written is compared. Files are in the page cache.

And who reads which codec, as it is installed: zarrs without handing over to zarr-python.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measure import Run, median, ratio, run_process, spread, take_turns
from report import Section, Table, add_report_option, markdown, write_section

HERE = Path(__file__).resolve().parent
METHODS = HERE / "peers/engine_methods.py"
NEWER = HERE / "peers/.venv-engines/bin/python"
OLDER = HERE / "peers/.venv-engines-3.11/bin/python"
REFERENCE, FLOOR = "zarr-python", "numcodecs, 2 threads"
ENGINES = (
    REFERENCE,
    "zarr-python, async.concurrency 1",
    "zarr-python, async.concurrency 64",
    "zarr-python, one thread",
    "zarr-python, fused pipeline",
    "zarr-python, dask on 1 thread",
    "zarr-python, dask on 2 threads",
    "zarr-python, dask on 4 threads",
    "zarrs",
    "tensorstore",
    FLOOR,
)
OLDER_ENGINES = (REFERENCE, "zarr-python, dask on 2 threads", "zarrs")
READERS = (REFERENCE, "zarrs", "tensorstore")
KINDS = {"write": "write all", "whole": "read all", "window": "1 s, all channels", "channel": "one channel"}
Key = tuple[str, str, str]  # python, engine, layout


def versions(python: Path) -> str:
    """Python, and the packages that count, of an environment."""
    names = ("zarr", "zarrs", "tensorstore", "numcodecs", "dask")
    code = (
        "import importlib.metadata as m, platform as p;"
        f"print('python', p.python_version() + ', ' + ', '.join(n + ' ' + m.version(n) for n in {names}))"
    )
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def commands(folder: Path, quick: bool) -> dict[Key, list[str | Path]]:
    """What takes turns; without environments, zarr-python and the floor of this one."""
    found: dict[Key, list[str | Path]] = {}
    here = [engine for engine in ENGINES if NEWER.exists() or engine.startswith("zarr-python") or engine == FLOOR]
    todo = [("newer", NEWER if NEWER.exists() else Path(sys.executable), here)]
    todo += [("older", OLDER, OLDER_ENGINES)] if OLDER.exists() else []
    for name, python, engines in todo:
        for engine in engines[::4] if quick else engines:
            for layout in ("chunks", "shards"):
                if engine != FLOOR or layout == "chunks":  # without zarr, shards would be a program of their own
                    found[name, engine, layout] = [python, METHODS, "measure", engine, layout, folder]
    return found


def tables(results: dict[Key, list[Run]]) -> list[Table]:
    """One a layout: wall times, and how much faster than zarr-python in the same round."""
    found = []
    for layout in ("chunks", "shards"):
        reference = results["newer", REFERENCE, layout]
        rows = []
        for (python, engine, where), runs in results.items():
            if where == layout:
                cells = [f"{spread(runs, kind, 1e3, 0)}, × {ratio(reference, runs, kind):.2f}" for kind in KINDS]
                rows.append([engine + (" (older)" if python == "older" else ""), *cells])
        size = reference[0]["bytes"] / 1e6
        what = "each a file" if layout == "chunks" else "in shards of 384 channels × 8 s"
        caption = f"Chunks of 96 channels × 1 s, {what}; {size:.0f} MB; ms (min–max), and × the speed of zarr-python"
        found.append(Table(caption, ["engine", *KINDS.values()], rows))
    rows = []
    for (python, engine, layout), runs in results.items():
        if layout == "shards":
            plain = results[python, engine, "chunks"]
            cells = [f"{ratio(plain, runs, kind):.2f}" for kind in KINDS]
            rows.append([engine + (" (older)" if python == "older" else ""), *cells])
    found.append(Table("Shards: × the speed of the same engine without", ["engine", *KINDS.values()], rows))
    return found


def readers(folder: Path) -> list[Table]:
    """Who reads which codec."""
    python = NEWER if NEWER.exists() else Path(sys.executable)
    engines = READERS if NEWER.exists() else READERS[:1]
    found: dict[str, Any] = {e: run_process([python, METHODS, "readable", e, "-", folder]) for e in engines}
    rows = [[codec, *(found[engine][codec] for engine in engines)] for codec in found[engines[0]]]
    return [Table("Who reads which codec of int16 voltage, as installed", ["codec", *engines], rows)]


def figure(results: dict[Key, list[Run]]) -> str:
    """Bars: time against that of zarr-python on plain chunks."""
    from matplotlib.figure import Figure
    from report import save_figure

    drawn = Figure(figsize=(13, 4.6), layout="constrained")
    names = list(dict.fromkeys((python, engine) for python, engine, _ in results))
    for axis, (kind, title) in zip(drawn.subplots(1, 4, sharey=True), KINDS.items(), strict=True):
        base = median(results["newer", REFERENCE, "chunks"], kind)
        for j, layout in enumerate(("chunks", "shards")):
            at = [(i, results[*name, layout]) for i, name in enumerate(names) if (*name, layout) in results]
            times = [median(runs, kind) / base for _, runs in at]
            axis.barh([i + 0.4 * j - 0.2 for i, _ in at], times, 0.36, color=f"C{j}", label=layout)
        axis.axvline(1, color="0.5", lw=0.8)
        axis.set(title=title, xlabel="time, zarr-python on chunks = 1")
    axis.set_yticks(range(len(names)), [e + (" (older)" if p == "older" else "") for p, e in names])
    axis.invert_yaxis()
    axis.legend()
    return save_figure("engines", drawn)


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8, help="of AP, a multiple of 8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="some engines only, as in the tests")
    parser.add_argument("--json", type=Path, help="also write every run to this file")
    add_report_option(parser)
    options = parser.parse_args()
    from raw_session import voltage

    text = (
        "Who reads and writes our chunks how fast, and which codecs others can read (`benchmarks/bench_engines.py`). "
        "Ours writes with bare calls, as the floor does; readers choose their own engine."
    )
    for label, python in (("newer", NEWER), ("older", OLDER)):
        text += f" {label}: {versions(python)}." if python.exists() else f" {label}: not there, run peers/engines.sh."
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        blocks = [block.T[:384] for block in voltage("ap", options.seconds * 30000, 30000)]
        np.save(folder / "samples.npy", np.concatenate(blocks, axis=1))
        python = NEWER if NEWER.exists() else Path(sys.executable)
        run_process([python, METHODS, "prepare", "-", "-", folder])
        results = take_turns(commands(folder, options.quick), options.rounds)
        found = tables(results) + readers(folder)
    for table in found:
        print(f"\n{markdown(table)}")
    if options.report:
        write_section("engines", Section("Engines and shards", text, found, [figure(results)]))
    if options.json:
        options.json.write_text(json.dumps({"|".join(key): runs for key, runs in results.items()}))


if __name__ == "__main__":
    main()
