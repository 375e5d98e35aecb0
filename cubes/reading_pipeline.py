"""The faster of zarr's two ways from chunks to an array, for the local stores that `cubes.open` opens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import zarr
import zarr.core.codec_pipeline

_KEY = "codec_pipeline.path"
_USUAL = "zarr.core.codec_pipeline.BatchedCodecPipeline"
_FASTER = "zarr.core.codec_pipeline.FusedCodecPipeline"
_EXISTS = hasattr(zarr.core.codec_pipeline, "FusedCodecPipeline")
_LOCK = threading.RLock()


@contextmanager
def faster_pipeline() -> Iterator[None]:
    """Arrays that are opened meanwhile are read chunk by chunk by threads, not by a coroutine a chunk and step.

    A window of a second of AP takes three quarters of the time. zarr 3.4 has it, and does not take it by itself yet.
    Another engine that was configured stays; who wants zarr's usual pipeline opens the store with `xr.open_zarr`. One
    read uses as many threads as there are cores, or ``codec_pipeline.max_workers`` of zarr's configuration.

    An array keeps what it was opened with. The setting is that of the process, so it is made under a lock and taken
    back at once; the lock does not know of others who change the same key at that moment.
    """
    with _LOCK:
        if zarr.config.get(_KEY) != _USUAL or not _EXISTS:
            yield
            return
        with zarr.config.set({_KEY: _FASTER}):
            yield
