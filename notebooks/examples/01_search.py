# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 1 · Search
# Which recordings are there? The training of the brain-wide map asks a database, with a login. The lists of the
# releases are part of this package: no login, no network.

# %%
from pathlib import Path

import pandas as pd

import cubes

# %matplotlib inline

folder = Path("../demo")
source = cubes.source("sample", folder / "sample-with-voltage")
# %%
release = cubes.release("2022_10_bwm_release")
print(len(release), "insertions,", release.eid.nunique(), "sessions,", release.subject.nunique(), "mice")
release[["pid", "eid", "probe", "number", "date", "subject", "lab"]].head()

# %% [markdown]
# By animal, laboratory or date: it is a table.

# %%
release[release.subject == "SWC_043"][["pid", "probe", "date", "lab"]]

# %% [markdown]
# What one can load here and now are the insertions of a source. A pid that does not exist is an error that says what
# does.

# %%
for insertion in source.insertions():
    print(insertion.pid, insertion.subject, insertion.date, insertion.probe, insertion.model)
try:
    source.insertion("56f2a378-78d2-4132-b3c8-8c1ba82be598")
except cubes.NotFound as error:
    print(error)

# %% [markdown]
# The training's list has 547 insertions; the release of 2023-12 has 699, and holds all of them.

# %%
later = cubes.release("2023_12_bwm_release")
assert set(release.pid) <= set(later.pid)
by_lab = pd.DataFrame({"2023-12": later.lab.value_counts(), "2022-10": release.lab.value_counts()}).sort_values(
    "2023-12"
)
axes = by_lab.plot.barh(figsize=(8, 4.5), color=["#0072B2", "#E69F00"], width=0.8)
axes.set(xlabel="Probe insertions", ylabel="", title="Released insertions by laboratory")
