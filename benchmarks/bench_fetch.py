"""Fetching many small files: ours against the unmodified ONE client, from one server with a latency.

    python benchmarks/bench_fetch.py [--files 200] [--kilobytes 50] [--latency-ms 20] [--rounds 5] [--json FILE]

The server is a process of its own on 127.0.0.1 that waits before each answer, as the distance to a real one would make
it wait. Every run is a process of its own with an empty cache, and the methods take turns: trust the ratios, not the
seconds. What counts is the call that downloads, not imports and the making of clients. Ours also compares size and
md5 with the catalog, syncs every file and renames it when it is whole; ONE does none of these, and hashes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from measure import Run, ratio, spread, take_turns

SERVERS = Path(__file__).resolve().parent.parent / "tests/servers"
SESSION = "lab/Subjects/KS014/2019-12-07/001/alf/probe00"
METHODS = {
    "ours": "fetch_files, 16 threads",
    "ours-4": "fetch_files, 4 threads",
    "one": "ONE, as it comes (4 threads)",
    "one-16": "ONE, 16 threads (ONE_HTTP_DL_THREADS)",
    "ours-warm": "fetch_files, all files there",
}


def write_files(root: Path, n_files: int, n_bytes: int) -> None:
    """The files of the server, with the id of the dataset in their names, and their list."""
    rng = np.random.default_rng(0)
    folder = root / "public" / SESSION
    folder.mkdir(parents=True)
    listed = []
    for k in range(n_files):
        data = rng.bytes(n_bytes)
        stored = f"spikes.attribute{k}.{uuid.UUID(bytes=rng.bytes(16), version=4)}.npy"
        (folder / stored).write_bytes(data)
        listed.append((f"spikes.attribute{k}.npy", stored, n_bytes, hashlib.md5(data).hexdigest()))
    (root / "list.json").write_text(json.dumps(listed))


@contextmanager
def served(root: Path, latency_s: float) -> Iterator[str]:
    """A server of `root` in another process; yields its address."""
    command = [sys.executable, __file__, "--serve", str(root), str(latency_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()


def serve(root: Path, latency_s: float) -> None:
    """Serve until the standard input ends."""
    sys.path.insert(0, str(SERVERS))
    from file_server import FileServer

    with FileServer(root, latency_s=latency_s).running() as server:
        print(server.url, flush=True)
        sys.stdin.read()


def run_ours(root: Path, url: str, cache: Path, method: str) -> float:
    """Seconds of one `fetch_files`."""
    from loaders.fetcher import fetch_files
    from loaders.records import DatasetRecord

    records = [
        DatasetRecord(name, "alf/probe00", "", name, cache / SESSION / name, size, md5, url=f"{url}/{stored}")
        for name, stored, size, md5 in json.loads((root / "list.json").read_text())
    ]
    if method == "ours-warm":
        fetch_files(records, cache)
    start = time.perf_counter()
    fetch_files(records, cache, concurrency=4 if method == "ours-4" else 16)
    return time.perf_counter() - start


def run_peer(root: Path, url: str, cache: Path) -> float:
    """Seconds of the download of the unmodified client, given the addresses."""
    os.environ["HOME"] = str(cache)  # it writes settings there
    import one.params
    from one.api import OneAlyx

    server = url.partition("/public")[0]
    settings = one.params.get(client=server, silent=True)
    one.params.save(settings.set("HTTP_DATA_SERVER", f"{server}/public"), server)
    client = OneAlyx(base_url=server, cache_dir=cache, mode="local", silent=True)
    client.mode = "remote"  # the addresses are known: nothing asks the database
    urls = [f"{url}/{stored}" for _, stored, *_ in json.loads((root / "list.json").read_text())]
    start = time.perf_counter()
    client._download_dataset(urls)
    return time.perf_counter() - start


def run_one(root: Path, url: str, method: str) -> Run:
    """One run in an empty cache; every file is compared with the server's, after the clock has stopped."""
    with tempfile.TemporaryDirectory(dir=root) as folder:
        cache = Path(folder)
        run = run_peer(root, url, cache) if method.startswith("one") else run_ours(root, url, cache, method)
        for name, stored, *_ in json.loads((root / "list.json").read_text()):
            if (cache / SESSION / name).read_bytes() != (root / "public" / SESSION / stored).read_bytes():
                raise RuntimeError(f"{method}: {name} differs")
    return {"seconds": run}


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--kilobytes", type=float, default=50)
    parser.add_argument("--latency-ms", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write every run to this file")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(Path(options.serve[0]), float(options.serve[1]))
        return
    if options.one:
        warnings.simplefilter("ignore")
        os.environ["ONE_HTTP_DL_THREADS"] = "16" if options.one[2] == "one-16" else "4"
        print(json.dumps(run_one(Path(options.one[0]), *options.one[1:])))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_files(root, options.files, int(options.kilobytes * 1000))
        with served(root, options.latency_ms / 1000) as server:
            url = f"{server}/public/{SESSION}"
            commands = {m: [sys.executable, __file__, "--one", str(root), url, m] for m in METHODS}
            runs = take_turns(commands, options.rounds)
    print(
        f"{options.files} files of {options.kilobytes:g} kB, latency {options.latency_ms:g} ms, {os.cpu_count()} cores"
    )
    print("\n| method | seconds | times faster than ONE |\n|---|---|---|")
    for method, label in METHODS.items():
        print(f"| {label} | {spread(runs[method])} | {ratio(runs['one'], runs[method]):.1f} |")
    if options.json:
        options.json.write_text(json.dumps(runs))


if __name__ == "__main__":
    main()
