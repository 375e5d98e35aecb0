"""A file of a web server or a public S3 bucket, read by exact ranges; nothing is written."""

from __future__ import annotations

from dataclasses import dataclass

from loaders.byte_source import ByteSource, LocalFile
from loaders.errors import BadArgument, CorruptData
from loaders.http_get import address_of, get
from loaders.records import DatasetRecord
from loaders.retry import DEFAULT_RETRY, Retry, TransientError


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A byte source over http and s3. One read is one request; threads may share one; a pickle has some hundred bytes.

    Connections belong to the process, at most `loaders.http_get.PER_HOST` to a host. Neither this nor its pickle holds
    credentials: only what is public can be read.

    Parameters
    ----------
    name : str
        The url, for messages.
    size : int, bytes
    address : str
        Where the requests go.
    version : str
        The ETag, or else the time of the last change, that every answer must have: a file that changes while it is
        being read is refused. Empty where the server tells neither.
    retry : Retry

    Examples
    --------
    >>> voltage = RemoteFile.open("s3://ibl-brain-wide-map-public/data/...ap.cbin")  # doctest: +SKIP
    >>> len(voltage.read(0, 1000))  # doctest: +SKIP
    1000
    """

    name: str
    size: int
    address: str
    version: str = ""
    retry: Retry = DEFAULT_RETRY

    @classmethod
    def open(cls, url: str, size: int | None = None, *, retry: Retry = DEFAULT_RETRY) -> RemoteFile:
        """Ask for the first byte of a file, and so for its size, its version, and whether ranges can be had at all.

        Parameters
        ----------
        url : str
            ``https://host/path`` or ``s3://bucket/key``; see `loaders.http_get.address_of`.
        size : int, bytes, optional
            What the catalog says; another size is refused.
        retry : Retry

        Raises
        ------
        NotFound
            If there is no such file.
        SourceUnavailable
            If the server cannot be reached, wants a login, or gives no ranges.
        CorruptData
            If the file is empty or of another size.
        """
        address = address_of(url)

        def attempt() -> RemoteFile:
            with get(address, url, retry, stop=1) as answer:
                total = answer.size or 0
                answer.read(1)
                return cls(url, total, address, answer.version, retry)

        opened = retry.run(attempt)
        if size not in (None, opened.size):
            raise CorruptData(f"{url}: expected {size} bytes as in the catalog, the server has {opened.size}")
        return opened

    def read(self, start: int, stop: int) -> bytes:
        """All bytes of the range ``start:stop``.

        Raises
        ------
        BadArgument
            If the range is not within the file.
        CorruptData
            If the file has changed since it was opened.
        NotFound, SourceUnavailable
            If it is gone, or the server cannot be reached in as many attempts as `retry` has.
        """
        if not 0 <= start <= stop <= self.size:
            raise BadArgument(f"{self.name}: bytes {start}:{stop} are not within its {self.size} bytes")
        return self.retry.run(lambda: self._read_once(start, stop)) if start < stop else b""

    def _read_once(self, start: int, stop: int) -> bytes:
        with get(self.address, self.name, self.retry, start=start, stop=stop, version=self.version) as answer:
            if answer.size != self.size:
                raise CorruptData(f"{self.name}: had {self.size} bytes when it was opened, now {answer.size}")
            data = answer.read(stop - start + 1)  # one more, so that an end without a length is seen
            if len(data) != stop - start:
                raise TransientError(f"{self.name}: expected {stop - start} bytes at {start}, got {len(data)}")
            return data


def open_file(record: DatasetRecord) -> ByteSource:
    """The bytes of a file: of this machine if it is there, else where it can be fetched from, range by range.

    Raises
    ------
    NotFound
        If it is in neither place.
    SourceUnavailable
        If the server cannot be reached.
    CorruptData
        If the server has another size than the catalog.
    """
    if record.path.is_file() or not record.url:
        return LocalFile(record.path)
    if record.size is not None and record.version.startswith('"'):  # all is known: no request
        return RemoteFile(record.url, record.size, address_of(record.url), record.version)
    return RemoteFile.open(record.url, record.size)
