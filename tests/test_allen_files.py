"""The Allen fixture has what its tests need, and is NWB to others; and where it is tested that no trap catches us.

1. Tables, manifest and files of different releases: test_tables_of_another_release_are_refused,
   test_files_and_tables_are_those_of_one_release, test_a_file_of_another_session_is_refused
2. The rate of LFP in the table is that of the hardware: test_lfp
3. LFP of a wrong scale before 0.5.0: test_releases_before_0_5_0_are_refused_naming_the_lfp
4. Coordinates of (0, 0, 0), or -1000, are none: test_places, test_the_catalog_takes_left_right_from_the_table,
   test_unregistered_places_have_no_coordinates_and_keep_their_region
5. z a copy of y in Visual Coding: test_files_of_visual_coding, test_the_catalog_takes_left_right_from_the_table
6. Acronyms with and without substructure: test_acronyms_of_real_sessions_are_compared_in_both_forms,
   test_sessions_are_hidden_only_when_asked_and_counted, test_regions_at_all_levels_and_those_that_are_too_coarse
7. Local time that says it is UTC: test_the_date_is_the_day_in_seattle_as_in_the_file,
   test_the_date_is_not_moved_from_utc_to_seattle
8. Bins closed at both ends:
   test_counts_are_half_open_and_differ_from_closed_bins_by_spikes_on_right_edges_alone
9. Units whose metrics are NaN vanish: test_units_are_hidden_only_by_filters_and_nan_is_told_apart,
   test_good_is_a_named_rule_and_hides_no_unit
"""

import hashlib
import re
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import h5py
import numpy as np
import pytest
from allen_files import BUCKET, NEW, NO_FILE, OLD, TABLES, write_coding_release
from allen_truth import IMAGES, LFP_HZ
from s3_server import versioned_bucket


def test_a_reader_of_nwb_finds_units_trials_stimuli_and_lfp(allen_release: Any, tmp_path: Path) -> None:
    pynwb = pytest.importorskip("pynwb")
    coding = write_coding_release(tmp_path)
    paths = [allen_release.bucket / allen_release.session_key(session) for session in allen_release.sessions]
    for session, path in zip(
        (*allen_release.sessions, coding), (*paths, *tmp_path.rglob("session_*.nwb")), strict=True
    ):
        with pynwb.NWBHDF5IO(path, "r", load_namespaces=False) as opened:
            nwb = opened.read()
            assert list(nwb.units.id[:]) == [unit.unit_id for unit in session.units]
            places = nwb.units["peak_channel_id"][:]
            for i, unit in enumerate(session.units):
                np.testing.assert_array_equal(nwb.units["spike_times"][i], unit.times)
                assert places[i] == unit.probe.channel_ids[unit.row]
            assert list(nwb.electrodes.id[:]) == [i for probe in session.probes for i in probe.channel_ids]
            assert set(nwb.intervals) >= {f"{name}_presentations" for name in session.presentations}
            assert len(nwb.trials) == len(session.lick_times)
            assert ("invalid_times" in nwb.intervals) == session.coding
            assert ("EyeTracking" in nwb.acquisition) == (session.has_behavior and not session.coding)
    session = allen_release.sessions[0]
    probe = session.probes[0]
    path = allen_release.bucket / allen_release.lfp_key(session, probe)
    with pynwb.NWBHDF5IO(path, "r", load_namespaces=False) as opened:
        series = opened.read().acquisition[f"probe_{probe.probe_id}_lfp_data"]
        np.testing.assert_array_equal(series.data[:], probe.lfp.values)


