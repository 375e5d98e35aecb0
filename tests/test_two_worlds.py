"""The same calls on recordings of the IBL and of Allen: aligned, averaged, drawn and pooled alike."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from allen_truth import IMAGES

import cubes
from loaders.errors import BadArgument, NotFound
from loaders.sample import SAMPLE

WINDOW, WIDTH = (-0.25, 0.5), 0.01
ONSETS = {
    "name": "onsets",
    "units": "all",
    "trials": "contrast > 0",
    "alignments": {
        "onset": {
            "on": "stimOn_times",
            "window": [-0.1, 0.3],
            "width": "10ms",
            "conditions": {"strong": "contrast >= 0.25", "weak": "contrast < 0.25"},
        }
    },
    "of": {
        "allen-vbn": {
            "events": "stimuli",
            "trials": "active == 1 and omitted == 0",
            "alignments": {
                "onset": {"on": "start_time", "conditions": {"strong": "is_change == 1", "weak": "is_change == 0"}}
            },
        }
    },
}


@pytest.fixture(scope="module")
def source(allen_release, tmp_path_factory):
    return cubes.source("allen-vbn", allen_release.bucket, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def pids(allen_release):
    """One probe of two Allen sessions."""
    return [
        f"allen-vbn-{session.probes[0].probe_id}" for session in (allen_release.sessions[0], allen_release.sessions[2])
    ]


@pytest.fixture(scope="module")
def root(source, sample_source, pids, tmp_path_factory):
    """Both worlds in one root."""
    root = tmp_path_factory.mktemp("worlds")
    cubes.build(cubes.plan(source, pids, ["spikes", "counts_10ms", "trials", "stimuli", "running"], root=root))
    cubes.build(cubes.plan(sample_source, [SAMPLE[0].pid], ["spikes", "trials"], root=root))
    return root


@pytest.fixture(scope="module")
def units(allen_release, pids):
    """Spike times by id of the unit, of the first probe."""
    session = allen_release.sessions[0]
    return {f"allen-vbn-{u.unit_id}": u.times for u in session.units if u.probe is session.probes[0]}


def half_open(times, events, window, width):
    """(event, bin) counts of one unit by brute force."""
    n = round((window[1] - window[0]) / width)
    edges = np.array([float(f"{window[0] + j * width:.6f}") for j in range(n + 1)])
    counts = np.zeros((len(events), n))
    for i, event in enumerate(events):
        for j in range(n):
            counts[i, j] = np.count_nonzero((times >= event + edges[j]) & (times < event + edges[j + 1]))
    return counts, edges


def test_spikes_around_presentations(root, pids, units):
    tree = cubes.open(root, pids[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        aligned = cubes.align(tree["spikes"], tree["stimuli"], window=WINDOW, width=WIDTH, on="start_time").load()
    assert aligned.counts.dims == ("unit", "presentation", "time")
    events = tree["stimuli"].start_time.values
    whole = (aligned.coverage == 1).all("time").values
    assert 0 < whole.sum() <= len(events)
    for uuid, counts in zip(aligned.uuid.values, aligned.counts, strict=True):
        expected, _ = half_open(units[uuid], events, WINDOW, WIDTH)
        np.testing.assert_array_equal(counts.values[whole], expected[whole])
    assert aligned.stimulus_name.values.tolist() == tree["stimuli"].stimulus_name.values.tolist()
    assert aligned.attrs["aligned_to"] == "start_time"


def test_a_closed_edge_counts_the_spikes_on_right_edges_twice(root, pids, units):
    """Traps 8: counting ``[left, right]`` gives exactly the spikes on right edges more than ours."""
    tree = cubes.open(root, pids[0])
    stimuli = tree["stimuli"].to_dataset()
    images = stimuli.isel(presentation=np.flatnonzero(stimuli.stimulus_name == IMAGES)[:8])
    width = 0.25  # start and end of the presentations are edges, and spikes lie on them
    aligned = cubes.align(tree["spikes"], images, window=(-0.25, 0.5), width=width, on="start_time").load()
    total = 0
    for uuid, counts in zip(aligned.uuid.values, aligned.counts.values, strict=True):
        times = units[uuid]
        for event, ours in zip(images.start_time.values, counts, strict=True):
            edges = event + np.array([-0.25, 0.0, 0.25, 0.5])
            closed = np.searchsorted(times, edges[1:], "right") - np.searchsorted(times, edges[:-1], "left")
            on_right = [np.count_nonzero(times == edge) for edge in edges[1:]]
            assert (closed - ours).tolist() == on_right
            total += sum(on_right)
    assert total > 20


def test_a_spike_at_the_very_onset_counts(root, pids, units):
    """A window (start, stop] would lose it."""
    tree = cubes.open(root, pids[0])
    images = tree["stimuli"].to_dataset().isel(presentation=slice(0, 6))
    aligned = cubes.align(tree["spikes"], images, window=(0, 0.001), width=0.001, on="start_time").load()
    at_onset = [[np.count_nonzero(times == event) for event in images.start_time.values] for times in units.values()]
    by_uuid = dict(zip(units, at_onset, strict=True))
    assert sum(map(sum, at_onset)) > 20
    for uuid, counts in zip(aligned.uuid.values, aligned.counts.values[..., 0], strict=True):
        assert (counts >= by_uuid[uuid]).all()


def test_psth_of_images(root, pids, units):
    tree = cubes.open(root, pids[0])
    aligned = cubes.align(tree["spikes"], tree["stimuli"], window=WINDOW, width=WIDTH, on="start_time").load()
    rates = cubes.psth(aligned, by="image_name")
    stimuli = tree["stimuli"].to_dataset()
    assert rates.image_name.values.tolist() == ["im012_r", "im036_r", "im047_r", "omitted"]  # and no empty one
    plain = aligned.assign_coords(image_name=aligned.image_name.astype(object))
    assert cubes.psth(plain, by="image_name").sizes["image_name"] == 4
    shown = (stimuli.image_name == "im036_r").values
    uuid = str(aligned.uuid[4].item())
    expected, _ = half_open(units[uuid], stimuli.start_time.values[shown], WINDOW, WIDTH)
    np.testing.assert_allclose(
        rates["mean"].isel(unit=4).sel(image_name="im036_r"), expected.mean(0) / WIDTH, rtol=1e-6
    )
    assert set(rates["n"].sel(image_name="im036_r").values.ravel()) == {int(shown.sum())}


def test_empty_text_makes_no_condition_and_only_empty_text_is_refused(root, pids):
    tree = cubes.open(root, pids[0])
    stimuli = tree["stimuli"].to_dataset()
    gabors = stimuli.isel(presentation=np.flatnonzero(stimuli.stimulus_name == "gabor_20_deg_250ms"))
    aligned = cubes.align(tree["spikes"], gabors, window=WINDOW, width=WIDTH, on="start_time")
    with pytest.raises(BadArgument, match="none of the 48 trials has a value of image_name"):
        cubes.psth(aligned, by="image_name")
    assert cubes.psth(aligned, by="orientation").sizes["orientation"] == 3


def test_the_same_lines_draw_both(root, pids):
    for pid, events, on, by in (
        (SAMPLE[0].pid, "trials", "stimOn_times", "side"),
        (pids[0], "stimuli", "start_time", "is_change"),
    ):
        tree = cubes.open(root, pid)
        aligned = cubes.align(tree["spikes"], tree[events], window=(-0.2, 0.5), width=0.02, on=on)
        figure = cubes.plot_psth(aligned.isel(unit=3), by=by, sd=0.02)
        upper, lower = figure.axes
        assert upper.get_ylabel() == f"{aligned.counts.dims[1].capitalize()}s"
        assert len(lower.lines) > 2


def test_counts_and_signals_around_presentations(root, pids):
    tree = cubes.open(root, pids[0])
    stimuli = tree["stimuli"].to_dataset().isel(presentation=slice(0, 8))
    counts = cubes.align(tree["counts_10ms"], stimuli, window=(0, 0.25), width=0.25, on="start_time")
    exact = cubes.align(tree["spikes"], stimuli, window=(0, 0.25), width=0.25, on="start_time")
    np.testing.assert_array_equal(counts.counts.values, exact.counts.values)  # onsets are edges of the cube
    speed = cubes.align(tree["running"].speed, stimuli, window=(0, 0.5), width=0.1, on="start_time")
    assert speed.speed.dims == ("presentation", "time")
    tested = cubes.responsive(exact.isel(presentation=slice(0, 8)), baseline=(0, 0.25), response=(0, 0.25))
    assert set(tested.p_value.values) == {1.0}


def test_events_of_another_session_are_refused(root, pids):
    spikes, other = cubes.open(root, pids[0])["spikes"], cubes.open(root, pids[1])["stimuli"]
    with pytest.raises(BadArgument, match="expected those of session allen-vbn-1044385384"):
        cubes.align(spikes, other, window=WINDOW, width=WIDTH, on="start_time")


@pytest.fixture(scope="module")
def pooled(root):
    return cubes.pool(root, recipe=ONSETS).load()


def test_a_pool_of_both_worlds_says_where_each_unit_is_from(root, pooled, pids):
    of = dict(zip(pooled.pid.values.tolist(), pooled.source.values.tolist(), strict=True))
    assert of == {SAMPLE[0].pid: "ibl", pids[0]: "allen-vbn", pids[1]: "allen-vbn"}
    assert {name.startswith("allen-vbn-") for name in pooled.unit.values[pooled.source == "allen-vbn"]} == {True}
    assert set(pooled.label.values[pooled.source == "allen-vbn"].astype(str)) == {"nan"}
    assert "ibl: amp_median" in pooled.good.attrs["criteria"]
    assert "allen-vbn: allen_default" in pooled.good.attrs["criteria"]
    assert pooled.condition_onset.attrs["expressions_allen-vbn"] == ["is_change == 1", "is_change == 0"]
    assert (pooled.time_onset.attrs["event"], pooled.time_onset.attrs["event_allen-vbn"]) == (
        "stimOn_times",
        "start_time",
    )
    assert {"firing_rate", "presence_ratio"} < set(pooled.coords)  # what both have
    assert "isolation_distance" in pooled.attrs["notes"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        xr.open_zarr(Path(root) / "pooled/onsets.zarr")


def test_a_pool_of_both_worlds_equals_brute_force(root, pooled, pids, units):
    stimuli = cubes.open(root, pids[0])["stimuli"].to_dataset()
    taken = (stimuli.active == 1) & (stimuli.omitted == 0)
    for condition, truth in (("strong", 1), ("weak", 0)):
        events = stimuli.start_time.values[taken & (stimuli.is_change == truth)]
        for uuid, times in units.items():
            found = pooled.sel(unit=uuid, condition_onset=condition)
            expected, _ = half_open(times, events, (-0.1, 0.3), 0.01)
            np.testing.assert_allclose(found.onset, expected.mean(0) / 0.01, rtol=1e-6)
            assert int(found.onset_n) == len(events)
    trials = cubes.open(root, SAMPLE[0].pid)["trials"].to_dataset()
    spikes = cubes.open(root, SAMPLE[0].pid)["spikes"].to_dataset()
    chosen = np.flatnonzero(trials.contrast >= 0.25)
    events = trials.stimOn_times.values[chosen]
    events = events[(events - 0.1 >= 0) & (events + 0.3 <= spikes.attrs["last_spike_s"])]
    row = int(np.argmax(spikes.row_size.values))
    start, size = (int(spikes[name][row]) for name in ("row_start", "row_size"))
    expected, _ = half_open(spikes.spike_time.values[start : start + size], events, (-0.1, 0.3), 0.01)
    found = pooled.sel(unit=str(spikes.uuid[row].item()), condition_onset="strong")
    np.testing.assert_allclose(found.onset, expected.mean(0) / 0.01, rtol=1e-6)


def test_without_the_other_world_in_the_recipe_its_insertions_are_left_out(root, pids):
    recipe = {name: value for name, value in ONSETS.items() if name != "of"} | {"name": "alone"}
    with pytest.raises(BadArgument, match=r"expected one of the times of the trials, .*start_time"):
        cubes.pool(root, recipe=recipe)
    left = cubes.pool(root, recipe=recipe | {"name": "ours"}, pids=[SAMPLE[0].pid])
    assert set(left.source.values) == {"ibl"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"of": {"elsewhere": {}}}, "of: expected data sets, ibl, allen-vbn"),
        ({"of": {"allen-vbn": {"regions": "beryl"}}}, r"of.allen-vbn: expected .*, got also regions"),
        ({"of": {"allen-vbn": {"alignments": {"other": {}}}}}, r"of.allen-vbn.alignments: expected onset, got 'other'"),
        (
            {"of": {"allen-vbn": {"alignments": {"onset": {"conditions": {"new": "active == 1"}}}}}},
            r"conditions: expected strong, weak, got new",
        ),
        ({"of": {"allen-vbn": {"alignments": {"onset": {"width": 1}}}}}, "expected on, conditions, got also width"),
        ({"events": "spikes"}, "events: expected a product of a session"),
        ({"of": {"allen-vbn": ONSETS["of"]["allen-vbn"] | {"trials": "activ == 1"}}}, "'activ'"),
        ({"of": {"allen-vbn": {"events": "licks"}}}, r"sessions/allen-vbn-\d+/licks.zarr"),
    ],
)
def test_recipes_that_cannot_be_used(root, change, message):
    with pytest.raises((BadArgument, NotFound, cubes.StoreError), match=message):
        cubes.pool(root, recipe=ONSETS | change | {"name": "wrong"})


def test_on_dask_the_same_bytes(source, pids, root, tmp_path):
    built = cubes.build(
        cubes.plan(source, pids[:1], ["stimuli", "running"], root=tmp_path / "again"), executor="dask", workers=1
    )
    for store in built:
        first = root / store.relative_to(tmp_path / "again")
        files = {path.relative_to(store) for path in store.rglob("c/*") if path.is_file()}
        assert files
        assert all((store / path).read_bytes() == (first / path).read_bytes() for path in files)
