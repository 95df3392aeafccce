#!/usr/bin/env bash
# Run one of the sets of tests: tests.bash fast|normal|slow|all [pytest arguments]
#   fast    what needs neither ROS 2, sound and browser nor more than about ten seconds
#   normal  all but what is marked `long`
#   slow    what is marked `long`
# What needs no ROS 2 runs on all cores at once; nodes have deadlines, so their tests run one after the other.
# The last line sums up.
set -uo pipefail
cd "$(dirname "$0")/.."
set_name="$1" && shift
log="$(mktemp)" && trap 'rm -f "$log"' EXIT
trap 'exit 130' INT
plain="not ros and not sound and not browser"
side_by_side=(-n auto --maxprocesses 8 --dist loadscope)
status=0
part() { # marker expression, pytest arguments
    local expression="$1" result && shift
    python -m pytest -m "$expression" "$@" | tee -a "$log"
    result="${PIPESTATUS[0]}"
    # 5: no test was asked for in this part.
    [ "$result" = 0 ] || [ "$result" = 5 ] || status="$result"
}
case "$set_name" in
    fast) part "$plain and not slow and not long" "${side_by_side[@]}" "$@" ;;
    normal) part "$plain and not long" "${side_by_side[@]}" "$@" && part "not ($plain) and not long" "$@" ;;
    slow) part "long" "$@" ;;
    all) part "$plain" "${side_by_side[@]}" "$@" && part "not ($plain)" "$@" ;;
esac
awk -v status="$status" -v seconds="$SECONDS" '
    / in [0-9.]+s/ {
        for (field = 1; field < NF; field++) {
            name = $(field + 1)
            gsub(/[,=]|s$/, "", name)
            if ($field ~ /^[0-9]+$/ && name ~ /^(passed|failed|skipped|error|xfailed|xpassed)$/) count[name] += $field
        }
    }
    END {
        for (name in count) text = text (text ? ", " : "") count[name] " " name
        printf "==== all parts: %s in %ds ====\n", text ? text : "no tests ran", seconds
    }' "$log"
exit "$status"
