"""What the commands share: flags, the source by its name, JSON, and the one line of an error."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from loaders.errors import BadArgument

if TYPE_CHECKING:
    from loaders.records import Catalog

Json = Annotated[bool, Parameter(negative="")]


def to_json(value: Any) -> str:
    """Indented strict JSON."""
    return json.dumps(value, indent=2, allow_nan=False)


def fail(message: str, code: int = 1) -> int:
    """Tell an error in one line; gives the exit code."""
    print(f"cubes: error: {' '.join(message.split())}", file=sys.stderr)
    return code


@Parameter(name="*")
@dataclass(frozen=True)
class Remote:
    """What else names a remote source.

    Parameters
    ----------
    cache
        Folder for files of a remote source. By default $IBL_CUBES_CACHE, or else ibl-cubes in the user's cache.
    release
        For a remote source: the list that its insertions are in, such as 2023_12_bwm_release.
    tables
        For http: folder with the tables of a ONE cache.
    """

    cache: Path | None = None
    release: str | None = None
    tables: Path | None = None


def open_source(name: str, cache: Path | None, release: str | None, tables: Path | None) -> Catalog:
    """The source that a name or a folder means on the command line."""
    from cubes.sources import REMOTE
    from cubes.sources import source as open_named

    lists = ("bucket", "openalyx")  # which have no list of their own
    given = {"cache": cache, "release": release if name in lists else None, "tables": tables}
    options = {option: value for option, value in given.items() if value is not None}
    if name in REMOTE:
        return open_named(name, **options)
    if options:
        raise BadArgument(
            f"{', '.join(options)}: only for the sources {', '.join(REMOTE)}; {name} is taken for a folder"
        )
    return open_named("auto", name)
