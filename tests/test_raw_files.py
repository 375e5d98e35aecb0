"""The files of one band of one probe: never of another probe, band, segment or revision."""

from pathlib import Path

import pytest

from loaders.alf_paths import record_of
from loaders.errors import BadArgument, InconsistentData, NotFound
from loaders.raw_files import resolve_raw
from loaders.spikeglx_meta import read_meta

BASE = "raw_ephys_data/probe00/_spikeglx_ephysData_g0_t0.imec0"
BAND = ("ap.cbin", "ap.ch", "ap.meta")
FULL = (*BAND, "lf.cbin", "lf.ch", "lf.meta", "timestamps.npy", "sync.npy", "wiring.json")


def records(*bases, suffixes=FULL, default=False):
    return [record_of(Path("/session"), f"{base}.{suffix}", default=default) for base in bases for suffix in suffixes]


def names(files):
    found = (files.voltage, files.ch, files.meta, files.timestamps, files.sync)
    return [record and record.rel_path for record in found]


@pytest.mark.parametrize("imec", ["imec", "imec0", "imec00", "imec1", "imec01"])
@pytest.mark.parametrize("band", ["ap", "lf"])
def test_a_probe_under_any_of_its_names(imec, band):
    base = BASE.replace("imec0", imec)
    files = resolve_raw(records(base), "probe00", band)
    suffixes = (f"{band}.cbin", f"{band}.ch", f"{band}.meta", "timestamps.npy", "sync.npy")
    assert names(files) == [f"{base}.{suffix}" for suffix in suffixes]
    assert (files.probe, files.band, files.segment, files.compressed) == ("probe00", band, "g0_t0", True)


def test_the_clock_may_number_the_probe_with_other_zeros():
    mixed = records(BASE, suffixes=BAND) + records(f"{BASE}0", suffixes=("timestamps.npy",))
    assert resolve_raw(mixed, "probe00", "ap").timestamps.name.endswith("imec00.timestamps.npy")
    other = records(BASE, suffixes=BAND) + records(BASE.replace("imec0", "imec1"), suffixes=("timestamps.npy",))
    assert resolve_raw(other, "probe00", "ap").timestamps is None


def test_the_order_of_the_records_does_not_matter():
    listed = records(BASE, BASE.replace("probe00", "probe01"))
    assert resolve_raw(listed[::-1], "probe00", "ap") == resolve_raw(listed, "probe00", "ap")


def test_names_with_the_id_of_the_dataset():
    uuid = "0a018f12-ee06-4b11-97aa-bbbbccccdddd"
    listed = records(BASE, suffixes=(f"ap.{uuid}.cbin", f"ap.{uuid}.ch", f"ap.{uuid}.meta", f"sync.{uuid}.npy"))
    assert resolve_raw(listed, "probe00", "ap").sync.name.endswith(f"sync.{uuid}.npy")


def test_uncompressed_voltage_has_no_index():
    files = resolve_raw(records(BASE, suffixes=("ap.bin", "ap.meta")), "probe00", "ap")
    assert (files.voltage.name, files.ch, files.compressed) == (f"{Path(BASE).name}.ap.bin", None, False)
    assert files.timestamps is files.sync is None
    both = records(BASE, suffixes=("ap.bin", *BAND))
    assert resolve_raw(both, "probe00", "ap").voltage.name.endswith(".cbin")


def test_probes_are_never_mixed():
    everything = records(BASE, BASE.replace("probe00", "probe01"), BASE.replace("probe00", "probe00a"))
    for probe in ("probe00", "probe01", "probe00a"):
        files = resolve_raw(everything, probe, "ap")
        assert {record.collection for record in (files.voltage, files.ch, files.meta, files.sync)} == {
            f"raw_ephys_data/{probe}"
        }
    halves = records(BASE, suffixes=("ap.cbin", "ap.ch")) + records(
        BASE.replace("probe00", "probe01"), suffixes=("ap.meta",)
    )
    with pytest.raises(InconsistentData, match=r"ap\.cbin: its \.meta is missing from raw_ephys_data/probe00"):
        resolve_raw(halves, "probe00", "ap")


def test_two_probes_in_one_folder_are_ambiguous():
    with pytest.raises(InconsistentData, match=r"several recordings in one folder: .*imec0\.ap\.cbin, .*imec1\.ap\.cb"):
        resolve_raw(records(BASE, BASE.replace("imec0", "imec1")), "probe00", "ap")
    with pytest.raises(InconsistentData, match=r"several recordings in one folder: .*imec0\.ap\.cbin, .*imec00\.ap"):
        resolve_raw(records(BASE, f"{BASE}0"), "probe00", "ap")


