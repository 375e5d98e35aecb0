"""What is true of the Allen fixture: sessions, probes, units, spikes, stimuli, LFP. Nothing is written here.

Times are seconds on the session clock, coordinates CCF um. Values that readers get wrong are put there on purpose; each
has a comment.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

DURATION_S = 60.0
N_CHANNELS = 384
N_UNITS = 12
"""Of each probe."""
HARDWARE_LFP_HZ, LFP_HZ = 2499.9972, 1249.9986  # the tables name the first, the files hold the second
MONITOR_DELAY_S = 0.02
IMAGES = "Natural_Images_Lum_Matched_set_ophys_G_2019"
METRICS = (
    *("firing_rate", "isi_violations", "presence_ratio", "amplitude_cutoff", "isolation_distance", "l_ratio"),
    *(
        "d_prime",
        "nn_hit_rate",
        "nn_miss_rate",
        "max_drift",
        "cumulative_drift",
        "silhouette_score",
        "waveform_duration",
    ),
    *("PT_ratio", "repolarization_slope", "recovery_slope", "amplitude", "spread", "velocity_above", "velocity_below"),
    "snr",
)

# Regions from the tip upwards: first channel, acronym. "" and "None" both mean no region.
_REGIONS = {
    "probeA": ((0, "TH"), (60, "LP"), (120, "DG-mo"), (150, "DG-sg"), (180, "CA1"), (260, "root"), (275, "VISp")),
    "probeB": ((0, "MB"), (70, "APN"), (140, "LGd-sh"), (190, "CA3"), (250, "SCig"), (280, "VISl")),
}
_UNREGISTERED = {"probeA": ((0, "grey"), (260, "root"), (275, "VISp")), "probeB": ((0, "grey"), (280, "VISl"))}
_SURFACE = 360


@dataclass(frozen=True, eq=False, repr=False)
class Lfp:
    """The LFP of one probe. `values` is what the file holds, ``float32(samples) * float32(gain)`` unless said."""

    samples: NDArray[np.int16]  # (time, channel)
    gain_v: float
    values: NDArray[np.float32]
    timestamps: NDArray[np.float64]
    channel_ids: NDArray[np.int64]  # in data order, which is not that of the probe
    rows: NDArray[np.int64]  # probe_channel_number of each
    layout: str  # contiguous, or chunked with gzip and shuffle


@dataclass(frozen=True, eq=False, repr=False)
class Probe:
    """One probe; arrays are (channel,), row = probe_channel_number."""

    probe_id: int
    name: str
    channel_ids: NDArray[np.int64]
    acronyms: list[str]
    ccf: NDArray[np.float64]  # (channel, 3): AP, DV, left-right; all zero if not registered
    vertical_um: NDArray[np.int64]
    horizontal_um: NDArray[np.int64]
    valid: NDArray[np.bool_]
    sampling_rate: float
    lfp: Lfp | None


@dataclass(frozen=True, eq=False, repr=False)
class Unit:
    """One unit. `cluster_id` and `local_index` count within its probe."""

    unit_id: int
    probe: Probe
    row: int
    local_index: int
    quality: str
    metrics: dict[str, float]
    times: NDArray[np.float64]
    amplitudes_v: NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Session:
    """One session; `units` in the order of the file, which is neither that of ids nor of probes."""

    session_id: int
    behavior_session_id: int
    mouse_id: int
    genotype: str
    sex: str
    start: datetime
    image_set: str
    experience_level: str
    session_number: int
    abnormal_histology: str  # as the table has it: the repr of a list, or empty
    abnormal_activity: str
    registered: bool
    coding: bool  # the Visual Coding variant
    probes: list[Probe]
    units: list[Unit]
    presentations: dict[str, dict[str, NDArray]]  # one table per stimulus
    trials: dict[str, NDArray]
    lick_times: list[NDArray[np.float64]]  # one array a trial
    licks_indexed: bool
    running: tuple[NDArray[np.float64], NDArray[np.float64]]  # times, cm/s
    frames: NDArray[np.float64]
    has_behavior: bool  # licking, rewards, eye tracking
    has_optotagging: bool
    layout: str  # of the columns: contiguous or chunked
    strings: str  # fixed or variable
    index_dtype: str  # of spike_times_index

    @property
    def probe(self) -> dict[str, Probe]:
        """Probes by name."""
        return {probe.name: probe for probe in self.probes}


def sessions() -> list[Session]:
    """The three Visual Behavior sessions: whole; not registered and without behaviour; with abnormal histology."""
    return [
        _session(
            *(1044385384, 1044408432, 524761, "wt/wt", "F", "2020-08-19T14:47:08.574000-07:00"),
            lfps=(("contiguous", 0.195e-6, False, True), ("chunked", 0.0975e-6, False, True)),
        ),
        _session(
            *(1044016459, 1044048872, 506940, "Vip-IRES-Cre/wt;Ai32(RCL-ChR2(H134R)_EYFP)/wt", "M"),
            "2020-08-18T16:08:19.974000-07:00",
            lfps=(("contiguous", 0.39e-6, True, True), ("contiguous", 0.195e-6, False, False)),
            registered=False,
            experience_level="Novel",
            session_number=2,
            has_behavior=False,
            has_optotagging=False,
            layout="chunked",
            index_dtype="uint32",
        ),
        _session(
            *(1065437523, 1065449881, 544358, "Sst-IRES-Cre/wt;Ai32(RCL-ChR2(H134R)_EYFP)/wt", "M"),
            "2020-11-25T17:09:33.100000-08:00",  # in UTC the next day
            lfps=(None, ("chunked", 0.195e-6, False, True)),
            abnormal_histology="['Right Cortex', 'Hippocampus']",
            abnormal_activity="[12, 30]",
            licks_indexed=False,
            strings="fixed",
        ),
    ]


def coding_session() -> Session:
    """A Visual Coding session: spikes unsorted and at -1, `z` a copy of `y`, coordinates of -1000, invalid times."""
    lfps = (("contiguous", 0.195e-6, False, True), None)
    return _session(
        *(715093703, 0, 699733581, "Sst-IRES-Cre/wt;Ai32(RCL-ChR2(H134R)_EYFP)/wt", "M"),
        "2019-01-19T00:54:18-08:00",
        lfps=lfps,
        coding=True,
    )


def _session(
    session_id: int,
    behavior_session_id: int,
    mouse_id: int,
    genotype: str,
    sex: str,
    start: str,
    *,
    lfps: tuple,
    registered: bool = True,
    experience_level: str = "Familiar",
    session_number: int = 1,
    abnormal_histology: str = "",
    abnormal_activity: str = "",
    coding: bool = False,
    has_behavior: bool = True,
    has_optotagging: bool = True,
    licks_indexed: bool = True,
    layout: str = "contiguous",
    strings: str = "variable",
    index_dtype: str = "uint16",
) -> Session:
    rng = np.random.default_rng(session_id)
    probes = [
        _probe(rng, session_id + 1000 * (k + 1), name, registered, lfps[k], coding)
        for k, name in enumerate(("probeA", "probeB"))
    ]
    presentations = _presentations()
    trials, lick_times = _trials(presentations[IMAGES], licks_indexed)
    frames = np.arange(0.02, DURATION_S, 1 / 59.94)
    return Session(
        *(session_id, behavior_session_id, mouse_id, genotype, sex, datetime.fromisoformat(start), "G"),
        *(experience_level, session_number, abnormal_histology, abnormal_activity, registered, coding, probes),
        _units(rng, probes, presentations[IMAGES], session_id, coding),
        *(presentations, trials, lick_times, licks_indexed),
        (frames, 20 + 10 * np.sin(frames)),
        *(frames, has_behavior, has_optotagging, layout, strings, index_dtype),
    )


def _probe(rng: np.random.Generator, probe_id: int, name: str, registered: bool, lfp: tuple, coding: bool) -> Probe:
    rows = np.arange(N_CHANNELS)
    regions = (_REGIONS if registered else _UNREGISTERED)[name]
    acronyms = [next(acronym for first, acronym in reversed(regions) if row >= first) for row in rows]
    acronyms[_SURFACE:] = ["" if row % 2 else "None" for row in rows[_SURFACE:]]
    side = 0 if name == "probeA" else 900
    ccf = np.column_stack([8000.0 + rows, 5200.0 - 10 * rows, 7000.0 + side + rows])
    if not registered:
        ccf[:] = 0
    elif coding:
        ccf[_SURFACE:] = -1000  # as Visual Coding has it in its tables; NaN in its files
    channel_ids = probe_id + 100_000 + 2 * rows
    return Probe(
        *(probe_id, name, channel_ids, acronyms, ccf, 20 * (rows // 2 + 1), np.array([43, 11, 59, 27])[rows % 4]),
        valid=rows != 191,  # the reference
        sampling_rate=30000.0 + probe_id % 7 / 10,
        lfp=None if lfp is None else _lfp(rng, channel_ids, *lfp),
    )


def _lfp(
    rng: np.random.Generator, channel_ids: NDArray[np.int64], layout: str, gain_v: float, gap: bool, exact: bool
) -> Lfp:
    rows = 2 + 4 * np.arange(24) + 40
    rows = rows[np.r_[12:24, 0:12]]  # the data are not in the order of the probe
    n_samples = round(10 * LFP_HZ)
    samples = rng.normal(0, 300, (n_samples, len(rows))).astype(np.int16)
    samples[0, :2] = (-32768, 32767)
    values = samples.astype(np.float32) * np.float32(gain_v)
    if not exact:
        values[5000:] += np.float32(0.3 * gain_v)  # the first half would pass a test of a sample of the chunks
    timestamps = 4.97 + np.arange(n_samples) / LFP_HZ
    if gap:
        timestamps[6000:] += 1.5  # acquisition was interrupted
    return Lfp(samples, gain_v, values, timestamps, channel_ids[rows], rows, layout)


def _units(
    rng: np.random.Generator, probes: list[Probe], images: dict[str, NDArray], session_id: int, coding: bool
) -> list[Unit]:
    places = [(probe, k) for probe in probes for k in range(N_UNITS)]
    order = rng.permutation(len(places))
    ids = session_id + 5_000_000 + 3 * rng.permutation(len(places))
    silent = {0, len(places) // 2, len(places) - 1}  # first, middle and last of the file
    units = []
    for i, place in enumerate(order):
        probe, k = places[place]
        times = np.empty(0) if i in silent else _spikes(rng, images, coding and i == 3, k % 3 == 0)
        row = (7 + 31 * k) % _SURFACE if k < N_UNITS - 1 else _SURFACE + 3  # the last one lies where there is no region
        metrics = {name: float(rng.uniform(0.01, 0.99)) for name in METRICS}
        metrics["firing_rate"] = len(times) / DURATION_S
        metrics["amplitude"] = float(rng.uniform(60, 300))  # uV
        if k % 4 == 1:
            metrics |= dict.fromkeys(("isi_violations", "amplitude_cutoff", "d_prime", "isolation_distance"), np.nan)
        else:
            metrics |= {"amplitude_cutoff": 0.02 * (k % 8), "isi_violations": 0.1 * k, "presence_ratio": 0.99}
        quality = "noise" if k % 5 == 4 else "good"
        amplitudes = rng.uniform(5e-5, 3e-4, len(times))
        units.append(Unit(int(ids[i]), probe, row, k, quality, metrics, times, amplitudes))
    return units


def _spikes(
    rng: np.random.Generator, images: dict[str, NDArray], broken: bool, responding: bool
) -> NDArray[np.float64]:
    times = rng.uniform(0, DURATION_S, rng.poisson(8 * DURATION_S))
    if responding:  # more to an image that is new
        n = np.where(images["omitted"], 0, np.where(images["is_change"] == 1, 7, 3))
        times = np.concatenate([times, np.repeat(images["start_time"], n) + rng.uniform(0.04, 0.14, n.sum())])
    edges = np.array([0.0, 0.01, 0.07, 0.3, 1.1, 5.01, 10.0, 20.23])  # of 10 ms bins
    at_images = np.concatenate([images["start_time"][:6], images["stop_time"][:4]])
    times = np.unique(np.concatenate([times, edges, at_images]))
    if broken:  # as in files of Visual Coding of 2019
        times = np.concatenate([times[100:], times[:100], [-1.0, -1.0]])
    return times


def _presentations() -> dict[str, dict[str, NDArray]]:
    """Six blocks: images with the task, spontaneous, gabors, spontaneous again, flashes, the images again."""
    active, passive = _images(5.0, 0, True), _images(45.0, 5, False)
    images = {name: np.concatenate([active[name], passive[name]]) for name in active}
    gabor_start = 28 + 0.25 * np.arange(48)
    flash_start = 43 + 0.5 * np.arange(4)
    gabor = {
        **_common(gabor_start, gabor_start + 0.25, "gabor_20_deg_250ms", 2),
        "position_x": np.resize([-20.0, 0, 20], 48),
        "position_y": np.resize([-10.0, 10], 48),
        "orientation": np.resize([0.0, 45, 90], 48),
        "spatial_frequency": np.array(["0.08"] * 48, dtype=object),
        "temporal_frequency": np.full(48, 4.0),
        "contrast": np.full(48, 0.8),
    }
    flash = {
        **_common(flash_start, flash_start + 0.25, "flash_250ms", 4),
        "color": np.array(["1.0", "-1.0", "N/A", "1.0"], dtype=object),  # text with holes
        "contrast": np.full(4, 0.8),
    }
    spontaneous = _common(np.array([25.0, 40.0]), np.array([28.0, 43.0]), "spontaneous", np.array([1, 3]))
    return {IMAGES: images, "gabor_20_deg_250ms": gabor, "spontaneous": spontaneous, "flash_250ms": flash}


def _common(start: NDArray, stop: NDArray, name: str, block: int | NDArray) -> dict[str, NDArray]:
    n = len(start)
    return {
        "start_time": start,
        "stop_time": stop,
        "stimulus_name": np.array([name] * n, dtype=object),
        "stimulus_block": np.broadcast_to(np.asarray(block, dtype=np.int64), n).copy(),
        "duration": stop - start,
        "start_frame": np.round(start * 60).astype(np.int64),
        "end_frame": np.round(stop * 60).astype(np.int64),
    }


def _images(first_s: float, block: int, active: bool) -> dict[str, NDArray]:
    n = 16
    k = np.arange(n)
    start = first_s + 0.75 * k
    omitted = k % 7 == 5
    change = (k % 4 == 0) & ~omitted
    names = np.array(["im012_r", "im036_r", "im047_r"], dtype=object)[(k // 4) % 3]
    names[omitted] = "omitted"
    unknown = np.where(omitted, np.nan, 0.0)
    return {
        **_common(start, start + 0.25, IMAGES, block),
        "image_name": names,
        "is_change": change.astype(float),
        "is_image_novel": unknown,  # truth values with holes are written as 0, 1, NaN
        "omitted": omitted,
        "flashes_since_change": (k % 4).astype(np.int64),
        "trials_id": k // 4 if active else np.full(n, -99),  # missing whole numbers are -99
        "active": np.full(n, active),
        "is_sham_change": np.zeros(n, dtype=bool),
        "rewarded": change.astype(float) if active else np.full(n, np.nan),
    }


def _trials(images: dict[str, NDArray], indexed: bool) -> tuple[dict[str, NDArray], list[NDArray[np.float64]]]:
    n = 4
    start = 4.5 + 3.0 * np.arange(n)
    onset = images["start_time"][:16:4]
    go, aborted = np.array([True, False, True, False]), np.array([False, False, False, True])
    catch = np.array([False, True, False, False])
    licks = [np.array([onset[0] + 0.3, onset[0] + 0.5]), np.empty(0), np.array([onset[2] + 0.2]), np.empty(0)]
    if not indexed:  # as many as trials, so the writer forgets that they are ragged
        licks = [np.array([time]) for time in onset + 0.4]
    response = np.array([each[0] if len(each) else np.nan for each in licks])
    image = np.array(["im012_r", "im036_r", "im047_r", "im012_r"], dtype=object)
    table = {
        "start_time": start,
        "stop_time": start + 3.0,
        "initial_image_name": image,
        "change_image_name": np.array(["im036_r", "im036_r", "im012_r", ""], dtype=object),
        "stimulus_change": go,
        "change_time_no_display_delay": np.where(aborted, np.nan, onset - MONITOR_DELAY_S),
        "go": go,
        "catch": catch,
        "response_time": response,
        "reward_time": np.where(go, response, np.nan),
        "reward_volume": np.where(go, 0.005, 0.0),
        "hit": go,
        "false_alarm": np.zeros(n, dtype=bool),
        "miss": np.zeros(n, dtype=bool),
        "correct_reject": catch,
        "aborted": aborted,
        "auto_rewarded": np.zeros(n, dtype=bool),
        "change_frame": np.where(aborted, -99, np.round(onset * 60)).astype(np.int64),
        "trial_length": np.full(n, 3.0),
    }
    return table, licks
