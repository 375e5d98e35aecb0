"""pids x products -> a `Plan`. Reads and validates every sorting once, so that what cannot be built is refused here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from chunking.homes import Folder, Home, home_of, workplace
from chunking.plan import PLAN_VERSION, Calibration, Options, Plan, Speed, StorePlan
from chunking.products import Product, known_product, parse_product
from chunking.provenance import build_key
from chunking.room import refuse_full_disk, refuse_too_little_memory
from chunking.session_products import GROUP, SessionProduct, session_products
from loaders.alf_paths import check_pid
from loaders.errors import BadArgument, CubesError, InconsistentData, PlanRefused
from loaders.inputs import Inputs
from loaders.records import Catalog, Insertion
from loaders.session_files import NotRecorded, session_id


def make_plan(
    catalog: Catalog,
    pids: Iterable[str],
    products: Iterable[str],
    root: Path,
    home: Home,
    *,
    sorter: str | None = None,
    revision: str | None = None,
    options: Options | None = None,
    errors: str = "raise",
) -> Plan:
    """Plan one store for every pid, or session, and product. Parameters and errors are those of `cubes.plan`."""
    refuse_unknown_errors(errors)
    options = options or Options()
    products = _unique(products, "products")
    if unlinkable := sorted(set(options.link) - {"ap", "lf"}):
        raise PlanRefused(f"link: expected ap or lf, got {', '.join(unlinkable)}")
    if absent := sorted(set(options.link) - set(products)):
        raise PlanRefused(f"link: {', '.join(absent)} is not among the products {', '.join(products)}; add it to them")
    _refuse_links_elsewhere(options, home)
    names = [name for name in products if name != GROUP]
    known = [known_product(name, options) for name in names]
    if options.window_s is not None and not any(hasattr(product, "window_s") for product in known):
        raise PlanRefused(f"window: none of the products {', '.join(products)} takes one; it is for ap, lf and lfp")
    stores: list[StorePlan] = []
    refused: dict[str, str] = {}
    for pid in _unique(pids, "pids"):
        try:
            inputs = Inputs(catalog, pid, sorter=sorter, revision=revision)
            seen = {store.path for store in stores}  # a session is that of two probes
            of_dataset = (parse_product(name, options, inputs.insertion.dataset) for name in names)
            chosen = {product.name: product for product in of_dataset}
            wanted = [product for product in chosen.values() if _path(inputs.insertion, product) not in seen]
            planned = [plan_store(home, inputs, product) for product in wanted]
            if GROUP in products:
                planned += _plan_group(home, inputs, options.tracker, seen | {store.path for store in planned})
            refuse_too_little_memory(planned)
        except (CubesError, OSError) as error:
            if errors == "raise":
                raise
            refused[pid] = str(error)
        else:
            stores += planned
    _refuse_full_disk(root, home, stores)
    return Plan(root, home, tuple(stores), options, catalog, refused)


def plan_store(home: Home, inputs: Inputs, product: Product) -> StorePlan:
    """Plan the store of one product, whatever it takes."""
    origin = product.origin(inputs)
    arrays, regions = product.arrays(inputs)
    cost = product.cost(inputs, arrays, regions)
    sites = inputs.sites_if_any
    pid = check_pid(inputs.insertion.pid)
    path = _path(inputs.insertion, product)
    return StorePlan(
        pid=pid,
        product=product.name,
        path=path,
        sorter=None if sites is None else sites.sorter,
        revision=None if sites is None else sites.revision,
        arrays=arrays,
        regions=regions,
        read_bytes=cost.read_bytes,
        disk_bytes=cost.disk_bytes,
        task_bytes=cost.task_bytes,
        build_key=build_key(origin, product.name, product.parameters),
        exists=home.exists(path),
    )


def _path(insertion: Insertion, product: Product) -> str:
    """Path of a store: what belongs to a session is stored once, and not once a probe."""
    if isinstance(product, SessionProduct):
        return f"sessions/{session_id(insertion)}/{product.name}.zarr"
    return f"insertions/{check_pid(insertion.pid)}/{product.name}.zarr"


def _plan_group(home: Home, inputs: Inputs, tracker: str, seen: set[str]) -> list[StorePlan]:
    """Every product that the session has and that is not planned yet; NotFound if it has none."""
    products = {
        _path(inputs.insertion, product): product
        for product in session_products(tracker, inputs.insertion.dataset).values()
    }
    planned, missing = [], []
    for path, product in products.items():
        try:
            planned += [plan_store(home, inputs, product)] if path not in seen else []
        except NotRecorded as error:
            missing.append(str(error))
    if not planned and not seen & set(products):
        raise NotRecorded(f"product {GROUP!r}: {'; '.join(missing)}")
    return planned


def _refuse_links_elsewhere(options: Options, home: Home) -> None:
    if options.link and not (isinstance(home, Folder) and home.store == "zarr"):
        raise PlanRefused(f"link: only Zarr stores in a local folder can link to a recording, not those in {home}")


def _refuse_full_disk(root: Path, home: Home, stores: list[StorePlan]) -> None:
    """Raise PlanRefused if stores cannot fit the disk on which they are made, where those of a bucket do not stay."""
    for there in [stores] if isinstance(home, Folder) else [[store] for store in stores]:
        refuse_full_disk(root, there)


def plan_again(text: str, catalog: Catalog, root: str | Path | None = None, scratch: str | Path | None = None) -> Plan:
    """Make a plan again from its JSON form, and refuse it if it is no longer the same.

    Parameters
    ----------
    text : str
        JSON of `Plan.to_dict`.
    catalog : Catalog
        A source with the same files.
    root : path, optional
        Folder or url of the stores, if it is another one now.
    scratch : path, optional
        For a url: folder in which the stores are made.

    Raises
    ------
    BadArgument
        If the text is no plan, or one of another version.
    InconsistentData
        If files, parameters or versions are not those of the plan.
    """
    try:
        known = json.loads(text)
        if known["plan_version"] != PLAN_VERSION:
            raise BadArgument(f"plan: expected version {PLAN_VERSION}, got {known['plan_version']!r}; plan again")
        options = Options(**known["options"])
        window, link = options.window_s, tuple(options.link)
        options = replace(options, window_s=None if window is None else (window[0], window[1]), link=link)
        wanted = [(s["pid"], s["product"], s["sorter"], s["revision"], s["build_key"]) for s in known["stores"]]
        calibration = known["calibration"] and Calibration(
            **known["calibration"] | {"speeds": tuple(Speed(**speed) for speed in known["calibration"]["speeds"])}
        )
        where, kind = str(known["root"]) if root is None else root, str(known["store"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadArgument(f"plan: expected the JSON of `cubes plan --json`, got something else ({error!r})") from error
    home = home_of(where, kind)
    place = workplace(home, scratch)
    _refuse_links_elsewhere(options, home)
    stores: list[StorePlan] = []
    for (pid, sorter, revision), group in groupby(wanted, key=itemgetter(0, 2, 3)):
        inputs = Inputs(catalog, pid, sorter=sorter, revision=revision)
        for _, product, _, _, key in group:
            of_dataset = parse_product(product, options, inputs.insertion.dataset)
            stores.append(store := plan_store(home, inputs, of_dataset))
            if store.build_key != key:
                raise InconsistentData(
                    f"pid {pid}, product {product}: its files, or the versions of ibl-cubes and iblatlas here, are not "
                    "those of the plan; plan again"
                )
    refuse_too_little_memory(stores)
    _refuse_full_disk(place, home, stores)
    return Plan(place, home, tuple(stores), options, catalog, known["refused"], calibration or None)


ERRORS = ("raise", "report")


def refuse_unknown_errors(errors: str) -> None:
    """Raise BadArgument if there is no such way to treat insertions that fail."""
    if errors not in ERRORS:
        raise BadArgument(f"errors: expected one of {', '.join(ERRORS)}, got {errors!r}")


def _unique(items: Iterable[Any], what: str) -> list[Any]:
    if isinstance(items, str):
        raise PlanRefused(f"{what}: expected a list, got the text {items!r}; write [{items!r}]")
    if hasattr(items, "columns"):
        raise PlanRefused(f"{what}: expected a list, got a table; name the column, such as table['pid']")
    listed = list(items)
    if not listed:
        raise PlanRefused(f"{what}: expected at least one, got none")
    return list(dict.fromkeys(listed))
