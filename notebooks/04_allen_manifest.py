# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # The Allen Visual Behavior recordings
# 153 sessions of a change detection task, as a source beside those of the IBL: the release and its manifest, the five
# tables, their joins, and where the units are. Everything here runs without a network, on a small generated release of
# the same form; the table of sessions is the real one where that is present
# ([Allen Institute for Brain Science](https://portal.brain-map.org), Visual Behavior Neuropixels).

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import cubes
from loaders.allen_manifest import compare, parse_manifest
from loaders.allen_tables import SESSIONS, filter_sessions, read_table
from loaders.table_filters import hidden_lines

# %matplotlib inline

sys.path.append("../tests/servers")
from allen_files import write_release

folder = Path("demo/allen")
bucket = folder / "visual-behavior-neuropixels-data"
if not bucket.exists():
    write_release(folder)

# %% [markdown]
# ## A release
# `cubes.source("allen-vbn")` reads the public bucket; with a folder, a cache of the SDK or the bucket as it is mounted.
# The version is pinned: the manifest names the version and the hash of every file. What is on this machine is used once
# its hash was compared; of files in the bucket, ranges of just that version are read. Releases before 0.5.0 are
# refused, as their LFP has a wrong scale; a newer one is told, never taken.

# %%
source = cubes.source("allen-vbn", bucket, cache=folder / "cache")
source.version, source.release.versions(), len(source.insertions())

# %%
try:
    cubes.source("allen-vbn", bucket, version="0.4.0", cache=folder / "cache")
except ValueError as error:
    print(error)

# %% [markdown]
# What changed between two releases: all tables that number files, one session, one LFP file, and one is new.

# %%
manifests = [
    parse_manifest(path.read_bytes(), path.name) for path in sorted(bucket.rglob("*_project_manifest_*.json"))
]
changes = compare(*manifests)
print("changed", *changes.changed, "new", *changes.created, sep="\n  ")
assert not changes.deleted + changes.renamed
assert changes.created == ("behavior_ecephys_sessions/1065437523/probe_probeB_lfp.nwb",)

# %% [markdown]
# A pid is the number of the probe in a namespace, so that it never clashes with one of the IBL. What is known to be
# abnormal is in the comment, which goes into every store.

# %%
insertions = pd.DataFrame([(i.pid, i.subject, i.date, i.probe, i.comment) for i in source.insertions()])
insertions.columns = ["pid", "subject", "date", "probe", "comment"]
assert insertions.pid.str.startswith("allen-vbn-").all()
insertions

# %% [markdown]
# ## Sessions
# Every column has its type, lists are lists, and no row is hidden unless one asks for it.

# %%
real = Path("../../shared/realdata/neural-pile-rodent-v2/ecephys_sessions.csv")
is_real = real.is_file()
sessions = read_table(real, SESSIONS) if is_real else source.sessions()
print(len(sessions), "sessions of", sessions.mouse_id.nunique(), "mice,", sessions.unit_count.sum(), "units")
if is_real:
    assert (len(sessions), sessions.unit_count.sum()) == (153, 319_013)
    assert sessions.probe_count.value_counts().to_dict() == {6: 142, 5: 10, 3: 1}
sessions[["mouse_id", "genotype", "image_set", "structure_acronyms", "abnormal_histology", "abnormal_activity"]].head()

# %% [markdown]
# The SDK hides sessions with abnormal histology or activity unless told otherwise. Here it is asked for, and counted.

# %%
normal = filter_sessions(sessions, normal=True)
print(*hidden_lines(normal), sep="\n")
assert not is_real or len(normal) == 103

# %% [markdown]
# ## Genotypes

# %%
genotype = normal.genotype.str.extract("^(Sst|Vip|wt)", expand=False)
counted = normal.groupby([genotype, "sex"]).mouse_id.agg(["size", "nunique"]).unstack(fill_value=0)
if is_real:
    assert counted["size"].to_numpy().tolist() == [[24, 19], [4, 18], [15, 23]]
    assert counted["nunique"].to_numpy().tolist() == [[12, 11], [2, 9], [8, 12]]
