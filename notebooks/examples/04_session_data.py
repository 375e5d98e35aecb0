# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 4 · Session data
# What the animal did: trials, wheel, cameras. Times are float64: `SessionLoader` gives those of the wheel as float32,
# which is half a millisecond off after an hour. A camera that is missing loses nothing else.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import cubes

# %matplotlib inline

folder = Path("../demo")
source = cubes.source("sample", folder / "sample-with-voltage")
# %%
first = source.insertions()[0]
cubes.build(cubes.plan(source, [first.pid], ["session"], root=folder / "examples"), existing="skip")
session = cubes.open_session(folder / "examples", first.eid)
trials = session["trials"].to_dataset()
trials

# %% [markdown]
# Missing times stay missing, and flags say what numbers mean.

# %%
print("trials without a stimulus:", int(trials.stimOn_times.isnull().sum()))
print("choice:", trials.choice.attrs["flag_values"], trials.choice.attrs["flag_meanings"])
print("wheel:", session["wheel"].time.dtype, "| pose:", sorted(name for name in session.children if "pose" in name))

# %%
start, stop = float(trials.intervals_0[3]), float(trials.intervals_1[5])
wheel = session["wheel"].to_dataset().sel(time=slice(start, stop))
figure, (upper, lower) = plt.subplots(2, 1, figsize=(10, 5), sharex=True)
upper.plot(wheel.time, wheel.position, color="#0072B2")
upper.set(ylabel="Wheel (rad)", title="Three trials: stimulus (solid), feedback (dashed), licks (dots)")
lower.plot(wheel.time, wheel.velocity, color="#D55E00")
licks = session["licks"].times.values
licks = licks[(licks > start) & (licks < stop)]
lower.plot(licks, np.full(len(licks), float(wheel.velocity.min())), ".", color="#222222")
for ax in (upper, lower):
    for k in range(3, 6):
        ax.axvline(float(trials.stimOn_times[k]), color="#222222")
        ax.axvline(float(trials.feedback_times[k]), color="#222222", ls="--")
lower.set(xlabel="Time in the session (s)", ylabel="Velocity (rad/s)")
