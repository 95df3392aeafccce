"""The gaze policy fitted to annotated gaze targets: how often, how long, and when back."""

import pytest
import yaml
from timar_training.corpora.ami import GazeTarget, Meeting, Participant, Word
from timar_training.corpora.gaze_policy import fit_gaze
from timar_training.data_command import main


def meeting(turns=40, away_every=4, away_s=1.2):
    """One who speaks six of every ten seconds and looks off at the start of some turns, and a listener."""
    words, gaze, at_s = [], [], 0.0
    for turn in range(turns):
        start_s = 10.0 * turn + 2.0
        words.append(Word(start_s, start_s + 6.0, "so", "."))
        if turn % away_every == 0:
            off_s, back_s = start_s + 0.4, start_s + 0.4 + away_s
            gaze += [
                GazeTarget(at_s, off_s, "B"),
                GazeTarget(off_s, back_s, "table"),
                GazeTarget(back_s, back_s + 0.1, "B"),
            ]
            at_s = back_s + 0.1
    gaze.append(GazeTarget(at_s, 10.0 * turns, "B"))
    listener = tuple(Word(10.0 * turn + 8.2, 10.0 * turn + 9.0, "yes", ".") for turn in range(turns))
    empty = {"events": (), "annotated": ()}
    return Meeting(
        "M1a",
        (
            Participant("M1a", "A", "a", tuple(words), gaze=tuple(gaze), **empty),
            Participant("M1a", "B", "b", listener, gaze=(), **empty),
        ),
    )


def test_the_fit_finds_how_often_and_how_long_gaze_was_turned_away():
    found = fit_gaze([meeting()])
    assert found["turns"] == 40
    assert found["avert_probability"] == pytest.approx(0.25)
    assert found["avert_s"] == pytest.approx(1.2, abs=0.05)
    assert found["back_before_s"] == pytest.approx(6.0 - 0.4 - 1.2, abs=0.1)
    assert found["at_partner_share"]["listening"] == 1.0
    longer = fit_gaze([meeting(away_every=2, away_s=2.0)])
    assert longer["avert_probability"] == pytest.approx(0.5)
    assert longer["avert_s"] == pytest.approx(2.0, abs=0.05)


def test_an_archive_without_gaze_or_with_too_few_turns_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no meeting has annotated gaze"):
        fit_gaze([Meeting("M1a", meeting().participants[1:])])
    with pytest.raises(ValueError, match="9 longer turns with gaze are too few"):
        fit_gaze([meeting(turns=9)])


def test_the_command_writes_what_idle_behavior_reads(tmp_path, monkeypatch):
    monkeypatch.setattr("timar_training.data_command.read_meetings", lambda archive, log: [meeting()])
    target = tmp_path / "gaze_policy.yaml"
    assert main(["gaze", "archive.zip", str(target)]) == 0
    assert {"avert_probability", "avert_s", "back_before_s", "long_turn_s"} <= set(
        yaml.safe_load(target.read_text())
    )
    assert "CC BY 4.0" in target.read_text()
