"""The errors of the project, grouped by what a caller can do about them.

Every message says what went wrong (argument or dataset, pid), what was expected, what came, and what to do.
"""

from __future__ import annotations


class CubesError(Exception):
    """Base of every error that this project raises on purpose."""


class NotFound(CubesError, LookupError):
    """A pid, sorter, revision, dataset or region that does not exist; the message lists what does."""


class SourceUnavailable(CubesError, OSError):
    """The data exist but cannot be reached now; trying again later may help."""


class CorruptData(CubesError, ValueError):
    """A file that cannot be what it claims to be: truncated, empty, pickled, of the wrong type or size."""


class InconsistentData(CubesError, ValueError):
    """Files that are readable one by one and contradict each other."""


class BadArgument(CubesError, ValueError):
    """An argument with a value that cannot be used."""


class PlanRefused(CubesError, ValueError):
    """A build that cannot or should not be done; refused before any work."""


class StoreError(CubesError):
    """A store that exists already, is incomplete, damaged, or cannot be written."""
