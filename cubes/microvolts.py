"""Voltage as recorded -> microvolts."""

from __future__ import annotations

import xarray as xr

from loaders.errors import BadArgument


def to_uv(voltage: xr.DataArray) -> xr.DataArray:
    """Convert voltage as recorded to microvolts; lazy data stay lazy.

    Parameters
    ----------
    voltage : (channel, ...) int16 DataArray
        ``ap`` or ``lf``, with its coordinates ``gain_to_uV`` and ``offset_to_uV`` (channel).

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
    missing = [name for name in ("gain_to_uV", "offset_to_uV") if name not in voltage.coords]
    if missing:
        raise BadArgument(f"voltage: expected the coordinates gain_to_uV and offset_to_uV, {missing[0]} is missing")
    if voltage.dtype.kind != "i":
        raise BadArgument(f"voltage: expected integers as recorded, got {voltage.dtype}; it may be in uV already")
    gain, offset = (voltage[name].astype("float32") for name in ("gain_to_uV", "offset_to_uV"))
    scaled = voltage.astype("float32") * gain + offset
    attrs = {name: value for name, value in voltage.attrs.items() if name not in ("gain_to_uV", "offset_to_uV")}
    return scaled.assign_attrs(attrs | {"units": "uV", "long_name": "voltage"})
