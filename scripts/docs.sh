#!/usr/bin/env bash
# Makes .venv-docs: what is in .venv, seen through a .pth file, and what builds the site and runs the notebooks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv-docs
rm -rf "$venv"
.venv/bin/python -m venv "$venv"
own=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$own/edgeqwt_venv.pth"
"$venv/bin/python" -m pip install --disable-pip-version-check --no-input --quiet --constraint constraints.txt \
    --requirement scripts/docs-requirements.txt
touch "$venv/.ready"
