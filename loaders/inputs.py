"""All that the products of one insertion are built from, each loaded when it is first asked for."""

from __future__ import annotations

from functools import cached_property

from loaders.errors import NotFound
from loaders.records import Catalog, Insertion, Sites, Sorting
from loaders.sorting import load_sites, load_sorting
from loaders.voltage import Voltage, load_voltage


class Inputs:
    """The inputs of one insertion.

    Parameters
    ----------
    catalog : Catalog
    pid : str
    sorter, revision : str, optional
        Exact choice of the sorting; see `loaders.resolve.resolve_sorting`.
    """

    def __init__(self, catalog: Catalog, pid: str, *, sorter: str | None = None, revision: str | None = None) -> None:
        self._catalog = catalog
        self._choice = {"sorter": sorter, "revision": revision}
        self.insertion: Insertion = catalog.insertion(pid)
        self._voltage: dict[str, Voltage] = {}

    @cached_property
    def sorting(self) -> Sorting:
        """The spike sorting; raises NotFound if there is none."""
        return load_sorting(self._catalog, self.insertion.pid, **self._choice)

    @cached_property
    def sites_if_any(self) -> Sites | None:
        """The recording sites of the spike sorting, or None if the probe has none and none was asked for."""
        try:
            return load_sites(self._catalog, self.insertion.pid, **self._choice)
        except NotFound:
            if self._choice != {"sorter": None, "revision": None}:
                raise
            return None

    def voltage(self, band: str) -> Voltage:
        """The raw voltage of one band; raises NotFound if there is none."""
        if band not in self._voltage:
            self._voltage[band] = load_voltage(self._catalog, self.insertion.pid, band)
        return self._voltage[band]
