"""The commands about what exists: released insertions, and the tables of a catalog."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cubes.cli_shared import open_source
from loaders.errors import CorruptData

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


def catalog(
    folder: Path,
    *,
    source: str | None = None,
    cache: Path | None = None,
    release: str | None = None,
    alyx: Annotated[tuple[Path, ...], Parameter(consume_multiple=True, negative="")] = (),
    sessions: Path | None = None,
    clusters: Path | None = None,
    channels: Path | None = None,
    sorter: str | None = None,
    revision: str | None = None,
    units: bool = True,
) -> None:
    """Fill the tables of what exists, from any of these; what was there before stays.

    Parameters
    ----------
    folder
        Folder of the stores; the tables go into its subfolder catalog.
    source
        A ONE cache folder, one ALF session folder, a folder with an Allen release, or a remote source, such as
        allen-vbn.
    cache
        Folder for files of a remote source. By default $IBL_CUBES_CACHE, or else ibl-cubes in the user's cache.
    release
        A release, such as 2023_12_bwm_release.
    alyx
        JSON files with answers of the database: insertions, sessions or datasets.
    sessions
        Table of sessions of a ONE cache.
    clusters
        Table of units of many insertions, such as clusters.pqt of the public bucket.
    channels
        Table of sites of many insertions, such as channels.pqt of the public bucket.
    sorter
        Spike sorter of the units.
    revision
        Revision of the sorting of the units.
    units
        Also read the units and sites of the source.
    """
    from cubes.tables import catalog as open_catalog

    tables = open_catalog(folder)
    notes = [] if release is None else tables.add_release(release)
    notes += [] if sessions is None else tables.add_sessions(sessions)
    for path in alyx:
        notes += tables.add_alyx(_read_json(path))
    if source is not None:
        opened = open_source(source, cache, None, None)
        notes += tables.add_source(opened, units=units, sorter=sorter, revision=revision)
    notes += [] if clusters is None else tables.add_units(clusters, sorter=sorter, revision=revision)
    notes += [] if channels is None else tables.add_channels(channels)
    for note in notes:
        print(note, file=sys.stderr)
    print(tables)


@Parameter(name="*")
@dataclass(frozen=True)
class Filters:
    """Which insertions.

    Parameters
    ----------
    region
        Acronyms of the Allen atlas, such as TH or LGd; what lies within counts.
    mapping
        Allen, Beryl, Cosmos or Swanson: the level at which places are named.
    min_good_units
        At least so many good units, in the region if there is one.
    release
        Only those of a release.
    lab
        Names of labs.
    subject
        Names of animals.
    date
        First and last day, as 2021-01-01:2021-12-31; either may be left out.
    query
        An expression over the columns, such as "model == '3B2' and n_units > 500".
    """

    region: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = ()
    mapping: str = "Allen"
    min_good_units: int | None = None
    release: str | None = None
    lab: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = ()
    subject: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = ()
    date: str | None = None
    query: str | None = None

    def find(self, folder: Path) -> pd.DataFrame:
        """The insertions of a catalog that fit; what every filter hid is told on standard error."""
        from cubes.tables import catalog as open_catalog
        from loaders.table_filters import hidden_lines

        found = open_catalog(folder).insertions(
            region=self.region or None,
            mapping=self.mapping,
            min_good_units=self.min_good_units,
            release=self.release,
            lab=self.lab or None,
            subject=self.subject or None,
            date=_dates(self.date),
            query=self.query,
        )
        for line in hidden_lines(found):
            print(line, file=sys.stderr)
        return found


def find(
    *,
    catalog: Path,
    filters: Filters = Filters(),
    table: Json = False,
    json: Json = False,
) -> None:
    """Print the pids of the insertions that fit, one a line. cubes plan and cubes build take the same filters.

    What every filter hid is told on standard error.

    Parameters
    ----------
    catalog
        Folder of the stores, or its subfolder catalog.
    table
        Print all columns.
    json
        Print JSON.
    """
    found = filters.find(catalog)
    if table or json:
        print_table(found.drop(columns=[] if json else ["xyz_picks", "comment", "serial"]), json)
    else:
        print(*found["pid"], sep="\n", end="\n" if len(found) else "")


def presence(source: Path, *pids: str, json: Json = False) -> None:
    """Tell which data of every insertion are complete, which are not, and why.

    Parameters
    ----------
    source
        A ONE cache folder, an ALF session folder, or a folder with the tables of a catalog.
    pids
        Only these insertions.
    json
        Print JSON.
    """
    from cubes.presence_table import presence as presence_of
    from cubes.sources import is_source
    from cubes.sources import source as open_source
    from cubes.tables import catalog as open_catalog

    opened = open_source("auto", source) if is_source(source) else open_catalog(source)
    found = presence_of(opened, pids or None)
    words = dict(zip(found["state"].attrs["flag_values"], found["state"].attrs["flag_meanings"].split(), strict=True))
    rows = found.to_dataframe().reset_index()
    rows["state"] = rows["state"].map(words)
    print_table(rows[["pid", "dataset", "state", "detail", "reason", "local"]], json)


def _dates(text: str | None) -> tuple[str | None, str | None] | None:
    if text is None:
        return None
    first, colon, last = text.partition(":")
    return first or None, (last if colon else first) or None


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise CorruptData(f"{path}: not JSON ({error}); record it again") from error


def print_table(table: pd.DataFrame, as_json: bool) -> None:
    """Print all rows, for people or as JSON; what is not known is empty or null."""
    if as_json:
        print(json.dumps(json.loads(table.to_json(orient="records")), indent=2))
    else:
        print(table.astype(object).where(table.notna(), "").to_string(index=False))
