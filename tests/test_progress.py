"""What a build shows of its progress: bars in a terminal, lines elsewhere; no build is needed to see it."""

import contextlib
import io
import re
import signal

import pytest
from rich.console import Console

from chunking.build import Progress
from chunking.plan import ArrayPlan, StorePlan
from cubes.cli_progress import Bar

PID = "b1dfe7c5-067e-378b-9570-c974849ab428"


def store(product, nbytes):
    array = ArrayPlan("x", ("time",), (nbytes,), "uint8", (100,))
    arrays = (array,) if nbytes else ()
    return StorePlan(PID, product, product, None, None, arrays, (), 0, 0, 0, "", exists=False)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def event(product, done, total=10, nbytes=0):
    return Progress(PID, product, done, total, nbytes)


def console(*, terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)


def told(bar_console):
    return bar_console.file.getvalue().splitlines()


def test_without_a_terminal_a_store_is_a_line(clock):
    out = console(terminal=False)
    with Bar([store("ap", 50_000_000), store("sync", 0)], out, clock) as bar:
        for done in range(11):
            bar.update(event("ap", done, nbytes=50_000_000))
            clock.now += 0.5
        clock.now += 3
        for done in (0, 10):
            bar.update(event("sync", done))
            clock.now += 1
    assert told(out) == [f"{PID} ap: 50.0 MB in 5.0 s, 10.0 MB/s", f"{PID} sync: labels in 1.0 s"]


def test_a_store_that_lasts_is_a_line_every_half_minute(clock):
    out = console(terminal=False)
    with Bar([store("ap", 1_000_000_000)], out, clock) as bar:
        for done in range(0, 101):
            bar.update(event("ap", done, 100, 1_000_000_000))
            clock.now += 0.99
    *lines, last = told(out)
    assert lines == [
        f"{PID} ap: 31%, 10.1 MB/s, about 68 s left",
        f"{PID} ap: 62%, 10.1 MB/s, about 38 s left",
        f"{PID} ap: 93%, 10.1 MB/s, about 7 s left",
    ]
    assert last == f"{PID} ap: 1.0 GB in 99.0 s, 10.1 MB/s"


def test_what_an_earlier_build_did_is_no_speed(clock):
    out = console(terminal=False)
    with Bar([store("ap", 100_000_000)], out, clock) as bar:
        bar.update(event("ap", 90, 100, 100_000_000))
        clock.now += 31
        bar.update(event("ap", 95, 100, 100_000_000))
        clock.now += 31
        bar.update(event("ap", 100, 100, 100_000_000))
    assert told(out) == [
        f"{PID} ap: 95%, 161.3 kB/s, about 31 s left",
        f"{PID} ap: 100.0 MB in 62.0 s, 161.3 kB/s",
    ]


def test_in_a_terminal_there_is_a_bar_for_all_and_one_for_the_store(clock):
    out = console(terminal=True)
    stores = [store("counts_20ms", 9_000_000), store("spikes", 29_000_000), store("ap", 59_000_000)]
    with Bar(stores, out, clock) as bar:
        bar.update(event("counts_20ms", 10, nbytes=9_000_000))
        bar.update(event("ap", 5, nbytes=59_000_000))  # spikes were there already
        bar._bars.refresh()
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.file.getvalue())
    last = [line for line in shown.replace("\r", "\n").split("\n") if line.strip()][-2:]
    assert re.search(r"store 3 of 3 .* 70%", last[0])  # 10 + 30 + 30 of 100 MB
    assert re.search(r"b1dfe7c5 ap .* 50%", last[1])
    assert "/s" in shown or "?" in shown
    assert "labels in" not in shown
    assert " in 0." not in shown  # no lines beside the bars


def test_one_store_needs_no_bar_for_all():
    out = console(terminal=True)
    with Bar([store("ap", 1_000_000)], out) as bar:
        bar.update(event("ap", 5, nbytes=1_000_000))
        bar._bars.refresh()
        assert len(bar._bars.tasks) == 1
    with Bar(console=out) as bar:  # of a build of which nothing is known before
        bar.update(event("ap", 5, nbytes=1_000_000))
        bar.update(event("lf", 5, nbytes=1_000_000))
        assert len(bar._bars.tasks) == 1


def test_ctrl_c_that_a_library_swallows_is_said_again():
    handler = signal.getsignal(signal.SIGINT)
    with Bar() as bar:
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            bar.update(Progress("pid", "spikes", 0, 4))
    assert signal.getsignal(signal.SIGINT) is handler
