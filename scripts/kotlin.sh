#!/usr/bin/env bash
# What the Android example is checked with, in a folder of its own: Kotlin's compiler out of a package of PyPI, Android's
# declarations and org.json out of Debian's packages (or android.jar of an Android SDK), without rights on the system.
set -euo pipefail

folder=${1:-${EDGEQWT_TOOLS:-${XDG_DATA_HOME:-$HOME/.local/share}/edgeqwt/tools}/kotlin}
python=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.venv/bin/python
mkdir -p "$folder/jars"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m pip download --quiet --no-deps --dest "$work" kotlin-jupyter-kernel==0.19.0.944
"$python" - "$work"/*.whl "$folder/jars" <<'PYTHON'
import pathlib, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    for name in wheel.namelist():
        if name.endswith(".jar"):
            (pathlib.Path(sys.argv[2]) / pathlib.Path(name).name).write_bytes(wheel.read(name))
PYTHON

# One package of a release of Debian, by the servers that this machine uses: from_debian RELEASE PACKAGE JAR TARGET
from_debian() {
    mkdir -p "$work/$1/lists/partial" "$work/$1/cache/archives/partial"
    { cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list /etc/apt/sources.list 2> /dev/null || true; } \
        | sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p' | grep -v security | sort -u \
        | sed "s|.*|deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] & $1 main|" > "$work/$1/sources"
    local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$work/$1/sources" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$work/$1/lists" -o "Dir::Cache=$work/$1/cache" -o APT::Sandbox::User=)
    "${apt[@]}" update
    (cd "$work" && "${apt[@]}" download "$2" && dpkg -x "$2"_*.deb "$work/$2")
    cp -L "$work/$2/$3" "$4"
}

# The newest declarations that Debian has are those of API 23.
sdk=$(ls -d "${ANDROID_HOME:-/nowhere}"/platforms/android-*/android.jar 2> /dev/null | tail -1 || true)
if [ -n "$sdk" ]; then cp "$sdk" "$work/android.jar"; else
    from_debian bullseye libandroid-23-java usr/share/java/com.android.android-23.jar "$work/android.jar"
fi
from_debian bookworm libandroid-json-java usr/share/java/com.android.json-android-10.0.0.jar "$folder/json.jar"
mv "$work/android.jar" "$folder/android.jar"
echo "Ready: $folder"
