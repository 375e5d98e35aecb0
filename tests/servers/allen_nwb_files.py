"""Writes the NWB files of the Allen fixture with plain h5py: paths, types and attributes as in the released files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import h5py
import numpy as np
from allen_truth import LFP_HZ, METRICS, MONITOR_DELAY_S, N_CHANNELS, Lfp, Probe, Session, Unit

_N_WAVEFORM_SAMPLES = 82
_IDS = UUID("7a1f0b5e-0000-5000-8000-000000000000")


class NwbFile:
    """An HDF5 file with what every NWB file has. `layout` and `strings` are those of the columns of its tables."""

    def __init__(self, path: Path, session: Session) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = h5py.File(path, "w")
        self._name = path.name
        self._chunked, self._fixed = session.layout == "chunked", session.strings == "fixed"
        start = session.start.isoformat(timespec="microseconds")
        if session.coding:  # the date of packaging
            start = (session.start + timedelta(days=200)).isoformat(timespec="microseconds")
        self.file.attrs.update({"nwb_version": "2.2.2" if session.coding else "2.6.0-alpha"})
        self.typed(self.file, "NWBFile")
        texts = {
            "identifier": str(session.session_id),
            "session_description": "brain_observatory_1.1" if session.coding else "EPHYS_1_images_G_3uL_reward",
            "session_start_time": start,
            "timestamps_reference_time": start,
            "general/session_id": str(session.session_id),
            "general/institution": "Allen Institute for Brain Science",
        }
        for name, text in texts.items():
            self.file[name] = text
        self.file.create_dataset("file_create_date", data=np.array([start], dtype=object), dtype=h5py.string_dtype())
        for name in ("acquisition", "analysis", "processing", "stimulus/presentation", "stimulus/templates"):
            self.file.create_group(name)

    def typed(self, thing: Any, kind: str, namespace: str = "core", **attributes: Any) -> Any:
        """Give a group or dataset its NWB type."""
        name = f"{self._name}{thing.name}"
        thing.attrs.update({"namespace": namespace, "neurodata_type": kind, "object_id": str(uuid5(_IDS, name))})
        thing.attrs.update(attributes)
        return thing

    def group(self, path: str, kind: str, **attributes: Any) -> h5py.Group:
        """A typed group."""
        namespace = "hdmf-common" if kind == "DynamicTable" else "core"
        return self.typed(self.file.create_group(path), kind, namespace, **attributes)

    def column(self, table: h5py.Group, name: str, values: Any, kind: str = "VectorData", **attributes: Any) -> Any:
        """One dataset of a table: contiguous, as hdmf 3 wrote it, or chunked and growable, as hdmf 6 does."""
        values = np.asarray(values)
        dtype: Any = values.dtype
        kind_of_value = type(values.flat[0]) if dtype.hasobject else None
        if kind_of_value is str:
            dtype = h5py.string_dtype("utf-8", max(map(len, values)) or 1) if self._fixed else h5py.string_dtype()
        if kind_of_value is h5py.Reference:
            dtype = h5py.ref_dtype
        options: dict[str, Any] = {}
        if self._chunked:
            options = {"chunks": (max(1, min(len(values), 1000)), *values.shape[1:])}
            options["maxshape"] = (None, *values.shape[1:])
        data = table.create_dataset(name, data=values.astype(dtype) if self._fixed else values, dtype=dtype, **options)
        return self.typed(data, kind, "hdmf-common", description=name, **attributes)

    def table(self, path: str, kind: str, ids: Any, columns: Mapping[str, Any], **attributes: Any) -> h5py.Group:
        """A table with its ids, its columns, and the list of their names."""
        table = self.group(path, kind, description=path, **attributes)
        self.typed(table.create_dataset("id", data=np.asarray(ids)), "ElementIdentifiers", "hdmf-common")
        for name, values in columns.items():
            self.column(table, name, values)
        table.attrs.create("colnames", np.array(list(columns), dtype=object), dtype=h5py.string_dtype())
        return table

    def ragged(self, table: h5py.Group, name: str, rows: Sequence[Any], dtype: str = "") -> None:
        """A column of arrays, one a row, with its index of ends in the smallest type that holds them."""
        ends = np.cumsum([len(row) for row in rows])
        smallest = np.min_scalar_type(int(ends[-1]) if len(ends) else 0)
        data = self.column(table, name, np.concatenate(rows))
        index = self.column(table, f"{name}_index", ends.astype(dtype or smallest), "VectorIndex")
        index.attrs["target"] = data.ref
        names = [*table.attrs["colnames"], name]
        table.attrs.create("colnames", np.array(names, dtype=object), dtype=h5py.string_dtype())

    def series(self, path: str, times: Any, data: Any, unit: str, kind: str = "TimeSeries") -> h5py.Group:
        """A time series with stored times."""
        series = self.group(path, kind, comments="no comments", description=path)
        series.create_dataset("data", data=data).attrs.update({"unit": unit, "conversion": 1.0, "resolution": -1.0})
        stamps = series.create_dataset("timestamps", data=np.asarray(times, dtype=np.float64))
        stamps.attrs.update({"unit": "seconds", "interval": np.int32(1)})
        return series


def write_session(path: Path, session: Session) -> None:
    """``ecephys_session_<id>.nwb``, or ``session_<id>.nwb`` of Visual Coding."""
    nwb = NwbFile(path, session)
    with nwb.file:
        _electrodes(nwb, session.probes, session)
        _units(nwb, session)
        for name, columns in session.presentations.items():
            n = len(columns["start_time"])
            table = nwb.table(f"intervals/{name}_presentations", "TimeIntervals", np.arange(n), columns)
            if name.startswith("gabor"):
                _references(nwb, table, n)
        _trials(nwb, session)
        _running(nwb, session)
        nwb.series("acquisition/v_sig", session.frames, np.sin(session.frames), "V")
        nwb.series("acquisition/v_in", session.frames, np.full(len(session.frames), 5.0), "V")
        if session.has_behavior and not session.coding:
            _licks_and_rewards(nwb, session)
            _eye_tracking(nwb, session)
        if session.has_optotagging:
            _optotagging(nwb)
        if session.coding:
            _invalid_times(nwb)


def write_lfp(path: Path, session: Session, probe: Probe, lfp: Lfp) -> None:
    """The LFP file of one probe; the series stands there under two names."""
    nwb = NwbFile(path, session)
    with nwb.file:
        rows = lfp.rows
        _electrodes(nwb, [probe], session, rows)
        name = f"probe_{probe.probe_id}_lfp"
        nwb.group(f"acquisition/{name}", "LFP")
        series = nwb.group(
            f"acquisition/{name}/{name}_data", "ElectricalSeries", comments="no comments", description="LFP"
        )
        packed = {"chunks": (2048, 8), "compression": "gzip", "shuffle": True} if lfp.layout == "chunked" else {}
        data = series.create_dataset("data", data=lfp.values, **packed)
        data.attrs.update({"unit": "volts", "conversion": 1.0, "resolution": -1.0})
        stamps = series.create_dataset("timestamps", data=lfp.timestamps)
        stamps.attrs.update({"unit": "seconds", "interval": np.int32(1)})
        electrodes = series.create_dataset("electrodes", data=np.arange(len(rows)))
        nwb.typed(electrodes, "DynamicTableRegion", "hdmf-common", description="electrodes")
        electrodes.attrs["table"] = nwb.file["general/extracellular_ephys/electrodes"].ref
        nwb.file[f"acquisition/{name}_data"] = h5py.SoftLink(f"/acquisition/{name}/{name}_data")
        _current_source_density(nwb)


def _electrodes(nwb: NwbFile, probes: Sequence[Probe], session: Session, rows: Any = None) -> None:
    rows = np.arange(N_CHANNELS) if rows is None else rows
    groups = {}
    for probe in probes:
        device = nwb.group(f"general/devices/{probe.name}", "Device", description="Neuropixels 1.0")
        device.attrs.update({"probe_id": probe.probe_id, "sampling_rate": probe.sampling_rate})
        group = nwb.group(
            f"general/extracellular_ephys/{probe.name}",
            "ElectrodeGroup",
            description=probe.name,
            location="see electrodes",
        )
        lfp_hz = np.nan if probe.lfp is None else LFP_HZ  # the decimated rate: the table has that of the hardware
        group.attrs.update({"probe_id": probe.probe_id, "lfp_sampling_rate": lfp_hz})
        group.attrs["has_lfp_data"] = probe.lfp is not None
        group["device"] = h5py.SoftLink(f"/general/devices/{probe.name}")
        groups[probe.name] = group
    number = "local_index" if session.coding else "probe_channel_number"
    ccf = np.concatenate([probe.ccf[rows] for probe in probes])
    ccf[ccf == -1000] = np.nan
    columns = {
        "x": ccf[:, 0],
        "y": ccf[:, 1],
        "z": ccf[:, 1] if session.coding else ccf[:, 2],  # Visual Coding has a copy of y
        "location": np.array([probe.acronyms[row] for probe in probes for row in rows], dtype=object),
        "probe_id": np.repeat([probe.probe_id for probe in probes], len(rows)),
        number: np.concatenate([rows] * len(probes)),
        "probe_vertical_position": np.concatenate([probe.vertical_um[rows] for probe in probes]),
        "probe_horizontal_position": np.concatenate([probe.horizontal_um[rows] for probe in probes]),
        "valid_data": np.concatenate([probe.valid[rows] for probe in probes]),
        "group": np.array([groups[probe.name].ref for probe in probes for _ in rows], dtype=object),
        "group_name": np.array([probe.name for probe in probes for _ in rows], dtype=object),
        "imp": np.full(len(ccf), np.nan),
        "filtering": np.array(["AP band: 500 Hz high-pass; LFP band: 1000 Hz low-pass"] * len(ccf), dtype=object),
    }
    ids = np.concatenate([probe.channel_ids[rows] for probe in probes])
    nwb.table("general/extracellular_ephys/electrodes", "DynamicTable", ids, columns)


def _units(nwb: NwbFile, session: Session) -> None:
    units = session.units
    columns = {
        "peak_channel_id": np.array([unit.probe.channel_ids[unit.row] for unit in units]),
        "local_index": np.array([unit.local_index for unit in units]),
        "cluster_id": np.array([unit.local_index + 5 for unit in units]),
        "quality": np.array([unit.quality for unit in units], dtype=object),
        **{name: np.array([unit.metrics[name] for unit in units]) for name in METRICS},
    }
    table = nwb.table("units", "Units", [unit.unit_id for unit in units], columns)
    nwb.ragged(table, "spike_times", [unit.times for unit in units], session.index_dtype)
    nwb.ragged(table, "spike_amplitudes", [unit.amplitudes_v for unit in units], session.index_dtype)
    n_rows = N_CHANNELS * len(units)
    shape = (n_rows, _N_WAVEFORM_SAMPLES)
    mean = table.create_dataset(
        "waveform_mean", shape=shape, dtype=np.float32, chunks=(48, 82), compression="gzip", shuffle=True
    )
    for i, unit in enumerate(units):
        mean[i * N_CHANNELS + unit.row] = waveform(unit)
    nwb.typed(mean, "VectorData", "hdmf-common", description="mean waveform", unit="volts")  # they are uV
    ends = (N_CHANNELS * np.arange(1, len(units) + 1)).astype(np.min_scalar_type(n_rows))
    index = nwb.column(table, "waveform_mean_index", ends, "VectorIndex")
    index.attrs["target"] = mean.ref
    names = [*table.attrs["colnames"], "waveform_mean"]
    table.attrs.create("colnames", np.array(names, dtype=object), dtype=h5py.string_dtype())


def waveform(unit: Unit) -> np.ndarray:
    """The mean waveform of a unit on its peak channel, (sample,) uV; zero on all others."""
    t = np.arange(_N_WAVEFORM_SAMPLES)
    return (-unit.metrics["amplitude"] * np.exp(-0.5 * ((t - 20) / 4) ** 2)).astype(np.float32)


def _references(nwb: NwbFile, table: h5py.Group, n: int) -> None:
    """The column ``timeseries`` of pynwb: compounds with object references, of no use to anybody."""
    frames = nwb.series("stimulus/presentation/gabor_frames", np.arange(3.0), np.arange(3.0), "s")
    kind = np.dtype([("idx_start", "i4"), ("count", "i4"), ("timeseries", h5py.ref_dtype)])
    rows = np.array([(0, 1, frames.ref)] * n, dtype=kind)
    data = nwb.typed(table.create_dataset("timeseries", data=rows), "TimeSeriesReferenceVectorData", description="ts")
    index = nwb.column(table, "timeseries_index", np.arange(1, n + 1).astype(np.uint8), "VectorIndex")
    index.attrs["target"] = data.ref
    names = [*table.attrs["colnames"], "timeseries"]
    table.attrs.create("colnames", np.array(names, dtype=object), dtype=h5py.string_dtype())


def _trials(nwb: NwbFile, session: Session) -> None:
    table = nwb.table("intervals/trials", "TimeIntervals", np.arange(len(session.lick_times)), session.trials)
    if session.licks_indexed:
        nwb.ragged(table, "lick_times", session.lick_times)
    else:
        nwb.column(table, "lick_times", np.concatenate(session.lick_times))
        names = [*table.attrs["colnames"], "lick_times"]
        table.attrs.create("colnames", np.array(names, dtype=object), dtype=h5py.string_dtype())


def _module(nwb: NwbFile, name: str) -> None:
    nwb.group(f"processing/{name}", "ProcessingModule", description=name)


def _running(nwb: NwbFile, session: Session) -> None:
    times, speed = session.running
    _module(nwb, "running")
    _module(nwb, "stimulus")
    nwb.series("processing/stimulus/timestamps", session.frames + MONITOR_DELAY_S, session.frames, "s")
    if session.coding:
        nwb.series("processing/running/running_speed", times, speed, "cm/s")
        nwb.series("processing/running/running_speed_end_times", times, times + 1 / 60, "s")
        nwb.series("processing/running/running_wheel_rotation", times, speed / 60, "radians")
        return
    nwb.series("processing/running/speed", times, speed, "cm/s")
    nwb.series("processing/running/speed_unfiltered", times, speed + 0.1, "cm/s")
    nwb.series("processing/running/dx", times, speed / 60, "cm")


def _licks_and_rewards(nwb: NwbFile, session: Session) -> None:
    licks = np.concatenate(session.lick_times)
    _module(nwb, "licking")
    nwb.series("processing/licking/licks", licks, np.round(licks * 60).astype(np.int64), "N/A")
    rewards = session.trials["reward_time"]
    rewards = rewards[np.isfinite(rewards)]
    _module(nwb, "rewards")
    nwb.series("processing/rewards/volume", rewards, np.full(len(rewards), 0.005), "mL")
    nwb.series("processing/rewards/autorewarded", rewards, np.zeros(len(rewards), dtype=bool), "mL")


def _eye_tracking(nwb: NwbFile, session: Session) -> None:
    times, n = session.frames, len(session.frames)
    nwb.group("acquisition/EyeTracking", "EyeTracking")
    for k, part in enumerate(("eye", "pupil", "corneal_reflection")):
        path = f"acquisition/EyeTracking/{part}_tracking"
        series = nwb.group(path, "SpatialSeries", comments="no comments", description=part)
        series["reference_frame"] = "nose"
        data = series.create_dataset("data", data=np.column_stack([320 + k + np.sin(times), 240 + np.cos(times)]))
        data.attrs.update({"unit": "meters", "conversion": 1.0, "resolution": -1.0})  # they are pixels of the camera
        area = 100.0 * (k + 1) + np.sin(times)
        area[30:36] = np.nan
        columns = {"area": area, "area_raw": np.full(n, 100.0 * (k + 1)), "width": np.full(n, 9.0 + k)}
        columns |= {"height": np.full(n, 8.0 + k), "angle": np.full(n, 0.1)}
        for name, values in columns.items():
            series.create_dataset(name, data=values)
        if k == 0:
            stamps = series.create_dataset("timestamps", data=times)
            stamps.attrs.update({"unit": "seconds", "interval": np.int32(1)})
        else:
            series["timestamps"] = h5py.SoftLink("/acquisition/EyeTracking/eye_tracking/timestamps")
    blink = nwb.series("acquisition/EyeTracking/likely_blink", times, np.isin(np.arange(n), range(30, 36)), "N/A")
    del blink["timestamps"]
    blink["timestamps"] = h5py.SoftLink("/acquisition/EyeTracking/eye_tracking/timestamps")


def _optotagging(nwb: NwbFile) -> None:
    start, duration = np.array([57.5, 58.5, 59.2]), np.array([0.01, 0.005, 1.0])
    columns = {
        "start_time": start,
        "stop_time": start + duration,
        "condition": np.array(["a single square pulse"] * 2 + ["half-period of a cosine wave"], dtype=object),
        "level": np.array([1.0, 2.0, 1.5]),
        "stimulus_name": np.array(["pulse", "pulse", "raised_cosine"], dtype=object),
        "duration": duration,
    }
    _module(nwb, "optotagging")
    nwb.table("processing/optotagging/optogenetic_stimulation", "TimeIntervals", np.arange(3), columns)
    nwb.series("processing/optotagging/optotagging", start, duration, "seconds")


def _invalid_times(nwb: NwbFile) -> None:
    """Of Visual Coding only: a probe, the stimulus, and everything were bad for a while."""
    columns = {"start_time": np.array([20.0, 30.0, 50.0]), "stop_time": np.array([22.0, 31.0, 51.0])}
    table = nwb.table("intervals/invalid_times", "TimeIntervals", np.arange(3), columns)
    tags = [["EcephysProbe", "715094703", "probeA"], ["EcephysSession", "715093703", "stimulus"]]
    tags.append(["EcephysSession", "715093703", "all_probes"])
    nwb.ragged(table, "tags", [np.array(row, dtype=object) for row in tags])


def _current_source_density(nwb: NwbFile) -> None:
    _module(nwb, "current_source_density")
    times = np.linspace(-0.1, 0.25, 50)
    path = "processing/current_source_density/ecephys_csd"
    group = nwb.file.create_group(path)
    density = group.create_group("current_source_density")
    density["data"], density["timestamps"] = np.outer(times, np.arange(8.0)), times
    group["virtual_electrode_x_positions"] = np.full(8, 24.0)
    group["virtual_electrode_y_positions"] = 40.0 * np.arange(8)
