"""The commands about stores that exist: listing, describing, verifying, removing old versions."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cubes.cli_shared import Json, to_json
from cubes.cli_tables import print_table


def ls(root: Path, *, json: Json = False) -> None:
    """List the stores of a root, or the insertions of a source.

    Parameters
    ----------
    root
        Folder of the stores, or a ONE cache folder or an ALF session folder.
    json
        Print JSON.
    """
    from cubes.sources import is_source
    from cubes.sources import ls as list_insertions
    from cubes.stores import ls as list_stores

    table = list_insertions(root) if is_source(root) else list_stores(root)
    if json:
        print(to_json(table.to_dict("records")))
    else:
        print(table.drop(columns=["path", "built", "comment"], errors="ignore").to_string(index=False))


def info(store: Path, *, json: Json = False) -> None:
    """Describe one store: identity, variables with units, sources and notes.

    Parameters
    ----------
    store
        One .zarr folder.
    json
        Print JSON.
    """
    from cubes.stores import info as describe_store

    facts = describe_store(store)
    print(to_json(facts) if json else _describe(facts))


def verify(path: Path, *, quick: Json = False, json: Json = False) -> int:
    """Compare stores with their manifests; exit code 1 if one is damaged or incomplete.

    Parameters
    ----------
    path
        One store, or a root with many.
    quick
        Compare names and sizes only, not the bytes.
    json
        Print JSON.
    """
    from cubes.stores import verify as verify_stores

    report = verify_stores(path, quick=quick)
    damaged = {store: problems for store, problems in report.items() if problems}
    if json:
        print(to_json({store: [asdict(problem) for problem in problems] for store, problems in report.items()}))
    else:
        for store, problems in report.items():
            print(f"{'DAMAGED' if problems else 'ok':8}{store}")
            for problem in problems:
                print(f"        {problem.key}: {problem.what}")
        print(f"{len(report) - len(damaged)} of {len(report)} stores are complete and unchanged")
    return 1 if damaged else 0


def status(root: Path, *, json: Json = False) -> None:
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


def gc(root: Path, *, older_than_hours: float = 24, json: Json = False) -> None:
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
    return next((f"{name} {file[name]}" for name in ("md5", "sha1") if name in file), "no hash known")


def _describe_variable(name: str, variable: dict[str, Any]) -> str:
    shape = ", ".join(f"{dim} {size:,}" for dim, size in zip(variable["dims"], variable["shape"], strict=True))
    units = f" [{variable['attrs']['units']}]" if variable["attrs"].get("units", "1") != "1" else ""
    return f"  {name:20} {shape:26} {variable['dtype']:10} {variable['attrs'].get('long_name', '')}{units}"
