"""Layouts under access patterns: the suite of `test_patterns.py`, as tables and figures.

    python benchmarks/bench_layouts.py [--turns 2] [--data FOLDER] [--report]     # runs the suite: some ten minutes
    python benchmarks/bench_layouts.py --json layouts.json [--report]             # of a run that is kept

Times are medians over the turns; the score of a layout is the geometric mean, over patterns, of its time in relation to
the best layout of that pattern: near of all patterns, far of those that do not read the same as another one. All is
read by zarr-python as plain `xr.open_zarr` sets it up. A default is the measured choice if no layout that a build can
write has a score that is more than 15 % better.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from advice_compared import compared
from cases import BYTES_PER_S, FAR, LOCAL
from datasets import CACHE, DATASETS
from layouts_compared import LAYOUTS
from report import FIGURES, Section, Table, add_report_option, machine, markdown, save_figure, write_section

SUITE = Path(__file__).resolve().parent
KEY = ["dataset", "pattern", "place", "layout"]
CLEARLY = 1.15  # better by less is noise, or not worth a change
FACTS = ["write_seconds", "disk_bytes", "files", "requests", "read_bytes", "wanted_bytes", "peak_bytes"]


def run_suite(data: Path, turns: int, datasets: Sequence[str], latency_ms: float, minutes: float) -> dict[str, Any]:
    """Run the suite, every data set in a process of its own, for so long; what pytest-benchmark says of it.

    Data sets for which there was no time are missing.
    """
    end, found = time.monotonic() + 60 * minutes, []
    for dataset in datasets:
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "layouts.json"
            options = ["--turns", str(turns), "--latency-ms", str(latency_ms), "--data", data, "--datasets", dataset]
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark-json", result]
            begin = time.monotonic()
            try:
                ran = subprocess.run(
                    [*command, *options, "--", SUITE], capture_output=True, text=True, check=False, cwd=SUITE.parent,
                    timeout=max(end - begin, 0),
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                print(f"{dataset}: no time left", file=sys.stderr)
                continue
            if ran.returncode:
                raise RuntimeError(f"the suite failed: {ran.stdout[-3000:]} {ran.stderr[-1000:]}")
            print(f"{dataset}: {time.monotonic() - begin:.0f} s", file=sys.stderr)
            found += json.loads(result.read_text())["benchmarks"]
    return {"benchmarks": found}


def frame(run: dict[str, Any]) -> pd.DataFrame:
    """One row a case and turn: what it is, seconds, and facts where they were found."""
    return pd.DataFrame([{"seconds": one["stats"]["median"], **one["extra_info"]} for one in run["benchmarks"]])


def relative(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a case: median seconds, its times over the best of the pattern, and the spread of that over turns."""
    seconds = runs.groupby(KEY, sort=False)["seconds"].agg(["median", "min", "max"])
    best = seconds["median"].groupby(KEY[:3]).transform("min")
    in_turn = runs["seconds"] / runs.groupby([*KEY[:3], "turn"])["seconds"].transform("min")
    spread = in_turn.groupby([runs[name] for name in KEY], sort=False).agg(["min", "max"])
    found = seconds.assign(times=seconds["median"] / best, least=spread["min"], most=spread["max"]).reset_index()
    return found.merge(runs[runs.turn == 0][[*KEY, *FACTS]], on=KEY)


def scores(cases: pd.DataFrame) -> pd.DataFrame:
    """Geometric means (dataset, layout): near, far and both."""
    logs = cases.assign(log=np.log(cases["times"]))
    by_place = logs.pivot_table("log", ["dataset", "layout"], "place", "mean", sort=False)
    return np.exp(by_place.assign(both=by_place.mean(axis=1)))


