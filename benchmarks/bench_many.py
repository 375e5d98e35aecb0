"""`cubes.open_many` over a release: time and memory for hundreds of stores, against `cubes.open` one by one.

    python benchmarks/bench_many.py [--stores 699]

One real store of the sample, copied under other pids: hard links, but the metadata and the manifest, which differ. All
files are in the cache of the system.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
import uuid
from pathlib import Path

from measure import peak_memory

import cubes
from chunking.manifest import entry, make_manifest, read_manifest
from loaders.sample import write_sample


def copy_store(store: Path, root: Path, pid: str) -> None:
    """The store under another pid."""
    copy = root / "insertions" / pid / store.name
    shutil.copytree(store, copy, copy_function=os.link)
    old = store.parent.name
    for name in ("zarr.json", "manifest.json"):
        text = (store / name).read_text().replace(old, pid)
        (copy / name).unlink()
        (copy / name).write_text(text)
    manifest = read_manifest(store)
    files = manifest["files"] | {"zarr.json": entry(copy / "zarr.json")}
    facts = {name: fact for name, fact in manifest.items() if name not in ("manifest_version", "files", "crc32")}
    manifest = make_manifest(files, facts)
    (copy / "manifest.json").write_text(json.dumps(manifest, sort_keys=True, indent=1))


def make_root(folder: Path, stores: int) -> Path:
    """A root with copies of one store of the sample."""
    source = cubes.source("one", write_sample(folder / "sample", voltage=False))
    plan = cubes.plan(source, [source.insertions()[0].pid], ["counts_20ms"], root=folder / "one")
    store = cubes.build(plan)[0]
    for number in range(stores):
        copy_store(store, folder / "many", str(uuid.UUID(int=number)))
    return folder / "many"


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", type=int, default=699)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = make_root(Path(folder), options.stores)
        pids = sorted(path.name for path in (root / "insertions").iterdir())
        cubes.open(root, pids[0])  # loads everything
        print("| | stores | s | ms a store | private memory |", "|---|---|---|---|---|", sep="\n")
        for label, chunks in (("open_many", None), ("open_many, dask", "native")):
            with peak_memory() as peak:
                start = time.perf_counter()
                tree = cubes.open_many(root, chunks=chunks)
                seconds = time.perf_counter() - start
            each = seconds / len(tree.children) * 1e3
            print(f"| {label} | {len(tree.children)} | {seconds:.2f} | {each:.2f} | {peak() / 1e6:.0f} MB |")
        start = time.perf_counter()
        total = sum(int(node["counts_20ms"].good.sum()) for node in tree.children.values())
        print(f"| one coordinate of each ({total} good units) | {len(pids)} | {time.perf_counter() - start:.2f} | | |")
        few = pids[:10]
        start = time.perf_counter()
        for pid in few:
            cubes.open(root, pid)
        seconds = time.perf_counter() - start
        print(f"| open, one by one | {len(few)} | {seconds:.2f} | {seconds / len(few) * 1e3:.2f} | |")


if __name__ == "__main__":
    main()
