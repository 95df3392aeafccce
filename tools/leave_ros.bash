# Leave a sourced ROS 2 distribution or workspace aside: the wheels in .venv do not mix with it.
# To build with it instead: docs/setup.md.
timar_prefixes="${AMENT_PREFIX_PATH:-}:${COLCON_PREFIX_PATH:-}"
timar_without_prefixes() { # the entries of a list of folders that lie under none of the prefixes
    local entry prefix kept="" IFS=:
    for entry in $1; do
        for prefix in $timar_prefixes; do
            case "$prefix" in "" | / | /usr | /usr/local) continue ;; esac
            case "$entry/" in "$prefix"/*) continue 2 ;; esac
        done
        kept="$kept${kept:+:}$entry"
    done
    printf '%s' "$kept"
}
if [ -n "${ROS_DISTRO:-}" ]; then
    echo "timar: ROS 2 $ROS_DISTRO is sourced in this shell; it is left aside here (docs/setup.md: how to build with it)" >&2
fi
for timar_name in PATH PYTHONPATH LD_LIBRARY_PATH CMAKE_PREFIX_PATH; do
    if [ -n "${!timar_name:-}" ]; then
        export "$timar_name=$(timar_without_prefixes "${!timar_name}")"
    fi
done
unset AMENT_PREFIX_PATH COLCON_PREFIX_PATH ROS_DISTRO ROS_VERSION ROS_PYTHON_VERSION RMW_IMPLEMENTATION
# The wheels set their library path once and then believe it; it was left aside above.
unset _ROS_WHEELS_BOOTSTRAP_COMPLETE
unset timar_name timar_prefixes
unset -f timar_without_prefixes
