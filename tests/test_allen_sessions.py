"""Session stores of Allen recordings, against the truth of the generated release."""

import json
import warnings

import h5py
import numpy as np
import pytest
import xarray as xr
from allen_files import CODING_BUCKET, write_coding_release
from allen_nwb_files import write_session
from allen_truth import IMAGES, MONITOR_DELAY_S

import cubes
from chunking.session_products import session_products
from cubes.cli import run
from loaders.errors import CorruptData, InconsistentData, NotFound, PlanRefused
from loaders.nwb_table import as_numbers, as_text, read_nwb_table
from loaders.records import DatasetRecord, Insertion

EVERYTHING = {"trials", "stimuli", "running", "licks", "rewards", "eye_tracking", "optotagging"}


class OneFile:
    """A catalog of one session file, which a test may change."""

    def __init__(self, path):
        self.path = path
        self.only = Insertion("allen-vbn-1", "allen-vbn-2", "probeA", "allen", dataset="allen-vbn")

    def insertions(self):
        return [self.only]

    def insertion(self, pid):
        return self.only

    def datasets(self, insertion):
        return [DatasetRecord(self.path.name, "", "", self.path.name, self.path)]

    def store(self, product, root):
        cubes.build(cubes.plan(self, [self.only.pid], [product], root=root))
        return xr.open_zarr(root / f"sessions/{self.only.eid}/{product}.zarr", chunks=None)


