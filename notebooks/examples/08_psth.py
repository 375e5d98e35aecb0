# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 8 · Peri-stimulus time histogram
# The notebook of the training plots spikes a bin and calls them Hz: with its bins of 50 ms, 20 times too low. Here
# counts and rates are two things, and each says which it is. A trial whose stimulus is missing is NaN; in
# `calculate_peths` one such trial makes zeros of every unit.

# %%
from pathlib import Path

import numpy as np

import cubes

# %matplotlib inline

folder = Path("../demo")
source = cubes.source("sample", folder / "sample-with-voltage")
# %%
pid = source.insertions()[2].pid
plan = cubes.plan(source, [pid], ["spikes", "channels", "trials"], root=folder / "examples")
cubes.build(plan, existing="skip")
tree = cubes.open(folder / "examples", pid)
trials = tree["trials"].to_dataset()
aligned = cubes.align(tree["spikes"], trials, (-0.5, 1), 0.02, on="stimOn_times").load()
aligned.counts

# %%
print("trials:", aligned.sizes["trial"], "| without a stimulus:", int(aligned.event_time.isnull().sum()))
print("counts:", aligned.counts.attrs["units"], "| rate:", cubes.to_rate(aligned.counts).attrs["units"])

# %% [markdown]
# Which units respond?

# %%
tested = cubes.responsive(aligned, baseline=(-0.4, 0), response=(0, 0.3))
responding = tested.isel(unit=np.flatnonzero(tested.q_value < 0.05))
print(responding.sizes["unit"], "of", tested.sizes["unit"], "units respond (false discovery rate 5 %)")
responding.change.to_series().sort_values(ascending=False).head()

# %%
best = int(tested.change.where(tested.q_value < 0.05).fillna(0).values.argmax())
figure = cubes.plot_psth(aligned.isel(unit=best), by="side", sd=0.02)
figure.set_dpi(60)
figure
