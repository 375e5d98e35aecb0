"""The names on disk: every variable of a store with its dimensions, units and meaning, and one `validate`.

Names and units follow the IBL where it has a name. The unit of time is ``"s"``, never ``"seconds"``, which some
versions of xarray turn into timedelta64.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from chunking.bins import BinGrid
from loaders.clock import Clock
from loaders.errors import InconsistentData, StoreError
from loaders.geometry import Geometry
from loaders.records import CLUSTER_IDS, IBL_CRITERIA, Channels, Insertion, Locations, Units
from loaders.spikeglx_meta import RecordingMeta
from loaders.sync_lines import Edges

SCHEMA_VERSION = 1
"""Part of every build key: it changes with every release that makes other bytes of the same sources."""

CONVENTIONS = f"ACDD-1.3 ibl-cubes-{SCHEMA_VERSION}"


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of the schema: accepted dtype kinds (as in numpy, ``T`` for text) and attributes."""

    dims: tuple[str, ...]
    kinds: str
    long_name: str
    units: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes as they are written."""
        units = {} if self.units is None else {"units": self.units}
        return {"long_name": self.long_name, **units, **self.extra}


def event_time(dims: tuple[str, ...], long_name: str) -> Variable:
    """A variable of times on the session clock."""
    return Variable(dims, "f", long_name, "s", {"clock": "session"})


def name(dims: tuple[str, ...], long_name: str) -> Variable:
    """A variable of text."""
    return Variable(dims, "T", long_name)


def _locations(dim: str) -> dict[str, Variable]:
    dims = (dim,)
    ibl = {"reference_frame": "IBL: origin bregma, right, anterior and dorsal positive"}
    ccf = {"reference_frame": "Allen CCFv3: origin at the anterior, dorsal, left corner"}
    level = "brain region at the level of the {} atlas; void if unknown or outside the brain"
    return {
        "acronym_allen": Variable(dims, "T", level.format("Allen")),
        "acronym_beryl": Variable(dims, "T", level.format("Beryl")),
        "acronym_cosmos": Variable(dims, "T", level.format("Cosmos")),
        "acronym_swanson": Variable(dims, "T", level.format("Swanson")),
        "atlas_id": Variable(dims, "i", "Allen structure id as recorded; 0 is void"),
        "hemisphere": Variable(dims, "T", "left, right or unknown, from the sign of x"),
        "x": Variable(dims, "f", "medio-lateral position", "m", ibl),
        "y": Variable(dims, "f", "antero-posterior position", "m", ibl),
        "z": Variable(dims, "f", "dorso-ventral position", "m", ibl),
        "ccf_ap": Variable(dims, "f", "antero-posterior position", "um", ccf),
        "ccf_dv": Variable(dims, "f", "dorso-ventral position", "um", ccf),
        "ccf_ml": Variable(dims, "f", "medio-lateral position", "um", ccf),
    }


UNIT = {
    "unit": Variable(("unit",), "i", CLUSTER_IDS),
    "uuid": Variable(("unit",), "T", "universal id of the unit; empty if there is none"),
    "pid": Variable(("unit",), "T", "id of the probe insertion"),
    **_locations("unit"),
    "depth_um": Variable(("unit",), "f", "depth of the unit on the probe, from the tip", "um"),
    "lateral_um": Variable(("unit",), "f", "position across the probe of the unit's channel", "um"),
    "channel": Variable(("unit",), "i", "channel of the unit's largest waveform, row in the channel table"),
    "label": Variable(("unit",), "f", "fraction of the IBL quality criteria that pass; NaN without metrics", "1"),
    "good": Variable(
        ("unit",),
        "b",
        "all quality criteria pass, those of the attribute criteria; false without metrics",
        extra={"criteria": IBL_CRITERIA},
    ),
}

CHANNEL = {
    "channel": Variable(("channel",), "i", "row in the channel table of the sorting"),
    "raw_ind": Variable(("channel",), "i", "row in the raw voltage file"),
    "lateral_um": Variable(("channel",), "f", "position across the probe", "um"),
    "axial_um": Variable(("channel",), "f", "position along the probe, from the tip", "um"),
    **_locations("channel"),
}

CHANNEL_ID = {"ecephys_channel_id": Variable(("channel",), "i", "id of the channel in all tables and files of Allen")}
"""Only of a data set that has one. It is a number, as there: its name says whose it is."""

_GEOMETRY = {
    "channel": Variable(("channel",), "i", "row in the raw voltage file"),
    "x_um": Variable(("channel",), "f", "position across its shank", "um"),
    "y_um": Variable(("channel",), "f", "position along its shank, from the tip", "um"),
    "shank": Variable(("channel",), "i", "shank, from 0"),
    "row": Variable(("channel",), "i", "row of sites on the shank, from the tip"),
    "col": Variable(("channel",), "i", "column of sites on the shank"),
    "adc": Variable(("channel",), "i", "converter that reads the channel"),
    "sample_shift": Variable(("channel",), "f", "when the channel is read, as a fraction of a sample", "1"),
    "readout_channel": Variable(("channel",), "i", "channel of the probe; differs from the row in exported subsets"),
    "gain_to_uV": Variable(("channel",), "f", "microvolts a step", "uV"),
    "offset_to_uV": Variable(("channel",), "f", "microvolts at 0", "uV"),
}
RAW_CHANNEL = _GEOMETRY | _locations("channel")
PUBLISHED_CHANNEL = {name: RAW_CHANNEL[name] for name in ("channel", "x_um", "y_um", "shank", *_locations("channel"))}
"""Of LFP that its source publishes: nothing is known of converters, nor of saturation; its time is a clock."""
GAINS = ("gain_to_uV", "offset_to_uV")
CHANNEL_QUALITY = {
    "channel_label": Variable(
        ("channel",),
        "i",
        "label of the channel, by ibldsp.voltage.detect_bad_channels",
        extra={"flag_values": [0, 1, 2, 3], "flag_meanings": "good dead noisy outside_brain"},
    ),
    "bad": Variable(("channel",), "b", "the channel is dead, noisy or outside the brain"),
}
KNOTS = {
    "knot_sample": Variable(("knot",), "f", "sample of the band at a knot of the clock", "1"),
    "knot_time": Variable(("knot",), "f", "session time at a knot of the clock", "s", {"clock": "session"}),
}

SYNC = {
    "edge_time": Variable(("edge",), "f", "when the line changes", "s", {"clock": "session"}),
    "edge_sample": Variable(("edge",), "i", "first AP sample with the new value", "1"),
    "edge_line": Variable(("edge",), "i", "number of the line"),
    "edge_polarity": Variable(("edge",), "i", "1 where the line rises, -1 where it falls"),
    "line": Variable(("line",), "i", "number of the line"),
    "initial_value": Variable(("line",), "i", "value of the line at the first sample"),
}

TIME = Variable(
    ("time",),
    "f",
    "bin centre",
    "s",
    {"axis": "T", "clock": "session", "interval": "half-open: edge(k) <= t < edge(k+1)"},
)
SAMPLE_TIME = Variable(("time",), "f", "session time of the sample", "s", {"axis": "T", "clock": "session"})
LFP = Variable(("channel", "time"), "f", "voltage, low-passed and decimated; see the attributes of the store", "uV")
LFP_STEPS = Variable(("channel", "time"), "i", f"{LFP.long_name}: uV = gain_to_uV * lfp", "count")
SATURATED = Variable(
    ("time",),
    "b",
    "some raw sample that this one stands for is saturated",
    extra={"criterion": "more than 20 % of the channels beyond 0.96 of their range, in any of the nearest raw samples"},
)
COUNTS = Variable(("unit", "time"), "u", "number of spikes in the bin", "1", {"cell_methods": "time: sum"})

SPIKE = {
    "spike_time": Variable(("spike",), "f", "time of the spike", "s", {"clock": "session"}),
    "spike_amp": Variable(("spike",), "f", "amplitude of the spike", "V"),
    "spike_depth": Variable(("spike",), "f", "depth of the spike on the probe, from the tip", "um"),
}
RAGGED = {
    "row_size": Variable(("unit",), "i", "number of spikes of the unit", "1", {"sample_dimension": "spike"}),
    "row_start": Variable(("unit",), "i", "position of the unit's first spike along the dimension spike", "1"),
}

METRIC_UNITS = {
    "amp_max": "V", "amp_min": "V", "amp_median": "V", "amp_std_dB": "dB", "drift": "um", "firing_rate": "Hz",
    "spike_count": "1", "contamination": "1", "contamination_alt": "1", "missed_spikes_est": "1", "noise_cutoff": "1",
    "presence_ratio": "1", "presence_ratio_std": "1", "slidingRP_viol": "1",
    # Of Allen, under other names.
    "amplitude": "uV", "spread": "um", "waveform_duration": "ms", "waveform_halfwidth": "ms", "amplitude_cutoff": "1",
    "isi_violations": "1", "isolation_distance": "1", "l_ratio": "1", "d_prime": "1", "nn_hit_rate": "1",
    "nn_miss_rate": "1", "silhouette_score": "1", "PT_ratio": "1", "snr": "1",
}  # fmt: skip


def unit_coordinates(insertion: Insertion, units: Units, channels: Channels) -> dict[str, xr.Variable]:
    """All coordinates of the dimension ``unit``, quality metrics included."""
    data: dict[str, NDArray[Any]] = {
        "unit": np.arange(len(units), dtype=np.int64),
        "uuid": units.uuid,
        "pid": np.full(len(units), insertion.pid, dtype=object),
        "depth_um": units.depth_um,
        "lateral_um": channels.lateral_um[units.channel],
        "channel": units.channel,
        "label": units.label,
        "good": units.good,
    }
    data |= {name: values[units.channel] for name, values in location_arrays(channels.locations).items()}
    coordinates = {name: to_variable(v, data[name]) for name, v in UNIT.items()}
    coordinates["good"].attrs["criteria"] = units.criteria
    coordinates["unit"].attrs["long_name"] = units.numbering
    for name, values in units.metrics.items():
        if name != "label":
            ours = metric_name(name)
            if ours in coordinates:
                raise InconsistentData(f"{units.table}: two columns would both be called {ours!r}")
            coordinates[ours] = xr.Variable("unit", text(values), _metric_attrs(name, units.table))
    return coordinates


def metric_name(name: str) -> str:
    """Name of a metric in a store: its own, unless that is taken or cannot name a variable."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    taken = {*UNIT, *CHANNEL, *SPIKE, *RAGGED, "time", "counts", "spike", "trial"}
    return plain if plain[:1].isalpha() and plain not in taken else f"metric_{plain}"


