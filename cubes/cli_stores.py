"""The commands about stores that exist: listing, describing, verifying, mending, removing old versions."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubes.cli_shared import Json, Remote, fail, open_source, to_json
from cubes.cli_tables import print_table
from loaders.errors import CubesError

if TYPE_CHECKING:
    from chunking.manifest import Problem
    from cubes.verifying import Report


def ls(root: str, *, json: Json = False) -> None:
    """List the stores of a root, or the insertions of a source.

    Parameters
    ----------
    root
        Folder or url of the stores, or a ONE cache folder or an ALF session folder.
    json
        Print JSON.
    """
    from chunking.homes import is_url
    from cubes.sources import is_source
    from cubes.sources import ls as list_insertions
    from cubes.stores import ls as list_stores

    source = not is_url(root) and is_source(Path(root))
    table = list_insertions(Path(root)) if source else list_stores(root)
    if json:
        print(to_json(table.to_dict("records")))
    else:
        print(
            table.drop(columns=["path", "built", "comment", "session_comment"], errors="ignore").to_string(index=False)
        )


def info(store: str, *, json: Json = False) -> None:
    """Describe one store: identity, variables with units, sources and notes.

    Parameters
    ----------
    store
        One .zarr folder, or its url.
    json
        Print JSON.
    """
    from cubes.stores import info as describe_store

    facts = describe_store(store)
    print(to_json(facts) if json else _describe(facts))


def verify(
    path: str,
    *,
    quick: Json = False,
    full: Json = False,
    source: str | None = None,
    remote: Remote = Remote(),  # noqa: B008  frozen
    json: Json = False,
) -> int:
    """Compare stores with their manifests: every file and every byte. A damaged store does not stop the others.

    Exit code 0 if all are complete and unchanged, 1 if one is damaged or differs from its source, 2 if one could not
    be compared (no such store, a source that cannot be read) or the usage is wrong.

    Parameters
    ----------
    path
        One store, or a root with many; a path or a url.
    quick
        Compare names and sizes only, not the bytes.
    full
        Also decode every chunk, compare its cells with their checksum, and the store with the schema.
    source
        Also make the products again, from a folder, bucket, openalyx or http, and compare every cell. Writes nothing.
    json
        Print JSON.
    """
    from cubes.verifying import verify as verify_stores

    if quick and full:
        return fail("quick, full: choose one of them", 2)
    try:
        catalog = None if source is None else open_source(source, **vars(remote))
        report = verify_stores(path, level="quick" if quick else "full" if full else "bytes", source=catalog)
    except (CubesError, OSError) as error:
        return fail(str(error), 2)
    print(to_json(_states(report)) if json else _verdict(report))
    return 1 if any(report.values()) else 2 if report.unchecked else 0


def _states(report: Report) -> dict[str, Any]:
    """What a program reads of a report."""
    return {
        store: {
            "state": "damaged" if problems else "unchecked" if store in report.unchecked else "ok",
            "reason": report.unchecked.get(store, ""),
            "problems": [asdict(problem) for problem in problems],
        }
        for store, problems in report.items()
    }


def _verdict(report: Report) -> str:
    """What people read of a report."""
    lines = []
    for store, facts in _states(report).items():
        lines.append(f"{facts['state'].upper() if facts['state'] != 'ok' else 'ok':10}{store}")
        lines += [f"          {_describe_problem(problem)}" for problem in report[store]]
        lines += [f"          not compared: {facts['reason']}"] * bool(facts["reason"])
    good = sum(not problems and store not in report.unchecked for store, problems in report.items())
    return "\n".join([*lines, f"{good} of {len(report)} stores are complete and unchanged"])


def _describe_problem(problem: Problem) -> str:
    where = [problem.cells] * bool(problem.cells)
    if problem.byte_range is not None:
        where.append("bytes {}..{}".format(*problem.byte_range))
    return f"{problem.key}: {problem.what}" + (f" [{'; '.join(where)}]" if where else "")


def repair(
    path: str,
    *,
    source: str,
    remote: Remote = Remote(),  # noqa: B008  frozen
    executor: str = "threads",
    workers: int = 2,
    json: Json = False,
) -> int:
    """Mend damaged stores: keep the parts that verify, make the others again from the source.

    A mended store takes the place of the damaged one in one step; that one stays until cubes gc. What is intact is
    left alone. Interrupted or killed, the same command goes on. Exit code 1 if a store could not be mended.

    Parameters
    ----------
    path
        One store, or a root with many.
    source
        What the stores were made of: a folder, bucket, openalyx or http.
    executor
        threads, serial, processes, dask (a cluster on this machine), or the address of a dask scheduler.
    workers
        Threads or processes.
    json
        Print JSON.
    """
    from cubes.repairing import repair as repair_stores

    catalog = open_source(source, **vars(remote))
    repairs = repair_stores(path, catalog, executor=executor, workers=workers, errors="report")
    if json:
        mended = [asdict(store) | {"path": str(store.path)} for store in repairs]
        print(to_json({"repaired": mended, "intact": [str(p) for p in repairs.intact], "failed": repairs.failed}))
    else:
        for store in repairs:
            why = (
                ": its manifest was lost or of another version, so nothing could be trusted"
                if store.from_nothing
                else ""
            )
            print(f"{store.path}: made again: {store.redone} of {store.kept + store.redone} parts, and the labels{why}")
        print(f"stores repaired: {len(repairs)}, intact: {len(repairs.intact)}", file=sys.stderr)
    for reason in repairs.failed.values():
        fail(reason)
    return 1 if repairs.failed else 0


def status(root: str, *, json: Json = False) -> None:
    """Tell what is built, stale (made by another version), damaged or in staging, and which old versions are kept.

    Parameters
    ----------
    root
        Folder of the stores.
    json
        Print JSON.
    """
    from cubes.root_status import status as status_of

    print_table(status_of(root), json)


def gc(root: str, *, older_than_hours: float = 24, json: Json = False) -> None:
    """Remove versions of stores that were replaced and that nobody can be reading.

    Parameters
    ----------
    root
        Folder of the stores.
    older_than_hours
        Keep what was replaced later than this.
    json
        Print JSON.
    """
    from cubes.stores import gc as collect

    removed, kept = collect(root, older_than_s=older_than_hours * 3600)
    if json:
        print(to_json({"removed": [str(path) for path in removed], "kept": [str(path) for path in kept]}))
        return
    for path in removed:
        print(path)
    print(f"{len(removed)} replaced versions removed, {len(kept)} kept", file=sys.stderr)


def _describe(facts: dict[str, Any]) -> str:
    from chunking.plan import human_bytes

    attrs = facts["attrs"]
    sources = json.loads(attrs.get("sources", "[]"))
    hidden = {"sources", "notes", "coordinates"}
    lines = [f"{attrs.get('title', '')}", f"{facts['path']}", ""]
    lines += [f"  {name:18} {value}" for name, value in attrs.items() if name not in hidden and value != ""]
    lines += ["", f"  {human_bytes(facts['bytes'])} in {facts['files']} files, built {facts['built']}", ""]
    lines += ["Variables"]
    lines += [_describe_variable(name, variable) for name, variable in facts["variables"].items()]
    lines += ["", "Notes", *(f"  {note}" for note in (attrs.get("notes") or "none").split("\n"))]
    lines += [
        "",
        "Sources",
        *(f"  {file['path']}  {human_bytes(file['bytes'])}  {_hash(file)}" for file in sources),
    ]
    return "\n".join(lines)


def _hash(file: dict[str, Any]) -> str:
    return next((f"{name} {file[name]}" for name in ("md5", "sha1", "blake2b") if name in file), "no hash known")


def _describe_variable(name: str, variable: dict[str, Any]) -> str:
    shape = ", ".join(f"{dim} {size:,}" for dim, size in zip(variable["dims"], variable["shape"], strict=True))
    units = f" [{variable['attrs']['units']}]" if variable["attrs"].get("units", "1") != "1" else ""
    return f"  {name:20} {shape:26} {variable['dtype']:10} {variable['attrs'].get('long_name', '')}{units}"
