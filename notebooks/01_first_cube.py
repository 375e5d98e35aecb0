# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # A first cube
# From a probe insertion to a labelled `unit × time` cube, and back to plain xarray. The sample data hold the real spike
# trains of one probe; everything works the same on your own ONE cache: replace `sample` by its folder.

# %%
from pathlib import Path

import xarray as xr

import cubes

folder = Path("demo")
if not (folder / "sample").exists():
    cubes.write_sample(folder / "sample", voltage=False)

# %% [markdown]
# ## What is there
# A *source* knows which insertions exist. `"one"` reads a ONE cache offline; `"folder"` takes one session folder.

# %%
source = cubes.source("one", folder / "sample")
for insertion in source.insertions():
    print(insertion.pid, insertion.subject, insertion.date, insertion.probe, insertion.model)

# %% [markdown]
# ## Plan, then build
# The plan reads and checks every sorting, and says what would be written. A revision or sorter that does not exist is
# an error, never another one in its place.

# %%
pid = source.insertions()[0].pid
plan = cubes.plan(source, [pid], ["spikes", "channels", "counts_20ms"], root=folder / "cubes", revision="2024-05-06")
print(plan)

# %%
cubes.build(plan, existing="skip")

# %% [markdown]
# A store appears under its final name only when it is complete and its checksums are right.

# %%
assert not any(cubes.verify(folder / "cubes").values())

# %% [markdown]
# ## Plain xarray
# Nothing of ours is needed to read a cube. Every unit carries its region, place, depth and quality metrics.

# %%
ds = xr.open_zarr(folder / f"cubes/insertions/{pid}/counts_20ms.zarr", chunks=None)
ds

# %%
good_ca1 = ds.sel(unit=(ds.acronym_allen == "CA1") & ds.good, time=slice(10, 20))
good_ca1.counts.sum("time").to_series()

# %% [markdown]
# Counts are integers; a rate is counts divided by the width of the bin.

# %%
rate = ds.counts.groupby("acronym_cosmos").mean() / ds.time.attrs["bin_width"]
rate.attrs = {"units": "Hz", "long_name": "mean rate of a unit"}
rate.rolling(time=25, center=True).mean().plot.line(x="time", figsize=(10, 3));

# %% [markdown]
# ## All products of an insertion
# `cubes.open` gives them together, with coordinates in memory and data lazy. `cubes.select` follows the hierarchy of
# the Allen atlas and says what it left out.

# %%
tree = cubes.open(folder / "cubes", pid)
thalamus = cubes.select(tree["counts_20ms"].to_dataset(), region="TH", good=True)
thalamus.attrs["selection"]

# %% [markdown]
# ## Any bin width
# `cubes.bin` counts the exact spikes lazily. Edges are exact multiples of the width from session time 0, bins are
# half-open, and a spike on an edge belongs to the bin that begins there.

# %%
fine = cubes.bin(cubes.select(tree["spikes"].to_dataset(), region="TH", good=True), "1/300", start=10, stop=12)
fine

# %%
xr.testing.assert_equal(
    cubes.bin(tree["spikes"].to_dataset(), 0.02).compute().astype("uint8"), tree["counts_20ms"].counts.compute()
)

# %% [markdown]
# ## A picture

# %%
from cubes.figures import summary_figure

summary_figure(tree)
