"""The room with a real (small, untrained) model: what it loads, refuses, and makes."""

import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from timar_inference.config import InferenceConfig
from timar_inference.runtime import open_runtime
from timar_inference.turn_jobs import Decision


def test_warming_leaves_no_trace_in_the_conversation(open_small):
    rng = np.random.default_rng(1)
    user, agent = (rng.normal(0, 0.1, 3200).astype(np.float32) for _ in range(2))
    cold, warm = open_small(warmup_turns=0), open_small(warmup_turns=4)
    assert warm.session.next_frame == 0
    assert np.array_equal(cold.session.step(user, None, agent), warm.session.step(user, None, agent))


def test_turn_length_and_margin_are_the_models_unless_told(open_small):
    assert (open_small().alignment.turn_frames, open_small().alignment.margin_frames) == (5, 2)
    told = open_small(turn_frames=10, margin_frames=3).alignment
    assert (told.turn_frames, told.margin_frames) == (10, 3)


def test_a_model_that_draws_turns_runs_turns_of_two_frames_with_cheap_previews_unless_told():
    opened = open_runtime(InferenceConfig(engine="onnx"))
    assert opened.session.config.draws == "turns"
    assert (opened.alignment.turn_frames, opened.alignment.reaction_floor_ms) == (2, 160)
    told = open_runtime(InferenceConfig(engine="onnx", turn_frames=5))
    assert (told.alignment.turn_frames, told.alignment.reaction_floor_ms) == (5, 280)
    rng = np.random.default_rng(1)
    speech = rng.normal(0, 0.1, 640 * 5).astype(np.float32)
    opened.session.step(speech[:1280], None, speech[:1280])
    for frames, by in ((2, "head"), (5, "turn")):
        planned = speech[: 640 * frames]
        np.testing.assert_array_equal(opened.session.preview(planned), opened.session.preview(planned, by))


def test_sampling_options_reach_the_session(open_small):
    session = open_small(temperature=0.0, steps=2, guidance=1.5, noise_correlation_s=0.0).session
    assert session.sampling.temperature == 0.0
    assert session.sampling.steps == 2
    assert session.sampling.guidance == 1.5
    assert session.sampling.noise_correlation_s == 0.0
    assert open_small().session.sampling.noise_correlation_s == 0.3


def test_engine_takes_no_more_threads_than_it_was_given(open_small):
    """Asked in another thread than the one that set it, as the worker is."""
    open_small(threads=1)
    found = []
    asker = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    asker.start()
    asker.join()
    assert found == [1]


def test_auto_takes_torch_when_the_folder_carries_no_graph(folder):
    assert open_runtime(InferenceConfig(model=str(folder))).identity.engine == "torch-float32"


def test_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OSError, match="no-such-model"):
        open_runtime(InferenceConfig(model=str(tmp_path / "no-such-model")))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "half"])
def test_model_folder_that_is_not_whole_is_refused(folder, tmp_path, name, damage):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    if damage == "missing":
        (broken / name).unlink()
    else:
        (broken / name).write_bytes((broken / name).read_bytes()[: (broken / name).stat().st_size // 2])
    with pytest.raises((OSError, ValueError), match=r"broken|manifest|config\.json|model\.safetensors"):
        open_runtime(InferenceConfig(model=str(broken)))


def test_room_without_an_engine_imports_no_torch():
    """A head that runs the exported graph has no torch installed."""
    code = "import sys, timar_inference.inference_component; sys.exit('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_unknown_engine_is_refused_by_name(folder):
    with pytest.raises(ValueError, match="abacus"):
        open_runtime(InferenceConfig(model=str(folder), engine="abacus"))


@pytest.mark.parametrize(
    "changes",
    [{"temperature": -0.5}, {"guidance": -0.1}, {"seed": -1}, {"turn_frames": 251}, {"late_policy": "never"}],
)
def test_impossible_setting_is_refused_by_name(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        InferenceConfig(**changes)


def motion_of(outcomes):
    return {each.entry.first_frame: each.motion for each in outcomes if each.motion is not None}


def test_conversation_is_the_same_every_time_it_is_held(open_small, make_talk):
    first, second = (motion_of(make_talk(open_small()).hear(0, 32_000)) for _ in range(2))
    assert list(first) == list(range(5, 55, 5))
    assert all(np.array_equal(first[frame], second[frame]) for frame in first)


def test_turn_taken_back_and_made_again_equals_one_made_so_at_once(open_small, make_talk):
    """The session must not remember the speech that was withdrawn: compare with a talk that never had it."""
    changed, straight = make_talk(open_small()), make_talk(open_small())
    straight.plan(16_640, 16_640, 1)
    expected = motion_of(straight.hear(0, 32_000))
    before = motion_of(changed.hear(0, 16_000 - 1280))
    changed.plan(16_640, 16_640, 1)
    after = changed.run() + changed.hear(16_000 - 1280, 32_000)
    assert after[0].entry.decision == Decision.ROLLBACK
    assert not np.array_equal(before[25], expected[25])
    found = before | motion_of(after)
    assert list(found) == list(expected)
    assert all(np.array_equal(found[frame], expected[frame]) for frame in expected)


def test_turn_that_came_too_late_is_history_for_the_next(open_small, make_talk):
    talk = make_talk(open_small())
    talk.hear(0, 16_000)
    talk.push(16_000, 32_000)
    talk.now_ns = talk.time_of(32_000)
    outcomes = talk.run()
    assert [each.entry.first_frame for each in outcomes] == [30, 35, 40, 45, 50]
    assert [each.entry.decision for each in outcomes] == [Decision.COMMIT_SKIPPED] * 4 + [Decision.GENERATE]
    assert outcomes[-1].entry.is_late


def test_turn_is_computed_faster_than_it_is_spoken(open_small, make_talk):
    """Not a benchmark: a turn of the small model that takes its own length is broken."""
    talk = make_talk(open_small())
    started = time.process_time()
    turns = len(motion_of(talk.hear(0, 32_000)))
    assert (time.process_time() - started) / turns < 0.2
