#!/bin/sh
# Makes benchmarks/peers/.venv-nwb, the environment of its own of a peer in bench_claims.py.
#     PYTHON=python3.12 sh benchmarks/peers/nwb.sh
set -eu
cd "$(dirname "$0")"
"${PYTHON:-python3}" -m venv .venv-nwb
.venv-nwb/bin/python -m pip install --quiet --upgrade pip
.venv-nwb/bin/python -m pip install --quiet --requirement nwb.txt
.venv-nwb/bin/python -m pip list | grep -iE '^(pynwb|hdmf|h5py|numpy) '
