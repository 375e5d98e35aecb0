"""Keeping rows of a table, and saying of every filter how many rows it hid and why."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from datetime import date
from typing import TYPE_CHECKING, Any

from loaders.errors import BadArgument, NotFound

if TYPE_CHECKING:
    import pandas as pd

Names = str | Iterable[str] | None


class Sieve:
    """Rows that remain, and what every filter took away. A filter that is None takes nothing away.

    Parameters
    ----------
    rows : DataFrame
    what : str
        What a row is, for messages, such as ``insertions``.
    """

    def __init__(self, rows: pd.DataFrame, what: str) -> None:
        self.rows = self._all = rows
        self._what = what
        self._hidden: list[dict[str, Any]] = []

    def keep(self, mask: pd.Series, why_not: str) -> None:
        """Keep the rows where `mask` is true; ``<NA>`` is not known, and hidden too."""
        unknown = mask.isna()
        keep = mask.astype("boolean").fillna(False).astype(bool)
        self._hidden.append({"why": why_not, "rows": int((~keep).sum()), "unknown": int(unknown.sum())})
        self.rows = self.rows[keep]

    def keep_if(self, column: str, test: Callable[[Any], bool], why_not: str) -> None:
        """Keep rows whose value in a column passes a test."""
        self.keep(self.rows[column].map(test).astype("boolean"), why_not)

    def _keep_known(self, mask: pd.Series, values: pd.Series, why_not: str) -> None:
        """Keep rows where `mask` is true; it is not known where `values` are missing."""
        self.keep(mask.astype("boolean").mask(values.isna()), why_not)

    def names(self, column: str, wanted: Names) -> None:
        """Keep rows with one of some names in a column; a name that no row of the table has is an error."""
        if wanted is None:
            return
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        known = self._all[column].dropna().unique().tolist()
        for name in names:
            if name not in known:
                similar = difflib.get_close_matches(name, known, n=3) or sorted(known)[:8]
                raise NotFound(f"{column} {name!r}: no {self._what} with it; did you mean {', '.join(similar)}?")
        values = self.rows[column]
        self._keep_known(values.isin(names), values, f"{column} is not {' or '.join(names)}")

    def between(self, column: str, bounds: tuple[str | None, str | None] | None) -> None:
        """Keep rows from one day to another, both included; None is open."""
        if bounds is None:
            return
        first, last = bounds
        if not all(day is None or _is_day(day) for day in bounds) or (first and last and first > last):
            raise BadArgument(f"{column}: expected the first and the last day as YYYY-MM-DD, got {first} to {last}")
        values = self.rows[column]
        inside = values.notna()
        if first is not None:
            inside &= values >= first
        if last is not None:
            inside &= values <= last
        self._keep_known(inside, values, f"{column} is not from {first or 'the first'} to {last or 'the last'}")

    def at_least(self, column: str, bound: float | None) -> None:
        """Keep rows with at least so much in a column."""
        if bound is not None:
            values = self.rows[column]
            self._keep_known(values >= bound, values, f"{column} is less than {bound:g}")

    def at_most(self, column: str, bound: float | None) -> None:
        """Keep rows with at most so much in a column."""
        if bound is not None:
            values = self.rows[column]
            self._keep_known(values <= bound, values, f"{column} is more than {bound:g}")

    def query(self, text: str | None) -> None:
        """Keep rows for which an expression over the columns is true, such as ``model == '3B2' and n_units > 500``.

        The rules are those of pandas: missing text and NaN are equal to nothing, so that ``!=`` keeps them.
        """
        if text is None:
            return
        try:
            mask: Any = self.rows.eval(text, engine="python", local_dict={}, global_dict={})
        except Exception as error:  # an expression can fail in every way that Python can
            columns = ", ".join(map(str, self.rows.columns))
            raise BadArgument(f"query {text!r}: {error}; the columns of {self._what} are {columns}") from error
        if getattr(mask, "dtype", None) not in ("bool", "boolean", "bool[pyarrow]"):
            raise BadArgument(f"query {text!r}: expected something true or false of every row, such as n_units > 500")
        self.keep(mask, f"not {text}")

    def result(self) -> pd.DataFrame:
        """The rows that are left; their ``attrs`` tell what was hidden."""
        left = self.rows.reset_index(drop=True)
        left.attrs = {"of": len(self._all), "what": self._what, "hidden": self._hidden}
        return left


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def hidden_lines(table: pd.DataFrame) -> list[str]:
    """What was hidden from the answer to a query, a line a filter and one for the sum."""
    facts = table.attrs
    lines = []
    for filtered in facts.get("hidden", ()):
        unknown = f", {filtered['unknown']:,} of them because it is not known" if filtered["unknown"] else ""
        lines.append(f"{filtered['rows']:,} hidden: {filtered['why']}{unknown}")
    return [*lines, f"{len(table):,} of {facts['of']:,} {facts['what']}"] if "of" in facts else lines
