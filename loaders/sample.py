"""The sample source: a small ONE cache, true to the format, that needs no network.

Two sessions with three insertions. The first insertion holds a real recording of two minutes (spike times and units);
everything else is generated from fixed seeds. `SAMPLE` says what is true of it.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from loaders.errors import StoreError
from loaders.sample_behaviour import write_behaviour
from loaders.sample_records import Clock, SampleProbe, SampleSorting
from loaders.sample_sorting import write_electrode_sites, write_sorting
from loaders.sample_tables import write_tables
from loaders.sample_trains import Planted, planted_spikes, real_spikes, spike_trains
from loaders.sample_truth import PIDS, SAMPLE, by_pid
from loaders.sample_voltage import write_clock, write_meta, write_voltage

__all__ = [
    "PIDS", "SAMPLE", "Clock", "Planted", "SampleProbe", "SampleSorting", "by_pid", "planted_spikes", "real_spikes",
    "spike_trains", "write_sample",
]  # fmt: skip


def write_sample(folder: Path, *, voltage: bool = True, progress: Callable[[str], None] | None = None) -> Path:
    """Write the sample as a ONE cache.

    The cache appears under its name only once it is complete; an interrupted call leaves nothing behind.

    Parameters
    ----------
    folder : Path
        Where to; must not exist, or be empty.
    voltage : bool
        Whether to write the compressed voltage too: most of the time and of the bytes.
    progress : callable, optional
        Told in a few words what is being written.

    Returns
    -------
    Path
        `folder`, absolute.

    Raises
    ------
    StoreError
        If `folder` holds something already, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> root = write_sample(Path(tempfile.mkdtemp()) / "one", voltage=False)
    >>> sorted(path.name for path in root.iterdir())
    ['datasets.pqt', 'insertions.pqt', 'samplelab', 'sessions.pqt']
    """
    tell = progress or _silent
    target = Path(folder).expanduser().resolve()
    with _staged(target) as root:
        for probe in SAMPLE:
            _write_probe(root / probe.session, probe, voltage, tell)
        for session in dict.fromkeys(probe.session for probe in SAMPLE):
            tell(f"behaviour of {session}")
            write_behaviour(root / session, [probe for probe in SAMPLE if probe.session == session])
        tell("tables")
        write_tables(root, SAMPLE)
    return target


def _write_probe(session: Path, probe: SampleProbe, voltage: bool, tell: Callable[[str], None]) -> None:
    """Write the sortings, clock and, if asked for, voltage of one insertion."""
    for sorting in probe.sortings:
        tell(f"{probe.subject} {probe.probe}: {sorting.folder}")
        write_sorting(session, probe, sorting)
    write_electrode_sites(session, probe)
    write_clock(session, probe)
    for band in ("ap", "lf") if probe.lf_samples else ("ap",):
        if voltage:
            tell(f"{probe.subject} {probe.probe}: {band} voltage")
            write_voltage(session, probe, band)
        else:
            write_meta(session, probe, band)


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `target` that takes its name at the end, or vanishes on any failure."""
    try:
        _refuse_occupied(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = target.parent / f".{target.name}.{secrets.token_hex(4)}.part"
        staging.mkdir()
    except OSError as error:
        raise StoreError(
            f"write_sample: cannot write {target.name} in {target.parent} ({error.strerror}); expected a folder that "
            "this user may write; choose another folder"
        ) from error
    try:
        yield staging
        staging.replace(target)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise StoreError(
            f"write_sample: writing {target} failed ({error}); expected room for 60 MB and a free name; nothing was "
            "left behind; make room or choose another folder, and call again"
        ) from error
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _refuse_occupied(target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists():
        raise StoreError(
            f"write_sample: {target} exists and is not an empty folder; expected a new or an empty one; choose another "
            "folder or remove this one"
        )


def _silent(_: str) -> None:
    return None