def test_several_segments_are_refused_unless_one_is_chosen():
    bases = [BASE.replace("g0_t0", segment) for segment in ("g0_t0", "g0_t1", "g1_t0", "g0_t0.exported")]
    with pytest.raises(InconsistentData, match=r"choose one of g0_t0, g0_t0\.exported, g0_t1, g1_t0 \(segment=\)"):
        resolve_raw(records(*bases), "probe00", "lf")
    files = resolve_raw(records(*bases), "probe00", "lf", segment="g0_t1")
    assert names(files)[0] == f"{bases[1]}.lf.cbin"
    assert all("g0_t1" in name for name in names(files))
    with pytest.raises(NotFound, match=r"segment 'g2_t0' does not exist; segments that exist: g0_t0, g0_t0\.exp"):
        resolve_raw(records(*bases), "probe00", "lf", segment="g2_t0")
    assert resolve_raw(records(BASE), "probe00", "ap", segment="g0_t0") == resolve_raw(records(BASE), "probe00", "ap")


def test_files_of_catgt():
    assert resolve_raw(records(BASE.replace("_t0", "_tcat")), "probe00", "ap").segment == "g0_tcat"


def test_a_band_that_does_not_exist():
    with pytest.raises(NotFound, match=r"probe00: no lf band; bands that exist: ap$"):
        resolve_raw(records(BASE, suffixes=BAND), "probe00", "lf")
    with pytest.raises(NotFound, match=r"bands that exist: ap \(without its voltage there is only .*lf\.meta\)"):
        resolve_raw(records(BASE, suffixes=(*BAND, "lf.meta")), "probe00", "lf")
    with pytest.raises(BadArgument, match="expected one of ap, lf, got 'nidq'"):
        resolve_raw(records(BASE), "probe00", "nidq")


def test_a_probe_without_voltage():
    with pytest.raises(NotFound, match=r"probe07: no raw voltage in this session .*probes with raw files: probe00$"):
        resolve_raw(records(BASE), "probe07", "ap")
    with pytest.raises(NotFound, match="probes with raw files: none"):
        resolve_raw([], "probe00", "ap")
    nidq = record_of(Path("/session"), "raw_ephys_data/_spikeglx_ephysData_g0_t0.nidq.cbin")
    with pytest.raises(NotFound, match="probes with raw files: none"):
        resolve_raw([nidq], "probe00", "ap")


@pytest.mark.parametrize("missing", ["ch", "meta"])
def test_a_missing_companion_is_named(missing):
    listed = records(BASE, suffixes=[suffix for suffix in FULL if suffix != f"ap.{missing}"])
    with pytest.raises(InconsistentData, match=rf"imec0\.ap\.cbin: its \.{missing} is missing"):
        resolve_raw(listed, "probe00", "ap")


def test_voltage_index_and_meta_are_of_one_revision_and_the_clock_of_its_own():
    new = BASE.replace("probe00/", "probe00/#2024-05-06#/")
    voltage = records(BASE, new, suffixes=BAND)
    latest = resolve_raw(voltage, "probe00", "ap")
    assert {r.revision for r in (latest.voltage, latest.ch, latest.meta)} == {"2024-05-06"}
    chosen = records(BASE, suffixes=BAND, default=True) + records(new, suffixes=BAND)
    assert resolve_raw(chosen, "probe00", "ap").meta.revision == ""
    with pytest.raises(InconsistentData, match=r"its \.ch is missing"):
        resolve_raw(records(BASE, suffixes=BAND) + records(new, suffixes=("ap.cbin", "ap.meta")), "probe00", "ap")
    clock = records(BASE) + records(new, suffixes=("timestamps.npy",))
    files = resolve_raw(clock, "probe00", "ap")
    assert [r.revision for r in (files.voltage, files.timestamps, files.sync)] == ["", "2024-05-06", ""]


def test_the_files_of_the_sample(sample_root_with_voltage):
    import cubes

    source, bands = cubes.source("one", sample_root_with_voltage), []
    for insertion in source.insertions():
        listed = source.datasets(insertion)
        for path in sample_root_with_voltage.rglob(f"{insertion.probe}/*.cbin"):
            found = [record for record in listed if record.path == path]
            for record in found:
                bands.append(record.name.split(".")[-2])
                files = resolve_raw(listed, insertion.probe, bands[-1])
                assert files.voltage == record
                assert read_meta(files.meta.path).band == files.band
                assert files.timestamps is not None
    assert {"ap", "lf"} <= set(bands)
