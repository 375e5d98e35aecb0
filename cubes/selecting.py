"""Choosing units or channels by region and quality, and saying what was left out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr

from loaders.errors import BadArgument
from loaders.regions import region_ids


def select(
    ds: xr.Dataset,
    *,
    region: str | Iterable[str] | None = None,
    good: bool | None = None,
    hemisphere: str | None = None,
) -> xr.Dataset:
    """Keep the units (or channels) of some regions, of good quality, of one hemisphere.

    Parameters
    ----------
    ds : Dataset
        With a dimension ``unit`` or ``channel``, such as ``tree["counts_20ms"].to_dataset()``.
    region : str or iterable of str, optional
        Allen acronyms; a region includes everything within it, so ``"TH"`` keeps ``VPM`` too.
    good : bool, optional
        True keeps units with ``label == 1``, False the others.
    hemisphere : {"left", "right"}, optional

    Returns
    -------
    Dataset
        Its attribute ``selection`` says how many rows were kept, and why the others were not.

    Raises
    ------
    NotFound
        If the Allen atlas has no such region.
    BadArgument
        If `ds` has neither units nor channels, or the hemisphere is unknown.

    Examples
    --------
    >>> import cubes
    >>> counts = cubes.open("my-cubes", pid)["counts_20ms"].to_dataset()
    >>> cubes.select(counts, region="TH", good=True).attrs["selection"]
    'kept ... of 500 units (... not in TH, ... not good)'
    """
    dim = next((name for name in ("unit", "channel") if name in ds.dims), None)
    if dim is None:
        raise BadArgument(f"ds: expected a dimension unit or channel, got {', '.join(map(str, ds.dims)) or 'none'}")
    if hemisphere not in (None, "left", "right"):
        raise BadArgument(f"hemisphere: expected 'left' or 'right', got {hemisphere!r}")
    keep = np.ones(ds.sizes[dim], dtype=bool)
    reasons = []

    def filter_rows(mask: np.ndarray, reason: str) -> None:
        nonlocal keep
        reasons.append(f"{np.count_nonzero(keep & ~mask)} not {reason}")
        keep = keep & mask

    if region is not None:
        names = [region] if isinstance(region, str) else list(region)
        ids = frozenset().union(*(region_ids(name) for name in names))
        filter_rows(np.isin(np.abs(ds["atlas_id"].values), list(ids)), f"in {' or '.join(names)}")
    if hemisphere is not None:
        filter_rows(ds["hemisphere"].values == hemisphere, f"in the {hemisphere} hemisphere")
    if good is not None:
        filter_rows(ds["good"].values == good, "good" if good else "of lower quality")
    kept = f"kept {np.count_nonzero(keep)} of {len(keep)} {dim}s"
    selected = ds.isel({dim: np.flatnonzero(keep)})
    return selected.assign_attrs(selection=f"{kept} ({', '.join(reasons)})" if reasons else kept)
