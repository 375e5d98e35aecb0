"""How the benchmarks of claims and of the whole map reckon; the measuring itself is in test_benchmarks.py."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
import bench_claims as claims
import bwm_estimate

METHODS = (
    claims.Method("ours", "ours"),
    claims.Method("slow", "slow"),
    claims.Method("quick", "quick"),
    claims.Method("numpy by hand", "numpy", by_hand=True),
)


def runs(*seconds):
    return [{"seconds": value} for value in seconds]


def test_a_claim_is_against_the_fastest_peer_of_each_round():
    results = {"ours": runs(1, 2, 1), "slow": runs(9, 8, 30), "quick": runs(6, 8.5, 20), "numpy": runs(1, 1, 1)}
    row = claims.claim("PSTH", "psth", results, METHODS)
    assert row == ["PSTH", "quick", "6.0 (4.0–20.0)", "10", "NO"]
    assert claims.claim("AP", "ap", results, METHODS)[-1] == "yes"
    assert claims.claim("AP", "ap", results, METHODS, only=["slow"])[1:3] == ["slow", "9.0 (4.0–30.0)"]


def test_a_claim_without_a_peer_is_none():
    assert claims.claim("AP", "ap", {"ours": runs(1), "numpy": runs(9)}, METHODS)[1] == "no peer here"


def test_who_counts_something_else_is_refused():
    equal = {"ours": [{"sum": 10_000.0}], "quick": [{"sum": 10_001.0}], "volts": [{"sum": 0.0}]}
    claims.refuse_other(equal)
    with pytest.raises(RuntimeError, match="slow"):
        claims.refuse_other(equal | {"slow": [{"sum": 9_900.0}]})


def test_the_whole_map_is_read_off_the_line_through_two_lengths():
    case = bwm_estimate.Case("AP", "ap", lengths_s=(10, 20))
    results = {"AP|10": [{"bytes": 1.1e9, "cpu": 12.0}], "AP|20": [{"bytes": 2.1e9, "cpu": 22.0}]}
    ((title, mb, core_seconds, total, hours),) = bwm_estimate.rows(results, (case,), minutes=1)
    assert (title, mb, core_seconds) == ("AP", "6100.0", "62.0")  # 0.1 GB and 2 s by itself, 0.1 GB and 1 s a second
    assert total == "4.3 TB"
    assert hours == "12.04 (12.04–12.04)"
