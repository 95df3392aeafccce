"""Dyads judged like annotated meetings: speech found in voices, nods in events or in recorded motion."""

from __future__ import annotations

import json

import numpy as np
import pytest
from timar_common.motion_file import MotionTrack
from timar_model.metrics.movement import nod_spans
from timar_training.corpora.ami import BadArchiveError
from timar_training.corpora.dyads import write_motion, write_voice
from timar_training.preparation.dyad_events import dyad_tracks

SECONDS = 40
FRAMES = 25 * SECONDS
NODS_S = (14.0, 21.0, 33.0)


def bursts(low_s: float, high_s: float) -> np.ndarray:
    """Noise where somebody speaks, on a quiet floor."""
    rng = np.random.default_rng(0)
    voice = 1e-4 * rng.standard_normal(16000 * SECONDS)
    spoken = slice(int(16000 * low_s), int(16000 * high_s))
    voice[spoken] = 0.1 * rng.standard_normal(spoken.stop - spoken.start)
    return voice.astype(np.float32)


def nodding(times_s=NODS_S) -> np.ndarray:
    """Two strokes of 2.5 Hz from each time on, over slow posture."""
    t = np.arange(FRAMES) / 25
    motion = np.zeros((FRAMES, 56), np.float32)
    motion[:, 53] = 0.1 * np.sin(2 * np.pi * 0.05 * t)
    for start_s in times_s:
        inside = (t >= start_s) & (t < start_s + 0.8)
        motion[inside, 53] += 0.12 * np.sin(2.5 * np.pi * (t[inside] - start_s)) ** 2
    return motion


@pytest.fixture
def folder(tmp_path):
    write_voice(tmp_path / "a_speaker1.wav", bursts(2, 30))
    write_voice(tmp_path / "a_speaker2.wav", bursts(31, 36))
    valid = np.ones((FRAMES, 3), bool)
    valid[25 * 36 :] = False
    write_motion(tmp_path / "a_speaker2.npz", MotionTrack(nodding(), valid))
    return tmp_path


def test_a_nod_spans_its_strokes_and_posture_is_none():
    spans = nod_spans(nodding())
    assert [first / 25 for first, _ in spans] == pytest.approx(NODS_S, abs=0.12)
    assert [(end - first) / 25 for first, end in spans] == pytest.approx([0.8] * 3, abs=0.2)
    assert nod_spans(nodding(())) == []


def test_recorded_motion_tells_nods_and_where_they_could_be_seen(folder):
    tracks, clips = dyad_tracks(folder)
    assert tracks.shape == (1, FRAMES)  # The user's motion is not known: that side is nobody's.
    assert not clips[0].is_swapped
    assert np.flatnonzero(tracks.onsets("nod")[0]) / 25 == pytest.approx(NODS_S, abs=0.12)
    assert tracks.annotated[0, 25 * 10 : 25 * 36].all()
    assert not tracks.annotated[0, 25 * 36 :].any()
    assert not tracks.annotated[0, : 25 * 10].any()
    assert tracks.user[0, 25 * 3 : 25 * 29].mean() > 0.95
    assert tracks.own[0, 25 * 32 : 25 * 35].mean() > 0.95
    assert not tracks.own[0, 25 * 3 : 25 * 29].any()


def test_both_sides_count_where_both_were_recorded(folder):
    write_motion(folder / "a_speaker1.npz", MotionTrack(nodding((16.0,)), np.ones((FRAMES, 3), bool)))
    tracks, clips = dyad_tracks(folder)
    assert [clip.is_swapped for clip in clips] == [False, True]
    assert len({person.name for person in tracks.people}) == 2
    assert tracks.onsets("nod").sum(1).tolist() == [3, 1]
    # The other's nod is known a quarter of a second after it began.
    assert np.flatnonzero(tracks.user_nods[0])[0] / 25 == pytest.approx(16.24, abs=0.12)


def test_events_beside_a_clip_count_in_place_of_its_motion(folder):
    events = {
        "meeting": "XX1000a", "person": "P1", "annotated": [[0.0, 39.0]], "user_gestures": [],
        "gestures": [[15.0, 15.5, "nod", "concord_signal"], [20.0, 20.4, "shake", ""]],
    }  # fmt: skip
    (folder / "a_events.json").write_text(json.dumps(events))
    tracks, _ = dyad_tracks(folder)
    assert tracks.series == ("XX1000",)
    assert (np.flatnonzero(tracks.onsets("nod")[0]) / 25).tolist() == [15.0]
    (folder / "a_events.json").write_text(json.dumps({"meeting": "XX1000a"}))
    with pytest.raises(BadArchiveError, match=r"a_events\.json lacks annotated, gestures, person"):
        dyad_tracks(folder)


def test_dyads_without_a_nod_are_refused(folder):
    (folder / "a_speaker2.npz").unlink()
    with pytest.raises(BadArchiveError, match=r"holds no nod: expected NAME_events\.json or recorded motion"):
        dyad_tracks(folder)
