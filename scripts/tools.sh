#!/usr/bin/env bash
# Makes managed environments for the tools that cannot live beside edgeqwt: those that are named, or all.
# What is there already, at whatever version, stays as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# LiteRT.js comes with npm, where that is.
browser=$(command -v npm > /dev/null && echo litertjs || true)
for tool in "${@:-litert-torch tensorflow qualcomm $browser}"; do
    for name in $tool; do
        if .venv/bin/edgeqwt tools --json | .venv/bin/python -c '
import json, sys
found = {tool["tool"]: tool for tool in json.load(sys.stdin)}
sys.exit(found[sys.argv[1]]["version"] is None)' "$name"; then
            echo "$name is there"
        else
            # LiteRT.js is for tests in a browser, which say that they are skipped without it.
            .venv/bin/edgeqwt tools install "$name" || [ "$name" = litertjs ]
        fi
    done
done

# Kotlin's compiler for the test of examples/android, which says that it is skipped without it.
if [ $# -eq 0 ] && command -v java > /dev/null && command -v apt-get > /dev/null; then
    bash scripts/kotlin.sh || echo "no Kotlin: the test of examples/android is skipped"
fi
