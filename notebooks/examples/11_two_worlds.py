# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 11 · Two worlds
# The same lines on a unit of the International Brain Laboratory and on one of the Allen Visual Behavior recordings.
# What differs is what the animals did, and so the names of the events: trials with `stimOn_times` there, presentations
# of images with `start_time` here. Both recordings are generated: the sample, and a small release of the form of
# Allen's.

# %%
import sys
from pathlib import Path

import numpy as np

import cubes

# %matplotlib inline

sys.path.append("../../tests/servers")
from allen_files import write_release

folder = Path("../demo")
bucket = folder / "allen/visual-behavior-neuropixels-data"
if not bucket.exists():
    write_release(folder / "allen")
ibl = cubes.source("sample", folder / "sample-with-voltage")
allen = cubes.source("allen-vbn", bucket, cache=folder / "allen/cache")

# %% [markdown]
# Two sources, one folder of stores. `session` stands for all that a session has.

# %%
root = folder / "worlds"
theirs, ours = allen.insertions()[2].pid, ibl.insertions()[2].pid
cubes.build(cubes.plan(ibl, [ours], ["spikes", "trials"], root=root), existing="skip")
cubes.build(cubes.plan(allen, [theirs], ["spikes", "session"], root=root), existing="skip")
sorted(cubes.open(root, theirs).children)


# %% [markdown]
# ## The same ten lines

# %%
def draw(pid, events, on, by):
    tree = cubes.open(root, pid)
    aligned = cubes.align(tree["spikes"], tree[events], (-0.25, 0.5), 0.01, on=on).load()
    tested = cubes.responsive(aligned, baseline=(-0.2, 0), response=(0, 0.2))
    change = tested.change.where(tested.q_value < 0.05)
    print(int(change.notnull().sum()), "of", change.size, "units respond to", on)
    best = int(change.fillna(0).values.argmax())
    figure = cubes.plot_psth(aligned.isel(unit=best), by=by, sd=0.015)
    figure.set_dpi(60)
    return figure


# %%
draw(ours, events="trials", on="stimOn_times", by="side")

# %%
draw(theirs, events="stimuli", on="start_time", by="is_change")

# %% [markdown]
# Presentations of gratings and flashes have no `is_change`, which is NaN: they belong to no condition. Nothing missing
# is a zero, in either world.
#
# ## Which event, which clock
# The times of the presentations include the 20 ms that the monitor takes; those of the trials do not. Each says so.

# %%
tree = cubes.open(root, theirs)
trials, stimuli = tree["trials"].to_dataset(), tree["stimuli"].to_dataset()
print("trials: ", trials.change_time_no_display_delay.attrs["delay"])
print("stimuli:", stimuli.start_time.attrs["delay"])

# %% [markdown]
# Presentations name their trial, trials their licks:

# %%
hits = trials.trials_id[trials.hit == 1]
changes = stimuli.start_time[(stimuli.is_change == 1) & stimuli.trials_id.isin(hits)]
response_s = trials.response_time[trials.hit == 1].values - changes.values
print("response after", np.round(response_s, 3), "s; licks a trial:", trials.lick_row_size.values)

# %% [markdown]
# ## One cube of both
# A recipe for `cubes.pool` says under `of` what the events of another data set are. Every unit keeps its `source`.

# %%
recipe = {
    "name": "onsets",
    "units": "all",
    "trials": "contrast > 0",
    "regions": "cosmos",
    "alignments": {
        "onset": {
            "on": "stimOn_times",
            "window": [-0.1, 0.3],
            "width": "20ms",
            "conditions": {"strong": "contrast >= 0.25", "weak": "contrast < 0.25"},
        }
    },
    "of": {
        "allen-vbn": {
            "events": "stimuli",
            "trials": "active == 1 and omitted == 0",
            "alignments": {
                "onset": {"on": "start_time", "conditions": {"strong": "is_change == 1", "weak": "is_change == 0"}}
            },
        }
    },
}
pooled = cubes.pool(root, recipe=recipe).load()
pooled.onset.groupby("source").mean("unit").sel(time_onset=slice(0.04, 0.14)).mean("time_onset").to_pandas()
