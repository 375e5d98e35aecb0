# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 3 · Raw data
# A window of voltage. The notebook of the training says `band = "ap"` and then looks for LF files. Here the band is the
# name of the product.

# %%
from pathlib import Path

import cubes

# %matplotlib inline

folder = Path("../demo")
source = cubes.source("sample", folder / "sample-with-voltage")
# %%
pid = source.insertions()[0].pid
cubes.build(cubes.plan(source, [pid], ["ap", "lf"], root=folder / "examples"), existing="skip")
tree = cubes.open(folder / "examples", pid)
ap = tree["ap"].ap
ap

# %% [markdown]
# Integers as recorded, rows as in the file, time on the clock of the session, and the rate that was measured: not
# 30,000 samples a second, but

# %%
f"{tree['ap'].attrs['sample_rate_hz']:.6f} Hz" if "sample_rate_hz" in tree["ap"].attrs else tree["ap"].attrs

# %%
window = ap.sel(time=slice(1.0, 1.04))
print(window.sizes, float(window.time[0]), float(window.time[-1]))

# %%
figure = cubes.plot_voltage(window)
figure.set_dpi(55)
figure
