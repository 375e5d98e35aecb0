"""LFP with a common reference, destriped, as int16; labels and saturation: against ibldsp on the whole recording."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import spikeglx
import xarray as xr
from ibldsp import voltage as ibl
from scipy.signal import firwin, oaconvolve
from scipy.stats import mode

import cubes
from chunking import destripe, microvolt_steps, saturation
from chunking.decimate import low_pass
from chunking.destripe import Probe, destriped_lfp, factor_before
from chunking.layouts import LFP_LAYOUTS, LfpLayout
from chunking.lfp_product import LfpProduct, _probe, parse_lfp
from chunking.reference import subtract_common
from chunking.schema import validate
from cubes.cli import run
from loaders import channel_quality
from loaders.channel_quality import label_channels
from loaders.errors import BadArgument, InconsistentData, PlanRefused, StoreError
from loaders.flat_binary import FlatBinary
from loaders.inputs import Inputs
from loaders.sample import SAMPLE
from loaders.sample_sites import SHANK_PITCH_UM
from loaders.sample_voltage import raw_path
from loaders.spikeglx_meta import read_meta

A, B, C = SAMPLE
VARIANTS = ("lfp_250hz", "lfp_250hz_car", "lfp_250hz_destriped")
DEAD, NOISY, OUTSIDE = [40, 200], [100, 101, 300], slice(350, 384)
SATURATED = np.r_[0, 3, 1370:1374, 4995, 13_694, 13_695, 20_004:20_010, 39_993, 39_997]
N_SAMPLES = 39_998  # a little under 16 s of LF, and no multiple of anything


@pytest.fixture(scope="module")
def bad_session(sample_root_with_voltage, tmp_path_factory):
    """The session of A with another LF band: bad channels in it, and saturated samples."""
    session = shutil.copytree(sample_root_with_voltage / A.session, tmp_path_factory.mktemp("bad") / "session")
    for suffix in ("lf.cbin", "lf.ch"):
        raw_path(session, A, suffix).unlink()
    rng = np.random.default_rng(3)
    common = np.convolve(rng.standard_normal(N_SAMPLES + 99), np.full(100, 3.0), "valid")
    data = common + 0.8 * rng.standard_normal((384, N_SAMPLES))
    data[DEAD] = 0.2 * rng.standard_normal((len(DEAD), N_SAMPLES))
    data[NOISY] += 60 * rng.standard_normal((len(NOISY), N_SAMPLES))
    data[OUTSIDE] -= 0.95 * common
    data += rng.integers(-9, 9, (384, 1))
    data[:100, SATURATED] = np.where(np.arange(100) % 2, 511, -512)[:, None]  # 26 % of the channels
    data[:76, 25_000] = 511  # 19.8 %: not saturated
    data[:100, 26_000] = 491  # 0.96 * 512 is 491.52
    block = np.vstack([np.rint(data), np.zeros(N_SAMPLES)]).astype("int16")
    raw_path(session, A, "lf.bin").write_bytes(block.T.tobytes())
    path = raw_path(session, A, "lf.meta")
    facts = {"fileSizeBytes": block.nbytes, "fileTimeSecs": N_SAMPLES / 2500.0325532900833}
    lines = [line for line in path.read_text().splitlines() if line.split("=")[0] not in {*facts, "fileSHA1"}]
    path.write_text("\n".join([*lines, *(f"{key}={value}" for key, value in facts.items())]) + "\n")
    return session


@pytest.fixture(scope="module")
def source(sample_root_with_voltage):
    return cubes.source("one", sample_root_with_voltage)


@pytest.fixture(scope="module")
def root(source, tmp_path_factory):
    root = tmp_path_factory.mktemp("lfp")
    cubes.build(cubes.plan(source, [probe.pid for probe in SAMPLE], VARIANTS, root=root))
    return root


def whole_array(x, factor):
    """Mirror image at the ends, one convolution, every `factor`-th sample."""
    fir = low_pass(factor)
    taps = firwin(len(fir.taps), 0.9 / factor, window=("kaiser", fir.beta))
    padded = np.pad(x.astype(float), ((0, 0), (fir.half, fir.half)), mode="reflect")
    return oaconvolve(padded, taps[None], mode="valid", axes=1)[:, ::factor]


def raw_uv(folder, probe, band):
    with spikeglx.Reader(raw_path(folder / probe.session, probe, f"{band}.cbin"), sort=False) as reader:
        return 1e6 * reader[:, : -reader.nsync].T


def insertion(source, name="probe00"):
    (pid,) = (i.pid for i in source.insertions() if i.probe == name)
    return pid


@pytest.fixture(scope="module")
def bad_root(bad_session, tmp_path_factory):
    """Cubes of the bad session; chunks and blocks so short that there are borders everywhere."""
    root = tmp_path_factory.mktemp("bad-cubes")
    source = cubes.source("folder", bad_session)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chunking.lfp_product.LFP_CHUNK", (100, 1370))
        patch.setitem(LFP_LAYOUTS, "balanced", LfpLayout("balanced", "", 100, 1370))
        patch.setattr("chunking.decimate.PIECE_BYTES", 1)
        cubes.build(cubes.plan(source, [insertion(source)], VARIANTS, root=root))
    return root / "insertions" / insertion(source)


def opened(folder, product):
    return xr.open_zarr(folder / f"{product}.zarr", chunks=None)


def bad_volts(session):
    with spikeglx.Reader(raw_path(session, A, "lf.bin"), sort=False) as reader:
        return reader[:, : -reader.nsync].T, reader.fs, reader.range_volts[:-1]


# --- labels


def test_labels_are_those_of_ibl(bad_session, bad_root):
    expected = ibl.detect_bad_channels_cbin(raw_path(bad_session, A, "lf.bin"))
    with opened(bad_root, "lfp_250hz_car") as ds:
        np.testing.assert_array_equal(ds.channel_label, expected.ravel())
        np.testing.assert_array_equal(ds.bad, expected.ravel() != 0)
        assert (ds.channel_label.dtype, ds.bad.dtype) == ("int8", "bool")
        assert {"channel_label", "bad"} <= set(ds.coords)
        assert ds.channel_label.attrs["flag_meanings"].split() == ["good", "dead", "noisy", "outside_brain"]
        assert ds.channel_label.attrs["flag_values"] == [0, 1, 2, 3]
        labels = ds.channel_label.values
    assert (labels[DEAD] == 1).all()
    assert (labels[NOISY] == 2).all()
    assert (labels[360:] == 3).all()
    assert (labels[:40] == 0).all()
    with opened(bad_root, "lfp_250hz") as plain:
        assert not {"channel_label", "bad"} & set(plain.variables)


def test_every_shank_is_judged_by_itself(source, sample_root_with_voltage):
    voltage = Inputs(source, C.pid).voltage("ap")
    volts = (1e-6 * raw_uv(sample_root_with_voltage, C, "ap")).astype("float32")
    shank, starts = voltage.geometry.shank, np.linspace(0, C.ap_samples - 10_000, 10).astype(int)
    order = np.lexsort((-voltage.geometry.x_um, voltage.geometry.y_um, shank))  # as spikeglx sorts
    found = label_channels(voltage)
    for this in range(4):
        rows = order[shank[order] == this]
        votes = [ibl.detect_bad_channels(volts[rows, s : s + 10_000], voltage.meta.sampling_rate_hz)[0] for s in starts]
        np.testing.assert_array_equal(found[rows], mode(votes, axis=0).mode)


def test_stretches_of_zeros_do_not_vote(bad_session, monkeypatch):
    source = cubes.source("folder", bad_session)
    voltage = Inputs(source, insertion(source)).voltage("lf")
    read, zeros = voltage.recording.read, range(0, N_SAMPLES)

    def some_zeros(self, start, stop, channels=None):
        block = read(start, stop, channels)
        return block * np.int16(start not in zeros)

    monkeypatch.setattr(FlatBinary, "read", some_zeros)
    with pytest.raises(InconsistentData, match=r"lf band: the channels of shank 0 .* flat in all 10 snippets"):
        label_channels(voltage)
    zeros = range(0, 20_000)  # most of the ten batches
    labels = label_channels(voltage)
    assert (labels[DEAD] == 1).all()
    assert (labels[NOISY] == 2).all()


def test_too_short_for_labels(source, monkeypatch):
    monkeypatch.setattr(channel_quality, "_FEWEST_SAMPLES", A.lf_samples + 1)
    with pytest.raises(InconsistentData, match=f"at least {A.lf_samples + 1} samples to label channels by"):
        label_channels(Inputs(source, A.pid).voltage("lf"))


# --- common reference


@pytest.mark.parametrize("probe", SAMPLE, ids="ABC")
def test_reference_is_the_median_of_the_good_channels_of_the_shank(root, probe):
    tree = cubes.open(root, probe.pid)
    plain, referenced = (tree[name].to_dataset() for name in VARIANTS[:2])
    good, shank = ~referenced.bad.values, referenced.shank.values
    assert shank.max() == (3 if probe is C else 0)
    assert good.all() != (probe is C)
    for this in np.unique(shank):
        median = np.median(plain.lfp.values[good & (shank == this)], axis=0)
        np.testing.assert_array_equal(referenced.lfp[shank == this], plain.lfp.values[shank == this] - median)


def test_a_reference_without_bad_channels(bad_root):
    with opened(bad_root, "lfp_250hz") as plain, opened(bad_root, "lfp_250hz_car") as ds:
        median = np.median(plain.lfp.values[~ds.bad.values], axis=0)
        np.testing.assert_array_equal(ds.lfp, plain.lfp.values - median)
        assert "median of the good channels of each shank" in json.loads(ds.attrs["parameters"])["reference"]
        assert "ibl_neuropixel_version" in json.loads(ds.attrs["parameters"])


def test_a_shank_without_good_channels_has_no_reference():
    uv = np.ones((4, 5), np.float32)
    with pytest.raises(InconsistentData, match="pid x: shank 1 has no good channel"):
        subtract_common(uv, np.array([0, 0, 1, 1]), np.array([True, False, False, False]), "pid x")


# --- destriping


def header(geometry, shift):
    return {
        "sample_shift": np.array(shift),
        "x": geometry.x_um + SHANK_PITCH_UM * geometry.shank,
        "y": geometry.y_um,
        "shank": geometry.shank,
    }


@pytest.mark.parametrize("probe", SAMPLE, ids="ABC")
def test_destriped_is_ibldsp_on_the_whole_recording(source, root, sample_root_with_voltage, probe):
    ds = cubes.open(root, probe.pid)["lfp_250hz_destriped"].to_dataset()
    voltage = Inputs(source, probe.pid).voltage("lf" if probe.lf_samples else "ap")
    uv, shift = raw_uv(sample_root_with_voltage, probe, voltage.band), voltage.geometry.sample_shift
    if voltage.band == "ap":
        uv, shift = whole_array(uv, 12), shift / 12
    kwargs = json.loads(ds.attrs["destripe_kwargs"])
    assert kwargs["fs"] == ds.attrs["destriped_at_hz"] == pytest.approx(2500, rel=1e-4)
    whole = ibl.destripe_lfp(uv, h=header(voltage.geometry, shift), channel_labels=ds.channel_label.values, **kwargs)
    expected = whole_array(whole, 10)
    assert ds.lfp.shape == expected.shape
    error = np.abs(ds.lfp.values - expected) / expected.std()
    assert error[:, 25:-25].max() < 1e-3
    assert error[:, 1:-1].max() < 0.2
    assert ("sample shift is a 12th" in ds.attrs["notes"]) == (probe is C)


def test_bad_channels_are_interpolated(bad_session, bad_root):
    volts, fs, _ = bad_volts(bad_session)
    with opened(bad_root, "lfp_250hz_destriped") as ds:
        geometry = spikeglx.geometry_from_meta(spikeglx.read_meta_data(raw_path(bad_session, A, "lf.meta")), sort=False)
        labels = ds.channel_label.values
        expected = whole_array(1e6 * ibl.destripe_lfp(volts, fs, h=geometry, channel_labels=labels), 10)
        error = np.abs(ds.lfp.values - expected) / expected.std()
        assert error[:, 25:-25].max() < 1e-3


@pytest.fixture
def minutes():
    """Two minutes of 24 channels at the rate of LF, uV, with a common signal, hum, slow drift and offsets."""
    rate_hz, n_samples = 2500.0325, 300_007
    rng, t = np.random.default_rng(0), np.arange(n_samples) / rate_hz
    walk = np.cumsum(rng.standard_normal(n_samples))
    common = 2 * (walk - np.linspace(walk[0], walk[-1], n_samples)) + 300 * np.sin(2 * np.pi * 0.05 * t)
    uv = common + 50 * rng.standard_normal((24, n_samples)) + 30 * np.arange(24)[:, None]
    uv = (4.6875 * np.rint(uv / 4.6875)).astype("float32")
    label = np.zeros(24, "int8")
    label[[3, 9, 14, 23]] = [1, 2, 1, 3]
    channel = np.arange(24)
    shank = channel // 12
    x_um, y_um = 16.0 * (channel % 2) + 250 * shank, 20.0 * (channel % 12 // 2)
    return uv, Probe(rate_hz, channel // 2 % 12 / 13, x_um, y_um, shank, label)


def whole_destriped(uv, probe):
    h = {"sample_shift": probe.shift, "x": probe.x_um, "y": probe.y_um, "shank": probe.shank}
    return ibl.destripe_lfp(uv, probe.rate_hz, h=h, channel_labels=probe.label)


def blocks_destriped(uv, probe, start=0, stop=None, factor=10):
    n_samples = uv.shape[1]
    stop = -(-n_samples // factor) if stop is None else stop
    return destriped_lfp(lambda a, b: uv[:, a:b].copy(), n_samples, low_pass(factor), start, stop, probe)


def test_blocks_are_the_whole_recording(minutes, monkeypatch):
    uv, probe = minutes
    expected = whole_array(whole_destriped(uv, probe), 10)
    monkeypatch.setattr(destripe, "_BLOCK_SAMPLES", 25_000)
    found = blocks_destriped(uv, probe)
    sd = expected.std()
    error = np.abs(found - expected) / sd
    assert error[:, 250:-250].max() < 2e-4  # ten borders among them
    assert error[:, 25:-25].max() < 1e-3
    assert error[:, 1:-1].max() < 0.2  # IBL mixes in the other end of the recording
    monkeypatch.setattr(destripe, "HALO_S", 2)
    assert np.abs(blocks_destriped(uv, probe) - expected)[:, 250:-250].max() > 0.01 * sd


def test_any_cut_gives_the_same_numbers(minutes, monkeypatch):
    uv, probe = minutes
    monkeypatch.setattr(destripe, "_BLOCK_SAMPLES", 50_000)
    uv = uv[:, :120_000]
    whole = blocks_destriped(uv, probe)
    for start, stop in ((0, 1), (4999, 5001), (7000, 7010), (11_999, 12_000)):
        np.testing.assert_array_equal(blocks_destriped(uv, probe, start, stop), whole[:, start:stop])


def test_only_a_block_is_held(minutes):
    uv, probe = minutes
    spans = []

    def read(a, b):
        spans.append((a, b))
        return uv[:, a:b].copy()

    destriped_lfp(read, uv.shape[1], low_pass(10), 0, 30_001, probe)
    assert len(spans) == 4  # 40 s each, the last one a sample
    assert max(b - a for a, b in spans) <= 100_000 + 2 * 25_000 + 2 * low_pass(10).half + 1
    assert (spans[0][0], spans[-1][1]) == (0, uv.shape[1])


@pytest.mark.parametrize(
    ("nominal_hz", "rate_hz", "before"),
    [(2500, 250, 1), (2500, 1250, 1), (30_000, 250, 12), (30_000, 1250, 12), (30_000, 1000, 10), (30_000, 1200, 5)],
)
def test_what_is_too_fast_is_decimated_before(nominal_hz, rate_hz, before):
    assert factor_before(nominal_hz // rate_hz, nominal_hz) == before


@pytest.mark.parametrize(("probe", "band", "factor", "ratio"), [(A, "lf", 1, 1), (C, "ap", 12, 12), (C, "lf", 1, 12)])
def test_shifts_count_the_samples_that_are_destriped(source, probe, band, factor, ratio):
    voltage = Inputs(source, probe.pid).voltage("lf" if probe is A else "ap")
    voltage = dataclasses.replace(voltage, band=band)  # ibl-neuropixel makes LF files of one sample in 12 of NP2
    found = _probe(voltage, factor, np.zeros(384, "int8"))
    np.testing.assert_allclose(found.shift, voltage.geometry.sample_shift / ratio)
    assert found.rate_hz == voltage.meta.sampling_rate_hz / factor


def test_a_rate_beyond_the_band_has_a_note(source, tmp_path):
    cubes.build(cubes.plan(source, [A.pid], ["lfp_1250hz_destriped"], root=tmp_path))
    attrs = cubes.open(tmp_path, A.pid)["lfp_1250hz_destriped"].attrs
    assert "destriping leaves nothing above 300 Hz" in attrs["notes"]
    json.loads(attrs["destripe_kwargs"], parse_constant=pytest.fail)


def test_a_window_is_a_part_of_the_whole(source, root, tmp_path):
    for name in VARIANTS[1:]:
        full = cubes.open(root, A.pid)[name].to_dataset()
        start, stop = float(full.time[100]) - 1e-5, float(full.time[300]) - 1e-5
        cubes.build(cubes.plan(source, [A.pid], [name], root=tmp_path, window_s=(start, stop)))
        part = cubes.open(tmp_path, A.pid)[name].to_dataset()
        np.testing.assert_array_equal(part.lfp, full.lfp[:, 100:300])
        np.testing.assert_array_equal(part.bad, full.bad)


# --- saturation


def test_saturated_is_what_ibl_calls_saturated(bad_session, bad_root):
    volts, fs, range_volts = bad_volts(bad_session)
    raw, _ = ibl.saturation(volts, range_volts, v_per_sec=None, fs=fs)
    np.testing.assert_array_equal(np.flatnonzero(raw), SATURATED)
    n_outputs = -(-N_SAMPLES // 10)
    # of outputs equally near the later one; none is further than half a step, but at the end
    nearest = [n_outputs - 1 - int(np.abs(i - 10 * np.arange(n_outputs))[::-1].argmin()) for i in SATURATED]
    expected = np.isin(np.arange(n_outputs), nearest)
    assert expected[-1]
    for name in VARIANTS:
        with opened(bad_root, name) as ds:
            assert ds.saturated.dtype == "bool"
            np.testing.assert_array_equal(ds.saturated, expected)
            assert float(ds.lfp.where(~ds.saturated).isnull().mean()) == pytest.approx(expected.mean())


@pytest.mark.parametrize("factor", [2, 3, 10, 24])
@pytest.mark.parametrize("n_samples", [1, 9, 96, 100, 101, 119, 1000])
def test_every_raw_sample_belongs_to_the_nearest_output(factor, n_samples):
    n_outputs = -(-n_samples // factor)
    edges = saturation.raw_edges(factor, 0, n_outputs, n_samples)
    assert (edges[0], edges[-1]) == (0, n_samples)
    owner = np.repeat(np.arange(n_outputs), np.diff(edges))
    distance = np.abs(np.arange(n_samples)[:, None] - factor * np.arange(n_outputs))
    np.testing.assert_array_equal(distance[np.arange(n_samples), owner], distance.min(axis=1))
    for start in range(0, n_outputs, 7):
        part = saturation.raw_edges(factor, start, min(start + 7, n_outputs), n_samples)
        np.testing.assert_array_equal(part, edges[start : start + 8])


def test_saturation_of_random_samples(sample_root_with_voltage):
    for probe, band in ((A, "lf"), (C, "ap")):
        meta = read_meta(raw_path(sample_root_with_voltage / probe.session, probe, f"{band}.meta"))
        top = round(meta.range_uv[0] / meta.gain_to_uv[0])
        block = np.random.default_rng(1).integers(-top, top, (384, 3000)).astype("int16")
        rare = np.random.default_rng(2).random((384, 3000)) > np.linspace(0, 10, 3000)  # around 20 % of the channels
        block = np.where(rare, 0, block)
        limit = np.floor(0.96 * meta.range_uv / meta.gain_to_uv).astype("int32")
        for low in (block, np.where(np.abs(block) > 0, np.sign(block) * np.int16(0.96 * top + 1), 0).astype("int16")):
            volts = (low * meta.gain_to_uv[:, None] * 1e-6).astype("float32")
            expected, _ = ibl.saturation(volts, 1e-6 * meta.range_uv, v_per_sec=None)
            np.testing.assert_array_equal(saturation.saturated(low, limit), expected)
    assert 0 < expected.sum() < len(expected)


# --- int16


def test_int16_is_float32_within_half_a_step(source, root, tmp_path):
    for probe, names, step_uv in ((A, VARIANTS[:1], 4 * 2400 / 32767), (C, VARIANTS[1:], 4 * 6250 / 32767)):
        cubes.build(cubes.plan(source, [probe.pid], names, root=tmp_path, lfp_dtype="int16"))
        for name in names:
            small, exact = (cubes.open(where, probe.pid)[name].to_dataset() for where in (tmp_path, root))
            assert (small.lfp.dtype, small.lfp.attrs["units"]) == ("int16", "count")
            assert small.lfp.attrs["gain_to_uV"] == pytest.approx(step_uv, rel=1e-6)
            uv = cubes.to_uv(small.lfp)
            assert (uv.dtype, uv.attrs["units"]) == ("float32", "uV")
            np.testing.assert_allclose(uv, exact.lfp, rtol=0, atol=0.5001 * step_uv)
            assert json.loads(small.attrs["parameters"])["dtype"] == "int16"
            assert small.attrs["build_key"] != exact.attrs["build_key"]


def test_int16_holds_whatever_the_filter_makes_of_the_range():
    assert max(np.abs(low_pass(factor).taps).sum() for factor in (2, 10, 120)) < microvolt_steps.HEADROOM


def test_int16_never_clips():
    uv = np.array([[32766.6, -32767.0]], np.float32)
    assert microvolt_steps.to_steps(uv, 1.0, "pid x").tolist() == [[32767, -32767]]
    for value in (32767.6, -32768.0, np.nan):
        with pytest.raises(BadArgument, match=r"pid x, lfp_dtype: int16 holds up to 32767 uV, got .*float32"):
            microvolt_steps.to_steps(np.array([[0, value]], np.float32), 1.0, "pid x")


# --- names


def test_names():
    assert [parse_lfp(name) for name in VARIANTS] == [LfpProduct(250, processing=p) for p in ("", "car", "destriped")]
    assert [parse_lfp(name).name for name in VARIANTS] == list(VARIANTS)


def test_suffixes_and_dtypes_that_are_none(source, tmp_path):
    for name in ("lfp_250hz_CAR", "lfp_250hz_destripe", "lfp_250hz_car_destriped", "lfp_250hz_x"):
        with pytest.raises(PlanRefused, match="expected one of lfp_250hz, lfp_250hz_car, lfp_250hz_destriped"):
            cubes.plan(source, [A.pid], [name], root=tmp_path)
    for name in ("lfp_250hz_", "lfp_250_car", "lfp_car"):
        with pytest.raises(PlanRefused, match="such as lfp_250hz"):
            cubes.plan(source, [A.pid], [name], root=tmp_path)
    with pytest.raises(PlanRefused, match="lfp_dtype: expected float32 or int16, got 'float16'"):
        cubes.plan(source, [A.pid], ["lfp_250hz"], root=tmp_path, lfp_dtype="float16")


def test_the_command_line(sample_root_with_voltage, tmp_path, capsys):
    options = [A.pid, "--source", str(sample_root_with_voltage), "--to", str(tmp_path)]
    assert run(["plan", *options, "--products", "lfp_250hz_car", "--lfp-dtype", "int16"]) == 0
    printed = capsys.readouterr().out
    assert "lfp_250hz_car" in printed
    assert "int16" in printed


def test_a_store_without_labels_or_mask_is_not_valid(root):
    ds = cubes.open(root, A.pid)["lfp_250hz_car"].to_dataset()
    validate(ds)
    for name in ("channel_label", "bad", "saturated"):
        with pytest.raises(StoreError, match=f"variable {name} is missing"):
            validate(ds.drop_vars(name))
    with pytest.raises(StoreError, match="lfp has units 'uV', expected 'count'"):
        validate(ds.assign(lfp=ds.lfp.astype("int16").assign_attrs(units="uV")))
