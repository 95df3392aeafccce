"""A recorder's clock that steps, stamps that cannot be true, indexes that lie: time follows the sound."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mcap.reader import make_reader
from mcap.writer import CompressionType, IndexType, Writer
from rewritten_bag import Stamp, rewritten
from timar_bag.bag import BagReader
from timar_bag.clock_steps import ClockSteps
from timar_bag.recovery import RawMessage

S = 1_000_000_000
DAY = 86_400 * S
SECONDS = 6.0


def counts_and_span(path: Path) -> tuple[Counter[str], float, list[str]]:
    """Return how many messages each topic has, how long the bag lasts by their times [s], and the issues."""
    with BagReader(path) as reader:
        entries = list(reader.messages())
        times = [entry.receive_ns for entry in entries]
        return Counter(entry.topic for entry in entries), (max(times) - min(times)) / S, reader.issues


STEPS: dict[str, Stamp] = {
    "forward a day": lambda number, time_ns: time_ns + (DAY if number > 300 else 0),
    "back a day": lambda number, time_ns: time_ns - (DAY if number > 300 else 0),
    "back a minute": lambda number, time_ns: time_ns - (60 * S if number > 300 else 0),
    "forward and back": lambda number, time_ns: time_ns + (3600 * S if 200 < number < 400 else 0),
    "again and again": lambda number, time_ns: time_ns + number // 150 * 60 * S,
    "to 1970 and back": lambda number, time_ns: time_ns - (1_690_000_000 * S if 200 < number < 400 else 0),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("chunk_bytes", [4096, 1024 * 1024])
def test_a_clock_that_steps_costs_no_time_and_is_named(
    name: str, chunk_bytes: int, make_bag: Any, tmp_path: Path
) -> None:
    clean = make_bag(seconds=SECONDS)
    expected, span_s, _ = counts_and_span(clean)
    stepped = rewritten(clean, tmp_path / "stepped.mcap", STEPS[name], chunk_size=chunk_bytes)
    counts, found_s, issues = counts_and_span(stepped)
    assert counts == expected
    assert found_s == pytest.approx(span_s, abs=0.2)
    assert any("the recorder's clock stepped" in issue for issue in issues), issues


def test_stamps_at_the_end_of_their_type_do_not_make_centuries(make_bag: Any, tmp_path: Path) -> None:
    clean = make_bag(seconds=SECONDS)
    expected, span_s, _ = counts_and_span(clean)
    bag = rewritten(
        clean, tmp_path / "end.mcap", lambda number, time_ns: time_ns if number % 50 else 2**64 - 1 - number
    )
    counts, found_s, issues = counts_and_span(bag)
    assert counts == expected
    assert found_s == pytest.approx(span_s, abs=0.2)
    wrong = -(-sum(expected.values()) // 50)
    assert any(f"{wrong} times of arrival cannot be true" in issue for issue in issues), issues


@pytest.mark.parametrize(
    "options",
    [
        {"index_types": IndexType.ALL ^ IndexType.MESSAGE},
        {"index_types": IndexType.ALL ^ IndexType.CHUNK},
        {"index_types": IndexType.NONE},
        {
            "index_types": IndexType.NONE,
            "use_statistics": False,
            "repeat_schemas": False,
            "repeat_channels": False,
        },
        {"use_chunking": False},
        {"use_chunking": False, "index_types": IndexType.NONE, "use_statistics": False},
        {"compression": CompressionType.LZ4},
        {"compression": CompressionType.NONE},
        {"compression": CompressionType.ZSTD, "enable_crcs": False, "enable_data_crcs": False},
    ],
    ids=str,
)
def test_whatever_index_a_file_has_everything_in_it_is_read(
    options: dict[str, Any], make_bag: Any, tmp_path: Path
) -> None:
    """A file with an index of chunks and none of messages was read as empty, without a word."""
    clean = make_bag(seconds=SECONDS)
    counts, found_s, _ = counts_and_span(rewritten(clean, tmp_path / "bag.mcap", **options))
    expected, span_s, _ = counts_and_span(clean)
    assert counts == expected
    assert found_s == pytest.approx(span_s)


@pytest.mark.parametrize("first", [0, 300], ids=["from the start", "later"])
@pytest.mark.parametrize("end", [700, 10**9], ids=["and goes on", "for good"])
def test_a_clock_that_stands_still_goes_on_with_the_sound(
    first: int, end: int, make_bag: Any, tmp_path: Path
) -> None:
    clean = make_bag(seconds=SECONDS)
    times = list[int]()

    def stand(number: int, time_ns: int) -> int:
        times.append(time_ns)
        return times[first] if first <= number < end else time_ns

    standing = rewritten(clean, tmp_path / "standing.mcap", stand)
    with BagReader(clean) as reader:
        expected = [(entry.topic, entry.receive_ns) for entry in reader.messages()]
    with BagReader(standing) as reader:
        found = [(entry.topic, entry.receive_ns) for entry in reader.messages()]
        assert any("the recorder's clock stood still for" in issue for issue in reader.issues), reader.issues
    assert [topic for topic, _ in found] == [topic for topic, _ in expected]
    begin = expected[0][1] - found[0][1]
    late = [abs(at + begin - true) for (_, true), (_, at) in zip(expected, found, strict=True)]
    assert max(late) < 0.15 * S


def test_sound_that_comes_in_a_burst_is_no_clock_that_stands(make_bag: Any, tmp_path: Path) -> None:
    clean = make_bag(seconds=SECONDS)
    bag = rewritten(clean, tmp_path / "burst.mcap", lambda number, time_ns: time_ns // (S // 5) * (S // 5))
    with BagReader(bag) as reader:
        assert all(entry.receive_ns % (S // 5) == 0 for entry in reader.messages())
        assert not any("stood still" in issue for issue in reader.issues)


def test_a_length_beyond_all_memory_is_damage_and_the_rest_is_read(make_bag: Any, tmp_path: Path) -> None:
    """A mutated length of a record in the summary ended the reading by an OverflowError."""
    clean = make_bag(seconds=SECONDS)
    expected, _, _ = counts_and_span(clean)
    bag = tmp_path / "long.mcap"
    bag.write_bytes(rewritten(clean, tmp_path / "bag.mcap").read_bytes())
    data = bytearray(bag.read_bytes())
    summary = int.from_bytes(data[-28:-20], "little")  # The footer's first number.
    data[summary + 1 : summary + 9] = (0xAC01_0203_0405_0607).to_bytes(8, "little")
    bag.write_bytes(data)
    counts, _, issues = counts_and_span(bag)
    assert counts == expected
    assert any("long.mcap" in issue for issue in issues), issues


def test_parts_of_a_split_bag_and_attachments_among_the_messages_are_one_bag(
    make_bag: Any, tmp_path: Path
) -> None:
    (whole,) = make_bag(seconds=SECONDS).glob("*.mcap")
    parts = []
    for number in range(11):  # Ten stands behind two.
        path = tmp_path / "split" / f"bag_{number}.mcap"
        path.parent.mkdir(exist_ok=True)
        parts.append(Writer(path.open("wb")))
        parts[-1].start("ros2", "another recorder")
    channels: dict[tuple[int, str], int] = {}
    with whole.open("rb") as file:
        for number, (schema, channel, message) in enumerate(make_reader(file).iter_messages()):
            part = min(number // 60, len(parts) - 1)
            if (part, channel.topic) not in channels:
                known = parts[part].register_schema(schema.name, schema.encoding, schema.data)
                channels[part, channel.topic] = parts[part].register_channel(channel.topic, "cdr", known)
            if number % 100 == 0:
                parts[part].add_attachment(
                    message.log_time, message.log_time, "photo", "image/png", bytes(99)
                )
            parts[part].add_message(
                channels[part, channel.topic], message.log_time, message.data, message.log_time
            )
    for writer in parts:
        writer.finish()
    with BagReader(whole) as reader:
        expected = [(entry.topic, entry.receive_ns) for entry in reader.messages()]
    with BagReader(tmp_path / "split") as reader:
        assert [(entry.topic, entry.receive_ns) for entry in reader.messages()] == expected


def test_a_pause_of_the_recording_that_the_sound_knows_stays_a_pause() -> None:
    """The counter went on by a minute while nothing was recorded."""
    messages = [RawMessage("user/audio", place * 20_000_000, b"%d" % place) for place in range(100)]
    messages += [RawMessage("user/audio", place * 20_000_000, b"%d" % place) for place in range(3100, 3200)]
    steps = ClockSteps(lambda message: (320 * int(message.data), 320 * int(message.data) + 320))
    assert list(steps.steady(iter(messages), lambda topic: True)) == messages
    assert steps.issues() == []
