"""A microphone that cannot be one is named with what to do."""

from __future__ import annotations

import numpy as np
import pytest
from timar_audio.health import HealthConfig, InputHealth
from timar_common.diagnostics import Level

RNG = np.random.default_rng(0)
NOISE = RNG.standard_normal(48_000) * 30
VOICE = 6000 * np.sin(np.arange(48_000) / 20) + NOISE


def reported(samples: np.ndarray) -> tuple[Level, str]:
    health = InputHealth(HealthConfig())
    for part in np.array_split(np.clip(samples, -32_768, 32_767).astype(np.int16), 150):
        health.push(part)
    report = health.report()
    return report.level, report.message


@pytest.mark.parametrize("samples", [NOISE, VOICE], ids=["room", "voice"])
def test_a_room_and_a_voice_are_well(samples):
    assert reported(samples)[0] is Level.OK


@pytest.mark.parametrize(
    ("samples", "level", "words"),
    [
        (np.zeros(48_000), Level.ERROR, "nothing but zeros; is it muted"),
        (np.full(48_000, -513.0), Level.ERROR, "stuck at -513"),
        (VOICE * 12, Level.WARN, "clipped; turn its gain down"),
        (NOISE + 3000, Level.WARN, "mean is 0.09"),
    ],
    ids=["zeros", "stuck", "clipped", "offset"],
)
def test_an_ill_microphone_is_named(samples, level, words):
    found, message = reported(samples)
    assert found is level
    assert words in message


def test_nothing_is_said_before_a_window_has_come_and_after_it_recovered():
    health = InputHealth(HealthConfig(window_s=1.0))
    health.push(np.zeros(8000, np.int16))
    assert health.report().level is Level.OK
    health.push(np.zeros(16_000, np.int16))
    assert health.report().level is Level.ERROR
    for part in np.array_split(NOISE.astype(np.int16), 30):
        health.push(part)
    assert health.report().level is Level.OK
