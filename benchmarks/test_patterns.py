"""Every layout under every pattern, from this disk and from far away.

    pytest benchmarks --benchmark-json=layouts.json      # some minutes; then bench_layouts.py has tables and figures
    pytest benchmarks --benchmark-disable                # every case once, small, compared with the truth: a test

All files are in the page cache. `extra_info` says what a case reads (requests, bytes that come and that were asked for)
and holds (the most bytes that Python and numpy had allocated), and of its store the size, files and time to write it.
"""

from __future__ import annotations

from typing import Any

from cases import Bench, Case


def test_pattern(benchmark: Any, bench: Bench, case: Case) -> None:
    array = bench.open(case)
    result = benchmark.pedantic(bench.run, (case, array), rounds=bench.rounds(case))
    if case.turn == 0:
        bench.check(case, result)
    benchmark.group = f"{case.dataset}, {case.pattern}, {case.place}"
    which = {"dataset": case.dataset, "pattern": case.pattern, "place": case.place, "layout": case.layout.name}
    benchmark.extra_info.update(which, turn=case.turn, **bench.facts(case.dataset, case.pattern, case.layout))
