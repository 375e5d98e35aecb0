# %% [markdown]
# # Raw voltage
# AP and LF as `channel × time` cubes: the voltage around the spikes of a unit, and the power of the LFP by depth.
# The voltage of the sample is generated: noise, a few planted units, and slow waves.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import cubes

# %matplotlib inline

folder = Path("demo")
source = cubes.source("sample", folder / "sample-with-voltage")
pid = source.insertions()[0].pid
plan = cubes.plan(source, [pid], ["spikes", "channels", "ap", "lf", "lfp_250hz", "sync"], root=folder / "voltage")
print(plan)

# %%
cubes.build(plan, existing="skip")
tree = cubes.open(folder / "voltage", pid)
tree["ap"].to_dataset()

# %% [markdown]
# `time` is computed from the knots of the probe's clock when it is needed: a window is selected in a millisecond, and
# only the chunks that it touches are read. Samples are integers as recorded; `cubes.to_uv` gives microvolts.

# %%
ap = tree["ap"].ap
window = cubes.to_uv(ap.sel(time=slice(1.0, 1.05)))
window

# %%
figure = cubes.plot_voltage(ap.sel(time=slice(1.0, 1.05)))
figure.set_dpi(45)  # a small picture is enough here
figure

# %% [markdown]
# ## The waveform of a unit
# The mean voltage around the spikes of each unit that fires often while there is voltage; the largest is drawn.

# %%
spikes = tree["spikes"].to_dataset().load()
end = float(ap.time[-1]) - 0.003
around = np.arange(-30, 60)
waveforms = {}
for unit in spikes.unit.values:
    one = spikes.sel(unit=unit)
    times = spikes.spike_time.values[int(one.row_start) : int(one.row_start + one.row_size)]
    times = times[(times > 0.003) & (times < end)]
    if len(times) >= 10:
        samples = ap.indexes["time"].get_indexer(times, method="nearest")
        near = slice(max(int(one.channel) - 8, 0), int(one.channel) + 8)
        cut = cubes.to_uv(ap.isel(channel=near)).values[:, samples[:, None] + around]
        waveforms[int(unit)] = (cut - np.median(cut, axis=-1, keepdims=True)).mean(1)
best = min(waveforms, key=lambda unit: waveforms[unit].min())
print(f"unit {best} in {spikes.sel(unit=best).acronym_allen.item()}: trough {waveforms[best].min():.0f} µV")

# %%
fig, ax = plt.subplots(figsize=(5, 3))
ax.plot(around / 30, waveforms[best].T, color="0.6", lw=0.7)
ax.plot(around / 30, waveforms[best][waveforms[best].min(1).argmin()], color="#0072B2", lw=2)
ax.set(xlabel="time from the spike (ms)", ylabel="µV", title=f"unit {best}: 16 channels, the largest in blue");

# %% [markdown]
# ## Power of the LFP by depth
# `lfp_250hz` is low-passed and decimated with a zero-phase filter whose parameters are in the attributes.

# %%
lfp = tree["lfp_250hz"].lfp.load()
rate = lfp.attrs.get("sampling_rate_hz", tree["lfp_250hz"].attrs["sampling_rate_hz"])
power = np.abs(np.fft.rfft(lfp - lfp.mean("time"), axis=1)) ** 2 / (rate * lfp.sizes["time"])
frequency = np.fft.rfftfreq(lfp.sizes["time"], 1 / rate)
order = np.argsort(lfp.y_um.values)

fig, ax = plt.subplots(figsize=(7, 4))
image = ax.pcolormesh(frequency, lfp.y_um.values[order], 10 * np.log10(power[order] + 1e-3), shading="nearest")
fig.colorbar(image, label="dB (µV²/Hz)")
ax.set(xlim=(0, 60), xlabel="frequency (Hz)", ylabel="height above the tip (µm)");

# %% [markdown]
# ## In place, without a copy
# The same labelled dataset straight over a compressed file, decoded as it is read.

# %%
import xarray as xr

path = next((folder / "sample-with-voltage").rglob("probe00/*imec0.lf.cbin"))
with xr.open_dataset(path, engine="cubes") as in_place:
    np.testing.assert_array_equal(in_place.lf.isel(time=slice(1000)), tree["lf"].lf.isel(time=slice(1000)))
    print(in_place.lf.sel(time=slice(1, 2)).sizes)
