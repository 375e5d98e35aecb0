"""What a store was made of and how, from the store itself: enough to plan it again.

The manifest says it, and so do the attributes of the store: where one of the two is lost, there is the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chunking.manifest import Files, read_manifest
from chunking.plan import Options
from chunking.products import Product, parse_product
from chunking.provenance import build_key, describe_sources, software
from loaders.errors import NotFound, StoreError
from loaders.inputs import Inputs
from loaders.records import Catalog, SourceFile
from loaders.session_files import session_id


@dataclass(frozen=True, slots=True)
class MadeFrom:
    """How a store was made.

    Attributes
    ----------
    pid, product : str
    parameters : mapping
        Of the product; see `chunking.products.Product`.
    sorter, revision : str or None
        Which sorting; None if there was none.
    build_key : str
    sources : sequence of mapping
        The source files as `chunking.provenance.describe_sources` has them.
    files : Files
        What the manifest lists; empty if the manifest is lost.
    software : mapping
        Versions that made the store; empty if the manifest is lost.
    session : str
        Name of the session, of a product of a session whose manifest is lost: its attributes name no probe.
    """

    pid: str
    product: str
    parameters: Mapping[str, str]
    sorter: str | None
    revision: str | None
    build_key: str
    sources: Sequence[Mapping[str, Any]]
    files: Files = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=dict)
    session: str = ""

    def options(self) -> Options:
        """The options that give the product these parameters."""
        given, linked = self.parameters, self.parameters.get("storage") == "linked"
        start, _, stop = given.get("window_s", "").partition(":")
        return Options(
            counts_layout=given.get("layout", "balanced"),
            voltage_layout=given.get("layout", "balanced"),
            window_s=(float(start), float(stop)) if stop else None,
            link=(self.product,) if linked else (),
            lfp_dtype=given.get("dtype", "float32"),
            tracker=given.get("tracker", "best"),
        )

    def prepare(self, catalog: Catalog) -> tuple[Product, Inputs]:
        """The product, and its inputs from a source."""
        inputs = Inputs(catalog, self.pid or self._any_probe(catalog), sorter=self.sorter, revision=self.revision)
        return parse_product(self.product, self.options(), inputs.insertion.dataset), inputs

    def _any_probe(self, catalog: Catalog) -> str:
        found = (insertion.pid for insertion in catalog.insertions() if session_id(insertion) == self.session)
        if (pid := next(found, None)) is None:
            raise NotFound(f"session {self.session}: not in this source; name the one that it was built from")
        return pid

    def changes(self, product: Product, inputs: Inputs) -> list[str]:
        """What is another in the source than it was, in words; empty if it gives the same build key."""
        origin = product.origin(inputs)
        if build_key(origin, product.name, product.parameters) == self.build_key:
            return []
        was = {str(file["path"]): dict(file) for file in self.sources}
        now = {str(file["path"]): file for file in describe_sources(origin.sources)}
        changed = [_change(path, was.get(path), now.get(path)) for path in sorted(was | now)]
        present = software()
        made = [name for name in ("ibl-cubes", "iblatlas") if self.software.get(name, present[name]) != present[name]]
        changed += [f"made by {name} {self.software[name]}, now {present[name]}" for name in made]
        return [change for change in changed if change] or ["other facts of the insertion, parameters or versions"]


def _change(path: str, was: dict[str, Any] | None, now: dict[str, Any] | None) -> str:
    """How a source file differs; empty if it does not."""
    if was is None or now is None:
        return f"{path} {'is new' if was is None else 'is not used any more'}"
    names = sorted(name for name in was | now if was.get(name) != now.get(name))
    differences = [f"{name} {now.get(name)}, it had {was.get(name)}" for name in names]
    return f"{path} has {', '.join(differences)}" if differences else ""


def read_made_from(store: Path) -> list[MadeFrom]:
    """What the manifest and the attributes of a store say: one of them, both where they contradict each other.

    Raises
    ------
    StoreError
        If neither can be read, or the store is a pool.
    """
    if store.parent.name == "pooled":
        raise StoreError(
            f"store {store}: is made of other stores, so it is neither compared with a source nor repaired from one; "
            "if it is damaged, remove it and pool again"
        )
    found = [*_of_manifest(store), *_of_attributes(store)]
    if not found:
        raise StoreError(
            f"store {store}: its manifest.json and its zarr.json are both lost or damaged, so nothing says how it was "
            "made; remove it and build it again"
        )
    return found if len({made_from.build_key for made_from in found}) > 1 else found[:1]


def _of_manifest(store: Path) -> Iterator[MadeFrom]:
    try:
        said = read_manifest(store)
    except StoreError:
        return
    if "parameters" in said:
        names = ("pid", "product", "parameters", "sorter", "revision", "build_key", "files", "software")
        sources = describe_sources(SourceFile(**file) for file in said["sources"])
        yield MadeFrom(**{name: said[name] for name in names}, sources=sources)


def _of_attributes(store: Path) -> Iterator[MadeFrom]:
    try:
        said = json.loads((store / "zarr.json").read_text())["attributes"]
        sorter, revision = said.get("sorter"), said.get("revision")
        if "sites_of" in said:  # of voltage: alf/<probe>/<sorter>
            sorter = str(said["sites_of"]).removeprefix(f"alf/{said['probe']}").strip("/")
            revision = said["sites_revision"]
        parameters, sources = json.loads(said["parameters"]), json.loads(said["sources"])
        made_of = (parameters, sorter, revision, said["build_key"], sources)
        made_from = MadeFrom(said["pid"], said["product"], *made_of, session="" if said["pid"] else store.parent.name)
    except (OSError, ValueError, KeyError, TypeError):
        return
    yield made_from
