# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 5 · Query by region
# Which recordings are in a region? A region includes everything within it. The training asks for `LGD`, which the atlas
# spells `LGd`: `BrainRegions().acronym2id("LGD")` finds nothing, and says nothing.

# %%
from pathlib import Path

import cubes

# %matplotlib inline

folder = Path("../demo")
source = cubes.source("sample", folder / "sample-with-voltage")
# %%
tables = cubes.catalog(folder / "examples")
tables.add_source(source)

# %%
thalamus = tables.units(region="TH")
print(len(thalamus), "units in the thalamus, of", sorted(thalamus.acronym_allen.unique()))

# %% [markdown]
# A spelling that differs only in its case is understood, and a region that does not exist is an error.

# %%
print(len(tables.units(region="po")), "units in PO")
try:
    tables.units(region="nowhere")
except cubes.CubesError as error:
    print(error)

# %%
counts = tables.units().groupby(["acronym_cosmos", "probe"]).size().unstack(fill_value=0)
axes = counts.plot.bar(stacked=True, figsize=(8, 4), width=0.8, color=["#0072B2", "#E69F00"], rot=0)
axes.set(xlabel="", ylabel="Units", title="Units of the sample by region")
