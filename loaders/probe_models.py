"""What differs between the models of Neuropixels probes: grids of sites, converters, and where gains are written.

The numbers are those of ibl-neuropixel 1.14 (``neuropixel.CHANNEL_GRID``, ``neuropixel.adc_shifts``,
``spikeglx._get_neuropixel_version_from_meta``, ``spikeglx._get_gain_from_meta``), which the tests compare with. The
columns of ``imroTbl`` are described at https://billkarsh.github.io/SpikeGLX/help/imroTables/.
"""

from __future__ import annotations

from dataclasses import dataclass

from loaders.errors import BadArgument
from loaders.meta_text import Tags


@dataclass(frozen=True, slots=True)
class ProbeModel:
    """One model of probe.

    Attributes
    ----------
    version : str
        Name as in ibl-neuropixel: ``3A``, ``3B1``, ``3B2``, ``NP2.1``, ``NP2.4``, ``NPultra``, ``NP2QB``, ``NHPlong``.
    x0_um, dx_um, y0_um, dy_um : float, um
        Place of the first column and row, and steps between columns and rows.
    adc_channels, adc_cycles : int
        Channels that one converter reads in turn, and steps of its turn in one sample.
    max_int : int or None
        Largest sample value where the meta does not tell; None if the meta has to.
    imro_gains : bool
        Whether ``imroTbl`` has the gains of each channel; otherwise one gain holds for the probe.
    imro_electrode : int
        Column of ``imroTbl`` with the number of the electrode; 0 if it follows from bank and channel.
    imro_shank : int
        Column of ``imroTbl`` with the shank; 0 if there is one shank.
    checkerboard : bool
        Whether the columns of ``snsShankMap`` are numbered from the other side and staggered by row.
    n_columns : int
        Electrodes in a row.
    """

    version: str
    x0_um: float
    dx_um: float
    y0_um: float
    dy_um: float
    adc_channels: int
    adc_cycles: int
    max_int: int | None = None
    imro_gains: bool = False
    imro_electrode: int = 0
    imro_shank: int = 0
    checkerboard: bool = False
    n_columns: int = 2


def _np1(version: str) -> ProbeModel:
    return ProbeModel(version, 11, 16, 20, 20, 12, 13, max_int=512, imro_gains=True, checkerboard=True)


_NP3A, _NP3B1, _NP3B2 = _np1("3A"), _np1("3B1"), _np1("3B2")
_NP21 = ProbeModel("NP2.1", 27, 32, 20, 15, 16, 16, imro_electrode=3)
_NP24 = ProbeModel("NP2.4", 27, 32, 20, 15, 16, 16, imro_electrode=4, imro_shank=1)
_NP2QB = ProbeModel("NP2QB", 27, 32, 20, 15, 16, 16, imro_electrode=4, imro_shank=1)
_ULTRA = ProbeModel("NPultra", 0, 6, 0, 6, 12, 13, max_int=512, imro_gains=True, n_columns=8)
_NHP = ProbeModel("NHPlong", 27, 87 / 2, 20, 15, 12, 13, max_int=512, imro_gains=True, checkerboard=True)

_MODELS = {
    0: _NP3B1,
    21: _NP21,
    2003: _NP21,
    24: _NP24,
    2013: _NP24,
    2020: _NP2QB,
    1100: _ULTRA,
    1030: _NHP,
}
"""Models by ``imDatPrb_type``."""

_EARLY_PARTS = ("NP2000", "NP2010")
_PART_TYPES = {"NP1030": 1030, "NP1100": 1100}
"""Parts that early versions of SpikeGLX recorded as type 0."""


def probe_model(tags: Tags) -> ProbeModel:
    """The model of the probe that wrote a meta.

    Raises
    ------
    BadArgument
        If the probe is of a type that is not known here.
    CorruptData
        If the meta does not tell.
    """
    if "typeEnabled" in tags:  # only phase 3A has this tag, and it has no type
        return _NP3A
    number = tags.integer("imDatPrb_type")
    if number not in _MODELS:
        known = ", ".join(str(kind) for kind in sorted(_MODELS))
        raise BadArgument(f"{tags.name}: expected a probe of a known type ({known}), got imDatPrb_type={number}")
    return _NP3B2 if number == 0 and "imDatPrb_port" in tags and "imDatPrb_slot" in tags else _MODELS[number]


def model_notes(tags: Tags, model: ProbeModel, band: str) -> tuple[str, ...]:
    """What the meta of this model says and should not be taken at its word."""
    notes = []
    part = tags.values.get("imDatPrb_pn", "")
    kind = tags.values.get("imDatPrb_type", "")
    if part in _PART_TYPES and kind != str(_PART_TYPES[part]):
        notes.append(f"{part} recorded as imDatPrb_type={kind}: sites placed as for that type")
    if band == "lf" and not model.imro_gains:
        notes.append(
            "LF band made from the AP band (one sample of 12) by ibl-neuropixel, which writes a nominal rate of "
            "2500 Hz; the true rate is a twelfth of the rate in the AP meta"
        )
    return tuple(notes)


def probe_gain(tags: Tags) -> tuple[float, str]:
    """The one gain of a probe of generation 2, and a note if sources differ on it.

    The meta has it since SpikeGLX 20230202. Before, it follows from the part: 80 for NP2000 and NP2010, otherwise 100,
    as in ibl-neuropixel. SpikeGLX's own tools (``ChanGainsIM``) go by type and have 80 for 21 and 24, so that the two
    differ on the prototypes ``PRB2_1_...`` and ``PRB2_4_...``.
    """
    if "imChan0apGain" in tags:
        return tags.real("imChan0apGain"), ""
    if "imDatPrb_pn" not in tags:
        raise tags.corrupt("imChan0apGain is missing, and so is imDatPrb_pn, from which it would follow")
    part = tags.text("imDatPrb_pn")
    if part in _EARLY_PARTS:
        return 80.0, ""
    prototype = tags.values.get("imDatPrb_type") in ("21", "24")
    note = f"gain of {part} taken as 100, as ibl-neuropixel does; SpikeGLX has 80 (amplitudes 1.25 times larger)"
    return 100.0, note if prototype else ""
