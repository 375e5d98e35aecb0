"""Atlas ids and coordinates -> region acronyms at four levels, Allen CCF coordinates, hemisphere.

Only the region table of iblatlas is used, which its package carries; no atlas volume is ever downloaded. The
lookups of iblatlas (`remap`, `id2acronym`) return *shorter* arrays when they meet an unknown id, which shifts every
label after it; here the length never changes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loaders.records import Floats, Locations, Strings

if TYPE_CHECKING:
    from iblatlas.regions import BrainRegions

VOID_ID = 0
LEVELS = ("Allen", "Beryl", "Cosmos", "Swanson")

BREGMA_CCF_MLAPDV_UM = (5739.0, 5400.0, 332.0)
"""Bregma in Allen CCF, (ML, AP, DV) in um, as in ``iblatlas.atlas.ALLEN_CCF_LANDMARKS_MLAPDV_UM``."""


@lru_cache(maxsize=1)
def brain_regions() -> BrainRegions:
    """Return the region table of iblatlas (loaded once, from the installed package)."""
    from iblatlas.regions import BrainRegions

    return BrainRegions()


def region_rows(atlas_id: NDArray[np.integer[Any]]) -> NDArray[np.intp]:
    """Rows of `atlas_id` in the region table; -1 where the table has no such id. Never changes the length."""
    ids = brain_regions().id
    order = np.argsort(ids, kind="stable")
    position = np.searchsorted(ids, atlas_id, sorter=order).clip(max=len(ids) - 1)
    rows: NDArray[np.intp] = order[position]
    return np.where(ids[rows] == atlas_id, rows, -1)


def acronyms(atlas_id: NDArray[np.integer[Any]], level: str) -> Strings:
    """Acronym of every id at one of `LEVELS`; ``void`` for ids that the table does not have."""
    regions = brain_regions()
    rows = region_rows(atlas_id)
    void = int(np.flatnonzero(regions.id == VOID_ID)[0])
    mapped = regions.mappings[level][np.where(rows < 0, void, rows)]
    return np.asarray(regions.acronym[mapped], dtype=object)


def xyz_to_ccf(x: Floats, y: Floats, z: Floats) -> tuple[Floats, Floats, Floats]:
    """IBL coordinates to the Allen CCF.

    Parameters
    ----------
    x, y, z : (n,) float64, m
        From bregma; right, anterior, dorsal are positive.

    Returns
    -------
    ccf_ap, ccf_dv, ccf_ml : (n,) float64, um
        From the anterior, dorsal, left corner of the volume. The transform is affine, the one of
        ``iblatlas.atlas.AllenAtlas.xyz2ccf``, so that no volume is needed.
    """
    ml, ap, dv = BREGMA_CCF_MLAPDV_UM
    return ap - 1e6 * y, dv - 1e6 * z, ml + 1e6 * x


def locate(x: Floats, y: Floats, z: Floats, atlas_id: NDArray[np.integer[Any]]) -> Locations:
    """All labels of a set of places.

    Parameters
    ----------
    x, y, z : (n,) float64, m
        IBL coordinates; NaN where unknown.
    atlas_id : (n,) integer
        Allen structure ids; an id that the atlas does not have keeps its number and is labelled ``void``.
    """
    ccf_ap, ccf_dv, ccf_ml = xyz_to_ccf(x, y, z)
    hemisphere = np.select([x < 0, x > 0], ["left", "right"], "unknown").astype(object)
    allen, beryl, cosmos, swanson = (acronyms(atlas_id, level) for level in LEVELS)
    ids = np.asarray(atlas_id, dtype=np.int64)
    return Locations(x, y, z, ccf_ap, ccf_dv, ccf_ml, ids, allen, beryl, cosmos, swanson, hemisphere)
