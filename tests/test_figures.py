"""A figure shows what is in the stores, in the colours of the atlas, also of recordings that lack something."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import cubes
from cubes.figures import region_colours, save_figure, summary_figure
from loaders.errors import NotFound, StoreError

A, C = 0, 1  # insertions of the sample: one shank through five regions, and four shanks in the cortex


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> list[xr.DataTree]:
    folder = tmp_path_factory.mktemp("figures")
    source = cubes.source("one", cubes.write_sample(folder / "one", voltage=False))
    pids = [source.insertions()[number].pid for number in (0, -1)]
    cubes.build(cubes.plan(source, pids, root=folder / "cubes"))
    return [cubes.open(folder / "cubes", pid) for pid in pids]


def changed(tree: xr.DataTree, **products: Any) -> xr.DataTree:
    """The tree with some products replaced, or without those that are None."""
    old = {name: child.to_dataset() for name, child in tree.children.items()}
    kept = {name: ds for name, ds in (old | products).items() if ds is not None}
    return xr.DataTree.from_dict(kept, name=tree.name)


def with_units(tree: xr.DataTree, **coords: Any) -> xr.DataTree:
    """The tree with other coordinates of the units."""
    new = {name: ("unit", values) for name, values in coords.items()}
    return changed(tree, **{name: tree[name].to_dataset().assign_coords(new) for name in ("spikes", "counts_20ms")})


def emptied(tree: xr.DataTree) -> xr.DataTree:
    """The tree as of a recording without spikes."""
    spikes, counts = tree["spikes"].to_dataset().isel(spike=slice(0)), tree["counts_20ms"].to_dataset()
    attrs = {name: value for name, value in spikes.attrs.items() if not name.endswith("_spike_s")} | {"n_spikes": 0}
    none = ("unit", np.zeros(spikes.sizes["unit"], dtype=np.int64))
    spikes = spikes.assign_coords(row_size=none, row_start=none).assign_attrs(attrs)
    spikes.attrs = attrs
    return changed(tree, spikes=spikes, counts_20ms=counts.isel(time=slice(0)))


def artist(figure: Figure, gid: str) -> Any:
    (found,) = figure.findobj(lambda one: one.get_gid() == gid)
    return found


def raster(figure: Figure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time, row from the bottom and colour of every spike that is drawn."""
    lines = artist(figure, "raster")
    ends = np.array(lines.get_segments()).reshape(-1, 2, 2)
    return ends[:, 0, 0], np.rint(ends[:, :, 1].mean(axis=1)).astype(int), lines.get_colors()[:, :3]


def window(figure: Figure) -> tuple[float, float]:
    return artist(figure, "raster").axes.get_xlim()


def titles(figure: Figure) -> str:
    axes = [ax.get_title(loc="left") for ax in figure.axes]
    return "\n".join([*axes, *(text.get_text() for text in figure.texts)])


def expected_spikes(tree: xr.DataTree, start: float, stop: float) -> list[tuple[int, np.ndarray]]:
    """Unit and spike times within the window, of all units with spikes and depth, from the deepest up."""
    spikes = tree["spikes"].to_dataset()
    stored = spikes["spike_time"].values
    rows = []
    for unit in np.argsort(spikes["depth_um"].values, kind="stable"):
        begin, size = int(spikes["row_start"][unit]), int(spikes["row_size"][unit])
        if size and np.isfinite(spikes["depth_um"].values[unit]):
            times = stored[begin : begin + size]
            rows.append((int(unit), times[(times >= start) & (times < stop)]))
    return rows


@pytest.mark.parametrize("probe", [A, C])
def test_raster_has_every_spike_of_the_window_with_deep_units_below(trees: list[xr.DataTree], probe: int) -> None:
    figure = summary_figure(trees[probe])
    start, stop = window(figure)
    assert stop - start == pytest.approx(10)
    time, row, _ = raster(figure)
    expected = expected_spikes(trees[probe], start, stop)
    assert len(time) == sum(len(times) for _, times in expected)
    np.testing.assert_array_equal(np.sort(time), np.sort(np.concatenate([times for _, times in expected])))
    depth = trees[probe]["spikes"]["depth_um"].values
    drawn = np.array([len(times) for _, times in expected])
    bottom_up = np.array([depth[unit] for unit, _ in expected])
    for level in np.unique(bottom_up):  # the order of units of equal depth is free
        assert np.isin(row, np.flatnonzero(bottom_up == level)).sum() == drawn[bottom_up == level].sum()
    assert artist(figure, "raster").axes.get_ylim() == (-0.5, len(expected) - 0.5)


