"""Small made-up dyads: babble at syllable rate whose loudness the agent's jaw follows."""

import numpy as np
import pytest
from timar_common.motion_file import MotionTrack
from timar_training.corpora import dyads
from timar_training.corpora.dyads import Clip


def _babble(seconds, rng):
    time_s = np.arange(round(16_000 * seconds)) / 16_000
    count = int(seconds * 4.5) + 2
    strength = np.interp(time_s * 4.5, np.arange(count), rng.uniform(0.0, 1.0, count) ** 2)
    opening = strength * np.sin(np.pi * 4.5 * time_s) ** 2
    pitch_hz = rng.uniform(110, 220)
    tone = sum(np.sin(2 * np.pi * pitch_hz * harmonic * time_s) / harmonic for harmonic in range(1, 12))
    return (0.15 * opening * tone).astype(np.float32), opening[::640].astype(np.float32)


@pytest.fixture(scope="session")
def babble():
    """Return a function that makes (n,) float32 babble of a length in seconds."""
    return lambda seconds, rng: _babble(seconds, rng)[0]


@pytest.fixture
def write_babble_clip():
    """Return a function that writes a clip; the user is unseen in its middle third."""

    def write(folder, name, seconds, seed):
        rng = np.random.default_rng(seed)
        clip = Clip(name, folder)
        for speaker in (1, 2):
            voice, opening = _babble(seconds, rng)
            frames = len(voice) // 640
            dyads.write_voice(clip.voice_path(speaker), voice)
            vector = np.zeros((frames, 56), np.float32)
            vector[:, 50] = 0.1 * opening[:frames]
            vector[:, 53:] = 0.05 * np.sin(np.arange(frames)[:, None] / 9 + rng.uniform(0, 6, 3))
            valid = np.ones((frames, 3), bool)
            valid[:, 0] = False
            if speaker == 1:
                valid[frames // 3 : 2 * frames // 3] = False
                vector[~valid[:, 2]] = 0.0
            dyads.write_motion(clip.motion_path(speaker), MotionTrack(vector, valid))
        return clip

    return write


@pytest.fixture
def write_splits():
    """Return a function that writes file lists."""

    def write(folder, **splits):
        for split, names in splits.items():
            (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))

    return write
