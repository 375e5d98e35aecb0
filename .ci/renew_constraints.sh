#!/bin/sh
# Write constraints.txt anew: install without constraints on the oldest and the newest Python, freeze, merge.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
for which in --oldest --newest; do
    if [ "$which" = --newest ]; then python=$(sh .ci/pick_python.sh); else python=$(sh .ci/pick_python.sh "$which"); fi
    echo "== newest versions for $("$python" -V)"
    "$python" -m venv "$work/venv$which"
    "$work/venv$which/bin/python" -m pip install --quiet --no-input --disable-pip-version-check -e '.[dev]'
    "$work/venv$which/bin/python" -m pip freeze --exclude-editable >"$work/freeze$which"
done
"$python" .ci/merge_constraints.py "$work/freeze--oldest" "$work/freeze--newest" >"$work/constraints.txt"
mv "$work/constraints.txt" constraints.txt
