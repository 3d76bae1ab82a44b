#!/usr/bin/env bash
# Makes or updates .venv with exactly what constraints.txt pins. May be run again at any time, and
# after it was stopped at any point.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv
# Present from the first step until everything is in place once. A half-unpacked package looks
# installed to pip, so an environment that never became complete is made anew.
unfinished=$venv/.unfinished

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "error: set-up works on Linux on x86-64 only ($(uname -sm) here): tflite-micro has wheels for no other." >&2
    echo "Use such a machine, or a container for linux/amd64." >&2
    exit 1
fi

usable() {
    [ ! -e "$unfinished" ] &&
        "$venv/bin/python" -c 'import pip, sys; sys.exit(not (3, 12) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

if usable; then
    quiet=--quiet
    echo "Updating $venv"
else
    quiet=
    python=$(bash scripts/find_python.sh)
    echo "Making $venv with $python: several GB, most of it PyTorch; this takes some minutes"
    rm -rf "$venv"
    mkdir "$venv"
    touch "$unfinished"
    "$python" -m venv "$venv"
fi

install() {
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input $quiet --constraint constraints.txt "$@"
}

# setuptools comes first and builds edgeqwt in this environment, at its pinned version: the same
# build everywhere, and no network needed when only pyproject.toml has changed.
install setuptools
install --no-build-isolation --editable '.[dev]'

rm -f "$unfinished"
touch "$venv/.ready"