def test_the_files_differ_in_what_readers_must_cope_with(allen_release: Any) -> None:
    whole, unregistered, fixed = allen_release.sessions
    opened = [h5py.File(allen_release.bucket / allen_release.session_key(s)) for s in allen_release.sessions]
    ids = [list(file["units/id"][:]) for file in opened]
    assert all(found != sorted(found) for found in ids)
    assert [opened[k]["units/spike_times_index"].dtype.name for k in range(3)] == ["uint16", "uint32", "uint16"]
    assert [opened[k]["units/spike_times"].chunks is None for k in range(3)] == [True, False, True]
    kinds = [h5py.check_string_dtype(file["units/quality"].dtype).length for file in opened]
    assert kinds == [None, None, 5]
    for session in allen_release.sessions:
        counts = [len(unit.times) for unit in session.units]
        assert (counts[0], counts[len(counts) // 2], counts[-1]) == (0, 0, 0)
        assert sum(counts) > 5000
        images = session.presentations[IMAGES]
        spikes = np.concatenate([unit.times for unit in session.units])
        assert np.isin([images["start_time"][0], images["stop_time"][0]], spikes).all()
    assert {"", "None"} <= set(opened[0]["general/extracellular_ephys/electrodes/location"].asstr()[:])
    assert ["lick_times_index" in opened[k]["intervals/trials"] for k in (0, 2)] == [True, False]
    assert not {"licking", "rewards", "optotagging"} & set(opened[1]["processing"])
    assert opened[0]["general/extracellular_ephys/probeA"].attrs["lfp_sampling_rate"] == LFP_HZ
    assert [bool(session.probes[0].ccf.any()) for session in (whole, unregistered)] == [True, False]
    assert fixed.abnormal_histology
    for file in opened:
        file.close()


def test_every_trap_has_its_tests() -> None:
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_allen_*.py"))
    named = set(re.findall(r"test_\w+", str(__doc__)))
    assert len(named) >= 15
    assert [name for name in sorted(named) if f"def {name}(" not in text] == []


def test_tables_have_what_readers_must_cope_with(allen_release: Any) -> None:
    sessions, channels, units = (allen_release.table(name) for name in ("ecephys_sessions", "channels", "units"))
    assert {"root", "grey", "DG"} <= set(channels.structure_acronym)
    assert channels.structure_acronym.isna().any()
    assert units.structure_acronym.isna().any()
    assert not channels.structure_acronym.str.contains("-", na=False).any()
    assert sessions.structure_acronyms.str.contains("'DG-mo'").any()  # the repr of a list, not stripped
    assert (channels[[name for name in channels if name.endswith("ccf_coordinate")]] == 0).all(axis=1).sum() == 768
    assert sessions.prior_exposures_to_image_set.tolist()[::2] == [14, 14]
    assert np.isnan(sessions.prior_exposures_to_image_set[1])  # a hole among whole numbers
    assert sessions.abnormal_histology.isna().tolist() == [True, True, False]
    assert units.isi_violations.isna().any()


def test_stimuli_have_what_readers_must_cope_with(allen_release: Any) -> None:
    path = allen_release.bucket / allen_release.session_key(allen_release.sessions[0])
    with h5py.File(path) as file:
        images = file[f"intervals/{IMAGES}_presentations"]
        assert images["is_image_novel"].dtype.kind == "f"  # truth values with holes
        assert np.isnan(images["is_image_novel"][:]).any()
        assert (images["trials_id"][:] == -99).any()  # no trial
        assert "N/A" in file["intervals/flash_250ms_presentations/color"].asstr()[:]
        assert len(set(file["intervals/spontaneous_presentations/stimulus_block"][:])) == 2
        assert file["intervals/trials/lick_times_index"].dtype == np.uint8
        assert file["intervals/gabor_20_deg_250ms_presentations/timeseries"].dtype.kind == "V"
        electrodes = file["general/extracellular_ephys/electrodes"]
        assert (~electrodes["valid_data"][:].astype(bool)).sum() == 2
        places = dict(zip(electrodes["id"][:], electrodes["probe_id"][:], strict=True))
        probes = [places[channel] for channel in file["units/peak_channel_id"][:]]
        assert probes not in (sorted(probes), sorted(probes, reverse=True))


def test_lfp_has_what_readers_must_cope_with(allen_release: Any) -> None:
    kinds = set()
    for session in allen_release.sessions:
        for probe in filter(lambda probe: probe.lfp is not None, session.probes):
            name = f"probe_{probe.probe_id}_lfp"
            with h5py.File(allen_release.bucket / allen_release.lfp_key(session, probe)) as file:
                series = file[f"acquisition/{name}/{name}_data"]
                assert file[f"acquisition/{name}_data"] == series  # under both names
                data, stamps = series["data"], series["timestamps"][:]
                numbers = file["general/extracellular_ephys/electrodes/probe_channel_number"][:]
                kinds.add("contiguous" if data.chunks is None else f"{data.compression} {data.shuffle}")
                kinds.add("gap" if np.ptp(np.diff(stamps)) > 1 else "no gap")
                steps = data[:] / np.float32(probe.lfp.gain_v)
                kinds.add("steps" if np.abs(steps - np.rint(steps)).max() < 0.01 else "no steps")
            assert (np.diff(numbers) < 0).any()
            assert len(numbers) < 384
    assert kinds == {"contiguous", "gzip True", "gap", "no gap", "steps", "no steps"}


def test_visual_coding_has_what_readers_must_cope_with(tmp_path: Path) -> None:
    session = write_coding_release(tmp_path)
    with h5py.File(next(tmp_path.rglob(f"session_{session.session_id}.nwb"))) as file:
        electrodes = file["general/extracellular_ephys/electrodes"]
        assert "local_index" in electrodes
        assert "probe_channel_number" not in electrodes
        np.testing.assert_array_equal(electrodes["z"][:], electrodes["y"][:])
        assert np.isnan(electrodes["x"][:]).any()
        times = file["units/spike_times"][:]
        assert (times == -1).sum() == 2
        assert {"tags", "tags_index"} <= set(file["intervals/invalid_times"])


def test_versions_share_what_is_equal_and_the_manifest_is_true_but_for_one_file(allen_release: Any) -> None:
    for version, n_wrong in ((OLD, 0), (NEW, 1)):
        manifest = allen_release.manifests[version]
        assert set(manifest["metadata_files"]) == set(TABLES)
        entries = [*manifest["metadata_files"].values(), *manifest["data_files"].values()]
        keys = [entry["url"].split(".com/")[1] for entry in entries]
        bodies = [
            allen_release.objects[key, entry["version_id"]].read_bytes()
            for key, entry in zip(keys, entries, strict=True)
        ]
        wrong = [
            key
            for key, entry, body in zip(keys, entries, bodies, strict=True)
            if hashlib.blake2b(body).hexdigest() != entry["file_hash"]
        ]
        assert len(wrong) == n_wrong
        assert all(key.endswith("_lfp.nwb") for key in wrong)
    assert (allen_release.table("probes").file_id == NO_FILE).sum() == 1
    assert set(allen_release.table("ecephys_sessions").file_id) == {5, 6, 7}


def test_servers_give_every_version(allen_release: Any, serve: Any) -> None:
    server = serve(allen_release.folder)
    server.versions = allen_release.server_versions()
    objects = [
        (key, version_id, path) for (key, version_id), path in allen_release.objects.items() if ".nwb" not in key
    ]
    with versioned_bucket(BUCKET, objects) as endpoint:
        for key, version_id, path in objects:
            for address in (server.url, endpoint):
                with urlopen(f"{address}/{BUCKET}/{key}?versionId={version_id}") as answer:
                    assert answer.read() == path.read_bytes()
