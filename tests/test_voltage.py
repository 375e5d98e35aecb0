"""AP and LF as stored cubes: against spikeglx and mtscomp, and against what is known of the sample."""

import json
import shutil

import numpy as np
import pytest
import spikeglx
import xarray as xr

import cubes
from cubes.cli import run
from loaders.errors import BadArgument, CorruptData, InconsistentData, NotFound, PlanRefused
from loaders.flat_binary import FlatBinary
from loaders.sample import SAMPLE
from loaders.sync_lines import find_edges

PIDS = [probe.pid for probe in SAMPLE]
BANDS = [(probe.pid, band) for probe in SAMPLE for band in ("ap", "lf") if band == "ap" or probe.lf_samples]


@pytest.fixture(scope="module")
def source(sample_root_with_voltage):
    return cubes.source("one", sample_root_with_voltage)


@pytest.fixture(scope="module")
def root(source, tmp_path_factory):
    root = tmp_path_factory.mktemp("voltage")
    for probe in SAMPLE:
        bands = ["ap", "lf"] if probe.lf_samples else ["ap"]
        cubes.build(cubes.plan(source, [probe.pid], [*bands, "channels"], root=root))
    return root


def probe_of(pid):
    return next(probe for probe in SAMPLE if probe.pid == pid)


def cbin_of(folder, pid, band):
    probe = probe_of(pid)
    (path,) = (folder / probe.session / "raw_ephys_data" / probe.probe).glob(f"*.{band}.cbin")
    return path


@pytest.fixture(params=BANDS, ids=lambda value: f"{value[0][:4]}-{value[1]}")
def both(request, root, sample_root_with_voltage):
    """One band of our store, and IBL's reader of the same file, in raw order."""
    pid, band = request.param
    with spikeglx.Reader(cbin_of(sample_root_with_voltage, pid, band), sort=False) as reader:
        yield probe_of(pid), band, cubes.open(root, pid)[band].to_dataset(), reader


def test_samples_are_equal_bit_for_bit(both):
    _, band, ds, reader = both
    raw = reader._raw[0 : reader.ns]
    assert ds[band].dtype == "int16"
    assert ds[band].shape == (reader.nc - reader.nsync, reader.ns)
    np.testing.assert_array_equal(ds[band].values, raw[:, : -reader.nsync].T)


def test_microvolts_are_those_of_spikeglx(both):
    _, band, ds, reader = both
    window = ds[band].isel(time=slice(100, 200))
    ours = cubes.to_uv(window)
    assert ours.dtype == "float32"
    assert ours.attrs["units"] == "uV"
    volts, _ = reader.read(slice(100, 200))
    np.testing.assert_allclose(ours.values, 1e6 * volts[:, : -reader.nsync].T, rtol=1e-6)


def test_geometry_is_that_of_spikeglx_in_raw_order(both):
    _, _, ds, reader = both
    for ours, theirs in (
        ("x_um", "x"),
        ("y_um", "y"),
        ("shank", "shank"),
        ("row", "row"),
        ("adc", "adc"),
        ("sample_shift", "sample_shift"),
    ):
        np.testing.assert_array_equal(ds[ours], reader.geometry[theirs], err_msg=ours)


def test_every_channel_has_the_region_of_its_site(both, root):
    probe, _, ds, _ = both
    sites = cubes.open(root, probe.pid)["channels"].to_dataset().load()
    for name in ("acronym_allen", "acronym_cosmos", "atlas_id", "hemisphere", "x", "ccf_ap", "ccf_dv"):
        np.testing.assert_array_equal(ds[name], sites[name][np.argsort(sites["raw_ind"].values)], err_msg=name)


def test_time_is_the_clock_of_the_sample(both):
    probe, band, ds, _ = both
    samples = np.arange(0, ds.sizes["time"], 997)
    per_sample = 12 if band == "lf" else 1
    expected = probe.clock.session_s(samples * per_sample)
    np.testing.assert_allclose(ds.time.values[samples], expected, rtol=0, atol=1e-7)
    start = float(ds.time[500])
    window = ds.sel(time=slice(start, start + 0.1))
    assert window.sizes["time"] == pytest.approx(0.1 * ds.attrs["sampling_rate_hz"], abs=1.5)
    np.testing.assert_array_equal(window[band], ds[band].isel(time=slice(500, 500 + window.sizes["time"])))


