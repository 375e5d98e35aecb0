# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # Find data
# From a question, such as "good units in cortex, with LFP", to pids, and from pids to cubes. Everything here runs
# without a network; the last section is the same over one.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap

import cubes
from loaders.table_filters import hidden_lines

# %matplotlib inline

folder = Path("demo")

# %% [markdown]
# ## Released insertions
# Three lists are part of the package. Each is pinned to a revision of the spike sorting.

# %%
cubes.releases().drop(columns=["what", "source", "licence"])

# %% [markdown]
# Most insertions are in more than one list. `also_in` says in which, so that what one fits on and what one tests on can
# be kept apart: a model fitted on all of the brain-wide map has seen most of the repeated site.

# %%
sites = cubes.release("2023_12_repeated_site")
sites.also_in.replace("", "no other list").value_counts()

# %%
brain_wide = cubes.release("2023_12_bwm_release")
apart = brain_wide[~brain_wide.also_in.str.contains("2023_12_repeated_site")]
print(len(brain_wide), "insertions,", len(apart), "not of the repeated site,", end=" ")
print((~brain_wide.subject.isin(sites.subject)).sum(), "not even of its animals")

# %% [markdown]
# What is known to be wrong with an insertion is in `note`.

# %%
brain_wide.loc[brain_wide.note != "", ["pid", "probe", "note"]]

# %% [markdown]
# ## Tables of what exists
# `cubes.catalog` keeps tables of sessions, insertions, units, channels and files as parquet, beside the stores. They
# are filled from any source and from releases, as often as one likes: what was there stays. Here come the three
# insertions of the sample, with their units and sites, and the 699 of the brain-wide map, of which only the list is
# known so far.

# %%
source = cubes.source("sample", folder / "sample-with-voltage")
catalog = cubes.catalog(folder / "found")
catalog.add_source(source)
catalog.add_release("2023_12_bwm_release")
catalog

# %% [markdown]
# ## By region
# A region is an acronym of the Allen atlas, of any depth: what lies within counts. `mapping` is the level at which
# units are named. Every answer says what each filter hid.


# %%
def answer(found):
    print(*hidden_lines(found), sep="\n")


for region, mapping in [("VIS", "Allen"), ("VISp", "Beryl"), ("VISp2/3", "Allen"), ("Isocortex", "Cosmos")]:
    print(f"\n{region}, {mapping}")
    answer(catalog.units(region=region, mapping=mapping, label=1))

# %% [markdown]
# A level that does not have a region says what it has in its place.

# %%
try:
    catalog.units(region="VISp2/3", mapping="Beryl")
except cubes.NotFound as error:
    print(error)

# %% [markdown]
# Insertions are asked in the same way, and counted in the region. What is not known is hidden too, but is told apart
# from a no: of the 699 insertions of the release no unit has been added, so nobody knows yet where they are.

# %%
answer(catalog.insertions(region="TH"))

# %%
found = catalog.insertions(region="Isocortex", min_good_units=5)
answer(found)
found[["pid", "subject", "probe", "model", "units_in_region", "good_units_in_region", "channels_in_region"]]

# %% [markdown]
# The same facts for a program; and a filter by lab and date, which the list of a release is enough for.

# %%
pd.DataFrame(found.attrs["hidden"])

# %%
answer(catalog.insertions(release="2023_12_bwm_release", lab="cortexlab", date=("2020-01-01", "2020-12-31")))

# %% [markdown]
# ## What is there of an insertion
# `cubes.presence` goes through the files: *complete*; *error*: the raw data are there, and what is made from them is
# not; *missing*; *unknown*: nobody looked. `reason` says why.

# %%
presence = cubes.presence(source)
flags = presence.state.attrs["flag_meanings"].split()
colours = ListedColormap(["#dddddd", "#ffffff", "#E69F00", "#0072B2"])

fig, ax = plt.subplots(figsize=(10, 3.4), layout="constrained")
image = ax.pcolormesh(presence.state, cmap=colours, vmin=-1.5, vmax=2.5, edgecolors="0.7", linewidth=0.5)
ax.set_xticks(np.arange(presence.sizes["dataset"]) + 0.5, presence.dataset.values, rotation=90)
ax.set_yticks(np.arange(presence.sizes["insertion"]) + 0.5, presence.subject.values + " " + presence.probe.values)
ax.invert_yaxis()
fig.colorbar(image, ticks=presence.state.attrs["flag_values"]).ax.set_yticklabels(flags);

