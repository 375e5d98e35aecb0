"""The Allen fixture has what its tests need, and is NWB to others."""

import hashlib
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
