"""Stores compared with their manifests, with what their chunks decode to, and with their source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chunking.delivered import Place, verify_delivered
from chunking.link import check_linked, is_linked
from chunking.manifest import MANIFEST, Problem, read_manifest, verify_store
from cubes.stores import find_stores, place_of
from loaders.errors import BadArgument, CubesError, StoreError
from loaders.records import Catalog

LEVELS = ("quick", "bytes", "full")


class Report(dict[str, list[Problem]]):
    """The problems of every store, by its path; an empty list means that it is complete and unchanged.

    Attributes
    ----------
    unchecked : dict
        Why a store could not be compared, or not with the source, by its path.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unchecked: dict[str, str] = {}


def verify(path: str | Path, *, level: str = "bytes", source: Catalog | None = None) -> Report:
    """Compare stores with their manifests, linked recordings with what they held, and all of it with the source.

    Parameters
    ----------
    path : path
        One store, or a root with many; also by its url. A damaged one does not stop the others.
    level : {"quick", "bytes", "full"}
        ``quick``: the manifest itself, the set of files and their sizes. ``bytes``: also every byte, by checksum.
        ``full``: also every chunk is decoded, its cells compared with their checksum, and the store with the schema.
    source : Catalog, optional
        From `cubes.source`. The product is then made again from it, block by block, and every cell compared bit for
        bit; and it is told if the source is another than that of the build. Takes the time of a build; nothing is
        written.

    Returns
    -------
    Report
        For every store a list of problems: the file, what is wrong with it, the range of bytes, and the cells. Its
        attribute ``unchecked`` says which stores could not be compared, and why.

    Raises
    ------
    BadArgument
        If there is no such level.
    NotFound
        If there is no store.

    Examples
    --------
    >>> import cubes
    >>> any(cubes.verify("my-cubes").values())
    False
    >>> report = cubes.verify("my-cubes", source=cubes.source("one", "sample"))
    >>> any(report.values()), report.unchecked
    (False, {})
    """
    if level not in LEVELS:
        raise BadArgument(f"level: expected one of {', '.join(LEVELS)}, got {level!r}")
    report = Report()
    for store in find_stores(path):
        name = str(store) if isinstance(store, Path) else store.name
        found = report[name] = []
        try:
            for problems in _compare(store, level, source):
                found += problems
        except (CubesError, OSError) as error:
            report.unchecked[name] = str(error)
        if found and isinstance(store, Path):
            from chunking.cells import name_cells

            report[name] = name_cells(store, found)
    return report


def _compare(store: Place, level: str, source: Catalog | None) -> Iterator[list[Problem]]:
    """The problems of one store, comparison by comparison."""
    quick = level == "quick"
    try:
        place = place_of(store)
        if not isinstance(place, Path):
            yield verify_delivered(place, quick=quick)
            _refuse_more(place.name, level, source)
            return
        store, files = place, read_manifest(place)["files"]
    except StoreError as error:
        yield [Problem(MANIFEST, str(error))]  # and nothing says what the other files should be
        return
    problems = verify_store(store, quick=quick)
    if is_linked(store):
        problems += check_linked(store, quick=quick)
    yield problems
    damaged = {problem.key for problem in problems}
    if level == "full":
        from chunking.decoded import check_decoded

        problems = check_decoded(store, files, damaged)
        yield problems
        damaged |= {problem.key for problem in problems}
    if source is not None:
        from chunking.against_source import compare_with_source
        from chunking.made_from import read_made_from

        yield compare_with_source(store, read_made_from(store)[0], source, damaged)


def _refuse_more(name: str, level: str, source: Catalog | None) -> None:
    """Raise BadArgument if more was asked for than can be compared of a store that is no Zarr folder."""
    if level == "full" or source is not None:
        raise BadArgument(
            f"store {name}: its bytes were compared; decoding it, or comparing it with a source, needs a Zarr store in "
            "a folder"
        )
