"""Start a head that one can talk with: ros2 launch timar_bringup talk.launch.py robot:=... name:=value ..."""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from timar_bringup.graph import TALK_DEFAULTS

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    # What is declared first keeps its default; the included file declares all the others.
    declared = [DeclareLaunchArgument(name, default_value=value) for name, value in TALK_DEFAULTS.items()]
    head = PythonLaunchDescriptionSource(str(Path(__file__).with_name("robot.launch.py")))
    return LaunchDescription([*declared, IncludeLaunchDescription(head)])
