"""Cubes for other tools: pynapple objects, and the HDF5 files of spikes by uuid that psyfun reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from chunking import schema
from cubes.ragged import check_ragged
from loaders.durable import fsync
from loaders.errors import BadArgument, CorruptData, NotFound, StoreError

if TYPE_CHECKING:
    import pynapple


def to_pynapple(
    data: xr.DataArray | xr.Dataset | xr.DataTree,
) -> pynapple.TsGroup | pynapple.Tsd | pynapple.TsdFrame | pynapple.TsdTensor:
    """What pynapple calls the same thing.

    Parameters
    ----------
    data : Dataset, DataTree or DataArray
        The product ``spikes``, or an array along ``time``: counts, rates, LFP, wheel, pose, or one event of what
        `align` gives. It is loaded: choose units and times first.

    Returns
    -------
    TsGroup
        Of spikes: a `Ts` for every unit under its number, with the labels of the units as metadata.
    Tsd, TsdFrame or TsdTensor
        Of an array with one, two or more dimensions; time comes first. The columns of a frame are the labels of its
        other dimension, with the rest of its labels as metadata.

    Raises
    ------
    BadArgument
        If there is no dimension ``time``, or it has no coordinate.
    NotFound
        If pynapple is not installed.

    Examples
    --------
    >>> import cubes
    >>> spikes = cubes.open("my-cubes", pid)["spikes"]
    >>> group = cubes.to_pynapple(spikes)  # doctest: +SKIP
    >>> group[group.good][5].count(0.02)  # doctest: +SKIP
    """
    nap = _pynapple()
    if isinstance(data, xr.DataTree):
        data = data.to_dataset()
    if isinstance(data, xr.Dataset):
        check_ragged(data)
        first, last = (data.attrs.get(name, 0.0) for name in ("first_spike_s", "last_spike_s"))
        support = nap.IntervalSet(min(0.0, first), last)
        trains = {unit: nap.Ts(times, time_support=support) for unit, times in _trains(data, "unit")}
        return nap.TsGroup(trains, time_support=support, metadata=_metadata(data, "unit"))
    if "time" not in data.dims or "time" not in data.coords:
        raise BadArgument(f"data: expected an array along time, with its coordinate, got {data.dims}")
    array = data.transpose("time", ...)
    times = array["time"].values.astype(np.float64)
    if array.ndim == 1:
        return nap.Tsd(times, array.values)
    if array.ndim == 2:
        dim = array.dims[1]
        columns = array[dim].values if dim in array.coords else None
        return nap.TsdFrame(times, array.values, columns=columns, metadata=_metadata(array, dim))
    return nap.TsdTensor(times, array.values)


def _pynapple() -> Any:
    try:
        import pynapple
    except ImportError as error:
        raise NotFound("pynapple is not installed; pip install 'ibl-cubes[pynapple]'") from error
    return pynapple


def _trains(spikes: xr.Dataset, label: str) -> list[tuple[Any, np.ndarray]]:
    """Label and spike times of every unit."""
    times = spikes["spike_time"].values
    starts, sizes = spikes["row_start"].values, spikes["row_size"].values
    labels = spikes[label].values.tolist()
    return [(name, times[a : a + n]) for name, a, n in zip(labels, starts, sizes, strict=True)]


def _metadata(data: xr.DataArray | xr.Dataset, dim: Any) -> dict[str, Any]:
    """The labels along one dimension; text as Python strings."""
    names = [name for name, c in data.coords.items() if c.dims == (dim,) and name not in (dim, *schema.RAGGED)]
    values = {str(name): data.coords[name].values for name in names}
    return {name: v.astype(object) if v.dtype.kind == "T" else v for name, v in values.items()}


def write_spikes_h5(spikes: xr.Dataset | xr.DataTree, path: str | Path, duplicates: xr.DataArray | None = None) -> Path:
    """Write spikes as HDF5, one group for every unit under its uuid, as psyfun keeps them.

    Parameters
    ----------
    spikes : Dataset or DataTree
        The product ``spikes``; every unit must have a uuid.
    path : path
        Of the new file; it appears when it is complete.
    duplicates : (spike,) bool DataArray, optional
        Which spikes another unit, or another probe, has as well.

    Returns
    -------
    Path
        The file: ``/<uuid>/times``, float64, seconds on the session clock, and ``/<uuid>/duplicates`` if given.

    Raises
    ------
    BadArgument
        If a unit has no uuid, two have the same, or `duplicates` does not fit.
    StoreError
        If the file exists.
    NotFound
        If h5py is not installed.

    Examples
    --------
    >>> import cubes
    >>> spikes = cubes.open("my-cubes", pid)["spikes"]
    >>> cubes.write_spikes_h5(spikes, "spikes.h5")  # doctest: +SKIP
    """
    h5py = _h5py()
    ds = spikes.to_dataset() if isinstance(spikes, xr.DataTree) else spikes
    check_ragged(ds)
    path = Path(path)
    uuids = ds["uuid"].values.tolist()
    if "" in uuids or len(set(uuids)) < len(uuids):
        raise BadArgument(f"spikes: expected units with uuids of their own, {_why(uuids)}")
    if duplicates is not None and (duplicates.dims != ("spike",) or duplicates.size != ds.sizes["spike"]):
        raise BadArgument(
            f"duplicates: expected one value for each of {ds.sizes['spike']} spikes, got {duplicates.sizes}"
        )
    if path.exists():
        raise StoreError(f"{path}: exists; remove it or choose another name")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with h5py.File(part, "w") as file:
            marks = None if duplicates is None else duplicates.values.astype(bool)
            for (uuid, times), start in zip(_trains(ds, "uuid"), ds["row_start"].values.tolist(), strict=True):
                group = file.create_group(uuid)
                group.create_dataset("times", data=times)
                if marks is not None:
                    group.create_dataset("duplicates", data=marks[start : start + len(times)])
        fsync(part)
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _why(uuids: list[str]) -> str:
    without = uuids.count("")
    return f"{without} of {len(uuids)} have none" if without else "some are there twice"


def read_spikes_h5(path: str | Path) -> xr.Dataset:
    """Read what `write_spikes_h5`, or psyfun, wrote.

    Parameters
    ----------
    path : path

    Returns
    -------
    Dataset
        As the product ``spikes``, for `align` and `bin`: ``unit`` counts from 0 in the order of the uuids, which are
        the coordinate ``uuid``; with ``duplicates(spike)`` where the file has them.

    Raises
    ------
    NotFound
        If there is no such file, or h5py is not installed.
    CorruptData
        If a group has no ``times``, or they are not in order.

    Examples
    --------
    >>> import cubes
    >>> cubes.read_spikes_h5("spikes.h5").sizes["unit"]  # doctest: +SKIP
    500
    """
    h5py = _h5py()
    path = Path(path)
    if not path.is_file():
        raise NotFound(f"{path}: no such file")
    trains, marks = {}, {}
    try:
        with h5py.File(path, "r") as file:
            for uuid, group in file.items():
                trains[uuid] = np.asarray(group["times"][()], dtype=np.float64)
                marks[uuid] = group["duplicates"][()] if "duplicates" in group else None
    except (OSError, KeyError) as error:
        raise CorruptData(f"{path}: expected HDF5 with /<uuid>/times ({error})") from error
    for uuid, times in trains.items():
        if times.ndim != 1 or not (np.diff(times) >= 0).all():
            raise CorruptData(f"{path}: {uuid}/times: expected one row of times in order")
    sizes = np.array([len(times) for times in trains.values()], dtype=np.int64)
    times = np.concatenate([*trains.values(), np.zeros(0)])
    rows = {"row_size": ("unit", sizes), "row_start": ("unit", np.cumsum(sizes) - sizes)}
    uuids = np.array(list(trains), dtype=np.dtypes.StringDType())
    coords = {"unit": np.arange(len(sizes)), "uuid": ("unit", uuids), **rows}
    span = {"first_spike_s": float(times.min()), "last_spike_s": float(times.max())} if len(times) else {}
    made = xr.Dataset(
        {"spike_time": ("spike", times, schema.SPIKE["spike_time"].attrs)}, coords, {"n_spikes": len(times), **span}
    )
    if any(mark is not None for mark in marks.values()):
        known = [np.zeros(n, bool) if m is None else m for m, n in zip(marks.values(), sizes, strict=True)]
        made["duplicates"] = "spike", np.concatenate(known).astype(bool)
    return made


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise NotFound("h5py is not installed; pip install 'ibl-cubes[hdf5]'") from error
    return h5py
