#!/bin/sh
# Makes an environment of the engines in bench_engines.py, benchmarks/peers/.venv-engines. Two are compared if there are two:
#     PYTHON=python3.13 sh benchmarks/peers/engines.sh
#     PYTHON=python3.11 VENV=.venv-engines-3.11 sh benchmarks/peers/engines.sh
set -eu
cd "$(dirname "$0")"
venv="${VENV:-.venv-engines}"
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --upgrade pip
"$venv/bin/python" -m pip install --quiet --requirement engines.txt
"$venv/bin/python" -m pip list | grep -iE '^(zarr|zarrs|tensorstore|numcodecs|pcodec|dask|numpy) '
