"""One GET of a range of a file over http, with everything that the answer says checked before its bytes are used.

A public S3 bucket is read as what it is, a web server: unsigned, under the address of its object. obstore was tried
first; it passes no headers of failed requests on (and so no ``Retry-After``), refuses answers without a
``Content-Length``, and tells what failed only as text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from loaders.errors import BadArgument, CorruptData, NotFound, SourceUnavailable
from loaders.retry import Retry, TransientError

PER_HOST = 16
"""Connections to one host at a time, all threads of a process together."""

_BUSY = {408, 425, 429, 500, 502, 503, 504}
_MOVED = {301, 302, 303, 307, 308}
_MOST_MOVES = 3
_S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # as boto3 has them


def address_of(url: str) -> str:
    """The http address of a file, with the ``#`` of ALF revisions and the like quoted.

    Parameters
    ----------
    url : str
        ``https://host/path``, quoted or not, or ``s3://bucket/key``, of a public bucket and never quoted. Another
        endpoint than that of AWS is taken from the environment variable ``AWS_ENDPOINT_URL_S3``, as boto3 does.

    Raises
    ------
    BadArgument
        If it is neither.
    """
    if re.fullmatch(r"https?://[^/\s]+/.+", url, re.DOTALL):
        return quote(url, safe="%/:?&=+,;@!$'()*~[]")
    if (match := re.fullmatch(r"s3://([A-Za-z0-9._-]+)/(.+)", url, re.DOTALL)) is None:
        raise BadArgument(f"url: expected https://host/path or s3://bucket/key, got {url!r}")
    bucket, key = match[1], quote(match[2], safe="/~")
    endpoint = next((os.environ[name] for name in _S3_ENDPOINTS if os.environ.get(name)), None)
    if endpoint is not None:
        return f"{endpoint.rstrip('/')}/{bucket}/{key}"
    host = "s3.amazonaws.com"  # certificates cover one label before it, so a bucket with dots goes into the path
    return f"https://{host}/{bucket}/{key}" if "." in bucket else f"https://{bucket}.{host}/{key}"


class NoRanges(SourceUnavailable):
    """A server, or a proxy before it, that gives the whole file whatever range is asked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server gives, once its header is here.

    Attributes
    ----------
    start : int
        Offset of the first byte that comes.
    size : int or None
        Size of the whole file in bytes; None if the server does not say.
    length : int or None
        Bytes that come; None if the server does not say.
    version : str
        The ETag, or else the time of the last change; empty if the server tells neither.
    """

    start: int
    size: int | None
    length: int | None
    version: str
    _name: str
    _response: urllib3.BaseHTTPResponse

    def read(self, n_bytes: int) -> bytes:
        """The next bytes: `n_bytes`, or fewer at the end; raises TransientError if the connection fails."""
        try:
            return self._response.read(n_bytes, decode_content=False)
        except urllib3.exceptions.HTTPError as error:
            raise TransientError(f"{self._name}: the connection broke off or stalled ({_reason(error)})") from error

    def blocks(self, n_bytes: int) -> Iterator[bytes]:
        """All bytes as they come, in blocks of at most `n_bytes`; raises TransientError if some are missing."""
        got = 0
        try:
            while block := self._response.read1(n_bytes, decode_content=False):
                got += len(block)
                yield block
        except urllib3.exceptions.HTTPError as error:
            raise TransientError(f"{self._name}: the connection broke off or stalled ({_reason(error)})") from error
        if self.length is not None and got != self.length:
            raise TransientError(f"{self._name}: expected {self.length} bytes, got {got}")


@contextmanager
def get(
    address: str, name: str, retry: Retry, *, start: int = 0, stop: int | None = None, version: str = ""
) -> Iterator[Answer]:
    """Ask once for the bytes ``start:stop`` of a file, or for all of it; moves to another address are followed.

    Parameters
    ----------
    address : str
        As from `address_of`.
    name : str
        For messages.
    retry : Retry
        Its timeouts.
    start, stop : int, bytes
        If both are left out, no range is asked for.
    version : str
        The version that the file must have: another one is refused.

    Raises
    ------
    TransientError
        If there is no answer, or one that may be better the next time.
    NotFound, SourceUnavailable, CorruptData
        If the file is not there (404), the server wants a login or ignores ranges (NoRanges), or the file is another
        version or shorter.
    """
    headers = {"Accept-Encoding": "identity"}
    ranged = start > 0 or stop is not None
    if ranged:
        headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
    if version.startswith('"'):  # a weak ETag never matches, and a date is too coarse to rely on
        headers["If-Match"] = version
    response = _follow(address, name, retry, headers)
    try:
        yield _answer(response, name, start, stop, ranged, version)
    finally:  # a body that was not read to its end takes its connection with it
        response.close()
        response.release_conn()


def _follow(address: str, name: str, retry: Retry, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
    timeout = urllib3.Timeout(connect=retry.connect_s, read=retry.stall_s)
    for _ in range(_MOST_MOVES + 1):
        try:
            response = _pool(os.getpid(), _proxy(address)).request(
                "GET", address, headers=headers, timeout=timeout, retries=False, redirect=False, preload_content=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise TransientError(f"{name}: no answer from {urlsplit(address).netloc} ({_reason(error)})") from error
        target = response.headers.get("Location")
        if response.status not in _MOVED or target is None:
            return response
        response.close()
        response.release_conn()
        target = urljoin(address, target)
        if address.startswith("https:") and not target.startswith("https:"):
            raise SourceUnavailable(f"{name}: {address} leads to {target}, which is not encrypted; expected https")
        address = target
    raise SourceUnavailable(f"{name}: moved more than {_MOST_MOVES} times, at last to {address}; correct the address")


def _answer(
    response: urllib3.BaseHTTPResponse, name: str, start: int, stop: int | None, ranged: bool, version: str
) -> Answer:
    _check_status(response, name)
    if "text/html" in response.headers.get("Content-Type", "") and not name.endswith((".html", ".htm")):
        raise TransientError(f"{name}: expected data, got a page of HTML; is there a login page of the network?")
    current = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    if version and current != version:
        raise CorruptData(f"{name}: has changed since it was opened (version {version}, now {current}); open it again")
    length = response.headers.get("Content-Length", "")
    n_bytes = int(length) if length.isdecimal() else None
    if not ranged:
        return Answer(0, n_bytes, n_bytes, current, name, response)
    if response.status != 206:
        raise NoRanges(
            f"{name}: asked for bytes {start}:{stop or ''} of it, the server gives the whole file (status "
            f"{response.status}): it or a proxy ignores ranges; fetch the file as a whole instead"
        )
    first, end, size = _content_range(response, name)
    if first != start or end != (size if stop is None else min(stop, size)) or n_bytes not in (None, end - first):
        raise CorruptData(
            f"{name}: asked for bytes {start}:{stop or ''}, got bytes {first}:{end} of {size} and a body of "
            f"{length or '?'} bytes; the server or a proxy is broken"
        )
    return Answer(first, size, end - first, current, name, response)


def _check_status(response: urllib3.BaseHTTPResponse, name: str) -> None:
    status = response.status
    if status in (200, 206):
        return
    says = f"the server says {status} {response.reason or ''}".rstrip()
    if status in (404, 410):
        raise NotFound(f"{name}: {says}; is the catalog newer or older than the server?")
    if status in (401, 403):
        raise SourceUnavailable(f"{name}: {says}: it needs a login, or the file is not there; nothing was sent")
    if status == 412:
        raise CorruptData(f"{name}: has changed since it was opened ({says}); open it again")
    if status == 416:
        where = response.headers.get("Content-Range", "nothing")
        raise CorruptData(f"{name}: has fewer bytes than were asked for ({says}, of {where}); open it again")
    if status in _BUSY:
        raise TransientError(f"{name}: {says}", _asked_s(response.headers.get("Retry-After", "")))
    raise SourceUnavailable(f"{name}: {says}; expected 200 or 206")


def _content_range(response: urllib3.BaseHTTPResponse, name: str) -> tuple[int, int, int]:
    header = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", header)
    if match is None:
        raise CorruptData(f"{name}: expected a Content-Range such as 'bytes 0-99/1000', got {header!r}")
    return int(match[1]), int(match[2]) + 1, int(match[3])


def _asked_s(header: str) -> float:
    """Seconds of a Retry-After, a number or a date; 0 without one."""
    if header.isdecimal():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):  # none, neither, or a date without a zone
        return 0.0


def _reason(error: Exception) -> str:
    """The innermost words of an error of urllib3, whose own name objects and addresses."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__


def _proxy(address: str) -> str | None:
    parts = urlsplit(address)
    if not (proxies := getproxies()) or proxy_bypass(parts.hostname or ""):
        return None
    return proxies.get(parts.scheme) or proxies.get("all")


@lru_cache(maxsize=4)
def _pool(process: int, proxy: str | None) -> urllib3.PoolManager:
    """The connections of this process: a fork must not share those of its parent."""
    if proxy is None:
        return urllib3.PoolManager(maxsize=PER_HOST, block=True)
    return urllib3.ProxyManager(proxy, maxsize=PER_HOST, block=True)
