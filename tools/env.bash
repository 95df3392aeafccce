# Make this shell one in which the workspace runs: . tools/env.bash
# (To use a ROS 2 distribution instead, source its setup and ros2_ws/install/setup.bash: docs/setup.md.)
timar_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
. "$timar_root/tools/leave_ros.bash"
# colcon's script calls the interpreter it was built with unquoted; in a path with spaces it needs another one.
COLCON_PYTHON_EXECUTABLE="$(PATH="/usr/bin:/bin:$PATH" command -v python3)"
. "$timar_root/.venv/bin/activate"
export AMENT_PREFIX_PATH="$VIRTUAL_ENV"
# It warns that the environment's own prefix has no local_setup; it needs none.
. "$timar_root/ros2_ws/install/local_setup.bash" 2>/dev/null
# Nodes started by hand speak as the graph does: on this machine, by UDP (the profile says why).
export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-SYSTEM_DEFAULT}"
export FASTDDS_DEFAULT_PROFILES_FILE="${FASTDDS_DEFAULT_PROFILES_FILE:-$timar_root/ros2_ws/src/timar_bringup/config/fastdds.xml}"
# rclpy refuses to start where it cannot write its log.
if [ ! -w "${HOME:-/}" ] && [ ! -w "${HOME:-/}/.ros" ]; then
    export ROS_LOG_DIR="${ROS_LOG_DIR:-${TMPDIR:-/tmp}/ros-log-$(id -u)}"
fi
case "$AMENT_PREFIX_PATH" in
    *"$timar_root/ros2_ws/install/timar_msgs"*) unset timar_root COLCON_PYTHON_EXECUTABLE ;;
    *)
        echo "the workspace of $timar_root is not built; type: make setup" >&2
        unset timar_root COLCON_PYTHON_EXECUTABLE
        false
        ;;
esac