def to_variable(variable: Variable, data: NDArray[Any]) -> xr.Variable:
    """The data of a variable of the schema, with its dimensions and attributes."""
    return xr.Variable(variable.dims, text(data), variable.attrs)


def text(data: NDArray[Any]) -> NDArray[Any]:
    """Text with an explicit dtype: xarray would take an empty array of objects for floats."""
    return data.astype(np.dtypes.StringDType()) if data.dtype.kind == "O" else data


def channel_variables(channels: Channels) -> dict[str, xr.Variable]:
    """Geometry and place of every channel."""
    data: dict[str, NDArray[Any]] = {
        "channel": np.arange(len(channels), dtype=np.int64),
        "raw_ind": channels.raw_ind,
        "lateral_um": channels.lateral_um,
        "axial_um": channels.axial_um,
        **location_arrays(channels.locations),
    }
    return {name: to_variable(v, data[name]) for name, v in CHANNEL.items()} | _channel_ids(channels)


def _channel_ids(channels: Channels) -> dict[str, xr.Variable]:
    ids = channels.ids
    return {} if ids is None else {name: to_variable(v, ids) for name, v in CHANNEL_ID.items()}


def time_coordinate(grid: BinGrid) -> xr.Variable:
    """Bin centres with the exact grid in the attributes."""
    exact = {
        "t0": float(grid.edges(0, 0)[0]),
        "bin_width": float(grid.width),
        "bin_width_exact": str(grid.width),
        "first_bin": grid.first,
    }
    return xr.Variable(TIME.dims, grid.centres(), TIME.attrs | exact)


