#!/usr/bin/env bash
# Builds the source archive and, from it, the wheel; tries both in clean environments; writes what is in them to dist/:
# the list of licences (licences.md) and the bill of materials (sbom.json, CycloneDX) of an environment with the wheel.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

root=$PWD python=$PWD/.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pip_install() { "$1" -m pip install --disable-pip-version-check --no-input --quiet --constraint "$root/constraints.txt" "${@:2}"; }

"$python" -m venv "$work/tools"
"$work/tools/bin/python" -m pip install --disable-pip-version-check --no-input --quiet \
    --requirement scripts/release-requirements.txt
rm -rf dist
"$work/tools/bin/python" -m build --outdir dist . >"$work/build.log" 2>&1 || { tail -20 "$work/build.log" >&2; exit 1; }
"$work/tools/bin/twine" check --strict dist/*
"$python" scripts/release_contents.py dist/*.tar.gz dist/*.whl

# The wheel in an environment with what it requires and nothing else, as a program, in a folder without a checkout.
clean=$work/clean/bin/python
mkdir "$work/empty"
"$python" -m venv "$work/clean"
pip_install "$clean" "$root"/dist/*.whl
(cd "$work/empty" && "$clean" -I "$root/tests/installed.py" >"$work/tried.log") || { tail -30 "$work/tried.log" >&2; exit 1; }
echo "$(cd dist && ls ./*.whl): installed, every command tried"

# The source archive in its place has to install the same files: what was tried of one holds for the other.
installed() { grep -h '^edgeqwt/' "$work"/clean/lib/python*/site-packages/edgeqwt-*.dist-info/RECORD | grep -v '\.pyc,' | sort; }
installed >"$work/of-wheel"
pip_install "$clean" --force-reinstall --no-deps "$root"/dist/*.tar.gz
diff "$work/of-wheel" <(installed) || { echo "the source archive installs other files than the wheel" >&2; exit 1; }
echo "$(cd dist && ls ./*.tar.gz): installed, $(wc -l <"$work/of-wheel") files, the same as the wheel's"

"$work/tools/bin/cyclonedx-py" environment --pyproject pyproject.toml --output-reproducible --output-format JSON \
    --output-file dist/sbom.json "$clean"
"$work/tools/bin/pip-licenses" --python "$clean" --format markdown --with-urls --from mixed --output-file dist/licences.md
echo "$(grep -c '^| ' dist/licences.md) lines in dist/licences.md, $("$python" -c '
import json
print(len(json.load(open("dist/sbom.json"))["components"]))') components in dist/sbom.json"
