"""`timar talk`: what it starts, what it keeps and forgets, what it says about microphone and readiness."""

from __future__ import annotations

import io
import pathlib

import pytest
from rich.console import Console
from timar_bringup.files import with_urdf
from timar_bringup.graph import OPTIONAL_NICENESS, ROLES, UsageError, plan, read_arguments
from timar_bringup.talk import _parser, forget, kept_folder, launch_arguments, main, privacy
from timar_bringup.talk_status import TalkStatus

S = 1_000_000_000


@pytest.fixture(autouse=True)
def _kept(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("DISPLAY", raising=False)


def planned(*typed: str):
    return plan(with_urdf(read_arguments(launch_arguments(_parser().parse_args(list(typed))))))


def parameters(graph, name: str) -> dict[str, object]:
    return dict(next(node.parameters for node in graph.nodes if node.node.name == name))


def test_a_talk_has_dialogue_view_and_loudspeaker_and_options_reach_their_nodes():
    graph = planned()
    assert {"dialogue", "view"} <= set(graph.processes())
    assert not ROLES["dialogue"].is_essential
    # At the lower priority of what nobody waits for, a busy machine once left all questions unanswered.
    assert (ROLES["dialogue"].niceness, ROLES["recorder"].niceness) == (0, OPTIONAL_NICENESS)
    assert parameters(graph, "playback")["sink"] == "speaker"
    assert parameters(graph, "dialogue")["dialogue"] == "built-in"
    graph = planned(
        "--llm", "http://127.0.0.1:1/v1", "--llm-model", "m", "--mute", "--headless", "--speaker", ""
    )
    assert "view" not in graph.processes()
    assert "sink" not in parameters(graph, "playback")
    assert parameters(graph, "dialogue") == {
        "dialogue": "chat", "llm": "http://127.0.0.1:1/v1", "llm_model": "m", "language": "en",
    }  # fmt: skip
    assert parameters(planned("--llm", "ws://h/v1/realtime"), "dialogue")["dialogue"] == "realtime"
    assert parameters(planned("--voice", "espeak", "voice:=other"), "dialogue")["voice"] == "other"


def test_without_make_talk_nothing_of_it_runs():
    assert "dialogue" not in plan(with_urdf(read_arguments([]))).processes()


def test_nothing_is_kept_unless_it_is_recorded_and_forgetting_deletes_it(capsys):
    assert privacy(planned()) == "Nothing of what you say is kept."
    assert "Your words go to http://h/v1." in privacy(planned("--llm", "http://h/v1"))
    recorded = planned("record:=true")
    out = pathlib.Path(str(recorded.arguments["out"]))
    assert out.parent == kept_folder({"XDG_DATA_HOME": str(out.parents[2])})
    assert f"KEPT in {out}; timar talk --forget deletes it" in privacy(recorded)
    assert "rm -r /tmp/x deletes it" in privacy(planned("record:=true", "out:=/tmp/x"))
    filmed, video = planned("--record", "talk.mp4"), pathlib.Path("/tmp/talk.mp4")
    assert "recorder" in filmed.processes()
    assert (
        privacy(filmed, video)
        == "Your voice is KEPT in the video /tmp/talk.mp4; rm /tmp/talk.mp4 deletes it."
    )
    assert (
        kept_folder({"XDG_DATA_HOME": str(out.parents[2])})
        not in pathlib.Path(filmed.arguments["out"]).parents
    )
    out.mkdir(parents=True)
    (out / "part.mcap").write_bytes(b"words")
    assert main(["--forget"]) == 0
    assert not out.exists()
    assert forget(Console(file=io.StringIO())) == 0


@pytest.mark.parametrize("typed", [["--llm", "http://h", "--dialogue", "a:B"], ["device=3"], ["nonsense:=1"]])
def test_what_contradicts_itself_or_is_unknown_is_refused(typed):
    with pytest.raises(UsageError):
        planned(*typed)
    assert main(typed) == 2


def test_it_says_what_to_do_when_all_is_ready_and_not_before():
    status = TalkStatus()
    status.has_moved = True
    assert (status.news(), status.line()) == ([], "getting ready ...")
    status.take_health("dialogue", 0, "running", {"is_ready": "True"})
    assert status.news() == ["Say something; interrupt me. (Ctrl-C ends.)"]
    assert status.news() == []
    status.take_level(0, -20.0, S)
    status.floor = "user"
    assert " ████████····  -20 dBFS" in status.line()
    assert status.line().endswith("floor: user")


def test_a_microphone_that_is_ill_too_quiet_or_a_monitor_is_named_within_three_seconds():
    status = TalkStatus()
    status.take_health("capture", 2, "the microphone gives nothing but zeros", {})
    assert status.news() == ["  ! the microphone gives nothing but zeros"]
    status.take_health("capture", 2, "the microphone gives nothing but zeros", {})
    status.take_health("capture", 0, "running", {})
    assert status.news() == ["  (capture is well again)"]
    for block in range(150):  # 3 s
        status.take_level(0, -85.0, block * S // 50)
    assert [line for line in status.news() if "far too quiet" in line]
    for block in range(150, 350):
        status.take_level(0, -50.0, block * S // 50)
    assert status.news() == ["  (level is well again)"]
    status.take_source("alsa_output.pci.monitor")
    assert "choose one with --device" in status.news()[0]
    status.take_source("alsa_input.pci.analog-stereo")
    assert status.news() == []
