"""Arrays as they lie on disk -> records that keep their promises. Pure functions.

What contradicts itself is refused with `InconsistentData`; what is merely odd is kept, mended only where the meaning
is certain, and told in a note that ends up in the cube.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loaders.errors import InconsistentData
from loaders.records import Channels, Floats, Ints, Spikes, Strings, Units
from loaders.regions import VOID_ID, locate, region_rows

if TYPE_CHECKING:
    import pandas as pd

Arrays = Mapping[str, NDArray[Any]]
Notes = list[str]


def clean_spikes(arrays: Arrays, n_units: int) -> tuple[Spikes, Notes]:
    """Check the spike arrays against each other and put them in order of time.

    Parameters
    ----------
    arrays : mapping of str to (spike,) array
        ``times`` (s), ``clusters``, and where they exist ``amps`` (V) and ``depths`` (um).
    n_units : int
        Rows of the cluster table.

    Raises
    ------
    InconsistentData
        If lengths differ, or a spike belongs to a cluster that the table does not have.
    """
    _same_length("spikes", arrays)
    notes: Notes = []
    times, clusters = np.asarray(arrays["times"], dtype=np.float64), arrays["clusters"]
    _check_ids("spikes.clusters", clusters, n_units, "the cluster table")
    amps, depths = (_floats_or_nan(arrays, name, len(times), notes) for name in ("amps", "depths"))
    finite = np.isfinite(times)
    if not finite.all():
        notes.append(f"{np.count_nonzero(~finite)} of {len(times)} spikes have no finite time and were left out")
        times, clusters, amps, depths = (a[finite] for a in (times, clusters, amps, depths))
    if (times[1:] < times[:-1]).any():
        notes.append("spike times were not in order; sorted, spikes of equal time keep their order")
        order = np.argsort(times, kind="stable")
        times, clusters, amps, depths = (a[order] for a in (times, clusters, amps, depths))
    if len(times) and times[0] < 0:
        notes.append(f"{np.count_nonzero(times < 0)} spikes lie before session time 0; kept")
    if not len(times):
        notes.append("this sorting has no spikes")
    return Spikes(times, clusters, amps, depths), notes


def clean_channels(channels: Arrays, sites: Arrays, n_channels_used: int) -> tuple[Channels, Notes]:
    """Geometry and place of every recording site.

    Parameters
    ----------
    channels : mapping of str to array
        ALF attributes of ``channels``: ``localCoordinates`` (n, 2) um, ``rawInd`` (n,), ``mlapdv`` (n, 3) um,
        ``brainLocationIds_ccf_2017`` (n,); any may be missing.
    sites : mapping of str to array
        The same of ``electrodeSites``, the final alignment; each of its attributes prevails.
    n_channels_used : int
        One more than the largest channel that a unit names; the size where no file tells.
    """
    notes: Notes = []
    merged = {**channels, **sites}
    if len({len(values) for values in merged.values()}) > 1 and sites:
        notes.append("channels.* and electrodeSites.* differ in length; electrodeSites.* are used alone")
        merged = dict(sites)
    _same_length("channels", merged)
    n = len(next(iter(merged.values()))) if merged else n_channels_used
    local = _columns(merged, "localCoordinates", n, 2, "positions on the probe", notes)
    mlapdv = _columns(merged, "mlapdv", n, 3, "coordinates in the brain", notes)
    x, y, z = (mlapdv[:, i] / 1e6 for i in range(3))
    located = "brainLocationIds_ccf_2017" in merged
    atlas_id = _atlas_ids(merged["brainLocationIds_ccf_2017"], notes) if located else np.full(n, VOID_ID)
    if not located:
        notes.append("no histology: the brain region of every site is void")
    unknown = np.unique(atlas_id[region_rows(atlas_id) < 0])
    if unknown.size:
        notes.append(f"atlas ids that the region table does not have are labelled void: {unknown.tolist()}")
    raw_ind = _integers("channels.rawInd", merged.get("rawInd", np.arange(n)))
    return Channels(raw_ind, local[:, 0], local[:, 1], locate(x, y, z, atlas_id), "alf" if located else "none"), notes


def clean_units(
    arrays: Arrays, uuids: Strings | None, metrics: pd.DataFrame | None, n_channels: int
) -> tuple[Units, Notes]:
    """One row a cluster: its channel, depth, uuid and quality metrics, joined on ``cluster_id``.

    Parameters
    ----------
    arrays : mapping of str to (unit,) array
        ``channels`` (row of the site) and where it exists ``depths`` (um).
    uuids : (unit,) str or None
    metrics : DataFrame or None
        Any number of rows in any order, with a column ``cluster_id``.
    n_channels : int
        Rows of the channel table.

    Raises
    ------
    InconsistentData
        If lengths differ, a channel or cluster id is beyond its table, or an id occurs twice.
    """
    notes: Notes = []
    _same_length("clusters", arrays if uuids is None else {**arrays, "uuids": uuids})
    _check_ids("clusters.channels", arrays["channels"], n_channels, "the channel table")
    channel = np.asarray(arrays["channels"], dtype=np.int64)
    n = len(channel)
    if uuids is None:
        notes.append("no clusters.uuids: the uuid of every unit is empty")
        uuids = np.full(n, "", dtype=object)
    elif len(set(uuids)) < n:
        raise InconsistentData(f"clusters.uuids: expected {n} different ids, got {len(set(uuids))}")
    joined = _join_metrics(metrics, n, notes)
    label = joined.get("label", np.full(n, np.nan))
    if label.dtype.kind not in "fiu":
        raise InconsistentData(f"clusters.metrics label: expected numbers from 0 to 1, got {label[:3].tolist()} ...")
    label = np.asarray(label, dtype=np.float64)
    depth_um = _floats_or_nan(arrays, "depths", n, notes, "clusters")
    return Units(uuids, channel, depth_um, label, label == 1, joined), notes


def _join_metrics(metrics: pd.DataFrame | None, n: int, notes: Notes) -> dict[str, NDArray[Any]]:
    """Metrics as columns of length `n`, row `i` being cluster `i`; never joined by position."""
    if metrics is None:
        notes.append("no clusters.metrics: all metrics are missing, no unit counts as good")
        return {}
    if "cluster_id" not in metrics.columns:
        if metrics.index.name != "cluster_id":
            raise InconsistentData(
                f"clusters.metrics: expected a column 'cluster_id' to join on, got {list(metrics.columns)}"
            )
        metrics = metrics.reset_index()
    ids = _integers("clusters.metrics cluster_id", metrics["cluster_id"].to_numpy())
    _check_ids("clusters.metrics cluster_id", ids, n, "the cluster table")
    if len(np.unique(ids)) < len(ids):
        values, counts = np.unique(ids, return_counts=True)
        raise InconsistentData(f"clusters.metrics: cluster ids occur more than once: {values[counts > 1][:5].tolist()}")
    if len(ids) < n:
        notes.append(f"{n - len(ids)} of {n} units have no row in clusters.metrics; their metrics are NaN")
    if not np.array_equal(ids, np.sort(ids)):
        notes.append("rows of clusters.metrics were not in order of cluster_id; joined on cluster_id")
    table = metrics.assign(cluster_id=ids).set_index("cluster_id")
    return {str(name): _metric_column(column, n) for name, column in table.items()}


def _metric_column(column: pd.Series[Any], n: int) -> NDArray[Any]:
    """A column by cluster id: numbers with NaN where missing, anything else as text, empty where missing."""
    import pandas as pd

    whole = len(column) == n and not column.isna().any()
    wanted = np.arange(n)
    if pd.api.types.is_numeric_dtype(column.dtype):  # bools too
        plain = column if whole else column.astype("float64")
        return plain.reindex(wanted).to_numpy()
    text = column.astype(object).where(column.notna(), "").astype(str)
    return text.reindex(wanted, fill_value="").to_numpy(dtype=object)


def _integers(name: str, values: NDArray[Any]) -> Ints:
    """Whole numbers as int64, whatever their type; anything else is refused, never rounded."""
    if values.dtype.kind not in "fiu":
        raise InconsistentData(f"{name}: expected whole numbers, got {values.dtype} such as {values[:1].tolist()}")
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    if not np.array_equal(whole.astype(np.float64), values.astype(np.float64)) or (
        values.dtype == "u8" and (whole < 0).any()
    ):
        raise InconsistentData(
            f"{name}: expected whole numbers, got for example {values[whole != values][:1].tolist()}"
        )
    return whole


def _atlas_ids(values: NDArray[Any], notes: Notes) -> Ints:
    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=bool)
    if missing.any():
        notes.append(f"{np.count_nonzero(missing)} sites have no atlas id; labelled void")
    return _integers("channels.brainLocationIds_ccf_2017", np.where(missing, VOID_ID, values))


def _columns(arrays: Arrays, name: str, n: int, width: int, what: str, notes: Notes) -> Floats:
    if name not in arrays:
        notes.append(f"no channels.{name}: {what} are NaN")
        return np.full((n, width), np.nan)
    values = np.asarray(arrays[name], dtype=np.float64)
    if values.shape != (n, width):
        raise InconsistentData(f"channels.{name}: expected shape ({n}, {width}), got {values.shape}")
    return values


def _floats_or_nan(arrays: Arrays, name: str, n: int, notes: Notes, owner: str = "spikes") -> Floats:
    if name in arrays:
        return arrays[name]
    notes.append(f"no {owner}.{name}: all are NaN")
    return np.broadcast_to(np.float64(np.nan), n)  # takes no memory


def _same_length(owner: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{owner}.{name} {length}" for name, length in sorted(lengths.items()))
        raise InconsistentData(f"{owner}: expected arrays of one length, got {found}")


def _check_ids(name: str, ids: NDArray[Any], n: int, table: str) -> None:
    if ids.size and (ids.min() < 0 or ids.max() >= n):
        raise InconsistentData(f"{name}: expected ids from 0 to {n - 1} as in {table}, got {ids.min()} to {ids.max()}")
