#!/usr/bin/env bash
# Prints the path of a Python that can make edgeqwt's environment: 3.12 or 3.13, with venv.
# Exit code 1, and what to install, when there is none.
#
# Candidates are judged by running them, never by their names: a version manager's shim may be on
# PATH and still fail (pyenv's exits with 127 when no version is selected for that name).
set -u

# Run by a candidate. Says why it will not do, or prints the interpreter behind shims and virtual
# environments: those may be gone, or be the very folder that is about to be made anew.
read -r -d '' probe <<'PROBE' || true
import sys
found = "%d.%d.%d" % sys.version_info[:3]
if not (3, 12) <= sys.version_info[:2] <= (3, 13):
    sys.exit("is Python " + found)
try:
    import ensurepip, venv
except ImportError as missing:
    sys.exit("is Python " + found + ", but without its " + str(missing.name) + " module")
print(getattr(sys, "_base_executable", None) or sys.executable)
PROBE

tried=""

# Prints the interpreter and ends the search if $1 will do; otherwise notes why not.
try() {
    local answer status reason
    # The output may hold warnings before the answer: the last line is what the probe said.
    answer=$("$1" -c "$probe" 2>&1 </dev/null)
    status=$?
    reason=$(printf '%s\n' "$answer" | tail -n 1)
    if [ "$status" -eq 0 ] && [ -x "$reason" ]; then
        printf '%s\n' "$reason"
        exit 0
    fi
    case $reason in
        "is Python "*) ;;
        *) reason="does not run (exit status $status)" ;;
    esac
    tried="$tried  $1 $reason
"
}

if [ -n "${PYTHON:-}" ]; then
    try "$PYTHON"
    printf 'note: PYTHON=%s will not do; looking further\n' "$PYTHON" >&2
fi

# 3.12 first: it is the version that the pinned environment is developed with.
for name in python3.12 python3.13 python3 python; do
    path=$(command -v "$name" 2>/dev/null) && try "$path"
done

pyenv_root=$(pyenv root 2>/dev/null) || pyenv_root=${PYENV_ROOT:-${HOME:-}/.pyenv}
for path in "$pyenv_root"/versions/3.12*/bin/python "$pyenv_root"/versions/*/bin/python; do
    [ -x "$path" ] && try "$path"
done

# Only those that uv manages: it would stop at a shim on PATH that fails, and PATH was searched above.
if command -v uv >/dev/null 2>&1; then
    path=$(uv python find --python-preference only-managed '>=3.12,<3.14' 2>/dev/null) && try "$path"
fi

cat >&2 <<MESSAGE
error: no usable Python found. edgeqwt needs Python 3.12 or 3.13 with the venv module
(not newer: tflite-micro has no wheels for 3.14 yet).
Tried:
${tried:-  nothing that is called python on PATH, under pyenv or uv
}Install one, for example:
  Debian, Ubuntu   apt install python3.12 python3.12-venv
  Fedora           dnf install python3.12
  pyenv            pyenv install 3.12
  uv               uv python install 3.12
or name one that you have:  make setup PYTHON=path/to/python3.12
MESSAGE
exit 1
