# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 6 · Good units
# `label` is the fraction of three criteria that pass: 0, 1/3, 2/3 or 1. Good means `label == 1`. Filters such as
# `label < 2`, which one finds in public code, keep every unit; here there is a coordinate `good`. The slides give 20 as
# the limit of `noise_cutoff`; the code that made the labels uses 5.

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import cubes

# %matplotlib inline

folder = Path("../demo")
source = cubes.source("sample", folder / "sample-with-voltage")
# %%
pid = source.insertions()[0].pid
cubes.build(cubes.plan(source, [pid], ["spikes", "channels"], root=folder / "examples"), existing="skip")
units = cubes.open(folder / "examples", pid)["spikes"].to_dataset()
print(units.good.attrs["criteria"])
print(
    int(units.good.sum()), "good of", units.sizes["unit"], "units;", int(units.label.isnull().sum()), "without metrics"
)

# %%
selected = cubes.select(units, region="TH", good=True)
selected.attrs["selection"]

# %%
figure, ax = plt.subplots(figsize=(8, 4.5))
amp = 1e6 * units.amp_median
for name, chosen, colour in (("other", ~units.good, "#BBBBBB"), ("good", units.good, "#0072B2")):
    n = int(chosen.sum())
    ax.plot(amp[chosen], units.noise_cutoff[chosen], "o", ms=4, color=colour, label=f"{name} ({n})")
ax.axvline(50, color="#222222", lw=0.8)
ax.axhline(5, color="#222222", lw=0.8)
ax.set(xlabel="Median amplitude (µV)", ylabel="Noise cut-off", title="Two of the three criteria, and their limits")
ax.set_yscale("symlog")
ax.legend(frameon=False)