@pytest.fixture(scope="module")
def source(allen_release, tmp_path_factory):
    return cubes.source("allen-vbn", allen_release.bucket, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def root(source, tmp_path_factory):
    root = tmp_path_factory.mktemp("stores")
    cubes.build(cubes.plan(source, [insertion.pid for insertion in source.insertions()], ["session"], root=root))
    return root


@pytest.fixture
def stored(root):
    return lambda session, product: xr.open_zarr(
        root / f"sessions/allen-vbn-{session.session_id}/{product}.zarr", chunks=None
    )


@pytest.fixture
def edited(allen_release, tmp_path):
    """A copy of the file of a session, changed by a function, as a catalog."""

    def edit(change, session=0):
        chosen = allen_release.sessions[session]
        path = tmp_path / f"ecephys_session_{chosen.session_id}.nwb"
        write_session(path, chosen)
        with h5py.File(path, "r+") as file:
            change(file)
        return OneFile(path)

    return edit


@pytest.fixture(scope="module")
def coding(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coding")
    session = write_coding_release(folder)
    return session, cubes.source("allen-vc", folder / CODING_BUCKET, cache=folder / "cache")


def test_the_product_session_stands_for_what_there_is(allen_release, root):
    for session in allen_release.sessions:
        found = {path.stem for path in root.glob(f"sessions/allen-vbn-{session.session_id}/*.zarr")}
        lacking = set() if session.has_behavior else {"licks", "rewards", "eye_tracking"}
        lacking |= set() if session.has_optotagging else {"optotagging"}
        assert found == EVERYTHING - lacking


@pytest.mark.parametrize("product", sorted(EVERYTHING))
def test_plain_xarray_opens_a_store_without_a_warning(stored, allen_release, product):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = stored(allen_release.sessions[0], product)
    assert (ds.attrs["eid"], ds.attrs["pid"]) == ("allen-vbn-1044385384", "")
    (source,) = json.loads(ds.attrs["sources"])
    assert len(source["blake2b"]) == 128
    assert ds.attrs["nwb_session_start_time"].startswith("2020-08-19T14:47:08")
    without_units = {"angle", "level"}  # the files do not say
    for name, variable in ds.variables.items():
        assert variable.attrs["long_name"], name
        assert variable.dtype.kind != "f" or "units" in variable.attrs or name in without_units, name


@pytest.mark.parametrize("k", range(3))
def test_trials_have_the_columns_of_the_file(allen_release, stored, k):
    session = allen_release.sessions[k]
    ds = stored(session, "trials")
    assert set(session.trials) < set(ds.variables)
    for name, truth in session.trials.items():
        if truth.dtype.kind == "O":
            assert ds[name].values.tolist() == truth.tolist()
        else:
            expected = truth.astype(float)
            expected[expected == -99] = np.nan
            np.testing.assert_array_equal(ds[name], expected, err_msg=name)
            assert ds[name].dtype == np.float64
    assert ds.trial.values.tolist() == ds.trials_id.values.tolist() == [0, 1, 2, 3]
    assert np.isnan(ds.change_frame[3])
    assert ds.hit.attrs["flag_meanings"] == "false true"
    assert "NOT IMPLEMENTED" not in str({name: v.attrs for name, v in ds.variables.items()})


@pytest.mark.parametrize("k", range(3))
def test_licks_of_trials_are_ragged_with_an_index_in_the_file_and_without(allen_release, stored, k):
    session = allen_release.sessions[k]
    ds = stored(session, "trials")
    assert ds.lick_row_size.attrs["sample_dimension"] == "lick"
    starts, sizes = ds.lick_row_start.values, ds.lick_row_size.values
    of_trials = [ds.lick_times.values[a : a + n].tolist() for a, n in zip(starts, sizes, strict=True)]
    assert of_trials == [times.tolist() for times in session.lick_times]
    assert ("no index" in ds.attrs["notes"]) == (not session.licks_indexed)


def test_licks_without_an_index_are_of_the_trial_that_they_lie_in(edited, tmp_path):
    def write(file, times):
        table = file["intervals/trials"]
        del table["lick_times"], table["lick_times_index"]
        table["lick_times"] = times

    ragged = edited(lambda file: write(file, [4.6, 5.0, 10.6, np.nan])).store("trials", tmp_path / "a")
    assert ragged.lick_row_size.values.tolist() == [2, 0, 1, 0]
    assert ragged.lick_times.values.tolist() == [4.6, 5.0, 10.6]
    for k, outside_s in enumerate((1.0, 20.0)):
        licks = [outside_s, 5.0, 10.6, 12.0]
        unknown = edited(lambda file, licks=licks: write(file, licks)).store("trials", tmp_path / str(k))
        assert "lick_times" not in unknown
        assert "lick_times: left out" in unknown.attrs["notes"]


@pytest.mark.parametrize("k", range(3))
def test_stimuli_are_all_tables_in_order_of_time(allen_release, stored, k):
    session = allen_release.sessions[k]
    ds = stored(session, "stimuli")
    rows = [
        {name: values[i] for name, values in table.items()}
        for table in session.presentations.values()
        for i in range(len(table["start_time"]))
    ]
    rows.sort(key=lambda row: row["start_time"])
    assert ds.sizes == {"presentation": len(rows)}
    assert {name for row in rows for name in row} == set(ds.variables) - {"presentation"}
    text = {"stimulus_name", "image_name", "color"}
    for name in sorted(set(ds.variables) - {"presentation"}):
        if name in text:
            assert ds[name].values.tolist() == [str(row.get(name, "")).replace("N/A", "") for row in rows], name
        else:
            expected = np.array([float(row.get(name, np.nan)) for row in rows])
            expected[expected == (-99 if name == "trials_id" else np.inf)] = np.nan
            np.testing.assert_array_equal(ds[name], expected, err_msg=name)
            assert ds[name].dtype == np.float64
    assert np.unique(ds.stimulus_block.values[ds.stimulus_name.values == "spontaneous"]).tolist() == [1, 3]
    assert int((ds.omitted == 1).sum()) == 4


def test_presentations_name_their_trials(allen_release, stored):
    session = allen_release.sessions[0]
    stimuli, trials = stored(session, "stimuli"), stored(session, "trials")
    active = stimuli.active == 1
    assert np.isfinite(stimuli.trials_id[active]).all()
    assert np.isnan(stimuli.trials_id[~active]).all()
    of_first = stimuli.start_time[stimuli.trials_id == trials.trials_id[0]]
    assert ((of_first >= trials.start_time[0]) & (of_first < trials.stop_time[0])).all()


def test_what_the_delay_of_the_monitor_is_part_of_is_said(allen_release, stored):
    """Trap 10: the change of the trials is 20 ms before the start of the presentation."""
    session = allen_release.sessions[0]
    stimuli, trials = stored(session, "stimuli"), stored(session, "trials")
    changes = stimuli.start_time.values[(stimuli.is_change == 1) & (stimuli.active == 1)]
    sent = trials.change_time_no_display_delay
    for time in sent.values[np.isfinite(sent.values)]:
        assert np.abs(changes - time - MONITOR_DELAY_S).min() < 1e-9
    assert "0.02 s before" in sent.attrs["delay"]
    assert "is in it" in stimuli.start_time.attrs["delay"]


def test_running_licks_and_rewards(allen_release, stored):
    session = allen_release.sessions[0]
    times, speed = session.running
    running = stored(session, "running")
    np.testing.assert_array_equal(running.time, times)
    np.testing.assert_array_equal(running.speed, speed)
    assert running.speed.attrs["units"] == "cm/s"
    assert {"speed_unfiltered", "dx"} < set(running.variables)
    licks = stored(session, "licks")
    np.testing.assert_array_equal(licks.times, np.concatenate(session.lick_times))
    rewards = stored(session, "rewards")
    rewarded = session.trials["reward_time"]
    np.testing.assert_array_equal(rewards.times, rewarded[np.isfinite(rewarded)])
    assert set(rewards.volume.values) == {0.005}
    assert rewards.autorewarded.values.tolist() == [0.0] * rewards.sizes["reward"]


def test_eyes_are_in_pixels_and_not_masked(allen_release, stored):
    session = allen_release.sessions[0]
    ds = stored(session, "eye_tracking")
    assert ds.part.values.tolist() == ["eye", "pupil", "corneal_reflection"]
    pupil = ds.sel(part="pupil")
    np.testing.assert_array_equal(pupil.position.sel(space="x"), 321 + np.sin(session.frames))
    np.testing.assert_array_equal(pupil.position.sel(space="y"), 240 + np.cos(session.frames))
    assert ds.position.attrs["units"] == "px"  # the file says meters
    assert np.isfinite(ds.area_raw).all()
    assert np.flatnonzero(np.isnan(pupil.area)).tolist() == np.flatnonzero(ds.likely_blink).tolist() == [*range(30, 36)]
    assert set(pupil.width.values) == {10.0}


def test_optotagging_and_abnormal_activity(allen_release, stored, source):
    ds = stored(allen_release.sessions[0], "optotagging")
    assert ds.start_time.values.tolist() == [57.5, 58.5, 59.2]
    assert ds.condition.values.tolist()[-1] == "half-period of a cosine wave"
    fixed = allen_release.sessions[2]
    assert stored(fixed, "trials").attrs["comment"].endswith("abnormal activity at 12, 30 s")
    assert "comment" not in stored(allen_release.sessions[0], "trials").attrs


@pytest.mark.parametrize("product", ["licks", "rewards", "eye_tracking", "optotagging"])
def test_what_a_session_lacks_is_named(source, allen_release, tmp_path, product):
    pid = f"allen-vbn-{allen_release.sessions[1].probes[0].probe_id}"
    with pytest.raises(NotFound, match=r"session allen-vbn-1044016459: no .*: the session file has no /"):
        cubes.plan(source, [pid], [product], root=tmp_path)


def test_products_of_the_other_world_are_refused(source, sample_source, tmp_path):
    with pytest.raises(PlanRefused, match=r"'wheel': does not exist; expected .*stimuli"):
        cubes.plan(source, [source.insertions()[0].pid], ["wheel"], root=tmp_path)
    with pytest.raises(PlanRefused, match=r"'stimuli': does not exist; expected .*wheel"):
        cubes.plan(sample_source, [sample_source.insertions()[0].pid], ["stimuli"], root=tmp_path)
    assert {"trials", "licks"} == set(session_products("best")) & set(session_products("best", "allen-vbn"))


def test_visual_coding(coding, tmp_path):
    session, catalog = coding
    cubes.build(cubes.plan(catalog, [catalog.insertions()[0].pid], ["session"], root=tmp_path))
    tree = cubes.open_session(tmp_path, f"allen-vc-{session.session_id}")
    assert set(tree.children) == {"trials", "stimuli", "running", "optotagging", "invalid_times"}
    invalid = tree["invalid_times"]
    assert invalid.label.values.tolist() == ["probeA", "stimulus", "all_probes"]
    assert invalid.scope.values.tolist() == ["EcephysProbe", "EcephysSession", "EcephysSession"]
    assert invalid.start_time.values.tolist() == [20.0, 30.0, 50.0]
    times, speed = session.running
    np.testing.assert_array_equal(tree["running"].speed, speed)
    np.testing.assert_array_equal(tree["running"].end_time, times + 1 / 60)
    np.testing.assert_array_equal(tree["running"].wheel_rotation, speed / 60)
    assert tree["running"].wheel_rotation.attrs["units"] == "rad"


def test_unknown_columns_pass_and_what_is_no_column_is_noted(edited, tmp_path):
    def change(file):
        table = file[f"intervals/{IMAGES}_presentations"]
        n = len(table["id"])
        table["new_number"], table["odd"] = np.arange(n) * 0.5, np.zeros((n, 2))
        table["size"] = np.array(["[250.0, 250.0]"] * n, dtype=h5py.string_dtype())

    ds = edited(change).store("stimuli", tmp_path / "root")
    images = ds.stimulus_name.values == IMAGES
    assert ds.new_number.values[images].tolist() == [0.5 * i for i in range(int(images.sum()))]
    assert np.isnan(ds.new_number.values[~images]).all()
    assert set(ds["size"].values) == {"[250.0, 250.0]", ""}
    assert "'odd' is left out" in ds.attrs["notes"]


@pytest.mark.parametrize(
    ("path", "values", "product", "error", "message"),
    [
        ("intervals/trials/go", np.zeros(3, bool), "trials", InconsistentData, r"expected 4 rows .*'go': 3"),
        ("intervals/trials/start_time", None, "trials", InconsistentData, "expected a column start_time of times"),
        ("intervals/trials/lick_times_index", [1, 0, 2, 3], "trials", InconsistentData, "rows that end in order"),
        ("processing/running/speed/data", np.zeros(5), "running", InconsistentData, "as many times as data"),
        ("processing/running/speed/timestamps", None, "running", CorruptData, "not as expected"),
        ("processing/running/dx/timestamps", np.zeros(3596), "running", InconsistentData, "times of the series beside"),
        ("acquisition/EyeTracking/pupil_tracking/area", np.zeros(7), "eye_tracking", InconsistentData, "shape .3596"),
        ("intervals/trials", None, "trials", NotFound, "no trials"),
    ],
)
def test_damaged_files_are_refused(edited, tmp_path, path, values, product, error, message):
    def change(file):
        del file[path]
        if values is not None:
            file[path] = values

    catalog = edited(change)
    with pytest.raises(error, match=message):
        cubes.plan(catalog, [catalog.only.pid], [product], root=tmp_path / "root")


def test_numbers_and_text_of_tables(tmp_path):
    with h5py.File(tmp_path / "table.h5", "w") as file:
        file["t/id"] = [0, 1]
        file["t/missing"], file["t/real"] = np.array([-99, 3]), np.array([-99.0, 3.0])
        file["t/words"] = np.array(["N/A", "a"], dtype=h5py.string_dtype("utf-8", 5))
        file["t/refs"] = np.array([file["t"].ref] * 2, dtype=h5py.ref_dtype)
        file["t/image_index"], file["t/refs_index"] = np.array([7, 8]), np.array([1, 2], np.uint8)
        table = read_nwb_table(file["t"], notes := [])
    np.testing.assert_array_equal(table.columns["missing"], [np.nan, 3])
    np.testing.assert_array_equal(table.columns["real"], [-99, 3])
    assert table.columns["words"].tolist() == ["", "a"]
    assert table.columns["image_index"].tolist() == [7, 8]  # the index of no other column
    assert set(table.columns) == {"missing", "real", "words", "image_index"}
    assert not notes
    np.testing.assert_array_equal(as_numbers(np.array(["0.08", ""], object)), [0.08, np.nan])
    assert as_text(np.array([0.1, np.nan, 250, -1])).tolist() == ["0.1", "", "250", "-1"]
    exact = np.array([1 / 3, 0.1 + 0.2, 3599.123456789012, 1e-9])  # of a column that is text in another table
    np.testing.assert_array_equal(as_numbers(as_text(exact)), exact)


def test_command_line_builds_verifies_and_tells_the_state(allen_release, source, tmp_path, capsys):
    folder, root = str(allen_release.bucket), str(tmp_path / "root")
    pid = source.insertions()[0].pid
    assert run(["build", pid, "--source", folder, "--to", root, "--products", "trials", "stimuli"]) == 0
    for command in (["verify", root, "--source", folder], ["status", root], ["ls", root]):
        assert run(command) == 0, command
    assert "stimuli" in capsys.readouterr().out
    (chunk,) = (tmp_path / "root").rglob("stimuli.zarr/start_time/c/0")
    chunk.write_bytes(chunk.read_bytes()[:-1])
    assert run(["verify", root]) == 1
    assert run(["repair", root, "--source", folder]) == 0
    assert not any(cubes.verify(root, source=source).values())


def test_from_a_server_the_same_bytes_and_not_the_whole_file(allen_release, root, allen_endpoint, tmp_path):
    session = allen_release.sessions[0]
    pid = f"allen-vbn-{session.probes[0].probe_id}"
    remote = cubes.source("allen-vbn", cache=tmp_path / "cache", endpoint=allen_endpoint)
    built = cubes.build(cubes.plan(remote, [pid], ["session"], root=tmp_path / "remote"))
    for store in built:
        local = root / store.relative_to(tmp_path / "remote")
        names = sorted(path.relative_to(store) for path in store.rglob("*") if path.is_file())
        assert names == sorted(path.relative_to(local) for path in local.rglob("*") if path.is_file())
        for name in set(names) - {type(names[0])("manifest.json")}:
            assert (store / name).read_bytes() == (local / name).read_bytes(), name
    assert not list((tmp_path / "cache").rglob("*.nwb"))
