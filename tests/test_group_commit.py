"""Parts that are committed together: none is lost, none comes twice, and errors are raised."""

import threading

import pytest

from chunking.group_commit import group_commit


class Slow:
    """A commit that waits to be let go."""

    def __init__(self):
        self.groups, self.begun, self.go = [], threading.Event(), threading.Event()

    def __call__(self, parts):
        self.begun.set()
        assert self.go.wait(10)
        self.groups.append(list(parts))


def test_what_comes_during_a_commit_is_the_next_group():
    commit = Slow()
    with group_commit(commit) as keep:
        keep("a", {})
        assert commit.begun.wait(10)
        for part in "bcd":
            keep(part, {})
        commit.go.set()
    assert commit.groups == [["a"], ["b", "c", "d"]]


def test_after_an_interruption_what_came_is_committed():
    commit = Slow()
    commit.go.set()

    def interrupted():
        with group_commit(commit) as keep:
            for part in "abc":
                keep(part, {})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [part for group in commit.groups for part in group] == ["a", "b", "c"]


def fail(parts):
    raise OSError("the disk is full")


def test_an_error_is_raised_at_the_end():
    with pytest.raises(OSError, match="the disk is full"), group_commit(fail) as keep:
        keep("a", {})


def test_an_error_ends_the_work():
    given = []

    def give():
        with group_commit(fail) as keep:
            while len(given) < 1_000_000:
                keep(str(len(given)), {})
                given.append(1)

    with pytest.raises(OSError, match="the disk is full"):
        give()
    assert len(given) < 1_000_000
