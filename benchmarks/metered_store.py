"""A Zarr store that counts what is asked of it, and takes as long to answer as an object store far away.

The model: every request waits `latency_s` for its first byte, and then its bytes come at `bytes_per_s`, however many
are under way at once; S3 gives some tens of milliseconds and 80 to 100 MB/s a connection.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from zarr.abc.store import Store
from zarr.testing.store import LatencyStore

METADATA = "zarr.json"


@dataclass
class Meter:
    """What was asked for so far: requests, their bytes, and the files that they came from; metadata do not count."""

    requests: int = 0
    bytes: int = 0
    files: set[str] = field(default_factory=set)


class MeteredStore(LatencyStore):
    """`LatencyStore`, which sends ranges of a shard through `get` too, with a meter and a bandwidth."""

    def __init__(
        self,
        store: Store,
        *,
        meter: Meter | None = None,
        get_latency: Any = 0.0,
        set_latency: Any = 0.0,
        bytes_per_s: float = float("inf"),
    ) -> None:
        super().__init__(store, get_latency=get_latency, set_latency=set_latency)
        self.meter = Meter() if meter is None else meter
        self.bytes_per_s = bytes_per_s
        self.latency = {"get_latency": get_latency, "set_latency": set_latency}

    def _with_store(self, store: Store) -> MeteredStore:
        return type(self)(store, meter=self.meter, bytes_per_s=self.bytes_per_s, **self.latency)

    @property
    def _supports_sync_io(self) -> bool:
        """Never: requests that wait have to wait side by side."""
        return False

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """One request."""
        found = await super().get(key, prototype, byte_range)
        if found is not None and not key.endswith(METADATA):
            self.meter.requests += 1
            self.meter.bytes += len(found)
            self.meter.files.add(key)
            await asyncio.sleep(len(found) / self.bytes_per_s)
        return found
