#!/bin/sh
# Makes benchmarks/peers/.venv-pynapple, the environment of its own of the peer in bench_align.py.
#     PYTHON=python3.12 sh benchmarks/peers/pynapple.sh
set -eu
cd "$(dirname "$0")"
"${PYTHON:-python3}" -m venv .venv-pynapple
.venv-pynapple/bin/python -m pip install --quiet --upgrade pip
.venv-pynapple/bin/python -m pip install --quiet --requirement pynapple.txt
.venv-pynapple/bin/python -m pip list | grep -iE '^(pynapple|numpy|numba) '
