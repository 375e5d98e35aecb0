"""How the files of a data set are read: one `Format` a data set, chosen by `Insertion.dataset`."""

from __future__ import annotations

from typing import Protocol

from loaders.allen_nwb import AllenNwb
from loaders.errors import InconsistentData, NotFound
from loaders.published_lfp import PublishedLfp
from loaders.records import Catalog, Insertion, Sites, Sorting, Units
from loaders.sorting import load_sites, load_sorting, load_units
from loaders.voltage import Voltage, load_voltage


class Format(Protocol):
    """How the files of an insertion become records. A new one is a class with these methods and a line in `FORMATS`.

    Each method raises NotFound if the insertion does not have what is asked for, and names the pid in its errors.
    """

    def sorting(self, catalog: Catalog, pid: str, *, sorter: str | None = None, revision: str | None = None) -> Sorting:
        """The spike sorting: sites, units and spikes."""
        ...

    def sites(self, catalog: Catalog, pid: str, *, sorter: str | None = None, revision: str | None = None) -> Sites:
        """The sites of the spike sorting alone."""
        ...

    def units(
        self, catalog: Catalog, pid: str, *, sorter: str | None = None, revision: str | None = None
    ) -> tuple[Sites, Units]:
        """Its sites and units, without reading spikes."""
        ...

    def voltage(self, catalog: Catalog, pid: str, band: str, *, need_clock: bool = True) -> Voltage:
        """The raw voltage of one band."""
        ...

    def lfp(self, catalog: Catalog, pid: str) -> PublishedLfp:
        """The LFP, where the data set publishes it already filtered."""
        ...


class Alf:
    """The files of the IBL."""

    sorting = staticmethod(load_sorting)
    sites = staticmethod(load_sites)
    units = staticmethod(load_units)
    voltage = staticmethod(load_voltage)

    def lfp(self, catalog: Catalog, pid: str) -> PublishedLfp:
        """None: it is made from the voltage."""
        raise NotFound(f"pid {pid}: the IBL publishes no LFP; it is made from the bands lf and ap")


IBL, ALLEN_VBN, ALLEN_VC = "ibl", "allen-vbn", "allen-vc"
FORMATS: dict[str, Format] = {IBL: Alf(), ALLEN_VBN: AllenNwb(), ALLEN_VC: AllenNwb()}
"""By the name of the data set, `Insertion.dataset`."""


def dataset_of(pid: str) -> str:
    """The data set that a pid is of, which it begins with; that of the IBL if it begins with none.

    Examples
    --------
    >>> dataset_of("allen-vbn-1044387384"), dataset_of("b1dfe7c5-067e-378b-9570-c974849ab428")
    ('allen-vbn', 'ibl')
    """
    return next((name for name in FORMATS if pid.startswith(f"{name}-")), IBL)


def format_of(insertion: Insertion) -> Format:
    """How the files of an insertion are read; raises InconsistentData for a data set that is not known here."""
    if insertion.dataset not in FORMATS:
        known = ", ".join(FORMATS)
        raise InconsistentData(
            f"pid {insertion.pid}: expected an insertion of a known data set ({known}), got {insertion.dataset!r}"
        )
    return FORMATS[insertion.dataset]
