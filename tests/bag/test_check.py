"""`timar bag check` finds what is wrong with a bag, and nothing else; commands answer in words and status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from synthetic_talk import track, voice
from timar_bag.bag import BagReader
from timar_bag.check import check_bag
from timar_bag.commands import bag as bag_command
from timar_bag.damage import damage_bag
from timar_bag.make_bag import WholeSound, write_bag
from timar_report.commands import summary as summary_command

BEGIN_NS = 1_700_000_000_123_456_789


def test_a_sound_bag_has_no_problem_and_its_rates_are_told(make_bag) -> None:
    conversation, problems = check_bag(make_bag())
    assert problems == []
    topics = conversation.topics
    assert topics["user/audio"].messages == 300
    assert topics["user/audio"].rate_hz == pytest.approx(50.0)
    assert topics["turn_log"].rate_hz == pytest.approx(5.0, rel=0.05)
    assert topics["user/motion"].rate_hz is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ({"lost_blocks": (50, 51, 120)}, "user/audio: 960 samples are missing in 2 gaps"),
        ({"filled_blocks": (7,)}, "user/audio: 320 samples are silence that stands for lost sound"),
        ({"repeated_blocks": (9,)}, "user/audio: 320 samples came more than once, or went back on the clock"),
        ({"omit": ("turn_log",)}, "the bag has no message of turn_log"),
    ],
)
def test_each_damage_is_named(make_bag, script: dict, problem: str) -> None:
    assert problem in check_bag(make_bag(**script))[1]


def restamp(stamp_of_block):
    """Return a change of the bag that adds a stream of audio blocks with stamps of one's own."""

    def change(bag) -> None:
        for block in range(200):
            message = bag.make(
                "timar_msgs/msg/AudioChunk", header=bag.header(stamp_of_block(block)), sample_rate=16_000,
                first_sample=320 * block, samples=bag.samples(320),
            )  # fmt: skip
            bag.add("agent/audio", BEGIN_NS + 20_000_000 * block, message)

    return change


@pytest.mark.parametrize(
    ("stamp_of_block", "problem"),
    [
        (lambda k: BEGIN_NS + 20_000_000 * k + (k >= 90) * 500_000_000, "1 stamps jump by more than"),
        (lambda k: BEGIN_NS + round(20_000_000 * k * 1.1), "its samples run -90909 ppm against its stamps"),
    ],
    ids=["clock step", "wrong rate"],
)  # fmt: skip
def test_stamps_that_do_not_fit_the_samples_are_found(make_bag, stamp_of_block, problem: str) -> None:
    def change(bag) -> None:
        bag.drop("agent/audio")
        restamp(stamp_of_block)(bag)

    (found,) = check_bag(make_bag(change))[1]
    assert found.startswith(f"agent/audio: {problem}")


def test_the_check_command_lists_the_topics_and_fails_on_problems(
    make_bag, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bag_command(["check", str(make_bag())]) == 0
    shown = capsys.readouterr().out
    assert "nothing wrong" in shown
    assert any(line.split()[:2] == ["turn_log", "30"] for line in shown.splitlines())
    assert bag_command(["check", str(make_bag(lost_blocks=(5,)))]) == 1
    assert "wrong: user/audio: 320 samples are missing in 1 gaps" in capsys.readouterr().out
    assert bag_command(["check", str(tmp_path / "nowhere")]) == 1
    assert "there is no bag at" in capsys.readouterr().err


def test_the_summary_command_writes_where_it_is_told(
    make_bag, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out"
    assert summary_command([str(make_bag()), "--out", str(out), "--no-picture"]) == 0
    assert "floor 280 ms" in capsys.readouterr().out
    assert json.loads((out / "summary.json").read_text())["turns"] == 30
    assert [path.name for path in out.iterdir()] == ["summary.json"]


@pytest.mark.parametrize(
    ("arguments", "said"), [(["nowhere"], "there is no bag at"), (["BAG", "--robot", "nobody"], "nobody")]
)
def test_a_wrong_word_on_the_command_line_is_one_sentence_and_status_1(
    make_bag, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    words = [str(make_bag()) if word == "BAG" else word for word in arguments]
    assert summary_command([*words, "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("timar summary: ")
    assert said in error


def test_a_topic_in_another_type_is_named_and_not_read(tmp_path: Path) -> None:
    bag = tmp_path / "talk"
    write_bag(bag, WholeSound(voice(1, 2)), user_motion=track(1, 2))
    damage_bag(bag, "unknown_types")
    wrong = "user/motion is of type other_msgs/msg/Face, expected timar_msgs/msg/UserMotion; it is not read"
    assert wrong in check_bag(bag)[1]
    with BagReader(bag) as reader:
        assert not reader.has_messages("user/motion")
        assert reader.has_messages("/user/motion")
        assert reader.has_messages("user/audio")
