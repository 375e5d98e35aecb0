"""The digital lines in the sync channels of a recording: when each rises and falls.

A sync channel is a word of 16 bits a sample, one bit a line, the lowest bit first (``spikeglx.split_sync`` of
ibl-neuropixel). Lines of a second word, as quad-base probes have, count on from 16.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loaders.errors import NotFound
from loaders.recording import Recording
from loaders.records import Ints

_BITS = 16


@dataclass(frozen=True, slots=True)
class Edges:
    """Changes of the digital lines, in order of sample and then of line.

    Attributes
    ----------
    sample : (edge,) int64
        First sample with the new value.
    line : (edge,) int64
        From 0.
    polarity : (edge,) int8
        1 where the line rises, -1 where it falls.
    initial : (line,) int8
        Value of every line at sample 0.
    """

    sample: Ints
    line: Ints
    polarity: NDArray[np.int8]
    initial: NDArray[np.int8]


def find_edges(recording: Recording, n_sync: int) -> Edges:
    """Read the whole recording, chunk by chunk, and find the edges of its lines.

    Raises
    ------
    NotFound
        If the recording has no sync channel.
    CorruptData
        If a chunk cannot be decoded.
    """
    if n_sync == 0:
        raise NotFound(f"{recording.source.name}: has no sync channel, and so no digital lines")
    before: NDArray[np.uint16] | None = None
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]] = []
    initial = np.zeros(_BITS * n_sync, dtype=np.int8)
    for start, block in recording.chunks():
        words = block[-n_sync:].view(np.uint16)
        if before is None:
            before = words[:, :1].copy()
            initial = _bits(before)[:, 0].astype(np.int8)
        joined = np.concatenate([before, words], axis=1)
        found += [_edges_of_word(word, start, _BITS * i) for i, word in enumerate(joined)]
        before = words[:, -1:].copy()
    sample, line, polarity = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((line, sample))
    return Edges(sample[order], line[order], polarity[order], initial)


def _edges_of_word(
    word: NDArray[np.uint16], start: int, first_line: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
    """Edges between neighbouring samples; `word` begins with the sample before `start`."""
    changes = np.flatnonzero(word[1:] != word[:-1])
    bits = _bits(word[None, np.stack([changes, changes + 1])].reshape(1, -1)).reshape(_BITS, 2, -1)
    steps = bits[:, 1].astype(np.int8) - bits[:, 0].astype(np.int8)
    line, which = np.nonzero(steps)
    return start + changes[which], first_line + line, steps[line, which]


def _bits(words: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """(word, sample) -> (line, sample) of 0 and 1."""
    bits = (words[:, None, :] >> np.arange(_BITS, dtype=np.uint16)[None, :, None]) & 1
    return bits.reshape(-1, words.shape[1]).astype(np.uint8)