def test_plain_xarray_opens_it_and_the_clock_is_attached_afterwards(root):
    with xr.open_zarr(root / f"insertions/{PIDS[0]}/ap.zarr", chunks=None) as ds:
        assert "time" not in ds.coords
        assert ds.ap.attrs["units"] == "count"
        xr.testing.assert_equal(cubes.attach_clock(ds).time, cubes.open(root, PIDS[0])["ap"].time)


def test_attributes_and_sources(root):
    attrs = cubes.open(root, PIDS[0])["ap"].attrs
    assert attrs["sampling_rate_hz"] == pytest.approx(30000.390639481)
    assert (attrs["probe_version"], attrs["n_sync_channels_left_out"]) == ("3B2", 1)
    sources = {file["path"].rsplit("/", 1)[1]: file for file in json.loads(attrs["sources"])}
    voltage = sources["_spikeglx_ephysData_g0_t0.imec0.ap.cbin"]
    assert len(voltage["sha1"]) == 40
    assert "md5" not in voltage  # that of the catalog, which others do not have, is in the manifest only
    manifest = json.loads((root / f"insertions/{PIDS[0]}/ap.zarr/manifest.json").read_text())
    assert [len(file["md5"]) for file in manifest["sources"] if file["sha1"]] == [32]
    assert any(name.endswith("timestamps.npy") for name in sources)
    assert "electrodeSites.mlapdv.npy" in sources
    assert "spikes.times.npy" not in sources


def test_a_window(source, root, tmp_path):
    full = cubes.open(root, PIDS[0])["ap"].to_dataset()
    start, stop = float(full.time[1000]), float(full.time[45_000])
    cubes.build(cubes.plan(source, PIDS[:1], ["ap"], root=tmp_path, window_s=(start, stop)))
    part = cubes.open(tmp_path, PIDS[0])["ap"].to_dataset()
    assert part.sizes["time"] == 44_000
    np.testing.assert_array_equal(part.ap, full.ap.isel(time=slice(1000, 45_000)))
    np.testing.assert_array_equal(part.time, full.time.isel(time=slice(1000, 45_000)))
    with pytest.raises(PlanRefused, match=r"the recording lasts from -0\.012 to 1\.98\d* s"):  # not to its last knot
        cubes.plan(source, PIDS[:1], ["ap"], root=tmp_path, window_s=(60.0, 61.0))
    with pytest.raises(PlanRefused, match="window 3:1 s: expected it to begin before it ends"):
        cubes.plan(source, PIDS[:1], ["ap"], root=tmp_path, window_s=(3.0, 1.0))
    with pytest.raises(PlanRefused, match="window: none of the products spikes, counts_1s takes one"):
        cubes.plan(source, PIDS[:1], ["spikes", "counts_1s"], root=tmp_path, window_s=(0.0, 1.0))
    for window in ((500.0, 600.0), (np.nan, 1.0)):
        with pytest.raises(PlanRefused, match=r"product ap: window"):
            cubes.plan(source, PIDS[:1], ["ap"], root=tmp_path, window_s=window)


@pytest.mark.parametrize("layout", ["by-time", "by-channel"])
def test_layouts_change_chunks_and_nothing_else(source, root, tmp_path, layout):
    cubes.build(cubes.plan(source, PIDS[1:2], ["ap", "lf"], root=tmp_path, voltage_layout=layout), workers=1)
    for band in ("ap", "lf"):
        ours, reference = (cubes.open(where, PIDS[1])[band].to_dataset() for where in (tmp_path, root))
        assert ours[band].chunks != reference[band].chunks
        np.testing.assert_array_equal(ours[band], reference[band])


def test_a_band_that_does_not_exist(source, tmp_path):
    with pytest.raises(NotFound, match=f"pid {PIDS[2]}: probe00: no lf band; bands that exist: ap"):
        cubes.plan(source, PIDS[2:], ["lf"], root=tmp_path)
    with pytest.raises(PlanRefused, match="layouts that exist: balanced"):
        cubes.plan(source, PIDS[2:], ["ap"], root=tmp_path, voltage_layout="x")


