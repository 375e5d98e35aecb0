# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 10 · Reaction times
# From the trials alone, without any spikes. What the IBL calls reaction time ends with the first movement; the training
# plots the time to the response.

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
cubes.build(cubes.plan(source, [first.pid], ["trials"], root=folder / "examples"), existing="skip")
trials = cubes.open_session(folder / "examples", first.eid)["trials"].to_dataset()
seconds = cubes.reaction_times(trials)
seconds.to_dataframe()[["response_time", "movement_time"]].describe()

# %% [markdown]
# `bwm_include` is the rule of the brain-wide map, which is stated.

# %%
print(trials.bwm_include.attrs["rule"])
print(int(trials.bwm_include.sum()), "of", trials.sizes["trial"], "trials")

# %%
cubes.psychometric(trials)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), width_ratios=(1.5, 1))
for feedback, colour, name in ((1, "#0072B2", "correct"), (-1, "#D55E00", "error")):
    for side, marker in (("left", "<"), ("right", ">")):
        chosen = ((trials.feedbackType == feedback) & (trials.side == side)).values
        times = seconds.response_time[chosen]
        left.plot(trials.trial[chosen], times, marker, color=colour, label=f"{side}, {name} ({times.size})")
left.set(xlabel="Trial", ylabel="Stimulus to response (s)", title="Over the session")
left.legend(frameon=False, ncols=2)
table = cubes.psychometric(trials)
for block, colour in zip(table.index.unique("probabilityLeft"), ("#009E73", "#222222", "#CC79A7"), strict=False):
    rows = table.xs(block)
    errors = np.abs(rows[["low", "high"]].T - rows["p_right"]).to_numpy()
    right.errorbar(rows.index, rows["p_right"], yerr=errors, fmt="o-", ms=4, color=colour, label=f"p(left) {block:g}")
right.set(
    xlabel="Contrast (%), right positive", ylabel="Chose right", ylim=(-0.05, 1.05), title="Choices, 95 % intervals"
)
right.legend(frameon=False)
