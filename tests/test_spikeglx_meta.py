"""Metas of every kind of probe: rate, gains, channels and geometry as spikeglx has them, and bad metas refused."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import loaders
from loaders.errors import BadArgument, CorruptData, CubesError, InconsistentData, NotFound
from loaders.geometry import geometry_from_meta
from loaders.sample_sites import meta_text
from loaders.spikeglx_meta import check_channels, parse_meta, read_meta

REPOSITORY = Path(__file__).parents[1]
REALDATA = REPOSITORY.parent / "shared/realdata"
IBL = REALDATA / "ibl-neuropixel"
SHIPPED = sorted((Path(loaders.__file__).parent / "sample_data").glob("*.meta"))

# file: version, band, channels with voltage, sync words
REAL = {
    "sample3A_g0_t0.imec.ap.meta": ("3A", "ap", 384, 1),
    "sample3A_g0_t0.imec.lf.meta": ("3A", "lf", 384, 1),
    "sample3A_short_g0_t0.imec.ap.meta": ("3A", "ap", 384, 1),
    "sample3A_376_channels.ap.meta": ("3A", "ap", 276, 1),
    "sample3B_g0_t0.imec1.ap.meta": ("3B2", "ap", 384, 1),
    "sample3B_g0_t0.imec1.lf.meta": ("3B2", "lf", 384, 1),
    "sample3B_catgt.ap.meta": ("3B2", "ap", 384, 1),
    "sample3B_version202304.ap.meta": ("3B2", "ap", 384, 1),
    "sample3B2_exported.imec0.ap.meta": ("3B2", "ap", 301, 1),
    "sampleNP2.1_g0_t0.imec.ap.meta": ("NP2.1", "ap", 384, 1),
    "sampleNP2.4_1shank_g0_t0.imec.ap.meta": ("NP2.4", "ap", 384, 1),
    "sampleNP2.4_4shanks_g0_t0.imec.ap.meta": ("NP2.4", "ap", 384, 1),
    "sampleNP2.4_4shanks_appVersion20230905.ap.meta": ("NP2.4", "ap", 384, 1),
    "sampleNP2.4_4shanks_while_acquiring_incomplete.ap.meta": ("NP2.4", "ap", 384, 1),
    "sampleNPultra_g0_t0.imec0.ap.meta": ("NPultra", "ap", 384, 1),
    "sampleNHPlong_prototype.ap.meta": ("NHPlong", "ap", 384, 1),
    "np2split/NP1_meta": ("3B2", "ap", 384, 1),
    "np2split/NP21_meta": ("NP2.1", "ap", 384, 1),
    "np2split/NP24_meta": ("NP2.4", "ap", 384, 1),
    "np2split/NP2QB_meta": ("NP2QB", "ap", 1536, 4),
    "np2split/NP2QB_single_shank_meta": ("NP2QB", "ap", 384, 4),
}


def real(path):
    """A file of the real data, which the repository does not carry; a folder stands for its one meta."""
    if not path.exists():
        pytest.skip(f"no real data here: {path} is absent")
    return path / "_spikeglx_ephysData_g0_t0.imec0.ap.meta" if path.is_dir() else path


@cache
def everything():
    """All metas of probes that are here, shipped ones first."""
    found = [*SHIPPED, *sorted(REALDATA.rglob("*.meta"))]
    return [path for path in found if "snsApLfSy=" in path.read_text("latin-1")]


def saved(values, meta):
    """The saved ones of what spikeglx returns for all channels of the probe, also where fewer were saved."""
    return values if len(values) == meta.n_channels else values[meta.raw_channels]


def differences(path):
    """What differs between ours and spikeglx, on one meta; empty if nothing does."""
    import spikeglx

    meta, theirs = read_meta(path), spikeglx.read_meta_data(path)
    geometry, expected = geometry_from_meta(meta), spikeglx.geometry_from_meta(theirs, sort=False)
    assert all(len(getattr(geometry, name)) == meta.n_channels for name in ("x_um", "adc", "sample_shift", "row"))
    volts = spikeglx._conversion_sample2v_from_meta(theirs)[meta.band][: meta.n_channels]
    pairs = {
        "version": (meta.probe_version, theirs["neuropixelVersion"]),
        "rate": (meta.sampling_rate_hz, spikeglx._get_fs_from_meta(theirs)),
        "channels": (meta.n_saved_channels, spikeglx._get_nchannels_from_meta(theirs)),
        "sync": (meta.n_sync, len(spikeglx._get_sync_trace_indices_from_meta(theirs))),
        "band": (meta.band, spikeglx._get_type_from_meta(theirs)),
        "serial": (meta.serial, spikeglx._get_serial_number_from_meta(theirs)),
    }
    arrays = {
        "x": (geometry.x_um, expected["x"]),
        "y": (geometry.y_um, expected["y"]),
        "shank": (geometry.shank, expected["shank"]),
        "row": (geometry.row, expected["row"]),
        "col": (geometry.col, expected["col"]),
        "adc": (geometry.adc, saved(expected["adc"], meta)),
        "sample_shift": (geometry.sample_shift, saved(expected["sample_shift"], meta)),
    }
    found = {key for key, (ours, other) in pairs.items() if ours != other}
    found |= {key for key, (ours, other) in arrays.items() if not np.array_equal(ours, other)}
    return found if np.allclose(meta.gain_to_uv, 1e6 * volts, rtol=2e-7, atol=0) else found | {"gain"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_metas_are_as_spikeglx_has_them(path):
    assert differences(path) == set()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_metas_are_as_the_reader_has_them(path):
    import spikeglx

    meta, reader = read_meta(path), spikeglx.Reader(path, sort=False)
    assert (meta.sampling_rate_hz, meta.n_saved_channels, meta.n_sync) == (reader.fs, reader.nc, reader.nsync)
    assert meta.n_samples == reader.ns
    np.testing.assert_allclose(meta.gain_to_uv, 1e6 * reader.sample2volts[: -reader.nsync], rtol=2e-7)
    np.testing.assert_allclose(meta.range_uv, 1e6 * reader.range_volts[: -reader.nsync], rtol=2e-7)
    np.testing.assert_array_equal(geometry_from_meta(meta).y_um, reader.geometry["y"])


@pytest.mark.parametrize("name", REAL)
def test_real_metas_are_as_spikeglx_has_them(name):
    path = real(IBL / name)
    meta = read_meta(path)
    assert (meta.probe_version, meta.band, meta.n_channels, meta.n_sync) == REAL[name]
    assert differences(path) == set()


def test_no_real_meta_is_left_out():
    folder = real(IBL / "sample3B_g0_t0.nidq.meta").parent
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.meta")}
    listed = {name if name.endswith(".meta") else f"{name}/_spikeglx_ephysData_g0_t0.imec0.ap.meta" for name in REAL}
    assert names - listed == {"sample3B_g0_t0.nidq.meta"}
    for path in everything():  # those of other groups, such as the metas of neuroconv's recordings
        assert differences(path) == set(), path


def test_gains_by_hand():
    first = {}
    for band, model in (("ap", "3B2"), ("lf", "3B2"), ("ap", "NP2.4")):
        meta = parse_meta(meta_text(model, band))
        first[model, band] = float(meta.gain_to_uv[0])
        assert len(set(meta.gain_to_uv)) == 1
        assert not meta.offset_to_uv.any()
        np.testing.assert_allclose(meta.range_uv, meta.gain_to_uv * (8192 if model == "NP2.4" else 512))
    assert first == {("3B2", "ap"): 2.34375, ("3B2", "lf"): 4.6875, ("NP2.4", "ap"): 0.762939453125}


def test_rates_are_the_calibrated_ones():
    assert parse_meta(meta_text("3B2")).sampling_rate_hz == 30000.390639481
    assert parse_meta(meta_text("3B2", "lf")).sampling_rate_hz == 2500.0325532900833


def test_announced_samples_are_informative_only():
    text = meta_text("NP2.4")
    assert parse_meta(text).n_samples == 90_000
    assert parse_meta(without(text, "fileSizeBytes", "fileTimeSecs")).n_samples is None
    assert parse_meta(changed(text, fileSizeBytes="69300001")).n_samples is None


def test_a_meta_written_while_acquiring():
    path = real(IBL / "sampleNP2.4_4shanks_while_acquiring_incomplete.ap.meta")
    assert read_meta(path).n_samples is None


def test_windows_line_ends_change_nothing():
    text = meta_text("3B2")
    assert parse_meta(text.replace("\n", "\r\n")).raw == parse_meta(text).raw


# ---- geometry


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_raw_order_and_the_order_of_spikeglx_differ_by_its_permutation(path):
    import spikeglx

    ours = geometry_from_meta(read_meta(path))
    theirs, order = spikeglx.geometry_from_meta(spikeglx.read_meta_data(path), sort=True, return_index=True)
    for name in ("x", "y", "shank", "row", "col", "adc", "sample_shift"):
        mine = getattr(ours, f"{name}_um" if name in "xy" else name)
        np.testing.assert_array_equal(mine[order], theirs[name])
    moved = not np.array_equal(order, np.arange(len(order)))
    assert moved == ("NP2.4" in path.name)


def test_sites_from_the_electrodes_are_those_of_the_map():
    seen = set()
    for path in everything():
        text = path.read_text("latin-1")
        mapped = geometry_from_meta(parse_meta(text))
        if mapped.source == "imroTbl":
            continue
        bare = geometry_from_meta(parse_meta(without(text, "snsShankMap", "snsGeomMap")))
        assert bare.source == "imroTbl"
        for name in ("x_um", "y_um", "shank", "row", "col"):
            np.testing.assert_array_equal(getattr(bare, name), getattr(mapped, name), err_msg=f"{path} {name}")
        seen.add(mapped.source)
    assert "snsShankMap" in seen


def test_a_bank_further_up_is_seen_without_a_map():
    text = re.sub(r"\((\d+) 0 0 500 250 1\)", r"(\1 1 0 500 250 1)", meta_text("3B2", "lf"))
    sites, lowest = (geometry_from_meta(parse_meta(each)) for each in (text, meta_text("3B2", "lf")))
    np.testing.assert_array_equal(sites.y_um, lowest.y_um + 192 * 20)


def test_converters_are_those_of_the_multiplexer_table():
    tables = 0
    for path in everything():
        meta = read_meta(path)
        if "muxTbl" not in meta.raw:
            continue
        tables += 1
        rows = [row.split() for row in re.findall(r"\(([^()]*)\)", meta.raw["muxTbl"])[1:]]
        turn = {int(channel): k for k, row in enumerate(rows) for channel in row}
        adc = {int(channel): k for row in rows for k, channel in enumerate(row)}
        sites = geometry_from_meta(meta)
        raw = meta.raw_channels.tolist()
        np.testing.assert_allclose(sites.sample_shift * meta.model.adc_cycles, [turn[channel] for channel in raw])
        np.testing.assert_array_equal(sites.adc, [adc[channel] for channel in raw])
    if not tables:
        pytest.skip(f"no real data here: no meta below {REALDATA} has a muxTbl")


def test_an_exported_subset_keeps_its_readout_channels():
    text = meta_text("3B2")
    sites = re.findall(r"\(\d+:\d+:\d+:\d+\)", text)
    gains = re.sub(r"\((\d+) 0 0 500 250 1\)", lambda m: f"({m[1]} 0 0 {500 + int(m[1])} 250 1)", text)
    part = changed(
        gains, nSavedChans="103", snsApLfSy="102,0,1", snsSaveChanSubset="5,100:200,768",
        snsShankMap="(1,2,480)" + "".join([sites[5], *sites[100:201]]),
    )  # fmt: skip
    meta, full = parse_meta(part), geometry_from_meta(parse_meta(text))
    kept = [5, *range(100, 201)]
    assert meta.raw_channels.tolist() == kept
    np.testing.assert_allclose(meta.gain_to_uv, 600_000 / 512 / (500 + np.array(kept)))
    for name in ("x_um", "y_um", "shank", "row", "col", "adc", "sample_shift"):
        np.testing.assert_array_equal(getattr(geometry_from_meta(meta), name), getattr(full, name)[kept])


@pytest.mark.parametrize("band", ["ap", "lf"])
@pytest.mark.parametrize("shank", range(4))
def test_a_shank_split_off_by_ibl(band, shank, tmp_path):
    import spikeglx

    text = meta_text("NP2.4")
    whole = geometry_from_meta(parse_meta(text))
    channels = np.flatnonzero(whole.shank == shank)
    counts = f"{len(channels)},0,1" if band == "ap" else f"0,{len(channels)},1"
    split = changed(
        text, acqApLfSy=counts, snsApLfSy=counts, nSavedChans=str(len(channels) + 1),
        snsSaveChanSubset=f"0:{len(channels)}", fileSizeBytes=str(2 * (len(channels) + 1)),
    ) + (
        f"snsSaveChanSubset_orig={spikeglx._get_savedChans_subset(np.append(channels, 384))}\n"
        f"NP2.4_shank={shank}\noriginal_meta=False\n"
    )  # fmt: skip
    path = tmp_path / f"_spikeglx_ephysData_g0_t0.imec0.{band}.meta"
    path.write_text(split)
    meta = read_meta(path)
    assert meta.raw_channels.tolist() == channels.tolist()
    assert set(geometry_from_meta(meta).shank) == {shank}
    assert [note[:19] for note in meta.notes] == ([] if band == "ap" else ["LF band made from t"])
    assert differences(path) == set()
    with pytest.raises(CorruptData, match="channels of other shanks than NP2"):
        geometry_from_meta(parse_meta(changed(split, **{"NP2.4_shank": str((shank + 1) % 4)})))


# ---- gains that sources differ on


def test_the_prototype_of_np2_has_the_gain_of_spikeglx_and_a_note():
    meta = parse_meta(changed(meta_text("NP2.4"), imDatPrb_pn="PRB2_1_2_0640_0", imDatPrb_type="21"))
    assert meta.gain_to_uv[0] == 0.5e6 / 8192 / 100
    assert "SpikeGLX has 80" in meta.notes[0]
    assert parse_meta(meta_text("NP2.4")).notes == ()


def test_a_part_recorded_as_another_type_has_a_note():
    meta = parse_meta(changed(meta_text("3B2"), imDatPrb_pn="NP1100"))
    assert meta.notes == ("NP1100 recorded as imDatPrb_type=0: sites placed as for that type",)


def test_a_gain_in_the_meta_wins():
    assert parse_meta(changed(meta_text("NP2.4"), imChan0apGain="50")).gain_to_uv[0] == 0.5e6 / 8192 / 50


# ---- bad metas


def without(text, *keys):
    return "".join(line for line in text.splitlines(True) if line.split("=")[0].lstrip("~") not in keys)


def changed(text, **values):
    return without(text, *values).rstrip() + "".join(f"\n{key}={value}" for key, value in values.items()) + "\n"


NEEDED = {
    "3B2": ["typeThis", "imDatPrb_type", "imSampRate", "nSavedChans", "snsApLfSy", "snsSaveChanSubset", "imAiRangeMax",
            "acqApLfSy", "imroTbl"],
    "NP2.4": ["imMaxInt", "imAiRangeMax", "imSampRate"],
}  # fmt: skip


@pytest.mark.parametrize(("model", "key"), [(model, key) for model, keys in NEEDED.items() for key in keys])
@pytest.mark.parametrize("how", ["absent", "blank"])
def test_a_missing_tag_is_named(model, key, how):
    text = without(meta_text(model), key) if how == "absent" else changed(meta_text(model), **{key: ""})
    with pytest.raises(CorruptData, match=rf"x\.meta: {key} is missing"):
        parse_meta(text, "x.meta")


def test_a_gain_that_nothing_tells():
    with pytest.raises(CorruptData, match="imChan0apGain is missing, and so is imDatPrb_pn"):
        parse_meta(without(meta_text("NP2.4"), "imDatPrb_pn"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"imSampRate": "fast"}, "expected a number above 0 and below 1e9 in imSampRate, got 'fast'"),
        ({"imSampRate": "nan"}, "in imSampRate"),
        ({"imSampRate": "-30000"}, "in imSampRate"),
        ({"imSampRate": "1e999"}, "in imSampRate"),
        ({"imSampRate": "0"}, "in imSampRate"),
        ({"imSampRate": "2e6"}, "at most 1e"),
        ({"imAiRangeMax": "0"}, "in imAiRangeMax"),
        ({"imMaxInt": "0"}, "expected imMaxInt from 1 to 32768, got 0"),
        ({"imMaxInt": "99999999"}, "expected imMaxInt"),
        ({"nSavedChans": "3.85"}, "expected a whole number in nSavedChans"),
        ({"nSavedChans": "٣٨٥"}, "expected a whole number in nSavedChans"),
        ({"nSavedChans": "384"}, "nSavedChans=384 and snsApLfSy=384,0,1 contradict"),
        ({"nSavedChans": "9" * 5000}, "expected a whole number"),
        ({"nSavedChans": "1000000000001", "snsApLfSy": "1000000000000,0,1"}, "at most 16384 channels"),
        ({"snsApLfSy": "384,0"}, "expected 3 numbers in snsApLfSy"),
        ({"snsApLfSy": "384,x,1"}, "whole number in snsApLfSy"),
        ({"snsApLfSy": "192,192,1"}, "one band in snsApLfSy"),
        ({"nSavedChans": "1", "snsApLfSy": "0,0,1"}, "one band in snsApLfSy"),
        ({"nSavedChans": "384", "snsApLfSy": "300,0,84"}, "sync words"),
        ({"snsSaveChanSubset": "0:999999999999"}, "increasing channels below 16384"),
        ({"snsSaveChanSubset": ",".join(["0:16000"] * 1000)}, "increasing channels below 16384"),
        ({"snsSaveChanSubset": "383:0,768"}, "increasing channels"),
        ({"snsSaveChanSubset": "0:382,384,768"}, "snsApLfSy has 384 ap channels, snsSaveChanSubset has 383"),
        ({"snsSaveChanSubset": "0:300,768"}, "nSavedChans=385 and the 302 channels of snsSaveChanSubset contradict"),
        ({"snsSaveChanSubset": "some"}, "whole number in snsSaveChanSubset"),
        ({"snsSaveChanSubset": "all", "acqApLfSy": "999999999999,0,1"}, "snsSaveChanSubset has 16384"),
        ({"imroTbl": "(0,384)(0 0 0 500 250 1)"}, "imroTbl lacks 383 of the saved channels"),
        ({"imroTbl": "(0,384)(0 0 0 500 250 1"}, r"expected \(header\)\(entry\)"),
        ({"imroTbl": "(0,384)(0 0 0 500)"}, "gains above 0"),
        ({"imroTbl": "(0,384)(0 0 0 0 250 1)"}, "gains above 0"),
        ({"imroTbl": "(0,384)(0 0 0 1e9 nan 1)"}, "expected numbers in every entry of imroTbl"),
        ({"imroTbl": "(0,384)" + "(0 0 0 500 250 1)" * 384}, "ambiguous"),
        ({"imroTbl": "(0,384)" + "(0)" * 20000}, r"expected \(header\)\(entry\)"),
        ({"imChan0apGain": "250"}, "imChan0apGain=250 and 500 in imroTbl contradict"),
        ({"imDatPrb_sn": "abc"}, "whole number in imDatPrb_sn"),
    ],
)
def test_values_that_cannot_be(values, message):
    with pytest.raises(CorruptData, match=message):
        parse_meta(changed(meta_text("3B2"), **values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"snsShankMap": "(1,2,480)(0:0:0:1)"}, "snsShankMap has 1 sites for 384 channels"),
        ({"snsShankMap": "(1,2,480)" + "(0:0:0)" * 384}, "entries"),
        ({"snsShankMap": "(1,2,480)" + "(0:a:0:1)" * 384}, "expected numbers in every entry"),
        ({"snsShankMap": "(1,2,480)" + "(0:0:99999999:1)" * 384}, "within 100000 um"),
        ({"snsShankMap": "384 sites"}, r"expected \(header\)"),
    ],
)
def test_sites_that_cannot_be(values, message):
    with pytest.raises(CorruptData, match=message):
        geometry_from_meta(parse_meta(changed(meta_text("3B2"), **values)))


def test_sites_that_nothing_tells():
    with pytest.raises(CorruptData, match="snsShankMap, snsGeomMap and imroTbl are all missing"):
        geometry_from_meta(parse_meta(without(meta_text("NP2.4"), "snsShankMap", "imroTbl")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the meta is empty"),
        ("\n\r\n  \n", "the meta is empty"),
        ("\x00\x01\x02=1", "binary data"),
        ("just words\n", "expected key=value in line 1"),
        ("=1\n", "expected key=value in line 1"),
        ("nSavedChans=1\nnSavedChans=2\n", "nSavedChans is there twice, as '1' and '2'"),
        ("nSavedChans=1\n", "typeThis is missing"),
    ],
)
def test_text_that_is_no_meta(text, message):
    with pytest.raises(CorruptData, match=message):
        parse_meta(text)


def test_files_that_are_no_meta(tmp_path):
    path = tmp_path / "x.ap.meta"
    with pytest.raises(NotFound, match="no such meta file"):
        read_meta(path)
    path.write_bytes(np.random.default_rng(0).integers(0, 256, 10_000, dtype=np.uint8).tobytes())
    with pytest.raises(CorruptData):
        read_meta(path)
    with path.open("wb") as file:
        file.truncate(1 << 33)  # sparse: 8 GiB that must not be read
    with pytest.raises(CorruptData, match="at most 4194304 bytes"):
        read_meta(path)
    path.write_bytes(meta_text("3B2").replace("imRoFile=", "imRoFile=C:/Müller").encode("latin-1"))
    assert read_meta(path).raw["imRoFile"] == "C:/Müller"


def test_what_is_no_probe_is_refused():
    with pytest.raises(BadArgument, match="expected the meta of a probe"):
        parse_meta("typeThis=nidq\nniSampRate=30003.0003\nnSavedChans=2\n")
    with pytest.raises(BadArgument, match="got imDatPrb_type=9999"):
        parse_meta(changed(meta_text("3B2"), imDatPrb_type="9999"))
    with pytest.raises(BadArgument, match="got typeThis=nidq"):
        read_meta(real(IBL / "sample3B_g0_t0.nidq.meta"))


def test_meta_and_data_that_disagree():
    meta = parse_meta(meta_text("3B2"), "a.meta")
    check_channels(meta, 385, "a.ch")
    with pytest.raises(InconsistentData, match=r"a\.ch has 384 channels, a\.meta has 385"):
        check_channels(meta, 384, "a.ch")


@given(st.sampled_from(["3B2", "NP2.4"]), st.data())
def test_a_damaged_meta_is_read_or_refused(model, data):
    text = bytearray(meta_text(model), "ascii")
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(text) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "drop", "repeat"])):
            case "flip":
                text[where] = data.draw(st.integers(0, 255))
            case "cut":
                del text[max(where, 1) :]
            case "drop":
                del text[where : where + 40]
            case "repeat":
                text[where:where] = text[where : where + 60]
        text = text or bytearray(b"=")
    try:
        meta = parse_meta(text.decode("latin-1"))
        geometry = geometry_from_meta(meta)
    except CubesError:
        return
    assert len(geometry) == meta.n_channels == len(meta.gain_to_uv)
    assert np.isfinite(meta.gain_to_uv).all()
    assert np.isfinite(geometry.y_um).all()