@pytest.mark.parametrize(("probe", "level"), [(A, "acronym_beryl"), (C, "acronym_allen")])
def test_colours_are_those_of_the_regions(trees: list[xr.DataTree], probe: int, level: str) -> None:
    figure = summary_figure(trees[probe])
    channels, spikes = trees[probe]["channels"].to_dataset(), trees[probe]["spikes"].to_dataset()
    order = np.argsort(channels["axial_um"].values, kind="stable")
    colours = region_colours(channels[level].values[order].tolist())
    names = set(channels[level].values.tolist())
    written = {text.get_text(): to_rgb(text.get_color()) for ax in figure.axes for text in ax.texts}
    assert written == {name: pytest.approx(colours[name]) for name in names if name in written}
    assert names - set(written) <= {"void"}
    _, row, colour = raster(figure)
    rows = [unit for unit, _ in expected_spikes(trees[probe], *window(figure))]
    depth = spikes["depth_um"].values
    at_depth = {depth[unit]: set() for unit in rows}
    for unit in rows:
        at_depth[depth[unit]].add(tuple(np.round(colours[str(spikes[level].values[unit])], 6)))
    for number in np.unique(row):
        assert tuple(np.round(colour[row == number][0], 6)) in at_depth[depth[rows[number]]]
    tints = artist(figure, "sites").get_facecolors()[:, :3]
    assert len(tints) == 384
    expected = [colours[name] for name in channels[level].values.tolist()]
    np.testing.assert_allclose(1 - 2 * (1 - tints), expected, atol=1e-9)


def test_colours_keep_the_hue_of_the_atlas_and_tell_sisters_apart() -> None:
    import colorsys

    from loaders.regions import brain_regions

    regions = brain_regions()
    names = ["PO", "LP", "DG", "CA1", "VISa", "VISp", "MOp", "CP", "root", "void"]
    colours = region_colours(names)
    assert list(region_colours(names).values()) == list(colours.values())
    assert len(set(colours.values())) == len(colours)
    for name in names[:-2]:
        atlas = regions.rgb[np.flatnonzero(regions.acronym == name)[0]] / 255
        assert colorsys.rgb_to_hls(*colours[name])[0] == pytest.approx(colorsys.rgb_to_hls(*atlas)[0], abs=0.01)
    for colour in colours.values():
        assert 1.05 / (np.dot((0.2126, 0.7152, 0.0722), np.power(colour, 2.2)) + 0.05) > 2.5


def test_four_shanks_are_drawn_apart(trees: list[xr.DataTree]) -> None:
    places = artist(summary_figure(trees[C]), "sites").get_offsets()
    assert len(np.unique(np.asarray(places), axis=0)) == 384
    assert len(np.unique(places[:, 0])) == 8
    ax = artist(summary_figure(trees[C]), "sites").axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "3", "4"]


def test_units_are_circles_at_their_depth_and_good_ones_are_filled(trees: list[xr.DataTree]) -> None:
    spikes = trees[A]["spikes"].to_dataset()
    circles = artist(summary_figure(trees[A]), "units")
    active = spikes["row_size"].values > 0
    np.testing.assert_array_equal(np.sort(circles.get_offsets()[:, 1]), np.sort(spikes["depth_um"].values[active]))
    filled = (circles.get_facecolors()[:, :3] < 1).any(axis=1)
    assert filled.sum() == (active & spikes["good"].values).sum()
    sizes = circles.get_sizes()
    assert np.all(np.diff(sizes) <= 0)
    assert sizes[0] > sizes[-1]


def test_rates_are_spikes_per_second_and_unit(trees: list[xr.DataTree]) -> None:
    figure = summary_figure(trees[A])
    start, stop = window(figure)
    times, rate = artist(figure, "rate_all").get_data()
    assert len(times) == 500
    rows = expected_spikes(trees[A], start, stop)
    assert rate.mean() == pytest.approx(sum(len(times) for _, times in rows) / 10 / len(rows), rel=0.01)


def test_title_says_what_it_is(trees: list[xr.DataTree]) -> None:
    text = titles(summary_figure(trees[A]))
    attrs = trees[A]["spikes"].attrs
    for name in ("subject", "date", "probe", "pid", "sorter", "revision"):
        assert attrs[name] in text
    good = (trees[A]["spikes"]["good"] & (trees[A]["spikes"]["row_size"] > 0)).values.sum()
    assert f"289 units with spikes ({good} good)" in text
    assert f"{attrs['n_spikes']:,} spikes" in text


def test_counts_are_not_needed(trees: list[xr.DataTree]) -> None:
    expected = artist(summary_figure(trees[A]), "rate_good").get_data()
    found = artist(summary_figure(changed(trees[A], counts_20ms=None)), "rate_good").get_data()
    np.testing.assert_allclose(found, expected)


