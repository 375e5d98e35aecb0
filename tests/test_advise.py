"""The advisor against what is known: which layout touches least, and on this machine, which is fastest."""

import json

import numpy as np
import pytest
import zarr
from zarr.testing.store import LatencyStore

import cubes
from chunking.layouts import COUNTS_LAYOUTS, LFP_LAYOUTS, VOLTAGE_LAYOUTS
from chunking.patterns import PATTERNS, touched
from cubes import layout_sample, layout_trial
from cubes.advising import TIE
from cubes.cli import run
from cubes.layout_sample import generated, of_store
from loaders.errors import BadArgument, PlanRefused, StoreError

# Known without counting: what is long and thin wants long and thin chunks, what is short and high wants high ones.
KNOWN = [
    ("counts_20ms", "unit", "by-unit"),
    ("counts_20ms", "window-1s", "by-time"),
    ("counts_20ms", "window-60s", "by-time"),
    ("counts_20ms", "training", "by-time"),
    ("counts_1ms", "region", "by-unit"),
    ("lf", "scan", "balanced"),
    ("ap", "unit", "by-channel"),
    ("ap", "spectrogram", "by-channel"),
    ("ap", "region", "by-channel"),
    ("ap", "window-1s", "by-time"),
    ("ap", "training", "by-time"),
    ("ap", "rms", "by-time"),
    ("lf", "unit", "by-channel"),
    ("lf", "window-1s", "by-time"),
    ("lfp_250hz", "unit", "by-channel"),
    ("lfp_250hz", "window-1s", "by-time"),
]


@pytest.mark.parametrize(("product", "pattern", "layout"), KNOWN)
def test_the_known_layout_is_chosen_by_what_is_touched(product, pattern, layout):
    advice = cubes.advise([pattern], product=product, measure=False)
    assert advice.layout == layout
    assert advice.scores[layout] < TIE
    assert advice.command.endswith(f"--{'counts' if 'counts' in product else 'voltage'}-layout {layout}")


@pytest.mark.slow
@pytest.mark.parametrize(("product", "pattern", "layout"), [case for case in KNOWN if case[1] not in ("scan", "rms")])
def test_the_known_layout_is_as_fast_as_the_fastest(product, pattern, layout):
    """In time, which others on the machine disturb: no other layout is clearly faster."""
    advice = cubes.advise([pattern], product=product, limit_s=10)
    if product == "ap" and layout == "by-time":  # as many bytes as balanced, in fewer chunks and so for fewer threads
        assert advice.layout != "by-channel", str(advice)
    else:
        assert advice.layout == layout or advice.scores[layout] < 1.3, str(advice)


def test_weights_decide_between_patterns():
    for weight, layout in ((9, "by-unit"), (1 / 9, "by-time")):
        assert cubes.advise({"unit": weight, "window-1s": 1}, measure=False).layout == layout
    advice = cubes.advise({"unit": 3, "window-1s": 1}, measure=False)
    seconds = {(one.layout, one.pattern): one.seconds for one in advice.tried}
    for layout, score in advice.scores.items():
        ratios = [seconds[layout, p] / min(seconds[other, p] for other in COUNTS_LAYOUTS) for p in advice.weights]
        assert score == pytest.approx((ratios[0] ** 3 * ratios[1]) ** 0.25)


def test_latency_counts_requests():
    """A window of all units lies in 10 chunks, or in 100: one round of ten requests, or ten of them."""
    near, far = (cubes.advise(["window-1s"], latency_s=seconds, measure=False) for seconds in (0, 10))
    assert far.scores["by-unit"] == pytest.approx(10, rel=0.01)
    waits = [{one.layout: one.seconds for one in advice.tried}["by-unit"] for advice in (near, far)]
    assert waits[1] == pytest.approx(waits[0] + 100)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["unit", "window-1s", "events"])
def test_the_latency_that_is_added_is_that_of_a_slow_store(tmp_path, pattern):
    sample = generated("counts_20ms", 1000, 20)
    layout_trial.write(tmp_path, sample, "balanced")
    slow = LatencyStore(zarr.storage.LocalStore(tmp_path / "balanced/cells"), get_latency=0.2)
    array = {"balanced": zarr.open_array(slow, mode="r", zarr_format=3)}
    taken = layout_trial.time_patterns(array, sample, [PATTERNS[pattern]], 0)["balanced", pattern]
    grid = sample.grid("balanced")
    rounds = touched(grid, PATTERNS[pattern].reads(grid, np.random.default_rng(0))).rounds
    assert 0.2 * rounds < taken < 0.2 * rounds + 1


@pytest.fixture
def small(monkeypatch):
    """Arrays of 4 MB."""
    monkeypatch.setattr(layout_sample, "SAMPLE_BYTES", 4_000_000)


@pytest.mark.parametrize("product", ["counts_20ms", "counts_1_3s", "ap", "lf", "lfp_250hz"])
def test_measured_on_what_was_generated(small, product):
    advice = cubes.advise(product=product, limit_s=0)
    layouts = COUNTS_LAYOUTS if "counts" in product else LFP_LAYOUTS if "lfp" in product else VOLTAGE_LAYOUTS
    assert set(advice.scores) == set(layouts)
    assert advice.layout in layouts
    assert {one.pattern for one in advice.tried} == set(advice.weights)
    assert all(one.seconds > 0 and one.chunks > 0 for one in advice.tried)
    assert set(advice.chunks) == {"unit" if "counts" in product else "channel", "time"}
    assert "measured on" in str(advice)
    assert f"take {advice.layout} (others take" in str(advice)


