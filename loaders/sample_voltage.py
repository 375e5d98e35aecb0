"""Writes the raw voltage of the sample: SpikeGLX metas, clock files, and mtscomp-compressed int16 samples.

An AP file is noise plus the spikes of `loaders.sample_trains.planted_spikes`. A spike at sample ``s`` on site ``c0``
with a trough of ``a`` uV adds ``a * waveform(k) * exp(-distance(c, c0) / 40 um)`` to sample ``s + k`` of channel ``c``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loaders.sample_records import Floats, SampleProbe, random_stream
from loaders.sample_sites import SHANK_PITCH_UM, meta_text, shank_map, sites
from loaders.sample_trains import planted_spikes

N_ROWS = 385
NOISE_LSB = 5.5
SYNC_BIT = 6
REACH_UM = 40.0
BEFORE, AFTER = 20, 50
LSB_UV = {("3B2", "ap"): 2.34375, ("3B2", "lf"): 4.6875, ("NP2.4", "ap"): 0.76293946}


def waveform(k: NDArray[np.int64]) -> Floats:
    """Shape of a planted spike `k` samples after its trough: -1 at 0, then a low broad hump."""
    shape = 0.3 * np.exp(-(((k - 16) / 6.0) ** 2) / 2) - np.exp(-((k / 4.0) ** 2) / 2)
    return np.asarray(shape / (1.0 - 0.3 * np.exp(-((16 / 6.0) ** 2) / 2)), dtype=np.float64)


def band_hz(probe: SampleProbe, band: str) -> float:
    """Samples a second of a band, as its meta has it."""
    line = next(text for text in meta_text(probe.model, band).splitlines() if text.startswith("imSampRate="))
    return float(line.partition("=")[2])


def write_clock(session: Path, probe: SampleProbe) -> None:
    """Write ``timestamps`` (AP sample, session s) and ``sync`` (probe s, session s), (knot, 2) each."""
    base = raw_path(session, probe, "")
    base.parent.mkdir(parents=True)
    knots = probe.clock.knots()
    session_s = probe.clock.session_s(knots)
    np.save(base.with_name(base.name + "timestamps.npy"), np.stack([knots.astype(np.float64), session_s], axis=1))
    np.save(base.with_name(base.name + "sync.npy"), np.stack([knots / probe.clock.fs_hz, session_s], axis=1))


def write_meta(session: Path, probe: SampleProbe, band: str, sha1: str = "") -> None:
    """Write the meta of one band, with the length, names and hash (left out if empty) of the sample."""
    path = raw_path(session, probe, f"{band}.meta")
    n_samples = probe.ap_samples if band == "ap" else probe.lf_samples
    known = {
        "fileName": path.with_suffix(".bin").name,
        "fileSHA1": sha1.upper(),
        "fileSizeBytes": str(n_samples * N_ROWS * 2),
        "fileTimeSecs": repr(n_samples / band_hz(probe, band)),
        "imDatPrb_sn": str(probe.serial),
    }
    lines = [
        f"{key}={known[key]}" if (key := line.partition("=")[0]) in known else line
        for line in meta_text(probe.model, band).splitlines()
    ]
    lines += [shank_map(probe.model)] if band == "lf" else []
    kept = [line for line in lines if sha1 or not line.startswith("fileSHA1=")]
    path.write_text("\n".join(kept) + "\n", encoding="ascii", newline="\n")


def write_voltage(session: Path, probe: SampleProbe, band: str) -> None:
    """Write and compress the samples of one band, with its meta."""
    import spikeglx

    binary = raw_path(session, probe, f"{band}.bin")
    sha1 = hashlib.sha1()
    with binary.open("wb") as file:
        for block in _blocks(probe, band):
            raw = block.tobytes()
            sha1.update(raw)
            file.write(raw)
    write_meta(session, probe, band, sha1.hexdigest())
    with spikeglx.Reader(binary) as reader:
        reader.compress_file(check_after_compress=False, quiet=True)
    binary.unlink()


def raw_path(session: Path, probe: SampleProbe, suffix: str) -> Path:
    """Path of a raw file of a probe, such as for the suffix ``ap.cbin``."""
    imec = int(probe.probe.removeprefix("probe"))
    return session / "raw_ephys_data" / probe.probe / f"_spikeglx_ephysData_g0_t0.imec{imec}.{suffix}"


def _blocks(probe: SampleProbe, band: str) -> list[NDArray[np.int16]]:
    """The samples of one band in pieces (time, 385) of a second."""
    rng = random_stream(probe.pid, band, "voltage")
    n_samples = probe.ap_samples if band == "ap" else probe.lf_samples
    rate = round(band_hz(probe, band))
    starts = range(0, n_samples, rate)
    blocks = [_noise(min(rate, n_samples - start), rng) for start in starts]
    microvolts = _spikes_uv(probe) if band == "ap" else _waves_uv(probe)
    lsb = LSB_UV[probe.model, band]
    sync = (2 * np.arange(n_samples) // rate % 2) << SYNC_BIT
    rows = []
    for start, block in zip(starts, blocks, strict=True):
        row = np.empty((len(block), N_ROWS), dtype=np.int16)
        row[:, :-1] = np.rint(block + microvolts[start : start + len(block)] / lsb)
        row[:, -1] = sync[start : start + len(block)]
        rows.append(row)
    return rows


def _noise(n_samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise (time, 384) in LSB: smooth over three samples, and a little alike on neighbours of one column."""
    white = rng.standard_normal((n_samples + 2, N_ROWS - 1), dtype=np.float32)
    smooth = white[:-2] + 2 * white[1:-1] + white[2:]
    smooth += 0.3 * np.roll(smooth, 2, axis=1)
    return np.float32(NOISE_LSB / np.sqrt(6 * 1.09)) * smooth


def _spikes_uv(probe: SampleProbe) -> NDArray[np.float32]:
    """The planted spikes (time, 384) of a probe, uV."""
    geometry, planted = sites(probe.model), planted_spikes(probe)
    across = geometry.x_um + SHANK_PITCH_UM * geometry.shank
    shape = waveform(np.arange(-BEFORE, AFTER))
    volts = np.zeros((probe.ap_samples, len(geometry)), dtype=np.float32)
    for sample, channel, amp_uv in zip(planted.samples, planted.channels, planted.amps_uv, strict=True):
        distance = np.hypot(across - across[channel], geometry.y_um - geometry.y_um[channel])
        volts[sample - BEFORE : sample + AFTER] += amp_uv * shape[:, None] * np.exp(-distance / REACH_UM)
    return volts


def _waves_uv(probe: SampleProbe) -> NDArray[np.float32]:
    """Slow waves (time, 384) of the LF band, uV: 100 at 6 Hz and 30 at 40 Hz, later and smaller towards the tip."""
    seconds = np.arange(probe.lf_samples)[:, None] / band_hz(probe, "lf")
    height = sites(probe.model).y_um / 3840.0
    theta = 100.0 * height * np.sin(2 * np.pi * 6.0 * seconds + np.pi * height)
    gamma = 30.0 * (1 - height) * np.sin(2 * np.pi * 40.0 * seconds)
    return (theta + gamma).astype(np.float32)