@pytest.fixture
def session(sample_root_with_voltage, tmp_path):
    """A session folder of its own, to be damaged; and the source over it."""
    probe = SAMPLE[2]
    folder = shutil.copytree(sample_root_with_voltage / probe.session, tmp_path / "session")
    return folder, cubes.source("folder", folder), folder / "raw_ephys_data/probe00"


def test_a_folder_without_a_sorting_gives_voltage_with_geometry_alone(session, tmp_path):
    folder, _, _ = session
    for path in (folder / "alf/probe00").rglob("*"):
        if path.is_file():
            path.unlink()
    source = cubes.source("folder", folder)
    (pid,) = [insertion.pid for insertion in source.insertions()]
    cubes.build(cubes.plan(source, [pid], ["ap"], root=tmp_path / "root"))
    ds = cubes.open(tmp_path / "root", pid)["ap"]
    assert set(ds.acronym_allen.values.tolist()) == {"void"}
    assert np.isnan(ds.x).all()
    assert len(np.unique(ds.shank)) == 4
    assert "no spike sorting" in ds.attrs["notes"]


def truncate(raw):
    path = next(raw.glob("*.ap.cbin"))
    path.write_bytes(path.read_bytes()[:-100])


def flip_in_a_chunk(raw):
    path = next(raw.glob("*.ap.cbin"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def wrong_hash(raw):
    path = next(raw.glob("*.ap.ch"))
    header = json.loads(path.read_text())
    path.write_text(json.dumps(header | {"sha1_compressed": "0" * 40}))


def broken_header(raw):
    next(raw.glob("*.ap.ch")).write_text("{")


def backward_knots(raw):
    path = next(raw.glob("*timestamps.npy"))
    np.save(path, np.load(path)[::-1])


def no_clock(raw):
    for path in [*raw.glob("*timestamps.npy"), *raw.glob("*sync.npy")]:
        path.unlink()


def fewer_channels(raw):
    path = next(raw.glob("*.ap.meta"))
    path.write_text(path.read_text().replace("nSavedChans=385", "nSavedChans=384"))


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (truncate, CorruptData, "ap.c"),
        (flip_in_a_chunk, CorruptData, r"ap\.cbin"),
        (wrong_hash, CorruptData, "expected sha1 0000"),
        (broken_header, CorruptData, r"ap\.ch"),
        (backward_knots, CorruptData, "timestamps.npy: the samples of the knots must increase"),
        (no_clock, NotFound, "no clock, neither timestamps.npy nor sync.npy"),
        (fewer_channels, (InconsistentData, CorruptData), "384"),
    ],
)
def test_damaged_sources_are_named_and_nothing_is_left(session, tmp_path, damage, error, words):
    _, source, raw = session
    damage(raw)
    pid = source.insertions()[0].pid
    with pytest.raises(error, match=words):
        cubes.build(cubes.plan(source, [pid], ["ap"], root=tmp_path / "root"))
    assert not list((tmp_path / "root").rglob("*.zarr"))


def test_an_uncompressed_recording_gives_the_same_cube(session, root, tmp_path, sample_root_with_voltage):
    _, source, raw = session
    cbin = next(raw.glob("*.ap.cbin"))
    with spikeglx.Reader(cbin, sort=False) as reader:
        reader.decompress_file(keep_original=False)
    pid = source.insertions()[0].pid
    cubes.build(cubes.plan(source, [pid], ["ap"], root=tmp_path / "root"))
    ours = cubes.open(tmp_path / "root", pid)["ap"].to_dataset()
    np.testing.assert_array_equal(ours.ap, cubes.open(root, PIDS[2])["ap"].ap)


