"""A time coordinate that is computed, not stored: session seconds of samples, from the knots of a clock.

Selecting gives what a dense coordinate would, to the last bit: slices include both ends, a label without `method` must
equal the time of a sample exactly, ``method="nearest"`` takes the later of two samples equally near. One thing differs:
nearest without a tolerance refuses times that no sample covers, where pandas takes the first or last sample in silence.

xarray calls the interface that this rests on experimental, so nothing else in the project uses it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from xarray import Index
from xarray.core.indexing import IndexSelResult
from xarray.indexes import CoordinateTransform, CoordinateTransformIndex, PandasIndex

from loaders.clock import Clock
from loaders.errors import BadArgument, InconsistentData, NotFound

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TIME_ATTRS = {"units": "s", "long_name": "time of the sample", "axis": "T", "clock": "session"}
KNOTS = ("knot_sample", "knot_time")


class NoSuchTime(NotFound, KeyError):
    """No sample at a time; a KeyError as well, which is what xarray's own indexes raise."""

    __str__ = Exception.__str__  # KeyError would show the message in quotes


def attach_clock(ds: xr.Dataset) -> xr.Dataset:
    """Give voltage its session time, computed when it is needed.

    Parameters
    ----------
    ds : Dataset
        With a dimension ``time`` without coordinate, as ``xr.open_zarr`` gives it for ``ap`` and ``lf``, and the
        variables ``knot_sample``, ``knot_time`` (knot). Attributes of ``knot_sample``, both optional: ``first_sample``,
        the sample at position 0 of ``time`` (0 if not given), and ``n_samples``, the length that ``time`` must have.

    Returns
    -------
    Dataset
        With a coordinate ``time``, float64 seconds on the session clock, and the knots as coordinates. Its attribute
        ``extrapolated_s`` exists only where the recording goes beyond the knots: seconds before and after them.

    Raises
    ------
    BadArgument
        If there is no dimension ``time``, it has a coordinate already, or the knots are missing.
    InconsistentData
        If ``time`` was cut before: its samples can no longer be counted.
    CorruptData
        If the knots do not increase.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import cubes
    >>> knots = {"knot_sample": ("knot", [0.0, 30000.0]), "knot_time": ("knot", [0.5, 1.5])}
    >>> ap = xr.Dataset({"ap": (("channel", "time"), np.zeros((2, 30001), dtype="int16")), **knots})
    >>> ap = cubes.attach_clock(ap)
    >>> window = ap.sel(time=slice(1.0, 1.001))
    >>> window.sizes["time"], float(window.time[0])
    (31, 1.0)
    >>> float(ap.ap.sel(time=1.25001, method="nearest").time)
    1.25
    """
    first, size = _samples_of(ds)
    knots = [np.asarray(ds[name].values) for name in KNOTS]
    clock = Clock(knots[0], knots[1], first + size, ds.encoding.get("source", "knots"))
    index = ClockIndex(SampleTimes(clock, size, first))
    coords = xr.Coordinates.from_xindex(index)
    coords["time"].attrs.update(TIME_ATTRS | _extrapolated(clock, first, size))
    return ds.set_coords(KNOTS).assign_coords(coords)


