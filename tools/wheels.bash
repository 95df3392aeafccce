#!/usr/bin/env bash
# Build the wheels of the model and of what it needs of this project: tools/wheels.bash FOLDER
# Sources are copied first: setuptools leaves its build folders beside them, and colcon would find these.
set -euo pipefail
folder="$(realpath -m "$1")"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
cd "$root"
git ls-files -z --cached --others --exclude-standard timar_model ros2_ws/src/timar_common |
    tar --create --null --files-from - | tar --extract --directory "$scratch"
uv build --quiet --wheel --out-dir "$folder" "$scratch/timar_model"
uv build --quiet --wheel --out-dir "$folder" "$scratch/ros2_ws/src/timar_common"
ls "$folder"
