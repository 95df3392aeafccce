"""Our bags are read whole by a reader that is not ours, in a process that has nothing of the workspace."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from timar_bag.bag import BagReader

# Every record with its checksum, and each message by the definitions in the bag.
SCRIPT = """
import collections, importlib.util, json, sys
sys.path.append(sys.argv[2])
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader
from mcap_ros2.decoder import DecoderFactory

assert not any(map(importlib.util.find_spec, ("timar_msgs", "timar_common", "rclpy")))
with open(sys.argv[1], "rb") as file:
    records = sum(1 for _ in StreamReader(file, validate_crcs=True).records)
    file.seek(0)
    reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
    counts, sound = collections.Counter(), []
    for schema, channel, message, decoded in reader.iter_decoded_messages():
        counts[channel.topic] += 1
        if channel.topic.endswith("/user/audio"):
            sound += decoded.samples
    stated = reader.get_summary().statistics.message_count
json.dump({"counts": counts, "sound": sound, "stated": stated, "records": records}, sys.stdout)
"""


def test_the_bag_is_whole_to_foxgloves_own_reader_without_our_workspace(
    make_bag: Any, tmp_path: Path
) -> None:
    bag = make_bag(seconds=3.0)
    (path,) = bag.glob("*.mcap")
    packages = tmp_path / "packages"
    packages.mkdir()
    for name in ("mcap", "mcap_ros2", "lz4", "zstandard"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        (packages / name).symlink_to(Path(spec.origin).parent)
    # -S: without what is installed, for the workspace is installed there too.
    command = [sys.executable, "-I", "-S", "-c", SCRIPT, path, packages]
    done = subprocess.run(command, capture_output=True, text=True, env={}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    with BagReader(bag) as reader:
        names = {name: topic.full_name for name, topic in reader.topics.items()}
        entries = list(reader.messages())
    assert found["counts"] == Counter(names[entry.topic] for entry in entries)
    assert found["stated"] == len(entries) < found["records"]
    sound = [
        int(value) for entry in entries if entry.topic == "user/audio" for value in entry.message.samples
    ]
    assert found["sound"] == sound != []