def test_missing_product_is_named(trees: list[xr.DataTree]) -> None:
    with pytest.raises(NotFound, match="build channels first"):
        summary_figure(changed(trees[A], channels=None))


def test_no_spikes(trees: list[xr.DataTree], tmp_path: Path) -> None:
    figure = summary_figure(emptied(trees[A]))
    assert len(raster(figure)[0]) == 0
    assert "No spikes" in titles(figure)
    assert "0 units with spikes (0 good), 0 spikes" in titles(figure)
    assert save_figure(figure, tmp_path / "empty.png").is_file()


@pytest.mark.parametrize("probe", [A, C])
def test_no_histology(trees: list[xr.DataTree], tmp_path: Path, probe: int) -> None:
    tree = trees[probe]
    products = {}
    for name, dim in (("spikes", "unit"), ("counts_20ms", "unit"), ("channels", "channel")):
        ds = tree[name].to_dataset()
        void, nan = np.full(ds.sizes[dim], "void", dtype=object), np.full(ds.sizes[dim], np.nan)
        lost = {f"acronym_{level}": (dim, void) for level in ("allen", "beryl", "cosmos", "swanson")}
        lost |= dict.fromkeys(("x", "y", "z"), (dim, nan))
        products[name] = ds.assign(lost) if dim == "channel" else ds.assign_coords(lost)
    figure = summary_figure(changed(tree, **products))
    _, _, colour = raster(figure)
    np.testing.assert_allclose(np.unique(colour, axis=0), [region_colours(["void"])["void"]])
    assert save_figure(figure, tmp_path / "void.png").is_file()


def test_units_without_depth_are_left_out_and_counted(trees: list[xr.DataTree], tmp_path: Path) -> None:
    depth, size = trees[A]["spikes"]["depth_um"].values.copy(), trees[A]["spikes"]["row_size"].values
    depth[np.flatnonzero(size)[:3]] = np.nan
    tree = with_units(trees[A], depth_um=depth)
    figure = summary_figure(tree)
    assert "286 units, deepest at the bottom (3 without depth left out)" in titles(figure)
    assert len(raster(figure)[0]) == sum(len(times) for _, times in expected_spikes(tree, *window(figure)))
    assert save_figure(figure, tmp_path / "some.png").is_file()
    figure = summary_figure(with_units(trees[A], depth_um=np.full(len(depth), np.nan)))
    assert "No spikes to show (289 without depth left out)" in titles(figure)
    assert save_figure(figure, tmp_path / "none.png").is_file()


@pytest.mark.parametrize("n_bins", [1, 3, 60, 499, 500])
def test_short_recording_is_shown_whole(trees: list[xr.DataTree], tmp_path: Path, n_bins: int) -> None:
    counts = trees[C]["counts_20ms"].to_dataset().isel(time=slice(n_bins))
    figure = summary_figure(changed(trees[C], counts_20ms=counts))
    assert window(figure) == pytest.approx((0, 0.02 * n_bins))
    assert len(artist(figure, "rate_all").get_xdata()) == n_bins
    assert save_figure(figure, tmp_path / "short.png").is_file()


def test_no_good_units(trees: list[xr.DataTree]) -> None:
    figure = summary_figure(with_units(trees[C], good=np.zeros(150, dtype=bool)))
    assert figure.findobj(lambda one: one.get_gid() == "rate_good") == []


@pytest.mark.parametrize("probe", [A, C])
def test_png_is_1600_by_900(trees: list[xr.DataTree], tmp_path: Path, probe: int) -> None:
    path = tmp_path / "figure.png"
    path.write_text("older")
    assert save_figure(summary_figure(trees[probe]), path) == path
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert np.frombuffer(header[16:], dtype=">u4").tolist() == [1600, 900]
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_of_a_figure_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Figure, path: Path, **_: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    older = tmp_path / "figure.png"
    older.write_text("older")
    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(StoreError, match=r"figure\.png: cannot be written \(No space left on device\)"):
        save_figure(Figure(), older)
    assert list(tmp_path.iterdir()) == [older]
    assert older.read_text() == "older"


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_folder_that_cannot_be_written_to(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="choose another folder"):
        save_figure(Figure(), tmp_path / folder / "figure.png")


def test_neither_pyplot_nor_an_import_of_cubes_loads_more(tmp_path: Path) -> None:
    code = (
        "import sys, cubes; early = 'matplotlib' in sys.modules\n"
        "import cubes.figures; print(early, 'matplotlib.pyplot' in sys.modules)"
    )
    root = Path(cubes.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