counted.rename(columns={"size": "sessions", "nunique": "mice"})

# %% [markdown]
# ## Image sets
# On each of two days a mouse sees an image set that is familiar or novel to it.

# %%
seen = normal.groupby(["session_number", "experience_level", "image_set"]).size().unstack(fill_value=0)
if is_real:
    assert seen.to_numpy().tolist() == [[38, 10], [0, 3], [3, 0], [10, 39]]
ax = seen.plot.barh(stacked=True, figsize=(7, 2.5), color=["#7b9fc7", "#d8a25e"])
ax.invert_yaxis()
ax.set(xlabel="sessions", ylabel="", title="Day of recording, experience and image set");

# %% [markdown]
# ## Training
# The table of behaviour has all sessions of a mouse. The day of a recording has no file of its own there (`-999`): its
# behaviour is in the file of the recording.

# %%
behavior = source.table("behavior_sessions")
recorded = behavior[behavior.ecephys_session_id.notna()]
assert (recorded.file_id == -999).all()
assert set(recorded.behavior_session_id) == set(source.sessions().behavior_session_id)
history = behavior.groupby(["mouse_id", "session_type"]).agg(
    sessions=("session_number", "size"), first=("session_number", "min"), youngest=("age_in_days", "min")
)
history

# %% [markdown]
# ## Units, with their channel, probe and session
# One call joins the four tables. No name gets a suffix: what two tables have under one name says whose it is.

# %%
units = source.units()
assert len(units) == len(source.table("units"))
assert not [name for name in units if name.endswith(("_x", "_y"))]
units[["unit_id", "quality", "snr", "structure_acronym", "probe_channel_number", "probe_name", "mouse_id"]].head()

# %% [markdown]
# No unit is hidden without a filter: the SDK drops those whose metrics are NaN even then. Each filter says what it hid,
# and how much of that is not known.

# %%
good = source.units(
    quality="good", amplitude_cutoff_at_most=0.1, presence_ratio_at_least=0.95, isi_violations_at_most=0.5
)
print(*hidden_lines(good), sep="\n")

# %%
counts = {name: rows.structure_acronym.value_counts() for name, rows in (("all", units), ("good", good))}
by_structure = pd.DataFrame(counts).fillna(0).sort_values("all", ascending=False)
assert by_structure["all"].sum() == units.structure_acronym.notna().sum()
ax = by_structure.plot.bar(figsize=(7, 2.5), width=0.8, color=["#c9c9c9", "#3b6ea5"])
ax.set(xlabel="", ylabel="units", title="Units by structure");

# %% [markdown]
# ## Where they are
# Coordinates of the Allen Common Coordinate Framework. Places that were not registered stand as (0, 0, 0) in the
# tables: here they are missing, not a point in front of the brain.

# %%
catalog = cubes.catalog(folder / "catalog")
print(*catalog.add_source(source), sep="\n")
places = catalog.units()
registered = places.dropna(subset="ccf_ap")
print(len(registered), "of", len(places), "units have coordinates")
assert not (registered[["ccf_ap", "ccf_dv", "ccf_ml"]] == 0).any(axis=None)

fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
for k, (probe, of_probe) in enumerate(registered.groupby("probe")):
    for ax, across in zip(axes, ("ccf_ap", "ccf_ml"), strict=True):
        ax.scatter(of_probe[across], of_probe.ccf_dv, s=50 / (k + 1), alpha=0.7, label=probe)
axes[0].set(xlabel="anterior → posterior (µm)", ylabel="dorsal → ventral (µm)")
axes[1].set(xlabel="left → right in the files (µm)")
axes[0].invert_yaxis()
axes[1].legend(frameon=False);

# %% [markdown]
# ## Regions
# The same queries as for the IBL: a region includes what lies within it, at any level of the atlas. No file of a
# session was opened for this.

# %%
hippocampal = catalog.insertions(region="HPF")
print(*hidden_lines(hippocampal), sep="\n")
assert set(catalog.units(region="HPF").acronym_cosmos) == {"HPF"}
hippocampal[["pid", "subject", "probe", "n_units", "units_in_region", "channels_in_region"]]
