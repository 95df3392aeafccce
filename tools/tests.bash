#!/usr/bin/env bash
# Run one of the three sets of tests: tests.bash fast|normal|slow [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
set_name="$1"; shift
case "$set_name" in
    fast) exec python -m pytest -m "not ros and not sound and not browser and not slow" "$@" ;;
    slow) exec python -m pytest -m "slow" "$@" ;;
    *) exec python -m pytest "$@" ;;
esac
