# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 9 · Firing rates by region
# `firing_rate` of the IBL's metrics is the number of spikes over the time from the first to the last spike of the whole
# recording. The same, from the spikes:

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import cubes

# %matplotlib inline

folder = Path("../demo")
source = cubes.source("sample", folder / "sample-with-voltage")
# %%
pid = source.insertions()[0].pid
cubes.build(cubes.plan(source, [pid], ["spikes", "channels"], root=folder / "examples"), existing="skip")
units = cubes.open(folder / "examples", pid)["spikes"].to_dataset()
seconds = units.attrs["last_spike_s"] - units.attrs["first_spike_s"]
rate = (units.row_size / seconds).rename("rate").assign_attrs(units="Hz", long_name="firing rate")
known = units.firing_rate.notnull()
print("largest difference from the metric:", float(abs(rate - units.firing_rate)[known].max()), "Hz")

# %%
good = rate.isel(unit=np.flatnonzero(units.good))
by_region = good.groupby("acronym_beryl")
by_region.mean().to_series().sort_values(ascending=False)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), width_ratios=(1, 1.2))
names = sorted(set(good.acronym_beryl.values), key=lambda name: float(good.depth_um[good.acronym_beryl == name].mean()))
for k, name in enumerate(names):
    chosen = good[good.acronym_beryl == name]
    left.barh(k, float(chosen.mean()), color="#BBD9EC")
    left.plot(chosen, np.full(chosen.size, k), ".", color="#0072B2")
left.set_yticks(range(len(names)), [f"{name} ({int((good.acronym_beryl == name).sum())})" for name in names])
left.set(xlabel="Rate (Hz)", title="Good units by region, deepest first")
right.scatter(1e6 * units.amp_median, units.depth_um, s=4 + 2 * rate, c=np.where(units.good, "#0072B2", "#BBBBBB"))
right.set(xlabel="Median amplitude (µV)", ylabel="Depth (µm)", title="Size: rate; blue: good")
