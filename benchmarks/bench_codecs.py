"""Lossless codecs on voltage and counts, chunk by chunk: ratio and speed of one core.

    sh benchmarks/peers/codecs.sh    # once, for pcodec and FLAC
    python benchmarks/bench_codecs.py [--real FOLDER] [--rounds 3] [--report]

Generated AP (4 chunks of 96 channels x 1 s), LF (2 chunks of 32 channels x 60 s) and counts of 250 units with
lognormal rates (chunks of 30,000 bins of 1 ms, 15,000 of 20 ms). Generated noise is kinder to some codecs than real
one: `--real` takes a folder of SpikeGLX recordings (``*.ap.bin`` and ``*.lf.bin`` beside their ``.meta``) and of
``spikes.times.npy`` beside ``spikes.clusters.npy``; their sync channels are left out, and files of the same kind and
channels count as one.

Every round encodes and decodes each data set with each codec, in turns, on one thread whose CPU time counts. Memory is
used again where the codec allows it. What is decoded is compared with what went in.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from codec_list import ANY, CODECS, NONE, OURS, PYTHON, Codec
from measure import Run, median, ratio, run_process
from report import Section, Table, add_report_option, markdown, write_section

PEER = Path(__file__).resolve().parent / "peers/.venv-codecs/bin/python"
BINS = {0.001: 30_000, 0.02: 15_000}  # in a chunk of counts, by their width in seconds
Chunks = list[np.ndarray[Any, Any]]
MARKERS = {ANY: "o", PYTHON: "s", NONE: "^"}
COLOURS = ("k", *(f"C{i}" for i in range(10)), "gold")


def generated(quick: bool) -> Iterator[tuple[str, Chunks]]:
    """Names and chunks of the data sets that need no file."""
    from raw_session import voltage

    seconds = 6 if quick else 60
    ap = next(voltage("ap", 30000, 30000)).T[:384]
    yield "AP, generated", [np.ascontiguousarray(ap[i : i + 96]) for i in range(0, 96 if quick else 384, 96)]
    lf = np.concatenate([block.T[:64] for block in voltage("lf", 2500 * seconds, 2500)], axis=1)
    yield "LF, generated", [np.ascontiguousarray(lf[i : i + 32]) for i in range(0, 32 if quick else 64, 32)]
    rng = np.random.default_rng(3)
    rates = rng.lognormal(0, 1, (250, 1)) * 5  # Hz, a mean of 8
    for width, n in BINS.items():
        counts = rng.poisson(rates * width, (250, n)).astype(np.uint8)
        yield f"counts {1000 * width:g} ms, generated", [counts]


def real(folder: Path) -> Iterator[tuple[str, Chunks]]:
    """The recordings and sortings below a folder."""
    from loaders.spikeglx_meta import read_meta

    for band in ("ap", "lf"):
        chunks = []
        for path in sorted(folder.rglob(f"*.{band}.bin")):
            if path.stat().st_size < 300_000 and band == "ap":  # some tests have a few samples only
                continue
            meta = read_meta(path.with_suffix(".meta"))
            samples = np.fromfile(path, np.int16).reshape(-1, meta.n_channels + meta.n_sync)
            rows = samples.T[: meta.n_channels]
            chunks += [np.ascontiguousarray(rows[i : i + 96]) for i in range(0, len(rows), 96)]
        if chunks:
            yield f"{band.upper()}, real", chunks
    for path in sorted(folder.rglob("spikes.times.npy")):
        yield from real_counts(path)


def real_counts(path: Path) -> Iterator[tuple[str, Chunks]]:
    """Counts of a sorting, all of its units."""
    times, clusters = np.load(path), np.load(path.with_name("spikes.clusters.npy"))
    units = np.unique(clusters, return_inverse=True)[1]
    for width, n in BINS.items():
        counts = np.zeros((units.max() + 1, int(times.max() / width) + 1), np.uint8)
        np.add.at(counts, (units, (times / width).astype(int)), 1)
        yield f"counts {1000 * width:g} ms, real", [np.ascontiguousarray(counts[i : i + 250, :n])
                                                    for i in range(0, len(counts), 250)]  # fmt: skip


def run_codec(codec: Codec, chunks: Chunks) -> Run:
    """CPU seconds of encoding and of decoding all chunks."""
    encode = decode = stored = 0.0
    codec.encode(chunks[0])  # loads everything
    for chunk in chunks:
        out = np.zeros_like(chunk)
        start = time.thread_time()
        data = codec.encode(chunk)
        encode += time.thread_time() - start
        codec.decode(data, out)  # touches the memory
        start = time.thread_time()
        back = codec.decode(data, out)
        decode += time.thread_time() - start
        if not np.array_equal(np.asarray(back).reshape(chunk.shape), chunk):
            raise RuntimeError(f"{codec.name}: is not lossless")
        stored += sum(map(len, data)) if isinstance(data, list) else len(data)
    size = sum(chunk.nbytes for chunk in chunks)
    return {"ratio": size / stored, "encode": encode, "decode": decode, "bytes": size}


def load(folder: Path) -> dict[str, Chunks]:
    """The data sets as `save` left them."""
    names = json.loads((folder / "names.json").read_text())
    return {name: [np.load(folder / f"{i}_{j}.npy") for j in range(n)] for i, (name, n) in enumerate(names.items())}


def save(folder: Path, data: dict[str, Chunks]) -> None:
    (folder / "names.json").write_text(json.dumps({name: len(chunks) for name, chunks in data.items()}))
    for i, chunks in enumerate(data.values()):
        for j, chunk in enumerate(chunks):
            np.save(folder / f"{i}_{j}.npy", chunk)


def run_one(folder: Path, *, peer: bool) -> dict[str, Run]:
    """One round of the codecs of one environment."""
    return {
        f"{name}|{codec.name}": run_codec(codec, chunks)
        for name, chunks in load(folder).items()
        for codec in CODECS
        if codec.peer == peer and not (codec.voltage_only and chunks[0].dtype == np.uint8)
    }


def measure(folder: Path, rounds: int, peers: bool) -> dict[tuple[str, str], list[Run]]:
    """By data set and codec; a process for each environment and round."""
    results: dict[tuple[str, str], list[Run]] = {}
    for _ in range(rounds):
        for peer in (False, True)[: 1 + peers]:
            python = PEER if peer else Path(sys.executable)
            found: Any = run_process([python, __file__, "--one", folder, "peer" if peer else "main"])
            for key, run in found.items():
                name, _, codec = key.partition("|")
                results.setdefault((name, codec), []).append(run)
    return results


def tables(results: dict[tuple[str, str], list[Run]]) -> list[Table]:
    """One a data set; speeds are medians, their ratios medians of those within a round."""
    found = []
    for name in dict.fromkeys(name for name, _ in results):
        ours = results[name, OURS]
        rows = []
        for codec in CODECS:
            if (name, codec.name) not in results:
                continue
            runs = results[name, codec.name]
            speeds = [f"{runs[0]['bytes'] / median(runs, key) / 1e6:.0f}" for key in ("encode", "decode")]
            times = [f"{ratio(ours, runs, key):.2f}" for key in ("encode", "decode")]
            rows.append([codec.name, f"{runs[0]['ratio']:.2f}", speeds[0], speeds[1], *times, codec.readers])
        size = ours[0]["bytes"] / 1e6
        caption = f"{name}, {size:.1f} MB"
        columns = [
            "codec",
            "ratio",
            "encode MB/s",
            "decode MB/s",
            "× our encode",
            "× our decode",
            "readers as installed",
        ]
        found.append(Table(caption, columns, rows))
    return found


def figure(results: dict[tuple[str, str], list[Run]]) -> str:
    """Ratio against decoding speed, one panel a data set."""
    from matplotlib.figure import Figure
    from report import save_figure

    names = list(dict.fromkeys(name for name, _ in results))
    wide = min(4, len(names))
    drawn = Figure(figsize=(4 * wide, 3.4 * -(-len(names) // wide) + 1.4), layout="constrained")
    axes = drawn.subplots(-(-len(names) // wide), wide, squeeze=False).ravel()
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes, names, strict=False):
        for i, codec in enumerate(CODECS):
            if runs := results.get((name, codec.name)):
                speed = runs[0]["bytes"] / median(runs, "decode") / 1e6
                ours = codec.name == OURS
                marker, size = ("*", 180) if ours else (MARKERS[codec.readers], 45)
                axis.scatter(speed, runs[0]["ratio"], s=size, marker=marker, color=COLOURS[i], label=codec.name)
        axis.set(title=name, xlabel="decode, MB/s of one core", ylabel="compression ratio")
        axis.set_xlim(left=0)
    labels = {text: handle for axis in axes for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    drawn.legend(labels.values(), labels, loc="outside lower center", ncols=3, fontsize="small", frameon=False)
    return save_figure("codecs", drawn)


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="also these recordings and sortings")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="less data, as in the tests")
    parser.add_argument("--json", type=Path, help="also write every run to this file")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    add_report_option(parser)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(Path(options.one[0]), peer=options.one[1] == "peer")))
        return
    data = dict(generated(options.quick))
    for name, chunks in real(options.real) if options.real else ():
        data[name] = data.get(name, []) + chunks
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), data)
        results = measure(Path(folder), options.rounds, PEER.exists())
    text = (
        "Lossless codecs, chunk by chunk, on one core (`benchmarks/bench_codecs.py`); MB are those of the samples. A "
        "codec that other readers do not have (squares: zarr-python alone, triangles: no Zarr codec at all) is no "
        "candidate for the stores, however small it makes them."
    )
    if not PEER.exists():
        text += " pcodec and FLAC are left out: run benchmarks/peers/codecs.sh."
    found = tables(results)
    for table in found:
        print(f"\n{markdown(table)}")
    if options.report:
        write_section("codecs", Section("Codecs", text, found, [figure(results)]))
    if options.json:
        options.json.write_text(json.dumps({"|".join(key): runs for key, runs in results.items()}))


if __name__ == "__main__":
    main()