def table_of(dataset: str, cases: pd.DataFrame) -> list[Table]:
    """What a data set costs in each layout, and its patterns, near and far."""
    rows = []
    mine = cases[cases.dataset == dataset]
    for layout in LAYOUTS[DATASETS[dataset].product]:
        one = mine[mine.layout == layout.name].iloc[0]
        ratio = np.prod(DATASETS[dataset].shape) * np.dtype(DATASETS[dataset].dtype).itemsize / one.disk_bytes
        rows.append(
            [
                _name(layout),
                layout.serves,
                int(one.files),
                f"{one.disk_bytes / 1e6:.0f}",
                f"{ratio:.2f}",
                f"{one.write_seconds:.1f}",
            ]
        )
    tables = [
        Table(
            f"### {dataset}\n\n{DATASETS[dataset].about}.",
            ["layout", "serves", "files", "MB", "ratio", "s to write"],
            rows,
        )
    ]
    return [*tables, *(_times(dataset, mine, place) for place in (LOCAL, FAR))]


def _times(dataset: str, mine: pd.DataFrame, place: str) -> Table:
    """Milliseconds, and how many times the best of the pattern."""
    layouts = LAYOUTS[DATASETS[dataset].product]
    here = mine[mine.place == place].set_index(["pattern", "layout"])
    rows = []
    for pattern in here.index.unique("pattern"):
        cells = []
        for layout in layouts:
            one = here.loc[pattern, layout.name]
            spread = f" ({one.least:.1f}–{one.most:.1f})" if one.most - one.least >= 0.05 else ""
            cells.append(f"{one['median'] * 1e3:.0f} ms, {one.times:.1f}{spread}")
        rows.append([pattern, *cells])
    caption = f"{dataset}, {PLACES[place]}: median time, and times the best of the row (least–greatest of the turns)."
    return Table(caption, ["pattern", *map(_name, layouts)], rows)


PLACES = {LOCAL: "from this disk (page cache)", FAR: "from far away"}


def read_table(dataset: str, cases: pd.DataFrame) -> Table:
    """What the default layout reads: speed, requests and bytes."""
    default = LAYOUTS[DATASETS[dataset].product][0]
    mine = cases[(cases.dataset == dataset) & (cases.layout == default.name)].set_index(["pattern", "place"])
    rows = []
    for pattern in mine.index.unique("pattern"):
        here = mine.loc[pattern]
        near, seconds = here.loc[LOCAL], here["median"].reindex([LOCAL, FAR])
        rows.append([
            pattern, f"{near.wanted_bytes / 1e6:.1f}", int(near.requests), f"{near.read_bytes / 1e6:.1f}",
            *("" if np.isnan(one) else f"{near.wanted_bytes / one / 1e6:.0f}" for one in seconds),
            f"{near.peak_bytes / 1e6:.0f}",
        ])  # fmt: skip
    columns = ["pattern", "MB wanted", "requests", "MB read", "MB/s near", "MB/s far", "MB held at most"]
    return Table(f"{dataset}, layout {default.name}: MB wanted are decoded, MB read are as stored.", columns, rows)


def _name(layout: Any) -> str:
    return f"**{layout.name}**" if layout.default else layout.name


def defaults_table(cases: pd.DataFrame) -> Table:
    """For every data set what wins what, the scores, and whether the default is the measured choice."""
    rows = []
    of = scores(cases)
    for dataset in cases.dataset.unique():
        layouts = {layout.name: layout for layout in LAYOUTS[DATASETS[dataset].product]}
        default = next(name for name, layout in layouts.items() if layout.default)
        mine = of.loc[dataset].sort_values("both")
        unsharded = mine[[layouts[name].shard is None for name in mine.index]]
        best = unsharded.index[0]
        verdict = "yes" if mine.both[default] <= CLEARLY * unsharded.both.iloc[0] else f"NO: {best}"
        listed = "; ".join(
            f"{_name(layouts[n])} {s.both:.2f} ({s[LOCAL]:.2f}, {s[FAR]:.2f})" for n, s in mine.iterrows()
        )
        rows.append([dataset, listed, wins(cases, dataset), verdict])
    columns = ["data", "score: both (near, far), best first", "fastest near, by pattern", "default is the choice"]
    return Table("The default is bold. A score of 1 would be the best layout of every pattern.", columns, rows)


def wins(cases: pd.DataFrame, dataset: str) -> str:
    """Which layout is the fastest at what."""
    mine = cases[(cases.dataset == dataset) & (cases.place == LOCAL)]
    best = mine.loc[mine.groupby("pattern", sort=False)["median"].idxmin()]
    return "; ".join(f"{layout}: {', '.join(some.pattern)}" for layout, some in best.groupby("layout", sort=False))