class SampleTimes(CoordinateTransform):
    """Session times of the samples ``offset + step * k``, k from 0 to ``size - 1``."""

    def __init__(
        self, clock: Clock, size: int, offset: int = 0, step: int = 1, name: Hashable = "time", dim: str = "time"
    ) -> None:
        super().__init__([name], {dim: size}, dtype=np.dtype(np.float64))
        self.clock, self.offset, self.step = clock, offset, step

    @property
    def name(self) -> Hashable:
        """Name of the coordinate."""
        return self.coord_names[0]

    @property
    def dim(self) -> str:
        """Name of the dimension."""
        return self.dims[0]

    @property
    def size(self) -> int:
        """Number of labels."""
        return self.dim_size[self.dim]

    def times(self, positions: ArrayLike) -> Floats:
        """Seconds at positions, which may be fractions."""
        return self.clock.seconds(self.offset + np.asarray(positions) * self.step, outside="extrapolate")

    def positions(self, seconds: ArrayLike) -> Floats:
        """Positions (fractions, within a unit of rounding) at seconds."""
        return (self.clock.samples(seconds, outside="extrapolate") - self.offset) / self.step

    def forward(self, dim_positions: dict[str, Any]) -> dict[Hashable, Any]:
        """Labels at positions; xarray's name for `times`."""
        return {self.name: self.times(dim_positions[self.dim])}

    def reverse(self, coord_labels: dict[Hashable, Any]) -> dict[str, Any]:
        """Positions of labels; xarray's name for `positions`."""
        return {self.dim: self.positions(coord_labels[self.name])}

    def cut(self, part: slice) -> SampleTimes:
        """The transform of every ``part.step``-th position from ``part.start`` up to ``part.stop``."""
        kept = range(self.size)[part]
        offset, step = self.offset + kept.start * self.step, self.step * kept.step
        return SampleTimes(self.clock, len(kept), offset, step, self.name, self.dim)

    def count_before(self, seconds: ArrayLike, *, inclusive: bool) -> Ints:
        """How many labels are smaller than `seconds`, or not larger if `inclusive`; exact, however labels round."""
        wanted = np.asarray(seconds, dtype=np.float64)
        upward = self if self.step > 0 else self.cut(slice(None, None, -1))
        count = np.clip(np.ceil(upward.positions(wanted)), 0, upward.size).astype(np.int64)
        compare = np.less_equal if inclusive else np.less
        while True:
            more = (count < upward.size) & compare(upward.times(count), wanted)
            fewer = (count > 0) & ~compare(upward.times(count - 1), wanted)
            if not (more.any() or fewer.any()):
                return count
            count = count + more - fewer

    def equals(self, other: CoordinateTransform, **kwargs: Any) -> bool:
        """Whether all labels, and their names, are the same because they are made of the same numbers."""
        return isinstance(other, SampleTimes) and self._key() == other._key() and self.clock == other.clock

    def _key(self) -> tuple[object, ...]:
        return self.name, self.dim, self.size, self.offset, self.step if self.size > 1 else 1

    def __repr__(self) -> str:
        ends = f"{self.times(0):.6f} to {self.times(self.size - 1):.6f} s" if self.size else "empty"
        return f"{ends}, samples {self.offset} + {self.step} k, {len(self.clock.knot_sample)} knots"


class _Computed(xr.Variable):
    """A variable that dask leaves alone, as it does those of xarray's own indexes."""

    __slots__ = ()

    def chunk(self, *args: Any, **kwargs: Any) -> Self:
        return self.copy(deep=False)


