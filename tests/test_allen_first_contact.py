"""First contact with the real bucket of Allen: do its files have the paths that the readers expect, and how are they
stored? ``pytest tests/test_allen_first_contact.py --network -s`` moves about 190 MB of tables, kept in the cache, and a
few MB of one session and one LFP file. The same survey runs on the fixture without a network.
"""

import re

import h5py
import pytest

import cubes
from loaders.hdf5_file import open_hdf5
from loaders.remote_file import open_file

_ELECTRODES = "general/extracellular_ephys/electrodes"
SESSION = (
    *("general/devices/probeA", "general/extracellular_ephys/probeA"),
    *(f"{_ELECTRODES}/{name}" for name in ("id", "x", "y", "z", "location", "probe_id", "group_name", "valid_data")),
    *(f"{_ELECTRODES}/probe_{name}" for name in ("channel_number", "vertical_position", "horizontal_position")),
    *(f"units/{name}" for name in ("id", "peak_channel_id", "quality", "waveform_mean", "waveform_mean_index")),
    *(f"units/spike_{name}" for name in ("times", "times_index", "amplitudes", "amplitudes_index")),
    *("intervals/trials/start_time", "intervals/spontaneous_presentations/start_time"),
    *("processing/stimulus/timestamps/timestamps", "processing/running/speed/data"),
    *("processing/licking/licks/timestamps", "processing/rewards/volume/data"),
    "acquisition/EyeTracking/pupil_tracking/area",
)
LFP = ("data", "timestamps", "electrodes")


def storage(data):
    """How a dataset is stored: what an index of its bytes needs."""
    offset = data.id.get_offset()
    return {
        "dtype": str(data.dtype),
        "shape": data.shape,
        "chunks": data.chunks,
        "filters": (data.compression, data.shuffle, data.fletcher32),
        "offset": offset,
    }


def survey(source, pid):
    """Paths that a session and an LFP file lack, and how what is there is stored; metadata alone is read."""
    insertion = source.insertion(pid)
    files = {record.collection: record for record in source.datasets(insertion)}
    lacking, stored = [], {}
    with open_hdf5(open_file(files[""])) as nwb:
        lacking += [path for path in SESSION if path not in nwb]
        stored |= {path: storage(nwb[path]) for path in SESSION if isinstance(nwb.get(path), h5py.Dataset)}
        stored["start"] = nwb["session_start_time"].asstr()[()]
        stored["stimuli"] = [name for name in nwb["intervals"] if name.endswith("_presentations")]
    with open_hdf5(open_file(files[insertion.probe])) as nwb:
        number = re.sub(r"\D", "", pid)
        series = nwb.get(f"acquisition/probe_{number}_lfp/probe_{number}_lfp_data")
        lacking += [f"LFP {name}" for name in LFP if series is None or name not in series]
        lacking += [] if f"acquisition/probe_{number}_lfp_data" in nwb else ["the second name of the LFP"]
        stored |= {f"LFP {name}": storage(series[name]) for name in LFP if series is not None and name in series}
    return lacking, stored


def test_the_survey_of_the_fixture_finds_every_path(allen_release, serve, tmp_path):
    server = serve(allen_release.folder)
    server.versions = allen_release.server_versions()
    source = cubes.source("allen-vbn", endpoint=server.url, cache=tmp_path)
    session = allen_release.sessions[0]
    lacking, stored = survey(source, f"allen-vbn-{session.probes[0].probe_id}")
    assert lacking == []
    assert stored["LFP data"]["chunks"] is None
    assert stored["LFP data"]["offset"] > 0
    assert stored["stimuli"][0].startswith("Natural_Images")
    lacking, _ = survey(source, f"allen-vbn-{allen_release.sessions[1].probes[0].probe_id}")
    assert [path.split("/")[1] for path in lacking] == ["licking", "rewards", "EyeTracking"]


@pytest.mark.network
def test_the_real_bucket_has_the_paths_that_the_readers_expect():
    source = cubes.source("allen-vbn")
    print("releases", source.release.versions())
    assert "0.5.0" in source.release.versions()
    probes = source.probes()
    assert len(source.sessions()) == 153
    assert len(probes) == 905
    print({name: source.table(name).attrs for name in ("ecephys_sessions", "probes", "channels", "units")})
    with_lfp = probes[probes.has_lfp_data & (probes.file_id >= 0)]
    lacking, stored = survey(source, f"allen-vbn-{with_lfp.ecephys_probe_id.iloc[0]}")
    for name, how in stored.items():
        print(name, how)
    assert lacking == []
