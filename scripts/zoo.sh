#!/usr/bin/env bash
# Makes .venv-zoo: what is in .venv, seen through a .pth file, and the packages that hold the zoo's networks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv-zoo
rm -rf "$venv"
.venv/bin/python -m venv "$venv"
own=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$own/edgeqwt_venv.pth"
"$venv/bin/python" -m pip install --disable-pip-version-check --no-input --constraint constraints.txt \
    --requirement benchmarks/zoo/requirements.txt
touch "$venv/.ready"
