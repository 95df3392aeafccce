#!/usr/bin/env bash
# mypy over every room's cores. Nodes and launch files touch ROS 2, which has no types.
set -euo pipefail
cd "$(dirname "$0")/.."
sources=$(for room in ros2_ws/src/*/; do printf '%s:' "$PWD/${room%/}"; done)
export MYPYPATH="$PWD/timar_model:$PWD/training:$PWD/tools:${sources%:}"
mapfile -t files < <(git ls-files -co --exclude-standard '*.py' |
    grep -vE '_node\.py$|\.launch\.py$|(^|/)(setup|conftest)\.py$|^(tests|examples|benchmarks)/|base_node' | sort -u)
exec python -m mypy "$@" "${files[@]}"
