"""The text of a SpikeGLX ``.meta`` file: ``key=value`` lines, read strictly, and typed access to them.

The format is described at https://billkarsh.github.io/SpikeGLX/Sgl_help/Metadata_Help.html.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from loaders.errors import CorruptData, NotFound

MAX_META_BYTES = 4 << 20  # a quad-base meta of 1536 channels has 75 kB
MAX_CHANNELS = 1 << 14  # the largest probe saves 1540
_INTEGER = re.compile(r"[0-9]{1,18}")
_REAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_CELL = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ENTRY = re.compile(r"\(([^()]*)\)")


def read_meta_text(path: Path) -> str:
    """The text of a meta file.

    Raises
    ------
    NotFound
        If there is no such file.
    CorruptData
        If it is larger than any meta can be.
    """
    if not path.is_file():
        raise NotFound(f"{path}: there is no such meta file; without it the voltage has neither rate nor gain")
    with path.open("rb") as file:
        content = file.read(MAX_META_BYTES + 1)
    if len(content) > MAX_META_BYTES:
        raise CorruptData(f"{path}: expected a meta of at most {MAX_META_BYTES} bytes, got more; is it a data file?")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:  # Windows wrote the names of folders in its own code page
        return content.decode("latin-1")


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of one meta.

    Attributes
    ----------
    name : str
        What errors call the meta.
    values : dict of str to str
        Every tag, without its ``~``.
    """

    name: str
    values: dict[str, str]

    def __contains__(self, key: str) -> bool:
        return bool(self.values.get(key))

    def text(self, key: str) -> str:
        """The value of a tag that must be there and not be blank."""
        if key not in self:
            raise self.corrupt(f"{key} is missing; the recording cannot be read without it. Fetch the meta again")
        return self.values[key]

    def real(self, key: str) -> float:
        """A number above 0 and below 1e9."""
        value = self.text(key)
        number = float(value) if _REAL.fullmatch(value) else math.nan
        if not 0 < number < 1e9:  # NaN is neither
            raise self.corrupt(f"expected a number above 0 and below 1e9 in {key}, got {_short(value)}")
        return number

    def integer(self, key: str) -> int:
        """A whole number, 0 or more."""
        return self._integer(key, self.text(key))

    def integers(self, key: str, n: int) -> tuple[int, ...]:
        """`n` whole numbers with commas between them."""
        parts = self.text(key).split(",")
        if len(parts) != n:
            raise self.corrupt(f"expected {n} numbers in {key}, got {_short(self.values[key])}")
        return tuple(self._integer(key, part) for part in parts)

    def ranges(self, key: str, limit: int) -> list[int]:
        """The numbers of a list such as ``0:300,768``, each below `limit`."""
        numbers: list[int] = []
        for part in self.text(key).split(","):
            first, colon, last = part.partition(":")
            start = self._integer(key, first)
            stop = self._integer(key, last) if colon else start
            if not start <= stop < limit or (numbers and start <= numbers[-1]):
                raise self.corrupt(f"expected increasing channels below {limit} in {key}, got {_short(part)}")
            numbers += range(start, stop + 1)
        return numbers

    def table(self, key: str, separator: str) -> tuple[list[str], list[list[float]]]:
        """Header and rows of a table such as ``(0,384)(0 0 0 500 250 1)...``."""
        value = self.text(key)
        header, *rows = _ENTRY.findall(value) or [""]
        if sum(len(row) + 2 for row in (header, *rows)) != len(value) or len(rows) > MAX_CHANNELS:
            raise self.corrupt(f"expected (header)(entry)(entry)... in {key}, got {_short(value)}")
        return header.split(","), [self._row(key, row, separator) for row in rows]

    def corrupt(self, what: str) -> CorruptData:
        """An error about this meta."""
        return CorruptData(f"{self.name}: {what}")

    def _row(self, key: str, row: str, separator: str) -> list[float]:
        parts = row.split(separator)
        if not all(_CELL.fullmatch(part) for part in parts):
            raise self.corrupt(f"expected numbers in every entry of {key}, got {_short(row)}")
        return [float(part) for part in parts]

    def _integer(self, key: str, text: str) -> int:
        if not _INTEGER.fullmatch(text):
            raise self.corrupt(f"expected a whole number in {key}, got {_short(text)}")
        return int(text)


def parse_tags(text: str, name: str) -> Tags:
    """Split the text of a meta into its tags.

    Parameters
    ----------
    text : str
    name : str
        What errors call the meta.

    Raises
    ------
    CorruptData
        If it is empty, holds something else than ``key=value`` lines, or one key twice with different values.
    """
    if _CONTROL.search(text):
        raise CorruptData(f"{name}: not a SpikeGLX meta: it holds binary data; fetch it again")
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        key, equals, value = line.partition("=")
        key, value = key.strip().removeprefix("~"), value.strip()
        if not (equals and key):
            raise CorruptData(f"{name}: expected key=value in line {number}, got {_short(line)}; fetch it again")
        if values.setdefault(key, value) != value:
            raise CorruptData(f"{name}: {key} is there twice, as {_short(values[key])} and {_short(value)}")
    if not values:
        raise CorruptData(f"{name}: the meta is empty; fetch it again")
    return Tags(name, values)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
