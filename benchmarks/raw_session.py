"""The generated session of bench_raw.py: AP and LF with metas and clock, compressed as IBL does it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

N_ROWS, NOISE_LSB, SPIKES_HZ = 385, 6.5, 3000
BANDS = ("ap", "lf")


class Session:
    """The session, its stored cubes, and the raw samples of both bands to compare with, all in one folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "session"
        self.raw = self.folder / "raw_ephys_data/probe00"

    def cbin(self, band: str) -> Path:
        return next(self.raw.glob(f"*.{band}.cbin"))

    def samples(self, band: str) -> np.ndarray:
        """(time, channel) int16, mapped."""
        return np.memmap(self.root / f"{band}.bin", np.int16, "r").reshape(-1, N_ROWS)

    def build(self, band: str, root: Path, layout: str = "balanced") -> Path:
        import cubes

        source = cubes.source("folder", self.folder)
        plan = cubes.plan(source, [self.pid], [band], root=root, voltage_layout=layout)
        return cubes.build(plan, workers=2)[0]

    @property
    def pid(self) -> str:
        return "session_probe00"

    @classmethod
    def write(cls, root: Path, seconds: float, bands: Sequence[str] = BANDS) -> Session:
        """Generate bands with metas and clock, compress them, and keep the samples."""
        from loaders.sample import SAMPLE
        from loaders.sample_voltage import band_hz, write_clock, write_meta

        session = cls(root)
        (session.folder / "alf/probe00").mkdir(parents=True)
        first = SAMPLE[0]
        n = {band: round(seconds * band_hz(first, band)) for band in BANDS}
        clock = dataclasses.replace(first.clock, n_samples=max(n["ap"], 2))
        probe = dataclasses.replace(first, clock=clock, ap_samples=n["ap"], lf_samples=n["lf"])
        write_clock(session.folder, probe)
        for band in bands:
            sha1 = hashlib.sha1(usedforsecurity=False)
            with (root / f"{band}.bin").open("wb") as file:
                for block in voltage(band, n[band], round(band_hz(probe, band))):
                    sha1.update(block)
                    file.write(block)
            write_meta(session.folder, probe, band, sha1.hexdigest())
            compress(root / f"{band}.bin", next(session.raw.glob(f"*.{band}.meta")), band_hz(probe, band))
        return session

    @classmethod
    def repeat(cls, short: Session, root: Path, times: int) -> Session:
        """A session of whole seconds again and again, without compressing it again; there are no samples to compare."""
        session = cls(root)
        shutil.copytree(short.folder, session.folder)
        for cbin in session.raw.glob("*.cbin"):
            _repeat(cbin, times)
        return session


def _repeat(cbin: Path, times: int) -> None:
    """Whole chunks only: a short one between them would move all that follow off the seconds."""
    known = header(cbin)
    bounds, offsets = known["chunk_bounds"], known["chunk_offsets"]
    n_whole = bounds[-1] // bounds[1]
    stored = cbin.read_bytes()[: offsets[n_whole]]
    sha1 = hashlib.sha1(usedforsecurity=False)
    with cbin.open("wb") as file:
        for _ in range(times):
            sha1.update(stored)
            file.write(stored)
    changed = {
        "chunk_bounds": _tiled(bounds[: n_whole + 1], times),
        "chunk_offsets": _tiled(offsets[: n_whole + 1], times),
        "sha1_compressed": sha1.hexdigest(),
        "sha1_uncompressed": None,
        "shape": [bounds[n_whole] * times, N_ROWS],
    }
    cbin.with_suffix(".ch").write_text(json.dumps(known | changed))


def _tiled(edges: list[int], times: int) -> list[int]:
    return [0, *(i * edges[-1] + edge for i in range(times) for edge in edges[1:])]


def voltage(band: str, n_samples: int, rate: int, noise_lsb: float = NOISE_LSB) -> Iterator[np.ndarray]:
    """Blocks (time, 385) int16 of a second: smooth noise, a little alike on neighbours, with spikes or waves."""
    rng = np.random.default_rng(1)
    shape = -np.exp(-(((np.arange(60) - 20) / 4.0) ** 2) / 2) + 0.3 * np.exp(-(((np.arange(60) - 36) / 6.0) ** 2) / 2)
    spread = np.exp(-np.abs(np.arange(-8, 9)) / 3.0)
    for start in range(0, n_samples, rate):
        n = min(rate, n_samples - start)
        white = rng.standard_normal((n + 1, N_ROWS - 1), dtype=np.float32)
        noise = white[1:] + np.float32(0.5) * white[:-1]
        noise += np.float32(0.3) * np.roll(noise, 2, axis=1)
        noise *= np.float32(noise_lsb / np.sqrt(1.25 * 1.09))
        if band == "ap":
            for _ in range(SPIKES_HZ * n // rate if n > 60 else 0):
                t, c = rng.integers(n - 60), rng.integers(8, N_ROWS - 10)
                noise[t : t + 60, c - 8 : c + 9] += rng.lognormal(3.6, 0.5) * shape[:, None] * spread
        else:
            at = (start + np.arange(n))[:, None] / rate
            noise = noise / 3 + 40 * np.sin(2 * np.pi * 6 * at + np.arange(N_ROWS - 1) / 100).astype(np.float32)
        block = np.empty((n, N_ROWS), np.int16)
        block[:, :-1] = np.rint(noise)
        block[:, -1] = ((start + np.arange(n)) * 2 // rate % 2) << 6
        yield block


def compress(binary: Path, meta: Path, rate: float) -> None:
    """As IBL does it."""
    import mtscomp

    mtscomp.compress(
        binary, meta.with_suffix(".cbin"), meta.with_suffix(".ch"), sample_rate=rate, n_channels=N_ROWS,
        dtype=np.int16, check_after_compress=False, quiet=True,
    )  # fmt: skip


def header(cbin: Path) -> dict[str, Any]:
    return dict(json.loads(cbin.with_suffix(".ch").read_text()))


def spans(cbin: Path) -> list[tuple[int, int]]:
    bounds = header(cbin)["chunk_bounds"]
    return list(pairwise(bounds))


def stored_chunks(cbin: Path) -> list[bytes]:
    data, offsets = cbin.read_bytes(), header(cbin)["chunk_offsets"]
    return [data[a:b] for a, b in pairwise(offsets)]
