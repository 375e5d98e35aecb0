#!/bin/sh
# Makes benchmarks/peers/.venv-spikeinterface, the environment of its own of the peer in bench_raw.py.
#     PYTHON=python3.12 sh benchmarks/peers/spikeinterface.sh
set -eu
cd "$(dirname "$0")"
"${PYTHON:-python3}" -m venv .venv-spikeinterface
.venv-spikeinterface/bin/python -m pip install --quiet --upgrade pip
.venv-spikeinterface/bin/python -m pip install --quiet --requirement spikeinterface.txt
.venv-spikeinterface/bin/python -m pip list | grep -iE '^(spikeinterface|neo|zarr|numcodecs|mtscomp|numpy) '
