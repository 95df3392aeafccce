"""wav2vec 2.0 hears each turn alone, so a clip is cut where the live session cuts it, and kept on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from timar_model.architecture.config import ModelConfig
from timar_training.preparation.prepare import voice_features
from timar_training.training.config import TrainConfig
from timar_training.training.run import open_run

from timar_model import load_model

GOLDEN = Path(__file__).parents[1] / "data" / "timar_golden" / "wav2vec2"
TURN = 25


class Listening:
    """Tells of each frame where the sound it was heard with began, on samples that are their own number."""

    def initial(self):
        return None

    def compute(self, samples, state):
        frames = len(samples) // 640
        first = samples[0] if samples[-1] == 0 else samples[-1] - len(samples) + 1
        return np.full((frames, 1), first, np.float32), state


@pytest.mark.parametrize(("side", "margin", "lead"), [("agent", 0, 0), ("agent", 0, 27), ("user", 2, 27)])
def test_each_frame_is_heard_with_the_samples_of_its_own_turn(side, margin, lead):
    lag = {"user_lag": "turn", "user_lag_margin_frames": 2} if lead else {}
    config = ModelConfig.of_size("base", positions="rotary", loudness="causal", **lag)
    voice = np.arange(1, 4 * TURN * 640 + 1, dtype=np.float32)
    rows = voice_features(Listening(), config, voice, side, lead)
    assert len(rows) == lead + 4 * TURN
    for frame in range(TURN, 3 * TURN):
        turn_first = (frame + margin) // TURN * TURN - margin
        assert rows[lead + frame, 0] == turn_first * 640 + 1


def test_a_model_with_the_frozen_encoder_trains_on_features_kept_on_disk(
    tmp_path, write_babble_clip, write_splits
):
    for number in range(2):
        write_babble_clip(tmp_path, f"clip{number}", seconds=6.0, seed=number)
    write_splits(tmp_path, train=["clip0"], validation=["clip1"])
    width = json.loads((GOLDEN / "config.json").read_text())["hidden_size"]
    small = {"width": 32, "blocks": 2, "heads": 2, "token_dim": 24, "head_width": 32, "head_blocks": 1}
    config = TrainConfig(
        data=str(tmp_path),
        out=str(tmp_path / "run"),
        model_size="base",
        model={**small, "window_frames": 50, "speech_source": str(GOLDEN), "speech_dim": width},
        window_frames=50,
        batch=2,
        steps=2,
        warmup_steps=1,
        threads=1,
        log_every=0,
        validation_batches=1,
        precision="float32",
    )
    # Threads of torch have worked in this process by then; a forked worker once waited for them for ever.
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    run = open_run(config)
    torch.set_num_threads(before)
    starts = run._train.windows_of(0) - run._train._prepared.lead
    assert not (starts % TURN).any()
    run.run()
    assert len(list((tmp_path / ".prepared").iterdir())) == 2
    assert load_model(tmp_path / "run" / "model").config.speech_encoder == "wav2vec2"
