"""Rows of the tables of a catalog (`loaders.table_schema`) from the tables of an Allen release; no file is opened.

Unit `i` of a probe is the one with the i-th smallest ``unit_id``, site `i` that with the i-th smallest number on the
probe: as in the stores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from loaders.allen_places import allen_locations
from loaders.allen_tables import CCF, UNIT_METRICS
from loaders.errors import InconsistentData
from loaders.table_rows import place
from loaders.table_schema import METRIC_UNITS

if TYPE_CHECKING:
    import pandas as pd

    from loaders.records import Floats


def unit_and_site_rows(
    units: pd.DataFrame, channels: pd.DataFrame, pids: Mapping[int, str], prefix: str
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Units and sites of some probes.

    Parameters
    ----------
    units, channels : DataFrame
        Tables of the release.
    pids : mapping of int to str
        The pid of each probe that is wanted, by its id.
    prefix : str
        What the universal ids of units begin with.

    Returns
    -------
    dict of str to DataFrame
        ``units`` and ``channels``.
    list of str
        What was noticed about their places.
    """
    sites = channels[channels["ecephys_probe_id"].isin(list(pids))].sort_values(
        ["ecephys_probe_id", "probe_channel_number"], ignore_index=True
    )
    places, notes = allen_locations(_ccf(sites), sites["structure_acronym"].fillna("").to_list())
    where = place(places)
    rows = sites.assign(
        pid=sites["ecephys_probe_id"].map(pids),
        channel=sites.groupby("ecephys_probe_id").cumcount(),
        lateral_um=sites["probe_horizontal_position"],
        axial_um=sites["probe_vertical_position"],
        **where,
    )
    of_probes = units[units["ecephys_probe_id"].isin(list(pids))]
    return {"units": _units(of_probes, rows, list(where), prefix), "channels": rows}, notes


def _units(units: pd.DataFrame, sites: pd.DataFrame, places: list[str], prefix: str) -> pd.DataFrame:
    """Units with the place of their channel."""
    units = units.sort_values(["ecephys_probe_id", "unit_id"], ignore_index=True)
    by_id = sites.set_index("ecephys_channel_id")
    if lost := int((~units["ecephys_channel_id"].isin(by_id.index)).sum()):
        raise InconsistentData(f"{lost} units are on a channel that their probe does not have; take one release")
    of_unit = by_id.loc[units["ecephys_channel_id"], ["pid", "channel", "axial_um", *places]].reset_index(drop=True)
    kept = {name: units[name] for name in UNIT_METRICS if name in METRIC_UNITS and name in units}
    return of_unit.rename(columns={"axial_um": "depth_um"}).assign(
        unit=units.groupby("ecephys_probe_id").cumcount(),
        uuid=prefix + units["unit_id"].astype("string"),
        good=good_by_default(units, by_id),
        quality=units.get("quality"),
        **kept,
    )


def good_by_default(units: pd.DataFrame, channels: pd.DataFrame) -> pd.Series:
    """The rule ``allen_default``; ``<NA>`` where one of its columns has nothing.

    quality good, channel valid, amplitude_cutoff <= 0.1, presence_ratio >= 0.95, isi_violations <= 0.5.
    """
    import pandas as pd

    def column(table: pd.DataFrame, name: str) -> Any:
        missing = pd.Series(pd.NA, index=table.index, dtype="Float64")
        values = table.get(name, missing)
        return values.astype("Float64") if values.dtype == "float64" else values

    valid = column(channels, "valid_data").loc[units["ecephys_channel_id"]].set_axis(units.index)
    criteria = (
        column(units, "quality") == "good",
        valid == True,  # noqa: E712  (it may be <NA>)
        column(units, "amplitude_cutoff") <= 0.1,
        column(units, "presence_ratio") >= 0.95,
        column(units, "isi_violations") <= 0.5,
    )
    known = np.all([criterion.notna() for criterion in criteria], axis=0)
    passes = np.all([criterion.fillna(False).to_numpy(dtype=bool) for criterion in criteria], axis=0)
    return pd.Series(passes, index=units.index, dtype="boolean").mask(~known)


def session_rows(sessions: pd.DataFrame, eids: Mapping[int, str]) -> pd.DataFrame:
    """What was run in some sessions."""
    rows = sessions[sessions["ecephys_session_id"].isin(list(eids))]
    return rows.assign(
        eid=rows["ecephys_session_id"].map(eids),
        task_protocol=rows.get("session_type"),
        projects=rows.get("project_code"),
    )[["eid", "task_protocol", "projects"]]


def _ccf(rows: pd.DataFrame) -> Floats:
    return rows.reindex(columns=list(CCF)).to_numpy(dtype=np.float64)
