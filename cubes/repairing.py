"""Damaged stores mended from their source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chunking.build import Progress
from chunking.executors import open_executor
from chunking.homes import local
from chunking.icechunk_repo import ICECHUNK
from chunking.planner import refuse_unknown_errors
from chunking.repair import Repaired, repair_store
from cubes.verifying import verify
from loaders.errors import CubesError, StoreError
from loaders.records import Catalog


class Repairs(list[Repaired]):
    """The stores that were mended.

    Attributes
    ----------
    intact : list of Path
        Stores that were complete and unchanged, and were left alone.
    failed : dict
        Why a store could not be mended, by its path; empty unless called with ``errors="report"``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.intact: list[Path] = []
        self.failed: dict[str, str] = {}


def repair(
    path: str | Path,
    source: Catalog,
    *,
    executor: str = "threads",
    workers: int = 2,
    progress: Callable[[Progress], None] | None = None,
    errors: str = "raise",
) -> Repairs:
    """Mend damaged stores: every byte is verified, and what is damaged is made again from the source.

    The parts that are intact are taken over as they are. The mended store takes the place of the damaged one in one
    step, which stays until `cubes.gc` removes it. Interrupted or killed, the same call goes on.

    Parameters
    ----------
    path : path
        One store, or a root with many.
    source : Catalog
        From `cubes.source`: what the stores were made of.
    executor, workers, progress
        As for `cubes.build`.
    errors : {"raise", "report"}
        If a store cannot be mended: raise the error, or go on with the others and keep the reason in the result.

    Returns
    -------
    list of Repaired
        For every store that was damaged how many parts were kept and made again, and whether all of it had to be,
        because its manifest was lost. Its attribute ``intact`` lists the stores that needed nothing, ``failed`` says
        why others could not be mended.

    Raises
    ------
    BadArgument
        If it is a url.
    NotFound
        If there is no store.
    StoreError
        If the source has changed since the build, or nothing in the store says how it was made.
    InconsistentData
        If the source does not give what the store held.

    Examples
    --------
    >>> import cubes
    >>> source = cubes.source("one", "sample")
    >>> chunk = f"my-cubes/insertions/{pid}/counts_20ms.zarr/counts/c/0/0"
    >>> written = open(chunk, "wb").close()  # the disk loses it
    >>> cubes.repair("my-cubes", source)[0].redone
    1
    >>> any(cubes.verify("my-cubes").values())
    False
    """
    refuse_unknown_errors(errors)
    repairs = Repairs()
    with open_executor(executor, workers) as execute:
        report = verify(local(path, "repair").absolute())
        for name, problems in report.items():
            try:
                if name in report.unchecked:
                    raise StoreError(f"store {name}: cannot be read ({report.unchecked[name]})")
                if problems and Path(name).suffix == ICECHUNK:
                    raise StoreError(
                        f"store {name}: is damaged, and a repository cannot be mended; remove it and build it again"
                    )
                if problems:
                    damaged = {problem.key for problem in problems}
                    repairs.append(repair_store(Path(name), damaged, source, execute, progress or (lambda _: None)))
                else:
                    repairs.intact.append(Path(name))
            except (CubesError, OSError) as error:
                if errors == "raise":
                    raise
                repairs.failed[name] = str(error)
    return repairs
