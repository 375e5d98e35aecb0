"""The NWB files of the Allen Institute, as `loaders.formats.Format` asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from loaders.allen_lfp import load_lfp
from loaders.allen_sorting import SORTER, clean_electrodes, probe_id, read_electrodes, read_units
from loaders.errors import CubesError, NotFound
from loaders.nwb_files import open_nwb, session_record
from loaders.nwb_spikes import SpikeTrains
from loaders.published_lfp import PublishedLfp
from loaders.records import Catalog, DatasetRecord, Insertion, Sites, Sorting, Units
from loaders.voltage import Voltage


class AllenNwb:
    """Visual Behavior and Visual Coding Neuropixels: one sorting and, where it was released, LFP; no raw voltage."""

    def sorting(self, catalog: Catalog, pid: str, *, sorter: str | None = None, revision: str | None = None) -> Sorting:
        """Units, sites and spikes of one probe."""
        insertion, record = _chosen(catalog, pid, sorter, revision)
        with _naming(pid), open_nwb(record) as (nwb, source, file):
            electrodes = read_electrodes(nwb, probe_id(insertion))
            channels, notes = clean_electrodes(electrodes)
            found, more = read_units(nwb, electrodes, insertion.dataset)
            trains = SpikeTrains(nwb, source, found.rows)
        with _naming(pid):  # HDF5 is closed: what follows are ranges of bytes
            spikes, most = trains.read()
        return Sorting(
            insertion=insertion,
            sorter=SORTER,
            revision=record.revision,
            collection=record.collection,
            spikes=spikes,
            units=found.units,
            channels=channels,
            sources=(file,),
            notes=(*most, *more, *notes),
        )

    def sites(self, catalog: Catalog, pid: str, *, sorter: str | None = None, revision: str | None = None) -> Sites:
        """The sites of one probe."""
        insertion, record = _chosen(catalog, pid, sorter, revision)
        with _naming(pid), open_nwb(record) as (nwb, _, file):
            channels, _ = clean_electrodes(read_electrodes(nwb, probe_id(insertion)))
        return Sites(SORTER, record.revision, record.collection, channels, (file,))

    def units(
        self, catalog: Catalog, pid: str, *, sorter: str | None = None, revision: str | None = None
    ) -> tuple[Sites, Units]:
        """The sites and units of one probe."""
        insertion, record = _chosen(catalog, pid, sorter, revision)
        with _naming(pid), open_nwb(record) as (nwb, _, file):
            electrodes = read_electrodes(nwb, probe_id(insertion))
            channels, _ = clean_electrodes(electrodes)
            found, _ = read_units(nwb, electrodes, insertion.dataset)
        return Sites(SORTER, record.revision, record.collection, channels, (file,)), found.units

    def voltage(self, catalog: Catalog, pid: str, band: str, *, need_clock: bool = True) -> Voltage:
        """None was released."""
        raise NotFound(f"pid {pid}: no raw {band} voltage in this data set; its LFP is the product lfp_1250hz")

    def lfp(self, catalog: Catalog, pid: str) -> PublishedLfp:
        """The LFP of one probe."""
        with _naming(pid):
            return load_lfp(catalog, pid)


def _chosen(catalog: Catalog, pid: str, sorter: str | None, revision: str | None) -> tuple[Insertion, DatasetRecord]:
    """The insertion and the file of its session, if the sorting asked for is the one that there is."""
    insertion = catalog.insertion(pid)
    with _naming(pid):
        record = session_record(catalog.datasets(insertion))
        if sorter not in (None, SORTER) or revision not in (None, record.revision):
            raise NotFound(
                f"sorter {sorter!r}, revision {revision!r}: expected the only one there is, {SORTER!r}, "
                f"{record.revision!r}"
            )
    return insertion, record


@contextmanager
def _naming(pid: str) -> Iterator[None]:
    """Errors name the pid."""
    try:
        yield
    except CubesError as error:
        raise type(error)(f"pid {pid}: {error}") from error
