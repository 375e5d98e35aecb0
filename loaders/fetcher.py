"""Files of a catalog -> the same files on this machine, whole and verified, or nothing under their names.

Safe against kills, power cuts, and other processes that fetch the same files. A file is downloaded under a hidden name
beside its place, goes on where it stopped, is compared with the size and the hash of the catalog, and is then renamed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from loaders.errors import BadArgument, CorruptData, NotFound, SourceUnavailable
from loaders.http_get import Answer, NoRanges, address_of, get
from loaders.partial_file import BLOCK_BYTES, PartialFile
from loaders.readers import check_file
from loaders.records import DatasetRecord
from loaders.retry import DEFAULT_RETRY, Retry, TransientError
from loaders.verified import VerifiedSums

_DIGITS = {"md5": 32, "blake2b": 128}
_LOOK_UP_S = 0.2  # how often one who waits for another process looks whether to stop


def fetch(records: Iterable[DatasetRecord]) -> None:
    """Make the files of `records` that can be fetched present in their caches; see `fetch_files`."""
    by_cache: dict[Path, list[DatasetRecord]] = {}
    for record in records:
        if record.url and record.cache is not None:
            by_cache.setdefault(record.cache, []).append(record)
    for cache, wanted in by_cache.items():
        fetch_files(wanted, cache)


def fetch_files(
    records: Iterable[DatasetRecord],
    root: str | Path,
    *,
    concurrency: int = 16,
    retry: Retry = DEFAULT_RETRY,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Make the files of `records` present at their `path`, complete and verified. Those without a url are left alone.

    A file that is there is hashed once, and later known by its size and time of change. One that differs from the
    catalog is put aside as ``.<name>.quarantine`` when the right one is here.

    Parameters
    ----------
    records : iterable of DatasetRecord
    root : path
        The cache folder that all of them must lie in. It is managed from now on: see `loaders.verified`.
    concurrency : int
        Files at a time.
    retry : Retry
    progress : callable, optional
        Called as ``progress(done, total)``, in files, from this thread.

    Raises
    ------
    NotFound
        If a server has no such file.
    SourceUnavailable
        If a server cannot be reached or wants a login, or the disk is full or cannot be written.
    CorruptData
        If a file differs from the catalog in size or hash, twice; or the path or hash of a record is none.
    """
    if concurrency < 1:
        raise BadArgument(f"concurrency: expected at least 1, got {concurrency}")
    root = Path(root).absolute()
    wanted = list({record.path: record for record in records if record.url}.values())
    for record in wanted:
        _check_record(record, root)
    fetcher = _Fetcher(VerifiedSums(root), retry)
    fetcher.sums.manage()
    with ThreadPoolExecutor(concurrency, thread_name_prefix="fetch") as threads:
        futures = [threads.submit(fetcher.ensure, record) for record in wanted]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                if progress is not None:
                    progress(done, len(futures))
        except BaseException:
            fetcher.stopping.set()
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _check_record(record: DatasetRecord, root: Path) -> None:
    path = record.path.absolute()
    inside = ".." not in path.parts and path.is_relative_to(root)
    if not inside or not path.resolve().is_relative_to(root.resolve()):
        raise CorruptData(f"{record.rel_path}: its path {path} leads out of the cache {root}; nothing is written there")
    algorithm, expected = record.checksum
    n_digits = _DIGITS[algorithm]
    if expected is not None and not re.fullmatch(f"[0-9a-f]{{{n_digits}}}", expected):
        raise CorruptData(
            f"{record.rel_path}: expected a hash {algorithm} of {n_digits} digits in the catalog, got {expected!r}"
        )


class _Fetcher:
    """One call of `fetch_files`: many threads, one file each."""

    def __init__(self, sums: VerifiedSums, retry: Retry) -> None:
        self.sums, self.retry = sums, retry
        self.stopping = threading.Event()

    def ensure(self, record: DatasetRecord) -> None:
        if _is_verified(record):
            return
        with self._locked(record):
            if not _is_verified(record):  # another process may have fetched it meanwhile
                self._download(record)

    @contextmanager
    def _locked(self, record: DatasetRecord) -> Iterator[None]:
        path = self.sums.lock_path(record.path)
        lock = FileLock(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            while not (lock.is_locked or self.stopping.is_set()):  # another process may take longer than the user waits
                with suppress(Timeout):
                    lock.acquire(timeout=_LOOK_UP_S)
        except OSError as error:
            raise SourceUnavailable(
                f"{record.path}: not there or not as in the catalog, and the cache {self.sums.root} cannot be written "
                f"({error.strerror}); choose another folder for the cache"
            ) from error
        try:
            self._check_stop(record)
            yield
        finally:
            lock.release()

    def _download(self, record: DatasetRecord) -> None:
        address = address_of(record.url)
        algorithm, expected = record.checksum
        with PartialFile(record.path, expected or "", algorithm) as part:
            for is_last in (False, True):
                self.retry.run(lambda: self._continue(record, address, part), sleep=self.stopping.wait)
                if (fault := _difference(record, part)) is None:
                    break
                if is_last:
                    aside = part.quarantine()
                    raise CorruptData(f"{record.url}: {fault}, twice; what came is in {aside}")
                part.restart()
            part.publish()
            self.sums.remember(record.path, record.path.stat(), part.digest, algorithm)

    def _continue(self, record: DatasetRecord, address: str, part: PartialFile) -> None:
        """One request for what is missing."""
        self._check_stop(record)
        if part.size and not (record.checksum[1] or part.version):
            part.restart()  # nothing would tell what these bytes are of, or that the rest belongs to them
        if record.size is not None and part.size >= record.size:
            return  # whole, or too long: the comparison says it
        start = part.size
        try:
            with get(address, record.url, self.retry, start=start, version=part.version) as answer:
                _check_length(record, answer)
                part.version = answer.version
                for block in answer.blocks(BLOCK_BYTES):
                    self._check_stop(record)
                    part.append(block)
                    if record.size is not None and part.size > record.size:
                        return  # without an end, perhaps; the comparison says it
        except (CorruptData, NoRanges) as error:
            if not start:
                raise
            part.restart()
            raise TransientError(f"{error}; from the start") from error

    def _check_stop(self, record: DatasetRecord) -> None:
        if self.stopping.is_set():
            raise SourceUnavailable(f"{record.url}: stopped, as another file failed or the user asked to")


def _is_verified(record: DatasetRecord) -> bool:
    try:
        check_file(record)
    except (NotFound, CorruptData):
        return False
    return True


def _check_length(record: DatasetRecord, answer: Answer) -> None:
    if record.size is None and record.checksum[1] is None and answer.size is None:
        raise CorruptData(
            f"{record.url}: neither the catalog nor the server says how long it is, so a part of it would look whole"
        )
    if record.size is not None and answer.size not in (None, record.size):
        raise CorruptData(
            f"{record.url}: expected {record.size} bytes as in the catalog, the server has {answer.size}; is the "
            "catalog newer or older than the server?"
        )


def _difference(record: DatasetRecord, part: PartialFile) -> str | None:
    if record.size is not None and part.size != record.size:
        return f"expected {record.size} bytes as in the catalog, got {part.size}"
    algorithm, expected = record.checksum
    if expected not in (None, part.digest):
        return f"expected {algorithm} {expected} as in the catalog, got {part.digest}"
    return "expected data, got an empty file" if part.size == 0 else None
