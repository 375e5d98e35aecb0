"""Places as Allen files and tables have them -> `Locations`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from loaders.records import Floats, Locations
from loaders.regions import BREGMA_CCF_MLAPDV_UM, VOID_ID, brain_regions, locate

_NO_REGION = ("", "None", "nan")


def allen_locations(ccf: Floats, acronyms: Sequence[str]) -> tuple[Locations, list[str]]:
    """Label places.

    A place that was not registered has (0, 0, 0), in Visual Coding (-1000, -1000, -1000): it becomes NaN. Which
    hemisphere is which is not known of these data: it is ``unknown``.

    Parameters
    ----------
    ccf : (n, 3) float64, um
        AP, DV and left-right coordinate in the Allen CCF.
    acronyms : sequence of str
        Structure of each place, with substructure or without; empty or ``None`` where there is none.

    Returns
    -------
    Locations
        Of n places; those without a region are ``void``.
    list of str
        What was noticed, in words.
    """
    ccf = np.array(ccf, dtype=np.float64).reshape(-1, 3)
    nowhere = (ccf == 0).all(axis=1) | (ccf == -1000).all(axis=1)
    ccf[nowhere] = np.nan
    ids, unknown = _ids(acronyms)
    ap, dv, ml = ccf.T
    ml0, ap0, dv0 = BREGMA_CCF_MLAPDV_UM
    found = locate((ml - ml0) / 1e6, (ap0 - ap) / 1e6, (dv0 - dv) / 1e6, ids)
    sides = np.full(len(ids), "unknown", dtype=object)
    notes = []
    if nowhere.any():
        notes.append(f"{int(nowhere.sum())} of {len(ids)} places are not registered to the CCF: no coordinates")
    if unknown:
        notes.append(f"acronyms that the atlas does not have, labelled void: {', '.join(unknown)}")
    levels = {"Beryl": found.acronym_beryl, "Cosmos": found.acronym_cosmos}
    levels["Swanson, or not in it"] = found.acronym_swanson
    coarse = [
        (level, sorted({a for a, at in zip(found.acronym_allen, there, strict=True) if at == "root" and a != "root"}))
        for level, there in levels.items()
    ]
    notes += [f"too coarse for {level}, where they are root: {', '.join(names)}" for level, names in coarse if names]
    return replace(found, ccf_ap=ap, ccf_dv=dv, ccf_ml=ml, hemisphere=sides), notes


def _ids(acronyms: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Atlas id of every acronym, and the acronyms that the atlas does not have."""
    regions = brain_regions()
    right = regions.id > 0  # the left ones have the same acronyms and negative ids
    by_acronym = dict(zip(regions.acronym[right], regions.id[right], strict=True))
    names = [str(name) for name in acronyms]
    unknown = sorted({name for name in names if name not in by_acronym and name not in _NO_REGION})
    return np.array([by_acronym.get(name, VOID_ID) for name in names], dtype=np.int64), unknown
