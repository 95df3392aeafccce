"""Audio of another package's synthesiser, cut into utterances."""

from __future__ import annotations

import numpy as np
from timar_audio.adapters import UtteranceSplitter

SOUND = np.ones(100, np.int16)
MS = 1_000_000


def story(parts: list) -> list[tuple[str, int, int, bool]]:
    return [(part.utterance_id, part.rate_hz, part.samples.size, part.is_last) for part in parts]


def test_a_pause_ends_an_utterance_once_and_the_next_has_another_id():
    splitter = UtteranceSplitter("robot", gap_ms=500)
    parts = splitter.push(SOUND, 22_050, 0) + splitter.push(SOUND, 22_050, 400 * MS)
    parts += splitter.tick(800 * MS) + splitter.tick(901 * MS) + splitter.tick(2000 * MS)
    parts += splitter.push(SOUND, 22_050, 3000 * MS)
    assert story(parts) == [
        ("robot-1", 22_050, 100, False), ("robot-1", 22_050, 100, False), ("robot-1", 22_050, 0, True),
        ("robot-2", 22_050, 100, False),
    ]  # fmt: skip
    assert splitter.utterances == 2


def test_another_rate_begins_another_utterance():
    splitter = UtteranceSplitter("robot", gap_ms=500)
    parts = splitter.push(SOUND, 22_050, 0) + splitter.push(SOUND, 16_000, 20 * MS)
    assert story(parts) == [
        ("robot-1", 22_050, 100, False), ("robot-1", 22_050, 0, True), ("robot-2", 16_000, 100, False),
    ]  # fmt: skip


def test_nothing_ends_before_anything_was_said():
    assert UtteranceSplitter("robot", gap_ms=500).tick(10_000 * MS) == []