def voltage(band: str) -> Variable:
    """The variable ``ap`` or ``lf``."""
    long_name = f"{band.upper()} voltage, int16 as recorded: uV = gain_to_uV * {band} + offset_to_uV"
    return Variable(("channel", "time"), "i", long_name, "count")


def voltage_channels(meta: RecordingMeta, geometry: Geometry, places: Locations) -> dict[str, xr.Variable]:
    """Coordinates of the channels of a voltage product."""
    data: dict[str, NDArray[Any]] = {
        "channel": np.arange(meta.n_channels, dtype=np.int64),
        "readout_channel": meta.raw_channels,
        "gain_to_uV": meta.gain_to_uv,
        "offset_to_uV": meta.offset_to_uv,
        **{name: getattr(geometry, name) for name in ("x_um", "y_um", "shank", "row", "col", "adc", "sample_shift")},
        **location_arrays(places),
    }
    return {name: to_variable(v, data[name]) for name, v in RAW_CHANNEL.items()}


def published_channels(channels: Channels) -> dict[str, xr.Variable]:
    """Coordinates of the channels of LFP that its source publishes."""
    data = {
        "channel": channels.raw_ind,
        "x_um": channels.lateral_um,
        "y_um": channels.axial_um,
        "shank": np.zeros(len(channels), np.int64),  # so far, only probes of one shank come with such LFP
        **location_arrays(channels.locations),
    }
    return {name: to_variable(v, data[name]) for name, v in PUBLISHED_CHANNEL.items()} | _channel_ids(channels)


def channel_quality(label: NDArray[np.int8]) -> dict[str, xr.Variable]:
    """The labels (channel,) of `loaders.channel_quality`, and which are bad."""
    data: dict[str, NDArray[Any]] = {"channel_label": label, "bad": label != 0}
    return {name: to_variable(v, data[name]) for name, v in CHANNEL_QUALITY.items()}


def sample_times(seconds: NDArray[np.float64]) -> xr.Variable:
    """The coordinate ``time`` of samples that need not be evenly spaced."""
    return to_variable(SAMPLE_TIME, seconds)


