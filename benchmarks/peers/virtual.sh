#!/bin/sh
# Makes benchmarks/peers/.venv-virtual, the environment of its own of a peer in bench_claims.py.
#     PYTHON=python3.12 sh benchmarks/peers/virtual.sh
set -eu
cd "$(dirname "$0")"
"${PYTHON:-python3}" -m venv .venv-virtual
.venv-virtual/bin/python -m pip install --quiet --upgrade pip
.venv-virtual/bin/python -m pip install --quiet --requirement virtual.txt
.venv-virtual/bin/python -m pip list | grep -iE '^(kerchunk|xarray|zarr|fsspec|dask) '
