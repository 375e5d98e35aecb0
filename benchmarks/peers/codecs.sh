#!/bin/sh
# Makes benchmarks/peers/.venv-codecs, the environment of the foreign codecs in bench_codecs.py. A wavpack codec has no wheel.
#     PYTHON=python3.12 sh benchmarks/peers/codecs.sh
set -eu
cd "$(dirname "$0")"
"${PYTHON:-python3}" -m venv .venv-codecs
.venv-codecs/bin/python -m pip install --quiet --upgrade pip
.venv-codecs/bin/python -m pip install --quiet --requirement codecs.txt
.venv-codecs/bin/python -m pip list | grep -iE '^(pcodec|soundfile|numpy) '
