# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 7 · Wheel trace
# The wheel in the first trials, relative to the stimulus. `cubes.align` cuts any signal along time, NaN where the event
# is missing.

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import cubes

# %matplotlib inline

folder = Path("../demo")
source = cubes.source("sample", folder / "sample-with-voltage")
# %%
first = source.insertions()[0]
cubes.build(cubes.plan(source, [first.pid], ["trials", "wheel"], root=folder / "examples"), existing="skip")
session = cubes.open_session(folder / "examples", first.eid)
trials = session["trials"].to_dataset()
position = session["wheel"].position
aligned = cubes.align(position, trials, (-0.5, 1.5), on="stimOn_times").load()
aligned

# %% [markdown]
# The wheel of the sample is generated: it turns either way, whatever the choice.

# %%
moved = cubes.baseline(aligned.position, (-0.1, 0))
figure, ax = plt.subplots(figsize=(9, 4.5))
ax.plot(moved.time, moved.T, color="#0072B2", lw=0.8, alpha=0.7)
ax.axvline(0, color="#222222", lw=0.8)
ax.set(xlabel="Time after the stimulus (s)", ylabel="Wheel (rad)", title=f"{moved.sizes['trial']} trials");
