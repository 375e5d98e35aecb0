"""The objects below one prefix of an S3 bucket: whole objects, conditional puts, listings; errors that say what to do.

Region, endpoint and credentials come from the environment, as all tools of AWS read it, and are in memory only: a
pickle carries the url.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from loaders.errors import BadArgument, CubesError, NotFound, SourceUnavailable, StoreError

if TYPE_CHECKING:
    from obstore.store import S3Store

# Where the client looks when the environment has no credentials.
_NO_CREDENTIALS = re.compile(r"169\.254\.|fd00:ec2|/latest/api/token")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d+ [\w ]+\w)")


class Occupied(StoreError):
    """An object exists, or is no longer the one that it was: a conditional put was refused. Never leaves `chunking`."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a listing says of an object: its size in bytes and its ETag, without quotes."""

    size: int
    e_tag: str


@dataclass(frozen=True)
class Objects:
    """The objects below a url.

    Parameters
    ----------
    url : str
        ``s3://bucket`` or ``s3://bucket/prefix``.

    Raises
    ------
    BadArgument
        If it is another url, or one with a login in it.
    """

    url: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.url, allow_fragments=False)
        if "@" in parts.netloc:  # and say nothing of what it is
            raise BadArgument("root: expected s3://bucket/prefix, got a url with a login; credentials come from AWS_*")
        if parts.scheme != "s3" or not parts.netloc or parts.query or ":" in parts.netloc:
            raise BadArgument(
                f"root {self.url}: expected a local folder or s3://bucket/prefix; name another server than AWS in "
                "AWS_ENDPOINT_URL"
            )
        object.__setattr__(self, "url", f"s3://{parts.netloc}/{parts.path.strip('/')}".rstrip("/"))

    def __reduce__(self) -> tuple[Any, ...]:
        return Objects, (self.url,)

    def get(self, key: str) -> tuple[bytes, str] | None:
        """An object and its ETag; None if there is none."""
        import obstore

        with self._explained(key):
            try:
                result = obstore.get(self._client, key)
                return bytes(result.bytes()), _unquoted(result.meta["e_tag"])
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None

    def put(self, key: str, data: bytes, *, over: str | None = None) -> str:
        """Put an object that does not exist, or whose ETag is `over`; gives the new ETag.

        Raises
        ------
        Occupied
            If it exists, or has another ETag.
        """
        import obstore

        mode: Any = "create" if over is None else {"e_tag": f'"{over}"'}
        with self._explained(key):
            return _unquoted(obstore.put(self._client, key, data, mode=mode, use_multipart=False)["e_tag"])

    def below(self, prefix: str) -> dict[str, Facts]:
        """All objects below ``prefix/``, by their key within it."""
        import obstore

        with self._explained(prefix):
            pages = obstore.list(self._client, f"{prefix}/")
            found = {item["path"]: Facts(item["size"], _unquoted(item["e_tag"])) for page in pages for item in page}
        return {key.removeprefix(f"{prefix}/"): facts for key, facts in found.items()}

    def names(self, prefix: str, kind: Literal["folders", "objects"]) -> list[str]:
        """Names of the folders, or of the objects, directly below ``prefix/``, sorted."""
        import obstore

        with self._explained(prefix):
            found = obstore.list_with_delimiter(self._client, f"{prefix}/")
        paths = found["common_prefixes"] if kind == "folders" else [item["path"] for item in found["objects"]]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

    @cached_property
    def _client(self) -> S3Store:
        from obstore.store import S3Store

        bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        return S3Store(
            bucket,
            prefix=prefix or None,
            client_options={"allow_http": True, "connect_timeout": "10s", "timeout": "300s"},
            retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=60)},
        )

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        what = f"{self.url}/{key}"
        try:
            yield
        except (AlreadyExistsError, PreconditionError):
            raise Occupied(f"{what}: exists already, or was changed by another builder meanwhile") from None
        except (BaseError, OSError) as error:
            raise _explain(what, self.url, str(error)) from None  # its text may have the id of the key


def _explain(what: str, url: str, text: str) -> CubesError:
    """The error for an answer of a server; of its text only status and code."""
    bucket = url.removeprefix("s3://").partition("/")[0]
    if "NoSuchBucket" in text:
        return NotFound(f"{what}: there is no bucket {bucket!r}; make it, or correct the url")
    if _NO_CREDENTIALS.search(text):
        return StoreError(
            f"{what}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or, to read a public bucket, "
            "AWS_SKIP_SIGNATURE=true"
        )
    said = [match[1] for pattern in (_STATUS, _CODE) if (match := pattern.search(text))]
    if any(number in text for number in ("code: 401", "code: 403")):
        return StoreError(f"{what}: refused ({', '.join(said)}); the credentials of AWS_* must allow it")
    why = ", ".join(said) or "no answer"
    return SourceUnavailable(f"{what}: the server failed ({why}); check AWS_ENDPOINT_URL and AWS_REGION, or try later")


def _unquoted(e_tag: str | None) -> str:
    return (e_tag or "").strip('"')


def same_bytes(facts: Facts, md5: str, size: int) -> bool | None:
    """Whether an object has this md5 and size; None if its ETag is no md5, as in some encrypted buckets."""
    if facts.size != size:
        return False
    return facts.e_tag == md5 if re.fullmatch("[0-9a-f]{32}", facts.e_tag) else None
