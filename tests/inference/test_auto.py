"""What is left to `auto`: measured by a host that runs live, the same everywhere in a replay."""

import dataclasses

import pytest
from timar_inference import runtime
from timar_inference.config import InferenceConfig
from timar_inference.inference_component import InferenceComponent
from timar_inference.runtime import open_runtime
from timar_model.engines.choosing import AutoConfig, Choice, Measured
from timar_model.engines.measuring import EngineSetting, Usage

from timar_model import load_model


@pytest.fixture(scope="module")
def published(make_model_folder):
    """The published layout, small: a window of absolute positions, trained without a user lag."""
    return make_model_folder(
        "published",
        turn_frames=25,
        window_frames=100,
        positions="window",
        past_frames=0,
        user_lag="none",
        user_lag_margin_frames=0,
        loudness="none",
    )


def chosen(setting, p99_ms=500.0, holds=True, smaller=None):
    """Return a choice as if it had been measured."""
    picked = Measured(setting, "", 400.0, p99_ms, 50.0, 0.45 if holds else 1.4, 0.45, holds)
    return Choice(picked, "none", (), smaller, 20.0, 3.0, 0.0)


@pytest.fixture
def measured(monkeypatch):
    """Let the measurement give a choice; return what it was asked."""

    def give(choice):
        asked = []
        monkeypatch.setattr(runtime, "choose", lambda model, wanted, log: asked.append(wanted) or choice)
        return asked

    return give


def test_a_replay_measures_nothing_and_takes_one_thread_and_the_models_window(published, measured):
    asked = measured(None)
    opened = open_runtime(InferenceConfig(model=str(published)))
    assert not asked
    assert opened.settings == {
        "engine": "torch",
        "threads": 1,
        "margin_frames": 2,
        "window_frames": 100,
        "when_full": "recompute",
        "keep_turns": 0,
    }
    assert open_runtime(InferenceConfig()).settings["engine"] == "onnx"


def test_a_live_host_runs_what_was_measured_and_reports_it(published, measured):
    asked = measured(chosen(EngineSetting("torch", 2, "reanchor", 1)))
    config = InferenceConfig(model=str(published), preview_frames=0, steps=3)
    opened = open_runtime(config, print)
    assert asked == [AutoConfig(usage=Usage(preview_frames=0, sampling={"steps": 3}))]
    # 500 ms a turn, 20 ms jitter: 13 frames, and one for the sound.
    assert opened.settings == {
        "engine": "torch",
        "threads": 2,
        "margin_frames": 14,
        "window_frames": 100,
        "when_full": "reanchor",
        "keep_turns": 1,
    }
    assert opened.session.sampling.steps == 3
    assert any(
        note.startswith("chosen by measuring: torch, 2 threads, window reanchor 1") for note in opened.notes
    )
    values = InferenceComponent(config, opened).report().values
    assert values["settings"] == (
        "engine:=torch threads:=2 margin_frames:=14 window_frames:=100 when_full:=reanchor keep_turns:=1"
    )


def test_a_replay_with_the_reported_settings_computes_the_same(published, measured):
    """The log of a run whose settings were measured can be repeated."""
    measured(chosen(EngineSetting("torch", 1, "reanchor", 1)))
    live = open_runtime(InferenceConfig(model=str(published), warmup_turns=0), print)
    replayed = open_runtime(InferenceConfig(model=str(published), warmup_turns=0, **live.settings))
    assert (replayed.settings, replayed.alignment) == (live.settings, live.alignment)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"engine": "torch"}, AutoConfig("torch")),
        ({"threads": 2}, AutoConfig(threads=2)),
        ({"when_full": "reanchor", "keep_turns": 3}, AutoConfig(when_full="reanchor", keep_turns=3)),
        ({"when_full": "model"}, AutoConfig(when_full="recompute")),
        ({"window_frames": 75}, AutoConfig(window_frames=75)),
        ({"engine": "torch", "threads": 1, "when_full": "recompute"}, AutoConfig("torch", 1, "recompute")),
    ],
)
def test_what_is_given_restricts_what_is_measured(published, measured, given, wanted):
    asked = measured(chosen(EngineSetting("torch", 1, "recompute")))
    open_runtime(InferenceConfig(model=str(published), **given), print)
    assert asked == [wanted]


def test_nothing_is_measured_where_everything_is_given(published, folder, measured):
    asked = measured(None)
    given = {"engine": "torch", "threads": 1, "when_full": "recompute", "margin_frames": 9}
    assert open_runtime(InferenceConfig(model=str(published), **given), print).alignment.margin_frames == 9
    # A window that rolls has no ways to move, and the margin is what the model was trained with.
    open_runtime(InferenceConfig(model=str(folder), engine="torch", threads=1), print)
    assert not asked


def test_the_margin_of_a_model_with_a_user_lag_stays_the_one_it_was_trained_with(folder, measured):
    measured(chosen(EngineSetting("torch"), p99_ms=150.0))
    opened = open_runtime(InferenceConfig(model=str(folder)), print)
    assert opened.alignment.margin_frames == 2


def test_what_holds_no_real_time_is_shown_late_and_says_what_helps(published, measured):
    slow = chosen(EngineSetting("torch", 1, "reanchor", 1), p99_ms=1300.0, holds=False)
    measured(slow)
    config = InferenceConfig(model=str(published), warmup_turns=0)
    opened = open_runtime(config, print)
    assert opened.alignment.is_shown_late
    (warning,) = opened.warnings
    assert "nothing holds real time on this machine" in warning
    assert "1.40 s of work a second" in warning
    assert "2) " in warning
    assert warning.endswith("until then its motion comes late and turns are skipped")
    assert any(f"shown late: its motion stands {25 + 1 + 33} frames" in note for note in opened.notes)
    logged = InferenceComponent(config, opened).start(0)
    assert [str(one.text) for one in logged if one.level.name == "WARN"] == [warning]


def test_a_smaller_window_is_taken_only_when_it_is_allowed(published, measured):
    smaller = dataclasses.replace(
        chosen(EngineSetting("torch", 1, "reanchor", 1, window_frames=50)).picked,
        changes="a window of 50 instead of 100 frames",
    )
    slow = chosen(EngineSetting("torch", 1, "reanchor", 1), holds=False, smaller=smaller)
    measured(slow)
    for is_allowed, frames in ((False, 100), (True, 50)):
        config = InferenceConfig(model=str(published), allow_degraded=is_allowed, warmup_turns=0)
        opened = open_runtime(config, print)
        assert opened.session.window_frames == frames
        assert opened.alignment.is_shown_late is not is_allowed
        assert bool(opened.warnings) is not is_allowed
    assert any(
        "changes the model's numbers by a window of 50 instead of 100 frames" in note for note in opened.notes
    )


def test_a_real_folder_is_measured_live(published):
    """Without graphs it is torch; a turn of this size takes little of its second."""
    lines = []
    opened = open_runtime(InferenceConfig(model=str(published), warmup_turns=0), lines.append)
    assert any(line.startswith("measuring torch, 1 thread, window recompute") for line in lines)
    assert opened.settings["engine"] == "torch"
    assert opened.settings["when_full"] == "recompute"
    assert 2 <= opened.alignment.margin_frames < 25
    assert load_model(published).config.sampling.when_full == "recompute"
