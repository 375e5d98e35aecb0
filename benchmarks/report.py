"""The report: every benchmark leaves a section in ``benchmarks/.results``, and this joins them into one page.

    python benchmarks/report.py        # .results/*.json -> RESULTS.md; figures are in figures/

A benchmark has the option `--report` (`add_report_option`), and then calls `write_section`. Run with other sizes it
leaves the page alone.

Only the standard library, as `measure`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS, FIGURES, PAGE = HERE / ".results", HERE / "figures", HERE / "RESULTS.md"

ORDER = ("claims", "defaults", "layouts", "floors", "paths", "codecs", "engines", "counts", "align", "raw", "bwm")
"""The sections of the page; those that are not named here come last, by name."""

PACKAGES = ("ibl-cubes", "numpy", "xarray", "zarr", "numcodecs", "dask", "numba", "imagecodecs", "mtscomp")

INTRODUCTION = """# What the benchmarks measured

Written by `make bench`. Ratios are what to trust: the methods of a table take turns in one run, so that a change of the
machine's speed hits all alike, while seconds differ from machine to machine. "a (b–c)" is a median with the least and
the greatest of the rounds."""


@dataclass(frozen=True)
class Table:
    """One table: a sentence above it, the names of its columns, and rows of text or numbers."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Section:
    """What one benchmark has to say: figures are names of files in `FIGURES`, sentences are Markdown."""

    title: str
    text: str
    tables: Sequence[Table] = ()
    figures: Sequence[str] = ()
    machine: dict[str, str] = field(default_factory=lambda: machine())


def machine(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """What the figures hold for: processor, memory, versions, and the day."""
    gibibytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    facts = {"machine": f"{os.cpu_count()} cores, {_processor()}, {gibibytes:.0f} GiB, {platform.system()}"}
    facts["python"] = platform.python_version()
    for name in packages:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:  # an environment of a peer
            continue
    return facts | {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def write_section(name: str, section: Section, folder: Path = RESULTS) -> Path:
    """Keep a section, for the next page that is written; `name` says its place, as in `ORDER`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(asdict(section), indent=1))
    return path


def add_report_option(parser: argparse.ArgumentParser) -> None:
    """`--report`: only runs that ask for it are shown on the page, so that small ones do not replace it."""
    parser.add_argument("--report", action="store_true", help="leave a section for benchmarks/RESULTS.md")


def save_figure(name: str, figure: Any, folder: Path = FIGURES) -> str:
    """Write a figure of matplotlib as a small PNG; returns the name of the file, for `Section.figures`."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=90, bbox_inches="tight", metadata={"Software": None})
    return f"{name}.png"


def read_sections(folder: Path = RESULTS) -> dict[str, Section]:
    """The sections that exist, in the order of the page."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    names = [*(name for name in ORDER if name in found), *(name for name in found if name not in ORDER)]
    return {name: _section(found[name]) for name in names}


def _section(read: dict[str, Any]) -> Section:
    tables = [Table(**table) for table in read.pop("tables")]
    return Section(**read, tables=tables)


def markdown(table: Table) -> str:
    """A table of Markdown under its caption."""
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    cells = ("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
    return "\n".join([f"{table.caption}\n", *cells] if table.caption else cells)


def page(sections: dict[str, Section]) -> str:
    """The whole page; what was not run is said, and a machine where it differs from that of the first section."""
    parts = [INTRODUCTION]
    facts = next(iter(sections.values())).machine if sections else {}
    if facts:
        parts.append(_said(facts))
    if missing := [name for name in ORDER if name not in sections]:
        parts.append(f"Not run this time: {', '.join(missing)}.")
    for section in sections.values():
        parts += [f"## {section.title}", section.text]
        other = {name: fact for name, fact in section.machine.items() if facts.get(name) != fact and name != "date"}
        if other:
            parts.append(f"Here: {_said(other)}")
        parts += [markdown(table) for table in section.tables]
        parts += [f"![{section.title}](figures/{name})" for name in section.figures]
    return "\n\n".join(part for part in parts if part) + "\n"


def _said(facts: dict[str, str]) -> str:
    return ", ".join(fact if name in ("machine", "date") else f"{name} {fact}" for name, fact in facts.items()) + "."


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    sections = read_sections(options.results)
    options.page.write_text(page(sections))
    print(f"{options.page}: {', '.join(sections) or 'nothing was run'}")


if __name__ == "__main__":
    main()