def test_the_command_line(source, sample_root_with_voltage, tmp_path, capsys):
    options = [PIDS[0], "--source", str(sample_root_with_voltage), "--to", str(tmp_path), "--products", "ap", "lf"]
    assert run(["plan", *options]) == 0
    assert "ap (channel 384, time 60,000)" in capsys.readouterr().out
    assert run(["build", *options, "--window", "0:0.5", "--voltage-layout", "by-time"]) == 0
    assert cubes.open(tmp_path, PIDS[0])["ap"].sizes["time"] == pytest.approx(15_000, abs=600)
    assert run(["plan", *options, "--window", "x"]) == 1
    assert "expected START:STOP in seconds" in capsys.readouterr().err


def test_to_uv_refuses_what_is_no_raw_voltage(root):
    ap = cubes.open(root, PIDS[0])["ap"].ap
    with pytest.raises(BadArgument, match="it may be in uV already"):
        cubes.to_uv(cubes.to_uv(ap))
    with pytest.raises(BadArgument, match="gain_to_uV is missing"):
        cubes.to_uv(ap.drop_vars("gain_to_uV"))


@pytest.mark.parametrize("pid", PIDS)
def test_sync_lines_are_those_of_spikeglx(source, sample_root_with_voltage, tmp_path, pid):
    cubes.build(cubes.plan(source, [pid], ["sync"], root=tmp_path))
    ds = cubes.open(tmp_path, pid)["sync"].to_dataset().load()
    with spikeglx.Reader(cbin_of(sample_root_with_voltage, pid, "ap"), sort=False) as reader:
        lines = reader.read_sync_digital(slice(0, reader.ns)).astype(int)
    steps = np.diff(lines, axis=0)
    sample, line = np.nonzero(steps)
    np.testing.assert_array_equal(ds.edge_sample, sample + 1)
    np.testing.assert_array_equal(ds.edge_line, line)
    np.testing.assert_array_equal(ds.edge_polarity, steps[sample, line])
    np.testing.assert_array_equal(ds.initial_value, lines[0])
    np.testing.assert_allclose(ds.edge_time, probe_of(pid).clock.session_s(sample + 1), rtol=0, atol=1e-7)
    assert ds.sizes["edge"] > 0


def test_edges_at_borders_of_chunks_and_of_several_words(tmp_path):
    words = np.zeros((100, 6), dtype=np.int16)
    rng = np.random.default_rng(0)
    words[:, 2:] = rng.integers(-(2**15), 2**15, (100, 4))
    words.tofile(tmp_path / "x.bin")
    recording = FlatBinary.open(tmp_path / "x.bin", 6, 30000.0)
    recording = FlatBinary(recording.source, 6, 30000.0, chunk_samples=7)
    edges = find_edges(recording, 4)
    lines = np.unpackbits(words[:, 2:].astype("<i2").view(np.uint8).reshape(100, -1), axis=1, bitorder="little").astype(
        int
    )
    sample, line = np.nonzero(np.diff(lines, axis=0))
    np.testing.assert_array_equal(edges.sample, sample + 1)
    np.testing.assert_array_equal(edges.line, line)
    np.testing.assert_array_equal(edges.initial, lines[0])
    with pytest.raises(NotFound, match="no sync channel"):
        find_edges(recording, 0)


@pytest.mark.parametrize("pid", [PIDS[0], PIDS[2]])
def test_the_figure_of_a_window(root, pid):
    window = cubes.open(root, pid)["ap"].ap.sel(time=slice(0.5, 0.52))
    figure = cubes.plot_voltage(window)
    strip, image, _, traces = figure.axes
    order = np.lexsort((window.x_um, window.y_um, window.shank))
    uv = cubes.to_uv(window).values[order]
    np.testing.assert_allclose(image.images[0].get_array(), uv - np.median(uv, axis=1, keepdims=True), atol=1e-3)
    assert len(traces.lines) == 16
    names = {text.get_text() for text in strip.texts}
    assert names
    assert names <= set(window.acronym_beryl.values.tolist())


def test_windows_that_cannot_be_drawn(root):
    ap = cubes.open(root, PIDS[0])["ap"].ap
    with pytest.raises(BadArgument, match="expected 1 to 60,000 samples, got 0"):
        cubes.plot_voltage(ap.isel(time=slice(0)))
    with pytest.raises(BadArgument, match="expected the dimensions channel and time"):
        cubes.plot_voltage(ap.isel(channel=0))
