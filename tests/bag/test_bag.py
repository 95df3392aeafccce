"""What is written is read back, and a damaged bag gives all that is left of it and says what is lost."""

from __future__ import annotations

import json
import shutil
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import StoragePlugin, Writer
from timar_bag.bag import BagReader
from timar_bag.bag_writer import BagWriter, offered_qos
from timar_common.messages import find_message_folder, standard_types
from timar_common.topics import TOPICS, Topic


def read_all(bag: Path, topics: set[str] | None = None) -> tuple[list[tuple[str, int]], list[str]]:
    with BagReader(bag) as reader:
        messages = [(topic, receive_ns) for topic, receive_ns, _ in reader.messages(topics)]
        return messages, reader.issues


def flushed_bag(make_bag, tmp_path: Path, count: int = 40) -> tuple[Path, list[tuple[str, int]]]:
    """Copy a conversation's first messages into a bag of small chunks, flushed but never closed."""
    writer = BagWriter(tmp_path / "killed")
    with BagReader(make_bag(seconds=1.0)) as reader:
        writer.open((topic.full_name, TOPICS[name]) for name, topic in reader.topics.items())
        written = []
        for number, (topic, receive_ns, data) in enumerate(reader.raw_messages()):
            if number == count:
                break
            writer.write(reader.topics[topic].full_name, receive_ns, data)
            written.append((topic, receive_ns))
            if number % 10 == 9:
                writer.flush()
    writer.abandon()
    return tmp_path / "killed", written


def test_every_message_comes_back_in_order_with_its_arrays(make_bag) -> None:
    with BagReader(make_bag(seconds=1.0)) as reader:
        messages = list(reader.messages())
        assert reader.issues == []
    times = [message.receive_ns for message in messages]
    assert times == sorted(times)
    assert Counter(m.topic for m in messages)["user/audio"] == 50
    heard = [m.message for m in messages if m.topic == "user/audio"]
    assert [block.first_sample for block in heard] == list(range(0, 16_000, 320))
    assert heard[0].samples.dtype == np.int16
    assert heard[0].samples.size == 320


def test_only_the_wanted_topics_are_read_and_an_absent_one_is_no_error(make_bag) -> None:
    messages, losses = read_all(make_bag(seconds=1.0, omit=("floor",)), {"turn_log", "floor"})
    assert {topic for topic, _ in messages} == {"turn_log"}
    assert losses == []


def test_metadata_has_what_ros2_bag_info_reads(make_bag) -> None:
    bag = make_bag(seconds=1.0, namespace="/robot")
    information = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert information["version"] == 9
    assert information["storage_identifier"] == "mcap"
    assert information["relative_file_paths"] == ["conversation.mcap"]
    with BagReader(bag) as reader:
        times = [receive_ns for _, receive_ns, _ in reader.raw_messages()]
    assert information["message_count"] == len(times)
    assert information["starting_time"]["nanoseconds_since_epoch"] == times[0]
    assert information["duration"]["nanoseconds"] == times[-1] - times[0]
    topics = {t["topic_metadata"]["name"]: t for t in information["topics_with_message_count"]}
    audio = topics["/robot/user/audio"]
    assert audio["message_count"] == 50
    assert audio["topic_metadata"]["type"] == "timar_msgs/msg/AudioChunk"
    assert audio["topic_metadata"]["serialization_format"] == "cdr"
    forever = {"sec": 9_223_372_036, "nsec": 854_775_807}
    assert topics["/robot/floor"]["topic_metadata"]["offered_qos_profiles"] == [
        {
            "history": "keep_last", "depth": 1, "reliability": "reliable", "durability": "transient_local",
            "deadline": forever, "lifespan": forever, "liveliness": "automatic",
            "liveliness_lease_duration": forever, "avoid_ros_namespace_conventions": False,
        }
    ]  # fmt: skip
    assert topics["/robot/turn_log"]["topic_metadata"]["offered_qos_profiles"][0]["history"] == "keep_all"


