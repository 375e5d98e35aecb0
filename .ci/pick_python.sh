#!/bin/sh
# Print the path of a Python to make the environment with.
#
#   pick_python.sh            the newest suitable one
#   pick_python.sh --oldest   the newest patch release of the oldest suitable minor version
#   pick_python.sh --all      every suitable one as "version path", oldest first
#
# Suitable: a released 64-bit CPython with a GIL, OLDEST to NEWEST below, that can make virtual environments.
# Each candidate is run, because a name on PATH proves nothing: a pyenv shim exists and fails, a distribution ships
# Python without ensurepip. pyenv's versions count, whether or not they are on PATH.
set -eu

OLDEST=11
NEWEST=14  # 3.15: numcodecs has no wheels yet. A newer one can still be asked for: make PYTHON=python3.15

probe='
import ctypes, ensurepip, os, ssl, sys, sysconfig, venv, zlib
low, high = int(sys.argv[1]), int(sys.argv[2])
v = sys.version_info
ok = v[0] == 3 and low <= v[1] <= high and v.releaselevel == "final" and sys.implementation.name == "cpython"
ok = ok and sys.maxsize > 2**32 and not sysconfig.get_config_var("Py_GIL_DISABLED")
# Inside a virtual environment (perhaps the one about to be replaced): the Python that it was made with.
path = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
if ok:
    print("%02d %02d %d.%d.%d %s" % (v[1], v[2], v[0], v[1], v[2], path))
'

names() {
    minor=$NEWEST
    while [ "$minor" -ge "$OLDEST" ]; do
        echo "python3.$minor"
        minor=$((minor - 1))
    done
    echo python3
    echo python
}

candidates() {
    # Every match on PATH, not only the first: a broken shim may hide a good Python further on.
    list=$(names)
    old_ifs=$IFS
    IFS=:
    set -f
    for folder in $PATH; do
        IFS=$old_ifs
        for name in $list; do
            if [ -x "$folder/$name" ] && [ ! -d "$folder/$name" ]; then echo "$folder/$name"; fi
        done
    done
    set +f
    IFS=$old_ifs
    for root in "${PYENV_ROOT:-}" "${HOME:-}/.pyenv" "$(pyenv root 2>/dev/null || true)"; do
        [ -n "$root" ] || continue
        for path in "$root"/versions/3.*/bin/python; do
            if [ -x "$path" ]; then echo "$path"; fi
        done
    done
}

# -I: neither PYTHONPATH nor the user's own site-packages decide whether a Python works.
found=$(candidates | sort -u | while IFS= read -r path; do
    "$path" -I -c "$probe" "$OLDEST" "$NEWEST" </dev/null 2>/dev/null || true
done | sort -u)

if [ -z "$found" ]; then
    {
        echo "No suitable Python found: looked for CPython 3.$OLDEST to 3.$NEWEST on PATH and among pyenv's versions"
        echo "(one that really runs and has the modules venv, ensurepip and ssl)."
        echo "Install one, for example 'apt install python3 python3-venv', 'brew install python' or"
        echo "'pyenv install 3.13', or name one: make PYTHON=/path/to/python"
    } >&2
    exit 1
fi

case ${1:-} in
    --all) echo "$found" | cut -d' ' -f3- ;;
    --oldest) echo "$found" | awk 'NR == 1 { minor = $1 } $1 == minor' | tail -n 1 | cut -d' ' -f4- ;;
    "") echo "$found" | tail -n 1 | cut -d' ' -f4- ;;
    *) echo "unknown option: $1 (known: --oldest, --all)" >&2; exit 2 ;;
esac