def test_a_part_is_scaled_to_the_whole(small, monkeypatch):
    """Chunks of an hour are cut short in a part of it: where time is as expected, the advice is that of counting."""
    asked = {"product": "counts_1ms", "units": 100}
    part, whole = (cubes.advise(**asked, minutes=minutes, measure=False) for minutes in (40_000 / 60_000, 60))
    times = {(one.layout, one.pattern): one.seconds for one in part.tried}
    monkeypatch.setattr("cubes.advising.time_patterns", lambda *_: times)
    advice = cubes.advise(**asked, minutes=60, latency_s=0)
    assert "measured on 100 x 40,000 cells (generated, 0.67 min), scaled to 3,600,000" in str(advice)
    assert advice.scores == pytest.approx(whole.scores)
    assert advice.scores != pytest.approx(part.scores, rel=0.1)
    assert {(one.layout, one.pattern, one.chunks, one.nbytes) for one in advice.tried} == {
        (one.layout, one.pattern, one.chunks, one.nbytes) for one in whole.tried
    }
    for layout in COUNTS_LAYOUTS:
        monkeypatch.setattr("cubes.advising._score", lambda name, *_, best=layout: 1.0 if name == best else 9.0)
        chunk = COUNTS_LAYOUTS[layout].chunks("counts_1ms", (100, 3_600_000), 1000)
        assert [n % c for n, c in zip(cubes.advise(**asked, minutes=60).chunks.values(), chunk, strict=True)] == [0, 0]


def test_the_generated_cells_are_like_those_of_recordings(tmp_path):
    counts = generated("counts_20ms", 200, 10)
    assert counts.cells.shape == (200, 30_000)
    assert counts.cells.mean() == pytest.approx(8.3 / 50, rel=0.3)
    ap = generated("ap", 0, 0.1)
    for product in ("ap", "lf"):
        sample = ap if product == "ap" else generated("lf", 0, 1)
        array = layout_trial.write(tmp_path / product, sample, "balanced")
        np.testing.assert_array_equal(array[:], sample.cells)
        assert 2.4 < sample.cells.nbytes / array.nbytes_stored() < 3.4  # of real AP: 2.8 to 3.3


def test_a_store_of_the_user(small, sample_source, tmp_path):
    pid = sample_source.insertions()[0].pid
    cubes.build(cubes.plan(sample_source, [pid], ["counts_20ms", "counts_1_3s", "spikes"], root=tmp_path))
    store = tmp_path / f"insertions/{pid}/counts_20ms.zarr"
    assert of_store(store.with_stem("counts_1_3s")).rate_hz == 3
    np.testing.assert_array_equal(of_store(store).cells, cubes.open(tmp_path, pid)["counts_20ms"].counts.values)
    advice = cubes.advise(["window-1s", "unit"], store=store, limit_s=0)
    assert advice.product == "counts_20ms"
    assert advice.command == ("" if advice.layout == "balanced" else f"cubes rechunk {store} --layout {advice.layout}")
    counted = cubes.advise(["unit"], store=store, measure=False)
    assert f"cubes rechunk {store} --layout by-unit" in str(counted)
    cubes.rechunk(store, "by-unit")
    assert "the store has this layout" in str(cubes.advise(["unit"], store=store, measure=False))
    with pytest.raises(PlanRefused, match="'spikes': has no layouts"):
        cubes.advise(store=store.with_name("spikes.zarr"))
    (store / "counts/c/0/0").write_bytes(b"")
    with pytest.raises(StoreError, match="expected crc32"):
        cubes.advise(store=store)


def test_what_cannot_be_advised_is_refused():
    cases = [
        ({"patterns": ["psth"]}, BadArgument, "pattern 'psth': does not exist"),
        ({"patterns": ["rms"]}, BadArgument, "rms: is not one for counts"),
        ({"patterns": "unit"}, BadArgument, r"write \['unit'\]"),
        ({"patterns": []}, BadArgument, "expected one at least"),
        ({"patterns": {"unit": 0}}, BadArgument, "positive weights"),
        ({"product": "spikes"}, PlanRefused, "has no layouts"),
        ({"store": "my-cubes"}, BadArgument, "my-cubes: expected one Zarr store, such as <root>/ins"),
        ({"store": "my-cubes/insertions/1/counts_20ms.icechunk"}, BadArgument, "expected one Zarr store"),
        ({"product": "counts_fast"}, PlanRefused, "counts_fast"),
        ({"product": "lfp_9999hz"}, PlanRefused, "lfp_9999hz"),
        ({"latency_s": -1}, BadArgument, "latency_s: expected seconds"),
        ({"units": 0}, BadArgument, "units, minutes: expected more than none"),
        ({"minutes": float("nan")}, BadArgument, "units, minutes"),
    ]
    for given, error, message in cases:
        with pytest.raises(error, match=message):
            cubes.advise(**given, measure=False)


def test_the_command(capsys):
    asked = ["advise", "--estimate", "--pattern", "unit", "events=2", "--latency", "50ms", "--minutes", "30"]
    assert run(asked) == 0
    said = capsys.readouterr().out
    assert "1,000 x 90,000 cells (30 min), 50 ms latency added" in said
    assert run([*asked, "--json"]) == 0
    advice = json.loads(capsys.readouterr().out)
    assert advice["weights"] == {"unit": 1, "events": 2}
    assert said.splitlines()[-1] == advice["command"]
    assert run(["advise", "--latency", "5", "--estimate"]) == 1
    assert "expected a time such as 50ms or 0.05s, got '5'" in capsys.readouterr().err
    assert run(["advise", "--pattern", "unit=much", "--estimate"]) == 1
    assert "NAME or NAME=WEIGHT" in capsys.readouterr().err
