#!/usr/bin/env bash
# Run one of the sets of tests: tests.bash fast|normal|slow|all [pytest arguments]
#   fast    neither ROS 2, sound and browser nor what is marked slow
#   normal  fast, then what needs ROS 2, sound or a browser
#   slow    what is marked slow
# What needs no ROS 2 runs on all cores at once; nodes have deadlines, so their tests run one after the other.
# The last line sums up.
set -uo pipefail
cd "$(dirname "$0")/.."
set_name="$1" && shift
log="$(mktemp)" && trap 'rm -f "$log"' EXIT
plain="not ros and not sound and not browser"
status=0
part() { # marker expression, pytest arguments
    local expression="$1" result && shift
    python -m pytest -m "$expression" "$@" | tee -a "$log"
    result="${PIPESTATUS[0]}"
    # 5: no test has been asked for in this part.
    [ "$result" = 0 ] || [ "$result" = 5 ] || status="$result"
}
side_by_side=(-n auto --maxprocesses 8 --dist loadscope)
case "$set_name" in fast | normal | all) part "not slow and $plain" "${side_by_side[@]}" "$@" ;; esac
case "$set_name" in normal | all) part "not slow and not ($plain)" "$@" ;; esac
case "$set_name" in slow | all) part "slow and $plain" "${side_by_side[@]}" "$@" && part "slow and not ($plain)" "$@" ;; esac
awk -v status="$status" -v seconds="$SECONDS" '
    /^=+ .*(passed|failed|skipped|error|deselected|no tests ran).* in [0-9.]+s/ {
        for (i = 1; i < NF; i++) if ($i ~ /^[0-9]+$/) { sub(",", "", $(i + 1)); sub("errors", "error", $(i + 1)); count[$(i + 1)] += $i }
    }
    END {
        for (name in count) if (name ~ /^(failed|error|passed|skipped|xfailed|xpassed)$/) text = text (text ? ", " : "") count[name] " " name
        printf "==== all parts: %s in %ds ====\n", text ? text : "no tests ran", seconds
    }' "$log"
exit "$status"
