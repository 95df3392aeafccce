"""The demo's command line, its progress line, and its account of processor time."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from timar_bringup import demo, talk
from timar_bringup.graph import UsageError, plan, read_arguments
from timar_bringup.progress import Progress
from timar_bringup.usage import cpu_seconds

NS_PER_S = 1_000_000_000


def test_shipped_conversation_is_played_recorded_and_shown_unless_headless(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "has_screen", lambda: True)
    options = demo.read_options(["--out", str(tmp_path / "o")])
    arguments = read_arguments(options.arguments)
    assert Path(arguments["user_file"]).name.endswith("speaker1.wav")
    assert Path(arguments["user_motion_file"]).name.endswith("speaker1.npz")
    assert Path(arguments["agent_file"]).name.endswith("speaker2.wav")
    assert (arguments["record"], arguments["view"], arguments["open_browser"]) == (True, True, True)
    assert arguments["out"] == str(tmp_path / "o" / "bag")
    assert options.duration_s == 61.0
    headless = read_arguments(demo.read_options(["--headless"]).arguments)
    assert (headless["view"], headless["open_browser"]) == (False, False)


def test_microphone_listens_to_the_person_and_not_to_the_files():
    arguments = read_arguments(demo.read_options(["--source", "microphone", "--device", "usb"]).arguments)
    assert arguments["source"] == "microphone"
    assert arguments["user_file"] == arguments["agent_file"] == arguments["user_motion_file"] == ""
    assert arguments["device"] == "usb"


def test_voice_of_ones_own_is_not_given_the_shipped_face():
    own = read_arguments(demo.read_options(["--user-file", "a.wav"]).arguments)
    assert own["user_motion_file"] == ""
    seen = read_arguments(demo.read_options(["--user-file", "a.wav", "--user-motion", "a.npz"]).arguments)
    assert seen["user_motion_file"] == "a.npz"


def test_further_launch_arguments_reach_the_graph():
    options = demo.read_options(["--headless", "namespace:=head1", "log_level:=debug"])
    graph = plan(read_arguments(options.arguments))
    assert graph.namespace == "/head1"
    assert graph.arguments["log_level"] == "debug"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--duration", "0"], "--duration is 0, expected 1 to 3600 seconds"),
        (["--source", "microphone", "--user-file", "a.wav"], "leave one of them out"),
        (["--mute", "--audio", "device"], "--mute and --audio device contradict each other"),
        (["--headless", "--audio", "browser"], "--audio browser needs the page"),
        (["--source", "microphone", "--user-motion", "a.npz"], "leave one of them out"),
    ],
)
def test_options_that_contradict_each_other_are_refused(argv, sentence):
    with pytest.raises(UsageError, match=sentence):
        demo.read_options(argv)


@pytest.mark.parametrize(
    ("argv", "sink"),
    [
        ([], "browser"),
        (["--headless"], "null"),
        (["--mute"], "null"),
        (["--audio", "device"], "speaker"),
        (["--headless", "--audio", "device"], "speaker"),
    ],
)
def test_the_voice_is_heard_on_the_page_unless_something_else_is_said(argv, sink):
    assert f"sink:={sink}" in demo.read_options(argv).arguments


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        ([], {"speaker": "default"}),
        (["--audio", "browser"], {"source": "browser", "sink": "browser", "speaker": ""}),
        (["--audio", "browser", "--mute"], {"source": "browser", "sink": "null", "speaker": ""}),
    ],
)
def test_a_talk_takes_this_machines_sound_or_the_pages(argv, wanted):
    words = dict(word.split(":=", 1) for word in talk.launch_arguments(talk._parser().parse_args(argv)))
    assert wanted.items() <= words.items()
    assert read_arguments(f"{name}:={value}" for name, value in words.items())["view"]


def test_folder_that_exists_is_never_written_over(tmp_path, capsys):
    (tmp_path / "precious").write_text("data")
    assert demo.main(["--headless", "--out", str(tmp_path)]) == 2
    assert "exists; name a new one" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["precious"]


def test_mistyped_launch_argument_makes_no_folder(tmp_path, capsys):
    assert demo.main(["--out", str(tmp_path / "o"), "modle:=x"]) == 2
    assert "did you mean 'model'" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_conversation_begins_when_its_first_sample_was_heard():
    progress = Progress()
    assert progress.elapsed_s(0) == 0.0
    # A turn made late must not move the beginning.
    progress.take_turn(11 * NS_PER_S, 16_000, 5.0, is_late=False, is_sampled=True)
    progress.take_turn(13 * NS_PER_S, 32_000, 7.0, is_late=True, is_sampled=True)
    progress.take_turn(13 * NS_PER_S, 48_000, 0.0, is_late=False, is_sampled=False)
    assert progress.elapsed_s(14 * NS_PER_S) == pytest.approx(4.0)
    assert (progress.turns, progress.late_turns, progress.unsampled_turns) == (3, 1, 1)
    assert progress.compute_ms == 7.0


def test_joint_has_moved_when_it_left_the_place_it_was_first_seen_at():
    progress = Progress()
    progress.take_joints(1, ["jaw", "neck_yaw"], [0.2, math.nan])
    progress.take_joints(2, ["jaw", "neck_yaw"], [0.2005, -0.3])
    assert progress.moved_ns is None
    progress.take_joints(3, ["jaw", "neck_yaw"], [0.2, -0.302])
    progress.take_joints(4, ["jaw", "neck_yaw"], [0.3, -0.3])
    assert progress.moved_ns == 3


def test_line_says_seconds_floor_jaw_neck_latency_and_late_turns():
    progress = Progress()
    assert progress.line(0, 30.0) == "waiting for the nodes to find each other"
    progress.take_turn(2 * NS_PER_S, 16_000, 41.6, is_late=True, is_sampled=True)
    progress.take_floor(2)
    progress.take_joints(0, ["jaw", "neck_yaw", "neck_pitch", "neck_roll"], [0.1, 0.2, -0.1, 0.0])
    assert progress.line(3 * NS_PER_S, 30.0) == (
        "  2.0 of 30 s | floor: head   | jaw  5.7° | neck +11.5  -5.7  +0.0° | turn 1: 42 ms"
        " | late 1, unsampled 0"
    )
    progress.take_floor(200)
    assert progress.floor == "nobody"


def test_processor_time_counts_a_session_with_all_its_children():
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\n{burn}input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, start_new_session=True)
    try:
        end_s = time.monotonic() + 60.0
        while cpu_seconds([process.pid]) < 0.58:
            assert time.monotonic() < end_s
            time.sleep(0.05)
        # Twice 0.3 s and two starts of Python; a session that is not asked for does not count.
        assert cpu_seconds([process.pid]) < 2.0
        assert cpu_seconds([1 << 30]) == 0.0
    finally:
        process.communicate(b"\n")
