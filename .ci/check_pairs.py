"""Check that every notebook is in step with the script it is paired with by jupytext (same cells, same order).

Usage: ``python .ci/check_pairs.py notebooks``. Outputs and metadata are not compared, nor are modification times, which
mean nothing in a fresh clone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jupytext


def cells(path: Path) -> list[tuple[str, str]]:
    """Return the type and the text of every cell of a notebook or script."""
    return [(cell.cell_type, cell.source.rstrip()) for cell in jupytext.read(path).cells]


def problem(stem: Path) -> str | None:
    """Return what is wrong with a pair, or None."""
    notebook, script = stem.with_suffix(".ipynb"), stem.with_suffix(".py")
    for here, missing in ((script, notebook), (notebook, script)):
        if not missing.exists():
            return f"{here} has no {missing.name}: jupytext --sync {here}"
    ours, theirs = cells(notebook), cells(script)
    if ours == theirs:
        return None
    same = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    return f"{notebook} and {script.name} differ from cell {same + 1} on: jupytext --sync {script}"


def main(folder: Path) -> int:
    """Print every pair that is out of step; return how many."""
    stems = sorted(
        {
            p.with_suffix("")
            for p in folder.rglob("*")
            if p.suffix in {".ipynb", ".py"} and not {"demo", ".ipynb_checkpoints"} & set(p.parts)
        }
    )
    problems = [text for text in map(problem, stems) if text]
    print("\n".join(problems) if problems else f"{len(stems)} pairs in step")
    return len(problems)


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1])), 1))
