"""Damaged pairs of .cbin and .ch: refused, or right once the hashes agree; nothing hangs, nothing eats the memory."""

import json
import random
import re
import resource
import sys
import time
from collections import Counter

import mtscomp
import numpy as np
import pytest

from loaders.cbin import Cbin
from loaders.errors import CorruptData, NotFound

N_SAMPLES, N_CHANNELS = 240, 11
ODD_NUMBERS = [0, -1, 1, 2, 3, 12, 22, 120, 2**15, 2**31, 2**63, 10**10, 10**30, 0.5, 1e300, -5]
ODD_VALUES = ["null", "true", "false", '"C"', '"F"', '"uint16"', "[]", "{}", "NaN", "-Infinity", '"int32"', "1e999"]


def pairs(folder):
    """Undamaged pairs, as (bytes of .cbin, bytes of .ch, truth), of all orders and differences."""
    made = []
    for k in range(8):
        data = np.random.default_rng(k).normal(0, 50 if k < 4 else 5000, (N_SAMPLES, N_CHANNELS)).astype(np.int16)
        binary, out, header = (folder / f"{k}.{suffix}" for suffix in ("bin", "cbin", "ch"))
        data.tofile(binary)
        options = {"do_time_diff": k % 2 == 0, "do_spatial_diff": k % 3 == 1, "chunk_order": "FFC"[k % 3]}
        options |= {"chunk_duration": 0.05, "n_threads": 1, "check_after_compress": False, "quiet": True}
        mtscomp.compress(binary, out, header, sample_rate=1000.0, n_channels=N_CHANNELS, dtype="int16", **options)
        made.append((out.read_bytes(), header.read_bytes(), data))
    return made


def flip(rng, text):
    at = rng.randrange(len(text))
    text[at] ^= 1 << rng.randrange(8)


def truncate(rng, text):
    del text[rng.randrange(len(text)) :]


def insert(rng, text):
    at = rng.randrange(len(text) + 1)
    text[at:at] = rng.randbytes(rng.choice([1, 2, 40]))


def delete(rng, text):
    at = rng.randrange(len(text))
    del text[at : at + rng.choice([1, 2, 40])]


def overwrite(rng, text):
    at, n = rng.randrange(len(text)), rng.choice([1, 4, 100])
    text[at : at + n] = rng.choice([bytes(n), b"\xff" * n, rng.randbytes(n)])[: len(text) - at]


def swap_ranges(rng, text):
    if len(text) < 8:
        return
    n = rng.randrange(1, len(text) // 2)
    a = rng.randrange(len(text) - 2 * n + 1)
    b = rng.randrange(a + n, len(text) - n + 1)
    text[a : a + n], text[b : b + n] = text[b : b + n], text[a : a + n]


def repeat_range(rng, text):
    a, b = sorted(rng.randrange(len(text) + 1) for _ in range(2))
    text[b:b] = text[a:b]


def edit_number(rng, text):
    numbers = list(re.finditer(rb"-?\d+(\.\d+)?", text))
    if numbers:
        found = rng.choice(numbers)
        near = int(float(found[0])) if len(found[0]) < 300 else 0
        new = rng.choice([near + 1, near - 1, near * 2, near // 2, *ODD_NUMBERS])
        text[found.start() : found.end()] = str(new).encode()


def edit_value(rng, text):
    values = list(re.finditer(rb"(?<=: )[^,\[\n]+|(?<=: )\[[^\]]*\]", text))
    if values:
        found = rng.choice(values)
        text[found.start() : found.end()] = rng.choice(ODD_VALUES).encode()


def edit_lists(rng, text):
    """Lists that remain plausible: entries dropped, repeated, scaled, or taken from the wrong end."""
    try:
        keys = json.loads(text)
        for name in rng.choice([["chunk_bounds"], ["chunk_offsets"], ["chunk_bounds", "chunk_offsets"]]):
            how, at = rng.choice(["drop", "repeat", "double", "halve", "first", "last"]), rng.randrange(len(keys[name]))
            items = keys[name]
            keys[name] = {
                "drop": items[:at] + items[at + 1 :],
                "repeat": items[:at] + items[at:][:1] + items[at:],
                "double": [2 * item for item in items],
                "halve": [item // 2 for item in items],
                "first": items[1:],
                "last": items[:-1],
            }[how]
        if rng.random() < 0.5:
            keys["n_channels"], keys["shape"] = rng.choice(
                [(22, [120, 22]), (1, [2640, 1]), (11, None), (11, [192, 11])]
            )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return  # damaged already
    text[:] = json.dumps(keys, indent=2).encode()


ANYWHERE = [flip, flip, flip, truncate, insert, delete, overwrite, swap_ranges, repeat_range]
HEADER = [edit_number, edit_number, edit_value, edit_lists]


def mutate(rng, stored, header):
    """One to three damages to one of the two, or to both."""
    stored, header = bytearray(stored), bytearray(header)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        text = rng.choice([stored, header])
        if text:
            rng.choice(ANYWHERE if text is stored else ANYWHERE + HEADER)(rng, text)
    return bytes(stored), bytes(header)


def outcome(path, truth):
    """What a careful reader of the pair at `path` gets."""
    try:
        recording = Cbin.open(path)
        known = recording.verify()
        got = recording.read(0, recording.n_samples)
    except (CorruptData, NotFound):
        return "refused"
    if np.array_equal(got, truth.T):
        return "right"
    return "wrong, and hashes compared" if known else "wrong, and said to be without hashes"


def fuzz(folder, n, seed):
    rng, clean = random.Random(seed), pairs(folder)
    path, counts, slowest = folder / "damaged.cbin", Counter(), 0.0
    for _ in range(n):
        stored, header, truth = rng.choice(clean)
        damaged = mutate(rng, stored, header)
        path.write_bytes(damaged[0])
        path.with_suffix(".ch").write_bytes(damaged[1])
        start = time.perf_counter()
        result = outcome(path, truth)
        slowest = max(slowest, time.perf_counter() - start)
        counts[result] += 1
        assert result in ("refused", "right"), damaged
    return counts, slowest


def peak_rss_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def check(counts, slowest, n):
    print(dict(counts), f"slowest {slowest:.3f} s, peak {peak_rss_bytes() / 2**20:.0f} MiB")
    assert counts["refused"] + counts["right"] == n
    assert counts["refused"] > n // 2
    assert slowest < 2


def test_300_damaged_recordings(tmp_path):
    check(*fuzz(tmp_path, 300, seed=1), 300)


@pytest.mark.fault
@pytest.mark.slow
def test_20_000_damaged_recordings(tmp_path):
    check(*fuzz(tmp_path, 20_000, seed=2), 20_000)
    assert peak_rss_bytes() < 1 << 30
