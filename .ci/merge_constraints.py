"""Merge the ``pip freeze`` of two environments into constraints.txt (printed): ``merge_constraints.py OLD NEW``.

``OLD`` is the freeze of Python 3.11, ``NEW`` that of a Python >= 3.12, the line where zarr, numpy and others part ways.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HEADER = """\
# The versions that the tests run with, on Python 3.11 and on Python >= 3.12: `pip install -c constraints.txt ...`.
# Only versions: no addresses, no hashes. To renew: `make constraints`, then `make test`.
"""
BOUNDARY = "3.12"


def pins(freeze: Path) -> dict[str, str]:
    """Return ``name==version`` of every package in a freeze by its normalised name."""
    lines = (line.strip() for line in freeze.read_text().splitlines())
    found = [line for line in lines if re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+", line)]
    return {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower(): line for line in found}


def merge(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Return one line for a package where both agree or only one has it, two with markers where they differ."""
    lines = []
    for name in sorted(old | new):
        a, b = old.get(name), new.get(name)
        if a and b and a != b:
            lines += [f'{a} ; python_version < "{BOUNDARY}"', f'{b} ; python_version >= "{BOUNDARY}"']
        else:
            lines.append(a or b or "")
    return lines


if __name__ == "__main__":
    print(HEADER + "\n".join(merge(pins(Path(sys.argv[1])), pins(Path(sys.argv[2])))))
