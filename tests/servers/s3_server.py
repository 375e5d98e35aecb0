"""A local S3 (moto) with one public bucket, for reads without credentials."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import boto3
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

BUCKET = "ibl-brain-wide-map-public"

_ONE_AT_A_TIME, _put_object = Lock(), S3Response.put_object


def put_object(self: S3Response) -> Any:
    """As S3 does: moto itself looks whether an object exists, and then puts it, with room for another in between."""
    with _ONE_AT_A_TIME:
        return _put_object(self)


S3Response.put_object = put_object


@contextmanager
def public_bucket(root: Path) -> Iterator[str]:
    """Serve all files below `root` under `BUCKET`; yields the endpoint.

    All servers of a process share what they hold: what one adds or changes, it puts back at the end.
    """
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        s3 = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        s3.create_bucket(Bucket=BUCKET)
        _allow_all(s3, BUCKET, "s3:GetObject")
        before = {}
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            key = path.relative_to(root).as_posix()
            before[key] = _get(s3, key)
            s3.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
        yield endpoint
        for key, body in before.items():
            if body is None:
                s3.delete_object(Bucket=BUCKET, Key=key)
            else:
                s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        s3.close()
    finally:
        server.stop()


@contextmanager
def empty_bucket(name: str) -> Iterator[Any]:
    """A client of a new bucket that anybody with any credentials may write to; its server is ``endpoint_url``."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        s3 = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", **keys)
        s3.create_bucket(Bucket=name)
        yield s3
        s3.close()
    finally:
        server.stop()


@contextmanager
def versioned_bucket(name: str, objects: Iterable[tuple[str, str, Path]]) -> Iterator[str]:
    """Serve a public bucket of (key, version id, file), the newest of a key last; yields the endpoint."""
    with empty_bucket(name) as s3:
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        _allow_all(s3, name, "s3:GetObject", "s3:GetObjectVersion")
        bucket = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[name]
        for key, version_id, path in objects:
            s3.put_object(Bucket=name, Key=key, Body=path.read_bytes())
            bucket.keys[key]._version_id = version_id  # the manifest names it already
        yield s3.meta.endpoint_url


def _allow_all(s3: Any, bucket: str, *actions: str) -> None:
    allow = {"Effect": "Allow", "Principal": "*", "Action": actions, "Resource": f"arn:aws:s3:::{bucket}/*"}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))


def _get(s3: Any, key: str) -> bytes | None:
    try:
        return bytes(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    except s3.exceptions.NoSuchKey:
        return None
