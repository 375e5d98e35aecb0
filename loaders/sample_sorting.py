"""Writes the spike sortings of the sample as IBL lays them out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loaders.sample_records import Floats, Ints, SampleProbe, SampleSorting, identifier, random_stream
from loaders.sample_sites import places, regions, sites
from loaders.sample_trains import Trains, spike_trains

if TYPE_CHECKING:
    import pandas as pd

PRESENCE_WINDOW_S = 10.0
CONFIDENCE_PERCENT, NOISE_CUTOFF, AMP_MEDIAN_V = 90.0, 5.0, 50e-6


def write_sorting(session: Path, probe: SampleProbe, sorting: SampleSorting) -> None:
    """Write all files of one sorting below the session folder."""
    folder = session / "alf" / probe.probe / sorting.folder
    folder.mkdir(parents=True, exist_ok=True)
    train = spike_trains(probe, sorting)
    _write_spikes(folder, probe, train)
    _write_units(folder, probe, sorting, train)
    _write_channels(folder, "channels", probe)
    np.save(folder / "channels.rawInd.npy", np.arange(len(sites(probe.model))))
    _write_drift(folder, probe.duration_s)


def write_electrode_sites(session: Path, probe: SampleProbe) -> None:
    """Write the refined places of the sites, which prevail over those of a sorting, if the probe has any."""
    if probe.refined_um:
        _write_channels(session / "alf" / probe.probe, "electrodeSites", probe)


def unit_metrics(train: Trains, rng: np.random.Generator) -> pd.DataFrame:
    """Quality metrics under their IBL names, one row a unit in order of cluster id.

    Counts, rates, presence, amplitudes, drift and the labels follow the formulas of
    ``brainbox.metrics.single_units.quick_unit_metrics``; the five that need a model are drawn at random.

    Parameters
    ----------
    train : Trains
    rng : numpy.random.Generator
    """
    import pandas as pd

    n_units = len(train.channels)
    columns: dict[str, NDArray[Any]] = {"cluster_id": np.arange(n_units)}
    columns |= _amplitudes(train) | _drawn(train, rng) | _presence(train) | {"drift": _drift(train)}
    passes = np.stack([
        columns["max_confidence"] >= CONFIDENCE_PERCENT,
        columns["noise_cutoff"] < NOISE_CUTOFF,
        columns["amp_median"] > AMP_MEDIAN_V,
    ])  # fmt: skip
    columns["slidingRP_viol"] = np.where(np.isnan(columns["max_confidence"]), np.nan, passes[0])
    columns["slidingRP_viol_forced"] = columns["slidingRP_viol"]
    columns["label"] = passes.mean(axis=0)
    columns["bitwise_fail"] = (~passes * np.array([[1], [2], [4]])).sum(axis=0).astype(np.uint8)
    return pd.DataFrame({name: columns[name] for name in METRICS})


METRICS = (
    "cluster_id", "amp_max", "amp_min", "amp_median", "amp_std_dB", "contamination", "contamination_alt", "drift",
    "missed_spikes_est", "noise_cutoff", "presence_ratio", "presence_ratio_std", "slidingRP_viol", "spike_count",
    "slidingRP_viol_forced", "max_confidence", "min_contamination", "n_spikes_below2", "firing_rate", "label",
    "bitwise_fail",
)  # fmt: skip
"""Columns of the table of metrics, in the order of the IBL pipeline."""


def _write_spikes(folder: Path, probe: SampleProbe, train: Trains) -> None:
    np.save(folder / "spikes.times.npy", train.times)
    np.save(folder / "spikes.clusters.npy", train.clusters.astype(np.int32 if probe.model == "NP2.4" else np.uint32))
    np.save(folder / "spikes.amps.npy", train.amps)
    np.save(folder / "spikes.depths.npy", train.depths)
    np.save(folder / "spikes.samples.npy", train.samples.astype(np.uint64))
    np.save(folder / "spikes.templates.npy", train.clusters.astype(np.uint32))


def _write_units(folder: Path, probe: SampleProbe, sorting: SampleSorting, train: Trains) -> None:
    import pandas as pd

    rng = random_stream(probe.pid, sorting.folder, "units")
    n_units = len(train.channels)
    uuids = [identifier("unit", probe.pid, sorting.folder, unit) for unit in range(n_units)]
    np.save(folder / "clusters.channels.npy", train.channels)
    np.save(folder / "clusters.depths.npy", sites(probe.model).y_um[train.channels])
    np.save(folder / "clusters.amps.npy", train.unit_amps)
    np.save(folder / "clusters.peakToTrough.npy", rng.choice([0.25, 0.65], n_units) + rng.normal(0.0, 0.06, n_units))
    pd.DataFrame({"uuids": uuids}).to_csv(folder / "clusters.uuids.csv", index=False, lineterminator="\n")
    metrics = unit_metrics(train, rng)
    if not sorting.revision:
        metrics["ks2_label"] = np.where(metrics["label"] == 1, "good", "mua")
    metrics.to_parquet(folder / "clusters.metrics.pqt")


def _write_channels(folder: Path, name: str, probe: SampleProbe) -> None:
    geometry = sites(probe.model)
    deeper_um = probe.refined_um if name == "electrodeSites" else 0.0
    place = places(probe, deeper_um)
    np.save(folder / f"{name}.localCoordinates.npy", np.stack([geometry.x_um, geometry.y_um], axis=1))
    np.save(folder / f"{name}.mlapdv.npy", place if deeper_um else np.rint(place).astype(np.int32))
    np.save(folder / f"{name}.brainLocationIds_ccf_2017.npy", regions(probe, deeper_um)[0])


def _write_drift(folder: Path, duration_s: float) -> None:
    """A slow movement of the probe, um, in nine blocks along its depth."""
    times = np.arange(0.0, duration_s, 2.0)
    phase = times[:, None] / duration_s * 2 * np.pi + np.linspace(0.0, 0.5, 9)
    np.save(folder / "drift.times.npy", times)
    np.save(folder / "drift.um.npy", 4.0 * np.sin(phase))


def _amplitudes(train: Trains) -> dict[str, NDArray[Any]]:
    """Extremes, geometric median and spread (dB) of the amplitudes of each unit; NaN without spikes."""
    import pandas as pd

    table = pd.DataFrame({"amp": train.amps, "log": 20 * np.log10(train.amps), "unit": train.clusters})
    units = range(len(train.channels))
    grouped = table.groupby("unit")
    return {
        "amp_max": grouped["amp"].max().reindex(units).to_numpy(),
        "amp_min": grouped["amp"].min().reindex(units).to_numpy(),
        "amp_median": 10 ** (grouped["log"].median().reindex(units).to_numpy() / 20),
        "amp_std_dB": grouped["log"].std().reindex(units).to_numpy(),
    }


def _presence(train: Trains) -> dict[str, NDArray[Any]]:
    """Spike count, rate over the time between the first and last spike of all, and presence in windows of 10 s."""
    first, last = train.times[0], train.times[-1]
    n_units = len(train.channels)
    n_windows = len(np.arange(first, last + PRESENCE_WINDOW_S / 2, PRESENCE_WINDOW_S))
    window = np.floor((train.times - first) / PRESENCE_WINDOW_S).astype(np.int64)
    counts = np.bincount(train.clusters * n_windows + window, minlength=n_units * n_windows).reshape(n_units, n_windows)
    total = counts.sum(axis=1).astype(np.float64)
    return {
        "presence_ratio": (counts > 0).sum(axis=1) / n_windows,
        "presence_ratio_std": counts.std(axis=1),
        "spike_count": total,
        "firing_rate": total / (last - first),
    }


def _drift(train: Trains) -> Floats:
    """Summed steps of the spike depths of each unit, um an hour; NaN without spikes or where a depth is unknown."""
    by_unit = np.argsort(train.clusters, kind="stable")
    unit, depth = train.clusters[by_unit], train.depths[by_unit]
    same = unit[1:] == unit[:-1]
    steps = np.abs(np.diff(depth))[same]
    total = np.bincount(unit[1:][same], weights=steps, minlength=len(train.channels)).astype(np.float64)
    total[np.bincount(unit, minlength=len(train.channels)) == 0] = np.nan
    return total / float(train.times[-1] - train.times[0]) * 3600


def _drawn(train: Trains, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Metrics that need a model of the unit: random, NaN for silent units, doubtful for those of few spikes."""
    counts: Ints = np.bincount(train.clusters, minlength=len(train.channels))
    n_units = len(counts)
    sure = (rng.random(n_units) < 0.52) & (counts >= 10)
    whole = rng.random(n_units) < 0.52
    drawn = {
        "contamination": rng.uniform(0.0, 0.6, n_units),
        "contamination_alt": rng.uniform(0.0, 1.0, n_units),
        "missed_spikes_est": np.where(counts >= 500, rng.uniform(0.0, 0.5, n_units), np.nan),
        "noise_cutoff": np.where(whole, rng.uniform(-1.0, 4.9, n_units), rng.gamma(2.0, 20.0, n_units)),
        "max_confidence": np.where(sure, rng.uniform(90.0, 100.0, n_units), rng.uniform(0.0, 89.9, n_units)),
        "min_contamination": np.where(sure, rng.uniform(0.5, 10.0, n_units), np.nan),
        "n_spikes_below2": np.floor(counts * rng.uniform(0.0, 0.02, n_units)),
    }
    return {name: np.where(counts > 0, values, np.nan) for name, values in drawn.items()}
