"""The command `timar service`: the head as a systemd service of one user."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from timar_common.atomic import write_text

from timar_bringup.composer import UNIT_WATCHDOG_S
from timar_bringup.graph import UsageError, read_arguments

UNIT = "timar.service"
VARIABLES = (
    "AMENT_PREFIX_PATH",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "PATH",
    "ROS_DISTRO",
    "ROS_DOMAIN_ID",
    "RMW_IMPLEMENTATION",
)
"""What the service needs of the shell it is made in, for it starts without one."""
LOGS = "~/.local/state/timar/log"
KEPT = {"logs": LOGS, "keep_gb": "20", "keep_days": "30"}
"""What a head that runs for months is started with unless it is typed otherwise."""


def unit_text(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Return the unit of a head with some launch arguments.

    Args:
        arguments: ``name:=value`` words.
        folder: Where it runs; recordings go there.
        environment: The shell's.
    """
    variables = {name: environment[name] for name in VARIABLES if environment.get(name)}
    command = " ".join(map(_quoted, [sys.executable, "-m", "timar_bringup.composer", *arguments]))
    lines = [
        "[Unit]",
        "Description=TIMAR conversational head",
        "After=sound.target network.target pipewire.service pulseaudio.service",
        "StartLimitIntervalSec=600",
        "StartLimitBurst=5",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"WatchdogSec={UNIT_WATCHDOG_S:.0f}",
        "TimeoutStartSec=180",
        # The composer ends its processes in order within this time, the robot's own stop included.
        "TimeoutStopSec=30",
        "KillMode=mixed",
        # A process that the kernel ends for want of memory is started again by the composer, alone.
        "OOMPolicy=continue",
        "LimitNOFILE=4096",
        "Restart=on-failure",
        "RestartSec=5",
        # Wrong arguments stay wrong.
        "RestartPreventExitStatus=2",
        f"WorkingDirectory={str(folder).replace('%', '%%')}",
        *(f"Environment={_quoted(f'{name}={value}')}" for name, value in variables.items()),
        f"ExecStart={command}",
        "NoNewPrivileges=true",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join(lines) + "\n"


def with_limits(arguments: Sequence[str]) -> list[str]:
    """Return launch arguments with the limits of what is kept, where none is typed."""
    typed = {word.partition(":=")[0] for word in arguments}
    return [*arguments, *(f"{name}:={value}" for name, value in KEPT.items() if name not in typed)]


def _quoted(word: str) -> str:
    """Quote a word as systemd reads it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def main(argv: list[str] | None = None) -> int:
    """Make the head a service of systemd (timar service install --user) that starts with the machine."""
    parser = argparse.ArgumentParser(prog="timar service", description=main.__doc__)
    parser.add_argument("command", choices=("install", "show"), help="show: print the unit, change nothing")
    parser.add_argument("--user", action="store_true", help="a service of this user (the only kind there is)")
    parser.add_argument("arguments", nargs="*", metavar="name:=value", help="launch arguments")
    typed = parser.parse_intermixed_args(argv)
    try:
        read_arguments(typed.arguments)
    except UsageError as error:
        sys.stderr.write(f"timar service: {error}\n")
        return 2
    text = unit_text(with_limits(typed.arguments), Path.cwd(), os.environ)
    if typed.command == "show":
        sys.stdout.write(text)
        return 0
    if not typed.user:
        sys.stderr.write("timar service: add --user; a robot needs no rights of root\n")
        return 2
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = home / "systemd" / "user" / UNIT
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    sys.stdout.write(f"wrote {path}\n")
    return _start()


def _start() -> int:
    for command in (["daemon-reload"], ["enable", "--now", UNIT]):
        try:
            subprocess.run(["systemctl", "--user", *command], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.stderr.write(
                f"timar service: the unit is there, but systemctl --user {' '.join(command)} did not work "
                f"({error}); type it where systemd runs\n"
            )
            return 1
    sys.stdout.write(
        "it runs and starts when you log in; with the machine: sudo loginctl enable-linger $USER\n"
        f"its log: journalctl --user -u {UNIT} -f; to stop it: systemctl --user disable --now {UNIT}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
