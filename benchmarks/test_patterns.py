"""Every layout under every pattern, from this disk and from far away.

    pytest benchmarks --benchmark-json=layouts.json      # some minutes; then bench_layouts.py has tables and figures
    pytest benchmarks --benchmark-disable                # every case once, small, compared with the truth: a test

All files are in the page cache. `extra_info` says what a case reads (requests, bytes that come and that were asked for)
and holds (the most bytes that Python and numpy had allocated), and of its store the size, files and time to write it.
"""

from __future__ import annotations

from typing import Any

from cases import LOCAL, Bench, Case


def test_pattern(benchmark: Any, bench: Bench, case: Case) -> None:
    array = bench.open(case)
    rounds = 1 if benchmark.disabled else bench.rounds_of(case)
    result = benchmark.pedantic(bench.run, (case, array), rounds=rounds)
    if case.turn == 0:
        bench.check(case, result)
        facts = bench.facts(case) if case.place == LOCAL else {}
        benchmark.extra_info.update(facts)
    benchmark.group = f"{case.dataset}, {case.pattern}, {case.place}"
    benchmark.extra_info.update(
        dataset=case.dataset, pattern=case.pattern, place=case.place, layout=case.layout.name, turn=case.turn
    )
