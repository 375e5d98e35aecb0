"""Voltage as recorded -> microvolts."""

from __future__ import annotations

import xarray as xr

from loaders.errors import BadArgument

_GAINS = ("gain_to_uV", "offset_to_uV")


def to_uv(voltage: xr.DataArray) -> xr.DataArray:
    """Convert voltage as recorded to microvolts; lazy data stay lazy.

    Parameters
    ----------
    voltage : (channel, ...) int16 DataArray
        ``ap`` or ``lf``, with its coordinates ``gain_to_uV`` and ``offset_to_uV`` (channel), or ``lfp`` as int16, which
        has the two as attributes.

    Returns
    -------
    DataArray
        float32, uV; half the memory of what the CF attributes ``scale_factor`` would give.

    Raises
    ------
    BadArgument
        If the gains are missing, or the data are not integers.

    Examples
    --------
    >>> import cubes
    >>> import xarray as xr
    >>> gains = {"gain_to_uV": ("channel", [2.5]), "offset_to_uV": ("channel", [0.0])}
    >>> cubes.to_uv(xr.DataArray([[2, -4]], dims=("channel", "time"), coords=gains).astype("int16")).values
    array([[  5., -10.]], dtype=float32)
    """
    known = {name: voltage.coords[name] for name in _GAINS if name in voltage.coords}
    if not known:
        known = {name: xr.DataArray(voltage.attrs[name]) for name in _GAINS if name in voltage.attrs}
    if missing := [name for name in _GAINS if name not in known]:
        raise BadArgument(
            f"voltage: expected the coordinates or attributes gain_to_uV and offset_to_uV, {missing[0]} is missing"
        )
    if voltage.dtype.kind != "i":
        raise BadArgument(f"voltage: expected integers as recorded, got {voltage.dtype}; it may be in uV already")
    gain, offset = (known[name].astype("float32") for name in _GAINS)
    scaled: xr.DataArray = voltage.astype("float32") * gain + offset
    attrs = {name: value for name, value in voltage.attrs.items() if name not in _GAINS}
    return scaled.rename(voltage.name).assign_attrs(attrs | {"units": "uV", "long_name": "voltage"})
