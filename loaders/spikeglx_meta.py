"""What the ``.meta`` of a SpikeGLX recording says about its voltage: rate, channels, gains, probe.

Rates and gains always come from the file, never from nominal values: a probe at 30000.390639 Hz is 47 ms off after
an hour at 30 kHz. The length of a recording comes from its data; here it is only informative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loaders.errors import BadArgument, InconsistentData
from loaders.meta_text import MAX_CHANNELS, Tags, parse_tags, read_meta_text
from loaders.probe_models import ProbeModel, model_notes, probe_gain, probe_model
from loaders.records import Floats, Ints

_SAMPLE_BYTES = 2
_MAX_SYNC = 4
_MAX_RATE_HZ = 1e6


@dataclass(frozen=True, slots=True)
class RecordingMeta:
    """The meta of one band of one probe. Channels are in the order of the raw file, sync channels excluded.

    Attributes
    ----------
    name : str
        What errors call the meta.
    band : str
        ``ap`` or ``lf``.
    sampling_rate_hz : float, Hz
        As calibrated and recorded. An LF file that ibl-neuropixel made from an NP2 recording has a nominal 2500 here
        (see `notes`): a twelfth of the rate of its AP meta is right.
    n_saved_channels, n_sync : int
        Columns of the raw file, and how many of them, at the end, are sync words (0, 1 or 4).
    model : ProbeModel
        The probe; ``model.version`` is ``3A``, ``3B2``, ``NP2.4`` ...
    part : str
        Part number of the probe; empty if the meta does not tell.
    serial : int or None
        Serial number of the probe; None if the meta does not tell.
    gain_to_uv, offset_to_uv : (channel,) float64, uV
        ``uV = gain_to_uv * sample + offset_to_uv``. The offset is 0.
    raw_channels : (channel,) int64
        Number of the readout channel of the probe, in both bands counted from 0; not ``0..n-1`` in an exported subset.
    range_uv : (channel,) float64, uV
        Largest voltage that can be recorded.
    n_samples : int or None
        Samples that the meta announces; None if it was written while acquiring. Only the data tell the truth.
    raw : mapping of str to str
        Every tag of the file, without its ``~``.
    notes : tuple of str
        What a user of the voltage should know.
    """

    name: str
    band: str
    sampling_rate_hz: float
    n_saved_channels: int
    n_sync: int
    model: ProbeModel
    part: str
    serial: int | None
    gain_to_uv: Floats
    offset_to_uv: Floats
    raw_channels: Ints
    range_uv: Floats
    n_samples: int | None
    raw: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def n_channels(self) -> int:
        """Channels with voltage."""
        return self.n_saved_channels - self.n_sync

    @property
    def probe_version(self) -> str:
        """Name of the probe model, as in ibl-neuropixel."""
        return self.model.version


def read_meta(path: Path) -> RecordingMeta:
    """Read the meta of an AP or LF recording; errors as in `parse_meta`, and NotFound if there is no such file."""
    return parse_meta(read_meta_text(path), path.name)


def parse_meta(text: str, name: str = "meta") -> RecordingMeta:
    """Interpret the text of the meta of an AP or LF recording, strictly.

    Parameters
    ----------
    text : str
        Content of the file.
    name : str
        What errors call it.

    Raises
    ------
    CorruptData
        If a tag that is needed is missing (the message names it), cannot be read, or contradicts another.
    BadArgument
        If it is the meta of something else than a Neuropixels probe that is known here.

    Examples
    --------
    >>> from loaders.sample_sites import meta_text
    >>> meta = parse_meta(meta_text("3B2", "lf"))
    >>> meta.sampling_rate_hz, meta.n_channels, meta.n_sync, meta.gain_to_uv[0].item()
    (2500.0325532900833, 384, 1, 4.6875)
    """
    tags = parse_tags(text, name)
    if (kind := tags.text("typeThis")) != "imec":
        raise BadArgument(f"{name}: expected the meta of a probe (typeThis=imec), got typeThis={kind[:20]}")
    model = probe_model(tags)
    n_saved, n_channels, n_sync, band = _channel_counts(tags)
    raw_channels = _raw_channels(tags, band, n_saved, n_channels)
    gains, note = _gains(tags, model, band, raw_channels)
    max_int = model.max_int if model.max_int and "imMaxInt" not in tags else tags.integer("imMaxInt")
    if not 0 < max_int <= 1 << 15:
        raise tags.corrupt(f"expected imMaxInt from 1 to 32768, got {max_int}")
    range_uv = tags.real("imAiRangeMax") * 1e6 / gains
    return RecordingMeta(
        name=name,
        band=band,
        sampling_rate_hz=_rate_hz(tags),
        n_saved_channels=n_saved,
        n_sync=n_sync,
        model=model,
        part=tags.values.get("imDatPrb_pn", ""),
        serial=_serial(tags),
        gain_to_uv=range_uv / max_int,
        offset_to_uv=np.zeros(n_channels),
        raw_channels=raw_channels,
        range_uv=range_uv,
        n_samples=_announced_samples(tags, n_saved),
        raw=tags.values,
        notes=(*model_notes(tags, model, band), *([note] if note else [])),
    )


def check_channels(meta: RecordingMeta, n_channels_in_file: int, name: str) -> None:
    """Check that a data file has as many columns as its meta says.

    Parameters
    ----------
    meta : RecordingMeta
    n_channels_in_file : int
        Columns of the file, sync included; of a ``.cbin`` those that its ``.ch`` has.
    name : str
        What the error calls the file.

    Raises
    ------
    InconsistentData
        If the numbers differ.
    """
    if n_channels_in_file != meta.n_saved_channels:
        raise InconsistentData(
            f"{name} has {n_channels_in_file} channels, {meta.name} has {meta.n_saved_channels} "
            f"({meta.n_channels} of voltage and {meta.n_sync} of sync); they do not belong together. Fetch both again"
        )


def _channel_counts(tags: Tags) -> tuple[int, int, int, str]:
    """Saved channels, those with voltage, sync channels, and the band."""
    n_saved, (n_ap, n_lf, n_sync) = tags.integer("nSavedChans"), tags.integers("snsApLfSy", 3)
    if n_ap + n_lf + n_sync != n_saved:
        raise tags.corrupt(f"nSavedChans={n_saved} and snsApLfSy={tags.values['snsApLfSy']} contradict each other")
    if n_saved > MAX_CHANNELS or n_sync > _MAX_SYNC:
        raise tags.corrupt(
            f"expected at most {MAX_CHANNELS} channels and {_MAX_SYNC} sync words, got {n_saved} and {n_sync}"
        )
    if (n_ap > 0) == (n_lf > 0):
        raise tags.corrupt(f"expected channels of one band in snsApLfSy, got {tags.values['snsApLfSy']}")
    return n_saved, n_ap + n_lf, n_sync, "ap" if n_ap else "lf"


def _raw_channels(tags: Tags, band: str, n_saved: int, n_channels: int) -> Ints:
    """Readout channels of the probe, (channel,).

    ``snsSaveChanSubset`` counts AP, then LF, then sync channels, as acquired. ibl-neuropixel splits recordings of
    several shanks and keeps the channels of the undivided file, without LF, in ``snsSaveChanSubset_orig``.
    """
    split = "snsSaveChanSubset_orig" in tags
    key = "snsSaveChanSubset_orig" if split else "snsSaveChanSubset"
    n_ap, n_lf = (len(tags.table("imroTbl", " ")[1]), 0) if split else tags.integers("acqApLfSy", 3)[:2]
    first, stop = (n_ap, n_ap + n_lf) if band == "lf" and not split else (0, n_ap)
    if tags.text(key) == "all":
        channels = list(range(first, min(stop, first + MAX_CHANNELS)))
    else:
        saved = tags.ranges(key, MAX_CHANNELS)
        if len(saved) != n_saved:
            raise tags.corrupt(f"nSavedChans={n_saved} and the {len(saved)} channels of {key} contradict each other")
        channels = [channel for channel in saved if first <= channel < stop]
    if len(channels) != n_channels:
        raise tags.corrupt(f"snsApLfSy has {n_channels} {band} channels, {key} has {len(channels)}")
    return np.array(channels, dtype=np.int64) - first


def _gains(tags: Tags, model: ProbeModel, band: str, raw_channels: Ints) -> tuple[Floats, str]:
    """Gain of the amplifier, (channel,), and a note."""
    if not model.imro_gains:
        gain, note = probe_gain(tags)
        return np.full(len(raw_channels), gain), note
    _, rows = tags.table("imroTbl", " ")
    if any(len(row) not in (5, 6) or min(row[3:5]) <= 0 for row in rows):
        raise tags.corrupt("expected entries (channel bank reference ap-gain lf-gain ...) in imroTbl, gains above 0")
    gains = {int(row[0]): (row[3], row[4]) for row in rows}
    absent = [channel for channel in raw_channels.tolist() if channel not in gains]
    if absent or len(gains) != len(rows):
        raise tags.corrupt(f"gains are missing or ambiguous: imroTbl lacks {len(absent)} of the saved channels")
    if "imChan0apGain" in tags and 0 in gains and tags.real("imChan0apGain") != gains[0][0]:
        raise tags.corrupt(
            f"imChan0apGain={tags.values['imChan0apGain']} and {gains[0][0]:g} in imroTbl contradict each other"
        )
    column = 0 if band == "ap" else 1
    return np.array([gains[channel][column] for channel in raw_channels.tolist()]), ""


def _rate_hz(tags: Tags) -> float:
    if (rate := tags.real("imSampRate")) > _MAX_RATE_HZ:
        raise tags.corrupt(f"expected at most {_MAX_RATE_HZ:g} Hz in imSampRate, got {rate:g}")
    return rate


def _serial(tags: Tags) -> int | None:
    key = "imProbeSN" if "imProbeSN" in tags else "imDatPrb_sn"
    return (tags.integer(key) or None) if key in tags else None


def _announced_samples(tags: Tags, n_saved: int) -> int | None:
    """Samples according to the size of the file, None without; a size of part of a sample tells nothing either."""
    if "fileSizeBytes" not in tags:
        return None
    samples, rest = divmod(tags.integer("fileSizeBytes"), n_saved * _SAMPLE_BYTES)
    return None if rest or not samples else samples
