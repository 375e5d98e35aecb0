"""Labelled data cubes of Neuropixels recordings.

>>> import cubes
>>> source = cubes.source("one", "sample")
>>> pid = source.insertions()[0].pid
>>> plan = cubes.plan(source, [pid], root="my-cubes")
>>> stores = cubes.build(plan, existing="skip")
>>> cubes.open("my-cubes", pid)["counts_20ms"].counts.sizes
Frozen({'unit': 500, 'time': 6000})

Everything is imported when it is first used: ``import cubes`` itself loads neither xarray nor zarr, dask or ONE.

====================  =======================================================================
module                idea
====================  =======================================================================
``sources``           where recordings come from, by name
``building``          planning and building
``opening``           the stores of an insertion together, or of a session
``pinned_store``      one version of a store; every file that is read is compared with the manifest
``reading_pipeline``  the faster of zarr's ways from chunks to an array, for what we open
``delivered_store``   a store in another home as Zarr reads it, compared with its manifest
``opening_many``      the stores of many insertions as one lazy tree
``lazy_store``        a store as a dataset from its metadata alone
``pooling``           many insertions as one cube: unit x condition x time
``pool_recipe``       which units, events, trials and conditions a pool has
``pool_members``      which insertions go into it, and why others do not
``pool_labels``       the labels of its units, regions, conditions and times
``pool_responses``    what the units of one of them do around events
``pooled_product``    the product that is built of them
``mapping``           a function over many insertions, its results labelled by pid
``stores``            what lies in a root: listing, describing, removing old versions
``verifying``         stores compared with their manifests, and with their source
``repairing``         damaged stores mended from their source
``rechunking``        stores copied into another layout
``rechunked_product``  the product whose source is a store
``advising``          which layout serves which analysis
``layout_sample``     what layouts are compared on
``layout_trial``      how long the patterns of access take on every layout
``root_status``       what is built, stale, damaged, in staging, or kept of older versions
``selecting``         units or channels by region and quality, saying what was left out
``binning``           counts at any width from the stored spikes
``ragged``            which spikes belong to which units
``aligning``          what happens around events
``around``            spikes, and bins that are counted already, around events
``around_samples``    signals along time around events
``conditions``        from trials to conditions: PSTH, baseline, smoothing
``responses``         does a unit respond; how fast the animal, and what it chooses
``index``             a time coordinate that is computed from the knots of a clock
``microvolts``        voltage as recorded -> microvolts
``engine``            voltage in place: the xarray engine ``cubes``, and remote recordings

``tables``            the tables of a catalog, to fill and to ask
``presence_table``    which data of many insertions are there

``export``            cubes for other tools: pynapple, HDF5 by uuid

``figures``           the summary of a recording as a figure
``voltage_figure``    a window of voltage as a figure
``psth_figure``       one unit around an event as a figure
``demo``              the whole way in one go
``cli``               the command ``cubes``
``cli_shared``        what its commands share
``cli_stores``        its commands about stores that exist
``cli_layouts``       its commands about layouts
``cli_tables``        its commands about what exists
``cli_progress``      progress of a build on the terminal, or in lines
====================  =======================================================================
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chunking.plan import Plan
    from cubes.advising import advise
    from cubes.aligning import align, to_rate
    from cubes.binning import bin
    from cubes.building import build, plan
    from cubes.conditions import baseline, psth, smooth
    from cubes.engine import open_remote
    from cubes.export import read_spikes_h5, to_pynapple, write_spikes_h5
    from cubes.index import attach_clock
    from cubes.mapping import map
    from cubes.microvolts import to_uv
    from cubes.opening import open, open_session
    from cubes.opening_many import open_many
    from cubes.pooling import pool
    from cubes.presence_table import presence
    from cubes.psth_figure import plot_psth
    from cubes.rechunking import rechunk
    from cubes.repairing import repair
    from cubes.responses import psychometric, reaction_times, responsive
    from cubes.root_status import status
    from cubes.selecting import select
    from cubes.sources import source, write_sample
    from cubes.stores import gc, info, ls
    from cubes.tables import catalog
    from cubes.verifying import verify
    from cubes.voltage_figure import plot_voltage
    from loaders.errors import (
        BadArgument,
        CorruptData,
        CubesError,
        InconsistentData,
        NotFound,
        PlanRefused,
        SourceUnavailable,
        StoreError,
    )
    from loaders.releases import release, releases

_HOME = {
    "Plan": "chunking.plan",
    "advise": "cubes.advising",
    "align": "cubes.aligning",
    "attach_clock": "cubes.index",
    "baseline": "cubes.conditions",
    "bin": "cubes.binning",
    "build": "cubes.building",
    "catalog": "cubes.tables",
    "gc": "cubes.stores",
    "info": "cubes.stores",
    "ls": "cubes.stores",
    "map": "cubes.mapping",
    "open": "cubes.opening",
    "open_many": "cubes.opening_many",
    "open_remote": "cubes.engine",
    "open_session": "cubes.opening",
    "plan": "cubes.building",
    "plot_psth": "cubes.psth_figure",
    "plot_voltage": "cubes.voltage_figure",
    "pool": "cubes.pooling",
    "presence": "cubes.presence_table",
    "rechunk": "cubes.rechunking",
    "release": "loaders.releases",
    "releases": "loaders.releases",
    "repair": "cubes.repairing",
    "select": "cubes.selecting",
    "source": "cubes.sources",
    "status": "cubes.root_status",
    "to_rate": "cubes.aligning",
    "to_uv": "cubes.microvolts",
    "verify": "cubes.verifying",
    "write_sample": "cubes.sources",
    "psth": "cubes.conditions",
    "psychometric": "cubes.responses",
    "reaction_times": "cubes.responses",
    "responsive": "cubes.responses",
    "smooth": "cubes.conditions",
    "read_spikes_h5": "cubes.export",
    "to_pynapple": "cubes.export",
    "write_spikes_h5": "cubes.export",
    "BadArgument": "loaders.errors",
    "CorruptData": "loaders.errors",
    "CubesError": "loaders.errors",
    "InconsistentData": "loaders.errors",
    "NotFound": "loaders.errors",
    "PlanRefused": "loaders.errors",
    "SourceUnavailable": "loaders.errors",
    "StoreError": "loaders.errors",
}

__all__ = [  # noqa: RUF022  what one uses first comes first
    "source",
    "plan",
    "build",
    "open",
    "open_many",
    "open_remote",
    "open_session",
    "map",
    "pool",
    "attach_clock",
    "bin",
    "align",
    "to_rate",
    "psth",
    "baseline",
    "smooth",
    "responsive",
    "reaction_times",
    "psychometric",
    "select",
    "to_uv",
    "plot_psth",
    "to_pynapple",
    "write_spikes_h5",
    "read_spikes_h5",
    "plot_voltage",
    "ls",
    "info",
    "verify",
    "repair",
    "rechunk",
    "advise",
    "status",
    "gc",
    "write_sample",
    "catalog",
    "presence",
    "releases",
    "release",
    "Plan",
    "CubesError",
    "BadArgument",
    "CorruptData",
    "InconsistentData",
    "NotFound",
    "PlanRefused",
    "SourceUnavailable",
    "StoreError",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cubes' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _check_siblings() -> None:
    """Refuse to run with somebody else's ``loaders`` or ``chunking``, such as a script of that name nearby."""
    home = Path(__file__).resolve().parent.parent
    for name in ("loaders", "chunking"):
        found = importlib.util.find_spec(name)
        where = Path(found.origin).resolve() if found is not None and found.origin is not None else None
        if where != home / name / "__init__.py":
            raise ImportError(
                f"cubes needs its own package '{name}' from {home / name}, but Python finds "
                f"{where or 'none'} first; rename that file or folder, or start Python elsewhere"
            )


_check_siblings()