def test_type_hashes_are_those_of_the_built_messages() -> None:
    folder = find_message_folder()
    described = sorted(folder.glob("*.json"))
    if not described:
        pytest.skip("the workspace is not built, so there are no hashes of rosidl to compare with")
    types = standard_types()
    for path in described:
        name = f"timar_msgs/msg/{path.stem}"
        hashes = {h["type_name"]: h["hash_string"] for h in json.loads(path.read_text())["type_hashes"]}
        assert types.hash_rihs01(name) == hashes[name]


def test_an_existing_folder_is_never_overwritten(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exists already"):
        BagWriter(tmp_path).open([])


def test_a_bag_that_was_never_closed_reads_to_its_last_flush(make_bag, tmp_path: Path) -> None:
    bag, written = flushed_bag(make_bag, tmp_path)
    messages, losses = read_all(bag)
    assert messages == written
    assert losses == [
        "metadata.yaml is missing: the recording was not closed; its files were read directly",
        "killed.mcap has no end: the recording was cut short, its last moments are missing",
    ]


def test_a_file_that_breaks_off_anywhere_reads_to_its_last_whole_message(make_bag, tmp_path: Path) -> None:
    bag, written = flushed_bag(make_bag, tmp_path)
    whole = (bag / "killed.mcap").read_bytes()
    # The smallest cut leaves the declaration of the topics and not a single message.
    cuts = np.linspace(whole.index(b"/floor") + 2000, len(whole) - 1, 40).astype(int)
    counts = []
    for size in cuts:
        (bag / "killed.mcap").write_bytes(whole[:size])
        messages, losses = read_all(bag)
        assert messages == written[: len(messages)]
        assert len(losses) == 2
        counts.append(len(messages))
    assert counts == sorted(counts)
    assert counts[-1] == len(written)
    assert len(set(counts)) > 10


def test_a_damaged_chunk_gives_what_stands_before_the_damage(make_bag, tmp_path: Path) -> None:
    bag = make_bag(seconds=1.0)
    whole, _ = read_all(bag)
    copy = tmp_path / "damaged"
    shutil.copytree(bag, copy)
    file = copy / "conversation.mcap"
    data = bytearray(file.read_bytes())
    with BagReader(bag) as reader:
        (_, _, tenth) = list(reader.raw_messages())[9]
    # The record of the tenth message says an impossible length.
    place = data.index(tenth) - 31
    assert data[place : place + 9] == struct.pack("<BQ", 5, 22 + len(tenth))
    data[place + 1 : place + 9] = struct.pack("<Q", 2**62)
    file.write_bytes(data)
    messages, losses = read_all(copy)
    assert messages == whole[:9]
    assert len(losses) == 1
    assert "is damaged" in losses[0]


def test_damage_in_one_chunk_leaves_the_later_ones(make_bag, tmp_path: Path) -> None:
    bag, written = flushed_bag(make_bag, tmp_path)
    file = bag / "killed.mcap"
    data = bytearray(file.read_bytes())
    with BagReader(bag) as reader:
        (_, _, message) = list(reader.raw_messages())[15]
    place = data.index(message) - 31
    data[place + 1 : place + 9] = struct.pack("<Q", 2**62)
    file.write_bytes(data)
    messages, losses = read_all(bag)
    assert messages == written[:15] + written[20:]
    assert any("5 records of it were saved" in loss for loss in losses)


def _first_message(bag: Path) -> bytes:
    with BagReader(bag) as reader:
        return next(reader.raw_messages())[2]


def test_sqlite_bags_read_like_mcap_ones(make_bag, tmp_path: Path) -> None:
    types = standard_types()
    bag = make_bag(seconds=1.0)
    with (
        BagReader(bag) as reader,
        Writer(tmp_path / "lite", version=8, storage_plugin=StoragePlugin.SQLITE3) as writer,
    ):
        connections = {
            name: writer.add_connection(topic.full_name, topic.type_name, typestore=types)
            for name, topic in reader.topics.items()
        }
        for topic, receive_ns, data in reader.raw_messages():
            writer.write(connections[topic], receive_ns, data)
    assert read_all(tmp_path / "lite") == read_all(bag)
    (tmp_path / "lite/metadata.yaml").unlink()
    messages, losses = read_all(tmp_path / "lite")
    assert messages == read_all(bag)[0]
    assert len(losses) == 1


def test_a_bare_file_is_a_bag_too(make_bag) -> None:
    bag = make_bag(seconds=1.0)
    assert read_all(bag / "conversation.mcap") == read_all(bag)


def test_messages_that_cannot_be_decoded_are_counted_and_left_out(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "bag")
    writer.open([("/user/audio", TOPICS["user/audio"])])
    writer.write("/user/audio", 1, b"\x00\x01\x00\x00\x01")
    writer.write("/user/audio", 2, b"")
    writer.close()
    messages, losses = read_all(tmp_path / "bag")
    assert messages == []
    assert len(losses) == 2
    assert all(loss.startswith("1 messages of user/audio could not be decoded") for loss in losses)


def test_a_message_type_from_the_time_of_recording_is_read_by_the_bags_own_definition(tmp_path: Path) -> None:
    old = "uint32 sample_rate\nint64 first_sample\n"
    with Writer(tmp_path / "old", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(
            "/user/audio", "timar_msgs/msg/AudioChunk", msgdef=old, rihs01="RIHS01_" + "0" * 64
        )
        writer.write(connection, 7, b"\x00\x01\x00\x00" + struct.pack("<Iiq", 16_000, 0, 640))
    with BagReader(tmp_path / "old") as reader:
        (entry,) = reader.messages()
    assert (entry.message.sample_rate, entry.message.first_sample) == (16_000, 640)


def test_an_unknown_type_is_said(tmp_path: Path) -> None:
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(
            "/strange", "strange_msgs/msg/Thing", msgdef="?", rihs01="RIHS01_" + "0" * 64
        )
        writer.write(connection, 7, b"\x00\x01\x00\x00")
    messages, losses = read_all(tmp_path / "bag")
    assert messages == []
    assert "definition of strange_msgs/msg/Thing could not be understood" in losses[0]
    assert losses[1].startswith("1 messages of /strange could not be decoded")


@pytest.mark.parametrize("names", [("/one", "/two"), ("", "/two")])
def test_a_bag_of_several_robots_wants_a_name(make_bag, tmp_path: Path, names: tuple[str, str]) -> None:
    writer = BagWriter(tmp_path / "bag")
    writer.open((f"{name}/user/audio", TOPICS["user/audio"]) for name in names)
    data = _first_message(make_bag(seconds=1.0, omit=tuple(n for n in TOPICS if n != "user/audio")))
    writer.write(f"{names[0]}/user/audio", 1, data)
    writer.write(f"{names[1]}/user/audio", 2, data)
    writer.close()
    with pytest.raises(ValueError, match="several robots"), BagReader(tmp_path / "bag"):
        pass
    for name, receive_ns in zip(names, (1, 2), strict=True):
        with BagReader(tmp_path / "bag", namespace=name) as reader:
            assert [m.receive_ns for m in reader.messages({"user/audio"})] == [receive_ns]


@pytest.mark.parametrize("kind", ["nothing", "empty folder", "empty file", "text"])
def test_what_is_no_bag_is_said_clearly(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bag.mcap"
    if kind == "empty folder":
        path.mkdir()
    elif kind != "nothing":
        path.write_text("" if kind == "empty file" else "this is no bag at all, though it is long enough")
    with pytest.raises((FileNotFoundError, ValueError), match=r"no bag|cannot be read"), BagReader(path):
        pass


def test_offered_quality_of_service_is_that_of_the_table() -> None:
    kept = offered_qos(Topic("a", "b/msg/C", 0))
    assert (kept.history.name, kept.durability.name) == ("KEEP_ALL", "VOLATILE")