# %%
presence.reason.sel(dataset=["lf", "passive.gabor", "bombcell"]).to_pandas().set_axis(presence.pid.values).T

# %% [markdown]
# A catalog answers for all that is in it, without touching a file; where no files are listed, the answer is unknown.

# %%
lf = cubes.presence(catalog).state.sel(dataset="lf")
{flag: int((lf == value).sum()) for flag, value in zip(flags, lf.attrs["flag_values"], strict=True)}

# %% [markdown]
# ## From pids to cubes
# The insertions that were found and have LFP. `link` leaves the voltage where it is: its store has the labels, and a
# checksum of every chunk of the recording.

# %%
has_lf = presence.pid.values[presence.state.sel(dataset="lf") == 2]
pids = [pid for pid in found.pid if pid in has_lf]
plan = cubes.plan(source, pids, ["spikes", "counts_20ms", "lf"], root=folder / "found", link=["lf"])
print(plan)

# %%
cubes.build(plan, existing="skip")
cubes.ls(folder / "found")[["pid", "product", "sorter", "revision", "shape", "bytes"]]

# %% [markdown]
# The units of the catalog and of the stores are the same ones, so that a table can choose and a cube can answer.

# %%
rates = []
for pid in pids:
    counts = cubes.open(folder / "found", pid)["counts_20ms"].to_dataset()
    cortex = cubes.select(counts, region="Isocortex", good=True)
    np.testing.assert_array_equal(cortex.unit, catalog.units(region="Isocortex", label=1, pid=pid).unit)
    rates.append((cortex.counts.mean("time") / counts.time.attrs["bin_width"]).to_series())
pd.concat(rates, keys=pids, names=["pid"]).groupby("pid").describe().round(2)

# %% [markdown]
# ## The same over a network
# None of this is executed here, because it needs the internet. A source is a source: `plan`, `build`, `presence` and
# `add_source` do with it what they did above.
#
# ### Without a login
# `"bucket"` is the public bucket of the brain-wide map. Small files are fetched, verified and kept in a cache
# (`cache=`, or `$IBL_CUBES_CACHE`). Voltage is streamed into the store and never lies on the disk as a `.cbin`.
#
# ```python
# source = cubes.source("bucket", release="2023_12_bwm_release", cache="ibl-cache")
# pids = cubes.release("2023_12_bwm_release").pid[:2]
# cubes.build(cubes.plan(source, pids, ["spikes", "counts_20ms", "ap"], root="my-cubes"), executor="dask")
# ```
#
# A look at the voltage needs no store: a window costs the seconds of the recording that hold it, by pid or by the url
# of the file. With `link=["ap"]` a store keeps such a view, and every read checks that the file is the same one.
#
# ```python
# ap = cubes.open_remote(pids[0], "ap")
# cubes.plot_voltage(ap.ap.sel(time=slice(1000, 1000.1)))
# xr.open_dataset("s3://ibl-brain-wide-map-public/data/<lab>/Subjects/.../<name>.ap.<id>.cbin", engine="cubes")
# ```
#
# To ask a whole release by region, add its tables of units and sites. The bucket has them below `aggregates/`; one
# download, and all queries stay on this machine.
#
# ```python
# catalog.add_units("clusters.pqt", sorter="iblsorter", revision="2024-05-06")
# catalog.add_channels("channels.pqt")
# catalog.insertions(region="TH", min_good_units=20)
# ```
#
# `"http"` is the public file server, for what the tables of a ONE cache list.
#
# ```python
# source = cubes.source("http", tables="ONE/openalyx.internationalbrainlab.org")
# ```
#
# ### With a login
# `"openalyx"` is the database itself: all public sessions, the md5 sums of files, which revision is the default. It
# never asks for the login at a prompt. Give it as below, or as `ALYX_LOGIN` and `ALYX_PWD` (or `ALYX_TOKEN`) in the
# environment, or log in once with `ONE.setup()`. Accounts are free: https://openalyx.internationalbrainlab.org/signup
#
# ```python
# source = cubes.source("openalyx", username="me", password="...")
# source = cubes.source("one", one=ONE())  # or a client that you have
# catalog.add_source(source, pids)
# ```