def clock_knots(clock: Clock, first_sample: int, n_samples: int) -> dict[str, xr.Variable]:
    """Knots of the clock; their attributes say which samples of the band the dimension ``time`` holds."""
    data = {"knot_sample": clock.knot_sample, "knot_time": clock.knot_time}
    cut = {"first_sample": first_sample, "n_samples": n_samples}
    return {name: xr.Variable(v.dims, data[name], v.attrs | cut) for name, v in KNOTS.items()}


def sync_edges(edges: Edges, clock: Clock) -> dict[str, xr.Variable]:
    """The digital lines: an entry an edge, and the value of every line at the start."""
    data = {
        "edge_time": clock.seconds(edges.sample),
        "edge_sample": edges.sample,
        "edge_line": edges.line,
        "edge_polarity": edges.polarity,
        "line": np.arange(len(edges.initial)),
        "initial_value": edges.initial,
    }
    return {name: xr.Variable(v.dims, data[name], v.attrs) for name, v in SYNC.items()}


def location_arrays(locations: Locations) -> dict[str, NDArray[Any]]:
    """The arrays of a `Locations` record by schema name."""
    return {name: getattr(locations, name) for name in _locations("")}


def _metric_attrs(name: str, table: str) -> dict[str, Any]:
    units = {"units": METRIC_UNITS[name]} if name in METRIC_UNITS else {}
    return {"long_name": name.replace("_", " "), "source": f"{table} {name}", **units}


def validate(ds: xr.Dataset) -> None:
    """Check that a dataset is what its attribute ``product`` promises.

    Raises
    ------
    StoreError
        With everything that is missing or different.
    """
    product = str(ds.attrs.get("product", ""))
    wanted = expected(product, ds.variables)
    if ds.attrs.get("storage") == "linked" and product not in ds.variables:
        wanted = {name: variable for name, variable in wanted.items() if name != product}  # it lies elsewhere
    if wanted.get("lfp") is LFP and "lfp" in ds.variables and ds.variables["lfp"].dtype.kind == "i":
        wanted["lfp"] = LFP_STEPS
    if product.startswith("pooled_"):
        from chunking import pool_schema  # which describes its variables as this module does

        wanted = wanted | pool_schema.of_alignments(ds.attrs.get("alignments", ()))
    problems = [f"variable {name} is missing" for name in sorted(set(wanted) - set(ds.variables))]
    for name, variable in sorted(wanted.items()):
        if name not in ds.variables:
            continue
        found = ds.variables[name]
        if found.dims != variable.dims:
            problems.append(f"{name} has dimensions {found.dims}, expected {variable.dims}")
        elif _kind(found.dtype) not in variable.kinds:
            problems.append(f"{name} has dtype {found.dtype}, expected kind {variable.kinds}")
        elif variable.units is not None and found.attrs.get("units") != variable.units:
            problems.append(f"{name} has units {found.attrs.get('units')!r}, expected {variable.units!r}")
    if problems:
        raise StoreError(f"not a valid product {product!r}: {'; '.join(problems)}")


def expected(product: str, present: Collection[object] = ()) -> dict[str, Variable]:
    """The variables that a product must have; of those that it may have, the ones among `present`."""
    from chunking import session_schema  # which describes its variables as this module does

    if product in session_schema.VARIABLES:
        return session_schema.required(product, present)
    kind = product.split("_")[0]
    ids = {name: variable for name, variable in CHANNEL_ID.items() if name in present}
    if kind == "counts":
        return UNIT | {"time": TIME, "counts": COUNTS}
    if kind == "spikes":
        return UNIT | SPIKE | RAGGED
    if kind == "channels":
        return CHANNEL | ids
    if kind == "sync":
        return SYNC
    if kind in ("ap", "lf"):
        return RAW_CHANNEL | KNOTS | {kind: voltage(kind)}
    if kind == "lfp":
        channel = {name: variable for name, variable in RAW_CHANNEL.items() if name not in GAINS}
        if "knot_sample" in present:
            return PUBLISHED_CHANNEL | ids | KNOTS | {"lfp": LFP}
        quality = CHANNEL_QUALITY if product.endswith(("_car", "_destriped")) else {}
        return channel | quality | {"time": SAMPLE_TIME, "lfp": LFP, "saturated": SATURATED}
    if kind == "pooled":
        from chunking.pool_schema import POOLED

        return POOLED
    raise StoreError(
        f"attribute 'product': expected spikes, channels, ap, lf, sync, lfp_<rate>hz, counts_<width>, pooled_<name> or "
        f"a product of a session, got {product!r}"
    )


def _kind(dtype: Any) -> str:
    kind = getattr(dtype, "kind", "O")
    return "T" if kind in "OTU" else str(kind)
