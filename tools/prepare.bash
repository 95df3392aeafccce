#!/usr/bin/env bash
# Find a Python to run prepare.py with; on a machine without any, install it or say the one line to type.
set -euo pipefail
. "$(dirname "$0")/leave_ros.bash"
if ! command -v python3 >/dev/null; then
    line="apt-get update && apt-get install -y python3"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing python3"
        DEBIAN_FRONTEND=noninteractive bash -c "$line" </dev/null >/dev/null
    else
        echo "setup: python3 is missing; type this line, then call make again: sudo sh -c '$line'" >&2
        exit 1
    fi
fi
exec python3 "$(dirname "$0")/prepare.py" "$@"
