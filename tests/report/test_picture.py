"""The picture is drawn whatever the bag holds, small enough to send, and shows what the numbers say."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib import image
from matplotlib.figure import Figure
from timar_bag.conversation import read_conversation
from timar_report.joints import JointLimit
from timar_report.picture import draw
from timar_report.summary import measure, summarize

LIMITS = {"jaw": JointLimit(0.0, 0.35, 2.0, 0.0), "neck_yaw": JointLimit(-0.6, 0.6, 3.0, 0.0)}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_the_picture_is_written_beside_the_summary_and_is_small(make_bag, tmp_path: Path) -> None:
    summarize(make_bag(lost_blocks=(50,)), tmp_path, limits=LIMITS, title="A run of the demo")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["summary.json", "summary.png"]
    assert 20_000 < (tmp_path / "summary.png").stat().st_size <= 400_000
    height, width, _ = image.imread(tmp_path / "summary.png").shape
    assert (width, height) == (1200, 1250)


def test_it_says_what_was_run_and_the_chief_numbers(make_bag, tmp_path: Path) -> None:
    measured = measure(
        read_conversation(make_bag(late_turns=(5,), jaw_delay_ms=25.0)), tmp_path, limits=LIMITS
    )
    shown = texts(draw(measured))
    assert "6.0 s of conversation, 30 turns (1 late), engine torch-float32, model abababab" in shown
    latency = measured.numbers["latency_ms"]
    p50, p95 = latency["microphone_to_joint"]["p50"], latency["microphone_to_joint"]["p95"]
    assert f"p50 {p50:.0f}, p95 {p95:.0f} ms" in shown
    assert "floor 280 ms" in shown
    assert "late turn" in shown
    assert any(text.endswith("25 ms behind the voice") for text in shown)
    assert "Told by the caller" in texts(draw(measured, "Told by the caller"))


def test_the_title_may_come_from_the_run_file(
    make_bag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = []
    monkeypatch.setattr("timar_report.picture.save_picture", lambda *arguments: titles.append(arguments[2]))
    (tmp_path / "run.json").write_text('{"title": "make demo"}')
    summarize(make_bag(), tmp_path)
    assert titles == ["make demo"]


ALL = ("user/audio", "user/audio_raw", "agent/audio", "turn_log", "agent/motion", "joint_trajectory", "floor")


@pytest.mark.slow
@pytest.mark.parametrize("omit", [ALL[:2], ALL[2:3], ALL[3:5], ALL[5:], ALL])
def test_a_panel_without_data_says_so_and_the_others_stand(make_bag, tmp_path: Path, omit: tuple) -> None:
    summarize(make_bag(omit=omit), tmp_path, limits=LIMITS)
    assert (tmp_path / "summary.png").stat().st_size > 20_000


def test_a_long_conversation_is_thinned_out(make_bag, tmp_path: Path) -> None:
    summarize(make_bag(seconds=40.0), tmp_path, limits=LIMITS)
    assert (tmp_path / "summary.png").stat().st_size <= 400_000
