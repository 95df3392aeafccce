"""Make README's moving picture, and its sound, of a real run: docs/images/talk.webp and talk.ogg.

make readme-media                                      # runs `timar demo` for half a minute first
make readme-media ARGS="--bag DIR --start 8 --seconds 6"
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from timar_description import find_urdf
from timar_report.video import save_video
from timar_view.config import ViewConfig

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
PICTURE = ["-an", "-vf", "fps=12.5", "-c:v", "libwebp_anim", "-loop", "0", "-quality", "70"]
SOUND = ["-vn", "-c:a", "libvorbis", "-q:a", "3"]


def main(argv: list[str] | None = None) -> int:
    """Make both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bag", type=Path, help="of a run that is there (default: a new run of the demo)")
    parser.add_argument("--start", type=float, default=8.0, help="second at which it begins (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long it is (%(default)s)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="timar-media-") as scratch:
        bag, video = arguments.bag, Path(scratch) / "run.mkv"
        if bag is None:
            bag = Path(scratch) / "run" / "bag"
            command = [sys.executable, "-m", "timar_common.cli", "demo", "--headless", "--out", bag.parent]
            subprocess.run(
                [*command, "--duration", f"{arguments.start + arguments.seconds + 2:g}"], check=True
            )
        save_video(bag, find_urdf(ViewConfig().robot), video)
        part = ["-ss", str(arguments.start), "-t", str(arguments.seconds), "-i", str(video)]
        for name, options in (("talk.webp", PICTURE), ("talk.ogg", SOUND)):
            subprocess.run(["ffmpeg", "-v", "error", "-y", *part, *options, IMAGES / name], check=True)
            sys.stdout.write(f"{IMAGES / name}: {(IMAGES / name).stat().st_size / 1e3:.0f} kB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