class ClockIndex(CoordinateTransformIndex):
    """Index of a time coordinate that is computed from a clock."""

    transform: SampleTimes
    coord_dtype = np.dtype(np.float64)  # this and the next two are what PandasIndex.concat asks of those that follow it

    @property
    def dim(self) -> str:
        """Name of the dimension."""
        return self.transform.dim

    @property
    def index(self) -> pd.Index[float]:
        """All labels in memory."""
        return self.to_pandas_index()

    def create_variables(self, variables: Mapping[Any, xr.Variable] | None = None) -> dict[Hashable, xr.Variable]:
        """The coordinate, which stays computed when the dataset is chunked."""
        made = super().create_variables(variables)
        return {name: _Computed(v.dims, v._data, v.attrs, fastpath=True) for name, v in made.items()}

    def isel(self, indexers: Mapping[Any, int | slice | np.ndarray | xr.Variable]) -> Index | None:
        """A slice stays computed, an array of positions gives stored labels, one position gives no index."""
        indexer = indexers[self.transform.dim]
        if isinstance(indexer, slice):
            return ClockIndex(self.transform.cut(indexer))
        where = np.asarray(indexer)
        if where.ndim != 1 or (isinstance(indexer, xr.Variable) and indexer.dims != (self.transform.dim,)):
            return None
        return self._stored(np.flatnonzero(where) if where.dtype == bool else where)

    def sel(self, labels: dict[Any, Any], method: str | None = None, tolerance: Any = None) -> IndexSelResult:
        """Positions of labels: one time, an array of times of any shape, or a slice of times."""
        ((_, label),) = labels.items()
        if isinstance(label, slice):
            if method is not None or tolerance is not None:
                raise BadArgument("time: a slice includes what lies in it; method and tolerance are for single times")
            return IndexSelResult({self.transform.dim: self._slice(label)})
        values = np.asarray(label)
        where = values if values.dtype == bool else self._find(_seconds(values), method, tolerance)
        result: Any = where if where.ndim else int(where)
        if isinstance(label, xr.Variable):
            result = xr.Variable(label.dims, where)
        elif isinstance(label, xr.DataArray):
            result = xr.DataArray(where, coords=label.coords, dims=label.dims)
        return IndexSelResult({self.transform.dim: result})

    @classmethod
    def concat(  # type: ignore[override]  # xarray lets an index become another kind of index
        cls, indexes: Sequence[Index], dim: Hashable, positions: Iterable[Iterable[int]] | None = None
    ) -> Index:
        """One index of windows that follow each other; stored labels if they do not."""
        parts = [index.transform for index in indexes if isinstance(index, ClockIndex)]
        if len(parts) == len(indexes) and positions is None and (joined := _join(parts)) is not None:
            return cls(joined)
        stored = [PandasIndex(index.to_pandas_index(), dim) for index in indexes]
        return PandasIndex.concat(stored, dim, positions)

    def to_pandas_index(self) -> pd.Index[float]:
        """All labels in memory."""
        return self._stored(np.arange(self.transform.size)).index

    def __repr__(self) -> str:
        return f"ClockIndex({self.transform!r})"

    def _repr_inline_(self, max_width: int) -> str:
        return repr(self)[:max_width]

    def _stored(self, positions: NDArray[Any]) -> PandasIndex:
        """Index with the labels at positions in memory."""
        size, dim = self.transform.size, self.transform.dim
        if positions.size and not (-size <= positions.min() and positions.max() < size):
            raise IndexError(f"{dim}: positions from {positions.min()} to {positions.max()}, there are {size}")
        times = self.transform.times(np.where(positions < 0, positions + size, positions))
        return PandasIndex(pd.Index(times, name=self.transform.name), dim)

    def _slice(self, label: slice) -> slice:
        """Positions of the labels in a slice of times; like pandas, steps count positions."""
        step = 1 if label.step is None else label.step
        if not isinstance(step, int | np.integer) or step == 0:
            raise BadArgument(f"time: the step of a slice counts samples, expected an integer, got {label.step!r}")
        low, high = (label.start, label.stop) if step > 0 else (label.stop, label.start)
        first = 0 if low is None else self._edge(low, left=True)
        after = self.transform.size if high is None else self._edge(high, left=False)
        if step > 0:
            return slice(first, after, None if step == 1 else int(step))
        return slice(after - 1, first - 1 if first else None, int(step)) if after > first else slice(0, 0)

    def _edge(self, bound: Any, *, left: bool) -> int:
        """Positions to the left of a bound; the bound itself is included in the slice."""
        seconds = _seconds(bound)
        if seconds.ndim or np.isnan(seconds):
            raise BadArgument(f"time: the ends of a slice are single times in seconds, got {bound!r}")
        upward = self.transform.step > 0
        count = int(self.transform.count_before(seconds, inclusive=left != upward))
        return count if upward else self.transform.size - count

    def _find(self, wanted: Floats, method: str | None, tolerance: Any) -> Ints:
        """Positions of times, exact or nearest."""
        if method not in (None, "nearest"):
            raise BadArgument(f"method: expected None or 'nearest', got {method!r}")
        if method is None and tolerance is not None:
            raise BadArgument("tolerance: needs method='nearest'")
        size = self.transform.size
        self._refuse(wanted, np.isnan(wanted) | (size == 0), "not a time" if size else "there are no samples")
        upper = np.minimum(self.transform.count_before(wanted, inclusive=False), size - 1)
        lower = np.maximum(self.transform.count_before(wanted, inclusive=True) - 1, 0)
        if self.transform.step < 0:
            upper, lower = size - 1 - upper, size - 1 - lower
        below, above = (np.abs(wanted - self.transform.times(where)) for where in (lower, upper))
        nearest, distance = np.where(below < above, lower, upper), np.minimum(below, above)
        if method is None:
            self._refuse(wanted, ~(distance == 0), "no sample has exactly this time; pass method='nearest'")
        elif tolerance is not None:
            self._refuse(wanted, ~(distance <= np.asarray(tolerance)), f"no sample within {tolerance} s")
        else:
            start, end = sorted(self.transform.times([-0.5, size - 0.5]))
            reason = f"the samples here cover {start:.6f} to {end:.6f} s"
            self._refuse(wanted, ~((wanted >= start) & (wanted <= end)), reason)
        return nearest

    @staticmethod
    def _refuse(wanted: Floats, off: NDArray[np.bool_], reason: str) -> None:
        if off.any():
            count = f", and {np.count_nonzero(off) - 1} more" if np.count_nonzero(off) > 1 else ""
            raise NoSuchTime(f"time {float(wanted[off].flat[0])!r} s{count}: {reason}")


