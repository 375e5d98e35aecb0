"""A local S3 (moto) with one public bucket, for reads without credentials."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "ibl-brain-wide-map-public"


@contextmanager
def public_bucket(root: Path) -> Iterator[str]:
    """Serve all files below `root` under `BUCKET`; yields the endpoint.

    All servers of a process share what they hold: what one adds, it takes away at the end.
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
        allow = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{BUCKET}/*"}
        s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        there = {item["Key"] for page in pages for item in page.get("Contents", [])}
        files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
        added = {key: path for key, path in files.items() if key not in there}
        for key, path in added.items():
            s3.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
        yield endpoint
        for key in added:
            s3.delete_object(Bucket=BUCKET, Key=key)
        s3.close()
    finally:
        server.stop()
