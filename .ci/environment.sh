#!/bin/sh
# Make the virtual environment, or do nothing (quickly) when it is up to date. Run from the root of the repository.
#
#   environment.sh FOLDER [PYTHON]
#
# FOLDER/.complete is written last and says what the environment was made from, so that an interrupted set-up, a moved
# clone, a Python that went away or a changed requirement is noticed and put right.
set -eu

venv=$1
wanted=${2:-}
here=$(pwd)
stamp=$venv/.complete
log=$venv/install.log

base_of() { # the Python that a Python or an environment was made with; nothing when it does not run
    "$1" -I -c 'import os, sys; print(os.path.realpath(sys._base_executable), *sys.version_info[:3])' 2>/dev/null || true
}

identity() { # an environment of another Python, or of another folder, has to be made anew
    printf '%s\n%s\n' "$(base_of "$venv/bin/python")" "$here"
}

sources() { # when these change, installing again is enough
    cksum <pyproject.toml
    cksum <constraints.txt
}

base=$(base_of "$venv/bin/python")
usable=no
if [ -n "$base" ] && [ -f "$stamp" ] && [ "$(head -n 2 "$stamp")" = "$(identity)" ]; then usable=yes; fi
if [ -n "$wanted" ]; then
    asked=$(base_of "$wanted")
    if [ -z "$asked" ] || ! "$wanted" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "PYTHON=$wanted does not run or is older than Python 3.11." >&2
        exit 1
    fi
    if [ "$asked" != "$base" ]; then usable=no; fi
fi
if [ "$usable" = yes ] && [ "$(tail -n +3 "$stamp")" = "$(sources)" ]; then exit 0; fi

if [ "$usable" = no ]; then
    if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ] && [ ! -e "$venv/.ibl-cubes" ]; then
        echo "$venv exists and is not a virtual environment; remove it or name another: make VENV=..." >&2
        exit 1
    fi
    python=${wanted:-$(sh .ci/pick_python.sh)}
    mkdir -p "$venv"
    : >"$venv/.ibl-cubes" # first in, never removed: even half made or half removed, it is known to be ours
    rm -f "$stamp"        # before anything else goes
    find "$venv" -mindepth 1 -maxdepth 1 ! -name .ibl-cubes -exec rm -rf {} +
    echo "== environment: $venv from $("$python" -V) ($python)"
    "$python" -m venv "$venv"
fi

rm -f "$stamp"
echo "== install: about 200 packages, 1.5 GB, a few minutes the first time (log: $log)"
if ! "$venv/bin/python" -m pip install --no-input --disable-pip-version-check -c constraints.txt -e '.[dev]' \
    >"$log" 2>&1 </dev/null; then
    tail -n 40 "$log" >&2
    echo "The installation failed; the end of $log is above. Nothing was kept: the next make starts again." >&2
    exit 1
fi
{
    identity
    sources
} >"$stamp.new"
mv "$stamp.new" "$stamp"
