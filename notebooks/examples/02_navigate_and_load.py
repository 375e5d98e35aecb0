# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 2 · Navigate and load
# Which files does a session have, and how does one load one of them? Spikes of two probes have the same name; here they
# cannot be mixed, because a store belongs to one probe.

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import cubes

# %matplotlib inline

folder = Path("../demo")
source = cubes.source("sample", folder / "sample-with-voltage")
# %%
first, second = source.insertions()[:2]
files = source.datasets(first)
print(len(files), "files in", len({file.collection for file in files}), "collections")
for file in files[:8]:
    print(f"{file.rel_path:60} {file.size:>10,} bytes  md5 {file.md5}")

# %% [markdown]
# The revision of a spike sorting is chosen exactly, or by what the database calls default. A sorter that does not exist
# is an error. `SpikeSortingLoader` loads another one in its place.

# %%
try:
    cubes.plan(source, [first.pid], ["spikes"], root=folder / "examples", sorter="kilosort99")
except cubes.NotFound as error:
    print(error)

# %%
plan = cubes.plan(source, [first.pid, second.pid], ["spikes", "channels"], root=folder / "examples")
cubes.build(plan, existing="skip")
spikes = {p.probe: cubes.open(folder / "examples", p.pid)["spikes"].to_dataset() for p in (first, second)}
spikes["probe00"]

# %% [markdown]
# Every file that went in is named, with its hash.

# %%
{name: ds.attrs["revision"] + " of " + ds.attrs["sorter"] for name, ds in spikes.items()}

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharex=True)
for ax, (probe, ds) in zip(axes, spikes.items(), strict=True):
    some = ds.isel(spike=slice(None, None, 5))
    ax.plot(some.spike_time, some.spike_depth, ",", color="#222222")
    ax.set(title=f"{probe}: {ds.sizes['spike']:,} spikes of {ds.sizes['unit']} units", xlabel="Time in the session (s)")
axes[0].set_ylabel("Depth from the tip (µm)")
