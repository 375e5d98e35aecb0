"""The commands about what exists: released insertions, and the tables of a catalog."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    import pandas as pd

Json = Annotated[bool, Parameter(negative="")]


def releases(name: str | None = None, /, *, json: Json = False) -> None:
    """List the releases, or the insertions of one of them.

    Parameters
    ----------
    name
        A release, such as 2023_12_bwm_release; without it, all releases with their counts.
    json
        Print JSON.
    """
    from loaders.releases import release
    from loaders.releases import releases as all_releases

    print_table(all_releases() if name is None else release(name), json)


def print_table(table: pd.DataFrame, as_json: bool) -> None:
    """Print all rows, for people or as JSON; what is not known is empty or null."""
    if as_json:
        print(json.dumps(json.loads(table.to_json(orient="records")), indent=2))
    else:
        print(table.astype(object).where(table.notna(), "").to_string(index=False))
