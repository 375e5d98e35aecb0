"""Choosing units or channels by region and quality, and saying what was left out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr

from cubes.ragged import compact
from loaders.errors import BadArgument
from loaders.region_tree import region_ids


def select(
    ds: xr.Dataset | xr.DataTree,
    *,
    region: str | Iterable[str] | None = None,
    good: bool | None = None,
    hemisphere: str | None = None,
) -> xr.Dataset:
    """Keep the units (or channels) of some regions, of good quality, of one hemisphere.

    Parameters
    ----------
    ds : Dataset or DataTree
        With a dimension ``unit`` or ``channel``, such as ``tree["counts_20ms"]``.
    region : str or iterable of str, optional
        Allen acronyms; a region includes everything within it, so ``"TH"`` keeps ``VPM`` too.
    good : bool, optional
        True keeps units with ``label == 1``, False the others.
    hemisphere : {"left", "right"}, optional

    Returns
    -------
    Dataset
        Its attribute ``selection`` says how many rows were kept, and why the others were not. Of the product
        ``spikes`` only the spikes of the units that were kept remain.

    Raises
    ------
    NotFound
        If the Allen atlas has no such region.
    BadArgument
        If `ds` has neither units nor channels, lacks what is asked about, or the hemisphere is unknown.

    Examples
    --------
    >>> import cubes
    >>> counts = cubes.open("my-cubes", pid)["counts_20ms"]
    >>> cubes.select(counts, region="TH", good=True).attrs["selection"]
    'kept ... of 500 units (... not in TH, ... not good)'
    """
    ds = ds.to_dataset() if isinstance(ds, xr.DataTree) else ds
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
        if not all(isinstance(name, str) for name in names):
            raise BadArgument(f"region: expected acronyms of the Allen atlas, got {names}")
        ids = frozenset().union(*(region_ids(name) for name in names))
        filter_rows(np.isin(np.abs(ds["atlas_id"].values), list(ids)), f"in {' or '.join(names)}")
    if hemisphere is not None:
        filter_rows(ds["hemisphere"].values == hemisphere, f"in the {hemisphere} hemisphere")
    if good is not None:
        if "good" not in ds.variables:
            raise BadArgument(f"good: {dim}s have no quality; only units do")
        filter_rows(ds["good"].values == good, "good" if good else "of lower quality")
    kept = f"kept {np.count_nonzero(keep)} of {len(keep)} {dim}s"
    story = f"{kept} ({', '.join(reasons)})" if reasons else kept
    selected = ds.isel({dim: np.flatnonzero(keep)})
    if "row_start" in ds.variables:
        selected = compact(selected)
    return selected.assign_attrs(selection="; ".join(filter(None, (ds.attrs.get("selection"), story))))