def figure_of(dataset: str, cases: pd.DataFrame, folder: Path = FIGURES) -> str:
    """Times over the best, layout x pattern, near and far."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    names = [layout.name for layout in LAYOUTS[DATASETS[dataset].product]]
    mine = cases[cases.dataset == dataset]
    patterns = list(mine.pattern.unique())
    figure, axes = plt.subplots(1, 2, figsize=(2.6 + 1.3 * len(patterns), 0.9 + 0.42 * len(names)), sharey=True)
    for ax, place in zip(axes, (LOCAL, FAR), strict=True):
        here = mine[mine.place == place].pivot_table("times", "layout", "pattern")
        grid = here.reindex(names, columns=patterns).to_numpy()
        ax.imshow(np.log10(grid), vmin=0, vmax=1.3, cmap="YlOrRd", aspect="auto")
        for (i, j), times in np.ndenumerate(grid):
            if np.isnan(times):  # reads what another pattern reads
                continue
            said, colour = f"{times:.1f}" if times < 10 else f"{times:.0f}", "white" if times > 9 else "black"
            ax.text(j, i, said, ha="center", va="center", fontsize=8, color=colour)
        ax.set_xticks(range(len(patterns)), patterns, rotation=40, ha="right", fontsize=8)
        ax.set_yticks(range(len(names)), names, fontsize=8)
        ax.set_title(PLACES[place], fontsize=9)
    figure.suptitle(f"{dataset}: times the fastest layout of the pattern", fontsize=10)
    name = save_figure(f"layouts_{dataset}", figure, folder)
    plt.close(figure)
    return name


def sections(
    runs: pd.DataFrame, latency_ms: float, figures: Sequence[str] = (), advice: Sequence[Table] = ()
) -> dict[str, Section]:
    """The two sections of the page."""
    cases = relative(runs)
    names = list(cases.dataset.unique())
    far = (
        f"Far away: a request waits {latency_ms:g} ms, and then brings {BYTES_PER_S / 1e6:g} MB/s, as one to S3; ten "
        f"are under way at once, zarr-python's default; patterns that read what another one reads are left out. Turns: "
        f"{runs.turn.max() + 1} near, 1 far; files near are in the page cache. Bold: the default of a build."
    )
    if left := [name for name, dataset in DATASETS.items() if name not in names and not dataset.long]:
        far += f" Not measured, for want of time: {', '.join(left)}."
    tables = [table for name in names for table in (*table_of(name, cases), read_table(name, cases))]
    facts = machine()
    text = " ".join((__doc__ or "").split("\n\n")[2].split())
    return {
        "layouts": Section("Layouts under access patterns", far, tables, figures, facts),
        "defaults": Section("Defaults: which layout wins what", text, [defaults_table(cases), *advice], (), facts),
    }


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="the file of an earlier run of the suite")
    parser.add_argument("--data", type=Path, default=CACHE)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--latency-ms", type=float, default=30)
    parser.add_argument("--minutes", type=float, default=60, help="data sets for which there is no time are left out")
    parser.add_argument(
        "--datasets", nargs="+", choices=DATASETS, default=[n for n, d in DATASETS.items() if not d.long]
    )
    parser.add_argument("--advice", action="store_true", help="also ask cubes.advise what it says of the same data")
    add_report_option(parser)
    options = parser.parse_args()
    if options.json:
        run = json.loads(options.json.read_text())
    else:
        run = run_suite(options.data, options.turns, options.datasets, options.latency_ms, options.minutes)
    runs = frame(run)
    cases = relative(runs)
    figures = [figure_of(name, cases) for name in cases.dataset.unique()] if options.report else []
    for ask in (False, True) if options.advice else (False,):  # what was measured is kept if asking fails
        found = sections(runs, options.latency_ms, figures, [compared(cases)] if ask else [])
        for name, section in found.items() if options.report else ():
            write_section(name, section)
    for section in found.values():
        print(f"\n## {section.title}\n\n{section.text}")
        print(*(f"\n{markdown(table)}" for table in section.tables), sep="\n")


if __name__ == "__main__":
    main()
