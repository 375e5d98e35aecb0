"""Low-passed and decimated voltage: against scipy on the whole array, and against tones that are known."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import spikeglx
import xarray as xr
from scipy.signal import firwin, freqz, upfirdn

import cubes
from chunking import decimate
from chunking.decimate import ATTENUATION_DB, low_pass
from chunking.layouts import LFP_LAYOUTS, LfpLayout
from chunking.lfp_product import LfpProduct, parse_lfp
from cubes.cli import run
from loaders.errors import BadArgument, CorruptData, NotFound, PlanRefused
from loaders.flat_binary import FlatBinary
from loaders.sample import SAMPLE
from loaders.sample_voltage import LSB_UV, band_hz

A, B, C = SAMPLE
RATE_HZ = 2500


@pytest.fixture(scope="module")
def source(sample_root_with_voltage):
    return cubes.source("one", sample_root_with_voltage)


@pytest.fixture(scope="module")
def root(source, tmp_path_factory):
    root = tmp_path_factory.mktemp("lfp")
    cubes.build(cubes.plan(source, [probe.pid for probe in SAMPLE], ["lfp_250hz", "lfp_500hz"], root=root))
    return root


def whole_array(x, factor):
    """Mirror image at the ends, one convolution, every `factor`-th sample."""
    fir = low_pass(factor)
    taps = firwin(len(fir.taps), 0.9 / factor, window=("kaiser", fir.beta))
    zeros = -2 * fir.half % factor  # the first output then falls on a multiple of the factor
    n = x.shape[-1]
    mirrored = np.abs(np.arange(-fir.half, n + fir.half))
    mirrored = np.where(mirrored >= n, 2 * (n - 1) - mirrored, mirrored)
    padded = np.pad(x[:, mirrored].astype(float), ((0, 0), (zeros, 0)))
    first = (2 * fir.half + zeros) // factor
    return upfirdn(taps, padded, 1, factor)[:, first : first + -(-n // factor)]


def raw_uv(folder, probe, band):
    (path,) = (folder / probe.session / "raw_ephys_data" / probe.probe).glob(f"*.{band}.cbin")
    with spikeglx.Reader(path, sort=False) as reader:
        volts, _ = reader.read(slice(0, reader.ns))
    return 1e6 * volts[:, : -reader.nsync].T


@pytest.mark.parametrize("probe", SAMPLE, ids="ABC")
@pytest.mark.parametrize("rate", [250, 500])
def test_equals_scipy_on_the_whole_recording(root, sample_root_with_voltage, probe, rate):
    band, fs = ("lf", 2500) if probe.lf_samples else ("ap", 30_000)
    ds = cubes.open(root, probe.pid)[f"lfp_{rate}hz"].to_dataset()
    expected = whole_array(raw_uv(sample_root_with_voltage, probe, band), fs // rate)
    assert (ds.lfp.dtype, ds.lfp.attrs["units"], ds.lfp.dims) == ("float32", "uV", ("channel", "time"))
    assert ds.lfp.shape == expected.shape
    np.testing.assert_allclose(ds.lfp, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("probe", SAMPLE, ids="ABC")
def test_time_is_the_clock_of_the_raw_samples(root, probe):
    ds = cubes.open(root, probe.pid)["lfp_250hz"].to_dataset()
    assert ds.time.dtype == "float64"
    np.testing.assert_allclose(ds.time, probe.clock.session_s(120 * np.arange(ds.sizes["time"])), rtol=0, atol=1e-7)
    window = ds.sel(time=slice(float(ds.time[100]), float(ds.time[200])))
    assert window.sizes["time"] == 101


def test_the_waves_planted_in_the_sample_come_back(root):
    ds = cubes.open(root, A.pid)["lfp_250hz"].to_dataset()
    seconds = np.arange(ds.sizes["time"]) * 10 / band_hz(A, "lf")
    height = ds.y_um.values / 3840
    top = int(height.argmax())
    theta = 100 * height[top] * np.sin(2 * np.pi * 6 * seconds + np.pi * height[top])
    gamma = 30 * (1 - height[top]) * np.sin(2 * np.pi * 40 * seconds)
    inner = slice(50, -50)
    residual = ds.lfp.values[top][inner] - (theta + gamma)[inner]
    assert residual.std() < 3 * LSB_UV[("3B2", "lf")]
    assert np.corrcoef(ds.lfp.values[top][inner], (theta + gamma)[inner])[0, 1] > 0.98


def test_attributes_say_how_it_was_made(root, sample_root_with_voltage):
    attrs = cubes.open(root, A.pid)["lfp_250hz"].attrs
    assert attrs["source_band"] == "lf"
    assert attrs["sampling_rate_hz"] == pytest.approx(band_hz(A, "lf") / 10, rel=1e-12)
    assert (attrs["decimation_factor"], attrs["filter_taps"]) == (10, len(low_pass(10).taps))
    assert attrs["filter_cutoff_hz"] == pytest.approx(112.5, rel=1e-4)
    assert attrs["filter_stop_hz"] == pytest.approx(125, rel=1e-4)
    parameters = json.loads(attrs["parameters"])
    assert parameters["attenuation_db"] == "80"
    assert "mirror" in parameters["edges"]
    assert "no destriping" in parameters["reference"]
    ap = cubes.open(root, C.pid)["lfp_250hz"].attrs
    assert (ap["source_band"], ap["decimation_factor"]) == ("ap", 120)
    assert "LFP made from the AP band" in ap["notes"]


def test_plain_xarray_opens_it_with_time_and_channels(root):
    with xr.open_zarr(root / f"insertions/{C.pid}/lfp_250hz.zarr", chunks=None) as ds:
        assert ds.time.attrs["units"] == "s"
        assert {"x_um", "shank", "acronym_allen", "ccf_ap"} <= set(ds.coords)
        assert not {"gain_to_uV", "knot_sample"} & set(ds.variables)
        with pytest.raises(BadArgument, match="gain_to_uV is missing"):
            cubes.to_uv(ds.lfp)


def test_borders_of_chunks_and_of_pieces_leave_no_trace(source, root, tmp_path, monkeypatch):
    monkeypatch.setattr("chunking.lfp_product.LFP_CHUNK", (100, 137))
    monkeypatch.setitem(LFP_LAYOUTS, "balanced", LfpLayout("balanced", "", 100, 137))
    monkeypatch.setattr("chunking.decimate.PIECE_BYTES", 1)
    cubes.build(cubes.plan(source, [A.pid, C.pid], ["lfp_250hz"], root=tmp_path))
    for probe in (A, C):
        small, large = (cubes.open(where, probe.pid)["lfp_250hz"].to_dataset() for where in (tmp_path, root))
        assert small.lfp.chunks != large.lfp.chunks
        np.testing.assert_array_equal(small.lfp, large.lfp)


def test_a_window_is_a_part_of_the_whole(source, root, tmp_path):
    full = cubes.open(root, A.pid)["lfp_250hz"].to_dataset()
    start, stop = float(full.time[100]) - 1e-5, float(full.time[300]) - 1e-5
    cubes.build(cubes.plan(source, [A.pid], ["lfp_250hz"], root=tmp_path, window_s=(start, stop)))
    part = cubes.open(tmp_path, A.pid)["lfp_250hz"].to_dataset()
    xr.testing.assert_identical(part.lfp.variable, full.lfp.variable[:, 100:300])
    np.testing.assert_array_equal(part.time, full.time[100:300])
    for window, words in (((500.0, 600.0), "lfp_250hz: window 500:600 s: holds no"), ((start, start + 5e-6), "window")):
        with pytest.raises(PlanRefused, match=words):
            cubes.plan(source, [A.pid], ["lfp_250hz"], root=tmp_path, window_s=window)


@pytest.mark.parametrize("factor", [2, 5, 10, 60, 120])
def test_the_filter_keeps_its_promise(factor):
    fir = low_pass(factor)
    np.testing.assert_array_equal(fir.taps, fir.taps[::-1])
    assert fir.taps.sum() == pytest.approx(1, abs=1e-12)
    frequency, response = freqz(fir.taps, worN=1 << 17, fs=2.0)  # in units of the old Nyquist frequency
    gain = np.abs(response)
    assert 20 * np.log10(gain[frequency >= 1 / factor].max()) <= -ATTENUATION_DB
    assert np.abs(gain[frequency <= 0.8 / factor] - 1).max() < 1e-4
    assert gain[np.abs(frequency - fir.cutoff).argmin()] == pytest.approx(0.5, abs=0.01)


@pytest.fixture
def flat(tmp_path):
    """Make a recording of 2500 Hz from samples (channel, time)."""

    def make(samples):
        path = tmp_path / "x.bin"
        np.rint(samples).astype("int16").T.tofile(path)
        return FlatBinary.open(path, len(samples), RATE_HZ)

    return make


def decimated(recording, factor=10, start=0, stop=None, n=None):
    n = recording.n_channels if n is None else n
    stop = -(-recording.n_samples // factor) if stop is None else stop
    return decimate.decimate(recording, low_pass(factor), start, stop, np.ones(n), np.zeros(n))


def test_tones(flat):
    t = np.arange(5 * RATE_HZ) / RATE_HZ
    aliases = 20_000 * np.sin(2 * np.pi * np.array([[8.0], [126.0], [242.0], [1000.0]]) * t)
    out = decimated(flat(np.vstack([aliases, np.full(len(t), 1234)])))
    inner = out[:, 30:-30]
    np.testing.assert_allclose(inner[0], 20_000 * np.sin(2 * np.pi * 8 * t[::10])[30:-30], atol=3)  # no delay, gain 1
    assert np.abs(inner[1:4]).max() < 20_000 * 10 ** (-ATTENUATION_DB / 20) + 0.5  # steps of int16
    np.testing.assert_array_equal(out[4], np.float32(1234))


@pytest.mark.parametrize("n_samples", [1, 2, 9, 10, 11, 200, 253, 254, 505, 506, 4001])
def test_any_length_has_an_end_that_is_its_mirror_image(flat, monkeypatch, n_samples):
    monkeypatch.setattr("chunking.decimate.PIECE_BYTES", 1)
    samples = np.random.default_rng(n_samples).integers(-32768, 32767, (3, n_samples), endpoint=True)
    recording, fir = flat(samples), low_pass(10)
    period = max(2 * (n_samples - 1), 1)
    index = np.arange(-fir.half, n_samples + fir.half) % period
    mirrored = samples[:, np.where(index >= n_samples, period - index, index)]
    expected = [mirrored[:, k : k + len(fir.taps)] @ fir.taps for k in range(0, n_samples, 10)]
    np.testing.assert_allclose(decimated(recording), np.transpose(expected), rtol=1e-6, atol=1e-2)
    assert decimated(recording, n=2).shape == (2, len(expected))


def test_any_cut_gives_the_same_numbers(flat):
    recording = flat(np.random.default_rng(1).integers(-512, 512, (5, 20_001)))
    whole = decimated(recording)
    for start, stop in ((0, 1), (0, 30), (25, 26), (777, 1500), (1999, 2001), (2000, 2001)):
        np.testing.assert_array_equal(decimated(recording, start=start, stop=stop), whole[:, start:stop])


@pytest.mark.parametrize("name", ["lfp_0hz", "lfp_0250hz", "lfp_9999hz", "lfp_2500hz", "lfp_x", "lfp", "lfp_12.5hz"])
def test_names_that_are_none(source, tmp_path, name):
    with pytest.raises(BadArgument, match="such as lfp_250hz"):
        parse_lfp(name)
    with pytest.raises(PlanRefused, match=f"product '{name}': expected lfp_<rate>hz"):
        cubes.plan(source, [A.pid], [name], root=tmp_path)


@pytest.mark.parametrize(("pid", "rate"), [(A.pid, 333), (A.pid, 1000), (C.pid, 333), (C.pid, 7)])
def test_a_rate_that_does_not_divide(source, tmp_path, pid, rate):
    with pytest.raises(PlanRefused, match=f"pid {pid}, product lfp_{rate}hz: expected a rate that is a whole fraction"):
        cubes.plan(source, [pid], [f"lfp_{rate}hz"], root=tmp_path)


def test_a_calibrated_rate_counts_as_its_nominal_one(source):
    for rate_hz, factor in ((29_999.4, 120), (30_002.7, 120), (2499.9, 10), (2500.0325532900833, 10)):
        voltage = SimpleNamespace(meta=SimpleNamespace(sampling_rate_hz=rate_hz))
        assert LfpProduct(250)._filter(voltage).factor == factor


def test_the_ap_band_of_a_probe_of_two_bands_is_no_source(sample_root_with_voltage, tmp_path):
    for probe, pattern in ((A, "*.lf.*"), (C, "*.ap.*")):
        session = shutil.copytree(sample_root_with_voltage / probe.session, tmp_path / probe.probe / probe.pid)
        (raw,) = session.glob(f"raw_ephys_data/{probe.probe}")
        for path in raw.glob(pattern):
            path.unlink()
        source = cubes.source("folder", session)
        (pid,) = (i.pid for i in source.insertions() if i.probe == probe.probe)
        with pytest.raises(NotFound, match="no lf band; bands that exist: ap" if probe is A else "no raw voltage"):
            cubes.plan(source, [pid], ["lfp_250hz"], root=tmp_path / "root")


def test_a_damaged_source_leaves_nothing(sample_root_with_voltage, tmp_path):
    session = shutil.copytree(sample_root_with_voltage / C.session, tmp_path / "session")
    (path,) = session.glob(f"raw_ephys_data/{C.probe}/*.ap.cbin")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    source = cubes.source("folder", session)
    with pytest.raises(CorruptData, match=r"ap\.cbin"):
        cubes.build(cubes.plan(source, [source.insertions()[0].pid], ["lfp_250hz"], root=tmp_path / "root"))
    assert not list((tmp_path / "root").rglob("*.zarr"))


def test_the_command_line(sample_root_with_voltage, tmp_path, capsys):
    options = [C.pid, "--source", str(sample_root_with_voltage), "--to", str(tmp_path), "--products", "lfp_250hz"]
    assert run(["plan", *options]) == 0
    assert f"lfp (channel 384, time {C.ap_samples // 120:,})" in capsys.readouterr().out
