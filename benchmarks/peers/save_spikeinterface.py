"""SpikeInterface's way from a .cbin to Zarr: RAW_FOLDER BAND OUTPUT.

Runs in the environment that spikeinterface.sh makes.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measure import peak_memory, size_of


def cpu_seconds() -> float:
    """User and system time of this process and of those below it that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    """Read, save, and print one line of JSON."""
    raw, band, output = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    import zarr  # noqa: F401  imports do not count
    from spikeinterface.extractors import read_cbin_ibl

    (cbin,) = raw.glob(f"*.{band}.cbin")
    with tempfile.TemporaryDirectory() as folder:  # loads everything once
        recording = read_cbin_ibl(cbin_file_path=cbin)
        recording.frame_slice(0, 1000).save(folder=Path(folder) / "warm.zarr", format="zarr", n_jobs=1, verbose=False)
    with peak_memory(children=True) as peak:
        start, cpu = time.perf_counter(), cpu_seconds()
        recording = read_cbin_ibl(cbin_file_path=cbin)
        recording.save(folder=output, format="zarr", n_jobs=2, chunk_duration="1s", progress_bar=False, verbose=False)
        seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak(), "disk": size_of(output)}))


if __name__ == "__main__":
    main()
