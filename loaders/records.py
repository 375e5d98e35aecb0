"""The records that loaders return: frozen dataclasses of plain numpy arrays.

Shapes are given as ``(unit,)``, ``(spike,)``, ``(channel,)``. Times are seconds on the session clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Strings = NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Insertion:
    """One probe in one session.

    Attributes
    ----------
    pid : str
        Identifier of the insertion, also the name of its folder of stores.
    eid : str
        Identifier of the session; empty where there is no database.
    probe : str
        Name of the probe in the session, such as ``probe00``.
    lab, subject, date : str
        Names as in the ALF path; `date` is ``YYYY-MM-DD``. Empty where the path does not tell.
    number : int
        Number of the session on that day; 0 where the path does not tell.
    model : str
        Probe model, such as ``3B2`` or ``NP2.4``; empty if unknown. Not every catalog knows, so stores do not say it.
    comment : str
        What a user of the data must know, as the catalog tells it; goes into every store if there is any.
    dataset : str
        The data set that it is of: key of `loaders.formats.FORMATS`, which says how its files are read.
    session_comment : str
        What of `comment` holds for all of the session; goes into the stores of the session.
    """

    pid: str
    eid: str
    probe: str
    lab: str = ""
    subject: str = ""
    date: str = ""
    number: int = 0
    model: str = ""
    comment: str = ""
    dataset: str = "ibl"
    session_comment: str = ""


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """One file of a session, as a catalog knows it.

    Attributes
    ----------
    rel_path : str
        Path relative to the session folder, with ``/``.
    collection, revision, name : str
        The parts of `rel_path`; `revision` without its ``#`` and empty if there is none.
    path : Path
        Where the file lies, or would lie, on this machine.
    size : int or None
        Bytes, as the catalog has it; None if it does not say.
    md5 : str or None
        Hash, as the catalog has it; None if it does not say.
    default : bool
        Whether the catalog calls this revision the default one.
    id : str
        Identifier of the dataset; empty where there is no database.
    url : str
        Where the file can be fetched from (``https://``, ``s3://``), percent-encoded (``%23`` for ``#``); empty if it
        is only on this machine.
    version : str
        The ETag that the server gave with its list of files; empty if it gave none.
    cache : Path or None
        Folder that a fetched file must lie in; None if nothing can be fetched.
    blake2b : str or None
        Another hash, of 64 bytes, where the catalog has that one and no md5.
    listed_in : str
        The list of files that it is of, with its hash, where its release has one.
    """

    rel_path: str
    collection: str
    revision: str
    name: str
    path: Path
    size: int | None = None
    md5: str | None = None
    default: bool = False
    id: str = ""
    url: str = ""
    version: str = ""
    cache: Path | None = None
    blake2b: str | None = None
    listed_in: str = ""

    @property
    def checksum(self) -> tuple[str, str | None]:
        """The algorithm to hash the file with, and what it must give, if the catalog has it."""
        return ("md5", self.md5) if self.blake2b is None else ("blake2b", self.blake2b)


class Catalog(Protocol):
    """What exists. A source is anything with these three methods."""

    def insertions(self) -> list[Insertion]:
        """All insertions, in a stable order."""
        ...

    def insertion(self, pid: str) -> Insertion:
        """The insertion `pid`; raises NotFound with the ones that exist."""
        ...

    def datasets(self, insertion: Insertion) -> list[DatasetRecord]:
        """All files of the session of `insertion`, sorted by path."""
        ...


@dataclass(frozen=True, slots=True)
class Spikes:
    """All spikes of one sorting, in order of time.

    Attributes
    ----------
    times : (spike,) float64, seconds on the session clock
        Finite and non-decreasing.
    clusters : (spike,) integer
        Row of the spike's unit in `Units`.
    amps : (spike,) float64, V
        NaN where there is no such file.
    depths : (spike,) float64, um from the tip
        NaN where unknown.
    """

    times: Floats
    clusters: NDArray[np.integer[Any]]
    amps: Floats
    depths: Floats

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True, slots=True)
class Locations:
    """Where recording sites lie in the brain. A site of unknown place has NaN and ``void``.

    Attributes
    ----------
    x, y, z : float64, m
        IBL coordinates from bregma: right, anterior and dorsal are positive.
    ccf_ap, ccf_dv, ccf_ml : float64, um
        Allen Common Coordinate Framework, origin at the anterior, dorsal, left corner.
    atlas_id : int64
        Allen structure id as recorded; 0 (void) if unknown.
    acronym_allen, acronym_beryl, acronym_cosmos, acronym_swanson : str
        The region at four levels of detail.
    hemisphere : str
        ``left``, ``right`` or ``unknown``.
    """

    x: Floats
    y: Floats
    z: Floats
    ccf_ap: Floats
    ccf_dv: Floats
    ccf_ml: Floats
    atlas_id: Ints
    acronym_allen: Strings
    acronym_beryl: Strings
    acronym_cosmos: Strings
    acronym_swanson: Strings
    hemisphere: Strings


@dataclass(frozen=True, slots=True)
class Channels:
    """The recording sites of one probe.

    Attributes
    ----------
    raw_ind : (channel,) int64
        Row of the site in the raw voltage file.
    lateral_um, axial_um : (channel,) float64, um
        Position on the probe, across and along it (from the tip).
    locations : Locations
        Place in the brain, one entry a channel.
    histology : str
        Where the places come from: ``alf`` (files of the session), ``nwb`` or ``none``; if they have regions but no
        coordinates, ``nwb, not registered to the CCF``.
    ids : (channel,) int64 or None
        Universal id of the site, in a data set that has one.
    """

    raw_ind: Ints
    lateral_um: Floats
    axial_um: Floats
    locations: Locations
    histology: str
    ids: Ints | None = None

    def __len__(self) -> int:
        return len(self.raw_ind)


IBL_CRITERIA = "amp_median > 50 uV, noise_cutoff < 5, sliding refractory period violation passes"
CLUSTER_IDS = "cluster id within this sorting"


@dataclass(frozen=True, slots=True)
class Units:
    """The units (clusters) of one sorting; row `i` is cluster id `i`, unless `numbering` says otherwise.

    Attributes
    ----------
    uuid : (unit,) str
        Universal id of the unit; empty where there is no such file.
    channel : (unit,) int64
        Row in `Channels` of the site with the largest waveform.
    depth_um : (unit,) float64, um from the tip
    label : (unit,) float64
        Fraction of the three quality criteria that pass (0, 1/3, 2/3, 1); NaN without metrics.
    good : (unit,) bool
        Whether all of `criteria` hold.
    metrics : mapping of str to (unit,) array
        Every quality metric under the name that its source has for it; NaN for units without.
    criteria : str
        What `good` asks for.
    table : str
        What the source calls the table of the metrics.
    numbering : str
        What the number of a unit is, which is its row.
    """

    uuid: Strings
    channel: Ints
    depth_um: Floats
    label: Floats
    good: NDArray[np.bool_]
    metrics: Mapping[str, NDArray[Any]]
    criteria: str = IBL_CRITERIA
    table: str = "clusters.metrics"
    numbering: str = CLUSTER_IDS

    def __len__(self) -> int:
        return len(self.channel)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file that was read, for the provenance of a product.

    `md5` is empty for voltage whose catalog has none, and where the catalog has `blake2b` instead; `sha1` is that of a
    compressed file by its own header.
    `confirmed` says whether the catalog has a hash that agreed; without one, `md5` is that of what was read.
    `listed_in` is that of its `DatasetRecord`.
    """

    rel_path: str
    revision: str
    size: int
    md5: str
    id: str = ""
    sha1: str = ""
    confirmed: bool = False
    blake2b: str = ""
    listed_in: str = ""


@dataclass(frozen=True, slots=True)
class Sorting:
    """One spike sorting of one insertion: one collection, one revision.

    Attributes
    ----------
    insertion : Insertion
    sorter, revision, collection : str
        Which sorting this is.
    spikes : Spikes
    units : Units
    channels : Channels
    sources : sequence of SourceFile
        Every file that was read.
    notes : sequence of str
        Everything noticed while reading, in words.
    """

    insertion: Insertion
    sorter: str
    revision: str
    collection: str
    spikes: Spikes
    units: Units
    channels: Channels
    sources: Sequence[SourceFile] = field(default_factory=tuple)
    notes: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Sites:
    """The recording sites of one spike sorting, without its units and spikes.

    Attributes
    ----------
    sorter, revision, collection : str
        Which sorting this is.
    channels : Channels
    sources : sequence of SourceFile
        Every file that was read.
    """

    sorter: str
    revision: str
    collection: str
    channels: Channels
    sources: Sequence[SourceFile]
