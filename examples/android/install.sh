#!/usr/bin/env bash
# Builds the app around what `edgeqwt build --output FOLDER` wrote, and installs it on the device that adb names.
#
#     bash examples/android/install.sh FOLDER [options of `edgeqwt demo`: --labels FILE, --pixels VALUES]
#
# Wants an Android SDK (ANDROID_HOME), Gradle 8.11.1 or newer, Java 17 and adb.
set -euo pipefail
app=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:?the folder that edgeqwt build wrote}
shift
for program in edgeqwt gradle java adb; do
    command -v "$program" > /dev/null || { echo "$program is not on your PATH." >&2; exit 1; }
done
[ -d "${ANDROID_HOME:-}" ] || { echo "ANDROID_HOME names no Android SDK." >&2; exit 1; }

rm -rf "$app/app/src/main/assets"
edgeqwt demo "$folder" --android "$app/app/src/main/assets" "$@"
gradle --project-dir "$app" installDebug
adb shell am start -n org.edgeqwt.demo/.MainActivity
