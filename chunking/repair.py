"""A damaged store mended: what is intact is taken over, the rest is made again from the source, and both are replaced.

It is a build whose staging begins with the intact parts; so an interrupted one goes on as builds do, and readers see
the damaged version until the whole one takes its place.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from chunking.build import OnProgress, build_store
from chunking.executors import Executor
from chunking.homes import Folder
from chunking.made_from import read_made_from
from chunking.planner import plan_store
from chunking.salvage import Salvage
from loaders.errors import StoreError
from loaders.records import Catalog


@dataclass(frozen=True, slots=True)
class Repaired:
    """A store that was mended.

    Attributes
    ----------
    path : Path
    kept, redone : int
        Parts of its large arrays that were taken over, and made again. Labels and metadata are always made again.
    from_nothing : bool
        Whether its manifest was lost or of another version, so that nothing could be trusted and all was made again.
    """

    path: Path
    kept: int
    redone: int
    from_nothing: bool


def repair_store(
    store: Path, damaged: Collection[str], catalog: Catalog, execute: Executor, report: OnProgress
) -> Repaired:
    """Mend one store.

    Parameters
    ----------
    store : Path
        ``<root>/insertions/<pid>/<product>.zarr``.
    damaged : collection of str
        Its files that are not as the manifest has them.
    catalog : Catalog
        The source that it was made of.
    execute : Executor
    report : callable
        Called with a `Progress` after every part.

    Raises
    ------
    StoreError
        If nothing says how it was made, the source has changed since, or it does not lie in a root.
    """
    changes: list[str] = []
    mends = []
    root = store.parents[2]
    for made_from in read_made_from(store):
        product, inputs = made_from.prepare(catalog)
        if not (changes := made_from.changes(product, inputs)):
            plan, salvage = plan_store(Folder(root), inputs, product), Salvage(store, made_from, damaged)
            mends.append((len(salvage.intact(plan)), plan, product, inputs, salvage))
    if not mends:
        raise StoreError(
            f"store {store}: the source has changed since it was built ({'; '.join(changes[:4])}), so what is damaged "
            "cannot be made again; build all of it with cubes build --replace, or, if that refuses it, remove it first"
        )
    # If manifest and attributes contradict each other, one is of another version: the manifest, if no part is intact.
    kept, plan, product, inputs, salvage = max(reversed(mends), key=lambda mend: mend[0])
    if root / plan.path != store:
        raise StoreError(f"store {store}: expected <root>/{plan.path}; move it there first")
    build_store(root, plan, product, inputs, execute, report, replacing=True, salvage=salvage)
    return Repaired(store, kept, len(plan.regions) - kept, not salvage.is_known)