def _samples_of(ds: xr.Dataset) -> tuple[int, int]:
    """First sample and number of samples of a dataset that has no time yet."""
    if missing := [name for name in KNOTS if name not in ds.variables]:
        raise BadArgument(f"ds: has no {' and no '.join(missing)}; open a store of ap or lf, with its knots")
    if "time" not in ds.dims or "time" in ds.variables:
        raise BadArgument("ds: expected a dimension time without a coordinate; its clock can be attached only once")
    first, size = int(ds["knot_sample"].attrs.get("first_sample", 0)), ds.sizes["time"]
    expected = int(ds["knot_sample"].attrs.get("n_samples", size))
    if size != expected:
        raise InconsistentData(f"ds: {expected} samples have these knots, time has {size}; attach the clock, then cut")
    return first, size


def _extrapolated(clock: Clock, first: int, size: int) -> dict[str, list[float]]:
    start, end = (float(time) for time in clock.seconds([first, first + size - 1]))
    beyond = [max(0.0, min(clock.support[0], end) - start), max(0.0, end - max(clock.support[1], start))]
    return {"extrapolated_s": beyond} if any(beyond) else {}


def _seconds(values: Any) -> Floats:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise BadArgument(f"time: expected seconds as numbers, got {array.dtype}")
    return array.astype(np.float64)


def _join(parts: Sequence[SampleTimes]) -> SampleTimes | None:
    """The transform of windows one after another, or None if they are not adjacent parts of one recording."""
    parts = [part for part in parts if part.size] or parts[:1]
    first = next((part for part in parts if part.size > 1), parts[0])
    step = first.step if len(parts) == 1 or first.size > 1 else parts[1].offset - first.offset
    offset = parts[0].offset
    for part in parts:
        same = (part.name, part.dim, part.clock) == (first.name, first.dim, first.clock)
        if not same or part.offset != offset or (part.size > 1 and part.step != step):
            return None
        offset += part.size * step
    size = sum(part.size for part in parts)
    return SampleTimes(first.clock, size, parts[0].offset, step, first.name, first.dim) if step else None
